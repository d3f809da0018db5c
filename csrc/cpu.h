/* What this processor and operating system can run, one bit a feature. */
#ifndef BC_CPU_H
#define BC_CPU_H

#include <stdint.h>

/* name in show_config and docs, bit */
#define BC_CPU_FEATURES(FEATURE) \
    FEATURE(sse4_1, 0)           \
    FEATURE(popcnt, 1)           \
    FEATURE(avx, 2)              \
    FEATURE(f16c, 3)             \
    FEATURE(fma, 4)              \
    FEATURE(avx2, 5)             \
    FEATURE(bmi2, 6)             \
    FEATURE(avx512f, 7)          \
    FEATURE(avx512bw, 8)         \
    FEATURE(avx512dq, 9)         \
    FEATURE(avx512vl, 10)        \
    FEATURE(avx512vbmi, 11)      \
    FEATURE(avx512vpopcntdq, 12) \
    FEATURE(avx512bitalg, 13)    \
    FEATURE(neon, 14)            \
    FEATURE(asimddp, 15)         \
    FEATURE(sha3, 16)            \
    FEATURE(avx512vnni, 17)

enum {
#define FEATURE(name, bit) BC_CPU_##name = 1 << bit,
    BC_CPU_FEATURES(FEATURE)
#undef FEATURE
};

/* Reads the processor every time; callers keep the answer. */
uint32_t bc_cpu_features(void);

#endif
