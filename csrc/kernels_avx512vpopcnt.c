/* AVX-512 with VPOPCNTDQ and BITALG (Ice Lake, Zen 4 and later).
 *
 * Leans on vpopcntq, vpxorq and vpaddq: together 3 operations for a word of 8 filters, of which Zen 5 does 4 a cycle and
 * Intel's cores with two vector ports 2; and for BINARY_WEIGHTS on vpermps, which looks sixteen sums up at once.
 */
#include "kernels.h"

#if defined(__x86_64__) || defined(_M_X64)

#if defined(__clang__)
#pragma clang attribute push(                                                                             \
    __attribute__((                                                                                       \
        target("avx2,fma,f16c,popcnt,avx512f,avx512bw,avx512dq,avx512vl,avx512vpopcntdq,avx512bitalg"))), \
    apply_to = function)
#elif defined(__GNUC__)
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c,popcnt,avx512f,avx512bw,avx512dq,avx512vl,avx512vpopcntdq,avx512bitalg")
#pragma GCC target("prefer-vector-width=512")
#endif

#include <immintrin.h>
#include <math.h>
#include <string.h>

#include "bits.h"

/* Without this, GCC 12 unrolls too late to keep the arrays of a tile in registers from the start: it clears them on the
 * stack first, which costs up to a fifth of a short tile. */
#define UNROLL BC_UNROLL

/* Ends an expression for the optimiser. */
#if defined(__GNUC__)
#define KEEP(x) __asm__("" : "+v"(x))
#else
#define KEEP(x)
#endif

static inline __mmask16 first_lanes(size_t count) { return (__mmask16)((1u << count) - 1); }

/* ---- Vectors of 16 floats ------------------------------------------------------------------------- */

enum { LANES = 16 };
typedef __m512 floats;
typedef __m512i ints;

static inline floats load_floats(const float *values) { return _mm512_loadu_ps(values); }
static inline void store_floats(float *values, floats x) { _mm512_storeu_ps(values, x); }

static inline floats load_first(const float *values, size_t count) {
    return _mm512_maskz_loadu_ps(first_lanes(count), values);
}

static inline void store_first(float *values, size_t count, floats x) {
    _mm512_mask_storeu_ps(values, first_lanes(count), x);
}

static inline floats spread(float value) { return _mm512_set1_ps(value); }
static inline floats add(floats x, floats y) { return _mm512_add_ps(x, y); }
static inline floats multiply(floats x, floats y) { return _mm512_mul_ps(x, y); }

/* Not below zero: +0, -0 and NaN too. */
static inline uint64_t nonnegative(floats x) {
    return _cvtmask16_u32(_mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_NLT_UQ));
}

/* ---- Reading the source --------------------------------------------------------------------------- */

static void widen_f16(const bc_widen_args *args) {
    const uint16_t *source = args->source;
    size_t i = 0;
    for (; i + 16 <= args->count; i += 16)
        _mm512_storeu_ps(args->destination + i,
                         _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(source + i))));
    if (i < args->count) {
        const __mmask16 lanes = first_lanes(args->count - i);
        _mm512_mask_storeu_ps(args->destination + i, lanes,
                              _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(lanes, source + i)));
    }
}

static void widen_u8(const bc_widen_args *args) {
    const uint8_t *source = args->source;
    const __m512 full = _mm512_set1_ps(255.0f);
    for (size_t i = 0; i < args->count; i += 16) {
        const size_t left = args->count - i;
        const __mmask16 lanes = left < 16 ? first_lanes(left) : 0xffff;
        const __m512 value =
            _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(lanes, source + i)));
        _mm512_mask_storeu_ps(args->destination + i, lanes, _mm512_div_ps(value, full));
    }
}

/* GCC must not see that these bits come from a mask register, where it would also shift them: that takes 4 cycles on Zen 5,
 * and packing a quarter longer. */
static inline uint32_t nonnegative_pair(floats x, floats y) {
    uint32_t low = (uint32_t)nonnegative(x), high = (uint32_t)nonnegative(y);
#if defined(__GNUC__)
    __asm__("" : "+r"(high));
#endif
    return low | high << LANES;
}

/* GCC would load x once for each use. */
static inline floats in_register(floats x) {
    KEEP(x);
    return x;
}

