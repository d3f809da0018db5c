#include "kernels.h"
const bc_kernels bc_kernels_avx2 = {.xorpop = 0};
