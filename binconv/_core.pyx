# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""The C interface as Python objects: arrays in, arrays out, no arithmetic on pixels.

The public classes validate and explain; what is checked here is only what would otherwise let a
call read or write outside an array.
"""

import os

cimport numpy as cnp
import numpy as np
from cpython.mem cimport PyMem_RawFree, PyMem_RawMalloc
from libc.stdint cimport int8_t, int64_t, uint32_t, uint64_t

from binconv.c_api cimport *

cnp.import_array()


cdef int check(bc_status status) except -1:
    if status == BC_OK:
        return 0
    message = bc_status_string(status).decode()
    if status == BC_OUT_OF_MEMORY:
        raise MemoryError(message)
    raise ValueError(message)


# ---- Instruction sets and threads --------------------------------------------------------------


def isa() -> str:
    """The instruction set that layers made in this process use."""
    cdef const char *name
    cdef bc_status status = bc_isa(&name)
    if status == BC_UNKNOWN_ISA:
        raise ValueError(
            f"BINCONV_ISA must be one of {', '.join(isas())} on this machine, "
            f"got {os.environ.get('BINCONV_ISA', '')!r}"
        )
    check(status)
    return name.decode()


def isas() -> tuple:
    """All instruction sets that are compiled in and that this machine runs, best last."""
    names = []
    while bc_isa_name(len(names)) != NULL:
        names.append(bc_isa_name(len(names)).decode())
    return tuple(names)


def cpu_features() -> dict:
    """CPU features that kernels look at, and whether this machine has them."""
    cdef int present
    cdef const char *name
    features = {}
    while True:
        name = bc_cpu_feature(len(features), &present)
        if name == NULL:
            return features
        features[name.decode()] = bool(present)


def build_info() -> dict:
    """Version of the C library and what runs its threads."""
    return {
        "version": f"{BC_VERSION_MAJOR}.{BC_VERSION_MINOR}.{BC_VERSION_PATCH}",
        "threading": bc_threading().decode(),
    }


cdef size_t threads_limit = 1


def set_num_threads(size_t count) -> None:
    """At most `count` threads for each call from now on; at least 1."""
    global threads_limit
    if count < 1:
        raise ValueError(f"the number of threads must be at least 1, got {count}")
    threads_limit = count


def get_num_threads() -> int:
    return threads_limit


# ---- Geometry and terms -------------------------------------------------------------------------


def padding_size(
    unsigned method, size_t source, size_t kernel, size_t dilation, size_t stride, bint row
) -> tuple:
    """(destination size, offset) along one axis; `row`: the vertical one."""
    cdef bc_window window = bc_window(source, kernel, dilation, stride)
    cdef size_t size = 0
    cdef int64_t offset = 0
    check(bc_padding_resolve(method, BC_AXIS_Y if row else BC_AXIS_X, &window, &size, &offset))
    return size, offset


def padding_size_explicit(
    size_t source, size_t kernel, size_t dilation, size_t stride, int64_t before, int64_t after
) -> tuple:
    """(destination size, offset) along one axis for explicit padding."""
    cdef bc_window window = bc_window(source, kernel, dilation, stride)
    cdef size_t size = 0
    cdef int64_t offset = 0
    check(bc_padding_explicit(&window, before, after, &size, &offset))
    return size, offset


def fold_batch_normalization(
    const double[::1] scale,
    const double[::1] bias,
    const double[::1] mean,
    const double[::1] variance,
    const double[::1] gamma,
    const double[::1] beta,
    double epsilon,
) -> tuple:
    """(scale, bias) as float32 with batch normalisation folded in."""
    cdef Py_ssize_t channels = scale.shape[0]
    lengths = {bias.shape[0], mean.shape[0], variance.shape[0], gamma.shape[0], beta.shape[0]}
    if lengths != {channels}:
        raise ValueError("batch normalisation arrays must have the same length")
    folded_scale = np.empty(channels, np.float32)
    folded_bias = np.empty(channels, np.float32)
    if channels:
        check(
            bc_fold_batch_normalization(
                channels, &scale[0], &bias[0], &mean[0], &variance[0], &gamma[0], &beta[0], epsilon,
                <float *>cnp.PyArray_DATA(folded_scale), <float *>cnp.PyArray_DATA(folded_bias)
            )
        )
    return folded_scale, folded_bias


# ---- Bits ---------------------------------------------------------------------------------------


cdef bc_format format_of(cnp.ndarray image) except *:
    cdef int kind = cnp.PyArray_TYPE(image)
    if kind == cnp.NPY_FLOAT32:
        return BC_FLOAT32
    if kind == cnp.NPY_FLOAT16:
        return BC_FLOAT16
    if kind == cnp.NPY_UINT8:
        return BC_UNORM8
    if kind == cnp.NPY_UINT64:
        return BC_BITS
    raise TypeError(f"unexpected dtype {image.dtype}")


cdef int check_plain(cnp.ndarray array) except -1:
    """Kernels read memory in order, aligned and in this machine's byte order."""
    if not cnp.PyArray_ISCARRAY_RO(array):
        raise ValueError("arrays must be C-contiguous, aligned and in native byte order")
    return 0


