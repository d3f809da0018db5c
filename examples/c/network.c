#include "network.h"

#include <stdlib.h>
#include <string.h>

#include "stored_layer.h"

static const char *const NO_MEMORY = "memory runs out";

typedef struct step {
    stored_layer stored;
    bc_image source, destination;
    bc_plan *plan;
    void *result; /* what passes to the next step; NULL in the last */
} step;

struct network {
    size_t count;
    step *steps;
    void *workspace; /* shared: one step runs at a time */
    size_t workspace_bytes;
};

/* ---- Layers of the file ---------------------------------------------------------------------------- */

static const char *read_list(network *net, const safetensors *file, const char *text, size_t length) {
    json_value *list = json_parse(text, length);
    const char *error = NULL;
    if (!list || list->type != JSON_ARRAY || list->count == 0) error = "there is no list of layers";
    if (!error) net->steps = calloc(list->count, sizeof *net->steps);
    if (!error && !net->steps) error = NO_MEMORY;
    if (!error) {
        const size_t count = list->count;
        for (const json_value *item = json_first(list); !error && net->count < count;
             item = json_next(item)) {
            error = stored_layer_read(file, item, &net->steps[net->count].stored);
            if (!error) net->count++;
        }
    }
    free(list);
    return error;
}

static const char *read_layers(network *net, const safetensors *file) {
    if (!json_is(safetensors_metadata(file, "format"), "binconv")) return "the file is not binconv's";
    if (!json_is(safetensors_metadata(file, "version"), "1")) return "the file's version is not known here";
    size_t length;
    char *text = json_unescape(safetensors_metadata(file, "layers"), &length);
    if (!text) return "there is no list of layers";
    const char *error = read_list(net, file, text, length);
    free(text);
    return error;
}

/* ---- Plans ---------------------------------------------------------------------------------------- */

static bool image_bytes(const bc_image *image, size_t *bytes) {
    const size_t elements =
        image->format == BC_BITS ? image->channels / 64 + (image->channels % 64 != 0) : image->channels;
    const size_t element_bytes = image->format == BC_BITS ? sizeof(uint64_t) : sizeof(float);
    const size_t factors[] = {image->height, image->width, elements, element_bytes};
    *bytes = 1;
    for (size_t i = 0; i < sizeof factors / sizeof factors[0]; i++) {
        if (factors[i] && *bytes > SIZE_MAX / factors[i]) return false;
        *bytes *= factors[i];
    }
    return true;
}

static const char *make_plan(step *s, const step *next) {
    const stored_layer *stored = &s->stored;
    if (s->source.channels != stored->input_channels) return "a layer has other channels than the one before";
    bc_plan_config config = {
        .source = s->source,
        .images = 1,
        .edge_mode = stored->edge_mode,
        .edge_constant = stored->edge_constant,
    };
    size_t height, width;
    bc_status status = stored_layer_resolve(stored, BC_AXIS_Y, s->source.height, &height, &config.offset_y);
    if (status == BC_OK)
        status = stored_layer_resolve(stored, BC_AXIS_X, s->source.width, &width, &config.offset_x);
    if (status != BC_OK) return bc_status_string(status);
    s->destination = (bc_image){BC_FLOAT32, 1, height, width, stored->output_channels};
    if (next && next->stored.takes_bits) {
        s->destination.format = BC_BITS;
        if (next->stored.input_channels != stored->output_channels)
            return "a layer has other channels than the one before";
        config.pack_bias = next->stored.pack_bias;
        config.pack_scale = next->stored.pack_scale;
    }
    config.destination = s->destination;
    config.clip_height = height;
    config.clip_width = width;
    status = bc_plan_create(stored->layer, &config, &s->plan);
    return status == BC_OK ? NULL : bc_status_string(status);
}

/* The (dilated) kernel of a fully connected layer covers the whole source. */
static bool fits(const step *s) {
    const size_t sizes[] = {s->source.height, s->source.width};
    for (int axis = 0; axis < 2 && s->stored.is_fully_connected; axis++) {
        const bc_window *window = &s->stored.windows[axis];
        if (sizes[axis] == 0 || (sizes[axis] - 1) % window->dilation ||
            (sizes[axis] - 1) / window->dilation != window->kernel - 1)
            return false;
    }
    return true;
}

static const char *plan_steps(network *net, size_t height, size_t width) {
    bc_image image = {BC_FLOAT32, 1, height, width, net->steps[0].stored.input_channels};
    for (size_t i = 0; i < net->count; i++) {
        step *s = &net->steps[i];
        const step *next = i + 1 < net->count ? s + 1 : NULL;
        s->source = image;
        if (!fits(s)) return "a fully connected layer is not of the size of its source";
        const char *error = make_plan(s, next);
        if (error) return error;
        size_t bytes;
        if (!image_bytes(&s->destination, &bytes)) return bc_status_string(BC_SIZE_OVERFLOW);
        if (next) {
            s->result = malloc(bytes ? bytes : 1);
            if (!s->result) return NO_MEMORY;
        }
        const size_t workspace_bytes = bc_plan_workspace_bytes(s->plan, 1);
        if (workspace_bytes > net->workspace_bytes) net->workspace_bytes = workspace_bytes;
        image = s->destination;
    }
    net->workspace = malloc(net->workspace_bytes ? net->workspace_bytes : 1);
    return net->workspace ? NULL : NO_MEMORY;
}

/* ---- Networks ------------------------------------------------------------------------------------- */

const char *network_load(const char *path, size_t height, size_t width, network **loaded) {
    safetensors file;
    const char *error = safetensors_open(path, &file);
    if (error) return error;
    network *net = calloc(1, sizeof *net);
    error = net ? read_layers(net, &file) : NO_MEMORY;
    if (!error) error = plan_steps(net, height, width);
    safetensors_close(&file); /* layers and plans have copied what they need */
    if (error)
        network_free(net);
    else
        *loaded = net;
    return error;
}

void network_free(network *net) {
    if (!net) return;
    for (size_t i = 0; i < net->count; i++) {
        bc_plan_destroy(net->steps[i].plan);
        stored_layer_free(&net->steps[i].stored);
        free(net->steps[i].result);
    }
    free(net->steps);
    free(net->workspace);
    free(net);
}

bc_image network_source(const network *net) { return net->steps[0].source; }

bc_image network_destination(const network *net) { return net->steps[net->count - 1].destination; }

bc_status network_run(network *net, const float *source, float *destination) {
    const void *from = source;
    for (size_t i = 0; i < net->count; i++) {
        step *s = &net->steps[i];
        void *to = s->result ? s->result : destination;
        const bc_status status = bc_plan_run(s->plan, from, to, net->workspace, net->workspace_bytes, NULL);
        if (status != BC_OK) return status;
        from = to;
    }
    return BC_OK;
}