static inline floats with_terms(floats x, floats bias, floats scale) { return multiply(add(x, bias), scale); }
static inline floats add_magnitude(floats sum, floats x) { return add(sum, _mm512_abs_ps(x)); }
static inline __m256 add_halves(floats x) {
    return _mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1));
}

static inline void sums_of_lanes(const floats *x, float *sums) {
    const __m256 pairs = _mm256_hadd_ps(_mm256_hadd_ps(add_halves(x[0]), add_halves(x[1])),
                                        _mm256_hadd_ps(add_halves(x[2]), add_halves(x[3])));
    _mm_storeu_ps(sums, _mm_add_ps(_mm256_castps256_ps128(pairs), _mm256_extractf128_ps(pairs, 1)));
}

static inline void cut_words(const uint64_t *from, size_t count, size_t bits, size_t pieces,
                             uint64_t *words) {
    const __m512i place = _mm512_setr_epi64(0, 1, 2, 3, 4, 5, 6, 7);
    const __m512i shift = _mm512_mul_epu32(place, _mm512_set1_epi64((long long)bits));
    const __m512i low = _mm512_set1_epi64((long long)bc_low_bits(bits));
    const __mmask8 lanes = (__mmask8)first_lanes(pieces);
    for (size_t i = 0; i < count; i++) {
        const __m512i word = _mm512_set1_epi64((long long)from[i]);
        _mm512_mask_storeu_epi64(words + i * pieces, lanes,
                                 _mm512_and_si512(_mm512_srlv_epi64(word, shift), low));
    }
}

#define PACK_WORDS 4
#define PACK_GROUP 1
#define PACK_AHEAD 2048
#include "terms_template.h"

/* A mask goes to memory by itself: that takes a store, while masks are joined, and taken to other registers, one a cycle. GCC
 * would do so to join or flip them. */
#if defined(__GNUC__)
#define STORE_MASK(KMOV, MASK, TO) __asm__(KMOV " %1, %0" : "=m"(*(char(*)[sizeof(MASK)])(TO)) : "k"(MASK))
#else
#define STORE_MASK(KMOV, MASK, TO) memcpy(TO, &(MASK), sizeof(MASK))
#endif

BC_FORCE_INLINE void pack_bits(const floats *x, const floats *threshold, int parts, uint64_t present,
                               void *bits) {
    if (parts < 4) memset(bits, 0, sizeof(uint64_t));
    UNROLL
    for (int i = 0; i < parts; i++) {
        const __mmask16 made =
            _mm512_cmp_ps_mask(x[i], threshold[i], _CMP_NLT_UQ) & (__mmask16)(present >> 16 * i);
        STORE_MASK("kmovw", made, (char *)bits + 2 * i);
    }
}

/* Signs of differences, packed to bytes. vpackss leaves their 4-byte pieces in this order. */
BC_FORCE_INLINE __mmask64 below_mask(const floats *x, const floats *threshold, int parts) {
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    __m512i sign[4];
    UNROLL
    for (int i = 0; i < 4; i++)
        sign[i] = i < parts ? _mm512_castps_si512(_mm512_sub_ps(x[i], threshold[i])) : _mm512_setzero_si512();
    return _mm512_movepi8_mask(
        _mm512_permutexvar_epi32(order, _mm512_packs_epi16(_mm512_packs_epi32(sign[0], sign[1]),
                                                           _mm512_packs_epi32(sign[2], sign[3]))));
}

BC_FORCE_INLINE void pack_flipped(const floats *x, const floats *threshold, int parts, uint64_t flip,
                                  uint64_t present, void *bits) {
    const uint64_t all = bc_low_bits(16 * (size_t)parts), others = ~flip & all;
    __mmask64 made = _kxor_mask64(below_mask(x, threshold, parts), others);
    if (present != all) made = _kand_mask64(made, present);
    STORE_MASK("kmovq", made, bits);
}

BC_FORCE_INLINE uint64_t joined_bits(const floats *x, const floats *threshold, int watched) {
    if (watched) return ~_cvtmask64_u64(below_mask(x, threshold, 4));
    __mmask16 made[4];
    UNROLL
    for (int i = 0; i < 4; i++) made[i] = _mm512_cmp_ps_mask(x[i], threshold[i], _CMP_NLT_UQ);
    return _cvtmask64_u64(
        _mm512_kunpackd(_mm512_kunpackw(made[3], made[2]), _mm512_kunpackw(made[1], made[0])));
}

