/* From source pixels to what the sums read: terms applied, binarised and packed, edges filled in. */
#ifndef BC_PREPARE_H
#define BC_PREPARE_H

#include "plan.h"

/* Where the slots of one prepared row go. */
typedef struct bc_prepared_row {
    uint64_t *words; /* XNOR and AND: slot_words a slot */
    float *values;   /* BINARY_WEIGHTS: the first group's slots; the next group begins group_stride later */
    float *expanded; /* or, where plan->slot_floats is not 0, what signsum reads of them, likewise */
    size_t group_stride;
    float *abs_mean; /* [slots] mean of |v| over all input channels, 0 off the source; or NULL */
} bc_prepared_row;

/* Prepares slots [begin, end) of slot row `row` of image `image` (counted from the first one of the plan). `staging` holds
 * plan->staging_floats. */
void bc_prepare_row(const bc_plan *plan, const void *source, size_t image, size_t row, size_t begin,
                    size_t end, const bc_prepared_row *out, float *staging);

/* Memory for preparing rows of words one after the other. */
typedef struct bc_row_scratch {
    uint64_t *slot_rows; /* the last ones that were prepared */
    size_t end_row;      /* behind the last of them, counted over all images; 0 where there are none */
    float *staging;
} bc_row_scratch;

/* XNOR and AND: one finished row of the prepared source, counted over all images, to `words`, and of mean |v| to `abs_mean`
 * or NULL. */
void bc_prepare_words(const bc_plan *plan, const void *source, size_t row, bc_row_scratch *scratch,
                      float *abs_mean, uint64_t *words);

#endif
