/* Kernels that count bits: the XNOR family and the popcounts of windows. Integers, so compared exactly. */
#include <string.h>

#include "cases.h"

static int popcount_of(uint64_t word) {
    int count = 0;
    for (; word; word &= word - 1) count++;
    return count;
}

/* A source of pixels whose taps lie anywhere: behind each other, before the pixel, or at the same place. */
typedef struct window_case {
    size_t taps, words;
    size_t runs, pixels; /* of each run */
    ptrdiff_t stride, run_stride;
    const uint64_t *source; /* word 0 of pixel 0, tap offset 0 */
    ptrdiff_t *tap_offset;
} window_case;

static window_case make_window(size_t taps, size_t words, size_t pixels, size_t stride_kind,
                               bit_pattern pattern) {
    window_case made = {.taps = taps, .words = words, .runs = 1, .pixels = pixels};
    const size_t spread = taps < 4 ? taps : 4; /* places for a tap, in words, so that some coincide */
    const size_t row = taps ? (spread - 1) + words : 0;
    made.stride = stride_of_kind(stride_kind, words);
    made.tap_offset = memory_input(taps * sizeof *made.tap_offset);
    const strided source = memory_strided_input(pixels, row, made.stride, sizeof(uint64_t));
    fill_words(source.block, source.elements, pattern);
    const ptrdiff_t before = spread ? (ptrdiff_t)random_below(spread) : 0;
    for (size_t t = 0; t < taps; t++) {
        const size_t place = t < 2 ? (spread - 1) * t : random_below(spread); /* both ends, then anything */
        made.tap_offset[t] = (ptrdiff_t)place - before;
    }
    made.source = (const uint64_t *)source.first + before;
    return made;
}

/* Its pixels as several runs, where their number allows: behind each other, overlapping, or all of them the same. */
static void cut_runs(window_case *window) {
    const size_t runs = 2 + random_below(3),
                 step = (size_t)(window->stride < 0 ? -window->stride : window->stride);
    if (window->pixels % runs) return;
    window->runs = runs;
    window->pixels /= runs;
    const size_t run = window->pixels * step, apart = random_below(2) ? run : random_below(run + 1);
    window->run_stride = window->stride < 0 ? -(ptrdiff_t)apart : (ptrdiff_t)apart;
}

/* Of a pixel, counted through all runs. */
static uint64_t window_word(const window_case *window, size_t pixel, size_t tap, size_t word) {
    const ptrdiff_t run = (ptrdiff_t)(pixel / window->pixels), place = (ptrdiff_t)(pixel % window->pixels);
    return window->source[run * window->run_stride + place * window->stride + window->tap_offset[tap] +
                          (ptrdiff_t)word];
}

/* ---- XNOR ----------------------------------------------------------------------------------------- */

/* A word of weights as the contract has it: from two of MPS's words, 0 past the last channel and filter. */
static uint64_t weight_word(const bc_xorpop_weights_args *args, size_t filter, size_t tap, size_t word) {
    if (filter >= args->filters) return 0;
    const uint32_t *words = args->weights + (filter * args->taps + tap) * divide_up(args->channels, 32);
    uint64_t bits = 0;
    for (size_t c = 64 * word; c < args->channels && c < 64 * word + 64; c++)
        bits |= (uint64_t)(words[c / 32] >> c % 32 & 1) << c % 64;
    return bits;
}

typedef struct xorpop_sizes {
    size_t filters, taps, channels, pixels, stride_kind;
    bit_pattern source, weights;
} xorpop_sizes;