cdef const float *terms_pointer(object terms, Py_ssize_t length) except? NULL:
    if terms is None:
        return NULL
    cdef cnp.ndarray array = terms
    check_plain(array)
    if cnp.PyArray_TYPE(array) != cnp.NPY_FLOAT32 or cnp.PyArray_SIZE(array) != length:
        raise ValueError(f"terms must be float32 of length {length}")
    return <const float *>cnp.PyArray_DATA(array)


def pack(cnp.ndarray image, bias, scale):
    """(..., C) float32, float16 or uint8 to (..., ceil(C / 64)) uint64 words."""
    check_plain(image)
    if cnp.PyArray_NDIM(image) < 1:
        raise ValueError("image must have a channel axis")
    cdef bc_format source_format = format_of(image)
    cdef size_t channels = image.shape[image.ndim - 1]
    cdef size_t pixels = cnp.PyArray_SIZE(image) // channels if channels else 0
    words = np.zeros((<object>image).shape[:image.ndim - 1] + ((channels + 63) // 64,), np.uint64)
    cdef const float *bias_terms = terms_pointer(bias, channels)
    cdef const float *scale_terms = terms_pointer(scale, channels)
    cdef const void *source = cnp.PyArray_DATA(image)
    cdef uint64_t *destination = <uint64_t *>cnp.PyArray_DATA(words)
    cdef bc_status status
    with nogil:
        status = bc_pack(
            source_format, source, pixels, channels, bias_terms, scale_terms, destination
        )
    check(status)
    return words


def unpack(cnp.ndarray words, size_t channels):
    """(..., ceil(channels / 64)) uint64 words to (..., channels) int8 of +1 and -1."""
    check_plain(words)
    if cnp.PyArray_TYPE(words) != cnp.NPY_UINT64 or cnp.PyArray_NDIM(words) < 1:
        raise TypeError("words must be uint64")
    cdef size_t pixel_words = (channels + 63) // 64
    if <size_t>words.shape[words.ndim - 1] != pixel_words:
        raise ValueError(f"words must end in an axis of {pixel_words}")
    values = np.empty((<object>words).shape[:words.ndim - 1] + (channels,), np.int8)
    cdef size_t pixels = cnp.PyArray_SIZE(words) // pixel_words if pixel_words else 0
    cdef const uint64_t *source = <const uint64_t *>cnp.PyArray_DATA(words)
    cdef int8_t *destination = <int8_t *>cnp.PyArray_DATA(values)
    cdef bc_status status
    with nogil:
        status = bc_unpack(source, pixels, channels, destination)
    check(status)
    return values


# ---- Layers -------------------------------------------------------------------------------------


cdef class Workspace:
    """Memory that one run at a time works in."""

    cdef void *memory
    cdef size_t size

    def __dealloc__(self):
        PyMem_RawFree(self.memory)

    cdef int reserve(self, size_t size) except -1:
        if size <= self.size:
            return 0
        PyMem_RawFree(self.memory)
        self.size = 0
        self.memory = PyMem_RawMalloc(size)
        if self.memory == NULL:
            raise MemoryError(f"cannot allocate a workspace of {size} bytes")
        self.size = size
        return 0


# Shared by all layers: what is kept is the most that one call needed, for each call at a time.
cdef list idle_workspaces = []
cdef Py_ssize_t most_idle_workspaces = 8


cdef class Plan:
    """A layer on one source and destination size."""

    cdef bc_plan *plan
    cdef Py_ssize_t source_bytes, destination_bytes
    cdef object pack_terms  # keeps the arrays, whose identity is part of the cache's key, alive

    def __dealloc__(self):
        bc_plan_destroy(self.plan)


cdef Py_ssize_t most_plans = 16


cdef bc_image image_of(cnp.ndarray array, size_t channels) except *:
    check_plain(array)
    if cnp.PyArray_NDIM(array) != 4:
        raise ValueError("images must have 4 axes")
    cdef bc_image image
    image.format = format_of(array)
    image.images = array.shape[0]
    image.height = array.shape[1]
    image.width = array.shape[2]
    image.channels = channels
    cdef size_t elements = (channels + 63) // 64 if image.format == BC_BITS else channels
    if <size_t>array.shape[3] != elements:
        raise ValueError(f"the last axis must have {elements} elements, got {array.shape[3]}")
    return image


cdef class Layer:
    """A convolution with packed weights. It never changes, and runs on any number of threads."""

    cdef bc_layer *layer
    cdef dict plans
    cdef size_t output_channels

    def __init__(
        self,
        *,
        int type,
        bint beta_scaling,
        size_t input_channels,
        size_t output_channels,
        size_t groups,
        tuple kernel,
        tuple stride,
        tuple dilation,
        size_t subpixel_factor,
        tuple neuron,
        neuron_a_terms,
        cnp.ndarray weights not None,
        scale,
        bias,
        input_bias,
        input_scale,
    ):
        if self.layer != NULL:
            raise TypeError("a Layer cannot be made twice")
        check_plain(weights)
        if cnp.PyArray_TYPE(weights) != cnp.NPY_UINT32:
            raise TypeError("weights must be uint32")
        cdef bc_layer_config config
        config.type = <bc_type>type
        config.beta_scaling = beta_scaling
        config.input_channels = input_channels
        config.output_channels = output_channels
        config.groups = groups
        config.kernel_height, config.kernel_width = kernel
        config.stride_y, config.stride_x = stride
        config.dilation_y, config.dilation_x = dilation
        config.subpixel_factor = subpixel_factor
        neuron_type, config.neuron.a, config.neuron.b, config.neuron.c = neuron
        config.neuron.type = <bc_neuron_type><int>neuron_type
        config.neuron.a_terms = terms_pointer(neuron_a_terms, output_channels)
        config.weights = <const uint32_t *>cnp.PyArray_DATA(weights)
        config.weights_words = cnp.PyArray_SIZE(weights)
        config.scale = terms_pointer(scale, output_channels)
        config.bias = terms_pointer(bias, output_channels)
        config.input_bias = terms_pointer(input_bias, input_channels)
        config.input_scale = terms_pointer(input_scale, input_channels)
        isa()  # explains a bad BINCONV_ISA
        check(bc_layer_create(&config, &self.layer))
        self.plans = {}
        self.output_channels = output_channels // (subpixel_factor * subpixel_factor)

    def __dealloc__(self):
        bc_layer_destroy(self.layer)

    cdef Plan make_plan(self, tuple key, const bc_plan_config *config, object pack_terms):
        cdef Plan plan = Plan.__new__(Plan)
        plan.pack_terms = pack_terms
        check(bc_plan_create(self.layer, config, &plan.plan))
        while len(self.plans) >= most_plans:
            self.plans.pop(next(iter(self.plans)), None)
        self.plans[key] = plan
        return plan

    def run(
        self,
        cnp.ndarray source not None,
        size_t source_channels,
        cnp.ndarray destination not None,
        size_t destination_channels,
        *,
        size_t images,
        size_t source_first_image,
        size_t destination_first_image,
        size_t source_channel_offset,
        size_t destination_channel_offset,
        tuple clip,
        tuple offset,
        int edge_mode,
        float edge_constant,
        pack_bias=None,
        pack_scale=None,
    ):
        """Computes `images` images of `source` into the clip rectangle (y, x, height, width) of
        `destination`. Other pixels and channels of the destination are left as they are. Returns
        what a Call can be made of."""
        cdef bc_plan_config config
        config.source = image_of(source, source_channels)
        config.destination = image_of(destination, destination_channels)
        if not cnp.PyArray_ISWRITEABLE(destination):
            raise ValueError("the destination must be writeable")
        config.source_channel_offset = source_channel_offset
        config.destination_channel_offset = destination_channel_offset
        config.images = images
        config.source_first_image = source_first_image
        config.destination_first_image = destination_first_image
        config.clip_y, config.clip_x, config.clip_height, config.clip_width = clip
        config.offset_y, config.offset_x = offset
        config.edge_mode = <bc_edge_mode>edge_mode
        config.edge_constant = edge_constant
        config.pack_bias = terms_pointer(pack_bias, self.output_channels)
        config.pack_scale = terms_pointer(pack_scale, self.output_channels)

        key = (
            <int>config.source.format, config.source.images, config.source.height,
            config.source.width, source_channels, <int>config.destination.format,
            config.destination.images, config.destination.height, config.destination.width,
            destination_channels, images, source_first_image, destination_first_image,
            source_channel_offset, destination_channel_offset, clip, offset, edge_mode,
            edge_constant, id(pack_bias), id(pack_scale),
        )
        cdef Plan plan = self.plans.get(key)
        if plan is None:
            plan = self.make_plan(key, &config, (pack_bias, pack_scale))
            plan.source_bytes = cnp.PyArray_NBYTES(source)
            plan.destination_bytes = cnp.PyArray_NBYTES(destination)
        execute(plan.plan, cnp.PyArray_DATA(source), cnp.PyArray_DATA(destination))
        return plan


cdef int execute(const bc_plan *plan, const void *source, void *destination) except -1:
    """Runs a plan on the library's threads, in a workspace that no other call is using."""
    if plan == NULL:
        raise ValueError("expected a plan that a layer has made")
    cdef bc_parallel parallel
    parallel.threads = bc_plan_threads(plan, threads_limit)
    parallel.parallel_for = NULL
    parallel.user = NULL
    cdef Workspace workspace
    try:
        workspace = idle_workspaces.pop()
    except IndexError:
        workspace = Workspace.__new__(Workspace)
    workspace.reserve(bc_plan_workspace_bytes(plan, parallel.threads))
    cdef bc_status status
    with nogil:
        status = bc_plan_run(
            plan, source, destination, workspace.memory, workspace.size, &parallel
        )
    if len(idle_workspaces) < most_idle_workspaces:
        idle_workspaces.append(workspace)
    return check(status)


# ---- Calls that have been made before ----------------------------------------------------------


cdef class Call:
    """A layer on two plain arrays of certain shapes and types, or packed images' words: what a call
    with `out` comes to, once it has been checked in full."""

    cdef Plan plan
    cdef object layer  # which the plan points into
    cdef cnp.ndarray source, destination  # of no use but for their shapes and types
    cdef int source_type, destination_type
    cdef size_t source_packed, destination_packed  # channels of packed images; 0: arrays

    def __init__(self, Layer layer not None, Plan plan not None, source, destination):
        if type(source) is packed_image:
            self.source_packed = source.channels
            source = source.words
        if type(destination) is packed_image:
            self.destination_packed = destination.channels
            destination = destination.words
        if source.nbytes != plan.source_bytes or destination.nbytes != plan.destination_bytes:
            raise ValueError("the arrays are not of the sizes that the plan was made for")
        self.layer = layer
        self.plan = plan
        # Views of one element with all strides 0 keep no memory of the caller's.
        self.source = np.broadcast_to(np.zeros((), source.dtype), source.shape)
        self.destination = np.broadcast_to(np.zeros((), destination.dtype), destination.shape)
        self.source_type = cnp.PyArray_TYPE(self.source)
        self.destination_type = cnp.PyArray_TYPE(self.destination)

    cdef bint fits(self, cnp.ndarray source, cnp.ndarray destination):
        return (
            cnp.PyArray_TYPE(source) == self.source_type
            and cnp.PyArray_TYPE(destination) == self.destination_type
            and same_shape(source, self.source)
            and same_shape(destination, self.destination)
            and cnp.PyArray_ISCARRAY_RO(source)
            and cnp.PyArray_ISCARRAY(destination)
            and not overlap(source, destination)
        )


cdef bint same_shape(cnp.ndarray a, cnp.ndarray b):
    cdef int axis
    if cnp.PyArray_NDIM(a) != cnp.PyArray_NDIM(b):
        return False
    for axis in range(cnp.PyArray_NDIM(a)):
        if cnp.PyArray_DIM(a, axis) != cnp.PyArray_DIM(b, axis):
            return False
    return True


cdef bint overlap(cnp.ndarray a, cnp.ndarray b):
    """For arrays without gaps."""
    cdef const char *first = <const char *>cnp.PyArray_DATA(a)
    cdef const char *second = <const char *>cnp.PyArray_DATA(b)
    return first < second + cnp.PyArray_NBYTES(b) and second < first + cnp.PyArray_NBYTES(a)


cdef object packed_image = None  # the class, which is Python's


def set_packed_image(type packed not None) -> None:
    """Says which class has words and channels as `_words` and `_channels`."""
    global packed_image
    packed_image = packed


def run_known(list calls not None, source, destination) -> bool:
    """Runs the one of `calls` that fits two images; False where none does."""
    cdef size_t source_packed = 0, destination_packed = 0
    if type(source) is packed_image:
        source_packed = source._channels
        source = source._words
    if type(destination) is packed_image:
        destination_packed = destination._channels
        destination = destination._words
    if not (cnp.PyArray_CheckExact(source) and cnp.PyArray_CheckExact(destination)):
        return False
    cdef Call call
    for call in calls:
        if (
            call is not None
            and call.source_packed == source_packed
            and call.destination_packed == destination_packed
            and call.fits(source, destination)
        ):
            execute(call.plan.plan, cnp.PyArray_DATA(source), cnp.PyArray_DATA(destination))
            return True
    return False
