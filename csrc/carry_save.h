/* Steps of a carry-save adder over 16 filters in 32-bit lanes, for the AVX-512 families that sum so. To be included where
 * AVX-512 with VPOPCNTDQ is switched on. */
#ifndef BC_CARRY_SAVE_H
#define BC_CARRY_SAVE_H

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

enum { LANES = 16 /* filters of a vector */ };

/* Without this, GCC 12 unrolls too late to keep the arrays of a tile in registers. */
#define UNROLL BC_UNROLL

/* One 32-bit word in all lanes, from memory: which takes no vector operation, but from a general register would. */
static inline __m512i spread(const void *word) {
#if defined(__GNUC__)
    __m512i lanes;
    __asm__("vpbroadcastd %1, %0" : "=v"(lanes) : "m"(*(const char(*)[4])word));
    return lanes;
#else
    int32_t bits;
    memcpy(&bits, word, sizeof bits);
    return _mm512_set1_epi32(bits);
#endif
}

/* Without a change of the vector's type, which those of the intrinsics' names imply: GCC would keep the one type's result for what
 * follows a loop, the other's for the next turn, and move all registers of a tile every time. */
static inline __m512i differences(const uint32_t *filters, __m512i word) {
#if defined(__GNUC__)
    return _mm512_loadu_si512(filters) ^ word;
#else
    return _mm512_xor_si512(_mm512_loadu_si512(filters), word);
#endif
}

/* In place, in the order in which it stands: what GCC makes of an addition takes 3 to 7% longer. */
static inline __m512i plus(__m512i x, __m512i y) {
#if defined(__GNUC__)
    __asm__("vpaddd %1, %0, %0" : "+v"(x) : "v"(y));
    return x;
#else
    return _mm512_add_epi32(x, y);
#endif
}

/* A full adder's carries, counted: of a word of ones, of x, and of a third addend that is known by the ones after it only. Where
 * they differ from the old ones, x and the third addend differ, and the carry is the old one; elsewhere these two are alike. */
static inline __m512i count_carries(__m512i x, __m512i old_ones, __m512i ones) {
    enum { OLD_WHERE_ONES_DIFFER_ELSE_X = 0xd4 };
    return _mm512_popcnt_epi32(_mm512_ternarylogic_epi64(x, old_ones, ones, OLD_WHERE_ONES_DIFFER_ELSE_X));
}

#endif
