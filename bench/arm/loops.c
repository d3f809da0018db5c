/* Calls one kernel of one instruction set a number of times, so that the difference between two numbers of calls is
 * what one call executes.
 *
 *   loops ISA CASE CALLS
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dispatch.h"

enum {
    PIXELS = 48 /* whole tiles of every kernel */,
    FILTERS = 32,
    MOST_WORDS = 8 * 9,
    MOST_INPUTS = 64 * MOST_WORDS
};

static uint64_t words[PIXELS * 2 * MOST_WORDS];
static float floats[PIXELS * 2 * MOST_INPUTS], sums[PIXELS * FILTERS + BC_SLACK], terms[BC_SLACK * 4];
static int32_t counts[PIXELS * FILTERS + BC_SLACK];
static ptrdiff_t offsets[9];
static uint64_t blocks[1 << 16];

/* What a case does in one call, and for how many multiply-adds, or for how many elements. */
typedef struct loop {
    const char *name;
    size_t channels, work;
    void (*call)(const bc_kernels *kernels, size_t channels);
} loop;

/* A 3 x 3 window over rows of pixels that lie side by side. */
static void make_window(size_t pixel_elements) {
    for (size_t tap = 0; tap < 9; tap++) offsets[tap] = (ptrdiff_t)((tap / 3 * 4 + tap % 3) * pixel_elements);
}

static void xorpop(const bc_kernels *kernels, size_t channels) {
    make_window(channels / 64);
    kernels->xorpop(&(bc_xorpop_args){.source = words,
                                      .source_stride = (ptrdiff_t)(channels / 64),
                                      .tap_offset = offsets,
                                      .taps = 9,
                                      .words = channels / 64,
                                      .weights = blocks,
                                      .runs = 1,
                                      .pixels = PIXELS,
                                      .blocks = FILTERS / kernels->xorpop_block_filters,
                                      .counts = counts,
                                      .counts_stride = FILTERS});
}

static void signsum(const bc_kernels *kernels, size_t channels) {
    const size_t groups = 3 * channels / 4, pixel = channels / 4 * kernels->signsum_group_floats;
    for (size_t row = 0; row < 3; row++) offsets[row] = (ptrdiff_t)(row * pixel);
    kernels->signsum(&(bc_signsum_args){.source = floats,
                                        .source_stride = (ptrdiff_t)pixel,
                                        .row_offset = offsets,
                                        .rows = 3,
                                        .groups = groups,
                                        .weights = blocks,
                                        .block_stride_bytes = 3 * ((3 * channels + 31) / 32) *
                                                              kernels->signsum_block_word_bytes,
                                        .pixels = PIXELS,
                                        .blocks = FILTERS / kernels->signsum_block_filters,
                                        .sums = sums,
                                        .sums_stride = FILTERS});
}

static void pack_f32(const bc_kernels *kernels, size_t channels) {
    kernels->pack_f32(&(bc_pack_args){.source = floats,
                                      .source_stride = (ptrdiff_t)channels,
                                      .pixels = PIXELS,
                                      .channels = channels,
                                      .words = words,
                                      .words_stride = (ptrdiff_t)(channels / 64)});
}

static void epilogue_to(const bc_kernels *kernels, size_t channels, bc_format format, void *destination,
                        size_t stride) {
    kernels->epilogue(&(bc_epilogue_args){.counts = counts,
                                          .row_stride = channels,
                                          .pixels = PIXELS,
                                          .channels = channels,
                                          .channel_base = counts,
                                          .count_shift = 1,
                                          .scale = terms,
                                          .bias = terms,
                                          .neuron = {.type = BC_NEURON_NONE},
                                          .format = format,
                                          .destination = destination,
                                          .destination_stride = (ptrdiff_t)stride});
}

static void epilogue_f32(const bc_kernels *kernels, size_t channels) {
    epilogue_to(kernels, channels, BC_FLOAT32, sums, channels);
}

static void epilogue_bits(const bc_kernels *kernels, size_t channels) {
    epilogue_to(kernels, channels, BC_BITS, words, 1);
}

static const loop loops[] = {
    {"xorpop-3x3x256", 256, (size_t)PIXELS *FILTERS * 9 * 256, xorpop},
    {"xorpop-3x3x64", 64, (size_t)PIXELS *FILTERS * 9 * 64, xorpop},
    {"signsum-3x3x64", 64, (size_t)PIXELS *FILTERS * 9 * 64, signsum},
    {"pack_f32-256", 256, (size_t)PIXELS * 256, pack_f32},
    {"epilogue_f32-32", 32, (size_t)PIXELS * 32, epilogue_f32},
    {"epilogue_bits-32", 32, (size_t)PIXELS * 32, epilogue_bits},
};

int main(int count, char **arguments) {
    if (count != 4) return 2;
    const bc_kernels *kernels = NULL;
    for (size_t i = 0; bc_isa_name(i); i++)
        if (strcmp(bc_isa_name(i), arguments[1]) == 0) kernels = bc_kernels_of(i);
    if (!kernels) return 2;
    for (size_t i = 0; i < sizeof loops / sizeof loops[0]; i++) {
        if (strcmp(loops[i].name, arguments[2]) != 0) continue;
        const long calls = strtol(arguments[3], NULL, 10);
        for (long call = 0; call < calls; call++) loops[i].call(kernels, loops[i].channels);
        printf("%zu\n", loops[i].work);
        return 0;
    }
    return 2;
}
