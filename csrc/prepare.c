#include "prepare.h"

#include <string.h>

#include "bits.h"
#include "sizes.h"

/* A stretch of slots within a row. */
typedef struct stretch {
    size_t first, count; /* relative to where the row's output begins */
} stretch;

/* Straight from where they lie to what signsum reads. */
static void expand(const bc_plan *plan, const float *source, ptrdiff_t source_stride, stretch slots,
                   const bc_prepared_row *out) {
    const bc_layer *layer = plan->layer;
    const size_t inputs = layer->group_inputs;
    const int adjacent = layer->groups == 1 && source_stride == (ptrdiff_t)inputs;
    for (size_t group = 0; group < layer->groups; group++)
        layer->kernels->signsum_expand(&(bc_signsum_expand_args){
            .source = source + group * inputs,
            .source_stride = source_stride,
            .pixels = adjacent ? 1 : slots.count,
            .run = adjacent ? slots.count * inputs : inputs,
            .groups = out->expanded + group * out->group_stride + slots.first * plan->slot_floats,
        });
}

static void fill_off_source(const bc_plan *plan, stretch slots, const bc_prepared_row *out) {
    const bc_layer *layer = plan->layer;
    if (out->expanded) {
        expand(plan, plan->off_source_values, 0, slots, out);
        return;
    }
    for (size_t slot = slots.first; slot < slots.first + slots.count; slot++) {
        if (out->abs_mean) out->abs_mean[slot] = 0.0f;
        if (out->words) {
            memcpy(out->words + slot * plan->slot_words, plan->off_source_words,
                   plan->slot_words * sizeof *out->words);
            continue;
        }
        for (size_t group = 0; group < layer->groups; group++)
            memcpy(out->values + group * out->group_stride + slot * layer->group_inputs,
                   plan->off_source_values + group * layer->group_inputs,
                   layer->group_inputs * sizeof *out->values);
    }
}

static size_t element_bytes(bc_format format) {
    return format == BC_FLOAT32 ? sizeof(float) : format == BC_FLOAT16 ? sizeof(uint16_t) : sizeof(uint8_t);
}

/* The first element of a pixel that the layer reads, or its first word. */
static const void *source_pixel(const bc_plan *plan, const void *source, size_t image, int32_t y, int32_t x) {
    const bc_image *shape = &plan->config.source;
    const size_t pixel =
        ((plan->config.source_first_image + image) * shape->height + (size_t)y) * shape->width + (size_t)x;
    if (shape->format == BC_BITS) return (const uint64_t *)source + pixel * bc_divide_up(shape->channels, 64);
    const size_t element = pixel * shape->channels + plan->config.source_channel_offset;
    return (const char *)source + element * element_bytes(shape->format);
}

static void prepare_floats(const bc_plan *plan, const float *source, ptrdiff_t source_stride, stretch slots,
                           const bc_prepared_row *out) {
    const bc_layer *layer = plan->layer;
    if (out->expanded) {
        expand(plan, source, source_stride, slots, out);
        return;
    }
    float *abs_sum = out->abs_mean ? out->abs_mean + slots.first : NULL;
    if (abs_sum) memset(abs_sum, 0, slots.count * sizeof *abs_sum);
    if (out->words)
        layer->kernels->pack_f32(&(bc_pack_args){.source = source,
                                                 .source_stride = source_stride,
                                                 .pixels = slots.count,
                                                 .channels = layer->input_channels,
                                                 .threshold = layer->input_thresholds.threshold,
                                                 .flip = layer->input_thresholds.flip,
                                                 .bias = layer->input_bias,
                                                 .scale = layer->input_scale,
                                                 .words = out->words + slots.first * plan->slot_words,
                                                 .words_stride = (ptrdiff_t)plan->slot_words,
                                                 .abs_sum = abs_sum});
    for (size_t group = 0; out->values && group < layer->groups; group++) {
        const size_t channel = group * layer->group_inputs;
        layer->kernels->terms_f32(
            &(bc_terms_args){source + channel, source_stride, slots.count, layer->group_inputs,
                             layer->input_bias ? layer->input_bias + channel : NULL,
                             layer->input_bias ? layer->input_scale + channel : NULL,
                             out->values + group * out->group_stride + slots.first * layer->group_inputs,
                             (ptrdiff_t)layer->group_inputs, abs_sum});
    }
    for (size_t slot = 0; abs_sum && slot < slots.count; slot++)
        abs_sum[slot] /= (float)layer->input_channels;
}