static void xorpop_case(const subject *isa, xorpop_sizes sizes) {
    case_begin("filters %zu, taps %zu, channels %zu, pixels %zu, stride kind %zu, patterns %d %d",
               sizes.filters, sizes.taps, sizes.channels, sizes.pixels, sizes.stride_kind, (int)sizes.source,
               (int)sizes.weights);
    const bc_kernels *kernels = isa->kernels;
    const size_t words = divide_up(sizes.channels, 64);
    const size_t lanes = kernels->xorpop_block_filters, blocks = divide_up(sizes.filters, lanes);

    const size_t mps_words = sizes.filters * sizes.taps * divide_up(sizes.channels, 32);
    uint32_t *weights = memory_input(mps_words * sizeof *weights);
    fill_words32(weights, mps_words, sizes.weights);
    const int stripes = sizes.source == BITS_STRIPES;
    const size_t filter_words = divide_up(sizes.channels, 32);
    for (size_t filter = 0; stripes && filter < sizes.filters; filter++)
        fill_words32(weights + filter * filter_words, filter_words, filter % 3 ? BITS_ZERO : BITS_ONE);
    const bc_xorpop_weights_args packing = {
        .weights = weights,
        .filters = sizes.filters,
        .taps = sizes.taps,
        .channels = sizes.channels,
        .blocks = memory_output(blocks * sizes.taps * words * kernels->xorpop_block_word_bytes)};
    kernels->xorpop_weights(&packing);

    window_case window = make_window(sizes.taps, words, sizes.pixels, sizes.stride_kind, sizes.source);
    cut_runs(&window);
    for (size_t pixel = 0; stripes && pixel < sizes.pixels; pixel++)
        fill_words((uint64_t *)window.source + pixel * words, words, pixel % 2 ? BITS_ZERO : BITS_ONE);
    const size_t row = blocks * lanes, counts_stride = row + sizes.pixels % 3;
    const size_t total = sizes.pixels ? (sizes.pixels - 1) * counts_stride + row : 0;
    int32_t *expected = memory_input(total * sizeof *expected);
    memset(expected, MEMORY_FILL, total * sizeof *expected);
    for (size_t filter = 0; filter < row; filter++)
        for (size_t pixel = 0; pixel < sizes.pixels; pixel++) expected[pixel * counts_stride + filter] = 0;
    for (size_t filter = 0; filter < row; filter++)
        for (size_t tap = 0; tap < sizes.taps; tap++)
            for (size_t word = 0; word < words; word++) {
                const uint64_t bits = weight_word(&packing, filter, tap, word);
                for (size_t pixel = 0; pixel < sizes.pixels; pixel++)
                    expected[pixel * counts_stride + filter] +=
                        popcount_of(window_word(&window, pixel, tap, word) ^ bits);
            }
    int32_t *actual = memory_output(total * sizeof *actual);
    /* All blocks at once, or as many as a caller that splits them takes. */
    const size_t block_bytes = sizes.taps * words * kernels->xorpop_block_word_bytes;
    const size_t step = sizes.pixels % 2 ? blocks : divide_up(64, lanes);
    size_t first = 0;
    do {
        kernels->xorpop(&(bc_xorpop_args){.source = window.source,
                                          .source_stride = window.stride,
                                          .run_stride = window.run_stride,
                                          .tap_offset = window.tap_offset,
                                          .taps = sizes.taps,
                                          .words = words,
                                          .weights = (const char *)packing.blocks + first * block_bytes,
                                          .runs = window.runs,
                                          .pixels = window.pixels,
                                          .blocks = blocks - first < step ? blocks - first : step,
                                          .counts = actual + first * lanes,
                                          .counts_stride = counts_stride});
        first += step;
    } while (first < blocks);
    expect_i32("counts", actual, expected, total);
    case_end();
}

