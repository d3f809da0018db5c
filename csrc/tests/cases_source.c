/* Kernels that read the source: widening, packing, terms, gathering bits, and back from bits to values. */
#include <math.h>
#include <string.h>

#include "cases.h"
#include "input_threshold.h"

/* ---- Widening ------------------------------------------------------------------------------------- */

float reference_from_f16(uint16_t half) {
    const int exponent = half >> 10 & 31, fraction = half & 1023;
    const float sign = half >> 15 ? -1.0f : 1.0f;
    if (exponent == 31) return fraction ? NAN : sign * INFINITY;
    if (exponent == 0) return sign * ldexpf((float)fraction, -24);
    return sign * ldexpf((float)(1024 + fraction), exponent - 25);
}

uint16_t reference_to_f16(float value) {
    const uint16_t sign = signbit(value) ? 0x8000 : 0;
    const double magnitude = fabs((double)value);
    if (isnan(value)) return sign | 0x7e00;
    if (magnitude >= 65520.0) return sign | 0x7c00;
    int exponent;
    frexp(magnitude, &exponent);
    /* The last place of a float16 of this size is 2^place. */
    int place = exponent - 11 < -24 ? -24 : exponent - 11;
    const double quotient =
        ldexp(magnitude, -place); /* below 2048; adding and taking away 2^52 rounds to even */
    double rounded = quotient + 0x1p52 - 0x1p52;
    if (rounded == 2048.0) {
        rounded = 1024.0;
        place++;
    }
    if (rounded < 1024.0) return sign | (uint16_t)rounded;
    return sign | (uint16_t)((place + 25) << 10) | (uint16_t)((int)rounded - 1024);
}

static float widen(bc_format format, const void *source, size_t i) {
    if (format == BC_UNORM8) return (float)((const uint8_t *)source)[i] / 255.0f;
    return reference_from_f16(((const uint16_t *)source)[i]);
}

static void widening_case(void (*kernel)(const bc_widen_args *), bc_format format, size_t count,
                          int ordered) {
    case_begin("count %zu%s", count, ordered ? ", every value" : "");
    const size_t size = format == BC_UNORM8 ? 1 : 2;
    unsigned char *source = memory_input(count * size);
    for (size_t i = 0; i < count; i++) {
        const uint16_t value = ordered ? (uint16_t)i : (uint16_t)random_u64();
        if (format == BC_UNORM8)
            source[i] = (uint8_t)value;
        else
            memcpy(source + 2 * i, &value, sizeof value);
    }
    float *expected = memory_input(count * sizeof *expected);
    for (size_t i = 0; i < count; i++) expected[i] = widen(format, source, i);
    float *destination = memory_output(count * sizeof *destination);
    kernel(&(bc_widen_args){.source = source, .count = count, .destination = destination});
    expect_f32("destination", destination, expected, count);
    case_end();
}

static void widening_cases(void (*kernel)(const bc_widen_args *), bc_format format) {
    widening_case(kernel, format, format == BC_UNORM8 ? 256 : 65536, 1);
    for (size_t count = 0; count <= 67; count++)
        for (int twice = 0; twice < 2; twice++) widening_case(kernel, format, count, 0);
}

void test_widen_f16(const subject *isa) { widening_cases(isa->kernels->widen_f16, BC_FLOAT16); }
void test_widen_u8(const subject *isa) { widening_cases(isa->kernels->widen_u8, BC_UNORM8); }

static void bench_widening(bench *timer, void (*kernel)(const bc_widen_args *)) {
    static uint16_t source[4096];
    static float destination[4096];
    const bc_widen_args args = {.source = source, .count = 4096, .destination = destination};
    BENCH(timer, kernel(&args), "4096 values", 4096, "values");
}

void bench_widen_f16(bench *timer, const bc_kernels *kernels) { bench_widening(timer, kernels->widen_f16); }
void bench_widen_u8(bench *timer, const bc_kernels *kernels) { bench_widening(timer, kernels->widen_u8); }

/* ---- Packing and terms ---------------------------------------------------------------------------- */

/* A source of floats with its terms, which both kernels take. */
typedef struct source_case {
    size_t pixels, channels;
    ptrdiff_t stride;
    const float *source, *bias, *scale;
    float *abs_sum, *abs_sum_before;
} source_case;

