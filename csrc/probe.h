/* A measured choice between two ways that are right on the same processors, each faster on some. */
#ifndef BC_PROBE_H
#define BC_PROBE_H

#include "kernels.h"

/* Whether the xorpop of `candidate` is clearly faster here than that of `present`: some 300 us of both, taking turns. */
int bc_probe_xorpop(const bc_kernels *candidate, const bc_kernels *present);

#endif
