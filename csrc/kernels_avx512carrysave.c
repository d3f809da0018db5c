/* AVX-512 with VPOPCNTDQ, for processors on which vector operations are what is short: XNOR sums with carry-save.
 *
 * Of two words that differ from the weights' by x1 and x2, a full adder makes one word of carries, worth 2 a bit, and one that
 * it keeps, worth 1: so that vpopcntq and vpaddq are needed for every other word only. Intel's cores do two vector operations a
 * cycle, and 5 for two words are fewer than the 6 of kernels_avx512vpopcnt.c. Zen 5 does four, and other things are short there.
 *
 * 5 they are because x2 is never made. The sum's bit is
 *
 *     ones ^ x1 ^ x2 = ones ^ (w1 ^ w2) ^ (a1 ^ a2),
 *
 * one vpternlogq, as w1 ^ w2 lies in memory for w2, and a1 ^ a2 is made once for all filters; and the carry is
 *
 *     majority(ones, x1, x2) = the old ones where the sum's bit differs from them, else x1.
 */
#include "kernels.h"

#if defined(__x86_64__) || defined(_M_X64)

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512vpopcntdq"))), apply_to = function)
#elif defined(__GNUC__)
#pragma GCC push_options
#pragma GCC target("avx512f,avx512vpopcntdq")
#pragma GCC target("prefer-vector-width=512")
#endif

#include <immintrin.h>
#include <string.h>

#include "bits.h"

enum { BLOCK_FILTERS = 8, PLAIN_WORDS = 9, TERNARY_XOR = 0x96, TERNARY_CARRY = 0xd4 };

/* Without this, GCC 12 unrolls too late to keep the arrays of a tile in registers. */
#define UNROLL BC_UNROLL

/* ---- Weights: blocks as in the portable layout, but of the words of a window, counted through its taps, every second is
 * XORed with the one before; windows so short that the plain kernel keeps their weights in registers are left to it ----------------------------------------------------------------------------------------- */

static void xorpop_weights(const bc_xorpop_weights_args *args) {
    bc_kernels_scalar.xorpop_weights(args);
    const size_t words = args->taps * ((args->channels + 63) / 64);
    const size_t blocks = (args->filters + BLOCK_FILTERS - 1) / BLOCK_FILTERS;
    if (words <= PLAIN_WORDS) return;
    uint64_t *block = args->blocks;
    for (size_t i = 0; i < blocks; i++, block += words * BLOCK_FILTERS)
        for (size_t word = 1; word < words; word += 2)
            for (size_t lane = 0; lane < BLOCK_FILTERS; lane++)
                block[word * BLOCK_FILTERS + lane] ^= block[(word - 1) * BLOCK_FILTERS + lane];
}

/* ---- Sums ----------------------------------------------------------------------------------------- */

/* A window's words, counted through its taps. */
typedef struct cursor {
    const ptrdiff_t *tap_offset;
    size_t word, words;
} cursor;

static inline ptrdiff_t next_word(cursor *cursor) {
    const ptrdiff_t offset = *cursor->tap_offset + (ptrdiff_t)cursor->word;
    if (++cursor->word == cursor->words) {
        cursor->word = 0;
        cursor->tap_offset++;
    }
    return offset;
}

static inline __m512i differences(const uint64_t *weights, __m512i word) {
    return _mm512_xor_si512(_mm512_loadu_si512(weights), word);
}

