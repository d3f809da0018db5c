/* A measured choice between two ways that are right on the same processors, each faster on some. */
#ifndef BC_PROBE_H
#define BC_PROBE_H

#include "kernels.h"

/* Whether a layer's sums of bits are clearly faster here by `candidate` than by `present`: some 300 us of both, taking turns. */
int bc_probe_sums(const bc_kernels *candidate, const bc_kernels *present);

#endif
