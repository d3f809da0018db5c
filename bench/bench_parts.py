"""Packing, threads and the call itself under pytest-benchmark: pytest bench/bench_parts.py."""

from __future__ import annotations

import parts
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

import binconv as bc
from binconv.bench.cases import LAYERS, XNOR, LayerCase, prepare


@pytest.mark.parametrize("what", [parts.ONE_SIGN, parts.BOTH_SIGNS, "read"])
@pytest.mark.parametrize("place", parts.PLACES)
def test_packing(benchmark: BenchmarkFixture, place: str, what: str) -> None:
    """512 MiB in all: float32 to bits, and a plain read of the same."""
    benchmark.group = f"packing, source in {place}"
    benchmark(parts.pack_and_read(parts.PLACES[place])[what])


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("case", [*LAYERS, parts.TINY], ids=lambda case: case.name)
def test_threads(benchmark: BenchmarkFixture, case: LayerCase, threads: int) -> None:
    benchmark.group = f"threads, {case.name}"
    bc.set_num_threads(threads)
    benchmark(prepare(case, XNOR))


def test_call(benchmark: BenchmarkFixture) -> None:
    benchmark(prepare(parts.TINY, XNOR))
