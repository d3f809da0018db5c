/* A 3 x 3 layer whose weights are all -1, on an image of ones, with threads of the caller's. Compiles as C and as
 * C++. Prints the sum in the middle of the image. */
#include <binconv.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SIZE 5
#define CHANNELS 64

static uint32_t weights[3 * 3 * CHANNELS / 32];
static float source[SIZE * SIZE * CHANNELS], destination[SIZE * SIZE];

static void check(bc_status status) {
    if (status == BC_OK) return;
    fprintf(stderr, "%s\n", bc_status_string(status));
    exit(1);
}

static void serial(void *user, size_t count, void (*slice)(void *context, size_t index), void *context) {
    size_t i;
    (void)user;
    for (i = 0; i < count; i++) slice(context, i);
}

int main(void) {
    bc_layer_config layer_config;
    bc_plan_config plan_config;
    bc_layer *layer = NULL;
    bc_plan *plan = NULL;
    bc_parallel parallel = {1, serial, NULL};
    bc_image image = {BC_FLOAT32, 1, SIZE, SIZE, CHANNELS};
    bc_window window = {SIZE, 3, 1, 1};
    size_t size, bytes;
    void *workspace;

    memset(&layer_config, 0, sizeof layer_config);
    layer_config.type = BC_XNOR;
    layer_config.input_channels = CHANNELS;
    layer_config.output_channels = layer_config.groups = layer_config.subpixel_factor = 1;
    layer_config.kernel_height = layer_config.kernel_width = 3;
    layer_config.stride_y = layer_config.stride_x = layer_config.dilation_y = layer_config.dilation_x = 1;
    layer_config.weights = weights;
    layer_config.weights_words = sizeof weights / sizeof weights[0];
    check(bc_layer_create(&layer_config, &layer));

    memset(&plan_config, 0, sizeof plan_config);
    check(bc_padding_resolve(BC_PADDING_SIZE_SAME, BC_AXIS_Y, &window, &size, &plan_config.offset_y));
    plan_config.offset_x = plan_config.offset_y;
    plan_config.source = plan_config.destination = image;
    plan_config.destination.channels = 1;
    plan_config.images = 1;
    plan_config.clip_height = plan_config.clip_width = size;
    plan_config.edge_mode = BC_EDGE_EXCLUDE;
    check(bc_plan_create(layer, &plan_config, &plan));

    parallel.threads = bc_plan_threads(plan, 2);
    bytes = bc_plan_workspace_bytes(plan, parallel.threads);
    workspace = malloc(bytes ? bytes : 1);
    if (!workspace) return 1;
    check(bc_plan_run(plan, source, destination, workspace, bytes, &parallel));
    printf("%g\n", destination[SIZE * SIZE / 2]);
    free(workspace);
    bc_plan_destroy(plan);
    bc_layer_destroy(layer);
    return 0;
}
