/* XNOR sums by table look-ups, for aarch64 cores on which tbl is as cheap as an addition.
 *
 * No dot product is used. The feature parts the cores that have a fast tbl on whole vectors (Cortex-A55, A75,
 * A76, Neoverse, Apple: as many a cycle as additions) from older ones (A53, A57, A72: several times slower
 * than eor), and those from the plain kernels of kernels_neon.c.
 *
 * One tbl takes 4 weight bits of 16 filters and looks them up in a row of 16 bytes that 4 bits of two pixels
 * have chosen; each byte of a row holds a number for either pixel, in 4 bits. So tbl and add do 128 bit
 * products, where eor, cnt and add take three instructions.
 *
 * The numbers are not the counts c = popcount(a ^ w), from 0 to 4, of which 4 bits would hold the sum of
 * three only. c is even or odd with p(a) + p(w), p being the parity of 4 bits, so that
 *
 *     h = (c - p(a) + p(w)) / 2
 *
 * is whole, and it is 0, 1 or 2: seven of them fit. A sum of c is then twice the sum of h, plus the sum of
 * p(a), which belongs to the pixel and is counted along, less the sum of p(w), which lies beside the weights.
 */
#include "kernels.h"

#if (defined(__aarch64__) && !defined(__AARCH64EB__)) || defined(_M_ARM64)

#include <arm_neon.h>
#include <string.h>

#include "bits.h"
#include "double_math.h"

/* Without this, GCC 12 unrolls too late to keep the arrays of a tile in registers. */
#define UNROLL _Pragma("GCC unroll 16")

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

/* ---- The table: row a + 16 b, for bits a and b of two pixels, is {h(a, w) + 16 h(b, w), w = 0 ... 15} ------ */

/* Byte w of a constant: bit i of w, for w from 0 to 7; its parity. */
#define ONES UINT64_C(0x0101010101010101)
#define BIT_0 UINT64_C(0x0100010001000100)
#define BIT_1 UINT64_C(0x0101000001010000)
#define BIT_2 UINT64_C(0x0101010100000000)
#define PARITY UINT64_C(0x0100000100010100)
/* Byte w: bit i of a ^ w, BITS being bit i of w. */
#define DIFFERS(a, i, BITS) ((a) >> (i) & 1 ? ONES - (BITS) : (BITS))
#define COUNTS(a, BIT_3) \
    (DIFFERS(a, 0, BIT_0) + DIFFERS(a, 1, BIT_1) + DIFFERS(a, 2, BIT_2) + DIFFERS(a, 3, BIT_3))
#define PARITY_OF(a) (ONES * (0x6996 >> (a) & 1))
#define HALVES_LOW(a) ((COUNTS(a, 0) + PARITY - PARITY_OF(a)) / 2)
#define HALVES_HIGH(a) ((COUNTS(a, ONES) + (ONES - PARITY) - PARITY_OF(a)) / 2)

#define ROW(a, b) {HALVES_LOW(a) + (HALVES_LOW(b) << 4), HALVES_HIGH(a) + (HALVES_HIGH(b) << 4)}
#define ROWS_4(a, b) ROW(a, b), ROW(a + 1, b), ROW(a + 2, b), ROW(a + 3, b)
#define ROWS_16(b) ROWS_4(0, b), ROWS_4(4, b), ROWS_4(8, b), ROWS_4(12, b)
#define ROWS_64(b) ROWS_16(b), ROWS_16(b + 1), ROWS_16(b + 2), ROWS_16(b + 3)

static const _Alignas(16) uint64_t table[256][2] = {ROWS_64(0), ROWS_64(4), ROWS_64(8), ROWS_64(12)};

/* ---- Weights: for each word of 16 filters, 16 vectors of 4 bits of each, in the order in which pixels' bits
 * are looked up, and the sums of p(w) -------------------------------------------------------------------- */

enum {
    FILTERS = 16,
    STEPS = 16, /* of 4 bits, in a word: bits 0-3 of its 8 bytes, then bits 4-7 */
    WORD_BYTES = (STEPS + 1) * FILTERS,
};

static void xorpop_weights(const bc_xorpop_weights_args *args) {
    const size_t words = (args->channels + 63) / 64, mps_words = (args->channels + 31) / 32;
    const size_t blocks = (args->filters + FILTERS - 1) / FILTERS;
    uint8_t *out = args->blocks;
    memset(out, 0, blocks * args->taps * words * WORD_BYTES);
    for (size_t block = 0; block < blocks; block++)
        for (size_t tap = 0; tap < args->taps; tap++)
            for (size_t k = 0; k < words; k++, out += WORD_BYTES)
                for (size_t lane = 0; lane < FILTERS && block * FILTERS + lane < args->filters; lane++) {
                    const uint32_t *source =
                        args->weights + ((block * FILTERS + lane) * args->taps + tap) * mps_words + 2 * k;
                    uint64_t word = source[0];
                    if (args->channels - 64 * k > 32) word |= (uint64_t)source[1] << 32;
                    word &= bc_low_bits(args->channels - 64 * k);
                    for (size_t step = 0; step < STEPS; step++) {
                        const uint8_t bits = word >> (step % 8 * 8 + step / 8 * 4) & 15;
                        out[step * FILTERS + lane] = bits;
                        out[STEPS * FILTERS + lane] += 0x6996 >> bits & 1;
                    }
                }
}

