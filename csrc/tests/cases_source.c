/* Kernels that read the source: widening, packing, terms, slices, and back from bits to values. */
#include <math.h>
#include <string.h>

#include "cases.h"

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

static void pack_case(const subject *isa, size_t pixels, size_t channels, size_t variant,
                      size_t stride_kind) {
    case_begin("pixels %zu, channels %zu, variant %zu, stride kind %zu", pixels, channels, variant,
               stride_kind);
    const source_case source = make_source(pixels, channels, variant, stride_kind);
    const size_t words = divide_up(channels, 64), words_stride = words + variant % 3;
    const size_t total = pixels ? (pixels - 1) * words_stride + words : 0;

    uint64_t *expected = memory_input(total * sizeof *expected);
    memset(expected, MEMORY_FILL, total * sizeof *expected);
    for (size_t pixel = 0; pixel < pixels; pixel++) {
        uint64_t *row = expected + pixel * words_stride;
        memset(row, 0, words * sizeof *row);
        for (size_t c = 0; c < channels; c++)
            row[c / 64] |= (uint64_t)(value_of(&source, pixel, c) < 0.0f ? 0 : 1) << c % 64;
    }
    uint64_t *actual = memory_output(total * sizeof *actual);
    isa->kernels->pack_f32(&(bc_pack_args){.source = source.source,
                                           .source_stride = source.stride,
                                           .pixels = pixels,
                                           .channels = channels,
                                           .bias = source.bias,
                                           .scale = source.scale,
                                           .words = actual,
                                           .words_stride = (ptrdiff_t)words_stride,
                                           .abs_sum = source.abs_sum});
    expect_u64("words", actual, expected, total);
    expect_abs_sum(&source);
    case_end();
}

static void terms_case(const subject *isa, size_t pixels, size_t channels, size_t variant,
                       size_t stride_kind) {
    case_begin("pixels %zu, channels %zu, variant %zu, stride kind %zu", pixels, channels, variant,
               stride_kind);
    const source_case source = make_source(pixels, channels, variant, stride_kind);
    const size_t row = channels + variant % 3;
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

static void source_cases(const subject *isa, void (*one)(const subject *, size_t, size_t, size_t, size_t)) {
    size_t stride_kind = 0;
    for (const size_t *channels = channel_sizes; *channels; channels++) {
        for (size_t variant = 0; variant < SOURCE_VARIANTS; variant++)
            one(isa, 1 + random_below(3), *channels, variant, stride_kind++);
        for (const size_t *pixels = pixel_sizes; *pixels != END_OF_SIZES; pixels++)
            one(isa, *pixels, *channels, random_below(SOURCE_VARIANTS), stride_kind++);
    }
    one(isa, 3, 0, 2, 0); /* no channels: abs_sum stays */
}

void test_pack_f32(const subject *isa) { source_cases(isa, pack_case); }
void test_terms_f32(const subject *isa) { source_cases(isa, terms_case); }

enum { BENCH_PIXELS = 56, BENCH_CHANNELS = 256 };
static float bench_source[BENCH_PIXELS * BENCH_CHANNELS], bench_terms[BENCH_CHANNELS];
static float bench_floats[BENCH_PIXELS * BENCH_CHANNELS], bench_sums[BENCH_PIXELS];
static uint64_t bench_words[BENCH_PIXELS * BENCH_CHANNELS / 64];

void bench_pack_f32(bench *timer, const bc_kernels *kernels) {
    bc_pack_args args = {.source = bench_source,
                         .source_stride = BENCH_CHANNELS,
                         .pixels = BENCH_PIXELS,
                         .channels = BENCH_CHANNELS,
                         .words = bench_words,
                         .words_stride = BENCH_CHANNELS / 64};
    const double values = BENCH_PIXELS * BENCH_CHANNELS;
    BENCH(timer, kernels->pack_f32(&args), "56 pixels x 256", values, "values");
    args.bias = args.scale = bench_terms;
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

/* ---- Slices of bits ------------------------------------------------------------------------------- */

static void slice_case(const subject *isa, size_t pixels, size_t first_bit, size_t bits, size_t stride_kind) {
    case_begin("pixels %zu, bits %zu from %zu, stride kind %zu", pixels, bits, first_bit, stride_kind);
    /* Only the words that hold wanted bits are there: those before would lie in the fence. */
    const size_t first_word = first_bit / 64;
    const size_t row = bits ? (first_bit + bits - 1) / 64 - first_word + 1 : 0;
    const ptrdiff_t stride = stride_of_kind(stride_kind, row);
    const strided source = memory_strided_input(pixels, row, stride, sizeof(uint64_t));
    fill_words(source.block, source.elements, (bit_pattern)random_below(BIT_PATTERNS));
    const uint64_t *first = source.first;

    const size_t words = divide_up(bits, 64), destination_stride = words + random_below(2);
    const size_t total = pixels ? (pixels - 1) * destination_stride + words : 0;
    uint64_t *expected = memory_input(total * sizeof *expected);
    memset(expected, MEMORY_FILL, total * sizeof *expected);
    for (size_t pixel = 0; pixel < pixels; pixel++) {
        uint64_t *wanted = expected + pixel * destination_stride;
        memset(wanted, 0, words * sizeof *wanted);
        for (size_t bit = 0; bit < bits; bit++)
            wanted[bit / 64] |= (uint64_t)bit_of(first + (ptrdiff_t)pixel * stride, first_bit % 64 + bit)
                                << bit % 64;
    }
    uint64_t *actual = memory_output(total * sizeof *actual);
    const uintptr_t word_0 = (uintptr_t)first - first_word * sizeof *first;
    isa->kernels->slice_bits(&(bc_slice_args){.source = (const uint64_t *)word_0,
                                              .source_stride = stride,
                                              .pixels = pixels,
                                              .first_bit = first_bit,
                                              .bits = bits,
                                              .destination = actual,
                                              .destination_stride = (ptrdiff_t)destination_stride});
    expect_u64("destination", actual, expected, total);
    case_end();
}

void test_slice_bits(const subject *isa) {
    static const size_t first_bits[] = {0, 1, 31, 32, 63, 64, 65, 100, 127, 128, 191, 300};
    size_t kind = 0;
    for (const size_t *bits = channel_sizes; *bits; bits++) {
        for (size_t i = 0; i < sizeof first_bits / sizeof first_bits[0]; i++)
            for (size_t pixels = 0; pixels < 4; pixels++)
                slice_case(isa, pixels, first_bits[i], *bits, kind++);
        for (const size_t *pixels = pixel_sizes; *pixels != END_OF_SIZES; pixels++)
            slice_case(isa, *pixels, random_below(200), *bits, kind++);
    }
    slice_case(isa, 3, 70, 0, 0);
}

void bench_slice_bits(bench *timer, const bc_kernels *kernels) {
    static uint64_t source[BENCH_PIXELS * 5];
    const bc_slice_args args = {.source = source,
                                .source_stride = 5,
                                .pixels = BENCH_PIXELS,
                                .first_bit = 33,
                                .bits = BENCH_CHANNELS,
                                .destination = bench_words,
                                .destination_stride = BENCH_CHANNELS / 64};
    BENCH(timer, kernels->slice_bits(&args), "56 pixels x 256 bits from 33", BENCH_PIXELS * BENCH_CHANNELS,
          "bits");
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
