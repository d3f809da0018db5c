/* pack_f32, compiled for each instruction set by the file that includes this under its target pragma, after
 * terms_template.h, with what that asks for and
 *
 *   PACK_KEPT_PARTS          how many of the type may stay in registers as thresholds, from pixel to pixel
 *   PACK_WATCHED             how many more as sums in which what is not finite shows: 2 take turns, or 4
 *   PACK_VECTOR_BYTES        pixels of whole words that lie side by side are read from a multiple of so many on; 0: they are not
 *   PACK_ALIGNED_WORDS       how many words' thresholds stay then; no more than a pixel has that is wider than PACK_KEPT_PARTS
 *   PACK_STRIP_BYTES         of other wide pixels so many bytes are taken a word of each at a time, whose thresholds stay in
 *                            registers meanwhile; 0: they are not
 *   PACK_AT_ONCE             parts of a word whose bits are made together
 *   void pack_bits(const floats *x, const floats *threshold, int parts, uint64_t present, void *bits);
 *                                    to PACK_AT_ONCE * LANES bits: one for each lane of `parts` vectors, not below its
 *                                    threshold; of these the `present`
 *   void pack_flipped(const floats *x, const floats *threshold, int parts, uint64_t flip, uint64_t present, void *bits);
 *                                    the same, and the other bit where that of `flip` is set; may be wrong where x is not finite
 *   uint64_t joined_bits(const floats *x, const floats *threshold, int watched);
 *                                    those of PACK_AT_ONCE vectors, in a register, not flipped; where what is not finite is watched
 *                                    for, they may be wrong there
 *   floats multiply_add(floats x, floats y, floats sum);      x * y + sum, rounded once or twice
 *   int all_finite(floats);
 *   void cut_words(const uint64_t *from, size_t count, size_t bits, size_t pieces, uint64_t *words);
 *                                    to words[0], words[1] ... the lowest `bits` bits of from[0], the next ..., `pieces`
 *                                    of them, 2, 4 or 8; then those of from[1] ...
 *
 * Memory is read in order, pixel by pixel, and thresholds that do not stay are read again for each; or else it is asked for
 * in order beforehand. Processors do not look ahead of what is read out of order.
 */
enum {
    PACK_PARTS = 64 / LANES,      /* of a word */
    PACK_ASKING_PARTS = 8,        /* pixels of more are slower for being asked for, from L2 */
    PACK_ALIGNED_CHANNELS = 2048, /* whose thresholds lie on the stack */
    PACK_ALIGNED_FEWEST = 12288,  /* channels of all pixels, to be worth it */
    PACK_TILE_CHANNELS = 65536    /* after which what was watched is looked at, and repaired */
};

/* What is wanted, as a constant where it is inlined. */
typedef enum pack_mode { PACK_SIGNS, PACK_ABOVE, PACK_EITHER /* flipped or not */ } pack_mode;

/* `parts` of a word, and what they are compared with. Of the last part there are only `last` channels where that is not 0. */
typedef struct pack_piece {
    int parts;
    size_t last;
    floats threshold[PACK_PARTS];
    uint64_t flip;
} pack_piece;

/* A copy: for all that a compiler knows, words may be written to where the job is. */
typedef struct pack_limits {
    const float *threshold;
    const uint64_t *flip;
} pack_limits;

/* Thresholds are padded. */
BC_FORCE_INLINE pack_piece load_piece(pack_mode mode, pack_limits limits, size_t word, int parts,
                                      size_t last) {
    pack_piece piece = {.parts = parts, .last = last};
    BC_UNROLL
    for (int i = 0; i < parts; i++)
        piece.threshold[i] =
            mode == PACK_SIGNS ? spread(0.0f) : load_floats(limits.threshold + 64 * word + (size_t)i * LANES);
    if (mode == PACK_EITHER) piece.flip = limits.flip[word];
    return piece;
}

/* The parts of a word from `first` on, up to PACK_AT_ONCE of them. Sums of products are not finite from where a factor is not;
 * also from where they overflow, which is looked at in vain. */
