/* XNOR sums by table look-ups, for aarch64 cores on which tbl is as cheap as an addition.
 *
 * No dot product is used. The feature parts the cores that have a fast tbl on whole vectors (Cortex-A55, A75,
 * A76, Neoverse, Apple: as many a cycle as additions) from older ones (A53, A57, A72: several times slower
 * than eor), and those from the plain kernels of kernels_neon.c.
 *
 * half_counts.h says what one tbl looks up, in a row that 4 bits of two pixels have chosen. So tbl and add do 128 bit
 * products, where eor, cnt and add take three instructions.
 */
#include "kernels.h"

#if (defined(__aarch64__) && !defined(__AARCH64EB__)) || defined(_M_ARM64)

#include <arm_neon.h>
#include <string.h>

#include "bits.h"
#include "double_math.h"
#include "half_counts.h"

#define UNROLL BC_UNROLL

/* What GCC must be told, or it takes half as many instructions again: that a row number is scaled in the
 * load, and that sums grow one at a time, since it has no registers for all that it would look up before it
 * adds. */
#if defined(__GNUC__) && !defined(__clang__)
#define LOAD_ROW(row, table, number) \
    __asm__ volatile("ldr %q0, [%1, %2, lsl 4]" : "=w"(row) : "r"(table), "r"(number))
#define ADD_IN_ORDER(sum) __asm__("" : "+w"(sum))
#else
#define LOAD_ROW(row, table, number) row = vreinterpretq_u8_u64(vld1q_u64((table)[number]))
#define ADD_IN_ORDER(sum) (void)0
#endif

enum { FILTERS = 16, WORD_BYTES = BC_HALF_WORD_BYTES(FILTERS) };

static void xorpop_weights(const bc_xorpop_weights_args *args) {
    uint8_t lane_of[FILTERS];
    for (int i = 0; i < FILTERS; i++) lane_of[i] = (uint8_t)i;
    bc_half_weights(args, FILTERS, lane_of);
}

/* ---- Sums ----------------------------------------------------------------------------------------- */

enum {
    PAIRS = 3,  /* of pixels, most in a tile: with 2 blocks, 18 sums and what is between stay in registers */
    BLOCKS = 2, /* of filters, most in a tile */
    WORDS_BEFORE_OVERFLOW = 7, /* a byte gains up to 32 a word */
    /* What 16 bits must hold for each word: twice the sum of h, and the sum of p(a). */
    WORD_COUNTS = 64 + BC_HALF_STEPS,
    PARTS_BEFORE_OVERFLOW = 65535 / (WORDS_BEFORE_OVERFLOW * WORD_COUNTS) - 1, /* and the rest */
};

/* Where a tile reads and writes. */
typedef struct tile {
    const bc_xorpop_args *args;
    const uint64_t *source;
    const uint8_t *weights;
    int32_t *counts;
    int32_t start[BLOCKS][FILTERS]; /* less the sums of p(w) */
} tile;

/* What a tile has counted so far. Byte sums and parities stay in registers. */
typedef struct tile_sums {
    uint8x16_t both[PAIRS][BLOCKS];   /* the first pixel's plus 16 times the second's, modulo 256 */
    uint8x16_t second[PAIRS][BLOCKS]; /* the second's alone */
    uint64_t parities[PAIRS];         /* in each 4 bits, how often p(a) was 1 there; pixels take turns */
    uint64_t total_parities[2 * PAIRS];
    uint16_t total[BLOCKS][2 * PAIRS][FILTERS];
} tile_sums;

/* `word` is the first pixel's; every next one lies `apart`. */
BC_FORCE_INLINE void find_tile_rows(uint64_t rows[PAIRS][2], const uint64_t *word, ptrdiff_t apart,
                                    const int pairs) {
    UNROLL
    for (int p = 0; p < pairs; p++) bc_find_rows(rows[p], word[2 * p * apart], word[(2 * p + 1) * apart]);
}

/* Adds what half of a word's rows hold for the filters. It is added in groups of 5 or 6 steps before the two
 * pixels are told apart: at most 12 in 4 bits. */
BC_FORCE_INLINE void add_half(tile_sums *sums, uint8x16_t group[PAIRS][BLOCKS], uint64_t rows[PAIRS][2],
                              const uint8_t *weights, size_t block_bytes, const int half, const int pairs,
                              const int blocks) {
    UNROLL
    for (int i = 0; i < BC_HALF_STEPS / 2; i++) {
        const int step = half * (BC_HALF_STEPS / 2) + i;
        const int first_of_group = step == 0 || step == 5 || step == 10;
        const int last_of_group = step == 4 || step == 9 || step == BC_HALF_STEPS - 1;
        uint8x16_t filters[BLOCKS];
        UNROLL
        for (int b = 0; b < blocks; b++)
            filters[b] = vld1q_u8(weights + (size_t)b * block_bytes + (size_t)step * FILTERS);
        UNROLL
        for (int p = 0; p < pairs; p++) {
            uint8x16_t row;
            LOAD_ROW(row, bc_half_rows, rows[p][half] >> i * 8 & 255);
            UNROLL
            for (int b = 0; b < blocks; b++) {
                const uint8x16_t found = vqtbl1q_u8(row, filters[b]);
                group[p][b] = first_of_group ? found : vaddq_u8(group[p][b], found);
                ADD_IN_ORDER(group[p][b]);
                if (!last_of_group) continue;
                sums->both[p][b] = vaddq_u8(sums->both[p][b], group[p][b]);
                sums->second[p][b] = vsraq_n_u8(sums->second[p][b], group[p][b], 4);
            }
        }
    }
}

