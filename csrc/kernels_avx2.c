/* AVX2 with F16C and POPCNT (Haswell, Zen and later).
 *
 * There is no vector popcount: vpshufb looks up the counts of 4 bits of 32 filters at once, for two pixels as the two
 * nibbles of a byte. For BINARY_WEIGHTS vpermps looks up eight signed sums at once.
 */
#include "kernels.h"

#if defined(__x86_64__) || defined(_M_X64)

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c,popcnt"))), apply_to = function)
#elif defined(__GNUC__)
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c,popcnt")
#endif

#include <immintrin.h>
#include <math.h>
#include <string.h>

#include "bits.h"

/* Without this, GCC 12 unrolls too late to keep the arrays of a tile in registers. */
#define UNROLL _Pragma("GCC unroll 8")

/* Ends an expression for the optimiser. Left alone, GCC 12 reassociates sums over many lookups into trees whose leaves do
 * not fit the registers, which costs a third of the speed. */
#if defined(__GNUC__)
#define KEEP_ORDER(x) __asm__("" : "+x"(x))
#else
#define KEEP_ORDER(x)
#endif

enum { FLOATS = 8 /* in a vector */ };

/* All bits set in the first `count` of 8 lanes. */
static inline __m256i first_lanes(size_t count) {
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)(count < FLOATS ? count : FLOATS)), lane);
}

/* ---- Reading the source --------------------------------------------------------------------------- */

static void widen_f16(const bc_widen_args *args) {
    const uint16_t *source = args->source;
    size_t i = 0;
    for (; i + FLOATS <= args->count; i += FLOATS)
        _mm256_storeu_ps(args->destination + i,
                         _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(source + i))));
    for (; i < args->count; i++) args->destination[i] = _cvtsh_ss(source[i]);
}

static void widen_u8(const bc_widen_args *args) {
    const uint8_t *source = args->source;
    const __m256 full = _mm256_set1_ps(255.0f);
    size_t i = 0;
    for (; i + FLOATS <= args->count; i += FLOATS) {
        const __m256i value = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(source + i)));
        _mm256_storeu_ps(args->destination + i, _mm256_div_ps(_mm256_cvtepi32_ps(value), full));
    }
    for (; i < args->count; i++) args->destination[i] = (float)source[i] / 255.0f;
}

/* v of up to 8 channels; absent lanes are 0. */
static inline __m256 load_terms(const float *source, const float *bias, const float *scale, size_t channel,
                                __m256i lanes) {
    const __m256 value = _mm256_maskload_ps(source + channel, lanes);
    if (!bias) return value;
    const __m256 sum = _mm256_add_ps(value, _mm256_maskload_ps(bias + channel, lanes));
    return _mm256_and_ps(_mm256_mul_ps(sum, _mm256_maskload_ps(scale + channel, lanes)),
                         _mm256_castsi256_ps(lanes));
}

/* Bit i: v[i] is not below zero; +0, -0 and NaN are not. */
static inline unsigned nonnegative_half(__m256 v) {
    return (unsigned)_mm256_movemask_ps(_mm256_cmp_ps(v, _mm256_setzero_ps(), _CMP_NLT_UQ));
}

static inline __m256 magnitude(__m256 v) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), v); }

static inline float add_lanes(__m256 v) {
    __m128 sum = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    sum = _mm_add_ps(sum, _mm_movehl_ps(sum, sum));
    return _mm_cvtss_f32(_mm_add_ss(sum, _mm_movehdup_ps(sum)));
}

/* One pixel in general: with terms or without, any number of channels. */
static inline void pack_pixel(const float *source, const float *bias, const float *scale, size_t channels,
                              uint64_t *words, float *abs_sum) {
    __m256 magnitudes = _mm256_setzero_ps();
    for (size_t c = 0; c < channels; c += 64) {
        uint64_t word = 0;
        for (size_t part = 0; part < 64 && c + part < channels; part += FLOATS) {
            const __m256i lanes = first_lanes(channels - c - part);
            const __m256 v = load_terms(source, bias, scale, c + part, lanes);
            word |= (uint64_t)nonnegative_half(v) << part;
            magnitudes = _mm256_add_ps(magnitudes, magnitude(v));
        }
        words[c / 64] = word & bc_low_bits(channels - c);
    }
    if (abs_sum) *abs_sum += add_lanes(magnitudes);
}

