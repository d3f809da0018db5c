/* The public interface from C: random layers against naive ones, with memory that the caller owns and threads that
 * the caller brings, and what is refused. */
#include <limits.h>
#include <math.h>
#include <string.h>

#include "api.h"
#include "cases.h"
#include "memory.h"
#include "naive.h"
#include "plan.h"

/* ---- Random layers -------------------------------------------------------------------------------- */

typedef struct example {
    bc_layer_config layer;
    bc_plan_config plan;
    void *source;
    size_t source_bytes;
} example;

static float *floats(size_t count, float_pattern pattern) {
    float *values = memory_input(count * sizeof *values);
    fill_floats(values, count, pattern);
    return values;
}

static size_t image_bytes(const bc_image *image) {
    const size_t pixels = image->images * image->height * image->width;
    switch (image->format) {
        case BC_BITS:
            return pixels * divide_up(image->channels, 64) * sizeof(uint64_t);
        case BC_UNORM8:
            return pixels * image->channels;
        case BC_FLOAT16:
            return pixels * image->channels * sizeof(uint16_t);
        default:
            return pixels * image->channels * sizeof(float);
    }
}

static bc_layer_config random_layer(bc_type type) {
    static const size_t channels[] = {1, 2, 3, 5, 8, 31, 33, 64, 65, 70};
    bc_layer_config layer = {.type = type,
                             .beta_scaling = random_below(4) == 0,
                             .groups = 1 + random_below(3),
                             .kernel_height = 1 + random_below(4),
                             .kernel_width = 1 + random_below(4),
                             .stride_y = 1 + random_below(3),
                             .stride_x = 1 + random_below(3),
                             .dilation_y = 1 + random_below(3),
                             .dilation_x = 1 + random_below(3),
                             .subpixel_factor = 1 + (random_below(4) == 0)};
    const size_t subpixels = layer.subpixel_factor * layer.subpixel_factor;
    layer.input_channels = layer.groups * channels[random_below(sizeof channels / sizeof channels[0])];
    layer.output_channels = layer.groups * subpixels * (1 + random_below(random_below(4) ? 20 : 70));
    layer.weights_words = layer.output_channels * layer.kernel_height * layer.kernel_width *
                          divide_up(layer.input_channels / layer.groups, 32);
    uint32_t *weights = memory_input(layer.weights_words * sizeof *weights);
    fill_words32(weights, layer.weights_words, BITS_RANDOM);
    layer.weights = weights;
    if (random_below(2)) layer.scale = floats(layer.output_channels, FLOATS_ORDINARY);
    if (random_below(2)) layer.bias = floats(layer.output_channels, FLOATS_ORDINARY);
    if (random_below(3) == 0) layer.input_bias = floats(layer.input_channels, FLOATS_ORDINARY);
    if (random_below(3) == 0) layer.input_scale = floats(layer.input_channels, FLOATS_ORDINARY);
    if (random_below(2)) layer.neuron = (bc_neuron){.type = BC_NEURON_RELU, .a = 0.25f};
    return layer;
}

static void fill_source(example *made) {
    const bc_image *image = &made->plan.source;
    made->source_bytes = image_bytes(image);
    made->source = memory_input(made->source_bytes);
    if (image->format == BC_FLOAT32) {
        fill_floats(made->source, made->source_bytes / sizeof(float), FLOATS_ORDINARY);
        return;
    }
    unsigned char *bytes = made->source;
    for (size_t i = 0; i < made->source_bytes; i++) bytes[i] = (unsigned char)random_u64();
    if (image->format == BC_FLOAT16) /* below 2, so that nothing is infinite */
        for (size_t i = 1; i < made->source_bytes; i += 2) bytes[i] &= 0xbf;
}

