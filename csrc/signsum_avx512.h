/* BINARY_WEIGHTS on AVX-512: the 16 signed sums of a group of 4 inputs fill one vector, and the 4 weight bits of each of 16
 * filters pick theirs: one vpermps and one addition for 64 multiply-adds. Included under the target pragma of the file whose
 * table it belongs to.
 */
#ifndef BC_SIGNSUM_AVX512_H
#define BC_SIGNSUM_AVX512_H

#include <immintrin.h>

#include "bits.h"
#include "kernels.h"

enum { SIGN_LANES = 16, GROUP = 4 /* inputs */, TABLE = 16 /* floats */ };

/* ---- Tables --------------------------------------------------------------------------------------- */

/* Entry i of a table is (s0 v0 + s1 v1) + (s2 v2 + s3 v3), where s is +1 or -1 by the bits of i: one of four sums of the first
 * two inputs, by bits 0 and 1, and one of four of the others, by bits 2 and 3. Those of four groups fill two vectors. */
enum { EXPANDED_GROUPS = 4 /* at once */ };

typedef struct pair_sums {
    __m512 first, second; /* [group][4] */
} pair_sums;

/* a and b with the signs of bits 0 and 1 of the lane's number. */
static inline __m512 add_signed(__m512 a, __m512 b) {
    const __m512 sign_b = _mm512_mask_blend_ps(0x3333, _mm512_set1_ps(1.0f), _mm512_set1_ps(-1.0f));
    return _mm512_fmadd_ps(b, sign_b, _mm512_mask_xor_ps(a, 0x5555, a, _mm512_set1_ps(-0.0f)));
}

static inline pair_sums sum_pairs(__m512 inputs) {
    enum { V0 = 0x00, V1 = 0x55, V2 = 0xaa, V3 = 0xff }; /* one of each four */
    return (pair_sums){add_signed(_mm512_permute_ps(inputs, V0), _mm512_permute_ps(inputs, V1)),
                       add_signed(_mm512_permute_ps(inputs, V2), _mm512_permute_ps(inputs, V3))};
}

static inline __m512 table_of(const pair_sums *sums, int group) {
    const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __m512i from = _mm512_set1_epi32(4 * group);
    const __m512i first = _mm512_or_si512(from, _mm512_and_si512(lane, _mm512_set1_epi32(3)));
    const __m512i second = _mm512_or_si512(from, _mm512_srli_epi32(lane, 2));
    return _mm512_add_ps(_mm512_permutexvar_ps(first, sums->first),
                         _mm512_permutexvar_ps(second, sums->second));
}

static void signsum_expand(const bc_signsum_expand_args *args) {
    enum { AHEAD = 2048 /* bytes, of what may come from memory */ };
    float *table = args->groups;
    for (size_t pixel = 0; pixel < args->pixels; pixel++) {
        const float *source = args->source + (ptrdiff_t)pixel * args->source_stride;
        size_t left = args->run;
        for (; left >= EXPANDED_GROUPS * GROUP;
             left -= EXPANDED_GROUPS * GROUP, source += EXPANDED_GROUPS * GROUP) {
            _mm_prefetch((const char *)((uintptr_t)source + AHEAD), _MM_HINT_T0);
            const pair_sums sums = sum_pairs(_mm512_loadu_ps(source));
            BC_UNROLL
            for (int group = 0; group < EXPANDED_GROUPS; group++, table += TABLE)
                _mm512_storeu_ps(table, table_of(&sums, group));
        }
        if (!left) continue;
        const pair_sums sums = sum_pairs(_mm512_maskz_loadu_ps((__mmask16)((1u << left) - 1), source));
        BC_UNROLL
        for (int group = 0; group < EXPANDED_GROUPS; group++, table += TABLE) {
            if ((size_t)group * GROUP >= left) break;
            _mm512_storeu_ps(table, table_of(&sums, group));
        }
    }
}

/* ---- Sums -----------------------------------------------------------------------------------------
 *
 * A cycle of Zen 5 has room for two permutes or shifts, two FMAs and two additions, for four of these together, and permutes
 * and additions meet on one pipe. So of three additions two are multiplied by 1 first, which changes no bit: 96 multiply-adds
 * a cycle, where it is 87 with all of them so and 75 with none. One pixel shifts as often as it permutes and has no room for
 * additions. The compiler must see neither, as it would make plain additions of all, and move sums to other registers and
 * back. */

#if defined(__GNUC__)
static inline __m512 add_fused(__m512 sum, __m512 x, __m512 one) {
    __asm__("vfmadd231ps %1, %2, %0" : "+v"(sum) : "v"(x), "v"(one));
    return sum;
}

static inline __m512 add_plain(__m512 sum, __m512 x) {
    __asm__("vaddps %1, %0, %0" : "+v"(sum) : "v"(x));
    return sum;
}
#else
static inline __m512 add_fused(__m512 sum, __m512 x, __m512 one) { return _mm512_fmadd_ps(x, one, sum); }
static inline __m512 add_plain(__m512 sum, __m512 x) { return _mm512_add_ps(x, sum); }
#endif