static void pack_f32(const bc_pack_args *args) {
    const size_t whole = args->bias || args->abs_sum ? 0 : args->channels / 64 * 64;
    for (size_t pixel = 0; pixel < args->pixels; pixel++) {
        const float *source = args->source + (ptrdiff_t)pixel * args->source_stride;
        uint64_t *words = args->words + (ptrdiff_t)pixel * args->words_stride;
        for (size_t c = 0; c < whole; c += 64) {
            uint64_t word = 0;
            UNROLL
            for (int part = 0; part < 64; part += FLOATS)
                word |= (uint64_t)nonnegative_half(_mm256_loadu_ps(source + c + part)) << part;
            words[c / 64] = word;
        }
        if (whole < args->channels)
            pack_pixel(source + whole, args->bias, args->scale, args->channels - whole, words + whole / 64,
                       args->abs_sum ? args->abs_sum + pixel : NULL);
    }
}

static void terms_f32(const bc_terms_args *args) {
    for (size_t pixel = 0; pixel < args->pixels; pixel++) {
        const float *source = args->source + (ptrdiff_t)pixel * args->source_stride;
        float *destination = args->destination + (ptrdiff_t)pixel * args->destination_stride;
        __m256 magnitudes = _mm256_setzero_ps();
        for (size_t c = 0; c < args->channels; c += FLOATS) {
            const __m256i lanes = first_lanes(args->channels - c);
            const __m256 v = load_terms(source, args->bias, args->scale, c, lanes);
            _mm256_maskstore_ps(destination + c, lanes, v);
            magnitudes = _mm256_add_ps(magnitudes, magnitude(v));
        }
        if (args->abs_sum) args->abs_sum[pixel] += add_lanes(magnitudes);
    }
}

/* ---- XNOR: 32 filters to a vector of bytes, each byte 4 weight bits, two pixels at once ------------- */

/* popcount(a ^ w) of two pixels' 4 bits a are two nibbles that depend on 8 source bits and 4 weight bits: row [4 bits of
 * pixel A, 4 bits of pixel B] of one constant table holds them for the 16 possible weights, and vpshufb looks them up for 32
 * filters. Counts of 3 lookups fit a nibble (at most 12). Bytes then sum A + 16 B modulo 256, and beside that the same shifted
 * right by 4, which tells the two apart, until B could overflow. */
enum {
    BLOCK_FILTERS = 32,
    GROUPS = 16,      /* of 4 bits in a word */
    GROUP_BYTES = 32, /* a byte for each filter of a block */
    WORDS_BEFORE_OVERFLOW = 3 /* of a byte: each adds up to 64 */,
    WORDS_IN_SHORT = 1023 /* before 16-bit sums could overflow */
};

#define COUNT4(x) (((x) & 1) + ((x) >> 1 & 1) + ((x) >> 2 & 1) + ((x) >> 3 & 1))
#define ENTRY(a, b, w) (COUNT4((a) ^ (w)) | COUNT4((b) ^ (w)) << 4)
#define ROW(a, b)                                                                                         \
    {ENTRY(a, b, 0),  ENTRY(a, b, 1),  ENTRY(a, b, 2),  ENTRY(a, b, 3), ENTRY(a, b, 4),  ENTRY(a, b, 5),  \
     ENTRY(a, b, 6),  ENTRY(a, b, 7),  ENTRY(a, b, 8),  ENTRY(a, b, 9), ENTRY(a, b, 10), ENTRY(a, b, 11), \
     ENTRY(a, b, 12), ENTRY(a, b, 13), ENTRY(a, b, 14), ENTRY(a, b, 15)}
#define ROWS(b)                                                                                        \
    ROW(0, b), ROW(1, b), ROW(2, b), ROW(3, b), ROW(4, b), ROW(5, b), ROW(6, b), ROW(7, b), ROW(8, b), \
        ROW(9, b), ROW(10, b), ROW(11, b), ROW(12, b), ROW(13, b), ROW(14, b), ROW(15, b)

