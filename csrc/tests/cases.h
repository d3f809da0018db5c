/* What a kernel's test provides: two functions for each line of kernels.def, declared here from that list, so that
 * a kernel without a test does not link. */
#ifndef BC_TESTS_CASES_H
#define BC_TESTS_CASES_H

#include "bench.h"
#include "check.h"
#include "inputs.h"
#include "memory.h"

#define BC_KERNEL(name, arguments)        \
    void test_##name(const subject *isa); \
    void bench_##name(bench *timer, const bc_kernels *kernels);
#define BC_CONSTANT(name)
#include "kernels.def"
#undef BC_KERNEL
#undef BC_CONSTANT

/* float16 as the tests understand it, by arithmetic on the value rather than on bits. */
float reference_from_f16(uint16_t half);
uint16_t reference_to_f16(float value);

#endif
