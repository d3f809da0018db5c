"""Which GPU is used, and which there are."""

from __future__ import annotations

import json
from typing import Any, Literal, overload

from .. import _checks
from ._wgpu import wgpu
from .device import Device, adapters, device_or_default

__all__ = ["show_config"]


@overload
def show_config(mode: Literal["stdout"] = "stdout", device: Device | None = None) -> None: ...
@overload
def show_config(mode: Literal["dicts"], device: Device | None = None) -> dict[str, Any]: ...


def show_config(
    mode: Literal["stdout", "dicts"] = "stdout", device: Device | None = None
) -> dict[str, Any] | None:
    """Prints the backend and the adapter in use, and all adapters of this machine.  Not in
    MPS; MTLCopyAllDevices lists GPUs.

    mode: "stdout" prints them as JSON, "dicts" returns them.  ValueError for another.
    device: whose; None for the default device.
    """
    if mode not in ("stdout", "dicts"):
        raise ValueError(f"mode: expected 'stdout' or 'dicts', got {_checks.describe(mode)}")
    chosen = device_or_default(device)
    config = {
        "Device": {
            "backend": chosen.backend,
            "adapter": chosen.name,
            "driver": chosen.driver,
            "software": chosen.is_software,
            "largest buffer": chosen.max_buffer_bytes,
        },
        "Adapters": adapters(),
        "wgpu": str(wgpu.__version__),
    }
    if mode == "dicts":
        return config
    print(json.dumps(config, indent=2))
    return None