static const uint8_t count_rows[256][16] = {
    ROWS(0), ROWS(1), ROWS(2),  ROWS(3),  ROWS(4),  ROWS(5),  ROWS(6),  ROWS(7),
    ROWS(8), ROWS(9), ROWS(10), ROWS(11), ROWS(12), ROWS(13), ROWS(14), ROWS(15),
};

/* Even groups are the low nibbles of a word's bytes and come first, odd groups the high ones. */
static void xorpop_weights(const bc_xorpop_weights_args *args) {
    const size_t words = (args->channels + 63) / 64, mps_words = (args->channels + 31) / 32;
    const size_t blocks = (args->filters + BLOCK_FILTERS - 1) / BLOCK_FILTERS;
    uint8_t *out = args->blocks;
    for (size_t block = 0; block < blocks; block++)
        for (size_t tap = 0; tap < args->taps; tap++)
            for (size_t word = 0; word < words; word++, out += GROUPS * GROUP_BYTES)
                for (size_t lane = 0; lane < BLOCK_FILTERS; lane++) {
                    const size_t filter = block * BLOCK_FILTERS + lane;
                    const uint32_t *tap_words = args->weights + (filter * args->taps + tap) * mps_words;
                    const uint64_t bits =
                        filter < args->filters ? bc_filter_word(tap_words, word, args->channels) : 0;
                    for (size_t i = 0; i < 8; i++) {
                        out[i * GROUP_BYTES + lane] = (uint8_t)(bits >> 8 * i & 15);
                        out[(i + 8) * GROUP_BYTES + lane] = (uint8_t)(bits >> (8 * i + 4) & 15);
                    }
                }
}

/* The table rows of a word's 16 groups for a pair of pixels. */
static inline void find_rows(uint64_t a, uint64_t b, uint8_t *rows) {
    const uint64_t nibbles = UINT64_C(0x0f0f0f0f0f0f0f0f);
    const uint64_t even = (a & nibbles) | (b & nibbles) << 4, odd = (a >> 4 & nibbles) | (b & ~nibbles);
    memcpy(rows, &even, sizeof even);
    memcpy(rows + 8, &odd, sizeof odd);
}

static inline __m256i look_up(const uint8_t *rows, const uint8_t *weights, int group) {
    const __m256i counts =
        _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)count_rows[rows[group]]));
    return _mm256_shuffle_epi8(counts, _mm256_loadu_si256((const __m256i *)(weights + group * GROUP_BYTES)));
}

/* Adds 32 bytes to 32 16-bit sums, which lie as vpunpck leaves them: filters 0-7 and 16-23, then the others. */
static inline void add_bytes(__m256i bytes, __m256i *shorts) {
    const __m256i zero = _mm256_setzero_si256();
    shorts[0] = _mm256_add_epi16(shorts[0], _mm256_unpacklo_epi8(bytes, zero));
    shorts[1] = _mm256_add_epi16(shorts[1], _mm256_unpackhi_epi8(bytes, zero));
}

/* Tells a pair's sums apart, all modulo 256. Every byte of `both` is A + 16 B. `second` is the sum of the same bytes shifted
 * right by 4 within 16-bit lanes: B in odd bytes, and in even ones B + 16 times the A of the odd byte above. */
static inline void add_pair(__m256i both, __m256i second, __m256i *a_shorts, __m256i *b_shorts) {
    const __m256i odd_b = _mm256_and_si256(second, _mm256_set1_epi16(0x0f00));
    const __m256i odd_a = _mm256_sub_epi8(both, _mm256_slli_epi16(odd_b, 4)); /* even bytes still A + 16 B */
    const __m256i spill = _mm256_and_si256(_mm256_srli_epi16(odd_a, 4), _mm256_set1_epi16(0x00f0));
    const __m256i b = _mm256_sub_epi8(second, spill);
    const __m256i even_b = _mm256_and_si256(b, _mm256_set1_epi16(0x000f));
    add_bytes(_mm256_sub_epi8(odd_a, _mm256_slli_epi16(even_b, 4)), a_shorts);
    add_bytes(b, b_shorts);
}

