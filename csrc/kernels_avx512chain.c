/* AVX-512 with VPOPCNTDQ and VNNI: XNOR sums with carry-save, by chains.
 *
 * Of two half words that differ from the weights' by x1 and x2, and of a word of ones, a full adder makes one word of carries,
 * worth 2 a bit, and one of ones again, so that vpopcntd and vpaddd are needed for one of two only. A word of ones is the XOR of
 * all differences so far, so of a part that depends on the source alone and one that depends on the weights alone. Both lie
 * ready in memory, and adding is 5 operations for two half words: vpxord for the first difference, vpxord for the ones,
 * vpternlogd for the carries, vpopcntd and vpaddd. kernels_avx512vpopcnt.c takes 6.
 *
 * What the source's part is at the first word of a window does not matter, as long as it is the source's own: a window that
 * begins with `before` as its ones sums to
 *
 *     2 * carries + ones at the end - ones of `before`.
 *
 * So one chain serves all the windows of a row, which overlap, and is made once for all filters: that is what this family does
 * better than kernels_avx512carrysave.c, which makes the source's part for every window and 64 filters, by scalar instructions.
 * The other does without the last term, which takes 9 operations of 20 n + 9 for n words of a pixel and 64 filters. Zen 5 does
 * four vector operations a cycle, and has no time for the scalar ones; Intel's cores do two.
 */
#include "kernels.h"

#if defined(__x86_64__) || defined(_M_X64)

#if defined(__clang__)
#pragma clang attribute push(                                                                      \
    __attribute__((target("avx2,avx512f,avx512bw,avx512dq,avx512vl,avx512vpopcntdq,avx512vnni"))), \
    apply_to = function)
#elif defined(__GNUC__)
#pragma GCC push_options
#pragma GCC target("avx2,avx512f,avx512bw,avx512dq,avx512vl,avx512vpopcntdq,avx512vnni")
#pragma GCC target("prefer-vector-width=512")
#endif

#include "bits.h"
#include "carry_save.h"

/* ---- The source: low halves, and XORs of all halves so far --------------------------------------------------------
 *
 * 16 words of each row are taken at a time: a 64-bit lane has of word i the low half of what is made of it, of word i + 8 the
 * high half, so that little is moved between lanes, which is slow. */

enum { LINKED_WORDS = 16, VECTOR_WORDS = 8, ROWS_MOST = 7 };

enum { HIGH_HALVES = 0xaaaa };

/* Of each word the XOR of its halves. */
static inline __m512i xor_of_halves(__m512i first, __m512i second) {
    return _mm512_mask_blend_epi32(HIGH_HALVES, _mm512_xor_si512(first, _mm512_rol_epi64(first, 32)),
                                   _mm512_xor_si512(second, _mm512_rol_epi64(second, 32)));
}

/* Of each word the XOR of all up to it. */
static inline __m512i running_xor(__m512i x) {
    const __m512i zero = _mm512_setzero_si512();
    x = _mm512_xor_si512(x, _mm512_alignr_epi64(x, zero, 7));
    x = _mm512_xor_si512(x, _mm512_alignr_epi64(x, zero, 6));
    x = _mm512_xor_si512(x, _mm512_alignr_epi64(x, zero, 4));
    const __m512i first_words = _mm512_permutexvar_epi64(_mm512_set1_epi64(7), x);
    return _mm512_xor_si512(x, _mm512_slli_epi64(first_words, 32));
}

/* Entries of as many words of each row as there are, 16 at most, and of zeros for the rest. `before` is the XOR of all halves
 * before them, everywhere; returns the same of what follows. `rows` is a literal where this is inlined. */
BC_FORCE_INLINE __m512i link_words(const uint64_t *const *source, int rows, size_t at, size_t count,
                                   __m512i before, __m512i *first, __m512i *second) {
    const unsigned lanes = (1u << count) - 1;
    const __mmask8 first_lanes = (__mmask8)lanes, second_lanes = (__mmask8)(lanes >> VECTOR_WORDS);
    __m512i halves[ROWS_MOST], places = _mm512_setzero_si512();
    UNROLL
    for (int r = 0; r < rows; r++) {
        const void *behind = (const void *)((uintptr_t)(source[r] + at) + VECTOR_WORDS * sizeof(uint64_t));
        first[r] = _mm512_maskz_loadu_epi64(first_lanes, source[r] + at);
        second[r] = _mm512_maskz_loadu_epi64(second_lanes, behind);
        halves[r] = xor_of_halves(first[r], second[r]);
        places = _mm512_xor_si512(places, halves[r]);
    }
    const __m512i running = running_xor(places);
    __m512i ones = _mm512_xor_si512(_mm512_xor_si512(running, places), before);
    UNROLL
    for (int r = 0; r < rows; r++) {
        ones = _mm512_xor_si512(ones, halves[r]);
        first[r] = _mm512_mask_blend_epi32(HIGH_HALVES, first[r], _mm512_slli_epi64(ones, 32));
        second[r] = _mm512_mask_blend_epi32(HIGH_HALVES, second[r], ones);
    }
    return _mm512_xor_si512(before, _mm512_permutexvar_epi32(_mm512_set1_epi32(15), running));
}

