/* Packing and unpacking whole images. */
#include "dispatch.h"
#include "input_threshold.h"
#include "sizes.h"

enum { STAGING_FLOATS = 1024 }; /* on the stack; a multiple of 64 */

/* `channels` from `channel` on, of an image's floats or of some that were widened. */
static void pack_floats(const bc_kernels *kernels, const float *source, size_t pixels, size_t channels,
                        const bc_input_thresholds *thresholds, size_t channel, uint64_t *words) {
    kernels->pack_f32(
        &(bc_pack_args){.source = source,
                        .source_stride = (ptrdiff_t)channels,
                        .pixels = pixels,
                        .channels = channels,
                        .threshold = thresholds->threshold ? thresholds->threshold + channel : NULL,
                        .flip = thresholds->flip ? thresholds->flip + channel / 64 : NULL,
                        .words = words,
                        .words_stride = (ptrdiff_t)bc_divide_up(channels, 64)});
}

static void pack_widened(const bc_kernels *kernels, bc_format format, const void *source, size_t pixels,
                         size_t channels, const bc_input_thresholds *thresholds, uint64_t *words) {
    void (*widen)(const bc_widen_args *) = format == BC_FLOAT16 ? kernels->widen_f16 : kernels->widen_u8;
    const size_t bytes = format == BC_FLOAT16 ? sizeof(uint16_t) : sizeof(uint8_t);
    const size_t pixel_words = bc_divide_up(channels, 64);
    for (size_t pixel = 0; pixel < pixels; pixel++)
        for (size_t c = 0; c < channels; c += STAGING_FLOATS) {
            float staging[STAGING_FLOATS];
            const size_t count = bc_min(STAGING_FLOATS, channels - c);
            widen(&(bc_widen_args){(const char *)source + (pixel * channels + c) * bytes, count, staging});
            pack_floats(kernels, staging, 1, count, thresholds, c, words + pixel * pixel_words + c / 64);
        }
}

bc_status bc_pack(bc_format format, const void *source, size_t pixels, size_t channels, const float *bias,
                  const float *scale, uint64_t *words) {
    if ((bias == NULL) != (scale == NULL)) return BC_INVALID_ARGUMENT;
    if (format != BC_FLOAT32 && format != BC_FLOAT16 && format != BC_UNORM8) return BC_INVALID_ARGUMENT;
    if (pixels && channels && (!source || !words)) return BC_INVALID_ARGUMENT;
    const bc_kernels *kernels;
    bc_input_thresholds thresholds = {NULL, NULL, NULL};
    bc_status status = bc_kernels_chosen(&kernels);
    if (status == BC_OK && bias) status = bc_input_thresholds_create(bias, scale, channels, &thresholds);
    if (status != BC_OK) return status;
    if (format == BC_FLOAT32)
        pack_floats(kernels, source, pixels, channels, &thresholds, 0, words);
    else
        pack_widened(kernels, format, source, pixels, channels, &thresholds, words);
    bc_input_thresholds_free(&thresholds);
    return BC_OK;
}

bc_status bc_unpack(const uint64_t *words, size_t pixels, size_t channels, int8_t *values) {
    if (pixels && channels && (!words || !values)) return BC_INVALID_ARGUMENT;
    const bc_kernels *kernels;
    const bc_status status = bc_kernels_chosen(&kernels);
    if (status == BC_OK) kernels->unpack_i8(&(bc_unpack_args){words, pixels, channels, values});
    return status;
}
