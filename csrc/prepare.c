#include "prepare.h"

#include <string.h>

#include "sizes.h"

/* A stretch of slots within a row. */
typedef struct stretch {
    size_t first, count; /* relative to where the row's output begins */
} stretch;

static void fill_off_source(const bc_plan *plan, stretch slots, const bc_prepared_row *out) {
    const bc_layer *layer = plan->layer;
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

static void prepare_floats(const bc_plan *plan, const float *source, ptrdiff_t source_stride, stretch slots,
                           const bc_prepared_row *out) {
    const bc_layer *layer = plan->layer;
    float *abs_sum = out->abs_mean ? out->abs_mean + slots.first : NULL;
    if (abs_sum) memset(abs_sum, 0, slots.count * sizeof *abs_sum);
    for (size_t group = 0; group < layer->groups; group++) {
        const size_t channel = group * layer->group_inputs;
        const float *bias = layer->input_bias ? layer->input_bias + channel : NULL;
        const float *scale = layer->input_bias ? layer->input_scale + channel : NULL;
        if (out->words) {
            layer->kernels->pack_f32(&(bc_pack_args){
                source + channel, source_stride, slots.count, layer->group_inputs, bias, scale,
                out->words + slots.first * plan->slot_words + group * layer->slot_words,
                (ptrdiff_t)plan->slot_words, abs_sum});
        } else {
            layer->kernels->terms_f32(&(bc_terms_args){
                source + channel, source_stride, slots.count, layer->group_inputs, bias, scale,
                out->values + group * out->group_stride + slots.first * layer->group_inputs,
                (ptrdiff_t)layer->group_inputs, abs_sum});
        }
    }
    for (size_t slot = 0; abs_sum && slot < slots.count; slot++)
        abs_sum[slot] /= (float)layer->input_channels;
}

static void prepare_bits(const bc_plan *plan, const uint64_t *source, ptrdiff_t source_stride, stretch slots,
                         const bc_prepared_row *out) {
    const bc_layer *layer = plan->layer;
    for (size_t group = 0; group < layer->groups; group++)
        layer->kernels->slice_bits(&(bc_slice_args){
            source, source_stride, slots.count,
            plan->config.source_channel_offset + group * layer->group_inputs, layer->group_inputs,
            out->words + slots.first * plan->slot_words + group * layer->slot_words,
            (ptrdiff_t)plan->slot_words});
}

/* float16 and uint8 go through the staging buffer, as many pixels at a time as fit. */
static void prepare_staged(const bc_plan *plan, const char *source, ptrdiff_t stride_bytes, stretch slots,
                           const bc_prepared_row *out, float *staging) {
    const bc_layer *layer = plan->layer;
    const size_t channels = layer->input_channels, batch = plan->staging_floats / channels;
    void (*widen)(const bc_widen_args *) =
        plan->config.source.format == BC_FLOAT16 ? layer->kernels->widen_f16 : layer->kernels->widen_u8;
    for (size_t done = 0; done < slots.count; done += batch) {
        const stretch part = {slots.first + done, bc_min(batch, slots.count - done)};
        for (size_t i = 0; i < part.count; i++)
            widen(&(bc_widen_args){source + (ptrdiff_t)(done + i) * stride_bytes, channels,
                                   staging + i * channels});
        prepare_floats(plan, staging, (ptrdiff_t)channels, part, out);
    }
}

static void prepare_run(const bc_plan *plan, const void *source, size_t image, int32_t y, int32_t x,
                        int32_t step, stretch slots, const bc_prepared_row *out, float *staging) {
    const bc_image *shape = &plan->config.source;
    const size_t pixel =
        ((plan->config.source_first_image + image) * shape->height + (size_t)y) * shape->width + (size_t)x;
    if (shape->format == BC_BITS) {
        const size_t words = bc_divide_up(shape->channels, 64);
        prepare_bits(plan, (const uint64_t *)source + pixel * words, (ptrdiff_t)words * step, slots, out);
        return;
    }
    const size_t element = pixel * shape->channels + plan->config.source_channel_offset;
    const ptrdiff_t stride = (ptrdiff_t)shape->channels * step;
    if (shape->format == BC_FLOAT32) {
        prepare_floats(plan, (const float *)source + element, stride, slots, out);
    } else {
        const size_t bytes = shape->format == BC_FLOAT16 ? sizeof(uint16_t) : sizeof(uint8_t);
        prepare_staged(plan, (const char *)source + element * bytes, stride * (ptrdiff_t)bytes, slots, out,
                       staging);
    }
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
            prepare_run(plan, source, image, y, x, run->step, slots, out, staging);
        }
    }
}

void bc_join_taps(const bc_plan *plan, const uint64_t *slots, uint64_t *joined) {
    const bc_layer *layer = plan->layer;
    const size_t bits = layer->group_inputs, tap_step = plan->columns.dilation * plan->slot_words;
    memset(joined, 0, plan->source_row_words * sizeof *joined);
    for (size_t x = 0; x < plan->out_width; x++)
        for (size_t group = 0; group < layer->groups; group++, joined += layer->tap_words) {
            const uint64_t *slot = slots + x * plan->columns.stride * plan->slot_words + group;
            for (size_t tap = 0; tap < layer->kernel_width; tap++, slot += tap_step) {
                const size_t at = tap * bits, word = at / 64, shift = at % 64;
                joined[word] |= *slot << shift;
                if (shift + bits > 64) joined[word + 1] |= *slot >> (64 - shift);
            }
        }
}
