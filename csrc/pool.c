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

int bc_pool_run(size_t count, void (*slice)(void *context, size_t index), void *context) {
    (void)count;
    (void)slice;
    (void)context;
    return 0;
}

#else

#include <stdatomic.h>

#include "system_threads.h"

/* With more slices than lanes, a lane has several. */
enum {
    LANES = 256,
    WORD_LANES = sizeof(size_t) * CHAR_BIT,
    WORDS = LANES / WORD_LANES,
    JOBS = 16,
    WORKERS_MOST = LANES - 1,
    LINE = 64
};

/* How often a worker looks for a job before it sleeps: 1000 moments (bc_pause), some 10 to 50 us, then for about 1 ms with other
 * threads having their turn in between. To be woken takes longer than many a layer, and costs the caller some 8 us. */
enum { LOOKS = 4000 };

/* What a call is doing. `unclaimed` has a bit for each lane that nobody has taken; what is below it may be read by who has taken
 * one, as the call does not end before. */
typedef struct job {
    _Alignas(LINE) atomic_size_t unclaimed[WORDS];
    atomic_size_t unfinished; /* lanes */
    atomic_flag in_use;
    size_t lanes, count;
    void (*slice)(void *context, size_t index);
    void *context;
} job;

static struct {
    job jobs[JOBS];
    _Alignas(LINE) atomic_uint posted; /* jobs so far, and one more when workers shall end */
    atomic_size_t sleeping;
    atomic_size_t workers, most_workers;
    atomic_int ending;
    int watching; /* the process, for forks and its end */
    bc_lock lock; /* of sleeping, and of starting workers */
    bc_signal posted_or_ending;
    bc_thread threads[WORKERS_MOST];
} pool = {.most_workers = WORKERS_MOST, .lock = BC_LOCK_INIT, .posted_or_ending = BC_SIGNAL_INIT};

/* ---- Jobs ----------------------------------------------------------------------------------------- */

/* Takes a lane of one word, if it can the preferred one. WORD_LANES: there is none. */
static size_t claim_in_word(atomic_size_t *word, size_t preferred) {
    size_t unclaimed = atomic_load_explicit(word, memory_order_relaxed);
    while (unclaimed) {
        size_t lane = preferred;
        while (!(unclaimed >> lane & 1)) lane = (lane + 1) % WORD_LANES;
        if (atomic_compare_exchange_weak_explicit(word, &unclaimed, unclaimed & ~((size_t)1 << lane),
                                                  memory_order_acquire, memory_order_relaxed))
            return lane;
    }
    return WORD_LANES;
}

