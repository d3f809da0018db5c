#include "plan.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "sizes.h"

/* Filters of a chunk. Bits are written a word at a time, which wants 64; lookups keep more filters in registers. */
enum { CHUNK_FILTERS = 64, CHUNK_BLOCKS = 4, CHUNK_FILTERS_MOST = 128 };

/* Pixels of a tile with that many filters: enough to reuse a block's weights from L1, few enough that sums stay there. A
 * multiple of 7, 4 and 8, so that tiles of kernels that are built for any of these end without a rest. Chunks of fewer
 * filters get more pixels, so that there is as much to do for a call. */
enum { TILE_PIXELS = 56 };

/* A slice takes several of its tiles, or of a tile's chunks, at once where sums and results of all of them stay in L1. */
enum { BYTES_AT_ONCE = 28 * 1024 };

enum { WINDOW_BYTES = 384 * 1024, STAGING_FLOATS = 2048, ALIGNMENT = 64 };

/* Where a chain begins, so that the entries after its first, which is 0, begin with a cache line. */
enum { CHAIN_START = ALIGNMENT / sizeof(uint64_t) - 1 };

/* Multiply-adds that are worth a thread of their own: some 20 us, several times what waking a thread costs. */
static const double THREAD_BIT_OPERATIONS = 8e6, THREAD_FLOAT_OPERATIONS = 1e6;

/* ---- Checks --------------------------------------------------------------------------------------- */

static bc_status check_image(const bc_image *image) {
    const size_t sizes[] = {image->images, image->height, image->width, image->channels};
    size_t elements = sizeof(float);
    for (size_t i = 0; i < 4; i++) {
        if (sizes[i] > BC_MAX_SIZE) return BC_SIZE_OVERFLOW;
        if (sizes[i] && !bc_multiply(&elements, sizes[i])) return BC_SIZE_OVERFLOW;
    }
    return BC_OK;
}

static int span_fits(size_t first, size_t count, size_t total) {
    return first <= total && count <= total - first;
}

static bc_status check_config(const bc_layer *layer, const bc_plan_config *config) {
    const bc_image *source = &config->source, *destination = &config->destination;
    if (source->format < BC_FLOAT32 || source->format > BC_BITS) return BC_INVALID_ARGUMENT;
    if (source->format == BC_BITS && (!bc_layer_is_binary(layer) || layer->beta_scaling))
        return BC_INVALID_ARGUMENT;
    if (destination->format != BC_FLOAT32 && destination->format != BC_FLOAT16 &&
        destination->format != BC_BITS)
        return BC_INVALID_ARGUMENT;
    bc_status status = check_image(source);
    if (status == BC_OK) status = check_image(destination);
    if (status != BC_OK) return status;

    const size_t subpixels = layer->subpixel_factor * layer->subpixel_factor;
    if (!span_fits(config->source_channel_offset, layer->input_channels, source->channels) ||
        !span_fits(config->destination_channel_offset, layer->output_channels / subpixels,
                   destination->channels) ||
        !span_fits(config->source_first_image, config->images, source->images) ||
        !span_fits(config->destination_first_image, config->images, destination->images) ||
        !span_fits(config->clip_y, config->clip_height, destination->height) ||
        !span_fits(config->clip_x, config->clip_width, destination->width))
        return BC_INVALID_ARGUMENT;
    if (config->edge_mode < BC_EDGE_ZERO ||
        (config->edge_mode > BC_EDGE_CONSTANT && config->edge_mode != BC_EDGE_EXCLUDE))
        return BC_INVALID_ARGUMENT;
    if ((config->pack_bias == NULL) != (config->pack_scale == NULL)) return BC_INVALID_ARGUMENT;
    if (config->pack_bias && destination->format != BC_BITS) return BC_INVALID_ARGUMENT;
    return BC_OK;
}

/* ---- Parts ---------------------------------------------------------------------------------------- */