static source_case make_source(size_t pixels, size_t channels, size_t variant, size_t stride_kind) {
    source_case made = {.pixels = pixels, .channels = channels};
    made.stride = stride_of_kind(stride_kind, channels);
    const float_pattern pattern = (float_pattern)(variant / 4 % FLOAT_PATTERNS);
    const strided source = memory_strided_input(pixels, channels, made.stride, sizeof(float));
    fill_floats(source.block, source.elements, pattern);
    made.source = source.first;
    if (variant % 2) {
        float *bias = memory_input(channels * sizeof *bias), *scale = memory_input(channels * sizeof *scale);
        fill_floats(bias, channels, FLOATS_FINITE);
        fill_floats(scale, channels, pattern == FLOATS_SPECIAL ? FLOATS_SPECIAL : FLOATS_ORDINARY);
        made.bias = bias;
        made.scale = scale;
    }
    if (variant / 2 % 2) {
        made.abs_sum = memory_output(pixels * sizeof(float));
        made.abs_sum_before = memory_input(pixels * sizeof(float));
        for (size_t i = 0; i < pixels; i++) made.abs_sum[i] = made.abs_sum_before[i] = (float)i;
    }
    return made;
}

static float value_of(const source_case *source, size_t pixel, size_t channel) {
    const float value = source->source[(ptrdiff_t)pixel * source->stride + (ptrdiff_t)channel];
    if (!source->bias) return value;
    const float shifted = value + source->bias[channel];
    return shifted * source->scale[channel];
}

static void expect_abs_sum(const source_case *source) {
    if (!source->abs_sum) return;
    for (size_t pixel = 0; pixel < source->pixels; pixel++) {
        double sum = source->abs_sum_before[pixel];
        for (size_t c = 0; c < source->channels; c++) sum += fabs((double)value_of(source, pixel, c));
        const double roundings = (double)source->channels + 1;
        expect_near("abs_sum", pixel, source->abs_sum[pixel], sum, roundings * 0x1p-24 * sum);
    }
}

/* What pack_f32 compares with, where there are no sums, and sources that are often just that or next to it. */
typedef struct limits {
    float *threshold;
    uint64_t *flip;
} limits;

static limits make_limits(const source_case *source, size_t variant, size_t kind) {
    limits made = {NULL, NULL};
    if (variant % 2 == 0 || source->abs_sum) return made;
    made.threshold = memory_padded_input(source->channels, sizeof *made.threshold);
    fill_floats(made.threshold, source->channels, (float_pattern)(variant / 4 % FLOAT_PATTERNS));
    const size_t words = divide_up(source->channels, 64);
    if (kind % 3) {
        made.flip = memory_input(words * sizeof *made.flip);
        fill_words(made.flip, words, kind % 3 == 1 ? BITS_ONE : BITS_RANDOM);
    }
    for (size_t c = 0; c < source->channels; c++) {
        float *threshold = &made.threshold[c];
        if (isnan(*threshold) || *threshold == 0.0f) *threshold = -0.0f;
        float *first = (float *)(uintptr_t)source->source + c; /* it was made a moment ago */
        for (size_t pixel = 0; pixel < source->pixels; pixel++) {
            const float beside[] = {*threshold, nextafterf(*threshold, INFINITY),
                                    nextafterf(*threshold, -INFINITY)};
            if (random_below(2)) first[(ptrdiff_t)pixel * source->stride] = beside[random_below(3)];
        }
    }
    return made;
}

static int packed_bit(const source_case *source, const limits *against, size_t pixel, size_t channel) {
    if (source->abs_sum) return !(value_of(source, pixel, channel) < 0.0f);
    const float x = source->source[(ptrdiff_t)pixel * source->stride + (ptrdiff_t)channel];
    const int flips = against->flip && bit_of(against->flip, channel);
    if (isnan(x)) return 1;
    return flips ^ (x >= (against->threshold ? against->threshold[channel] : 0.0f));
}

