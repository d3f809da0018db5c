"""Measurements of parts: packing, dense weights, threads, the call itself, memory."""

from __future__ import annotations

import ctypes
import subprocess
import sys
import time
from typing import Any

import numpy as np

import binconv as bc
from binconv import _kernels
from binconv.bench.cases import (
    BITS,
    LAYERS,
    XNOR,
    LayerCase,
    Run,
    make_layer,
    prepare,
    random_layer,
)
from binconv.bench.timing import Rounds

CHANNELS = 256
PLACES = {"L2": 512 * 1024, "memory": 128 * 1024 * 1024}
"""Where the source of packing lies, and how many bytes of it."""

ONE_SIGN, BOTH_SIGNS = "scales above 0", "scales of both signs"

TINY = LayerCase("1×1 1²×64", 1, 64, 64, kernel=1)
DENSE = LAYERS[5]


def passes(source_bytes: int) -> int:
    """So many that what a call from Python takes, some 20 µs for packing, does not count."""
    return max(1, 512 * 1024 * 1024 // source_bytes)


def pack_and_read(source_bytes: int) -> dict[str, Run]:
    """Packing float32 with bias and scale, and reading the same bytes; the bare kernels.

    Channels whose scale is negative take more work.
    """
    isa = bc.isa()
    generator = np.random.default_rng(3)
    pixels = source_bytes // (4 * CHANNELS)
    source = generator.standard_normal((pixels, CHANNELS), dtype=np.float32)
    bias, scale = generator.standard_normal((2, CHANNELS), dtype=np.float32)
    one_sign, both_signs = (_kernels.InputThresholds(bias, s) for s in (abs(scale), scale))
    out = np.empty((pixels, CHANNELS // 64), np.uint64)
    repeat = passes(source_bytes)
    words = source.view(np.uint64)

    def pack(thresholds: _kernels.InputThresholds) -> Run:
        return lambda: _kernels.pack_f32(isa, source, thresholds=thresholds, out=out, repeat=repeat)

    return {
        ONE_SIGN: pack(one_sign),
        BOTH_SIGNS: pack(both_signs),
        "read": lambda: _kernels.read(isa, words, repeat=repeat),
    }


def packing(rounds: int) -> dict[str, dict[str, dict[str, float]]]:
    """Bytes of source a second, and the part of a plain read that this is."""
    found = {}
    for place, size in PLACES.items():
        timed = Rounds(pack_and_read(size), rounds)
        moved = size * passes(size)
        found[place] = {
            signs: {
                "pack": moved / timed.seconds(signs),
                "read": moved / timed.seconds("read"),
                "share": timed.times_faster(signs, than="read"),
            }
            for signs in (ONE_SIGN, BOTH_SIGNS)
        }
    return found


def dense_bandwidth(rounds: int) -> dict[str, float]:
    """A dense layer at batch 1 reads its weights once; against a plain read of as many bytes."""
    size = DENSE.channels * DENSE.outputs // 8
    words = np.random.default_rng(4).integers(0, 2**64, size // 8, np.uint64)
    isa = bc.isa()
    timed = Rounds(
        {"layer": prepare(DENSE, BITS), "read": lambda: _kernels.read(isa, words)}, rounds
    )
    return {
        "layer": size / timed.seconds("layer"),
        "read": size / timed.seconds("read"),
        "share": timed.times_faster("layer", than="read"),
    }


def fastest_call(run: Run, calls: int) -> float:
    """Seconds. Where other processes take a CPU, threads are now and then moved by a pause."""
    fastest = float("inf")
    for index in range(calls):
        if index % 10 == 0:
            time.sleep(0.001)
        start = time.perf_counter()
        run()
        fastest = min(fastest, time.perf_counter() - start)
    return fastest


def threads(rounds: int) -> dict[str, float]:
    """How many times faster 2 threads are than 1, by layer, at their fastest; leaves 1 set."""
    found = {}
    for case in (*LAYERS, TINY):
        run = prepare(case, XNOR)
        fastest = {}
        for count in (1, 2):
            bc.set_num_threads(count)
            fastest[count] = fastest_call(run, 20 * rounds)
        found[case.name] = fastest[1] / fastest[2]
    bc.set_num_threads(1)
    return found


def call_seconds(rounds: int) -> float:
    """One call that computes next to nothing, with out=."""
    return Rounds({"call": prepare(TINY, XNOR)}, rounds).seconds("call")


# ---- Memory ------------------------------------------------------------------------------------


class MallInfo(ctypes.Structure):
    """struct mallinfo2 of the GNU C library."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    )


def heap_bytes() -> int | None:
    """Bytes that this process holds from malloc, where the C library tells."""
    try:
        ask = ctypes.CDLL(None).mallinfo2
    except (AttributeError, OSError, TypeError):
        return None
    ask.restype = MallInfo
    found: Any = ask()
    return int(found.uordblks) + int(found.hblkhd)


def memory_of_first_call(case: LayerCase) -> int | None:
    """What the first call takes beyond source, result and weights, in a process that made none.

    Calls free nothing that they take, so what is held after one is the most that it took.
    """
    images, weights = random_layer(case)
    layer = make_layer(case, XNOR, weights)
    shape = (case.images, case.destination_size, case.destination_size, case.outputs)
    result = np.empty(shape, np.float32)
    before = heap_bytes()
    layer(images, out=result)
    after = heap_bytes()
    return None if before is None or after is None else after - before


def memory_bytes(case: LayerCase) -> int | None:
    """The same, measured in a process of its own, on one thread."""
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); import binconv, parts\n"
        "from binconv.bench.cases import LAYERS, ODD_LAYERS\n"
        "binconv.set_num_threads(1)\n"
        "(case,) = (case for case in LAYERS + ODD_LAYERS if case.name == sys.argv[2])\n"
        "print(parts.memory_of_first_call(case))"
    )
    command = [sys.executable, "-c", program, __file__.rpartition("/")[0] or ".", case.name]
    answer = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    return None if answer == "None" else int(answer)


# ---- In words ----------------------------------------------------------------------------------


def lines(found: dict[str, Any]) -> list[str]:
    """What was measured, in sentences."""
    said = [
        f"packing float32 with bias and scale, {signs}, source in {place}: "
        f"{speeds['pack'] / 1e9:.1f} GB/s, {speeds['share']:.0%} of a plain read"
        for place, by_signs in found["packing"].items()
        for signs, speeds in by_signs.items()
    ]
    dense = found["dense"]
    said.append(
        f"{DENSE.name}, bits: weights at {dense['layer'] / 1e9:.1f} GB/s, "
        f"{dense['share']:.0%} of a plain read"
    )
    ratios = ", ".join(f"{name} {ratio:.2f}×" for name, ratio in found["threads"].items())
    said.append(f"2 threads against 1, both at their fastest: {ratios}")
    said.append(f"a call, {TINY.name} with out=: {found['call_seconds'] * 1e6:.2f} µs")
    return said
