"""The binary convolution layer."""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar, overload

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from . import _arrays, _checks, _destination, _plan, serialization, sources
from ._parameters import LayerParameters, LayerState
from ._plan import Job, Snapshot
from ._properties import LayerProperties, setting
from .enums import BinaryConvolutionFlags, BinaryConvolutionType
from .geometry import Region
from .images import PackedImage, SourceImage
from .sources import ArrayDataSource, ConvolutionDataSource

__all__ = ["BinaryConvolution", "WeightsAndBiases"]

ArrayOrPacked = TypeVar("ArrayOrPacked", bound=NDArray[Any] | PackedImage)
Self = TypeVar("Self", bound="BinaryConvolution")


class WeightsAndBiases(NamedTuple):
    """What a layer exports.  MPS: MPSCNNConvolutionWeightsAndBiasesState.

    weights: uint32 words of shape (O, kernel_height, kernel_width, ceil(Cg / 32)).
    biases: float32 of shape (O,), before batch normalisation.
    """

    weights: NDArray[np.uint32]
    biases: NDArray[np.float32]


class BinaryConvolution(LayerProperties):
    """A convolution with 1-bit weights.  MPS: MPSCNNBinaryConvolution.

    source: a `ConvolutionDataSource`, read here and again by `reload_weights_and_biases` only.
    scale_value: the scale of every output channel; or the four arrays below, not both.
    output_bias_terms, output_scale_terms: floats of shape (output feature channels,).
    input_bias_terms, input_scale_terms: floats of shape (input feature channels,).  A source value
        x becomes (x + bias) * scale before anything else is done with it.
    type: a `BinaryConvolutionType`.
    flags: a `BinaryConvolutionFlags`.

    The bias is output_bias_terms where given, else the source's bias_terms(), else 0.

    Raises TypeError or ValueError where an argument is of the wrong kind, length or value, and
    `DataSourceError` where the source fails or delivers what its descriptor denies.

    One object may be called from many threads at once, and its properties set meanwhile: a call
    sees them as they were when it began.
    """

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
        self._snapshot = Snapshot(parameters, parameters.build(), self._default_state())

    # What a subclass changes.
    _is_fully_connected = False

    @staticmethod
    def _default_state() -> LayerState:
        return LayerState()

    # ---- Running ----------------------------------------------------------------------------

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
        """Computes the layer; `padding` sizes the result.  `offset` and `clip_rect` are not read.

        source: (H, W, C) or (N, H, W, C) of float32, float16 or uint8 (value / 255), any strides,
            or anything with __dlpack__ or __array__ on the CPU; or a `PackedImage`, where the
            layer needs no real values (not for BINARY_WEIGHTS, nor with beta scaling).
        out: an array of float32 or float16, any strides, of the shape of the result, or a
            `PackedImage`; it must not overlap the source.
        packed: return a `PackedImage`, bit 0 where the result is below 0, else 1.
        dtype: float32 or float16; by default float16 for a float16 source, else float32.

        Returns `out`, or a new array with as many axes as the source, or a new `PackedImage`.  With
        k = destination_feature_channel_offset above 0 the result has k channels more, the first k,
        which are 0; `out` keeps its own there, and may have more after those of the layer.

        Raises TypeError or ValueError, before anything is written, where an argument is of the
        wrong kind or shape, and MemoryError.
        """
        snapshot = self._snapshot
        plain = dtype is None and not packed
        if plain and out is not None and _plan.run_directly(snapshot, source, out):
            return out
        image = _plan.read_source(snapshot, source)
        plan = _plan.automatic_plan(self, snapshot, image.shape, _plan.image_shape(image))
        if not plain:
            _destination.check_form(out, packed, dtype)
        if out is not None:
            _destination.check_out(out, plan, image)
            Job.of(snapshot, plan, image, out).run()
            return out
        if packed:
            bits = _destination.new_packed(plan.destination_shape)
            Job.of(snapshot, plan, image, bits).run()
            return bits
        result = _destination.new_array(plan, _destination.result_dtype(image, dtype))
        Job.of(snapshot, plan, image, result).run()
        return result if image.ndim == 4 else result.reshape(plan.result_shape)

    @overload
    def encode(self, source: SourceImage, destination: None = None) -> NDArray[Any]: ...
    @overload
    def encode(self, source: SourceImage, destination: ArrayOrPacked) -> ArrayOrPacked: ...

    def encode(
        self, source: SourceImage, destination: NDArray[Any] | PackedImage | None = None
    ) -> NDArray[Any] | PackedImage:
        """Computes a part of a destination.  MPS: encodeToCommandBuffer:sourceImage:.

        The manual form: what is computed is the part of the destination inside `clip_rect`, from
        the source at `offset`; `padding` is not read.  Pixels, images and channels that are not
        computed keep their values.

        source: as for a call.  Source images from offset.z on are read.
        destination: (H, W, C) or (N, H, W, C) of float32 or float16, any strides, or a
            `PackedImage`, with at least destination_feature_channel_offset channels and those of
            the layer.  None: the same as a call.

        Returns the destination.  Raises as a call does, and ValueError where the source has fewer
        images than are to be computed.
        """
        if destination is None:
            return self(source)
        self._manual_job(self._snapshot, source, destination).run()
        return destination

    def encode_batch(
        self,
        sources: Sequence[SourceImage],
        destinations: Sequence[NDArray[Any] | PackedImage] | None = None,
    ) -> list[NDArray[Any] | PackedImage]:
        """`encode` for each source.  MPS: encodeBatchToCommandBuffer:sourceImages:.

        sources: a sequence of sources; they need not have the same size.
        destinations: a sequence of as many destinations, which must not overlap any of the sources
            nor each other; or None.

        Returns the destinations.  Raises as `encode` does, before any of them is written.
        """
        snapshot = self._snapshot
        inputs = _sequence(sources, "sources")
        if destinations is None:
            for source in inputs:
                image = _plan.read_source(snapshot, source)
                _plan.automatic_plan(self, snapshot, image.shape, _plan.image_shape(image))
            return [self(source) for source in inputs]
        outputs = _sequence(destinations, "destinations")
        if len(outputs) != len(inputs):
            raise ValueError(
                f"destinations: expected as many as sources, {len(inputs)}, got {len(outputs)}"
            )
        jobs = [
            self._manual_job(snapshot, source, destination)
            for source, destination in zip(inputs, outputs, strict=True)
        ]
        _check_apart(jobs)
        for job in jobs:
            job.run()
        return outputs

    def _manual_job(self, snapshot: Snapshot, source: object, destination: object) -> Job:
        image = _plan.read_source(snapshot, source)
        target = _destination.check_destination(destination, image, "destination")
        _plan.check_rank(snapshot.parameters, target.ndim, "destination", target.shape)
        plan = _plan.manual_plan(snapshot, _plan.image_shape(image), _plan.image_shape(target))
        return Job.of(snapshot, plan, image, target)

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
        layer = parameters.build()
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
        layer = layer_from_record(records[0], cls)
        if not isinstance(layer, cls):
            raise ValueError(f"data: expected a {cls.__name__}, got a {type(layer).__name__}")
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
        self._snapshot = Snapshot(parameters, parameters.build(), layer_state)

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


