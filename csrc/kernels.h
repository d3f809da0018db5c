/* The kernel table: a struct made from kernels.def. Contracts are there. */
#ifndef BC_KERNELS_H
#define BC_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#include "binconv.h"

/* How far past their end padded arrays may be read, and the most channels of one epilogue call. */
enum { BC_SLACK = 64, BC_EPILOGUE_CHANNELS = 256 };

/* Chains: the most words of a window, so that 16 bits hold a count of carries, and how many entries for each row
 * may be overwritten past a chain's end. */
enum { BC_CHAIN_WORDS = 1023, BC_CHAIN_SLACK = 15 };

typedef struct bc_widen_args {
    const void *source;
    size_t count;
    float *destination;
} bc_widen_args;

typedef struct bc_pack_args {
    const float *source;
    ptrdiff_t source_stride;
    size_t pixels, channels;
    const float *threshold;    /* [channels] or NULL; without abs_sum */
    const uint64_t *flip;      /* [words of a pixel] or NULL; with thresholds only */
    const float *bias, *scale; /* [channels], or both NULL; with abs_sum */
    uint64_t *words;
    ptrdiff_t words_stride;
    float *abs_sum; /* [pixels] or NULL */
} bc_pack_args;

typedef struct bc_terms_args {
    const float *source;
    ptrdiff_t source_stride;
    size_t pixels, channels;
    const float *bias, *scale; /* [channels], or both NULL */
    float *destination;
    ptrdiff_t destination_stride;
    float *abs_sum; /* [pixels] or NULL */
} bc_terms_args;

typedef struct bc_gather_args {
    const uint64_t *source;
    ptrdiff_t first_bit, pixel_step_bits;
    const ptrdiff_t *tap_bit;
    size_t taps, bits, groups, pixels;
    uint64_t *destination;
    size_t pixel_stride, word_stride;
} bc_gather_args;

typedef struct bc_xorpop_weights_args {
    const uint32_t *weights; /* [filters][taps][ceil(channels / 32)], dirty past the last channel */
    size_t filters, taps, channels;
    void *blocks;
} bc_xorpop_weights_args;

typedef struct bc_xorpop_args {
    const uint64_t *source;
    ptrdiff_t source_stride, run_stride;
    const ptrdiff_t *tap_offset;
    size_t taps, words;
    const void *weights; /* `blocks` blocks */
    size_t runs, pixels, blocks;
    int32_t *counts;
    size_t counts_stride;
} bc_xorpop_args;

typedef struct bc_epilogue_args {
    const int32_t *counts; /* one of these two, the other NULL */
    const float *sums;
    size_t row_stride; /* elements between pixels of counts or sums */
    size_t pixels, channels;
    const int32_t *channel_base; /* [channels], counts only */
    const int32_t *pixel_base;   /* [pixels], pixel_base_stride apart, or NULL for 0 */
    size_t pixel_base_stride;
    unsigned count_shift, sum_shift;
    const float *scale, *bias; /* [channels] */
    const float *beta;         /* [pixels], beta_stride apart, or NULL for no multiplication */
    size_t beta_stride;
    bc_neuron neuron; /* a_terms: [channels] */
    bc_format format;
    void *destination;            /* the first pixel: its first channel, or for BC_BITS its first word */
    ptrdiff_t destination_stride; /* in floats, halves or words */
    size_t destination_bit;
    const float *pack_bias, *pack_scale;     /* [channels], or both NULL; BC_BITS only */
    const int32_t *bit_threshold, *bit_flip; /* [channels], or both NULL; BC_BITS and counts only */
} bc_epilogue_args;

/* For families that sum one run after the other. */
static inline void bc_for_runs(const bc_xorpop_args *args, void (*sum_run)(const bc_xorpop_args *run)) {
    bc_xorpop_args run = *args;
    run.runs = 1;
    for (size_t i = 0; i < args->runs; i++) {
        run.source = args->source + (ptrdiff_t)i * args->run_stride;
        run.counts = args->counts + i * args->pixels * args->counts_stride;
        sum_run(&run);
    }
}

typedef struct bc_chain_source_args {
    const uint64_t *source;
    const ptrdiff_t *row_offset; /* [rows] */
    size_t rows, words;
    size_t runs;
    ptrdiff_t source_run_stride;
    uint64_t *chain;
    size_t run_stride; /* of the chain */
} bc_chain_source_args;

typedef struct bc_chain_weights_args {
    const uint32_t *weights; /* [filters][rows][row_taps][ceil(channels / 32)], dirty past the last channel */
    size_t filters, rows, row_taps, channels;
    void *blocks;
} bc_chain_weights_args;

typedef struct bc_chain_sums_args {
    const uint64_t *chain;
    size_t words;
    size_t runs, pixels;
    size_t run_stride, pixel_stride;
    const void *weights; /* `blocks` blocks */
    size_t blocks;
    const void
        *next_weights; /* what another call will read from memory: to be asked for meanwhile; or NULL */
    int32_t *counts;   /* where there is no `finish` */
    size_t counts_stride;
    const bc_epilogue_args *finish; /* or NULL */
} bc_chain_sums_args;

typedef struct bc_window_popcount_args {
    const uint64_t *source;
    ptrdiff_t source_stride;
    const ptrdiff_t *tap_offset;
    size_t taps, words, pixels;
    int32_t *counts;
} bc_window_popcount_args;

typedef struct bc_signsum_weights_args {
    const uint32_t *weights; /* [filters][rows][ceil(run / 32)], dirty past the last input */
    size_t filters, rows, run;
    void *blocks;
} bc_signsum_weights_args;

typedef struct bc_signsum_expand_args {
    const float *source;
    ptrdiff_t source_stride;
    size_t pixels, run;
    float *groups; /* [pixels][ceil(run / 4)][signsum_group_floats] */
} bc_signsum_expand_args;

typedef struct bc_signsum_args {
    const float *source; /* expanded */
    ptrdiff_t source_stride;
    const ptrdiff_t *row_offset;
    size_t rows, groups;
    const void *weights; /* block b begins at weights + b * block_stride_bytes */
    size_t block_stride_bytes;
    size_t pixels, blocks;
    float *sums;
    size_t sums_stride;
    int accumulate;
} bc_signsum_args;

typedef struct bc_window_sum_args {
    const float *source;
    ptrdiff_t source_stride;
    const ptrdiff_t *tap_offset;
    size_t taps, pixels;
    float divisor;
    float *sums;
} bc_window_sum_args;

typedef struct bc_unpack_args {
    const uint64_t *words;
    size_t pixels, channels;
    int8_t *values;
} bc_unpack_args;

typedef struct bc_kernels {
#define BC_KERNEL(name, arguments) void (*name)(const arguments *args);
#define BC_CONSTANT(name) size_t name;
#include "kernels.def"
#undef BC_KERNEL
#undef BC_CONSTANT
} bc_kernels;

/* One for each instruction set: what it improves; the slots it leaves empty come from the one below. */
extern const bc_kernels bc_kernels_scalar;
extern const bc_kernels bc_kernels_avx2;
extern const bc_kernels bc_kernels_avx512vpopcnt;
extern const bc_kernels bc_kernels_avx512carrysave;
extern const bc_kernels bc_kernels_avx512chain;
extern const bc_kernels bc_kernels_neon;
extern const bc_kernels bc_kernels_asimddp;

#endif
