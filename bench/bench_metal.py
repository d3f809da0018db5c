"""Prints how fast binary convolutions run on a GPU, and how much of its popcount limit that is.

    python bench/bench_metal.py [--backend Vulkan] [--adapter NAME] [--runs 20] [--tiles]
                                [--multiprocessors 132 --clock 1980] [--json FILE]

Needs NumPy and `pip install binconv[metal]`, that is the wheels of binconv, safetensors, wgpu and
its requirements cffi, pycparser and rendercanvas.  With PyTorch for CUDA beside them, the same
convolution in float16 is measured too, on the same GPU.

Results are compared with those of the CPU before anything is timed.  Times are those that the GPU's
own clock says, over command buffers of many runs; an operation is a multiplication or an addition.
The limit: an NVIDIA multiprocessor counts the bits of 16 words of 32 bits in a clock, which is
16 * 32 multiply-adds.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from statistics import median
from typing import Any, NamedTuple

import numpy as np

import binconv as bc
import binconv.metal as bm
from binconv.metal import _variant

# Multiprocessors and boost clock in MHz, where nvidia-smi or PyTorch do not say.
GPUS = {"H200": (132, 1980), "H100": (132, 1980), "A100": (108, 1410), "L4": (58, 2040)}
WARM_UP_SECONDS = 0.3
ROUNDS = 7


class Case(NamedTuple):
    """A 3 x 3 convolution of a batch, same size."""

    images: int
    size: int
    inputs: int
    outputs: int

    @property
    def name(self) -> str:
        return f"{self.images} x {self.size}²x{self.inputs}→{self.outputs}"

    @property
    def operations(self) -> int:
        return 2 * self.images * self.size**2 * self.inputs * self.outputs * 9


CASES: tuple[Case, ...] = (Case(64, 28, 128, 128), Case(64, 14, 256, 256))


def make_layer(case: Case, type_: bc.BinaryConvolutionType) -> bc.BinaryConvolution:
    rng = np.random.default_rng(1)
    descriptor = bc.ConvolutionDescriptor(
        kernel_width=3,
        kernel_height=3,
        input_feature_channels=case.inputs,
        output_feature_channels=case.outputs,
    )
    weights = rng.integers(0, 2, (case.outputs, 3, 3, case.inputs)).astype(bool)
    scale = rng.normal(size=case.outputs).astype(np.float32) * 0.05
    return bc.BinaryConvolution(
        bc.ArrayDataSource(descriptor, weights),
        output_scale_terms=scale,
        output_bias_terms=rng.normal(size=case.outputs).astype(np.float32),
        type=type_,
    )


def make_source(case: Case, form: str) -> np.ndarray | bc.PackedImage:
    rng = np.random.default_rng(2)
    pixels = rng.normal(size=(case.images, case.size, case.size, case.inputs)).astype(np.float32)
    if form == "bits":
        return bc.pack(pixels)
    return pixels.astype(form)


def encode(layer: bm.BinaryConvolution, source: bm.Image, result: bm.Image, runs: int) -> Any:
    commands = bm.CommandBuffer(layer.device, timed=layer.device.has_timestamps)
    for _ in range(runs):
        layer.encode(commands, source, result)
    return commands


def seconds(layer: bm.BinaryConvolution, source: bm.Image, result: bm.Image, runs: int) -> float:
    """Of one run: the median over rounds, on the GPU's clock, or the CPU's where it has none."""
    deadline = time.perf_counter() + WARM_UP_SECONDS
    while True:
        commands = encode(layer, source, result, runs)
        commands.commit()
        commands.wait_until_completed()
        if time.perf_counter() > deadline:
            break
    samples = []
    for _ in range(ROUNDS):
        commands = encode(layer, source, result, runs)
        start = time.perf_counter()
        commands.commit()
        commands.wait_until_completed()
        elapsed = time.perf_counter() - start
        samples.append((commands.gpu_time if layer.device.has_timestamps else elapsed) / runs)
    return median(samples)


def check(cpu: bc.BinaryConvolution, source: np.ndarray | bc.PackedImage, result: bm.Image) -> None:
    """The first and the last image, against the CPU: all bits where sums are whole numbers."""
    actual = result.numpy()
    for n in (0, -1):
        if isinstance(source, bc.PackedImage):
            part: Any = bc.PackedImage(source.words[n:][:1], source.channels)
        else:
            part = source[n:][:1]
        if isinstance(actual, bc.PackedImage):
            same = np.array_equal(cpu(part, packed=True).words, actual.words[n:][:1])
        elif cpu.type == bc.BinaryConvolutionType.BINARY_WEIGHTS:
            same = np.allclose(cpu(part, dtype=actual.dtype), actual[n:][:1], rtol=1e-3, atol=1e-2)
        else:
            same = np.array_equal(cpu(part, dtype=actual.dtype), actual[n:][:1])
        if not same:
            sys.exit(f"WRONG RESULT: {cpu!r}, {result!r}, image {n}")


def limit(arguments: argparse.Namespace, device: bm.Device) -> tuple[float, str]:
    """Operations a second if every clock counted the bits of 16 words, and where that is from."""
    known = next((GPUS[name] for name in GPUS if name in device.name), (0, 0))
    processors = arguments.multiprocessors or known[0]
    clock = arguments.clock or _clock() or known[1]
    operations = 2.0 * 32 * 16 * processors * clock * 1e6
    return operations, f"{processors} multiprocessors at {clock} MHz"


def _clock() -> int:
    """The highest clock of the first NVIDIA GPU in MHz, 0 where nobody says."""
    if shutil.which("nvidia-smi") is None:
        return 0
    command = ["nvidia-smi", "--query-gpu=clocks.max.sm", "--format=csv,noheader,nounits"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    first = answer.split("\n")[0].strip()
    return int(first) if first.isdigit() else 0


def torch_seconds(case: Case, runs: int) -> float | None:
    """The same convolution in float16 through PyTorch, channels last, on CUDA; None without."""
    try:
        import torch
    except ImportError:
        return None
    if not torch.cuda.is_available():
        return None
    torch.backends.cudnn.benchmark = True
    shape = (case.images, case.inputs, case.size, case.size)
    source = torch.randn(shape, device="cuda", dtype=torch.float16)
    source = source.to(memory_format=torch.channels_last)
    weight = torch.randn((case.outputs, case.inputs, 3, 3), device="cuda", dtype=torch.float16)
    weight = weight.to(memory_format=torch.channels_last)
    samples = []
    with torch.no_grad():
        for round_ in range(ROUNDS + 3):
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            for _ in range(runs):
                torch.nn.functional.conv2d(source, weight, padding=1)
            end.record()
            end.synchronize()
            if round_ >= 3:
                samples.append(begin.elapsed_time(end) * 1e-3 / runs)
    return float(median(samples))


def row(*cells: str) -> None:
    widths = (22, 15, 20, 10, 9, 9)
    print(
        " | ".join(f"{cell:{width}}" for cell, width in zip(cells, widths, strict=True)), flush=True
    )


def measure(
    arguments: argparse.Namespace, device: bm.Device, most: float, results: list[dict[str, Any]]
) -> None:
    row("batch, source→result", "type", "source → result", "ms", "TOP/s", "of limit")
    types = bc.BinaryConvolutionType
    for case in CASES:
        for type_, source_form, result_form in (
            (types.XNOR, "bits", "bits"),
            (types.XNOR, "bits", "float32"),
            (types.XNOR, "float16", "float16"),
            (types.XNOR, "float32", "float32"),
            (types.AND, "bits", "bits"),
            (types.BINARY_WEIGHTS, "float32", "float32"),
        ):
            cpu = make_layer(case, type_)
            source = make_source(case, source_form)
            layer = bm.BinaryConvolution.from_cpu(cpu, device)
            image = bm.Image(source, device)
            shape = (case.images, case.size, case.size, case.outputs)
            result = bm.Image.empty(shape, result_form, device)  # type: ignore[arg-type]
            encode(layer, image, result, 1).commit()
            check(cpu, source, result)
            taken = seconds(layer, image, result, arguments.runs)
            speed = case.operations / taken
            share = f"{speed / most:6.1%}" if most else "?"
            row(
                case.name,
                type_.name,
                f"{source_form} → {result_form}",
                f"{taken * 1e3:.4f}",
                f"{speed * 1e-12:.2f}",
                share,
            )
            results.append(
                {
                    "case": case.name,
                    "type": type_.name,
                    "source": source_form,
                    "result": result_form,
                    "seconds": taken,
                    "operations_per_second": speed,
                }
            )
        taken_torch = torch_seconds(case, arguments.runs)
        if taken_torch is not None:
            speed = case.operations / taken_torch
            row(
                case.name,
                "PyTorch",
                "float16 → float16",
                f"{taken_torch * 1e3:.4f}",
                f"{speed * 1e-12:.2f}",
                "",
            )
            results.append({"case": case.name, "type": "PyTorch", "seconds": taken_torch})


TILES = tuple(
    _variant.Tile(*sizes)
    for sizes in (
        (16, 8, 8, 4),
        (16, 8, 4, 4),
        (16, 16, 4, 4),
        (16, 16, 8, 4),
        (8, 16, 4, 8),
        (8, 8, 8, 8),
        (16, 8, 8, 8),
        (16, 4, 8, 4),
    )
)


def compare_tiles(arguments: argparse.Namespace, device: bm.Device, most: float) -> None:
    """The inner loop alone, bits to bits, for other shares of work."""
    for case in CASES:
        cpu = make_layer(case, bc.BinaryConvolutionType.XNOR)
        source = make_source(case, "bits")
        image = bm.Image(source, device)
        shape = (case.images, case.size, case.size, case.outputs)
        for tile in TILES:
            _variant.LARGE = tile
            layer = bm.BinaryConvolution.from_cpu(cpu, device)
            result = bm.Image.empty(shape, "bits", device)
            encode(layer, image, result, 1).commit()
            check(cpu, source, result)
            speed = case.operations / seconds(layer, image, result, arguments.runs)
            share = f"{speed / most:6.1%}" if most else "?"
            print(f"{case.name} {tile}: {speed * 1e-12:.2f} TOP/s {share}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--backend")
    parser.add_argument("--adapter")
    parser.add_argument("--runs", type=int, default=20, help="runs in a command buffer")
    parser.add_argument("--images", type=int, help="another batch than 64, for slow adapters")
    parser.add_argument("--multiprocessors", type=int)
    parser.add_argument("--clock", type=int, help="MHz")
    parser.add_argument("--tiles", action="store_true", help="compare sizes of tiles as well")
    parser.add_argument("--json", help="write the figures to this file")
    arguments = parser.parse_args()
    if arguments.images:
        global CASES
        CASES = tuple(case._replace(images=arguments.images) for case in CASES)
    device = bm.Device(arguments.backend, arguments.adapter)
    most, basis = limit(arguments, device)
    print(f"binconv {bc.__version__}, wgpu {bm._wgpu.wgpu.__version__}: {device!r}")
    if most:
        print(f"popcount limit {most * 1e-12:.1f} TOP/s: {basis}")
    if not device.has_timestamps:
        print("this adapter tells no times: what follows is time on the CPU's clock")
    results: list[dict[str, Any]] = []
    measure(arguments, device, most, results)
    if arguments.tiles:
        compare_tiles(arguments, device, most)
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump({"device": repr(device), "limit": most, "results": results}, file, indent=2)


if __name__ == "__main__":
    main()
