/* AVX-512 with VPOPCNTDQ and VNNI, for processors on which vector operations are what is short: XNOR sums with carry-save.
 *
 * Of two words that differ from the weights' by x1 and x2, and of a word of ones, a full adder makes one word of carries, worth
 * 2 a bit, and one of ones again: so that vpopcntd and vpaddq are needed for every other word only. Intel's cores do two vector
 * operations a cycle, and 5 for two words are fewer than the 6 of kernels_avx512vpopcnt.c. Zen 5 does four, and other things
 * are short there.
 *
 * 5 they are because nothing is added up to get the ones. A word of them is the XOR of all differences so far,
 *
 *     ones = (w1 ^ w2 ^ ... ^ wn) ^ (a1 ^ a2 ^ ... ^ an),
 *
 * of which the first bracket lies in memory in the place of wn, and the second is made once for all filters, by scalar
 * instructions: one vpxord. Then, with x1 = w1 ^ a1 but without x2,
 *
 *     carry = majority(the old ones, x1, x2) = the old ones where the new ones differ from them, else x1.
 *
 * Words here are of 32 bits, the two halves of one of the source: 16 filters fill a vector, and their sums one of counts, with
 * nothing to narrow. The first word's low half is the first word of ones; its high half is counted by itself. So n words of a
 * pixel and 16 filters take 5 n operations: 5 (n - 1) and one less, as the first carries' count is not added to anything, and
 * 6 for xor, xor, two popcounts, their sum, and vpdpwssd, which doubles the carries' count and adds it.
 */
#include "kernels.h"

#if defined(__x86_64__) || defined(_M_X64)

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512vpopcntdq,avx512vnni"))), \
                             apply_to = function)
#elif defined(__GNUC__)
#pragma GCC push_options
#pragma GCC target("avx512f,avx512vpopcntdq,avx512vnni")
#pragma GCC target("prefer-vector-width=512")
#endif

#include <immintrin.h>
#include <string.h>

#include "bits.h"
#include "carry_save.h"

enum {
    BLOCK_FILTERS = 8,
    WIDE = 4,   /* vectors of a group of filters, */
    NARROW = 2, /* or, of the last, */
    DOUBLE = 8, /* of a tile that takes two groups */
    VECTOR_BLOCKS = LANES / BLOCK_FILTERS
};

/* ---- Weights: groups of 64 filters and, of those that are left, of 32: for each word its low halves for all filters of the
 * group, then the weights' part of the ones after it (of the first word its high halves). The rest is the plain kernel's ---- */

/* As many of the blocks as carry-save pays for: it is slower in short windows, where the plain kernel keeps the weights in
 * registers. In long ones the count of carries would not fit 16 bits. */
static size_t carried_blocks(size_t blocks, size_t words) {
    enum { LEAST_WORDS = 4, MOST_WORDS = 1024 };
    return words < LEAST_WORDS || words > MOST_WORDS ? 0 : blocks - blocks % (NARROW * VECTOR_BLOCKS);
}

static size_t group_vectors(size_t blocks) { return blocks >= WIDE * VECTOR_BLOCKS ? WIDE : NARROW; }

static void pack_filter(const bc_xorpop_weights_args *args, size_t filter, uint32_t *low, size_t filters) {
    const size_t words = (args->channels + 63) / 64, mps_words = (args->channels + 31) / 32;
    const uint32_t *tap_words = args->weights + filter * args->taps * mps_words;
    uint32_t ones = 0;
    for (size_t tap = 0; tap < args->taps; tap++, tap_words += mps_words)
        for (size_t word = 0; word < words; word++, low += 2 * filters) {
            const uint64_t bits =
                filter < args->filters ? bc_filter_word(tap_words, word, args->channels) : 0;
            const uint32_t high = (uint32_t)(bits >> 32);
            const int first = !tap && !word;
            low[0] = (uint32_t)bits;
            ones ^= first ? low[0] : low[0] ^ high;
            low[filters] = first ? high : ones;
        }
}

static void xorpop_weights(const bc_xorpop_weights_args *args) {
    const size_t words = args->taps * ((args->channels + 63) / 64);
    const size_t carried = carried_blocks((args->filters + BLOCK_FILTERS - 1) / BLOCK_FILTERS, words);
    uint32_t *group = args->blocks;
    size_t filter = 0;
    while (filter < carried * BLOCK_FILTERS) {
        const size_t filters = group_vectors(carried - filter / BLOCK_FILTERS) * LANES;
        for (size_t lane = 0; lane < filters; lane++, filter++)
            pack_filter(args, filter, group + lane, filters);
        group += words * 2 * filters;
    }
    if (filter >= args->filters) return;
    bc_xorpop_weights_args rest = *args;
    rest.weights += filter * args->taps * ((args->channels + 31) / 32);
    rest.filters -= filter;
    rest.blocks = group;
    bc_kernels_avx512vpopcnt.xorpop_weights(&rest);
}

