"""Binarising images on a GPU."""

from __future__ import annotations

from numpy.typing import ArrayLike

from .. import _arrays, _checks
from ..images import word_count
from . import _prepare, commands
from .commands import CommandBuffer, Dispatch
from .image import Image

__all__ = ["pack"]


def pack(
    command_buffer: CommandBuffer,
    image: Image,
    bias: ArrayLike | None = None,
    scale: ArrayLike | None = None,
) -> Image:
    """Encodes the binarisation of an image: bit 0 where (image + bias) * scale is below 0, else 1.
    MPS has no such call; its kernels binarise their sources themselves.

    image: of reals.
    bias, scale: floats of shape (channels,); None means 0 and 1.

    Returns a new image of bits, the same as `binconv.pack` makes.  Raises TypeError or ValueError
    for an image of bits or of another device, or terms of another length.
    """
    buffer = commands.check(command_buffer)
    if not isinstance(image, Image):
        raise TypeError(f"image: expected a binconv.metal.Image, got {_checks.describe(image)}")
    if image.form == "bits":
        raise TypeError("image: expected an image of reals, got one of bits")
    device = buffer.device
    if image.device is not device:
        raise ValueError(
            f"image: expected one of the command buffer's device, {device!r}, got one of "
            f"{image.device!r}"
        )
    images, height, width, channels = image.shape
    work = _prepare.Work(
        output="words",
        source_form=image.form,
        input_bias=_arrays.optional_terms(bias, "bias", channels),
        input_scale=_arrays.optional_terms(scale, "scale", channels),
        first_pixel=0,
        pixels=images * height * width,
        source_channels=channels,
        channel_offset=0,
        channels=channels,
        groups=1,
        pixel_words=2 * word_count(channels),
    )
    bits = Image.empty(image.shape, "bits", device)
    if work.pixels and channels:
        with device._lock:
            pipeline, buffers, workgroups = work.build(device)
            group = device._bind(pipeline, {**buffers, 1: image._buffer, 3: bits._buffer})
            buffer._add([Dispatch(pipeline, group, workgroups)])
    return bits
