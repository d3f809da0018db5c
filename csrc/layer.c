#include "layer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "dispatch.h"
#include "geometry.h"
#include "sizes.h"

/* ---- Checks --------------------------------------------------------------------------------------- */

static bc_status check_config(const bc_layer_config *config) {
    if (config->type != BC_BINARY_WEIGHTS && config->type != BC_XNOR && config->type != BC_AND)
        return BC_INVALID_ARGUMENT;
    const size_t sizes[] = {config->input_channels, config->output_channels, config->groups,
                            config->kernel_height,  config->kernel_width,    config->stride_y,
                            config->stride_x,       config->dilation_y,      config->dilation_x,
                            config->subpixel_factor};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        if (sizes[i] == 0) return BC_INVALID_ARGUMENT;
        if (sizes[i] > BC_MAX_SIZE) return BC_SIZE_OVERFLOW;
    }
    if (config->input_channels % config->groups || config->output_channels % config->groups)
        return BC_INVALID_ARGUMENT;
    size_t subpixels = config->subpixel_factor;
    if (!bc_multiply(&subpixels, config->subpixel_factor) || config->output_channels % subpixels)
        return BC_INVALID_ARGUMENT;
    if (config->neuron.type < BC_NEURON_NONE || config->neuron.type > BC_NEURON_GELU ||
        (config->neuron.type == BC_NEURON_PRELU) != (config->neuron.a_terms != NULL))
        return BC_INVALID_ARGUMENT;

    const size_t group_inputs = config->input_channels / config->groups;
    size_t words = bc_divide_up(group_inputs, 32);
    if (!bc_multiply(&words, config->kernel_height) || !bc_multiply(&words, config->kernel_width) ||
        !bc_multiply(&words, config->output_channels))
        return BC_SIZE_OVERFLOW;
    if (!config->weights || config->weights_words != words) return BC_INVALID_ARGUMENT;

    /* Counts and the integers made from them must fit an int32. */
    size_t window_bits = bc_round_up(group_inputs, 64);
    if (!bc_multiply(&window_bits, config->kernel_height) ||
        !bc_multiply(&window_bits, config->kernel_width) || window_bits >= (size_t)1 << 30)
        return BC_SIZE_OVERFLOW;
    return BC_OK;
}

/* ---- Weights -------------------------------------------------------------------------------------- */

/* 32-bit words of one filter with joined taps. */
static size_t joined_words(const bc_layer *layer) {
    return layer->gathers ? 2 * layer->sum_taps : bc_divide_up(layer->tap_inputs, 32) * layer->sum_taps;
}

/* Bits of joined taps, each row of them from a new word on: [filters][joined_words]. */
static void join_taps(const bc_layer *layer, const uint32_t *weights, uint32_t *joined) {
    const size_t channels = layer->group_inputs, tap_words = bc_divide_up(channels, 32);
    const size_t rows = layer->kernel_height * layer->kernel_width / layer->joined_taps;
    const size_t row_words = joined_words(layer) / rows;
    memset(joined, 0, layer->group_outputs * rows * row_words * sizeof *joined);
    for (size_t row = 0; row < layer->group_outputs * rows; row++, joined += row_words)
        for (size_t tap = 0; tap < layer->joined_taps; tap++, weights += tap_words)
            for (size_t c = 0; c < channels; c++) {
                const size_t input = tap * channels + c;
                joined[input / 32] |= (weights[c / 32] >> c % 32 & 1) << input % 32;
            }
}

static void pack_group(const bc_layer *layer, const uint32_t *weights, uint32_t *joined, void *blocks) {
    const uint32_t *taps = weights;
    if (joined) {
        join_taps(layer, weights, joined);
        taps = joined;
    }
    if (layer->chains)
        layer->kernels->chain_weights(&(bc_chain_weights_args){taps, layer->group_outputs,
                                                               layer->kernel_height, layer->kernel_width,
                                                               layer->tap_inputs, blocks});
    else if (bc_layer_is_binary(layer))
        layer->kernels->xorpop_weights(&(bc_xorpop_weights_args){taps, layer->group_outputs, layer->sum_taps,
                                                                 layer->tap_inputs, blocks});
    else
        layer->kernels->signsum_weights(&(bc_signsum_weights_args){
            taps, layer->group_outputs, layer->sum_taps, layer->tap_inputs, blocks});
}

