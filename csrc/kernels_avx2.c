/* AVX2 with F16C and POPCNT (Haswell, Zen and later).
 *
 * There is no vector popcount: vpshufb looks up half the counts (half_counts.h) of 4 bits of 32 filters at once, for two
 * pixels as the two nibbles of a byte. For BINARY_WEIGHTS vpermps looks up eight signed sums at once.
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
#include "double_math.h"

#define UNROLL BC_UNROLL

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

/* ---- Vectors of 16 floats ------------------------------------------------------------------------- */

enum { LANES = 16 };

typedef struct floats {
    __m256 low, high;
} floats;

static inline floats load_floats(const float *values) {
    return (floats){_mm256_loadu_ps(values), _mm256_loadu_ps(values + FLOATS)};
}

static inline void store_floats(float *values, floats x) {
    _mm256_storeu_ps(values, x.low);
    _mm256_storeu_ps(values + FLOATS, x.high);
}

static inline floats load_first(const float *values, size_t count) {
    const __m256i low = first_lanes(count), high = first_lanes(count > FLOATS ? count - FLOATS : 0);
    return (floats){_mm256_maskload_ps(values, low), _mm256_maskload_ps(values + FLOATS, high)};
}

static inline void store_first(float *values, size_t count, floats x) {
    const int one = count <= FLOATS;
    if (!one) _mm256_storeu_ps(values, x.low);
    _mm256_maskstore_ps(values + (one ? 0 : FLOATS), first_lanes(one ? count : count - FLOATS),
                        one ? x.low : x.high);
}

static inline floats spread(float value) { return (floats){_mm256_set1_ps(value), _mm256_set1_ps(value)}; }

static inline floats add(floats x, floats y) {
    return (floats){_mm256_add_ps(x.low, y.low), _mm256_add_ps(x.high, y.high)};
}

static inline floats multiply(floats x, floats y) {
    return (floats){_mm256_mul_ps(x.low, y.low), _mm256_mul_ps(x.high, y.high)};
}

/* Bit i: x[i] is not below zero; +0, -0 and NaN are not. */
static inline uint32_t nonnegative_half(__m256 x) {
    return (uint32_t)_mm256_movemask_ps(_mm256_cmp_ps(x, _mm256_setzero_ps(), _CMP_NLT_UQ));
}

static inline uint64_t nonnegative(floats x) {
    return nonnegative_half(x.low) | nonnegative_half(x.high) << FLOATS;
}

/* 1.0, without telling the compiler: it would make a plain addition of a fused multiplication by 1, and on Zen 5 additions
 * share their pipes with shuffles and comparisons. */
