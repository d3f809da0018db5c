/* pack_f32, compiled for each instruction set by the file that includes this under its target pragma, after
 * terms_template.h, with what that asks for and
 *
 *   PACK_KEPT_PARTS          how many of the type may stay in registers as thresholds, from pixel to pixel
 *   void pack_word(const floats *x, const floats *threshold, const uint8_t *flip, int parts, uint64_t present,
 *                  uint64_t *word, floats *watched);
 *                                    a bit for each lane of `parts` vectors: not below its threshold; of these the `present`.
 *                                    Where `flip` is not NULL, the other bit where its byte, of 64, is set; where x is NaN this
 *                                    comes out wrong, and may where it is infinite: then some lane of *watched is NaN from there on
 *   void cut_words(const uint64_t *from, size_t count, size_t bits, size_t pieces, uint64_t *words);
 *                                    to words[0], words[1] ... the lowest `bits` bits of from[0], the next ..., `pieces`
 *                                    of them, 2, 4 or 8; then those of from[1] ...
 *
 * Memory is read in order, pixel by pixel, and thresholds that do not stay are read again for each. Walking blocks of channels
 * whose thresholds would stay takes the source out of order, for which processors do not look ahead.
 */
enum {
    PACK_PARTS = 64 / LANES,   /* of a word */
    PACK_ASKING_PARTS = 8,     /* pixels of more are slower for being asked for, from L2 */
    PACK_TILE_CHANNELS = 16384 /* after which what was watched is looked at, and repaired */
};

/* What is asked for, as a constant where it is inlined. */
typedef enum pack_mode { PACK_SIGNS, PACK_ABOVE, PACK_EITHER /* flipped or not */ } pack_mode;

/* What the channels of a word, or all of them, are compared with. */
typedef struct pack_limits {
    const float *threshold;
    const uint8_t *flip;
} pack_limits;

/* Thresholds are padded. */
BC_FORCE_INLINE void load_limits(pack_mode mode, pack_limits limits, int parts, floats *threshold) {
    BC_UNROLL
    for (int i = 0; i < parts; i++)
        threshold[i] = mode == PACK_SIGNS ? spread(0.0f) : load_floats(limits.threshold + i * LANES);
}

/* `parts` of a word, of the last only `last` channels where that is not 0. */
BC_FORCE_INLINE void take_word(pack_mode mode, const float *source, const floats *threshold,
                               const uint8_t *flip, int parts, size_t last, uint64_t *word, floats *watched) {
    floats x[PACK_PARTS];
    BC_UNROLL
    for (int i = 0; i < parts; i++)
        x[i] =
            last && i + 1 == parts ? load_first(source + i * LANES, last) : load_floats(source + i * LANES);
    const uint64_t present = bc_low_bits((size_t)parts * LANES - (last ? LANES - last : 0));
    pack_word(x, threshold, mode == PACK_EITHER ? flip : NULL, parts, present, word, watched);
}

/* Pixels of `parts`, whose thresholds stay in registers. */
BC_FORCE_INLINE void take_kept(pack_mode mode, const bc_pack_args *args, int parts, floats *watched) {
    const float *source = args->source;
    uint64_t *words = args->words;
    const uint8_t *flip = args->flip;
    const ptrdiff_t source_stride = args->source_stride, words_stride = args->words_stride;
    const size_t last = args->channels % LANES;
    floats threshold[PACK_KEPT_PARTS];
    load_limits(mode, (pack_limits){args->threshold, NULL}, parts, threshold);
    const int whole = parts / PACK_PARTS, rest = parts % PACK_PARTS;
    const int asks = PACK_AHEAD > 0 && parts <= PACK_ASKING_PARTS;
    for (size_t left = args->pixels; left; left--, source += source_stride, words += words_stride) {
        BC_UNROLL
        for (int part = 0; asks && part < parts; part++) ask_for(source + part * LANES, PACK_AHEAD);
        BC_UNROLL
        for (int i = 0; i < whole; i++)
            take_word(mode, source + 64 * i, threshold + PACK_PARTS * i,
                      mode == PACK_EITHER ? flip + 64 * i : NULL, PACK_PARTS,
                      rest == 0 && i + 1 == whole ? last : 0, words + i, watched);
        if (rest)
            take_word(mode, source + 64 * whole, threshold + PACK_PARTS * whole,
                      mode == PACK_EITHER ? flip + 64 * whole : NULL, rest, last, words + whole, watched);
    }
}

/* Pixels of some whole words, at least one, and then `parts`. */
BC_FORCE_INLINE void take_wide(pack_mode mode, const bc_pack_args *args, int parts, floats *watched) {
    const float *source = args->source;
    uint64_t *words = args->words;
    const pack_limits first = {args->threshold, args->flip};
    const ptrdiff_t source_stride = args->source_stride, words_stride = args->words_stride;
    const size_t whole = args->channels / 64, last = args->channels % LANES;
    for (size_t left = args->pixels; left; left--, source += source_stride, words += words_stride) {
        const float *from = source;
        pack_limits limits = first;
        uint64_t *to = words, *const end = words + whole;
        floats threshold[PACK_PARTS];
        for (; to < end; to++, from += 64) {
            load_limits(mode, limits, PACK_PARTS, threshold);
            take_word(mode, from, threshold, limits.flip, PACK_PARTS, 0, to, watched);
            if (mode != PACK_SIGNS) limits.threshold += 64;
            if (mode == PACK_EITHER) limits.flip += 64;
        }
        if (parts == 0) continue;
        load_limits(mode, limits, parts, threshold);
        take_word(mode, from, threshold, limits.flip, parts, last, to, watched);
    }
}

