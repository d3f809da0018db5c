/* One layer of a file that binconv's Python side saved: docs/file-format.md in C. */
#ifndef STORED_LAYER_H
#define STORED_LAYER_H

#include "binconv.h"
#include "safetensors.h"

typedef struct stored_padding {
    bool is_explicit;
    unsigned method;
    int64_t before[2], after[2]; /* by bc_axis; explicit padding only */
} stored_padding;

typedef struct stored_layer {
    bc_layer *layer;
    size_t input_channels, output_channels; /* of images: behind a sub-pixel step there are fewer */
    size_t subpixel_factor;
    bool is_fully_connected, takes_bits;
    bc_window windows[2]; /* by bc_axis; their source is not set */
    stored_padding padding;
    bc_edge_mode edge_mode;
    float edge_constant;
    /* What the layer before packs bits with, both or neither. */
    float *pack_bias, *pack_scale;
} stored_layer;

/* NULL, or a sentence that says what is wrong; then nothing is to be freed. */
const char *stored_layer_read(const safetensors *file, const json_value *description, stored_layer *layer);
void stored_layer_free(stored_layer *layer);

/* Size of the destination in pixels and offset along one axis, for so many source pixels. */
bc_status stored_layer_resolve(const stored_layer *layer, bc_axis axis, size_t source, size_t *size,
                               int64_t *offset);

#endif