static inline floats multiply_add(floats x, floats y, floats sum) { return _mm512_fmadd_ps(x, y, sum); }
static inline int all_finite(floats x) { return !_mm512_fpclass_ps_mask(x, 0x99 /* infinities, NaNs */); }

#define PACK_KEPT_PARTS 16
#define PACK_WATCHED 4
#define PACK_AT_ONCE 4
#define PACK_VECTOR_BYTES 64
#define PACK_ALIGNED_WORDS 4
#define PACK_STRIP_BYTES 0
#include "pack_template.h"

/* ---- Gathering bits: eight words at once, from as many source words as fill a vector --------------- */

/* The lanes of a vector: all groups of some pixels, or some groups of one. */
typedef struct gather_lanes {
    size_t groups, pixels;
    __m512i at; /* bits from the first lane's to each */
} gather_lanes;

/* As many as there are lanes for, and as lie near enough for the words that 64 bits of each touch to fill one vector. */
static inline gather_lanes lay_out_lanes(const bc_gather_args *args) {
    enum { LANES_64 = 8, NEAR = 512 - 63 - 64 /* bits */ };
    gather_lanes made = {.groups = 0, .pixels = 1};
    int64_t at[LANES_64] = {0};
    size_t lane = 0;
    for (size_t bit = 0; made.groups < args->groups && lane < LANES_64 && bit <= NEAR; bit += args->bits) {
        at[lane++] = (int64_t)bit;
        made.groups++;
    }
    if (made.groups == args->groups)
        for (int64_t last = at[lane - 1], step = args->pixel_step_bits, bit = step;
             lane + made.groups <= LANES_64 && bit + last <= NEAR; bit += step, made.pixels++)
            for (size_t group = 0; group < made.groups; group++) at[lane++] = bit + at[group];
    made.at = _mm512_loadu_si512(at);
    return made;
}

/* Some bits of a field, and where in a destination word they go. */
typedef struct gather_piece {
    ptrdiff_t first_bit; /* from a group's first */
    size_t bits;
    __m512i mask;
    __m128i shift;
} gather_piece;

enum { WORD_PIECES = 64 };

/* The pieces of the next destination word, from bit *done of field *tap on; there are none after the last field. */
static inline size_t next_pieces(const bc_gather_args *args, size_t *tap, size_t *done,
                                 gather_piece pieces[WORD_PIECES]) {
    size_t count = 0;
    for (size_t filled = 0, bits; filled < 64 && *tap < args->taps; filled += bits, count++) {
        const size_t left = args->bits - *done, space = 64 - filled;
        bits = left < space ? left : space;
        pieces[count] = (gather_piece){args->first_bit + args->tap_bit[*tap] + (ptrdiff_t)*done, bits,
                                       _mm512_set1_epi64((long long)bc_low_bits(bits)),
                                       _mm_cvtsi64_si128((long long)filled)};
        *done = bits < left ? *done + bits : 0;
        *tap += bits == left;
    }
    return count;
}

/* A piece of each lane, of which the first begins at bit `first_bit` and the last `reach` bits later. */
static inline __m512i read_lanes(const uint64_t *source, ptrdiff_t first_bit, size_t reach,
                                 const gather_piece *piece, __m512i lanes) {
    const size_t shift = (size_t)first_bit & 63, last_word = (shift + reach + piece->bits - 1) / 64;
    const __mmask8 words = (__mmask8)(0xffu >> (7 - last_word));
    const __m512i block = _mm512_maskz_loadu_epi64(words, source + (first_bit >> 6));
    const __m512i at = _mm512_add_epi64(lanes, _mm512_set1_epi64((long long)shift));
    const __m512i word = _mm512_srli_epi64(at, 6), next = _mm512_add_epi64(word, _mm512_set1_epi64(1));
    const __m512i down = _mm512_and_si512(at, _mm512_set1_epi64(63));
    const __m512i up = _mm512_sub_epi64(_mm512_set1_epi64(64), down);
    const __m512i low = _mm512_srlv_epi64(_mm512_permutexvar_epi64(word, block), down);
    const __m512i high = _mm512_sllv_epi64(_mm512_permutexvar_epi64(next, block), up);
    return _mm512_sll_epi64(_mm512_and_si512(_mm512_or_si512(low, high), piece->mask), piece->shift);
}

