/* Kernels that sum floats: the BINARY_WEIGHTS family and the means that make beta. */
#include <math.h>
#include <string.h>

#include "cases.h"

/* ---- BINARY_WEIGHTS ------------------------------------------------------------------------------- */

typedef struct signsum_sizes {
    size_t filters, rows, run, pixels, stride_kind;
    float_pattern source;
    bit_pattern weights;
    int accumulate;
    size_t first_call_rows; /* the rows are summed in two calls, the second accumulating */
    int sliding;            /* one expansion for overlapping windows, where no input is absent */
} signsum_sizes;

static int weight_bit(const bc_signsum_weights_args *args, size_t filter, size_t row, size_t input) {
    const uint32_t *words = args->weights + (filter * args->rows + row) * divide_up(args->run, 32);
    return (int)(words[input / 32] >> input % 32 & 1);
}

/* Input i of row r of a pixel is source[pixel * stride + row_start[r] + i]. The kernel finds its group at
 * expanded[pixel * expanded_stride + row_offset[r] + i / 4 * signsum_group_floats]. */
typedef struct signsum_inputs {
    const float *source;
    ptrdiff_t stride, *row_start;
    float *expanded;
    ptrdiff_t expanded_stride, *row_offset;
} signsum_inputs;

static signsum_inputs make_inputs(const bc_kernels *kernels, const signsum_sizes *sizes, size_t run) {
    const size_t groups = divide_up(run, 4), group_floats = kernels->signsum_group_floats;
    signsum_inputs made;
    made.row_start = memory_input(sizes->rows * sizeof *made.row_start);
    made.row_offset = memory_input(sizes->rows * sizeof *made.row_offset);
    const size_t spread = sizes->rows < 3 ? sizes->rows : 3;
    /* Rows of a kernel may lie in any order and overlap. */
    for (size_t row = 0; row < sizes->rows; row++)
        made.row_start[row] = (ptrdiff_t)(row < spread ? spread - 1 - row : random_below(spread));

    if (sizes->sliding) { /* windows over one long run, a group or more apart */
        const ptrdiff_t step = stride_of_kind(sizes->stride_kind, 1);
        const size_t distance = (size_t)(step < 0 ? -step : step), pixels = sizes->pixels ? sizes->pixels : 1;
        const size_t total = (groups + (pixels - 1) * distance + (spread ? spread - 1 : 0));
        float *source = memory_input(4 * total * sizeof *source);
        fill_floats(source, 4 * total, sizes->source);
        made.expanded = memory_output(total * group_floats * sizeof(float));
        kernels->signsum_expand(&(bc_signsum_expand_args){
            .source = source, .pixels = 1, .run = 4 * total, .groups = made.expanded});
        const size_t first = step < 0 ? (pixels - 1) * distance : 0;
        made.source = source + 4 * first;
        made.expanded += first * group_floats;
        made.stride = 4 * step;
        made.expanded_stride = (ptrdiff_t)group_floats * step;
        for (size_t row = 0; row < sizes->rows; row++) {
            made.row_offset[row] = made.row_start[row] * (ptrdiff_t)group_floats;
            made.row_start[row] *= 4;
        }
        return made;
    }

    /* Each row of each pixel by itself, with inputs absent from its last group. */
    made.stride = stride_of_kind(sizes->stride_kind, run);
    const strided source =
        memory_strided_input(sizes->pixels, run + (spread ? spread - 1 : 0), made.stride, sizeof(float));
    fill_floats(source.block, source.elements, sizes->source);
    made.source = source.first;
    made.expanded_stride = (ptrdiff_t)(groups * group_floats);
    const size_t row_floats = sizes->pixels * groups * group_floats;
    made.expanded = memory_output(sizes->rows * row_floats * sizeof(float));
    for (size_t row = 0; row < sizes->rows; row++) {
        made.row_offset[row] = (ptrdiff_t)(row * row_floats);
        kernels->signsum_expand(&(bc_signsum_expand_args){.source = made.source + made.row_start[row],
                                                          .source_stride = made.stride,
                                                          .pixels = sizes->pixels,
                                                          .run = run,
                                                          .groups = made.expanded + row * row_floats});
    }
    return made;
}

