/* Running a plan: the source is prepared, then slices of (tile, chunk of filters) units are summed and finished. */
#include <stdatomic.h>
#include <string.h>

#include "layer.h"
#include "plan.h"
#include "prepare.h"
#include "sizes.h"
#include "threads.h"
#include "walk.h"

typedef struct run {
    const bc_plan *plan;
    const void *source;
    char *destination;
    char *shared; /* the prepared source, the plane of mean |v| */
    atomic_uchar
        *row_states; /* of the prepared source's rows; NULL where there is one slice, which need not ask */
    char *scratch;   /* slice_bytes for each slice */
    size_t slices;
} run;

typedef struct slice_scratch {
    void *sums; /* int32 counts or float sums, [tile pixels][chunk filters] */
    uint64_t *chain;
    int32_t *pixel_base;
    uint64_t *slot_rows;
    float *beta, *staging, *window_row, *window, *abs_window;
} slice_scratch;

/* Some filters of one group, in whole blocks. */
typedef struct chunk {
    size_t group, first_block, blocks;
    size_t first_output, outputs; /* output channels that exist, from the layer's first */
    size_t first_filter;          /* in the layer's padded arrays */
} chunk;

static slice_scratch scratch_of(const run *run, size_t slice) {
    const bc_workspace_layout *layout = &run->plan->layout;
    char *base = run->scratch + slice * layout->slice_bytes;
    return (slice_scratch){
        .sums = base + layout->sums,
        .chain = (uint64_t *)(base + layout->chain),
        .pixel_base = (int32_t *)(base + layout->pixel_base),
        .beta = (float *)(base + layout->beta),
        .staging = (float *)(base + layout->staging),
        .slot_rows = (uint64_t *)(base + layout->slot_rows),
        .window_row = (float *)(base + layout->window_row),
        .window = (float *)(base + layout->window),
        .abs_window = (float *)(base + layout->abs_window),
    };
}

/* That of `count` chunks from the one at `index` on, of the same group. */
static chunk chunk_of(const bc_plan *plan, size_t index, size_t count) {
    const bc_layer *layer = plan->layer;
    const size_t group = index / plan->group_chunks;
    const size_t first_block = index % plan->group_chunks * plan->chunk_blocks;
    const size_t first = first_block * layer->block_filters;
    const size_t blocks = bc_min(count * plan->chunk_blocks, layer->group_blocks - first_block);
    return (chunk){
        .group = group,
        .first_block = group * layer->group_blocks + first_block,
        .blocks = blocks,
        .first_output = group * layer->group_outputs + first,
        .outputs = bc_min(blocks * layer->block_filters, layer->group_outputs - first),
        .first_filter = group * layer->group_filters + first,
    };
}

/* [begin, end) of `total` pieces for one of `slices`, as even as whole pieces allow. */
static void share(size_t total, size_t slice, size_t slices, size_t *begin, size_t *end) {
    const size_t each = total / slices, rest = total % slices;
    *begin = slice * each + bc_min(slice, rest);
    *end = *begin + each + (slice < rest);
}

/* ---- Preparing the whole source: XNOR and AND -----------------------------------------------------
 *
 * Each slice prepares its share of the rows, then whatever rows its tiles read that nobody has begun, and waits for those that
 * another slice is at. So slices run in any order, one after the other too, and threads meet once in a call, not twice: that is
 * a microsecond of some twenty. */

enum { ROW_UNTOUCHED, ROW_BEGUN, ROW_READY };

static int begin_row(const run *run, size_t row) {
    unsigned char untouched = ROW_UNTOUCHED;
    return !run->row_states ||
           atomic_compare_exchange_strong_explicit(&run->row_states[row], &untouched, ROW_BEGUN,
                                                   memory_order_relaxed, memory_order_relaxed);
}

static void prepare_rows(const run *run, size_t begin, size_t end, bc_row_scratch *scratch) {
    const bc_plan *plan = run->plan;
    float *abs_plane = plan->layer->beta_scaling ? (float *)(run->shared + plan->layout.abs_plane) : NULL;
    for (size_t row = begin; row < end; row++) {
        if (!begin_row(run, row)) continue;
        bc_prepare_words(plan, run->source, row, scratch,
                         abs_plane ? abs_plane + row * plan->columns.count : NULL,
                         (uint64_t *)run->shared + row * plan->source_row_words);
        if (run->row_states) atomic_store_explicit(&run->row_states[row], ROW_READY, memory_order_release);
    }
}

