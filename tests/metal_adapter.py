"""The GPU that tests run on; they skip by name where there is none."""

from __future__ import annotations

import pytest

bm = pytest.importorskip(
    "binconv.metal",
    reason="wgpu is not installed (pip install binconv[metal])",
    exc_type=ImportError,
)
try:
    device = bm.Device.default()
except bm.DeviceError as error:
    pytest.skip(f"no adapter: {error}", allow_module_level=True)
