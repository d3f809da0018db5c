/* A layer: checked configuration, weights in the kernel family's layout, terms padded for the kernels. */
#ifndef BC_LAYER_H
#define BC_LAYER_H

#include "input_threshold.h"
#include "kernels.h"

struct bc_layer {
    const bc_kernels *kernels;
    bc_type type;
    int beta_scaling;
    size_t input_channels, output_channels, groups;
    size_t group_inputs, group_outputs;
    size_t kernel_height, kernel_width, stride_y, stride_x, dilation_y, dilation_x;
    size_t subpixel_factor;
    bc_neuron neuron; /* a_terms unused: see below */

    /* Filters come in blocks; each group is padded to whole blocks, and arrays over filters are laid out
     * [groups][group_filters] with BC_SLACK elements past the end. */
    size_t block_filters, block_bytes, group_blocks, group_filters;

    /* Taps as sums see them. Narrow inputs would waste most of their words, so that where it saves words the bits of some
     * taps lie side by side without gaps: those of a kernel row, as always for BINARY_WEIGHTS, or of the whole kernel. For
     * XNOR and AND each word of these, and of any bits that are gathered from where they lie in the source, then counts as
     * a tap. */
    size_t joined_taps; /* 1, kernel_width, or all */
    int gathers;
    size_t sum_taps, tap_inputs; /* of one group */
    size_t tap_words;            /* XNOR and AND: 64-bit words of tap_inputs; BINARY_WEIGHTS: 32-bit ones */
    int chains;                  /* XNOR and AND: sums go by chains, with a row for every row of the kernel */
    void *blocks, *blocks_memory; /* the first aligned to a cache line inside the second */
    float *scale, *bias, *a_terms /* PRELU only */;
    float *input_bias, *input_scale;      /* [input_channels], or both NULL */
    bc_input_thresholds input_thresholds; /* XNOR and AND with input_bias */

    /* XNOR and AND: [kernel_height + 1][kernel_width + 1][groups * group_filters] sums of weight bits over taps
     * above and left, so that four look-ups give the weight bits of any rectangle of taps. */
    int32_t *weight_bits;
};

static inline int bc_layer_is_binary(const bc_layer *layer) { return layer->type != BC_BINARY_WEIGHTS; }

/* The whole kernel's taps are joined, and not just rows of them. */
static inline int bc_layer_joins_rows(const bc_layer *layer) {
    return layer->joined_taps > layer->kernel_width;
}

/* Where an output channel's filter is in arrays over filters. */
static inline size_t bc_layer_filter(const bc_layer *layer, size_t output) {
    return output / layer->group_outputs * layer->group_filters + output % layer->group_outputs;
}

/* The corner (i, j) of weight_bits. */
static inline const int32_t *bc_layer_weight_bits(const bc_layer *layer, size_t i, size_t j) {
    return layer->weight_bits + (i * (layer->kernel_width + 1) + j) * layer->groups * layer->group_filters;
}

#endif
