"""What is built and shipped: versions that agree, and wheels and sdists with the right files."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import zipfile
from importlib.metadata import metadata, requires, version
from pathlib import Path

import pytest

import binconv

ROOT = Path(__file__).resolve().parent.parent
needs_checkout = pytest.mark.skipif(
    not ROOT.joinpath("setup.py").is_file(), reason="needs a checkout"
)


def read(name: str) -> str:
    return ROOT.joinpath(name).read_text(encoding="utf-8")


def project_version() -> str:
    (found,) = re.findall(r'^version = "(.*)"$', read("pyproject.toml"), re.M)
    return found


@needs_checkout
def test_versions_agree() -> None:
    header = read("csrc/include/binconv.h")
    numbers = [
        re.findall(rf"#define BC_VERSION_{part} (\d+)", header)[0]
        for part in ("MAJOR", "MINOR", "PATCH")
    ]
    assert ".".join(numbers) == project_version()
    assert version("binconv") == project_version()
    assert binconv.__version__ == project_version()
    released = re.findall(r"^## \[([\d.]+)\]", read("CHANGELOG.md"), re.M)
    assert not released or released[0] == project_version()


def test_runtime_requirements() -> None:
    needed = [line for line in requires("binconv") or [] if "extra ==" not in line]
    assert sorted(re.split(r"[<>=!~ ]", line)[0] for line in needed) == ["numpy", "safetensors"]


def test_metadata() -> None:
    assert metadata("binconv")["License-Expression"] == "Apache-2.0"
    assert metadata("binconv")["Requires-Python"] == ">=3.10"


def test_public_names_exist() -> None:
    assert sorted(set(binconv.__all__)) == sorted(binconv.__all__)
    for name in binconv.__all__:
        assert hasattr(binconv, name)


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist of this checkout, and the wheel that is built from that sdist."""
    pytest.importorskip("setuptools")
    pytest.importorskip("Cython")
    folder = tmp_path_factory.mktemp("dist")
    make_sdist = (
        "import sys; from setuptools import build_meta; build_meta.build_sdist(sys.argv[1])"
    )
    subprocess.run([sys.executable, "-c", make_sdist, str(folder)], cwd=ROOT, check=True)
    (sdist,) = folder.glob("*.tar.gz")
    wheel = ["pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder)]
    subprocess.run([sys.executable, "-m", *wheel, str(sdist)], check=True)
    return folder


@needs_checkout
def test_sdist(archives: Path) -> None:
    (path,) = archives.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    sources = {
        file.relative_to(ROOT).as_posix()
        for pattern in (
            "csrc/**/*.[ch]",
            "csrc/*.def",
            "csrc/CMakeLists.txt",
            "csrc/cmake/*",
            "examples/c/*",
            "binconv/**/*.p[yx]*",
            "tests/*.py",
            "tests/cython/*",
        )
        for file in ROOT.glob(pattern)
        if file.is_file() and not file.name.endswith(".pyc")
    }
    assert sources <= names
    assert {"setup.py", "pyproject.toml", "LICENSE", "README.md", "CHANGELOG.md"} <= names
    assert not [name for name in names if name.endswith((".so", ".o", ".pyc"))]


@needs_checkout
def test_wheel(archives: Path) -> None:
    """The package and its metadata, and nothing else."""
    (path,) = archives.glob("*.whl")
    with zipfile.ZipFile(path) as wheel:
        names = {name for name in wheel.namelist() if not name.endswith("/")}
    package = {name for name in names if name.startswith("binconv/")}
    metadata_folder = f"binconv-{project_version()}.dist-info/"
    assert all(name.startswith(metadata_folder) for name in names - package)

    compiled = {name for name in package if name.endswith((".so", ".pyd"))}
    assert {name.partition(".")[0] for name in compiled} == {
        "binconv/_core",
        "binconv/_kernels",
        "binconv/c_api",
    }
    left_out = (".pyx", ".pxd", ".pyc", ".so", ".pyd")
    shipped = {
        file.relative_to(ROOT).as_posix()
        for file in ROOT.glob("binconv/**/*")
        if file.is_file() and not file.name.endswith(left_out)
    }
    shipped |= {"binconv/c_api.pxd", "binconv/include/binconv.h"}
    assert package - compiled == shipped
