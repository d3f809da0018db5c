/* Small portable pieces that several instruction sets share. */
#ifndef BC_BITS_H
#define BC_BITS_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Inlined, where a compiler would give up on that after a few copies: for arguments that must become constants, and for
 * loops, which vectorise only if everything in them is inlined. */
#if defined(__GNUC__)
#define BC_FORCE_INLINE static inline __attribute__((always_inline))
#elif defined(_MSC_VER)
#define BC_FORCE_INLINE static __forceinline
#else
#define BC_FORCE_INLINE static inline
#endif

/* A function of its own, where a loop is short of registers for what its callers have in them. */
#if defined(__GNUC__)
#define BC_NO_INLINE static __attribute__((noinline))
#elif defined(_MSC_VER)
#define BC_NO_INLINE static __declspec(noinline)
#else
#define BC_NO_INLINE static
#endif

/* Before a loop with a constant number of turns. Left alone, compilers unroll too late to keep the arrays of a tile of sums in
 * registers. */
#if defined(__clang__)
#define BC_UNROLL _Pragma("clang loop unroll(full)")
#elif defined(__GNUC__)
#define BC_UNROLL _Pragma("GCC unroll 16")
#else
#define BC_UNROLL
#endif

static inline uint64_t bc_low_bits(size_t count) {
    return count >= 64 ? ~UINT64_C(0) : (UINT64_C(1) << count) - 1;
}

static inline uint32_t bc_float_bits(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static inline float bc_bits_float(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* 64-bit word `word` of one tap of a filter, from MPS's 32-bit words; 0 past the last channel. */
static inline uint64_t bc_filter_word(const uint32_t *words, size_t word, size_t channels) {
    const size_t left = channels - 64 * word;
    uint64_t bits = words[2 * word];
    if (left > 32) bits |= (uint64_t)words[2 * word + 1] << 32;
    return bits & bc_low_bits(left);
}

static inline uint64_t bc_popcount64(uint64_t x) {
    x -= x >> 1 & UINT64_C(0x5555555555555555);
    x = (x & UINT64_C(0x3333333333333333)) + (x >> 2 & UINT64_C(0x3333333333333333));
    x = (x + (x >> 4)) & UINT64_C(0x0f0f0f0f0f0f0f0f);
    return x * UINT64_C(0x0101010101010101) >> 56;
}

#endif
