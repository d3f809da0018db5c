/* terms_f32, and pack_f32 where it sums |v|; written once and compiled for each instruction set by the file that includes this
 * under its target pragma. That file first defines LANES, which is 16, a type `floats` of so many, and
 *
 *   PACK_WORDS          how many words' terms may stay in registers from pixel to pixel, 1 to 4; or 0 where there are too
 *                       few registers
 *   PACK_GROUP          pixels that are taken together, and share what is loaded of the terms
 *   PACK_AHEAD          how many bytes ahead the source is asked for; 0: not at all
 *   floats load_floats(const float *);     floats load_first(const float *, size_t count);  absent lanes are 0
 *   void store_floats(float *, floats);    void store_first(float *, size_t count, floats);
 *   floats spread(float);
 *   floats with_terms(floats x, floats bias, floats scale);   (x + bias) * scale, both operations rounded
 *   uint64_t nonnegative(floats);                             bit i: lane i is not below 0
 *   uint32_t nonnegative_pair(floats, floats);                the same of 32 lanes
 *   floats in_register(floats);                               the same, not to be loaded again where it is used again
 *   floats add_magnitude(floats sum, floats x);               sum + |x|
 *   void sums_of_lanes(const floats x[4], float sums[4]);
 *
 * Channels are walked in blocks of a few words, pixels in tiles: all pixels of a tile for one block, then for the next. Where
 * one block covers the channels a tile is all pixels, so that memory is read in order and each term once.
 */
#include <string.h>

#include "bits.h"
#include "kernels.h"

enum {
    PACK_HALF_PARTS = 32 / LANES, /* of a word */
    PACK_WORD_PARTS = 64 / LANES,
    PACK_BLOCK_WORDS = PACK_WORDS ? PACK_WORDS : 1,
    PACK_BLOCK_PARTS = PACK_BLOCK_WORDS * PACK_WORD_PARTS,
    PACK_TILE_PIXELS = 16, /* where there are several blocks, or sums */
    PACK_BLOCK_PIXELS = 4
};

/* What either kernel reads and writes. */
typedef struct pack_job {
    const float *source;
    ptrdiff_t source_stride;
    size_t pixels, channels;
    const float *bias, *scale;
    float *abs_sum;
    uint64_t *words; /* one of these two */
    float *values;
    ptrdiff_t stride; /* of words or values */
    size_t ahead;     /* bytes */
} pack_job;

/* What a job asks for, as constants where it is inlined. */
typedef struct pack_kind {
    int packs, has_terms, sums;
} pack_kind;

/* `parts` times LANES channels, or of the last part only `last` where that is not 0; and where these are in a job's arrays, for one
 * pixel. */
typedef struct pack_block {
    int parts;
    size_t last;
    const float *source, *bias, *scale;
    uint64_t *words;
    float *values;
} pack_block;

BC_FORCE_INLINE int is_whole(const pack_block *block, int part) {
    return !block->last || part + 1 < block->parts;
}

BC_FORCE_INLINE floats load_part(const pack_block *block, int part, const float *values) {
    values += part * LANES;
    return is_whole(block, part) ? load_floats(values) : load_first(values, block->last);
}

BC_FORCE_INLINE void store_part(const pack_block *block, int part, float *values, floats v) {
    values += part * LANES;
    if (is_whole(block, part))
        store_floats(values, v);
    else
        store_first(values, block->last, v);
}

/* So that it is there when its turn comes. */
static inline void ask_for(const float *source, size_t bytes) {
#if defined(__GNUC__)
    __builtin_prefetch((const char *)((uintptr_t)source + bytes));
#else
    (void)source, (void)bytes;
#endif
}

/* A block of `group` pixels. Bits are written by halves of words, which takes fewer shifts. `sums` has what earlier blocks of
 * the pixels added up. */
