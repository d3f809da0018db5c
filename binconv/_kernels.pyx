# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""Single kernels of a named instruction set, for tests and benchmarks; no part of the interface.

Nothing here looks at the instruction set that the process has chosen. Sources are two-dimensional,
a row for each pixel, and may have any distance between rows (0 and backwards too) but none between
the elements of a row. `out` is written where it is given, so that a test can put guards around it.
Arguments are checked so far that no call reads or writes outside an array. `repeat` runs a kernel
that often, for benchmarks, where a single run is too short to be timed from Python. Contracts are
in csrc/kernels.def.
"""

cimport numpy as cnp
import numpy as np
from libc.stddef cimport ptrdiff_t
from libc.stdint cimport int8_t, int32_t, uint32_t, uint64_t

from binconv.c_api cimport BC_BITS, BC_FLOAT16, BC_FLOAT32, BC_OK, bc_neuron_type
from binconv.c_kernels cimport *

cnp.import_array()


# ---- Tables -------------------------------------------------------------------------------------


def isas() -> tuple:
    """All instruction sets that are compiled in and that this machine runs, best last."""
    names = []
    while bc_isa_name(len(names)) != NULL:
        names.append(bc_isa_name(len(names)).decode())
    return tuple(names)


def names() -> tuple:
    """All kernels of the manifest."""
    slots = []
    while bc_slot_name(len(slots)) != NULL:
        slots.append(bc_slot_name(len(slots)).decode())
    return tuple(slots)


cdef size_t place(str isa) except? 0:
    for index, name in enumerate(isas()):
        if name == isa:
            return index
    raise ValueError(f"isa must be one of {', '.join(isas())} on this machine, got {isa!r}")


cdef const bc_kernels *table(str isa) except NULL:
    return bc_kernels_of(place(isa))


def own(str isa) -> tuple:
    """The kernels that this instruction set brings itself; it has the others from those before."""
    cdef const bc_kernels *kernels = bc_kernels_own(place(isa))
    return tuple(name for slot, name in enumerate(names()) if bc_slot_filled(kernels, slot))


# ---- Checks -------------------------------------------------------------------------------------


cdef require(bint condition, str message):
    if not condition:
        raise ValueError(message)


cdef ptrdiff_t row_stride(array, str name) except? -1:
    """Elements between rows of a two-dimensional array whose rows are dense."""
    require(array.ndim == 2, f"{name} must have 2 dimensions, got {array.ndim}")
    require(array.flags.aligned, f"{name} must be aligned to its elements")
    require(
        array.size == 0 or array.shape[1] == 1 or array.strides[1] == array.itemsize,
        f"the rows of {name} must be dense",
    )
    require(
        array.strides[0] % array.itemsize == 0,
        f"the rows of {name} must be a whole number of elements apart",
    )
    return array.strides[0] // array.itemsize


cdef as_source(array, dtype, str name):
    array = np.asarray(array)
    require(array.dtype == dtype, f"{name} must be {np.dtype(dtype)}, got {array.dtype}")
    row_stride(array, name)
    return array


cdef as_terms(array, dtype, Py_ssize_t count, str name):
    """A dense array of `count`, followed by what a kernel may read but must not use."""
    array = np.asarray(array)
    require(
        array.dtype == dtype and array.shape == (count,),
        f"{name} must be {np.dtype(dtype)} of shape ({count},), got {array.dtype} of {array.shape}",
    )
    padded = np.full(count + BC_SLACK, np.nan if dtype == np.float32 else -1, dtype)
    padded[:count] = array
    return padded


cdef as_out(out, dtype, shape, str name="out"):
    """A new array, or the caller's with rows that do not overlap."""
    if out is None:
        return np.empty(shape, dtype)
    require(
        isinstance(out, np.ndarray) and out.dtype == dtype and out.shape == shape,
        f"{name} must be a {np.dtype(dtype)} array of shape {shape}",
    )
    require(out.flags.writeable, f"{name} must be writeable")
    if len(shape) == 1:
        require(
            out.flags.aligned and (shape[0] <= 1 or out.strides[0] == out.itemsize),
            f"{name} must be dense",
        )
    else:
        require(
            row_stride(out, name) >= shape[1] or shape[0] <= 1, f"rows of {name} must not overlap"
        )
    return out


