/* Runs each of a fixed set of kernels and layers once, with AVX2, under valgrind --tool=callgrind, which counts the
 * instructions between the two requests of COUNT. instructions.py builds and runs this, and reads the counts. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <valgrind/callgrind.h>

#include "binconv.h"
#include "dispatch.h"

/* What is counted under a name: one call. It has run once before, so that nothing is counted that happens once. */
#define COUNT(NAME, CALL)              \
    do {                               \
        CALL;                          \
        CALLGRIND_ZERO_STATS;          \
        CALL;                          \
        CALLGRIND_DUMP_STATS_AT(NAME); \
    } while (0)

enum { CHANNELS = 128, WORDS = CHANNELS / 64, PIXELS = 28, TAPS = 9, FILTERS = 64 };

/* Memory with contents that are always the same, floats of both signs; never freed. */
static void *filled(size_t bytes) {
    const size_t words = (bytes + BC_SLACK * sizeof(float)) / sizeof(uint32_t) + 1;
    uint32_t *memory = aligned_alloc(64, (words * sizeof *memory + 63) / 64 * 64), state = 1;
    if (!memory) exit(1);
    for (size_t i = 0; i < words; i++) {
        state = state * 1664525u + 1013904223u;
        /* As a float: a sign, an exponent near that of 1, random digits. */
        memory[i] = (state & 0x80ffffffu) | 0x3f000000u;
    }
    return memory;
}

static size_t divide_up(size_t a, size_t b) { return (a + b - 1) / b; }

/* ---- Kernels -------------------------------------------------------------------------------------- */

static void count_source(const bc_kernels *kernels) {
    const float *source = filled(PIXELS * CHANNELS * sizeof *source);
    const float *bias = filled(CHANNELS * sizeof *bias), *scale = filled(CHANNELS * sizeof *scale);
    uint64_t *words = filled(PIXELS * WORDS * sizeof *words);
    float *values = filled(PIXELS * CHANNELS * sizeof *values);
    float *abs_sum = filled(PIXELS * sizeof *abs_sum);

    bc_pack_args pack = {.source = source,
                         .source_stride = CHANNELS,
                         .pixels = PIXELS,
                         .channels = CHANNELS,
                         .bias = bias,
                         .scale = scale,
                         .words = words,
                         .words_stride = WORDS};
    COUNT("pack_f32", kernels->pack_f32(&pack));
    pack.threshold = bias;
    COUNT("pack_f32, thresholds", kernels->pack_f32(&pack));
    pack.flip = filled(CHANNELS / 8);
    COUNT("pack_f32, thresholds and flips", kernels->pack_f32(&pack));
    pack.abs_sum = abs_sum;
    COUNT("pack_f32, terms and |v|", kernels->pack_f32(&pack));
    const bc_terms_args terms = {source, CHANNELS, PIXELS, CHANNELS, bias, scale, values, CHANNELS, abs_sum};
    COUNT("terms_f32", kernels->terms_f32(&terms));
    const bc_widen_args widen = {source, PIXELS * CHANNELS, values};
    COUNT("widen_f16", kernels->widen_f16(&widen));
    COUNT("widen_u8", kernels->widen_u8(&widen));
    const ptrdiff_t taps[] = {0, 128, 256};
    const bc_gather_args gather = {filled((PIXELS + 2) * 16), 0, 128, taps, 3, 16, 8, PIXELS,
                                   filled(PIXELS * 64),       8, 0};
    COUNT("gather_bits", kernels->gather_bits(&gather));
    const bc_unpack_args unpack = {words, PIXELS, CHANNELS, filled(PIXELS * CHANNELS)};
    COUNT("unpack_i8", kernels->unpack_i8(&unpack));
}

