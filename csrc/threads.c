#if !defined(_WIN32)
#define _DEFAULT_SOURCE
#define _DARWIN_C_SOURCE
#endif

#include "threads.h"

#include "pool.h"

#if defined(_WIN32)
#include <windows.h>
#else
#include <sched.h>
#include <time.h>
#endif

const char *bc_threading(void) {
#if defined(BC_NO_THREADS)
    return "none";
#else
    return "pool";
#endif
}

void bc_for_slices(const bc_parallel *parallel, size_t count, void (*slice)(void *context, size_t index),
                   void *context) {
    if (parallel && count > 1) {
        if (parallel->parallel_for) {
            parallel->parallel_for(parallel->user, count, slice, context);
            return;
        }
        if (bc_pool_run(count, slice, context)) return;
    }
    for (size_t i = 0; i < count; i++) slice(context, i);
}

/* Others have their turn if they are as important as this thread; in the end those that are not have theirs, too. */
void bc_pause(size_t turn) {
    enum { MOMENTS = 1000, TURNS = 100000 };
    if (turn >= TURNS)
#if defined(_WIN32)
        Sleep(1);
    else if (turn >= MOMENTS)
        SwitchToThread();
#else
        nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
    else if (turn >= MOMENTS)
        sched_yield();
#endif
#if defined(__GNUC__) && (defined(__x86_64__) || defined(__i386__))
    __builtin_ia32_pause();
#endif
}