static void xorpop_cases(const subject *isa) {
    const size_t lanes = isa->kernels->xorpop_block_filters;
    size_t kind = 0;
    /* Sizes of the reduction, each with every pair of patterns. */
    for (const size_t *channels = channel_sizes; *channels; channels++)
        for (int source = 0; source < BIT_PATTERNS; source++)
            for (int weights = 0; weights < BIT_PATTERNS; weights++)
                xorpop_case(isa, (xorpop_sizes){1 + random_below(2 * lanes), 1 + random_below(9), *channels,
                                                1 + random_below(9), kind++, (bit_pattern)source,
                                                (bit_pattern)weights});
    /* Tiles: pixels, blocks, and filters that do not fill the last block. */
    for (const size_t *pixels = pixel_sizes; *pixels != END_OF_SIZES; pixels++)
        for (size_t blocks = 1; blocks <= 9; blocks++)
            xorpop_case(isa,
                        (xorpop_sizes){blocks * lanes - random_below(lanes), 1 + random_below(3),
                                       1 + random_below(130), *pixels, kind++, BITS_RANDOM, BITS_RANDOM});
    /* Reductions of every length up to where carry-save trees have wrapped round, and one that is long. */
    for (size_t words = 1; words <= 70; words++)
        xorpop_case(isa,
                    (xorpop_sizes){lanes, 1, 64 * words, 1 + words % 9, kind++, BITS_RANDOM, BITS_RANDOM});
    for (size_t taps = 0; taps <= 49; taps++)
        xorpop_case(isa, (xorpop_sizes){lanes, taps, 1 + random_below(200), 1 + taps % 9, kind++, BITS_RANDOM,
                                        BITS_RANDOM});
    xorpop_case(isa, (xorpop_sizes){lanes, 25, 64 * 64, 2, 0, BITS_ONE, BITS_ZERO}); /* above 65,535 */
    /* Neighbours of which one counts all bits and the other none, up to where bytes have overflowed many times. */
    for (size_t words = 1; words <= 140; words++)
        xorpop_case(isa, (xorpop_sizes){1 + words % (4 * lanes), 1, 64 * words, 1 + words % 5, 0,
                                        BITS_STRIPES, BITS_ZERO});
    xorpop_case(isa, (xorpop_sizes){4 * lanes, 1, 64 * 1100, 5, 0, BITS_STRIPES, BITS_ZERO});
    /* Carries that just fit 16 bits, and one word more. */
    for (size_t words = 1022; words <= 1025; words++)
        xorpop_case(isa, (xorpop_sizes){3 * lanes, 1, 64 * words, 2, 0, BITS_ONE, BITS_ZERO});
    /* Pixels of many tiles, and of more than one stretch of those that share what is in the cache. */
    for (size_t pixels = 63; pixels <= 65; pixels++)
        for (size_t blocks = 1; blocks <= 4; blocks++)
            xorpop_case(isa, (xorpop_sizes){blocks * lanes, 9, 64, blocks == 3 ? 2 * pixels : pixels, kind++,
                                            BITS_RANDOM, BITS_RANDOM});
    /* Every number of 64-filter chunks' rests, in windows of every length at which layouts may change. */
    for (size_t words = 1; words <= 12; words++)
        for (size_t filters = 8; filters <= 144; filters += 8)
            xorpop_case(isa, (xorpop_sizes){filters - random_below(8), 1, 64 * words, 1 + random_below(8),
                                            kind++, BITS_RANDOM, BITS_RANDOM});
    xorpop_case(isa, (xorpop_sizes){2 * lanes + 1, 17, 64 * 65, 5, 1, BITS_RANDOM, BITS_RANDOM});
    xorpop_case(isa, (xorpop_sizes){0, 9, 64, 5, 0, BITS_RANDOM, BITS_RANDOM});
}

/* A family's layout is its own, so its two kernels are tested by what comes out of both. */
void test_xorpop(const subject *isa) { xorpop_cases(isa); }

void test_xorpop_weights(const subject *isa) {
    const size_t lanes = isa->kernels->xorpop_block_filters;
    /* One bit at a time says where each bit of the weights ended up. */
    for (const size_t *channels = channel_sizes; *channels; channels++)
        for (size_t filters = 1; filters <= 2 * lanes + 1; filters++)
            xorpop_case(isa, (xorpop_sizes){filters, 3, *channels, 1, 0, BITS_ZERO, BITS_ONE_HOT});
}

enum {
    BENCH_CHANNELS = 256,
    BENCH_WORDS = BENCH_CHANNELS / 64,
    BENCH_TAPS = 9,
    BENCH_ROW = 16,
    BENCH_PIXELS = 14
};

static uint64_t bench_words[3 * BENCH_ROW * BENCH_WORDS];
static ptrdiff_t bench_taps[BENCH_TAPS];
static int32_t bench_counts[BENCH_PIXELS * BENCH_CHANNELS];

static void fill_bench_source(void) {
    fill_words(bench_words, sizeof bench_words / sizeof bench_words[0], BITS_RANDOM);
    for (ptrdiff_t t = 0; t < BENCH_TAPS; t++) bench_taps[t] = (t / 3 * BENCH_ROW + t % 3) * BENCH_WORDS;
}

enum { BENCH_BLOCK_BYTES = BENCH_CHANNELS * BENCH_TAPS * BENCH_WORDS * 8 * 4 };
static uint32_t bench_weights[BENCH_CHANNELS * BENCH_TAPS * BENCH_CHANNELS / 32];
static uint64_t bench_blocks[BENCH_BLOCK_BYTES / 8];

