/* The epilogue: sums to results through scale, beta, bias and neuron, in three formats. */
#include <math.h>
#include <string.h>

#include "cases.h"

/* ---- Neurons -------------------------------------------------------------------------------------- */

/* The formulas in float64, written so that nothing cancels that need not. */
static double neuron_f64(const bc_neuron *neuron, double x) {
    const double a = neuron->a, b = neuron->b, c = neuron->c, z = b * x, line = a * x + b;
    switch (neuron->type) {
        case BC_NEURON_SIGMOID:
            return 1.0 / (1.0 + exp(-x));
        case BC_NEURON_TANH:
            return a * tanh(z);
        case BC_NEURON_SOFT_PLUS:
            return a * ((z > 0.0 ? z : 0.0) + log1p(exp(-fabs(z))));
        case BC_NEURON_ELU:
            return x >= 0.0 ? x : a * expm1(x);
        case BC_NEURON_POWER:
            return pow(line, c);
        case BC_NEURON_EXPONENTIAL:
            return c == -1.0 ? exp(line) : pow(c, line);
        case BC_NEURON_LOGARITHM:
            return c == -1.0 ? log(line) : log(line) / log(c);
        case BC_NEURON_GELU:
            return 0.5 * x * erfc(-x / sqrt(2.0));
        default:
            return NAN;
    }
}

/* Those that are computed in float32, operation by operation; 0 for the others. */
static int neuron_f32(const bc_neuron *neuron, size_t channel, float x, float *y) {
    const float a = neuron->type == BC_NEURON_PRELU ? neuron->a_terms[channel] : neuron->a, b = neuron->b;
    const float scaled = a * x, line = scaled + b, leaky = x >= 0.0f ? x : scaled;
    switch (neuron->type) {
        case BC_NEURON_NONE:
            *y = x;
            return 1;
        case BC_NEURON_RELU:
        case BC_NEURON_PRELU:
            *y = leaky;
            return 1;
        case BC_NEURON_RELUN:
            *y = leaky > b ? b : leaky;
            return 1;
        case BC_NEURON_LINEAR:
            *y = line;
            return 1;
        case BC_NEURON_HARD_SIGMOID:
            *y = line < 0.0f ? 0.0f : line > 1.0f ? 1.0f : line;
            return 1;
        case BC_NEURON_ABSOLUTE:
            *y = fabsf(x);
            return 1;
        case BC_NEURON_SOFT_SIGN:
            *y = x / (1.0f + fabsf(x));
            return 1;
        default:
            return 0;
    }
}

static const bc_neuron neurons[] = {
    {BC_NEURON_NONE, 0, 0, 0, NULL},
    {BC_NEURON_RELU, 0.0f, 0, 0, NULL},
    {BC_NEURON_RELU, 0.1f, 0, 0, NULL},
    {BC_NEURON_LINEAR, -1.7f, 0.3f, 0, NULL},
    {BC_NEURON_SIGMOID, 0, 0, 0, NULL},
    {BC_NEURON_HARD_SIGMOID, 0.2f, 0.5f, 0, NULL},
    {BC_NEURON_TANH, 1.7159f, 0.6667f, 0, NULL},
    {BC_NEURON_TANH, -2.0f, 1e-3f, 0, NULL},
    {BC_NEURON_ABSOLUTE, 0, 0, 0, NULL},
    {BC_NEURON_SOFT_PLUS, 1.0f, 1.0f, 0, NULL},
    {BC_NEURON_SOFT_PLUS, -3.0f, -0.5f, 0, NULL},
    {BC_NEURON_SOFT_PLUS, 1e30f, 3.0f, 0, NULL},
    {BC_NEURON_SOFT_SIGN, 0, 0, 0, NULL},
    {BC_NEURON_ELU, 1.0f, 0, 0, NULL},
    {BC_NEURON_ELU, -0.5f, 0, 0, NULL},
    {BC_NEURON_PRELU, 0, 0, 0, NULL},
    {BC_NEURON_RELUN, 0.1f, 6.0f, 0, NULL},
    {BC_NEURON_POWER, 1.0f, 0.0f, 2.0f, NULL},
    {BC_NEURON_POWER, 1.0f, 0.0f, 3.0f, NULL},
    {BC_NEURON_POWER, 2.0f, 1.0f, -2.5f, NULL},
    {BC_NEURON_POWER, 1.0f, 0.0f, -1.0f, NULL},
    {BC_NEURON_POWER, -1.0f, 0.0f, 0.0f, NULL},
    {BC_NEURON_EXPONENTIAL, 1.0f, 0.0f, -1.0f, NULL},
    {BC_NEURON_EXPONENTIAL, 0.5f, -1.0f, 10.0f, NULL},
    {BC_NEURON_EXPONENTIAL, 1.0f, 0.0f, 0.0f, NULL},
    {BC_NEURON_EXPONENTIAL, 1.0f, 0.0f, -2.0f, NULL},
    {BC_NEURON_LOGARITHM, 1.0f, 0.0f, -1.0f, NULL},
    {BC_NEURON_LOGARITHM, 3.0f, 1.0f, 10.0f, NULL},
    {BC_NEURON_LOGARITHM, 1.0f, 0.0f, 0.5f, NULL},
    {BC_NEURON_GELU, 0, 0, 0, NULL},
};
enum { NEURONS = sizeof neurons / sizeof neurons[0] };