static bc_status make_slots(bc_plan *plan) {
    const bc_layer *layer = plan->layer;
    const bc_plan_config *config = &plan->config;
    const bc_slots_config rows = {
        plan->out_height, config->source.height, layer->kernel_height, layer->dilation_y,
        layer->stride_y,  config->offset_y,      config->edge_mode,    0};
    const bc_slots_config columns = {plan->out_width,   config->source.width,      layer->kernel_width,
                                     layer->dilation_x, layer->stride_x,           config->offset_x,
                                     config->edge_mode, !bc_layer_is_binary(layer)};
    const bc_status status = bc_slots_create(&rows, &plan->rows);
    return status == BC_OK ? bc_slots_create(&columns, &plan->columns) : status;
}

/* v of a pixel off the source, packed or as it is. */
static bc_status make_off_source_pixel(bc_plan *plan) {
    const bc_layer *layer = plan->layer;
    const size_t channels = layer->input_channels;
    const bc_edge_mode mode = plan->config.edge_mode;
    const float edge = mode == BC_EDGE_CONSTANT ? plan->config.edge_constant : 0.0f;
    float *values = malloc(channels * sizeof *values);
    if (!values) return BC_OUT_OF_MEMORY;
    for (size_t c = 0; c < channels; c++) values[c] = edge;
    plan->off_source_values = values;

    if (bc_layer_is_binary(layer)) {
        plan->off_source_words = calloc(plan->slot_words, sizeof *plan->off_source_words);
        if (!plan->off_source_words) return BC_OUT_OF_MEMORY;
        if (mode == BC_EDGE_EXCLUDE) return BC_OK;
        layer->kernels->pack_f32(&(bc_pack_args){.source = values,
                                                 .pixels = 1,
                                                 .channels = channels,
                                                 .threshold = layer->input_thresholds.threshold,
                                                 .flip = layer->input_thresholds.flip,
                                                 .words = plan->off_source_words});
    } else if (mode != BC_EDGE_EXCLUDE && layer->input_bias) {
        float *terms = malloc(channels * sizeof *terms);
        if (!terms) return BC_OUT_OF_MEMORY;
        layer->kernels->terms_f32(&(bc_terms_args){.source = values,
                                                   .pixels = 1,
                                                   .channels = channels,
                                                   .bias = layer->input_bias,
                                                   .scale = layer->input_scale,
                                                   .destination = terms});
        memcpy(values, terms, channels * sizeof *values);
        free(terms);
    }
    return BC_OK;
}

static bc_status copy_pack_terms(bc_plan *plan) {
    if (!plan->config.pack_bias) return BC_OK;
    const size_t subpixels = plan->layer->subpixel_factor * plan->layer->subpixel_factor;
    const size_t channels = plan->layer->output_channels / subpixels;
    const float *from[] = {plan->config.pack_bias, plan->config.pack_scale};
    plan->config.pack_bias = plan->config.pack_scale =
        NULL; /* so that failure frees nothing of the caller's */
    float *copies[2];
    for (int i = 0; i < 2; i++) {
        copies[i] = calloc(channels + BC_SLACK, sizeof(float));
        if (!copies[i]) {
            if (i) free(copies[0]);
            return BC_OUT_OF_MEMORY;
        }
        memcpy(copies[i], from[i], channels * sizeof(float));
    }
    plan->config.pack_bias = copies[0];
    plan->config.pack_scale = copies[1];
    return BC_OK;
}

/* How far a tile's window reaches along one axis. */
static size_t window_slots(const bc_slots *slots, size_t destinations) {
    return (destinations - 1) * slots->stride + (slots->taps - 1) * slots->dilation + 1;
}

enum { GROUP = 4 /* inputs that signsum takes at once */ };

