"""Prints how fast layers run here, beside the float32 convolutions of other libraries.

    python bench/compare.py [--rounds 15] [--json FILE]

One image at a time, float32 in and out, one thread. GMAC/s counts the multiply-adds that the layer
stands for, whatever a library does to get its result.
"""

from __future__ import annotations

import argparse
import json
import platform
from pathlib import Path

from cases import LAYERS, LayerCase
from contenders import CONTENDERS, installed
from timing import Rounds

import binconv as bc

OURS = "binconv"


def cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def available() -> list[str]:
    """Names of the contenders that are installed; says which are not."""
    names = []
    for name, (package, _) in CONTENDERS.items():
        if installed(package):
            names.append(name)
        else:
            print(f"{name}: left out, {package} is not installed")
    return names


def measure(case: LayerCase, names: list[str], rounds: int) -> Rounds:
    return Rounds({name: CONTENDERS[name][1](case) for name in names}, rounds)


def print_row(case: LayerCase, timed: Rounds) -> None:
    cells = []
    for name in timed.samples:
        seconds = timed.seconds(name)
        text = f"{seconds * 1e3:8.3f} ms {case.macs / seconds / 1e9:7.0f} GMAC/s"
        if name != OURS:
            text += f" {timed.times_faster(OURS, than=name):6.1f}x"
        cells.append(text)
    print(f"{case.name:15}", *cells, sep=" | ", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=15, help="how often each is timed (15)")
    parser.add_argument("--json", type=Path, help="where to write every sample, in seconds a call")
    arguments = parser.parse_args()

    versions = {package: installed(package) for package, _ in CONTENDERS.values()}
    print(f"{cpu_name()}, {bc.isa()}, 1 thread, Python {platform.python_version()}, ", end="")
    print(", ".join(f"{package} {v}" for package, v in versions.items() if v))
    names = available()
    print("x: how many times as long it takes as binconv, median within rounds")
    print(f"{'':15}", *(f"{name:26}" for name in names), sep=" | ")
    samples = {}
    for case in LAYERS:
        timed = measure(case, names, arguments.rounds)
        print_row(case, timed)
        samples[case.name] = timed.samples
    if arguments.json:
        report = {"cpu": cpu_name(), "isa": bc.isa(), "versions": versions, "seconds": samples}
        arguments.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
