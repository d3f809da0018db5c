/* What a machine does at its best, for benchmarks to compare kernels with. No kernel uses this. */
#ifndef BC_YARDSTICK_H
#define BC_YARDSTICK_H

#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__) && defined(__x86_64__)
#include <immintrin.h>
#define BC_YARDSTICK_ADD "add %1, %0"
#elif defined(__GNUC__) && defined(__aarch64__)
#define BC_YARDSTICK_ADD "add %0, %0, %1"
#endif

/* About `additions` additions, each of which waits for the one before: a clock cycle each. Returns how many there were;
 * 0 where this compiler was not told how. Registers are added, as some processors add constants while renaming. */
static inline size_t bc_spin(size_t additions) {
#ifdef BC_YARDSTICK_ADD
#define BC_ADD_4(x, one)                                                              \
    __asm__ volatile(BC_YARDSTICK_ADD "\n\t" BC_YARDSTICK_ADD "\n\t" BC_YARDSTICK_ADD \
                                      "\n\t" BC_YARDSTICK_ADD                         \
                     : "+r"(x)                                                        \
                     : "r"(one))
    uint64_t x = 0, one = 1;
    const size_t rounds = additions / 32;
    for (size_t i = 0; i < rounds; i++) {
        BC_ADD_4(x, one);
        BC_ADD_4(x, one);
        BC_ADD_4(x, one);
        BC_ADD_4(x, one);
        BC_ADD_4(x, one);
        BC_ADD_4(x, one);
        BC_ADD_4(x, one);
        BC_ADD_4(x, one);
    }
#undef BC_ADD_4
    return rounds * 32;
#else
    (void)additions;
    return 0;
#endif
}

/* Reads whole blocks of 64 words, as fast as loads of `vector_bytes` go, and combines them in a word that depends on all. */

#if defined(__GNUC__) && defined(__x86_64__)
__attribute__((target("avx512f"))) static inline uint64_t bc_read_avx512(const uint64_t *words,
                                                                         size_t blocks) {
    __m512i sum[8];
    for (int j = 0; j < 8; j++) sum[j] = _mm512_setzero_si512();
    for (size_t i = 0; i < blocks; i++) {
        const uint64_t *block = words + 64 * i;
        for (int j = 0; j < 8; j++) sum[j] = _mm512_xor_si512(sum[j], _mm512_loadu_si512(block + 8 * j));
    }
    uint64_t total = 0;
    for (int j = 0; j < 8; j++) total ^= (uint64_t)_mm512_reduce_or_epi64(sum[j]);
    return total;
}

__attribute__((target("avx2"))) static inline uint64_t bc_read_avx2(const uint64_t *words, size_t blocks) {
    __m256i sum[8];
    for (int j = 0; j < 8; j++) sum[j] = _mm256_setzero_si256();
    for (size_t i = 0; i < 2 * blocks; i++) {
        const __m256i *block = (const __m256i *)(words + 32 * i);
        for (int j = 0; j < 8; j++) sum[j] = _mm256_xor_si256(sum[j], _mm256_loadu_si256(block + j));
    }
    uint64_t total = 0;
    for (int j = 0; j < 8; j++) total ^= (uint64_t)_mm256_extract_epi64(sum[j], 0);
    return total;
}
#endif

static inline uint64_t bc_read_plain(const uint64_t *words, size_t blocks) {
    uint64_t sum[16] = {0}, total = 0;
    for (size_t i = 0; i < 4 * blocks; i++)
        for (size_t j = 0; j < 16; j++) sum[j] ^= words[16 * i + j];
    for (size_t j = 0; j < 16; j++) total ^= sum[j];
    return total;
}

static inline uint64_t bc_read(const uint64_t *words, size_t blocks, size_t vector_bytes) {
#if defined(__GNUC__) && defined(__x86_64__)
    if (vector_bytes == 64) return bc_read_avx512(words, blocks);
    if (vector_bytes == 32) return bc_read_avx2(words, blocks);
#endif
    (void)vector_bytes;
    return bc_read_plain(words, blocks);
}

#endif
