"""The binary convolution layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal, TypeVar, overload

import numpy as np
from numpy.typing import DTypeLike, NDArray

from . import _arrays, _checks, _core, _destination, _plan
from ._layer import Layer, WeightsAndBiases
from ._parameters import LayerParameters
from ._plan import Job, Plan, Snapshot
from .images import PackedImage, SourceImage

__all__ = ["BinaryConvolution", "WeightsAndBiases"]

ArrayOrPacked = TypeVar("ArrayOrPacked", bound=NDArray[Any] | PackedImage)


class BinaryConvolution(Layer):
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

    _kinds: ClassVar[dict[bool, type[Layer]]] = {}

    def _build(self, parameters: LayerParameters) -> _core.Layer:
        return parameters.build()

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
        MPS: encodeToCommandBuffer:sourceImage:.

        source: (H, W, C) or (N, H, W, C) of float32, float16 or uint8 (value / 255), any strides,
            or anything with __dlpack__ or __array__ on the CPU; or a `PackedImage`, where the
            layer needs no real values (not for BINARY_WEIGHTS, nor with beta scaling).
        out: an array of float32 or float16, any strides, of the shape of the result, or a
            `PackedImage`; it must not overlap the source, nor its elements each other.
        packed: return a `PackedImage`, bit 0 where the result is below 0, else 1.
        dtype: float32 or float16; by default float16 for a float16 source, else float32.

        Returns `out`, or a new array with as many axes as the source, or a new `PackedImage`.  With
        k = destination_feature_channel_offset above 0 the result has k channels more, the first k,
        which are 0; `out` keeps its own there, and may have more after those of the layer.

        Raises TypeError or ValueError, before anything is written, where an argument is of the
        wrong kind or shape, and MemoryError.
        """
        snapshot = self._snapshot
        plain = dtype is None and packed is False
        if plain and out is not None and _core.run_known(snapshot.calls, source, out):
            return out
        image = _plan.read_source(snapshot, source)
        plan = _plan.automatic_plan(self, snapshot, image.shape, _plan.image_shape(image))
        if not plain:
            _destination.check_form(out, packed, dtype)
        if out is not None:
            _destination.check_out(out, plan, image)
            compiled = Job.of(snapshot, plan, image, out).run()
            if plain:
                _plan.remember(snapshot, compiled, source, out)
            return out
        if packed:
            bits = _destination.new_packed(plan.destination_shape)
            Job.of(snapshot, plan, image, bits).run()
            return bits
        return _new_result(snapshot, plan, image, dtype)

    @overload
    def encode(self, source: SourceImage, destination: None = None) -> NDArray[Any]: ...
    @overload
    def encode(self, source: SourceImage, destination: ArrayOrPacked) -> ArrayOrPacked: ...

    def encode(
        self, source: SourceImage, destination: NDArray[Any] | PackedImage | None = None
    ) -> NDArray[Any] | PackedImage:
        """Computes a part of a destination.  MPS:
        encodeToCommandBuffer:sourceImage:destinationImage:.

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
        """`encode` for each source.  MPS:
        encodeBatchToCommandBuffer:sourceImages:destinationImages:.

        sources: a sequence of sources; they need not have the same size.
        destinations: a sequence of as many destinations, which must not overlap any of the sources
            nor each other; or None.

        Returns the destinations.  Raises as `encode` does, before any of them is written.
        """
        snapshot = self._snapshot
        inputs = _sequence(sources, "sources")
        if destinations is None:
            images = [_plan.read_source(snapshot, source) for source in inputs]
            plans = [
                _plan.automatic_plan(self, snapshot, image.shape, _plan.image_shape(image))
                for image in images
            ]
            return [
                _new_result(snapshot, plan, image)
                for plan, image in zip(plans, images, strict=True)
            ]
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


def _new_result(
    snapshot: Snapshot,
    plan: Plan,
    image: NDArray[Any] | PackedImage,
    dtype: DTypeLike | None = None,
) -> NDArray[Any]:
    """Runs a plan into a new array, with as many axes as the source."""
    result = _destination.new_array(plan, _destination.result_dtype(image, dtype))
    Job.of(snapshot, plan, image, result).run()
    return result if image.ndim == 4 else result.reshape(plan.result_shape)


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


BinaryConvolution._kinds[False] = BinaryConvolution