static void widen(const bc_plan *plan, const void *source, size_t count, float *values) {
    const bc_kernels *kernels = plan->layer->kernels;
    const bc_widen_args args = {source, count, values};
    if (plan->config.source.format == BC_FLOAT16)
        kernels->widen_f16(&args);
    else
        kernels->widen_u8(&args);
}

/* float16 and uint8 go through the staging buffer, as many pixels at a time as fit. */
static void prepare_staged(const bc_plan *plan, const char *source, ptrdiff_t stride, stretch slots,
                           const bc_prepared_row *out, float *staging) {
    const size_t channels = plan->layer->input_channels, batch = plan->staging_floats / channels;
    const ptrdiff_t stride_bytes = stride * (ptrdiff_t)element_bytes(plan->config.source.format);
    for (size_t done = 0; done < slots.count; done += batch) {
        const stretch part = {slots.first + done, bc_min(batch, slots.count - done)};
        const char *first = source + (ptrdiff_t)done * stride_bytes;
        if (stride == (ptrdiff_t)channels)
            widen(plan, first, part.count * channels, staging);
        else
            for (size_t i = 0; i < part.count; i++)
                widen(plan, first + (ptrdiff_t)i * stride_bytes, channels, staging + i * channels);
        prepare_floats(plan, staging, (ptrdiff_t)channels, part, out);
    }
}

static void prepare_bits(const bc_plan *plan, const uint64_t *source, ptrdiff_t source_stride, stretch slots,
                         const bc_prepared_row *out) {
    const size_t first_bit = plan->config.source_channel_offset, bits = plan->layer->input_channels;
    uint64_t *words = out->words + slots.first * plan->slot_words;
    if (first_bit % 64 == 0 && bits % 64 == 0) { /* nothing to shift or to clear */
        source += first_bit / 64;
        if (source_stride == (ptrdiff_t)plan->slot_words)
            memcpy(words, source, slots.count * plan->slot_words * sizeof *words);
        else
            for (size_t slot = 0; slot < slots.count; slot++)
                memcpy(words + slot * plan->slot_words, source + (ptrdiff_t)slot * source_stride,
                       plan->slot_words * sizeof *words);
        return;
    }
    plan->layer->kernels->gather_bits(&(bc_gather_args){
        .source = source,
        .first_bit = (ptrdiff_t)first_bit,
        .pixel_step_bits = 64 * source_stride,
        .tap_bit = &(ptrdiff_t){0},
        .taps = 1,
        .bits = bits,
        .groups = 1,
        .pixels = slots.count,
        .destination = words,
        .pixel_stride = plan->slot_words,
        .word_stride = 1,
    });
}

static void prepare_run(const bc_plan *plan, const void *pixel, int32_t step, stretch slots,
                        const bc_prepared_row *out, float *staging) {
    const bc_image *shape = &plan->config.source;
    const ptrdiff_t stride = (ptrdiff_t)shape->channels * step;
    if (shape->format == BC_BITS)
        prepare_bits(plan, pixel, (ptrdiff_t)bc_divide_up(shape->channels, 64) * step, slots, out);
    else if (shape->format == BC_FLOAT32)
        prepare_floats(plan, pixel, stride, slots, out);
    else
        prepare_staged(plan, pixel, stride, slots, out, staging);
}

void bc_prepare_row(const bc_plan *plan, const void *source, size_t image, size_t row, size_t begin,
                    size_t end, const bc_prepared_row *out, float *staging) {
    const int32_t y = plan->rows.source[row];
    for (size_t i = 0; i < plan->columns.run_count; i++) {
        const bc_run *run = &plan->columns.runs[i];
        const size_t first = run->first_slot > begin ? run->first_slot : begin;
        const size_t last = bc_min(run->first_slot + run->slots, end);
        if (first >= last) continue;
        const stretch slots = {first - begin, last - first};
        if (y == BC_OFF_SOURCE || run->source == BC_OFF_SOURCE) {
            fill_off_source(plan, slots, out);
        } else {
            const int32_t x = run->source + run->step * (int32_t)(first - run->first_slot);
            prepare_run(plan, source_pixel(plan, source, image, y, x), run->step, slots, out, staging);
        }
    }
}

/* ---- Rows of words: XNOR and AND ------------------------------------------------------------------ */