static inline void store_counts(const __m256i *shorts, int32_t *counts, int accumulate) {
    const __m128i parts[4] = {_mm256_castsi256_si128(shorts[0]), _mm256_castsi256_si128(shorts[1]),
                              _mm256_extracti128_si256(shorts[0], 1), _mm256_extracti128_si256(shorts[1], 1)};
    for (int i = 0; i < 4; i++) {
        __m256i *at = (__m256i *)(counts + 8 * i);
        const __m256i sums = _mm256_cvtepu16_epi32(parts[i]);
        _mm256_storeu_si256(at, accumulate ? _mm256_add_epi32(_mm256_loadu_si256(at), sums) : sums);
    }
}

/* Part of a window: words [begin, end) of its taps, counted through. */
typedef struct word_range {
    size_t begin, end;
} word_range;

/* PAIRS pairs of pixels against VECTORS x 32 filters; pixel[2 i] and pixel[2 i + 1] are a pair's first words. */
#define XORPOP_TILE(NAME, PAIRS, VECTORS)                                                                    \
    static inline void NAME(const bc_xorpop_args *args, const uint64_t *const *pixel,                        \
                            const uint8_t *weights, word_range range, __m256i(*shorts)[2]) {                 \
        const size_t block_bytes = args->taps * args->words * GROUPS * GROUP_BYTES;                          \
        const __m256i zero = _mm256_setzero_si256();                                                         \
        __m256i both[PAIRS][VECTORS], second[PAIRS][VECTORS];                                                \
        UNROLL                                                                                               \
        for (int p = 0; p < PAIRS; p++) {                                                                    \
            UNROLL                                                                                           \
            for (int v = 0; v < VECTORS; v++) both[p][v] = second[p][v] = zero;                              \
        }                                                                                                    \
        size_t room = WORDS_BEFORE_OVERFLOW, tap = range.begin / args->words, k = range.begin % args->words; \
        for (size_t i = range.begin; i < range.end; i++, weights += GROUPS * GROUP_BYTES) {                  \
            const ptrdiff_t at = args->tap_offset[tap] + (ptrdiff_t)k;                                       \
            uint8_t rows[PAIRS][GROUPS];                                                                     \
            UNROLL                                                                                           \
            for (int p = 0; p < PAIRS; p++) find_rows(pixel[2 * p][at], pixel[2 * p + 1][at], rows[p]);      \
            UNROLL                                                                                           \
            for (int group = 0; group < GROUPS; group += 3) {                                                \
                UNROLL                                                                                       \
                for (int p = 0; p < PAIRS; p++) {                                                            \
                    UNROLL                                                                                   \
                    for (int v = 0; v < VECTORS; v++) {                                                      \
                        const uint8_t *block = weights + (size_t)v * block_bytes;                            \
                        __m256i counts = look_up(rows[p], block, group);                                     \
                        if (group + 2 < GROUPS) {                                                            \
                            counts = _mm256_add_epi8(counts, look_up(rows[p], block, group + 1));            \
                            counts = _mm256_add_epi8(counts, look_up(rows[p], block, group + 2));            \
                        }                                                                                    \
                        both[p][v] = _mm256_add_epi8(both[p][v], counts);                                    \
                        second[p][v] = _mm256_add_epi8(second[p][v], _mm256_srli_epi16(counts, 4));          \
                        KEEP_ORDER(both[p][v]);                                                              \
                        KEEP_ORDER(second[p][v]);                                                            \
                    }                                                                                        \
                }                                                                                            \
            }                                                                                                \
            if (++k == args->words) {                                                                        \
                k = 0;                                                                                       \
                tap++;                                                                                       \
            }                                                                                                \
            if (--room && i + 1 < range.end) continue;                                                       \
            room = WORDS_BEFORE_OVERFLOW;                                                                    \
            UNROLL                                                                                           \
            for (int p = 0; p < PAIRS; p++) {                                                                \
                UNROLL                                                                                       \
                for (int v = 0; v < VECTORS; v++) {                                                          \
                    add_pair(both[p][v], second[p][v], shorts[2 * p * VECTORS + v],                          \
                             shorts[(2 * p + 1) * VECTORS + v]);                                             \
                    both[p][v] = second[p][v] = zero;                                                        \
                }                                                                                            \
            }                                                                                                \
        }                                                                                                    \
    }