/* ---- Sums ----------------------------------------------------------------------------------------- */

/* Has weights read anew for each pixel: for many pixels GCC would keep them, in the registers of the sums. */
#if defined(__GNUC__)
#define READ_ANEW() __asm__ volatile("" ::: "memory")
#else
#define READ_ANEW() (void)0
#endif

/* Ends an expression for the optimiser, which would begin with what follows a loop before the loop ends. */
#if defined(__GNUC__)
#define KEEP(x) __asm__("" : "+v"(x))
#else
#define KEEP(x) (void)0
#endif

static inline uint32_t half_word(const uint64_t *word, size_t half) {
    uint32_t bits;
    memcpy(&bits, (const char *)word + half * sizeof bits, sizeof bits);
    return bits;
}

/* Where a window's word lies for the first pixel of a tile. */
typedef struct cursor {
    const uint64_t *word;
    const ptrdiff_t *tap_offset;
    size_t left; /* words of the tap */
} cursor;

/* To the next word of all taps; 0 if there is none. */
BC_FORCE_INLINE int next_word(cursor *cursor, const bc_xorpop_args *args, const uint64_t *source) {
    cursor->word++;
    if (--cursor->left) return 1;
    if (++cursor->tap_offset == args->tap_offset + args->taps) return 0;
    cursor->word = source + *cursor->tap_offset;
    cursor->left = args->words;
    return 1;
}

/* Where the low halves of a tile's vector of filters are, from those of its first; the others' distance from there. */
BC_FORCE_INLINE size_t low_at(int vector, size_t group) {
    return (size_t)(vector / WIDE) * group + (size_t)(vector % WIDE * LANES);
}

BC_FORCE_INLINE size_t group_lanes(int vectors) { return (size_t)(vectors < WIDE ? vectors : WIDE) * LANES; }

/* A tile's are arrays of vectors, [PIXELS][VECTORS], and stay in registers. */
enum { TILE_PIXELS_MOST = 4, TILE_MOST = 12 };

/* A word: from `old` ones to `ones`, and its carries to `twos`, which the first begin. `source_ones` are the source's part. */
BC_FORCE_INLINE void add_word(const uint64_t *first_word, ptrdiff_t stride, const uint32_t *weights,
                              size_t group, uint32_t *source_ones, const __m512i *old, __m512i *ones,
                              __m512i *twos, int first, int pixels, int vectors) {
    UNROLL
    for (int p = 0; p < pixels; p++) {
        const uint64_t *word = first_word + p * stride;
        const uint32_t in_memory = source_ones[p] ^= half_word(word, 0) ^ half_word(word, 1);
        const __m512i low = spread(word), all = spread(&in_memory);
        UNROLL
        for (int v = 0; v < vectors; v++) {
            const int i = p * vectors + v;
            ones[i] = differences(weights + low_at(v, group) + group_lanes(vectors), all);
            const __m512i x = differences(weights + low_at(v, group), low);
            const __m512i count = count_carries(x, old[i], ones[i]);
            twos[i] = first ? count : plus(twos[i], count);
        }
        READ_ANEW();
    }
}

/* `tiles` tiles; `pixels` and `vectors` are literals where this is inlined, or the arrays spill. */
BC_FORCE_INLINE void xorpop_tiles(const bc_xorpop_args *args, size_t tiles, const uint64_t *source,
                                  const uint32_t *weights, int32_t *counts, int pixels, int vectors) {
    const ptrdiff_t stride = args->source_stride;
    const size_t group = args->taps * args->words * 2 * group_lanes(vectors);
    for (; tiles; tiles--, source += pixels * stride, counts += (size_t)pixels * args->counts_stride) {
        __m512i even[TILE_MOST], odd[TILE_MOST], twos[TILE_MOST];
        uint32_t source_ones[TILE_PIXELS_MOST];
        cursor at = {source + *args->tap_offset, args->tap_offset, args->words};
        const uint32_t *filters = weights;
        UNROLL
        for (int p = 0; p < pixels; p++) {
            const uint64_t *word = at.word + p * stride;
            source_ones[p] = half_word(word, 0);
            const __m512i low = spread(word);
            UNROLL
            for (int v = 0; v < vectors; v++)
                even[p * vectors + v] = differences(filters + low_at(v, group), low);
        }
        /* Ones go to and fro between two sets of registers, so that none is moved. */
#define ADD_WORD(OLD, ONES, FIRST)       \
    filters += 2 * group_lanes(vectors); \
    add_word(at.word, stride, filters, group, source_ones, OLD, ONES, twos, FIRST, pixels, vectors);
        next_word(&at, args, source);
        ADD_WORD(even, odd, 1)
        while (next_word(&at, args, source)) {
            ADD_WORD(odd, even, 0)
            if (!next_word(&at, args, source)) {
                UNROLL
                for (int i = 0; i < pixels * vectors; i++) odd[i] = even[i];
                break;
            }
            ADD_WORD(even, odd, 0)
        }
#undef ADD_WORD
        const uint64_t *first = source + *args->tap_offset;
        UNROLL
        for (int p = 0; p < pixels; p++) {
            const __m512i high = spread((const char *)(first + p * stride) + sizeof(uint32_t));
            UNROLL
            for (int v = 0; v < vectors; v++) {
                const int i = p * vectors + v;
                KEEP(odd[i]);
                KEEP(twos[i]);
                const __m512i single = differences(weights + low_at(v, group) + group_lanes(vectors), high);
                const __m512i rest = plus(_mm512_popcnt_epi32(single), _mm512_popcnt_epi32(odd[i]));
                const __m512i total = _mm512_dpwssd_epi32(rest, twos[i], _mm512_set1_epi32(2));
                _mm512_storeu_si512(counts + (size_t)p * args->counts_stride + (size_t)(v * LANES), total);
            }
        }
    }
}