static bc_status pack_weights(bc_layer *layer, const uint32_t *weights) {
    const size_t taps = layer->kernel_height * layer->kernel_width;
    const size_t group_words = layer->group_outputs * taps * bc_divide_up(layer->group_inputs, 32);
    size_t bytes = layer->block_bytes;
    if (!bc_multiply(&bytes, layer->group_blocks) || !bc_multiply(&bytes, layer->groups))
        return BC_SIZE_OVERFLOW;
    /* Vectors of weights must not straddle cache lines. */
    const size_t line = 64;
    layer->blocks_memory = malloc(bytes + line);
    if (!layer->blocks_memory) return BC_OUT_OF_MEMORY;
    layer->blocks = (char *)layer->blocks_memory + (line - (uintptr_t)layer->blocks_memory % line) % line;

    uint32_t *joined = NULL;
    if (layer->gathers || !bc_layer_is_binary(layer)) {
        size_t words = layer->group_outputs;
        if (!bc_multiply(&words, joined_words(layer)) || !bc_multiply(&words, sizeof *joined))
            return BC_SIZE_OVERFLOW;
        joined = malloc(words);
        if (!joined) return BC_OUT_OF_MEMORY;
    }
    for (size_t group = 0; group < layer->groups; group++)
        pack_group(layer, weights + group * group_words, joined,
                   (char *)layer->blocks + group * layer->group_blocks * layer->block_bytes);
    free(joined);
    return BC_OK;
}

static int32_t popcount32(uint32_t x) {
    x -= x >> 1 & 0x55555555;
    x = (x & 0x33333333) + (x >> 2 & 0x33333333);
    x = (x + (x >> 4)) & 0x0f0f0f0f;
    return (int32_t)(x * 0x01010101 >> 24);
}

static int32_t tap_bits(const uint32_t *words, size_t channels) {
    int32_t bits = 0;
    for (size_t k = 0; k < channels / 32; k++) bits += popcount32(words[k]);
    if (channels % 32) bits += popcount32(words[channels / 32] & ((UINT32_C(1) << channels % 32) - 1));
    return bits;
}

static bc_status sum_weight_bits(bc_layer *layer, const uint32_t *weights) {
    const size_t filters = layer->groups * layer->group_filters;
    const size_t height = layer->kernel_height, width = layer->kernel_width;
    const size_t tap_words = bc_divide_up(layer->group_inputs, 32);
    size_t count = height + 1;
    if (!bc_multiply(&count, width + 1) || !bc_multiply(&count, filters) ||
        count > SIZE_MAX / sizeof(int32_t) - BC_SLACK)
        return BC_SIZE_OVERFLOW;
    layer->weight_bits = calloc(count + BC_SLACK, sizeof(int32_t));
    if (!layer->weight_bits) return BC_OUT_OF_MEMORY;

    for (size_t output = 0; output < layer->output_channels; output++) {
        const size_t filter = bc_layer_filter(layer, output);
        for (size_t i = 0; i < height; i++) {
            int32_t row = 0;
            for (size_t j = 0; j < width; j++) {
                const size_t tap = (output * height + i) * width + j;
                row += tap_bits(weights + tap * tap_words, layer->group_inputs);
                int32_t *below = layer->weight_bits + ((i + 1) * (width + 1) + j + 1) * filters;
                const int32_t *above = layer->weight_bits + (i * (width + 1) + j + 1) * filters;
                below[filter] = above[filter] + row;
            }
        }
    }
    return BC_OK;
}

/* ---- Terms ---------------------------------------------------------------------------------------- */

/* [output_channels] (or NULL: `absent` everywhere) to the padded layout of filters. */
static float *pad_outputs(const bc_layer *layer, const float *terms, float absent) {
    const size_t filters = layer->groups * layer->group_filters;
    float *padded = calloc(filters + BC_SLACK, sizeof *padded);
    if (!padded) return NULL;
    for (size_t output = 0; output < layer->output_channels; output++)
        padded[bc_layer_filter(layer, output)] = terms ? terms[output] : absent;
    return padded;
}

