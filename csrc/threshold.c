#include "threshold.h"

#include <math.h>
#include <stdlib.h>

#include "sizes.h"

/* What happens to one filter's sums. */
typedef struct filter_terms {
    float scale, bias, slope, pack_bias, pack_scale;
    int packs_terms;
} filter_terms;

static float slope_of(const bc_layer *layer, size_t filter) {
    switch (layer->neuron.type) {
        case BC_NEURON_RELU:
            return layer->neuron.a;
        case BC_NEURON_PRELU:
            return layer->a_terms[filter];
        default:
            return 1.0f;
    }
}

int bc_has_thresholds(const bc_layer *layer) {
    const bc_neuron_type type = layer->neuron.type;
    if (!bc_layer_is_binary(layer) || layer->beta_scaling) return 0;
    if (type != BC_NEURON_NONE && type != BC_NEURON_RELU && type != BC_NEURON_PRELU) return 0;
    for (size_t filter = 0; filter < layer->groups * layer->group_filters; filter++)
        if (!(slope_of(layer, filter) >= 0.0f)) return 0; /* a negative slope turns around, NaN too */
    return 1;
}

/* What is packed: the same operations in the same order as the epilogue's, each rounded to float32. Each is monotone in its
 * argument, and so is their sequence, as long as nothing overflows. */
static float packed_value(int32_t sum, const filter_terms *terms) {
    float y = (float)sum * terms->scale + terms->bias;
    y = y >= 0.0f ? y : terms->slope * y;
    return terms->packs_terms ? (y + terms->pack_bias) * terms->pack_scale : y;
}

static int bit_of(int32_t sum, const filter_terms *terms) { return !(packed_value(sum, terms) < 0.0f); }

/* The least sum above `low` and up to `high` with the bit of `high`, which `low` has not. */
static int32_t first_with_last_bit(int32_t low, int32_t high, const filter_terms *terms) {
    const int last = bit_of(high, terms);
    while (high - low > 1) {
        const int32_t middle = low + (high - low) / 2;
        if (bit_of(middle, terms) == last)
            high = middle;
        else
            low = middle;
    }
    return high;
}

/* Bits that never turn do so past the largest sum, or before the least. */
static void find_turn(const filter_terms *terms, int32_t most, int32_t *turn, int32_t *flip) {
    const int first_bit = bit_of(-most, terms), last_bit = bit_of(most, terms);
    *flip = last_bit ? -1 : 0;
    *turn = first_bit == last_bit ? -most - 1 : first_with_last_bit(-most, most, terms);
}

int32_t bc_count_threshold(const bc_layer *layer, int32_t channel_base, int32_t turn, int32_t flip) {
    /* S >= turn where count <= limit, that is ~count >= ~limit; and the other bit where count > limit. */
    const int64_t above = (int64_t)channel_base - (layer->type == BC_AND ? 2 * (int64_t)turn : turn);
    int64_t limit = layer->type == BC_AND ? above : above >> 1;
    if (limit > INT32_MAX - 1) limit = INT32_MAX - 1;
    return (int32_t)(flip ? ~limit : limit + 1);
}

bc_status bc_thresholds_create(const bc_layer *layer, const float *pack_bias, const float *pack_scale,
                               bc_thresholds *thresholds) {
    const size_t filters = layer->groups * layer->group_filters;
    thresholds->turn = calloc(filters + BC_SLACK, sizeof *thresholds->turn);
    thresholds->flip = calloc(filters + BC_SLACK, sizeof *thresholds->flip);
    thresholds->count_threshold = calloc(filters + BC_SLACK, sizeof *thresholds->count_threshold);
    if (!thresholds->turn || !thresholds->flip || !thresholds->count_threshold) {
        bc_thresholds_free(thresholds);
        return BC_OUT_OF_MEMORY;
    }

    const size_t channels = layer->output_channels / (layer->subpixel_factor * layer->subpixel_factor);
    const int32_t most = (int32_t)(layer->kernel_height * layer->kernel_width * layer->group_inputs);
    const int32_t *all_bits = bc_layer_weight_bits(layer, layer->kernel_height, layer->kernel_width);
    for (size_t output = 0; output < layer->output_channels; output++) {
        const size_t filter = bc_layer_filter(layer, output);
        const filter_terms terms = {
            .scale = layer->scale[filter],
            .bias = layer->bias[filter],
            .slope = slope_of(layer, filter),
            .pack_bias = pack_bias ? pack_bias[output % channels] : 0.0f,
            .pack_scale = pack_bias ? pack_scale[output % channels] : 0.0f,
            .packs_terms = pack_bias != NULL,
        };
        if (!isfinite(packed_value(-most, &terms)) || !isfinite(packed_value(most, &terms))) {
            bc_thresholds_free(thresholds); /* infinity times 0 is neither above nor below */
            return BC_OK;
        }
        int32_t *turn = &thresholds->turn[filter], *flip = &thresholds->flip[filter];
        find_turn(&terms, most, turn, flip);
        const int32_t base = layer->type == BC_AND ? all_bits[filter] : most;
        thresholds->count_threshold[filter] = bc_count_threshold(layer, base, *turn, *flip);
    }
    return BC_OK;
}

void bc_thresholds_free(bc_thresholds *thresholds) {
    free(thresholds->turn);
    free(thresholds->flip);
    free(thresholds->count_threshold);
    thresholds->turn = thresholds->flip = thresholds->count_threshold = NULL;
}