static void lay_out_window(bc_plan *plan) {
    const bc_layer *layer = plan->layer;
    const size_t group_floats = layer->kernels->signsum_group_floats;
    const size_t run = layer->tap_inputs;
    const size_t step = plan->columns.stride * layer->group_inputs;
    plan->window_height = window_slots(&plan->rows, plan->tile_height);
    plan->window_width = window_slots(&plan->columns, plan->tile_width);
    plan->run_groups = bc_divide_up(run, GROUP);
    plan->shares_groups = run % GROUP == 0 && step % GROUP == 0;
    if (layer->group_inputs % GROUP == 0 && !layer->input_bias && !layer->beta_scaling)
        plan->slot_floats = layer->group_inputs / GROUP * group_floats;
    plan->sum_steps.column = (plan->shares_groups ? step / GROUP : plan->run_groups) * group_floats;
    plan->window_row_floats = plan->shares_groups
                                  ? plan->window_width * layer->group_inputs / GROUP * group_floats
                                  : plan->tile_width * plan->sum_steps.column;
    plan->sum_steps.row = plan->rows.stride * plan->window_row_floats;
    plan->sum_steps.image = plan->window_height * plan->window_row_floats;
    plan->abs_steps = (bc_steps){plan->columns.stride, plan->rows.stride * plan->window_width,
                                 plan->window_height * plan->window_width};
}

static double window_bytes(const bc_plan *plan) {
    return (double)plan->window_row_floats * (double)plan->window_height * (double)plan->tile_images *
           (double)plan->layer->groups * sizeof(float);
}

/* Equal parts of at most `most`. */
static size_t even_part(size_t total, size_t most) {
    return bc_divide_up(total, bc_divide_up(total, most ? most : 1));
}

/* Tiles small enough for their window. Rows that one tile reads after another stay there, unless a run of pixels goes over
 * several rows, which must lie in order then. */
static void fit_window(bc_plan *plan) {
    size_t *parts[] = {&plan->tile_images, &plan->tile_height, &plan->tile_width};
    plan->joined_tiles = 1;
    lay_out_window(plan);
    for (int i = 0; i < 3; i++)
        while (*parts[i] > 1 && window_bytes(plan) > WINDOW_BYTES) {
            *parts[i] = (*parts[i] + 1) / 2;
            lay_out_window(plan);
        }
    plan->keeps_rows = plan->rows.taps > 1 && (plan->tile_width > 1 || plan->tile_height == 1);
}

/* The only run of slots on the source, where those next to each other are so there as well; otherwise NULL. */
static const bc_run *find_dense_run(const bc_plan *plan) {
    const bc_layer *layer = plan->layer;
    const bc_image *source = &plan->config.source;
    const bc_run *found = NULL;
    if (layer->input_bias || layer->beta_scaling) return NULL; /* which are taken pixel by pixel */
    /* Bits are moved there one slot after the other, which pays where many taps are read of each. */
    if (source->format == BC_BITS ? !bc_layer_joins_rows(layer) : source->channels != layer->input_channels)
        return NULL;
    for (size_t i = 0; i < plan->columns.run_count; i++) {
        const bc_run *run = &plan->columns.runs[i];
        if (run->source == BC_OFF_SOURCE) continue;
        if (found || (run->slots > 1 && run->step != 1)) return NULL;
        found = run;
    }
    return found;
}

static void lay_out_slots(bc_plan *plan) {
    const bc_layer *layer = plan->layer;
    const size_t channels = layer->input_channels;
    plan->slot_words = bc_divide_up(channels, 64);
    plan->slot_step_bits = 64 * plan->slot_words;
    if (layer->gathers && channels % 64) plan->dense_run = find_dense_run(plan);
    if (plan->dense_run) {
        const size_t off_bits = plan->dense_run->first_slot * channels;
        plan->slot_step_bits = channels;
        plan->slot_first_bit = bc_round_up(off_bits, 64) - off_bits;
    }
    plan->slot_row_words =
        bc_divide_up(plan->slot_first_bit + plan->columns.count * plan->slot_step_bits, 64);
}

