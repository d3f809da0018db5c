"""Layers under pytest-benchmark, ours and the peers': pytest bench/bench_layers.py."""

from __future__ import annotations

import pytest
from peers import PEERS, Peer, checked
from pytest_benchmark.fixture import BenchmarkFixture

import binconv as bc
from binconv.bench.cases import LAYERS, MODES, ODD_LAYERS, LayerCase, Mode, prepare
from binconv.bench.machine import installed

each_mode = pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.name)


def describe(benchmark: BenchmarkFixture, case: LayerCase) -> None:
    benchmark.group = case.name
    benchmark.extra_info.update(macs=case.macs, isa=bc.isa())


@each_mode
@pytest.mark.parametrize("case", [*LAYERS, *ODD_LAYERS], ids=lambda case: case.name)
def test_layer(benchmark: BenchmarkFixture, case: LayerCase, mode: Mode) -> None:
    describe(benchmark, case)
    benchmark(prepare(case, mode))


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
@pytest.mark.parametrize("case", LAYERS, ids=lambda case: case.name)
def test_peer(benchmark: BenchmarkFixture, case: LayerCase, peer: Peer) -> None:
    if not installed(peer.package):
        pytest.skip(f"{peer.package} is not installed")
    if peer.name == "OpenVINO":
        pytest.skip("it damages the heap of its process (see workers.py): compare.py has it")
    describe(benchmark, case)
    benchmark(checked(peer, case).run)