static void prepare_share(const run *run, size_t slice, bc_row_scratch *scratch) {
    size_t begin, end;
    share(run->plan->config.images * run->plan->source_rows, slice, run->slices, &begin, &end);
    prepare_rows(run, begin, end, scratch);
}

/* All rows that a tile reads. */
static void need_rows(const run *run, const bc_tile *tile, bc_row_scratch *scratch) {
    const bc_plan *plan = run->plan;
    if (!run->row_states) return;
    const int joins_rows = bc_layer_joins_rows(plan->layer);
    const size_t step = joins_rows ? 1 : plan->rows.stride;
    const size_t window = joins_rows ? 1 : (plan->rows.taps - 1) * plan->rows.dilation + 1;
    for (size_t image = tile->image; image < tile->image + tile->images; image++) {
        const size_t begin = image * plan->source_rows + tile->y * step;
        const size_t end = begin + (tile->height - 1) * step + window;
        prepare_rows(run, begin, end, scratch);
        for (size_t row = begin; row < end; row++)
            for (size_t turn = 0;
                 atomic_load_explicit(&run->row_states[row], memory_order_acquire) != ROW_READY; turn++)
                bc_pause(turn);
    }
}

/* ---- Preparing the window of a tile: BINARY_WEIGHTS ----------------------------------------------- */

/* What a slice's window holds: slot rows [first_row, end_row) of a tile's images and columns. */
typedef struct held_rows {
    size_t image, x;
    size_t first_row, end_row;
} held_rows;

/* Where the first of them lies among the rows of the window, which are a ring: those that the next tile reads too stay. */
static size_t first_place(const bc_plan *plan, const held_rows *held) {
    return plan->keeps_rows ? held->first_row % plan->window_height : 0;
}

/* Expanded floats of one group in the window. */
static size_t window_plane(const bc_plan *plan) {
    return plan->tile_images * plan->window_height * plan->window_row_floats;
}

/* Expands the window row in `scratch->window_row` of every group, to row `row` (over all images) of the window. */
static void expand_row(const bc_plan *plan, size_t row, size_t columns, size_t pixels,
                       const slice_scratch *scratch) {
    const bc_layer *layer = plan->layer;
    for (size_t group = 0; group < layer->groups; group++)
        layer->kernels->signsum_expand(&(bc_signsum_expand_args){
            .source = scratch->window_row + group * plan->window_width * layer->group_inputs,
            .source_stride = (ptrdiff_t)(plan->columns.stride * layer->group_inputs),
            .pixels = plan->shares_groups ? 1 : pixels,
            .run = (plan->shares_groups ? columns : layer->kernel_width) * layer->group_inputs,
            .groups = scratch->window + group * window_plane(plan) + row * plan->window_row_floats,
        });
}

/* Those that the tile before has left there are not prepared again. */
static void prepare_window(const run *run, const bc_tile *tile, const slice_scratch *scratch,
                           held_rows *held) {
    const bc_plan *plan = run->plan;
    const size_t first_column = tile->x * plan->columns.stride;
    const size_t columns = bc_min(plan->window_width, plan->columns.count - first_column);
    const size_t first = tile->y * plan->rows.stride;
    const size_t rows =
        (tile->height - 1) * plan->rows.stride + (plan->rows.taps - 1) * plan->rows.dilation + 1;
    const int follows = plan->keeps_rows && held->image == tile->image && held->x == tile->x &&
                        held->first_row <= first && first < held->end_row;
    const size_t kept = follows ? held->end_row - first : 0;
    float *abs_window = plan->layer->beta_scaling ? scratch->abs_window : NULL;
    if (abs_window && kept) /* so few that they are no ring */
        memmove(abs_window, abs_window + (first - held->first_row) * plan->window_width,
                kept * plan->window_width * sizeof *abs_window);
    *held = (held_rows){tile->image, tile->x, first, first + rows};
    const size_t place = first_place(plan, held);
    for (size_t image = 0; image < tile->images; image++)
        for (size_t row = kept; row < rows; row++) {
            const size_t image_row = image * plan->window_height;
            const size_t window_row = image_row + (place + row) % plan->window_height;
            bc_prepared_row out = {
                .abs_mean = abs_window ? abs_window + (image_row + row) * plan->window_width : NULL,
            };
            if (plan->slot_floats) {
                out.expanded = scratch->window + window_row * plan->window_row_floats;
                out.group_stride = window_plane(plan);
            } else {
                out.values = scratch->window_row;
                out.group_stride = plan->window_width * plan->layer->group_inputs;
            }
            bc_prepare_row(plan, run->source, tile->image + image, first + row, first_column,
                           first_column + columns, &out, scratch->staging);
            if (!plan->slot_floats) expand_row(plan, window_row, columns, tile->width, scratch);
        }
}