/* ---- Sums ----------------------------------------------------------------------------------------- */

enum {
    PAIRS = 3,  /* of pixels, most in a tile: with 2 blocks, 18 sums and what is between stay in registers */
    BLOCKS = 2, /* of filters, most in a tile */
    WORDS_BEFORE_OVERFLOW = 7, /* a byte gains up to 32 a word */
    WORD_COUNTS =
        64 + STEPS, /* what 16 bits must hold for each word: twice the sum of h, and the sum of p(a) */
    PARTS_BEFORE_OVERFLOW = 65535 / (WORDS_BEFORE_OVERFLOW * WORD_COUNTS),
};

/* Where a tile reads and writes. */
typedef struct tile {
    const bc_xorpop_args *args;
    const uint64_t *source;
    const uint8_t *weights;
    int32_t *counts;
    int32_t start[BLOCKS][FILTERS]; /* less the sums of p(w) */
    size_t tap, word;               /* the next one of the pixels */
} tile;

/* What a few words of the pixels look up: for each word and pair, STEPS row numbers. And the sums of p(a). */
typedef struct row_numbers {
    uint64_t of[WORDS_BEFORE_OVERFLOW][PAIRS][2];
    uint64_t parities[2 * PAIRS];
} row_numbers;

/* The parity of each 4 bits, in the lowest of them. */
static inline uint64_t nibble_parities(uint64_t word) {
    word ^= word >> 1;
    word ^= word >> 2;
    return word & UINT64_C(0x1111111111111111);
}

static inline uint64_t add_nibbles(uint64_t nibbles) {
    const uint64_t low = UINT64_C(0x0f0f0f0f0f0f0f0f);
    return ((nibbles & low) + (nibbles >> 4 & low)) * ONES >> 56;
}

/* Fills in the rows for the tile's next words and returns for how many. The second pixel of a pair lies
 * `apart` from the first. */
BC_FORCE_INLINE size_t find_rows(tile *tile, row_numbers *rows, ptrdiff_t apart, const int pairs) {
    const uint64_t low = UINT64_C(0x0f0f0f0f0f0f0f0f);
    const bc_xorpop_args *args = tile->args;
    uint64_t parities[2 * PAIRS] = {0};
    size_t count = 0;
    for (; tile->tap < args->taps && count < WORDS_BEFORE_OVERFLOW; count++) {
        const uint64_t *word = tile->source + args->tap_offset[tile->tap] + (ptrdiff_t)tile->word;
        UNROLL
        for (int p = 0; p < pairs; p++) {
            const uint64_t a = word[2 * p * apart], b = word[(2 * p + 1) * apart];
            rows->of[count][p][0] = (a & low) | (b & low) << 4;
            rows->of[count][p][1] = (a >> 4 & low) | (b & ~low);
            parities[2 * p] += nibble_parities(a);
            parities[2 * p + 1] += nibble_parities(b);
        }
        if (++tile->word == args->words) {
            tile->word = 0;
            tile->tap++;
        }
    }
    UNROLL
    for (int p = 0; p < 2 * pairs; p++) rows->parities[p] += add_nibbles(parities[p]);
    return count;
}

/* Adds a word's numbers to sums in bytes: of both pixels, the first's plus 16 times the second's, modulo 256;
 * and of the second alone. What is looked up is added in groups of 5 or 6 before the two are told apart: at
 * most 12 in 4 bits. */
BC_FORCE_INLINE void add_word(uint8x16_t both[PAIRS][BLOCKS], uint8x16_t second[PAIRS][BLOCKS],
                              uint64_t rows[PAIRS][2], const uint8_t *weights, size_t block_bytes,
                              const int pairs, const int blocks) {
    uint8x16_t group[PAIRS][BLOCKS];
    UNROLL
    for (int step = 0; step < STEPS; step++) {
        const int first_of_group = step == 0 || step == 5 || step == 10;
        const int last_of_group = step == 4 || step == 9 || step == STEPS - 1;
        uint8x16_t filters[BLOCKS];
        UNROLL
        for (int b = 0; b < blocks; b++)
            filters[b] = vld1q_u8(weights + (size_t)b * block_bytes + (size_t)step * FILTERS);
        UNROLL
        for (int p = 0; p < pairs; p++) {
            uint8x16_t row;
            LOAD_ROW(row, table, rows[p][step / 8] >> step % 8 * 8 & 255);
            UNROLL
            for (int b = 0; b < blocks; b++) {
                const uint8x16_t found = vqtbl1q_u8(row, filters[b]);
                group[p][b] = first_of_group ? found : vaddq_u8(group[p][b], found);
                ADD_IN_ORDER(group[p][b]);
                if (!last_of_group) continue;
                both[p][b] = vaddq_u8(both[p][b], group[p][b]);
                second[p][b] = vsraq_n_u8(second[p][b], group[p][b], 4);
            }
        }
    }
}