static example random_example(bc_type type) {
    example made = {.layer = random_layer(type)};
    const bc_layer_config *layer = &made.layer;
    const size_t subpixels = layer->subpixel_factor * layer->subpixel_factor;
    static const bc_edge_mode modes[] = {BC_EDGE_ZERO,     BC_EDGE_CLAMP,
                                         BC_EDGE_MIRROR,   BC_EDGE_MIRROR_WITH_EDGE,
                                         BC_EDGE_CONSTANT, BC_EDGE_EXCLUDE};
    static const bc_format sources[] = {BC_FLOAT32, BC_FLOAT16, BC_UNORM8, BC_BITS};
    static const bc_format destinations[] = {BC_FLOAT32, BC_FLOAT16, BC_BITS};
    const int exact = type != BC_BINARY_WEIGHTS && !layer->beta_scaling;
    bc_plan_config *plan = &made.plan;
    *plan = (bc_plan_config){.source_channel_offset = random_below(3) ? 0 : random_below(70),
                             .destination_channel_offset = random_below(3) ? 0 : random_below(70),
                             .images = random_below(3),
                             .source_first_image = random_below(2),
                             .destination_first_image = random_below(2),
                             .clip_y = random_below(3),
                             .clip_x = random_below(3),
                             .clip_height = random_below(8),
                             .clip_width = random_below(8),
                             .offset_y = (int64_t)random_below(20) - 10,
                             .offset_x = (int64_t)random_below(20) - 10,
                             .edge_mode = modes[random_below(6)],
                             .edge_constant = random_float()};
    plan->source =
        (bc_image){.format = sources[random_below(exact ? 4 : 3)],
                   .images = plan->source_first_image + plan->images,
                   .height = 1 + random_below(7),
                   .width = 1 + random_below(7),
                   .channels = plan->source_channel_offset + layer->input_channels + random_below(2)};
    plan->destination = (bc_image){.format = destinations[random_below(exact ? 3 : 2)],
                                   .images = plan->destination_first_image + plan->images,
                                   .height = plan->clip_y + plan->clip_height + random_below(2),
                                   .width = plan->clip_x + plan->clip_width + random_below(2),
                                   .channels = plan->destination_channel_offset +
                                               layer->output_channels / subpixels + random_below(2)};
    if (plan->destination.format == BC_BITS && random_below(2)) {
        plan->pack_bias = floats(layer->output_channels / subpixels, FLOATS_ORDINARY);
        plan->pack_scale = floats(layer->output_channels / subpixels, FLOATS_ORDINARY);
    }
    fill_source(&made);
    return made;
}

/* A caller's threads: slices one after the other, last first. */
static void run_backwards(void *user, size_t count, void (*slice)(void *context, size_t index),
                          void *context) {
    size_t *calls = user;
    (*calls)++;
    while (count-- > 0) slice(context, count);
}

static void expect_value(const example *made, const void *destination, size_t pixel, size_t channel,
                         naive_value expected) {
    const size_t channels = made->plan.destination.channels,
                 at = made->plan.destination_channel_offset + channel;
    const size_t element = pixel * channels + at;
    if (made->plan.destination.format == BC_BITS) {
        float y = expected.value;
        if (made->plan.pack_bias) {
            const float shifted = y + made->plan.pack_bias[channel];
            y = shifted * made->plan.pack_scale[channel];
        }
        const int bit = bit_of((const uint64_t *)destination + pixel * divide_up(channels, 64), at);
        if (bit != (y < 0.0f ? 0 : 1)) fail("bit %zu of pixel %zu is %d", at, pixel, bit);
    } else if (made->plan.destination.format == BC_FLOAT16) {
        const uint16_t half = ((const uint16_t *)destination)[element];
        const uint16_t wanted = reference_to_f16(expected.value);
        if (expected.tolerance == 0.0)
            expect_f16("destination", &half, &wanted, 1);
        else
            expect_near("destination", element, reference_from_f16(half), (double)reference_from_f16(wanted),
                        expected.tolerance + fabs((double)expected.value) * 0x1p-10 + 0x1p-24);
    } else {
        const float value = ((const float *)destination)[element];
        if (expected.tolerance == 0.0)
            expect_f32("destination", &value, &expected.value, 1);
        else
            expect_near("destination", element, value, (double)expected.value, expected.tolerance);
    }
}

