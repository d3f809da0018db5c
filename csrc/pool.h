/* The library's own threads. */
#ifndef BC_POOL_H
#define BC_POOL_H

#include <stddef.h>

/* Calls slice(context, i) once for each i below count, on this thread and on those of the pool that are free, and returns when
 * all calls have. Nothing waits for a thread to begin: what no other one has taken runs here. Any number of calls may go on at
 * once, of which the pool takes some; of another it does nothing, and returns 0. */
int bc_pool_run(size_t count, void (*slice)(void *context, size_t index), void *context);

#endif
