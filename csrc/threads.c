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
    if (!parallel || count <= 1)
        for (size_t i = 0; i < count; i++) slice(context, i);
    else if (parallel->parallel_for)
        parallel->parallel_for(parallel->user, count, slice, context);
    else
        bc_pool_run(count, slice, context);
}

void bc_pause(size_t turn) {
    enum { MOMENTS = 1000 };
    if (turn >= MOMENTS)
#if defined(_WIN32)
        SwitchToThread();
#else
        sched_yield();
#endif
#if defined(__GNUC__) && (defined(__x86_64__) || defined(__i386__))
    __builtin_ia32_pause();
#endif
}
