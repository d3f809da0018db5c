/* Portable C for every slot: what other instruction sets are laid over and checked against. The word layouts that it
 * brings are shared by any family that does not need another. */
#include <math.h>

#include "bits.h"
#include "kernels.h"

/* ---- float16 -------------------------------------------------------------------------------------- */

static inline float half_to_float(uint16_t half) {
    const uint32_t sign = (uint32_t)(half & 0x8000) << 16;
    const uint32_t exponent = half >> 10 & 0x1f, fraction = half & 0x3ff;
    if (exponent == 0x1f) return bc_bits_float(sign | 0x7f800000 | fraction << 13);
    if (exponent) return bc_bits_float(sign | (exponent + 112) << 23 | fraction << 13);
    const float magnitude = (float)fraction * 0x1p-24f; /* zeros and subnormals, exactly */
    return sign ? -magnitude : magnitude;
}

static inline uint16_t float_to_half(float value) {
    const uint32_t bits = bc_float_bits(value);
    const uint32_t sign = bits >> 16 & 0x8000, magnitude = bits & 0x7fffffff;
    const uint32_t first_inf = 0x477ff000 /* 65520, which rounds to infinity */, first_normal = 0x38800000;
    if (magnitude > 0x7f800000) return (uint16_t)(sign | 0x7e00 | (magnitude >> 13 & 0x3ff));
    if (magnitude >= first_inf) return (uint16_t)(sign | 0x7c00);
    if (magnitude < first_normal) {
        /* Adding 0.5 puts float16's last subnormal place into float32's last, so that the addition rounds. */
        const uint32_t sum = bc_float_bits(bc_bits_float(magnitude) + 0.5f);
        return (uint16_t)(sign | (sum - 0x3f000000));
    }
    const uint32_t to_even = (magnitude >> 13 & 1) + 0xfff;
    return (uint16_t)(sign | (magnitude + to_even - (112u << 23)) >> 13);
}

/* ---- Reading the source --------------------------------------------------------------------------- */

static void widen_f16(const bc_widen_args *args) {
    const uint16_t *source = args->source;
    for (size_t i = 0; i < args->count; i++) args->destination[i] = half_to_float(source[i]);
}

static void widen_u8(const bc_widen_args *args) {
    const uint8_t *source = args->source;
    for (size_t i = 0; i < args->count; i++) args->destination[i] = (float)source[i] / 255.0f;
}

static inline float apply_terms(float value, const float *bias, const float *scale, size_t channel) {
    return bias ? (value + bias[channel]) * scale[channel] : value;
}

static inline int pack_bit(const bc_pack_args *args, float value, size_t channel) {
    if (args->abs_sum) return !(value < 0.0f);
    const int bit = !(value < (args->threshold ? args->threshold[channel] : 0.0f));
    const int flips = args->flip && args->flip[channel / 64] >> channel % 64 & 1;
    return flips && !isnan(value) ? !bit : bit;
}

static void pack_f32(const bc_pack_args *args) {
    const float *bias = args->abs_sum ? args->bias : NULL;
    for (size_t pixel = 0; pixel < args->pixels; pixel++) {
        const float *source = args->source + (ptrdiff_t)pixel * args->source_stride;
        uint64_t *words = args->words + (ptrdiff_t)pixel * args->words_stride;
        float abs_sum = 0.0f;
        uint64_t word = 0;
        for (size_t c = 0; c < args->channels; c++) {
            const float value = apply_terms(source[c], bias, args->scale, c);
            abs_sum += fabsf(value);
            word |= (uint64_t)pack_bit(args, value, c) << c % 64;
            if (c % 64 == 63 || c + 1 == args->channels) {
                words[c / 64] = word;
                word = 0;
            }
        }
        if (args->abs_sum) args->abs_sum[pixel] += abs_sum;
    }
}

