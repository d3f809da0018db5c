/* AVX-512 with VPOPCNTDQ and BITALG (Ice Lake, Zen 4 and later).
 *
 * Leans on vpopcntq, vpxorq and vpaddq: together 3 operations for a word of 8 filters, of which Zen 5 does 4 a cycle and
 * Intel's cores with two vector ports 2; and for BINARY_WEIGHTS on vpermps, which looks sixteen sums up at once.
 */
#include "kernels.h"

#if defined(__x86_64__) || defined(_M_X64)

#if defined(__clang__)
#pragma clang attribute push(                                                                             \
    __attribute__((                                                                                       \
        target("avx2,fma,f16c,popcnt,avx512f,avx512bw,avx512dq,avx512vl,avx512vpopcntdq,avx512bitalg"))), \
    apply_to = function)
#elif defined(__GNUC__)
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c,popcnt,avx512f,avx512bw,avx512dq,avx512vl,avx512vpopcntdq,avx512bitalg")
#pragma GCC target("prefer-vector-width=512")
#endif

#include <immintrin.h>
#include <math.h>
#include <string.h>

#include "bits.h"

static inline __mmask16 first_lanes(size_t count) { return (__mmask16)((1u << count) - 1); }

/* ---- Reading the source --------------------------------------------------------------------------- */

static void widen_f16(const bc_widen_args *args) {
    const uint16_t *source = args->source;
    size_t i = 0;
    for (; i + 16 <= args->count; i += 16)
        _mm512_storeu_ps(args->destination + i,
                         _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(source + i))));
    if (i < args->count) {
        const __mmask16 lanes = first_lanes(args->count - i);
        _mm512_mask_storeu_ps(args->destination + i, lanes,
                              _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(lanes, source + i)));
    }
}

static void widen_u8(const bc_widen_args *args) {
    const uint8_t *source = args->source;
    const __m512 full = _mm512_set1_ps(255.0f);
    for (size_t i = 0; i < args->count; i += 16) {
        const size_t left = args->count - i;
        const __mmask16 lanes = left < 16 ? first_lanes(left) : 0xffff;
        const __m512 value =
            _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(lanes, source + i)));
        _mm512_mask_storeu_ps(args->destination + i, lanes, _mm512_div_ps(value, full));
    }
}

/* v of up to 16 channels; absent lanes are 0. */
static inline __m512 load_terms(const float *source, const float *bias, const float *scale, size_t channel,
                                __mmask16 lanes) {
    const __m512 value = _mm512_maskz_loadu_ps(lanes, source + channel);
    if (!bias) return value;
    const __m512 sum = _mm512_add_ps(value, _mm512_maskz_loadu_ps(lanes, bias + channel));
    return _mm512_maskz_mul_ps(lanes, sum, _mm512_maskz_loadu_ps(lanes, scale + channel));
}

/* Not below zero: +0, -0 and NaN too. */
static inline uint64_t nonnegative(__m512 v) {
    return _mm512_cmp_ps_mask(v, _mm512_setzero_ps(), _CMP_NLT_UQ);
}

/* One pixel in general: with terms or without, any number of channels. */
static inline void pack_pixel(const float *source, const float *bias, const float *scale, size_t channels,
                              uint64_t *words, float *abs_sum) {
    __m512 magnitudes = _mm512_setzero_ps();
    for (size_t c = 0; c < channels; c += 64) {
        uint64_t word = 0;
        for (size_t part = 0; part < 64 && c + part < channels; part += 16) {
            const size_t left = channels - c - part;
            const __mmask16 lanes = left < 16 ? first_lanes(left) : 0xffff;
            const __m512 v = load_terms(source, bias, scale, c + part, lanes);
            word |= (nonnegative(v) & lanes) << part;
            if (abs_sum) magnitudes = _mm512_add_ps(magnitudes, _mm512_abs_ps(v));
        }
        words[c / 64] = word;
    }
    if (abs_sum) *abs_sum += _mm512_reduce_add_ps(magnitudes);
}

