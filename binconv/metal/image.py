"""Images in the memory of a GPU."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from .. import _arrays, _checks
from ..images import PackedImage, SourceImage, source_array, word_count
from .device import Device, device_or_default

__all__ = ["Image"]

Form = Literal["float32", "float16", "uint8", "bits"]


class Image:
    """Images on a GPU, NHWC.  MPS: MPSImage, and an MPSImageBatch at once.

    array: (H, W, C) or (N, H, W, C) of float32, float16 or uint8 (value / 255), any strides, or
        anything with __dlpack__ or __array__ on the CPU; or a `binconv.PackedImage`.  It is copied.
    device: where the image lives; None for the default device.

    Raises TypeError or ValueError for an array of another kind or rank, and ValueError for one over
    the device's limits.
    """

    def __init__(self, array: SourceImage, device: Device | None = None) -> None:
        if isinstance(array, PackedImage):
            memory: NDArray[Any] = array.words
            shape = array.shape
            form: Form = "bits"
        else:
            memory = _arrays.readable(source_array(array, "array"))
            if memory.ndim == 3:
                memory = memory[None]
            if memory.ndim != 4:
                raise ValueError(
                    f"array: expected shape (H, W, C) or (N, H, W, C), got {memory.shape}"
                )
            shape = (memory.shape[0], memory.shape[1], memory.shape[2], memory.shape[3])
            form = str(memory.dtype.name)  # type: ignore[assignment]  # one of those
        self._set_up(shape, form, device_or_default(device))
        self._device._write(self._buffer, memory)

    @classmethod
    def empty(
        cls,
        shape: tuple[int, int, int, int],
        form: Form = "float32",
        device: Device | None = None,
    ) -> Image:
        """Images of zeros (bits: all clear), to be written by a layer.  MPS:
        initWithDevice:imageDescriptor:.

        shape: (N, H, W, channels).
        form: "float32", "float16" or "bits".
        """
        if not isinstance(shape, tuple) or len(shape) != 4:
            raise TypeError(f"shape: expected (N, H, W, channels), got {_checks.describe(shape)}")
        sizes = [_checks.integer(size, "shape", 0) for size in shape]
        if form not in ("float32", "float16", "bits"):
            raise ValueError(f"form: expected float32, float16 or bits, got {form!r}")
        image = object.__new__(cls)
        image._set_up((sizes[0], sizes[1], sizes[2], sizes[3]), form, device_or_default(device))
        return image

    def _set_up(self, shape: tuple[int, int, int, int], form: Form, device: Device) -> None:
        self._shape, self._form, self._device = shape, form, device
        self._buffer = device._empty_buffer(self.nbytes, "image")

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(N, H, W, channels)."""
        return self._shape

    @property
    def form(self) -> Form:
        """What a channel is: "float32", "float16", "uint8" (value / 255) or "bits"."""
        return self._form

    @property
    def device(self) -> Device:
        """Where the image lives."""
        return self._device

    @property
    def nbytes(self) -> int:
        """Bytes of the image on the device; bits are in words of 64, as in a `PackedImage`."""
        images, height, width, channels = self._shape
        pixels = images * height * width
        if self._form == "bits":
            return pixels * word_count(channels) * 8
        return pixels * channels * np.dtype(self._form).itemsize

    def numpy(self) -> NDArray[Any] | PackedImage:
        """A copy in the memory of the CPU: an array of shape (N, H, W, channels), or a
        `PackedImage` of bits.  Waits for commands that were committed.  MPS: readBytes.
        """
        with self._device._lock:
            data = self._device._read(self._buffer, self.nbytes)
        images, height, width, channels = self._shape
        if self._form == "bits":
            words = data.view(np.uint64).reshape(images, height, width, word_count(channels))
            return PackedImage.trusted(words.copy(), channels)
        values: NDArray[Any] = data.view(self._form).reshape(self._shape).copy()
        return values

    def write(self, array: SourceImage) -> None:
        """Replaces the contents by an array's, of the same shape and form.  MPS: writeBytes."""
        if isinstance(array, PackedImage):
            memory: NDArray[Any] = array.words
            form, shape = "bits", array.shape
        else:
            memory = _arrays.readable(source_array(array, "array"))
            form = memory.dtype.name
            if memory.ndim == 3:
                memory = memory[None]
            shape = memory.shape
        if form != self._form or shape != self._shape:
            raise ValueError(
                f"array: expected {self._form} of shape {self._shape}, got {form} of shape {shape}"
            )
        with self._device._lock:
            self._device._write(self._buffer, memory)

    def __repr__(self) -> str:
        return f"Image(shape={self._shape}, form={self._form!r}, device={self._device!r})"

    def __reduce__(self) -> Any:
        raise TypeError("an Image does not travel: send what numpy() returns")

    @property
    def _has_pixels(self) -> bool:
        return math.prod(self._shape[:3]) > 0