static void expect_neuron(const bc_neuron *neuron, size_t channel, float x, float y) {
    float exact;
    if (neuron_f32(neuron, channel, x, &exact))
        expect_f32("neuron", &y, &exact, 1);
    else
        expect_neighbour("neuron", x, y, neuron_f64(neuron, (double)x));
}

/* ---- Whole epilogues ------------------------------------------------------------------------------ */

typedef struct epilogue_sizes {
    size_t pixels, channels;
    int from_counts;
    int with_beta, with_pixel_base, with_pack_terms;
    unsigned count_shift, sum_shift;
    const bc_neuron *neuron;
    float_pattern numbers;
    size_t destination_bit;
} epilogue_sizes;

static float *float_terms(size_t count, float_pattern pattern) {
    float *terms = memory_padded_input(count, sizeof *terms);
    fill_floats(terms, count, pattern);
    return terms;
}

/* Arguments but for the format and destination. */
static bc_epilogue_args make_args(const epilogue_sizes *sizes) {
    const size_t channels = sizes->channels, row = channels + random_below(3);
    const size_t total = sizes->pixels ? (sizes->pixels - 1) * row + channels : 0;
    bc_epilogue_args args = {.row_stride = row,
                             .pixels = sizes->pixels,
                             .channels = channels,
                             .count_shift = sizes->count_shift,
                             .sum_shift = sizes->sum_shift,
                             .scale = float_terms(channels, sizes->numbers),
                             .bias = float_terms(channels, sizes->numbers),
                             .neuron = *sizes->neuron};
    if (sizes->from_counts) {
        int32_t *counts = memory_padded_input(total, sizeof *counts);
        int32_t *channel_base = memory_padded_input(channels, sizeof *channel_base);
        for (size_t i = 0; i < total; i++) counts[i] = (int32_t)random_below(70000);
        for (size_t c = 0; c < channels; c++) channel_base[c] = (int32_t)random_below(70000);
        args.counts = counts;
        args.channel_base = channel_base;
        if (sizes->with_pixel_base) {
            const size_t stride = 1 + random_below(3);
            const size_t bases = sizes->pixels ? (sizes->pixels - 1) * stride + 1 : 0;
            int32_t *pixel_base = memory_input(bases * sizeof *pixel_base);
            for (size_t i = 0; i < bases; i++) pixel_base[i] = (int32_t)random_below(70000);
            args.pixel_base = pixel_base;
            args.pixel_base_stride = stride;
        }
    } else {
        args.sums = float_terms(total, sizes->numbers);
    }
    if (sizes->with_beta) {
        const size_t stride = 1 + random_below(3);
        const size_t betas = sizes->pixels ? (sizes->pixels - 1) * stride + 1 : 0;
        float *beta = memory_input(betas * sizeof *beta);
        fill_floats(beta, betas, FLOATS_ORDINARY);
        args.beta = beta;
        args.beta_stride = stride;
    }
    if (sizes->neuron->type == BC_NEURON_PRELU) args.neuron.a_terms = float_terms(channels, FLOATS_ORDINARY);
    if (sizes->with_pack_terms) {
        args.pack_bias = float_terms(channels, sizes->numbers);
        args.pack_scale = float_terms(channels, sizes->numbers);
    }
    return args;
}

/* S of counts. */
static int64_t exact_sum(const bc_epilogue_args *args, size_t pixel, size_t channel) {
    const size_t at = pixel * args->row_stride + channel;
    const int64_t pixel_base = args->pixel_base ? args->pixel_base[pixel * args->pixel_base_stride] : 0;
    const int64_t doubled = (int64_t)args->counts[at] << args->count_shift;
    const int64_t exact = args->channel_base[channel] + pixel_base - doubled;
    return args->sum_shift ? (exact - (exact & 1)) / 2
                           : exact; /* rounded down, as an arithmetic shift does */
}

