/* binconv: convolution with 1-bit weights on the CPU. The whole C interface.
 *
 * A bc_layer holds packed weights and folded terms. A bc_plan fixes the source and destination sizes
 * of one call. bc_plan_run computes; it allocates nothing, but may start threads of the library's own where
 * it is asked to, and any number of threads may run one plan at once, each with a workspace of its own. Layers and plans never change after they are made.
 *
 * Images are C-contiguous: images, height, width, channels. Sizes are in elements unless a name says
 * otherwise. All functions are safe to call from any thread.
 */
#ifndef BINCONV_H
#define BINCONV_H

#include <stddef.h>
#include <stdint.h>

#define BC_VERSION_MAJOR 0
#define BC_VERSION_MINOR 1
#define BC_VERSION_PATCH 0

#if defined(_WIN32) && defined(BC_SHARED)
#ifdef BC_BUILDING
#define BC_API __declspec(dllexport)
#else
#define BC_API __declspec(dllimport)
#endif
#elif defined(__GNUC__) && defined(BC_SHARED)
#define BC_API __attribute__((visibility("default")))
#else
#define BC_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef enum bc_status {
    BC_OK = 0,
    BC_INVALID_ARGUMENT = 1,
    BC_SIZE_OVERFLOW = 2, /* a product of sizes does not fit, or an accumulator could overflow */
    BC_OUT_OF_MEMORY = 3,
    BC_WORKSPACE_TOO_SMALL = 4,
    BC_UNKNOWN_ISA = 5, /* BINCONV_ISA names none, or one that this machine lacks */
} bc_status;

/* A sentence in English; never NULL. */
BC_API const char *bc_status_string(bc_status status);

/* ---- Instruction sets --------------------------------------------------------------------------- */

/* The kernel table is chosen once, at the first call that needs it: the best that this machine runs, or
 * at most the one that the environment variable BINCONV_ISA names. Any later call answers the same. */
BC_API bc_status bc_isa(const char **name);

/* Names of the instruction sets that are compiled in and that this machine runs, best last; NULL past
 * the last. */
BC_API const char *bc_isa_name(size_t index);

/* Names of CPU features that kernels look at, NULL past the last; *present is set to 0 or 1. */
BC_API const char *bc_cpu_feature(size_t index, int *present);

/* What runs slices when the caller brings no parallel_for: "pool", the library's own threads, or "none", the calling thread. */
BC_API const char *bc_threading(void);

/* ---- Layers --------------------------------------------------------------------------------------- */

typedef enum bc_type { BC_BINARY_WEIGHTS = 0, BC_XNOR = 1, BC_AND = 2 } bc_type;

typedef enum bc_edge_mode {
    BC_EDGE_ZERO = 0,
    BC_EDGE_CLAMP = 1,
    BC_EDGE_MIRROR = 2,           /* about the centre of the edge pixel */
    BC_EDGE_MIRROR_WITH_EDGE = 3, /* about the border */
    BC_EDGE_CONSTANT = 4,
    BC_EDGE_EXCLUDE = 16, /* off-source taps are left out of the sum */
} bc_edge_mode;

typedef enum bc_neuron_type {
    BC_NEURON_NONE = 0,
    BC_NEURON_RELU = 1,
    BC_NEURON_LINEAR = 2,
    BC_NEURON_SIGMOID = 3,
    BC_NEURON_HARD_SIGMOID = 4,
    BC_NEURON_TANH = 5,
    BC_NEURON_ABSOLUTE = 6,
    BC_NEURON_SOFT_PLUS = 7,
    BC_NEURON_SOFT_SIGN = 8,
    BC_NEURON_ELU = 9,
    BC_NEURON_PRELU = 10,
    BC_NEURON_RELUN = 11,
    BC_NEURON_POWER = 12,
    BC_NEURON_EXPONENTIAL = 13,
    BC_NEURON_LOGARITHM = 14,
    BC_NEURON_GELU = 15,
} bc_neuron_type;

typedef enum bc_format {
    BC_FLOAT32 = 0,
    BC_FLOAT16 = 1,
    BC_UNORM8 = 2, /* uint8, value / 255; a source only */
    BC_BITS = 3,   /* ceil(channels / 64) uint64 words a pixel, channel 64k+b is bit b of word k */
} bc_format;

typedef struct bc_neuron {
    bc_neuron_type type;
    float a, b, c;
    const float *a_terms; /* BC_NEURON_PRELU: [output_channels]; otherwise NULL */
} bc_neuron;

typedef struct bc_layer_config {
    bc_type type;
    int beta_scaling; /* not 0: XNOR-Net's beta */
    size_t input_channels, output_channels, groups;
    size_t kernel_height, kernel_width;
    size_t stride_y, stride_x;
    size_t dilation_y, dilation_x;
    size_t subpixel_factor; /* 1: none */
    bc_neuron neuron;
    /* [output_channels][kernel_height][kernel_width][ceil(input_channels / groups / 32)], channel 32k+b is
     * bit b of word k; bits past the last channel are ignored. */
    const uint32_t *weights;
    size_t weights_words;                  /* how many there are, checked against the sizes above */
    const float *scale, *bias;             /* [output_channels], or NULL for 1 and 0 */
    const float *input_bias, *input_scale; /* [input_channels], or NULL for 0 and 1 */
} bc_layer_config;

