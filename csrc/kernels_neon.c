/* NEON, which every aarch64 processor has.
 *
 * Leans on cnt, which counts the bits of 16 bytes at once: eor, cnt and add do 128 bit products, at two
 * instructions a cycle on Cortex-A72 and A76 and four on Apple's. Byte counts are added up before they can
 * overflow. BINARY_WEIGHTS are fmla with +1 or -1, which is an addition exactly.
 */
#include "kernels.h"

#if (defined(__aarch64__) && !defined(__AARCH64EB__)) || defined(_M_ARM64)

#include <arm_neon.h>
#include <math.h>
#include <string.h>

#include "bits.h"
#include "double_math.h"

/* Without this, GCC 12 unrolls too late to keep the arrays of a tile in registers. */
#define UNROLL _Pragma("GCC unroll 16")

enum { FLOATS = 4 /* in a vector */ };

/* ---- Vectors of 16 floats ------------------------------------------------------------------------- */

enum { LANES = 16, PARTS = LANES / FLOATS };

typedef struct floats {
    float32x4_t part[PARTS];
} floats;

#define FOR_PARTS \
    UNROLL        \
    for (int i = 0; i < PARTS; i++)

/* Up to 4 floats; absent lanes are 0. */
static inline float32x4_t load_some(const float *source, size_t count) {
    if (count >= FLOATS) return vld1q_f32(source);
    float lanes[FLOATS] = {0};
    for (size_t i = 0; i < count; i++) lanes[i] = source[i];
    return vld1q_f32(lanes);
}

static inline floats load_floats(const float *values) {
    floats x;
    FOR_PARTS x.part[i] = vld1q_f32(values + (size_t)i * FLOATS);
    return x;
}

static inline void store_floats(float *values, floats x) {
    FOR_PARTS vst1q_f32(values + (size_t)i * FLOATS, x.part[i]);
}

static inline floats load_first(const float *values, size_t count) {
    float lanes[LANES] = {0};
    memcpy(lanes, values, count * sizeof *lanes);
    return load_floats(lanes);
}

static inline void store_first(float *values, size_t count, floats x) {
    float lanes[LANES];
    store_floats(lanes, x);
    memcpy(values, lanes, count * sizeof *lanes);
}

static inline floats spread(float value) {
    floats x;
    FOR_PARTS x.part[i] = vdupq_n_f32(value);
    return x;
}

static inline floats add(floats x, floats y) {
    FOR_PARTS x.part[i] = vaddq_f32(x.part[i], y.part[i]);
    return x;
}

static inline floats multiply(floats x, floats y) {
    FOR_PARTS x.part[i] = vmulq_f32(x.part[i], y.part[i]);
    return x;
}

/* Lanes, of 4 vectors of 4, all of whose bits are set or none are, as bytes. */
static inline uint8x16_t lane_bytes(const uint32x4_t set[4]) {
    const uint16x8_t low = vuzp1q_u16(vreinterpretq_u16_u32(set[0]), vreinterpretq_u16_u32(set[1]));
    const uint16x8_t high = vuzp1q_u16(vreinterpretq_u16_u32(set[2]), vreinterpretq_u16_u32(set[3]));
    return vuzp1q_u8(vreinterpretq_u8_u16(low), vreinterpretq_u8_u16(high));
}

/* Byte i of 16: bit i % 8 where byte i is not set. */
static inline uint8x16_t clear_bits(uint8x16_t set) {
    return vbicq_u8(vreinterpretq_u8_u64(vdupq_n_u64(UINT64_C(0x8040201008040201))), set);
}

/* The same where a lane is not below zero; +0, -0 and NaN are not. */
static inline uint8x16_t nonnegative_bits(const float32x4_t v[4]) {
    const uint32x4_t below[4] = {vcltzq_f32(v[0]), vcltzq_f32(v[1]), vcltzq_f32(v[2]), vcltzq_f32(v[3])};
    return clear_bits(lane_bytes(below));
}

static inline uint64_t gather_bits(uint8x16_t bits) {
    return vaddv_u8(vget_low_u8(bits)) | (uint64_t)vaddv_u8(vget_high_u8(bits)) << 8;
}