static inline void add_bytes(uint16_t *sums, uint8x16_t bytes) {
    vst1q_u16(sums, vaddw_u8(vld1q_u16(sums), vget_low_u8(bytes)));
    vst1q_u16(sums + 8, vaddw_high_u8(vld1q_u16(sums + 8), bytes));
}

/* Moves byte sums to the totals. */
BC_FORCE_INLINE void flush_bytes(tile_sums *sums, const int pairs, const int blocks) {
    UNROLL
    for (int p = 0; p < pairs; p++) {
        sums->total_parities[2 * p] += bc_add_low_nibbles(sums->parities[p]);
        sums->total_parities[2 * p + 1] += bc_add_low_nibbles(sums->parities[p] >> 4);
        sums->parities[p] = 0;
        UNROLL
        for (int b = 0; b < blocks; b++) {
            const uint8x16_t second = sums->second[p][b];
            add_bytes(sums->total[b][2 * p], vsubq_u8(sums->both[p][b], vshlq_n_u8(second, 4)));
            add_bytes(sums->total[b][2 * p + 1], second);
            sums->both[p][b] = sums->second[p][b] = vdupq_n_u8(0);
        }
    }
}

/* counts = before + 2 * sums + parities. */
static inline void finish_counts(int32_t *counts, const int32_t *before, const uint16_t *sums,
                                 uint64_t parities) {
    UNROLL
    for (size_t lane = 0; lane < FILTERS; lane += 8) {
        const uint16x8_t twice = vshlq_n_u16(vld1q_u16(sums + lane), 1);
        const uint16x8_t more = vaddq_u16(twice, vdupq_n_u16((uint16_t)parities));
        const uint32x4_t low = vreinterpretq_u32_s32(vld1q_s32(before + lane));
        const uint32x4_t high = vreinterpretq_u32_s32(vld1q_s32(before + lane + 4));
        vst1q_s32(counts + lane, vreinterpretq_s32_u32(vaddw_u16(low, vget_low_u16(more))));
        vst1q_s32(counts + lane + 4, vreinterpretq_s32_u32(vaddw_high_u16(high, more)));
    }
}

/* Moves the totals to counts; `before` is what these held. */
BC_FORCE_INLINE void flush_totals(const tile *tile, tile_sums *sums, int first, const int pixels,
                                  const int blocks) {
    UNROLL
    for (int p = 0; p < pixels; p++) UNROLL
    for (int b = 0; b < blocks; b++) {
        int32_t *counts = tile->counts + (size_t)p * tile->args->counts_stride + (size_t)b * FILTERS;
        finish_counts(counts, first ? tile->start[b] : counts, sums->total[b][p], sums->total_parities[p]);
    }
    memset(sums->total, 0, sizeof sums->total);
    memset(sums->total_parities, 0, sizeof sums->total_parities);
}

/* `pairs` of pixels x `blocks`, all constants. `pixels` is 1 for a pair of which the second does not count.
 */
BC_FORCE_INLINE void run_tile(const tile *tile, const int pixels, const int pairs, const int blocks) {
    const bc_xorpop_args *args = tile->args;
    const size_t block_bytes = args->taps * args->words * WORD_BYTES;
    const ptrdiff_t apart = pixels == 1 ? 0 : args->source_stride;
    const uint8_t *weights = tile->weights;
    tile_sums sums;
    UNROLL
    for (int p = 0; p < pairs; p++) {
        sums.parities[p] = 0;
        UNROLL
        for (int b = 0; b < blocks; b++) sums.both[p][b] = sums.second[p][b] = vdupq_n_u8(0);
    }
    memset(sums.total, 0, sizeof sums.total);
    memset(sums.total_parities, 0, sizeof sums.total_parities);
    int first = 1, words_left = WORDS_BEFORE_OVERFLOW, parts_left = PARTS_BEFORE_OVERFLOW;
    uint64_t rows[PAIRS][2];
    size_t tap = 0, k = 0, left = args->taps * args->words;
    const uint64_t *word = left ? tile->source + args->tap_offset[0] : NULL;
    if (left) find_tile_rows(rows, word, apart, pairs);
    for (; left; left--, weights += WORD_BYTES) {
        uint8x16_t group[PAIRS][BLOCKS];
        uint64_t next_rows[PAIRS][2];
        add_half(&sums, group, rows, weights, block_bytes, 0, pairs, blocks);
        /* The next word's rows are found halfway, so that look-ups need not wait for them; after the last
         * word, its own again. */
        if (left > 1) {
            word++;
            if (++k == args->words) {
                k = 0;
                word = tile->source + args->tap_offset[++tap];
            }
        }
        find_tile_rows(next_rows, word, apart, pairs);
        add_half(&sums, group, rows, weights, block_bytes, 1, pairs, blocks);
        UNROLL
        for (int p = 0; p < pairs; p++) {
            sums.parities[p] += bc_nibble_parities(rows[p][0]) + bc_nibble_parities(rows[p][1]);
            rows[p][0] = next_rows[p][0];
            rows[p][1] = next_rows[p][1];
        }
        if (--words_left) continue;
        words_left = WORDS_BEFORE_OVERFLOW;
        flush_bytes(&sums, pairs, blocks);
        if (--parts_left) continue;
        parts_left = PARTS_BEFORE_OVERFLOW;
        flush_totals(tile, &sums, first, pixels, blocks);
        first = 0;
    }
    flush_bytes(&sums, pairs, blocks);
    flush_totals(tile, &sums, first, pixels, blocks);
}