static void expect_packed(const subject *isa, const source_case *source, const limits *against,
                          size_t words_stride) {
    const size_t pixels = source->pixels, channels = source->channels, words = divide_up(channels, 64);
    const size_t total = pixels ? (pixels - 1) * words_stride + words : 0;
    uint64_t *expected = memory_input(total * sizeof *expected);
    memset(expected, MEMORY_FILL, total * sizeof *expected);
    for (size_t pixel = 0; pixel < pixels; pixel++) {
        uint64_t *row = expected + pixel * words_stride;
        memset(row, 0, words * sizeof *row);
        for (size_t c = 0; c < channels; c++)
            row[c / 64] |= (uint64_t)packed_bit(source, against, pixel, c) << c % 64;
    }
    uint64_t *actual = memory_output(total * sizeof *actual);
    isa->kernels->pack_f32(&(bc_pack_args){.source = source->source,
                                           .source_stride = source->stride,
                                           .pixels = pixels,
                                           .channels = channels,
                                           .threshold = against->threshold,
                                           .flip = against->flip,
                                           .bias = source->bias,
                                           .scale = source->scale,
                                           .words = actual,
                                           .words_stride = (ptrdiff_t)words_stride,
                                           .abs_sum = source->abs_sum});
    expect_u64("words", actual, expected, total);
}

static void pack_case(const subject *isa, size_t pixels, size_t channels, size_t variant,
                      size_t stride_kind) {
    case_begin("pixels %zu, channels %zu, variant %zu, stride kind %zu", pixels, channels, variant,
               stride_kind);
    const source_case source = make_source(pixels, channels, variant, stride_kind);
    const limits against = make_limits(&source, variant, random_below(3));
    expect_packed(isa, &source, &against,
                  divide_up(channels, 64) + (variant + stride_kind / STRIDE_KINDS) % 3);
    expect_abs_sum(&source);
    case_end();
}

/* Side by side, and so many that it is worth while to read them from where a vector begins. */
static void aligned_pack_case(const subject *isa, size_t channels, size_t after, float_pattern pattern,
                              int compares, size_t kind) {
    const size_t pixels = 12288 / channels + 1 + random_below(40), values = pixels * channels;
    case_begin("pixels %zu, channels %zu, %zu floats after them, pattern %d, compares %d, kind %zu", pixels,
               channels, after, (int)pattern, compares, kind);
    float *source = memory_input((values + after) * sizeof *source);
    fill_floats(source, values + after, pattern);
    const source_case made = {
        .pixels = pixels, .channels = channels, .stride = (ptrdiff_t)channels, .source = source};
    const limits against = make_limits(&made, (size_t)compares + 4 * (size_t)pattern, kind);
    expect_packed(isa, &made, &against, divide_up(channels, 64));
    case_end();
}

static void aligned_pack_cases(const subject *isa) {
    static const size_t channels[] = {128, 192, 256, 320, 512, 1024, 2048, 2112};
    size_t kind = 0;
    for (size_t i = 0; i < sizeof channels / sizeof *channels; i++)
        for (size_t after = 0; after < 17; after++)
            for (size_t pattern = 0; pattern < FLOAT_PATTERNS; pattern++) {
                aligned_pack_case(isa, channels[i], after, (float_pattern)pattern, 1, kind++);
                aligned_pack_case(isa, channels[i], after, (float_pattern)pattern, 0, 0);
            }
}

static void terms_case(const subject *isa, size_t pixels, size_t channels, size_t variant,
                       size_t stride_kind) {
    case_begin("pixels %zu, channels %zu, variant %zu, stride kind %zu", pixels, channels, variant,
               stride_kind);
    const source_case source = make_source(pixels, channels, variant, stride_kind);
    const size_t row = channels + (variant + stride_kind / STRIDE_KINDS) % 3;
    const size_t total = pixels ? (pixels - 1) * row + channels : 0;

    float *expected = memory_input(total * sizeof *expected);
    memset(expected, MEMORY_FILL, total * sizeof *expected);
    for (size_t pixel = 0; pixel < pixels; pixel++)
        for (size_t c = 0; c < channels; c++) expected[pixel * row + c] = value_of(&source, pixel, c);
    float *actual = memory_output(total * sizeof *actual);
    isa->kernels->terms_f32(&(bc_terms_args){.source = source.source,
                                             .source_stride = source.stride,
                                             .pixels = pixels,
                                             .channels = channels,
                                             .bias = source.bias,
                                             .scale = source.scale,
                                             .destination = actual,
                                             .destination_stride = (ptrdiff_t)row,
                                             .abs_sum = source.abs_sum});
    expect_f32("destination", actual, expected, total);
    expect_abs_sum(&source);
    case_end();
}

