/* Packed results without floats: where the stored bit depends on a sum by a threshold alone. */
#ifndef BC_THRESHOLD_H
#define BC_THRESHOLD_H

#include "layer.h"

/* The bit of a filter with sum S is that of large sums where S >= turn, else the other. What the epilogue compares are counts,
 * which grow as sums fall: it stores (count ^ flip) >= count_threshold, where all taps of the window count. Arrays in the
 * layer's padded layout of filters. */
typedef struct bc_thresholds {
    int32_t *turn, *flip, *count_threshold;
} bc_thresholds;

/* The same for a filter's counts of which S is made with another channel_base. */
int32_t bc_count_threshold(const bc_layer *layer, int32_t channel_base, int32_t turn, int32_t flip);

/* Whether the bits of `layer` are thresholds of its sums: sums are integers, nothing depends on the pixel, and what is
 * done to them never turns around. */
int bc_has_thresholds(const bc_layer *layer);

/* Allocates and fills the arrays so that bits are exactly those that the epilogue would compute in float32; leaves them NULL
 * where terms are so large that this could overflow. The pack terms are per destination channel, or both NULL. */
bc_status bc_thresholds_create(const bc_layer *layer, const float *pack_bias, const float *pack_scale,
                               bc_thresholds *thresholds);
void bc_thresholds_free(bc_thresholds *thresholds);

#endif
