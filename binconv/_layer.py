"""What layers are, whatever runs them: parameters of a source, properties, serialised form."""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _checks, _plan, serialization, sources
from ._parameters import LayerParameters, LayerState
from ._plan import Snapshot
from ._properties import LayerProperties, setting
from .enums import BinaryConvolutionFlags, BinaryConvolutionType
from .geometry import Region
from .sources import ArrayDataSource, ConvolutionDataSource

Self = TypeVar("Self", bound="Layer")


class WeightsAndBiases(NamedTuple):
    """What a layer exports.  MPS: MPSCNNConvolutionWeightsAndBiasesState.

    weights: uint32 words of shape (O, kernel_height, kernel_width, ceil(Cg / 32)).
    biases: float32 of shape (O,), before batch normalisation.
    """

    weights: NDArray[np.uint32]
    biases: NDArray[np.float32]


class Layer(LayerProperties):
    """A binary convolution without the means to run it: the base of those on CPU and GPU."""

    def __init__(
        self,
        source: ConvolutionDataSource,
        scale_value: float = 1.0,
        *,
        output_bias_terms: ArrayLike | None = None,
        output_scale_terms: ArrayLike | None = None,
        input_bias_terms: ArrayLike | None = None,
        input_scale_terms: ArrayLike | None = None,
        type: BinaryConvolutionType = BinaryConvolutionType.XNOR,
        flags: BinaryConvolutionFlags = BinaryConvolutionFlags.NONE,
    ) -> None:
        contents = sources.read(source)
        arrays: dict[str, Any] = {
            "output_bias_terms": output_bias_terms,
            "output_scale_terms": output_scale_terms,
            "input_bias_terms": input_bias_terms,
            "input_scale_terms": input_scale_terms,
        }
        parameters = LayerParameters(
            descriptor=contents.descriptor,
            weights=contents.weights,
            bias_terms=contents.bias_terms,
            scale_value=scale_value,
            type=type,
            flags=flags,
            is_fully_connected=self._is_fully_connected,
            **arrays,
        )
        self._label = contents.label
        self._data_source: ConvolutionDataSource = source
        self._snapshot = Snapshot(parameters, self._build(parameters), self._default_state())

    # What a subclass changes.
    _is_fully_connected = False

    # The classes that stand beside this one, by whether the kernel covers the whole source.
    _kinds: ClassVar[dict[bool, type[Layer]]] = {}

    def _build(self, parameters: LayerParameters) -> Any:
        """What runs the layer; kept in the snapshot."""
        raise NotImplementedError

    @staticmethod
    def _default_state() -> LayerState:
        return LayerState()

    def destination_size(self, source_size: tuple[int, int]) -> tuple[int, int]:
        """(height, width) in pixels of the result of a call for a source of (height, width).  MPS:
        destinationImageDescriptorForSourceImages:sourceStates:.
        """
        snapshot = self._snapshot
        height, width, _, _ = _plan.destination_geometry(
            self, snapshot, _checks.size(source_size, "source_size")
        )
        return height, width

    def source_region(self, destination_size: tuple[int, int]) -> Region:
        """What `encode` reads for (height, width) destination pixels.  MPS:
        sourceRegionForDestinationSize:.

        Returns a `Region` in source pixels, one image deep from offset.z on.  It goes past the
        borders of the source where taps do, and is empty for no pixels.
        """
        height, width = _checks.size(destination_size, "destination_size")
        snapshot = self._snapshot
        d, offset = snapshot.parameters.descriptor, snapshot.state.offset

        def span(pixels: int, taps: int, rate: int, stride: int, start: int) -> tuple[int, int]:
            dilated = (taps - 1) * rate + 1
            outputs = -(-pixels // d.destination_scale)
            return start - (dilated >> 1), (outputs - 1) * stride + dilated if outputs else 0

        y, rows = span(height, d.kernel_height, d.dilation_rate_y, d.stride_in_pixels_y, offset.y)
        x, columns = span(width, d.kernel_width, d.dilation_rate_x, d.stride_in_pixels_x, offset.x)
        return Region((x, y, offset.z), (columns, rows, 1))

    # ---- Weights ----------------------------------------------------------------------------

    def export_weights_and_biases(self) -> WeightsAndBiases:
        """Copies of the packed weights and of the bias in effect, before batch normalisation.
        MPS: exportWeightsAndBiasesWithCommandBuffer:resultStateCanBeTemporary:.

        An `ArrayDataSource` of them makes the same layer again.
        """
        parameters = self._snapshot.parameters
        return WeightsAndBiases(parameters.weights.copy(), parameters.bias.copy())

    def reload_weights_and_biases(self, source: ConvolutionDataSource) -> None:
        """Takes weights and bias from a source anew.  MPS: reloadWeightsAndBiasesWithDataSource:.

        source: delivers a descriptor that differs in neuron and batch normalisation at most, which
            are taken from it too.

        Calls in progress finish with the old weights.  Raises TypeError, ValueError or
        `DataSourceError`, and then the layer is as it was.
        """
        contents = sources.read(source)
        old = self._snapshot.parameters
        for name in (
            "kernel_width",
            "kernel_height",
            "input_feature_channels",
            "output_feature_channels",
            "stride_in_pixels_x",
            "stride_in_pixels_y",
            "dilation_rate_x",
            "dilation_rate_y",
            "groups",
            "destination_scale",
        ):
            expected, got = getattr(old.descriptor, name), getattr(contents.descriptor, name)
            if expected != got:
                raise ValueError(f"source: expected a descriptor with {name} {expected}, got {got}")
        parameters = old.with_weights(contents.descriptor, contents.weights, contents.bias_terms)
        layer = self._build(parameters)
        with setting:
            self._snapshot = Snapshot(parameters, layer, self._snapshot.state)
            self._data_source = source

    # ---- Serialised form --------------------------------------------------------------------

    def to_bytes(self) -> bytes:
        """The layer in serialised form: safetensors with a JSON header.  MPS: encodeWithCoder:.

        Raises TypeError for a padding policy of your own, which has no serialised form.
        """
        return serialization.dump([self._record("")])

    @classmethod
    def from_bytes(cls: type[Self], data: bytes) -> Self:
        """The layer that `to_bytes` wrote; a `BinaryFullyConnected` where it was one.  MPS:
        initWithCoder:device:.

        Its data source is an `ArrayDataSource`.  Raises ValueError for bytes that are malformed,
        hold no layer, several, or one that is not of this class; nothing in them is executed.
        """
        return cls._only(serialization.parse(data))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes `to_bytes` to a file."""
        Path(path).write_bytes(self.to_bytes())

    @classmethod
    def load(cls: type[Self], path: str | os.PathLike[str]) -> Self:
        """The layer that `save` wrote; raises as `from_bytes` and as reading a file do."""
        return cls.from_bytes(Path(path).read_bytes())

    def _record(self, prefix: str) -> serialization.LayerRecord:
        snapshot = self._snapshot
        return serialization.LayerRecord(prefix, self._label, snapshot.parameters, snapshot.state)

    @classmethod
    def _only(cls: type[Self], records: list[serialization.LayerRecord]) -> Self:
        if len(records) != 1:
            raise ValueError(
                f"data: expected one layer, got {len(records)} (Sequential.from_bytes takes them)"
            )
        layer = cls._from_record(records[0])
        if not isinstance(layer, cls):
            raise ValueError(f"data: expected a {cls.__name__}, got a {type(layer).__name__}")
        return layer

    @classmethod
    def _from_record(cls, record: serialization.LayerRecord) -> Layer:
        """The layer of a record: of this class where that suits it, else of the one beside it."""
        is_fully_connected = record.parameters.is_fully_connected
        kind: type[Layer] = cls
        if cls._is_fully_connected != is_fully_connected:
            kind = cls._kinds[is_fully_connected]
        layer = object.__new__(kind)
        layer.__setstate__(
            {
                "_label": record.label,
                "_data_source": _array_source(record.parameters, record.label),
                "parameters": record.parameters,
                "state": record.state,
            }
        )
        return layer

    def __getstate__(self) -> dict[str, Any]:
        # The source may not be able to travel; an unpickled layer stands on its own.
        snapshot = self._snapshot
        state = self.__dict__.copy()
        del state["_snapshot"]
        state["_data_source"] = _array_source(snapshot.parameters, self._label)
        return state | {"parameters": snapshot.parameters, "state": snapshot.state}

    def __setstate__(self, state: dict[str, Any]) -> None:
        parameters, layer_state = state.pop("parameters"), state.pop("state")
        self.__dict__.update(state)
        self._snapshot = Snapshot(parameters, self._build(parameters), layer_state)

    def __copy__(self: Self) -> Self:
        """Another layer with the same weights and data source, and properties of its own."""
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        return other

    def __deepcopy__(self: Self, memo: dict[int, Any]) -> Self:
        # All but a padding policy of the user's own is immutable; the source stays the user's.
        other = self.__copy__()
        other.padding = copy.deepcopy(self.padding, memo)
        return other

    def __repr__(self) -> str:
        snapshot = self._snapshot
        d, p = snapshot.parameters.descriptor, snapshot.parameters
        parts = [
            f"{d.kernel_height}x{d.kernel_width}",
            f"{d.input_feature_channels} -> {d.output_feature_channels}",
            p.type.name,
        ]
        if p.flags:
            parts.append("beta scaling")
        for name, value, usual in (
            ("stride", (d.stride_in_pixels_y, d.stride_in_pixels_x), (1, 1)),
            ("dilation", (d.dilation_rate_y, d.dilation_rate_x), (1, 1)),
            ("groups", d.groups, 1),
            ("subpixel", d.destination_scale, 1),
            ("neuron", d.neuron.type.name, "NONE"),
            ("label", self._label, None),
        ):
            if value != usual:
                parts.append(f"{name}={value!r}" if name == "label" else f"{name}={value}")
        return f"{type(self).__name__}({', '.join(parts)})"


def _array_source(parameters: LayerParameters, label: str | None) -> ArrayDataSource:
    return ArrayDataSource(parameters.descriptor, parameters.weights, parameters.bias_terms, label)
