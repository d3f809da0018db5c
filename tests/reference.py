"""The semantics of a binary convolution, in plain NumPy.

An oracle for the tests: it follows the formulas of the documentation one by one, shares no code
with the package and imports nothing from it.  Enumerations are therefore named by strings
("XNOR", "CLAMP", "RELU"), sizes and strides are (y, x) tuples, and clarity wins over speed.

What a correct layer may return is an interval, `Result.low` to `Result.high`: a single point where
the result is exact, and as wide as the documented tolerances where it is not.  Rounding to float16
and taking the sign are monotone, so the same interval judges every form of destination.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.generic]
UNIT_ROUNDOFF = 2.0**-24  # of float32
NEURON_ULPS = 4

# Neurons of one rounding or none: their float32 result is one definite number.
CHEAP_NEURONS = frozenset({"NONE", "RELU", "PRELU", "RELUN", "ABSOLUTE"})


@dataclass(frozen=True)
class Neuron:
    """An activation function; `a` is an array of one value per output channel for PRELU."""

    type: str = "NONE"
    a: float | Array = 0.0
    b: float = 0.0
    c: float = 0.0


@dataclass(frozen=True)
class BatchNorm:
    mean: Array
    variance: Array
    gamma: Array | None = None
    beta: Array | None = None
    epsilon: float = 1e-5


@dataclass(frozen=True)
class Layer:
    """All that decides the numbers; `weights` holds 0 and 1, shape (O, kh, kw, Cg)."""

    weights: Array
    type: str = "XNOR"
    groups: int = 1
    strides: tuple[int, int] = (1, 1)
    dilations: tuple[int, int] = (1, 1)
    beta_scaling: bool = False
    scale: Array | float = 1.0
    bias: Array | float = 0.0
    input_bias: Array | None = None
    input_scale: Array | None = None
    batch_norm: BatchNorm | None = None
    neuron: Neuron = field(default_factory=Neuron)
    subpixel: int = 1
    edge_mode: str = "ZERO"
    edge_constant: float = 0.0

    @property
    def output_channels(self) -> int:
        """Output channels of the convolution, before any sub-pixel rearrangement."""
        return int(self.weights.shape[0])

    @property
    def input_channels(self) -> int:
        return int(self.weights.shape[3]) * self.groups

    @property
    def kernel(self) -> tuple[int, int]:
        return int(self.weights.shape[1]), int(self.weights.shape[2])

    @property
    def dilated_kernel(self) -> tuple[int, int]:
        (kh, kw), (dy, dx) = self.kernel, self.dilations
        return (kh - 1) * dy + 1, (kw - 1) * dx + 1

    @property
    def destination_channels(self) -> int:
        return self.output_channels // self.subpixel**2


@dataclass(frozen=True)
class Bits:
    """A source that is binarised already: 0 and 1, shape (N, H, W, C)."""

    bits: Array


@dataclass(frozen=True)
class Result:
    """One layer's output before it is rounded to the form of the destination.

    `sums` is S: int64 for XNOR and AND, float64 for BINARY_WEIGHTS, not rearranged by sub-pixel.
    The others are (N, H, W, destination channels): `chain` is evaluated in float32 with each
    operation rounded on its own, `value` in float64, and a right answer lies in [low, high].
    """

    sums: Array
    chain: Array
    value: Array
    low: Array
    high: Array


# ------------------------------------------------------------------------------------- the source


def to_float32(source: Array) -> Array:
    """Pixel values as float32: float16 is widened, uint8 is unorm8."""
    if source.dtype == np.uint8:
        return source.astype(np.float32) / np.float32(255)
    assert source.dtype in (np.float16, np.float32)
    return source.astype(np.float32)


def input_terms(layer: Layer, values: Array) -> Array:
    """v = (source + input_bias) * input_scale in float32; channels are the last axis."""
    v = values.astype(np.float32)
    with np.errstate(all="ignore"):
        if layer.input_bias is not None:
            v = v + np.asarray(layer.input_bias, np.float32)
        if layer.input_scale is not None:
            v = v * np.asarray(layer.input_scale, np.float32)
    assert v.dtype == np.float32
    return v


def bit(v: Array) -> Array:
    """0 where v < 0, else 1: +0, -0 and NaN are 1."""
    return np.where(np.asarray(v) < 0, 0, 1)


def nearest_inside(position: int, size: int, edge_mode: str) -> int | None:
    """The source row or column that a tap at `position` reads; None where it reads no pixel."""
    if 0 <= position < size:
        return position
    if edge_mode in ("ZERO", "CONSTANT", "EXCLUDE"):
        return None
    if size == 0:
        return None
    if edge_mode == "CLAMP":
        return min(max(position, 0), size - 1)
    if edge_mode == "MIRROR":
        if size == 1:
            return 0
        period = 2 * (size - 1)
        position %= period
        return position if position < size else period - position
    assert edge_mode == "MIRROR_WITH_EDGE"
    period = 2 * size
    position %= period
    return position if position < size else period - 1 - position


def gather(
    pixels: Array,
    rows: Sequence[int | None],
    columns: Sequence[int | None],
    outside: Array | float,
) -> Array:
    """pixels[:, rows, columns] with `outside` wherever a row or a column is None."""
    n, _, _, channels = pixels.shape
    taken = np.empty((n, len(rows), len(columns), channels), pixels.dtype)
    taken[...] = outside
    inside_y = [k for k, row in enumerate(rows) if row is not None]
    inside_x = [k for k, column in enumerate(columns) if column is not None]
    if inside_y and inside_x:
        source_y = [row for row in rows if row is not None]
        source_x = [column for column in columns if column is not None]
        taken[:, np.array(inside_y)[:, None], np.array(inside_x)] = pixels[
            :, np.array(source_y)[:, None], np.array(source_x)
        ]
    return taken


# ----------------------------------------------------------------------------------- the sums S


def positions(
    layer: Layer,
    source_size: tuple[int, int],
    size: tuple[int, int],
    offset: tuple[int, int],
    tap: tuple[int, int],
) -> tuple[list[int | None], list[int | None]]:
    """Rows and columns that tap (i, j) reads; destination pixels count from the clip origin."""
    result = []
    for axis in (0, 1):
        first = offset[axis] - (layer.dilated_kernel[axis] >> 1) + tap[axis] * layer.dilations[axis]
        result.append(
            [
                nearest_inside(first + k * layer.strides[axis], source_size[axis], layer.edge_mode)
                for k in range(size[axis])
            ]
        )
    return result[0], result[1]


def sums(
    layer: Layer, source: Array | Bits, size: tuple[int, int], offset: tuple[int, int]
) -> tuple[Array, Array, Array]:
    """S (N, H, W, O), the sum of |v| over the same terms, and beta (N, H, W, 1) in float64."""
    binary = layer.type in ("XNOR", "AND")
    edge = np.full(layer.input_channels, layer.edge_constant, np.float32)
    if layer.edge_mode != "CONSTANT":
        edge[:] = 0
    v_edge = input_terms(layer, edge)
    if isinstance(source, Bits):
        assert binary and not layer.beta_scaling
        pixels = np.asarray(source.bits)
        magnitude = np.zeros(pixels.shape)
        outside = bit(v_edge)
    else:
        v = input_terms(layer, to_float32(source))
        pixels = bit(v) if binary else v
        magnitude = np.abs(v.astype(np.float64))
        outside = bit(v_edge) if binary else v_edge
    excluded = layer.edge_mode == "EXCLUDE"

    n, height, width, channels = pixels.shape
    assert channels == layer.input_channels
    shape = (n, *size, layer.output_channels)
    total, total_magnitude = np.zeros(shape), np.zeros(shape)
    beta = np.zeros((n, *size, 1))
    per_group = layer.output_channels // layer.groups
    cg = int(layer.weights.shape[3])
    for i in range(layer.kernel[0]):
        for j in range(layer.kernel[1]):
            rows, columns = positions(layer, (height, width), size, offset, (i, j))
            reads = gather(np.ones((n, height, width, 1)), rows, columns, 0.0)
            values = gather(pixels.astype(np.float64), rows, columns, outside)
            sizes = gather(magnitude, rows, columns, np.abs(v_edge.astype(np.float64)))
            if excluded:
                sizes = np.where(reads == 1, sizes, 0.0)
            beta += np.where(reads == 1, sizes.mean(axis=3, keepdims=True), 0.0)
            for g in range(layer.groups):
                o = slice(g * per_group, (g + 1) * per_group)
                c = slice(g * cg, (g + 1) * cg)
                w = layer.weights[o, i, j].astype(np.float64).T  # (Cg, O/groups) of 0 and 1
                if layer.type == "AND":
                    signs, factors = values[..., c], w
                elif layer.type == "XNOR":
                    signs, factors = 2 * values[..., c] - 1, 2 * w - 1
                else:
                    signs, factors = values[..., c], 2 * w - 1
                if excluded:
                    signs = np.where(reads == 1, signs, 0.0)
                with np.errstate(all="ignore"):
                    total[..., o] += signs @ factors  # exact in float64 for XNOR and AND
                total_magnitude[..., o] += sizes[..., c].sum(axis=3, keepdims=True)
    beta /= layer.kernel[0] * layer.kernel[1]
    return (total.astype(np.int64) if binary else total), total_magnitude, beta


# -------------------------------------------------------------------------------- the epilogue


def folded_terms(layer: Layer) -> tuple[Array, Array]:
    """scale and bias, with the batch normalisation folded in, float32."""
    scale = np.broadcast_to(np.asarray(layer.scale, np.float32), layer.output_channels)
    bias = np.broadcast_to(np.asarray(layer.bias, np.float32), layer.output_channels)
    norm = layer.batch_norm
    if norm is None:
        return scale, bias
    mean, variance = np.asarray(norm.mean, np.float64), np.asarray(norm.variance, np.float64)
    gamma = np.ones_like(mean) if norm.gamma is None else np.asarray(norm.gamma, np.float64)
    shift = np.zeros_like(mean) if norm.beta is None else np.asarray(norm.beta, np.float64)
    factor = gamma / np.sqrt(variance + norm.epsilon)
    return (
        (scale.astype(np.float64) * factor).astype(np.float32),
        (bias.astype(np.float64) * factor + shift - factor * mean).astype(np.float32),
    )


_erf: Callable[[Array], Array] = np.vectorize(math.erf, otypes=[np.float64])


def neuron64(neuron: Neuron, x: Array) -> Array:
    """The neuron's formula in float64; a, b and c are the float32 numbers that a layer holds."""
    x = np.asarray(x, np.float64)
    a = np.asarray(neuron.a, np.float32).astype(np.float64)
    b, c = float(np.float32(neuron.b)), float(np.float32(neuron.c))
    with np.errstate(all="ignore"):
        match neuron.type:
            case "NONE":
                return x
            case "RELU" | "PRELU":
                return np.where(x >= 0, x, a * x)
            case "LINEAR":
                return a * x + b
            case "SIGMOID":
                return 1 / (1 + np.exp(-x))
            case "HARD_SIGMOID":
                return np.clip(a * x + b, 0, 1)
            case "TANH":
                return a * np.tanh(b * x)
            case "ABSOLUTE":
                return np.abs(x)
            case "SOFT_PLUS":
                return a * np.logaddexp(0, b * x)
            case "SOFT_SIGN":
                return x / (1 + np.abs(x))
            case "ELU":
                return np.where(x >= 0, x, a * np.expm1(x))
            case "RELUN":
                return np.minimum(np.where(x >= 0, x, a * x), b)
            case "POWER":
                return np.power(a * x + b, c)
            case "EXPONENTIAL":
                return np.exp(a * x + b) if c == -1 else np.power(c, a * x + b)
            case "LOGARITHM":
                return np.log(a * x + b) if c == -1 else np.log(a * x + b) / np.log(c)
            case "GELU":
                return 0.5 * x * (1 + _erf(x / math.sqrt(2)))
    raise AssertionError(neuron.type)


