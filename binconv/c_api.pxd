"""The C interface, csrc/include/binconv.h, for Cython modules of any package.

    from binconv.c_api cimport bc_layer, bc_layer_create

Calls go through pointers that the compiled module binconv.c_api hands over when the importing module is
initialised, so there is no library to link. Compile with binconv.get_include() among the include folders,
for the types. Each function's contract is in the header.
"""

from libc.stdint cimport int8_t, int64_t, uint32_t, uint64_t


cdef extern from "binconv.h" nogil:
    int BC_VERSION_MAJOR, BC_VERSION_MINOR, BC_VERSION_PATCH

    ctypedef enum bc_status:
        BC_OK
        BC_INVALID_ARGUMENT
        BC_SIZE_OVERFLOW
        BC_OUT_OF_MEMORY
        BC_WORKSPACE_TOO_SMALL
        BC_UNKNOWN_ISA

    ctypedef enum bc_type:
        BC_BINARY_WEIGHTS
        BC_XNOR
        BC_AND

    ctypedef enum bc_edge_mode:
        BC_EDGE_ZERO
        BC_EDGE_CLAMP
        BC_EDGE_MIRROR
        BC_EDGE_MIRROR_WITH_EDGE
        BC_EDGE_CONSTANT
        BC_EDGE_EXCLUDE

    ctypedef enum bc_neuron_type:
        BC_NEURON_NONE
        BC_NEURON_RELU
        BC_NEURON_LINEAR
        BC_NEURON_SIGMOID
        BC_NEURON_HARD_SIGMOID
        BC_NEURON_TANH
        BC_NEURON_ABSOLUTE
        BC_NEURON_SOFT_PLUS
        BC_NEURON_SOFT_SIGN
        BC_NEURON_ELU
        BC_NEURON_PRELU
        BC_NEURON_RELUN
        BC_NEURON_POWER
        BC_NEURON_EXPONENTIAL
        BC_NEURON_LOGARITHM
        BC_NEURON_GELU

    ctypedef enum bc_format:
        BC_FLOAT32
        BC_FLOAT16
        BC_UNORM8
        BC_BITS

    enum:
        BC_PADDING_ALIGN_CENTERED
        BC_PADDING_ALIGN_TOP_LEFT
        BC_PADDING_ALIGN_BOTTOM_RIGHT
        BC_PADDING_REMAINDER_TOP_LEFT
        BC_PADDING_REMAINDER_TOP_RIGHT
        BC_PADDING_REMAINDER_BOTTOM_LEFT
        BC_PADDING_REMAINDER_BOTTOM_RIGHT
        BC_PADDING_SIZE_VALID_ONLY
        BC_PADDING_SIZE_SAME
        BC_PADDING_SIZE_FULL

    ctypedef enum bc_axis:
        BC_AXIS_Y
        BC_AXIS_X

    ctypedef struct bc_neuron:
        bc_neuron_type type
        float a, b, c
        const float *a_terms

    ctypedef struct bc_layer_config:
        bc_type type
        int beta_scaling
        size_t input_channels, output_channels, groups
        size_t kernel_height, kernel_width
        size_t stride_y, stride_x
        size_t dilation_y, dilation_x
        size_t subpixel_factor
        bc_neuron neuron
        const uint32_t *weights
        size_t weights_words
        const float *scale
        const float *bias
        const float *input_bias
        const float *input_scale

    ctypedef struct bc_layer:
        pass

    ctypedef struct bc_window:
        size_t source, kernel, dilation, stride

    ctypedef struct bc_image:
        bc_format format
        size_t images, height, width, channels

    ctypedef struct bc_plan_config:
        bc_image source, destination
        size_t source_channel_offset, destination_channel_offset
        size_t images, source_first_image, destination_first_image
        size_t clip_y, clip_x, clip_height, clip_width
        int64_t offset_y, offset_x
        bc_edge_mode edge_mode
        float edge_constant
        const float *pack_bias
        const float *pack_scale

    ctypedef struct bc_plan:
        pass

    ctypedef struct bc_parallel:
        size_t threads
        void (*parallel_for)(
            void *user, size_t count, void (*slice)(void *context, size_t index) noexcept nogil,
            void *context) noexcept nogil
        void *user

cdef const char *bc_status_string(bc_status status) noexcept nogil
cdef bc_status bc_isa(const char **name) noexcept nogil
cdef const char *bc_isa_name(size_t index) noexcept nogil
cdef const char *bc_cpu_feature(size_t index, int *present) noexcept nogil
cdef const char *bc_threading() noexcept nogil
cdef bc_status bc_layer_create(const bc_layer_config *config, bc_layer **layer) noexcept nogil
cdef void bc_layer_destroy(bc_layer *layer) noexcept nogil
cdef bc_status bc_fold_batch_normalization(
    size_t channels, const double *scale, const double *bias, const double *mean,
    const double *variance, const double *gamma, const double *beta, double epsilon,
    float *folded_scale, float *folded_bias
) noexcept nogil
cdef bc_status bc_padding_resolve(
    unsigned method, bc_axis axis, const bc_window *window, size_t *size, int64_t *offset
) noexcept nogil
cdef bc_status bc_padding_explicit(
    const bc_window *window, int64_t before, int64_t after, size_t *size, int64_t *offset
) noexcept nogil
cdef bc_status bc_plan_create(
    const bc_layer *layer, const bc_plan_config *config, bc_plan **plan
) noexcept nogil
cdef void bc_plan_destroy(bc_plan *plan) noexcept nogil
cdef size_t bc_plan_threads(const bc_plan *plan, size_t limit) noexcept nogil
cdef size_t bc_plan_workspace_bytes(const bc_plan *plan, size_t threads) noexcept nogil
cdef bc_status bc_plan_run(
    const bc_plan *plan, const void *source, void *destination, void *workspace,
    size_t workspace_bytes, const bc_parallel *parallel
) noexcept nogil
cdef bc_status bc_pack(
    bc_format format, const void *source, size_t pixels, size_t channels, const float *bias,
    const float *scale, uint64_t *words
) noexcept nogil
cdef bc_status bc_unpack(
    const uint64_t *words, size_t pixels, size_t channels, int8_t *values
) noexcept nogil