/* What goes into the neuron. */
static float epilogue_x(const bc_epilogue_args *args, size_t pixel, size_t channel) {
    const float sum = args->counts ? (float)exact_sum(args, pixel, channel)
                                   : args->sums[pixel * args->row_stride + channel];
    const float scaled = sum * args->scale[channel];
    const float with_beta = args->beta ? scaled * args->beta[pixel * args->beta_stride] : scaled;
    return with_beta + args->bias[channel];
}

static size_t rows_of(size_t pixels, size_t stride, size_t row) {
    return pixels ? (pixels - 1) * stride + row : 0;
}

/* Returns the floats, from which the other formats follow. */
static const float *check_floats(const subject *isa, bc_epilogue_args args) {
    const size_t stride = args.channels + args.pixels % 2,
                 total = rows_of(args.pixels, stride, args.channels);
    float *actual = memory_output(total * sizeof *actual),
          *portable = memory_output(total * sizeof *portable);
    args.format = BC_FLOAT32;
    args.destination_stride = (ptrdiff_t)stride;
    args.destination = portable;
    isa->portable->epilogue(&args);
    args.destination = actual;
    isa->kernels->epilogue(&args);
    expect_f32("against portable", actual, portable, total);

    for (size_t pixel = 0; pixel < args.pixels; pixel++)
        for (size_t c = 0; c < args.channels; c++)
            expect_neuron(&args.neuron, c, epilogue_x(&args, pixel, c), actual[pixel * stride + c]);
    for (size_t pixel = 0; pixel + 1 < args.pixels; pixel++)
        for (size_t gap = args.channels; gap < stride; gap++) {
            unsigned char fill[sizeof *actual];
            memset(fill, MEMORY_FILL, sizeof fill);
            if (memcmp(&actual[pixel * stride + gap], fill, sizeof fill)) fail("wrote between pixels");
        }
    return actual;
}

static void check_halves(const subject *isa, bc_epilogue_args args, const float *floats) {
    const size_t float_stride = args.channels + args.pixels % 2, stride = args.channels + 1;
    const size_t total = rows_of(args.pixels, stride, args.channels);
    uint16_t *actual = memory_output(total * sizeof *actual),
             *expected = memory_input(total * sizeof *expected);
    memset(expected, MEMORY_FILL, total * sizeof *expected);
    for (size_t pixel = 0; pixel < args.pixels; pixel++)
        for (size_t c = 0; c < args.channels; c++)
            expected[pixel * stride + c] = reference_to_f16(floats[pixel * float_stride + c]);
    args.format = BC_FLOAT16;
    args.destination = actual;
    args.destination_stride = (ptrdiff_t)stride;
    isa->kernels->epilogue(&args);
    expect_f16("halves", actual, expected, total);
}

static int32_t compared_count(const bc_epilogue_args *args, size_t pixel, size_t channel) {
    const int32_t base = args->pixel_base ? args->pixel_base[pixel * args->pixel_base_stride] : 0;
    return args->counts[pixel * args->row_stride + channel] - base;
}

/* Thresholds round the counts of the first pixel, so that bits turn both ways, and the two that never turn. */
static void add_thresholds(bc_epilogue_args *args) {
    int32_t *threshold = memory_input((args->channels + BC_SLACK) * sizeof *threshold);
    int32_t *flip = memory_input((args->channels + BC_SLACK) * sizeof *flip);
    for (size_t c = 0; c < args->channels + BC_SLACK; c++) {
        const size_t kind = random_below(5);
        flip[c] = random_below(2) ? -1 : 0;
        threshold[c] = kind == 0 ? INT32_MIN : kind == 1 ? INT32_MAX : (int32_t)random_below(5) - 2;
        if (kind > 1 && args->pixels && c < args->channels)
            threshold[c] += compared_count(args, 0, c) ^ flip[c];
    }
    args->bit_threshold = threshold;
    args->bit_flip = flip;
}

static int expected_bit(const bc_epilogue_args *args, size_t pixel, size_t channel, float y) {
    if (args->bit_threshold)
        return (compared_count(args, pixel, channel) ^ args->bit_flip[channel]) >=
               args->bit_threshold[channel];
    if (args->pack_bias) {
        const float shifted = y + args->pack_bias[channel];
        y = shifted * args->pack_scale[channel];
    }
    return !(y < 0.0f);
}

