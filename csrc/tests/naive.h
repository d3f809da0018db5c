/* A layer by its definition: one output at a time, one term at a time. */
#ifndef BC_TESTS_NAIVE_H
#define BC_TESTS_NAIVE_H

#include "check.h"

typedef struct naive_layer {
    const bc_layer_config *layer;
    const bc_plan_config *plan;
    const void *source;
} naive_layer;

/* One destination value before it is stored. `value` is evaluated in float32 as the interface promises, and is
 * exact where `tolerance` is 0: for XNOR and AND without beta and a neuron that is computed in float32. */
typedef struct naive_value {
    float value;
    double tolerance;
} naive_value;

/* Destination pixel (y, x) of the clip rectangle, counted from its corner; channel counted from the offset. */
naive_value naive_output(const naive_layer *naive, size_t image, size_t y, size_t x, size_t channel);

#endif