static inline uint64_t nonnegative(floats x) { return gather_bits(nonnegative_bits(x.part)); }

/* ---- Reading the source --------------------------------------------------------------------------- */

static inline float32x4_t widen_halves(uint16x4_t halves) {
    return vcvt_f32_f16(vreinterpret_f16_u16(halves));
}

static void widen_f16(const bc_widen_args *args) {
    const uint16_t *source = args->source;
    size_t i = 0;
    for (; i + FLOATS <= args->count; i += FLOATS)
        vst1q_f32(args->destination + i, widen_halves(vld1_u16(source + i)));
    for (; i < args->count; i++)
        args->destination[i] = vgetq_lane_f32(widen_halves(vdup_n_u16(source[i])), 0);
}

static void widen_u8(const bc_widen_args *args) {
    const uint8_t *source = args->source;
    const float32x4_t full = vdupq_n_f32(255.0f);
    size_t i = 0;
    for (; i + 8 <= args->count; i += 8) {
        const uint16x8_t value = vmovl_u8(vld1_u8(source + i));
        const float32x4_t low = vcvtq_f32_u32(vmovl_u16(vget_low_u16(value)));
        const float32x4_t high = vcvtq_f32_u32(vmovl_high_u16(value));
        vst1q_f32(args->destination + i, vdivq_f32(low, full));
        vst1q_f32(args->destination + i + FLOATS, vdivq_f32(high, full));
    }
    for (; i < args->count; i++) args->destination[i] = (float)source[i] / 255.0f;
}

static inline floats with_terms(floats x, floats bias, floats scale) { return multiply(add(x, bias), scale); }
static inline floats in_register(floats x) { return x; }

static inline uint32_t nonnegative_pair(floats x, floats y) {
    const uint8x16_t eighths = vpaddq_u8(nonnegative_bits(x.part), nonnegative_bits(y.part));
    const uint8x16_t quarters = vpaddq_u8(eighths, eighths);
    return vgetq_lane_u32(vreinterpretq_u32_u8(vpaddq_u8(quarters, quarters)), 0);
}

static inline floats add_magnitude(floats sum, floats x) {
    FOR_PARTS sum.part[i] = vaddq_f32(sum.part[i], vabsq_f32(x.part[i]));
    return sum;
}

static inline float32x4_t add_parts(const floats *x) {
    return vaddq_f32(vaddq_f32(x->part[0], x->part[1]), vaddq_f32(x->part[2], x->part[3]));
}

static inline void sums_of_lanes(const floats *x, float *sums) {
    vst1q_f32(sums, vpaddq_f32(vpaddq_f32(add_parts(x), add_parts(x + 1)),
                               vpaddq_f32(add_parts(x + 2), add_parts(x + 3))));
}

static inline void cut_words(const uint64_t *from, size_t count, size_t bits, size_t pieces,
                             uint64_t *words) {
    const uint64_t low = bc_low_bits(bits);
    for (size_t i = 0; i < count; i++)
        for (size_t k = 0; k < pieces; k++) *words++ = from[i] >> k * bits & low;
}

#define PACK_WORDS 0
#define PACK_GROUP 1
#define PACK_AHEAD 0
#include "terms_template.h"

static inline uint8x16_t below_bytes(const floats *x, const floats *limit) {
    uint32x4_t below[PARTS];
    FOR_PARTS below[i] = vcltq_f32(x->part[i], limit->part[i]);
    return lane_bytes(below);
}

static inline uint64_t not_below(const floats *x, const floats *threshold, int parts) {
    uint8x16_t bits[4];
    UNROLL
    for (int i = 0; i < 4; i++)
        bits[i] = i < parts ? clear_bits(below_bytes(x + i, threshold + i)) : vdupq_n_u8(0);
    const uint8x16_t low = vpaddq_u8(bits[0], bits[1]), high = vpaddq_u8(bits[2], bits[3]);
    const uint8x16_t quarters = vpaddq_u8(low, high), all = vpaddq_u8(quarters, quarters);
    return vgetq_lane_u64(vreinterpretq_u64_u8(all), 0);
}

