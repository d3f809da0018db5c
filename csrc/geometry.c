#include "geometry.h"

#include <stdlib.h>
#include <string.h>

int64_t bc_dilated(size_t kernel, size_t dilation) { return (int64_t)(kernel - 1) * (int64_t)dilation + 1; }

/* ---- Padding -------------------------------------------------------------------------------------- */

static int64_t floor_divide(int64_t value, int64_t divisor) {
    return value >= 0 ? value / divisor : -((-value + divisor - 1) / divisor);
}

static bc_status check_window(const bc_window *window) {
    if (!window->kernel || !window->dilation || !window->stride) return BC_INVALID_ARGUMENT;
    if (window->source > BC_MAX_SIZE || window->kernel > BC_MAX_SIZE || window->dilation > BC_MAX_SIZE ||
        window->stride > BC_MAX_SIZE)
        return BC_SIZE_OVERFLOW;
    return bc_dilated(window->kernel, window->dilation) > INT64_MAX / 8 ? BC_SIZE_OVERFLOW : BC_OK;
}

static bc_status store_size(int64_t value, size_t *size) {
    if (value > (int64_t)BC_MAX_SIZE) return BC_SIZE_OVERFLOW;
    *size = value > 0 ? (size_t)value : 0;
    return BC_OK;
}

bc_status bc_padding_resolve(unsigned method, bc_axis axis, const bc_window *window, size_t *size,
                             int64_t *offset) {
    enum { ALIGN_BITS = 3, REMAINDER_RIGHT = 4, REMAINDER_BOTTOM = 8, SIZE_BITS = 48 };
    const unsigned known = ALIGN_BITS | REMAINDER_RIGHT | REMAINDER_BOTTOM | SIZE_BITS;
    if ((method & ~known) || (method & ALIGN_BITS) == ALIGN_BITS || (method & SIZE_BITS) == SIZE_BITS)
        return BC_INVALID_ARGUMENT;
    const bc_status checked = check_window(window);
    if (checked != BC_OK) return checked;

    const int64_t dilated = bc_dilated(window->kernel, window->dilation);
    const int64_t source = (int64_t)window->source, stride = (int64_t)window->stride;
    const unsigned size_bits = method & SIZE_BITS;
    const int64_t style = size_bits == BC_PADDING_SIZE_FULL ? 1 : size_bits == BC_PADDING_SIZE_SAME ? 0 : -1;
    int64_t wanted = -floor_divide(-(source + style * (dilated - 1)), stride); /* rounded up */
    if (wanted < 0) wanted = 0;
    const bc_status stored = store_size(wanted, size);
    if (stored != BC_OK) return stored;

    const int64_t extra = (wanted - 1) * stride + dilated - source;
    const unsigned far_side = axis == BC_AXIS_Y ? REMAINDER_BOTTOM : REMAINDER_RIGHT;
    int64_t before = (extra + (method & far_side ? 0 : 1)) / 2; /* C rounds toward zero, as MPS does */
    if ((method & ALIGN_BITS) == BC_PADDING_ALIGN_TOP_LEFT) before = extra;
    if ((method & ALIGN_BITS) == BC_PADDING_ALIGN_BOTTOM_RIGHT) before = 0;
    *offset = (dilated >> 1) - before;
    return BC_OK;
}

bc_status bc_padding_explicit(const bc_window *window, int64_t before, int64_t after, size_t *size,
                              int64_t *offset) {
    const int64_t limit = INT64_MAX / 8;
    if (before > limit || before < -limit || after > limit || after < -limit) return BC_SIZE_OVERFLOW;
    const bc_status checked = check_window(window);
    if (checked != BC_OK) return checked;
    const int64_t dilated = bc_dilated(window->kernel, window->dilation);
    const int64_t slack = (int64_t)window->source + before + after - dilated;
    const bc_status stored = store_size(floor_divide(slack, (int64_t)window->stride) + 1, size);
    if (stored == BC_OK) *offset = (dilated >> 1) - before;
    return stored;
}

/* ---- Edges ---------------------------------------------------------------------------------------- */

static int64_t positive_modulo(int64_t value, int64_t period) {
    const int64_t rest = value % period;
    return rest < 0 ? rest + period : rest;
}

