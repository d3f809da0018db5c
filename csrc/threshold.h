/* Packed results without floats: where the stored bit depends on a sum by a threshold alone. */
#ifndef BC_THRESHOLD_H
#define BC_THRESHOLD_H

#include "layer.h"

/* For a filter with sum S the bit is (S ^ flip) >= threshold; arrays in the layer's padded layout of filters. */
typedef struct bc_thresholds {
    int32_t *threshold, *flip;
} bc_thresholds;

/* Whether the bits of `layer` are thresholds of its sums: sums are integers, nothing depends on the pixel, and what is
 * done to them never turns around. */
int bc_has_thresholds(const bc_layer *layer);

/* Allocates and fills both arrays so that bits are exactly those that the epilogue would compute in float32; leaves them NULL
 * where terms are so large that this could overflow. The pack terms are per destination channel, or both NULL. */
bc_status bc_thresholds_create(const bc_layer *layer, const float *pack_bias, const float *pack_scale,
                               bc_thresholds *thresholds);
void bc_thresholds_free(bc_thresholds *thresholds);

#endif