BC_FORCE_INLINE void load_parts(pack_mode mode, const float *source, const pack_piece *piece, int first,
                                int count, floats *x, floats *watched) {
    BC_UNROLL
    for (int i = 0; i < count; i++) {
        const float *from = source + (first + i) * LANES;
        x[i] =
            piece->last && first + i + 1 == piece->parts ? load_first(from, piece->last) : load_floats(from);
    }
    if (mode != PACK_EITHER) return;
    BC_UNROLL
    for (int i = 0; i < count; i++) x[i] = in_register(x[i]);
    BC_UNROLL
    for (int i = 0; i < count; i += 2) {
        floats *sum = &watched[(first + i) / 2];
        *sum = multiply_add(x[i], x[i + 1 < count ? i + 1 : i], *sum);
    }
}

BC_FORCE_INLINE void take_word(pack_mode mode, const float *source, const pack_piece *piece, uint64_t *word,
                               floats *watched) {
    const int parts = piece->parts;
    const uint64_t present = bc_low_bits((size_t)parts * LANES - (piece->last ? LANES - piece->last : 0));
    BC_UNROLL
    for (int first = 0; first < PACK_PARTS; first += PACK_AT_ONCE) {
        const int left = parts - first, count = left < 0 ? 0 : left < PACK_AT_ONCE ? left : PACK_AT_ONCE;
        const int bit = first * LANES;
        char *bits = (char *)word + bit / 8; /* words are little-endian on every target */
        floats x[PACK_AT_ONCE];
        load_parts(mode, source, piece, first, count, x, watched);
        if (mode == PACK_EITHER)
            pack_flipped(x, piece->threshold + first, count, piece->flip >> bit, present >> bit, bits);
        else
            pack_bits(x, piece->threshold + first, count, present >> bit, bits);
    }
}

/* One pixel. */
BC_FORCE_INLINE void take_pixel(pack_mode mode, const float *source, const pack_piece *piece, int pieces,
                                uint64_t *words, floats *watched) {
    const int parts = (pieces - 1) * PACK_PARTS + piece[pieces - 1].parts;
    const int asks = PACK_AHEAD > 0 && parts <= PACK_ASKING_PARTS;
    BC_UNROLL
    for (int part = 0; asks && part < parts; part++) ask_for(source + part * LANES, PACK_AHEAD);
    BC_UNROLL
    for (int i = 0; i < pieces; i++)
        take_word(mode, source + 64 * i, &piece[i], words + i,
                  mode == PACK_EITHER ? watched + 2 * i % PACK_WATCHED : NULL);
}

/* Pixels of `parts`, whose thresholds stay in registers. */
BC_FORCE_INLINE void take_kept(pack_mode mode, const bc_pack_args *args, int parts, size_t last,
                               floats *watched) {
    enum { WORDS = (PACK_KEPT_PARTS + PACK_PARTS - 1) / PACK_PARTS };
    const float *source = args->source;
    uint64_t *words = args->words;
    const ptrdiff_t source_stride = args->source_stride, words_stride = args->words_stride;
    const int pieces = (parts + PACK_PARTS - 1) / PACK_PARTS, rest = parts - (pieces - 1) * PACK_PARTS;
    const pack_limits limits = {args->threshold, args->flip};
    pack_piece piece[WORDS];
    BC_UNROLL
    for (int i = 0; i < pieces; i++)
        piece[i] = i + 1 < pieces ? load_piece(mode, limits, (size_t)i, PACK_PARTS, 0)
                                  : load_piece(mode, limits, (size_t)i, rest, last);
    size_t left = args->pixels;
    /* Two by two, so that sums of a pixel need not wait for those of the one before. */
    for (; mode == PACK_EITHER && pieces == 1 && PACK_WATCHED > 2 && left >= 2; left -= 2) {
        take_pixel(mode, source, piece, pieces, words, watched);
        take_pixel(mode, source + source_stride, piece, pieces, words + words_stride,
                   watched + 2 % PACK_WATCHED);
        source += 2 * source_stride;
        words += 2 * words_stride;
    }
    for (; left; left--, source += source_stride, words += words_stride)
        take_pixel(mode, source, piece, pieces, words, watched);
}

