/* What the cases are made of: sizes around the tiles, bits, and numbers of all kinds. */
#ifndef BC_TESTS_INPUTS_H
#define BC_TESTS_INPUTS_H

#include <stddef.h>
#include <stdint.h>

/* One less, equal and one more than words and vectors hold, 0-terminated. */
extern const size_t channel_sizes[];

/* One less, equal and one more than register tiles hold; past the last is END_OF_SIZES. */
#define END_OF_SIZES SIZE_MAX
extern const size_t pixel_sizes[];

/* The same sequence in every run. */
void random_seed(uint64_t seed);
uint64_t random_u64(void);
size_t random_below(size_t limit);
float random_float(void); /* in [-2, 2) */

typedef enum bit_pattern {
    BITS_ZERO,
    BITS_ONE,
    BITS_ONE_HOT,
    BITS_RANDOM,
    BIT_PATTERNS,
    BITS_STRIPES /* xorpop: pixels and filters of ones and of zeros by turns */
} bit_pattern;
void fill_words(uint64_t *words, size_t count, bit_pattern pattern);
void fill_words32(uint32_t *words, size_t count, bit_pattern pattern);

/* SPECIAL mixes zeros of both signs, subnormals, infinities and NaN into random numbers; FINITE only those that
 * are finite. */
typedef enum float_pattern {
    FLOATS_ZERO,
    FLOATS_ORDINARY,
    FLOATS_FINITE,
    FLOATS_SPECIAL,
    FLOAT_PATTERNS
} float_pattern;
void fill_floats(float *values, size_t count, float_pattern pattern);

/* A stride for rows of `row` elements: dense, with gaps, 0, or backwards, by `kind`. */
enum { STRIDE_KINDS = 5 };
ptrdiff_t stride_of_kind(size_t kind, size_t row);

static inline size_t divide_up(size_t value, size_t by) { return (value + by - 1) / by; }

static inline int bit_of(const uint64_t *words, size_t bit) { return (int)(words[bit / 64] >> bit % 64 & 1); }

#endif
