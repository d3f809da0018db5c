#define _POSIX_C_SOURCE 200809L

#include "bench.h"

#include <stdio.h>
#include <time.h>

#if defined(__GNUC__) && defined(__x86_64__)
#include <x86intrin.h>
#define HAVE_TICKS 1
static uint64_t read_ticks(void) { return __rdtsc(); }
#else
#define HAVE_TICKS 0
static uint64_t read_ticks(void) { return 0; }
#endif

/* A round is long against the clock's resolution and short against a time slice, so that on a busy machine some
 * rounds are undisturbed. */
enum { ROUNDS = 20, ROUND_NS = 1000000 };

static uint64_t read_ns(void) {
    struct timespec now;
#if defined(CLOCK_MONOTONIC)
    clock_gettime(CLOCK_MONOTONIC, &now);
#else
    timespec_get(&now, TIME_UTC);
#endif
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void bench_start(bench *timer) {
    timer->running = 0;
    timer->rounds = 0;
    timer->best_ns = timer->best_ticks = 1e300;
}

static void start_round(bench *timer) {
    timer->running = 1;
    timer->calls = 0;
    timer->ns_start = read_ns();
    timer->ticks_start = read_ticks();
}

int bench_more(bench *timer) {
    if (!timer->running) {
        start_round(timer);
        return 1;
    }
    timer->calls++;
    const uint64_t ns = read_ns() - timer->ns_start;
    if (ns < ROUND_NS) return 1;

    const double calls = (double)timer->calls;
    const double ticks = (double)(read_ticks() - timer->ticks_start) / calls;
    if ((double)ns / calls < timer->best_ns) timer->best_ns = (double)ns / calls;
    if (ticks < timer->best_ticks) timer->best_ticks = ticks;
    if (++timer->rounds == ROUNDS) return 0;
    start_round(timer);
    return 1;
}

void bench_report(const bench *timer, const char *what, double work, const char *unit) {
    printf("%-14s %-16s %-40s %12.1f ns %9.2f %s/ns", timer->isa, timer->kernel, what, timer->best_ns,
           work / timer->best_ns, unit);
    if (HAVE_TICKS) printf(" %9.2f %s/tick", work / timer->best_ticks, unit);
    printf("\n");
}