/* Where entry i of rows by turns is to be found: its place in its row; of the second row so many vectors' lanes later. */
BC_FORCE_INLINE int64_t place(int i, int rows) { return i / rows + (i % rows == 1 ? VECTOR_WORDS : 0); }

BC_FORCE_INLINE __m512i places_from(int i, int rows) {
    return _mm512_setr_epi64(place(i, rows), place(i + 1, rows), place(i + 2, rows), place(i + 3, rows),
                             place(i + 4, rows), place(i + 5, rows), place(i + 6, rows), place(i + 7, rows));
}

/* Which of the entries from i on are of row r. */
BC_FORCE_INLINE __mmask8 lanes_of_row(int i, int rows, int r) {
    unsigned lanes = 0;
    UNROLL
    for (int lane = 0; lane < VECTOR_WORDS; lane++) lanes |= (unsigned)((i + lane) % rows == r) << lane;
    return (__mmask8)lanes;
}

/* 8 words of each row, by turns. Two rows are permuted at once, as that is what takes the time; for the others bit 3 of a place,
 * which says that it is the second's, does not count. */
BC_FORCE_INLINE void weave(const __m512i *words, int rows, uint64_t *chain) {
    UNROLL
    for (int i = 0; i < rows * VECTOR_WORDS; i += VECTOR_WORDS) {
        const __m512i places = places_from(i, rows);
        __m512i woven = rows == 1 ? words[0] : _mm512_permutex2var_epi64(words[0], places, words[1]);
        UNROLL
        for (int r = 2; r < rows; r++)
            woven = _mm512_mask_permutexvar_epi64(woven, lanes_of_row(i, rows, r), places, words[r]);
        _mm512_storeu_si512(chain + i, woven);
    }
}

/* What is past the last word is written too: it is overwritten, or slack. */
BC_FORCE_INLINE void link_runs(const bc_chain_source_args *args, int rows) {
    const uint64_t *source[ROWS_MOST];
    UNROLL
    for (int r = 0; r < rows; r++) source[r] = args->source + args->row_offset[r];
    for (size_t run = 0; run < args->runs; run++) {
        uint64_t *chain = args->chain + run * args->run_stride;
        __m512i before = _mm512_setzero_si512();
        *chain++ = 0;
        for (size_t at = 0; at < args->words; at += LINKED_WORDS, chain += LINKED_WORDS * rows) {
            const size_t left = args->words - at;
            __m512i first[ROWS_MOST], second[ROWS_MOST];
            if (left >= LINKED_WORDS)
                before = link_words(source, rows, at, LINKED_WORDS, before, first, second);
            else
                link_words(source, rows, at, left, before, first, second);
            weave(first, rows, chain);
            weave(second, rows, chain + VECTOR_WORDS * rows);
        }
        UNROLL
        for (int r = 0; r < rows; r++) source[r] += args->source_run_stride;
    }
}

#define LINK_RUNS(ROWS) \
    static void link_runs_##ROWS(const bc_chain_source_args *args) { link_runs(args, ROWS); }
LINK_RUNS(1)
LINK_RUNS(2)
LINK_RUNS(3)
LINK_RUNS(4)
LINK_RUNS(5)
LINK_RUNS(6)
LINK_RUNS(7)

static void chain_source(const bc_chain_source_args *args) {
    static void (*const link[ROWS_MOST])(const bc_chain_source_args *args) = {
        link_runs_1, link_runs_2, link_runs_3, link_runs_4, link_runs_5, link_runs_6, link_runs_7};
    if (args->rows && args->rows <= ROWS_MOST)
        link[args->rows - 1](args);
    else
        bc_kernels_scalar.chain_source(args);
}

/* ---- Sums ----------------------------------------------------------------------------------------- */

