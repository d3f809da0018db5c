/* The epilogue, written once and compiled for each instruction set by the file that includes this under its target
 * pragma. That file first defines two types of LANES elements, `floats` and `ints`, and
 *
 *   floats load_floats(const float *);     void store_floats(float *, floats);
 *   ints load_ints(const int32_t *);       floats spread(float);
 *   floats add(floats, floats);            floats multiply(floats, floats);
 *   floats sloped(floats x, floats slope);                              x >= 0 ? x : slope * x
 *   ints plus(ints, int32_t);              floats to_floats(ints);
 *   ints sums_of(ints base, ints count, unsigned count_shift, unsigned sum_shift);
 *                                                  (base - (count << count_shift)) >> sum_shift
 *   uint64_t at_least(ints x, ints flip, ints threshold);   bit i: lane i of x ^ flip is at least its threshold
 *   void narrow(floats, uint16_t *halves);         to float16, nearest even
 *   uint64_t nonnegative(floats);                  bit i: lane i is not below 0
 *
 * all of them IEEE operations on each lane, none of them fused, so that results have the same bits everywhere.
 */
#include <string.h>

#include "kernels.h"
#include "neuron_math.h"

/* What belongs to LANES channels, and stays in registers over all pixels. */
typedef struct channel_terms {
    ints base, threshold, flip;
    floats scale, bias, slope, pack_bias, pack_scale;
} channel_terms;

/* NONE, RELU and PRELU are y >= 0 ? y : slope * y; times 1 changes no bit. */
static inline int is_sloped(const bc_neuron *neuron) {
    return neuron->type == BC_NEURON_NONE || neuron->type == BC_NEURON_RELU ||
           neuron->type == BC_NEURON_PRELU;
}

static inline channel_terms load_terms_of(const bc_epilogue_args *args, size_t channel) {
    const bc_neuron *neuron = &args->neuron;
    const int prelu = neuron->type == BC_NEURON_PRELU;
    channel_terms terms = {
        .scale = load_floats(args->scale + channel),
        .bias = load_floats(args->bias + channel),
        .slope = prelu ? load_floats(neuron->a_terms + channel)
                       : spread(neuron->type == BC_NEURON_RELU ? neuron->a : 1.0f),
    };
    if (args->counts) terms.base = load_ints(args->channel_base + channel);
    if (args->bit_threshold) {
        terms.threshold = load_ints(args->bit_threshold + channel);
        terms.flip = load_ints(args->bit_flip + channel);
    }
    if (args->pack_bias) {
        terms.pack_bias = load_floats(args->pack_bias + channel);
        terms.pack_scale = load_floats(args->pack_scale + channel);
    }
    return terms;
}

static inline void write_bits(uint64_t *words, size_t at, uint64_t bits, size_t count) {
    const uint64_t mask = (UINT64_C(1) << count) - 1;
    const size_t word = at / 64, shift = at % 64;
    words[word] = (words[word] & ~(mask << shift)) | (bits & mask) << shift;
    if (shift + count > 64) {
        const size_t down = 64 - shift;
        words[word + 1] = (words[word + 1] & ~(mask >> down)) | (bits & mask) >> down;
    }
}

/* `count` of LANES bits of one pixel, to where its channel `channel` goes. */
BC_FORCE_INLINE void store_bits(const bc_epilogue_args *args, uint64_t lanes, ptrdiff_t at, size_t channel,
                                size_t count) {
    uint64_t *words = (uint64_t *)args->destination + at;
    const size_t bit = args->destination_bit + channel;
    if (count == LANES && bit % LANES == 0) {
        const uint16_t bits = (uint16_t)lanes; /* words are little-endian on every target */
        memcpy((char *)words + bit / 8, &bits, sizeof bits);
    } else {
        write_bits(words, bit, lanes, count);
    }
}

BC_FORCE_INLINE void store_lanes(const bc_epilogue_args *args, bc_format format, floats y, ptrdiff_t at,
                                 size_t channel, size_t count) {
    if (format == BC_FLOAT32) {
        float *destination = (float *)args->destination + at + (ptrdiff_t)channel;
        if (count == LANES) {
            store_floats(destination, y);
        } else {
            float values[LANES];
            store_floats(values, y);
            memcpy(destination, values, count * sizeof *values);
        }
    } else if (format == BC_FLOAT16) {
        uint16_t *destination = (uint16_t *)args->destination + at + (ptrdiff_t)channel;
        if (count == LANES) {
            narrow(y, destination);
        } else {
            uint16_t values[LANES];
            narrow(y, values);
            memcpy(destination, values, count * sizeof *values);
        }
    } else {
        store_bits(args, nonnegative(y), at, channel, count);
    }
}