enum { TILE_PAIRS = 2, TILE_VECTORS = 2 };
XORPOP_TILE(xorpop_2x2, TILE_PAIRS, TILE_VECTORS)
XORPOP_TILE(xorpop_2x1, TILE_PAIRS, 1)
XORPOP_TILE(xorpop_1x2, 1, TILE_VECTORS)
XORPOP_TILE(xorpop_1x1, 1, 1)

static void xorpop(const bc_xorpop_args *args) {
    const size_t window_words = args->taps * args->words, word_bytes = GROUPS * GROUP_BYTES;
    if (window_words == 0) {
        for (size_t pixel = 0; pixel < args->pixels; pixel++)
            memset(args->counts + pixel * args->counts_stride, 0,
                   args->blocks * BLOCK_FILTERS * sizeof *args->counts);
        return;
    }
    for (size_t block = 0, vectors; block < args->blocks; block += vectors) {
        vectors = args->blocks - block >= TILE_VECTORS ? TILE_VECTORS : 1;
        for (size_t done = 0, pixels; done < args->pixels; done += pixels) {
            const size_t left = args->pixels - done;
            pixels = left < 2 * TILE_PAIRS ? left : 2 * TILE_PAIRS;
            const uint64_t *pixel[2 * TILE_PAIRS]; /* an odd last one pairs with itself */
            for (size_t p = 0; p < 2 * TILE_PAIRS; p++)
                pixel[p] =
                    args->source + (ptrdiff_t)(done + (p < pixels ? p : pixels - 1)) * args->source_stride;
            for (word_range range = {0, 0}; range.end < window_words; range.begin = range.end) {
                const size_t rest = window_words - range.begin;
                range.end += rest < WORDS_IN_SHORT ? rest : WORDS_IN_SHORT;
                const uint8_t *weights =
                    (const uint8_t *)args->weights + (block * window_words + range.begin) * word_bytes;
                __m256i shorts[2 * TILE_PAIRS * TILE_VECTORS][2];
                for (size_t i = 0; i < 2 * TILE_PAIRS * TILE_VECTORS; i++)
                    shorts[i][0] = shorts[i][1] = _mm256_setzero_si256();
                if (pixels > 2)
                    (vectors == 2 ? xorpop_2x2 : xorpop_2x1)(args, pixel, weights, range, shorts);
                else
                    (vectors == 2 ? xorpop_1x2 : xorpop_1x1)(args, pixel, weights, range, shorts);
                for (size_t p = 0; p < pixels; p++)
                    for (size_t v = 0; v < vectors; v++)
                        store_counts(shorts[p * vectors + v],
                                     args->counts + (done + p) * args->counts_stride +
                                         (block + v) * BLOCK_FILTERS,
                                     range.begin > 0);
            }
        }
    }
}

static void window_popcount(const bc_window_popcount_args *args) {
    for (size_t pixel = 0; pixel < args->pixels; pixel++) {
        const uint64_t *source = args->source + (ptrdiff_t)pixel * args->source_stride;
        uint64_t count = 0;
        for (size_t tap = 0; tap < args->taps; tap++)
            for (size_t k = 0; k < args->words; k++)
                count += (uint64_t)_mm_popcnt_u64(source[args->tap_offset[tap] + (ptrdiff_t)k]);
        args->counts[pixel] = (int32_t)count;
    }
}

/* ---- BINARY_WEIGHTS: the 8 signed sums of 4 inputs of which the last is counted as positive fill one vector; 3
 * weight bits pick a sum and the fourth its sign --------------------------------------------------------- */

enum { SIGN_LANES = 16, GROUP = 4 /* inputs */, TABLE = 8 /* floats */ };

/* The shared layout, but with the low 3 bits of each nibble flipped where its highest bit is 0, so that they are
 * signs relative to the last input's. */
static void signsum_weights(const bc_signsum_weights_args *args) {
    bc_kernels_scalar.signsum_weights(args);
    const size_t blocks = (args->filters + SIGN_LANES - 1) / SIGN_LANES;
    const size_t words = (args->width * args->channels + 31) / 32;
    uint32_t *word = args->blocks;
    for (size_t i = 0; i < blocks * args->rows * words * SIGN_LANES; i++) {
        const uint32_t negative = ~word[i] >> 3 & 0x11111111;
        word[i] ^= negative * 7;
    }
}

