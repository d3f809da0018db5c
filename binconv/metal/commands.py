"""Command buffers: what is to run on a GPU, in order."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .. import _checks
from ._wgpu import errors
from .device import Device, device_or_default
from .errors import DeviceError

__all__ = ["CommandBuffer"]


class Dispatch(NamedTuple):
    """One run of a compute pipeline."""

    pipeline: Any
    bind_group: Any
    workgroups: tuple[int, int]


class CommandBuffer:
    """Commands for a device, which run when they are committed.  MPS: MTLCommandBuffer.

    device: None for the default device.
    timed: measure the time on the GPU, for `gpu_time`.

    Layers encode into it; what they encode runs in that order, each on the results of those before.
    Used by one thread at a time.
    """

    def __init__(self, device: Device | None = None, *, timed: bool = False) -> None:
        self._device = device_or_default(device)
        self._dispatches: list[Dispatch] = []
        self._is_committed = False
        self._times: Any = None
        if timed:
            if not self._device.has_timestamps:
                raise DeviceError(f"device: {self._device.name} cannot tell times")
            with errors():
                self._times = self._device._device.create_query_set(type="timestamp", count=2)
        self._device._check_open()

    @property
    def device(self) -> Device:
        """Where the commands run."""
        return self._device

    @property
    def is_committed(self) -> bool:
        """Whether `commit` was called; nothing can be encoded any more."""
        return self._is_committed

    def commit(self) -> None:
        """Hands the commands to the device and returns at once.  MPS: commit.

        Raises `DeviceError` where the device is lost, and ValueError for a second call.
        """
        self._check_open()
        device = self._device
        with device._lock, errors():
            self._is_committed = True
            device._check_open()
            encoder = device._device.create_command_encoder()
            options: dict[str, Any] = {}
            if self._times is not None:
                options["timestamp_writes"] = {
                    "query_set": self._times,
                    "beginning_of_pass_write_index": 0,
                    "end_of_pass_write_index": 1,
                }
            compute = encoder.begin_compute_pass(**options)
            for pipeline, bind_group, (x, y) in self._dispatches:
                compute.set_pipeline(pipeline)
                compute.set_bind_group(0, bind_group)
                compute.dispatch_workgroups(x, y)
            compute.end()
            if self._times is not None:
                self._time_buffer = device._device.create_buffer(
                    size=16, usage="QUERY_RESOLVE|COPY_SRC"
                )
                encoder.resolve_query_set(self._times, 0, 2, self._time_buffer, 0)
            device._device.queue.submit([encoder.finish()])
        self._dispatches.clear()

    def wait_until_completed(self) -> None:
        """Waits until the device has run the commands.  MPS: waitUntilCompleted.

        Raises ValueError before `commit`, and `DeviceError` where the device is lost.
        """
        if not self._is_committed:
            raise ValueError("command_buffer: expected one that is committed")
        with self._device._lock:
            self._device._wait()

    @property
    def gpu_time(self) -> float:
        """Seconds that the commands took on the GPU, for a timed command buffer that is committed;
        waits for them.  MPS: GPUEndTime - GPUStartTime.
        """
        if self._times is None or not self._is_committed:
            raise ValueError("command_buffer: expected one that is timed and committed")
        with self._device._lock:
            begin, end = self._device._read(self._time_buffer, 16).view(np.uint64)
        return (int(end) - int(begin)) * 1e-9  # wgpu counts in nanoseconds

    def _check_open(self) -> None:
        if self._is_committed:
            raise ValueError("command_buffer: expected one that is not committed yet")

    def _add(self, dispatches: list[Dispatch]) -> None:
        self._dispatches += dispatches


def check(command_buffer: object) -> CommandBuffer:
    """A command buffer that can still be encoded into."""
    if not isinstance(command_buffer, CommandBuffer):
        raise TypeError(
            f"command_buffer: expected a CommandBuffer, got {_checks.describe(command_buffer)}"
        )
    command_buffer._check_open()
    return command_buffer