typedef struct bc_layer bc_layer;

/* Copies all that it needs. *layer is set only on BC_OK. */
BC_API bc_status bc_layer_create(const bc_layer_config *config, bc_layer **layer);
BC_API void bc_layer_destroy(bc_layer *layer);

/* Folds batch normalisation into scale and bias in float64, rounded once:
 * I = gamma / sqrt(variance + epsilon), scale' = scale * I, bias' = bias * I + beta - I * mean. */
BC_API bc_status bc_fold_batch_normalization(size_t channels, const double *scale, const double *bias,
                                             const double *mean, const double *variance, const double *gamma,
                                             const double *beta, double epsilon, float *folded_scale,
                                             float *folded_bias);

/* ---- Geometry ------------------------------------------------------------------------------------- */

/* Bits of a padding method, with MPS's values. */
enum {
    BC_PADDING_ALIGN_CENTERED = 0,
    BC_PADDING_ALIGN_TOP_LEFT = 1,
    BC_PADDING_ALIGN_BOTTOM_RIGHT = 2,
    BC_PADDING_REMAINDER_TOP_LEFT = 0,
    BC_PADDING_REMAINDER_TOP_RIGHT = 4,
    BC_PADDING_REMAINDER_BOTTOM_LEFT = 8,
    BC_PADDING_REMAINDER_BOTTOM_RIGHT = 12,
    BC_PADDING_SIZE_VALID_ONLY = 0,
    BC_PADDING_SIZE_SAME = 16,
    BC_PADDING_SIZE_FULL = 32,
};

typedef enum bc_axis { BC_AXIS_Y = 0, BC_AXIS_X = 1 } bc_axis;

typedef struct bc_window {
    size_t source, kernel, dilation, stride; /* along one axis, each at least 1 but source */
} bc_window;

/* Destination size and offset along one axis for a padding method (not CUSTOM). */
BC_API bc_status bc_padding_resolve(unsigned method, bc_axis axis, const bc_window *window, size_t *size,
                                    int64_t *offset);

/* The same for `before` and `after` pixels of explicit padding, which may be negative. */
BC_API bc_status bc_padding_explicit(const bc_window *window, int64_t before, int64_t after, size_t *size,
                                     int64_t *offset);

/* ---- Plans ---------------------------------------------------------------------------------------- */

typedef struct bc_image {
    bc_format format;
    size_t images, height, width, channels;
} bc_image;

typedef struct bc_plan_config {
    bc_image source, destination;
    size_t source_channel_offset, destination_channel_offset;
    size_t images; /* how many to compute, from these two on */
    size_t source_first_image, destination_first_image;
    /* Destination pixels to write, inside the destination. */
    size_t clip_y, clip_x, clip_height, clip_width;
    int64_t offset_y, offset_x; /* MPS's offset, in source pixels */
    bc_edge_mode edge_mode;
    float edge_constant;
    /* BC_BITS destinations: what is packed is (out + pack_bias) * pack_scale; both or neither,
     * [output_channels / subpixel_factor^2]. */
    const float *pack_bias, *pack_scale;
} bc_plan_config;

typedef struct bc_plan bc_plan;

/* Copies all that it needs but keeps a pointer to the layer, which must outlive it. */
BC_API bc_status bc_plan_create(const bc_layer *layer, const bc_plan_config *config, bc_plan **plan);
BC_API void bc_plan_destroy(bc_plan *plan);

/* How many threads the plan has work for, at most `limit`. */
BC_API size_t bc_plan_threads(const bc_plan *plan, size_t limit);

/* Bytes of workspace that bc_plan_run needs with that many threads; SIZE_MAX for more than there can be. */
BC_API size_t bc_plan_workspace_bytes(const bc_plan *plan, size_t threads);

/* Who runs the slices of a plan. parallel_for must call slice(context, i) once for each i below count, in any
 * order, on any threads, and return when all have returned. NULL: the library's own threads. */
typedef struct bc_parallel {
    size_t threads;
    void (*parallel_for)(void *user, size_t count, void (*slice)(void *context, size_t index), void *context);
    void *user;
} bc_parallel;

/* `source` and `destination` must not overlap. `workspace` needs no alignment. `parallel` NULL: this thread
 * alone. Same bits for every number of threads. */
BC_API bc_status bc_plan_run(const bc_plan *plan, const void *source, void *destination, void *workspace,
                             size_t workspace_bytes, const bc_parallel *parallel);

/* ---- Bits ----------------------------------------------------------------------------------------- */

/* words[pixel][ceil(channels / 64)] = bits of (source + bias) * scale: 0 where below 0, else 1; bits past the
 * last channel are 0. bias and scale: [channels], or both NULL. */
BC_API bc_status bc_pack(bc_format format, const void *source, size_t pixels, size_t channels,
                         const float *bias, const float *scale, uint64_t *words);

/* values[pixel][channels] = +1 or -1. */
BC_API bc_status bc_unpack(const uint64_t *words, size_t pixels, size_t channels, int8_t *values);

#ifdef __cplusplus
}
#endif
#endif
