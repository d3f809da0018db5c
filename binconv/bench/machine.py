"""What a figure needs beside it: the processor, the compiler, the versions."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

import binconv as bc
from binconv.bench.timing import clock_hertz


def cpu_name() -> str:
    """As Linux names it, with family and model, which tell apart what names do not."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    pairs = (line.partition(":") for line in reversed(lines))
    first = {key.strip(): value.strip() for key, _, value in pairs}
    if "model name" not in first:
        return platform.machine()
    return f"{first['model name']} (family {first['cpu family']}, model {first['model']})"


def installed(package: str) -> str | None:
    """The version of a distribution, or None."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def describe(packages: Iterable[str] = ()) -> str:
    """One line for all that was measured on, with versions of the `packages` that are there."""
    parts = [cpu_name()]
    hertz = clock_hertz()
    if hertz:
        parts.append(f"{hertz / 1e9:.2f} GHz")
    parts += [
        bc.isa(),
        f"binconv {bc.__version__}",
        f"Python {platform.python_version()}",
        f"NumPy {np.__version__}",
    ]
    parts += [f"{name} {found}" for name in packages if (found := installed(name))]
    return ", ".join(parts)
