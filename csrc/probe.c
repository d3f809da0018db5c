#include "probe.h"

#include <stdint.h>
#include <time.h>

/* The sums of a layer as they mostly are, small enough for the first-level cache: 3 x 3 taps of 256 channels, 64 filters. They
 * take some 8 us, as clocks of virtual machines may tick only every 0.24 us. */
enum { TAPS = 9, WORDS = 4, FILTERS = 64, PIXELS = 56, WEIGHT_WORDS = TAPS * WORDS * FILTERS };

/* Whoever wins more rounds is faster, whatever else goes on meanwhile; the first rounds find vector units that still power
 * up. A gain under 3% is not worth another choice on every start. */
enum { WARM_UP = 4, ROUNDS = 13 };
static const double CLEARLY = 0.97;

static double seconds(void) {
    struct timespec now;
    if (!timespec_get(&now, TIME_UTC)) return 0;
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static double time_once(const bc_kernels *kernels, bc_xorpop_args args) {
    args.blocks = FILTERS / kernels->xorpop_block_filters;
    const double start = seconds();
    kernels->xorpop(&args);
    return seconds() - start;
}

int bc_probe_xorpop(const bc_kernels *candidate, const bc_kernels *present) {
    /* What is summed does not matter, only that it is there, and that weights begin with a cache line, as a layer's do. */
    static const uint64_t source[TAPS * WORDS];
    static const _Alignas(64) uint64_t weights[WEIGHT_WORDS];
    static const ptrdiff_t tap_offset[TAPS] = {0,         WORDS,     2 * WORDS, 3 * WORDS, 4 * WORDS,
                                               5 * WORDS, 6 * WORDS, 7 * WORDS, 8 * WORDS};
    int32_t counts[PIXELS * FILTERS];
    const bc_xorpop_args args = {.source = source,
                                 .source_stride = 0,
                                 .tap_offset = tap_offset,
                                 .taps = TAPS,
                                 .words = WORDS,
                                 .weights = weights,
                                 .pixels = PIXELS,
                                 .counts = counts,
                                 .counts_stride = FILTERS};
    int wins = 0;
    for (int round = -WARM_UP; round < ROUNDS; round++) {
        const double candidate_seconds = time_once(candidate, args),
                     present_seconds = time_once(present, args);
        wins += round >= 0 && candidate_seconds < CLEARLY * present_seconds;
    }
    return 2 * wins > ROUNDS;
}
