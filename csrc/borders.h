/* XNOR with EXCLUDE: taps off the source are left out of the sum. They read zeros, which a sum takes for -1; what the epilogue
 * is given as a base takes that out again. */
#ifndef BC_BORDERS_H
#define BC_BORDERS_H

#include "geometry.h"
#include "layer.h"
#include "threshold.h"

/* For each kind of row and of column, by which taps are on the source: what the epilogue needs, of all filters. */
typedef struct bc_borders {
    uint32_t *row_kind, *column_kind; /* of each destination row and column */
    size_t column_kinds;
    int32_t
        *bases; /* [row kinds][column kinds][filters]: channel_base, or where there are thresholds these */
} bc_borders;

/* Allocates and fills the arrays; on failure there is nothing to free. */
bc_status bc_borders_create(const bc_layer *layer, const bc_slots *rows, const bc_slots *columns,
                            const bc_thresholds *thresholds, bc_borders *borders);
void bc_borders_free(bc_borders *borders);

#endif
