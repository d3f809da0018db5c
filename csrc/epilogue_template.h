/* The epilogue, written once in portable C and compiled for each instruction set by the file that includes this under
 * its target pragma: loops over LANES floats with nothing but IEEE operations, which compilers turn into vectors
 * and which give the same bits everywhere. Before including, that file defines
 *
 *   static inline void narrow_lanes(const float *y, uint16_t *halves);    LANES floats to float16, nearest even
 *   static inline uint64_t nonnegative_lanes(const float *y);             bit i: y[i] is not below 0
 */
#include <string.h>

#include "kernels.h"
#include "neuron_math.h"

enum { LANES = 16 };

static inline void scale_counts(const bc_epilogue_args *args, size_t pixel, size_t channels, float *y) {
    const int32_t *count = args->counts + pixel * args->row_stride;
    const int32_t pixel_base = args->pixel_base ? args->pixel_base[pixel] : 0;
    const float beta = args->beta ? args->beta[pixel] : 1.0f; /* times 1 changes no bit */
    const unsigned count_shift = args->count_shift, sum_shift = args->sum_shift;
    for (size_t c = 0; c < channels; c += LANES) {
        const int32_t *base = args->channel_base + c;
        const float *scale = args->scale + c, *bias = args->bias + c;
        for (size_t lane = 0; lane < LANES; lane++) {
            /* Unsigned, because what lies in lanes past the last channel may overflow. */
            const uint32_t total = (uint32_t)base[lane] + (uint32_t)pixel_base;
            const int32_t sum = (int32_t)(total - ((uint32_t)count[c + lane] << count_shift)) >> sum_shift;
            y[c + lane] = (float)sum * scale[lane] * beta + bias[lane];
        }
    }
}

static inline void scale_sums(const bc_epilogue_args *args, size_t pixel, size_t channels, float *y) {
    const float *sums = args->sums + pixel * args->row_stride;
    const float beta = args->beta ? args->beta[pixel] : 1.0f;
    for (size_t c = 0; c < channels; c += LANES) {
        const float *scale = args->scale + c, *bias = args->bias + c;
        for (size_t lane = 0; lane < LANES; lane++)
            y[c + lane] = sums[c + lane] * scale[lane] * beta + bias[lane];
    }
}

static inline void store_floats(const float *y, size_t channels, float *destination) {
    size_t c = 0;
    for (; c + LANES <= channels; c += LANES) memcpy(destination + c, y + c, LANES * sizeof *y);
    if (c < channels) memcpy(destination + c, y + c, (channels - c) * sizeof *y);
}

static inline void store_halves(const float *y, size_t channels, uint16_t *destination) {
    size_t c = 0;
    for (; c + LANES <= channels; c += LANES) narrow_lanes(y + c, destination + c);
    if (c < channels) {
        uint16_t halves[LANES];
        narrow_lanes(y + c, halves);
        memcpy(destination + c, halves, (channels - c) * sizeof *halves);
    }
}

static inline void store_bits(const bc_epilogue_args *args, float *y, size_t padded, uint64_t *words) {
    const size_t channels = args->channels;
    if (args->pack_bias) {
        for (size_t c = 0; c < padded; c += LANES)
            for (size_t lane = 0; lane < LANES; lane++)
                y[c + lane] = (y[c + lane] + args->pack_bias[c + lane]) * args->pack_scale[c + lane];
    }
    uint64_t bits = 0;
    for (size_t c = 0; c < padded; c += LANES) bits |= nonnegative_lanes(y + c) << c;

    const uint64_t mask = channels == 64 ? ~UINT64_C(0) : (UINT64_C(1) << channels) - 1;
    const size_t word = args->destination_bit / 64, shift = args->destination_bit % 64;
    words[word] = (words[word] & ~(mask << shift)) | (bits & mask) << shift;
    if (shift + channels > 64) {
        const size_t down = 64 - shift;
        words[word + 1] = (words[word + 1] & ~(mask >> down)) | (bits & mask) >> down;
    }
}

static void epilogue(const bc_epilogue_args *args) {
    if (args->channels == 0) return;
    const size_t padded = (args->channels + LANES - 1) / LANES * LANES;
    for (size_t pixel = 0; pixel < args->pixels; pixel++) {
        float y[BC_EPILOGUE_CHANNELS];
        if (args->counts)
            scale_counts(args, pixel, padded, y);
        else
            scale_sums(args, pixel, padded, y);
        bc_neuron_apply(&args->neuron, args->neuron.a_terms, y, padded);

        const ptrdiff_t at = (ptrdiff_t)pixel * args->destination_stride;
        switch (args->format) {
            case BC_FLOAT16:
                store_halves(y, args->channels, (uint16_t *)args->destination + at);
                break;
            case BC_BITS:
                store_bits(args, y, padded, (uint64_t *)args->destination + at);
                break;
            default:
                store_floats(y, args->channels, (float *)args->destination + at);
                break;
        }
    }
}