cdef as_offsets(offsets, Py_ssize_t extent, Py_ssize_t length, str name):
    """Where taps begin in a row of `extent` elements, of which each reads `length`."""
    offsets = np.ascontiguousarray(offsets, np.intp)
    require(offsets.ndim == 1, f"{name} must have 1 dimension")
    require(
        offsets.size == 0 or (offsets.min() >= 0 and offsets.max() + length <= extent),
        f"{name} must lie in the row with the {length} elements that are read",
    )
    return offsets


cdef as_abs_sum(abs_sum, Py_ssize_t pixels):
    return None if abs_sum is None else as_out(abs_sum, np.float32, (pixels,), "abs_sum")


cdef void *data(array) noexcept:
    return NULL if array is None else cnp.PyArray_DATA(array)


cdef Py_ssize_t words_of(Py_ssize_t elements, Py_ssize_t word) noexcept:
    """How many words (or blocks, or groups) of `word` elements hold `elements`."""
    return (elements + word - 1) // word


cdef aligned_words(Py_ssize_t count):
    """From the beginning of a cache line on, as layers keep weights."""
    memory = np.empty(count + 7, np.uint64)
    cdef Py_ssize_t skipped = -(<Py_ssize_t>data(memory) // 8) % 8
    return memory[skipped:skipped + count]


cdef two_terms(bias, scale, Py_ssize_t channels, str name):
    require((bias is None) == (scale is None), f"{name} must be both or neither")
    if bias is None:
        return None, None
    return (
        as_terms(bias, np.float32, channels, f"{name}: bias"),
        as_terms(scale, np.float32, channels, f"{name}: scale"),
    )


# ---- Reading the source -------------------------------------------------------------------------


def widen(str isa, source, *, out=None):
    """widen_f16 or widen_u8, by the dtype of a dense (count,) source."""
    cdef const bc_kernels *kernels = table(isa)
    source = np.asarray(source)
    require(
        source.dtype in (np.float16, np.uint8) and source.ndim == 1 and source.flags.c_contiguous,
        "source must be float16 or uint8, dense, with 1 dimension",
    )
    out = as_out(out, np.float32, source.shape)
    cdef bc_widen_args args = bc_widen_args(data(source), source.size, <float *>data(out))
    if source.dtype == np.float16:
        kernels.widen_f16(&args)
    else:
        kernels.widen_u8(&args)
    return out


cdef class InputThresholds:
    """What decides the bits of (x + bias) * scale, as pack_f32 takes it without abs_sum."""

    cdef bc_input_thresholds thresholds
    cdef readonly Py_ssize_t channels

    def __cinit__(self, bias, scale):
        bias, scale = (np.ascontiguousarray(terms, np.float32) for terms in (bias, scale))
        require(bias.ndim == 1, "bias must have 1 dimension")
        require(scale.shape == bias.shape, f"scale must have shape {bias.shape}")
        self.channels = bias.size
        if bc_input_thresholds_create(
            <const float *>data(bias), <const float *>data(scale), self.channels, &self.thresholds
        ) != BC_OK:
            raise MemoryError

    def __dealloc__(self):
        bc_input_thresholds_free(&self.thresholds)

    @property
    def flips(self):
        """Whether any channel needs it."""
        return self.thresholds.flip != NULL


def pack_f32(
    str isa,
    source,
    bias=None,
    scale=None,
    *,
    InputThresholds thresholds=None,
    abs_sum=None,
    out=None,
    Py_ssize_t repeat=1,
):
    """(pixels, channels) to words (pixels, ceil(channels / 64)).

    By thresholds, or with abs_sum (pixels,), which it adds to, by terms.
    """
    cdef const bc_kernels *kernels = table(isa)
    source = as_source(source, np.float32, "source")
    pixels, channels = source.shape
    bias, scale = two_terms(bias, scale, channels, "terms")
    require(bias is None or abs_sum is not None, "terms are for abs_sum; thresholds for bits alone")
    abs_sum = as_abs_sum(abs_sum, pixels)
    out = as_out(out, np.uint64, (pixels, words_of(channels, 64)))
    cdef bc_pack_args args
    args.source = <const float *>data(source)
    args.source_stride = row_stride(source, "source")
    args.pixels = pixels
    args.channels = channels
    args.threshold = NULL
    args.flip = NULL
    if thresholds is not None:
        require(thresholds.channels == channels, "thresholds must have the channels of source")
        args.threshold = thresholds.thresholds.threshold
        args.flip = thresholds.thresholds.flip
    args.bias = <const float *>data(bias)
    args.scale = <const float *>data(scale)
    args.words = <uint64_t *>data(out)
    args.words_stride = row_stride(out, "out")
    args.abs_sum = <float *>data(abs_sum)
    with nogil:
        for _ in range(repeat):
            kernels.pack_f32(&args)
    return out


def terms_f32(str isa, source, bias=None, scale=None, *, abs_sum=None, out=None):
    """(pixels, channels) with the terms applied; adds to abs_sum (pixels,)."""
    cdef const bc_kernels *kernels = table(isa)
    source = as_source(source, np.float32, "source")
    pixels, channels = source.shape
    bias, scale = two_terms(bias, scale, channels, "terms")
    abs_sum = as_abs_sum(abs_sum, pixels)
    out = as_out(out, np.float32, (pixels, channels))
    cdef bc_terms_args args
    args.source = <const float *>data(source)
    args.source_stride = row_stride(source, "source")
    args.pixels = pixels
    args.channels = channels
    args.bias = <const float *>data(bias)
    args.scale = <const float *>data(scale)
    args.destination = <float *>data(out)
    args.destination_stride = row_stride(out, "out")
    args.abs_sum = <float *>data(abs_sum)
    kernels.terms_f32(&args)
    return out


def gather_bits(
    str isa,
    source,
    Py_ssize_t first_bit,
    Py_ssize_t pixel_step_bits,
    tap_bit,
    Py_ssize_t bits,
    Py_ssize_t groups,
    Py_ssize_t pixels,
    *,
    out=None,
):
    """Fields of dense words side by side: uint64 (words, pixels, groups).

    Field t of a group is the `bits` bits from first_bit + pixel * pixel_step_bits + tap_bit[t]
    + group * bits on.
    """
    cdef const bc_kernels *kernels = table(isa)
    source = as_source(np.asarray(source)[None], np.uint64, "source")
    tap_bit = np.ascontiguousarray(tap_bit, np.intp)
    require(tap_bit.ndim == 1, "tap_bit must have 1 dimension")
    require(bits >= 0 and groups >= 0 and pixels >= 0, "sizes must not be negative")
    if tap_bit.size and bits and groups and pixels:
        last = (pixels - 1) * pixel_step_bits
        least = first_bit + min(last, 0) + int(tap_bit.min())
        most = first_bit + max(last, 0) + int(tap_bit.max()) + groups * bits
        require(least >= 0 and most <= source.shape[1] * 64, "the fields must lie in the source")
    shape = (words_of(tap_bit.size * bits, 64), pixels, groups)
    if out is None:
        out = np.empty(shape, np.uint64)
    require(
        isinstance(out, np.ndarray) and out.dtype == np.uint64 and out.shape == shape
        and out.flags.writeable and out.flags.aligned,
        f"out must be a writeable uint64 array of shape {shape}",
    )
    require(out.size == 0 or groups == 1 or out.strides[2] == 8, "groups of out must be dense")
    require(min(out.strides, default=0) >= 0, "strides of out must not be negative")
    cdef bc_gather_args args
    args.source = <const uint64_t *>data(source)
    args.first_bit = first_bit
    args.pixel_step_bits = pixel_step_bits
    args.tap_bit = <const ptrdiff_t *>data(tap_bit)
    args.taps = tap_bit.size
    args.bits = bits
    args.groups = groups
    args.pixels = pixels
    args.destination = <uint64_t *>data(out)
    args.pixel_stride = out.strides[1] // 8
    args.word_stride = out.strides[0] // 8
    kernels.gather_bits(&args)
    return out


def unpack_i8(str isa, words, Py_ssize_t channels, *, out=None):
    """Dense words (pixels, ceil(channels / 64)) to +1 and -1 (pixels, channels)."""
    cdef const bc_kernels *kernels = table(isa)
    words = as_source(words, np.uint64, "words")
    require(
        words.flags.c_contiguous and channels >= 0 and words.shape[1] == words_of(channels, 64),
        "words must be dense and as many as the channels need",
    )
    out = as_out(out, np.int8, (words.shape[0], channels))
    require(out.flags.c_contiguous, "out must be dense")
    cdef bc_unpack_args args
    args.words = <const uint64_t *>data(words)
    args.pixels = words.shape[0]
    args.channels = channels
    args.values = <int8_t *>data(out)
    kernels.unpack_i8(&args)
    return out


# ---- Sums ---------------------------------------------------------------------------------------


cdef class XorpopWeights:
    """Filters as the XNOR family of an instruction set wants them.

    weights: uint32 (filters, taps, ceil(channels / 32)).
    """

    cdef const bc_kernels *kernels
    cdef readonly Py_ssize_t filters, taps, channels
    cdef readonly Py_ssize_t padded_filters  # whole blocks
    cdef Py_ssize_t blocks, words
    cdef object storage

    def __cinit__(self, str isa, weights, Py_ssize_t channels):
        self.kernels = table(isa)
        weights = np.ascontiguousarray(weights)
        require(
            weights.dtype == np.uint32 and weights.ndim == 3 and channels >= 0
            and weights.shape[2] == words_of(channels, 32),
            "weights must be uint32 (filters, taps, ceil(channels / 32))",
        )
        self.filters, self.taps, self.channels = weights.shape[0], weights.shape[1], channels
        self.words = words_of(channels, 64)
        require(self.taps * self.words < 2**25, "taps * words * 64 must be below 2^31")
        cdef Py_ssize_t lanes = self.kernels.xorpop_block_filters
        self.blocks = words_of(self.filters, lanes)
        self.padded_filters = self.blocks * lanes
        size = self.blocks * self.taps * self.words * self.kernels.xorpop_block_word_bytes
        self.storage = aligned_words(words_of(size, 8))
        cdef bc_xorpop_weights_args args
        args.weights = <const uint32_t *>data(weights)
        args.filters = self.filters
        args.taps = self.taps
        args.channels = channels
        args.blocks = data(self.storage)
        self.kernels.xorpop_weights(&args)

    def counts(self, source, tap_offset, *, out=None, Py_ssize_t repeat=1):
        """int32 (pixels, padded_filters): differing bits, over taps, between source and weights.

        source: uint64 (pixels, any); tap t reads ceil(channels / 64) words from tap_offset[t] on.
        """
        source = as_source(source, np.uint64, "source")
        tap_offset = as_offsets(tap_offset, source.shape[1], self.words, "tap_offset")
        require(len(tap_offset) == self.taps, f"tap_offset must have {self.taps} elements")
        out = as_out(out, np.int32, (source.shape[0], self.padded_filters))
        cdef bc_xorpop_args args
        args.source = <const uint64_t *>data(source)
        args.source_stride = row_stride(source, "source")
        args.tap_offset = <const ptrdiff_t *>data(tap_offset)
        args.taps = self.taps
        args.words = self.words
        args.weights = data(self.storage)
        args.runs = 1
        args.run_stride = 0
        args.pixels = source.shape[0]
        args.blocks = self.blocks
        args.counts = <int32_t *>data(out)
        args.counts_stride = row_stride(out, "out")
        with nogil:
            for _ in range(repeat):
                self.kernels.xorpop(&args)
        return out


def chains_least(str isa):
    """(words of a window, filters) from which layers of this instruction set sum by chains, or None."""
    cdef const bc_kernels *kernels = table(isa)
    if kernels.chain_words_least > BC_CHAIN_WORDS:
        return None
    return kernels.chain_words_least, kernels.chain_filters_least


def chain_source(str isa, source, row_offset, Py_ssize_t words, *, out=None):
    """Chains, one for each row of source: uint64, a row behind the other, each 1 + words * rows long.

    source: uint64 (runs, any); row r of a run begins at row_offset[r]. After the chains `out` has
    BC_CHAIN_SLACK elements for each row, of no use.
    """
    source = as_source(source, np.uint64, "source")
    row_offset = as_offsets(row_offset, source.shape[1], words, "row_offset")
    require(row_offset.size > 0 and words >= 0, "there must be a row of words")
    entries = 1 + words * row_offset.size
    size = source.shape[0] * entries + BC_CHAIN_SLACK * row_offset.size
    out = as_out(out, np.uint64, (size,))
    cdef bc_chain_source_args args
    args.source = <const uint64_t *>data(source)
    args.row_offset = <const ptrdiff_t *>data(row_offset)
    args.rows = row_offset.size
    args.words = words
    args.runs = source.shape[0]
    args.source_run_stride = row_stride(source, "source")
    args.chain = <uint64_t *>data(out)
    args.run_stride = entries
    table(isa).chain_source(&args)
    return out


cdef class ChainWeights:
    """Filters as sums by chains want them.

    weights: uint32 (filters, rows, taps of a row, ceil(channels / 32)).
    """

    cdef const bc_kernels *kernels
    cdef readonly Py_ssize_t padded_filters  # whole blocks
    cdef Py_ssize_t blocks, words, rows
    cdef object storage

    def __cinit__(self, str isa, weights, Py_ssize_t channels):
        self.kernels = table(isa)
        weights = np.ascontiguousarray(weights)
        require(
            weights.dtype == np.uint32 and weights.ndim == 4 and channels >= 0
            and weights.shape[3] == words_of(channels, 32),
            "weights must be uint32 (filters, rows, taps of a row, ceil(channels / 32))",
        )
        self.rows = weights.shape[1]
        self.words = self.rows * weights.shape[2] * words_of(channels, 64)
        require(1 <= self.words <= BC_CHAIN_WORDS, "a window must have 1 to BC_CHAIN_WORDS words")
        cdef Py_ssize_t lanes = self.kernels.chain_block_filters
        self.blocks = words_of(weights.shape[0], lanes)
        self.padded_filters = self.blocks * lanes
        size = self.blocks * self.words * self.kernels.chain_block_word_bytes
        self.storage = aligned_words(words_of(size, 8))
        cdef bc_chain_weights_args args
        args.weights = <const uint32_t *>data(weights)
        args.filters = weights.shape[0]
        args.rows = self.rows
        args.row_taps = weights.shape[2]
        args.channels = channels
        args.blocks = data(self.storage)
        self.kernels.chain_weights(&args)

    def counts(self, chain, Py_ssize_t pixels, Py_ssize_t step, *, out=None, Py_ssize_t repeat=1):
        """int32 (runs * pixels, padded_filters): differing bits between windows and weights.

        chain: uint64 (runs, entries), dense. Windows of a run are `step` words of each row apart.
        """
        chain = as_source(chain, np.uint64, "chain")
        require(chain.flags.c_contiguous, "chain must be dense")
        require(
            pixels >= 1 and step >= 0
            and 1 + (pixels - 1) * step * self.rows + self.words <= chain.shape[1],
            "windows must lie in their chain",
        )
        out = as_out(out, np.int32, (chain.shape[0] * pixels, self.padded_filters))
        cdef bc_chain_sums_args args
        args.chain = <const uint64_t *>data(chain)
        args.words = self.words
        args.runs = chain.shape[0]
        args.pixels = pixels
        args.run_stride = chain.shape[1]
        args.pixel_stride = step * self.rows
        args.weights = data(self.storage)
        args.blocks = self.blocks
        args.next_weights = NULL
        args.counts = <int32_t *>data(out)
        args.counts_stride = row_stride(out, "out")
        args.finish = NULL
        with nogil:
            for _ in range(repeat):
                self.kernels.chain_sums(&args)
        return out


cdef class SignsumWeights:
    """Filters as the BINARY_WEIGHTS family of an instruction set wants them.

    weights: uint32 (filters, rows, ceil(run / 32)).
    """

    cdef const bc_kernels *kernels
    cdef readonly Py_ssize_t filters, rows, run
    cdef readonly Py_ssize_t padded_filters
    cdef Py_ssize_t blocks, block_bytes, groups, group_floats
    cdef object storage

    def __cinit__(self, str isa, weights, Py_ssize_t run):
        self.kernels = table(isa)
        weights = np.ascontiguousarray(weights)
        require(
            weights.dtype == np.uint32 and weights.ndim == 3 and run >= 0
            and weights.shape[2] == words_of(run, 32),
            "weights must be uint32 (filters, rows, ceil(run / 32))",
        )
        self.filters, self.rows, self.run = weights.shape[0], weights.shape[1], run
        self.groups = words_of(self.run, 4)
        self.group_floats = self.kernels.signsum_group_floats
        cdef Py_ssize_t lanes = self.kernels.signsum_block_filters
        self.blocks = words_of(self.filters, lanes)
        self.padded_filters = self.blocks * lanes
        self.block_bytes = (
            self.rows * words_of(self.run, 32) * self.kernels.signsum_block_word_bytes
        )
        self.storage = aligned_words(words_of(self.blocks * self.block_bytes, 8))
        cdef bc_signsum_weights_args args
        args.weights = <const uint32_t *>data(weights)
        args.filters = self.filters
        args.rows = self.rows
        args.run = run
        args.blocks = data(self.storage)
        self.kernels.signsum_weights(&args)

    def expand(self, source, *, out=None):
        """What `sums` reads of one row: float32 (pixels, any), from a source (pixels, run)."""
        source = as_source(source, np.float32, "source")
        require(source.shape[1] == self.run, f"source must have rows of {self.run}")
        out = as_out(out, np.float32, (source.shape[0], self.groups * self.group_floats))
        require(out.flags.c_contiguous, "out must be dense")
        cdef bc_signsum_expand_args args
        args.source = <const float *>data(source)
        args.source_stride = row_stride(source, "source")
        args.pixels = source.shape[0]
        args.run = self.run
        args.groups = <float *>data(out)
        with nogil:
            self.kernels.signsum_expand(&args)
        return out

    def sums(self, expanded, *, bint accumulate=False, out=None, Py_ssize_t repeat=1):
        """float32 (pixels, padded_filters): sums over rows and inputs of v or -v.

        expanded: float32 (rows, pixels, any), each row as `expand` makes it. accumulate: added to
        what is in `out`.
        """
        expanded = np.ascontiguousarray(expanded)
        require(expanded.dtype == np.float32 and expanded.ndim == 3, "expanded must be float32, 3-d")
        rows, pixels, floats = expanded.shape
        require(
            rows == self.rows and floats == self.groups * self.group_floats,
            "expanded must have the rows, and the floats in each, that expand makes",
        )
        require(out is not None or not accumulate, "accumulate needs out")
        out = as_out(out, np.float32, (pixels, self.padded_filters))
        row_offset = np.arange(rows, dtype=np.intp) * (pixels * floats)
        cdef bc_signsum_args args
        args.source = <const float *>data(expanded)
        args.source_stride = floats
        args.row_offset = <const ptrdiff_t *>data(row_offset)
        args.rows = rows
        args.groups = self.groups
        args.weights = data(self.storage)
        args.block_stride_bytes = self.block_bytes
        args.pixels = pixels
        args.blocks = self.blocks
        args.sums = <float *>data(out)
        args.sums_stride = row_stride(out, "out")
        args.accumulate = accumulate
        with nogil:
            for _ in range(repeat):
                self.kernels.signsum(&args)
        return out


def window_popcount(str isa, source, tap_offset, Py_ssize_t words, *, out=None):
    """int32 (pixels,): bits set in the `words` words from each tap's offset on."""
    cdef const bc_kernels *kernels = table(isa)
    require(words >= 0, "words must not be negative")
    source = as_source(source, np.uint64, "source")
    tap_offset = as_offsets(tap_offset, source.shape[1], words, "tap_offset")
    out = as_out(out, np.int32, (source.shape[0],))
    cdef bc_window_popcount_args args
    args.source = <const uint64_t *>data(source)
    args.source_stride = row_stride(source, "source")
    args.tap_offset = <const ptrdiff_t *>data(tap_offset)
    args.taps = len(tap_offset)
    args.words = words
    args.pixels = source.shape[0]
    args.counts = <int32_t *>data(out)
    kernels.window_popcount(&args)
    return out


def window_sum(str isa, source, tap_offset, float divisor, *, out=None):
    """float32 (pixels,): the sum of the values at the taps' offsets, in their order, / divisor."""
    cdef const bc_kernels *kernels = table(isa)
    source = as_source(source, np.float32, "source")
    tap_offset = as_offsets(tap_offset, source.shape[1], 1, "tap_offset")
    out = as_out(out, np.float32, (source.shape[0],))
    cdef bc_window_sum_args args
    args.source = <const float *>data(source)
    args.source_stride = row_stride(source, "source")
    args.tap_offset = <const ptrdiff_t *>data(tap_offset)
    args.taps = len(tap_offset)
    args.pixels = source.shape[0]
    args.divisor = divisor
    args.sums = <float *>data(out)
    kernels.window_sum(&args)
    return out


# ---- Epilogue -----------------------------------------------------------------------------------


cdef padded_rows(array):
    """A copy in which what may be read past the end is of no use."""
    rows, columns = array.shape
    flat = np.full(rows * columns + BC_SLACK, np.nan if array.dtype == np.float32 else -1, array.dtype)
    flat[: rows * columns] = array.ravel()
    return flat


def epilogue(
    str isa,
    values,
    scale,
    bias,
    *,
    neuron=(0, 0.0, 0.0, 0.0),
    a_terms=None,
    beta=None,
    channel_base=None,
    pixel_base=None,
    unsigned count_shift=0,
    unsigned sum_shift=0,
    pack_bias=None,
    pack_scale=None,
    dtype=np.float32,
    size_t destination_bit=0,
    out=None,
):
    """Sums float32 or counts int32 (pixels, channels) to results.

    dtype: float32 or float16 gives (pixels, channels); uint64 gives words, with the bits from
    destination_bit on, and the other bits of `out` (without it: 0) kept. neuron: (type, a, b, c).
    """
    cdef const bc_kernels *kernels = table(isa)
    values = np.asarray(values)
    require(
        values.ndim == 2 and values.dtype in (np.float32, np.int32),
        "values must be float32 sums or int32 counts (pixels, channels)",
    )
    pixels, channels = values.shape
    require(channels <= BC_EPILOGUE_CHANNELS, f"at most {BC_EPILOGUE_CHANNELS} channels")
    from_counts = values.dtype == np.int32
    require(from_counts == (channel_base is not None), "channel_base belongs to counts")
    require(count_shift < 32 and sum_shift < 32, "shifts must be below 32")
    dtype = np.dtype(dtype)
    formats = {np.dtype("f4"): BC_FLOAT32, np.dtype("f2"): BC_FLOAT16, np.dtype("u8"): BC_BITS}
    require(dtype in formats, "dtype must be float32, float16 or uint64")
    is_bits = dtype == np.uint64
    if is_bits and out is None:
        out = np.zeros((pixels, words_of(destination_bit + channels, 64)), dtype)
    out = as_out(
        out, dtype, (pixels, words_of(destination_bit + channels, 64) if is_bits else channels)
    )

    # Whatever a pointer below is taken from is named here, so that it lives until the call.
    padded = padded_rows(values)
    scale = as_terms(scale, np.float32, channels, "scale")
    bias = as_terms(bias, np.float32, channels, "bias")
    pack_bias, pack_scale = two_terms(pack_bias, pack_scale, channels, "pack terms")
    if channel_base is not None:
        channel_base = as_terms(channel_base, np.int32, channels, "channel_base")
    if pixel_base is not None:
        pixel_base = as_terms(pixel_base, np.int32, pixels, "pixel_base")
    if beta is not None:
        beta = as_terms(beta, np.float32, pixels, "beta")
    if a_terms is not None:
        a_terms = as_terms(a_terms, np.float32, channels, "a_terms")
    kind, a, b, c = neuron
    require(0 <= kind <= 15, "the neuron's type must be 0 to 15")
    require((kind == 10) == (a_terms is not None), "a_terms belong to PRELU, which needs them")

    cdef bc_epilogue_args args
    args.counts = NULL
    args.sums = NULL
    if from_counts:
        args.counts = <const int32_t *>data(padded)
    else:
        args.sums = <const float *>data(padded)
    args.row_stride = channels
    args.pixels = pixels
    args.channels = channels
    args.channel_base = <const int32_t *>data(channel_base)
    args.pixel_base = <const int32_t *>data(pixel_base)
    args.pixel_base_stride = 1
    args.count_shift = count_shift
    args.sum_shift = sum_shift
    args.scale = <const float *>data(scale)
    args.bias = <const float *>data(bias)
    args.beta = <const float *>data(beta)
    args.beta_stride = 1
    args.neuron.type = <bc_neuron_type><int>kind
    args.neuron.a = a
    args.neuron.b = b
    args.neuron.c = c
    args.neuron.a_terms = <const float *>data(a_terms)
    args.format = formats[dtype]
    args.destination = data(out)
    args.destination_stride = row_stride(out, "out")
    args.destination_bit = destination_bit
    args.pack_bias = <const float *>data(pack_bias)
    args.pack_scale = <const float *>data(pack_scale)
    args.bit_threshold = NULL
    args.bit_flip = NULL
    kernels.epilogue(&args)
    return out


# ---- Yardsticks ---------------------------------------------------------------------------------


def spin(size_t additions):
    """Does about that many additions that wait for each other, a clock cycle each; how many, or 0
    where that cannot be done."""
    cdef size_t done
    with nogil:
        done = bc_spin(additions)
    return done


def read(str isa, array, *, Py_ssize_t repeat=1):
    """Reads a dense uint64 array, whole blocks of 64, as fast as the instruction set loads."""
    place(isa)
    array = np.asarray(array)
    require(array.dtype == np.uint64 and array.flags.carray, "array must be dense uint64")
    cdef size_t vector_bytes = 64 if isa.startswith("avx512") else 32 if isa == "avx2" else 16
    cdef const uint64_t *words = <const uint64_t *>data(array)
    cdef size_t blocks = array.size // 64
    cdef uint64_t total = 0
    with nogil:
        for _ in range(repeat):
            total += bc_read(words, blocks, vector_bytes)
    return total
