/* Runs the slices of a plan, on the caller's threads or on the library's. */
#ifndef BC_THREADS_H
#define BC_THREADS_H

#include "binconv.h"

/* Calls slice(context, i) for each i below count and returns when all have. `parallel` NULL: on this thread. */
void bc_for_slices(const bc_parallel *parallel, size_t count, void (*slice)(void *context, size_t index),
                   void *context);

/* What a slice that waits for another one does again and again, `turn` 0, 1, 2 ...: a moment, or if it has been long, other
 * threads have their turn. */
void bc_pause(size_t turn);

#endif