/* ---- Pixels of a tile ----------------------------------------------------------------------------- */

/* Where the first taps of a tile's pixels read, relative to its first pixel's, as runs within rows. */
static inline bc_walk walk_rows(const bc_tile *tile, const bc_steps *steps) {
    return (bc_walk){{{tile->width, (ptrdiff_t)steps->column, 1},
                      {tile->height, (ptrdiff_t)steps->row, tile->width},
                      {tile->images, (ptrdiff_t)steps->image, tile->width * tile->height}}};
}

/* The same as runs over rows and images where these are one. */
static inline bc_walk walk_of(const bc_tile *tile, const bc_steps *steps) {
    bc_walk walk = walk_rows(tile, steps);
    bc_flatten(&walk);
    return walk;
}

/* Where the first tap of a tile's first pixel reads, in what was prepared from the first pixel of `origin` on. */
static size_t first_element(const bc_tile *tile, const bc_tile *origin, const bc_steps *steps) {
    return (tile->image - origin->image) * steps->image + (tile->y - origin->y) * steps->row +
           (tile->x - origin->x) * steps->column;
}

/* For each run of the walk: `at` its first element, `pixel` its first pixel in the tile. */
#define FOR_RUNS(walk, at, pixel)                                                                     \
    for (size_t outer_ = 0; outer_ < (walk).loops[2].count; outer_++)                                 \
        for (size_t inner_ = 0, at, pixel;                                                            \
             inner_ < (walk).loops[1].count &&                                                        \
             (at = outer_ * (size_t)(walk).loops[2].stride + inner_ * (size_t)(walk).loops[1].stride, \
             pixel = outer_ * (walk).loops[2].pixels + inner_ * (walk).loops[1].pixels, 1);           \
             inner_++)

/* ---- Epilogue ------------------------------------------------------------------------------------- */

/* Output channels of a chunk that go to the same place of a destination block. */
typedef struct segment {
    size_t sub_y, sub_x;      /* sub-pixel */
    size_t channel, channels; /* of the destination, without its offset */
    size_t first_filter;      /* in the layer's padded arrays */
    size_t first_sum;         /* in the chunk's sums */
} segment;

/* What is the same for all that a slice finishes. */
static bc_epilogue_args slice_args(const bc_plan *plan) {
    const bc_layer *layer = plan->layer;
    return (bc_epilogue_args){
        .channel_base = layer->type == BC_XNOR ? plan->full_base : NULL,
        .count_shift = layer->type == BC_XNOR,
        .sum_shift = layer->type == BC_AND,
        .neuron = layer->neuron,
        .format = plan->config.destination.format,
    };
}

/* What is the same for a segment's pixels. */
static void take_segment(const bc_plan *plan, const segment *segment, bc_epilogue_args *args) {
    const bc_layer *layer = plan->layer;
    const bc_plan_config *config = &plan->config;
    const size_t filter = segment->first_filter;
    args->channels = segment->channels;
    args->scale = layer->scale + filter;
    args->bias = layer->bias + filter;
    if (layer->a_terms) args->neuron.a_terms = layer->a_terms + filter;
    if (layer->type == BC_AND)
        args->channel_base = bc_layer_weight_bits(layer, layer->kernel_height, layer->kernel_width) + filter;
    args->destination_bit = config->destination_channel_offset + segment->channel;
    if (config->pack_bias) {
        args->pack_bias = config->pack_bias + segment->channel;
        args->pack_scale = config->pack_scale + segment->channel;
    }
    if (plan->thresholds.count_threshold) {
        args->bit_threshold = plan->thresholds.count_threshold + filter;
        args->bit_flip = plan->thresholds.flip + filter;
    }
}

