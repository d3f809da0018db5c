"""The bank of binary filters: what each looks for, as a square of +1 and -1."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Pattern = NDArray[np.float32]  # (size, size), +1 and -1


@dataclass(frozen=True)
class Bank:
    """Filters of one size: one binary convolution runs all of them at once."""

    label: str  # short, for the layer
    title: str
    names: list[str]
    patterns: NDArray[np.float32]  # (O, size, size), +1 and -1

    @property
    def size(self) -> int:
        return int(self.patterns.shape[-1])

    @property
    def weights(self) -> NDArray[np.float32]:
        """(O, size, size, 1), as ArrayDataSource takes them."""
        return self.patterns[..., np.newaxis]


def banks() -> list[Bank]:
    return [
        _bank("shapes", "Edges, lines, corners and spots", _shapes(5)),
        _bank("patterns", "Walsh-Hadamard patterns", _walsh_hadamard(4)),
    ]


def _bank(label: str, title: str, filters: Iterator[tuple[str, Pattern]]) -> Bank:
    names, patterns = zip(*filters, strict=True)
    return Bank(label, title, list(names), np.stack(patterns))


def _shapes(size: int) -> Iterator[tuple[str, Pattern]]:
    """Things that pictures are made of, +1 where the brighter side is."""
    y, x = np.mgrid[:size, :size] - (size - 1) / 2  # from the centre, y downwards
    yield "edge: top", _signs(y < 0)
    yield "edge: bottom", _signs(y > 0)
    yield "edge: left", _signs(x < 0)
    yield "edge: right", _signs(x > 0)
    yield "edge: top left", _signs(x + y < 0)
    yield "edge: top right", _signs(x - y > 0)
    yield "line: -", _signs(abs(y) < 1)
    yield "line: |", _signs(abs(x) < 1)
    yield "line: \\", _signs(abs(x - y) < 2)
    yield "line: /", _signs(abs(x + y) < 2)
    yield "corner: top left", _signs((x <= 0) & (y <= 0))
    yield "corner: top right", _signs((x >= 0) & (y <= 0))
    yield "corner: bottom left", _signs((x <= 0) & (y >= 0))
    yield "corner: bottom right", _signs((x >= 0) & (y >= 0))
    yield "spot", _signs(x * x + y * y < 4)
    yield "ring", _signs((x * x + y * y > 1) & (x * x + y * y < 8))


def _walsh_hadamard(size: int) -> Iterator[tuple[str, Pattern]]:
    """Every product of two Walsh functions; `size` is a power of two.

    They are orthogonal, so together they keep all that a size x size patch holds. "WH 2,1" has
    two changes of sign from top to bottom and one from left to right; "WH 0,0" is the mean.
    """
    functions = np.ones((1, 1), np.float32)
    while len(functions) < size:
        functions = np.block([[functions, functions], [functions, -functions]])
    changes = (np.diff(functions, axis=1) != 0).sum(axis=1)
    functions = functions[np.argsort(changes)]
    for down in range(size):
        for across in range(size):
            yield f"WH {down},{across}", np.outer(functions[down], functions[across])


def _signs(positive: NDArray[np.bool_]) -> Pattern:
    return np.where(positive, 1, -1).astype(np.float32)