static void terms_f32(const bc_terms_args *args) {
    for (size_t pixel = 0; pixel < args->pixels; pixel++) {
        const float *source = args->source + (ptrdiff_t)pixel * args->source_stride;
        float *destination = args->destination + (ptrdiff_t)pixel * args->destination_stride;
        float abs_sum = 0.0f;
        for (size_t c = 0; c < args->channels; c++) {
            destination[c] = apply_terms(source[c], args->bias, args->scale, c);
            abs_sum += fabsf(destination[c]);
        }
        if (args->abs_sum) args->abs_sum[pixel] += abs_sum;
    }
}

/* 1 to 64 bits from bit `at` on. The second word is the first again where that holds them all. */
static inline uint64_t read_bits(const uint64_t *words, ptrdiff_t at, size_t bits) {
    const size_t shift = (size_t)at & 63;
    const uint64_t *word = words + (at >> 6);
    const uint64_t high = word[(shift + bits - 1) / 64] << 1 << (63 - shift);
    return (word[0] >> shift | high) & bc_low_bits(bits);
}

/* One field after the other, each up to 64 bits at a time. Arguments are copied to locals, for all that the compiler knows
 * stores may change them. */
static void gather_fields(const bc_gather_args *args, ptrdiff_t first_bit, uint64_t *destination) {
    const uint64_t *source = args->source;
    const ptrdiff_t *tap_bit = args->tap_bit;
    const size_t taps = args->taps, field_bits = args->bits, word_stride = args->word_stride;
    uint64_t word = 0; /* holds `filled` bits */
    size_t filled = 0;
    for (size_t tap = 0; tap < taps; tap++)
        for (size_t done = 0, part; done < field_bits; done += part) {
            part = field_bits - done < 64 ? field_bits - done : 64;
            const uint64_t bits = read_bits(source, first_bit + tap_bit[tap] + (ptrdiff_t)done, part);
            word |= bits << filled;
            filled += part;
            if (filled < 64) continue;
            *destination = word;
            destination += word_stride;
            filled -= 64;
            word = filled ? bits >> (part - filled) : 0;
        }
    if (filled) *destination = word;
}

/* What a pixel's word has from that of the pixel before: fields that were there as the next tap's, one place up. */
typedef struct sliding_fields {
    uint64_t kept; /* their bits */
    size_t fresh;  /* how many others there are but for the last tap, which always is one */
    size_t taps[64];
} sliding_fields;

static sliding_fields find_sliding_fields(const bc_gather_args *args) {
    sliding_fields sliding = {0};
    for (size_t tap = 0; tap + 1 < args->taps; tap++)
        if (args->tap_bit[tap + 1] - args->tap_bit[tap] == args->pixel_step_bits)
            sliding.kept |= bc_low_bits(args->bits) << tap * args->bits;
        else
            sliding.taps[sliding.fresh++] = tap;
    return sliding;
}

/* Several fields to a word. */
static void gather_sliding(const bc_gather_args *args, const sliding_fields *sliding, size_t group) {
    const uint64_t *source = args->source, kept = sliding->kept;
    const size_t bits = args->bits, pixels = args->pixels, pixel_stride = args->pixel_stride;
    const size_t fresh = sliding->fresh, last = args->taps - 1;
    const ptrdiff_t step = args->pixel_step_bits, last_bit = args->tap_bit[last];
    ptrdiff_t at = args->first_bit + (ptrdiff_t)(group * bits);
    uint64_t *destination = args->destination + group;
    gather_fields(args, at, destination);
    uint64_t word = *destination;
    for (size_t pixel = 1; pixel < pixels; pixel++) {
        at += step;
        destination += pixel_stride;
        word = (word >> bits & kept) | read_bits(source, at + last_bit, bits) << last * bits;
        for (size_t i = 0; i < fresh; i++) {
            const size_t tap = sliding->taps[i];
            word |= read_bits(source, at + args->tap_bit[tap], bits) << tap * bits;
        }
        *destination = word;
    }
}

