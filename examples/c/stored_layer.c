#include "stored_layer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char *const NO_MEMORY = "memory runs out";
static const char *const MALFORMED = "a layer's description is malformed";

/* What is needed while a layer is made. */
typedef struct reader {
    const safetensors *file;
    const json_value *description, *descriptor, *state;
    char *prefix;
    bc_layer_config config;
    double scale_value;
    float *scale, *bias;
} reader;

/* ---- Tensors -------------------------------------------------------------------------------------- */

/* [count] float32; NULL, and no error, where there is no such tensor. */
static const char *read_terms(const reader *r, const char *name, size_t count, const float **terms) {
    const safetensors_tensor *tensor = safetensors_find(r->file, r->prefix, name);
    *terms = NULL;
    if (!tensor) return NULL;
    if (tensor->type != SAFETENSORS_F32 || tensor->dimensions != 1 || tensor->elements != count)
        return "terms of a layer are of the wrong type or length";
    *terms = safetensors_data(r->file, tensor);
    return NULL;
}

static const char *read_weights(reader *r) {
    bc_layer_config *config = &r->config;
    const safetensors_tensor *tensor = safetensors_find(r->file, r->prefix, "weights");
    const size_t group_inputs = config->input_channels / config->groups;
    const size_t shape[] = {config->output_channels, config->kernel_height, config->kernel_width,
                            group_inputs / 32 + (group_inputs % 32 != 0)};
    if (!tensor || tensor->type != SAFETENSORS_U32 || tensor->dimensions != 4 ||
        memcmp(tensor->shape, shape, sizeof shape) != 0)
        return "weights of a layer are missing or of the wrong type or shape";
    config->weights = safetensors_data(r->file, tensor);
    config->weights_words = tensor->elements;
    return NULL;
}

/* [count] of the F32 or F64 tensor, or `absent` everywhere; NULL where it is wrong or memory runs out. */
static double *read_doubles(const reader *r, const char *name, size_t count, double absent) {
    const safetensors_tensor *tensor = safetensors_find(r->file, r->prefix, name);
    if (tensor && (tensor->dimensions != 1 || tensor->elements != count ||
                   (tensor->type != SAFETENSORS_F32 && tensor->type != SAFETENSORS_F64)))
        return NULL;
    const void *data = tensor ? safetensors_data(r->file, tensor) : NULL;
    double *values = malloc(count * sizeof *values);
    for (size_t i = 0; values && i < count; i++) {
        if (!tensor)
            values[i] = absent;
        else if (tensor->type == SAFETENSORS_F32)
            values[i] = ((const float *)data)[i];
        else
            values[i] = ((const double *)data)[i];
    }
    return values;
}

static float *copy_terms(const float *terms, size_t count, float absent) {
    float *copy = malloc(count * sizeof *copy);
    for (size_t i = 0; copy && i < count; i++) copy[i] = terms ? terms[i] : absent;
    return copy;
}

/* ---- Parts of a description ------------------------------------------------------------------------ */

static bool read_float(const json_value *value, float *result) {
    double number;
    if (!json_double(value, &number)) return false;
    *result = (float)number;
    return isfinite(*result);
}

static const char *read_sizes(reader *r) {
    bc_layer_config *config = &r->config;
    const struct {
        const char *name;
        size_t *size;
    } sizes[] = {{"input_feature_channels", &config->input_channels},
                 {"output_feature_channels", &config->output_channels},
                 {"groups", &config->groups},
                 {"kernel_height", &config->kernel_height},
                 {"kernel_width", &config->kernel_width},
                 {"stride_in_pixels_y", &config->stride_y},
                 {"stride_in_pixels_x", &config->stride_x},
                 {"dilation_rate_y", &config->dilation_y},
                 {"dilation_rate_x", &config->dilation_x},
                 {"subpixel_scale_factor", &config->subpixel_factor}};
    config->subpixel_factor = 1; /* only one kind of descriptor has it */
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        const json_value *value = json_member(r->descriptor, sizes[i].name);
        if (!value && *sizes[i].size) continue;
        /* What is larger than INT32_MAX the library refuses, too; here it keeps products small. */
        if (!json_size(value, sizes[i].size) || *sizes[i].size == 0 || *sizes[i].size > INT32_MAX)
            return MALFORMED;
    }
    const size_t subpixels = config->subpixel_factor;
    if (subpixels > config->output_channels || config->output_channels % (subpixels * subpixels))
        return MALFORMED;
    return NULL;
}