/* One word of all pixels and groups. */
static inline void gather_pieces(const bc_gather_args *args, const gather_lanes *lanes,
                                 const gather_piece *pieces, size_t count, uint64_t *destination) {
    for (size_t pixel = 0, pixels; pixel < args->pixels; pixel += pixels) {
        pixels = args->pixels - pixel < lanes->pixels ? args->pixels - pixel : lanes->pixels;
        for (size_t group = 0, groups; group < args->groups; group += groups) {
            groups = args->groups - group < lanes->groups ? args->groups - group : lanes->groups;
            const size_t reach = (pixels - 1) * (size_t)args->pixel_step_bits + (groups - 1) * args->bits;
            const ptrdiff_t first =
                (ptrdiff_t)pixel * args->pixel_step_bits + (ptrdiff_t)(group * args->bits);
            __m512i word = _mm512_setzero_si512();
            for (size_t i = 0; i < count; i++)
                word = _mm512_or_si512(word, read_lanes(args->source, first + pieces[i].first_bit, reach,
                                                        &pieces[i], lanes->at));
            _mm512_mask_storeu_epi64(destination, (__mmask8)first_lanes(pixels * groups), word);
            destination += pixels * groups;
        }
    }
}

static void gather_bits(const bc_gather_args *args) {
    if (args->pixels * args->groups < 4 || args->pixel_stride != args->groups || args->pixel_step_bits < 0) {
        bc_kernels_scalar.gather_bits(args);
        return;
    }
    if (!args->bits) return;
    gather_piece pieces[WORD_PIECES];
    const gather_lanes lanes = lay_out_lanes(args);
    uint64_t *destination = args->destination;
    size_t tap = 0, done = 0;
    for (size_t count; (count = next_pieces(args, &tap, &done, pieces)) > 0; destination += args->word_stride)
        gather_pieces(args, &lanes, pieces, count, destination);
}

/* ---- XNOR: 8 filters to a vector, one word of a pixel broadcast against the same word of each ------- */

enum { BLOCK_FILTERS = 8 };

/* The portable layout, where AVX2 brings its own. */
static void xorpop_weights(const bc_xorpop_weights_args *args) { bc_kernels_scalar.xorpop_weights(args); }

/* Sums are added to one word after the other, in place: GCC would add in a tree, for which it has no registers, and kept from
 * that by an empty `asm` it moves some sums to another register and back. */
static inline __m512i add_in_order(__m512i sum, __m512i x) {
#if defined(__GNUC__)
    __asm__("vpaddq %1, %0, %0" : "+v"(sum) : "v"(x));
    return sum;
#else
    return _mm512_add_epi64(sum, x);
#endif
}

/* The low halves of 16 sums: half the instructions of narrowing each vector by itself. */
static inline __m512i low_halves(__m512i first, __m512i second) {
    const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    return _mm512_permutex2var_epi32(first, even, second);
}

/* The sums of a pixel's filters; `blocks` is a literal where this is inlined. */
BC_FORCE_INLINE void store_sums(int32_t *counts, const __m512i *sums, int blocks) {
    UNROLL
    for (int b = 0; b + 1 < blocks; b += 2)
        _mm512_storeu_si512(counts + b * BLOCK_FILTERS, low_halves(sums[b], sums[b + 1]));
    if (blocks % 2)
        _mm256_storeu_si256((__m256i *)(counts + (blocks - 1) * BLOCK_FILTERS),
                            _mm512_cvtepi64_epi32(sums[blocks - 1]));
}

/* Adds what one word of `pixels` pixels differs in from that of `blocks` blocks of filters; the first of a window begins the
 * sums, so that nothing is cleared. */
BC_FORCE_INLINE void count_word(__m512i *sums, int pixels, int blocks, int first, const uint64_t *pixel,
                                ptrdiff_t stride, const uint64_t *block, size_t block_words) {
    UNROLL
    for (int p = 0; p < pixels; p++) {
        const __m512i word = _mm512_set1_epi64((long long)pixel[p * stride]);
        UNROLL
        for (int b = 0; b < blocks; b++) {
            const __m512i filters = _mm512_loadu_si512(block + (size_t)b * block_words);
            const __m512i differ = _mm512_popcnt_epi64(_mm512_xor_si512(filters, word));
            __m512i *sum = &sums[p * blocks + b];
            *sum = first ? differ : _mm512_add_epi64(*sum, differ);
        }
    }
}

