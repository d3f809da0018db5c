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

static void set_threshold(const filter_terms *terms, int32_t most, int32_t *threshold, int32_t *flip) {
    const int first_bit = bit_of(-most, terms), last_bit = bit_of(most, terms);
    if (first_bit == last_bit) {
        *threshold = last_bit ? INT32_MIN : INT32_MAX;
        return;
    }
    const int32_t turn = first_with_last_bit(-most, most, terms);
    /* Flipped, S < turn is ~S >= -turn. */
    *flip = last_bit ? 0 : -1;
    *threshold = last_bit ? turn : -turn;
}

bc_status bc_thresholds_create(const bc_layer *layer, const float *pack_bias, const float *pack_scale,
                               bc_thresholds *thresholds) {
    const size_t filters = layer->groups * layer->group_filters;
    thresholds->threshold = calloc(filters + BC_SLACK, sizeof *thresholds->threshold);
    thresholds->flip = calloc(filters + BC_SLACK, sizeof *thresholds->flip);
    if (!thresholds->threshold || !thresholds->flip) {
        bc_thresholds_free(thresholds);
        return BC_OUT_OF_MEMORY;
    }

    const size_t channels = layer->output_channels / (layer->subpixel_factor * layer->subpixel_factor);
    const int32_t most = (int32_t)(layer->kernel_height * layer->kernel_width * layer->group_inputs);
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
        set_threshold(&terms, most, &thresholds->threshold[filter], &thresholds->flip[filter]);
    }
    return BC_OK;
}

void bc_thresholds_free(bc_thresholds *thresholds) {
    free(thresholds->threshold);
    free(thresholds->flip);
    thresholds->threshold = thresholds->flip = NULL;
}