/* Some of a tile's pixels: the first and from each to the next, in the tile and in elements of the destination. */
typedef struct stretch {
    size_t pixels, pixel, pixel_step;
    size_t element;
    ptrdiff_t element_step;
} stretch;

/* Where they go, and what belongs to each. */
static void place_pixels(const run *run, const chunk *chunk, const slice_scratch *scratch,
                         const stretch *stretch, bc_epilogue_args *args) {
    static const size_t element_bytes[] = {
        [BC_FLOAT32] = sizeof(float), [BC_FLOAT16] = sizeof(uint16_t), [BC_BITS] = sizeof(uint64_t)};
    const bc_layer *layer = run->plan->layer;
    if (layer->type == BC_AND) {
        args->pixel_base = scratch->pixel_base + stretch->pixel * layer->groups + chunk->group;
        args->pixel_base_stride = stretch->pixel_step * layer->groups;
    }
    if (layer->beta_scaling) {
        args->beta = scratch->beta + stretch->pixel;
        args->beta_stride = stretch->pixel_step;
    }
    args->pixels = stretch->pixels;
    args->destination = run->destination + stretch->element * element_bytes[args->format];
    args->destination_stride = stretch->element_step;
}

static void finish_pixels(const run *run, const chunk *chunk, const segment *segment,
                          const slice_scratch *scratch, const stretch *stretch, bc_epilogue_args *args) {
    const bc_layer *layer = run->plan->layer;
    const size_t filters = chunk->blocks * layer->block_filters;
    const size_t first_sum = segment->first_sum + stretch->pixel * filters;
    if (bc_layer_is_binary(layer))
        args->counts = (const int32_t *)scratch->sums + first_sum;
    else
        args->sums = (const float *)scratch->sums + first_sum;
    args->row_stride = stretch->pixel_step * filters;
    place_pixels(run, chunk, scratch, stretch, args);
    layer->kernels->epilogue(args);
}

/* A grid of a tile's pixels: the first, and in elements of the destination from each to the next. */
typedef struct grid {
    size_t images, height, width;
    size_t pixel, element;
    bc_steps steps;
} grid;

static bc_walk walk_grid(const bc_tile *tile, const grid *grid) {
    bc_walk walk = {{{grid->width, (ptrdiff_t)grid->steps.column, 1},
                     {grid->height, (ptrdiff_t)grid->steps.row, tile->width},
                     {grid->images, (ptrdiff_t)grid->steps.image, tile->width * tile->height}}};
    bc_flatten(&walk);
    return walk;
}

static void finish_grid(const run *run, const bc_tile *tile, const chunk *chunk, const segment *segment,
                        const grid *grid, const slice_scratch *scratch, bc_epilogue_args *args) {
    const bc_walk walk = walk_grid(tile, grid);
    FOR_RUNS(walk, element, pixel)
    finish_pixels(run, chunk, segment, scratch,
                  &(stretch){walk.loops[0].count, grid->pixel + pixel, 1, grid->element + element,
                             walk.loops[0].stride},
                  args);
}

static size_t equal_kinds(const uint32_t *kinds, size_t count) {
    size_t equal = 1;
    while (equal < count && kinds[equal] == kinds[0]) equal++;
    return equal;
}

/* Rows with the same taps on the source: first all columns as if each were the middle one, then once more those that are not,
 * from top to bottom. These are few. */
static void finish_borders(const run *run, const bc_tile *tile, const chunk *chunk, const segment *segment,
                           const grid *grid, const slice_scratch *scratch, bc_epilogue_args *args) {
    const bc_plan *plan = run->plan;
    const uint32_t *row_kind = plan->borders.row_kind + tile->y;
    const uint32_t *column_kind = plan->borders.column_kind + tile->x;
    const int32_t **base = plan->thresholds.count_threshold ? &args->bit_threshold : &args->channel_base;
    struct grid part = *grid;
    part.images = 1;
    for (size_t image = 0; image < grid->images; image++)
        for (size_t y = 0; y < grid->height; y += part.height) {
            part.height = equal_kinds(row_kind + y, grid->height - y);
            part.pixel = (image * tile->height + y) * tile->width;
            part.element = grid->element + image * grid->steps.image + y * grid->steps.row;
            const size_t middle = grid->width / 2;
            *base = bc_border_base(plan, tile->y + y, tile->x + middle) + segment->first_filter;
            finish_grid(run, tile, chunk, segment, &part, scratch, args);
            for (size_t x = 0; x < grid->width; x++) {
                if (column_kind[x] == column_kind[middle]) continue;
                *base = bc_border_base(plan, tile->y + y, tile->x + x) + segment->first_filter;
                finish_pixels(run, chunk, segment, scratch,
                              &(stretch){part.height, part.pixel + x, tile->width,
                                         part.element + x * grid->steps.column, (ptrdiff_t)grid->steps.row},
                              args);
            }
        }
}

