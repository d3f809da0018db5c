/* The neurons, in place over a few values. Included by each instruction set's file under its own
 * target pragma, so that the compiler makes vectors of these loops.
 *
 * RELU, LINEAR and the others that need no transcendental function are computed in float32, each
 * operation rounded separately; the rest in double from the float32 x, and rounded once, so that they are
 * within 0.501 ULP of the exact value of their formula at a*x + b. Same bits on every instruction set,
 * except that which NaN comes out is the processor's choice.
 */
#ifndef BC_NEURON_MATH_H
#define BC_NEURON_MATH_H

#include <stddef.h>

#include "binconv.h"
#include "double_math.h"

/* Values that one step of a loop covers: a constant count of independent iterations leaves no tail. */
#define BC_NEURON_STEP 16

/* y[base + k] = EXPRESSION of x, which is y[base + k], over all of y; ends a case. */
#define BC_NEURON_LOOP(EXPRESSION)                                \
    for (size_t base = 0; base < count; base += BC_NEURON_STEP) { \
        float *const chunk = y + base;                            \
        for (size_t k = 0; k < BC_NEURON_STEP; k++) {             \
            const float x = chunk[k];                             \
            chunk[k] = (float)(EXPRESSION);                       \
        }                                                         \
    }                                                             \
    break

BC_FORCE_INLINE float bc_leaky(float x, float slope) { return bc_select_f32(x >= 0.0f, x, slope * x); }

BC_FORCE_INLINE float bc_clamp_unit(float x) {
    const float raised = x < 0.0f ? 0.0f : x;
    return raised > 1.0f ? 1.0f : raised;
}

BC_FORCE_INLINE float bc_at_most(float x, float limit) { return x > limit ? limit : x; }

BC_FORCE_INLINE double bc_sigmoid(double x) { return 1.0 / (1.0 + bc_exp(-x)); }

/* log(1 + e^z), without overflow for a large z and without losing e^z for a very negative one. */
BC_FORCE_INLINE double bc_soft_plus(double z) {
    return bc_select(z > 0.0, z, 0.0) + bc_log1p_unit(bc_exp(-fabs(z)));
}

BC_FORCE_INLINE double bc_elu(double x, double a) { return bc_select(x >= 0.0, x, a * bc_expm1(x)); }

/* y[i] = neuron(y[i]) for i < count, a multiple of 16. NONE, RELU and PRELU are slopes, which the epilogue applies to
 * values in registers; here they change nothing. */
static inline void bc_neuron_apply(const bc_neuron *neuron, float *restrict y, size_t count) {
    const float a = neuron->a, b = neuron->b;
    const double a64 = neuron->a, b64 = neuron->b, c64 = neuron->c;
    switch (neuron->type) {
        case BC_NEURON_NONE:
        case BC_NEURON_RELU:
        case BC_NEURON_PRELU:
            break;
        case BC_NEURON_LINEAR:
            BC_NEURON_LOOP(a * x + b);
        case BC_NEURON_SIGMOID:
            BC_NEURON_LOOP(bc_sigmoid(x));
        case BC_NEURON_HARD_SIGMOID:
            BC_NEURON_LOOP(bc_clamp_unit(a * x + b));
        case BC_NEURON_TANH:
            BC_NEURON_LOOP(a64 * bc_tanh(b64 * x));
        case BC_NEURON_ABSOLUTE:
            BC_NEURON_LOOP(fabsf(x));
        case BC_NEURON_SOFT_PLUS:
            BC_NEURON_LOOP(a64 * bc_soft_plus(b64 * x));
        case BC_NEURON_SOFT_SIGN:
            BC_NEURON_LOOP(x / (1.0f + fabsf(x)));
        case BC_NEURON_ELU:
            BC_NEURON_LOOP(bc_elu(x, a64));
        case BC_NEURON_RELUN:
            BC_NEURON_LOOP(bc_at_most(bc_leaky(x, a), b));
        case BC_NEURON_POWER:
            BC_NEURON_LOOP(bc_pow(a64 * x + b64, c64));
        case BC_NEURON_EXPONENTIAL:
            if (neuron->c == -1.0f) {
                BC_NEURON_LOOP(bc_exp(a64 * x + b64));
            }
            BC_NEURON_LOOP(bc_pow(c64, a64 * x + b64));
        case BC_NEURON_LOGARITHM: {
            const double divisor = neuron->c == -1.0f ? 1.0 : bc_log(c64);
            BC_NEURON_LOOP(bc_log(a64 * x + b64) / divisor);
        }
        case BC_NEURON_GELU:
            BC_NEURON_LOOP(x * bc_normal_distribution(x));
    }
}

#endif
