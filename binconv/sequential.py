"""Layers in a row."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any, ClassVar, Literal, overload

import numpy as np
from numpy.typing import DTypeLike, NDArray

from . import _destination, _plan
from ._layer import Layer
from ._plan import Job
from ._stack import Stack
from .convolution import ArrayOrPacked, BinaryConvolution
from .images import PackedImage, SourceImage

__all__ = ["Sequential"]

_FLOAT32 = np.dtype(np.float32)


class Sequential(Stack[BinaryConvolution]):
    """Layers that run one after the other, each on the result of the one before.

    Gives what calling them one by one with dtype=float32 between them gives, bit for bit; but
    where the next layer binarises its source anyway, bits are passed on instead of floats.  MPS
    builds such rows from an MPSNNGraph.

    layers: at least one `BinaryConvolution` or `BinaryFullyConnected`.  They stay the caller's:
        properties that are set on them later hold in the next call.

    Raises TypeError for what is no layer, and ValueError where there is none, or where a layer
    takes another number of channels than the one before has.
    """

    _layer_class: ClassVar[type[Layer]] = BinaryConvolution

    @overload
    def __call__(
        self,
        source: SourceImage,
        out: None = None,
        *,
        packed: Literal[False] = False,
        dtype: DTypeLike | None = None,
    ) -> NDArray[Any]: ...
    @overload
    def __call__(
        self, source: SourceImage, out: None = None, *, packed: Literal[True], dtype: None = None
    ) -> PackedImage: ...
    @overload
    def __call__(
        self,
        source: SourceImage,
        out: ArrayOrPacked,
        *,
        packed: bool = False,
        dtype: DTypeLike | None = None,
    ) -> ArrayOrPacked: ...
    @overload
    def __call__(
        self,
        source: SourceImage,
        out: NDArray[Any] | PackedImage | None = None,
        *,
        packed: bool = False,
        dtype: DTypeLike | None = None,
    ) -> NDArray[Any] | PackedImage: ...

    def __call__(
        self,
        source: SourceImage,
        out: NDArray[Any] | PackedImage | None = None,
        *,
        packed: bool = False,
        dtype: DTypeLike | None = None,
    ) -> NDArray[Any] | PackedImage:
        """Runs the layers.

        Arguments and result are those of `BinaryConvolution.__call__`, the source's those of the
        first layer and the others those of the last.  All shapes are checked before the first
        layer runs.
        """
        # The last result; the ones before go as soon as they have been read.
        _, result = deque(self._run(source, out, packed, dtype), maxlen=1).pop()
        return result

    def steps(
        self,
        source: SourceImage,
        *,
        packed: bool = False,
        dtype: DTypeLike | None = None,
    ) -> Iterator[tuple[BinaryConvolution, NDArray[Any] | PackedImage]]:
        """Runs one layer for each item that is asked for, and yields it with its result.

        For looking at what a call does, and for how long: the results between the layers are those
        that a call passes on, a `PackedImage` where it passes bits, with all four axes.
        """
        return self._run(source, None, packed, dtype)

    def _run(
        self,
        source: SourceImage,
        out: NDArray[Any] | PackedImage | None,
        packed: bool,
        dtype: DTypeLike | None,
    ) -> Iterator[tuple[BinaryConvolution, NDArray[Any] | PackedImage]]:
        snapshots = [layer._snapshot for layer in self._layers]
        image = _plan.read_source(snapshots[0], source)
        steps = self._plan(snapshots, image.shape, _plan.image_shape(image))
        last = steps[-1].plan
        _destination.check_form(out, packed, dtype)
        if out is not None:
            _destination.check_out(out, last, image)
        outer_dtype = _destination.result_dtype(image, dtype)
        destination: NDArray[Any] | PackedImage
        for step in steps:
            is_last = step is steps[-1]
            if is_last and out is not None:
                destination = out
            elif packed if is_last else step.hands_on_bits:
                destination = _destination.new_packed(step.plan.destination_shape)
            else:
                destination = _destination.new_array(
                    step.plan, outer_dtype if is_last else _FLOAT32
                )
            Job.of(step.snapshot, step.plan, image, destination).run(step.pack_terms)
            image = destination
            if is_last and out is None and isinstance(destination, np.ndarray):
                destination = destination.reshape(last.result_shape)
            yield step.layer, destination