/* Where a segment's results of a tile go; 0 if nowhere. */
static int place_segment(const bc_plan *plan, const bc_tile *tile, const segment *segment, grid *grid) {
    const bc_plan_config *config = &plan->config;
    const bc_image *shape = &config->destination;
    const size_t factor = plan->layer->subpixel_factor;

    /* Sub-pixels past the clip rectangle's end are cut. */
    if (segment->sub_y >= config->clip_height || segment->sub_x >= config->clip_width) return 0;
    const size_t rows = bc_divide_up(config->clip_height - segment->sub_y, factor);
    const size_t columns = bc_divide_up(config->clip_width - segment->sub_x, factor);
    if (tile->y >= rows || tile->x >= columns) return 0;

    const size_t pixel_elements =
        shape->format == BC_BITS ? bc_divide_up(shape->channels, 64) : shape->channels;
    const size_t row_elements = shape->width * pixel_elements;
    const size_t image_elements = shape->height * row_elements;
    *grid = (struct grid){
        .images = tile->images,
        .height = bc_min(tile->height, rows - tile->y),
        .width = bc_min(tile->width, columns - tile->x),
        .element = (config->destination_first_image + tile->image) * image_elements +
                   (config->clip_y + tile->y * factor + segment->sub_y) * row_elements +
                   (config->clip_x + tile->x * factor + segment->sub_x) * pixel_elements +
                   (shape->format == BC_BITS ? 0 : config->destination_channel_offset + segment->channel),
        .steps = {factor * pixel_elements, factor * row_elements, image_elements},
    };
    return 1;
}

/* The same of a chunk that is one segment, which is taken. */
static grid place_chunk(const bc_plan *plan, const bc_tile *tile, const chunk *chunk,
                        bc_epilogue_args *args) {
    const segment segment = {
        .channel = chunk->first_output, .channels = chunk->outputs, .first_filter = chunk->first_filter};
    grid grid = {0};
    place_segment(plan, tile, &segment, &grid);
    take_segment(plan, &segment, args);
    return grid;
}

static void finish_segment(const run *run, const bc_tile *tile, const chunk *chunk, const segment *segment,
                           const slice_scratch *scratch, bc_epilogue_args *args) {
    const bc_plan *plan = run->plan;
    grid grid;
    if (!place_segment(plan, tile, segment, &grid)) return;
    take_segment(plan, segment, args);
    if (plan->borders.bases)
        finish_borders(run, tile, chunk, segment, &grid, scratch, args);
    else
        finish_grid(run, tile, chunk, segment, &grid, scratch, args);
}

static void finish_chunk(const run *run, const bc_tile *tile, const chunk *chunk,
                         const slice_scratch *scratch, bc_epilogue_args *args) {
    const bc_layer *layer = run->plan->layer;
    const size_t factor = layer->subpixel_factor;
    const size_t channels = layer->output_channels / (factor * factor);
    for (size_t done = 0; done < chunk->outputs;) {
        const size_t output = chunk->first_output + done, sub_pixel = output / channels;
        const segment segment = {
            .sub_y = sub_pixel / factor,
            .sub_x = sub_pixel % factor,
            .channel = output % channels,
            .channels = bc_min(chunk->outputs - done, channels - output % channels),
            .first_filter = chunk->first_filter + done,
            .first_sum = done,
        };
        finish_segment(run, tile, chunk, &segment, scratch, args);
        done += segment.channels;
    }
}

/* ---- Sums ----------------------------------------------------------------------------------------- */