#define RUN_TILE(PIXELS, PAIRS, BLOCKS) \
    static void run_tile_##PIXELS##x##BLOCKS(const tile *tile) { run_tile(tile, PIXELS, PAIRS, BLOCKS); }
RUN_TILE(6, 3, 2)
RUN_TILE(4, 2, 2)
RUN_TILE(2, 1, 2)
RUN_TILE(1, 1, 2)
RUN_TILE(6, 3, 1)
RUN_TILE(4, 2, 1)
RUN_TILE(2, 1, 1)
RUN_TILE(1, 1, 1)

/* How many of the pixels that are left a tile takes: 8 are better taken as 4 and 4 than as 6 and 2. */
static size_t tile_pixels(size_t left) {
    if (left >= 6 && left != 8) return 6;
    return left >= 4 ? 4 : left >= 2 ? 2 : 1;
}

/* The sums of p(w), negated. */
static void sum_parities(const bc_xorpop_args *args, const uint8_t *weights, int32_t *start) {
    int32x4_t sums[FILTERS / 4] = {vdupq_n_s32(0), vdupq_n_s32(0), vdupq_n_s32(0), vdupq_n_s32(0)};
    for (size_t left = args->taps * args->words; left; left--, weights += WORD_BYTES) {
        const uint8x16_t bytes = vld1q_u8(weights + BC_HALF_STEPS * FILTERS);
        const int16x8_t low = vreinterpretq_s16_u16(vmovl_u8(vget_low_u8(bytes)));
        const int16x8_t high = vreinterpretq_s16_u16(vmovl_high_u8(bytes));
        sums[0] = vsubw_s16(sums[0], vget_low_s16(low));
        sums[1] = vsubw_high_s16(sums[1], low);
        sums[2] = vsubw_s16(sums[2], vget_low_s16(high));
        sums[3] = vsubw_high_s16(sums[3], high);
    }
    for (size_t i = 0; i < FILTERS / 4; i++) vst1q_s32(start + 4 * i, sums[i]);
}

static void xorpop_run(const bc_xorpop_args *args) {
    static void (*const run[BLOCKS][7])(const tile *) = {
        {[6] = run_tile_6x1, [4] = run_tile_4x1, [2] = run_tile_2x1, [1] = run_tile_1x1},
        {[6] = run_tile_6x2, [4] = run_tile_4x2, [2] = run_tile_2x2, [1] = run_tile_1x2},
    };
    const size_t block_bytes = args->taps * args->words * WORD_BYTES;
    for (size_t block = 0, blocks; block < args->blocks; block += blocks) {
        blocks = args->blocks - block >= BLOCKS ? BLOCKS : 1;
        const uint8_t *weights = (const uint8_t *)args->weights + block * block_bytes;
        tile tile = {.args = args, .weights = weights};
        for (size_t b = 0; b < blocks; b++) sum_parities(args, weights + b * block_bytes, tile.start[b]);
        for (size_t pixel = 0, pixels; pixel < args->pixels; pixel += pixels) {
            pixels = tile_pixels(args->pixels - pixel);
            tile.source = args->source + (ptrdiff_t)pixel * args->source_stride;
            tile.counts = args->counts + pixel * args->counts_stride + block * FILTERS;
            run[blocks - 1][pixels](&tile);
        }
    }
}

static void xorpop(const bc_xorpop_args *args) { bc_for_runs(args, xorpop_run); }

const bc_kernels bc_kernels_asimddp = {
    .xorpop_block_filters = FILTERS,
    .xorpop_block_word_bytes = WORD_BYTES,
    .xorpop_weights = xorpop_weights,
    .xorpop = xorpop,
};

#endif
