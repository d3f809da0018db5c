"""Data sources: where a layer's weights come from."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _arrays, _checks, serialization
from ._locks import brief_lock
from .descriptors import ConvolutionDescriptor
from .enums import DataType
from .errors import DataSourceError

__all__ = [
    "ArrayDataSource",
    "ConvolutionDataSource",
    "SafetensorsDataSource",
    "pack_weights",
]


@runtime_checkable
class ConvolutionDataSource(Protocol):
    """What a layer takes its weights from.  MPS: MPSCNNConvolutionDataSource.

    A layer calls `load`, then the others, copies what it needs, and calls `purge` once for every
    call of `load`, however that went.  Whatever these methods raise, MemoryError apart, reaches
    the user as the cause of a `DataSourceError`.
    """

    def load(self) -> bool:
        """Get ready to answer; False, or an exception, where that fails.  MPS: load."""
        ...

    def purge(self) -> None:
        """Let go of what load took.  MPS: purge."""
        ...

    def data_type(self) -> DataType:
        """`DataType.UINT32`, the only one that binary convolutions take.  MPS: dataType."""
        ...

    def descriptor(self) -> ConvolutionDescriptor:
        """Shape and arithmetic of the layer.  MPS: descriptor."""
        ...

    def weights(self) -> NDArray[np.uint32]:
        """uint32 words of shape (O, kernel_height, kernel_width, ceil(Cg / 32)).  MPS: weights.

        Channel 32k + b is bit b, least significant first, of word k; bits past the last channel
        are ignored.
        """
        ...

    def bias_terms(self) -> NDArray[np.float32] | None:
        """float32 of shape (O,), or None for 0.  MPS: biasTerms."""
        ...

    def label(self) -> str | None:
        """A name for the layer, or None.  MPS: label."""
        ...


def pack_weights(weights: ArrayLike) -> NDArray[np.uint32]:
    """Packs weights into the words that a `ConvolutionDataSource` delivers.  MPS has no such call.

    weights: (O, kernel_height, kernel_width, Cg), of a float dtype (bit 0 where below 0, else 1,
        so NaN and both zeros are 1), bool (True is 1), or signed integers that are all +1 or -1.

    Returns uint32 of shape (O, kernel_height, kernel_width, ceil(Cg / 32)).  Raises TypeError for
    another dtype, ValueError for another rank or other integers.
    """
    array = _arrays.as_array_like(weights, "weights")
    if array.ndim != 4:
        raise ValueError(
            "weights: expected shape (output channels, kernel height, kernel width, input channels "
            f"per group), got {array.shape}"
        )
    if array.dtype.kind == "b":
        bits = array
    elif array.dtype.kind == "f":
        bits = ~(array < 0)
    elif array.dtype.kind == "i":
        if not np.isin(array, (-1, 1)).all():
            raise ValueError(
                "weights: expected integers that are +1 or -1 (for 0 and 1 use astype(bool)), got "
                f"{array[~np.isin(array, (-1, 1))][0]}"
            )
        bits = array > 0
    else:
        raise TypeError(
            "weights: expected floats, bool, or signed integers of +1 and -1, got "
            f"{_checks.describe(array)}"
        )
    channels = array.shape[3]
    words = -(-channels // 32)
    octets = np.zeros((*array.shape[:3], 4 * words), np.uint8)
    octets[..., : -(-channels // 8)] = np.packbits(bits, axis=-1, bitorder="little")
    return octets.view("<u4").astype(np.uint32, copy=False)


class ArrayDataSource:
    """A data source over arrays, which it copies.  MPS leaves data sources to its users.

    descriptor: a `ConvolutionDescriptor`.
    weights: uint32 words of shape `descriptor.weights_shape`, or what `pack_weights` takes, of
        shape (O, kernel_height, kernel_width, Cg), packed here.
    bias_terms: floats of shape (O,), or None for 0.
    label: a name for the layer.

    Raises TypeError or ValueError where an argument is of the wrong kind or shape.
    """

    def __init__(
        self,
        descriptor: ConvolutionDescriptor,
        weights: ArrayLike,
        bias_terms: ArrayLike | None = None,
        label: str | None = None,
    ) -> None:
        if not isinstance(descriptor, ConvolutionDescriptor):
            raise TypeError(
                f"descriptor: expected a ConvolutionDescriptor, got {_checks.describe(descriptor)}"
            )
        array = _arrays.as_array_like(weights, "weights")
        expected = descriptor.weights_shape
        is_words = array.dtype.kind == "u" and array.dtype.itemsize == 4
        if not is_words:
            expected = (*expected[:3], descriptor.input_channels_per_group)
        if array.shape != expected:
            kind = "uint32 words" if is_words else f"{array.dtype} weights"
            raise ValueError(f"weights: expected {kind} of shape {expected}, got {array.shape}")
        words = np.array(array, np.uint32, order="C") if is_words else pack_weights(array)
        self._descriptor = descriptor
        self._weights = _arrays.freeze(words)
        self._bias_terms = _arrays.optional_terms(
            bias_terms, "bias_terms", descriptor.output_feature_channels
        )
        self._label = _checks.text(label, "label")

    def load(self) -> bool:
        """True: there is nothing to load."""
        return True

    def purge(self) -> None:
        """Does nothing."""

    def data_type(self) -> DataType:
        """`DataType.UINT32`."""
        return DataType.UINT32

    def descriptor(self) -> ConvolutionDescriptor:
        """The descriptor it was made with."""
        return self._descriptor

    def weights(self) -> NDArray[np.uint32]:
        """The packed words, read-only."""
        return self._weights

    def bias_terms(self) -> NDArray[np.float32] | None:
        """The bias as float32, read-only, or None."""
        return self._bias_terms

    def label(self) -> str | None:
        """The name it was made with."""
        return self._label

    def __repr__(self) -> str:
        label = "" if self._label is None else f", label={self._label!r}"
        return f"ArrayDataSource({self._descriptor!r}{label})"


# Counting loads is read, change, write: one at a time, and the last purge drops the record.
_counting = brief_lock()


class SafetensorsDataSource:
    """A data source over one layer of a file that `save` of a layer or a `Sequential` wrote.

    MPS leaves data sources to its users.

    path: the file, opened at `load` and let go of at `purge`.
    prefix: which layer: "" for a file of one layer, "0", "1", ... in a file of a Sequential.

    It delivers the layer's descriptor, weights, bias terms and label; the other terms, the type
    and the flags come with `BinaryConvolution.load` and `Sequential.load`, which rebuild whole
    layers.

    load raises OSError for a file that cannot be read and ValueError for one that is malformed or
    has no such layer; a kernel turns either into a `DataSourceError`.
    """

    def __init__(self, path: str | os.PathLike[str], prefix: str = "") -> None:
        if not isinstance(path, (str, os.PathLike)):
            raise TypeError(f"path: expected a str or a path, got {_checks.describe(path)}")
        if not isinstance(prefix, str):
            raise TypeError(f"prefix: expected a str, got {_checks.describe(prefix)}")
        self._path = os.fsdecode(path)
        self._prefix = prefix if prefix == "" or prefix.endswith(".") else f"{prefix}."
        self._record: serialization.LayerRecord | None = None
        # Layers made in several threads may share one source: the last purge drops the record.
        self._loads = 0

    def load(self) -> bool:
        """Opens the file and reads the layer."""
        with _counting:
            self._loads += 1
        # Until this load is balanced, a record that is there stays.  Reading is not under the lock,
        # because a file may be slow.
        if self._record is None:
            record = serialization.read_layer(self._path, self._prefix)
            with _counting:
                self._record = self._record or record
        return True

    def purge(self) -> None:
        """Drops what load read, when every load has been balanced."""
        with _counting:
            self._loads = max(self._loads - 1, 0)
            if self._loads == 0:
                self._record = None

    def data_type(self) -> DataType:
        """`DataType.UINT32`."""
        return DataType.UINT32

    def descriptor(self) -> ConvolutionDescriptor:
        """The layer's descriptor."""
        return self._loaded().parameters.descriptor

    def weights(self) -> NDArray[np.uint32]:
        """The packed words, read-only."""
        return self._loaded().parameters.weights

    def bias_terms(self) -> NDArray[np.float32] | None:
        """The bias as float32, read-only, or None."""
        return self._loaded().parameters.bias_terms

    def label(self) -> str | None:
        """The layer's label."""
        return self._loaded().label

    def _loaded(self) -> serialization.LayerRecord:
        if self._record is None:
            raise DataSourceError(f"{self!r}: not loaded; call load first")
        return self._record

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self._path, self._prefix)

    def __repr__(self) -> str:
        return f"SafetensorsDataSource({self._path!r}, {self._prefix!r})"