static const char *read_kind(reader *r, stored_layer *layer) {
    const json_value *kind = json_member(r->description, "kind");
    int64_t type, flags;
    if (!json_integer(json_member(r->description, "type"), &type) ||
        !json_integer(json_member(r->description, "flags"), &flags) || type < BC_BINARY_WEIGHTS ||
        type > BC_AND || flags < 0 || flags > 1)
        return MALFORMED;
    layer->is_fully_connected = json_is(kind, "BinaryFullyConnected");
    if (!layer->is_fully_connected && !json_is(kind, "BinaryConvolution")) return MALFORMED;
    r->config.type = (bc_type)type;
    r->config.beta_scaling = flags == 1;
    layer->takes_bits = type != BC_BINARY_WEIGHTS && flags == 0;
    return NULL;
}

static const char *read_neuron(reader *r) {
    const json_value *neuron = json_member(r->descriptor, "neuron");
    bc_neuron *result = &r->config.neuron;
    int64_t type;
    if (!json_integer(json_member(neuron, "type"), &type) || type < BC_NEURON_NONE || type > BC_NEURON_GELU ||
        !read_float(json_member(neuron, "b"), &result->b) ||
        !read_float(json_member(neuron, "c"), &result->c))
        return MALFORMED;
    result->type = (bc_neuron_type)type;
    if (type != BC_NEURON_PRELU) return read_float(json_member(neuron, "a"), &result->a) ? NULL : MALFORMED;
    const char *error = read_terms(r, "neuron_a", r->config.output_channels, &result->a_terms);
    return error || result->a_terms ? error : MALFORMED;
}

static bool is_integer(const json_value *value, int64_t expected) {
    int64_t number;
    return json_integer(value, &number) && number == expected;
}

static const char *read_padding(const reader *r, stored_padding *padding) {
    const json_value *value = json_member(r->state, "padding");
    const json_value *amounts = json_member(value, "explicit");
    padding->is_explicit = amounts != NULL;
    if (!amounts) {
        int64_t method;
        if (!json_integer(json_member(value, "method"), &method) || method < 0 || method > 63)
            return MALFORMED;
        padding->method = (unsigned)method;
        return NULL;
    }
    if (amounts->type != JSON_ARRAY || amounts->count != 4) return MALFORMED;
    int64_t *sides[] = {&padding->before[BC_AXIS_Y], &padding->after[BC_AXIS_Y], &padding->before[BC_AXIS_X],
                        &padding->after[BC_AXIS_X]};
    const json_value *amount = json_first(amounts);
    for (int i = 0; i < 4; i++, amount = json_next(amount))
        if (!json_integer(amount, sides[i])) return MALFORMED;
    return NULL;
}

static const char *read_state(const reader *r, stored_layer *layer) {
    int64_t edge_mode;
    if (!json_integer(json_member(r->state, "edge_mode"), &edge_mode) || edge_mode < 0 ||
        edge_mode > BC_EDGE_EXCLUDE ||
        !read_float(json_member(r->state, "edge_constant"), &layer->edge_constant))
        return MALFORMED;
    layer->edge_mode = (bc_edge_mode)edge_mode;
    const json_value *most = json_member(r->state, "source_feature_channel_max_count");
    if (!is_integer(json_member(r->state, "destination_feature_channel_offset"), 0) ||
        !is_integer(json_member(r->state, "source_feature_channel_offset"), 0) || !most ||
        most->type != JSON_NULL)
        return "layers that skip channels are not read here";
    return read_padding(r, &layer->padding);
}

/* ---- Scale and bias ------------------------------------------------------------------------------- */

static const char *fold(reader *r, double epsilon) {
    const size_t count = r->config.output_channels;
    double *scale = malloc(count * sizeof *scale), *bias = malloc(count * sizeof *bias);
    double *mean = read_doubles(r, "batch_normalization.mean", count, NAN);
    double *variance = read_doubles(r, "batch_normalization.variance", count, NAN);
    double *gamma = read_doubles(r, "batch_normalization.gamma", count, 1);
    double *beta = read_doubles(r, "batch_normalization.beta", count, 0);
    const char *error = NULL;
    if (scale && bias && mean && variance && gamma && beta) {
        for (size_t i = 0; i < count; i++) {
            scale[i] = r->scale[i];
            bias[i] = r->bias[i];
        }
        if (bc_fold_batch_normalization(count, scale, bias, mean, variance, gamma, beta, epsilon, r->scale,
                                        r->bias) != BC_OK)
            error = "a batch normalisation cannot be folded";
    } else {
        error = "a batch normalisation is of the wrong type or length, or memory runs out";
    }
    for (size_t i = 0; !error && i < count; i++)
        if (!isfinite(r->scale[i]) || !isfinite(r->bias[i])) error = "a batch normalisation is not finite";
    free(scale);
    free(bias);
    free(mean);
    free(variance);
    free(gamma);
    free(beta);
    return error;
}