BC_FORCE_INLINE void pack_bits(const floats *x, const floats *threshold, int parts, uint64_t present,
                               void *bits) {
    const uint64_t made = not_below(x, threshold, parts) & present;
    memcpy(bits, &made, sizeof made);
}

BC_FORCE_INLINE void pack_flipped(const floats *x, const floats *threshold, int parts, uint64_t flip,
                                  uint64_t present, void *bits) {
    const uint64_t made = (not_below(x, threshold, parts) ^ flip) & present;
    memcpy(bits, &made, sizeof made);
}

BC_FORCE_INLINE uint64_t joined_bits(const floats *x, const floats *threshold, int watched) {
    (void)watched;
    return not_below(x, threshold, 4);
}

static inline floats multiply_add(floats x, floats y, floats sum) {
    FOR_PARTS sum.part[i] = vfmaq_f32(sum.part[i], x.part[i], y.part[i]);
    return sum;
}

/* 0 times what is not finite is NaN. */
static inline int all_finite(floats x) {
    uint32x4_t zero = vdupq_n_u32(~UINT32_C(0));
    FOR_PARTS zero = vandq_u32(zero, vceqzq_f32(vmulq_n_f32(x.part[i], 0.0f)));
    return vminvq_u32(zero) != 0;
}

#define PACK_KEPT_PARTS 4
#define PACK_WATCHED 2
#define PACK_AT_ONCE 4
#define PACK_VECTOR_BYTES 0
#define PACK_ALIGNED_WORDS 0
#define PACK_STRIP_BYTES 0
#include "pack_template.h"

/* ---- XNOR: the portable blocks of 8 filters in 4 vectors, one word of a pixel broadcast against each ----
 */

enum {
    BLOCK_FILTERS = 8,
    BLOCK_VECTORS = 4,
    TILE_PIXELS = 4,
    WORDS_BEFORE_OVERFLOW = 31, /* a byte gains up to 8 a word */
};

static void xorpop_weights(const bc_xorpop_weights_args *args) { bc_kernels_scalar.xorpop_weights(args); }

static inline uint32x4_t add_bytes(uint32x4_t sums, uint8x16_t bytes) {
    return vpadalq_u16(sums, vpaddlq_u8(bytes));
}

/* `pixels` (a constant, at most TILE_PIXELS) x 8 filters. Byte counts stay in registers; the sums that they
 * are flushed to, two a filter, do not need to. */
BC_FORCE_INLINE void xorpop_tile(const bc_xorpop_args *args, const uint64_t *source, const uint64_t *weights,
                                 int32_t *counts, const int pixels) {
    const ptrdiff_t stride = args->source_stride;
    uint32x4_t sums[TILE_PIXELS][BLOCK_VECTORS];
    uint8x16_t bytes[TILE_PIXELS][BLOCK_VECTORS];
    UNROLL
    for (int p = 0; p < pixels; p++) UNROLL
    for (int v = 0; v < BLOCK_VECTORS; v++) {
        sums[p][v] = vdupq_n_u32(0);
        bytes[p][v] = vdupq_n_u8(0);
    }
    size_t room = WORDS_BEFORE_OVERFLOW;
    for (size_t tap = 0; tap < args->taps; tap++) {
        const uint64_t *pixel = source + args->tap_offset[tap];
        for (size_t k = 0; k < args->words; k++, pixel++, weights += BLOCK_FILTERS) {
            uint64x2_t filters[BLOCK_VECTORS];
            UNROLL
            for (int v = 0; v < BLOCK_VECTORS; v++) filters[v] = vld1q_u64(weights + 2 * v);
            UNROLL
            for (int p = 0; p < pixels; p++) {
                const uint64x2_t word = vld1q_dup_u64(pixel + p * stride);
                UNROLL
                for (int v = 0; v < BLOCK_VECTORS; v++)
                    bytes[p][v] =
                        vaddq_u8(bytes[p][v], vcntq_u8(vreinterpretq_u8_u64(veorq_u64(filters[v], word))));
            }
            if (--room) continue;
            room = WORDS_BEFORE_OVERFLOW;
            UNROLL
            for (int p = 0; p < pixels; p++) UNROLL
            for (int v = 0; v < BLOCK_VECTORS; v++) {
                sums[p][v] = add_bytes(sums[p][v], bytes[p][v]);
                bytes[p][v] = vdupq_n_u8(0);
            }
        }
    }
    UNROLL
    for (int p = 0; p < pixels; p++) {
        UNROLL
        for (int v = 0; v < BLOCK_VECTORS; v++) sums[p][v] = add_bytes(sums[p][v], bytes[p][v]);
        int32_t *at = counts + (size_t)p * args->counts_stride;
        vst1q_s32(at, vreinterpretq_s32_u32(vpaddq_u32(sums[p][0], sums[p][1])));
        vst1q_s32(at + 4, vreinterpretq_s32_u32(vpaddq_u32(sums[p][2], sums[p][3])));
    }
}