/* beta of each pixel of the tile. */
static void sum_abs(const run *run, const bc_tile *tile, const bc_tile *origin,
                    const slice_scratch *scratch) {
    const bc_plan *plan = run->plan;
    const bc_layer *layer = plan->layer;
    const size_t taps = layer->kernel_height * layer->kernel_width;
    const bc_walk walk = walk_of(tile, &plan->abs_steps);
    const float *abs_mean = bc_layer_is_binary(layer) ? (const float *)(run->shared + plan->layout.abs_plane)
                                                      : scratch->abs_window;
    abs_mean += first_element(tile, origin, &plan->abs_steps);
    FOR_RUNS(walk, at, pixel)
    layer->kernels->window_sum(&(bc_window_sum_args){abs_mean + at, walk.loops[0].stride,
                                                     plan->tap_offset_abs, taps, walk.loops[0].count,
                                                     (float)taps, scratch->beta + pixel});
}

/* What the sums of one chunk's group read: its words, or floats, for the first pixel of the tile. */
static const uint64_t *first_words(const run *run, const bc_tile *tile, const bc_tile *origin, size_t group) {
    const bc_plan *plan = run->plan;
    return (const uint64_t *)run->shared + first_element(tile, origin, &plan->sum_steps) +
           group * plan->layer->tap_words;
}

/* AND: source bits in each pixel's window, for all groups side by side. */
static void count_source_bits(const run *run, const bc_tile *tile, const bc_tile *origin,
                              const slice_scratch *scratch) {
    const bc_plan *plan = run->plan;
    const bc_layer *layer = plan->layer;
    const size_t groups = layer->groups;
    const bc_walk walk = walk_of(tile, &plan->sum_steps);
    const uint64_t *words = first_words(run, tile, origin, 0);
    bc_window_popcount_args args = {.source_stride = walk.loops[0].stride,
                                    .tap_offset = plan->tap_offset,
                                    .taps = layer->sum_taps,
                                    .words = layer->tap_words,
                                    .pixels = walk.loops[0].count};
    size_t calls = 1;
    if (args.source_stride ==
        (ptrdiff_t)(groups * layer->tap_words)) { /* all groups of all pixels follow each other */
        args.source_stride = (ptrdiff_t)layer->tap_words;
        args.pixels *= groups;
    } else if (groups > 1) {
        args.source_stride = (ptrdiff_t)layer->tap_words;
        args.pixels = groups;
        calls = walk.loops[0].count;
    }
    FOR_RUNS(walk, at, pixel)
    for (size_t call = 0; call < calls; call++) {
        args.source = words + at + call * (size_t)walk.loops[0].stride;
        args.counts = scratch->pixel_base + (pixel + call) * groups;
        layer->kernels->window_popcount(&args);
    }
}

/* A chain for each row of the tile's pixels. */
static void chain_tile(const run *run, const bc_tile *tile, const bc_tile *origin,
                       const slice_scratch *scratch) {
    const bc_plan *plan = run->plan;
    const bc_layer *layer = plan->layer;
    const uint64_t *words = first_words(run, tile, origin, 0);
    for (size_t image = 0; image < tile->images; image++)
        layer->kernels->chain_source(&(bc_chain_source_args){
            .source = words + image * plan->sum_steps.image,
            .row_offset = plan->chain_row_offset,
            .rows = layer->kernel_height,
            .words = bc_plan_chain_words(plan, tile->width),
            .runs = tile->height,
            .source_run_stride = (ptrdiff_t)plan->sum_steps.row,
            .chain = scratch->chain + image * tile->height * plan->chain_stride,
            .run_stride = plan->chain_stride,
        });
}

/* As many bytes of weights may stay in a second-level cache from tile to tile; more come from memory each time. */
enum { WEIGHTS_KEPT = 512 * 1024 };

