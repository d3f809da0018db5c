/* The epilogue, written once and compiled for each instruction set by the file that includes this under its target
 * pragma. That file first defines two types of LANES elements, `floats` and `ints`, and
 *
 *   EPILOGUE_PARTS     how many times LANES channels of a pixel are taken together, whose terms all find registers, 1 to 4
 *   floats load_floats(const float *);     void store_floats(float *, floats);
 *   ints load_ints(const int32_t *);       floats spread(float);
 *   floats add(floats, floats);            floats multiply(floats, floats);
 *   floats sloped(floats x, floats slope);                              x >= 0 ? x : slope * x
 *   ints plus(ints, int32_t);              ints minus(ints, ints);
 *   floats to_floats(ints);
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

/* What finish_channels does, as constants where it is inlined: where sums come from, and what is done to them. */
typedef enum finish_source {
    FROM_XNOR_COUNTS, /* count_shift 1, sum_shift 0, no pixel_base */
    FROM_COUNTS,      /* in general */
    FROM_SUMS,        /* float sums */
    TO_BITS,          /* counts against thresholds */
    TO_BITS_BASED,    /* the same with a pixel_base */
} finish_source;

typedef enum finish_neuron {
    NO_NEURON,
    SLOPED_NEURON, /* y >= 0 ? y : slope * y */
    OTHER_NEURON,
} finish_neuron;

/* What belongs to LANES channels, and stays in registers over all pixels. */
typedef struct channel_terms {
    ints base, threshold, flip;
    floats scale, bias, slope, pack_bias, pack_scale;
} channel_terms;

BC_FORCE_INLINE channel_terms load_terms_of(const bc_epilogue_args *args, size_t channel,
                                            finish_source source, finish_neuron neuron) {
    channel_terms terms;
    if (source == TO_BITS || source == TO_BITS_BASED) {
        terms.threshold = load_ints(args->bit_threshold + channel);
        terms.flip = load_ints(args->bit_flip + channel);
        return terms;
    }
    terms.scale = load_floats(args->scale + channel);
    terms.bias = load_floats(args->bias + channel);
    if (source != FROM_SUMS) terms.base = load_ints(args->channel_base + channel);
    if (neuron == SLOPED_NEURON)
        terms.slope = args->neuron.type == BC_NEURON_PRELU ? load_floats(args->neuron.a_terms + channel)
                                                           : spread(args->neuron.a);
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

/* `count` of LANES bits, or 0 for all of them at a multiple of LANES, from bit `at` of a pixel on. */
BC_FORCE_INLINE void store_bits(char *pixel, size_t at, size_t count, uint64_t lanes) {
    if (!count) {
        const uint16_t bits = (uint16_t)lanes; /* words are little-endian on every target */
        memcpy(pixel + at / 8, &bits, sizeof bits);
    } else {
        write_bits((uint64_t *)pixel, at, lanes, count);
    }
}

/* `count` of LANES results, or 0 as above, from element or bit `at` of a pixel on. */
BC_FORCE_INLINE void store_lanes(bc_format format, char *pixel, size_t at, size_t count, floats y) {
    if (format == BC_FLOAT32) {
        if (!count) {
            store_floats((float *)pixel + at, y);
        } else {
            float values[LANES];
            store_floats(values, y);
            memcpy((float *)pixel + at, values, count * sizeof *values);
        }
    } else if (format == BC_FLOAT16) {
        if (!count) {
            narrow(y, (uint16_t *)pixel + at);
        } else {
            uint16_t values[LANES];
            narrow(y, values);
            memcpy((uint16_t *)pixel + at, values, count * sizeof *values);
        }
    } else {
        store_bits(pixel, at, count, nonnegative(y));
    }
}

/* `parts` times LANES channels of every pixel, or `count` of the only part where that is not 0. Arguments are copied to locals,
 * for all that the compiler knows stores may change them. */
BC_FORCE_INLINE void finish_channels(const bc_epilogue_args *args, size_t channel, int parts, size_t count,
                                     bc_format format, finish_neuron neuron, finish_source source) {
    channel_terms terms[EPILOGUE_PARTS];
    BC_UNROLL
    for (int i = 0; i < parts; i++)
        terms[i] = load_terms_of(args, channel + (size_t)i * LANES, source, neuron);
    const bc_neuron function = args->neuron;
    const int32_t *counts = source == FROM_SUMS ? NULL : args->counts + channel;
    const float *sums = source == FROM_SUMS ? args->sums + channel : NULL;
    const int32_t *pixel_base = args->pixel_base;
    const float *beta = args->beta;
    const size_t beta_stride = args->beta_stride;
    const unsigned count_shift = args->count_shift, sum_shift = args->sum_shift;
    const size_t row_stride = args->row_stride, base_stride = args->pixel_base_stride;
    const size_t at = channel + (format == BC_BITS ? args->destination_bit : 0);
    const ptrdiff_t element_bytes = format == BC_FLOAT32 ? 4 : format == BC_FLOAT16 ? 2 : 8;
    const ptrdiff_t stride = args->destination_stride * element_bytes;
    const int packs_terms = format == BC_BITS && args->pack_bias;
    char *destination = args->destination;

    for (size_t left = args->pixels; left; left--, destination += stride) {
        const int32_t base =
            source == TO_BITS_BASED || (source == FROM_COUNTS && pixel_base) ? *pixel_base : 0;
        BC_UNROLL
        for (int i = 0; i < parts; i++) {
            const channel_terms *of = &terms[i];
            const size_t first = at + (size_t)i * LANES;
            if (source == TO_BITS || source == TO_BITS_BASED) {
                ints x = load_ints(counts + i * LANES);
                if (source == TO_BITS_BASED) x = plus(x, -base);
                store_bits(destination, first, count, at_least(x, of->flip, of->threshold));
                continue;
            }
            floats y;
            if (source == FROM_SUMS) {
                y = load_floats(sums + i * LANES);
            } else {
                const ints x = load_ints(counts + i * LANES);
                y = to_floats(source == FROM_XNOR_COUNTS
                                  ? minus(minus(of->base, x), x)
                                  : sums_of(plus(of->base, base), x, count_shift, sum_shift));
            }
            y = multiply(y, of->scale);
            if (beta) y = multiply(y, spread(*beta));
            y = add(y, of->bias);
            if (neuron == SLOPED_NEURON) y = sloped(y, of->slope);
            if (neuron == OTHER_NEURON) {
                float values[LANES];
                store_floats(values, y);
                bc_neuron_apply(&function, values, LANES);
                y = load_floats(values);
            }
            if (packs_terms) y = multiply(add(y, of->pack_bias), of->pack_scale);
            store_lanes(format, destination, first, count, y);
        }
        if (source == FROM_SUMS)
            sums += row_stride;
        else
            counts += row_stride;
        if (pixel_base) pixel_base += base_stride;
        if (beta) beta += beta_stride;
    }
}

/* One function for each, so that none has to share its registers. */
#define FINISH(format, neuron, source)                                                   \
    static void finish_##format##_##neuron##_##source(const bc_epilogue_args *args) {    \
        const size_t at_once = EPILOGUE_PARTS * LANES;                                   \
        const int aligned = format != BC_BITS || args->destination_bit % LANES == 0;     \
        size_t channel = 0;                                                              \
        for (; aligned && channel + at_once <= args->channels; channel += at_once)       \
            finish_channels(args, channel, EPILOGUE_PARTS, 0, format, neuron, source);   \
        for (; aligned && channel + LANES <= args->channels; channel += LANES)           \
            finish_channels(args, channel, 1, 0, format, neuron, source);                \
        for (size_t count; channel < args->channels; channel += count) {                 \
            count = args->channels - channel < LANES ? args->channels - channel : LANES; \
            finish_channels(args, channel, 1, count, format, neuron, source);            \
        }                                                                                \
    }