static void gather_bits(const bc_gather_args *args) {
    if (!args->taps || !args->bits || !args->pixels) return;
    const int single = args->taps == 1 && args->bits <= 64;
    const int slides = args->taps > 1 && args->taps * args->bits <= 64;
    const sliding_fields sliding = slides ? find_sliding_fields(args) : (sliding_fields){0};
    for (size_t group = 0; group < args->groups; group++) {
        if (slides) {
            gather_sliding(args, &sliding, group);
            continue;
        }
        const uint64_t *source = args->source;
        const size_t bits = args->bits, pixels = args->pixels, pixel_stride = args->pixel_stride;
        const ptrdiff_t step = args->pixel_step_bits;
        ptrdiff_t at = args->first_bit + (ptrdiff_t)(group * bits);
        uint64_t *destination = args->destination + group;
        if (single) at += args->tap_bit[0];
        for (size_t pixel = 0; pixel < pixels; pixel++, at += step, destination += pixel_stride) {
            if (single)
                *destination = read_bits(source, at, bits);
            else
                gather_fields(args, at, destination);
        }
    }
}

/* ---- XNOR: blocks of 8 filters, [block][tap][word][8] uint64 -------------------------------------- */

enum { XOR_LANES = 8 };

static void xorpop_weights(const bc_xorpop_weights_args *args) {
    const size_t words = (args->channels + 63) / 64, mps_words = (args->channels + 31) / 32;
    const size_t blocks = (args->filters + XOR_LANES - 1) / XOR_LANES;
    uint64_t *out = args->blocks;
    for (size_t block = 0; block < blocks; block++)
        for (size_t tap = 0; tap < args->taps; tap++)
            for (size_t word = 0; word < words; word++)
                for (size_t lane = 0; lane < XOR_LANES; lane++) {
                    const size_t filter = block * XOR_LANES + lane;
                    const uint32_t *tap_words = args->weights + (filter * args->taps + tap) * mps_words;
                    *out++ = filter < args->filters ? bc_filter_word(tap_words, word, args->channels) : 0;
                }
}

static void xorpop_run(const bc_xorpop_args *args) {
    for (size_t pixel = 0; pixel < args->pixels; pixel++) {
        const uint64_t *source = args->source + (ptrdiff_t)pixel * args->source_stride;
        const uint64_t *weights = args->weights;
        for (size_t block = 0; block < args->blocks; block++) {
            uint64_t sums[XOR_LANES] = {0};
            for (size_t tap = 0; tap < args->taps; tap++)
                for (size_t k = 0; k < args->words; k++, weights += XOR_LANES) {
                    const uint64_t word = source[args->tap_offset[tap] + (ptrdiff_t)k];
                    for (size_t lane = 0; lane < XOR_LANES; lane++)
                        sums[lane] += bc_popcount64(word ^ weights[lane]);
                }
            int32_t *counts = args->counts + pixel * args->counts_stride + block * XOR_LANES;
            for (size_t lane = 0; lane < XOR_LANES; lane++) counts[lane] = (int32_t)sums[lane];
        }
    }
}

static void xorpop(const bc_xorpop_args *args) { bc_for_runs(args, xorpop_run); }

/* ---- XNOR by chains: blocks of 32 filters, [block][word][2][32] uint32, low halves and running XORs ------- */

enum { CHAIN_LANES = 32 };

static inline uint32_t low_half(uint64_t word) { return (uint32_t)word; }
static inline uint32_t high_half(uint64_t word) { return (uint32_t)(word >> 32); }

static void chain_source(const bc_chain_source_args *args) {
    const ptrdiff_t *row_offset = args->row_offset;
    const size_t rows = args->rows, words = args->words;
    for (size_t run = 0; run < args->runs; run++) {
        const uint64_t *source = args->source + (ptrdiff_t)run * args->source_run_stride;
        uint64_t *entry = args->chain + run * args->run_stride;
        uint32_t ones = 0;
        *entry++ = 0;
        for (size_t k = 0; k < words; k++)
            for (size_t r = 0; r < rows; r++) {
                const uint64_t word = source[row_offset[r] + (ptrdiff_t)k];
                ones ^= low_half(word) ^ high_half(word);
                *entry++ = low_half(word) | (uint64_t)ones << 32;
            }
    }
}