/* A stretch of pixels and blocks that is cut into tiles without a rest. */
typedef struct xorpop_part {
    size_t pixel, pixels, block, blocks;
} xorpop_part;

/* PIXELS x BLOCKS sums at a time, which stay in registers; both must be literals, or the arrays spill. There is a word at
 * least. */
#define XORPOP_TILE(NAME, PIXELS, BLOCKS)                                                                  \
    static void NAME(const bc_xorpop_args *args, const xorpop_part *part) {                                \
        const size_t window = args->taps * args->words, block_words = window * BLOCK_FILTERS;              \
        const size_t counts_stride = args->counts_stride;                                                  \
        const ptrdiff_t stride = args->source_stride;                                                      \
        const uint64_t *weights = (const uint64_t *)args->weights + part->block * block_words;             \
        for (size_t b = 0; b < part->blocks; b += BLOCKS, weights += BLOCKS * block_words) {               \
            const uint64_t *source = args->source + (ptrdiff_t)part->pixel * stride;                       \
            int32_t *counts =                                                                              \
                args->counts + part->pixel * counts_stride + (part->block + b) * BLOCK_FILTERS;            \
            for (size_t p = 0; p < part->pixels; p += PIXELS, source += PIXELS * stride) {                 \
                const ptrdiff_t *tap = args->tap_offset;                                                   \
                const uint64_t *pixel = source + *tap, *block = weights;                                   \
                size_t left = args->words;                                                                 \
                __m512i sums[PIXELS * BLOCKS];                                                             \
                count_word(sums, PIXELS, BLOCKS, 1, pixel, stride, block, block_words);                    \
                /* One loop over taps and words, and a counted one, or Clang leaves the sums in memory. */ \
                for (size_t word = 1; word < window; word++) {                                             \
                    pixel++;                                                                               \
                    block += BLOCK_FILTERS;                                                                \
                    if (--left == 0) {                                                                     \
                        pixel = source + *++tap;                                                           \
                        left = args->words;                                                                \
                    }                                                                                      \
                    count_word(sums, PIXELS, BLOCKS, 0, pixel, stride, block, block_words);                \
                }                                                                                          \
                UNROLL                                                                                     \
                for (int i = 0; i < PIXELS; i++, counts += counts_stride)                                  \
                    store_sums(counts, sums + i * BLOCKS, BLOCKS);                                         \
            }                                                                                              \
        }                                                                                                  \
    }

XORPOP_TILE(xorpop_14x2, 14, 2)
XORPOP_TILE(xorpop_7x4, 7, 4)
XORPOP_TILE(xorpop_4x4, 4, 4)
XORPOP_TILE(xorpop_2x4, 2, 4)
XORPOP_TILE(xorpop_1x4, 1, 4)
XORPOP_TILE(xorpop_7x1, 7, 1)
XORPOP_TILE(xorpop_1x1, 1, 1)

typedef struct xorpop_tile {
    size_t pixels;
    void (*sum)(const bc_xorpop_args *args, const xorpop_part *part);
} xorpop_tile;

static void xorpop_long(const bc_xorpop_args *args) {
    static const xorpop_tile by_four[] = {
        {14, xorpop_14x2}, {7, xorpop_7x4}, {4, xorpop_4x4}, {2, xorpop_2x4}, {1, xorpop_1x4}};
    static const xorpop_tile by_one[] = {{7, xorpop_7x1}, {1, xorpop_1x1}};
    const size_t fours = args->blocks / 4 * 4;
    for (size_t block = 0, blocks; block < args->blocks; block += blocks) {
        const xorpop_tile *tile = block < fours ? by_four : by_one;
        blocks = block < fours ? fours : args->blocks - fours;
        for (size_t pixel = 0, pixels; pixel < args->pixels; pixel += pixels, tile++) {
            pixels = (args->pixels - pixel) / tile->pixels * tile->pixels;
            if (pixels) tile->sum(args, &(xorpop_part){pixel, pixels, block, blocks});
        }
    }
}

