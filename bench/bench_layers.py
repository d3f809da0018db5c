"""Whole layers under pytest-benchmark: pytest bench/bench_layers.py [--benchmark-json FILE]."""

from __future__ import annotations

import pytest
from cases import LAYERS, LayerCase
from contenders import CONTENDERS, installed
from pytest_benchmark.fixture import BenchmarkFixture

import binconv as bc


@pytest.mark.parametrize("case", LAYERS, ids=lambda case: case.name)
@pytest.mark.parametrize("name", CONTENDERS)
def test_layer(benchmark: BenchmarkFixture, name: str, case: LayerCase) -> None:
    package, prepare = CONTENDERS[name]
    if not installed(package):
        pytest.skip(f"{package} is not installed")
    benchmark.group = case.name
    benchmark.extra_info.update(macs=case.macs, isa=bc.isa())
    benchmark(prepare(case))
