#include "borders.h"

#include <stdlib.h>

#include "sizes.h"

/* Distinct ranges along one axis. */
typedef struct axis_kinds {
    uint32_t *kind;       /* [destinations] */
    bc_tap_range *ranges; /* [count] */
    size_t count;
} axis_kinds;

/* Windows slide, so that equal ranges follow each other. */
static int find_kinds(const bc_slots *slots, axis_kinds *found) {
    found->kind = calloc(slots->destinations, sizeof *found->kind);
    found->ranges = calloc(slots->destinations, sizeof *found->ranges);
    if (!found->kind || !found->ranges) return 0;
    for (size_t i = 0; i < slots->destinations; i++) {
        const bc_tap_range range = slots->valid[i],
                           last = found->count ? found->ranges[found->count - 1] : range;
        if (!found->count || range.begin != last.begin || range.end != last.end)
            found->ranges[found->count++] = range;
        found->kind[i] = (uint32_t)(found->count - 1);
    }
    return 1;
}

/* Each tap that is left out counted its weight bits; taking these out again leaves the sum over the other taps. */
static void fill_bases(const bc_layer *layer, bc_tap_range rows, bc_tap_range columns, int32_t *bases) {
    const int32_t *all = bc_layer_weight_bits(layer, layer->kernel_height, layer->kernel_width);
    const int32_t *bottom_right = bc_layer_weight_bits(layer, rows.end, columns.end);
    const int32_t *bottom_left = bc_layer_weight_bits(layer, rows.end, columns.begin);
    const int32_t *top_right = bc_layer_weight_bits(layer, rows.begin, columns.end);
    const int32_t *top_left = bc_layer_weight_bits(layer, rows.begin, columns.begin);
    const size_t taps = (size_t)(rows.end - rows.begin) * (columns.end - columns.begin);
    const int32_t bits = (int32_t)(taps * layer->group_inputs);
    for (size_t filter = 0; filter < layer->groups * layer->group_filters; filter++) {
        const int32_t inside =
            bottom_right[filter] - bottom_left[filter] - top_right[filter] + top_left[filter];
        bases[filter] = bits + 2 * (all[filter] - inside);
    }
}

static bc_status fill_borders(const bc_layer *layer, const axis_kinds *rows, const axis_kinds *columns,
                              const bc_thresholds *thresholds, bc_borders *borders) {
    const size_t filters = layer->groups * layer->group_filters;
    size_t count = rows->count;
    if (!bc_multiply(&count, columns->count) || !bc_multiply(&count, filters) ||
        count > SIZE_MAX / sizeof(int32_t) - BC_SLACK)
        return BC_SIZE_OVERFLOW;
    borders->column_kinds = columns->count;
    borders->bases = calloc(count + BC_SLACK, sizeof *borders->bases);
    if (!borders->bases) return BC_OUT_OF_MEMORY;
    int32_t *bases = borders->bases;
    for (size_t row = 0; row < rows->count; row++)
        for (size_t column = 0; column < columns->count; column++, bases += filters) {
            fill_bases(layer, rows->ranges[row], columns->ranges[column], bases);
            for (size_t filter = 0; thresholds->count_threshold && filter < filters; filter++)
                bases[filter] = bc_count_threshold(layer, bases[filter], thresholds->turn[filter],
                                                   thresholds->flip[filter]);
        }
    return BC_OK;
}

bc_status bc_borders_create(const bc_layer *layer, const bc_slots *rows, const bc_slots *columns,
                            const bc_thresholds *thresholds, bc_borders *borders) {
    axis_kinds row_kinds = {0}, column_kinds = {0};
    const int found = find_kinds(rows, &row_kinds) && find_kinds(columns, &column_kinds);
    borders->row_kind = row_kinds.kind;
    borders->column_kind = column_kinds.kind;
    const bc_status status =
        found ? fill_borders(layer, &row_kinds, &column_kinds, thresholds, borders) : BC_OUT_OF_MEMORY;
    free(row_kinds.ranges);
    free(column_kinds.ranges);
    if (status != BC_OK) bc_borders_free(borders);
    return status;
}

void bc_borders_free(bc_borders *borders) {
    free(borders->row_kind);
    free(borders->column_kind);
    free(borders->bases);
    *borders = (bc_borders){0};
}
