/* A pool of threads for slices that are over in microseconds.
 *
 * A call posts a job and takes lanes of it, as workers do, until none is left; then it waits for those that workers have taken.
 * A worker that comes late, because its processor is busy with something else, finds nothing to do and costs nothing: a team
 * that meets when it begins and ends waits for it, milliseconds for a call of 40 us. Workers look for jobs for a moment after
 * each, then sleep. */
#if !defined(_WIN32)
#define _DEFAULT_SOURCE
#define _DARWIN_C_SOURCE
#endif

#include "pool.h"

#include <limits.h>
#include <stdint.h>

#include "threads.h"

#if defined(BC_NO_THREADS)

void bc_pool_run(size_t count, void (*slice)(void *context, size_t index), void *context) {
    for (size_t i = 0; i < count; i++) slice(context, i);
}

#else

#include <stdatomic.h>

#include "system_threads.h"

/* As many lanes as a word has bits; with more slices a lane has several. */
enum { LANES = sizeof(size_t) * CHAR_BIT, JOBS = 16, WORKERS_MOST = 255, LINE = 64 };

/* How often a worker looks for a job before it sleeps: 1000 moments (bc_pause), some 10 to 50 us, then for about 1 ms with other
 * threads having their turn in between. To be woken takes longer than many a layer, and costs the caller some 8 us. */
enum { LOOKS = 4000 };

/* What a call is doing. `unclaimed` has a bit for each lane that nobody has taken; what is below it may be read by who has taken
 * one, as the call does not end before. */
typedef struct job {
    _Alignas(LINE) atomic_size_t unclaimed;
    atomic_size_t unfinished; /* lanes */
    atomic_flag in_use;
    size_t lanes, count;
    void (*slice)(void *context, size_t index);
    void *context;
} job;

static struct {
    job jobs[JOBS];
    _Alignas(LINE) atomic_uint posted; /* jobs so far, and more when workers shall end */
    atomic_uint sleeping;
    atomic_size_t workers, most_workers;
    atomic_int ending;
    int watching; /* the process, for forks and its end */
    bc_lock lock; /* of sleeping, and of starting workers */
    bc_signal posted_or_ending;
    bc_thread threads[WORKERS_MOST];
} pool = {.most_workers = WORKERS_MOST, .lock = BC_LOCK_INIT, .posted_or_ending = BC_SIGNAL_INIT};

/* ---- Jobs ----------------------------------------------------------------------------------------- */

/* Takes a lane, if it can the preferred one, so that the same threads come to the same data in every call. LANES: there is none. */
static size_t claim(job *job, size_t preferred) {
    size_t unclaimed = atomic_load_explicit(&job->unclaimed, memory_order_relaxed);
    while (unclaimed) {
        size_t lane = preferred % LANES;
        while (!(unclaimed >> lane & 1)) lane = (lane + 1) % LANES;
        if (atomic_compare_exchange_weak_explicit(&job->unclaimed, &unclaimed,
                                                  unclaimed & ~((size_t)1 << lane), memory_order_acquire,
                                                  memory_order_relaxed))
            return lane;
    }
    return LANES;
}

static int run_lane(job *job, size_t preferred) {
    const size_t lane = claim(job, preferred);
    if (lane == LANES) return 0;
    const size_t count = job->count, lanes = job->lanes;
    for (size_t i = lane; i < count; i += lanes) job->slice(job->context, i);
    atomic_fetch_sub_explicit(&job->unfinished, 1, memory_order_release);
    return 1;
}

static job *open_job(void) {
    for (size_t i = 0; i < JOBS; i++)
        if (!atomic_flag_test_and_set_explicit(&pool.jobs[i].in_use, memory_order_acquire))
            return &pool.jobs[i];
    return NULL;
}

/* ---- Workers -------------------------------------------------------------------------------------- */

/* Until something has been posted since `seen`. */
static void wait_for_job(unsigned seen) {
    for (size_t look = 0; look < LOOKS; look++) {
        if (atomic_load_explicit(&pool.posted, memory_order_acquire) != seen) return;
        bc_pause(look);
    }
    bc_lock_take(&pool.lock);
    /* Whoever posts looks at `sleeping` afterwards, and this at `posted`: one of the two sees the other. */
    atomic_fetch_add(&pool.sleeping, 1);
    while (atomic_load(&pool.posted) == seen) bc_signal_wait(&pool.posted_or_ending, &pool.lock);
    atomic_fetch_sub(&pool.sleeping, 1);
    bc_lock_leave(&pool.lock);
}

