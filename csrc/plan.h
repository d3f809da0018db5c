/* A plan: one layer on one source and destination size, everything that does not depend on pixel values. */
#ifndef BC_PLAN_H
#define BC_PLAN_H

#include "borders.h"
#include "geometry.h"
#include "layer.h"
#include "threshold.h"

/* What a slice does at once: the window of a rectangle of destination pixels (before sub-pixel shuffling), or of
 * the whole of several images. */
typedef struct bc_tile {
    size_t image, images;
    size_t y, height;
    size_t x, width;
} bc_tile;

/* From what a destination pixel's first tap reads to the same of the next pixel, row and image. */
typedef struct bc_steps {
    size_t column, row, image;
} bc_steps;

/* Where the parts of a workspace begin, in bytes. The prepared source comes first and is shared, then each slice
 * has its own scratch. */
typedef struct bc_workspace_layout {
    size_t abs_plane, row_states, shared_bytes;
    size_t sums, chain, pixel_base, beta, staging, slot_rows, window_row, window, abs_window, slice_bytes;
} bc_workspace_layout;

struct bc_plan {
    const bc_layer *layer;
    bc_plan_config config; /* pack terms replaced by copies, padded */
    bc_slots rows, columns;
    size_t out_height, out_width; /* destination size before sub-pixel shuffling */
    int empty;                    /* nothing to write */

    /* XNOR and AND prepare the whole source once, BINARY_WEIGHTS a window at a time. A prepared row is
     * [positions][groups][tap_words], and where bits are gathered [words of joined taps][positions][groups]. Positions are
     * slots, or where taps are joined the destination pixels that read them. */
    size_t positions;
    size_t source_rows;      /* of an image */
    size_t source_row_words; /* 64-bit words of a prepared row */

    /* XNOR and AND: rows of slots, each with the bits of all channels, in whole words. Where bits are gathered from them and
     * the source allows it, slots follow each other without gaps, the first on the source at the start of a word. */
    size_t slot_words;                     /* of a slot in whole words */
    size_t slot_step_bits, slot_first_bit; /* from slot to slot, and where the first of a row begins */
    const bc_run *dense_run;               /* where there are no gaps: the slots on the source; or NULL */
    ptrdiff_t *dense_bit;                  /* and where bits of each begin in a source of bits */
    size_t slot_row_words;

    /* Gathering: the fields of one position, in the slot rows that it reads. */
    size_t gather_rows, gather_taps, gather_bits;
    ptrdiff_t *gather_tap_bit;

    bc_steps sum_steps;        /* in words of the prepared source, or floats of the window */
    bc_steps abs_steps;        /* beta: in slots of the plane (or window) of mean |v| */
    ptrdiff_t *tap_offset;     /* [sum_taps], as sum_steps */
    ptrdiff_t *tap_offset_abs; /* [kernel_height * kernel_width], as abs_steps */

    /* Chains, one for each row of a tile's pixels: where the rows of a window begin in the source, and from chain to chain. */
    ptrdiff_t *chain_row_offset; /* [kernel_height] */
    size_t chain_stride;         /* in entries */
    int finishes_chains;         /* results are made where counts are, and these not stored */

    uint64_t *
        off_source_words; /* XNOR and AND: [slot_words] what off-source slots hold, all bits alike for a dense_run */
    float *off_source_values; /* BINARY_WEIGHTS: [input_channels] */

    bc_borders borders;       /* XNOR with EXCLUDE where some tap is off the source; otherwise NULL */
    bc_thresholds thresholds; /* BC_BITS destinations, where bits are thresholds of sums; otherwise NULL */
    int32_t full_base[BC_EPILOGUE_CHANNELS + BC_SLACK]; /* XNOR: channel_base where all taps count */

    size_t tile_images, tile_height, tile_width;
    size_t tiles_images, tiles_y, tiles_x; /* how many of them */
    size_t joined_tiles; /* XNOR and AND: along y, at most, summed as one where a slice has them all */
    size_t sums_at_once; /* of tiles or chunks taken together; a tile and a chunk at least */

    /* BINARY_WEIGHTS: the window of a tile, [groups][tile_images][window_height][window_row_floats], expanded as the
     * kernel family wants it. Where runs of neighbouring pixels can share their groups of 4 inputs, a row is expanded as a
     * whole, otherwise run by run. */
    size_t window_height, window_width; /* slots */
    int keeps_rows; /* slot row y is row y % window_height, so that the next tile finds it there */
    int shares_groups;
    size_t slot_floats; /* of an expanded slot, where slots are expanded straight from the source; or 0 */
    size_t run_groups;  /* of one run */
    size_t window_row_floats;          /* expanded */
    size_t chunk_blocks, group_chunks; /* blocks of filters done at once */
    size_t units;                      /* tiles x chunks: what is shared out among slices */
    size_t unit_chunk;                 /* slices are cut at multiples of this many units */

    size_t staging_floats; /* for widening float16 and uint8 pixels */
    bc_workspace_layout layout;
};

static inline size_t bc_plan_tiles(const bc_plan *plan) {
    return plan->tiles_images * plan->tiles_y * plan->tiles_x;
}

/* Words of each row that `width` windows side by side read. */
static inline size_t bc_plan_chain_words(const bc_plan *plan, size_t width) {
    const bc_layer *layer = plan->layer;
    return (width - 1) * plan->sum_steps.column + layer->kernel_width * layer->tap_words;
}

/* What the epilogue needs at a destination pixel with borders, of all filters. */
static inline const int32_t *bc_border_base(const bc_plan *plan, size_t y, size_t x) {
    const bc_borders *borders = &plan->borders;
    const size_t kind = borders->row_kind[y] * borders->column_kinds + borders->column_kind[x];
    return borders->bases + kind * plan->layer->groups * plan->layer->group_filters;
}

static inline size_t bc_plan_chunks(const bc_plan *plan) { return plan->layer->groups * plan->group_chunks; }

/* The tile that covers up to *count tiles from the one at `index` on, as many as are taken together and lie in the same image
 * and columns; *count becomes how many. */
bc_tile bc_plan_joined_tiles(const bc_plan *plan, size_t index, size_t *count);

static inline bc_tile bc_plan_tile(const bc_plan *plan, size_t index) {
    size_t one = 1;
    return bc_plan_joined_tiles(plan, index, &one);
}

/* How many of `count` chunks from the one at `index` on `tile` is taken with at once. */
size_t bc_plan_joined_chunks(const bc_plan *plan, const bc_tile *tile, size_t index, size_t count);

#endif
