"""From the CPU's memory to the CPU's memory, in as many parts as the device's limits ask for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _arrays, _plan
from .._plan import Plan
from ..images import PackedImage, word_count
from .commands import CommandBuffer
from .device import Device
from .image import Form, Image

# Encodes the work on the images of one part.
Encode = Callable[[CommandBuffer, Plan, Image, Image], None]

# Images on the device that calls fill and read, by what they are for and their form and shape.
_MAX_STAGED = 8


def run_on_arrays(
    device: Device,
    plan: Plan,
    source: NDArray[Any] | PackedImage,
    target: NDArray[Any] | PackedImage,
    encode: Encode,
    scratch_bytes: int = 0,
) -> None:
    """Copies a source to the device, runs what `encode` encodes, and copies the result to `target`.

    plan: of the whole batch; its images are numbered alike in source and target.
    scratch_bytes: what an image needs between, beyond source and target.
    """
    if isinstance(source, PackedImage):
        memory: NDArray[Any] = source.words
        source_form: Form = "bits"
    else:
        memory = _plan.with_axes(_arrays.readable(source))
        source_form = memory.dtype.name
    count = plan.source_shape[0]
    if not count or 0 in plan.destination_shape:
        return
    source_shape, target_shape = plan.source_shape[1:], plan.destination_shape[1:]
    if isinstance(target, PackedImage):
        target_form: Form = "bits"
        written: NDArray[Any] = target.words
        target_shape = target.shape[1:]
    else:
        written = _plan.with_axes(target)
        target_form = written.dtype.newbyteorder("=").name
    needed = max(
        _bytes(source_form, source_shape),
        4 * _size(source_shape),  # what is prepared of it, at most a word for a channel
        _bytes(target_form, target_shape),
        scratch_bytes,
    )
    at_once = min(count, max(device.max_buffer_bytes // max(needed, 1), 1))
    skipped = plan.arguments["destination_channel_offset"]
    with device._lock:
        for first in range(0, count, at_once):
            images = min(at_once, count - first)
            part = _part(plan, images)
            staged = _staged(device, "source", (images, *source_shape), source_form)
            device._write(staged._buffer, memory[first : first + images])
            result = _staged(device, "result", (images, *target_shape), target_form)
            if skipped and isinstance(target, PackedImage):
                device._write(result._buffer, written[first : first + images])
            buffer = CommandBuffer(device)
            encode(buffer, part, staged, result)
            buffer.commit()
            data = device._read(result._buffer, result.nbytes)
            if isinstance(target, PackedImage):
                written[first : first + images] = data.view(np.uint64).reshape(
                    images, *written.shape[1:]
                )
                continue
            values = data.view(target_form).reshape(images, *target_shape)
            end = plan.destination_shape[3]
            written[first : first + images, ..., skipped:end] = values[..., skipped:end]


def _part(plan: Plan, images: int) -> Plan:
    if images == plan.arguments["images"]:
        return plan
    return plan._replace(
        source_shape=(images, *plan.source_shape[1:]),
        destination_shape=(images, *plan.destination_shape[1:]),
        result_shape=(images, *plan.destination_shape[1:]),
        arguments={**plan.arguments, "images": images},
    )


def _size(shape: tuple[int, ...]) -> int:
    height, width, channels = shape
    return height * width * channels


def _bytes(form: Form, shape: tuple[int, ...]) -> int:
    height, width, channels = shape
    if form == "bits":
        return height * width * word_count(channels) * 8
    return _size(shape) * np.dtype(form).itemsize


def _staged(device: Device, role: str, shape: tuple[int, ...], form: Form) -> Image:
    """An image of that shape and form, from a call before where there was one."""
    key = (role, shape, form)
    image: Image | None = device._staged.pop(key, None)
    if image is None:
        while len(device._staged) >= _MAX_STAGED:
            del device._staged[next(iter(device._staged))]
        image = object.__new__(Image)
        image._set_up((shape[0], shape[1], shape[2], shape[3]), form, device)
    device._staged[key] = image
    return image