static void work(size_t number) {
    while (!atomic_load_explicit(&pool.ending, memory_order_acquire)) {
        const unsigned seen = atomic_load_explicit(&pool.posted, memory_order_acquire);
        for (size_t i = 0; i < JOBS; i++)
            while (run_lane(&pool.jobs[i], number)) {
            }
        wait_for_job(seen);
    }
}

static void post(size_t wanted) {
    atomic_fetch_add(&pool.posted, 1);
    if (!atomic_load(&pool.sleeping)) return;
    bc_lock_take(&pool.lock);
    const size_t sleeping = atomic_load(&pool.sleeping);
    for (size_t i = 0; i < wanted && i < sleeping; i++) bc_signal_one(&pool.posted_or_ending);
    bc_lock_leave(&pool.lock);
}

/* ---- Starting and ending -------------------------------------------------------------------------- */

static void end_workers(void) {
    bc_lock_take(&pool.lock);
    const size_t workers = atomic_load(&pool.workers);
    atomic_store(&pool.most_workers, 0);
    atomic_store(&pool.ending, 1);
    atomic_fetch_add(&pool.posted, 1);
    for (size_t i = 0; i < workers; i++) bc_signal_one(&pool.posted_or_ending);
    bc_lock_leave(&pool.lock);
    for (size_t i = 0; i < workers; i++) bc_thread_join(pool.threads[i]);
}

/* In the child of a fork, which has none of its parent's threads, nor their jobs. */
static void forget_all(void) {
    for (size_t i = 0; i < JOBS; i++) {
        atomic_store(&pool.jobs[i].unclaimed, 0);
        atomic_flag_clear(&pool.jobs[i].in_use);
    }
    atomic_store(&pool.workers, 0);
    atomic_store(&pool.sleeping, 0);
    pool.lock = (bc_lock)BC_LOCK_INIT;
    pool.posted_or_ending = (bc_signal)BC_SIGNAL_INIT;
}

/* As far as the system grants threads; one that was refused is not asked for again. */
static void start_workers(size_t wanted) {
    if (atomic_load_explicit(&pool.workers, memory_order_relaxed) >= wanted ||
        atomic_load_explicit(&pool.workers, memory_order_relaxed) >=
            atomic_load_explicit(&pool.most_workers, memory_order_relaxed))
        return;
    bc_lock_take(&pool.lock);
    size_t workers = atomic_load(&pool.workers);
    if (!pool.watching) bc_watch_process(forget_all, end_workers);
    pool.watching = 1;
    while (workers < wanted && workers < atomic_load(&pool.most_workers)) {
        if (!bc_thread_start(&pool.threads[workers], work, workers + 1)) {
            atomic_store(&pool.most_workers, workers);
            break;
        }
        atomic_store(&pool.workers, ++workers);
    }
    bc_lock_leave(&pool.lock);
}

/* ---- The interface -------------------------------------------------------------------------------- */

void bc_pool_run(size_t count, void (*slice)(void *context, size_t index), void *context) {
    job *job = count > 1 ? open_job() : NULL;
    if (!job) {
        for (size_t i = 0; i < count; i++) slice(context, i);
        return;
    }
    job->lanes = count < LANES ? count : LANES;
    job->count = count;
    job->slice = slice;
    job->context = context;
    atomic_store_explicit(&job->unfinished, job->lanes, memory_order_relaxed);
    atomic_store_explicit(&job->unclaimed, SIZE_MAX >> (LANES - job->lanes), memory_order_release);
    start_workers(job->lanes - 1);
    post(job->lanes - 1);
    while (run_lane(job, 0)) {
    }
    for (size_t turn = 0; atomic_load_explicit(&job->unfinished, memory_order_acquire); turn++)
        bc_pause(turn);
    atomic_flag_clear_explicit(&job->in_use, memory_order_release);
}

#endif