static bc_xorpop_weights_args bench_packing(void) {
    fill_words32(bench_weights, sizeof bench_weights / sizeof bench_weights[0], BITS_RANDOM);
    return (bc_xorpop_weights_args){.weights = bench_weights,
                                    .filters = BENCH_CHANNELS,
                                    .taps = BENCH_TAPS,
                                    .channels = BENCH_CHANNELS,
                                    .blocks = bench_blocks};
}

void bench_xorpop_weights(bench *timer, const bc_kernels *kernels) {
    const bc_xorpop_weights_args args = bench_packing();
    BENCH(timer, kernels->xorpop_weights(&args), "256 filters, 3x3x256",
          BENCH_CHANNELS * BENCH_TAPS * BENCH_CHANNELS, "weights");
}

void bench_xorpop(bench *timer, const bc_kernels *kernels) {
    fill_bench_source();
    const bc_xorpop_weights_args packing = bench_packing();
    kernels->xorpop_weights(&packing);
    bc_xorpop_args args = {.source = bench_words,
                           .source_stride = BENCH_WORDS,
                           .tap_offset = bench_taps,
                           .taps = BENCH_TAPS,
                           .words = BENCH_WORDS,
                           .weights = bench_blocks,
                           .runs = 1,
                           .pixels = BENCH_PIXELS,
                           .blocks = BENCH_CHANNELS / kernels->xorpop_block_filters,
                           .counts = bench_counts,
                           .counts_stride = BENCH_CHANNELS};
    const double row = (double)BENCH_CHANNELS * BENCH_TAPS * BENCH_CHANNELS;
    BENCH(timer, kernels->xorpop(&args), "14 pixels, 256 filters, 3x3x256", row * BENCH_PIXELS, "MAC");
    args.pixels = 1;
    BENCH(timer, kernels->xorpop(&args), "1 pixel, 256 filters, 3x3x256", row, "MAC");
}

/* ---- Chains ---------------------------------------------------------------------------------------- */

/* Runs of pixels whose windows are rows x row_words words, `step` words of each row after those of the pixel before. */
typedef struct chain_case {
    size_t rows, row_words, step, runs, pixels;
    size_t run_words;  /* of each row */
    size_t run_stride; /* of the source, from run to run */
    const uint64_t *source;
    ptrdiff_t *row_offset;
} chain_case;

static chain_case make_chain_case(size_t rows, size_t row_words, size_t step, size_t runs, size_t pixels,
                                  bit_pattern pattern) {
    chain_case made = {.rows = rows, .row_words = row_words, .step = step, .runs = runs, .pixels = pixels};
    made.run_words = pixels ? (pixels - 1) * step + row_words : 0;
    made.run_stride = random_below(2) ? 0 : made.run_words + random_below(3);
    made.row_offset = memory_input(rows * sizeof *made.row_offset);
    const size_t places = 3, row_stride = made.run_words + 1; /* so that some rows coincide */
    for (size_t r = 0; r < rows; r++) made.row_offset[r] = (ptrdiff_t)(random_below(places) * row_stride);
    if (rows) made.row_offset[rows - 1] = (ptrdiff_t)((places - 1) * row_stride);
    const size_t words =
        (runs ? (runs - 1) * made.run_stride : 0) + (places - 1) * row_stride + made.run_words;
    uint64_t *source = memory_input(words * sizeof *source);
    fill_words(source, words, pattern);
    made.source = source;
    return made;
}

static uint64_t chain_word(const chain_case *chain, size_t run, size_t row, size_t k) {
    return chain->source[(ptrdiff_t)(run * chain->run_stride + k) + chain->row_offset[row]];
}

/* A run's entries, the first 0. */
static void expected_chain(const chain_case *chain, size_t run, uint64_t *entries) {
    uint64_t ones = 0;
    *entries++ = 0;
    for (size_t k = 0; k < chain->run_words; k++)
        for (size_t r = 0; r < chain->rows; r++) {
            const uint64_t word = chain_word(chain, run, r, k);
            ones ^= (word ^ word >> 32) & 0xffffffff;
            *entries++ = (word & 0xffffffff) | ones << 32;
        }
}

