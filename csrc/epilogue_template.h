/* The epilogue, written once and compiled for each instruction set by the file that includes this under its target
 * pragma. That file first defines two types of LANES elements, `floats` and `ints`, and
 *
 *   floats load_floats(const float *);     void store_floats(float *, floats);
 *   ints load_ints(const int32_t *);       floats spread(float);
 *   floats add(floats, floats);            floats multiply(floats, floats);
 *   floats sloped(floats x, floats slope);                              x >= 0 ? x : slope * x
 *   floats sums_of(ints base, ints count, unsigned count_shift, unsigned sum_shift);
 *                                                  float32 of (base - (count << count_shift)) >> sum_shift
 *   ints plus(ints, int32_t);
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
    ints base;
    floats scale, bias, slope, pack_bias, pack_scale;
} channel_terms;

/* NONE, RELU and PRELU are y >= 0 ? y : slope * y; times 1 changes no bit. */
static inline int is_sloped(const bc_neuron *neuron) {
    return neuron->type == BC_NEURON_NONE || neuron->type == BC_NEURON_RELU || neuron->type == BC_NEURON_PRELU;
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

/* `count` of LANES values of one pixel, to where its channel `channel` goes. */
static inline void store_lanes(const bc_epilogue_args *args, bc_format format, floats y, ptrdiff_t at, size_t channel,
                               size_t count) {
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
        uint64_t *words = (uint64_t *)args->destination + at;
        const size_t bit = args->destination_bit + channel;
        if (count == LANES && bit % LANES == 0) {
            const uint16_t bits = (uint16_t)nonnegative(y); /* words are little-endian on every target */
            memcpy((char *)words + bit / 8, &bits, sizeof bits);
        } else {
            write_bits(words, bit, nonnegative(y), count);
        }
    }
}

/* Up to LANES channels of every pixel. What does not change from pixel to pixel is a parameter that is constant where
 * this is inlined. */
static inline void finish_channels(const bc_epilogue_args *args, size_t channel, size_t count, bc_format format,
                                   int sloped_neuron, int from_counts) {
    const channel_terms terms = load_terms_of(args, channel);
    for (size_t pixel = 0; pixel < args->pixels; pixel++) {
        const size_t row = pixel * args->row_stride + channel;
        floats y;
        if (from_counts) {
            const ints base = args->pixel_base ? plus(terms.base, args->pixel_base[pixel]) : terms.base;
            y = sums_of(base, load_ints(args->counts + row), args->count_shift, args->sum_shift);
        } else {
            y = load_floats(args->sums + row);
        }
        /* Without beta this multiplies by 1, which changes no bit either. */
        y = multiply(multiply(y, terms.scale), spread(args->beta ? args->beta[pixel] : 1.0f));
        y = add(y, terms.bias);
        if (sloped_neuron) {
            y = sloped(y, terms.slope);
        } else {
            float values[LANES];
            store_floats(values, y);
            bc_neuron_apply(&args->neuron, values, LANES);
            y = load_floats(values);
        }
        if (format == BC_BITS && args->pack_bias)
            y = multiply(add(y, terms.pack_bias), terms.pack_scale);
        store_lanes(args, format, y, (ptrdiff_t)pixel * args->destination_stride, channel, count);
    }
}

#define FINISH_ALL(format, sloped_neuron, from_counts)                                           \
    for (size_t channel = 0; channel < args->channels; channel += LANES) {                       \
        const size_t left = args->channels - channel;                                            \
        finish_channels(args, channel, left < LANES ? left : LANES, format, sloped_neuron,       \
                        from_counts);                                                            \
    }

#define FINISH_FORMAT(format)                           \
    if (!is_sloped(&args->neuron)) {                    \
        FINISH_ALL(format, 0, args->counts != NULL)     \
    } else if (args->counts) {                          \
        FINISH_ALL(format, 1, 1)                        \
    } else {                                            \
        FINISH_ALL(format, 1, 0)                        \
    }

static void epilogue(const bc_epilogue_args *args) {
    switch (args->format) {
        case BC_FLOAT16:
            FINISH_FORMAT(BC_FLOAT16)
            break;
        case BC_BITS:
            FINISH_FORMAT(BC_BITS)
            break;
        default:
            FINISH_FORMAT(BC_FLOAT32)
            break;
    }
}

#undef FINISH_ALL
#undef FINISH_FORMAT
