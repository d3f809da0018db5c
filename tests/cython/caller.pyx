# cython: language_level=3, boundscheck=False, wraparound=False
"""What another package may do with binconv.c_api: one XNOR layer, on slices that it runs itself."""

from libc.stdint cimport uint32_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset

from binconv.c_api cimport (
    BC_AXIS_X,
    BC_AXIS_Y,
    BC_EDGE_EXCLUDE,
    BC_FLOAT32,
    BC_OK,
    BC_PADDING_SIZE_SAME,
    BC_VERSION_MAJOR,
    BC_VERSION_MINOR,
    BC_VERSION_PATCH,
    BC_XNOR,
    bc_image,
    bc_isa,
    bc_layer,
    bc_layer_config,
    bc_layer_create,
    bc_layer_destroy,
    bc_padding_resolve,
    bc_parallel,
    bc_plan,
    bc_plan_config,
    bc_plan_create,
    bc_plan_destroy,
    bc_plan_run,
    bc_plan_threads,
    bc_plan_workspace_bytes,
    bc_status,
    bc_status_string,
    bc_window,
)


cdef void backwards(
    void *user,
    size_t count,
    void (*slice)(void *context, size_t index) noexcept nogil,
    void *context,
) noexcept nogil:
    (<size_t *>user)[0] += count
    while count > 0:
        count -= 1
        slice(context, count)


cdef int check(bc_status status) except -1:
    if status != BC_OK:
        raise ValueError(bc_status_string(status).decode())
    return 0


cdef int run(bc_plan *plan, const float *source, float *destination, size_t threads) except -1:
    cdef size_t slices = 0
    cdef bc_parallel parallel = bc_parallel(bc_plan_threads(plan, threads), backwards, &slices)
    cdef size_t size = bc_plan_workspace_bytes(plan, parallel.threads)
    cdef void *workspace = malloc(size + 1)
    cdef bc_status status
    if workspace == NULL:
        raise MemoryError
    with nogil:
        status = bc_plan_run(plan, source, destination, workspace, size, &parallel)
    free(workspace)
    check(status)
    return <int>slices


def convolve(
    const float[:, :, ::1] source,
    const uint32_t[:, :, :, ::1] weights,
    float[:, :, ::1] destination,
    size_t threads,
):
    """source with SAME padding and edge mode EXCLUDE; how many slices there were."""
    cdef bc_layer *layer = NULL
    cdef bc_plan *plan = NULL
    cdef bc_layer_config config
    memset(&config, 0, sizeof(config))
    config.type = BC_XNOR
    config.input_channels, config.output_channels = source.shape[2], destination.shape[2]
    config.kernel_height, config.kernel_width = weights.shape[1], weights.shape[2]
    config.groups = config.subpixel_factor = 1
    config.stride_y = config.stride_x = config.dilation_y = config.dilation_x = 1
    config.weights = &weights[0, 0, 0, 0]
    config.weights_words = weights.size
    check(bc_layer_create(&config, &layer))

    cdef bc_plan_config sizes
    memset(&sizes, 0, sizeof(sizes))
    sizes.source = bc_image(BC_FLOAT32, 1, source.shape[0], source.shape[1], source.shape[2])
    sizes.images = 1
    sizes.edge_mode = BC_EDGE_EXCLUDE
    cdef bc_window rows = bc_window(source.shape[0], config.kernel_height, 1, 1)
    cdef bc_window columns = bc_window(source.shape[1], config.kernel_width, 1, 1)
    try:
        check(bc_padding_resolve(
            BC_PADDING_SIZE_SAME, BC_AXIS_Y, &rows, &sizes.clip_height, &sizes.offset_y
        ))
        check(bc_padding_resolve(
            BC_PADDING_SIZE_SAME, BC_AXIS_X, &columns, &sizes.clip_width, &sizes.offset_x
        ))
        sizes.destination = bc_image(
            BC_FLOAT32, 1, sizes.clip_height, sizes.clip_width, config.output_channels
        )
        check(bc_plan_create(layer, &sizes, &plan))
        return run(plan, &source[0, 0, 0], &destination[0, 0, 0], threads)
    finally:
        bc_plan_destroy(plan)
        bc_layer_destroy(layer)


def refused():
    """The error of a layer that has no sizes."""
    cdef bc_layer *layer = NULL
    cdef bc_layer_config config
    memset(&config, 0, sizeof(config))
    check(bc_layer_create(&config, &layer))


def isa():
    cdef const char *name
    check(bc_isa(&name))
    return name.decode()


def version():
    return f"{BC_VERSION_MAJOR}.{BC_VERSION_MINOR}.{BC_VERSION_PATCH}"