static void chain_source_case(const subject *isa, size_t rows, size_t words, size_t runs,
                              bit_pattern pattern) {
    case_begin("rows %zu, words %zu, runs %zu, pattern %d", rows, words, runs, (int)pattern);
    const chain_case chain = make_chain_case(rows, words, 1, runs, 1, pattern);
    const size_t entries = 1 + rows * words, run_stride = entries + random_below(2) * random_below(9);
    uint64_t *expected = memory_input(entries * sizeof *expected);
    const size_t total = runs ? (runs - 1) * run_stride + entries : 0;
    uint64_t *actual = memory_output((total + (runs ? rows * BC_CHAIN_SLACK : 0)) * sizeof *actual);
    isa->kernels->chain_source(&(bc_chain_source_args){.source = chain.source,
                                                       .row_offset = chain.row_offset,
                                                       .rows = rows,
                                                       .words = words,
                                                       .runs = runs,
                                                       .source_run_stride = (ptrdiff_t)chain.run_stride,
                                                       .chain = actual,
                                                       .run_stride = run_stride});
    for (size_t run = 0; run < runs; run++) {
        expected_chain(&chain, run, expected);
        expect_u64("entries", actual + run * run_stride, expected, entries);
    }
    case_end();
}

void test_chain_source(const subject *isa) {
    for (size_t rows = 1; rows <= 9; rows++)
        for (size_t words = 0; words <= 35; words++)
            chain_source_case(isa, rows, words, words % 4, words % 5 ? BITS_RANDOM : BITS_ONE_HOT);
    for (size_t runs = 0; runs <= 3; runs++) chain_source_case(isa, 3, 200, runs, BITS_RANDOM);
    chain_source_case(isa, 70, 33, 2, BITS_RANDOM);
}

typedef struct chain_sizes {
    size_t filters, rows, row_taps, channels, step, runs, pixels;
    bit_pattern source, weights;
} chain_sizes;

/* Terms of an epilogue of the kinds that sums by chains are finished with. */
static bc_epilogue_args finish_terms(size_t kind, size_t channels, size_t pixels) {
    static const bc_neuron neurons[] = {{BC_NEURON_NONE, 0, 0, 0, NULL},
                                        {BC_NEURON_RELU, 0.1f, 0, 0, NULL},
                                        {BC_NEURON_PRELU, 0, 0, 0, NULL}};
    enum { NEURONS = sizeof neurons / sizeof neurons[0] };
    const unsigned is_halved = kind / NEURONS % 2;
    float *scale = memory_padded_input(channels, sizeof *scale),
          *bias = memory_padded_input(channels, sizeof *bias);
    float *slope = memory_padded_input(channels, sizeof *slope);
    fill_floats(scale, channels, kind % 5 ? FLOATS_ORDINARY : FLOATS_SPECIAL);
    fill_floats(bias, channels, FLOATS_ORDINARY);
    fill_floats(slope, channels, FLOATS_ORDINARY);
    int32_t *channel_base = memory_padded_input(channels, sizeof *channel_base);
    int32_t *pixel_base = memory_input(2 * pixels * sizeof *pixel_base);
    for (size_t c = 0; c < channels; c++)
        channel_base[c] = is_halved || !c ? (int32_t)random_below(70000) : channel_base[0];
    for (size_t i = 0; i < 2 * pixels; i++) pixel_base[i] = (int32_t)random_below(70000);
    bc_epilogue_args made = {.channels = channels,
                             .channel_base = channel_base,
                             .pixel_base = is_halved ? pixel_base : NULL,
                             .pixel_base_stride = 1 + kind % 2,
                             .count_shift = !is_halved,
                             .sum_shift = is_halved,
                             .scale = scale,
                             .bias = bias,
                             .neuron = neurons[kind % NEURONS],
                             .format = BC_FLOAT32};
    if (made.neuron.type == BC_NEURON_PRELU) made.neuron.a_terms = slope;
    return made;
}

