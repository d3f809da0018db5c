/* XNOR on AVX2: half counts (half_counts.h) of 32 filters to a vector of bytes, two pixels at once.
 *
 * Included by kernels_avx2.c under its target pragma, which defines UNROLL and KEEP_ORDER. */
#ifndef BC_XORPOP_AVX2_H
#define BC_XORPOP_AVX2_H

#include <immintrin.h>

#include "bits.h"
#include "half_counts.h"
#include "kernels.h"

/* Bytes sum A + 16 B modulo 256, A and B being the sums of two pixels, and beside that the same shifted right by 4, which
 * tells the two apart, until one could overflow: that is a part. */
enum {
    BLOCK_FILTERS = 32,
    /* 544. With 512, blocks of 8, 16, ... words lie whole pages apart, and on Zen 5 loads from the same place of several
     * pages wait for each other: a word of a tile takes 58 to 65 cycles instead of 48. */
    WORD_BYTES = BC_HALF_WORD_BYTES(BLOCK_FILTERS),
    MOST_PAIRS = 2, /* of pixels, side by side */
    MOST_VECTORS =
        4, /* blocks side by side; with one pair, or two with two: sums and what is between stay in registers */
    PART_WORDS = 7,     /* a word adds up to 32 to a byte */
    WINDOW_MOST = 1023, /* words whose counts fit 16 bits, and so do all that they are made of */
    STRIPE_PIXELS = 64, /* that a part's weights are kept for */
};

/* Filters of a block lie in the order in which store_counts wants them. */
static void xorpop_weights(const bc_xorpop_weights_args *args) {
    uint8_t lane_of[BLOCK_FILTERS];
    for (int i = 0; i < BLOCK_FILTERS; i++)
        lane_of[i] = (uint8_t)(i / 16 + 2 * (i % 4 + i / 8 % 2 * 4 + i / 4 % 2 * 8));
    bc_half_weights(args, BLOCK_FILTERS, lane_of);
}

/* Numbers of a block's filters in 16-bit lanes: those of even bytes and those of odd ones. */
typedef struct shorts {
    __m256i even, odd;
} shorts;

/* Words that lie side by side, in the source as in the weights. */
typedef struct stretch {
    ptrdiff_t offset; /* from a pixel's first word */
    size_t words;
} stretch;

/* A few words of the windows, against some blocks: 15 KiB of weights at most, which stay in the first-level cache while pixels go
 * by. Parts make sections: the whole of windows whose counts fit 16 bits; of longer ones each part is one. Between the parts of a
 * section the halves of a pixel's counts wait where its counts will be, so that a section after the first, which adds to counts
 * that are there, can have one part only. */
typedef struct part {
    stretch stretches[PART_WORDS];
    const stretch *end;
    const uint8_t *weights; /* of the first block */
    size_t block_bytes;
    size_t counts_stride;
    int first, last;                      /* of its section */
    int accumulate;                       /* onto counts of the sections before */
    shorts weight_parities[MOST_VECTORS]; /* sums of p(w) of the section */
} part;

/* Tells a pair's sums apart. In 16-bit lanes, `both` is A + 16 B modulo 256 of an even byte and of the odd one above. `second`
 * is the sum of the same shifted right by 4: B in odd bytes, and in even ones B + 16 times the A of the odd byte. */
static inline void add_pair(__m256i both, __m256i second, shorts *a, shorts *b) {
    const __m256i low = _mm256_set1_epi16(0x00ff);
    const __m256i odd_b = _mm256_srli_epi16(second, 8);
    const __m256i odd_a = _mm256_srli_epi16(_mm256_sub_epi16(both, _mm256_slli_epi16(odd_b, 12)), 8);
    const __m256i even_b = _mm256_and_si256(_mm256_sub_epi16(second, _mm256_slli_epi16(odd_a, 4)), low);
    const __m256i even_a = _mm256_and_si256(_mm256_sub_epi16(both, _mm256_slli_epi16(even_b, 4)), low);
    a->even = _mm256_add_epi16(a->even, even_a);
    a->odd = _mm256_add_epi16(a->odd, odd_a);
    b->even = _mm256_add_epi16(b->even, even_b);
    b->odd = _mm256_add_epi16(b->odd, odd_b);
}

