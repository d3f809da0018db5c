"""Holds the layers to the speed that is asked of them: pytest bench/test_speed.py."""

from __future__ import annotations

import pytest
from cases import LAYERS, LayerCase
from compare import OURS, measure
from contenders import CONTENDERS, installed

PEERS = [name for name, (package, _) in CONTENDERS.items() if package == "torch"]


@pytest.mark.bench
@pytest.mark.parametrize("case", [c for c in LAYERS if c.times_faster], ids=lambda case: case.name)
def test_faster_than_float_convolution(case: LayerCase) -> None:
    if not installed("torch"):
        pytest.skip("torch is not installed")
    timed = measure(case, [OURS, *PEERS], rounds=9)
    ratios = {peer: timed.times_faster(OURS, than=peer) for peer in PEERS}
    assert min(ratios.values()) >= case.times_faster, ratios