/* The same sums, finished: what the epilogue makes of the counts. */
static void expect_finished(const subject *isa, bc_chain_sums_args args, const int32_t *counts,
                            size_t counts_stride, size_t kind) {
    const size_t channels = args.blocks * isa->kernels->chain_block_filters, pixels = args.runs * args.pixels;
    const size_t stride = channels + kind % 3, total = (pixels - 1) * stride + channels;
    float *expected = memory_input(total * sizeof *expected), *actual = memory_output(total * sizeof *actual);
    memset(expected, MEMORY_FILL, total * sizeof *expected);
    bc_epilogue_args finish = finish_terms(kind, channels, pixels);
    finish.counts = counts;
    finish.row_stride = counts_stride;
    finish.pixels = pixels;
    finish.destination = expected;
    finish.destination_stride = (ptrdiff_t)stride;
    isa->portable->epilogue(&finish);
    finish.counts = NULL;
    finish.destination = actual;
    args.finish = &finish;
    isa->kernels->chain_sums(&args);
    expect_f32("results", actual, expected, total);
}

static void chain_sums_case(const subject *isa, chain_sizes sizes) {
    case_begin(
        "filters %zu, rows %zu, row taps %zu, channels %zu, step %zu, runs %zu, pixels %zu, patterns %d %d",
        sizes.filters, sizes.rows, sizes.row_taps, sizes.channels, sizes.step, sizes.runs, sizes.pixels,
        (int)sizes.source, (int)sizes.weights);
    const bc_kernels *kernels = isa->kernels;
    const size_t words = divide_up(sizes.channels, 64), taps = sizes.rows * sizes.row_taps;
    const size_t lanes = kernels->chain_block_filters, blocks = divide_up(sizes.filters, lanes);
    const size_t block_bytes = taps * words * kernels->chain_block_word_bytes;

    const size_t mps_words = sizes.filters * taps * divide_up(sizes.channels, 32);
    uint32_t *weights = memory_input(mps_words * sizeof *weights);
    fill_words32(weights, mps_words, sizes.weights);
    void *packed = memory_output(blocks * block_bytes);
    kernels->chain_weights(&(bc_chain_weights_args){.weights = weights,
                                                    .filters = sizes.filters,
                                                    .rows = sizes.rows,
                                                    .row_taps = sizes.row_taps,
                                                    .channels = sizes.channels,
                                                    .blocks = packed});

    const chain_case chain = make_chain_case(sizes.rows, sizes.row_taps * words, sizes.step, sizes.runs,
                                             sizes.pixels, sizes.source);
    const size_t entries = 1 + sizes.rows * chain.run_words;
    uint64_t *chains = memory_input(sizes.runs * entries * sizeof *chains);
    for (size_t run = 0; run < sizes.runs; run++) expected_chain(&chain, run, chains + run * entries);

    const size_t pixels = sizes.runs * sizes.pixels, row = blocks * lanes, counts_stride = row + pixels % 3;
    const size_t total = pixels ? (pixels - 1) * counts_stride + row : 0;
    int32_t *expected = memory_input(total * sizeof *expected);
    memset(expected, MEMORY_FILL, total * sizeof *expected);
    const bc_xorpop_weights_args as_taps = {
        .weights = weights, .filters = sizes.filters, .taps = taps, .channels = sizes.channels};
    for (size_t pixel = 0; pixel < pixels; pixel++)
        for (size_t filter = 0; filter < row; filter++) {
            int32_t count = 0;
            for (size_t tap = 0; tap < taps; tap++)
                for (size_t k = 0; k < words; k++) {
                    const size_t column =
                        pixel % sizes.pixels * sizes.step + tap % sizes.row_taps * words + k;
                    count +=
                        popcount_of(weight_word(&as_taps, filter, tap, k) ^
                                    chain_word(&chain, pixel / sizes.pixels, tap / sizes.row_taps, column));
                }
            expected[pixel * counts_stride + filter] = count;
        }
    int32_t *actual = memory_output(total * sizeof *actual);
    /* All blocks at once, or as many as a caller that splits them takes. */
    const size_t step = pixels % 2 ? blocks : divide_up(64, lanes);
    bc_chain_sums_args args = {.chain = chains,
                               .words = taps * words,
                               .runs = sizes.runs,
                               .pixels = sizes.pixels,
                               .run_stride = entries,
                               .pixel_stride = sizes.step * sizes.rows,
                               .next_weights = sizes.pixels % 4 < 2 ? packed : NULL,
                               .counts_stride = counts_stride};
    for (size_t first = 0; first < blocks; first += step) {
        args.weights = (const char *)packed + first * block_bytes;
        args.blocks = blocks - first < step ? blocks - first : step;
        args.counts = actual + first * lanes;
        kernels->chain_sums(&args);
    }
    expect_i32("counts", actual, expected, total);
    static size_t kind = 0;
    args.weights = packed;
    args.blocks = blocks;
    if (total && row <= BC_EPILOGUE_CHANNELS) expect_finished(isa, args, expected, counts_stride, kind++);
    case_end();
}