/* +1 or -1 for each of 8 table entries, by one bit of the entry's number. */
static inline __m256 entry_signs(int bit) {
    const __m256i entry = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    const __m256i set = _mm256_and_si256(_mm256_srli_epi32(entry, bit), _mm256_set1_epi32(1));
    return _mm256_cvtepi32_ps(_mm256_sub_epi32(_mm256_add_epi32(set, set), _mm256_set1_epi32(1)));
}

static void signsum_expand(const bc_signsum_expand_args *args) {
    const __m256 signs[3] = {entry_signs(0), entry_signs(1), entry_signs(2)};
    float *table = args->groups;
    for (size_t pixel = 0; pixel < args->pixels; pixel++) {
        const float *source = args->source + (ptrdiff_t)pixel * args->source_stride;
        for (size_t left = args->run; left; source += GROUP, table += TABLE) {
            const size_t present = left < GROUP ? left : GROUP;
            float v[GROUP] = {0};
            memcpy(v, source, present * sizeof *v);
            __m256 sums = _mm256_set1_ps(v[3]);
            UNROLL
            for (int i = 0; i < 3; i++) sums = _mm256_fmadd_ps(_mm256_set1_ps(v[i]), signs[i], sums);
            _mm256_storeu_ps(table, sums);
            left -= present;
        }
    }
}

/* 1.0, without telling the compiler: it would make a plain addition of a fused multiplication by 1, and additions share
 * their pipes with shuffles on Zen 5. */
static inline __m256 opaque_one(void) {
    __m256 one = _mm256_set1_ps(1.0f);
    KEEP_ORDER(one);
    return one;
}

/* One group of 4 inputs of PIXELS against VECTORS x 8 filters: the sum picked by bits 0 to 2 of a nibble, negated where bit 3
 * is 0. */
#define SIGNSUM_GROUP(PIXELS, VECTORS, SHIFTED, SIGN_UP)                                                  \
    {                                                                                                     \
        __m256 tables[PIXELS];                                                                            \
        UNROLL                                                                                            \
        for (int p = 0; p < PIXELS; p++) tables[p] = _mm256_loadu_ps(table + p * stride);                 \
        UNROLL                                                                                            \
        for (int v = 0; v < VECTORS; v++) {                                                               \
            const uint32_t *lanes = word + (size_t)(v / 2) * block_words + v % 2 * FLOATS;                \
            const __m256i words = _mm256_loadu_si256((const __m256i *)lanes);                             \
            const __m256i bits = SHIFTED;                                                                 \
            const __m256 negative = _mm256_castsi256_ps(_mm256_andnot_si256(SIGN_UP, sign_bit));          \
            UNROLL                                                                                        \
            for (int p = 0; p < PIXELS; p++)                                                              \
                sums[p][v] = _mm256_fmadd_ps(                                                             \
                    _mm256_xor_ps(_mm256_permutevar8x32_ps(tables[p], bits), negative), one, sums[p][v]); \
        }                                                                                                 \
        table += TABLE;                                                                                   \
    }

#define SIGNSUM_TILE(NAME, PIXELS, VECTORS)                                                         \
    static inline void NAME(const bc_signsum_args *args, const float *source, const uint32_t *word, \
                            float *out) {                                                           \
        const size_t block_words = args->block_stride_bytes / sizeof *word;                         \
        const ptrdiff_t stride = args->source_stride;                                               \
        const __m256i sign_bit = _mm256_set1_epi32(INT32_MIN);                                      \
        const __m256 one = opaque_one();                                                            \
        __m256 sums[PIXELS][VECTORS];                                                               \
        UNROLL                                                                                      \
        for (int p = 0; p < PIXELS; p++) {                                                          \
            UNROLL                                                                                  \
            for (int v = 0; v < VECTORS; v++) sums[p][v] = _mm256_setzero_ps();                     \
        }                                                                                           \
        for (size_t row = 0; row < args->rows; row++) {                                             \
            const float *table = source + args->row_offset[row];                                    \
            size_t left = args->groups;                                                             \
            for (; left >= 8; left -= 8, word += SIGN_LANES) {                                      \
                UNROLL                                                                              \
                for (int group = 0; group < 8; group++)                                             \
                    SIGNSUM_GROUP(PIXELS, VECTORS, _mm256_srli_epi32(words, GROUP *group),          \
                                  _mm256_slli_epi32(words, 28 - GROUP * group))                     \
            }                                                                                       \
            if (!left) continue;                                                                    \
            for (int shift = 0; left; left--, shift += GROUP)                                       \
                SIGNSUM_GROUP(PIXELS, VECTORS, _mm256_srl_epi32(words, _mm_cvtsi32_si128(shift)),   \
                              _mm256_sll_epi32(words, _mm_cvtsi32_si128(28 - shift)))               \
            word += SIGN_LANES;                                                                     \
        }                                                                                           \
        UNROLL                                                                                      \
        for (int p = 0; p < PIXELS; p++) {                                                          \
            UNROLL                                                                                  \
            for (int v = 0; v < VECTORS; v++) {                                                     \
                float *at = out + (size_t)p * args->sums_stride + (size_t)v * FLOATS;               \
                if (args->accumulate) sums[p][v] = _mm256_add_ps(_mm256_loadu_ps(at), sums[p][v]);  \
                _mm256_storeu_ps(at, sums[p][v]);                                                   \
            }                                                                                       \
        }                                                                                           \
    }

