"""What a released wheel must be; run where wheels are built, with BINCONV_RELEASE_WHEEL=1."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import binconv

if os.environ.get("BINCONV_RELEASE_WHEEL") != "1":
    pytest.skip("BINCONV_RELEASE_WHEEL is not 1", allow_module_level=True)

HERE = Path(__file__).resolve().parent
PACKAGE = Path(binconv.__file__).resolve().parent
# Where the processor has all these features, the instruction set must be there.
KERNELS = {"avx2": {"avx2", "f16c", "fma", "popcnt"}, "neon": {"neon"}}


def test_it_is_the_installed_package_that_is_tested() -> None:
    assert HERE.parent not in PACKAGE.parents
    assert PACKAGE.parent.name == "site-packages"


def test_it_is_multi_threaded() -> None:
    assert binconv.show_config("dicts")["Build"]["threading"] == "pool"


def test_it_has_kernels_for_this_machine() -> None:
    found = {name for name, present in binconv.cpu_features().items() if present}
    available = binconv.show_config("dicts")["Kernels"]["available"]
    for isa, features in KERNELS.items():
        assert isa in available or not features <= found


def test_it_has_what_other_packages_compile_with() -> None:
    assert Path(binconv.get_include(), "binconv.h").is_file()
    assert Path(binconv.get_include()).parent == PACKAGE
    assert PACKAGE.joinpath("c_api.pxd").is_file()
