"""From a layer and the images of one call to the arguments of the compiled layer.

All that can be wrong with a call is found here, before anything runs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import _arrays, _checks, _core, geometry
from ._parameters import LayerParameters, LayerState
from .enums import EdgeMode
from .geometry import Padding, PaddingPolicy
from .images import PackedImage, source_array

if TYPE_CHECKING:
    from ._layer import Layer

Shape = tuple[int, ...]
Shape4 = tuple[int, int, int, int]

# Plans kept for one state of a layer; a program sees few source sizes, or too many to keep.
_MAX_PLANS = 64
_MAX_CALLS = 8


@dataclass(frozen=True, eq=False)
class Snapshot:
    """A layer at one moment.  A call takes it once, so that no other thread changes it midway."""

    parameters: LayerParameters
    # What runs it: a _core.Layer, or what binconv.metal has instead.
    layer: Any
    state: LayerState
    plans: dict[Shape, Plan] = field(default_factory=dict)
    # Calls with plain arrays that have been checked and run before, most of them the same.
    calls: list[_core.Call] = field(default_factory=list)


class Plan(NamedTuple):
    """What depends on the shapes of the images alone."""

    source_shape: Shape4
    # (N, H, W, channels), of a whole destination or of the least that a result must be.
    destination_shape: Shape4
    # The same with as many axes as the source had.
    result_shape: Shape
    # Keyword arguments of Layer.run.
    arguments: dict[str, Any]


class Job(NamedTuple):
    """One run of a layer, checked: nothing but memory can be wanting."""

    snapshot: Snapshot
    plan: Plan
    source: NDArray[Any]
    source_channels: int
    destination: NDArray[Any] | PackedImage

    @classmethod
    def of(
        cls,
        snapshot: Snapshot,
        plan: Plan,
        source: NDArray[Any] | PackedImage,
        destination: NDArray[Any] | PackedImage,
    ) -> Job:
        """A job for images that have been checked, of any number of axes and any strides."""
        if isinstance(source, PackedImage):
            memory: NDArray[Any] = source.words
            channels = source.channels
        else:
            memory = _arrays.readable(source)
            if memory.ndim != 4:
                memory = memory.reshape(plan.source_shape)
            channels = plan.source_shape[3]
        if not isinstance(destination, PackedImage):
            destination = with_axes(destination)
        return cls(snapshot, plan, memory, channels, destination)

    def run(self, pack_terms: dict[str, Any] | None = None) -> object:
        """Computes and writes.  Returns what `remember` makes a known call of, or None."""
        destination = self.destination
        arguments = self.plan.arguments
        if isinstance(destination, PackedImage):
            return self.snapshot.layer.run(
                self.source,
                self.source_channels,
                destination.words,
                destination.channels,
                **arguments,
                **(pack_terms or {}),
            )
        if destination.flags.num & _arrays.WRITABLE == _arrays.WRITABLE and (
            destination.dtype.isnative
        ):
            return self.snapshot.layer.run(
                self.source, self.source_channels, destination, destination.shape[3], **arguments
            )
        self._run_through_copy(destination)
        return None

    def _run_through_copy(self, destination: NDArray[Any]) -> None:
        """For a destination of strides or a byte order that kernels do not write."""
        arguments = self.plan.arguments
        images = arguments["images"]
        first = arguments["destination_first_image"]
        y, x, height, width = arguments["clip"]
        begin = arguments["destination_channel_offset"]
        channels = self.snapshot.parameters.descriptor.destination_channels
        part = np.empty((images, height, width, channels), destination.dtype.newbyteorder("="))
        moved = {
            "destination_first_image": 0,
            "destination_channel_offset": 0,
            "clip": (0, 0, height, width),
        }
        self.snapshot.layer.run(
            self.source, self.source_channels, part, channels, **(arguments | moved)
        )
        destination[
            first : first + images, y : y + height, x : x + width, begin : begin + channels
        ] = part


def remember(snapshot: Snapshot, compiled: object, source: object, out: object) -> None:
    """Lets `_core.run_known` answer the next call with arrays like these, past the checks here."""
    if not (
        isinstance(compiled, _core.Plan)
        and _answers_the_same(snapshot.state.padding)
        and _is_plain(source)
        and type(out) in (np.ndarray, PackedImage)
    ):
        return
    if len(snapshot.calls) >= _MAX_CALLS:
        snapshot.calls.clear()
    snapshot.calls.append(_core.Call(snapshot.layer, compiled, source, out))


def _is_plain(source: object) -> bool:
    """An image that kernels read where it is."""
    if type(source) is PackedImage:
        return True
    readable = _arrays.READABLE
    return type(source) is np.ndarray and source.flags.num & readable == readable


def _answers_the_same(policy: PaddingPolicy) -> bool:
    """Whether a padding policy answers alike every time: one of the user's own may not."""
    return type(policy) is Padding