/* Windows of few words: the weights of all of them stay in registers from pixel to pixel, so that nothing is cleared, and a
 * pixel's sums are complete before the next one's begin. WORDS x BLOCKS of these; both must be literals. */
#define XORPOP_SHORT(WORDS, BLOCKS)                                                                         \
    static void xorpop_short_##WORDS##x##BLOCKS(const bc_xorpop_args *args, const uint64_t *weights,        \
                                                int32_t *counts) {                                          \
        const ptrdiff_t stride = args->source_stride;                                                       \
        const size_t counts_stride = args->counts_stride;                                                   \
        const uint64_t *source[WORDS];                                                                      \
        __m512i filters[WORDS][BLOCKS];                                                                     \
        UNROLL                                                                                              \
        for (int w = 0; w < WORDS; w++) {                                                                   \
            source[w] = args->source + args->tap_offset[(size_t)w / args->words] + (size_t)w % args->words; \
            UNROLL                                                                                          \
            for (int b = 0; b < BLOCKS; b++)                                                                \
                filters[w][b] = _mm512_loadu_si512(weights + (b * WORDS + w) * BLOCK_FILTERS);              \
        }                                                                                                   \
        for (size_t pixel = 0; pixel < args->pixels; pixel++, counts += counts_stride) {                    \
            __m512i sums[BLOCKS];                                                                           \
            UNROLL                                                                                          \
            for (int w = 0; w < WORDS; w++) {                                                               \
                const __m512i word = _mm512_set1_epi64((long long)source[w][(ptrdiff_t)pixel * stride]);    \
                UNROLL                                                                                      \
                for (int b = 0; b < BLOCKS; b++) {                                                          \
                    const __m512i differ = _mm512_popcnt_epi64(_mm512_xor_si512(filters[w][b], word));      \
                    sums[b] = w ? add_in_order(sums[b], differ) : differ;                                   \
                }                                                                                           \
            }                                                                                               \
            store_sums(counts, sums, BLOCKS);                                                               \
        }                                                                                                   \
    }

/* With more, weights and pointers would not all find a register. */
enum { SHORT_WORDS = 9 };
#define FOR_SHORT_WORDS(DO, BLOCKS) \
    DO(1, BLOCKS)                   \
    DO(2, BLOCKS)                   \
    DO(3, BLOCKS) DO(4, BLOCKS) DO(5, BLOCKS) DO(6, BLOCKS) DO(7, BLOCKS) DO(8, BLOCKS) DO(9, BLOCKS)
FOR_SHORT_WORDS(XORPOP_SHORT, 1)
FOR_SHORT_WORDS(XORPOP_SHORT, 2)
XORPOP_SHORT(1, 4)
XORPOP_SHORT(2, 4)

static void xorpop_short(const bc_xorpop_args *args) {
    typedef void kernel(const bc_xorpop_args *args, const uint64_t *weights, int32_t *counts);
#define ENTRY(WORDS, BLOCKS) xorpop_short_##WORDS##x##BLOCKS,
    static kernel *const by_one[] = {FOR_SHORT_WORDS(ENTRY, 1)}, *const by_two[] = {
                                                                     FOR_SHORT_WORDS(ENTRY, 2)};
    static kernel *const by_four[] = {ENTRY(1, 4) ENTRY(2, 4)};
#undef ENTRY
    const size_t words = args->taps * args->words;
    const size_t most_blocks = words <= sizeof by_four / sizeof *by_four ? 4 : 2;
    for (size_t block = 0, blocks; block < args->blocks; block += blocks) {
        const size_t left = args->blocks - block;
        blocks = left >= most_blocks ? most_blocks : left >= 2 ? 2 : 1;
        kernel *const *kernels = blocks == 4 ? by_four : blocks == 2 ? by_two : by_one;
        kernels[words - 1](args, (const uint64_t *)args->weights + block * words * BLOCK_FILTERS,
                           args->counts + block * BLOCK_FILTERS);
    }
}

static inline __m512i add_differing(__m512i sum, const uint64_t *filters, uint64_t word) {
    const __m512i differing =
        _mm512_xor_si512(_mm512_loadu_si512(filters), _mm512_set1_epi64((long long)word));
    return _mm512_add_epi64(sum, _mm512_popcnt_epi64(differing));
}

