"""The lines that both demos print: the machine, and a row for each layer with its time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

import binconv as bc

Image = NDArray[np.float32] | bc.PackedImage
Result = TypeVar("Result")

HEADING = f"{'layer':<12} {'kernel':>6}  {'channels':>11}  {'type':<14} {'output':<20} {'time':>9}"


def machine() -> str:
    threads = bc.get_num_threads()
    return f"ISA {bc.isa()}, {threads} thread{'s' if threads > 1 else ''}"


def timed(call: Callable[[], Result]) -> tuple[Result, float]:
    """What `call` returns, and the seconds it took."""
    started = time.perf_counter()
    result = call()
    return result, time.perf_counter() - started


def row(layer: bc.BinaryConvolution, output: Image, seconds: float) -> str:
    kernel = f"{layer.kernel_height}x{layer.kernel_width}"
    channels = f"{layer.input_feature_channels} -> {layer.output_feature_channels}"
    return (
        f"{layer.label or '':<12} {kernel:>6}  {channels:>11}  {layer.type.name:<14} "
        f"{_shape(output):<20} {seconds * 1e3:6.2f} ms"
    )


def _shape(output: Image) -> str:
    """Height x width x channels of one image, and how each value is held."""
    if isinstance(output, bc.PackedImage):
        _, height, width, _ = output.words.shape
        return f"{height}x{width}x{output.channels} bits"
    height, width, channels = output.shape[-3:]
    return f"{height}x{width}x{channels} {output.dtype}"