def neuron_terms(neuron: Neuron, x: Array) -> Array:
    """The largest term of formulas in which terms cancel, 0 for the others."""
    x = np.asarray(x, np.float64)
    a = np.asarray(neuron.a, np.float32).astype(np.float64)
    b = abs(float(np.float32(neuron.b)))
    with np.errstate(all="ignore"):
        if neuron.type in ("LINEAR", "HARD_SIGMOID"):
            return np.maximum(np.abs(a * x), b)
        if neuron.type == "ELU":
            return np.where(x >= 0, 0.0, np.abs(a) * np.ones_like(x))
        if neuron.type == "GELU":
            return np.abs(0.5 * x)
    return np.zeros_like(x)


def neuron_chain(neuron: Neuron, x: Array) -> Array:
    """The cheap neurons in float32, each operation rounded; the others are rounded once."""
    assert x.dtype == np.float32
    a, b = np.asarray(neuron.a, np.float32), np.float32(neuron.b)
    with np.errstate(all="ignore"):
        if neuron.type in ("RELU", "PRELU", "RELUN"):
            y = np.where(x >= 0, x, a * x)
            return np.minimum(y, b) if neuron.type == "RELUN" else y
        return neuron64(neuron, x).astype(np.float32)


def ulp(value: Array) -> Array:
    """The spacing of float32 numbers at `value`."""
    with np.errstate(all="ignore"):
        spacing = np.spacing(np.abs(np.asarray(value, np.float64)).astype(np.float32))
    return np.where(np.isfinite(spacing), spacing, 0.0).astype(np.float64)