static void pack_f32(const bc_pack_args *args) {
    const size_t whole = args->channels / 64 * 64;
    for (size_t pixel = 0; pixel < args->pixels; pixel++) {
        const float *source = args->source + (ptrdiff_t)pixel * args->source_stride;
        uint64_t *words = args->words + (ptrdiff_t)pixel * args->words_stride;
        if (args->bias || args->abs_sum) {
            pack_pixel(source, args->bias, args->scale, args->channels, words,
                       args->abs_sum ? args->abs_sum + pixel : NULL);
            continue;
        }
        for (size_t c = 0; c < whole; c += 64) {
            const uint64_t a = nonnegative(_mm512_loadu_ps(source + c));
            const uint64_t b = nonnegative(_mm512_loadu_ps(source + c + 16));
            const uint64_t d = nonnegative(_mm512_loadu_ps(source + c + 32));
            const uint64_t e = nonnegative(_mm512_loadu_ps(source + c + 48));
            words[c / 64] = a | b << 16 | d << 32 | e << 48;
        }
        if (whole < args->channels)
            pack_pixel(source + whole, NULL, NULL, args->channels - whole, words + whole / 64, NULL);
    }
}

static void terms_f32(const bc_terms_args *args) {
    for (size_t pixel = 0; pixel < args->pixels; pixel++) {
        const float *source = args->source + (ptrdiff_t)pixel * args->source_stride;
        float *destination = args->destination + (ptrdiff_t)pixel * args->destination_stride;
        __m512 magnitudes = _mm512_setzero_ps();
        for (size_t c = 0; c < args->channels; c += 16) {
            const size_t left = args->channels - c;
            const __mmask16 lanes = left < 16 ? first_lanes(left) : 0xffff;
            const __m512 v = load_terms(source, args->bias, args->scale, c, lanes);
            _mm512_mask_storeu_ps(destination + c, lanes, v);
            magnitudes = _mm512_add_ps(magnitudes, _mm512_abs_ps(v));
        }
        if (args->abs_sum) args->abs_sum[pixel] += _mm512_reduce_add_ps(magnitudes);
    }
}

/* ---- XNOR: 8 filters to a vector, one word of a pixel broadcast against the same word of each ------- */

enum { BLOCK_FILTERS = 8 };

/* The portable layout, where AVX2 brings its own. */
static void xorpop_weights(const bc_xorpop_weights_args *args) { bc_kernels_scalar.xorpop_weights(args); }

/* Without this, GCC 12 unrolls too late to keep the arrays of a tile in registers from the start: it clears them on the
 * stack first, which costs up to a fifth of a short tile. */
#define UNROLL _Pragma("GCC unroll 8")

/* The low halves of 16 sums: half the instructions of narrowing each vector by itself. */
static inline __m512i low_halves(__m512i first, __m512i second) {
    const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    return _mm512_permutex2var_epi32(first, even, second);
}

/* PIXELS x BLOCKS accumulators stay in registers; both must be literals, or the arrays spill. */
#define XORPOP_TILE(NAME, PIXELS, BLOCKS)                                                                 \
    static inline void NAME(const bc_xorpop_args *args, const uint64_t *source, const uint64_t *weights,  \
                            int32_t *counts) {                                                            \
        const size_t block_words = args->taps * args->words * BLOCK_FILTERS;                              \
        const ptrdiff_t stride = args->source_stride;                                                     \
        __m512i sums[PIXELS][BLOCKS];                                                                     \
        UNROLL                                                                                            \
        for (int p = 0; p < PIXELS; p++) {                                                                \
            UNROLL                                                                                        \
            for (int b = 0; b < BLOCKS; b++) sums[p][b] = _mm512_setzero_si512();                         \
        }                                                                                                 \
        for (size_t tap = 0; tap < args->taps; tap++) {                                                   \
            const uint64_t *pixel = source + args->tap_offset[tap];                                       \
            for (size_t k = 0; k < args->words; k++, pixel++, weights += BLOCK_FILTERS) {                 \
                __m512i filters[BLOCKS];                                                                  \
                UNROLL                                                                                    \
                for (int b = 0; b < BLOCKS; b++)                                                          \
                    filters[b] = _mm512_loadu_si512(weights + (size_t)b * block_words);                   \
                UNROLL                                                                                    \
                for (int p = 0; p < PIXELS; p++) {                                                        \
                    const __m512i word = _mm512_set1_epi64((long long)pixel[p * stride]);                 \
                    UNROLL                                                                                \
                    for (int b = 0; b < BLOCKS; b++)                                                      \
                        sums[p][b] = _mm512_add_epi64(                                                    \
                            sums[p][b], _mm512_popcnt_epi64(_mm512_xor_si512(filters[b], word)));         \
                }                                                                                         \
            }                                                                                             \
        }                                                                                                 \
        UNROLL                                                                                            \
        for (int p = 0; p < PIXELS; p++) {                                                                \
            UNROLL                                                                                        \
            for (int b = 0; b < BLOCKS; b += 2) {                                                         \
                int32_t *at = counts + (size_t)p * args->counts_stride + (size_t)b * BLOCK_FILTERS;       \
                if (b + 1 < BLOCKS)                                                                       \
                    _mm512_storeu_si512(at, low_halves(sums[p][b], sums[p][b + 1 < BLOCKS ? b + 1 : b])); \
                else                                                                                      \
                    _mm256_storeu_si256((__m256i *)at, _mm512_cvtepi64_epi32(sums[p][b]));                \
            }                                                                                             \
        }                                                                                                 \
    }