/* One group of 4 inputs; SHIFTED makes its bits the low ones of a vector of weight words. */
#define SIGNSUM_GROUP(PIXELS, BLOCKS, SHIFTED)                                                    \
    {                                                                                             \
        __m512 tables[PIXELS];                                                                    \
        BC_UNROLL                                                                                 \
        for (int p = 0; p < PIXELS; p++) tables[p] = _mm512_loadu_ps(table + p * stride);         \
        BC_UNROLL                                                                                 \
        for (int b = 0; b < BLOCKS; b++) {                                                        \
            const __m512i words = _mm512_loadu_si512(word + (size_t)b * block_words);             \
            const __m512i bits = SHIFTED;                                                         \
            BC_UNROLL                                                                             \
            for (int p = 0; p < PIXELS; p++) {                                                    \
                const __m512 x = _mm512_permutexvar_ps(bits, tables[p]);                          \
                const int is_plain = PIXELS > 1 && (b * PIXELS + p) % 3 == 1;                     \
                sums[p][b] = is_plain ? add_plain(sums[p][b], x) : add_fused(sums[p][b], x, one); \
            }                                                                                     \
        }                                                                                         \
        table += TABLE;                                                                           \
    }

/* Registers hold the sums, tables and words of at most 5 pixels and 4 blocks, and what is looked up. */
#define SIGNSUM_TILE(PIXELS, BLOCKS)                                                                   \
    static void signsum_##PIXELS##x##BLOCKS(const bc_signsum_args *args, const float *source,          \
                                            const uint32_t *word, float *out) {                        \
        const size_t block_words = args->block_stride_bytes / sizeof *word;                            \
        const ptrdiff_t stride = args->source_stride;                                                  \
        const __m512 one = _mm512_set1_ps(1.0f);                                                       \
        __m512 sums[PIXELS][BLOCKS];                                                                   \
        BC_UNROLL                                                                                      \
        for (int p = 0; p < PIXELS; p++) {                                                             \
            BC_UNROLL                                                                                  \
            for (int b = 0; b < BLOCKS; b++) sums[p][b] = _mm512_setzero_ps();                         \
        }                                                                                              \
        for (size_t row = 0; row < args->rows; row++) {                                                \
            const float *table = source + args->row_offset[row];                                       \
            size_t left = args->groups;                                                                \
            for (; left >= 8; left -= 8, word += SIGN_LANES) {                                         \
                BC_UNROLL                                                                              \
                for (int group = 0; group < 8; group++)                                                \
                    SIGNSUM_GROUP(PIXELS, BLOCKS, _mm512_srli_epi32(words, (unsigned)(GROUP * group))) \
            }                                                                                          \
            if (!left) continue;                                                                       \
            __m512i shift = _mm512_setzero_si512();                                                    \
            for (; left; left--) {                                                                     \
                SIGNSUM_GROUP(PIXELS, BLOCKS, _mm512_srlv_epi32(words, shift))                         \
                shift = _mm512_add_epi32(shift, _mm512_set1_epi32(GROUP));                             \
            }                                                                                          \
            word += SIGN_LANES;                                                                        \
        }                                                                                              \
        BC_UNROLL                                                                                      \
        for (int p = 0; p < PIXELS; p++) {                                                             \
            BC_UNROLL                                                                                  \
            for (int b = 0; b < BLOCKS; b++) {                                                         \
                float *at = out + (size_t)p * args->sums_stride + (size_t)b * SIGN_LANES;              \
                if (args->accumulate) sums[p][b] = _mm512_add_ps(_mm512_loadu_ps(at), sums[p][b]);     \
                _mm512_storeu_ps(at, sums[p][b]);                                                      \
            }                                                                                          \
        }                                                                                              \
    }

/* clang-format off */
#define FOR_TILES(DO)                                                                    \
    DO(1, 8)                                                                             \
    DO(1, 4) DO(2, 4) DO(3, 4) DO(4, 4) DO(5, 4)                                         \
    DO(1, 2) DO(2, 2) DO(3, 2) DO(4, 2) DO(5, 2)                                         \
    DO(1, 1) DO(2, 1) DO(3, 1) DO(4, 1) DO(5, 1) DO(6, 1) DO(7, 1) DO(8, 1)
/* clang-format on */

FOR_TILES(SIGNSUM_TILE)

enum { TILE_PIXELS_MOST = 8, TILE_BLOCKS_MOST = 8 };
typedef void signsum_tile(const bc_signsum_args *args, const float *source, const uint32_t *word, float *out);

/* The widest tile, or two of nearly the same width where less than another one would be left over. */
static inline size_t tile_pixels(size_t left, size_t most) {
    if (left <= most) return left;
    return left < 2 * most ? (left + 1) / 2 : most;
}

static void signsum(const bc_signsum_args *args) {
#define ENTRY(PIXELS, BLOCKS) [BLOCKS][PIXELS] = signsum_##PIXELS##x##BLOCKS,
    static signsum_tile *const tiles[TILE_BLOCKS_MOST + 1][TILE_PIXELS_MOST + 1] = {FOR_TILES(ENTRY)};
#undef ENTRY
    const size_t block_words = args->block_stride_bytes / sizeof(uint32_t);
    for (size_t block = 0, blocks; block < args->blocks; block += blocks) {
        const size_t left = args->blocks - block;
        blocks = left >= 8 && args->pixels == 1 ? 8 : left >= 4 ? 4 : left >= 2 ? 2 : 1;
        const size_t most = blocks == 8 ? 1 : blocks == 1 ? 8 : 5;
        for (size_t pixel = 0, pixels; pixel < args->pixels; pixel += pixels) {
            pixels = tile_pixels(args->pixels - pixel, most);
            tiles[blocks][pixels](args, args->source + (ptrdiff_t)pixel * args->source_stride,
                                  (const uint32_t *)args->weights + block * block_words,
                                  args->sums + pixel * args->sums_stride + block * SIGN_LANES);
        }
    }
}

#undef SIGNSUM_GROUP
#undef SIGNSUM_TILE
#undef FOR_TILES

#endif