def neuron_bounds(neuron: Neuron, x_low: Array, x_high: Array) -> tuple[Array, Array]:
    """What the neuron may return for an x in [x_low, x_high], with its tolerance in ULP."""
    turning = -0.7517915246935645 if neuron.type == "GELU" else 0.0
    if neuron.type == "POWER" and neuron.a:
        turning = -float(np.float32(neuron.b)) / float(np.float32(neuron.a))
    # an extremum inside the interval, where there is one: at 0 for most that have any
    points = [x_low, x_high, np.clip(turning, x_low, x_high)]
    values = [neuron64(neuron, p) for p in points]
    low, high = np.minimum.reduce(values), np.maximum.reduce(values)
    terms = np.maximum(neuron_terms(neuron, x_low), neuron_terms(neuron, x_high))
    return (
        low - NEURON_ULPS * ulp(np.maximum(np.abs(low), terms)),
        high + NEURON_ULPS * ulp(np.maximum(np.abs(high), terms)),
    )


def run(
    layer: Layer, source: Array | Bits, size: tuple[int, int], offset: tuple[int, int]
) -> Result:
    """The whole layer; `size` and `offset` (y, x) are in pixels of the convolution's output,
    before sub-pixel rearrangement."""
    s, magnitude, beta = sums(layer, source, size, offset)
    scale, bias = folded_terms(layer)
    exact_sum = layer.type != "BINARY_WEIGHTS"
    with np.errstate(all="ignore"):
        # float32, one rounding for each operation
        x = s.astype(np.float32) * scale
        if layer.beta_scaling:
            x = x * beta.astype(np.float32)
        x = x + bias
        chain = neuron_chain(layer.neuron, x)

        # float64
        scale64, bias64 = scale.astype(np.float64), bias.astype(np.float64)
        factor = scale64 * beta if layer.beta_scaling else scale64
        x64 = s * factor + bias64
        value = neuron64(layer.neuron, x64)

        if exact_sum and not layer.beta_scaling:
            if layer.neuron.type in CHEAP_NEURONS:
                low = high = chain.astype(np.float64)
            else:
                low, high = neuron_bounds(layer.neuron, x.astype(np.float64), x.astype(np.float64))
        else:
            terms = layer.kernel[0] * layer.kernel[1] * int(layer.weights.shape[3])
            error = np.zeros(s.shape)
            if not exact_sum:
                error += np.abs(factor) * (terms / 4 + 8) * UNIT_ROUNDOFF * magnitude
            roundings = 2.0
            if layer.beta_scaling:  # a sum of non-negative terms, by the same rule, and a product
                roundings += terms * layer.groups / 4 + 8 + 1
            error += roundings * UNIT_ROUNDOFF * np.abs(s * factor) + UNIT_ROUNDOFF * np.abs(x64)
            error = error * (1 + 2.0**-20) + 2.0**-147
            error = np.where(np.isfinite(x64), error, 0.0)
            low, high = neuron_bounds(layer.neuron, x64 - error, x64 + error)
    r = layer.subpixel
    return Result(
        s,
        subpixel_shuffle(chain, r),
        subpixel_shuffle(value, r),
        subpixel_shuffle(low, r),
        subpixel_shuffle(high, r),
    )


