"""Times functions against each other on a machine whose speed drifts.

Each round times every function once, one after the other, so that a slow spell falls on all of
them. Ratios are taken within a round, and what is reported is the median over the rounds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from statistics import median

SAMPLE_SECONDS = 0.01
WARM_UP_SECONDS = 0.1


def seconds_per_call(function: Callable[[], object], calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        function()
    return (time.perf_counter() - start) / calls


def calls_per_sample(function: Callable[[], object]) -> int:
    """Warms `function` up, and says how often to call it for one sample."""
    deadline = time.perf_counter() + WARM_UP_SECONDS
    fastest = float("inf")
    while time.perf_counter() < deadline:
        fastest = min(fastest, seconds_per_call(function, 1))
    return max(1, round(SAMPLE_SECONDS / fastest))


class Rounds:
    """Samples, in seconds a call, of several functions over the same rounds."""

    def __init__(self, functions: Mapping[str, Callable[[], object]], rounds: int) -> None:
        calls = {name: calls_per_sample(function) for name, function in functions.items()}
        self.samples: dict[str, list[float]] = {name: [] for name in functions}
        for _ in range(rounds):
            for name, function in functions.items():
                self.samples[name].append(seconds_per_call(function, calls[name]))

    def seconds(self, name: str) -> float:
        """The median over the rounds."""
        return median(self.samples[name])

    def times_faster(self, name: str, than: str) -> float:
        """The median over the rounds of how many calls of `name` fit into one of `than`."""
        pairs = zip(self.samples[than], self.samples[name], strict=True)
        return median(slow / fast for slow, fast in pairs)