static void chain_filter(const bc_chain_weights_args *args, size_t filter, uint32_t *lane) {
    const size_t words = (args->channels + 63) / 64, mps_words = (args->channels + 31) / 32;
    const uint32_t *weights = args->weights + filter * args->rows * args->row_taps * mps_words;
    uint32_t ones = 0;
    for (size_t tap = 0; tap < args->row_taps; tap++)
        for (size_t k = 0; k < words; k++)
            for (size_t r = 0; r < args->rows; r++, lane += 2 * CHAIN_LANES) {
                const uint32_t *tap_words = weights + (r * args->row_taps + tap) * mps_words;
                const uint64_t word = bc_filter_word(tap_words, k, args->channels);
                ones ^= low_half(word) ^ high_half(word);
                lane[0] = low_half(word);
                lane[CHAIN_LANES] = ones;
            }
}

static void chain_weights(const bc_chain_weights_args *args) {
    const size_t words = args->rows * args->row_taps * ((args->channels + 63) / 64);
    const size_t blocks = (args->filters + CHAIN_LANES - 1) / CHAIN_LANES;
    uint32_t *out = args->blocks;
    memset(out, 0, blocks * words * 2 * CHAIN_LANES * sizeof *out);
    for (size_t filter = 0; filter < args->filters; filter++)
        chain_filter(args, filter,
                     out + filter / CHAIN_LANES * words * 2 * CHAIN_LANES + filter % CHAIN_LANES);
}

static void finish_counts(const bc_chain_sums_args *args, size_t pixel, size_t filter,
                          const int32_t *counts) {
    bc_epilogue_args part = *args->finish;
    part.counts = counts;
    part.pixels = 1;
    part.channels = CHAIN_LANES;
    part.channel_base += filter;
    if (part.pixel_base) part.pixel_base += pixel * part.pixel_base_stride;
    part.scale += filter;
    part.bias += filter;
    if (part.neuron.a_terms) part.neuron.a_terms += filter;
    part.destination =
        (float *)part.destination + (ptrdiff_t)pixel * part.destination_stride + (ptrdiff_t)filter;
    bc_kernels_scalar.epilogue(&part);
}

static void chain_sums(const bc_chain_sums_args *args) {
    for (size_t pixel = 0; pixel < args->runs * args->pixels; pixel++) {
        const uint64_t *before =
            args->chain + pixel / args->pixels * args->run_stride + pixel % args->pixels * args->pixel_stride;
        const uint32_t *filters = args->weights;
        for (size_t block = 0; block < args->blocks; block++) {
            uint64_t sums[CHAIN_LANES] = {0};
            uint32_t filter_ones[CHAIN_LANES] = {0};
            uint32_t ones = high_half(*before);
            for (size_t k = 1; k <= args->words; k++, filters += 2 * CHAIN_LANES) {
                const uint32_t low = low_half(before[k]), next = high_half(before[k]);
                const uint32_t high = ones ^ next ^ low;
                for (size_t lane = 0; lane < CHAIN_LANES; lane++) {
                    const uint32_t filter_low = filters[lane], filter_next = filters[CHAIN_LANES + lane];
                    const uint32_t filter_high = filter_ones[lane] ^ filter_next ^ filter_low;
                    sums[lane] += bc_popcount64((low ^ filter_low) | (uint64_t)(high ^ filter_high) << 32);
                    filter_ones[lane] = filter_next;
                }
                ones = next;
            }
            int32_t finished[CHAIN_LANES];
            int32_t *counts =
                args->finish ? finished : args->counts + pixel * args->counts_stride + block * CHAIN_LANES;
            for (size_t lane = 0; lane < CHAIN_LANES; lane++) counts[lane] = (int32_t)sums[lane];
            if (args->finish) finish_counts(args, pixel, block * CHAIN_LANES, counts);
        }
    }
}

static void window_popcount(const bc_window_popcount_args *args) {
    for (size_t pixel = 0; pixel < args->pixels; pixel++) {
        const uint64_t *source = args->source + (ptrdiff_t)pixel * args->source_stride;
        uint64_t count = 0;
        for (size_t tap = 0; tap < args->taps; tap++)
            for (size_t k = 0; k < args->words; k++)
                count += bc_popcount64(source[args->tap_offset[tap] + (ptrdiff_t)k]);
        args->counts[pixel] = (int32_t)count;
    }
}