static inline __m256 opaque_one(void) {
    __m256 one = _mm256_set1_ps(1.0f);
    KEEP_ORDER(one);
    return one;
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

/* Half of the biases are added by FMA, as additions alone would keep the comparisons' pipes busy. */
static inline floats with_terms(floats x, floats bias, floats scale) {
    return multiply(
        (floats){_mm256_add_ps(x.low, bias.low), _mm256_fmadd_ps(x.high, opaque_one(), bias.high)}, scale);
}

/* What comes last an operation may read from memory itself: x, or the limit where x is in a register anyway. */
BC_FORCE_INLINE __m256i not_below(__m256 x, __m256 limit, int in_register) {
    return _mm256_castps_si256(in_register ? _mm256_cmp_ps(x, limit, _CMP_NLT_UQ)
                                           : _mm256_cmp_ps(limit, x, _CMP_NGT_UQ));
}

/* Bytes, all bits set where a lane of x or y is not below its limit. vpackss leaves their 4-byte pieces in the order
 * 0 2 4 6 1 3 5 7. */
BC_FORCE_INLINE __m256i not_below_pair(floats x, floats y, floats limit_x, floats limit_y, int in_register) {
    const __m256i shorts_x = _mm256_packs_epi32(not_below(x.low, limit_x.low, in_register),
                                                not_below(x.high, limit_x.high, in_register));
    const __m256i shorts_y = _mm256_packs_epi32(not_below(y.low, limit_y.low, in_register),
                                                not_below(y.high, limit_y.high, in_register));
    return _mm256_permutevar8x32_epi32(_mm256_packs_epi16(shorts_x, shorts_y),
                                       _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}

static inline uint32_t nonnegative_pair(floats x, floats y) {
    return (uint32_t)_mm256_movemask_epi8(not_below_pair(x, y, spread(0.0f), spread(0.0f), 0));
}

/* GCC 12 would load terms once for each pixel, rather than once for a group. */
static inline floats in_register(floats x) {
    KEEP_ORDER(x.low);
    KEEP_ORDER(x.high);
    return x;
}

static inline floats add_magnitude(floats sum, floats x) {
    const __m256 sign = _mm256_set1_ps(-0.0f);
    return add(sum, (floats){_mm256_andnot_ps(sign, x.low), _mm256_andnot_ps(sign, x.high)});
}

static inline void sums_of_lanes(const floats *x, float *sums) {
    const __m256 pairs = _mm256_hadd_ps(
        _mm256_hadd_ps(_mm256_add_ps(x[0].low, x[0].high), _mm256_add_ps(x[1].low, x[1].high)),
        _mm256_hadd_ps(_mm256_add_ps(x[2].low, x[2].high), _mm256_add_ps(x[3].low, x[3].high)));
    _mm_storeu_ps(sums, _mm_add_ps(_mm256_castps256_ps128(pairs), _mm256_extractf128_ps(pairs, 1)));
}

static inline void cut_words(const uint64_t *from, size_t count, size_t bits, size_t pieces,
                             uint64_t *words) {
    const uint64_t low = bc_low_bits(bits);
    const __m256i lows = _mm256_set1_epi64x((long long)low), place = _mm256_setr_epi64x(0, 1, 2, 3);
    const __m256i shift = _mm256_mul_epu32(place, _mm256_set1_epi64x((long long)bits));
    for (size_t i = 0; i < count; i++, words += pieces) {
        if (pieces == 2) {
            words[0] = from[i] & low;
            words[1] = from[i] >> bits & low;
            continue;
        }
        for (size_t k = 0; k < pieces; k += 4) {
            const __m256i word = _mm256_set1_epi64x((long long)(from[i] >> k * bits));
            _mm256_storeu_si256((__m256i *)(words + k),
                                _mm256_and_si256(_mm256_srlv_epi64(word, shift), lows));
        }
    }
}

#define PACK_WORDS 0
#define PACK_GROUP 2
#define PACK_AHEAD 0
#include "terms_template.h"

BC_FORCE_INLINE uint32_t not_below_bits(const floats *x, const floats *threshold, int parts,
                                        int in_register) {
    const floats none = spread(0.0f);
    if (parts == 0) return 0;
    const __m256i bytes = not_below_pair(x[0], parts > 1 ? x[1] : none, threshold[0],
                                         parts > 1 ? threshold[1] : none, in_register);
    return (uint32_t)_mm256_movemask_epi8(bytes);
}

BC_FORCE_INLINE void pack_bits(const floats *x, const floats *threshold, int parts, uint64_t present,
                               void *bits) {
    const uint32_t made = not_below_bits(x, threshold, parts, 0) & (uint32_t)present;
    memcpy(bits, &made, sizeof made);
}

BC_FORCE_INLINE void pack_flipped(const floats *x, const floats *threshold, int parts, uint64_t flip,
                                  uint64_t present, void *bits) {
    const uint32_t made = (not_below_bits(x, threshold, parts, 1) ^ (uint32_t)flip) & (uint32_t)present;
    memcpy(bits, &made, sizeof made);
}

BC_FORCE_INLINE uint64_t joined_bits(const floats *x, const floats *threshold, int watched) {
    return not_below_bits(x, threshold, 2, watched);
}

static inline floats multiply_add(floats x, floats y, floats sum) {
    return (floats){_mm256_fmadd_ps(x.low, y.low, sum.low), _mm256_fmadd_ps(x.high, y.high, sum.high)};
}

/* 0 times what is not finite is NaN. */
static inline int all_finite(floats x) {
    const floats zero = multiply(x, spread(0.0f));
    return !_mm256_movemask_ps(_mm256_cmp_ps(zero.low, zero.high, _CMP_UNORD_Q));
}

#define PACK_KEPT_PARTS 6
#define PACK_WATCHED 2
#define PACK_AT_ONCE 2
#define PACK_VECTOR_BYTES 32
#define PACK_ALIGNED_WORDS 1
#define PACK_STRIP_BYTES 5120
#include "pack_template.h"

/* ---- XNOR ----------------------------------------------------------------------------------------- */

#include "xorpop_avx2.h"

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
    const size_t words = (args->run + 31) / 32;
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

/* The table of a group. */
static inline __m256 signed_sums(const float *v, const __m256 *signs) {
    __m256 sums = _mm256_set1_ps(v[3]);
    UNROLL
    for (int i = 0; i < 3; i++) sums = _mm256_fmadd_ps(_mm256_set1_ps(v[i]), signs[i], sums);
    return sums;
}

static void signsum_expand(const bc_signsum_expand_args *args) {
    const __m256 signs[3] = {entry_signs(0), entry_signs(1), entry_signs(2)};
    const size_t whole = args->run / GROUP, rest = args->run % GROUP;
    float *table = args->groups;
    for (size_t pixel = 0; pixel < args->pixels; pixel++) {
        const float *source = args->source + (ptrdiff_t)pixel * args->source_stride;
        for (size_t group = 0; group < whole; group++, source += GROUP, table += TABLE)
            _mm256_storeu_ps(table, signed_sums(source, signs));
        if (!rest) continue;
        float last[GROUP] = {0};
        memcpy(last, source, rest * sizeof *last);
        _mm256_storeu_ps(table, signed_sums(last, signs));
        table += TABLE;
    }
}

/* One group of 4 inputs of PIXELS against VECTORS x 8 filters: bits 0 to 2 of a nibble pick the sum, and bit 3 says whether
 * it is added times 1 or times -1. Signs are made for all pixels at once, and on Zen 5 multiplying costs nothing: additions
 * share their pipes with shuffles, FMA has others. */
#define SIGNSUM_GROUP(PIXELS, VECTORS, SHIFTED, SIGN_UP)                                                  \
    {                                                                                                     \
        UNROLL                                                                                            \
        for (int v = 0; v < VECTORS; v++) {                                                               \
            const uint32_t *lanes = word + (size_t)(v / 2) * block_words + v % 2 * FLOATS;                \
            const __m256i words = _mm256_loadu_si256((const __m256i *)lanes);                             \
            const __m256i bits = SHIFTED;                                                                 \
            const __m256i positive = _mm256_and_si256(SIGN_UP, sign_bit);                                 \
            const __m256 sign = _mm256_xor_ps(minus_one, _mm256_castsi256_ps(positive));                  \
            UNROLL                                                                                        \
            for (int p = 0; p < PIXELS; p++) {                                                            \
                const __m256 found = _mm256_permutevar8x32_ps(_mm256_loadu_ps(table + p * stride), bits); \
                sums[p][v] = _mm256_fmadd_ps(found, sign, sums[p][v]);                                    \
                KEEP_ORDER(sums[p][v]);                                                                   \
            }                                                                                             \
        }                                                                                                 \
        table += TABLE;                                                                                   \
    }

#define SIGNSUM_TILES(NAME, PIXELS, VECTORS)                                                        \
    static inline void NAME(const bc_signsum_args *args, const float *source, const uint32_t *word, \
                            float *out) {                                                           \
        const size_t block_words = args->block_stride_bytes / sizeof *word;                         \
        const ptrdiff_t stride = args->source_stride;                                               \
        const __m256i sign_bit = _mm256_set1_epi32(INT32_MIN);                                      \
        const __m256 minus_one = _mm256_set1_ps(-1.0f);                                             \
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

SIGNSUM_TILES(signsum_5x2, 5, 2)
SIGNSUM_TILES(signsum_4x2, 4, 2)
SIGNSUM_TILES(signsum_2x2, 2, 2)
SIGNSUM_TILES(signsum_1x2, 1, 2)

/* How many of the pixels that are left a tile takes: few are slow, so that 6 are better taken as 4 and 2, and 8 as 4 and 4. */
static size_t signsum_pixels(size_t left) {
    if (left >= 5 && left != 6 && left != 8) return 5;
    return left >= 4 ? 4 : left >= 2 ? 2 : 1;
}

static void signsum(const bc_signsum_args *args) {
    static void (*const sum[])(const bc_signsum_args *, const float *, const uint32_t *, float *) = {
        [1] = signsum_1x2, [2] = signsum_2x2, [4] = signsum_4x2, [5] = signsum_5x2};
    const size_t block_words = args->block_stride_bytes / sizeof(uint32_t);
    for (size_t block = 0; block < args->blocks; block++)
        for (size_t pixel = 0, pixels; pixel < args->pixels; pixel += pixels) {
            pixels = signsum_pixels(args->pixels - pixel);
            sum[pixels](args, args->source + (ptrdiff_t)pixel * args->source_stride,
                        (const uint32_t *)args->weights + block * block_words,
                        args->sums + pixel * args->sums_stride + block * SIGN_LANES);
        }
}

/* ---- Epilogue ------------------------------------------------------------------------------------- */

typedef struct ints {
    __m256i low, high;
} ints;

static inline ints load_ints(const int32_t *values) {
    return (ints){_mm256_loadu_si256((const __m256i *)values),
                  _mm256_loadu_si256((const __m256i *)(values + FLOATS))};
}

static inline ints plus(ints x, int32_t y) {
    const __m256i all = _mm256_set1_epi32(y);
    return (ints){_mm256_add_epi32(x.low, all), _mm256_add_epi32(x.high, all)};
}

static inline ints minus(ints x, ints y) {
    return (ints){_mm256_sub_epi32(x.low, y.low), _mm256_sub_epi32(x.high, y.high)};
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

#define EPILOGUE_PARTS 1
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
    .xorpop_block_word_bytes = WORD_BYTES,
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