static void count_bits(const bc_kernels *kernels) {
    const size_t blocks = divide_up(FILTERS, kernels->xorpop_block_filters);
    void *packed = filled(blocks * TAPS * WORDS * kernels->xorpop_block_word_bytes);
    const bc_xorpop_weights_args weights = {filled(FILTERS * TAPS * CHANNELS / 8), FILTERS, TAPS, CHANNELS,
                                            packed};
    COUNT("xorpop_weights", kernels->xorpop_weights(&weights));

    const size_t row = PIXELS + 2;
    ptrdiff_t offset[TAPS];
    for (size_t t = 0; t < TAPS; t++) offset[t] = (ptrdiff_t)((t / 3 * row + t % 3) * WORDS);
    const uint64_t *source = filled(3 * row * WORDS * sizeof *source);
    int32_t *counts = filled(PIXELS * blocks * kernels->xorpop_block_filters * sizeof *counts);
    const size_t counts_stride = blocks * kernels->xorpop_block_filters;
    const bc_xorpop_args sums = {.source = source,
                                 .source_stride = WORDS,
                                 .tap_offset = offset,
                                 .taps = TAPS,
                                 .words = WORDS,
                                 .weights = packed,
                                 .runs = 1,
                                 .pixels = PIXELS,
                                 .blocks = blocks,
                                 .counts = counts,
                                 .counts_stride = counts_stride};
    COUNT("xorpop", kernels->xorpop(&sums));
    const bc_window_popcount_args window = {source, WORDS, offset, TAPS, WORDS, PIXELS, counts};
    COUNT("window_popcount", kernels->window_popcount(&window));
}

static void count_floats(const bc_kernels *kernels) {
    const size_t run = 3 * CHANNELS, groups = divide_up(run, 4), floats = kernels->signsum_group_floats;
    const size_t blocks = divide_up(FILTERS, kernels->signsum_block_filters);
    const size_t stride_bytes = 3 * divide_up(run, 32) * kernels->signsum_block_word_bytes;
    void *packed = filled(blocks * stride_bytes);
    const bc_signsum_weights_args weights = {filled(FILTERS * TAPS * CHANNELS / 8), FILTERS, 3, run, packed};
    COUNT("signsum_weights", kernels->signsum_weights(&weights));

    const size_t row_floats = PIXELS * groups * floats;
    const float *source = filled((PIXELS + 2) * CHANNELS * sizeof *source);
    float *expanded = filled(3 * row_floats * sizeof *expanded);
    const bc_signsum_expand_args expand = {source, CHANNELS, PIXELS, run, expanded};
    COUNT("signsum_expand", kernels->signsum_expand(&expand));

    const ptrdiff_t offset[3] = {0, (ptrdiff_t)row_floats, 2 * (ptrdiff_t)row_floats};
    const size_t sums_stride = blocks * kernels->signsum_block_filters;
    float *sums = filled(PIXELS * sums_stride * sizeof *sums);
    const bc_signsum_args args = {.source = expanded,
                                  .source_stride = (ptrdiff_t)(groups * floats),
                                  .row_offset = offset,
                                  .rows = 3,
                                  .groups = groups,
                                  .weights = packed,
                                  .block_stride_bytes = stride_bytes,
                                  .pixels = PIXELS,
                                  .blocks = blocks,
                                  .sums = sums,
                                  .sums_stride = sums_stride};
    COUNT("signsum", kernels->signsum(&args));
    ptrdiff_t taps[TAPS];
    for (size_t t = 0; t < TAPS; t++) taps[t] = (ptrdiff_t)t;
    const bc_window_sum_args window = {source, 1, taps, TAPS, PIXELS, 9.0f, sums};
    COUNT("window_sum", kernels->window_sum(&window));
}

static void count_epilogues(const bc_kernels *kernels) {
    bc_epilogue_args args = {.counts = filled(PIXELS * CHANNELS * sizeof(int32_t)),
                             .row_stride = CHANNELS,
                             .pixels = PIXELS,
                             .channels = CHANNELS,
                             .channel_base = filled(CHANNELS * sizeof(int32_t)),
                             .count_shift = 1,
                             .scale = filled(CHANNELS * sizeof(float)),
                             .bias = filled(CHANNELS * sizeof(float)),
                             .neuron = {.type = BC_NEURON_RELU},
                             .format = BC_FLOAT32,
                             .destination = filled(PIXELS * CHANNELS * sizeof(float)),
                             .destination_stride = CHANNELS};
    COUNT("epilogue, RELU", kernels->epilogue(&args));
    args.neuron.type = BC_NEURON_NONE;
    args.format = BC_BITS;
    args.destination_stride = WORDS;
    COUNT("epilogue, bits", kernels->epilogue(&args));
    args.bit_threshold = filled(CHANNELS * sizeof(int32_t));
    args.bit_flip = filled(CHANNELS * sizeof(int32_t));
    COUNT("epilogue, bits by thresholds", kernels->epilogue(&args));
}