/* One pixel, as of a dense layer: nothing is done twice with a weight, so that all depends on how fast these come. Block after
 * block they are read in the order in which they lie, and asked for a page ahead, past the end of a call's weights too: those
 * of the next call follow there. Side by side, four blocks of 64 words are four streams at the same place of four pages. */
static void xorpop_one_pixel(const bc_xorpop_args *args) {
    enum { AT_ONCE = 4 /* words, each with sums of its own */, AHEAD = 4096 /* bytes */ };
    const uint64_t *weights = args->weights;
    for (size_t block = 0; block < args->blocks; block++) {
        __m512i sums[AT_ONCE];
        UNROLL
        for (int i = 0; i < AT_ONCE; i++) sums[i] = _mm512_setzero_si512();
        for (size_t tap = 0; tap < args->taps; tap++) {
            const uint64_t *word = args->source + args->tap_offset[tap];
            size_t left = args->words;
            for (; left >= AT_ONCE; left -= AT_ONCE, word += AT_ONCE, weights += AT_ONCE * BLOCK_FILTERS) {
                UNROLL
                for (int i = 0; i < AT_ONCE; i++) {
                    const uint64_t *filters = weights + i * BLOCK_FILTERS;
                    _mm_prefetch((const char *)((uintptr_t)filters + AHEAD), _MM_HINT_T0);
                    sums[i] = add_differing(sums[i], filters, word[i]);
                }
            }
            for (; left; left--, word++, weights += BLOCK_FILTERS) {
                _mm_prefetch((const char *)((uintptr_t)weights + AHEAD), _MM_HINT_T0);
                sums[0] = add_differing(sums[0], weights, *word);
            }
        }
        const __m512i sum =
            _mm512_add_epi64(_mm512_add_epi64(sums[0], sums[1]), _mm512_add_epi64(sums[2], sums[3]));
        store_sums(args->counts + block * BLOCK_FILTERS, &sum, 1);
    }
}

static void xorpop_run(const bc_xorpop_args *args) {
    const size_t words = args->taps * args->words;
    if (words && words <= SHORT_WORDS)
        xorpop_short(args);
    else if (args->pixels == 1 || !words)
        xorpop_one_pixel(args);
    else
        xorpop_long(args);
}

static void xorpop(const bc_xorpop_args *args) { bc_for_runs(args, xorpop_run); }

/* Windows of few words, one pixel after the other without gaps: the words of neighbouring pixels fill a vector, so that no
 * lanes are added up before all taps are. */
static void window_popcount_dense(const bc_window_popcount_args *args) {
    enum { VECTOR = 8 /* words */ };
    const size_t words = args->words, chunk_pixels = 4 * VECTOR / words;
    uint64_t sums[4 * VECTOR];
    for (size_t done = 0; done < args->pixels; done += chunk_pixels) {
        const size_t left = args->pixels - done, pixels = left < chunk_pixels ? left : chunk_pixels;
        const uint64_t *source = args->source + done * words;
        for (size_t i = 0; i < pixels * words; i += VECTOR) {
            const size_t rest = pixels * words - i;
            const __mmask8 lanes = rest < VECTOR ? (__mmask8)first_lanes(rest) : 0xff;
            __m512i sum = _mm512_setzero_si512();
            for (size_t tap = 0; tap < args->taps; tap++) {
                const uint64_t *at = source + args->tap_offset[tap] + i;
                sum = _mm512_add_epi64(sum, _mm512_popcnt_epi64(_mm512_maskz_loadu_epi64(lanes, at)));
            }
            if (words == 1)
                _mm512_mask_cvtepi64_storeu_epi32(args->counts + done + i, lanes, sum);
            else
                _mm512_storeu_si512(sums + i, sum);
        }
        for (size_t pixel = 0; words > 1 && pixel < pixels; pixel++) {
            uint64_t count = 0;
            for (size_t k = 0; k < words; k++) count += sums[pixel * words + k];
            args->counts[done + pixel] = (int32_t)count;
        }
    }
}