static void xorpop_run(const bc_xorpop_args *args) {
    const size_t block_words = args->taps * args->words * BLOCK_FILTERS;
    for (size_t block = 0; block < args->blocks; block++) {
        const uint64_t *weights = (const uint64_t *)args->weights + block * block_words;
        const uint64_t *source = args->source;
        int32_t *counts = args->counts + block * BLOCK_FILTERS;
        size_t left = args->pixels;
        for (; left >= TILE_PIXELS; left -= TILE_PIXELS) {
            xorpop_tile(args, source, weights, counts, TILE_PIXELS);
            source += TILE_PIXELS * args->source_stride;
            counts += TILE_PIXELS * args->counts_stride;
        }
        for (; left; left--) {
            xorpop_tile(args, source, weights, counts, 1);
            source += args->source_stride;
            counts += args->counts_stride;
        }
    }
}

static void xorpop(const bc_xorpop_args *args) { bc_for_runs(args, xorpop_run); }

static void window_popcount(const bc_window_popcount_args *args) {
    for (size_t pixel = 0; pixel < args->pixels; pixel++) {
        const uint64_t *source = args->source + (ptrdiff_t)pixel * args->source_stride;
        uint32x4_t sums = vdupq_n_u32(0);
        for (size_t tap = 0; tap < args->taps; tap++) {
            const uint64_t *words = source + args->tap_offset[tap];
            size_t k = 0;
            for (; k + 2 <= args->words; k += 2)
                sums = add_bytes(sums, vcntq_u8(vreinterpretq_u8_u64(vld1q_u64(words + k))));
            if (k < args->words) {
                const uint64x2_t last = vcombine_u64(vld1_u64(words + k), vdup_n_u64(0));
                sums = add_bytes(sums, vcntq_u8(vreinterpretq_u8_u64(last)));
            }
        }
        args->counts[pixel] = (int32_t)vaddvq_u32(sums);
    }
}

/* ---- BINARY_WEIGHTS: the portable blocks of 16 filters; a weight bit becomes +1 or -1 in the lane of its
 * filter and multiplies an input of several pixels
 * ---------------------------------------------------------------- */

enum {
    SIGN_LANES = 16,
    GROUP = 4,       /* inputs */
    SIGN_PIXELS = 6, /* 4 x 6 sums, 4 signs and an input fill the 32 registers */
};

static void signsum_weights(const bc_signsum_weights_args *args) { bc_kernels_scalar.signsum_weights(args); }

/* Groups are the inputs themselves. */
static void signsum_expand(const bc_signsum_expand_args *args) {
    float *group = args->groups;
    for (size_t pixel = 0; pixel < args->pixels; pixel++) {
        const float *source = args->source + (ptrdiff_t)pixel * args->source_stride;
        for (size_t input = 0; input < args->run; input += GROUP, group += GROUP)
            vst1q_f32(group, load_some(source + input, args->run - input));
    }
}

/* 1 with the sign that the highest bit of each lane stands for: 1 where it is 1, -1 where it is 0, negated.
 */
static inline float32x4_t negated_signs(uint32x4_t bits) {
    return vreinterpretq_f32_u32(vsriq_n_u32(bits, vdupq_n_u32(0x7f000000 /* 1.0f << 1 */), 1));
}