XORPOP_TILE(xorpop_7x4, 7, 4)
XORPOP_TILE(xorpop_4x4, 4, 4)
XORPOP_TILE(xorpop_2x4, 2, 4)
XORPOP_TILE(xorpop_1x4, 1, 4)
XORPOP_TILE(xorpop_7x1, 7, 1)
XORPOP_TILE(xorpop_1x1, 1, 1)

typedef struct xorpop_tile {
    size_t pixels;
    void (*sum)(const bc_xorpop_args *args, const uint64_t *source, const uint64_t *weights, int32_t *counts);
} xorpop_tile;

static void xorpop(const bc_xorpop_args *args) {
    static const xorpop_tile by_four[] = {{7, xorpop_7x4}, {4, xorpop_4x4}, {2, xorpop_2x4}, {1, xorpop_1x4}};
    static const xorpop_tile by_one[] = {{7, xorpop_7x1}, {1, xorpop_1x1}};
    const size_t block_words = args->taps * args->words * BLOCK_FILTERS;
    for (size_t block = 0, blocks; block < args->blocks; block += blocks) {
        blocks = args->blocks - block >= 4 ? 4 : 1;
        const xorpop_tile *tile = blocks == 4 ? by_four : by_one;
        const uint64_t *weights = (const uint64_t *)args->weights + block * block_words;
        for (size_t pixel = 0; pixel < args->pixels; pixel += tile->pixels) {
            while (tile->pixels > args->pixels - pixel) tile++;
            tile->sum(args, args->source + (ptrdiff_t)pixel * args->source_stride, weights,
                      args->counts + pixel * args->counts_stride + block * BLOCK_FILTERS);
        }
    }
}

static void window_popcount(const bc_window_popcount_args *args) {
    for (size_t pixel = 0; pixel < args->pixels; pixel++) {
        const uint64_t *source = args->source + (ptrdiff_t)pixel * args->source_stride;
        __m512i sum = _mm512_setzero_si512();
        for (size_t tap = 0; tap < args->taps; tap++) {
            const uint64_t *words = source + args->tap_offset[tap];
            for (size_t k = 0; k < args->words; k += 8) {
                const size_t left = args->words - k;
                const __mmask8 lanes = left < 8 ? (__mmask8)first_lanes(left) : 0xff;
                sum = _mm512_add_epi64(sum, _mm512_popcnt_epi64(_mm512_maskz_loadu_epi64(lanes, words + k)));
            }
        }
        args->counts[pixel] = (int32_t)_mm512_reduce_add_epi64(sum);
    }
}

/* ---- BINARY_WEIGHTS: the 16 signed sums of a group of 4 inputs fill one vector, and the 4 weight bits of each of 16
 * filters pick theirs: one vpermps and one add for 64 multiply-adds ---------------------------------- */

enum { SIGN_LANES = 16, GROUP = 4 /* inputs */, TABLE = 16 /* floats */ };

/* The portable layout, where AVX2 brings its own. */
static void signsum_weights(const bc_signsum_weights_args *args) { bc_kernels_scalar.signsum_weights(args); }

/* +1 or -1 for each of 16 table entries, by one bit of the entry's number. */
static inline __m512 entry_signs(int bit) {
    const int masks[GROUP] = {0xaaaa, 0xcccc, 0xf0f0, 0xff00};
    return _mm512_mask_blend_ps((__mmask16)masks[bit], _mm512_set1_ps(-1.0f), _mm512_set1_ps(1.0f));
}

/* The table of a group. Its members are loaded by the operations that use them. */
static inline __m512 signed_sums(const float *v, const __m512 *signs) {
    __m512 sums = _mm512_mul_ps(_mm512_set1_ps(v[0]), signs[0]);
    UNROLL
    for (int i = 1; i < GROUP; i++) sums = _mm512_fmadd_ps(_mm512_set1_ps(v[i]), signs[i], sums);
    return sums;
}