SIGNSUM_TILE(signsum_4x2, 4, 2)
SIGNSUM_TILE(signsum_2x2, 2, 2)
SIGNSUM_TILE(signsum_1x2, 1, 2)

static void signsum(const bc_signsum_args *args) {
    const size_t block_words = args->block_stride_bytes / sizeof(uint32_t);
    for (size_t block = 0; block < args->blocks; block++) {
        const uint32_t *words = (const uint32_t *)args->weights + block * block_words;
        const float *source = args->source;
        float *sums = args->sums + block * SIGN_LANES;
        for (size_t left = args->pixels, pixels; left; left -= pixels) {
            pixels = left >= 4 ? 4 : left >= 2 ? 2 : 1;
            (pixels == 4 ? signsum_4x2 : pixels == 2 ? signsum_2x2 : signsum_1x2)(args, source, words, sums);
            source += (ptrdiff_t)pixels * args->source_stride;
            sums += pixels * args->sums_stride;
        }
    }
}

/* ---- Epilogue ------------------------------------------------------------------------------------- */

enum { LANES = 16 };

typedef struct floats {
    __m256 low, high;
} floats;

typedef struct ints {
    __m256i low, high;
} ints;

static inline floats load_floats(const float *values) {
    return (floats){_mm256_loadu_ps(values), _mm256_loadu_ps(values + FLOATS)};
}

static inline void store_floats(float *values, floats x) {
    _mm256_storeu_ps(values, x.low);
    _mm256_storeu_ps(values + FLOATS, x.high);
}

static inline ints load_ints(const int32_t *values) {
    return (ints){_mm256_loadu_si256((const __m256i *)values),
                  _mm256_loadu_si256((const __m256i *)(values + FLOATS))};
}

static inline floats spread(float value) { return (floats){_mm256_set1_ps(value), _mm256_set1_ps(value)}; }

static inline floats add(floats x, floats y) {
    return (floats){_mm256_add_ps(x.low, y.low), _mm256_add_ps(x.high, y.high)};
}

static inline floats multiply(floats x, floats y) {
    return (floats){_mm256_mul_ps(x.low, y.low), _mm256_mul_ps(x.high, y.high)};
}

static inline ints plus(ints x, int32_t y) {
    const __m256i all = _mm256_set1_epi32(y);
    return (ints){_mm256_add_epi32(x.low, all), _mm256_add_epi32(x.high, all)};
}

static inline __m256 sloped_half(__m256 x, __m256 slope) {
    const __m256 kept = _mm256_cmp_ps(x, _mm256_setzero_ps(), _CMP_GE_OQ);
    return _mm256_blendv_ps(_mm256_mul_ps(slope, x), x, kept);
}

static inline floats sloped(floats x, floats slope) {
    return (floats){sloped_half(x.low, slope.low), sloped_half(x.high, slope.high)};
}

static inline __m256i sums_of_half(__m256i base, __m256i count, __m128i count_shift, __m128i sum_shift) {
    return _mm256_sra_epi32(_mm256_sub_epi32(base, _mm256_sll_epi32(count, count_shift)), sum_shift);
}

