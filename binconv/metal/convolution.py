"""The binary convolution layer on a GPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal, TypeVar, overload

from numpy.typing import ArrayLike, DTypeLike, NDArray

from .. import _checks, _plan
from .. import convolution as _cpu
from .._layer import Layer
from .._parameters import LayerParameters
from .._plan import Plan, Snapshot
from ..convolution import ArrayOrPacked
from ..enums import BinaryConvolutionFlags, BinaryConvolutionType
from ..images import PackedImage, SourceImage
from ..sources import ConvolutionDataSource
from . import _batches, commands
from ._device_layer import DeviceLayer
from ._programs import PackTerms
from .commands import CommandBuffer
from .device import Device, device_or_default
from .image import Form, Image

__all__ = ["BinaryConvolution"]

Self = TypeVar("Self", bound="BinaryConvolution")


class BinaryConvolution(Layer):
    """A convolution with 1-bit weights on a GPU.  MPS: MPSCNNBinaryConvolution.

    Takes the arguments of `binconv.BinaryConvolution`, has its properties and methods, and computes
    the same.  Besides:

    device: where it runs; None for the default device.

    Raises as that does, and `DeviceError` where there is no GPU.

    One object may be called from many threads at once; calls on one device take turns.
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
        device: Device | None = None,
    ) -> None:
        self._device = device_or_default(device)
        super().__init__(
            source,
            scale_value,
            output_bias_terms=output_bias_terms,
            output_scale_terms=output_scale_terms,
            input_bias_terms=input_bias_terms,
            input_scale_terms=input_scale_terms,
            type=type,
            flags=flags,
        )

    _kinds: ClassVar[dict[bool, type[Layer]]] = {}

    def _build(self, parameters: LayerParameters) -> DeviceLayer:
        return DeviceLayer(self._device, parameters)

    @property
    def device(self) -> Device:
        """Where the layer runs.  MPS: device."""
        return self._device

    # ---- To and from the CPU ----------------------------------------------------------------

    @classmethod
    def from_cpu(
        cls: type[Self], layer: _cpu.BinaryConvolution, device: Device | None = None
    ) -> Self:
        """The twin of a layer of the CPU: its weights, terms, properties and data source.

        Raises TypeError for what is no such layer, or for a fully connected one where this class is
        not, and the other way round.
        """
        if not isinstance(layer, _cpu.BinaryConvolution) or (
            layer._is_fully_connected != cls._is_fully_connected
        ):
            raise TypeError(
                f"layer: expected a binconv.{cls.__name__}, got {_checks.describe(layer)}"
            )
        twin = object.__new__(cls)
        twin._device = device_or_default(device)
        _copy(layer, twin)
        return twin

    def to_cpu(self) -> _cpu.BinaryConvolution:
        """The twin of this layer on the CPU."""
        twin = object.__new__(_cpu.BinaryConvolution._kinds[self._is_fully_connected])
        assert isinstance(twin, _cpu.BinaryConvolution)
        _copy(self, twin)
        return twin

    # ---- Running ----------------------------------------------------------------------------

    def encode(
        self,
        command_buffer: CommandBuffer,
        source_image: Image,
        destination_image: Image | None = None,
    ) -> Image:
        """Encodes the layer; it runs when the command buffer is committed.  MPS:
        encodeToCommandBuffer:sourceImage:destinationImage:.

        source_image: of any form but bits where the layer needs real values (BINARY_WEIGHTS, beta
            scaling).
        destination_image: what `offset` and `clip_rect` say is computed of it, and the rest keeps
            its values; `padding` is not read.  None for a new image that `padding` sizes, of
            float16 for a float16 source, else float32.

        Returns the destination.  Raises TypeError or ValueError for images that do not suit the
        layer or live on another device, and then nothing is encoded.
        """
        return self._encode_images(self._snapshot, command_buffer, source_image, destination_image)

    def _encode_images(
        self,
        snapshot: Snapshot,
        command_buffer: CommandBuffer,
        source_image: Image,
        destination_image: Image | None,
    ) -> Image:
        buffer = commands.check(command_buffer)
        self._check_device(buffer.device, "command_buffer")
        source = self._check_source(snapshot, source_image)
        if destination_image is None:
            plan = _plan.automatic_plan(self, snapshot, source.shape, source.shape)
            form: Form = "float16" if source.form == "float16" else "float32"
            destination = Image.empty(plan.destination_shape, form, self._device)
        else:
            destination = self._check_destination(source, destination_image)
            plan = _plan.manual_plan(snapshot, source.shape, destination.shape)
        self._encode(buffer, snapshot, plan, source, destination)
        return destination

    def encode_batch(
        self,
        command_buffer: CommandBuffer,
        source_images: Sequence[Image],
        destination_images: Sequence[Image] | None = None,
    ) -> list[Image]:
        """`encode` for each source.  MPS:
        encodeBatchToCommandBuffer:sourceImages:destinationImages:.

        They need not have the same size; all see the layer as it is when the call begins.  Raises
        as `encode` does; what was encoded before the wrong image stays encoded.
        """
        snapshot = self._snapshot
        sources = _sequence(source_images, "source_images")
        if destination_images is None:
            return [
                self._encode_images(snapshot, command_buffer, source, None) for source in sources
            ]
        destinations = _sequence(destination_images, "destination_images")
        if len(destinations) != len(sources):
            raise ValueError(
                f"destination_images: expected as many as source_images, {len(sources)}, "
                f"got {len(destinations)}"
            )
        return [
            self._encode_images(snapshot, command_buffer, source, destination)
            for source, destination in zip(sources, destinations, strict=True)
        ]

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
        """From the CPU's memory to the CPU's memory: arguments and result are those of
        `binconv.BinaryConvolution.__call__`.

        A batch that is over the device's limits runs in parts.  Raises as that does, ValueError
        where one image is over the limits, and `DeviceError` where the device is lost.
        """
        snapshot = self._snapshot
        image = _plan.read_source(snapshot, source)
        plan = _plan.automatic_plan(self, snapshot, image.shape, _plan.image_shape(image))

        def encode(buffer: CommandBuffer, part: Plan, source: Image, destination: Image) -> None:
            self._encode(buffer, snapshot, part, source, destination)

        return _batches.call(self._device, plan, image, out, packed, dtype, encode)

    def _encode(
        self,
        buffer: CommandBuffer,
        snapshot: Snapshot,
        plan: Plan,
        source: Image,
        destination: Image,
        pack_terms: PackTerms | None = None,
    ) -> None:
        layer: DeviceLayer = snapshot.layer
        with self._device._lock:
            self._device._check_open()
            buffer._add(layer.encode(plan, source, destination, pack_terms))

    def _check_device(self, device: Device, name: str) -> None:
        if device is not self._device:
            raise ValueError(
                f"{name}: expected one of the layer's device, {self._device!r}, got one of "
                f"{'another ' if repr(device) == repr(self._device) else ''}{device!r}"
            )

    def _check_source(self, snapshot: Snapshot, image: object) -> Image:
        source = _image(image, "source_image")
        self._check_device(source.device, "source_image")
        parameters = snapshot.parameters
        if source.form == "bits" and not parameters.takes_bits:
            raise ValueError(
                "source_image: expected real values, which "
                f"{parameters.type.name}{' with beta scaling' if parameters.flags else ''} needs, "
                "got bits"
            )
        return source

    def _check_destination(self, source: Image, image: object) -> Image:
        destination = _image(image, "destination_image")
        self._check_device(destination.device, "destination_image")
        if destination.form == "uint8":
            raise ValueError("destination_image: expected float32, float16 or bits, got uint8")
        if destination is source:
            raise ValueError("destination_image: expected another image than source_image")
        return destination

    def __setstate__(self, state: dict[str, Any]) -> None:
        # What travels, or comes from a file, goes to the default device.
        self._device = device_or_default(state.pop("_device", None))
        super().__setstate__(state)

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        del state["_device"]
        return state


def _copy(layer: Layer, twin: Layer) -> None:
    """Makes one layer the same as another, whatever runs it."""
    old = layer._snapshot
    twin._label, twin._data_source = layer._label, layer._data_source
    twin._snapshot = Snapshot(old.parameters, twin._build(old.parameters), old.state)


def _image(image: object, name: str) -> Image:
    if not isinstance(image, Image):
        raise TypeError(f"{name}: expected a binconv.metal.Image, got {_checks.describe(image)}")
    return image


def _sequence(value: Any, name: str) -> list[Any]:
    if not isinstance(value, Sequence):
        raise TypeError(f"{name}: expected a sequence of images, got {_checks.describe(value)}")
    return list(value)


BinaryConvolution._kinds[False] = BinaryConvolution