def with_axes(array: NDArray[Any]) -> NDArray[Any]:
    """A view with all four axes; one to four come in."""
    if array.ndim == 4:
        return array
    if array.ndim == 3:
        return array[None]
    return array[:, None, None, :] if array.ndim == 2 else array[None, None, None, :]


def read_source(snapshot: Snapshot, source: object) -> NDArray[Any] | PackedImage:
    """A source of a dtype and rank that the layer takes."""
    parameters = snapshot.parameters
    if isinstance(source, PackedImage):
        if not parameters.takes_bits:
            raise ValueError(
                "source: expected real values, which "
                f"{parameters.type.name}{' with beta scaling' if parameters.flags else ''} needs, "
                "got a PackedImage"
            )
        return source
    array = source_array(source)
    check_rank(parameters, array.ndim, "source", array.shape)
    return array


def check_rank(parameters: LayerParameters, rank: int, name: str, got: object) -> None:
    """ValueError for an image whose number of axes the layer does not take."""
    lowest = 1 if parameters.takes_vectors else 3
    if not lowest <= rank <= 4:
        forms = "(H, W, C) or (N, H, W, C)"
        if lowest == 1:
            forms = f"(C,), (N, C), {forms}"
        raise ValueError(f"{name}: expected shape {forms}, got {got}")


def image_shape(image: NDArray[Any] | PackedImage) -> Shape4:
    """(N, H, W, channels) of an image of any rank."""
    shape = image.shape
    if len(shape) == 4:
        return shape
    if len(shape) == 3:
        return (1, *shape)
    return (shape[0], 1, 1, shape[1]) if len(shape) == 2 else (1, 1, 1, shape[0])


def automatic_plan(kernel: Layer, snapshot: Snapshot, shape: Shape, source_shape: Shape4) -> Plan:
    """The plan of conv(source), whose destination the padding policy sizes.

    shape, source_shape: of the source, as it came and with all four axes.
    """
    plan = snapshot.plans.get(shape)
    if plan is not None:
        return plan
    plan = _new_automatic_plan(kernel, snapshot, shape, source_shape)
    if _answers_the_same(snapshot.state.padding):
        if len(snapshot.plans) >= _MAX_PLANS:
            snapshot.plans.clear()
        snapshot.plans[shape] = plan
    return plan


def destination_geometry(kernel: Layer, snapshot: Snapshot, source_size: tuple[int, int]) -> Shape4:
    """(height, width) of the destination in pixels and (y, x) of the offset, from `padding`."""
    height, width, y, x = geometry.resolve(snapshot.state.padding, source_size, kernel)
    scale = snapshot.parameters.descriptor.destination_scale
    return height * scale, width * scale, y, x


def _new_automatic_plan(
    kernel: Layer, snapshot: Snapshot, shape: Shape, source_shape: Shape4
) -> Plan:
    state = snapshot.state
    images, source_height, source_width, _ = source_shape
    _check_source_shape(snapshot, source_shape)
    height, width, y, x = destination_geometry(kernel, snapshot, (source_height, source_width))
    channels = result_channels(snapshot)
    destination_shape = (images, height, width, channels)
    _check_product(destination_shape, "sizes that make a destination")
    if height and width:
        _check_edges(snapshot, source_shape)
    if len(shape) == 4:
        result_shape: Shape = destination_shape
    elif len(shape) == 3:
        result_shape = destination_shape[1:]
    elif height == width == 1:
        result_shape = (*shape[:-1], channels)
    else:
        raise ValueError(
            "source: expected shape (H, W, C) or (N, H, W, C) with this padding, which makes "
            f"{height} x {width} pixels of each vector, got {shape}"
        )
    return Plan(
        source_shape,
        destination_shape,
        result_shape,
        _arguments(
            state, images=images, clip=(0, 0, height, width), offset=(y, x), first_images=(0, 0)
        ),
    )