/* A row of slots without gaps. As there are no terms, bits off the source are all alike. */
static void prepare_dense_slots(const bc_plan *plan, const void *source, size_t image, int32_t y,
                                uint64_t *slots, float *staging) {
    const bc_kernels *kernels = plan->layer->kernels;
    const bc_run *run = plan->dense_run;
    const size_t channels = plan->layer->input_channels, bits = run->slots * channels;
    const int off_bit = plan->off_source_words[0] & 1;
    memset(slots, off_bit ? 0xff : 0, plan->slot_row_words * sizeof *slots);
    if (y == BC_OFF_SOURCE) return;

    const void *pixel = source_pixel(plan, source, image, y, run->source);
    uint64_t *words = slots + (plan->slot_first_bit + run->first_slot * channels) / 64;
    if (plan->config.source.format == BC_BITS) {
        kernels->gather_bits(&(bc_gather_args){
            .source = pixel,
            .first_bit = (ptrdiff_t)plan->config.source_channel_offset,
            .tap_bit = plan->dense_bit,
            .taps = run->slots,
            .bits = channels,
            .groups = 1,
            .pixels = 1,
            .destination = words,
            .pixel_stride = 0,
            .word_stride = 1,
        });
    } else {
        if (plan->config.source.format != BC_FLOAT32) {
            widen(plan, pixel, bits, staging);
            pixel = staging;
        }
        kernels->pack_f32(&(bc_pack_args){.source = pixel, .pixels = 1, .channels = bits, .words = words});
    }
    if (off_bit && bits % 64) words[bits / 64] |= ~bc_low_bits(bits % 64);
}

/* The slot rows that one prepared row reads, all to the buffer. Those that the row before read too are there already. */
static void prepare_slot_rows(const bc_plan *plan, const void *source, size_t image, size_t y,
                              float *abs_mean, bc_row_scratch *scratch) {
    const size_t step = bc_layer_joins_rows(plan->layer) ? plan->rows.stride : 1;
    const size_t first = image * plan->rows.count + y * step, end = first + plan->gather_rows;
    size_t kept = 0;
    if (scratch->end_row > first && scratch->end_row <= end) {
        kept = scratch->end_row - first;
        memmove(scratch->slot_rows, scratch->slot_rows + (plan->gather_rows - kept) * plan->slot_row_words,
                kept * plan->slot_row_words * sizeof *scratch->slot_rows);
    }
    for (size_t row = first + kept; row < end; row++) {
        const size_t row_in_image = row - image * plan->rows.count;
        uint64_t *slots = scratch->slot_rows + (row - first) * plan->slot_row_words;
        const bc_prepared_row out = {.words = slots, .abs_mean = abs_mean};
        if (plan->dense_run)
            prepare_dense_slots(plan, source, image, plan->rows.source[row_in_image], slots,
                                scratch->staging);
        else
            bc_prepare_row(plan, source, image, row_in_image, 0, plan->columns.count, &out, scratch->staging);
    }
    scratch->end_row = end;
}

static void prepare_gathered(const bc_plan *plan, const void *source, size_t image, size_t y, float *abs_mean,
                             bc_row_scratch *scratch, uint64_t *words) {
    const bc_layer *layer = plan->layer;
    const size_t position_slots = layer->joined_taps > 1 ? plan->columns.stride : 1;
    prepare_slot_rows(plan, source, image, y, abs_mean, scratch);
    layer->kernels->gather_bits(&(bc_gather_args){
        .source = scratch->slot_rows,
        .first_bit = (ptrdiff_t)plan->slot_first_bit,
        .pixel_step_bits = (ptrdiff_t)(position_slots * plan->slot_step_bits),
        .tap_bit = plan->gather_tap_bit,
        .taps = plan->gather_taps,
        .bits = plan->gather_bits,
        .groups = layer->groups,
        .pixels = plan->positions,
        .destination = words,
        .pixel_stride = layer->groups,
        .word_stride = plan->positions * layer->groups,
    });
}

void bc_prepare_words(const bc_plan *plan, const void *source, size_t row, bc_row_scratch *scratch,
                      float *abs_mean, uint64_t *words) {
    const size_t image = row / plan->source_rows, y = row % plan->source_rows;
    const bc_prepared_row out = {.words = words, .abs_mean = abs_mean};
    if (plan->layer->gathers)
        prepare_gathered(plan, source, image, y, abs_mean, scratch, words);
    else
        bc_prepare_row(plan, source, image, y, 0, plan->columns.count, &out, scratch->staging);
}