#define FOR_SOURCES(DO, format, neuron) \
    DO(format, neuron, FROM_XNOR_COUNTS) DO(format, neuron, FROM_COUNTS) DO(format, neuron, FROM_SUMS)
#define FOR_NEURONS(DO, format)        \
    FOR_SOURCES(DO, format, NO_NEURON) \
    FOR_SOURCES(DO, format, SLOPED_NEURON) FOR_SOURCES(DO, format, OTHER_NEURON)
FOR_NEURONS(FINISH, BC_FLOAT32)
FOR_NEURONS(FINISH, BC_FLOAT16)
FOR_NEURONS(FINISH, BC_BITS)
FINISH(BC_BITS, NO_NEURON, TO_BITS)
FINISH(BC_BITS, NO_NEURON, TO_BITS_BASED)

static void epilogue(const bc_epilogue_args *args) {
#define ENTRY(format, neuron, source) [format][neuron][source] = finish_##format##_##neuron##_##source,
    static void (*const finish[][3][5])(const bc_epilogue_args *) = {
        FOR_NEURONS(ENTRY, BC_FLOAT32) FOR_NEURONS(ENTRY, BC_FLOAT16) FOR_NEURONS(ENTRY, BC_BITS)
            ENTRY(BC_BITS, NO_NEURON, TO_BITS) ENTRY(BC_BITS, NO_NEURON, TO_BITS_BASED)};
#undef ENTRY
    const bc_neuron_type type = args->neuron.type;
    finish_neuron neuron = OTHER_NEURON;
    finish_source source = FROM_COUNTS;
    if (type == BC_NEURON_NONE)
        neuron = NO_NEURON;
    else if (type == BC_NEURON_RELU || type == BC_NEURON_PRELU)
        neuron = SLOPED_NEURON;
    if (!args->counts)
        source = FROM_SUMS;
    else if (args->count_shift == 1 && args->sum_shift == 0 && !args->pixel_base)
        source = FROM_XNOR_COUNTS;
    if (args->format == BC_BITS && args->bit_threshold) {
        neuron = NO_NEURON; /* part of the threshold */
        source = args->pixel_base ? TO_BITS_BASED : TO_BITS;
    }
    finish[args->format][neuron][source](args);
}

#undef FINISH
#undef FOR_SOURCES
#undef FOR_NEURONS
