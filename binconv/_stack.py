"""Layers in a row, whatever runs them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from . import _checks, _plan, serialization
from ._layer import Layer
from ._plan import Plan, Shape4, Snapshot

LayerT = TypeVar("LayerT", bound=Layer)
Self = TypeVar("Self", bound="Stack[Any]")


@dataclass(frozen=True)
class Step(Generic[LayerT]):
    """One layer of one call."""

    layer: LayerT
    snapshot: Snapshot
    plan: Plan
    # The next layer looks at nothing but the bits of the result.
    hands_on_bits: bool
    # What its bits depend on besides: the input terms of the next layer.
    pack_terms: dict[str, NDArray[np.float32]]


class Stack(Generic[LayerT]):
    """Layers in a row without the means to run them: the base of those on CPU and GPU."""

    # What the layers are; their `_kinds` make them from serialised form.
    _layer_class: ClassVar[type[Layer]]

    def __init__(self, *layers: LayerT) -> None:
        kind = self._layer_class
        if not layers:
            raise ValueError("layers: expected at least one layer, got none")
        for index, layer in enumerate(layers):
            if not isinstance(layer, kind):
                raise TypeError(
                    f"layers: expected {kind.__name__} objects, got {_checks.describe(layer)} "
                    f"at {index}"
                )
        self._layers = layers
        for index in range(1, len(layers)):
            with _naming(index, layers[index]):
                _plan.check_channels(
                    layers[index]._snapshot, _plan.result_channels(layers[index - 1]._snapshot)
                )

    def _plan(
        self, snapshots: list[Snapshot], shape: tuple[int, ...], full_shape: Shape4
    ) -> list[Step[LayerT]]:
        """What each layer does, found before the first one runs.

        shape, full_shape: of the source, as it came and with all four axes.
        """
        steps: list[Step[LayerT]] = []
        for index, (layer, snapshot) in enumerate(zip(self._layers, snapshots, strict=True)):
            with _naming(index, layer):
                _plan.check_rank(snapshot.parameters, len(shape), "source", shape)
                plan = _plan.automatic_plan(layer, snapshot, shape, full_shape)
            following = snapshots[index + 1] if index + 1 < len(snapshots) else None
            bits = following is not None and _passes_bits(snapshot, following)
            terms = following.parameters.pack_terms if bits and following is not None else {}
            steps.append(Step(layer, snapshot, plan, bits, terms))
            shape, full_shape = plan.result_shape, plan.destination_shape
        return steps

    # ---- Layers -----------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._layers)

    def __iter__(self) -> Iterator[LayerT]:
        return iter(self._layers)

    @overload
    def __getitem__(self, index: int) -> LayerT: ...
    @overload
    def __getitem__(self: Self, index: slice) -> Self: ...

    def __getitem__(self: Self, index: int | slice) -> Any:
        """A layer, or some of them in a row."""
        if isinstance(index, slice):
            return type(self)(*self._layers[index])
        return self._layers[index]

    def __repr__(self) -> str:
        lines = "".join(f"    {layer!r},\n" for layer in self._layers)
        return f"{type(self).__name__}(\n{lines})"

    # ---- Serialised form --------------------------------------------------------------------

    def to_bytes(self) -> bytes:
        """The layers in serialised form; see `BinaryConvolution.to_bytes`."""
        return serialization.dump(
            [layer._record(f"{index}.") for index, layer in enumerate(self._layers)]
        )

    @classmethod
    def from_bytes(cls: type[Self], data: bytes) -> Self:
        """The layers that `to_bytes` wrote, that of a `BinaryConvolution` too.

        Raises ValueError for bytes that are malformed or whose layers do not fit each other;
        nothing in them is executed.
        """
        records = serialization.parse(data)
        return cls(*(cls._layer_class._from_record(record) for record in records))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes `to_bytes` to a file."""
        Path(path).write_bytes(self.to_bytes())

    @classmethod
    def load(cls: type[Self], path: str | os.PathLike[str]) -> Self:
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
def _naming(index: int, layer: Layer) -> Iterator[None]:
    """Adds to a ValueError which layer of a row it is about, past the first."""
    try:
        yield
    except ValueError as error:
        if index == 0:
            raise
        raise ValueError(f"layers: at {index}, {layer!r}: {error}") from error
