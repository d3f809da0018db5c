/* Timing a call of a kernel. */
#ifndef BC_TESTS_BENCH_H
#define BC_TESTS_BENCH_H

#include <stddef.h>
#include <stdint.h>

typedef struct bench {
    const char *isa;
    const char *kernel;
    int running;
    size_t calls, rounds;
    uint64_t ns_start, ticks_start;
    double best_ns, best_ticks;
} bench;

/* for (bench_start(t); bench_more(t);) call(); bench_report(t, ...): the fastest of several rounds. `work` is how
 * many `unit`s one call does. */
void bench_start(bench *timer);
int bench_more(bench *timer);
void bench_report(const bench *timer, const char *what, double work, const char *unit);

#define BENCH(TIMER, CALL, WHAT, WORK, UNIT)               \
    do {                                                   \
        for (bench_start(TIMER); bench_more(TIMER);) CALL; \
        bench_report(TIMER, WHAT, (double)(WORK), UNIT);   \
    } while (0)

#endif
