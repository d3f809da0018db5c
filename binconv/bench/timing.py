"""Times functions against each other on a machine whose speed drifts.

Each round times every function once, one after the other, so that a slow spell falls on all of
them. Ratios are taken within a round, and what is reported is the median over the rounds. The clock
is measured before and after each sample, by additions that wait for each other.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from statistics import median
from typing import NamedTuple, Protocol

from binconv import _kernels

SAMPLE_SECONDS = 0.002  # within what a scheduler gives at once to one of many processes
WARM_UP_SECONDS = 0.03
CLOCK_ADDITIONS = 50_000
# A sample during which this process ran for less than this part of the time is taken again.
UNDISTURBED = 0.98
ATTEMPTS = 15


class Sample(NamedTuple):
    """One measurement of one function."""

    seconds: float
    """A call."""
    hertz: float
    """The clock around it; 0 where it cannot be measured."""


def clock_hertz() -> float:
    """Clock cycles a second, now, of the core that this thread is on; 0 where nothing tells."""
    highest = 0.0
    for _ in range(3):
        start = time.perf_counter()
        additions = _kernels.spin(CLOCK_ADDITIONS)
        highest = max(highest, additions / (time.perf_counter() - start))
    return highest


def seconds_per_call(function: Callable[[], object], calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        function()
    return (time.perf_counter() - start) / calls


def calls_per_sample(function: Callable[[], object]) -> int:
    """Warms `function` up, and says how often to call it for one sample."""
    function()
    deadline = time.perf_counter() + WARM_UP_SECONDS
    fastest = float("inf")
    while time.perf_counter() < deadline:
        fastest = min(fastest, seconds_per_call(function, 1))
    return max(1, round(SAMPLE_SECONDS / fastest)) if fastest < float("inf") else 1


def sample(function: Callable[[], object], calls: int) -> Sample:
    """Of several attempts the first that nothing else interrupted, or the one least interrupted."""
    most_running = -1.0
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(0.001)  # so that this process is scheduled anew
            function()
        before = clock_hertz()
        running, start = time.process_time(), time.perf_counter()
        for _ in range(calls):
            function()
        elapsed = time.perf_counter() - start
        running = (time.process_time() - running) / elapsed
        if running > most_running:
            most_running = running
            best = Sample(elapsed / calls, (before + clock_hertz()) / 2)
        if running >= UNDISTURBED:
            break
    return best


class Samples(Protocol):
    """What gives samples of something, here or in another process."""

    def sample(self) -> Sample: ...


class Sampler:
    """Gives samples of a function in this process."""

    def __init__(self, function: Callable[[], object]) -> None:
        self.function = function
        self.calls = calls_per_sample(function)

    def sample(self) -> Sample:
        return sample(self.function, self.calls)


class Rounds:
    """Samples of several functions, and of what is `beside` them, over the same rounds."""

    def __init__(
        self,
        functions: Mapping[str, Callable[[], object]],
        rounds: int,
        progress: Callable[[], object] = lambda: None,
        beside: Mapping[str, Samples] | None = None,
    ) -> None:
        samplers: dict[str, Samples] = {name: Sampler(run) for name, run in functions.items()}
        samplers.update(beside or {})
        self.samples: dict[str, list[Sample]] = {name: [] for name in samplers}
        for _ in range(rounds):
            for name, sampler in samplers.items():
                self.samples[name].append(sampler.sample())
            progress()

    def seconds(self, name: str) -> float:
        """The median over the rounds."""
        return median(taken.seconds for taken in self.samples[name])

    def per_cycle(self, name: str, work: float) -> float:
        """How much of a call's `work` is done in a clock cycle; 0 where the clock is unknown."""
        return median(
            work / (taken.seconds * taken.hertz) if taken.hertz else 0.0
            for taken in self.samples[name]
        )

    def times_faster(self, name: str, than: str) -> float:
        """The median over the rounds of how many calls of `name` fit into one of `than`."""
        pairs = zip(self.samples[than], self.samples[name], strict=True)
        return median(slow.seconds / fast.seconds for slow, fast in pairs)