/* Each input is rounded at most as often as the contract says, so this is what an error can grow to. */
static void expect_sums(const signsum_inputs *inputs, const bc_signsum_args *args, size_t calls, size_t run,
                        const bc_signsum_weights_args *packing, const float *before) {
    const double roundings = (double)(args->rows * args->groups + 3 * calls);
    for (size_t pixel = 0; pixel < args->pixels; pixel++)
        for (size_t filter = 0; filter < packing->filters; filter++) {
            const size_t at = pixel * args->sums_stride + filter;
            double sum = args->accumulate ? (double)before[at] : 0.0, magnitude = fabs(sum);
            for (size_t row = 0; row < args->rows; row++) {
                const float *v = inputs->source + (ptrdiff_t)pixel * inputs->stride + inputs->row_start[row];
                for (size_t i = 0; i < run; i++) {
                    sum += weight_bit(packing, filter, row, i) ? (double)v[i] : -(double)v[i];
                    magnitude += fabs((double)v[i]);
                }
            }
            expect_near("sums", at, args->sums[at], sum, roundings * 0x1p-24 * magnitude);
        }
}

static void signsum_case(const subject *isa, signsum_sizes sizes) {
    const size_t run = sizes.run;
    sizes.sliding = sizes.sliding && run % 4 == 0;
    case_begin("filters %zu, rows %zu (%zu at once), run %zu, pixels %zu, stride kind %zu, "
               "sliding %d, floats %d, bits %d, accumulate %d",
               sizes.filters, sizes.rows, sizes.first_call_rows, sizes.run, sizes.pixels, sizes.stride_kind,
               sizes.sliding, (int)sizes.source, (int)sizes.weights, sizes.accumulate);
    const bc_kernels *kernels = isa->kernels;
    const size_t lanes = kernels->signsum_block_filters, blocks = divide_up(sizes.filters, lanes);
    const size_t row_bytes = divide_up(run, 32) * kernels->signsum_block_word_bytes;
    const size_t block_bytes = sizes.rows * row_bytes;

    const size_t mps_words = sizes.filters * sizes.rows * divide_up(run, 32);
    uint32_t *weights = memory_input(mps_words * sizeof *weights);
    fill_words32(weights, mps_words, sizes.weights);
    const bc_signsum_weights_args packing = {.weights = weights,
                                             .filters = sizes.filters,
                                             .rows = sizes.rows,
                                             .run = run,
                                             .blocks = memory_output(blocks * block_bytes)};
    kernels->signsum_weights(&packing);
    const signsum_inputs inputs = make_inputs(kernels, &sizes, run);

    const size_t filters = blocks * lanes, sums_stride = filters + sizes.pixels % 3;
    const size_t total = sizes.pixels ? (sizes.pixels - 1) * sums_stride + filters : 0;
    float *sums = memory_output(total * sizeof *sums), *before = memory_input(total * sizeof *before);
    if (sizes.accumulate)
        for (size_t pixel = 0; pixel < sizes.pixels; pixel++)
            for (size_t filter = 0; filter < filters; filter++)
                sums[pixel * sums_stride + filter] = random_float();
    memcpy(before, sums, total * sizeof *sums);

    bc_signsum_args args = {.source = inputs.expanded,
                            .source_stride = inputs.expanded_stride,
                            .row_offset = inputs.row_offset,
                            .rows = sizes.first_call_rows,
                            .groups = divide_up(run, 4),
                            .weights = packing.blocks,
                            .block_stride_bytes = block_bytes,
                            .pixels = sizes.pixels,
                            .blocks = blocks,
                            .sums = sums,
                            .sums_stride = sums_stride,
                            .accumulate = sizes.accumulate};
    kernels->signsum(&args);
    if (sizes.first_call_rows < sizes.rows) {
        args.rows = sizes.rows - sizes.first_call_rows;
        args.row_offset = inputs.row_offset + sizes.first_call_rows;
        args.weights = (const char *)packing.blocks + sizes.first_call_rows * row_bytes;
        args.accumulate = 1;
        kernels->signsum(&args);
    }
    args.rows = sizes.rows;
    args.accumulate = sizes.accumulate;
    expect_sums(&inputs, &args, sizes.first_call_rows < sizes.rows ? 2 : 1, run, &packing, before);
    for (size_t pixel = 0; pixel + 1 < sizes.pixels; pixel++)
        for (size_t gap = filters; gap < sums_stride; gap++)
            if (memcmp(&sums[pixel * sums_stride + gap], &before[pixel * sums_stride + gap], sizeof *sums))
                fail("wrote between the sums of pixel %zu and the next", pixel);
    case_end();
}

static signsum_sizes random_signsum(const subject *isa) {
    signsum_sizes sizes = {.filters = 1 + random_below(2 * isa->kernels->signsum_block_filters),
                           .rows = 1 + random_below(5),
                           .run = 1 + random_below(210),
                           .pixels = 1 + random_below(9),
                           .stride_kind = random_below(STRIDE_KINDS),
                           .source = (float_pattern)random_below(FLOAT_PATTERNS),
                           .weights = BITS_RANDOM,
                           .accumulate = (int)random_below(2),
                           .sliding = (int)random_below(2)};
    sizes.first_call_rows = 1 + random_below(sizes.rows);
    return sizes;
}