static const char *read_output_terms(reader *r) {
    const size_t count = r->config.output_channels;
    const float *scale, *bias, *source_bias;
    double scale_value;
    const char *error = read_terms(r, "output_scale_terms", count, &scale);
    if (!error) error = read_terms(r, "output_bias_terms", count, &bias);
    if (!error) error = read_terms(r, "bias_terms", count, &source_bias);
    if (error) return error;
    if (!json_double(json_member(r->description, "scale_value"), &scale_value)) return MALFORMED;
    r->scale = copy_terms(scale, count, (float)scale_value);
    r->bias = copy_terms(bias ? bias : source_bias, count, 0);
    if (!r->scale || !r->bias) return NO_MEMORY;
    r->config.scale = r->scale;
    r->config.bias = r->bias;

    const json_value *norm = json_member(r->descriptor, "batch_normalization");
    double epsilon;
    if (norm && norm->type == JSON_NULL) return NULL;
    return json_double(json_member(norm, "epsilon"), &epsilon) ? fold(r, epsilon) : MALFORMED;
}

static const char *read_input_terms(reader *r, stored_layer *layer) {
    const size_t count = r->config.input_channels;
    const float **bias = &r->config.input_bias, **scale = &r->config.input_scale;
    const char *error = read_terms(r, "input_bias_terms", count, bias);
    if (!error) error = read_terms(r, "input_scale_terms", count, scale);
    if (error || (!*bias && !*scale)) return error;
    layer->pack_bias = copy_terms(*bias, count, 0);
    layer->pack_scale = copy_terms(*scale, count, 1);
    return layer->pack_bias && layer->pack_scale ? NULL : NO_MEMORY;
}

/* ---- Layers --------------------------------------------------------------------------------------- */

static const char *read_layer(reader *r, stored_layer *layer) {
    size_t length;
    r->prefix = json_unescape(json_member(r->description, "prefix"), &length);
    if (!r->prefix) return MALFORMED;
    const char *error = read_sizes(r);
    if (!error) error = read_kind(r, layer);
    if (!error) error = read_neuron(r);
    if (!error) error = read_weights(r);
    if (!error) error = read_output_terms(r);
    if (!error) error = read_input_terms(r, layer);
    if (!error) error = read_state(r, layer);
    if (error) return error;

    const bc_layer_config *config = &r->config;
    layer->input_channels = config->input_channels;
    layer->subpixel_factor = config->subpixel_factor;
    layer->output_channels = config->output_channels / (config->subpixel_factor * config->subpixel_factor);
    layer->windows[BC_AXIS_Y] = (bc_window){0, config->kernel_height, config->dilation_y, config->stride_y};
    layer->windows[BC_AXIS_X] = (bc_window){0, config->kernel_width, config->dilation_x, config->stride_x};
    const bc_status status = bc_layer_create(config, &layer->layer);
    return status == BC_OK ? NULL : bc_status_string(status);
}

const char *stored_layer_read(const safetensors *file, const json_value *description, stored_layer *layer) {
    *layer = (stored_layer){0};
    reader r = {.file = file,
                .description = description,
                .descriptor = json_member(description, "descriptor"),
                .state = json_member(description, "state")};
    const char *error = read_layer(&r, layer);
    free(r.prefix);
    free(r.scale);
    free(r.bias);
    if (error) stored_layer_free(layer);
    return error;
}

void stored_layer_free(stored_layer *layer) {
    bc_layer_destroy(layer->layer);
    free(layer->pack_bias);
    free(layer->pack_scale);
    *layer = (stored_layer){0};
}

bc_status stored_layer_resolve(const stored_layer *layer, bc_axis axis, size_t source, size_t *size,
                               int64_t *offset) {
    const stored_padding *padding = &layer->padding;
    bc_window window = layer->windows[axis];
    window.source = source;
    const bc_status status =
        padding->is_explicit
            ? bc_padding_explicit(&window, padding->before[axis], padding->after[axis], size, offset)
            : bc_padding_resolve(padding->method, axis, &window, size, offset);
    if (status != BC_OK) return status;
    if (*size > SIZE_MAX / layer->subpixel_factor) return BC_SIZE_OVERFLOW;
    *size *= layer->subpixel_factor;
    return BC_OK;
}