/* A family's layout of weights is its own, so its kernels are tested by what comes out of both. */
void test_chain_sums(const subject *isa) {
    const size_t lanes = isa->kernels->chain_block_filters;
    /* Tiles: pixels, runs, blocks, and filters that do not fill the last block. */
    for (const size_t *pixels = pixel_sizes; *pixels != END_OF_SIZES; pixels++)
        for (size_t blocks = 1; blocks <= 5; blocks++)
            chain_sums_case(isa, (chain_sizes){blocks * lanes - random_below(lanes), 3, 3, 64, 1,
                                               1 + blocks % 3, *pixels, BITS_RANDOM, BITS_RANDOM});
    /* Windows of every length and shape, overlapping, side by side, and apart. */
    for (size_t rows = 1; rows <= 5; rows++)
        for (size_t row_taps = 1; row_taps <= 4; row_taps++)
            for (size_t step = 1; step <= 5; step++)
                chain_sums_case(isa, (chain_sizes){1 + random_below(3 * lanes), rows, row_taps,
                                                   1 + random_below(200), step, 2, 1 + random_below(9),
                                                   BITS_RANDOM, BITS_RANDOM});
    for (int source = 0; source < BIT_PATTERNS; source++)
        for (int weights = 0; weights < BIT_PATTERNS; weights++)
            for (size_t words = 1; words <= 4; words++)
                chain_sums_case(isa, (chain_sizes){lanes + 1, 1, 1, 64 * words, words, 1, 5,
                                                   (bit_pattern)source, (bit_pattern)weights});
    /* The longest window, every bit of which is counted, so that counts of carries are the largest. */
    chain_sums_case(isa, (chain_sizes){2 * lanes, 3, 11, 31 * 64, 1, 1, 3, BITS_ONE, BITS_ZERO});
    chain_sums_case(isa, (chain_sizes){3 * lanes, 1, 1, BC_CHAIN_WORDS * 64, 1, 1, 2, BITS_ONE, BITS_ZERO});
    chain_sums_case(isa, (chain_sizes){0, 3, 3, 64, 1, 1, 5, BITS_RANDOM, BITS_RANDOM});
}

void test_chain_weights(const subject *isa) {
    const size_t lanes = isa->kernels->chain_block_filters;
    /* One bit at a time says where each bit of the weights ended up. */
    for (const size_t *channels = channel_sizes; *channels; channels++)
        for (size_t filters = 1; filters <= 2 * lanes + 1; filters += 1 + random_below(5))
            chain_sums_case(isa, (chain_sizes){filters, 2, 2, *channels, 1, 1, 1, BITS_ZERO, BITS_ONE_HOT});
}

enum { BENCH_RUN_WORDS = (BENCH_PIXELS + 2) * BENCH_WORDS, BENCH_RUNS = 4 };

static uint64_t bench_chain[BENCH_RUNS * (1 + 3 * BENCH_RUN_WORDS) + 3 * BC_CHAIN_SLACK];

static bc_chain_source_args bench_linking(void) {
    static const ptrdiff_t row_offset[] = {0, BENCH_ROW * BENCH_WORDS, 2 * BENCH_ROW * BENCH_WORDS};
    fill_bench_source();
    return (bc_chain_source_args){.source = bench_words,
                                  .row_offset = row_offset,
                                  .rows = 3,
                                  .words = BENCH_RUN_WORDS,
                                  .runs = BENCH_RUNS,
                                  .chain = bench_chain,
                                  .run_stride = 1 + 3 * BENCH_RUN_WORDS};
}

void bench_chain_source(bench *timer, const bc_kernels *kernels) {
    const bc_chain_source_args args = bench_linking();
    BENCH(timer, kernels->chain_source(&args), "4 runs of 14 pixels, 3x3x256",
          BENCH_RUNS * 3 * BENCH_RUN_WORDS, "words");
}