static float *copy_inputs(const bc_layer *layer, const float *terms, float absent) {
    float *copy = malloc(layer->input_channels * sizeof *copy);
    for (size_t c = 0; copy && c < layer->input_channels; c++) copy[c] = terms ? terms[c] : absent;
    return copy;
}

static bc_status copy_terms(bc_layer *layer, const bc_layer_config *config) {
    layer->scale = pad_outputs(layer, config->scale, 1.0f);
    layer->bias = pad_outputs(layer, config->bias, 0.0f);
    if (!layer->scale || !layer->bias) return BC_OUT_OF_MEMORY;
    if (config->neuron.a_terms) {
        layer->a_terms = pad_outputs(layer, config->neuron.a_terms, 0.0f);
        if (!layer->a_terms) return BC_OUT_OF_MEMORY;
    }
    if (config->input_bias || config->input_scale) {
        layer->input_bias = copy_inputs(layer, config->input_bias, 0.0f);
        layer->input_scale = copy_inputs(layer, config->input_scale, 1.0f);
        if (!layer->input_bias || !layer->input_scale) return BC_OUT_OF_MEMORY;
        if (bc_layer_is_binary(layer))
            return bc_input_thresholds_create(layer->input_bias, layer->input_scale, layer->input_channels,
                                              &layer->input_thresholds);
    }
    return BC_OK;
}

/* ---- The interface -------------------------------------------------------------------------------- */

/* Whether sums of windows of `words` words go by chains if taps are not joined: where that pays, the taps of a row lie side by
 * side, and few filters must be made up to fill blocks. */
static int suits_chains(const bc_layer *layer, size_t words) {
    const bc_kernels *kernels = layer->kernels;
    const size_t outputs = layer->group_outputs;
    const size_t filters = bc_round_up(outputs, kernels->chain_block_filters);
    const size_t plain_filters = bc_round_up(outputs, kernels->xorpop_block_filters);
    const size_t step =
        bc_min(layer->stride_x, layer->kernel_width); /* slots of a row that each window adds */
    return bc_layer_is_binary(layer) && layer->groups == 1 &&
           (layer->kernel_width == 1 || layer->dilation_x == 1) && words >= kernels->chain_words_least &&
           words <= BC_CHAIN_WORDS &&
           outputs >= bc_divide_up(kernels->chain_filters_least, layer->kernel_width) * step &&
           8 * filters <= 9 * plain_filters;
}

/* How many taps to join. That has its price for each pixel: rows are joined to save an eighth of the words, or a quarter where
 * sums by chains gain without it, kernels to save a quarter more, and not with beta, for which each row of |v| is to be summed
 * once. */
static size_t choose_joined_taps(const bc_layer *layer) {
    const size_t height = layer->kernel_height, width = layer->kernel_width, inputs = layer->group_inputs;
    const size_t words = height * width * bc_divide_up(inputs, 64);
    const size_t row_words = height * bc_divide_up(width * inputs, 64);
    const size_t kernel_words = bc_divide_up(height * width * inputs, 64);
    if (!bc_layer_is_binary(layer)) return width;
    if (!layer->beta_scaling && 4 * kernel_words <= 3 * bc_min(words, row_words)) return height * width;
    return (suits_chains(layer, words) ? 4 * row_words <= 3 * words : 8 * row_words <= 7 * words) ? width : 1;
}

static void choose_taps(bc_layer *layer) {
    layer->joined_taps = choose_joined_taps(layer);
    layer->gathers = bc_layer_is_binary(layer) &&
                     (layer->joined_taps > 1 || (layer->groups > 1 && layer->group_inputs % 64));
    layer->sum_taps = layer->kernel_height * layer->kernel_width / layer->joined_taps;
    layer->tap_inputs = layer->joined_taps * layer->group_inputs;
    if (layer->gathers) {
        layer->sum_taps *= bc_divide_up(layer->tap_inputs, 64);
        layer->tap_inputs = 64;
    }
}