def manual_plan(snapshot: Snapshot, source_shape: Shape4, destination_shape: Shape4) -> Plan:
    """The plan of conv.encode(source, destination): offset and clip_rect say what is computed."""
    state = snapshot.state
    _check_source_shape(snapshot, source_shape)
    least = result_channels(snapshot)
    if destination_shape[3] < least:
        raise ValueError(
            f"destination: expected at least {least} feature channels, got {destination_shape[3]}"
        )
    images, height, width, _ = destination_shape
    z = y = x = 0
    if state.clip_rect is not None:
        clip = state.clip_rect
        x, y, z = clip.origin
        width = max(min(clip.size[0], width - x), 0)
        height = max(min(clip.size[1], height - y), 0)
        images = max(min(clip.size[2], images - z), 0)
    offset = state.offset
    if not (images and height and width):
        # Nothing to do; a clip rectangle beyond the destination has no place in it.
        z = y = x = images = height = width = 0
    else:
        _check_edges(snapshot, source_shape)
        if offset.z + images > source_shape[0]:
            raise ValueError(
                f"source: expected at least {offset.z + images} images, for offset.z "
                f"{offset.z} and {images} images to compute, got {source_shape[0]}"
            )
    return Plan(
        source_shape,
        destination_shape,
        destination_shape,
        _arguments(
            state,
            images=images,
            clip=(y, x, height, width),
            offset=(offset.y, offset.x),
            first_images=(offset.z if images else 0, z),
        ),
    )


def _arguments(
    state: LayerState,
    *,
    images: int,
    clip: Shape4,
    offset: tuple[int, int],
    first_images: tuple[int, int],
) -> dict[str, Any]:
    return {
        "images": images,
        "source_first_image": first_images[0],
        "destination_first_image": first_images[1],
        "source_channel_offset": state.source_feature_channel_offset,
        "destination_channel_offset": state.destination_feature_channel_offset,
        "clip": clip,
        "offset": offset,
        "edge_mode": int(state.edge_mode),
        "edge_constant": state.edge_constant,
    }


def result_channels(snapshot: Snapshot) -> int:
    """Channels of a result: those that the layer skips and its own."""
    skipped = snapshot.state.destination_feature_channel_offset
    return skipped + snapshot.parameters.descriptor.destination_channels


def check_channels(snapshot: Snapshot, channels: int) -> None:
    """ValueError where a source of so many channels does not have those that the layer reads."""
    state = snapshot.state
    wanted = snapshot.parameters.descriptor.input_feature_channels
    first, most = state.source_feature_channel_offset, state.source_feature_channel_max_count
    if first == 0 and most is None:
        if channels != wanted:
            raise ValueError(f"source: expected {wanted} feature channels, got {channels}")
        return
    available = max(channels - first, 0)
    if most is not None:
        available = min(available, most)
    if available < wanted:
        raise ValueError(
            f"source: expected at least {wanted} feature channels from "
            f"source_feature_channel_offset {first} on, at most "
            f"source_feature_channel_max_count {most}, got {available} of {channels}"
        )


def _check_source_shape(snapshot: Snapshot, shape: Shape4) -> None:
    _check_product(shape, "a source")
    check_channels(snapshot, shape[3])
    descriptor = snapshot.parameters.descriptor
    if snapshot.parameters.is_fully_connected:
        covered = (
            (descriptor.kernel_height - 1) * descriptor.dilation_rate_y + 1,
            (descriptor.kernel_width - 1) * descriptor.dilation_rate_x + 1,
        )
        if shape[1:3] != covered:
            raise ValueError(
                "source: expected the height and width of a fully connected layer's kernel, "
                f"{covered}, got {shape[1:3]}"
            )


def _check_edges(snapshot: Snapshot, source_shape: Shape4) -> None:
    """A source without pixels has no edge to take a value from."""
    mode = snapshot.state.edge_mode
    if not (source_shape[1] and source_shape[2]) and mode in (
        EdgeMode.CLAMP,
        EdgeMode.MIRROR,
        EdgeMode.MIRROR_WITH_EDGE,
    ):
        raise ValueError(
            f"source: expected at least one pixel, which edge_mode {mode.name} repeats, "
            f"got {source_shape[1]} x {source_shape[2]}"
        )


def _check_product(shape: Shape4, what: str) -> None:
    if max(shape) > _checks.MAX_SIZE or math.prod(shape) > _checks.MAX_BYTES // 4:
        raise ValueError(
            f"source: expected {what} of less than 2**31 in each axis and 2**63 bytes in all, got "
            f"shape {shape}"
        )
