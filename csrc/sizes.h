/* Arithmetic on sizes that may overflow. */
#ifndef BC_SIZES_H
#define BC_SIZES_H

#include <stddef.h>
#include <stdint.h>

static inline size_t bc_min(size_t a, size_t b) { return a < b ? a : b; }

static inline size_t bc_divide_up(size_t value, size_t divisor) {
    return value / divisor + (value % divisor != 0);
}

static inline size_t bc_round_up(size_t value, size_t multiple) {
    return bc_divide_up(value, multiple) * multiple;
}

/* *product *= factor; 0 where that overflows what a pointer difference can hold. */
static inline int bc_multiply(size_t *product, size_t factor) {
    if (factor && *product > (size_t)PTRDIFF_MAX / factor) return 0;
    *product *= factor;
    return 1;
}

#endif