static void lay_out_source(bc_plan *plan) {
    const bc_layer *layer = plan->layer;
    const int joins = layer->joined_taps > 1, joins_rows = bc_layer_joins_rows(layer);
    plan->positions = joins ? plan->out_width : plan->columns.count;
    plan->source_rows = joins_rows ? plan->out_height : plan->rows.count;
    plan->source_row_words = plan->positions * layer->groups * layer->tap_words;
    if (layer->gathers) plan->source_row_words *= bc_divide_up(layer->joined_taps * layer->group_inputs, 64);
    plan->sum_steps = (bc_steps){
        .column = (joins ? 1 : plan->columns.stride) * layer->groups * layer->tap_words,
        .row = (joins_rows ? 1 : plan->rows.stride) * plan->source_row_words,
        .image = plan->source_rows * plan->source_row_words,
    };
    plan->abs_steps = (bc_steps){plan->columns.stride, plan->rows.stride * plan->columns.count,
                                 plan->rows.count * plan->columns.count};
}

static size_t tile_pixels(const bc_plan *plan) {
    return plan->tile_images * plan->tile_height * plan->tile_width;
}

static size_t fitting_sums(const bc_plan *plan) {
    const bc_format format = plan->config.destination.format;
    const size_t result = format == BC_FLOAT32 ? sizeof(float) : format == BC_FLOAT16 ? sizeof(uint16_t) : 0;
    return BYTES_AT_ONCE / (sizeof(int32_t) + result);
}

static void join_tiles(bc_plan *plan) {
    const size_t chunk_filters = plan->chunk_blocks * plan->layer->block_filters;
    const size_t fit = fitting_sums(plan) / (tile_pixels(plan) * chunk_filters);
    const int in_rows = plan->tile_images == 1 && plan->tile_width == plan->out_width;
    const size_t tiles = bc_divide_up(plan->out_height, plan->tile_height);
    plan->joined_tiles = in_rows && fit > 1 ? bc_min(fit, tiles) : 1;
}

static void choose_tiles(bc_plan *plan) {
    const bc_layer *layer = plan->layer;
    size_t filters = CHUNK_FILTERS_MOST;
    if (layer->chains || (bc_layer_is_binary(layer) && CHUNK_BLOCKS * layer->block_filters <= CHUNK_FILTERS))
        filters = CHUNK_FILTERS;
    plan->chunk_blocks = bc_min(filters / layer->block_filters, layer->group_blocks);
    plan->group_chunks = bc_divide_up(layer->group_blocks, plan->chunk_blocks);

    const size_t most = TILE_PIXELS * (filters / layer->block_filters / plan->chunk_blocks);
    plan->tile_width = plan->out_width <= most ? plan->out_width : even_part(plan->out_width, TILE_PIXELS);
    plan->tile_height = plan->tile_images = 1;
    if (plan->tile_width == plan->out_width)
        plan->tile_height = even_part(plan->out_height, most / plan->tile_width);
    if (plan->tile_width == plan->out_width && plan->tile_height == plan->out_height)
        plan->tile_images = even_part(plan->config.images, most / (plan->tile_width * plan->tile_height));

    if (bc_layer_is_binary(layer)) {
        lay_out_slots(plan);
        lay_out_source(plan);
        join_tiles(plan);
    } else {
        fit_window(plan);
    }
    const size_t pixels = tile_pixels(plan) * plan->joined_tiles;
    const size_t chunk_sums = pixels * plan->chunk_blocks * layer->block_filters;
    const size_t group_sums = pixels * layer->group_filters;
    const size_t fitting = bc_min(fitting_sums(plan), group_sums);
    plan->sums_at_once = chunk_sums > fitting ? chunk_sums : fitting;
    plan->tiles_images = bc_divide_up(plan->config.images, plan->tile_images);
    plan->tiles_y = bc_divide_up(plan->out_height, plan->tile_height);
    plan->tiles_x = bc_divide_up(plan->out_width, plan->tile_width);
}

/* Whether two chunks write into one word of a packed destination, so that one thread must do both. */
static int chunks_share_words(const bc_plan *plan) {
    const bc_layer *layer = plan->layer;
    if (plan->config.destination.format != BC_BITS) return 0;
    const size_t channels = layer->output_channels / (layer->subpixel_factor * layer->subpixel_factor);
    const size_t chunk = plan->chunk_blocks * layer->block_filters;
    for (size_t group = 0; group < layer->groups; group++)
        for (size_t filter = 0; filter < layer->group_outputs; filter += chunk) {
            const size_t channel = (group * layer->group_outputs + filter) % channels;
            if (channel && (plan->config.destination_channel_offset + channel) % 64) return 1;
        }
    return 0;
}

