"""A progress line on a terminal's stderr; nothing where that is not a terminal."""

from __future__ import annotations

import sys

WIDTH = 24


class Progress:
    """Steps done, of a number that is known before."""

    def __init__(self, steps: int) -> None:
        self.steps = max(1, steps)
        self.taken = 0
        self.name = ""
        self.shown = sys.stderr.isatty()

    def now(self, name: str) -> None:
        """What is being done."""
        self.name = name
        self._show()

    def step(self) -> None:
        self.taken += 1
        self._show()

    def done(self) -> None:
        """Takes the line away."""
        if self.shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)

    def _show(self) -> None:
        if not self.shown:
            return
        filled = min(WIDTH, WIDTH * self.taken // self.steps)
        bar = "#" * filled + "." * (WIDTH - filled)
        percent = 100 * self.taken // self.steps
        text = f"\r\x1b[K[{bar}] {percent:3}% {self.name}"
        print(text, end="", file=sys.stderr, flush=True)