/* 4 (terms, abs_sum) times the kinds of numbers. */
enum { SOURCE_VARIANTS = 4 * FLOAT_PATTERNS };

typedef void source_test(const subject *isa, size_t pixels, size_t channels, size_t variant,
                         size_t stride_kind);

/* Where vectors, halves of words and blocks of words end, and pixels of which several lie in a word. */
static void widths_of_source(const subject *isa, source_test *one) {
    static const size_t channels[] = {4,  5,  6,  7,  8,  9,  10, 12,  15,  16,  17,  20,  21,  24,  30,
                                      47, 48, 49, 80, 95, 96, 97, 100, 191, 192, 193, 240, 320, 384, 448};
    static const size_t many[] = {63, 64, 65, 130, 519, 1030};
    size_t stride_kind = 0;
    for (size_t i = 0; i < sizeof channels / sizeof *channels; i++)
        for (size_t variant = 0; variant < SOURCE_VARIANTS; variant++) {
            one(isa, 1 + random_below(9), channels[i], variant, stride_kind++);
            one(isa, 10 + random_below(30), channels[i], variant, stride_kind++);
        }
    /* Side by side, read and written. */
    for (size_t width = 1; width <= 65; width++)
        for (size_t i = 0; i < sizeof many / sizeof *many; i++)
            for (size_t kinds = 0; kinds < 4; kinds++) {
                const size_t variant = kinds + 4 * random_below(FLOAT_PATTERNS);
                one(isa, many[i], width, variant, (3 - variant % 3) * STRIDE_KINDS);
            }
}

static void source_cases(const subject *isa, source_test *one) {
    size_t stride_kind = 0;
    for (const size_t *channels = channel_sizes; *channels; channels++) {
        for (size_t variant = 0; variant < SOURCE_VARIANTS; variant++)
            one(isa, 1 + random_below(3), *channels, variant, stride_kind++);
        for (const size_t *pixels = pixel_sizes; *pixels != END_OF_SIZES; pixels++)
            one(isa, *pixels, *channels, random_below(SOURCE_VARIANTS), stride_kind++);
    }
    one(isa, 3, 0, 2, 0); /* no channels: abs_sum stays */
    widths_of_source(isa, one);
}

/* Every combination of what is near zero, near infinity or neither: each rounding counts, and so does the sign of what is
 * too small to be told from zero. Pixels are one number each, from the one numbered `first` on. */
enum { SPECIAL = 18 };

static void special_terms_case(const subject *isa, size_t first, size_t pixels, int negative) {
    static const float special[SPECIAL] = {
        0.0f,      -0.0f, 0x1p-149f, -0x1p-149f, 0x1p-126f, 0x1.fffffep-2f, -0.5f,           0x1p-24f,
        1.0f,      -1.0f, 3.0f,      -1e30f,     1e-30f,    INFINITY,       0x1.fffffep127f, -0x1.fffffep127f,
        -INFINITY, NAN};
    enum { CHANNELS = SPECIAL * SPECIAL, WORDS = (CHANNELS + 63) / 64 };
    case_begin("special terms, %zu pixels from %zu, %s", pixels, first, negative ? "both signs" : "positive");
    float *bias = memory_input(CHANNELS * sizeof *bias), *scale = memory_input(CHANNELS * sizeof *scale);
    for (size_t c = 0; c < CHANNELS; c++) {
        bias[c] = special[c / SPECIAL];
        scale[c] = negative ? special[c % SPECIAL] : fabsf(special[c % SPECIAL]);
    }
    bc_input_thresholds thresholds;
    if (bc_input_thresholds_create(bias, scale, CHANNELS, &thresholds) != BC_OK) fail("no thresholds");
    if ((thresholds.flip != NULL) != negative) fail("flips: %d", thresholds.flip != NULL);
    float *source = memory_input(pixels * CHANNELS * sizeof *source);
    for (size_t i = 0; i < pixels * CHANNELS; i++) {
        const float x = special[(first + i / CHANNELS) % SPECIAL];
        source[i] = first < SPECIAL ? x : -x; /* -NAN too */
    }
    uint64_t *expected = memory_input(pixels * WORDS * sizeof *expected);
    memset(expected, 0, pixels * WORDS * sizeof *expected);
    const source_case made = {pixels, CHANNELS, CHANNELS, source, bias, scale, NULL, NULL};
    for (size_t pixel = 0; pixel < pixels; pixel++)
        for (size_t c = 0; c < CHANNELS; c++)
            if (!(value_of(&made, pixel, c) < 0.0f))
                expected[pixel * WORDS + c / 64] |= UINT64_C(1) << c % 64;
    uint64_t *actual = memory_output(pixels * WORDS * sizeof *actual);
    isa->kernels->pack_f32(&(bc_pack_args){.source = source,
                                           .source_stride = CHANNELS,
                                           .pixels = pixels,
                                           .channels = CHANNELS,
                                           .threshold = thresholds.threshold,
                                           .flip = thresholds.flip,
                                           .words = actual,
                                           .words_stride = WORDS});
    expect_u64("words", actual, expected, pixels * WORDS);
    bc_input_thresholds_free(&thresholds);
    case_end();
}