static bc_status choose_units(bc_plan *plan) {
    plan->unit_chunk = chunks_share_words(plan) ? bc_plan_chunks(plan) : 1;
    plan->units = 1;
    if (!bc_multiply(&plan->units, plan->tiles_images) || !bc_multiply(&plan->units, plan->tiles_y) ||
        !bc_multiply(&plan->units, plan->tiles_x) || !bc_multiply(&plan->units, bc_plan_chunks(plan)))
        return BC_SIZE_OVERFLOW;
    return BC_OK;
}

static bc_status make_tap_offsets(bc_plan *plan) {
    const bc_layer *layer = plan->layer;
    const size_t height = layer->kernel_height, width = layer->kernel_width;
    const int binary = bc_layer_is_binary(layer);
    /* In sums: (rows of) taps, and of what is gathered the words of each, which lie a plane apart. */
    const size_t row_taps = layer->joined_taps > 1 ? 1 : width;
    const size_t taps = height * width / layer->joined_taps, words = layer->sum_taps / taps;
    const size_t sum_row = plan->rows.dilation * (binary ? plan->source_row_words : plan->window_row_floats);
    const size_t sum_column = plan->columns.dilation * layer->groups * layer->tap_words;
    const size_t plane = plan->positions * layer->groups;
    const size_t abs_row = plan->rows.dilation * (binary ? plan->columns.count : plan->window_width);
    plan->tap_offset = malloc(layer->sum_taps * sizeof *plan->tap_offset);
    plan->tap_offset_abs = malloc(height * width * sizeof *plan->tap_offset_abs);
    if (!plan->tap_offset || !plan->tap_offset_abs) return BC_OUT_OF_MEMORY;
    for (size_t i = 0; i < layer->sum_taps; i++) {
        const size_t tap = i / words, word = i % words;
        plan->tap_offset[i] =
            (ptrdiff_t)(tap / row_taps * sum_row + tap % row_taps * sum_column + word * plane);
    }
    for (size_t tap = 0; tap < height * width; tap++)
        plan->tap_offset_abs[tap] = (ptrdiff_t)(tap / width * abs_row + tap % width * plan->columns.dilation);
    return BC_OK;
}

static bc_status make_chain_offsets(bc_plan *plan) {
    const bc_layer *layer = plan->layer;
    if (!layer->chains) return BC_OK;
    plan->chain_row_offset = malloc(layer->kernel_height * sizeof *plan->chain_row_offset);
    if (!plan->chain_row_offset) return BC_OUT_OF_MEMORY;
    for (size_t r = 0; r < layer->kernel_height; r++)
        plan->chain_row_offset[r] = plan->tap_offset[r * layer->kernel_width];
    const size_t entries = 1 + bc_plan_chain_words(plan, plan->tile_width) * layer->kernel_height;
    plan->chain_stride = bc_round_up(entries, ALIGNMENT / sizeof(uint64_t));
    return BC_OK;
}

/* The fields to gather: joined taps, or rows of them where those of a row follow each other in the slots as well. */
static bc_status make_gather_offsets(bc_plan *plan) {
    const bc_layer *layer = plan->layer;
    if (!layer->gathers) return BC_OK;
    const size_t step = plan->columns.dilation * plan->slot_step_bits, inputs = layer->group_inputs;
    const int adjacent = layer->joined_taps > 1 && layer->groups == 1 && step == inputs;
    const size_t width = adjacent ? 1 : layer->kernel_width;
    plan->gather_rows = bc_layer_joins_rows(layer) ? (plan->rows.taps - 1) * plan->rows.dilation + 1 : 1;
    plan->gather_taps = layer->joined_taps / (adjacent ? layer->kernel_width : 1);
    plan->gather_bits = layer->joined_taps * inputs / plan->gather_taps;
    plan->gather_tap_bit = malloc(plan->gather_taps * sizeof *plan->gather_tap_bit);
    if (!plan->gather_tap_bit) return BC_OUT_OF_MEMORY;
    for (size_t tap = 0; tap < plan->gather_taps; tap++)
        plan->gather_tap_bit[tap] =
            (ptrdiff_t)(tap / width * plan->rows.dilation * plan->slot_row_words * 64 + tap % width * step);

    if (!plan->dense_run || plan->config.source.format != BC_BITS) return BC_OK;
    plan->dense_bit = malloc(plan->dense_run->slots * sizeof *plan->dense_bit);
    if (!plan->dense_bit) return BC_OUT_OF_MEMORY;
    for (size_t slot = 0; slot < plan->dense_run->slots; slot++)
        plan->dense_bit[slot] = (ptrdiff_t)(slot * bc_round_up(plan->config.source.channels, 64));
    return BC_OK;
}

