"""Holds the layers to the speed that is asked of them: pytest bench/test_speed.py."""

from __future__ import annotations

import pytest
from peers import PEERS, checked

import binconv as bc
from binconv.bench.cases import LAYERS, XNOR, LayerCase, prepare
from binconv.bench.machine import installed
from binconv.bench.timing import Rounds

TIMES_FASTER = 5
"""Than PyTorch's float32, at least, whatever else the machine does."""


@pytest.mark.bench
@pytest.mark.parametrize("case", LAYERS[:4], ids=lambda case: case.name)
def test_faster_than_float_convolution(case: LayerCase) -> None:
    if not installed("torch"):
        pytest.skip("torch is not installed")
    bc.set_num_threads(1)
    torch = [peer for peer in PEERS if peer.package == "torch"]
    peers = {peer.name: checked(peer, case).run for peer in torch}
    timed = Rounds({"binconv": prepare(case, XNOR), **peers}, rounds=9)
    ratios = {name: timed.times_faster("binconv", than=name) for name in peers}
    assert min(ratios.values()) >= TIMES_FASTER, ratios
