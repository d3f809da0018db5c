#include "kernels.h"
const bc_kernels bc_kernels_avx512vpopcnt = {.xorpop = 0};
