"""Where taps read along one axis of a source."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..enums import EdgeMode


def source_positions(
    outputs: int,
    taps: int,
    *,
    first: int,
    stride: int,
    dilation: int,
    size: int,
    mode: EdgeMode,
) -> NDArray[np.int32]:
    """The source row (or column) that each tap of each output pixel reads, -1 for none.

    Output pixel k and tap i lie at first + k * stride + i * dilation; shape (outputs, taps).
    """
    at = (
        np.int64(first)
        + np.arange(outputs, dtype=np.int64)[:, None] * np.int64(stride)
        + np.arange(taps, dtype=np.int64) * np.int64(dilation)
    )
    if size and mode == EdgeMode.CLAMP:
        at = at.clip(0, size - 1)
    elif size and mode == EdgeMode.MIRROR:
        period = max(2 * (size - 1), 1)
        at %= period
        at = np.where(at < size, at, period - at)
    elif size and mode == EdgeMode.MIRROR_WITH_EDGE:
        at %= 2 * size
        at = np.where(at < size, at, 2 * size - 1 - at)
    return np.where((at >= 0) & (at < size), at, -1).astype(np.int32)