/* Sources that are finite, and thresholds that may not be, are never repaired; so each goes by itself too. */
void test_pack_f32(const subject *isa) {
    source_cases(isa, pack_case);
    aligned_pack_cases(isa);
    for (int negative = 0; negative < 2; negative++) {
        for (size_t first = 0; first < 2 * SPECIAL; first++) special_terms_case(isa, first, 1, negative);
        special_terms_case(isa, 0, 3 * SPECIAL, negative);
    }
}
void test_terms_f32(const subject *isa) { source_cases(isa, terms_case); }

enum { BENCH_PIXELS = 56, BENCH_CHANNELS = 256 };
static float bench_source[BENCH_PIXELS * BENCH_CHANNELS], bench_terms[BENCH_CHANNELS + BC_SLACK];
static float bench_floats[BENCH_PIXELS * BENCH_CHANNELS], bench_sums[BENCH_PIXELS];
static uint64_t bench_words[BENCH_PIXELS * BENCH_CHANNELS / 64];

void bench_pack_f32(bench *timer, const bc_kernels *kernels) {
    static uint64_t flips[BENCH_CHANNELS / 64];
    bc_pack_args args = {.source = bench_source,
                         .source_stride = BENCH_CHANNELS,
                         .pixels = BENCH_PIXELS,
                         .channels = BENCH_CHANNELS,
                         .bias = bench_terms,
                         .scale = bench_terms,
                         .words = bench_words,
                         .words_stride = BENCH_CHANNELS / 64};
    const double values = BENCH_PIXELS * BENCH_CHANNELS;
    BENCH(timer, kernels->pack_f32(&args), "56 pixels x 256", values, "values");
    args.threshold = bench_terms;
    BENCH(timer, kernels->pack_f32(&args), "56 pixels x 256, thresholds", values, "values");
    args.flip = flips;
    BENCH(timer, kernels->pack_f32(&args), "56 pixels x 256, thresholds, flips", values, "values");
    args.abs_sum = bench_sums;
    BENCH(timer, kernels->pack_f32(&args), "56 pixels x 256, terms, abs_sum", values, "values");
}

void bench_terms_f32(bench *timer, const bc_kernels *kernels) {
    const bc_terms_args args = {.source = bench_source,
                                .source_stride = BENCH_CHANNELS,
                                .pixels = BENCH_PIXELS,
                                .channels = BENCH_CHANNELS,
                                .bias = bench_terms,
                                .scale = bench_terms,
                                .destination = bench_floats,
                                .destination_stride = BENCH_CHANNELS,
                                .abs_sum = bench_sums};
    BENCH(timer, kernels->terms_f32(&args), "56 pixels x 256, terms, abs_sum", BENCH_PIXELS * BENCH_CHANNELS,
          "values");
}

/* ---- Gathering bits ------------------------------------------------------------------------------- */

typedef struct gather_sizes {
    size_t pixels, groups, taps, bits;
    ptrdiff_t pixel_step_bits;
    int slides; /* taps are a pixel's step apart; otherwise anywhere */
} gather_sizes;