/* Everything outside what was to be written is as memory_output made it. */
static void expect_untouched(const example *made, const void *destination) {
    const bc_plan_config *plan = &made->plan;
    const bc_image *image = &plan->destination;
    const size_t subpixels = made->layer.subpixel_factor * made->layer.subpixel_factor;
    const size_t first = plan->destination_channel_offset,
                 end = first + made->layer.output_channels / subpixels;
    const int bits = image->format == BC_BITS;
    const size_t row = bits ? divide_up(image->channels, 64) * 64 : image->channels;
    const size_t size = image->format == BC_FLOAT16 ? 2 : 4;
    const size_t pixels = image->images * image->height * image->width;
    for (size_t pixel = 0; pixel < pixels; pixel++) {
        const size_t x = pixel % image->width, y = pixel / image->width % image->height;
        const size_t n = pixel / image->width / image->height;
        const int inside = n >= plan->destination_first_image &&
                           n < plan->destination_first_image + plan->images && y >= plan->clip_y &&
                           y < plan->clip_y + plan->clip_height && x >= plan->clip_x &&
                           x < plan->clip_x + plan->clip_width;
        for (size_t c = 0; c < row; c++) {
            if (inside && c >= first && c < end) continue;
            const unsigned char *bytes = destination;
            const size_t at = pixel * row + c;
            const int same =
                bits ? (bytes[at / 8] ^ MEMORY_FILL) >> at % 8 % 8 & 1 ? 0 : 1
                     : bytes[at * size] == MEMORY_FILL && bytes[at * size + size - 1] == MEMORY_FILL;
            if (!same) {
                fail("channel %zu of pixel (%zu, %zu, %zu) was changed", c, n, y, x);
                return;
            }
        }
    }
}

static void run_example(const example *made, size_t threads) {
    bc_layer *layer = NULL;
    bc_plan *plan = NULL;
    bc_status status = bc_layer_create(&made->layer, &layer);
    if (status == BC_OK) status = bc_plan_create(layer, &made->plan, &plan);
    if (status != BC_OK) {
        fail("refused: %s", bc_status_string(status));
        bc_layer_destroy(layer);
        return;
    }
    const size_t workspace_bytes = bc_plan_workspace_bytes(plan, threads);
    void *workspace = memory_output(workspace_bytes);
    void *destination = memory_output(image_bytes(&made->plan.destination));
    size_t calls = 0;
    const bc_parallel parallel = {.threads = threads, .parallel_for = run_backwards, .user = &calls};
    status = bc_plan_run(plan, made->source, destination, workspace, workspace_bytes,
                         threads > 1 ? &parallel : NULL);
    if (status != BC_OK) fail("did not run: %s", bc_status_string(status));
    bc_plan_destroy(plan);
    bc_layer_destroy(layer);

    const bc_plan_config *config = &made->plan;
    const bc_image *image = &config->destination;
    const naive_layer naive = {&made->layer, config, made->source};
    const size_t subpixels = made->layer.subpixel_factor * made->layer.subpixel_factor;
    for (size_t n = 0; n < config->images; n++)
        for (size_t y = 0; y < config->clip_height; y++)
            for (size_t x = 0; x < config->clip_width; x++)
                for (size_t c = 0; c < made->layer.output_channels / subpixels; c++) {
                    const size_t row =
                        (config->destination_first_image + n) * image->height + config->clip_y + y;
                    expect_value(made, destination, row * image->width + config->clip_x + x, c,
                                 naive_output(&naive, n, y, x, c));
                }
    expect_untouched(made, destination);
}

static void test_random_layers(void) {
    for (size_t i = 0; i < 900; i++) {
        const bc_type type = (bc_type)(i % 3);
        case_begin("layer %zu of type %d", i, (int)type);
        const example made = random_example(type);
        run_example(&made, 1 + i % 4);
        case_end();
    }
}

/* ---- What is refused ------------------------------------------------------------------------------ */

/* A layer and plan that work, for each test to spoil. */
static example good_example(void) {
    static const uint32_t weights[4 * 9 * 2];
    example made = {.layer = {.type = BC_XNOR,
                              .input_channels = 40,
                              .output_channels = 4,
                              .groups = 1,
                              .kernel_height = 3,
                              .kernel_width = 3,
                              .stride_y = 1,
                              .stride_x = 1,
                              .dilation_y = 1,
                              .dilation_x = 1,
                              .subpixel_factor = 1,
                              .weights = weights,
                              .weights_words = sizeof weights / sizeof weights[0]},
                    .plan = {.source = {BC_FLOAT32, 1, 5, 5, 40},
                             .destination = {BC_FLOAT32, 1, 5, 5, 4},
                             .images = 1,
                             .clip_height = 5,
                             .clip_width = 5}};
    return made;
}

