"""Draws the layers of a run as bars."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from binconv.bench.cases import BITS, LAYERS, XNOR

BEST = {"PyTorch float32, its better layout": ("PyTorch", "PyTorch, channels last")}
SERIES = {
    "binconv XNOR, bits in and out": "#08519c",
    "binconv XNOR, float32 in and out": "#4292c6",
    "OpenVINO BinaryConvolution, whole infer()": "#31a354",
    "LiteRT int8": "#fdae6b",
    "ONNX Runtime float32": "#e6550d",
    "PyTorch float32, its better layout": "#a63603",
}


def milliseconds(report: dict[str, Any], layer: str) -> dict[str, float]:
    """By the name of a series; a peer that was not measured has none."""
    ours = {row["mode"]: row["seconds"] for row in report["rows"] if row["layer"] == layer}
    peers = report["peer_seconds"][layer]
    seconds = {
        "binconv XNOR, bits in and out": ours[BITS.name],
        "binconv XNOR, float32 in and out": ours[XNOR.name],
        "OpenVINO BinaryConvolution, whole infer()": peers.get("OpenVINO"),
        "LiteRT int8": peers.get("LiteRT int8"),
        "ONNX Runtime float32": peers.get("ONNX Runtime"),
    }
    for name, layouts in BEST.items():
        seconds[name] = min((peers[x] for x in layouts if x in peers), default=None)
    return {name: 1e3 * value for name, value in seconds.items() if value is not None}


def draw(report: dict[str, Any], target: Path) -> None:
    """`report` is what `compare.py --json` writes; .png and .svg are put behind `target`."""
    table = [milliseconds(report, case.name) for case in LAYERS]
    names = [name for name in SERIES if any(name in row for row in table)]
    plt.rcParams["svg.hashsalt"] = "binconv"  # the same file from the same figures
    figure, axes = plt.subplots(figsize=(11, 5.2), layout="constrained")
    width = 0.84 / len(names)
    places = np.arange(len(table))
    for index, name in enumerate(names):
        heights = [row.get(name, np.nan) for row in table]
        bars = axes.bar(places + index * width, heights, width, label=name, color=SERIES[name])
        axes.bar_label(bars, fmt="%.2g", fontsize=6, rotation=90, padding=2)
    axes.set_yscale("log")
    axes.set_ylabel("ms a call, one thread (log scale)")
    axes.set_xticks(places + 0.42 - width / 2, [case.name for case in LAYERS], fontsize=8)
    axes.margins(y=0.15)
    axes.legend(fontsize=8, ncols=2)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(report["machine"], fontsize=7)
    figure.savefig(target.with_suffix(".png"), dpi=150)
    figure.savefig(target.with_suffix(".svg"), metadata={"Date": None})