/* If it can the preferred lane, so that the same threads come to the same data in every call. LANES: there is none. */
static size_t claim(job *job, size_t preferred) {
    for (size_t i = 0; i < WORDS; i++) {
        const size_t word = (preferred / WORD_LANES + i) % WORDS;
        const size_t lane = claim_in_word(&job->unclaimed[word], preferred % WORD_LANES);
        if (lane < WORD_LANES) return word * WORD_LANES + lane;
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

/* The last thing before others may take lanes. */
static void publish(job *job) {
    atomic_store_explicit(&job->unfinished, job->lanes, memory_order_relaxed);
    for (size_t word = 0; word * WORD_LANES < job->lanes; word++) {
        const size_t left = job->lanes - word * WORD_LANES;
        const size_t lanes = left < WORD_LANES ? ((size_t)1 << left) - 1 : SIZE_MAX;
        atomic_store_explicit(&job->unclaimed[word], lanes, memory_order_release);
    }
}

/* ---- Workers -------------------------------------------------------------------------------------- */

/* Until something has been posted since `seen`. `looks` are those since the worker last had something to do: so that those for
 * which there is nothing sleep, however often others are called. */
static void wait_for_job(unsigned seen, size_t *looks) {
    for (; *looks < LOOKS; ++*looks) {
        if (atomic_load_explicit(&pool.posted, memory_order_acquire) != seen) return;
        bc_pause(*looks);
    }
    bc_lock_take(&pool.lock);
    /* Whoever posts looks at `sleeping` afterwards, and this at `posted`: one of the two sees the other. */
    atomic_fetch_add(&pool.sleeping, 1);
    while (atomic_load(&pool.posted) == seen) bc_signal_wait(&pool.posted_or_ending, &pool.lock);
    atomic_fetch_sub(&pool.sleeping, 1);
    bc_lock_leave(&pool.lock);
    *looks = 0;
}

static void work(size_t number) {
    size_t looks = 0;
    for (;;) {
        /* Before `ending`, which is set before the last post: whoever does not see the one does not see the other, and is not
         * to wait for a next one. */
        const unsigned seen = atomic_load_explicit(&pool.posted, memory_order_acquire);
        if (atomic_load_explicit(&pool.ending, memory_order_relaxed)) return;
        for (size_t i = 0; i < JOBS; i++)
            while (run_lane(&pool.jobs[i], number)) looks = 0;
        wait_for_job(seen, &looks);
    }
}

BC_THREAD_MAIN(worker, number) {
    work((size_t)(uintptr_t)number);
    return 0;
}

/* Wakes as many as are wanted beside those that are awake. */
static void post(size_t wanted) {
    atomic_fetch_add(&pool.posted, 1);
    if (!atomic_load(&pool.sleeping)) return;
    bc_lock_take(&pool.lock);
    const size_t sleeping = atomic_load(&pool.sleeping), awake = atomic_load(&pool.workers) - sleeping;
    for (size_t i = awake; i < wanted && i < awake + sleeping; i++) bc_signal_one(&pool.posted_or_ending);
    bc_lock_leave(&pool.lock);
}

/* ---- Starting and ending -------------------------------------------------------------------------- */

static void end_workers(void) {
    bc_lock_take(&pool.lock);
    const size_t workers = atomic_load(&pool.workers);
    atomic_store(&pool.workers, 0);
    atomic_store(&pool.most_workers, 0);
    atomic_store(&pool.ending, 1);
    atomic_fetch_add(&pool.posted, 1);
    bc_signal_all(&pool.posted_or_ending);
    bc_lock_leave(&pool.lock);
    for (size_t i = 0; i < workers; i++) bc_thread_join(pool.threads[i]);
}

/* In the child of a fork, which has none of its parent's threads, nor their jobs. */
static void forget_all(void) {
    for (size_t i = 0; i < JOBS; i++) {
        for (size_t word = 0; word < WORDS; word++) atomic_store(&pool.jobs[i].unclaimed[word], 0);
        atomic_flag_clear(&pool.jobs[i].in_use);
    }
    atomic_store(&pool.workers, 0);
    atomic_store(&pool.sleeping, 0);
    if (!atomic_load(&pool.ending)) atomic_store(&pool.most_workers, WORKERS_MOST);
    pool.lock = (bc_lock)BC_LOCK_INIT;
    pool.posted_or_ending = (bc_signal)BC_SIGNAL_INIT;
}

/* As far as the system grants threads; after one that was refused none is asked for again. */
static void start_workers(size_t wanted) {
    const size_t most = atomic_load_explicit(&pool.most_workers, memory_order_relaxed);
    if (atomic_load_explicit(&pool.workers, memory_order_relaxed) >= (wanted < most ? wanted : most)) return;
    bc_lock_take(&pool.lock);
    if (!pool.watching) {
        pool.watching = 1;
        bc_watch_process(forget_all, end_workers);
    }
    size_t workers = atomic_load(&pool.workers);
    while (workers < wanted && workers < atomic_load(&pool.most_workers)) {
        if (bc_thread_start(&pool.threads[workers], worker, (void *)(uintptr_t)(workers + 1)))
            atomic_store(&pool.workers, ++workers);
        else
            atomic_store(&pool.most_workers, workers);
    }
    bc_lock_leave(&pool.lock);
}

/* ---- The interface -------------------------------------------------------------------------------- */

int bc_pool_run(size_t count, void (*slice)(void *context, size_t index), void *context) {
    job *job = open_job();
    if (!job) return 0;
    job->lanes = count < LANES ? count : LANES;
    job->count = count;
    job->slice = slice;
    job->context = context;
    publish(job);
    start_workers(job->lanes - 1);
    post(job->lanes - 1);
    while (run_lane(job, 0)) {
    }
    for (size_t turn = 0; atomic_load_explicit(&job->unfinished, memory_order_acquire); turn++)
        bc_pause(turn);
    atomic_flag_clear_explicit(&job->in_use, memory_order_release);
    return 1;
}

#endif