/* `pixels` (a constant) x 4 filters. Each of four sums takes every fourth input, so that few roundings lie
 * between an input and the result. They are sums of -v where the weight is 1, since that is what the bits
 * give. */
BC_FORCE_INLINE void signsum_tile(const bc_signsum_args *args, const float *source, const uint32_t *word,
                                  float *out, const int pixels) {
    const ptrdiff_t stride = args->source_stride;
    float32x4_t sums[SIGN_PIXELS][GROUP];
    UNROLL
    for (int p = 0; p < pixels; p++) UNROLL
    for (int i = 0; i < GROUP; i++) sums[p][i] = vdupq_n_f32(0.0f);
    for (size_t row = 0; row < args->rows; row++) {
        const float *inputs = source + args->row_offset[row];
        for (size_t group = 0; group < args->groups; group++, inputs += GROUP) {
            /* The 4 bits of the group uppermost. */
            const int32x4_t up = vdupq_n_s32(28 - GROUP * (int32_t)(group % 8));
            const uint32x4_t bits = vshlq_u32(vld1q_u32(word), up);
            const float32x4_t signs[GROUP] = {
                negated_signs(vshlq_n_u32(bits, 3)),
                negated_signs(vshlq_n_u32(bits, 2)),
                negated_signs(vshlq_n_u32(bits, 1)),
                negated_signs(bits),
            };
            UNROLL
            for (int p = 0; p < pixels; p++) {
                const float32x4_t four = vld1q_f32(inputs + p * stride);
                sums[p][0] = vfmaq_laneq_f32(sums[p][0], signs[0], four, 0);
                sums[p][1] = vfmaq_laneq_f32(sums[p][1], signs[1], four, 1);
                sums[p][2] = vfmaq_laneq_f32(sums[p][2], signs[2], four, 2);
                sums[p][3] = vfmaq_laneq_f32(sums[p][3], signs[3], four, 3);
            }
            if (group % 8 == 7 || group + 1 == args->groups) word += SIGN_LANES;
        }
    }
    UNROLL
    for (int p = 0; p < pixels; p++) {
        float *at = out + (size_t)p * args->sums_stride;
        const float32x4_t before = args->accumulate ? vld1q_f32(at) : vdupq_n_f32(0.0f);
        const float32x4_t total =
            vaddq_f32(vaddq_f32(sums[p][0], sums[p][1]), vaddq_f32(sums[p][2], sums[p][3]));
        vst1q_f32(at, vsubq_f32(before, total));
    }
}

static void signsum(const bc_signsum_args *args) {
    for (size_t filter = 0; filter < args->blocks * SIGN_LANES; filter += FLOATS) {
        const char *block = (const char *)args->weights + filter / SIGN_LANES * args->block_stride_bytes;
        const uint32_t *weights = (const uint32_t *)block + filter % SIGN_LANES;
        const float *source = args->source;
        float *sums = args->sums + filter;
        size_t left = args->pixels;
        for (; left >= SIGN_PIXELS; left -= SIGN_PIXELS) {
            signsum_tile(args, source, weights, sums, SIGN_PIXELS);
            source += SIGN_PIXELS * args->source_stride;
            sums += SIGN_PIXELS * args->sums_stride;
        }
        for (; left; left--) {
            signsum_tile(args, source, weights, sums, 1);
            source += args->source_stride;
            sums += args->sums_stride;
        }
    }
}

/* Four pixels that lie side by side, or one in every lane. */
static inline float32x4_t window_mean(const bc_window_sum_args *args, const float *source, int side_by_side) {
    float32x4_t sum = vdupq_n_f32(0.0f);
    for (size_t tap = 0; tap < args->taps; tap++) {
        const float *at = source + args->tap_offset[tap];
        sum = vaddq_f32(sum, side_by_side ? vld1q_f32(at) : vld1q_dup_f32(at));
    }
    return vdivq_f32(sum, vdupq_n_f32(args->divisor));
}

