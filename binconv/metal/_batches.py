"""From the CPU's memory to the CPU's memory, in as many parts as the device's limits ask for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from .. import _arrays, _destination, _plan
from .._plan import Plan
from ..images import PackedImage, word_count
from .commands import CommandBuffer
from .device import Device
from .image import Form, Image

# Encodes the work on the images of one part.
Encode = Callable[[CommandBuffer, Plan, Image, Image], None]

# Images on the device that calls fill and read, kept by what they are for and their form and shape.
_MAX_STAGED = 8


def call(
    device: Device,
    plan: Plan,
    source: NDArray[Any] | PackedImage,
    out: NDArray[Any] | PackedImage | None,
    packed: bool,
    dtype: DTypeLike | None,
    encode: Encode,
    bytes_between: int = 0,
) -> NDArray[Any] | PackedImage:
    """A call with a source that has been read and planned: checks the form of the result, runs, and
    returns it.

    bytes_between: of the largest image between source and result, for one image of the batch.
    """
    _destination.check_form(out, packed, dtype)
    if out is not None:
        _destination.check_out(out, plan, source)
        _run(device, plan, source, out, encode, bytes_between)
        return out
    if packed:
        bits = _destination.new_packed(plan.destination_shape)
        _run(device, plan, source, bits, encode, bytes_between)
        return bits
    result = _destination.new_array(plan, _destination.result_dtype(source, dtype))
    _run(device, plan, source, result, encode, bytes_between)
    return result if source.ndim == 4 else result.reshape(plan.result_shape)


def _run(
    device: Device,
    plan: Plan,
    source: NDArray[Any] | PackedImage,
    target: NDArray[Any] | PackedImage,
    encode: Encode,
    bytes_between: int,
) -> None:
    """Copies a source to the device, runs what `encode` encodes, and copies the result to `target`.

    plan: of the whole batch; its images are numbered alike in source and target.
    """
    if not plan.source_shape[0] or 0 in plan.destination_shape:
        return
    if isinstance(source, PackedImage):
        memory: NDArray[Any] = source.words
        source_form: Form = "bits"
    else:
        memory = _plan.with_axes(_arrays.readable(source))
        source_form = memory.dtype.name
    if isinstance(target, PackedImage):
        written: NDArray[Any] = target.words
        target_form: Form = "bits"
        target_shape = target.shape
    else:
        written = _plan.with_axes(target)
        target_form = written.dtype.newbyteorder("=").name
        target_shape = plan.destination_shape
    skipped = plan.arguments["destination_channel_offset"]
    needed = max(
        image_bytes(source_form, plan.source_shape),
        image_bytes("float32", plan.source_shape),  # what is prepared of it is no larger
        image_bytes(target_form, target_shape),
        bytes_between,
    )
    count = plan.source_shape[0]
    at_once = min(count, max(device.max_buffer_bytes // max(needed, 1), 1))
    with device._lock:
        for first in range(0, count, at_once):
            images = min(at_once, count - first)
            part = slice(first, first + images)
            staged = _staged(device, "source", (images, *plan.source_shape[1:]), source_form)
            device._write(staged._buffer, memory[part])
            result = _staged(device, "result", (images, *target_shape[1:]), target_form)
            if skipped and isinstance(target, PackedImage):
                # Bits that the layer leaves as they are.
                device._write(result._buffer, written[part])
            buffer = CommandBuffer(device)
            encode(buffer, part_of(plan, images), staged, result)
            buffer.commit()
            data = device._read(result._buffer, result.nbytes)
            if isinstance(target, PackedImage):
                written[part] = data.view(np.uint64).reshape(images, *written.shape[1:])
            else:
                values = data.view(target_form).reshape(images, *target_shape[1:])
                end = plan.destination_shape[3]
                written[part, ..., skipped:end] = values[..., skipped:end]


def part_of(plan: Plan, images: int) -> Plan:
    """The plan for some images of a batch."""
    if images == plan.arguments["images"]:
        return plan
    return plan._replace(
        source_shape=(images, *plan.source_shape[1:]),
        destination_shape=(images, *plan.destination_shape[1:]),
        result_shape=(images, *plan.destination_shape[1:]),
        arguments={**plan.arguments, "images": images},
    )


def image_bytes(form: Form, shape: tuple[int, int, int, int]) -> int:
    """Bytes of one image of a batch."""
    _, height, width, channels = shape
    if form == "bits":
        return height * width * word_count(channels) * 8
    return height * width * channels * np.dtype(form).itemsize


def _staged(device: Device, role: str, shape: tuple[int, int, int, int], form: Form) -> Image:
    """An image of that shape and form, from a call before where there was one."""
    key = (role, shape, form)
    image: Image | None = device._staged.pop(key, None)
    if image is None:
        while len(device._staged) >= _MAX_STAGED:
            del device._staged[next(iter(device._staged))]
        image = object.__new__(Image)
        image._set_up(shape, form, device)
    device._staged[key] = image
    return image