static void expect_status(const char *what, bc_status actual, bc_status expected) {
    case_begin("%s", what);
    if (actual != expected)
        fail("status %d (%s), expected %d", (int)actual, bc_status_string(actual), (int)expected);
    case_end();
}

static bc_status try_layer(const bc_layer_config *config) {
    bc_layer *layer = NULL;
    const bc_status status = bc_layer_create(config, &layer);
    if (status != BC_OK && layer) fail("a refused layer was set");
    bc_layer_destroy(layer);
    return status;
}

static bc_status try_plan(const example *made) {
    bc_layer *layer = NULL;
    bc_plan *plan = NULL;
    if (bc_layer_create(&made->layer, &layer) != BC_OK) return BC_OK;
    const bc_status status = bc_plan_create(layer, &made->plan, &plan);
    bc_plan_destroy(plan);
    bc_layer_destroy(layer);
    return status;
}

#define REFUSE_LAYER(CHANGE, STATUS)                                      \
    do {                                                                  \
        example made = good_example();                                    \
        CHANGE;                                                           \
        expect_status("layer: " #CHANGE, try_layer(&made.layer), STATUS); \
    } while (0)

#define REFUSE_PLAN(CHANGE, STATUS)                               \
    do {                                                          \
        example made = good_example();                            \
        CHANGE;                                                   \
        expect_status("plan: " #CHANGE, try_plan(&made), STATUS); \
    } while (0)

static void test_refused_layers(void) {
    bc_layer *layer;
    example good = good_example();
    expect_status("the good layer", try_layer(&good.layer), BC_OK);
    expect_status("no configuration", bc_layer_create(NULL, &layer), BC_INVALID_ARGUMENT);
    expect_status("no place for the layer", bc_layer_create(&good.layer, NULL), BC_INVALID_ARGUMENT);
    bc_layer_destroy(NULL);

    REFUSE_LAYER(made.layer.weights = NULL, BC_INVALID_ARGUMENT);
    REFUSE_LAYER(made.layer.weights_words--, BC_INVALID_ARGUMENT);
    REFUSE_LAYER(made.layer.weights_words++, BC_INVALID_ARGUMENT);
    REFUSE_LAYER(made.layer.type = (bc_type)3, BC_INVALID_ARGUMENT);
    REFUSE_LAYER(made.layer.input_channels = 0, BC_INVALID_ARGUMENT);
    REFUSE_LAYER(made.layer.output_channels = 0, BC_INVALID_ARGUMENT);
    REFUSE_LAYER(made.layer.groups = 0, BC_INVALID_ARGUMENT);
    REFUSE_LAYER(made.layer.groups = 3, BC_INVALID_ARGUMENT);
    REFUSE_LAYER(made.layer.kernel_height = 0, BC_INVALID_ARGUMENT);
    REFUSE_LAYER(made.layer.kernel_width = 0, BC_INVALID_ARGUMENT);
    REFUSE_LAYER(made.layer.stride_y = 0, BC_INVALID_ARGUMENT);
    REFUSE_LAYER(made.layer.stride_x = 0, BC_INVALID_ARGUMENT);
    REFUSE_LAYER(made.layer.dilation_y = 0, BC_INVALID_ARGUMENT);
    REFUSE_LAYER(made.layer.dilation_x = 0, BC_INVALID_ARGUMENT);
    REFUSE_LAYER(made.layer.subpixel_factor = 0, BC_INVALID_ARGUMENT);
    REFUSE_LAYER(made.layer.subpixel_factor = 3, BC_INVALID_ARGUMENT);
    REFUSE_LAYER(made.layer.neuron.type = (bc_neuron_type)16, BC_INVALID_ARGUMENT);
    REFUSE_LAYER(made.layer.neuron.type = BC_NEURON_PRELU, BC_INVALID_ARGUMENT);
    REFUSE_LAYER(made.layer.output_channels = SIZE_MAX / 2, BC_SIZE_OVERFLOW);
    REFUSE_LAYER(made.layer.kernel_height = made.layer.kernel_width = (size_t)1 << 31, BC_SIZE_OVERFLOW);
    REFUSE_LAYER(made.layer.dilation_y = SIZE_MAX, BC_SIZE_OVERFLOW);
}

static void test_refused_plans(void) {
    example good = good_example();
    expect_status("the good plan", try_plan(&good), BC_OK);
    bc_layer *layer = NULL;
    bc_plan *plan = NULL;
    bc_layer_create(&good.layer, &layer);
    expect_status("no layer", bc_plan_create(NULL, &good.plan, &plan), BC_INVALID_ARGUMENT);
    expect_status("no configuration", bc_plan_create(layer, NULL, &plan), BC_INVALID_ARGUMENT);
    expect_status("no place for the plan", bc_plan_create(layer, &good.plan, NULL), BC_INVALID_ARGUMENT);
    bc_layer_destroy(layer);
    bc_plan_destroy(NULL);

    REFUSE_PLAN(made.plan.source.format = (bc_format)4, BC_INVALID_ARGUMENT);
    REFUSE_PLAN(made.plan.destination.format = BC_UNORM8, BC_INVALID_ARGUMENT);
    REFUSE_PLAN(made.plan.source.channels = 39, BC_INVALID_ARGUMENT);
    REFUSE_PLAN(made.plan.source_channel_offset = 1, BC_INVALID_ARGUMENT);
    REFUSE_PLAN(made.plan.source_channel_offset = SIZE_MAX, BC_INVALID_ARGUMENT);
    REFUSE_PLAN(made.plan.destination.channels = 3, BC_INVALID_ARGUMENT);
    REFUSE_PLAN(made.plan.destination_channel_offset = 1, BC_INVALID_ARGUMENT);
    REFUSE_PLAN(made.plan.images = 2, BC_INVALID_ARGUMENT);
    REFUSE_PLAN(made.plan.source_first_image = 1, BC_INVALID_ARGUMENT);
    REFUSE_PLAN(made.plan.destination_first_image = 1, BC_INVALID_ARGUMENT);
    REFUSE_PLAN(made.plan.clip_y = 1, BC_INVALID_ARGUMENT);
    REFUSE_PLAN(made.plan.clip_x = 1, BC_INVALID_ARGUMENT);
    REFUSE_PLAN(made.plan.clip_height = 6, BC_INVALID_ARGUMENT);
    REFUSE_PLAN(made.plan.clip_width = SIZE_MAX, BC_INVALID_ARGUMENT);
    REFUSE_PLAN(made.plan.edge_mode = (bc_edge_mode)5, BC_INVALID_ARGUMENT);
    REFUSE_PLAN(made.plan.source.height = SIZE_MAX / 8, BC_SIZE_OVERFLOW);
    static const float terms[4];
    REFUSE_PLAN(made.plan.pack_bias = terms, BC_INVALID_ARGUMENT);
    REFUSE_PLAN((made.layer.type = BC_BINARY_WEIGHTS, made.plan.source.format = BC_BITS),
                BC_INVALID_ARGUMENT);
    REFUSE_PLAN((made.layer.beta_scaling = 1, made.plan.source.format = BC_BITS), BC_INVALID_ARGUMENT);
}

static void test_refused_runs(void) {
    example made = good_example();
    static float source[5 * 5 * 40], destination[5 * 5 * 4];
    bc_layer *layer = NULL;
    bc_plan *plan = NULL;
    bc_layer_create(&made.layer, &layer);
    bc_plan_create(layer, &made.plan, &plan);
    const size_t bytes = bc_plan_workspace_bytes(plan, 1);
    case_begin("workspace");
    void *workspace = memory_output(bytes);
    case_end();
    expect_status("a good run", bc_plan_run(plan, source, destination, workspace, bytes, NULL), BC_OK);
    expect_status("no plan", bc_plan_run(NULL, source, destination, workspace, bytes, NULL),
                  BC_INVALID_ARGUMENT);
    expect_status("no source", bc_plan_run(plan, NULL, destination, workspace, bytes, NULL),
                  BC_INVALID_ARGUMENT);
    expect_status("no destination", bc_plan_run(plan, source, NULL, workspace, bytes, NULL),
                  BC_INVALID_ARGUMENT);
    expect_status("a small workspace", bc_plan_run(plan, source, destination, workspace, bytes - 1, NULL),
                  BC_WORKSPACE_TOO_SMALL);
    expect_status("no workspace", bc_plan_run(plan, source, destination, NULL, bytes, NULL),
                  BC_INVALID_ARGUMENT);
    const bc_parallel many = {.threads = 64};
    expect_status("a workspace for fewer threads",
                  bc_plan_run(plan, source, destination, workspace, bytes, &many), BC_WORKSPACE_TOO_SMALL);
    bc_plan_destroy(plan);
    bc_layer_destroy(layer);

    for (int status = BC_OK; status <= BC_UNKNOWN_ISA + 1; status++) {
        case_begin("text of status %d", status);
        if (!bc_status_string((bc_status)status) || !*bc_status_string((bc_status)status)) fail("empty");
        case_end();
    }
}

/* ---- Geometry, batch normalisation, bits ---------------------------------------------------------- */

static void expect_padding(unsigned method, bc_window window, size_t size, int64_t offset) {
    case_begin("padding method %u of %zu by %zu, stride %zu", method, window.source, window.kernel,
               window.stride);
    size_t actual_size = 0;
    int64_t actual_offset = 0;
    const bc_status status = bc_padding_resolve(method, BC_AXIS_Y, &window, &actual_size, &actual_offset);
    if (status != BC_OK || actual_size != size || actual_offset != offset)
        fail("status %d, size %zu (expected %zu), offset %lld (expected %lld)", (int)status, actual_size,
             size, (long long)actual_offset, (long long)offset);
    case_end();
}

static void test_padding(void) {
    expect_padding(BC_PADDING_SIZE_VALID_ONLY, (bc_window){7, 3, 1, 1}, 5, 1);
    expect_padding(BC_PADDING_SIZE_SAME, (bc_window){7, 3, 1, 1}, 7, 0);
    expect_padding(BC_PADDING_SIZE_SAME, (bc_window){8, 3, 1, 2}, 4, 0);
    expect_padding(BC_PADDING_SIZE_SAME | BC_PADDING_REMAINDER_BOTTOM_RIGHT, (bc_window){8, 3, 1, 2}, 4, 1);
    expect_padding(BC_PADDING_SIZE_FULL, (bc_window){7, 3, 1, 1}, 9, -1);
    expect_padding(BC_PADDING_SIZE_VALID_ONLY, (bc_window){2, 3, 2, 1}, 0, 1);
}

static void test_bits(void) {
    case_begin("pack and unpack");
    enum { PIXELS = 3, CHANNELS = 70 };
    float *values = floats(PIXELS * CHANNELS, FLOATS_SPECIAL);
    uint64_t *words = memory_output(PIXELS * 2 * sizeof *words);
    int8_t *signs = memory_output(PIXELS * CHANNELS);
    int8_t *expected = memory_input(PIXELS * CHANNELS);
    for (size_t i = 0; i < PIXELS * CHANNELS; i++) expected[i] = values[i] < 0.0f ? -1 : 1;
    if (bc_pack(BC_FLOAT32, values, PIXELS, CHANNELS, NULL, NULL, words) != BC_OK) fail("not packed");
    if (bc_unpack(words, PIXELS, CHANNELS, signs) != BC_OK) fail("not unpacked");
    expect_i8("values", signs, expected, PIXELS * CHANNELS);
    for (size_t pixel = 0; pixel < PIXELS; pixel++)
        if (words[2 * pixel + 1] >> (CHANNELS - 64)) fail("bits past the last channel");
    case_end();
    expect_status("bits packed again", bc_pack(BC_BITS, values, 1, 64, NULL, NULL, words),
                  BC_INVALID_ARGUMENT);
    expect_status("bias without scale", bc_pack(BC_FLOAT32, values, 1, 64, values, NULL, words),
                  BC_INVALID_ARGUMENT);
}

/* ---- Tiles ---------------------------------------------------------------------------------------- */

/* They cover all pixels once, and differ by one row, column and image at most, so that threads share them evenly. */
static void expect_even_tiles(const bc_plan *plan) {
    size_t pixels = 0;
    bc_tile least = bc_plan_tile(plan, 0), most = least;
    for (size_t i = 0; i < bc_plan_tiles(plan); i++) {
        const bc_tile tile = bc_plan_tile(plan, i);
        pixels += tile.images * tile.height * tile.width;
        if (tile.images < least.images) least.images = tile.images;
        if (tile.height < least.height) least.height = tile.height;
        if (tile.width < least.width) least.width = tile.width;
        if (tile.images > most.images) most.images = tile.images;
        if (tile.height > most.height) most.height = tile.height;
        if (tile.width > most.width) most.width = tile.width;
    }
    if (pixels != plan->config.images * plan->out_height * plan->out_width) fail("%zu pixels", pixels);
    if (most.images > least.images + 1 || most.height > least.height + 1 || most.width > least.width + 1)
        fail("tiles from %zu x %zu x %zu to %zu x %zu x %zu", least.images, least.height, least.width,
             most.images, most.height, most.width);
}

/* Tiles taken together are the rectangle of all of them, and their sums with as many chunks as go with it have room. */
static void expect_joined_tiles(const bc_plan *plan, size_t first, size_t most) {
    size_t count = most, rows = 0;
    const bc_tile joined = bc_plan_joined_tiles(plan, first, &count);
    if (count < 1 || count > most) fail("%zu of %zu tiles", count, most);
    for (size_t i = first; i < first + count; i++) {
        const bc_tile tile = bc_plan_tile(plan, i);
        if (tile.image != joined.image || tile.images != joined.images || tile.x != joined.x ||
            tile.width != joined.width || tile.y != joined.y + rows)
            fail("tile %zu is not in that of %zu from %zu on", i, count, first);
        rows += tile.height;
    }
    if (rows != joined.height) fail("%zu rows of %zu tiles, not %zu", joined.height, count, rows);
    if (plan->layer->type == BC_BINARY_WEIGHTS) return; /* which are summed one by one */

    const size_t chunks = bc_plan_joined_chunks(plan, &joined, 0, bc_plan_chunks(plan));
    const size_t filters = chunks * plan->chunk_blocks * plan->layer->block_filters;
    if (chunks < 1 || chunks > plan->group_chunks) fail("%zu chunks", chunks);
    if (joined.images * joined.height * joined.width * filters > plan->sums_at_once)
        fail("%zu filters of %zu tiles", filters, count);
}

static void test_tiles(void) {
    const size_t sizes[][3] = {{1, 14, 14}, {1, 5, 600}, {9, 7, 5}, {1, 61, 27}, {3, 1, 1}};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        for (int type = BC_BINARY_WEIGHTS; type <= BC_AND; type++) {
            example made = good_example();
            const size_t images = sizes[i][0], height = sizes[i][1], width = sizes[i][2];
            made.layer.type = (bc_type)type;
            made.plan.source = (bc_image){BC_FLOAT32, images, height, width, 40};
            made.plan.destination = (bc_image){BC_FLOAT32, images, height, width, 4};
            made.plan.images = images;
            made.plan.clip_height = height;
            made.plan.clip_width = width;
            bc_layer *layer = NULL;
            bc_plan *plan = NULL;
            case_begin("tiles of %zu x %zu x %zu, type %d", images, height, width, type);
            if (bc_layer_create(&made.layer, &layer) == BC_OK &&
                bc_plan_create(layer, &made.plan, &plan) == BC_OK) {
                expect_even_tiles(plan);
                for (size_t tile = 0; tile < bc_plan_tiles(plan); tile++)
                    for (size_t most = 1; most <= bc_plan_tiles(plan) - tile; most++)
                        expect_joined_tiles(plan, tile, most);
            } else {
                fail("refused");
            }
            case_end();
            bc_plan_destroy(plan);
            bc_layer_destroy(layer);
        }
}

static void test_batch_normalization(void) {
    case_begin("batch normalisation");
    const double scale[] = {2.0}, bias[] = {1.0}, mean[] = {3.0}, variance[] = {8.0}, gamma[] = {6.0},
                 beta[] = {0.5};
    float folded[2], expected[2] = {4.0f, -3.5f}; /* I = 6 / sqrt(8 + 1) = 2 */
    if (bc_fold_batch_normalization(1, scale, bias, mean, variance, gamma, beta, 1.0, &folded[0],
                                    &folded[1]) != BC_OK)
        fail("refused");
    expect_f32("folded", folded, expected, 2);
    case_end();
}

void test_api(const subject *unused) {
    (void)unused;
    test_random_layers();
    test_refused_layers();
    test_refused_plans();
    test_refused_runs();
    test_padding();
    test_bits();
    test_tiles();
    test_batch_normalization();
}