#define XORPOP_TILE(PIXELS, VECTORS)                                                         \
    static void xorpop_##PIXELS##x##VECTORS(const bc_xorpop_args *args, size_t tiles,        \
                                            const uint64_t *source, const uint32_t *weights, \
                                            int32_t *counts) {                               \
        xorpop_tiles(args, tiles, source, weights, counts, PIXELS, VECTORS);                 \
    }
XORPOP_TILE(3, 4)
XORPOP_TILE(2, 4)
XORPOP_TILE(1, 4)
XORPOP_TILE(1, 8)
XORPOP_TILE(4, 2)
XORPOP_TILE(2, 2)
XORPOP_TILE(1, 2)

typedef struct xorpop_tile {
    size_t pixels;
    void (*sum)(const bc_xorpop_args *args, size_t tiles, const uint64_t *source, const uint32_t *weights,
                int32_t *counts);
} xorpop_tile;

static void xorpop_run(const bc_xorpop_args *args) {
    static const xorpop_tile one_pixel[] = {{1, xorpop_1x8}};
    static const xorpop_tile wide[] = {{3, xorpop_3x4}, {2, xorpop_2x4}, {1, xorpop_1x4}};
    static const xorpop_tile narrow[] = {{4, xorpop_4x2}, {2, xorpop_2x2}, {1, xorpop_1x2}};
    const size_t words = args->taps * args->words, carried = carried_blocks(args->blocks, words);
    if (!carried) {
        bc_kernels_avx512vpopcnt.xorpop(args);
        return;
    }
    const uint32_t *weights = args->weights;
    size_t filter = 0;
    while (filter < carried * BLOCK_FILTERS) {
        const size_t left = carried - filter / BLOCK_FILTERS;
        const size_t vectors =
            args->pixels == 1 && left >= DOUBLE * VECTOR_BLOCKS ? DOUBLE : group_vectors(left);
        const xorpop_tile *tile = vectors == DOUBLE ? one_pixel : vectors == WIDE ? wide : narrow;
        for (size_t pixel = 0; pixel < args->pixels; tile++) {
            const size_t rest = args->pixels - pixel;
            size_t tiles = rest / tile->pixels;
            /* One pixel alone is slow: twice two instead of three and one. */
            if (tile->pixels == 3 && rest % 3 == 1 && tiles) tiles--;
            tile->sum(args, tiles, args->source + (ptrdiff_t)pixel * args->source_stride, weights,
                      args->counts + pixel * args->counts_stride + filter);
            pixel += tiles * tile->pixels;
        }
        filter += vectors * LANES;
        weights += words * 2 * vectors * LANES;
    }
    if (carried == args->blocks) return;
    bc_xorpop_args rest = *args;
    rest.weights = weights;
    rest.blocks -= carried;
    rest.counts += filter;
    bc_kernels_avx512vpopcnt.xorpop(&rest);
}

static void xorpop(const bc_xorpop_args *args) { bc_for_runs(args, xorpop_run); }

const bc_kernels bc_kernels_avx512carrysave = {
    .xorpop_block_filters = BLOCK_FILTERS,
    .xorpop_block_word_bytes = BLOCK_FILTERS * sizeof(uint64_t),
    .xorpop_weights = xorpop_weights,
    .xorpop = xorpop,
};

#if defined(__clang__)
#pragma clang attribute pop
#elif defined(__GNUC__)
#pragma GCC pop_options
#endif

#endif
