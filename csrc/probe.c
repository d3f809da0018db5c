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

/* What is summed does not matter, only that it is there, and that weights begin with a cache line, as a layer's do. */
static const uint64_t source[1 + TAPS * WORDS];
static const _Alignas(64) uint64_t weights[WEIGHT_WORDS];
static const ptrdiff_t tap_offset[TAPS] = {0,         WORDS,     2 * WORDS, 3 * WORDS, 4 * WORDS,
                                           5 * WORDS, 6 * WORDS, 7 * WORDS, 8 * WORDS};

static void sum_once(const bc_kernels *kernels, int32_t *counts) {
    if (TAPS * WORDS >= kernels->chain_words_least)
        kernels->chain_sums(&(bc_chain_sums_args){.chain = source,
                                                  .words = TAPS * WORDS,
                                                  .runs = 1,
                                                  .pixels = PIXELS,
                                                  .weights = weights,
                                                  .blocks = FILTERS / kernels->chain_block_filters,
                                                  .counts = counts,
                                                  .counts_stride = FILTERS});
    else
        kernels->xorpop(&(bc_xorpop_args){.source = source,
                                          .tap_offset = tap_offset,
                                          .taps = TAPS,
                                          .words = WORDS,
                                          .weights = weights,
                                          .runs = 1,
                                          .pixels = PIXELS,
                                          .blocks = FILTERS / kernels->xorpop_block_filters,
                                          .counts = counts,
                                          .counts_stride = FILTERS});
}

static double time_once(const bc_kernels *kernels) {
    int32_t counts[PIXELS * FILTERS];
    const double start = seconds();
    sum_once(kernels, counts);
    return seconds() - start;
}

int bc_probe_sums(const bc_kernels *candidate, const bc_kernels *present) {
    int wins = 0;
    for (int round = -WARM_UP; round < ROUNDS; round++) {
        const double candidate_seconds = time_once(candidate), present_seconds = time_once(present);
        wins += round >= 0 && candidate_seconds < CLEARLY * present_seconds;
    }
    return 2 * wins > ROUNDS;
}