/* ---- BINARY_WEIGHTS: blocks of 16 filters, [block][row][word][16] uint32, input 32k+b of a run is bit b of
 * word k -------------------------------------------------------------------------------------------- */

enum { SIGN_LANES = 16 };

static void signsum_weights(const bc_signsum_weights_args *args) {
    const size_t words = (args->run + 31) / 32, block_words = args->rows * words * SIGN_LANES;
    const size_t blocks = (args->filters + SIGN_LANES - 1) / SIGN_LANES;
    uint32_t *out = args->blocks;
    memset(out, 0, blocks * block_words * sizeof *out);
    for (size_t filter = 0; filter < args->filters; filter++) {
        uint32_t *lane = out + filter / SIGN_LANES * block_words + filter % SIGN_LANES;
        for (size_t word = 0; word < args->rows * words; word++)
            lane[word * SIGN_LANES] = args->weights[filter * args->rows * words + word] &
                                      (uint32_t)bc_low_bits(args->run - word % words * 32);
    }
}

enum { GROUP = 4 /* inputs */ };

static void signsum_expand(const bc_signsum_expand_args *args) {
    float *group = args->groups;
    for (size_t pixel = 0; pixel < args->pixels; pixel++) {
        const float *source = args->source + (ptrdiff_t)pixel * args->source_stride;
        for (size_t input = 0; input < args->run; input += GROUP, group += GROUP)
            for (size_t i = 0; i < GROUP; i++) group[i] = input + i < args->run ? source[input + i] : 0.0f;
    }
}

/* v where the bit is 1, -v where it is 0. */
static inline float with_sign(float v, uint32_t bit) {
    return bc_bits_float(bc_float_bits(v) ^ (~bit << 31));
}

static void signsum(const bc_signsum_args *args) {
    for (size_t pixel = 0; pixel < args->pixels; pixel++)
        for (size_t block = 0; block < args->blocks; block++) {
            const float *source = args->source + (ptrdiff_t)pixel * args->source_stride;
            const uint32_t *words =
                (const uint32_t *)((const char *)args->weights + block * args->block_stride_bytes);
            float total[SIGN_LANES] = {0};
            for (size_t row = 0; row < args->rows; row++)
                for (size_t group = 0; group < args->groups; group++) {
                    const float *v = source + args->row_offset[row] + group * GROUP;
                    for (size_t lane = 0; lane < SIGN_LANES; lane++) {
                        const uint32_t bits = words[lane] >> group % 8 * GROUP;
                        total[lane] += (with_sign(v[0], bits) + with_sign(v[1], bits >> 1)) +
                                       (with_sign(v[2], bits >> 2) + with_sign(v[3], bits >> 3));
                    }
                    if (group % 8 == 7 || group + 1 == args->groups) words += SIGN_LANES;
                }
            float *sums = args->sums + pixel * args->sums_stride + block * SIGN_LANES;
            for (size_t lane = 0; lane < SIGN_LANES; lane++)
                sums[lane] = args->accumulate ? sums[lane] + total[lane] : total[lane];
        }
}

static void window_sum(const bc_window_sum_args *args) {
    for (size_t pixel = 0; pixel < args->pixels; pixel++) {
        const float *source = args->source + (ptrdiff_t)pixel * args->source_stride;
        float sum = 0.0f;
        for (size_t tap = 0; tap < args->taps; tap++) sum += source[args->tap_offset[tap]];
        args->sums[pixel] = sum / args->divisor;
    }
}

/* ---- Epilogue ------------------------------------------------------------------------------------- */

enum { LANES = 16 };

typedef struct floats {
    float lane[LANES];
} floats;

typedef struct ints {
    int32_t lane[LANES];
} ints;

static inline floats load_floats(const float *values) {
    floats x;
    memcpy(&x, values, sizeof x);
    return x;
}

