#include "threads.h"

#if defined(_WIN32)
#include <windows.h>
#else
#include <sched.h>
#endif

static void run_serially(size_t count, void (*slice)(void *context, size_t index), void *context) {
    for (size_t i = 0; i < count; i++) slice(context, i);
}

#if defined(_OPENMP)

#include <stdatomic.h>

const char *bc_threading(void) { return "openmp"; }

#if defined(_WIN32)
static int pool_usable(void) { return 1; }
#else
#include <pthread.h>

/* GNU's OpenMP hangs in the child of a fork when the parent's pool has run: the child has the pool's records but
 * not its threads. Such a child works on one thread. */
static atomic_int pool_has_run, pool_is_lost;
static pthread_once_t watch_once = PTHREAD_ONCE_INIT;

static void lose_pool(void) {
    if (atomic_load(&pool_has_run)) atomic_store(&pool_is_lost, 1);
}

static void watch_forks(void) { pthread_atfork(NULL, NULL, lose_pool); }

static int pool_usable(void) {
    pthread_once(&watch_once, watch_forks);
    if (atomic_load_explicit(&pool_is_lost, memory_order_relaxed)) return 0;
    atomic_store_explicit(&pool_has_run, 1, memory_order_relaxed);
    return 1;
}
#endif

static void run_on_pool(size_t count, void (*slice)(void *context, size_t index), void *context) {
    if (!pool_usable()) {
        run_serially(count, slice, context);
        return;
    }
    const int slices = (int)count;
#pragma omp parallel for schedule(static, 1) num_threads(slices)
    for (int i = 0; i < slices; i++) slice(context, (size_t)i);
}

#else

const char *bc_threading(void) { return "none"; }

static void run_on_pool(size_t count, void (*slice)(void *context, size_t index), void *context) {
    run_serially(count, slice, context);
}

#endif

void bc_for_slices(const bc_parallel *parallel, size_t count, void (*slice)(void *context, size_t index),
                   void *context) {
    if (!parallel || count <= 1)
        run_serially(count, slice, context);
    else if (parallel->parallel_for)
        parallel->parallel_for(parallel->user, count, slice, context);
    else
        run_on_pool(count, slice, context);
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