static bc_chain_weights_args bench_chain_packing(void) {
    const bc_xorpop_weights_args packing = bench_packing();
    return (bc_chain_weights_args){.weights = packing.weights,
                                   .filters = packing.filters,
                                   .rows = 3,
                                   .row_taps = 3,
                                   .channels = packing.channels,
                                   .blocks = packing.blocks};
}

void bench_chain_weights(bench *timer, const bc_kernels *kernels) {
    const bc_chain_weights_args args = bench_chain_packing();
    BENCH(timer, kernels->chain_weights(&args), "256 filters, 3x3x256",
          BENCH_CHANNELS * BENCH_TAPS * BENCH_CHANNELS, "weights");
}

void bench_chain_sums(bench *timer, const bc_kernels *kernels) {
    const bc_chain_source_args linking = bench_linking();
    kernels->chain_source(&linking);
    const bc_chain_weights_args packing = bench_chain_packing();
    kernels->chain_weights(&packing);
    const bc_chain_sums_args args = {.chain = bench_chain,
                                     .words = BENCH_TAPS * BENCH_WORDS,
                                     .runs = 1,
                                     .pixels = BENCH_PIXELS,
                                     .run_stride = linking.run_stride,
                                     .pixel_stride = 3 * BENCH_WORDS,
                                     .weights = bench_blocks,
                                     .blocks = BENCH_CHANNELS / kernels->chain_block_filters,
                                     .counts = bench_counts,
                                     .counts_stride = BENCH_CHANNELS};
    BENCH(timer, kernels->chain_sums(&args), "14 pixels, 256 filters, 3x3x256",
          (double)BENCH_CHANNELS * BENCH_TAPS * BENCH_CHANNELS * BENCH_PIXELS, "MAC");
}

/* ---- Windows -------------------------------------------------------------------------------------- */

static void window_popcount_case(const subject *isa, size_t taps, size_t words, size_t pixels,
                                 size_t stride_kind, bit_pattern pattern) {
    case_begin("taps %zu, words %zu, pixels %zu, stride kind %zu, pattern %d", taps, words, pixels,
               stride_kind, (int)pattern);
    const window_case window = make_window(taps, words, pixels, stride_kind, pattern);
    int32_t *expected = memory_input(pixels * sizeof *expected);
    for (size_t pixel = 0; pixel < pixels; pixel++) {
        expected[pixel] = 0;
        for (size_t tap = 0; tap < taps; tap++)
            for (size_t word = 0; word < words; word++)
                expected[pixel] += popcount_of(window_word(&window, pixel, tap, word));
    }
    int32_t *actual = memory_output(pixels * sizeof *actual);
    isa->kernels->window_popcount(&(bc_window_popcount_args){.source = window.source,
                                                             .source_stride = window.stride,
                                                             .tap_offset = window.tap_offset,
                                                             .taps = taps,
                                                             .words = words,
                                                             .pixels = pixels,
                                                             .counts = actual});
    expect_i32("counts", actual, expected, pixels);
    case_end();
}

void test_window_popcount(const subject *isa) {
    size_t kind = 0;
    for (const size_t *pixels = pixel_sizes; *pixels != END_OF_SIZES; pixels++)
        for (size_t words = 0; words <= 18; words++)
            window_popcount_case(isa, random_below(10), words, *pixels, kind++,
                                 (bit_pattern)random_below(BIT_PATTERNS));
    window_popcount_case(isa, 30, 64, 2, 0, BITS_ONE);
}

void bench_window_popcount(bench *timer, const bc_kernels *kernels) {
    fill_bench_source();
    const bc_window_popcount_args args = {.source = bench_words,
                                          .source_stride = BENCH_WORDS,
                                          .tap_offset = bench_taps,
                                          .taps = BENCH_TAPS,
                                          .words = BENCH_WORDS,
                                          .pixels = BENCH_PIXELS,
                                          .counts = bench_counts};
    BENCH(timer, kernels->window_popcount(&args), "14 pixels, 3x3x256",
          BENCH_PIXELS * BENCH_TAPS * BENCH_CHANNELS, "bits");
}
