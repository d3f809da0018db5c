/* XNOR sums by table look-ups: what does not depend on the instruction set.
 *
 * One look-up takes 4 weight bits of many filters and finds them in a row of 16 bytes that 4 bits of two pixels have
 * chosen; each byte of a row holds a number for either pixel, in 4 bits.
 *
 * The numbers are not the counts c = popcount(a ^ w), from 0 to 4, of which 4 bits would hold the sum of three
 * only. c is even or odd with p(a) + p(w), p being the parity of 4 bits, so that
 *
 *     h = (c - p(a) + p(w)) / 2
 *
 * is whole, and it is 0, 1 or 2: seven of them fit. A sum of c is then twice the sum of h, plus the sum of p(a),
 * which belongs to the pixel, less the sum of p(w), which lies beside the weights.
 */
#ifndef BC_HALF_COUNTS_H
#define BC_HALF_COUNTS_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "bits.h"
#include "kernels.h"

/* ---- The table: row a + 16 b, for bits a and b of two pixels, is {h(a, w) + 16 h(b, w), w = 0 ... 15} ---- */

/* Byte w of a constant: bit i of w, for w from 0 to 7; its parity. */
#define BC_ONES UINT64_C(0x0101010101010101)
#define BC_BIT_0 UINT64_C(0x0100010001000100)
#define BC_BIT_1 UINT64_C(0x0101000001010000)
#define BC_BIT_2 UINT64_C(0x0101010100000000)
#define BC_PARITY UINT64_C(0x0100000100010100)
/* Byte w: bit i of a ^ w, BITS being bit i of w. */
#define BC_DIFFERS(a, i, BITS) ((a) >> (i) & 1 ? BC_ONES - (BITS) : (BITS))
#define BC_COUNTS(a, BIT_3)                                                                 \
    (BC_DIFFERS(a, 0, BC_BIT_0) + BC_DIFFERS(a, 1, BC_BIT_1) + BC_DIFFERS(a, 2, BC_BIT_2) + \
     BC_DIFFERS(a, 3, BIT_3))
#define BC_PARITY_OF(a) (BC_ONES * (0x6996 >> (a) & 1))
#define BC_HALVES_LOW(a) ((BC_COUNTS(a, 0) + BC_PARITY - BC_PARITY_OF(a)) / 2)
#define BC_HALVES_HIGH(a) ((BC_COUNTS(a, BC_ONES) + (BC_ONES - BC_PARITY) - BC_PARITY_OF(a)) / 2)

#define BC_ROW(a, b) \
    {BC_HALVES_LOW(a) + (BC_HALVES_LOW(b) << 4), BC_HALVES_HIGH(a) + (BC_HALVES_HIGH(b) << 4)}
#define BC_ROWS_4(a, b) BC_ROW(a, b), BC_ROW(a + 1, b), BC_ROW(a + 2, b), BC_ROW(a + 3, b)
#define BC_ROWS_16(b) BC_ROWS_4(0, b), BC_ROWS_4(4, b), BC_ROWS_4(8, b), BC_ROWS_4(12, b)
#define BC_ROWS_64(b) BC_ROWS_16(b), BC_ROWS_16(b + 1), BC_ROWS_16(b + 2), BC_ROWS_16(b + 3)

static const _Alignas(16) uint64_t bc_half_rows[256][2] = {BC_ROWS_64(0), BC_ROWS_64(4), BC_ROWS_64(8),
                                                           BC_ROWS_64(12)};

/* ---- Source words ------------------------------------------------------------------------------------ */

/* Of 4 bits, in a word: bits 0-3 of its 8 bytes, then bits 4-7. */
enum { BC_HALF_STEPS = 16 };

/* The numbers of the 16 rows that a pair's word looks up, as bytes. */
static inline void bc_find_rows(uint64_t rows[2], uint64_t a, uint64_t b) {
    const uint64_t swapped = (b ^ a >> 4) & UINT64_C(0x0f0f0f0f0f0f0f0f);
    rows[0] = a ^ swapped << 4;
    rows[1] = b ^ swapped;
}

/* The parity of each 4 bits, in the lowest of them. */
static inline uint64_t bc_nibble_parities(uint64_t word) {
    word ^= word >> 1;
    word ^= word >> 2;
    return word & UINT64_C(0x1111111111111111);
}

static inline uint64_t bc_add_low_nibbles(uint64_t nibbles) {
    return (nibbles & UINT64_C(0x0f0f0f0f0f0f0f0f)) * BC_ONES >> 56;
}

/* ---- Weights: for each word of a block of filters, 16 vectors of 4 bits of each, in the order in which pixels' bits are
 * looked up, and the sums of p(w) ------------------------------------------------------------------------- */

#define BC_HALF_WORD_BYTES(filters) ((BC_HALF_STEPS + 1) * (filters))

/* `lane_of[filter]` is the byte of a vector that holds a filter of a block. */
static inline void bc_half_weights(const bc_xorpop_weights_args *args, size_t block_filters,
                                   const uint8_t *lane_of) {
    const size_t words = (args->channels + 63) / 64, mps_words = (args->channels + 31) / 32;
    const size_t blocks = (args->filters + block_filters - 1) / block_filters;
    const size_t word_bytes = BC_HALF_WORD_BYTES(block_filters);
    uint8_t *out = args->blocks;
    memset(out, 0, blocks * args->taps * words * word_bytes);
    for (size_t first = 0; first < blocks * block_filters; first += block_filters)
        for (size_t tap = 0; tap < args->taps; tap++)
            for (size_t k = 0; k < words; k++, out += word_bytes)
                for (size_t i = 0; i < block_filters && first + i < args->filters; i++) {
                    const uint32_t *tap_words = args->weights + ((first + i) * args->taps + tap) * mps_words;
                    const uint64_t word = bc_filter_word(tap_words, k, args->channels);
                    uint8_t *lane = out + lane_of[i];
                    for (size_t step = 0; step < BC_HALF_STEPS; step++) {
                        const uint8_t bits = word >> (step % 8 * 8 + step / 8 * 4) & 15;
                        lane[step * block_filters] = bits;
                        lane[BC_HALF_STEPS * block_filters] += 0x6996 >> bits & 1;
                    }
                }
}

#endif