static void check_bits(const subject *isa, bc_epilogue_args args, size_t destination_bit,
                       const float *floats) {
    const size_t float_stride = args.channels + args.pixels % 2;
    const size_t words = divide_up(destination_bit + args.channels, 64), stride = words + args.pixels % 3;
    const size_t total = rows_of(args.pixels, stride, words);
    uint64_t *actual = memory_output(total * sizeof *actual),
             *expected = memory_input(total * sizeof *expected);
    fill_words(actual, total, BITS_RANDOM);
    memcpy(expected, actual, total * sizeof *expected);
    for (size_t pixel = 0; pixel < args.pixels; pixel++)
        for (size_t c = 0; c < args.channels; c++) {
            const float y = floats[pixel * float_stride + c];
            uint64_t *word = &expected[pixel * stride + (destination_bit + c) / 64];
            const uint64_t bit = UINT64_C(1) << (destination_bit + c) % 64;
            *word = expected_bit(&args, pixel, c, y) ? *word | bit : *word & ~bit;
        }
    args.format = BC_BITS;
    args.destination = actual;
    args.destination_stride = (ptrdiff_t)stride;
    args.destination_bit = destination_bit;
    isa->kernels->epilogue(&args);
    expect_u64("bits", actual, expected, total);
}

static void epilogue_case(const subject *isa, const epilogue_sizes *sizes) {
    const bc_neuron *neuron = sizes->neuron;
    case_begin(
        "pixels %zu, channels %zu, %s, beta %d, pixel_base %d, pack terms %d, shifts %u %u, numbers %d, "
        "neuron %d (%g, %g, %g), bit %zu",
        sizes->pixels, sizes->channels, sizes->from_counts ? "counts" : "sums", sizes->with_beta,
        sizes->with_pixel_base, sizes->with_pack_terms, sizes->count_shift, sizes->sum_shift,
        (int)sizes->numbers, (int)neuron->type, (double)neuron->a, (double)neuron->b, (double)neuron->c,
        sizes->destination_bit);
    bc_epilogue_args args = make_args(sizes);
    const float *pack_bias = args.pack_bias;
    args.pack_bias = NULL;
    const float *floats = check_floats(isa, args);
    check_halves(isa, args, floats);
    args.pack_bias = pack_bias;
    check_bits(isa, args, sizes->destination_bit, floats);
    if (args.counts) {
        add_thresholds(&args);
        check_bits(isa, args, sizes->destination_bit, floats);
    }
    case_end();
}

static epilogue_sizes random_epilogue(void) {
    return (epilogue_sizes){.pixels = random_below(8),
                            .channels = 1 + random_below(BC_EPILOGUE_CHANNELS),
                            .from_counts = (int)random_below(2),
                            .with_beta = (int)random_below(2),
                            .with_pixel_base = (int)random_below(2),
                            .with_pack_terms = (int)random_below(2),
                            .count_shift = (unsigned)random_below(2),
                            .sum_shift = (unsigned)random_below(2),
                            .neuron = &neurons[0],
                            .numbers = (float_pattern)random_below(FLOAT_PATTERNS),
                            .destination_bit = random_below(2) ? random_below(200) : 16 * random_below(12)};
}

/* Every neuron over numbers of every size: scale 1 and bias -0 hand them through as they are. */
static void neuron_case(const subject *isa, const bc_neuron *neuron) {
    static const float special[] = {
        0.0f,   -0.0f,  INFINITY, -INFINITY, NAN,    1.0f,    -1.0f,  0.5f,   -0.5f,   2.0f,    -2.0f,
        3e38f,  -3e38f, 1e-45f,   -1e-45f,   1e-38f, 88.72f,  88.73f, -87.3f, -103.9f, -104.0f, -14.1f,
        -13.0f, 5.5f,   0x1p-24f, -0x1p-24f, 709.0f, -709.0f, 17.3f,  9.01f,  -5.0f,   -8.3f};
    enum {
        CHANNELS = 64,
        PIXELS = 64,
        COUNT = CHANNELS * PIXELS,
        SPECIAL = sizeof special / sizeof special[0]
    };
    case_begin("neuron %d (%g, %g, %g) over %d numbers", (int)neuron->type, (double)neuron->a,
               (double)neuron->b, (double)neuron->c, (int)COUNT);
    float *sums = memory_padded_input(COUNT, sizeof *sums);
    for (size_t i = 0; i < COUNT; i++)
        sums[i] = i < SPECIAL ? special[i] : ldexpf(random_float(), (int)random_below(60) - 45);
    float *scale = memory_padded_input(CHANNELS, sizeof *scale),
          *bias = memory_padded_input(CHANNELS, sizeof *bias);
    for (size_t c = 0; c < CHANNELS; c++) {
        scale[c] = 1.0f;
        bias[c] = -0.0f;
    }
    bc_epilogue_args args = {.sums = sums,
                             .row_stride = CHANNELS,
                             .pixels = PIXELS,
                             .channels = CHANNELS,
                             .scale = scale,
                             .bias = bias,
                             .neuron = *neuron};
    if (neuron->type == BC_NEURON_PRELU) args.neuron.a_terms = float_terms(CHANNELS, FLOATS_ORDINARY);
    check_floats(isa, args);
    case_end();
}

