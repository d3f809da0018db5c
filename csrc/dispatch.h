/* Which kernels run: a list of instruction sets, each laid over the ones before it. */
#ifndef BC_DISPATCH_H
#define BC_DISPATCH_H

#include "kernels.h"

/* The table that this process uses, chosen at the first call. BC_UNKNOWN_ISA where BINCONV_ISA is no good. */
bc_status bc_kernels_chosen(const bc_kernels **table);

/* The table of one instruction set by its place in bc_isa_name's order, or NULL. Tests and benchmarks call
 * kernels of any instruction set through this. */
const bc_kernels *bc_kernels_of(size_t index);

/* Only what that instruction set brings itself; empty slots are NULL or 0. */
const bc_kernels *bc_kernels_own(size_t index);

#endif
