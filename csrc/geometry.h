/* Where taps read: padding formulas, edge modes, and the layout of a prepared source along one axis. */
#ifndef BC_GEOMETRY_H
#define BC_GEOMETRY_H

#include <stdint.h>

#include "binconv.h"

/* Sizes above this are refused, so that products of two of them fit an int64. */
#define BC_MAX_SIZE ((size_t)INT32_MAX)

/* (kernel - 1) * dilation + 1 */
int64_t bc_dilated(size_t kernel, size_t dilation);

enum { BC_OFF_SOURCE = -1 };

/* Slots that hold the same step of source coordinates, or nothing but off-source slots. */
typedef struct bc_run {
    size_t first_slot, slots;
    int32_t source; /* of the first slot, or BC_OFF_SOURCE */
    int32_t step;   /* from slot to slot; 0 and below happen with CLAMP and MIRROR */
} bc_run;

/* Taps that are on the source, as a half-open range. */
typedef struct bc_tap_range {
    uint32_t begin, end;
} bc_tap_range;

/* Along one axis, every (destination coordinate, tap) has a slot, destination*stride + tap*dilation, in the prepared
 * source. Slots are either the dense span of source coordinates or one for each pair, whichever is fewer, so that
 * neither a huge dilation nor a huge stride takes memory. */
typedef struct bc_slots {
    size_t destinations, taps;
    size_t count, stride, dilation;
    int32_t *source; /* [count] source coordinate or BC_OFF_SOURCE */
    bc_run *runs;    /* [run_count], covering all slots in order */
    size_t run_count;
    bc_tap_range *valid; /* [destinations] */
    int any_off;         /* some tap reads off the source */
} bc_slots;

typedef struct bc_slots_config {
    size_t destinations, source;
    size_t taps, dilation, stride;
    int64_t offset; /* MPS's */
    bc_edge_mode edge_mode;
    int adjacent_taps; /* not 0: dilation of the slots must be 1 */
} bc_slots_config;

/* Fills *slots, which bc_slots_free empties again; on failure there is nothing to free. */
bc_status bc_slots_create(const bc_slots_config *config, bc_slots *slots);
void bc_slots_free(bc_slots *slots);

#endif