static void signsum_expand(const bc_signsum_expand_args *args) {
    const __m512 signs[GROUP] = {entry_signs(0), entry_signs(1), entry_signs(2), entry_signs(3)};
    const size_t whole = args->run / GROUP, rest = args->run % GROUP;
    float *table = args->groups;
    for (size_t pixel = 0; pixel < args->pixels; pixel++) {
        const float *source = args->source + (ptrdiff_t)pixel * args->source_stride;
        for (size_t group = 0; group < whole; group++, source += GROUP, table += TABLE)
            _mm512_storeu_ps(table, signed_sums(source, signs));
        if (!rest) continue;
        float last[GROUP];
        _mm_storeu_ps(last, _mm_maskz_loadu_ps((__mmask8)first_lanes(rest), source));
        _mm512_storeu_ps(table, signed_sums(last, signs));
        table += TABLE;
    }
}

/* Ends an expression for the optimiser, which would add to other registers and move sums back. */
#if defined(__GNUC__)
#define KEEP(x) __asm__("" : "+v"(x))
#else
#define KEEP(x)
#endif

/* 1.0, without telling the compiler: it would make a plain addition of a fused multiplication by 1. On Zen 5 additions
 * share their pipes with vpermps, and FMA has others: 88 multiply-adds a cycle with it, 44 without. */
static inline __m512 opaque_one(void) {
    __m512 one = _mm512_set1_ps(1.0f);
    KEEP(one);
    return one;
}

/* One group of 4 inputs; SHIFTED makes its bits the low ones of a vector of weight words. */
#define SIGNSUM_GROUP(PIXELS, BLOCKS, SHIFTED)                                                         \
    {                                                                                                  \
        __m512 tables[PIXELS];                                                                         \
        UNROLL                                                                                         \
        for (int p = 0; p < PIXELS; p++) tables[p] = _mm512_loadu_ps(table + p * stride);              \
        UNROLL                                                                                         \
        for (int b = 0; b < BLOCKS; b++) {                                                             \
            const __m512i words = _mm512_loadu_si512(word + (size_t)b * block_words);                  \
            const __m512i bits = SHIFTED;                                                              \
            UNROLL                                                                                     \
            for (int p = 0; p < PIXELS; p++) {                                                         \
                sums[p][b] = _mm512_fmadd_ps(_mm512_permutexvar_ps(bits, tables[p]), one, sums[p][b]); \
                KEEP(sums[p][b]);                                                                      \
            }                                                                                          \
        }                                                                                              \
        table += TABLE;                                                                                \
    }