static bc_status lay_out_blocks(bc_layer *layer) {
    const bc_kernels *kernels = layer->kernels;
    const int binary = bc_layer_is_binary(layer);
    layer->tap_words = bc_divide_up(layer->tap_inputs, binary ? 64 : 32);
    layer->chains = !layer->gathers && suits_chains(layer, layer->sum_taps * layer->tap_words);
    layer->block_filters = layer->chains ? kernels->chain_block_filters
                           : binary      ? kernels->xorpop_block_filters
                                         : kernels->signsum_block_filters;
    layer->block_bytes = layer->chains ? kernels->chain_block_word_bytes
                         : binary      ? kernels->xorpop_block_word_bytes
                                       : kernels->signsum_block_word_bytes;
    if (!bc_multiply(&layer->block_bytes, layer->tap_words) ||
        !bc_multiply(&layer->block_bytes, layer->sum_taps))
        return BC_SIZE_OVERFLOW;
    layer->group_blocks = bc_divide_up(layer->group_outputs, layer->block_filters);
    layer->group_filters = layer->group_blocks * layer->block_filters;
    return BC_OK;
}

static bc_status fill_layer(bc_layer *layer, const bc_layer_config *config) {
    layer->type = config->type;
    layer->beta_scaling = config->beta_scaling != 0;
    layer->input_channels = config->input_channels;
    layer->output_channels = config->output_channels;
    layer->groups = config->groups;
    layer->group_inputs = config->input_channels / config->groups;
    layer->group_outputs = config->output_channels / config->groups;
    layer->kernel_height = config->kernel_height;
    layer->kernel_width = config->kernel_width;
    layer->stride_y = config->stride_y;
    layer->stride_x = config->stride_x;
    layer->dilation_y = config->dilation_y;
    layer->dilation_x = config->dilation_x;
    layer->subpixel_factor = config->subpixel_factor;
    layer->neuron = config->neuron;
    layer->neuron.a_terms = NULL;

    choose_taps(layer);
    bc_status status = lay_out_blocks(layer);
    if (status == BC_OK) status = copy_terms(layer, config);
    if (status == BC_OK) status = pack_weights(layer, config->weights);
    if (status == BC_OK && bc_layer_is_binary(layer)) status = sum_weight_bits(layer, config->weights);
    return status;
}

bc_status bc_layer_create(const bc_layer_config *config, bc_layer **layer) {
    if (!config || !layer) return BC_INVALID_ARGUMENT;
    const bc_kernels *kernels;
    bc_status status = bc_kernels_chosen(&kernels);
    if (status == BC_OK) status = check_config(config);
    if (status != BC_OK) return status;

    bc_layer *created = calloc(1, sizeof *created);
    if (!created) return BC_OUT_OF_MEMORY;
    created->kernels = kernels;
    status = fill_layer(created, config);
    if (status != BC_OK) {
        bc_layer_destroy(created);
        return status;
    }
    *layer = created;
    return BC_OK;
}

void bc_layer_destroy(bc_layer *layer) {
    if (!layer) return;
    free(layer->blocks_memory);
    free(layer->scale);
    free(layer->bias);
    free(layer->a_terms);
    free(layer->input_bias);
    free(layer->input_scale);
    bc_input_thresholds_free(&layer->input_thresholds);
    free(layer->weight_bits);
    free(layer);
}

bc_status bc_fold_batch_normalization(size_t channels, const double *scale, const double *bias,
                                      const double *mean, const double *variance, const double *gamma,
                                      const double *beta, double epsilon, float *folded_scale,
                                      float *folded_bias) {
    if (channels &&
        (!scale || !bias || !mean || !variance || !gamma || !beta || !folded_scale || !folded_bias))
        return BC_INVALID_ARGUMENT;
    for (size_t c = 0; c < channels; c++) {
        const double inverse = gamma[c] / sqrt(variance[c] + epsilon);
        folded_scale[c] = (float)(scale[c] * inverse);
        folded_bias[c] = (float)(bias[c] * inverse + beta[c] - inverse * mean[c]);
    }
    return BC_OK;
}
