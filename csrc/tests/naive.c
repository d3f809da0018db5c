#include "naive.h"

#include <math.h>

#include "cases.h"

/* The source index that a tap reads along one axis, or -1 where it is off the source. */
static int64_t resolve(bc_edge_mode mode, int64_t position, int64_t size) {
    if (position >= 0 && position < size) return position;
    if (mode == BC_EDGE_CLAMP) return position < 0 ? 0 : size - 1;
    if (mode != BC_EDGE_MIRROR && mode != BC_EDGE_MIRROR_WITH_EDGE) return -1;
    if (size == 1) return 0;
    const int edge = mode == BC_EDGE_MIRROR_WITH_EDGE;
    while (position < 0 || position >= size)
        position = position < 0 ? -position - edge : 2 * (size - 1) - position + edge;
    return position;
}

static float with_terms(const bc_layer_config *layer, float value, size_t channel) {
    const float shifted = value + (layer->input_bias ? layer->input_bias[channel] : 0.0f);
    return shifted * (layer->input_scale ? layer->input_scale[channel] : 1.0f);
}

/* v; for a source of bits, 1 or -1. */
static float source_value(const naive_layer *naive, size_t image, int64_t y, int64_t x, size_t channel) {
    const bc_plan_config *plan = naive->plan;
    const bc_image *source = &plan->source;
    const size_t pixel =
        ((plan->source_first_image + image) * source->height + (size_t)y) * source->width + (size_t)x;
    const size_t at = plan->source_channel_offset + channel, element = pixel * source->channels + at;
    switch (source->format) {
        case BC_BITS: {
            const uint64_t *words = (const uint64_t *)naive->source + pixel * divide_up(source->channels, 64);
            return bit_of(words, at) ? 1.0f : -1.0f;
        }
        case BC_FLOAT16:
            return with_terms(naive->layer, reference_from_f16(((const uint16_t *)naive->source)[element]),
                              channel);
        case BC_UNORM8:
            return with_terms(naive->layer, (float)((const uint8_t *)naive->source)[element] / 255.0f,
                              channel);
        default:
            return with_terms(naive->layer, ((const float *)naive->source)[element], channel);
    }
}

typedef struct window_sum {
    double sum, magnitude, abs_sum;
    size_t terms;
} window_sum;

static void add_tap(const naive_layer *naive, size_t image, size_t output, size_t tap, int64_t y, int64_t x,
                    window_sum *window) {
    const bc_layer_config *layer = naive->layer;
    const bc_edge_mode mode = naive->plan->edge_mode;
    const size_t group_inputs = layer->input_channels / layer->groups;
    const size_t first = output / (layer->output_channels / layer->groups) * group_inputs;
    const size_t taps = layer->kernel_height * layer->kernel_width;
    const uint32_t *words = layer->weights + (output * taps + tap) * divide_up(group_inputs, 32);
    const int off = y < 0 || x < 0;
    const float edge = mode == BC_EDGE_CONSTANT ? naive->plan->edge_constant : 0.0f;

    if (!off && layer->beta_scaling)
        for (size_t c = 0; c < layer->input_channels; c++)
            window->abs_sum += fabs((double)source_value(naive, image, y, x, c));
    if (off && mode == BC_EDGE_EXCLUDE) return;
    for (size_t c = 0; c < group_inputs; c++) {
        const float v =
            off ? with_terms(layer, edge, first + c) : source_value(naive, image, y, x, first + c);
        const int bit = v < 0.0f ? 0 : 1, weight = (int)(words[c / 32] >> c % 32 & 1);
        double term = weight ? (double)v : -(double)v;
        if (layer->type == BC_XNOR) term = bit == weight ? 1.0 : -1.0;
        if (layer->type == BC_AND) term = bit && weight ? 1.0 : 0.0;
        window->sum += term;
        window->magnitude += fabs(term);
        window->terms++;
    }
}

naive_value naive_output(const naive_layer *naive, size_t image, size_t y, size_t x, size_t channel) {
    const bc_layer_config *layer = naive->layer;
    const bc_plan_config *plan = naive->plan;
    const size_t r = layer->subpixel_factor, channels = layer->output_channels / (r * r);
    const size_t output = channels * (r * (y % r) + x % r) + channel;
    const int64_t half_y = (int64_t)((layer->kernel_height - 1) * layer->dilation_y + 1) / 2;
    const int64_t half_x = (int64_t)((layer->kernel_width - 1) * layer->dilation_x + 1) / 2;
    const int64_t top = plan->offset_y + (int64_t)(y / r * layer->stride_y) - half_y;
    const int64_t left = plan->offset_x + (int64_t)(x / r * layer->stride_x) - half_x;

    window_sum window = {0};
    for (size_t i = 0; i < layer->kernel_height; i++)
        for (size_t j = 0; j < layer->kernel_width; j++) {
            const int64_t row = resolve(plan->edge_mode, top + (int64_t)(i * layer->dilation_y),
                                        (int64_t)plan->source.height);
            const int64_t column = resolve(plan->edge_mode, left + (int64_t)(j * layer->dilation_x),
                                           (int64_t)plan->source.width);
            add_tap(naive, image, output, i * layer->kernel_width + j, row, column, &window);
        }

    const double taps = (double)(layer->kernel_height * layer->kernel_width);
    const double mean_terms = taps * (double)layer->input_channels;
    const float scale = layer->scale ? layer->scale[output] : 1.0f;
    const float bias = layer->bias ? layer->bias[output] : 0.0f;
    const float beta = layer->beta_scaling ? (float)(window.abs_sum / mean_terms) : 1.0f;
    const float scaled = (float)window.sum * scale;
    const float x_value = scaled * beta + bias;
    naive_value result = {.value = x_value};
    if (layer->neuron.type == BC_NEURON_RELU && !(x_value >= 0.0f)) result.value = layer->neuron.a * x_value;

    const double size = fabs((double)scale * (double)beta);
    double roundings = layer->beta_scaling ? mean_terms + 8.0 : 0.0;
    if (layer->type == BC_BINARY_WEIGHTS) roundings += (double)window.terms / 4.0 + 12.0;
    if (roundings > 0.0)
        result.tolerance = 0x1p-24 * (roundings * window.magnitude * size + 2.0 * fabs((double)bias));
    return result;
}