/* PIXELS x BLOCKS pairs of sums stay in registers; both must be literals, or the arrays spill. */
#define XORPOP_TILE(NAME, PIXELS, BLOCKS)                                                                    \
    static void NAME(const bc_xorpop_args *args, const uint64_t *source, const uint64_t *weights,            \
                     int32_t *counts) {                                                                      \
        size_t left = args->taps * args->words;                                                              \
        const size_t block_words = left * BLOCK_FILTERS;                                                     \
        const ptrdiff_t stride = args->source_stride;                                                        \
        cursor cursor = {args->tap_offset, 0, args->words};                                                  \
        __m512i ones[PIXELS][BLOCKS], twos[PIXELS][BLOCKS];                                                  \
        UNROLL                                                                                               \
        for (int p = 0; p < PIXELS; p++) {                                                                   \
            UNROLL                                                                                           \
            for (int b = 0; b < BLOCKS; b++) ones[p][b] = twos[p][b] = _mm512_setzero_si512();               \
        }                                                                                                    \
        for (; left >= 2; left -= 2, weights += 2 * BLOCK_FILTERS) {                                         \
            const uint64_t *first = source + next_word(&cursor), *second = source + next_word(&cursor);      \
            UNROLL                                                                                           \
            for (int p = 0; p < PIXELS; p++) {                                                               \
                const __m512i word = _mm512_set1_epi64((long long)first[p * stride]);                        \
                const __m512i both =                                                                         \
                    _mm512_xor_si512(word, _mm512_set1_epi64((long long)second[p * stride]));                \
                UNROLL                                                                                       \
                for (int b = 0; b < BLOCKS; b++) {                                                           \
                    const uint64_t *block = weights + (size_t)b * block_words;                               \
                    const __m512i sum = _mm512_ternarylogic_epi64(_mm512_loadu_si512(block + BLOCK_FILTERS), \
                                                                  ones[p][b], both, TERNARY_XOR);            \
                    const __m512i carry =                                                                    \
                        _mm512_ternarylogic_epi64(differences(block, word), ones[p][b], sum, TERNARY_CARRY); \
                    ones[p][b] = sum;                                                                        \
                    twos[p][b] = _mm512_add_epi64(twos[p][b], _mm512_popcnt_epi64(carry));                   \
                }                                                                                            \
            }                                                                                                \
        }                                                                                                    \
        const uint64_t *last = left ? source + next_word(&cursor) : NULL;                                    \
        UNROLL                                                                                               \
        for (int p = 0; p < PIXELS; p++) {                                                                   \
            UNROLL                                                                                           \
            for (int b = 0; b < BLOCKS; b++) {                                                               \
                __m512i count =                                                                              \
                    _mm512_add_epi64(_mm512_slli_epi64(twos[p][b], 1), _mm512_popcnt_epi64(ones[p][b]));     \
                if (last) {                                                                                  \
                    const __m512i word = _mm512_set1_epi64((long long)last[p * stride]);                     \
                    const __m512i single = differences(weights + (size_t)b * block_words, word);             \
                    count = _mm512_add_epi64(count, _mm512_popcnt_epi64(single));                            \
                }                                                                                            \
                int32_t *at = counts + (size_t)p * args->counts_stride + (size_t)b * BLOCK_FILTERS;          \
                _mm256_storeu_si256((__m256i *)at, _mm512_cvtepi64_epi32(count));                            \
            }                                                                                                \
        }                                                                                                    \
    }

XORPOP_TILE(xorpop_1x8, 1, 8)
XORPOP_TILE(xorpop_2x4, 2, 4)
XORPOP_TILE(xorpop_1x4, 1, 4)
XORPOP_TILE(xorpop_7x1, 7, 1)
XORPOP_TILE(xorpop_1x1, 1, 1)

typedef struct xorpop_tile {
    size_t pixels;
    void (*sum)(const bc_xorpop_args *args, const uint64_t *source, const uint64_t *weights, int32_t *counts);
} xorpop_tile;

static void xorpop(const bc_xorpop_args *args) {
    if (args->taps * args->words <= PLAIN_WORDS) {
        bc_kernels_avx512vpopcnt.xorpop(args);
        return;
    }
    static const xorpop_tile by_eight[] = {{1, xorpop_1x8}};
    static const xorpop_tile by_four[] = {{2, xorpop_2x4}, {1, xorpop_1x4}};
    static const xorpop_tile by_one[] = {{7, xorpop_7x1}, {1, xorpop_1x1}};
    const size_t block_words = args->taps * args->words * BLOCK_FILTERS;
    for (size_t block = 0, blocks; block < args->blocks; block += blocks) {
        const size_t left = args->blocks - block;
        blocks = left >= 8 ? 8 : left >= 4 ? 4 : 1;
        const xorpop_tile *tile = blocks == 8 ? by_eight : blocks == 4 ? by_four : by_one;
        for (size_t pixel = 0; pixel < args->pixels; pixel += tile->pixels) {
            while (tile->pixels > args->pixels - pixel) tile++;
            tile->sum(args, args->source + (ptrdiff_t)pixel * args->source_stride,
                      (const uint64_t *)args->weights + block * block_words,
                      args->counts + pixel * args->counts_stride + block * BLOCK_FILTERS);
        }
    }
}

const bc_kernels bc_kernels_avx512carrysave = {
    .xorpop_block_filters = BLOCK_FILTERS,
    .xorpop_block_word_bytes = BLOCK_FILTERS * sizeof(uint64_t),
    .xorpop_weights = xorpop_weights,
    .xorpop = xorpop,
};

#if defined(__clang__)
#pragma clang attribute pop
#elif defined(__GNUC__)
#pragma GCC pop_options
#endif

#endif
