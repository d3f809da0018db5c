"""Prints how fast layers run here, beside the same layers in other libraries.

    python bench/compare.py [--rounds 15] [--json FILE] [--no-odd]

One thread but where it says otherwise, Python's call included. A MAC is one multiply-add that the
layer stands for, whatever is done to get its result. All that is compared takes turns within each
round; times are medians over the rounds, and ratios medians of the ratios within a round.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import parts
from peers import PEERS, Peer
from workers import DiedError, Worker

import binconv as bc
from binconv.bench.cases import (
    BINARY_WEIGHTS,
    LAYERS,
    MODES,
    ODD_LAYERS,
    REFERENCE,
    XNOR,
    LayerCase,
    Mode,
    prepare,
)
from binconv.bench.limits import stream_limit
from binconv.bench.machine import describe, installed
from binconv.bench.progress import Progress
from binconv.bench.table import markdown
from binconv.bench.timing import Rounds

NODE = "OpenVINO node"
ATTEMPTS = 2
PACKAGES = ("openvino", "ai-edge-litert", "onnxruntime", "torch")


def available() -> list[Peer]:
    """The peers that are installed; says which are not."""
    found = []
    for peer in PEERS:
        if installed(peer.package):
            found.append(peer)
        else:
            print(f"{peer.name}: left out, {peer.package} is not installed")
    return found


class NodeTimes:
    """What a library's own counters say of its convolution, taken once each round."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.seconds: list[float] = []

    def take(self) -> None:
        self.seconds.append(median(self.worker.node_seconds() for _ in range(9)))


def measure_layer(
    case: LayerCase, workers: list[Worker], rounds: int, tick: Callable[[], None]
) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """What was measured, for each mode; and the seconds of the peers."""
    for worker in workers:
        worker.take(case)
    nodes = [NodeTimes(worker) for worker in workers if worker.counts]

    def between_rounds() -> None:
        for node in nodes:
            node.take()
        tick()

    functions = {mode.name: prepare(case, mode) for mode in MODES}
    peers = {worker.name: worker for worker in workers}
    timed = Rounds(functions, rounds, between_rounds, peers)
    rows = []
    for mode in MODES:
        ratios = {name: timed.times_faster(mode.name, than=name) for name in peers}
        samples = timed.samples[mode.name]
        for node in nodes:
            pairs = zip(node.seconds, samples, strict=True)
            ratios[NODE] = median(seconds / ours.seconds for seconds, ours in pairs)
        rows.append(row(case, mode, timed, ratios))
    peer_seconds = {name: timed.seconds(name) for name in peers}
    for node in nodes:
        peer_seconds[NODE] = median(node.seconds)
    return rows, peer_seconds


def measure_with(
    case: LayerCase, workers: list[Worker], rounds: int, tick: Callable[[], None]
) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """The same with the peers that live through it."""
    left, died = list(workers), Counter[str]()
    while True:
        try:
            return measure_layer(case, left, rounds, tick)
        except DiedError as error:
            died[error.name] += 1
            if died[error.name] == ATTEMPTS:
                print(f"{case.name}: without {error.name}, which crashes")
                left = [worker for worker in left if worker.name != error.name]


def row(case: LayerCase, mode: Mode, timed: Rounds, ratios: dict[str, float]) -> dict[str, Any]:
    return {
        "layer": case.name,
        "mode": mode.name,
        "seconds": timed.seconds(mode.name),
        "macs": case.macs,
        "macs_per_cycle": timed.per_cycle(mode.name, case.macs),
        "times_faster": ratios,
        "samples": timed.samples[mode.name],
    }


def add_shares(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Adds what part of the stream limit, and of the reference layer's speed, each row reaches."""
    limits = {"XNOR": stream_limit(XNOR), "BINARY_WEIGHTS": stream_limit(BINARY_WEIGHTS)}
    reference = {r["mode"]: r["macs_per_cycle"] for r in rows if r["layer"] == REFERENCE.name}
    for r in rows:
        limit = limits["BINARY_WEIGHTS" if r["mode"] == BINARY_WEIGHTS.name else "XNOR"]
        r["of_limit"] = r["macs_per_cycle"] / limit if limit else 0.0
        r["of_reference"] = r["macs_per_cycle"] / (reference[r["mode"]] or 1.0)
    return limits


def table(rows: list[dict[str, Any]], names: list[str]) -> str:
    def cells(r: dict[str, Any]) -> list[str]:
        ratios = r["times_faster"]
        return [
            r["layer"],
            r["mode"],
            f"{r['seconds'] * 1e3:.4f}",
            f"{r['macs_per_cycle']:.0f}",
            f"{r['of_limit']:.0%}",
            f"{r['of_reference']:.0%}",
            f"{r['workspace'] / 1024:.0f}" if r.get("workspace") is not None else "",
            *(f"{ratios[name]:.2f}×" if name in ratios else "" for name in names),
        ]

    titles = ["layer", "mode", "ms", "MAC/cycle", "of stream", f"of {REFERENCE.name[4:]}", "KiB"]
    return markdown([*titles, *names], [cells(r) for r in rows], left=2)


def compiler() -> str | None:
    """The C compiler here, with which the package was built if it was built here."""
    try:
        answer = subprocess.run(["cc", "--version"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return answer.stdout.partition("\n")[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=15, help="how often each is timed (15)")
    parser.add_argument("--json", type=Path, help="where to write everything that was measured")
    parser.add_argument("--no-odd", action="store_true", help="leave out the odd shapes")
    arguments = parser.parse_args()

    bc.set_num_threads(1)
    machine = describe(PACKAGES)
    print(machine)
    peers = available()
    odd = () if arguments.no_odd else ODD_LAYERS
    progress = Progress((len(LAYERS) + len(odd)) * arguments.rounds)
    workers = [Worker(peer.name) for peer in peers]
    rows: list[dict[str, Any]] = []
    peer_seconds = {}
    for case in (*LAYERS, *odd):
        progress.now(case.name)
        beside = [worker for worker in workers if case in LAYERS or "PyTorch" in worker.name]
        measured, peer_seconds[case.name] = measure_with(
            case, beside if case.groups == 1 else [], arguments.rounds, progress.step
        )
        rows += measured
    progress.done()
    limits = add_shares(rows)
    for r in rows:
        if r["mode"] == XNOR.name:
            case = next(case for case in (*LAYERS, *odd) if case.name == r["layer"])
            r["workspace"] = parts.memory_bytes(case)
    print("stream limits, operands in L1: ", end="")
    print(", ".join(f"{name} {limit:.0f} MAC/cycle" for name, limit in limits.items()))
    names = [peer.name for peer in peers]
    if any(NODE in seconds for seconds in peer_seconds.values()):
        names.insert(names.index("OpenVINO") + 1, NODE)
    print(table(rows, names))
    print("KiB: memory beyond source, result and weights. ×: how many times as long it takes.")
    rest = {
        "packing": parts.packing(arguments.rounds),
        "dense": parts.dense_bandwidth(arguments.rounds),
        "threads": parts.threads(arguments.rounds),
        "call_seconds": parts.call_seconds(arguments.rounds),
    }
    print("\n".join(parts.lines(rest)))
    if arguments.json:
        report = {
            "machine": machine,
            "compiler": compiler(),
            "platform": platform.platform(),
            "command": " ".join(sys.argv),
            "limits": limits,
            "peers": names,
            "rows": rows,
            "peer_seconds": peer_seconds,
            **rest,
        }
        text = json.dumps(report, indent=1, ensure_ascii=False)
        arguments.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