void test_signsum(const subject *isa) {
    const size_t lanes = isa->kernels->signsum_block_filters;
    for (const size_t *channels = channel_sizes; *channels; channels++)
        for (int source = 0; source < FLOAT_PATTERNS; source++)
            for (int weights = 0; weights < BIT_PATTERNS; weights++) {
                signsum_sizes sizes = random_signsum(isa);
                sizes.run = *channels;
                sizes.source = (float_pattern)source;
                sizes.weights = (bit_pattern)weights;
                signsum_case(isa, sizes);
            }
    for (const size_t *pixels = pixel_sizes; *pixels != END_OF_SIZES; pixels++)
        for (size_t blocks = 0; blocks <= 9; blocks++) {
            signsum_sizes sizes = random_signsum(isa);
            sizes.filters = blocks ? blocks * lanes - random_below(lanes) : 0;
            sizes.pixels = *pixels;
            signsum_case(isa, sizes);
        }
    for (size_t run = 1; run <= 140; run++) {
        signsum_sizes sizes = random_signsum(isa);
        sizes.run = run;
        signsum_case(isa, sizes);
    }
    for (int accumulate = 0; accumulate < 2; accumulate++) {
        signsum_sizes sizes = random_signsum(isa);
        sizes.rows = sizes.first_call_rows = 0; /* sums of nothing */
        sizes.accumulate = accumulate;
        signsum_case(isa, sizes);
    }
}

/* A family's layouts are its own, so its kernels are tested by what comes out of all of them. */
void test_signsum_expand(const subject *isa) {
    for (size_t run = 1; run <= 36; run++)
        for (int source = 0; source < FLOAT_PATTERNS; source++)
            for (size_t pixels = 0; pixels <= 9; pixels++) {
                signsum_sizes sizes = random_signsum(isa);
                sizes.run = run;
                sizes.source = (float_pattern)source;
                sizes.pixels = pixels;
                signsum_case(isa, sizes);
            }
}

void test_signsum_weights(const subject *isa) {
    for (const size_t *channels = channel_sizes; *channels; channels++)
        for (size_t filters = 1; filters <= isa->kernels->signsum_block_filters + 1; filters++) {
            signsum_sizes sizes = random_signsum(isa);
            sizes.filters = filters;
            sizes.run = *channels;
            sizes.weights = BITS_ONE_HOT;
            signsum_case(isa, sizes);
        }
}

enum {
    BENCH_CHANNELS = 64,
    BENCH_WIDTH = 3,
    BENCH_ROWS = 3,
    BENCH_PIXELS = 14,
    BENCH_ROW = 16 * BENCH_CHANNELS
};
enum {
    BENCH_RUN = BENCH_WIDTH * BENCH_CHANNELS,
    BENCH_BLOCK_BYTES = BENCH_CHANNELS * BENCH_ROWS * BENCH_RUN * 8
};

static float bench_source[BENCH_ROWS * BENCH_ROW], bench_sums[BENCH_PIXELS * BENCH_CHANNELS];
static uint32_t bench_weights[BENCH_CHANNELS * BENCH_ROWS * BENCH_RUN / 32];
static uint64_t bench_blocks[BENCH_BLOCK_BYTES / 8];

static bc_signsum_weights_args bench_packing(void) {
    fill_words32(bench_weights, sizeof bench_weights / sizeof bench_weights[0], BITS_RANDOM);
    return (bc_signsum_weights_args){.weights = bench_weights,
                                     .filters = BENCH_CHANNELS,
                                     .rows = BENCH_ROWS,
                                     .run = BENCH_RUN,
                                     .blocks = bench_blocks};
}

void bench_signsum_weights(bench *timer, const bc_kernels *kernels) {
    const bc_signsum_weights_args args = bench_packing();
    BENCH(timer, kernels->signsum_weights(&args), "64 filters, 3x3x64",
          BENCH_CHANNELS * BENCH_ROWS * BENCH_RUN, "weights");
}

/* Three rows of 16 pixels of 64 channels. */
static bc_signsum_expand_args bench_expansion(const bc_kernels *kernels) {
    fill_floats(bench_source, BENCH_ROWS * BENCH_ROW, FLOATS_ORDINARY);
    const size_t floats = BENCH_ROWS * BENCH_ROW / 4 * kernels->signsum_group_floats;
    return (bc_signsum_expand_args){.source = bench_source,
                                    .source_stride = BENCH_ROW,
                                    .pixels = BENCH_ROWS,
                                    .run = BENCH_ROW,
                                    .groups = memory_output(floats * sizeof(float))};
}