/* Pixels of some whole words, at least one, and then `parts`. */
BC_FORCE_INLINE void take_wide(pack_mode mode, const bc_pack_args *args, int parts, floats *watched) {
    const float *source = args->source;
    uint64_t *words = args->words;
    const ptrdiff_t source_stride = args->source_stride, words_stride = args->words_stride;
    const size_t whole = args->channels / 64, last = args->channels % LANES;
    const pack_limits limits = {args->threshold, args->flip};
    for (size_t left = args->pixels; left; left--, source += source_stride, words += words_stride) {
        for (size_t i = 0; i < whole; i++) {
            const pack_piece piece = load_piece(mode, limits, i, PACK_PARTS, 0);
            take_word(mode, source + 64 * i, &piece, words + i, watched);
        }
        if (parts == 0) continue;
        const pack_piece piece = load_piece(mode, limits, whole, parts, last);
        take_word(mode, source + 64 * whole, &piece, words + whole, watched);
    }
}

/* The bits of 64 channels `lead` after a word's first, after those `carried`; returns what the next word begins with. Flips are
 * the word's. */
BC_FORCE_INLINE uint64_t take_shifted(pack_mode mode, const float *source, const pack_piece *piece,
                                      size_t lead, uint64_t carried, uint64_t *word, floats *watched) {
    uint64_t made = 0;
    BC_UNROLL
    for (int first = 0; first < PACK_PARTS; first += PACK_AT_ONCE) {
        floats x[PACK_AT_ONCE];
        load_parts(mode, source, piece, first, PACK_AT_ONCE, x, watched);
        made |= joined_bits(x, piece->threshold + first, mode == PACK_EITHER) << first * LANES;
    }
    made = made << lead | made >> (64 - lead);
    const uint64_t next = made & bc_low_bits(lead);
    *word = (carried | (made ^ next)) ^ (mode == PACK_EITHER ? piece->flip : 0);
    return next;
}

enum { PACK_VECTOR = PACK_VECTOR_BYTES ? PACK_VECTOR_BYTES / sizeof(float) : 1 };

BC_FORCE_INLINE int reads_aligned(const bc_pack_args *args, size_t pixels) {
    const size_t channels = args->channels;
    return PACK_VECTOR_BYTES && channels % 64 == 0 && channels > PACK_KEPT_PARTS * LANES &&
           channels <= PACK_ALIGNED_CHANNELS && pixels * channels >= PACK_ALIGNED_FEWEST &&
           args->source_stride == (ptrdiff_t)channels && args->words_stride == (ptrdiff_t)(channels / 64);
}

/* Pixels of whole words that lie side by side. All but the last are read from where a vector begins in memory, by limits that are
 * laid likewise, as loads that cross cache lines take twice as long. */
BC_FORCE_INLINE void take_aligned(pack_mode mode, const bc_pack_args *args, floats *watched) {
    const size_t channels = args->channels, whole = channels / 64;
    const size_t lead = PACK_VECTOR - (uintptr_t)args->source / sizeof *args->source % PACK_VECTOR;
    _Alignas(64) float threshold[PACK_ALIGNED_CHANNELS + LANES];
    if (mode != PACK_SIGNS) {
        for (size_t i = 0; i < channels; i += LANES)
            store_floats(threshold + i, load_floats(args->threshold + lead + i));
        store_floats(threshold + channels - lead, load_floats(args->threshold));
    }
    const pack_limits limits = {threshold, args->flip};
    pack_piece kept[PACK_ALIGNED_WORDS + 1];
    BC_UNROLL
    for (int i = 0; i < PACK_ALIGNED_WORDS; i++) kept[i] = load_piece(mode, limits, (size_t)i, PACK_PARTS, 0);
    const float *source = args->source + lead;
    uint64_t *words = args->words, carried = 0;
    for (size_t left = args->pixels - 1; left; left--) {
        BC_UNROLL
        for (int i = 0; i < PACK_ALIGNED_WORDS; i++, source += 64)
            carried = take_shifted(mode, source, &kept[i], lead, carried, words++, watched);
        for (size_t i = PACK_ALIGNED_WORDS; i < whole; i++, source += 64) {
            const pack_piece piece = load_piece(mode, limits, i, PACK_PARTS, 0);
            carried = take_shifted(mode, source, &piece, lead, carried, words++, watched);
        }
    }
    /* The first pixel began with channels that nothing was carried of. */
    bc_pack_args ends = *args;
    ends.pixels = 2;
    ends.source_stride *= (ptrdiff_t)(args->pixels - 1);
    ends.words_stride *= (ptrdiff_t)(args->pixels - 1);
    take_wide(mode, &ends, 0, watched);
}

