# The kernel tables, as csrc/kernels.h and csrc/dispatch.h declare them; contracts are in kernels.def.
from libc.stddef cimport ptrdiff_t
from libc.stdint cimport int8_t, int32_t, uint8_t, uint32_t, uint64_t

from binconv.c_api cimport bc_format, bc_neuron, bc_status


cdef extern from "kernels.h" nogil:
    enum:
        BC_SLACK
        BC_EPILOGUE_CHANNELS
        BC_CHAIN_WORDS
        BC_CHAIN_SLACK

    ctypedef struct bc_widen_args:
        const void *source
        size_t count
        float *destination

    ctypedef struct bc_pack_args:
        const float *source
        ptrdiff_t source_stride
        size_t pixels, channels
        const float *threshold
        const uint64_t *flip
        const float *bias
        const float *scale
        uint64_t *words
        ptrdiff_t words_stride
        float *abs_sum

    ctypedef struct bc_terms_args:
        const float *source
        ptrdiff_t source_stride
        size_t pixels, channels
        const float *bias
        const float *scale
        float *destination
        ptrdiff_t destination_stride
        float *abs_sum

    ctypedef struct bc_gather_args:
        const uint64_t *source
        ptrdiff_t first_bit, pixel_step_bits
        const ptrdiff_t *tap_bit
        size_t taps, bits, groups, pixels
        uint64_t *destination
        size_t pixel_stride, word_stride

    ctypedef struct bc_xorpop_weights_args:
        const uint32_t *weights
        size_t filters, taps, channels
        void *blocks

    ctypedef struct bc_xorpop_args:
        const uint64_t *source
        ptrdiff_t source_stride, run_stride
        const ptrdiff_t *tap_offset
        size_t taps, words
        const void *weights
        size_t runs, pixels, blocks
        int32_t *counts
        size_t counts_stride

    ctypedef struct bc_epilogue_args:
        const int32_t *counts
        const float *sums
        size_t row_stride, pixels, channels
        const int32_t *channel_base
        const int32_t *pixel_base
        size_t pixel_base_stride
        unsigned count_shift, sum_shift
        const float *scale
        const float *bias
        const float *beta
        size_t beta_stride
        bc_neuron neuron
        bc_format format
        void *destination
        ptrdiff_t destination_stride
        size_t destination_bit
        const float *pack_bias
        const float *pack_scale
        const int32_t *bit_threshold
        const int32_t *bit_flip

    ctypedef struct bc_chain_source_args:
        const uint64_t *source
        const ptrdiff_t *row_offset
        size_t rows, words
        size_t runs
        ptrdiff_t source_run_stride
        uint64_t *chain
        size_t run_stride

    ctypedef struct bc_chain_weights_args:
        const uint32_t *weights
        size_t filters, rows, row_taps, channels
        void *blocks

    ctypedef struct bc_chain_sums_args:
        const uint64_t *chain
        size_t words
        size_t runs, pixels
        size_t run_stride, pixel_stride
        const void *weights
        size_t blocks
        const void *next_weights
        int32_t *counts
        size_t counts_stride
        const bc_epilogue_args *finish

    ctypedef struct bc_window_popcount_args:
        const uint64_t *source
        ptrdiff_t source_stride
        const ptrdiff_t *tap_offset
        size_t taps, words, pixels
        int32_t *counts

    ctypedef struct bc_signsum_weights_args:
        const uint32_t *weights
        size_t filters, rows, run
        void *blocks

    ctypedef struct bc_signsum_expand_args:
        const float *source
        ptrdiff_t source_stride
        size_t pixels, run
        float *groups

    ctypedef struct bc_signsum_args:
        const float *source
        ptrdiff_t source_stride
        const ptrdiff_t *row_offset
        size_t rows, groups
        const void *weights
        size_t block_stride_bytes, pixels, blocks
        float *sums
        size_t sums_stride
        int accumulate

    ctypedef struct bc_window_sum_args:
        const float *source
        ptrdiff_t source_stride
        const ptrdiff_t *tap_offset
        size_t taps, pixels
        float divisor
        float *sums

    ctypedef struct bc_unpack_args:
        const uint64_t *words
        size_t pixels, channels
        int8_t *values

    ctypedef struct bc_kernels:
        void (*widen_f16)(const bc_widen_args *args) noexcept nogil
        void (*widen_u8)(const bc_widen_args *args) noexcept nogil
        void (*pack_f32)(const bc_pack_args *args) noexcept nogil
        void (*terms_f32)(const bc_terms_args *args) noexcept nogil
        void (*gather_bits)(const bc_gather_args *args) noexcept nogil
        size_t xorpop_block_filters, xorpop_block_word_bytes
        void (*xorpop_weights)(const bc_xorpop_weights_args *args) noexcept nogil
        void (*xorpop)(const bc_xorpop_args *args) noexcept nogil
        size_t chain_words_least, chain_filters_least
        void (*chain_source)(const bc_chain_source_args *args) noexcept nogil
        size_t chain_block_filters, chain_block_word_bytes
        void (*chain_weights)(const bc_chain_weights_args *args) noexcept nogil
        void (*chain_sums)(const bc_chain_sums_args *args) noexcept nogil
        void (*window_popcount)(const bc_window_popcount_args *args) noexcept nogil
        size_t signsum_block_filters, signsum_block_word_bytes
        void (*signsum_weights)(const bc_signsum_weights_args *args) noexcept nogil
        size_t signsum_group_floats
        void (*signsum_expand)(const bc_signsum_expand_args *args) noexcept nogil
        void (*signsum)(const bc_signsum_args *args) noexcept nogil
        void (*window_sum)(const bc_window_sum_args *args) noexcept nogil
        void (*epilogue)(const bc_epilogue_args *args) noexcept nogil
        void (*unpack_i8)(const bc_unpack_args *args) noexcept nogil


cdef extern from "yardstick.h" nogil:
    size_t bc_spin(size_t additions)
    uint64_t bc_read(const uint64_t *words, size_t blocks, size_t vector_bytes)


cdef extern from "dispatch.h" nogil:
    const char *bc_isa_name(size_t index)
    const bc_kernels *bc_kernels_of(size_t index)
    const bc_kernels *bc_kernels_own(size_t index)


cdef extern from "input_threshold.h" nogil:
    ctypedef struct bc_input_thresholds:
        float *threshold
        uint64_t *flip

    bc_status bc_input_thresholds_create(
        const float *bias, const float *scale, size_t channels, bc_input_thresholds *thresholds
    )
    void bc_input_thresholds_free(bc_input_thresholds *thresholds)


cdef extern from *:
    """
    #include <string.h>

    /* The manifest as data, so that no list of kernels is kept here. */
    static const struct {
        const char *name;
        size_t offset;
    } bc_slots[] = {
    #define BC_KERNEL(name, arguments) {#name, offsetof(bc_kernels, name)},
    #define BC_CONSTANT(name)
    #include "kernels.def"
    #undef BC_KERNEL
    #undef BC_CONSTANT
    };

    static const char *bc_slot_name(size_t slot) {
        return slot < sizeof bc_slots / sizeof bc_slots[0] ? bc_slots[slot].name : NULL;
    }

    static int bc_slot_filled(const bc_kernels *table, size_t slot) {
        void (*kernel)(void);
        memcpy(&kernel, (const char *)table + bc_slots[slot].offset, sizeof kernel);
        return kernel != NULL;
    }
    """
    const char *bc_slot_name(size_t slot)
    bint bc_slot_filled(const bc_kernels *table, size_t slot)