/* Counts, or where there is a grid for them the results themselves. */
static void sum_chains(const run *run, const bc_tile *tile, const chunk *chunk, const slice_scratch *scratch,
                       const grid *grid, bc_epilogue_args *finish) {
    const bc_plan *plan = run->plan;
    const bc_layer *layer = plan->layer;
    const size_t next = chunk->first_block + chunk->blocks, end = layer->group_blocks;
    bc_chain_sums_args args = {
        .words = layer->sum_taps * layer->tap_words,
        .pixels = tile->width,
        .run_stride = plan->chain_stride,
        .pixel_stride = plan->sum_steps.column * layer->kernel_height,
        .weights = (const char *)layer->blocks + chunk->first_block * layer->block_bytes,
        .blocks = chunk->blocks,
        .next_weights = next < end && layer->group_blocks * layer->block_bytes > WEIGHTS_KEPT
                            ? (const char *)layer->blocks + next * layer->block_bytes
                            : NULL,
        .counts = scratch->sums,
        .counts_stride = chunk->blocks * layer->block_filters,
        .finish = grid ? finish : NULL,
    };
    if (!grid) {
        args.chain = scratch->chain;
        args.runs = tile->images * tile->height;
        layer->kernels->chain_sums(&args);
        return;
    }
    const bc_walk walk = walk_grid(tile, grid);
    args.runs = walk.loops[0].count / tile->width;
    FOR_RUNS(walk, element, pixel) {
        args.chain = scratch->chain + pixel / tile->width * plan->chain_stride;
        place_pixels(run, chunk, scratch,
                     &(stretch){walk.loops[0].count, pixel, 1, grid->element + element, walk.loops[0].stride},
                     finish);
        layer->kernels->chain_sums(&args);
    }
}

static void sum_bits(const run *run, const bc_tile *tile, const bc_tile *origin, const chunk *chunk,
                     const slice_scratch *scratch) {
    const bc_plan *plan = run->plan;
    const bc_layer *layer = plan->layer;
    const bc_walk walk = walk_of(tile, &plan->sum_steps);
    const uint64_t *words = first_words(run, tile, origin, chunk->group);
    const size_t filters = chunk->blocks * layer->block_filters;
    const bc_loop *pixels = &walk.loops[0], *runs = &walk.loops[1], *images = &walk.loops[2];
    for (size_t image = 0; image < images->count; image++)
        layer->kernels->xorpop(&(bc_xorpop_args){
            .source = words + image * (size_t)images->stride,
            .source_stride = pixels->stride,
            .run_stride = runs->stride,
            .tap_offset = plan->tap_offset,
            .taps = layer->sum_taps,
            .words = layer->tap_words,
            .weights = (const char *)layer->blocks + chunk->first_block * layer->block_bytes,
            .runs = runs->count,
            .pixels = pixels->count,
            .blocks = chunk->blocks,
            .counts = (int32_t *)scratch->sums + image * images->pixels * filters,
            .counts_stride = filters,
        });
}

/* Kernel rows summed at once: more of them would let rounding errors pile up past a quarter of the terms when rows
 * are short. */
enum { SUMMED_ROWS = 8 };

static void sum_floats(const run *run, const bc_tile *tile, const held_rows *held, const chunk *chunk,
                       const slice_scratch *scratch) {
    const bc_plan *plan = run->plan;
    const bc_layer *layer = plan->layer;
    const bc_walk walk =
        plan->keeps_rows ? walk_rows(tile, &plan->sum_steps) : walk_of(tile, &plan->sum_steps);
    const size_t filters = chunk->blocks * layer->block_filters;
    const size_t row_bytes = layer->block_bytes / layer->sum_taps;
    const size_t first = first_place(plan, held) * plan->window_row_floats;
    const size_t ring = plan->window_height * plan->window_row_floats;
    FOR_RUNS(walk, at, pixel)
    for (size_t row = 0, rows; row < layer->sum_taps; row += rows) {
        rows = bc_min(SUMMED_ROWS, layer->sum_taps - row);
        ptrdiff_t row_offset[SUMMED_ROWS];
        for (size_t i = 0; i < rows; i++) {
            const size_t offset = first + at + (size_t)plan->tap_offset[row + i];
            const int wraps = first && offset >= ring; /* of several images the first row is 0 */
            row_offset[i] = (ptrdiff_t)(wraps ? offset - ring : offset);
        }
        layer->kernels->signsum(&(bc_signsum_args){
            .source = scratch->window + chunk->group * window_plane(plan),
            .source_stride = walk.loops[0].stride,
            .row_offset = row_offset,
            .rows = rows,
            .groups = plan->run_groups,
            .weights =
                (const char *)layer->blocks + chunk->first_block * layer->block_bytes + row * row_bytes,
            .block_stride_bytes = layer->block_bytes,
            .pixels = walk.loops[0].count,
            .blocks = chunk->blocks,
            .sums = (float *)scratch->sums + pixel * filters,
            .sums_stride = filters,
            .accumulate = row > 0,
        });
    }
}

/* ---- Slices --------------------------------------------------------------------------------------- */