static int32_t source_coordinate(int64_t at, int64_t size, bc_edge_mode edge_mode) {
    if (at >= 0 && at < size) return (int32_t)at;
    if (size == 0) return BC_OFF_SOURCE; /* nothing to clamp or mirror to */
    switch (edge_mode) {
        case BC_EDGE_CLAMP:
            return at < 0 ? 0 : (int32_t)(size - 1);
        case BC_EDGE_MIRROR: {
            if (size == 1) return 0;
            const int64_t period = 2 * (size - 1), rest = positive_modulo(at, period);
            return (int32_t)(rest < size ? rest : period - rest);
        }
        case BC_EDGE_MIRROR_WITH_EDGE: {
            const int64_t period = 2 * size, rest = positive_modulo(at, period);
            return (int32_t)(rest < size ? rest : period - 1 - rest);
        }
        default:
            return BC_OFF_SOURCE;
    }
}

/* ---- Slots ---------------------------------------------------------------------------------------- */

static void choose_layout(const bc_slots_config *config, bc_slots *slots) {
    const int64_t dilated = bc_dilated(config->taps, config->dilation);
    const int64_t pairs = (int64_t)config->destinations * (int64_t)config->taps;
    const int64_t span = ((int64_t)config->destinations - 1) * (int64_t)config->stride + dilated;
    const int dense_allowed = !config->adjacent_taps || config->dilation == 1;
    if (dense_allowed && span <= pairs) {
        slots->count = (size_t)span;
        slots->stride = config->stride;
        slots->dilation = config->dilation;
    } else {
        slots->count = (size_t)pairs;
        slots->stride = config->taps;
        slots->dilation = 1;
    }
}

static void map_slots(const bc_slots_config *config, bc_slots *slots) {
    const int64_t first = config->offset - (bc_dilated(config->taps, config->dilation) >> 1);
    const int64_t size = (int64_t)config->source;
    /* Slots of a dense span that no tap reads still follow their neighbours, which keeps runs long. */
    const int dense = slots->stride == config->stride && slots->dilation == config->dilation;
    for (size_t slot = 0; slot < slots->count; slot++)
        slots->source[slot] =
            dense ? source_coordinate(first + (int64_t)slot, size, config->edge_mode) : BC_OFF_SOURCE;
    for (size_t destination = 0; destination < config->destinations; destination++) {
        bc_tap_range range = {0, 0};
        for (size_t tap = 0; tap < config->taps; tap++) {
            const int64_t at =
                first + (int64_t)(destination * config->stride) + (int64_t)(tap * config->dilation);
            const int on_source = at >= 0 && at < size;
            if (on_source) {
                if (range.begin == range.end) range.begin = (uint32_t)tap;
                range.end = (uint32_t)tap + 1;
            }
            const int32_t source = source_coordinate(at, size, config->edge_mode);
            slots->any_off |= source == BC_OFF_SOURCE;
            slots->source[destination * slots->stride + tap * slots->dilation] = source;
        }
        slots->valid[destination] = range;
    }
}

static int continues_run(const bc_run *run, int32_t source) {
    if (run->source == BC_OFF_SOURCE || source == BC_OFF_SOURCE) return run->source == source;
    return run->slots == 1 || (int64_t)run->source + (int64_t)run->step * (int64_t)run->slots == source;
}

static void find_runs(bc_slots *slots) {
    for (size_t slot = 0; slot < slots->count; slot++) {
        const int32_t source = slots->source[slot];
        bc_run *run = slots->run_count ? &slots->runs[slots->run_count - 1] : NULL;
        if (run && continues_run(run, source)) {
            if (run->slots == 1) run->step = source - run->source;
            run->slots++;
        } else {
            slots->runs[slots->run_count++] = (bc_run){slot, 1, source, 0};
        }
    }
}

bc_status bc_slots_create(const bc_slots_config *config, bc_slots *slots) {
    memset(slots, 0, sizeof *slots);
    slots->destinations = config->destinations;
    slots->taps = config->taps;
    if (config->destinations == 0) return BC_OK;
    if (config->destinations > BC_MAX_SIZE || config->taps > BC_MAX_SIZE) return BC_SIZE_OVERFLOW;
    if (config->offset > INT64_MAX / 4 || config->offset < -(INT64_MAX / 4)) return BC_SIZE_OVERFLOW;
    if (config->destinations > SIZE_MAX / config->taps / sizeof(bc_run)) return BC_SIZE_OVERFLOW;

    choose_layout(config, slots);
    slots->source = malloc(slots->count * sizeof *slots->source);
    slots->runs = malloc(slots->count * sizeof *slots->runs);
    slots->valid = malloc(slots->destinations * sizeof *slots->valid);
    if (!slots->source || !slots->runs || !slots->valid) {
        bc_slots_free(slots);
        return BC_OUT_OF_MEMORY;
    }
    map_slots(config, slots);
    find_runs(slots);
    return BC_OK;
}

void bc_slots_free(bc_slots *slots) {
    free(slots->source);
    free(slots->runs);
    free(slots->valid);
    memset(slots, 0, sizeof *slots);
}
