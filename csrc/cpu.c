/* CPUID and XGETBV, HWCAP, or what Windows on Arm says, to feature bits, and nothing else. Read by hand, because
 * compilers' built-in feature tests have answered 0 for everything under cross compilers. */
#include "cpu.h"

#if defined(__x86_64__) || defined(__i386__) || defined(_M_X64) || defined(_M_IX86)

#if defined(_MSC_VER)
#include <intrin.h>
static void cpuid(uint32_t leaf, uint32_t subleaf, uint32_t out[4]) {
    int words[4];
    __cpuidex(words, (int)leaf, (int)subleaf);
    for (int i = 0; i < 4; i++) out[i] = (uint32_t)words[i];
}
static uint64_t xgetbv0(void) { return _xgetbv(0); }
#else
#include <cpuid.h>
static void cpuid(uint32_t leaf, uint32_t subleaf, uint32_t out[4]) {
    __cpuid_count(leaf, subleaf, out[0], out[1], out[2], out[3]);
}
static uint64_t xgetbv0(void) {
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (uint64_t)high << 32 | low;
}
#endif

static uint32_t feature_if(uint32_t word, int bit, uint32_t feature) { return word >> bit & 1 ? feature : 0; }

uint32_t bc_cpu_features(void) {
    enum { EAX, EBX, ECX, EDX };
    uint32_t leaf[4];
    cpuid(0, 0, leaf);
    const uint32_t max_leaf = leaf[EAX];
    if (max_leaf < 1) return 0;

    cpuid(1, 0, leaf);
    uint32_t features = 0;
    features |= feature_if(leaf[ECX], 19, BC_CPU_sse4_1);
    features |= feature_if(leaf[ECX], 23, BC_CPU_popcnt);

    /* Vector state that the operating system does not save is as good as absent. */
    const uint32_t osxsave = leaf[ECX] >> 27 & 1;
    const uint64_t xcr0 = osxsave ? xgetbv0() : 0;
    const uint64_t ymm_state = 0x06, zmm_state = 0xe6;
    if ((xcr0 & ymm_state) != ymm_state) return features;

    features |= feature_if(leaf[ECX], 28, BC_CPU_avx);
    features |= feature_if(leaf[ECX], 29, BC_CPU_f16c);
    features |= feature_if(leaf[ECX], 12, BC_CPU_fma);
    if (max_leaf < 7) return features;

    cpuid(7, 0, leaf);
    features |= feature_if(leaf[EBX], 5, BC_CPU_avx2);
    features |= feature_if(leaf[EBX], 8, BC_CPU_bmi2);
    if ((xcr0 & zmm_state) != zmm_state) return features;

    features |= feature_if(leaf[EBX], 16, BC_CPU_avx512f);
    features |= feature_if(leaf[EBX], 30, BC_CPU_avx512bw);
    features |= feature_if(leaf[EBX], 17, BC_CPU_avx512dq);
    features |= feature_if(leaf[EBX], 31, BC_CPU_avx512vl);
    features |= feature_if(leaf[ECX], 1, BC_CPU_avx512vbmi);
    features |= feature_if(leaf[ECX], 14, BC_CPU_avx512vpopcntdq);
    features |= feature_if(leaf[ECX], 12, BC_CPU_avx512bitalg);
    features |= feature_if(leaf[ECX], 11, BC_CPU_avx512vnni);
    return features;
}

#elif defined(__aarch64__) && defined(__linux__)

#include <sys/auxv.h>

uint32_t bc_cpu_features(void) {
    /* Bits of AT_HWCAP in the kernel's arm64 ABI, which some C libraries' headers lack. */
    enum { HWCAP_BIT_ASIMD = 1, HWCAP_BIT_SHA3 = 17, HWCAP_BIT_ASIMDDP = 20 };
    const unsigned long hwcap = getauxval(AT_HWCAP);
    uint32_t features = 0;
    if (hwcap >> HWCAP_BIT_ASIMD & 1) features |= BC_CPU_neon;
    if (hwcap >> HWCAP_BIT_ASIMDDP & 1) features |= BC_CPU_asimddp;
    if (hwcap >> HWCAP_BIT_SHA3 & 1) features |= BC_CPU_sha3;
    return features;
}

#elif defined(__aarch64__) && defined(__APPLE__)

/* Every Apple Silicon core has all three. */
uint32_t bc_cpu_features(void) { return BC_CPU_neon | BC_CPU_asimddp | BC_CPU_sha3; }

#elif (defined(__aarch64__) || defined(_M_ARM64)) && defined(_WIN32)

#define WIN32_LEAN_AND_MEAN
#include <windows.h>

uint32_t bc_cpu_features(void) {
    /* Numbers of winnt.h, which older headers lack. Windows says no to those that it does not know. */
    enum { PF_ASIMDDP = 43, PF_SHA3 = 64 };
    uint32_t features = BC_CPU_neon;
    if (IsProcessorFeaturePresent(PF_ASIMDDP)) features |= BC_CPU_asimddp;
    if (IsProcessorFeaturePresent(PF_SHA3)) features |= BC_CPU_sha3;
    return features;
}

#elif defined(__aarch64__) || defined(_M_ARM64)

uint32_t bc_cpu_features(void) { return BC_CPU_neon; }

#else

uint32_t bc_cpu_features(void) { return 0; }

#endif