BC_FORCE_INLINE void take_group(const pack_job *job, pack_kind kind, const pack_block *block, int group,
                                int asks_ahead, const floats *bias, const floats *scale, floats *sums) {
    const int halves = (block->parts + PACK_WORD_PARTS - 1) / PACK_WORD_PARTS * 2;
    floats group_sums[PACK_GROUP];
    if (kind.sums) {
        BC_UNROLL
        for (int p = 0; p < group; p++) group_sums[p] = sums[p];
    }
    BC_UNROLL
    for (int half = 0; half < halves; half++) {
        const int first = half * PACK_HALF_PARTS;
        const int present = block->parts - first < PACK_HALF_PARTS ? block->parts - first : PACK_HALF_PARTS;
        floats half_bias[PACK_HALF_PARTS], half_scale[PACK_HALF_PARTS];
        if (kind.has_terms) {
            BC_UNROLL
            for (int i = 0; i < present; i++) {
                half_bias[i] = bias ? bias[first + i] : in_register(load_part(block, first + i, block->bias));
                half_scale[i] =
                    scale ? scale[first + i] : in_register(load_part(block, first + i, block->scale));
            }
        }
        BC_UNROLL
        for (int p = 0; p < group; p++) {
            floats v[PACK_HALF_PARTS];
            BC_UNROLL
            for (int i = 0; i < present; i++) {
                const float *source = block->source + p * job->source_stride;
                if (asks_ahead) ask_for(source + (first + i) * LANES, job->ahead);
                v[i] = load_part(block, first + i, source);
                if (kind.has_terms) v[i] = with_terms(v[i], half_bias[i], half_scale[i]);
                if (kind.sums) group_sums[p] = add_magnitude(group_sums[p], v[i]);
                if (!kind.packs) store_part(block, first + i, block->values + p * job->stride, v[i]);
            }
            if (!kind.packs) continue;
            uint32_t bits = present == 2   ? nonnegative_pair(v[0], v[1])
                            : present == 1 ? (uint32_t)nonnegative(v[0])
                                           : 0;
            /* Absent channels are 0, which counts as nonnegative. */
            if (present > 0 && !is_whole(block, first + present - 1))
                bits &= (uint32_t)bc_low_bits((size_t)(present - 1) * LANES + block->last);
            /* Words are little-endian on every target. */
            memcpy((char *)(block->words + p * job->stride) + half * (int)sizeof bits, &bits, sizeof bits);
        }
    }
    if (kind.sums) {
        BC_UNROLL
        for (int p = 0; p < group; p++) sums[p] = group_sums[p];
    }
}

/* `parts` from `channel` on of one pixel. */
BC_FORCE_INLINE pack_block block_at(const pack_job *job, pack_kind kind, size_t pixel, size_t channel,
                                    int parts, size_t last) {
    const ptrdiff_t to = (ptrdiff_t)pixel * job->stride;
    return (pack_block){
        .parts = parts,
        .last = last,
        .source = job->source + (ptrdiff_t)pixel * job->source_stride + (ptrdiff_t)channel,
        .bias = kind.has_terms ? job->bias + channel : NULL,
        .scale = kind.has_terms ? job->scale + channel : NULL,
        .words = kind.packs ? job->words + to + (ptrdiff_t)channel / 64 : NULL,
        .values = kind.packs ? NULL : job->values + to + (ptrdiff_t)channel,
    };
}

/* The same block of the pixel that is `pixels` further on. */
BC_FORCE_INLINE void next_pixel(const pack_job *job, pack_kind kind, pack_block *block, int pixels) {
    block->source += pixels * job->source_stride;
    if (kind.packs)
        block->words += pixels * job->stride;
    else
        block->values += pixels * job->stride;
}

