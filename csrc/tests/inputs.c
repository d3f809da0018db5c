#include "inputs.h"

#include <float.h>
#include <math.h>
#include <string.h>

const size_t channel_sizes[] = {1,   2,   3,   31,  32,  33,  63,  64,  65, 127,
                                128, 129, 255, 256, 257, 511, 512, 513, 0};
const size_t pixel_sizes[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 13, 14, 15, 16, 17, 31, 32, 33, END_OF_SIZES};

static uint64_t seed_state;

void random_seed(uint64_t seed) { seed_state = seed; }

/* SplitMix64 by Sebastiano Vigna. */
uint64_t random_u64(void) {
    uint64_t z = seed_state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

size_t random_below(size_t limit) { return (size_t)(random_u64() >> 11) % limit; }

float random_float(void) { return (float)(random_u64() >> 40) * 0x1p-22f - 2.0f; }

void fill_words(uint64_t *words, size_t count, bit_pattern pattern) {
    for (size_t i = 0; i < count; i++)
        words[i] = pattern == BITS_RANDOM ? random_u64() : pattern == BITS_ONE ? ~UINT64_C(0) : 0;
    if (pattern == BITS_ONE_HOT && count) words[random_below(count)] = UINT64_C(1) << random_below(64);
}

void fill_words32(uint32_t *words, size_t count, bit_pattern pattern) {
    for (size_t i = 0; i < count; i++)
        words[i] = pattern == BITS_RANDOM ? (uint32_t)random_u64() : pattern == BITS_ONE ? ~UINT32_C(0) : 0;
    if (pattern == BITS_ONE_HOT && count) words[random_below(count)] = UINT32_C(1) << random_below(32);
}

void fill_floats(float *values, size_t count, float_pattern pattern) {
    static const float special[] = {0.0f,    -0.0f, 0x1p-149f, -0x1p-149f, 0x1p-126f,
                                    -1e-30f, 1e30f, INFINITY,  -INFINITY,  NAN};
    const size_t finite = 7, all = sizeof special / sizeof special[0];
    for (size_t i = 0; i < count; i++) {
        const int mix = pattern >= FLOATS_FINITE && random_below(8) == 0;
        if (mix)
            values[i] = special[random_below(pattern == FLOATS_FINITE ? finite : all)];
        else
            values[i] = pattern == FLOATS_ZERO ? 0.0f : random_float();
    }
}

ptrdiff_t stride_of_kind(size_t kind, size_t row) {
    switch (kind % STRIDE_KINDS) {
        case 0:
            return (ptrdiff_t)row;
        case 1:
            return (ptrdiff_t)row + 3;
        case 2:
            return 0;
        case 3:
            return -(ptrdiff_t)row;
        default:
            return -(ptrdiff_t)row - 1;
    }
}