/* ---- Workspace ------------------------------------------------------------------------------------ */

static int add_part(size_t *bytes, size_t *at, size_t elements, size_t element_bytes) {
    *at = *bytes;
    if (!bc_multiply(&elements, element_bytes)) return 0;
    const size_t end = *bytes + bc_round_up(elements, ALIGNMENT);
    if (end < *bytes || end > (size_t)PTRDIFF_MAX) return 0;
    *bytes = end;
    return 1;
}

static bc_status lay_out_workspace(bc_plan *plan) {
    const bc_layer *layer = plan->layer;
    const int binary = bc_layer_is_binary(layer);
    bc_workspace_layout *layout = &plan->layout;
    const size_t pixels = tile_pixels(plan) * plan->joined_tiles;
    size_t chains = pixels / plan->tile_width;
    if (!bc_multiply(&chains, plan->chain_stride)) return BC_SIZE_OVERFLOW;

    size_t rows = binary ? plan->config.images : 0, slots = layer->beta_scaling ? rows : 0;
    size_t bytes = 0, unused;
    if (!bc_multiply(&rows, plan->source_rows)) return BC_SIZE_OVERFLOW;
    size_t words = rows;
    if (!bc_multiply(&words, plan->source_row_words) || !bc_multiply(&slots, plan->rows.count) ||
        !bc_multiply(&slots, plan->columns.count) || !add_part(&bytes, &unused, words, sizeof(uint64_t)) ||
        !add_part(&bytes, &layout->abs_plane, slots, sizeof(float)) ||
        !add_part(&bytes, &layout->row_states, rows, sizeof(atomic_uchar)))
        return BC_SIZE_OVERFLOW;
    layout->shared_bytes = bytes;

    size_t slot_rows = plan->gather_rows;
    if (!bc_multiply(&slot_rows, plan->slot_row_words)) return BC_SIZE_OVERFLOW;

    size_t window_row = binary || plan->slot_floats ? 0 : layer->input_channels;
    size_t window = binary ? 0 : layer->groups;
    if (!bc_multiply(&window_row, plan->window_width) || !bc_multiply(&window, plan->tile_images) ||
        !bc_multiply(&window, plan->window_height) || !bc_multiply(&window, plan->window_row_floats))
        return BC_SIZE_OVERFLOW;
    const size_t abs_window =
        binary || !layer->beta_scaling ? 0 : plan->tile_images * plan->window_height * plan->window_width;
    const int staged = plan->config.source.format == BC_FLOAT16 || plan->config.source.format == BC_UNORM8;
    const size_t at_once = layer->input_channels * (plan->dense_run ? plan->dense_run->slots : 1);
    plan->staging_floats = !staged ? 0 : at_once > STAGING_FLOATS ? at_once : STAGING_FLOATS;
    bytes = 0;
    if (!add_part(&bytes, &layout->sums, plan->sums_at_once + BC_SLACK, sizeof(float)) ||
        !add_part(&bytes, &layout->chain,
                  chains ? CHAIN_START + chains + BC_CHAIN_SLACK * layer->kernel_height : 0,
                  sizeof(uint64_t)) ||
        !add_part(&bytes, &layout->pixel_base, layer->type == BC_AND ? pixels * layer->groups : 0,
                  sizeof(int32_t)) ||
        !add_part(&bytes, &layout->beta, pixels, sizeof(float)) ||
        !add_part(&bytes, &layout->staging, plan->staging_floats, sizeof(float)) ||
        !add_part(&bytes, &layout->slot_rows, slot_rows, sizeof(uint64_t)) ||
        !add_part(&bytes, &layout->window_row, window_row, sizeof(float)) ||
        !add_part(&bytes, &layout->window, window, sizeof(float)) ||
        !add_part(&bytes, &layout->abs_window, abs_window, sizeof(float)))
        return BC_SIZE_OVERFLOW;
    layout->chain += CHAIN_START * sizeof(uint64_t);
    layout->slice_bytes = bytes;
    return BC_OK;
}