/* `parts` from `channel` on of `pixels` pixels. */
BC_FORCE_INLINE void take_block(const pack_job *job, pack_kind kind, size_t pixel, size_t pixels,
                                size_t channel, int parts, size_t last, floats *sums) {
    pack_block block = block_at(job, kind, pixel, channel, parts, last);
    floats bias[PACK_BLOCK_PARTS], scale[PACK_BLOCK_PARTS];
    const int keeps_terms = PACK_WORDS && kind.has_terms;
    if (keeps_terms) {
        BC_UNROLL
        for (int part = 0; part < parts; part++) {
            bias[part] = load_part(&block, part, block.bias);
            scale[part] = load_part(&block, part, block.scale);
        }
    }
    size_t done = 0;
    const int group = kind.packs && kind.has_terms && parts > PACK_HALF_PARTS ? PACK_GROUP : 1;
    for (; done + (size_t)group <= pixels; done += (size_t)group, next_pixel(job, kind, &block, group))
        take_group(job, kind, &block, group, kind.packs && PACK_AHEAD > 0, keeps_terms ? bias : NULL,
                   keeps_terms ? scale : NULL, sums + done);
    for (; group > 1 && done < pixels; done++, next_pixel(job, kind, &block, 1))
        take_group(job, kind, &block, 1, kind.packs && PACK_AHEAD > 0, keeps_terms ? bias : NULL,
                   keeps_terms ? scale : NULL, sums + done);
}

/* The whole words of one pixel. Rows of two pixels read side by side would share terms, but from memory these come at a third
 * of the speed. */
BC_FORCE_INLINE void take_whole_words(const pack_job *job, pack_kind kind, size_t pixel, floats *sum) {
    pack_block block = block_at(job, kind, pixel, 0, PACK_WORD_PARTS, 0);
    for (size_t words = job->channels / 64; words; words--) {
        take_group(job, kind, &block, 1, 0, NULL, NULL, sum);
        block.source += 64;
        if (kind.has_terms) {
            block.bias += 64;
            block.scale += 64;
        }
        if (kind.packs)
            block.words++;
        else
            block.values += 64;
    }
}

#define TAKE_BLOCK(PARTS, LAST) take_block(job, kind, pixel, pixels, channel, PARTS, LAST, sums)

/* All channels of `pixels` pixels, from `pixel` on. The number of parts is a constant in each call, to be unrolled. */
BC_FORCE_INLINE void take_tile(const pack_job *job, pack_kind kind, size_t pixel, size_t pixels) {
    floats sums[PACK_TILE_PIXELS];
    if (kind.sums) {
        BC_UNROLL
        for (int p = 0; p < PACK_TILE_PIXELS; p++) sums[p] = spread(0.0f);
    }
    size_t channel = 0, words = job->channels / 64;
    const int blocks_pay = words <= 1 || (PACK_WORDS && pixels >= PACK_BLOCK_PIXELS &&
                                          (kind.has_terms || words <= PACK_BLOCK_WORDS));
    if (!blocks_pay) {
        for (size_t p = 0; p < pixels; p++) take_whole_words(job, kind, pixel + p, sums + p);
        channel = 64 * words;
    } else {
        for (; PACK_BLOCK_WORDS > 2 && words >= PACK_BLOCK_WORDS;
             words -= PACK_BLOCK_WORDS, channel += 64 * PACK_BLOCK_WORDS)
            TAKE_BLOCK(PACK_BLOCK_PARTS, 0);
        for (; PACK_BLOCK_WORDS > 1 && words >= 2; words -= 2, channel += 64 * 2)
            TAKE_BLOCK(2 * PACK_WORD_PARTS, 0);
        for (; words; words--, channel += 64) TAKE_BLOCK(PACK_WORD_PARTS, 0);
    }
    const size_t left = job->channels - channel, last = left % LANES;
    switch ((left + LANES - 1) / LANES) {
        case 1:
            TAKE_BLOCK(1, last);
            break;
        case 2:
            TAKE_BLOCK(2, last);
            break;
        case 3:
            TAKE_BLOCK(3, last);
            break;
        case 4:
            TAKE_BLOCK(4, last);
            break;
    }
    for (size_t p = 0; kind.sums && p < pixels; p += 4) {
        float four[4];
        sums_of_lanes(sums + p, four);
        for (size_t i = 0; i < 4 && p + i < pixels; i++) job->abs_sum[pixel + p + i] += four[i];
    }
}

