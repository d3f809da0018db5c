"""The one place that imports wgpu, and that turns what it raises into what binconv raises."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .errors import DeviceError

try:
    # wgpu has no type information.
    wgpu: Any = importlib.import_module("wgpu")
except ImportError as error:
    raise ImportError(
        f"binconv.metal needs the package wgpu, which `pip install binconv[metal]` brings ({error})"
    ) from error


@contextmanager
def errors() -> Iterator[None]:
    """`DeviceError` for a device that is lost and for what its driver reports."""
    try:
        yield
    except wgpu.GPUError as error:
        text = " ".join(str(error).split())
        if "lost" in text.lower():
            raise DeviceError(
                f"device: lost or closed; make a new Device and its images anew ({text})"
            ) from error
        if isinstance(error, MemoryError):
            raise MemoryError(f"device: out of memory ({text})") from error
        raise DeviceError(f"device: {text}") from error