static inline ints load_ints(const int32_t *values) {
    ints x;
    memcpy(&x, values, sizeof x);
    return x;
}

static inline void store_floats(float *values, floats x) { memcpy(values, &x, sizeof x); }

static inline floats spread(float value) {
    floats x;
    for (int i = 0; i < LANES; i++) x.lane[i] = value;
    return x;
}

static inline floats add(floats x, floats y) {
    for (int i = 0; i < LANES; i++) x.lane[i] += y.lane[i];
    return x;
}

static inline floats multiply(floats x, floats y) {
    for (int i = 0; i < LANES; i++) x.lane[i] *= y.lane[i];
    return x;
}

static inline floats sloped(floats x, floats slope) {
    for (int i = 0; i < LANES; i++) x.lane[i] = x.lane[i] >= 0.0f ? x.lane[i] : slope.lane[i] * x.lane[i];
    return x;
}

/* Lanes past the last channel hold anything, so this must not overflow as signed arithmetic would. */
static inline ints plus(ints x, int32_t y) {
    for (int i = 0; i < LANES; i++) x.lane[i] = (int32_t)((uint32_t)x.lane[i] + (uint32_t)y);
    return x;
}

static inline ints minus(ints x, ints y) {
    for (int i = 0; i < LANES; i++) x.lane[i] = (int32_t)((uint32_t)x.lane[i] - (uint32_t)y.lane[i]);
    return x;
}

static inline ints sums_of(ints base, ints count, unsigned count_shift, unsigned sum_shift) {
    for (int i = 0; i < LANES; i++) {
        const uint32_t sum = (uint32_t)base.lane[i] - ((uint32_t)count.lane[i] << count_shift);
        base.lane[i] = (int32_t)sum >> sum_shift;
    }
    return base;
}

static inline floats to_floats(ints sum) {
    floats x;
    for (int i = 0; i < LANES; i++) x.lane[i] = (float)sum.lane[i];
    return x;
}

static inline uint64_t at_least(ints x, ints flip, ints threshold) {
    uint64_t bits = 0;
    for (int i = 0; i < LANES; i++) bits |= (uint64_t)((x.lane[i] ^ flip.lane[i]) >= threshold.lane[i]) << i;
    return bits;
}

static inline void narrow(floats x, uint16_t *halves) {
    for (int i = 0; i < LANES; i++) halves[i] = float_to_half(x.lane[i]);
}

static inline uint64_t nonnegative(floats x) {
    uint64_t bits = 0;
    for (int i = 0; i < LANES; i++) bits |= (uint64_t)!(x.lane[i] < 0.0f) << i;
    return bits;
}

#define EPILOGUE_PARTS 1
#include "epilogue_template.h"

/* ---- Bits to values ------------------------------------------------------------------------------- */

static void unpack_i8(const bc_unpack_args *args) {
    const size_t words = (args->channels + 63) / 64;
    for (size_t pixel = 0; pixel < args->pixels; pixel++)
        for (size_t c = 0; c < args->channels; c++) {
            const uint64_t bit = args->words[pixel * words + c / 64] >> c % 64 & 1;
            args->values[pixel * args->channels + c] = bit ? 1 : -1;
        }
}

const bc_kernels bc_kernels_scalar = {
    .widen_f16 = widen_f16,
    .widen_u8 = widen_u8,
    .pack_f32 = pack_f32,
    .terms_f32 = terms_f32,
    .gather_bits = gather_bits,
    .xorpop_block_filters = XOR_LANES,
    .xorpop_block_word_bytes = XOR_LANES * sizeof(uint64_t),
    .xorpop_weights = xorpop_weights,
    .xorpop = xorpop,
    .chain_words_least = SIZE_MAX,
    .chain_filters_least = SIZE_MAX,
    .chain_source = chain_source,
    .chain_block_filters = CHAIN_LANES,
    .chain_block_word_bytes = CHAIN_LANES * sizeof(uint64_t),
    .chain_weights = chain_weights,
    .chain_sums = chain_sums,
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
