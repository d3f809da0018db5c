"""binconv.c_api from another Cython module: built beside no library, and run."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import binconv as bc

HERE = Path(__file__).resolve().parent
SETUP = """
import sys
from Cython.Build import cythonize
from setuptools import Extension, setup
import binconv

extension = Extension("caller", ["caller.pyx"], include_dirs=[binconv.get_include()])
# The last argument: Cython does not find the files of an editable install by itself.
setup(name="caller", ext_modules=cythonize([extension], include_path=[sys.argv.pop()]))
"""


@pytest.fixture(scope="module")
def caller(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    pytest.importorskip("Cython")
    pytest.importorskip("setuptools")
    if not shutil.which("cc"):
        pytest.skip("cc is not installed")
    folder = tmp_path_factory.mktemp("caller")
    shutil.copy(HERE / "cython" / "caller.pyx", folder)
    folder.joinpath("setup.py").write_text(SETUP, encoding="utf-8")
    packages = Path(bc.__file__).resolve().parent.parent
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path[1:])}
    result = subprocess.run(
        [sys.executable, "setup.py", "-q", "build_ext", "--inplace", str(packages)],
        cwd=folder,
        capture_output=True,
        env=environment,
    )
    assert result.returncode == 0, result.stdout.decode() + result.stderr.decode()
    (path,) = [file for file in folder.glob("caller.*") if file.suffix in (".so", ".pyd")]
    spec = importlib.util.spec_from_file_location("caller", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("threads", [1, 3])
def test_results_are_those_of_the_classes(caller: ModuleType, threads: int) -> None:
    rng = np.random.default_rng(0)
    source = rng.normal(size=(60, 50, 70)).astype(np.float32)
    weights = bc.pack_weights(rng.normal(size=(200, 3, 5, 70)))
    descriptor = bc.ConvolutionDescriptor(5, 3, 70, 200)
    conv = bc.BinaryConvolution(bc.ArrayDataSource(descriptor, weights))
    conv.edge_mode = bc.EdgeMode.EXCLUDE
    result = np.full((60, 50, 200), np.nan, np.float32)
    slices = caller.convolve(source, weights, result, threads)
    assert np.array_equal(result, conv(source))
    assert (slices > 1) == (threads > 1)  # one alone is not handed over


def test_the_kernels_are_the_same(caller: ModuleType) -> None:
    assert caller.isa() == bc.isa()
    assert caller.version() == bc.show_config("dicts")["Build"]["version"]


def test_errors_come_back(caller: ModuleType) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        caller.refused()


def declared(text: str, pattern: str) -> set[str]:
    return set(re.findall(pattern, text, re.M))


def test_every_function_and_number_is_declared() -> None:
    """What binconv.h has, c_api.pxd has too."""
    header = Path(bc.get_include(), "binconv.h").read_text(encoding="utf-8")
    pxd = Path(bc.__file__).with_name("c_api.pxd").read_text(encoding="utf-8")
    functions = declared(header, r"^BC_API [^(]*?\b(bc_\w+)\(")
    assert functions == declared(pxd, r"^cdef [^(]*?\b(bc_\w+)\(")
    numbers = declared(header, r"^ {4}(BC_[A-Z]\w*) = ")
    numbers |= declared(header, r"[{,] (BC_[A-Z]\w*) = ")
    assert numbers <= declared(pxd, r"^ {8}(BC_\w+)$")