static inline void add_bytes(uint16_t *sums, uint8x16_t bytes) {
    vst1q_u16(sums, vaddw_u8(vld1q_u16(sums), vget_low_u8(bytes)));
    vst1q_u16(sums + 8, vaddw_high_u8(vld1q_u16(sums + 8), bytes));
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

/* As many words as 16 bits hold the sums of; returns whether there are more. */
BC_FORCE_INLINE int run_parts(tile *tile, const int pixels, const int pairs, const int blocks, int first) {
    const size_t block_bytes = tile->args->taps * tile->args->words * WORD_BYTES;
    const ptrdiff_t apart = pixels == 1 ? 0 : tile->args->source_stride;
    row_numbers rows = {.parities = {0}};
    uint16_t sums[BLOCKS][2 * PAIRS][FILTERS] = {0};
    for (int part = 0; part < PARTS_BEFORE_OVERFLOW && tile->tap < tile->args->taps; part++) {
        uint8x16_t both[PAIRS][BLOCKS], second[PAIRS][BLOCKS];
        UNROLL
        for (int p = 0; p < pairs; p++) UNROLL
        for (int b = 0; b < blocks; b++) both[p][b] = second[p][b] = vdupq_n_u8(0);
        const size_t words = find_rows(tile, &rows, apart, pairs);
        for (size_t k = 0; k < words; k++, tile->weights += WORD_BYTES)
            add_word(both, second, rows.of[k], tile->weights, block_bytes, pairs, blocks);
        UNROLL
        for (int p = 0; p < pairs; p++) UNROLL
        for (int b = 0; b < blocks; b++) {
            add_bytes(sums[b][2 * p], vsubq_u8(both[p][b], vshlq_n_u8(second[p][b], 4)));
            if (pixels > 1) add_bytes(sums[b][2 * p + 1], second[p][b]);
        }
    }
    UNROLL
    for (int p = 0; p < pixels; p++) UNROLL
    for (int b = 0; b < blocks; b++) {
        int32_t *counts = tile->counts + (size_t)p * tile->args->counts_stride + (size_t)b * FILTERS;
        finish_counts(counts, first ? tile->start[b] : counts, sums[b][p], rows.parities[p]);
    }
    return tile->tap < tile->args->taps;
}

/* `pairs` of pixels x `blocks`, both constants. `pixels` is 1 for a pair of which the second does not count.
 */
#define RUN_TILE(PIXELS, PAIRS, BLOCKS)                                                \
    static void run_tile_##PIXELS##x##BLOCKS(tile *tile) {                             \
        for (int first = 1; run_parts(tile, PIXELS, PAIRS, BLOCKS, first);) first = 0; \
    }
RUN_TILE(6, 3, 2)
RUN_TILE(2, 1, 2)
RUN_TILE(1, 1, 2)
RUN_TILE(6, 3, 1)
RUN_TILE(2, 1, 1)
RUN_TILE(1, 1, 1)

typedef struct tile_size {
    size_t pixels;
    void (*run)(tile *tile);
} tile_size;

/* The sums of p(w), negated. */
static void sum_parities(const bc_xorpop_args *args, const uint8_t *weights, int32_t *start) {
    memset(start, 0, FILTERS * sizeof *start);
    for (size_t word = 0; word < args->taps * args->words; word++) {
        const uint8_t *parities = weights + word * WORD_BYTES + STEPS * FILTERS;
        for (size_t lane = 0; lane < FILTERS; lane++) start[lane] -= parities[lane];
    }
}

static void xorpop(const bc_xorpop_args *args) {
    static const tile_size by_two[] = {{6, run_tile_6x2}, {2, run_tile_2x2}, {1, run_tile_1x2}};
    static const tile_size by_one[] = {{6, run_tile_6x1}, {2, run_tile_2x1}, {1, run_tile_1x1}};
    const size_t block_bytes = args->taps * args->words * WORD_BYTES;
    for (size_t block = 0, blocks; block < args->blocks; block += blocks) {
        blocks = args->blocks - block >= BLOCKS ? BLOCKS : 1;
        const tile_size *size = blocks == BLOCKS ? by_two : by_one;
        const uint8_t *weights = (const uint8_t *)args->weights + block * block_bytes;
        tile tile = {.args = args};
        for (size_t b = 0; b < blocks; b++) sum_parities(args, weights + b * block_bytes, tile.start[b]);
        for (size_t pixel = 0; pixel < args->pixels; pixel += size->pixels) {
            while (size->pixels > args->pixels - pixel) size++;
            tile.source = args->source + (ptrdiff_t)pixel * args->source_stride;
            tile.weights = weights;
            tile.counts = args->counts + pixel * args->counts_stride + block * FILTERS;
            tile.tap = args->words ? 0 : args->taps;
            tile.word = 0;
            size->run(&tile);
        }
    }
}

const bc_kernels bc_kernels_asimddp = {
    .xorpop_block_filters = FILTERS,
    .xorpop_block_word_bytes = WORD_BYTES,
    .xorpop_weights = xorpop_weights,
    .xorpop = xorpop,
};

#endif