#undef TAKE_BLOCK

BC_FORCE_INLINE void take_all(const pack_job *all, pack_kind kind) {
    pack_job job = *all; /* for all that the compiler knows stores may change the other */
    job.ahead = job.channels <= 64 * PACK_BLOCK_WORDS ? PACK_AHEAD : 0; /* where it is read in order */
    const size_t tile = !kind.sums && job.channels <= 64 * PACK_BLOCK_WORDS ? job.pixels : PACK_TILE_PIXELS;
    for (size_t pixel = 0; pixel < job.pixels; pixel += tile)
        take_tile(&job, kind, pixel, job.pixels - pixel < tile ? job.pixels - pixel : tile);
}

static void take_values(const pack_job *job) {
    if (job->bias && job->abs_sum)
        take_all(job, (pack_kind){0, 1, 1});
    else if (job->bias)
        take_all(job, (pack_kind){0, 1, 0});
    else if (job->abs_sum)
        take_all(job, (pack_kind){0, 0, 1});
    else
        take_all(job, (pack_kind){0, 0, 0});
}

static void pack_with_sums(const bc_pack_args *args) {
    const pack_job job = {.source = args->source,
                          .source_stride = args->source_stride,
                          .pixels = args->pixels,
                          .channels = args->channels,
                          .bias = args->bias,
                          .scale = args->scale,
                          .abs_sum = args->abs_sum,
                          .words = args->words,
                          .stride = args->words_stride};
    if (job.bias)
        take_all(&job, (pack_kind){1, 1, 1});
    else
        take_all(&job, (pack_kind){1, 0, 1});
}

/* ---- Narrow pixels that lie side by side are taken as fewer, wider ones --------------------------- */

typedef struct wide_terms {
    float bias[64], scale[64];
} wide_terms;

/* How many of `pixels` make one of at most 64 channels: at most 8, and 0 or 1 where that is none. */
static size_t joined_pixels(size_t pixels, size_t channels) {
    size_t joined = channels ? 8 : 1;
    while (joined * channels > 64 || joined > pixels) joined /= 2;
    return joined;
}

/* The job with as many pixels as make whole wide ones, joined. */
static pack_job widened(const pack_job *job, size_t joined, wide_terms *terms) {
    pack_job wide = *job;
    wide.pixels /= joined;
    wide.channels *= joined;
    wide.source_stride *= (ptrdiff_t)joined;
    wide.stride *= (ptrdiff_t)joined;
    if (!job->bias) return wide;
    for (size_t i = 0; i < joined; i++) {
        memcpy(terms->bias + i * job->channels, job->bias, job->channels * sizeof *job->bias);
        memcpy(terms->scale + i * job->channels, job->scale, job->channels * sizeof *job->scale);
    }
    wide.bias = terms->bias;
    wide.scale = terms->scale;
    return wide;
}

static void terms_f32(const bc_terms_args *args) {
    pack_job job = {.source = args->source,
                    .source_stride = args->source_stride,
                    .pixels = args->pixels,
                    .channels = args->channels,
                    .bias = args->bias,
                    .scale = args->scale,
                    .abs_sum = args->abs_sum,
                    .values = args->destination,
                    .stride = args->destination_stride};
    const ptrdiff_t dense = (ptrdiff_t)args->channels;
    const int joins = !args->abs_sum && args->source_stride == dense && args->destination_stride == dense;
    const size_t joined = joins ? joined_pixels(args->pixels, args->channels) : 1;
    if (joined > 1) {
        wide_terms terms;
        const pack_job wide = widened(&job, joined, &terms);
        take_values(&wide);
        job.pixels %= joined;
        job.source += wide.pixels * wide.channels;
        job.values += wide.pixels * wide.channels;
    }
    take_values(&job);
}