void bench_signsum_expand(bench *timer, const bc_kernels *kernels) {
    const bc_signsum_expand_args args = bench_expansion(kernels);
    BENCH(timer, kernels->signsum_expand(&args), "48 pixels x 64", BENCH_ROWS * BENCH_ROW, "values");
}

void bench_signsum(bench *timer, const bc_kernels *kernels) {
    const bc_signsum_expand_args expansion = bench_expansion(kernels);
    kernels->signsum_expand(&expansion);
    const bc_signsum_weights_args packing = bench_packing();
    kernels->signsum_weights(&packing);
    const size_t pixel_floats = BENCH_CHANNELS / 4 * kernels->signsum_group_floats;
    ptrdiff_t row_offset[BENCH_ROWS];
    for (size_t row = 0; row < BENCH_ROWS; row++) row_offset[row] = (ptrdiff_t)(row * 16 * pixel_floats);
    bc_signsum_args args = {.source = expansion.groups,
                            .source_stride = (ptrdiff_t)pixel_floats,
                            .row_offset = row_offset,
                            .rows = BENCH_ROWS,
                            .groups = BENCH_RUN / 4,
                            .weights = bench_blocks,
                            .block_stride_bytes =
                                BENCH_ROWS * (BENCH_RUN / 32) * kernels->signsum_block_word_bytes,
                            .pixels = BENCH_PIXELS,
                            .blocks = BENCH_CHANNELS / kernels->signsum_block_filters,
                            .sums = bench_sums,
                            .sums_stride = BENCH_CHANNELS};
    const double row = (double)BENCH_CHANNELS * BENCH_ROWS * BENCH_RUN;
    BENCH(timer, kernels->signsum(&args), "14 pixels, 64 filters, 3x3x64", row * BENCH_PIXELS, "MAC");
    args.pixels = 1;
    BENCH(timer, kernels->signsum(&args), "1 pixel, 64 filters, 3x3x64", row, "MAC");
}

/* ---- Windows -------------------------------------------------------------------------------------- */

static void window_sum_case(const subject *isa, size_t taps, size_t pixels, size_t stride_kind,
                            float_pattern pattern) {
    case_begin("taps %zu, pixels %zu, stride kind %zu, floats %d", taps, pixels, stride_kind, (int)pattern);
    const size_t spread = taps < 5 ? taps : 5;
    const ptrdiff_t stride = stride_of_kind(stride_kind, 1);
    const strided source = memory_strided_input(pixels, spread, stride, sizeof(float));
    fill_floats(source.block, source.elements, pattern);
    const float *first = source.first;
    ptrdiff_t *tap_offset = memory_input(taps * sizeof *tap_offset);
    for (size_t t = 0; t < taps; t++) tap_offset[t] = (ptrdiff_t)(t < spread ? t : random_below(spread));

    const float divisor = (float)(taps ? taps : 1);
    float *expected = memory_input(pixels * sizeof *expected);
    for (size_t pixel = 0; pixel < pixels; pixel++) {
        float sum = 0.0f;
        for (size_t t = 0; t < taps; t++) sum += first[(ptrdiff_t)pixel * stride + tap_offset[t]];
        expected[pixel] = sum / divisor;
    }
    float *actual = memory_output(pixels * sizeof *actual);
    isa->kernels->window_sum(&(bc_window_sum_args){.source = first,
                                                   .source_stride = stride,
                                                   .tap_offset = tap_offset,
                                                   .taps = taps,
                                                   .pixels = pixels,
                                                   .divisor = divisor,
                                                   .sums = actual});
    expect_f32("sums", actual, expected, pixels);
    case_end();
}

void test_window_sum(const subject *isa) {
    size_t kind = 0;
    for (const size_t *pixels = pixel_sizes; *pixels != END_OF_SIZES; pixels++)
        for (size_t taps = 0; taps <= 26; taps++)
            window_sum_case(isa, taps, *pixels, kind++, (float_pattern)random_below(FLOAT_PATTERNS));
}

void bench_window_sum(bench *timer, const bc_kernels *kernels) {
    static const ptrdiff_t taps[9] = {0, 1, 2, 16, 17, 18, 32, 33, 34};
    const bc_window_sum_args args = {.source = bench_source,
                                     .source_stride = 1,
                                     .tap_offset = taps,
                                     .taps = 9,
                                     .pixels = BENCH_PIXELS,
                                     .divisor = 9.0f,
                                     .sums = bench_sums};
    BENCH(timer, kernels->window_sum(&args), "14 pixels, 3x3", BENCH_PIXELS * 9, "values");
}