void test_epilogue(const subject *isa) {
    for (size_t i = 0; i < NEURONS; i++) {
        neuron_case(isa, &neurons[i]);
        for (int again = 0; again < 8; again++) {
            epilogue_sizes sizes = random_epilogue();
            sizes.neuron = &neurons[i];
            sizes.pixels++;
            epilogue_case(isa, &sizes);
        }
    }
    /* Bits at every place, for numbers of channels around words and vectors. */
    static const size_t channels[] = {1,  2,  3,  7,  8,  9,  15, 16, 17, 31,  32,
                                      33, 47, 48, 49, 63, 64, 65, 96, 97, 127, 128};
    for (size_t i = 0; i < sizeof channels / sizeof channels[0] && channels[i] <= BC_EPILOGUE_CHANNELS; i++)
        for (size_t bit = 0; bit <= 130; bit++) {
            epilogue_sizes sizes = random_epilogue();
            sizes.channels = channels[i];
            sizes.destination_bit = bit;
            epilogue_case(isa, &sizes);
        }
    for (const size_t *pixels = pixel_sizes; *pixels != END_OF_SIZES; pixels++)
        for (int from_counts = 0; from_counts < 2; from_counts++) {
            epilogue_sizes sizes = random_epilogue();
            sizes.pixels = *pixels;
            sizes.from_counts = from_counts;
            epilogue_case(isa, &sizes);
        }
}

void bench_epilogue(bench *timer, const bc_kernels *kernels) {
    enum { PIXELS = 14, CHANNELS = 64 };
    static int32_t counts[PIXELS * CHANNELS + BC_SLACK], channel_base[CHANNELS + BC_SLACK];
    static float terms[CHANNELS + BC_SLACK], floats[PIXELS * CHANNELS];
    bc_epilogue_args args = {.counts = counts,
                             .row_stride = CHANNELS,
                             .pixels = PIXELS,
                             .channels = CHANNELS,
                             .channel_base = channel_base,
                             .count_shift = 1,
                             .scale = terms,
                             .bias = terms,
                             .destination = floats,
                             .destination_stride = CHANNELS};
    for (size_t i = 0; i < CHANNELS; i++) terms[i] = 0.01f;
    for (size_t i = 0; i < PIXELS * CHANNELS; i++) counts[i] = (int32_t)random_below(500) - 250;
    const double values = PIXELS * CHANNELS;
    args.format = BC_FLOAT32;
    BENCH(timer, kernels->epilogue(&args), "14 pixels x 64, float32", values, "values");
    args.format = BC_FLOAT16;
    BENCH(timer, kernels->epilogue(&args), "14 pixels x 64, float16", values, "values");
    args.format = BC_BITS;
    args.destination_stride = 1;
    BENCH(timer, kernels->epilogue(&args), "14 pixels x 64, bits", values, "values");
    args.format = BC_FLOAT32;
    args.destination_stride = CHANNELS;
    args.neuron.a = args.neuron.b = 1.0f;
    args.neuron.c = 2.0f;
    static const struct {
        bc_neuron_type type;
        const char *what;
    } timed[] = {
        {BC_NEURON_RELU, "14 pixels x 64, RELU"},          {BC_NEURON_SIGMOID, "14 pixels x 64, SIGMOID"},
        {BC_NEURON_TANH, "14 pixels x 64, TANH"},          {BC_NEURON_SOFT_PLUS, "14 pixels x 64, SOFT_PLUS"},
        {BC_NEURON_GELU, "14 pixels x 64, GELU"},          {BC_NEURON_POWER, "14 pixels x 64, POWER"},
        {BC_NEURON_LOGARITHM, "14 pixels x 64, LOGARITHM"}};
    for (size_t i = 0; i < sizeof timed / sizeof timed[0]; i++) {
        args.neuron.type = timed[i].type;
        BENCH(timer, kernels->epilogue(&args), timed[i].what, values, "values");
    }
}