def subpixel_shuffle(out: Array, r: int) -> Array:
    """destination[y, x, c] = out[y // r, x // r, (N / r^2) * (r * (y % r) + x % r) + c]."""
    if r == 1:
        return out
    n, height, width, channels = out.shape
    per_pixel = channels // r**2
    destination = np.empty((n, height * r, width * r, per_pixel), out.dtype)
    for y in range(r):
        for x in range(r):
            first = per_pixel * (r * y + x)
            destination[:, y::r, x::r] = out[..., first : first + per_pixel]
    return destination


# ------------------------------------------------------------------------- sizes and offsets


def _half(value: int) -> int:
    """value / 2 rounded toward zero."""
    return value // 2 if value >= 0 else -(-value // 2)


def padding_1d(
    n: int, f: int, s: int, *, style: str, align: str, remainder_first: bool
) -> tuple[int, int]:
    """(size, offset) of one dimension: f is the dilated kernel size, s the stride."""
    sign = {"VALID_ONLY": -1, "SAME": 0, "FULL": 1}[style]
    size = max(0, -(-(n + sign * (f - 1)) // s))
    extra = (size - 1) * s + f - n
    left = _half(extra + 1) if remainder_first else _half(extra)
    if align == "TOP_LEFT":
        left = extra
    elif align == "BOTTOM_RIGHT":
        left = 0
    return size, (f >> 1) - left


def padding(
    layer: Layer,
    source_size: tuple[int, int],
    style: str = "SAME",
    align: str = "CENTERED",
    remainder: str = "TOP_LEFT",
) -> tuple[tuple[int, int], tuple[int, int]]:
    """((height, width), offset (y, x)), the size before sub-pixel rearrangement."""
    vertical, horizontal = remainder.split("_")
    height, y = padding_1d(
        source_size[0],
        layer.dilated_kernel[0],
        layer.strides[0],
        style=style,
        align=align,
        remainder_first=vertical == "TOP",
    )
    width, x = padding_1d(
        source_size[1],
        layer.dilated_kernel[1],
        layer.strides[1],
        style=style,
        align=align,
        remainder_first=horizontal == "LEFT",
    )
    return (height, width), (y, x)


def padding_explicit(
    layer: Layer, source_size: tuple[int, int], top: int, bottom: int, left: int, right: int
) -> tuple[tuple[int, int], tuple[int, int]]:
    """As PyTorch and ONNX count it."""
    sizes, offsets = [], []
    for n, f, s, before, after in zip(
        source_size,
        layer.dilated_kernel,
        layer.strides,
        (top, left),
        (bottom, right),
        strict=True,
    ):
        sizes.append(max(0, (n + before + after - f) // s + 1))
        offsets.append((f >> 1) - before)
    return (sizes[0], sizes[1]), (offsets[0], offsets[1])


# ------------------------------------------------------------------------ forms of a destination


def pack(bits: Array) -> Array:
    """0 and 1 (..., C) to uint64 words (..., ceil(C/64)), least significant bit first."""
    return _pack(bits, np.uint64, 64)


def pack_weights(weights: Array) -> Array:
    """0 and 1 (O, kh, kw, Cg) to uint32 words (O, kh, kw, ceil(Cg/32))."""
    return _pack(weights, np.uint32, 32)


def _pack(bits: Array, word: type[np.unsignedinteger], width: int) -> Array:
    *shape, channels = bits.shape
    words = -(-channels // width)
    padded = np.zeros((*shape, words * width), word)
    padded[..., :channels] = bits
    shifts = np.arange(width, dtype=word)
    return np.bitwise_or.reduce(padded.reshape(*shape, words, width) << shifts, axis=-1)


def unpack(words: Array, channels: int) -> Array:
    """uint64 words (..., ceil(C/64)) to 0 and 1 (..., C)."""
    bits = (words[..., None] >> np.arange(64, dtype=np.uint64)) & np.uint64(1)
    return bits.reshape(*words.shape[:-1], words.shape[-1] * 64)[..., :channels].astype(np.int64)


def check(actual: Array, result: Result, *, where: str = "") -> None:
    """Fails unless `actual` (float32, float16 or unpacked bits) lies between the rounded bounds."""
    assert actual.shape == result.low.shape, (actual.shape, result.low.shape, where)
    with np.errstate(all="ignore"):
        if actual.dtype in (np.float32, np.float16):
            # float16 is rounded from float32, not from the exact number
            low = result.low.astype(np.float32).astype(actual.dtype)
            high = result.high.astype(np.float32).astype(actual.dtype)
            fine = (actual >= low) & (actual <= high)
            fine |= np.isnan(actual) & np.isnan(low)
        else:
            low, high = bit(result.low.astype(np.float32)), bit(result.high.astype(np.float32))
            fine = (actual >= low) & (actual <= high)
    if not fine.all():
        at = tuple(int(k) for k in np.argwhere(~fine)[0])
        raise AssertionError(
            f"{int((~fine).sum())} of {fine.size} values are wrong {where}: at {at} got "
            f"{actual[at]!r}, expected {low[at]!r} to {high[at]!r}"
        )