static void window_popcount(const bc_window_popcount_args *args) {
    if (args->words && args->words < 8 && args->source_stride == (ptrdiff_t)args->words) {
        window_popcount_dense(args);
        return;
    }
    for (size_t pixel = 0; pixel < args->pixels; pixel++) {
        const uint64_t *source = args->source + (ptrdiff_t)pixel * args->source_stride;
        uint64_t count = 0;
        __m512i sum = _mm512_setzero_si512();
        for (size_t tap = 0; tap < args->taps; tap++) {
            const uint64_t *words = source + args->tap_offset[tap];
            size_t k = 0;
            for (; k + 8 <= args->words; k += 8)
                sum = _mm512_add_epi64(sum, _mm512_popcnt_epi64(_mm512_loadu_si512(words + k)));
            for (; k < args->words; k++) count += (uint64_t)_mm_popcnt_u64(words[k]);
        }
        if (args->words >= 8) count += (uint64_t)_mm512_reduce_add_epi64(sum);
        args->counts[pixel] = (int32_t)count;
    }
}

/* ---- BINARY_WEIGHTS: the portable layout, where AVX2 brings its own ------------------------------- */

static void signsum_weights(const bc_signsum_weights_args *args) { bc_kernels_scalar.signsum_weights(args); }

#include "signsum_avx512.h"

/* ---- Epilogue ------------------------------------------------------------------------------------- */

static inline ints load_ints(const int32_t *values) { return _mm512_loadu_si512(values); }
static inline ints plus(ints x, int32_t y) { return _mm512_add_epi32(x, _mm512_set1_epi32(y)); }
static inline ints minus(ints x, ints y) { return _mm512_sub_epi32(x, y); }

static inline floats sloped(floats x, floats slope) {
    const __mmask16 below = _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_NGE_UQ);
    return _mm512_mask_mul_ps(x, below, slope, x);
}

static inline ints sums_of(ints base, ints count, unsigned count_shift, unsigned sum_shift) {
    const ints shifted = _mm512_sll_epi32(count, _mm_cvtsi32_si128((int)count_shift));
    return _mm512_sra_epi32(_mm512_sub_epi32(base, shifted), _mm_cvtsi32_si128((int)sum_shift));
}

static inline floats to_floats(ints sum) { return _mm512_cvtepi32_ps(sum); }

static inline uint64_t at_least(ints x, ints flip, ints threshold) {
    return _mm512_cmpge_epi32_mask(_mm512_xor_si512(x, flip), threshold);
}

static inline void narrow(floats x, uint16_t *halves) {
    _mm256_storeu_si256((__m256i *)halves, _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
}

#define EPILOGUE_PARTS 4
#include "epilogue_template.h"

/* ---- Bits to values ------------------------------------------------------------------------------- */

static void unpack_i8(const bc_unpack_args *args) {
    const size_t words = (args->channels + 63) / 64;
    const __m512i plus = _mm512_set1_epi8(1), minus = _mm512_set1_epi8(-1);
    for (size_t pixel = 0; pixel < args->pixels; pixel++)
        for (size_t c = 0; c < args->channels; c += 64) {
            const uint64_t bits = args->words[pixel * words + c / 64];
            _mm512_mask_storeu_epi8(args->values + pixel * args->channels + c,
                                    bc_low_bits(args->channels - c),
                                    _mm512_mask_blend_epi8(bits, minus, plus));
        }
}

const bc_kernels bc_kernels_avx512vpopcnt = {
    .widen_f16 = widen_f16,
    .widen_u8 = widen_u8,
    .pack_f32 = pack_f32,
    .terms_f32 = terms_f32,
    .gather_bits = gather_bits,
    .xorpop_block_filters = BLOCK_FILTERS,
    .xorpop_block_word_bytes = BLOCK_FILTERS * sizeof(uint64_t),
    .xorpop_weights = xorpop_weights,
    .xorpop = xorpop,
    .window_popcount = window_popcount,
    .signsum_block_filters = SIGN_LANES,
    .signsum_block_word_bytes = SIGN_LANES * sizeof(uint32_t),
    .signsum_weights = signsum_weights,
    .signsum_group_floats = TABLE,
    .signsum_expand = signsum_expand,
    .signsum = signsum,
    .epilogue = epilogue,
    .unpack_i8 = unpack_i8,
};

#if defined(__clang__)
#pragma clang attribute pop
#elif defined(__GNUC__)
#pragma GCC pop_options
#endif

#endif
