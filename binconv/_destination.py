"""Destinations: made anew, or the caller's, checked before anything is written."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from . import _arrays, _checks
from ._plan import Plan, Shape4
from .images import REAL_DTYPES, PackedImage, real_dtype, word_count

_CACHE_LINE = 64  # bytes
_ALIGNED_FROM = 16 * 1024  # bytes; the microsecond that aligning takes is then little

_FLOAT16 = np.dtype(np.float16)
_FLOAT32 = np.dtype(np.float32)


def result_dtype(source: NDArray[Any] | PackedImage, dtype: DTypeLike | None) -> np.dtype[Any]:
    """The caller's choice, else float16 for a float16 source and float32 for the others."""
    if dtype is not None:
        return real_dtype(dtype)
    if isinstance(source, PackedImage) or source.dtype.itemsize != 2:
        return _FLOAT32
    return _FLOAT16


def _empty(shape: Shape4, dtype: np.dtype[Any]) -> NDArray[Any]:
    """An array that begins with a cache line where it is large enough for that to matter.

    NumPy's own begin 16 bytes into one, and then every vector that kernels store straddles two:
    layers with float32 results take 3 to 14% longer.
    """
    size = math.prod(shape) * dtype.itemsize
    if size < _ALIGNED_FROM:
        return np.empty(shape, dtype)
    memory = np.empty(size + _CACHE_LINE, np.uint8)
    start = -memory.__array_interface__["data"][0] % _CACHE_LINE
    array: NDArray[Any] = np.ndarray(shape, dtype, buffer=memory, offset=start)
    return array


def new_array(plan: Plan, dtype: np.dtype[Any]) -> NDArray[Any]:
    """A four-axis array for the result, its channels before the layer's own 0."""
    array = _empty(plan.destination_shape, dtype)
    skipped = plan.arguments["destination_channel_offset"]
    if skipped:
        array[..., :skipped] = 0
    return array


def new_packed(shape: Shape4) -> PackedImage:
    """A packed image for the result, all bits 0."""
    words = np.zeros((*shape[:3], word_count(shape[3])), np.uint64)
    return PackedImage.trusted(words, shape[3])


def check_form(out: object, packed: bool, dtype: DTypeLike | None) -> None:
    """That the three ways to say what form a result has do not contradict each other."""
    if not isinstance(packed, (bool, np.bool_)):
        raise TypeError(f"packed: expected a bool, got {_checks.describe(packed)}")
    if dtype is not None and (packed or isinstance(out, PackedImage)):
        raise ValueError(f"dtype: expected None for a packed result, got {dtype!r}")
    if packed and out is not None and not isinstance(out, PackedImage):
        raise TypeError(f"out: expected a PackedImage with packed, got {_checks.describe(out)}")
    if dtype is not None and isinstance(out, np.ndarray) and out.dtype != real_dtype(dtype):
        raise ValueError(f"out: expected the dtype asked for, {np.dtype(dtype)}, got {out.dtype}")


def check_out(out: object, plan: Plan, source: NDArray[Any] | PackedImage) -> None:
    """That `out` has the shape of the result; more channels where the layer skips some."""
    image = check_destination(out, source, "out")
    expected = plan.destination_shape if isinstance(image, PackedImage) else plan.result_shape
    if image.shape == expected:
        return
    if not plan.arguments["destination_channel_offset"]:
        raise ValueError(f"out: expected shape {expected}, got {image.shape}")
    if image.shape[:-1] != expected[:-1] or image.shape[-1] < expected[-1]:
        raise ValueError(
            f"out: expected shape {expected}, the last of them or more, got {image.shape}"
        )


def check_destination(
    destination: object, source: NDArray[Any] | PackedImage, name: str
) -> NDArray[Any] | PackedImage:
    """That something can be written to, and that writing to it does not change the source."""
    if isinstance(destination, PackedImage):
        memory: NDArray[Any] = destination.words
    elif isinstance(destination, np.ndarray):
        memory = destination
        kind = memory.dtype if memory.dtype.isnative else memory.dtype.newbyteorder("=")
        if kind not in REAL_DTYPES:
            raise TypeError(f"{name}: expected float32 or float16, got {memory.dtype}")
    else:
        raise TypeError(
            f"{name}: expected a NumPy array or a PackedImage, got {_checks.describe(destination)}"
        )
    if not memory.flags.writeable:
        raise ValueError(f"{name}: expected a writable array, got a read-only one")
    if _arrays.overlaps_itself(memory):
        raise ValueError(
            f"{name}: expected memory of its own for each element, got strides {memory.strides} "
            f"for shape {memory.shape}, with which elements overlap"
        )
    source_memory = source.words if isinstance(source, PackedImage) else source
    if _arrays.overlap(memory, source_memory):
        raise ValueError(f"{name}: expected memory apart from that of source, got an overlap")
    return destination