/* From word `word` on, `parts` of pixels that lie side by side, as many bytes being asked for, from `ahead` bytes after the tile
 * on. Returns where these end. */
BC_FORCE_INLINE size_t take_strip(pack_mode mode, const bc_pack_args *tile, size_t word, int parts,
                                  size_t last, size_t ahead, floats *watched) {
    const pack_piece piece = load_piece(mode, (pack_limits){tile->threshold, tile->flip}, word, parts, last);
    const float *source = tile->source + 64 * word;
    const float *const end = tile->source + (ptrdiff_t)tile->pixels * tile->source_stride;
    uint64_t *words = tile->words + word;
    const ptrdiff_t source_stride = tile->source_stride, words_stride = tile->words_stride;
    for (size_t left = tile->pixels; left; left--, source += source_stride, words += words_stride) {
        BC_UNROLL
        for (int i = 0; i < parts; i++, ahead += LANES * sizeof *source) ask_for(end, ahead);
        take_word(mode, source, &piece, words, watched);
    }
    return ahead;
}

/* What take_wide does, a word of up to `most` pixels at a time, which lie side by side. */
BC_FORCE_INLINE void take_strips(pack_mode mode, const bc_pack_args *args, int parts, size_t most,
                                 floats *watched) {
    bc_pack_args tile = *args;
    const size_t whole = args->channels / 64, last = args->channels % LANES;
    for (size_t left = args->pixels; left; left -= tile.pixels) {
        tile.pixels = left < most ? left : most;
        size_t ahead = 0;
        for (size_t word = 0; word < whole; word++)
            ahead = take_strip(mode, &tile, word, PACK_PARTS, 0, ahead, watched);
        if (parts) take_strip(mode, &tile, whole, parts, last, ahead, watched);
        tile.source += (ptrdiff_t)tile.pixels * tile.source_stride;
        tile.words += (ptrdiff_t)tile.pixels * tile.words_stride;
    }
}

/* Whole parts are a loop of their own, in which nothing is masked. */
#define KEPT(PARTS)                                                                \
    case PARTS:                                                                    \
        if (PARTS > PACK_KEPT_PARTS) break;                                        \
        if (last)                                                                  \
            take_kept(mode, args, (PARTS) % (PACK_KEPT_PARTS + 1), last, watched); \
        else                                                                       \
            take_kept(mode, args, (PARTS) % (PACK_KEPT_PARTS + 1), 0, watched);    \
        return

#define WIDE(PARTS)                                                \
    case PARTS:                                                    \
        if (strip_pixels > 1)                                      \
            take_strips(mode, args, PARTS, strip_pixels, watched); \
        else                                                       \
            take_wide(mode, args, PARTS, watched);                 \
        return