static inline void store_shorts(__m256i lanes, int32_t *counts, int accumulate) {
    const __m256i zero = _mm256_setzero_si256();
    const __m256i wide[2] = {_mm256_unpacklo_epi16(lanes, zero), _mm256_unpackhi_epi16(lanes, zero)};
    UNROLL
    for (int i = 0; i < 2; i++) {
        __m256i *at = (__m256i *)counts + i;
        _mm256_storeu_si256(at, accumulate ? _mm256_add_epi32(_mm256_loadu_si256(at), wide[i]) : wide[i]);
    }
}

/* counts = 2 * halves + parities - weight_parities, or that much more. */
static inline void store_counts(const shorts *halves, uint64_t parities, const shorts *weight_parities,
                                int32_t *counts, int accumulate) {
    const __m256i parity = _mm256_set1_epi16((short)parities);
    const __m256i even = _mm256_sub_epi16(parity, weight_parities->even);
    const __m256i odd = _mm256_sub_epi16(parity, weight_parities->odd);
    store_shorts(_mm256_add_epi16(_mm256_add_epi16(halves->even, halves->even), even), counts, accumulate);
    store_shorts(_mm256_add_epi16(_mm256_add_epi16(halves->odd, halves->odd), odd), counts + 16, accumulate);
}

/* Adds what 16 look-ups find for a pair of pixels, in groups of 5 or 6: at most 12 in 4 bits. */
BC_FORCE_INLINE void add_word(__m256i *both, __m256i *second, const uint64_t rows[2], const uint8_t *weights,
                              size_t block_bytes, const int vectors) {
    __m256i group[MOST_VECTORS];
    UNROLL
    for (int step = 0; step < BC_HALF_STEPS; step++) {
        const int first_of_group = step == 0 || step == 5 || step == 10;
        const int last_of_group = step == 4 || step == 9 || step == BC_HALF_STEPS - 1;
        const uint64_t *row = bc_half_rows[rows[step / 8] >> step % 8 * 8 & 255];
        const __m256i halves = _mm256_broadcastsi128_si256(_mm_load_si128((const __m128i *)row));
        UNROLL
        for (int v = 0; v < vectors; v++) {
            const uint8_t *filters = weights + (size_t)v * block_bytes + step * BLOCK_FILTERS;
            const __m256i found = _mm256_shuffle_epi8(halves, _mm256_loadu_si256((const __m256i *)filters));
            group[v] = first_of_group ? found : _mm256_add_epi8(group[v], found);
            KEEP_ORDER(group[v]);
            if (!last_of_group) continue;
            both[v] = _mm256_add_epi8(both[v], group[v]);
            second[v] = _mm256_add_epi8(second[v], _mm256_srli_epi16(group[v], 4));
            KEEP_ORDER(both[v]);
            KEEP_ORDER(second[v]);
        }
    }
}

/* Where the halves of a block's counts wait. */
static inline shorts load_halves(const int32_t *counts) {
    return (shorts){_mm256_loadu_si256((const __m256i *)counts),
                    _mm256_loadu_si256((const __m256i *)counts + 1)};
}

static inline void store_halves(const shorts *halves, int32_t *counts) {
    _mm256_storeu_si256((__m256i *)counts, halves->even);
    _mm256_storeu_si256((__m256i *)counts + 1, halves->odd);
}

/* `pixels`, whose windows begin at `source` of each, against `vectors` blocks: both constants. `parities` are the pixels', of the
 * section so far. One alone pairs with itself. */
