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
DOCUMENT = HERE.parent / "docs" / "c-api.md"
SETUP = """
import sys
from Cython.Build import cythonize
from setuptools import Extension, setup
import binconv

# Cython does not find the files of an editable install by itself.
packages, name = sys.argv.pop(), sys.argv.pop()
extension = Extension(name, [name + ".pyx"], include_dirs=[binconv.get_include()])
setup(name=name, ext_modules=cythonize([extension], include_path=[packages]))
"""


def build(folder: Path, name: str, source: str) -> ModuleType:
    """The module that Cython, a C compiler and nothing else make of a .pyx file."""
    pytest.importorskip("Cython")
    pytest.importorskip("setuptools")
    if not shutil.which("cc"):
        pytest.skip("cc is not installed")
    folder.joinpath(f"{name}.pyx").write_text(source, encoding="utf-8")
    folder.joinpath("setup.py").write_text(SETUP, encoding="utf-8")
    packages = Path(bc.__file__).resolve().parent.parent
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path[1:])}
    result = subprocess.run(
        [sys.executable, "setup.py", "-q", "build_ext", "--inplace", name, str(packages)],
        cwd=folder,
        capture_output=True,
        env=environment,
    )
    assert result.returncode == 0, result.stdout.decode() + result.stderr.decode()
    (path,) = [file for file in folder.glob(f"{name}.*") if file.suffix in (".so", ".pyd")]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def caller(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    source = HERE.joinpath("cython", "caller.pyx").read_text(encoding="utf-8")
    return build(tmp_path_factory.mktemp("caller"), "caller", source)


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


@pytest.mark.skipif(not DOCUMENT.is_file(), reason="needs a checkout")
def test_the_documented_module(tmp_path: Path) -> None:
    (source,) = re.findall(r"^```cython\n(.*?)^```", DOCUMENT.read_text("utf-8"), re.M | re.S)
    signs = build(tmp_path, "signs", source)
    pixels = np.random.default_rng(0).normal(size=(5, 70)).astype(np.float32)
    words = np.zeros((5, 2), np.uint64)
    signs.pack_signs(pixels, words)
    assert np.array_equal(words, bc.pack(pixels[None]).words[0, 0])
    with pytest.raises(ValueError, match="words"):
        signs.pack_signs(pixels, words[:, :1].copy())


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
