"""libbinconv as a C program gets it: built, installed, found by CMake and pkg-config, and run."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import binconv as bc

ROOT = Path(__file__).resolve().parent.parent
CLIB = ROOT / "tests" / "clib"
DATA = ROOT / "binconv" / "data"
NETWORK, HELD_OUT = DATA / "digits_network.safetensors", DATA / "digits_heldout.safetensors"

if not ROOT.joinpath("csrc", "CMakeLists.txt").is_file():
    pytest.skip("needs a checkout", allow_module_level=True)
for tool in ("cmake", "cc", "nm"):
    # Asked for more than its name: a version manager may keep a name without a program behind it.
    if (
        not shutil.which(tool)
        or subprocess.run([tool, "--version"], capture_output=True).returncode
    ):
        pytest.skip(f"{tool} is not installed", allow_module_level=True)


def run(*command: object, **options: object) -> subprocess.CompletedProcess[bytes]:
    """A command that must succeed; what it said is shown where it does not."""
    result = subprocess.run([str(part) for part in command], capture_output=True, **options)
    assert result.returncode == 0, f"{command}\n{result.stdout.decode()}{result.stderr.decode()}"
    return result


def cmake(source: Path, build: Path, **settings: object) -> None:
    run("cmake", "-S", source, "-B", build, *(f"-D{k}={v}" for k, v in settings.items()))
    run("cmake", "--build", build)


def header_version() -> str:
    header = ROOT.joinpath("csrc/include/binconv.h").read_text(encoding="utf-8")
    return ".".join(re.findall(r"^#define BC_VERSION_\w+ (\d+)$", header, re.M))


@pytest.fixture(scope="module")
def prefix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the library is installed: a folder other than the one that it was configured for."""
    folder = tmp_path_factory.mktemp("clib")
    cmake(ROOT / "csrc", folder / "build", BINCONV_TESTS="OFF", BINCONV_WERROR="ON")
    run("cmake", "--install", folder / "build", "--prefix", folder / "installed")
    return folder / "installed"


def library(prefix: Path, name: str) -> Path:
    (path,) = prefix.glob(f"lib*/**/{name}")
    return path


def symbols(*arguments: object) -> set[str]:
    """Names of the symbols that a library defines for others."""
    lines = run("nm", "--defined-only", *arguments).stdout.decode().splitlines()
    return {line.split()[2] for line in lines if len(line.split()) == 3}


# ---- The library --------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform != "linux", reason="reads ELF symbol tables")
def test_the_shared_library_exports_the_interface_alone(prefix: Path) -> None:
    header = ROOT.joinpath("csrc/include/binconv.h").read_text(encoding="utf-8")
    interface = set(re.findall(r"^BC_API [^(]*?\b(bc_\w+)\(", header, re.M))
    assert "bc_plan_run" in interface
    assert symbols("-D", library(prefix, "libbinconv.so")) == interface


def test_the_static_library_keeps_to_its_names(prefix: Path) -> None:
    mine = symbols("-g", library(prefix, "libbinconv.a"))
    assert "bc_plan_run" in {name.removeprefix("_") for name in mine}
    assert all(name.removeprefix("_").startswith("bc_") for name in mine)


# ---- Finding it ---------------------------------------------------------------------------------


@pytest.mark.parametrize("component", ["shared", "static"])
@pytest.mark.parametrize("language", ["C", "CXX"])
def test_cmake_package(prefix: Path, tmp_path: Path, language: str, component: str) -> None:
    if language == "CXX" and not shutil.which("c++"):
        pytest.skip("c++ is not installed")
    cmake(
        CLIB,
        tmp_path,
        CMAKE_PREFIX_PATH=prefix,
        LANGUAGE=language,
        COMPONENT=component,
        EXPECTED_VERSION=header_version(),
    )
    assert run(tmp_path / "consumer").stdout.split() == [b"-576"]


