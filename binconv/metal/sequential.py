"""Layers in a row on a GPU."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, TypeVar, overload

from numpy.typing import DTypeLike, NDArray

from .. import _checks, _plan
from .. import sequential as _cpu
from .._layer import Layer
from .._plan import Plan
from .._stack import Stack, Step
from ..convolution import ArrayOrPacked
from ..images import PackedImage, SourceImage
from . import _batches, commands
from .commands import CommandBuffer
from .convolution import BinaryConvolution
from .device import Device
from .image import Form, Image

__all__ = ["Sequential"]

Self = TypeVar("Self", bound="Sequential")

# Images between layers that are kept for later calls.
_MAX_IMAGES = 64


class Sequential(Stack[BinaryConvolution]):
    """Layers that run one after the other, with the images between them on the GPU: as bits where
    the next layer binarises its source anyway, else as float32.  MPS builds such rows from an
    MPSNNGraph.

    layers: at least one `BinaryConvolution` or `BinaryFullyConnected` of binconv.metal, all on one
        device.  They stay the caller's: properties that are set on them later hold in the next
        call.

    Gives what `binconv.Sequential` gives.  Raises as that does, and ValueError for layers of
    several devices.
    """

    _layer_class: ClassVar[type[Layer]] = BinaryConvolution

    def __init__(self, *layers: BinaryConvolution) -> None:
        super().__init__(*layers)
        for layer in layers:
            self._layers[0]._check_device(layer.device, "layers")
        self._between: dict[Any, Image] = {}

    @property
    def device(self) -> Device:
        """Where the layers run."""
        return self._layers[0].device

    @classmethod
    def from_cpu(cls: type[Self], stack: _cpu.Sequential, device: Device | None = None) -> Self:
        """The twin of layers of the CPU; TypeError for what are none."""
        if not isinstance(stack, _cpu.Sequential):
            raise TypeError(f"stack: expected a binconv.Sequential, got {_checks.describe(stack)}")
        layers = []
        for layer in stack:
            kind = BinaryConvolution._kinds[layer._is_fully_connected]
            assert issubclass(kind, BinaryConvolution)
            layers.append(kind.from_cpu(layer, device))
        return cls(*layers)

    def to_cpu(self) -> _cpu.Sequential:
        """The twins of the layers on the CPU."""
        return _cpu.Sequential(*(layer.to_cpu() for layer in self._layers))

    def encode(
        self,
        command_buffer: CommandBuffer,
        source_image: Image,
        destination_image: Image | None = None,
    ) -> Image:
        """Encodes the layers; they run when the command buffer is committed.  MPS:
        MPSNNGraph.encodeToCommandBuffer:sourceImages:.

        source_image: as for the first layer's `encode`.
        destination_image: of the shape of the result, and of any form but uint8; None for a new
            one, of float16 for a float16 source, else float32.

        Returns the destination.  Raises TypeError or ValueError for images that do not suit, and
        then nothing is encoded.
        """
        buffer = commands.check(command_buffer)
        first = self._layers[0]
        first._check_device(buffer.device, "command_buffer")
        snapshots = [layer._snapshot for layer in self._layers]
        source = first._check_source(snapshots[0], source_image)
        steps = self._plan(snapshots, source.shape, source.shape)
        shape = steps[-1].plan.destination_shape
        if destination_image is None:
            form: Form = "float16" if source.form == "float16" else "float32"
            destination = Image.empty(shape, form, self.device)
        else:
            destination = first._check_destination(source, destination_image)
            if destination.shape != shape:
                raise ValueError(
                    f"destination_image: expected shape {shape}, got {destination.shape}"
                )
        self._encode(buffer, steps, source, destination)
        return destination

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
        """From the CPU's memory to the CPU's memory; only the source and the last result travel.

        Arguments and result are those of `binconv.Sequential.__call__`; batches and errors are as
        with `BinaryConvolution.__call__`.
        """
        snapshots = [layer._snapshot for layer in self._layers]
        image = _plan.read_source(snapshots[0], source)
        steps = self._plan(snapshots, image.shape, _plan.image_shape(image))
        whole = steps[-1].plan._replace(source_shape=steps[0].plan.source_shape)

        def encode(buffer: CommandBuffer, part: Plan, source: Image, destination: Image) -> None:
            self._encode(buffer, steps, source, destination)

        # An image between two layers, and what is prepared of it, at most a word for a channel.
        largest = max(
            (_batches.image_bytes("float32", step.plan.destination_shape) for step in steps[:-1]),
            default=0,
        )
        return _batches.call(self.device, whole, image, out, packed, dtype, encode, largest)

    def _encode(
        self,
        buffer: CommandBuffer,
        steps: list[Step[BinaryConvolution]],
        source: Image,
        destination: Image,
    ) -> None:
        """Each layer into an image of its own, which later calls use again: they run after."""
        image = source
        with self.device._lock:
            for index, step in enumerate(steps):
                plan = _batches.part_of(step.plan, source.shape[0])
                into = destination
                if index + 1 < len(steps):
                    form: Form = "bits" if step.hands_on_bits else "float32"
                    into = self._image_between(index, plan.destination_shape, form)
                step.layer._encode(buffer, step.snapshot, plan, image, into, step.pack_terms)
                image = into

    def _image_between(self, index: int, shape: tuple[int, int, int, int], form: Form) -> Image:
        key = (index, shape, form)
        image = self._between.get(key)
        if image is None:
            if len(self._between) >= _MAX_IMAGES:
                self._between.clear()
            image = self._between[key] = Image.empty(shape, form, self.device)
        return image

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_between": {}}
