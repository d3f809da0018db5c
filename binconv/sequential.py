"""Layers in a row."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast, overload

import numpy as np
from numpy.typing import DTypeLike, NDArray

from . import _checks, _destination, _plan, serialization
from ._plan import Job, Plan, Shape4, Snapshot
from .convolution import ArrayOrPacked, BinaryConvolution
from .images import PackedImage, SourceImage

__all__ = ["Sequential"]

_FLOAT32 = np.dtype(np.float32)


class _Step(NamedTuple):
    """One layer of one call."""

    layer: BinaryConvolution
    snapshot: Snapshot
    plan: Plan
    # The next layer looks at nothing but the bits of the result.
    hands_on_bits: bool
    # What its bits depend on besides: the input terms of the next layer.
    pack_terms: dict[str, NDArray[np.float32]]


class Sequential:
    """Layers that run one after the other, each on the result of the one before.

    Gives what calling them one by one with dtype=float32 between them gives, bit for bit; but
    where the next layer binarises its source anyway, bits are passed on instead of floats.  MPS
    builds such rows from an MPSNNGraph.

    layers: at least one `BinaryConvolution` or `BinaryFullyConnected`.  They stay the caller's:
        properties that are set on them later hold in the next call.

    Raises TypeError for what is no layer, and ValueError where there is none, or where a layer
    takes another number of channels than the one before has.
    """

    def __init__(self, *layers: BinaryConvolution) -> None:
        if not layers:
            raise ValueError("layers: expected at least one layer, got none")
        for index, layer in enumerate(layers):
            if not isinstance(layer, BinaryConvolution):
                raise TypeError(
                    f"layers: expected BinaryConvolution objects, got {_checks.describe(layer)} "
                    f"at {index}"
                )
        self._layers = layers
        for index in range(1, len(layers)):
            with _naming(index, layers[index]):
                _plan.check_channels(
                    layers[index]._snapshot, _plan.result_channels(layers[index - 1]._snapshot)
                )

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
        steps = self._plan(snapshots, image)
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

    def _plan(self, snapshots: list[Snapshot], image: NDArray[Any] | PackedImage) -> list[_Step]:
        """What each layer does, found before the first one runs."""
        steps: list[_Step] = []
        shape: tuple[int, ...] = image.shape
        full_shape: Shape4 = _plan.image_shape(image)
        for index, (layer, snapshot) in enumerate(zip(self._layers, snapshots, strict=True)):
            with _naming(index, layer):
                _plan.check_rank(snapshot.parameters, len(shape), "source", shape)
                plan = _plan.automatic_plan(layer, snapshot, shape, full_shape)
            following = snapshots[index + 1] if index + 1 < len(snapshots) else None
            bits = following is not None and _passes_bits(snapshot, following)
            terms = following.parameters.pack_terms if bits and following is not None else {}
            steps.append(_Step(layer, snapshot, plan, bits, terms))
            shape, full_shape = plan.result_shape, plan.destination_shape
        return steps

    # ---- Layers -----------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._layers)

    def __iter__(self) -> Iterator[BinaryConvolution]:
        return iter(self._layers)

    @overload
    def __getitem__(self, index: int) -> BinaryConvolution: ...
    @overload
    def __getitem__(self, index: slice) -> Sequential: ...

    def __getitem__(self, index: int | slice) -> BinaryConvolution | Sequential:
        """A layer, or a Sequential of some."""
        if isinstance(index, slice):
            return Sequential(*self._layers[index])
        return self._layers[index]

    def __repr__(self) -> str:
        lines = "".join(f"    {layer!r},\n" for layer in self._layers)
        return f"Sequential(\n{lines})"

    # ---- Serialised form --------------------------------------------------------------------

    def to_bytes(self) -> bytes:
        """The layers in serialised form; see `BinaryConvolution.to_bytes`."""
        return serialization.dump(
            [layer._record(f"{index}.") for index, layer in enumerate(self._layers)]
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> Sequential:
        """The layers that `to_bytes` wrote, that of a `BinaryConvolution` too.

        Raises ValueError for bytes that are malformed or whose layers do not fit each other;
        nothing in them is executed.
        """
        records = serialization.parse(data)
        layers = [BinaryConvolution._from_record(record) for record in records]
        return cls(*cast("list[BinaryConvolution]", layers))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes `to_bytes` to a file."""
        Path(path).write_bytes(self.to_bytes())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Sequential:
        """The layers that `save` wrote; raises as `from_bytes` and as reading a file do."""
        return cls.from_bytes(Path(path).read_bytes())


def _passes_bits(snapshot: Snapshot, following: Snapshot) -> bool:
    """Whether a layer can hand on bits, and the next sees the same in them as in floats.

    Channels that a layer skips are 0 in floats, whose bit is 1; terms belong to the channels that
    the next layer reads.
    """
    terms_fit = not following.parameters.pack_terms or (
        following.state.source_feature_channel_offset == 0
        and snapshot.parameters.descriptor.destination_channels
        == following.parameters.descriptor.input_feature_channels
    )
    return (
        terms_fit
        and following.parameters.takes_bits
        and snapshot.state.destination_feature_channel_offset == 0
    )


@contextmanager
def _naming(index: int, layer: BinaryConvolution) -> Iterator[None]:
    """Adds to a ValueError which layer of a row it is about, past the first."""
    try:
        yield
    except ValueError as error:
        if index == 0:
            raise
        raise ValueError(f"layers: at {index}, {layer!r}: {error}") from error