static inline ints sums_of(ints base, ints count, unsigned count_shift, unsigned sum_shift) {
    const __m128i left = _mm_cvtsi32_si128((int)count_shift), right = _mm_cvtsi32_si128((int)sum_shift);
    return (ints){sums_of_half(base.low, count.low, left, right),
                  sums_of_half(base.high, count.high, left, right)};
}

static inline floats to_floats(ints sum) {
    return (floats){_mm256_cvtepi32_ps(sum.low), _mm256_cvtepi32_ps(sum.high)};
}

/* Bit i: lane i of x ^ flip is below its threshold. */
static inline unsigned below_half(__m256i x, __m256i flip, __m256i threshold) {
    const __m256i below = _mm256_cmpgt_epi32(threshold, _mm256_xor_si256(x, flip));
    return (unsigned)_mm256_movemask_ps(_mm256_castsi256_ps(below));
}

static inline uint64_t at_least(ints x, ints flip, ints threshold) {
    return 0xffff ^ (below_half(x.low, flip.low, threshold.low) |
                     below_half(x.high, flip.high, threshold.high) << FLOATS);
}

static inline void narrow(floats x, uint16_t *halves) {
    _mm_storeu_si128((__m128i *)halves, _mm256_cvtps_ph(x.low, _MM_FROUND_TO_NEAREST_INT));
    _mm_storeu_si128((__m128i *)(halves + FLOATS), _mm256_cvtps_ph(x.high, _MM_FROUND_TO_NEAREST_INT));
}

static inline uint64_t nonnegative(floats x) {
    return nonnegative_half(x.low) | (uint64_t)nonnegative_half(x.high) << FLOATS;
}

#include "epilogue_template.h"

/* ---- Bits to values ------------------------------------------------------------------------------- */

static void unpack_i8(const bc_unpack_args *args) {
    /* Each byte of a vector gets the byte of the word that holds its bit, then tests its bit. */
    const __m256i spread = _mm256_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, //
                                            2, 2, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3);
    const __m256i bit = _mm256_set1_epi64x((long long)UINT64_C(0x8040201008040201));
    const size_t words = (args->channels + 63) / 64;
    for (size_t pixel = 0; pixel < args->pixels; pixel++) {
        int8_t *values = args->values + pixel * args->channels;
        for (size_t c = 0; c < args->channels; c += 32) {
            const uint64_t word = args->words[pixel * words + c / 64] >> c % 64;
            const __m256i bytes = _mm256_shuffle_epi8(_mm256_set1_epi32((int)(uint32_t)word), spread);
            const __m256i set = _mm256_cmpeq_epi8(_mm256_and_si256(bytes, bit), bit);
            /* 0xff where set: -2 * 0xff - 1 is +1, and -2 * 0 - 1 is -1. */
            const __m256i value = _mm256_sub_epi8(_mm256_set1_epi8(-1), _mm256_add_epi8(set, set));
            int8_t lanes[32];
            const size_t left = args->channels - c;
            if (left >= 32) {
                _mm256_storeu_si256((__m256i *)(values + c), value);
            } else {
                _mm256_storeu_si256((__m256i *)lanes, value);
                memcpy(values + c, lanes, left);
            }
        }
    }
}

const bc_kernels bc_kernels_avx2 = {
    .widen_f16 = widen_f16,
    .widen_u8 = widen_u8,
    .pack_f32 = pack_f32,
    .terms_f32 = terms_f32,
    .xorpop_block_filters = BLOCK_FILTERS,
    .xorpop_block_word_bytes = GROUPS * GROUP_BYTES,
    .xorpop_weights = xorpop_weights,
    .xorpop = xorpop,
    .window_popcount = window_popcount,
    .signsum_block_filters = SIGN_LANES,
    .signsum_block_word_bytes = SIGN_LANES * sizeof(uint32_t),
    .signsum_weights = signsum_weights,
    .signsum_group_floats = TABLE,
    .signsum_expand = signsum_expand,
    .signsum = signsum,
    .epilogue = epilogue,
    .unpack_i8 = unpack_i8,
};

#if defined(__clang__)
#pragma clang attribute pop
#elif defined(__GNUC__)
#pragma GCC pop_options
#endif

#endif