#define KEPT(PARTS)                                                      \
    case PARTS:                                                          \
        if (PARTS > PACK_KEPT_PARTS) break;                              \
        take_kept(mode, args, (PARTS) % (PACK_KEPT_PARTS + 1), watched); \
        return

#define WIDE(PARTS)                            \
    case PARTS:                                \
        take_wide(mode, args, PARTS, watched); \
        return

/* The number of parts is a constant in each call, to be unrolled. */
BC_FORCE_INLINE void take_pixels(pack_mode mode, const bc_pack_args *args, floats *watched) {
    const size_t channels = args->channels;
    switch ((channels + LANES - 1) / LANES) {
        case 0:
            return;
            KEPT(1);
            KEPT(2);
            KEPT(3);
            KEPT(4);
            KEPT(5);
            KEPT(6);
            KEPT(7);
            KEPT(8);
            KEPT(12);
            KEPT(16);
    }
    switch ((channels % 64 + LANES - 1) / LANES) {
        WIDE(0);
        WIDE(1);
        WIDE(2);
        WIDE(3);
        WIDE(4);
    }
}

#undef KEPT
#undef WIDE

static void take_signs(const bc_pack_args *args) { take_pixels(PACK_SIGNS, args, NULL); }
static void take_above(const bc_pack_args *args) { take_pixels(PACK_ABOVE, args, NULL); }

/* The bits of what is not finite, one by one. */
static void repair(const bc_pack_args *args) {
    for (size_t pixel = 0; pixel < args->pixels; pixel++) {
        const float *source = args->source + (ptrdiff_t)pixel * args->source_stride;
        uint64_t *words = args->words + (ptrdiff_t)pixel * args->words_stride;
        for (size_t c = 0; c < args->channels; c++) {
            const float x = source[c];
            if (isfinite(x)) continue;
            const int bit = isnan(x) || !(x < args->threshold[c]) != (args->flip[c] != 0);
            words[c / 64] = (words[c / 64] & ~(UINT64_C(1) << c % 64)) | (uint64_t)bit << c % 64;
        }
    }
}

static void take_either(const bc_pack_args *args) {
    bc_pack_args tile = *args;
    size_t most = PACK_TILE_CHANNELS / (args->channels ? args->channels : 1);
    if (most == 0) most = 1;
    for (size_t left = args->pixels; left; left -= tile.pixels) {
        floats watched = spread(0.0f);
        tile.pixels = left < most ? left : most;
        take_pixels(PACK_EITHER, &tile, &watched);
        /* |0| - 1 is below 0, and NaN is not. */
        if (nonnegative(add_magnitude(spread(-1.0f), watched))) repair(&tile);
        tile.source += (ptrdiff_t)tile.pixels * tile.source_stride;
        tile.words += (ptrdiff_t)tile.pixels * tile.words_stride;
    }
}

static void take_thresholds(const bc_pack_args *args) {
    if (args->flip)
        take_either(args);
    else if (args->threshold)
        take_above(args);
    else
        take_signs(args);
}

/* ---- Narrow pixels that lie side by side are taken as fewer, wider ones --------------------------- */

typedef struct wide_thresholds {
    float threshold[64];
    _Alignas(64) uint8_t flip[64];
} wide_thresholds;

/* As many pixels as make whole wide ones, joined. */
static bc_pack_args joined_pack(const bc_pack_args *args, size_t joined, wide_thresholds *wide) {
    bc_pack_args made = *args;
    made.pixels /= joined;
    made.channels *= joined;
    made.source_stride *= (ptrdiff_t)joined;
    memset(wide, 0, sizeof *wide);
    for (size_t i = 0; i < joined; i++) {
        const size_t at = i * args->channels;
        if (args->threshold)
            memcpy(wide->threshold + at, args->threshold, args->channels * sizeof *wide->threshold);
        if (args->flip) memcpy(wide->flip + at, args->flip, args->channels);
    }
    if (args->threshold) made.threshold = wide->threshold;
    if (args->flip) made.flip = wide->flip;
    return made;
}

enum { PACK_CUT_PIXELS = 64 /* wide pixels */ };

static void pack_f32(const bc_pack_args *args) {
    if (args->abs_sum) {
        pack_with_sums(args);
        return;
    }
    bc_pack_args rest = *args;
    /* Halves of words need no cutting to be quick. */
    const int joins =
        args->channels % 32 && args->source_stride == (ptrdiff_t)args->channels && args->words_stride == 1;
    const size_t joined = joins ? joined_pixels(args->pixels, args->channels) : 1;
    if (joined > 1) {
        uint64_t uncut[PACK_CUT_PIXELS];
        wide_thresholds wide;
        bc_pack_args part = joined_pack(args, joined, &wide);
        part.words = uncut;
        for (size_t left = part.pixels; left; left -= part.pixels) {
            part.pixels = left < PACK_CUT_PIXELS ? left : PACK_CUT_PIXELS;
            take_thresholds(&part);
            cut_words(uncut, part.pixels, args->channels, joined, rest.words);
            part.source += part.pixels * part.channels;
            rest.words += part.pixels * joined;
        }
        rest.source = part.source;
        rest.pixels %= joined;
    }
    take_thresholds(&rest);
}