/* The number of parts is a constant in each call, to be unrolled. */
BC_FORCE_INLINE void take_pixels(pack_mode mode, const bc_pack_args *args, floats *watched) {
    const size_t channels = args->channels, last = channels % LANES;
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
    /* The fewest that take so many bytes. */
    const size_t pixel_bytes = channels * sizeof *args->source;
    const int strips = PACK_STRIP_BYTES && args->source_stride == (ptrdiff_t)channels && args->pixels > 1;
    const size_t strip_pixels = strips ? (PACK_STRIP_BYTES + pixel_bytes - 1) / pixel_bytes : 1;
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

BC_NO_INLINE void take_aligned_signs(const bc_pack_args *args) { take_aligned(PACK_SIGNS, args, NULL); }
BC_NO_INLINE void take_aligned_above(const bc_pack_args *args) { take_aligned(PACK_ABOVE, args, NULL); }

static void take_signs(const bc_pack_args *args) {
    if (reads_aligned(args, args->pixels))
        take_aligned_signs(args);
    else
        take_pixels(PACK_SIGNS, args, NULL);
}

static void take_above(const bc_pack_args *args) {
    if (reads_aligned(args, args->pixels))
        take_aligned_above(args);
    else
        take_pixels(PACK_ABOVE, args, NULL);
}

/* The bits of what is not finite, one by one. */
static void repair(const bc_pack_args *args) {
    for (size_t pixel = 0; pixel < args->pixels; pixel++) {
        const float *source = args->source + (ptrdiff_t)pixel * args->source_stride;
        uint64_t *words = args->words + (ptrdiff_t)pixel * args->words_stride;
        for (size_t c = 0; c < args->channels; c++) {
            const float x = source[c];
            if (isfinite(x)) continue;
            const uint64_t place = UINT64_C(1) << c % 64;
            const int bit = isnan(x) || !(x < args->threshold[c]) != ((args->flip[c / 64] & place) != 0);
            words[c / 64] = (words[c / 64] & ~place) | (bit ? place : 0);
        }
    }
}

BC_FORCE_INLINE void watch_nothing(floats *watched) {
    BC_UNROLL
    for (int i = 0; i < PACK_WATCHED; i++) watched[i] = spread(0.0f);
}

/* Not finite where something of the source is not. */
BC_FORCE_INLINE floats watched_sum(floats *watched) {
    BC_UNROLL
    for (int i = 1; i < PACK_WATCHED; i++) watched[0] = add_magnitude(watched[0], watched[i]);
    return watched[0];
}

BC_FORCE_INLINE bc_pack_args pixels_of(const bc_pack_args *args, size_t first, size_t pixels) {
    bc_pack_args part = *args;
    part.pixels = pixels;
    part.source += (ptrdiff_t)first * part.source_stride;
    part.words += (ptrdiff_t)first * part.words_stride;
    return part;
}

BC_FORCE_INLINE floats take_watched(const bc_pack_args *args, size_t first, size_t pixels, int aligned) {
    const bc_pack_args tile = pixels_of(args, first, pixels);
    floats watched[PACK_WATCHED];
    watch_nothing(watched);
    if (aligned)
        take_aligned(PACK_EITHER, &tile, watched);
    else
        take_pixels(PACK_EITHER, &tile, watched);
    return watched_sum(watched);
}

BC_NO_INLINE floats take_aligned_either(const bc_pack_args *args, size_t first, size_t pixels) {
    return take_watched(args, first, pixels, 1);
}

static void take_either(const bc_pack_args *args) {
    size_t most = PACK_TILE_CHANNELS / (args->channels ? args->channels : 1);
    if (most == 0) most = 1;
    for (size_t first = 0, pixels; first < args->pixels; first += pixels) {
        pixels = args->pixels - first < most ? args->pixels - first : most;
        const floats watched = reads_aligned(args, pixels) ? take_aligned_either(args, first, pixels)
                                                           : take_watched(args, first, pixels, 0);
        if (all_finite(watched)) continue;
        const bc_pack_args tile = pixels_of(args, first, pixels);
        repair(&tile);
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
    uint64_t flip;
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
        if (args->flip) wide->flip |= (args->flip[0] & bc_low_bits(args->channels)) << at;
    }
    if (args->threshold) made.threshold = wide->threshold;
    if (args->flip) made.flip = &wide->flip;
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