static void gather_case(const subject *isa, gather_sizes sizes) {
    case_begin("pixels %zu, groups %zu, taps %zu, bits %zu, step %td, slides %d", sizes.pixels, sizes.groups,
               sizes.taps, sizes.bits, sizes.pixel_step_bits, sizes.slides);
    const size_t words = divide_up(sizes.taps * sizes.bits, 64), extra = random_below(3) / 2;
    const size_t pixel_stride = sizes.groups + extra, word_stride = pixel_stride * sizes.pixels + extra;
    ptrdiff_t *tap_bit = memory_input(sizes.taps * sizeof *tap_bit);
    ptrdiff_t least = 0, most = 0;
    for (size_t t = 0; t < sizes.taps; t++) {
        tap_bit[t] = sizes.slides ? (ptrdiff_t)t * sizes.pixel_step_bits : (ptrdiff_t)random_below(700) - 300;
        least = t == 0 || tap_bit[t] < least ? tap_bit[t] : least;
        most = t == 0 || tap_bit[t] > most ? tap_bit[t] : most;
    }
    const ptrdiff_t last_pixel = sizes.pixels ? (ptrdiff_t)(sizes.pixels - 1) * sizes.pixel_step_bits : 0;
    least += last_pixel < 0 ? last_pixel : 0;
    most += (last_pixel > 0 ? last_pixel : 0) + (ptrdiff_t)(sizes.groups * sizes.bits);

    /* Only the words from the first to the last that hold wanted bits are there. */
    const ptrdiff_t first_bit = (ptrdiff_t)random_below(200) - least;
    const size_t first_word = (size_t)(first_bit + least) / 64;
    const size_t source_words =
        words && sizes.pixels && sizes.groups ? divide_up((size_t)(first_bit + most), 64) - first_word : 0;
    uint64_t *source = memory_input(source_words * sizeof *source);
    fill_words(source, source_words, random_below(4) ? BITS_RANDOM : (bit_pattern)random_below(BIT_PATTERNS));

    const size_t total = words && sizes.pixels && sizes.groups
                             ? (words - 1) * word_stride + (sizes.pixels - 1) * pixel_stride + sizes.groups
                             : 0;
    uint64_t *expected = memory_input(total * sizeof *expected);
    memset(expected, MEMORY_FILL, total * sizeof *expected);
    for (size_t pixel = 0; total && pixel < sizes.pixels; pixel++)
        for (size_t group = 0; group < sizes.groups; group++) {
            uint64_t *wanted = expected + pixel * pixel_stride + group;
            for (size_t k = 0; k < words; k++) wanted[k * word_stride] = 0;
            for (size_t bit = 0; bit < sizes.taps * sizes.bits; bit++) {
                const ptrdiff_t at = first_bit + (ptrdiff_t)pixel * sizes.pixel_step_bits +
                                     tap_bit[bit / sizes.bits] +
                                     (ptrdiff_t)(group * sizes.bits + bit % sizes.bits);
                wanted[bit / 64 * word_stride] |= (uint64_t)bit_of(source, (size_t)at - 64 * first_word)
                                                  << bit % 64;
            }
        }
    uint64_t *actual = memory_output(total * sizeof *actual);
    isa->kernels->gather_bits(
        &(bc_gather_args){.source = (const uint64_t *)((uintptr_t)source - first_word * sizeof *source),
                          .first_bit = first_bit,
                          .pixel_step_bits = sizes.pixel_step_bits,
                          .tap_bit = tap_bit,
                          .taps = sizes.taps,
                          .bits = sizes.bits,
                          .groups = sizes.groups,
                          .pixels = sizes.pixels,
                          .destination = actual,
                          .pixel_stride = pixel_stride,
                          .word_stride = word_stride});
    expect_u64("destination", actual, expected, total);
    case_end();
}