/* One tile against some chunks; what they read was prepared from the first pixel of `origin` on, or is in the window. */
static void compute_tile(const run *run, const bc_tile *tile, const bc_tile *origin, const held_rows *held,
                         size_t first_chunk, size_t end_chunk, const slice_scratch *scratch,
                         bc_epilogue_args *args) {
    const bc_plan *plan = run->plan;
    const bc_layer *layer = plan->layer;
    if (layer->beta_scaling) sum_abs(run, tile, origin, scratch);

    if (layer->type == BC_AND) count_source_bits(run, tile, origin, scratch);
    if (layer->chains) chain_tile(run, tile, origin, scratch);

    for (size_t i = first_chunk, count; i < end_chunk; i += count) {
        count = bc_plan_joined_chunks(plan, tile, i, end_chunk - i);
        const chunk chunk = chunk_of(plan, i, count);
        grid grid;
        if (plan->finishes_chains) grid = place_chunk(plan, tile, &chunk, args);
        if (layer->chains)
            sum_chains(run, tile, &chunk, scratch, plan->finishes_chains ? &grid : NULL, args);
        else if (bc_layer_is_binary(layer))
            sum_bits(run, tile, origin, &chunk, scratch);
        else
            sum_floats(run, tile, held, &chunk, scratch);
        if (!plan->finishes_chains) finish_chunk(run, tile, &chunk, scratch, args);
    }
}

static void compute_slice(void *context, size_t slice) {
    const run *run = context;
    const bc_plan *plan = run->plan;
    const slice_scratch scratch = scratch_of(run, slice);
    bc_epilogue_args args = slice_args(plan);
    const int is_binary = bc_layer_is_binary(plan->layer);
    bc_row_scratch rows = {.slot_rows = scratch.slot_rows, .staging = scratch.staging};
    if (is_binary) prepare_share(run, slice, &rows);

    const size_t chunks = bc_plan_chunks(plan);
    size_t begin, end;
    share(plan->units / plan->unit_chunk, slice, run->slices, &begin, &end);
    begin *= plan->unit_chunk;
    end *= plan->unit_chunk;

    const bc_tile whole = {0};
    held_rows held = {0};
    while (begin < end) {
        const size_t index = begin / chunks, first_chunk = begin % chunks;
        const size_t end_chunk = bc_min(chunks, first_chunk + end - begin);
        const int is_whole = end_chunk - first_chunk == chunks;
        size_t tiles = is_whole ? (end - begin) / chunks : 1;
        const bc_tile tile = bc_plan_joined_tiles(plan, index, &tiles);
        if (is_binary)
            need_rows(run, &tile, &rows);
        else
            prepare_window(run, &tile, &scratch, &held);
        compute_tile(run, &tile, is_binary ? &whole : &tile, &held, first_chunk, end_chunk, &scratch, &args);
        begin += is_whole ? tiles * chunks : end_chunk - first_chunk;
    }
}

bc_status bc_plan_run(const bc_plan *plan, const void *source, void *destination, void *workspace,
                      size_t workspace_bytes, const bc_parallel *parallel) {
    if (!plan) return BC_INVALID_ARGUMENT;
    if (plan->empty) return BC_OK;
    const size_t slices = parallel && parallel->threads ? parallel->threads : 1;
    const int reads = plan->config.source.height && plan->config.source.width;
    if ((reads && !source) || !destination || !workspace) return BC_INVALID_ARGUMENT;
    if (workspace_bytes < bc_plan_workspace_bytes(plan, slices)) return BC_WORKSPACE_TOO_SMALL;

    const size_t alignment = 64;
    char *aligned = (char *)workspace + (alignment - (uintptr_t)workspace % alignment) % alignment;
    run run = {
        .plan = plan,
        .source = source,
        .destination = destination,
        .shared = aligned,
        .scratch = aligned + plan->layout.shared_bytes,
        .slices = slices,
    };
    if (slices > 1 && bc_layer_is_binary(plan->layer)) {
        const size_t rows = plan->config.images * plan->source_rows;
        run.row_states = (atomic_uchar *)(run.shared + plan->layout.row_states);
        for (size_t row = 0; row < rows; row++) atomic_init(&run.row_states[row], ROW_UNTOUCHED);
    }
    bc_for_slices(parallel, slices, compute_slice, &run);
    return BC_OK;
}