BC_FORCE_INLINE void sum_tile(const part *part, const uint64_t *const *source, uint32_t *parities,
                              int32_t *counts, const int pixels, const int vectors) {
    const int pairs = (pixels + 1) / 2;
    const size_t block_bytes = part->block_bytes, counts_stride = part->counts_stride;
    const uint8_t *weights = part->weights;
    ptrdiff_t apart[2 * MOST_PAIRS]; /* from the first pixel's */
    UNROLL
    for (int p = 0; p < 2 * pairs; p++) apart[p] = source[p < pixels ? p : p - 1] - source[0];
    __m256i both[MOST_PAIRS][MOST_VECTORS], second[MOST_PAIRS][MOST_VECTORS];
    uint64_t part_parities[MOST_PAIRS]; /* in each 4 bits, how often p(a) was 1 there; pixels take turns */
    UNROLL
    for (int p = 0; p < pairs; p++) {
        part_parities[p] = 0;
        UNROLL
        for (int v = 0; v < vectors; v++) both[p][v] = second[p][v] = _mm256_setzero_si256();
    }
    for (const stretch *at = part->stretches; at != part->end; at++) {
        const uint64_t *word = source[0] + at->offset, *const end = word + at->words;
        for (; word != end; word++, weights += WORD_BYTES) {
            UNROLL
            for (int p = 0; p < pairs; p++) {
                uint64_t rows[2];
                bc_find_rows(rows, word[apart[2 * p]], word[apart[2 * p + 1]]);
                part_parities[p] += bc_nibble_parities(rows[0]) + bc_nibble_parities(rows[1]);
                add_word(both[p], second[p], rows, weights, block_bytes, vectors);
            }
        }
    }
    const int first = part->first, last = part->last, accumulate = part->accumulate;
    UNROLL
    for (int p = 0; p < pairs; p++) {
        parities[2 * p] += (uint32_t)bc_add_low_nibbles(part_parities[p]);
        if (2 * p + 1 < pixels) parities[2 * p + 1] += (uint32_t)bc_add_low_nibbles(part_parities[p] >> 4);
        int32_t *const at = counts + (size_t)(2 * p) * counts_stride;
        const size_t next = 2 * p + 1 < pixels ? counts_stride : 0;
        UNROLL
        for (int v = 0; v < vectors; v++) {
            int32_t *const a_at = at + (size_t)v * BLOCK_FILTERS, *const b_at = a_at + next;
            const shorts none = {_mm256_setzero_si256(), _mm256_setzero_si256()};
            shorts a = first ? none : load_halves(a_at), b = first ? none : load_halves(b_at);
            add_pair(both[p][v], second[p][v], &a, &b);
            if (last) {
                store_counts(&a, parities[2 * p], &part->weight_parities[v], a_at, accumulate);
                if (next) store_counts(&b, parities[2 * p + 1], &part->weight_parities[v], b_at, accumulate);
            } else {
                store_halves(&a, a_at);
                if (next) store_halves(&b, b_at);
            }
        }
    }
}

/* `tiles` of them. */
#define SUM_TILES(PIXELS, VECTORS)                                                                  \
    static void sum_tiles_##PIXELS##x##VECTORS(const part *part, const uint64_t *const *source,     \
                                               uint32_t *parities, int32_t *counts, size_t tiles) { \
        for (; tiles; tiles--) {                                                                    \
            sum_tile(part, source, parities, counts, PIXELS, VECTORS);                              \
            source += PIXELS;                                                                       \
            parities += PIXELS;                                                                     \
            counts += PIXELS * part->counts_stride;                                                 \
        }                                                                                           \
    }
SUM_TILES(2, 4)
SUM_TILES(1, 4)
SUM_TILES(2, 3)
SUM_TILES(1, 3)
SUM_TILES(4, 2)
SUM_TILES(2, 2)
SUM_TILES(1, 2)
SUM_TILES(4, 1)
SUM_TILES(2, 1)
SUM_TILES(1, 1)

/* The sums of p(w) of a block. */
static shorts sum_weight_parities(const uint8_t *weights, size_t words) {
    shorts sums = {_mm256_setzero_si256(), _mm256_setzero_si256()};
    for (; words; words--, weights += WORD_BYTES) {
        const __m256i bytes = _mm256_loadu_si256((const __m256i *)(weights + BC_HALF_STEPS * BLOCK_FILTERS));
        sums.even = _mm256_add_epi16(sums.even, _mm256_and_si256(bytes, _mm256_set1_epi16(0x00ff)));
        sums.odd = _mm256_add_epi16(sums.odd, _mm256_srli_epi16(bytes, 8));
    }
    return sums;
}

/* A word of the windows. */
typedef struct place {
    size_t tap, word; /* of the tap */
} place;

/* The next `words` of the windows. */
static void find_stretches(const bc_xorpop_args *args, place *at, size_t words, part *part) {
    size_t count = 0;
    for (size_t found; words; words -= found) {
        const size_t rest = args->words - at->word; /* of the tap */
        const ptrdiff_t offset = args->tap_offset[at->tap] + (ptrdiff_t)at->word;
        found = words < rest ? words : rest;
        if (count &&
            offset == part->stretches[count - 1].offset + (ptrdiff_t)part->stretches[count - 1].words)
            part->stretches[count - 1].words += found;
        else
            part->stretches[count++] = (stretch){offset, found};
        *at = found < rest ? (place){at->tap, at->word + found} : (place){at->tap + 1, 0};
    }
    part->end = part->stretches + count;
}