class SourceContents(NamedTuple):
    """What a layer takes from a data source, its own copy."""

    descriptor: ConvolutionDescriptor
    weights: NDArray[np.uint32]
    bias_terms: NDArray[np.float32] | None
    label: str | None


def read(source: object) -> SourceContents:
    """Loads a source, copies and checks what it delivers, and purges it.

    TypeError for what is not a data source, DataSourceError for one that fails.
    """
    if not isinstance(source, ConvolutionDataSource):
        raise TypeError(f"source: expected a ConvolutionDataSource, got {_checks.describe(source)}")
    with _failures(source), _loaded(source):
        return _contents(source)


@contextmanager
def _failures(source: ConvolutionDataSource) -> Iterator[None]:
    """Turns what a source raises into DataSourceError."""
    try:
        yield
    except (DataSourceError, MemoryError):
        raise
    except Exception as error:
        raise DataSourceError(f"source: {_checks.describe(source)} failed: {error!r}") from error


@contextmanager
def _loaded(source: ConvolutionDataSource) -> Iterator[None]:
    """Balances load with purge, and lets an error in between outlive one in purge."""
    try:
        if not source.load():
            raise DataSourceError(
                f"source: expected load() to return True, got False from {_checks.describe(source)}"
            )
        yield
    except BaseException:
        with suppress(Exception):
            source.purge()
        raise
    source.purge()


def _contents(source: ConvolutionDataSource) -> SourceContents:
    descriptor: object = source.descriptor()
    if not isinstance(descriptor, ConvolutionDescriptor):
        raise DataSourceError(
            f"source: expected descriptor() to return a ConvolutionDescriptor, got "
            f"{_checks.describe(descriptor)}"
        )
    data_type: Any = source.data_type()
    if data_type != DataType.UINT32:
        raise DataSourceError(
            f"source: expected data_type() to return {DataType.UINT32!r}, got {data_type!r} (an "
            "ArrayDataSource packs other weights)"
        )
    words = _arrays.as_array(source.weights(), "weights()")
    if words.dtype.kind != "u" or words.dtype.itemsize != 4:
        raise DataSourceError(f"source: expected weights() of uint32, got {words.dtype}")
    if words.shape != descriptor.weights_shape:
        raise DataSourceError(
            f"source: expected weights() of shape {descriptor.weights_shape}, got {words.shape}"
        )
    return SourceContents(
        descriptor,
        _arrays.freeze(np.array(words, np.uint32, order="C")),
        _arrays.optional_terms(
            source.bias_terms(), "bias_terms()", descriptor.output_feature_channels
        ),
        _checks.text(source.label(), "label()"),
    )
