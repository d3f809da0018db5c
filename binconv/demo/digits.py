"""Classify held-out handwritten digits with the packaged binary network."""

from __future__ import annotations

import json
import textwrap
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open

import binconv as bc
from binconv.demo import report

DATA = Path(__file__).resolve().parent.parent / "data"
NETWORK = DATA / "digits_network.safetensors"
HELD_OUT = DATA / "digits_heldout.safetensors"

RUNS = 30  # the fastest is shown: the others were held up by something else on the machine
SHOWN = 8  # digits drawn
SHADES = " .:-=+*%@"  # from grey value 0 to 16, two grey values a character


@dataclass(frozen=True)
class Digits:
    """Handwritten digits, and what their file says about them."""

    images: NDArray[np.uint8]  # (N, 8, 8), 0 (paper) to 16 (ink)
    labels: NDArray[np.uint8]  # (N,), 0 to 9
    about: dict[str, str]

    @property
    def grey(self) -> NDArray[np.float32]:
        """(N, 8, 8, 1), 0 to 1: what the network was trained on."""
        return np.asarray(self.images[..., np.newaxis] / np.float32(16), np.float32)


def load_digits(path: Path = HELD_OUT) -> Digits:
    with safe_open(path, framework="numpy") as file:
        return Digits(file.get_tensor("images"), file.get_tensor("labels"), file.metadata())


def about_network(path: Path = NETWORK) -> dict[str, str]:
    """The text that was stored with the weights."""
    with safe_open(path, framework="numpy") as file:
        metadata: dict[str, str] = file.metadata()
    return metadata


def load_network(path: Path = NETWORK) -> list[bc.BinaryConvolution]:
    """The layers of a saved network, each fed by its own data source.

    `bc.Sequential.load(path)` does the same in one call. Here each layer is made by hand, as a
    program with weights of its own would: the source brings descriptor, weights and bias, the
    rest is an argument or a property of the layer.
    """
    kinds = {
        "BinaryConvolution": bc.BinaryConvolution,
        "BinaryFullyConnected": bc.BinaryFullyConnected,
    }
    layers = []
    for index, entry in enumerate(json.loads(about_network(path)["layers"])):
        source = bc.SafetensorsDataSource(path, str(index))
        layer = kinds[entry["kind"]](source, type=bc.BinaryConvolutionType(entry["type"]))
        layer.edge_mode = bc.EdgeMode(entry["state"]["edge_mode"])
        layers.append(layer)
    return layers


def forward(
    layers: list[bc.BinaryConvolution], grey: NDArray[np.float32]
) -> tuple[NDArray[np.float32], list[report.Image], list[float]]:
    """Scores (N, 10), and each layer's output and seconds.

    All layers but the last hand on bits: the layer that follows takes nothing but signs, so
    batch normalisation and sign end in a packed image of one bit a value.
    """
    x: report.Image = grey
    outputs, seconds = [], []
    for layer in layers:
        x, took = report.timed(partial(layer, x, packed=layer is not layers[-1]))
        outputs.append(x)
        seconds.append(took)
    assert isinstance(x, np.ndarray)
    return x.reshape(len(grey), -1), outputs, seconds


def run() -> None:
    digits, layers = load_digits(), load_network()
    grey = digits.grey
    forward(layers, grey)  # the first call plans and starts the threads
    scores, outputs, _ = forward(layers, grey)
    times = np.array([forward(layers, grey)[2] for _ in range(RUNS)])
    guesses = scores.argmax(axis=1)
    right = int((guesses == digits.labels).sum())

    print(f"{len(grey)} handwritten digits that the network has not been trained on:")
    print(textwrap.fill(f"{digits.about['source']}; {digits.about['licence']}", 80))
    print()
    print(report.HEADING)
    for layer, output, seconds in zip(layers, outputs, times.min(axis=0), strict=True):
        print(report.row(layer, output, float(seconds)))
    print(f"(time for all {len(grey)} images together, the fastest of {RUNS} runs)")
    print()
    print("\n\n".join(_gallery(digits, guesses)))
    print()
    speed = len(grey) / float(times.sum(axis=1).min())
    print(f"accuracy  {right} of {len(grey)} right, {right / len(grey):.2%}")
    print(f"speed     {speed:,.0f} images per second ({report.machine()}; fastest run)")


def _gallery(digits: Digits, guesses: NDArray[np.intp]) -> list[str]:
    """Rows of four drawn digits: wrong ones first, half of the places at most."""
    wrong = np.flatnonzero(guesses != digits.labels)[: SHOWN // 2]
    right = np.flatnonzero(guesses == digits.labels)[: SHOWN - len(wrong)]
    pictures = [_draw(digits, guesses, i) for i in (*wrong, *right)]
    rows = [pictures[i : i + 4] for i in range(0, len(pictures), 4)]
    return ["\n".join("   ".join(line).rstrip() for line in zip(*row, strict=True)) for row in rows]


def _draw(digits: Digits, guesses: NDArray[np.intp], index: int) -> list[str]:
    """One digit as eight lines of shades, two characters a pixel, and what it was taken for."""
    guess, label = guesses[index], digits.labels[index]
    caption = f"{guess}" if guess == label else f"{guess}, wrong: a {label}"
    lines = ["".join(SHADES[value // 2] * 2 for value in row) for row in digits.images[index]]
    return [*lines, f"-> {caption}".ljust(16)]