/* ---- Layers --------------------------------------------------------------------------------------- */

typedef struct layer_case {
    const char *name;
    bc_type type;
    bc_format format; /* in and out */
    size_t size, inputs, outputs, kernel, stride;
} layer_case;

static const layer_case layers[] = {
    {"layer XNOR 3x3 28x64", BC_XNOR, BC_FLOAT32, 28, 64, 64, 3, 1},
    {"layer XNOR 3x3 14x256", BC_XNOR, BC_FLOAT32, 14, 256, 256, 3, 1},
    {"layer XNOR 3x3 14x256 bits", BC_XNOR, BC_BITS, 14, 256, 256, 3, 1},
    {"layer XNOR 3x3 14x96", BC_XNOR, BC_FLOAT32, 14, 96, 96, 3, 1},
    {"layer XNOR 3x3 28x16", BC_XNOR, BC_FLOAT32, 28, 16, 64, 3, 1},
    {"layer XNOR 3x3 stride 2", BC_XNOR, BC_FLOAT32, 28, 128, 128, 3, 2},
    {"layer XNOR 1x1 14x256", BC_XNOR, BC_FLOAT32, 14, 256, 256, 1, 1},
    {"layer XNOR dense 1024", BC_XNOR, BC_FLOAT32, 1, 1024, 1024, 1, 1},
    {"layer AND 3x3 14x128", BC_AND, BC_FLOAT32, 14, 128, 128, 3, 1},
    {"layer BINARY_WEIGHTS 3x3 14x64", BC_BINARY_WEIGHTS, BC_FLOAT32, 14, 64, 64, 3, 1},
};

static void require(bc_status status) {
    if (status == BC_OK) return;
    fprintf(stderr, "%s\n", bc_status_string(status));
    exit(1);
}

static void count_layer(const layer_case *c) {
    const size_t taps = c->kernel * c->kernel, out = divide_up(c->size, c->stride);
    bc_layer_config config = {.type = c->type,
                              .input_channels = c->inputs,
                              .output_channels = c->outputs,
                              .groups = 1,
                              .kernel_height = c->kernel,
                              .kernel_width = c->kernel,
                              .stride_y = c->stride,
                              .stride_x = c->stride,
                              .dilation_y = 1,
                              .dilation_x = 1,
                              .subpixel_factor = 1,
                              .neuron = {.type = BC_NEURON_NONE}};
    config.weights_words = c->outputs * taps * divide_up(c->inputs, 32);
    config.weights = filled(config.weights_words * sizeof(uint32_t));
    bc_layer *layer;
    require(bc_layer_create(&config, &layer));

    const bc_plan_config planned = {.source = {c->format, 1, c->size, c->size, c->inputs},
                                    .destination = {c->format, 1, out, out, c->outputs},
                                    .images = 1,
                                    .clip_height = out,
                                    .clip_width = out};
    bc_plan *plan;
    require(bc_plan_create(layer, &planned, &plan));
    const size_t bytes = bc_plan_workspace_bytes(plan, 1);
    const void *source = filled(c->size * c->size * c->inputs * sizeof(float));
    void *destination = filled(out * out * c->outputs * sizeof(float)), *workspace = filled(bytes);
    COUNT(c->name, require(bc_plan_run(plan, source, destination, workspace, bytes, NULL)));
    bc_plan_destroy(plan);
    bc_layer_destroy(layer);
}

int main(void) {
    const char *isa;
    require(bc_isa(&isa));
    if (strcmp(isa, "avx2") != 0) {
        fprintf(stderr, "instructions are counted for avx2, this is %s\n", isa);
        return 1;
    }
    size_t place = 0;
    while (strcmp(bc_isa_name(place), isa) != 0) place++;
    const bc_kernels *kernels = bc_kernels_of(place);
    count_source(kernels);
    count_bits(kernels);
    count_floats(kernels);
    count_epilogues(kernels);
    for (size_t i = 0; i < sizeof layers / sizeof layers[0]; i++) count_layer(&layers[i]);
    return 0;
}
