/* Memory for a case's arrays. Each lies right against a page that cannot be touched, so that reading or writing
 * past it crashes, and outputs have guard bytes on the other side. Where a platform has no such pages, only the
 * guard bytes remain. */
#ifndef BC_TESTS_MEMORY_H
#define BC_TESTS_MEMORY_H

#include <stddef.h>

/* On which side of an array the untouchable page is. After: the start is aligned as the size has it, so in
 * general not at all. Before: the start is aligned to a page. */
typedef enum memory_fence { FENCE_BEFORE, FENCE_AFTER } memory_fence;

/* Takes back all arrays. */
void memory_reset(memory_fence fence);

/* Contents are undefined. */
void *memory_input(size_t bytes);

/* An input that may be read BC_SLACK elements past its end; what is there is of no use. */
void *memory_padded_input(size_t count, size_t element_bytes);

/* Every byte is MEMORY_FILL. */
enum { MEMORY_FILL = 0xa5 };
void *memory_output(size_t bytes);

/* The number of the first output whose guard bytes changed, or -1. */
ptrdiff_t memory_broken_guard(void);

/* `pixels` rows of `row` elements, `stride` (any sign) elements apart, as one input. */
typedef struct strided {
    void *block; /* the elements in memory order */
    size_t elements;
    void *first; /* element 0 of pixel 0 */
} strided;

strided memory_strided_input(size_t pixels, size_t row, ptrdiff_t stride, size_t element_bytes);

#endif