def layer_from_record(
    record: serialization.LayerRecord, wanted: type[BinaryConvolution]
) -> BinaryConvolution:
    """The layer of a record: of the wanted class where that suits it, else of binconv's own."""
    is_fully_connected = record.parameters.is_fully_connected
    kind = wanted
    if wanted._is_fully_connected != is_fully_connected:
        kind = KINDS[is_fully_connected]
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


def _array_source(parameters: LayerParameters, label: str | None) -> ArrayDataSource:
    return ArrayDataSource(parameters.descriptor, parameters.weights, parameters.bias_terms, label)


def _sequence(value: Any, name: str) -> list[Any]:
    """The items of a sequence; an array is one image, not a sequence of them."""
    if isinstance(value, (np.ndarray, PackedImage)) or not isinstance(value, Sequence):
        raise TypeError(f"{name}: expected a sequence of images, got {_checks.describe(value)}")
    return list(value)


def _check_apart(jobs: list[Job]) -> None:
    """ValueError where one job would write what another reads or writes."""
    targets = [_memory(job.destination) for job in jobs]
    for i, target in enumerate(targets):
        for j, other in enumerate(jobs):
            if i == j:
                continue
            for name, memory in (("sources", other.source), ("destinations", targets[j])):
                if _arrays.overlap(target, memory):
                    raise ValueError(
                        f"destinations: expected memory of their own, got an overlap of {i} with "
                        f"{name} {j}"
                    )


def _memory(image: NDArray[Any] | PackedImage) -> NDArray[Any]:
    return image.words if isinstance(image, PackedImage) else image


# By whether the kernel covers the whole source; `fully_connected` adds its own.
KINDS: dict[bool, type[BinaryConvolution]] = {False: BinaryConvolution}