static void window_sum(const bc_window_sum_args *args) {
    size_t pixel = 0;
    if (args->source_stride == 1)
        for (; pixel + FLOATS <= args->pixels; pixel += FLOATS)
            vst1q_f32(args->sums + pixel, window_mean(args, args->source + pixel, 1));
    for (; pixel < args->pixels; pixel++)
        vst1q_lane_f32(args->sums + pixel,
                       window_mean(args, args->source + (ptrdiff_t)pixel * args->source_stride, 0), 0);
}

/* ---- Epilogue ------------------------------------------------------------------------------------- */

typedef struct ints {
    int32x4_t part[PARTS];
} ints;

static inline ints load_ints(const int32_t *values) {
    ints x;
    FOR_PARTS x.part[i] = vld1q_s32(values + (size_t)i * FLOATS);
    return x;
}

static inline ints plus(ints x, int32_t y) {
    FOR_PARTS x.part[i] = vaddq_s32(x.part[i], vdupq_n_s32(y));
    return x;
}

static inline ints minus(ints x, ints y) {
    FOR_PARTS x.part[i] = vsubq_s32(x.part[i], y.part[i]);
    return x;
}

static inline floats sloped(floats x, floats slope) {
    FOR_PARTS x.part[i] = vbslq_f32(vcgezq_f32(x.part[i]), x.part[i], vmulq_f32(slope.part[i], x.part[i]));
    return x;
}

static inline ints sums_of(ints base, ints count, unsigned count_shift, unsigned sum_shift) {
    const int32x4_t left = vdupq_n_s32((int32_t)count_shift), right = vdupq_n_s32(-(int32_t)sum_shift);
    FOR_PARTS base.part[i] = vshlq_s32(vsubq_s32(base.part[i], vshlq_s32(count.part[i], left)), right);
    return base;
}

static inline floats to_floats(ints sum) {
    floats x;
    FOR_PARTS x.part[i] = vcvtq_f32_s32(sum.part[i]);
    return x;
}

static inline void narrow(floats x, uint16_t *halves) {
    FOR_PARTS vst1_u16(halves + (size_t)i * FLOATS, vreinterpret_u16_f16(vcvt_f16_f32(x.part[i])));
}

static inline uint64_t at_least(ints x, ints flip, ints threshold) {
    uint32x4_t below[4];
    FOR_PARTS below[i] = vcltq_s32(veorq_s32(x.part[i], flip.part[i]), threshold.part[i]);
    return gather_bits(clear_bits(lane_bytes(below)));
}

#define EPILOGUE_PARTS 1
#include "epilogue_template.h"

/* ---- Bits to values ------------------------------------------------------------------------------- */

static void unpack_i8(const bc_unpack_args *args) {
    /* Each byte of a vector gets the byte that holds its bit, then tests its bit. */
    const uint8x16_t spread = vcombine_u8(vdup_n_u8(0), vdup_n_u8(1));
    const uint8x16_t bit = vreinterpretq_u8_u64(vdupq_n_u64(UINT64_C(0x8040201008040201)));
    const size_t words = (args->channels + 63) / 64;
    for (size_t pixel = 0; pixel < args->pixels; pixel++) {
        int8_t *values = args->values + pixel * args->channels;
        for (size_t c = 0; c < args->channels; c += 16) {
            const uint64_t word = args->words[pixel * words + c / 64] >> c % 64;
            const uint8x16_t bytes = vqtbl1q_u8(vreinterpretq_u8_u64(vdupq_n_u64(word)), spread);
            /* All ones where the bit is not set, which is -1; else 0, which becomes 1. */
            const uint8x16_t value = vorrq_u8(vmvnq_u8(vtstq_u8(bytes, bit)), vdupq_n_u8(1));
            const size_t left = args->channels - c;
            if (left >= 16) {
                vst1q_s8(values + c, vreinterpretq_s8_u8(value));
            } else {
                int8_t lanes[16];
                vst1q_s8(lanes, vreinterpretq_s8_u8(value));
                memcpy(values + c, lanes, left);
            }
        }
    }
}

const bc_kernels bc_kernels_neon = {
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
    .signsum_group_floats = GROUP,
    .signsum_expand = signsum_expand,
    .signsum = signsum,
    .window_sum = window_sum,
    .epilogue = epilogue,
    .unpack_i8 = unpack_i8,
};

#endif
