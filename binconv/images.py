"""Images: what a layer reads and writes, as arrays of reals or as bits."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from . import _arrays, _checks, _core
from ._arrays import SupportsArray, SupportsArrayInterface, SupportsDLPack

__all__ = ["PackedImage", "SourceImage", "pack"]

SOURCE_DTYPES = frozenset(np.dtype(t) for t in (np.float32, np.float16, np.uint8))
REAL_DTYPES = frozenset(np.dtype(t) for t in (np.float32, np.float16))


class PackedImage:
    """Images of bits, a bit for each channel of each pixel; a set bit stands for +1, a clear one
    for -1.  MPS has no such image; it binarises anew in every kernel.

    words: uint64 of shape (N, H, W, ceil(channels / 64)), C-contiguous, used without a copy;
        channel 64k + b is bit b, least significant first, of word k.
    channels: how many channels there are.

    Raises TypeError for another dtype, ValueError for another rank or number of words, and for
    bits set past the last channel, which must be 0 and must stay so.
    """

    __slots__ = ("_channels", "_words")

    _words: NDArray[np.uint64]
    _channels: int

    def __init__(self, words: NDArray[np.uint64], channels: int) -> None:
        if not isinstance(words, np.ndarray) or words.dtype != np.uint64:
            raise TypeError(f"words: expected an array of uint64, got {_checks.describe(words)}")
        count = _checks.positive(channels, "channels")
        if words.ndim != 4 or words.shape[3] != word_count(count):
            raise ValueError(
                f"words: expected shape (N, H, W, {word_count(count)}) for {count} channels, "
                f"got {words.shape}"
            )
        self._words = _arrays.readable(np.asarray(words))
        self._channels = count
        tail = count % 64
        if tail and (self._words[..., -1] >> np.uint64(tail)).any():
            raise ValueError(f"words: expected bits past channel {count - 1} to be 0")

    @classmethod
    def trusted(cls, words: NDArray[np.uint64], channels: int) -> PackedImage:
        """An image over words that are known to be right, without looking at them."""
        image = object.__new__(cls)
        image._words = words
        image._channels = channels
        return image

    @property
    def words(self) -> NDArray[np.uint64]:
        """uint64 of shape (N, H, W, ceil(channels / 64)), the memory itself."""
        return self._words

    @property
    def channels(self) -> int:
        """How many channels there are."""
        return self._channels

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(N, H, W, channels)."""
        images, height, width, _ = self._words.shape
        return images, height, width, self._channels

    @property
    def ndim(self) -> int:
        """4, the number of axes of `shape`."""
        return 4

    def unpack(self, dtype: DTypeLike = np.float32) -> NDArray[Any]:
        """An array of +1 and -1 of shape (N, H, W, channels).

        dtype: a float or signed integer dtype; TypeError for another.
        """
        try:
            kind = np.dtype(dtype)
        except TypeError:
            raise TypeError(
                f"dtype: expected floats or signed integers, got {_checks.describe(dtype)}"
            ) from None
        if kind.kind not in "fi":
            raise TypeError(f"dtype: expected floats or signed integers, got {kind}")
        return _core.unpack(self._words, self._channels).astype(kind, copy=False)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PackedImage):
            return NotImplemented
        return self._channels == other._channels and np.array_equal(self._words, other._words)

    __hash__ = None  # type: ignore[assignment]  # the words can change

    def __copy__(self) -> PackedImage:
        return PackedImage.trusted(self._words.copy(), self._channels)

    def __deepcopy__(self, memo: object) -> PackedImage:
        return self.__copy__()

    def __reduce__(self) -> tuple[object, ...]:
        return PackedImage, (self._words, self._channels)

    def __repr__(self) -> str:
        return f"PackedImage(shape={self.shape})"


_core.set_packed_image(PackedImage)


SourceImage: TypeAlias = (
    PackedImage | NDArray[Any] | SupportsArray | SupportsDLPack | SupportsArrayInterface
)
"""What a layer reads."""


def word_count(channels: int) -> int:
    """uint64 words of a pixel of bits."""
    return -(-channels // 64)


def source_array(value: object, name: str = "source") -> NDArray[Any]:
    """A float32, float16 or uint8 array of any strides, over the caller's memory."""
    array = value if type(value) is np.ndarray else _arrays.as_array(value, name)
    if array.dtype not in SOURCE_DTYPES:
        _check_source_dtype(array, name)
    return array


def _check_source_dtype(array: NDArray[Any], name: str) -> None:
    if not array.dtype.isnative and array.dtype.newbyteorder("=") in SOURCE_DTYPES:
        return
    advice = ""
    if array.dtype.kind in "fiub":
        advice = f"; convert it, for example with {name}.astype(numpy.float32)"
    raise TypeError(f"{name}: expected float32, float16 or uint8, got {array.dtype}{advice}")


def real_dtype(dtype: DTypeLike, name: str = "dtype") -> np.dtype[Any]:
    """float32 or float16, TypeError for others."""
    try:
        kind = np.dtype(dtype)
    except TypeError:
        raise TypeError(
            f"{name}: expected float32 or float16, got {_checks.describe(dtype)}"
        ) from None
    if kind not in REAL_DTYPES:
        raise TypeError(f"{name}: expected float32 or float16, got {kind}")
    return kind


def pack(
    image: SourceImage, bias: ArrayLike | None = None, scale: ArrayLike | None = None
) -> PackedImage:
    """Binarises an image: bit 0 where (image + bias) * scale is below 0, else 1 (so also for NaN).
    MPS has no such call; its kernels binarise their sources themselves.

    image: (H, W, C) or (N, H, W, C) of float32, float16 or uint8 (value / 255), any strides.
    bias, scale: floats of shape (C,); None means 0 and 1.

    Returns a `PackedImage`, which has the axis N in either case.  Raises TypeError or ValueError
    for an image of another kind or rank, or terms of another length.
    """
    if isinstance(image, PackedImage):
        raise TypeError("image: expected an array of reals, got a PackedImage")
    array = source_array(image, "image")
    if array.ndim not in (3, 4) or array.shape[-1] == 0:
        raise ValueError(
            "image: expected shape (H, W, C) or (N, H, W, C) with at least one channel, "
            f"got {array.shape}"
        )
    array = _arrays.readable(array)
    channels = array.shape[-1]
    biases = _arrays.optional_terms(bias, "bias", channels)
    scales = _arrays.optional_terms(scale, "scale", channels)
    if array.ndim == 3:
        array = array[None]
    return PackedImage.trusted(_core.pack(array, *both_terms(biases, scales)), channels)


def both_terms(
    bias: NDArray[np.float32] | None, scale: NDArray[np.float32] | None
) -> tuple[NDArray[np.float32] | None, NDArray[np.float32] | None]:
    """Both terms or neither: a missing one becomes 0 or 1, which leaves every bit as it is."""
    if bias is None and scale is not None:
        return np.zeros_like(scale), scale
    if scale is None and bias is not None:
        return bias, np.ones_like(bias)
    return bias, scale