void test_gather_bits(const subject *isa) {
    static const size_t groups[] = {1, 2, 3, 4, 5, 7, 8, 9, 17};
    static const ptrdiff_t steps[] = {0, 1, 3, 16, 33, 48, 64, 96, 128, 500, 640, -1, -64, -100};
    enum { GROUPS = sizeof groups / sizeof groups[0], STEPS = sizeof steps / sizeof steps[0] };
    for (const size_t *bits = channel_sizes; *bits; bits++) {
        for (size_t step = 0; step < STEPS; step++)
            for (int slides = 0; slides < 2; slides++)
                gather_case(isa, (gather_sizes){random_below(20), groups[random_below(GROUPS)],
                                                random_below(8), *bits, steps[step], slides});
        for (const size_t *pixels = pixel_sizes; *pixels != END_OF_SIZES; pixels++)
            for (size_t i = 0; i < GROUPS; i++)
                gather_case(isa, (gather_sizes){*pixels, groups[i], 1 + random_below(3), *bits,
                                                steps[random_below(STEPS)], (int)random_below(2)});
    }
    /* Words that many small fields share, and fields that end where words do. */
    for (size_t taps = 0; taps <= 70; taps++)
        for (size_t bits = 1; bits <= 16; bits += 1 + bits / 4)
            gather_case(isa, (gather_sizes){9, 1 + taps % 3, taps, bits, (ptrdiff_t)(taps % 5 * bits), 0});
    gather_case(isa, (gather_sizes){5, 2, 3, 0, 64, 0});
    gather_case(isa, (gather_sizes){5, 0, 3, 7, 64, 0});
}

void bench_gather_bits(bench *timer, const bc_kernels *kernels) {
    static uint64_t source[3 * BENCH_PIXELS * 2];
    static const ptrdiff_t taps[] = {0, 128, 256};
    bc_gather_args args = {.source = source,
                           .pixel_step_bits = 128,
                           .tap_bit = taps,
                           .taps = 3,
                           .bits = 16,
                           .groups = 8,
                           .pixels = BENCH_PIXELS,
                           .destination = bench_words,
                           .pixel_stride = 8,
                           .word_stride = 0};
    BENCH(timer, kernels->gather_bits(&args), "56 pixels x 8 groups x 3 fields of 16 bits",
          BENCH_PIXELS * 8 * 3 * 16, "bits");
    args.pixel_step_bits = 6;
    args.taps = args.groups = args.pixel_stride = 1;
    args.bits = 21;
    BENCH(timer, kernels->gather_bits(&args), "56 pixels x 21 bits, 6 bits apart", BENCH_PIXELS * 21, "bits");
}

/* ---- Bits to values ------------------------------------------------------------------------------- */

static void unpack_case(const subject *isa, size_t pixels, size_t channels, bit_pattern pattern) {
    case_begin("pixels %zu, channels %zu, pattern %d", pixels, channels, (int)pattern);
    const size_t words = divide_up(channels, 64), total = pixels * channels;
    uint64_t *source = memory_input(pixels * words * sizeof *source);
    fill_words(source, pixels * words, pattern); /* also past the last channel */
    int8_t *expected = memory_input(total);
    for (size_t pixel = 0; pixel < pixels; pixel++)
        for (size_t c = 0; c < channels; c++)
            expected[pixel * channels + c] = bit_of(source + pixel * words, c) ? 1 : -1;
    int8_t *actual = memory_output(total);
    isa->kernels->unpack_i8(
        &(bc_unpack_args){.words = source, .pixels = pixels, .channels = channels, .values = actual});
    expect_i8("values", actual, expected, total);
    case_end();
}

void test_unpack_i8(const subject *isa) {
    for (const size_t *channels = channel_sizes; *channels; channels++) {
        for (int pattern = 0; pattern < BIT_PATTERNS; pattern++)
            unpack_case(isa, 2, *channels, (bit_pattern)pattern);
        for (const size_t *pixels = pixel_sizes; *pixels != END_OF_SIZES; pixels++)
            unpack_case(isa, *pixels, *channels, BITS_RANDOM);
    }
}

void bench_unpack_i8(bench *timer, const bc_kernels *kernels) {
    static int8_t values[BENCH_PIXELS * BENCH_CHANNELS];
    const bc_unpack_args args = {
        .words = bench_words, .pixels = BENCH_PIXELS, .channels = BENCH_CHANNELS, .values = values};
    BENCH(timer, kernels->unpack_i8(&args), "56 pixels x 256", BENCH_PIXELS * BENCH_CHANNELS, "values");
}