size_t bc_plan_workspace_bytes(const bc_plan *plan, size_t threads) {
    if (plan->empty) return 0;
    size_t bytes = plan->layout.slice_bytes;
    if (!bc_multiply(&bytes, threads ? threads : 1)) return SIZE_MAX;
    if (bytes > SIZE_MAX - plan->layout.shared_bytes - ALIGNMENT) return SIZE_MAX;
    return bytes + plan->layout.shared_bytes + ALIGNMENT;
}

size_t bc_plan_threads(const bc_plan *plan, size_t limit) {
    if (plan->empty || limit <= 1) return 1;
    const bc_layer *layer = plan->layer;
    const double operations = (double)plan->config.images * (double)plan->out_height *
                              (double)plan->out_width * (double)layer->kernel_height *
                              (double)layer->kernel_width * (double)layer->group_inputs *
                              (double)layer->output_channels;
    const double each = bc_layer_is_binary(layer) ? THREAD_BIT_OPERATIONS : THREAD_FLOAT_OPERATIONS;
    const double worth = operations / each;
    const size_t pieces = bc_divide_up(plan->units, plan->unit_chunk);
    size_t threads = bc_min(limit, pieces);
    if (worth < (double)threads) threads = (size_t)worth;
    return threads ? threads : 1;
}

/* Whether chain_sums makes results of this kind, and of all filters in whole blocks. */
static int chains_finish(const bc_plan *plan) {
    const bc_layer *layer = plan->layer;
    const bc_neuron_type neuron = layer->neuron.type;
    return layer->chains && layer->group_outputs == layer->group_filters && layer->subpixel_factor == 1 &&
           plan->config.destination.format == BC_FLOAT32 && !layer->beta_scaling && !plan->borders.bases &&
           (neuron == BC_NEURON_NONE || neuron == BC_NEURON_RELU || neuron == BC_NEURON_PRELU);
}

/* ---- The interface -------------------------------------------------------------------------------- */

static bc_status fill_plan(bc_plan *plan) {
    const bc_layer *layer = plan->layer;
    const bc_plan_config *config = &plan->config;
    plan->out_height = bc_divide_up(config->clip_height, layer->subpixel_factor);
    plan->out_width = bc_divide_up(config->clip_width, layer->subpixel_factor);
    plan->empty = !config->images || !plan->out_height || !plan->out_width;
    bc_status status = copy_pack_terms(plan);
    if (status != BC_OK || plan->empty) return status;

    status = make_slots(plan);
    if (status != BC_OK) return status;
    choose_tiles(plan);
    status = choose_units(plan);
    if (status == BC_OK) status = make_tap_offsets(plan);
    if (status == BC_OK) status = make_chain_offsets(plan);
    if (status == BC_OK) status = make_gather_offsets(plan);
    if (status == BC_OK) status = lay_out_workspace(plan);
    if (status == BC_OK) status = make_off_source_pixel(plan);
    if (status == BC_OK && config->destination.format == BC_BITS && bc_has_thresholds(layer))
        status = bc_thresholds_create(layer, config->pack_bias, config->pack_scale, &plan->thresholds);
    if (status != BC_OK) return status;

    const int excludes = layer->type == BC_XNOR && config->edge_mode == BC_EDGE_EXCLUDE;
    if (excludes && (plan->rows.any_off || plan->columns.any_off))
        status = bc_borders_create(layer, &plan->rows, &plan->columns, &plan->thresholds, &plan->borders);
    if (status != BC_OK) return status;

    plan->finishes_chains = chains_finish(plan);

    const size_t window_bits = layer->kernel_height * layer->kernel_width * layer->group_inputs;
    for (size_t c = 0; c < sizeof plan->full_base / sizeof plan->full_base[0]; c++)
        plan->full_base[c] = (int32_t)window_bits;
    return BC_OK;
}

