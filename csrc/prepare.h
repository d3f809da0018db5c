/* From source pixels to what the sums read: terms applied, binarised and packed, edges filled in. */
#ifndef BC_PREPARE_H
#define BC_PREPARE_H

#include "plan.h"

/* Where the slots of one prepared row go. */
typedef struct bc_prepared_row {
    uint64_t *words; /* XNOR and AND: all groups of a slot side by side */
    float *values;   /* BINARY_WEIGHTS: the first group's slots; the next group begins group_stride later */
    size_t group_stride;
    float *abs_mean; /* [slots] mean of |v| over all input channels, 0 off the source; or NULL */
} bc_prepared_row;

/* Prepares slots [begin, end) of slot row `row` of image `image` (counted from the first one of the plan). `staging` holds
 * plan->staging_floats. */
void bc_prepare_row(const bc_plan *plan, const void *source, size_t image, size_t row, size_t begin,
                    size_t end, const bc_prepared_row *out, float *staging);

/* XNOR and AND with joined taps: from the slots of one row to what each destination pixel of a row reads of it. */
void bc_join_taps(const bc_plan *plan, const uint64_t *slots, uint64_t *joined);

#endif