#define SIGNSUM_TILE(NAME, PIXELS, BLOCKS)                                                             \
    static inline void NAME(const bc_signsum_args *args, const float *source, const uint32_t *word,    \
                            float *out) {                                                              \
        const size_t block_words = args->block_stride_bytes / sizeof *word;                            \
        const ptrdiff_t stride = args->source_stride;                                                  \
        const __m512 one = opaque_one();                                                               \
        __m512 sums[PIXELS][BLOCKS];                                                                   \
        UNROLL                                                                                         \
        for (int p = 0; p < PIXELS; p++) {                                                             \
            UNROLL                                                                                     \
            for (int b = 0; b < BLOCKS; b++) sums[p][b] = _mm512_setzero_ps();                         \
        }                                                                                              \
        for (size_t row = 0; row < args->rows; row++) {                                                \
            const float *table = source + args->row_offset[row];                                       \
            size_t left = args->groups;                                                                \
            for (; left >= 8; left -= 8, word += SIGN_LANES) {                                         \
                UNROLL                                                                                 \
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
        UNROLL                                                                                         \
        for (int p = 0; p < PIXELS; p++) {                                                             \
            UNROLL                                                                                     \
            for (int b = 0; b < BLOCKS; b++) {                                                         \
                float *at = out + (size_t)p * args->sums_stride + (size_t)b * SIGN_LANES;              \
                if (args->accumulate) sums[p][b] = _mm512_add_ps(_mm512_loadu_ps(at), sums[p][b]);     \
                _mm512_storeu_ps(at, sums[p][b]);                                                      \
            }                                                                                          \
        }                                                                                              \
    }

SIGNSUM_TILE(signsum_3x8, 3, 8)
SIGNSUM_TILE(signsum_2x8, 2, 8)
SIGNSUM_TILE(signsum_1x8, 1, 8)
SIGNSUM_TILE(signsum_6x4, 6, 4)
SIGNSUM_TILE(signsum_2x4, 2, 4)
SIGNSUM_TILE(signsum_1x4, 1, 4)
SIGNSUM_TILE(signsum_8x1, 8, 1)
SIGNSUM_TILE(signsum_1x1, 1, 1)

typedef struct signsum_tile {
    size_t pixels;
    void (*sum)(const bc_signsum_args *args, const float *source, const uint32_t *word, float *sums);
} signsum_tile;

static void signsum(const bc_signsum_args *args) {
    static const signsum_tile by_eight[] = {{3, signsum_3x8}, {2, signsum_2x8}, {1, signsum_1x8}};
    static const signsum_tile by_four[] = {{6, signsum_6x4}, {2, signsum_2x4}, {1, signsum_1x4}};
    static const signsum_tile by_one[] = {{8, signsum_8x1}, {1, signsum_1x1}};
    const size_t block_words = args->block_stride_bytes / sizeof(uint32_t);
    for (size_t block = 0, blocks; block < args->blocks; block += blocks) {
        const size_t left = args->blocks - block;
        blocks = left >= 8 ? 8 : left >= 4 ? 4 : 1;
        const signsum_tile *tile = blocks == 8 ? by_eight : blocks == 4 ? by_four : by_one;
        for (size_t pixel = 0; pixel < args->pixels; pixel += tile->pixels) {
            const size_t rest = args->pixels - pixel;
            /* One pixel alone is slow, so that a wide tile gives way where it would leave one. */
            while (tile->pixels > rest || (tile->pixels > 2 && tile->pixels + 1 == rest)) tile++;
            tile->sum(args, args->source + (ptrdiff_t)pixel * args->source_stride,
                      (const uint32_t *)args->weights + block * block_words,
                      args->sums + pixel * args->sums_stride + block * SIGN_LANES);
        }
    }
}

/* ---- Epilogue ------------------------------------------------------------------------------------- */

enum { LANES = 16 };
typedef __m512 floats;
typedef __m512i ints;

static inline floats load_floats(const float *values) { return _mm512_loadu_ps(values); }
static inline void store_floats(float *values, floats x) { _mm512_storeu_ps(values, x); }
static inline ints load_ints(const int32_t *values) { return _mm512_loadu_si512(values); }
static inline floats spread(float value) { return _mm512_set1_ps(value); }
static inline floats add(floats x, floats y) { return _mm512_add_ps(x, y); }
static inline floats multiply(floats x, floats y) { return _mm512_mul_ps(x, y); }
static inline ints plus(ints x, int32_t y) { return _mm512_add_epi32(x, _mm512_set1_epi32(y)); }

static inline floats sloped(floats x, floats slope) {
    const __mmask16 below = _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_NGE_UQ);
    return _mm512_mask_mul_ps(x, below, slope, x);
}

static inline ints sums_of(ints base, ints count, unsigned count_shift, unsigned sum_shift) {
    const ints shifted = _mm512_sll_epi32(count, _mm_cvtsi32_si128((int)count_shift));
    return _mm512_sra_epi32(_mm512_sub_epi32(base, shifted), _mm_cvtsi32_si128((int)sum_shift));
}

static inline floats to_floats(ints sum) { return _mm512_cvtepi32_ps(sum); }

static inline uint64_t at_least(ints x, ints flip, ints threshold) {
    return _mm512_cmpge_epi32_mask(_mm512_xor_si512(x, flip), threshold);
}

static inline void narrow(floats x, uint16_t *halves) {
    _mm256_storeu_si256((__m256i *)halves, _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
}

#include "epilogue_template.h"

/* ---- Bits to values ------------------------------------------------------------------------------- */

static void unpack_i8(const bc_unpack_args *args) {
    const size_t words = (args->channels + 63) / 64;
    const __m512i plus = _mm512_set1_epi8(1), minus = _mm512_set1_epi8(-1);
    for (size_t pixel = 0; pixel < args->pixels; pixel++)
        for (size_t c = 0; c < args->channels; c += 64) {
            const uint64_t bits = args->words[pixel * words + c / 64];
            _mm512_mask_storeu_epi8(args->values + pixel * args->channels + c,
                                    bc_low_bits(args->channels - c),
                                    _mm512_mask_blend_epi8(bits, minus, plus));
        }
}

const bc_kernels bc_kernels_avx512vpopcnt = {
    .widen_f16 = widen_f16,
    .widen_u8 = widen_u8,
    .pack_f32 = pack_f32,
    .terms_f32 = terms_f32,
    .xorpop_block_filters = BLOCK_FILTERS,
    .xorpop_block_word_bytes = BLOCK_FILTERS * sizeof(uint64_t),
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