def test_cmake_package_without_the_component(prefix: Path, tmp_path: Path) -> None:
    """What is not installed is not found; the version that is wanted counts."""
    settings = ["-DLANGUAGE=C", f"-DEXPECTED_VERSION={header_version()}"]
    command = ["cmake", "-S", str(CLIB), "-B", str(tmp_path), f"-DCMAKE_PREFIX_PATH={prefix}"]
    result = subprocess.run([*command, *settings, "-DCOMPONENT=python"], capture_output=True)
    assert result.returncode != 0
    assert b"python" in result.stderr


@pytest.mark.parametrize("compiler", ["cc -std=c99", "c++ -std=c++11 -x c++"])
def test_pkg_config(prefix: Path, tmp_path: Path, compiler: str) -> None:
    for tool in ("pkg-config", compiler.split()[0]):
        if not shutil.which(tool):
            pytest.skip(f"{tool} is not installed")
    folder = library(prefix, "binconv.pc").parent
    environment = {**os.environ, "PKG_CONFIG_PATH": str(folder)}

    def ask(*options: str) -> list[str]:
        answer = run("pkg-config", *options, "binconv", env=environment)
        return answer.stdout.decode().split()

    assert ask("--modversion") == [header_version()]
    source = [*compiler.split(), "-Wall", "-Wextra", "-Wpedantic", "-Werror", CLIB / "consumer.c"]
    rpath = f"-Wl,-rpath,{folder.parent}"
    run(*source, "-x", "none", "-o", tmp_path / "shared", *ask("--cflags", "--libs"), rpath)
    assert run(tmp_path / "shared").stdout.split() == [b"-576"]

    # The static library in place of the shared one, with what --static adds.
    libraries = [
        str(folder.parent / "libbinconv.a") if part == "-lbinconv" else part
        for part in ask("--static", "--cflags", "--libs")
    ]
    run(*source, "-x", "none", "-o", tmp_path / "static", *libraries)
    assert run(tmp_path / "static").stdout.split() == [b"-576"]


# ---- The example --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def classify(prefix: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("example")
    cmake(ROOT / "examples" / "c", folder, CMAKE_PREFIX_PATH=prefix)
    return folder / "classify"


def test_the_example_predicts_what_python_does(classify: Path) -> None:
    from binconv.demo import digits

    held_out = digits.load_digits(HELD_OUT)
    scores = bc.Sequential.load(NETWORK)(held_out.grey)
    expected = scores.reshape(len(held_out.labels), -1).argmax(axis=1)
    *rows, accuracy = run(classify, NETWORK, HELD_OUT).stdout.decode().splitlines()
    assert [int(word) for row in rows for word in row.split()] == expected.tolist()
    right = int((expected == held_out.labels).sum())
    assert accuracy.startswith(f"accuracy {right} of {len(expected)} right, ")


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="knows the inside of glibc")
def test_running_allocates_nothing(classify: Path, tmp_path: Path) -> None:
    """As many allocations for three runs over all digits as for one; loading makes them all."""
    counter = tmp_path / "count.so"
    run("cc", "-std=c11", "-shared", "-fPIC", "-o", counter, CLIB / "count_allocations.c")

    def allocations(runs: int) -> int:
        counted = tmp_path / f"{runs}"
        environment = {**os.environ, "LD_PRELOAD": str(counter), "ALLOCATIONS": str(counted)}
        run(classify, NETWORK, HELD_OUT, runs, env=environment)
        return int(counted.read_text())

    loading, once, thrice = (allocations(runs) for runs in (0, 1, 3))
    assert loading > 10, "the counter does not count"
    assert once == thrice
    assert once <= loading + 1  # the buffer of standard output


# ---- Networks of every kind, and hostile files, under sanitizers ---------------------------------