enum { BLOCK_VECTORS = 2, WORD_WEIGHTS = 2 * BLOCK_VECTORS * LANES /* uint32 of a block */ };

/* A tile's are arrays of vectors, [PIXELS][VECTORS], and stay in registers. */
enum { TILE_MOST = 8 };

/* Where the low halves of a word's weights are for a vector of filters, from those of the tile's first; the ones lie behind
 * those of a block. */
BC_FORCE_INLINE size_t low_at(int vector, size_t block) {
    return (size_t)(vector / BLOCK_VECTORS) * block + (size_t)(vector % BLOCK_VECTORS * LANES);
}

enum { LINE_BYTES = 64 };

/* Past an array's end too. */
static inline const char *after(const void *at, size_t bytes) {
    return (const char *)((uintptr_t)at + bytes);
}

/* One pixel alone, as of a dense layer, does nothing twice with a weight, so that all depends on how fast these come: in the order
 * in which they lie, and asked for a page ahead, past the end of a call's weights too, where those of the next call are. */
enum { AHEAD_BYTES = 4096 };

/* Entry k of each pixel: from `old` ones to `ones`, and its carries to `twos`, which the first begin. */
BC_FORCE_INLINE void add_entry(const uint64_t *const *before, size_t k, const uint32_t *weights, size_t block,
                               const __m512i *old, __m512i *ones, __m512i *twos, int first, int pixels,
                               int vectors) {
    UNROLL
    for (int p = 0; p < pixels; p++) {
        const char *entry = (const char *)(before[p] + k);
        const __m512i low = spread(entry), all = spread(entry + sizeof(uint32_t));
        UNROLL
        for (int v = 0; v < vectors; v++) {
            const int i = p * vectors + v;
            const uint32_t *filters = weights + low_at(v, block);
            if (pixels * vectors == BLOCK_VECTORS) {
                _mm_prefetch(after(filters, AHEAD_BYTES), _MM_HINT_T0);
                _mm_prefetch(after(filters + BLOCK_VECTORS * LANES, AHEAD_BYTES), _MM_HINT_T0);
            }
            ones[i] = differences(filters + BLOCK_VECTORS * LANES, all);
            const __m512i count = count_carries(differences(filters, low), old[i], ones[i]);
            twos[i] = first ? count : plus(twos[i], count);
        }
    }
}

/* What becomes of sums, the same for all pixels of a call. */
typedef enum result_kind { COUNTS, SUMS /* XNOR */, HALVED_SUMS /* AND */ } result_kind;

typedef struct results {
    result_kind kind;
    int has_slope;
    const bc_epilogue_args *finish; /* NULL for counts */
    ptrdiff_t stride;               /* bytes between pixels */
    const int32_t *base;            /* of each pixel */
    size_t base_stride;
} results;

/* Where the next pixel's window begins, the next weights to ask for, and where results go, from a filter on. */
typedef struct cursor {
    const uint64_t *run, *before;
    size_t left; /* pixels of the run */
    const char *next_weights;
    size_t filter, pixel;
    char *result;
} cursor;

static inline const uint64_t *next_window(cursor *at, const bc_chain_sums_args *args) {
    if (at->left == 0) {
        at->run += args->run_stride;
        at->before = at->run;
        at->left = args->pixels;
    }
    const uint64_t *before = at->before;
    at->before += args->pixel_stride;
    at->left--;
    return before;
}

/* y >= 0 ? y : slope * y, as the epilogue has it. */
static inline __m512 sloped(const bc_epilogue_args *finish, size_t filter, __m512 y) {
    const __m512 slope = finish->neuron.type == BC_NEURON_PRELU
                             ? _mm512_loadu_ps(finish->neuron.a_terms + filter)
                             : _mm512_set1_ps(finish->neuron.a);
    return _mm512_mask_mul_ps(y, _mm512_cmp_ps_mask(y, _mm512_setzero_ps(), _CMP_NGE_UQ), slope, y);
}

/* The end of the sums. Of a window that begins with `before` as its ones
 *
 *     count = 2 * carries + ones at the end - ones of `before`,
 *
 * and of that the result is itself, base - 2 * count, or half of base - count, the last two scaled: in registers, so that counts
 * are neither written nor read again, and stores to lines that have yet to come go on beside the next sums. The same operations
 * as the epilogue's, so the same bits. */