/* Some pixels, of all runs together. */
typedef struct stripe {
    size_t first, pixels;
    const uint64_t *source[STRIPE_PIXELS];
} stripe;

/* A part of all pixels of a stripe. */
static void sum_part(const part *part, size_t vectors, const stripe *stripe, uint32_t *parities,
                     int32_t *counts) {
    typedef void sum_function(const struct part *, const uint64_t *const *, uint32_t *, int32_t *, size_t);
    static sum_function *const sums[][5] = {
        [1] = {[1] = sum_tiles_1x1, [2] = sum_tiles_2x1, [4] = sum_tiles_4x1},
        [2] = {[1] = sum_tiles_1x2, [2] = sum_tiles_2x2, [4] = sum_tiles_4x2},
        [3] = {[1] = sum_tiles_1x3, [2] = sum_tiles_2x3},
        [4] = {[1] = sum_tiles_1x4, [2] = sum_tiles_2x4},
    };
    size_t pixel = 0;
    for (size_t pixels = vectors <= 2 ? 4 : 2; pixels; pixels /= 2) {
        const size_t tiles = (stripe->pixels - pixel) / pixels;
        if (!tiles) continue;
        sums[vectors][pixels](part, stripe->source + pixel, parities + pixel,
                              counts + pixel * part->counts_stride, tiles);
        pixel += tiles * pixels;
    }
}

/* Words [begin, end) of a stripe's windows, whose counts fit 16 bits, against at most MOST_VECTORS blocks. */
static void sum_section(const bc_xorpop_args *args, size_t begin, size_t end, place *at_word,
                        const stripe *stripe, size_t block, size_t vectors) {
    const size_t window_words = args->taps * args->words;
    int32_t *counts = args->counts + stripe->first * args->counts_stride + block * BLOCK_FILTERS;
    const uint8_t *weights = (const uint8_t *)args->weights + block * window_words * WORD_BYTES;
    uint32_t parities[STRIPE_PIXELS] = {0};
    part part = {.block_bytes = window_words * WORD_BYTES,
                 .counts_stride = args->counts_stride,
                 .accumulate = begin > 0};
    for (size_t v = 0; v < vectors; v++)
        part.weight_parities[v] =
            sum_weight_parities(weights + v * part.block_bytes + begin * WORD_BYTES, end - begin);
    const size_t parts = (end - begin + PART_WORDS - 1) / PART_WORDS;
    const size_t part_words = parts ? (end - begin + parts - 1) / parts : 0; /* even ones */
    size_t at = begin;
    do { /* once even where there are no words */
        const size_t next = end - at > part_words ? at + part_words : end;
        find_stretches(args, at_word, next - at, &part);
        part.weights = weights + at * WORD_BYTES;
        part.first = at == begin;
        part.last = next == end;
        sum_part(&part, vectors, stripe, parities, counts);
        at = next;
    } while (at < end);
}

static void sum_stripe(const bc_xorpop_args *args, const stripe *stripe) {
    const size_t window_words = args->taps * args->words;
    const size_t most = window_words <= WINDOW_MOST ? window_words : PART_WORDS; /* of a section */
    for (size_t block = 0, vectors; block < args->blocks; block += vectors) {
        vectors = args->blocks - block < MOST_VECTORS ? args->blocks - block : MOST_VECTORS;
        place at = {0};
        size_t begin = 0, end;
        do {
            end = window_words - begin > most ? begin + most : window_words;
            sum_section(args, begin, end, &at, stripe, block, vectors);
            begin = end;
        } while (begin < window_words);
    }
}

static void xorpop(const bc_xorpop_args *args) {
    stripe stripe = {0};
    for (size_t run = 0; run < args->runs; run++)
        for (size_t pixel = 0; pixel < args->pixels; pixel++) {
            stripe.source[stripe.pixels++] =
                args->source + (ptrdiff_t)run * args->run_stride + (ptrdiff_t)pixel * args->source_stride;
            if (stripe.pixels < STRIPE_PIXELS) continue;
            sum_stripe(args, &stripe);
            stripe.first += stripe.pixels;
            stripe.pixels = 0;
        }
    if (stripe.pixels) sum_stripe(args, &stripe);
}

#endif
