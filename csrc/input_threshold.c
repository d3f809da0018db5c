#include "input_threshold.h"

#include <math.h>
#include <stdlib.h>

#include "bits.h"
#include "sizes.h"

/* Both operations are rounded to float32, and are monotone so: the bit changes once between -infinity and infinity, or never.
 * Where terms make NaNs, which count as 1, these lie at an end of the line where the bit is 1 anyway, or at an end that they
 * alone turn to 1, or where the bit turns. */
static int bit_of(float x, float bias, float scale) {
    const float shifted = x + bias;
    return !(shifted * scale < 0.0f);
}

/* Numbers of floats in their order; both zeros are 0. */
static int32_t rank_of(float x) {
    const int32_t magnitude = (int32_t)(bc_float_bits(x) & 0x7fffffff);
    return signbit(x) ? -magnitude : magnitude;
}

static float float_of(int32_t rank) {
    return rank > 0 ? bc_bits_float((uint32_t)rank) : bc_bits_float(0x80000000 | (uint32_t)-rank);
}

/* The least float whose bit is that of infinity; that of -infinity is the other. */
static float find_turn(float bias, float scale) {
    const int last = bit_of(INFINITY, bias, scale);
    int32_t low = rank_of(-INFINITY), high = rank_of(INFINITY);
    /* Nearly always it turns with the sign of the sum. */
    const int32_t likely = rank_of(-bias) + !last;
    if (likely > low && likely <= high && bit_of(float_of(likely), bias, scale) == last &&
        bit_of(float_of(likely - 1), bias, scale) != last)
        return float_of(likely);
    while (high - 1 > low) {
        const int32_t middle = (int32_t)(((int64_t)low + high) / 2);
        if (bit_of(float_of(middle), bias, scale) == last)
            high = middle;
        else
            low = middle;
    }
    return float_of(high);
}

static bc_status allocate(size_t channels, bc_input_thresholds *thresholds) {
    const size_t line = 64, padded = bc_round_up(channels + BC_SLACK, line), words = padded / 64;
    size_t bytes = words;
    if (!bc_multiply(&bytes, 64 * sizeof *thresholds->threshold + sizeof *thresholds->flip))
        return BC_SIZE_OVERFLOW;
    thresholds->memory = calloc(bytes + line, 1);
    if (!thresholds->memory) return BC_OUT_OF_MEMORY;
    char *first = thresholds->memory;
    first += (line - (uintptr_t)first % line) % line;
    thresholds->threshold = (float *)(void *)first;
    thresholds->flip = (uint64_t *)(void *)(thresholds->threshold + padded);
    return BC_OK;
}

bc_status bc_input_thresholds_create(const float *bias, const float *scale, size_t channels,
                                     bc_input_thresholds *thresholds) {
    int flips = 0;
    const bc_status status = allocate(channels, thresholds);
    if (status != BC_OK) return status;
    for (size_t c = 0; c < channels; c++) {
        const int first = bit_of(-INFINITY, bias[c], scale[c]), last = bit_of(INFINITY, bias[c], scale[c]);
        if (first == last) { /* always 1: where either infinity gives 0, the other does not */
            thresholds->threshold[c] = -INFINITY;
            continue;
        }
        thresholds->threshold[c] = find_turn(bias[c], scale[c]);
        thresholds->flip[c / 64] |= (uint64_t)!last << c % 64;
        flips |= !last;
    }
    if (!flips) thresholds->flip = NULL;
    return BC_OK;
}

void bc_input_thresholds_free(bc_input_thresholds *thresholds) {
    free(thresholds->memory);
    *thresholds = (bc_input_thresholds){NULL, NULL, NULL};
}
