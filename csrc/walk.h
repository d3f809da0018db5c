/* The pixels of a tile as few long runs at one stride: nested loops over images, rows and columns, flattened where the
 * memory allows, so that a 1 x 1 layer or a batch of dense rows is as long a run as any. */
#ifndef BC_WALK_H
#define BC_WALK_H

#include <stddef.h>

/* One loop: `stride` in memory, `pixels` in the tile's own order. */
typedef struct bc_loop {
    size_t count;
    ptrdiff_t stride;
    size_t pixels;
} bc_loop;

typedef struct bc_walk {
    bc_loop loops[3]; /* innermost first; the innermost has pixels == 1 */
} bc_walk;

/* In place: copies of loops that have just been written wait for the writes. */
static inline void bc_flatten(bc_walk *walk) {
    const bc_loop once = {1, 0, 1};
    bc_loop *inner = &walk->loops[0];
    for (int outer = 1; outer < 3; outer++) {
        bc_loop *next = &walk->loops[outer];
        if (next->count == 1) continue;
        const int one_pixel = inner->count == 1 && next->pixels == 1;
        const int joins = next->stride == (ptrdiff_t)inner->count * inner->stride &&
                          next->pixels == inner->count * inner->pixels;
        if (!one_pixel && !joins) break; /* a loop further out cannot join past this one */
        inner->stride = one_pixel ? next->stride : inner->stride;
        inner->count *= next->count;
        *next = once;
    }
}

#endif