BC_FORCE_INLINE void finish_windows(const uint64_t *const *before, const __m512i *ones, const __m512i *twos,
                                    const results *results, const cursor *at, result_kind kind, int has_slope,
                                    int pixels, int vectors) {
    const bc_epilogue_args *finish = results->finish;
    const size_t first_filter = at->filter, pixel = at->pixel;
    char *result = at->result;
    __m512i filter_base[TILE_MOST];
    __m512 scale[TILE_MOST], bias[TILE_MOST];
    UNROLL
    for (int v = 0; v < vectors && kind != COUNTS; v++) {
        const size_t filter = first_filter + (size_t)(v * LANES);
        if (kind == HALVED_SUMS) filter_base[v] = _mm512_loadu_si512(finish->channel_base + filter);
        scale[v] = _mm512_loadu_ps(finish->scale + filter);
        bias[v] = _mm512_loadu_ps(finish->bias + filter);
    }
    UNROLL
    for (int p = 0; p < pixels; p++, result += results->stride) {
        const __m512i start = _mm512_popcnt_epi32(spread((const char *)before[p] + sizeof(uint32_t)));
        __m512i base = start;
        if (kind == SUMS)
            base = _mm512_add_epi32(spread(finish->channel_base), _mm512_add_epi32(start, start));
        if (kind == HALVED_SUMS)
            base =
                _mm512_add_epi32(spread(results->base + (pixel + (size_t)p) * results->base_stride), start);
        UNROLL
        for (int v = 0; v < vectors; v++) {
            const int i = p * vectors + v;
            char *to = result + (size_t)(v * LANES) * sizeof(float);
            __m512i sum = _mm512_popcnt_epi32(ones[i]);
            if (kind == COUNTS) {
                sum = _mm512_dpwssd_epi32(_mm512_sub_epi32(sum, start), twos[i], _mm512_set1_epi32(2));
                _mm512_storeu_si512(to, sum);
                continue;
            }
            sum = _mm512_dpwssd_epi32(sum, twos[i], _mm512_set1_epi32(2));
            if (kind == SUMS)
                sum = _mm512_sub_epi32(_mm512_sub_epi32(base, sum), sum);
            else
                sum = _mm512_srai_epi32(_mm512_sub_epi32(_mm512_add_epi32(base, filter_base[v]), sum), 1);
            __m512 y = _mm512_add_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(sum), scale[v]), bias[v]);
            if (has_slope) y = sloped(finish, first_filter + (size_t)(v * LANES), y);
            _mm512_storeu_ps(to, y);
        }
    }
}

/* Sums of the windows that begin behind `before`. With every two words a line of `next` is asked for, where it is not NULL.
 * `pixels`, `vectors` and whether it is NULL are literals where this is inlined, or the arrays spill. */
BC_FORCE_INLINE void sum_windows(size_t words, const uint64_t *const *before, const uint32_t *weights,
                                 const char *next, const results *results, const cursor *at, int pixels,
                                 int vectors) {
    const size_t block = words * WORD_WEIGHTS;
    __m512i start[TILE_MOST], even[TILE_MOST], odd[TILE_MOST], twos[TILE_MOST];
    UNROLL
    for (int i = 0; i < pixels * vectors; i++)
        start[i] = spread((const char *)before[i / vectors] + sizeof(uint32_t));
    /* Ones go to and fro between two sets of registers, so that none is moved, and end in `even`. */
#define ADD_ENTRY(K, OLD, ONES, FIRST)                                             \
    add_entry(before, K, weights, block, OLD, ONES, twos, FIRST, pixels, vectors); \
    weights += WORD_WEIGHTS;
    if (words % 2) {
        ADD_ENTRY(1, start, even, 1)
    } else {
        ADD_ENTRY(1, start, odd, 1)
        ADD_ENTRY(2, odd, even, 0)
    }
    for (size_t k = 3 - words % 2; k < words; k += 2) {
        if (next) _mm_prefetch(after(next, (k / 2 - 1) * LINE_BYTES), _MM_HINT_T1);
        ADD_ENTRY(k, even, odd, 0)
        ADD_ENTRY(k + 1, odd, even, 0)
    }
#undef ADD_ENTRY
#define FINISH(KIND, HAS_SLOPE) \
    finish_windows(before, even, twos, results, at, KIND, HAS_SLOPE, pixels, vectors)
    if (results->kind == COUNTS)
        FINISH(COUNTS, 0);
    else if (results->kind == SUMS && !results->has_slope)
        FINISH(SUMS, 0);
    else if (results->kind == SUMS)
        FINISH(SUMS, 1);
    else if (!results->has_slope)
        FINISH(HALVED_SUMS, 0);
    else
        FINISH(HALVED_SUMS, 1);
#undef FINISH
}

