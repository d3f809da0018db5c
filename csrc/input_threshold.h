/* Binarising (x + bias) * scale by comparing x alone, for pack_f32. */
#ifndef BC_INPUT_THRESHOLD_H
#define BC_INPUT_THRESHOLD_H

#include "kernels.h"

/* As pack_f32 takes them, from a cache line on: their loads are what limits it. flip is NULL where no channel needs it. */
typedef struct bc_input_thresholds {
    float *threshold;
    uint64_t *flip;
    void *memory;
} bc_input_thresholds;

/* Allocates and fills the arrays, so that bits are those of (x + bias) * scale in float32, whatever the terms. */
bc_status bc_input_thresholds_create(const float *bias, const float *scale, size_t channels,
                                     bc_input_thresholds *thresholds);
void bc_input_thresholds_free(bc_input_thresholds *thresholds);

#endif
