"""The GPU that tests run on; they skip by name where there is none.

BINCONV_TEST_METAL=1 makes that a failure, where a GPU or a software driver is known to be.
"""

from __future__ import annotations

import os

import pytest

_REQUIRED = os.environ.get("BINCONV_TEST_METAL") == "1"

if _REQUIRED:
    import binconv.metal as bm
else:
    bm = pytest.importorskip(
        "binconv.metal",
        reason="wgpu is not installed (pip install binconv[metal])",
        exc_type=ImportError,
    )
try:
    device = bm.Device.default()
except bm.DeviceError as error:
    if _REQUIRED:
        raise
    pytest.skip(f"no adapter: {error}", allow_module_level=True)