bc_status bc_plan_create(const bc_layer *layer, const bc_plan_config *config, bc_plan **plan) {
    if (!layer || !config || !plan) return BC_INVALID_ARGUMENT;
    bc_status status = check_config(layer, config);
    if (status != BC_OK) return status;
    bc_plan *created = calloc(1, sizeof *created);
    if (!created) return BC_OUT_OF_MEMORY;
    created->layer = layer;
    created->config = *config;
    status = fill_plan(created);
    if (status != BC_OK) {
        bc_plan_destroy(created);
        return status;
    }
    *plan = created;
    return BC_OK;
}

void bc_plan_destroy(bc_plan *plan) {
    if (!plan) return;
    bc_slots_free(&plan->rows);
    bc_slots_free(&plan->columns);
    free((void *)plan->config.pack_bias);
    free((void *)plan->config.pack_scale);
    bc_thresholds_free(&plan->thresholds);
    bc_borders_free(&plan->borders);
    free(plan->tap_offset);
    free(plan->tap_offset_abs);
    free(plan->chain_row_offset);
    free(plan->gather_tap_bit);
    free(plan->dense_bit);
    free(plan->off_source_words);
    free(plan->off_source_values);
    free(plan);
}

/* Where part `index` of `parts` begins: they differ by 1 at most, so that threads get as much to do, each of them. `most` is
 * the largest part; divisions take as long as everything else that is done for a tile. */
static size_t part_begin(size_t total, size_t parts, size_t most, size_t index) {
    if (parts * most == total) return index * most;
    return (size_t)((uint64_t)total * index / parts); /* sizes are below 2^31 */
}

bc_tile bc_plan_joined_tiles(const bc_plan *plan, size_t index, size_t *count) {
    const int down = plan->keeps_rows; /* column by column, as each tile finds rows there of the one above */
    const size_t inner = down ? plan->tiles_y : plan->tiles_x, outer = down ? plan->tiles_x : plan->tiles_y;
    const size_t first = index % inner, rest = index / inner, second = rest % outer, image = rest / outer;
    const size_t x = down ? second : first, y = down ? first : second;
    const size_t joined = plan->tiles_x > 1 ? 1 : bc_min(plan->joined_tiles, plan->tiles_y - y);
    *count = bc_min(*count, joined);
#define CUT(total, parts, most, at) part_begin(plan->total, plan->parts, plan->most, at)
    bc_tile tile = {.image = CUT(config.images, tiles_images, tile_images, image),
                    .y = CUT(out_height, tiles_y, tile_height, y),
                    .x = CUT(out_width, tiles_x, tile_width, x)};
    tile.images = CUT(config.images, tiles_images, tile_images, image + 1) - tile.image;
    tile.height = CUT(out_height, tiles_y, tile_height, y + *count) - tile.y;
    tile.width = CUT(out_width, tiles_x, tile_width, x + 1) - tile.x;
#undef CUT
    return tile;
}

size_t bc_plan_joined_chunks(const bc_plan *plan, const bc_tile *tile, size_t index, size_t count) {
    const size_t pixels = tile->images * tile->height * tile->width;
    const size_t chunk_filters = plan->chunk_blocks * plan->layer->block_filters;
    const size_t fit = bc_min(plan->sums_at_once / pixels, BC_EPILOGUE_CHANNELS) / chunk_filters;
    return bc_min(bc_min(count, plan->group_chunks - index % plan->group_chunks), fit > 1 ? fit : 1);
}