#define SUM_TILES(NAME, PIXELS, VECTORS, ASKS)                                                             \
    static void NAME(const bc_chain_sums_args *args, const results *results, cursor *at, size_t tiles,     \
                     const uint32_t *weights) {                                                            \
        for (; tiles; tiles--) {                                                                           \
            const uint64_t *before[PIXELS];                                                                \
            UNROLL                                                                                         \
            for (int p = 0; p < PIXELS; p++) before[p] = next_window(at, args);                            \
            sum_windows(args->words, before, weights, ASKS ? at->next_weights : NULL, results, at, PIXELS, \
                        VECTORS);                                                                          \
            at->result += PIXELS * results->stride;                                                        \
            at->pixel += PIXELS;                                                                           \
            if (ASKS) at->next_weights = after(at->next_weights, (args->words - 1) / 2 * LINE_BYTES);      \
        }                                                                                                  \
    }
SUM_TILES(sum_tiles_2x4, 2, 4, 0)
SUM_TILES(sum_tiles_2x4_asking, 2, 4, 1)
SUM_TILES(sum_tiles_1x4, 1, 4, 0)
SUM_TILES(sum_tiles_4x2, 4, 2, 0)
SUM_TILES(sum_tiles_1x2, 1, 2, 0)

typedef struct tile {
    size_t pixels, blocks;
    void (*sum)(const bc_chain_sums_args *args, const results *results, cursor *at, size_t tiles,
                const uint32_t *weights);
} tile;

static results results_of(const bc_chain_sums_args *args) {
    static const int32_t no_base = 0;
    const bc_epilogue_args *finish = args->finish;
    if (!finish)
        return (results){.kind = COUNTS, .stride = (ptrdiff_t)(args->counts_stride * sizeof(int32_t))};
    return (results){.kind = finish->sum_shift ? HALVED_SUMS : SUMS,
                     .has_slope = finish->neuron.type != BC_NEURON_NONE,
                     .finish = finish,
                     .stride = finish->destination_stride * (ptrdiff_t)sizeof(float),
                     .base = finish->pixel_base ? finish->pixel_base : &no_base,
                     .base_stride = finish->pixel_base ? finish->pixel_base_stride : 0};
}

static void chain_sums(const bc_chain_sums_args *args) {
    static const tile wide[] = {{2, 2, sum_tiles_2x4}, {1, 2, sum_tiles_1x4}};
    static const tile asking[] = {{2, 2, sum_tiles_2x4_asking}, {1, 2, sum_tiles_1x4}};
    static const tile narrow[] = {{4, 1, sum_tiles_4x2}, {1, 1, sum_tiles_1x2}};
    const results results = results_of(args);
    char *first_result = args->finish ? args->finish->destination : (char *)args->counts;
    const uint32_t *weights = args->weights;
    const size_t pixels = args->runs * args->pixels;
    cursor at = {.next_weights = args->next_weights};
    for (size_t block = 0, blocks; block < args->blocks; block += blocks) {
        const int is_wide = args->blocks - block >= 2 && pixels > 1;
        const tile *tile = !is_wide ? narrow : args->next_weights ? asking : wide;
        at.run = at.before = args->chain;
        at.left = args->pixels;
        at.filter = block * BLOCK_VECTORS * LANES;
        at.pixel = 0;
        at.result = first_result + at.filter * sizeof(float);
        blocks = tile->blocks;
        for (size_t left = pixels; left; left %= tile->pixels, tile++)
            tile->sum(args, &results, &at, left / tile->pixels, weights);
        weights += blocks * args->words * WORD_WEIGHTS;
    }
}

/* ---- What chains do not pay for, or cannot be made for, is the plain kernel's -------------------------------- */

static void xorpop_weights(const bc_xorpop_weights_args *args) {
    bc_kernels_avx512vpopcnt.xorpop_weights(args);
}

static void xorpop(const bc_xorpop_args *args) { bc_kernels_avx512vpopcnt.xorpop(args); }

const bc_kernels bc_kernels_avx512chain = {
    .xorpop_block_filters = 8,
    .xorpop_block_word_bytes = 8 * sizeof(uint64_t),
    .xorpop_weights = xorpop_weights,
    .xorpop = xorpop,
    .chain_words_least = 8,
    .chain_filters_least = 96,
    .chain_source = chain_source,
    .chain_sums = chain_sums,
};

#if defined(__clang__)
#pragma clang attribute pop
#elif defined(__GNUC__)
#pragma GCC pop_options
#endif

#endif
