"""The one exception that is binconv.metal's own."""

from __future__ import annotations

__all__ = ["DeviceError"]


class DeviceError(RuntimeError):
    """There is no such GPU, it was lost, or its driver failed.  MPS: MTLCommandBuffer.error."""
