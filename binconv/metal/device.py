"""GPUs."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Hashable
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from .. import _checks
from ._wgpu import errors, wgpu
from .errors import DeviceError

__all__ = ["Device"]

_VARIABLE = "BINCONV_METAL_BACKEND"
# As wgpu spells them.
_BACKENDS = {name.lower(): name for name in ("Metal", "Vulkan", "D3D12", "OpenGL")}
_LIMITS = (
    "max-buffer-size",
    "max-storage-buffer-binding-size",
    "max-compute-workgroup-storage-size",
    "max-storage-buffers-per-shader-stage",
)


class Device:
    """A GPU, as one program of this process sees it.  MPS: MTLDevice with its MTLCommandQueue.

    backend: "Metal", "Vulkan", "D3D12" or "OpenGL", in any case; None for what the environment
        variable BINCONV_METAL_BACKEND names, else the machine's own.
    adapter: a part of the name of the GPU, in any case; None for the fastest.

    Raises `DeviceError` where there is no such GPU, and says which there are.
    """

    _default: ClassVar[Device | None] = None
    _default_lock: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, backend: str | None = None, adapter: str | None = None) -> None:
        wanted = _backend(backend)
        name = _checks.text(adapter, "adapter")
        self._adapter = _choose(wanted, name)
        available = self._adapter.features
        self._has_timestamps = "timestamp-query" in available
        with errors():
            self._device = self._adapter.request_device_sync(
                label="binconv",
                required_features=["timestamp-query"] if self._has_timestamps else [],
                required_limits={name: self._adapter.limits[name] for name in _LIMITS},
            )
        # One call at a time talks to the device, and owns what calls share.
        self._lock = threading.RLock()
        self._is_closed = False
        self._pipelines: dict[Hashable, Any] = {}
        self._fence = self._empty_buffer(4, "fence")
        self._scratch: dict[str, Any] = {}
        # Images that calls from the CPU's memory fill and read, the latest last.
        self._staged: dict[Hashable, Any] = {}

    @classmethod
    def default(cls) -> Device:
        """The device that images and layers live on where none is named, made when first asked
        for.  MPS: MTLCreateSystemDefaultDevice.
        """
        with cls._default_lock:
            if cls._default is None or cls._default._is_closed:
                cls._default = Device()
            return cls._default

    @property
    def backend(self) -> str:
        """Through what the GPU is reached: "Metal", "Vulkan", "D3D12" or "OpenGL"."""
        return str(self._adapter.info["backend_type"])

    @property
    def name(self) -> str:
        """The GPU's name.  MPS: MTLDevice.name."""
        return str(self._adapter.info["device"])

    @property
    def driver(self) -> str:
        """The driver's own description of itself."""
        return str(self._adapter.info["description"])

    @property
    def is_software(self) -> bool:
        """Whether a driver on the CPU stands in for a GPU."""
        return str(self._adapter.info["adapter_type"]) == "CPU"

    @property
    def has_timestamps(self) -> bool:
        """Whether a `CommandBuffer` can tell the time that it took on the GPU."""
        return self._has_timestamps

    @property
    def max_buffer_bytes(self) -> int:
        """The largest image, in bytes: the least of the limits maxBufferSize and
        maxStorageBufferBindingSize.  MPS: maxBufferLength.
        """
        return min(
            int(self._device.limits[name])
            for name in ("max-buffer-size", "max-storage-buffer-binding-size")
        )

    def close(self) -> None:
        """Gives the GPU back.  Whatever lives on it cannot be used afterwards; to use it is a
        `DeviceError`.
        """
        with self._lock:
            if not self._is_closed:
                self._is_closed = True
                self._device.destroy()

    def __repr__(self) -> str:
        return f"Device({self.name!r}, backend={self.backend!r})"

    def __reduce__(self) -> Any:
        raise TypeError("a Device does not travel: the GPU stays in its process")

    # ---- For the rest of the package --------------------------------------------------------

    def _check_open(self) -> None:
        if self._is_closed:
            raise DeviceError("device: closed; make a new Device and its images anew")

    def _check_size(self, size: int, what: str) -> None:
        """ValueError for a buffer that the adapter does not take, and which limit says so."""
        for name in ("max-storage-buffer-binding-size", "max-buffer-size"):
            limit = int(self._device.limits[name])
            if size > limit:
                raise ValueError(
                    f"{what}: expected at most {limit} bytes, the limit {name} of {self.name}, "
                    f"got {size}"
                )

    def _empty_buffer(self, size: int, what: str) -> Any:
        """A storage buffer of zeros of at least `size` bytes."""
        self._check_open()
        self._check_size(size, what)
        with errors():
            return self._device.create_buffer(
                label=what, size=max(16, -(-size // 16) * 16), usage="STORAGE|COPY_SRC|COPY_DST"
            )

    def _new_buffer(self, array: NDArray[Any], what: str) -> Any:
        """A storage buffer with the bytes of an array."""
        buffer = self._empty_buffer(array.nbytes, what)
        self._write(buffer, array)
        return buffer

    def _uniform(self, values: NDArray[np.uint32]) -> Any:
        data = np.zeros(-(-values.size // 4) * 4, np.uint32)
        data[: values.size] = values
        with errors():
            return self._device.create_buffer_with_data(data=data, usage="UNIFORM")

    def _write(self, buffer: Any, array: NDArray[Any]) -> None:
        self._check_open()
        if not array.size:
            return
        data = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        if data.size % 4:
            data = np.concatenate([data, np.zeros(-data.size % 4, np.uint8)])
        with errors():
            self._device.queue.write_buffer(buffer, 0, data)

    def _read(self, buffer: Any, size: int) -> NDArray[np.uint8]:
        self._check_open()
        if not size:
            return np.empty(0, np.uint8)
        with errors():
            data = self._device.queue.read_buffer(buffer, 0, -(-size // 4) * 4)
        return np.frombuffer(data, np.uint8)[:size]

    def _wait(self) -> None:
        """Until what was submitted is done: a read comes after it.  (on_submitted_work_done_sync of
        wgpu 0.32 raises TypeError.)
        """
        self._read(self._fence, 4)

    def _scratch_buffer(self, name: str, size: int) -> Any:
        """A buffer that calls use one after the other; what was in it is lost."""
        buffer = self._scratch.get(name)
        if buffer is None or buffer.size < size:
            self._check_size(size, f"what is prepared of the source ({name})")
            limit = self.max_buffer_bytes
            grown = min(1 << max(16, (size - 1).bit_length()), limit - limit % 16)
            buffer = self._empty_buffer(max(size, grown), name)
            self._scratch[name] = buffer
        return buffer

    def _pipeline(self, key: Hashable, text: Callable[[], str]) -> Any:
        """The compute pipeline of a shader, compiled when first asked for."""
        with self._lock:
            pipeline = self._pipelines.get(key)
            if pipeline is None:
                self._check_open()
                with errors():
                    module = self._device.create_shader_module(code=text())
                    pipeline = self._device.create_compute_pipeline(
                        layout="auto", compute={"module": module, "entry_point": "main"}
                    )
                self._pipelines[key] = pipeline
            return pipeline

    def _bind(self, pipeline: Any, buffers: dict[int, Any]) -> Any:
        with errors():
            return self._device.create_bind_group(
                layout=pipeline.get_bind_group_layout(0),
                entries=[
                    {
                        "binding": binding,
                        "resource": {"buffer": buffer, "offset": 0, "size": buffer.size},
                    }
                    for binding, buffer in buffers.items()
                ],
            )


def device_or_default(device: object) -> Device:
    """The device given, or the default one for None."""
    if device is None:
        return Device.default()
    if not isinstance(device, Device):
        raise TypeError(f"device: expected a Device or None, got {_checks.describe(device)}")
    return device


def adapters() -> list[dict[str, str]]:
    """Name, backend and type of every adapter of this machine."""
    with errors():
        found = wgpu.gpu.enumerate_adapters_sync()
    return [
        {
            "name": str(item.info["device"]),
            "backend": str(item.info["backend_type"]),
            "type": str(item.info["adapter_type"]),
        }
        for item in found
    ]


def _backend(backend: object) -> str | None:
    """The backend asked for, as wgpu spells it."""
    name, value = "backend", backend
    if value is None:
        name, value = _VARIABLE, os.environ.get(_VARIABLE, "").strip() or None
    if value is None:
        return None
    if not isinstance(value, str):
        raise TypeError(f"{name}: expected a str or None, got {_checks.describe(value)}")
    known = _BACKENDS.get(value.lower())
    if known is None:
        raise ValueError(f"{name}: expected one of {', '.join(_BACKENDS.values())}, got {value!r}")
    return known


# Better types of adapters come first; OpenGL only where there is nothing else or it is named.
_TYPES = ("DiscreteGPU", "IntegratedGPU", "VirtualGPU", "Unknown", "CPU")
_ORDER = ("Metal", "Vulkan", "D3D12", "OpenGL")


def _rank(adapter: Any) -> tuple[bool, int, int]:
    kind, backend = str(adapter.info["adapter_type"]), str(adapter.info["backend_type"])
    return (
        backend == "OpenGL",
        _TYPES.index(kind) if kind in _TYPES else len(_TYPES),
        _ORDER.index(backend) if backend in _ORDER else len(_ORDER),
    )


def _choose(backend: str | None, name: str | None) -> Any:
    with errors():
        found = wgpu.gpu.enumerate_adapters_sync()
    suitable = [
        adapter
        for adapter in found
        if (backend is None or adapter.info["backend_type"] == backend)
        and (name is None or name.lower() in str(adapter.info["device"]).lower())
    ]
    if suitable:
        return min(suitable, key=_rank)
    wanted = " ".join(
        part
        for part in (
            "a GPU",
            f"through {backend}" if backend else "",
            f"whose name contains {name!r}" if name else "",
        )
        if part
    )
    there = ", ".join(
        f"{adapter.info['device']} through {adapter.info['backend_type']}" for adapter in found
    )
    raise DeviceError(f"device: expected {wanted}, found {there or 'no adapter at all'}")
