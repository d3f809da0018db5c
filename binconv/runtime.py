"""What this build and this machine are, and how many threads are used."""

from __future__ import annotations

import json
import os
import platform
import sys
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np

from . import _checks, _core

__all__ = [
    "cpu_features",
    "get_include",
    "get_num_threads",
    "isa",
    "set_num_threads",
    "show_config",
]

_VARIABLE = "BINCONV_NUM_THREADS"
# More than any machine has that this is for.
_MAX_THREADS = 1024
# More than this only wait for each other.
_MAX_THREADS_PER_CPU = 4


def isa() -> str:
    """The instruction set whose kernels run: the best that this machine has, or at most the one
    that the environment variable BINCONV_ISA names.  MPS has nothing like it.
    """
    return _core.isa()


def cpu_features() -> dict[str, bool]:
    """The CPU features that kernels look at, and whether this machine has them.  Not in MPS."""
    return _core.cpu_features()


def set_num_threads(n: int) -> None:
    """Lets each call use up to n threads, 1 to 1024, in the whole process.

    More than four for each CPU that the process may run on count as four.  A call uses fewer where
    its work does not pay for them.  Results are the same bits for every number of threads.  Raises
    TypeError or ValueError for what is no such integer.  Not in MPS.

    Calls do without threads that the system refuses, and do not wait for any to begin, whose
    processor may be busy with something else.
    """
    count = _checks.integer(n, "n", 1, _MAX_THREADS)
    _core.set_num_threads(min(count, _MAX_THREADS_PER_CPU * _cpus()))


def get_num_threads() -> int:
    """How many threads a call may use: by default the CPUs that this process may run on, or what
    the environment variable BINCONV_NUM_THREADS says, at most four for each CPU as in
    `set_num_threads`.  Not in MPS.
    """
    return _core.get_num_threads()


def get_include() -> str:
    """The folder of `binconv.h`, for extension modules that call the C interface.  Not in MPS.

    Cython modules need it among their include folders to `cimport binconv.c_api`, and no library;
    see docs/c-api.md.
    """
    package = Path(__file__).resolve().parent
    installed = package / "include"
    return str(installed if installed.is_dir() else package.parent / "csrc" / "include")


@overload
def show_config(mode: Literal["stdout"] = "stdout") -> None: ...
@overload
def show_config(mode: Literal["dicts"]) -> dict[str, Any]: ...


def show_config(mode: Literal["stdout", "dicts"] = "stdout") -> dict[str, Any] | None:
    """Prints the build, the CPU features, the kernels and the threads in use.  Not in MPS.

    mode: "stdout" prints them as JSON, "dicts" returns them.  ValueError for another.
    """
    if mode not in ("stdout", "dicts"):
        raise ValueError(f"mode: expected 'stdout' or 'dicts', got {_checks.describe(mode)}")
    features = _core.cpu_features()
    config = {
        "Build": _core.build_info(),
        "Python": {"version": platform.python_version(), "numpy": np.__version__},
        "Machine": {
            "architecture": platform.machine(),
            "features found": [name for name, present in features.items() if present],
            "features not found": [name for name, present in features.items() if not present],
        },
        "Kernels": {"isa": _core.isa(), "available": list(_core.isas())},
        "Threads": _core.get_num_threads(),
    }
    if mode == "dicts":
        return config
    print(json.dumps(config, indent=2))
    return None


def _cpus() -> int:
    """How many CPUs this process may run on, where the system tells; else all of them."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _threads_from_environment() -> None:
    text = os.environ.get(_VARIABLE, "").strip()
    if not text:
        return
    try:
        set_num_threads(int(text))
    except ValueError:
        raise ValueError(
            f"{_VARIABLE}: expected an integer from 1 to {_MAX_THREADS}, got {text!r}"
        ) from None


def check_environment() -> None:
    """Does what the environment says; ValueError where that makes no sense."""
    _core.isa()
    _threads_from_environment()


_core.set_num_threads(_cpus())

# A wrong environment is an error at import, not in the first call.  The command line, though, says
# itself what is wrong, and can do so only after this import: until Python has found the module that
# follows -m, it leaves "-m" in the name's place.
try:
    check_environment()
except ValueError:
    if sys.argv[:1] != ["-m"]:
        raise