@pytest.fixture(scope="module")
def sanitized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the library and the programs, built with sanitizers."""
    folder = tmp_path_factory.mktemp("sanitized")
    probe = folder / "probe.c"
    probe.write_text("int main(void) { return 0; }\n", encoding="ascii")
    flags = ["-fsanitize=address,undefined", "-o", folder / "probe"]
    if subprocess.run(["cc", *flags, probe], capture_output=True).returncode:
        pytest.skip("the C compiler has no sanitizers")
    cmake(CLIB / "sanitized", folder, ROOT=ROOT)
    return folder


@pytest.fixture(scope="module")
def run_network(sanitized: Path) -> Path:
    return sanitized / "run_network"


def sanitized_run(
    run_network: Path, network: Path, image: np.ndarray
) -> subprocess.CompletedProcess[bytes]:
    """The result of the program, which no sanitizer has stopped."""
    options = {"ASAN_OPTIONS": "allocator_may_return_null=1", "UBSAN_OPTIONS": "halt_on_error=1"}
    height, width = image.shape[:2]
    result = subprocess.run(
        [run_network, network, str(height), str(width)],
        input=image.tobytes(),
        capture_output=True,
        env={**os.environ, **options},
        timeout=60,
    )
    assert result.returncode in (0, 1), result.stderr.decode(errors="replace")
    return result


def test_the_example_is_clean(sanitized: Path, classify: Path, tmp_path: Path) -> None:
    checked = sanitized / "example" / "classify"
    assert run(checked, NETWORK, HELD_OUT).stdout == run(classify, NETWORK, HELD_OUT).stdout
    for wrong in ([NETWORK, NETWORK], [HELD_OUT, HELD_OUT], [tmp_path, HELD_OUT], [NETWORK]):
        result = subprocess.run([checked, *wrong], capture_output=True)
        assert result.returncode in (1, 2)
        assert result.stderr.count(b"\n") == 1, result.stderr.decode()


def random_layers(rng: np.random.Generator) -> Iterator[bc.BinaryConvolution]:
    """Layers that together use every part of the format that the example reads."""

    def terms(count: int) -> np.ndarray:
        return rng.normal(size=count).astype(np.float32)

    def layer(
        descriptor: bc.ConvolutionDescriptor, kind: type = bc.BinaryConvolution, **arguments: object
    ) -> bc.BinaryConvolution:
        weights = rng.normal(
            size=(*descriptor.weights_shape[:3], descriptor.input_channels_per_group)
        )
        bias = terms(descriptor.output_feature_channels)
        return kind(bc.ArrayDataSource(descriptor, weights, bias), **arguments)

    first = layer(
        bc.ConvolutionDescriptor(
            3, 2, 3, 24, stride_in_pixels_x=2, neuron=bc.NeuronDescriptor(bc.NeuronType.RELU, a=0.1)
        ),
        type=bc.BinaryConvolutionType.BINARY_WEIGHTS,
        scale_value=0.25,
    )
    first.edge_mode = bc.EdgeMode.MIRROR
    first.padding = bc.Padding.explicit(2, 1, 0, 1)
    first.label = 'a "label" \\ \N{GREEK SMALL LETTER ALPHA}'
    yield first
    second = layer(
        bc.ConvolutionDescriptor(
            3,
            3,
            24,
            48,
            dilation_rate_x=2,
            groups=3,
            neuron=bc.NeuronDescriptor(bc.NeuronType.PRELU, a=terms(48)),
            batch_normalization=bc.BatchNormalization(
                rng.normal(size=48), rng.random(48) + 0.5, rng.normal(size=48), rng.normal(size=48)
            ),
        ),
        input_bias_terms=terms(24),
    )
    second.edge_mode = bc.EdgeMode.CONSTANT
    second.edge_constant = -0.5
    yield second
    yield layer(
        bc.SubPixelConvolutionDescriptor(1, 1, 48, 80, subpixel_scale_factor=2),
        type=bc.BinaryConvolutionType.AND,
        output_scale_terms=terms(80),
        output_bias_terms=terms(80),
    )
    yield layer(
        bc.DepthWiseConvolutionDescriptor(3, 3, 20, channel_multiplier=2),
        flags=bc.BinaryConvolutionFlags.USE_BETA_SCALING,
    )
    yield layer(
        bc.ConvolutionDescriptor(
            8, 10, 40, 7, neuron=bc.NeuronDescriptor(bc.NeuronType.TANH, 1, 1)
        ),
        bc.BinaryFullyConnected,
        input_scale_terms=terms(40),
    )


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("network") / "network.safetensors"
    bc.Sequential(*random_layers(np.random.default_rng(1))).save(path)
    return path


IMAGE = np.random.default_rng(2).normal(size=(3, 8, 3)).astype(np.float32)


def test_networks_give_pythons_bits(run_network: Path, saved: Path) -> None:
    network = bc.Sequential.load(saved)
    for count in range(1, len(network) + 1):
        part = saved.with_name(f"{count}.safetensors")
        network[:count].save(part)
        expected = network[:count](IMAGE)
        result = sanitized_run(run_network, part, IMAGE)
        assert result.returncode == 0, result.stderr.decode()
        assert np.array_equal(np.frombuffer(result.stdout, np.float32), expected.ravel()), (
            f"{count} layers"
        )


def damaged(data: bytes) -> Iterator[bytes]:
    """Files that are cut, lie about sizes, or have other bytes in their header."""
    end = 8 + int.from_bytes(data[:8], "little")
    for length in (0, 7, 8, 9, end - 1, end, end + 1, len(data) - 1):
        yield data[:length]
    yield data + b"\0"
    for length in (0, 1, end - 9, end - 7, 2**31, 2**63, 2**64 - 1):
        yield length.to_bytes(8, "little") + data[8:]
    header = data[8:end]
    swaps = [
        (rb'"shape":\[48,', b'"shape":[49,'),
        (rb'"shape":\[48,', b'"shape":[4800000000000000000,'),
        (rb'"data_offsets":\[0,', b'"data_offsets":[1,'),
        (rb'"data_offsets":\[0,', b'"data_offsets":[-1,'),
        (rb'"dtype":"U32"', b'"dtype":"F32"'),
        (rb'\\"groups\\": 3', b'\\\\"groups\\\\": 0'),
        (rb'\\"kernel_width\\": 3', b'\\\\"kernel_width\\\\": 2147483647'),
        (rb'\\"stride_in_pixels_x\\": 2', b'\\\\"stride_in_pixels_x\\\\": 0'),
        (rb'\\"subpixel_scale_factor\\": 2', b'\\\\"subpixel_scale_factor\\\\": 65536'),
        (rb'\\"explicit\\": \[2', b'\\\\"explicit\\\\": [9223372036854775807'),
        (rb'\\"explicit\\": \[2', b'\\\\"explicit\\\\": [-9223372036854775807'),
        (rb'\\"edge_mode\\": 2', b'\\\\"edge_mode\\\\": 7'),
        (rb'\\"type\\": 10', b'\\\\"type\\\\": 3'),
        (rb'\\"prefix\\": \\"1', b'\\\\"prefix\\\\": \\\\"0'),
        (rb'"layers":"', b'"layers":"' + b"[" * 1000),
        (rb"\{", b'{"a":' * 1000 + b"{"),
    ]
    for old, new in swaps:
        changed, count = re.subn(old, new, header, count=1)
        assert count == 1, old
        yield len(changed).to_bytes(8, "little") + changed + data[end:]
    rng = np.random.default_rng(3)
    for _ in range(300):
        changed_bytes = bytearray(data)
        for place in rng.integers(8, end, rng.integers(1, 4)):
            changed_bytes[place] = rng.choice(list(b'"[]{},:0919-.eE\\u \x00\xff'))
        yield bytes(changed_bytes)


def test_hostile_files_are_errors(run_network: Path, saved: Path, tmp_path: Path) -> None:
    """An error or, where what was damaged does not matter, a result; never a crash."""
    path = tmp_path / "damaged.safetensors"
    failures = 0
    for data in damaged(saved.read_bytes()):
        path.write_bytes(data)
        result = sanitized_run(run_network, path, IMAGE)
        assert result.returncode == 0 or result.stderr.strip()
        failures += result.returncode
    assert failures > 100