/* What finish_channels does, as constants where it is inlined. */
typedef enum finish_kind {
    FINISH_XNOR,      /* from counts: count_shift 1, sum_shift 0, no pixel_base */
    FINISH_COUNTS,    /* from counts in general */
    FINISH_SUMS,      /* from float sums */
    FINISH_THRESHOLD, /* from counts to bits without sums */
} finish_kind;

/* Up to LANES channels of every pixel. Arguments are copied to locals, for all that the compiler knows stores may change
 * them. */
BC_FORCE_INLINE void finish_channels(const bc_epilogue_args *args, size_t channel, size_t channels,
                                     bc_format format, int sloped_neuron, finish_kind kind) {
    const channel_terms terms = load_terms_of(args, channel);
    const bc_epilogue_args copy = *args;
    const int32_t *counts = args->counts + (kind == FINISH_SUMS ? 0 : channel);
    const float *sums = args->sums + (kind == FINISH_SUMS ? channel : 0);
    const int32_t *pixel_base = args->pixel_base;
    const float *beta = args->beta;
    const unsigned count_shift = kind == FINISH_XNOR ? 1 : args->count_shift;
    const unsigned sum_shift = kind == FINISH_XNOR ? 0 : args->sum_shift;
    const size_t pixels = args->pixels, row_stride = args->row_stride, base_stride = args->pixel_base_stride;
    const ptrdiff_t stride = args->destination_stride;
    const int packs_terms = format == BC_BITS && args->pack_bias;

    for (size_t pixel = 0; pixel < pixels; pixel++) {
        const ptrdiff_t at = (ptrdiff_t)pixel * stride;
        ints sum = terms.base;
        floats y;
        if (kind == FINISH_THRESHOLD) {
            ints count = load_ints(counts + pixel * row_stride);
            if (pixel_base) count = plus(count, -pixel_base[pixel * base_stride]);
            store_bits(&copy, at_least(count, terms.flip, terms.threshold), at, channel, channels);
            continue;
        }
        if (kind != FINISH_SUMS) {
            if (kind != FINISH_XNOR && pixel_base) sum = plus(sum, pixel_base[pixel * base_stride]);
            sum = sums_of(sum, load_ints(counts + pixel * row_stride), count_shift, sum_shift);
        }
        y = kind == FINISH_SUMS ? load_floats(sums + pixel * row_stride) : to_floats(sum);
        y = multiply(y, terms.scale);
        if (beta) y = multiply(y, spread(beta[pixel]));
        y = add(y, terms.bias);
        if (sloped_neuron) {
            y = sloped(y, terms.slope);
        } else {
            float values[LANES];
            store_floats(values, y);
            bc_neuron_apply(&copy.neuron, values, LANES);
            y = load_floats(values);
        }
        if (packs_terms) y = multiply(add(y, terms.pack_bias), terms.pack_scale);
        store_lanes(&copy, format, y, at, channel, channels);
    }
}

#define FINISH_ALL(format, sloped_neuron, kind)                                                   \
    for (size_t channel = 0; channel < args->channels; channel += LANES) {                        \
        const size_t left = args->channels - channel;                                             \
        finish_channels(args, channel, left < LANES ? left : LANES, format, sloped_neuron, kind); \
    }

#define FINISH_FORMAT(format)                                                         \
    if (!is_sloped(&args->neuron)) {                                                  \
        FINISH_ALL(format, 0, args->counts ? FINISH_COUNTS : FINISH_SUMS)             \
    } else if (!args->counts) {                                                       \
        FINISH_ALL(format, 1, FINISH_SUMS)                                            \
    } else if (args->count_shift == 1 && args->sum_shift == 0 && !args->pixel_base) { \
        FINISH_ALL(format, 1, FINISH_XNOR)                                            \
    } else {                                                                          \
        FINISH_ALL(format, 1, FINISH_COUNTS)                                          \
    }

static void epilogue(const bc_epilogue_args *args) {
    switch (args->format) {
        case BC_FLOAT16:
            FINISH_FORMAT(BC_FLOAT16)
            break;
        case BC_BITS:
            if (args->bit_threshold) {
                FINISH_ALL(BC_BITS, 1, FINISH_THRESHOLD)
            } else {
                FINISH_FORMAT(BC_BITS)
            }
            break;
        default:
            FINISH_FORMAT(BC_FLOAT32)
            break;
    }
}

#undef FINISH_ALL
#undef FINISH_FORMAT
