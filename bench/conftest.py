"""One thread for every benchmark, and the generators that the tests of kernels use."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import binconv as bc

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent / "tests")]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = bc.get_num_threads()
    bc.set_num_threads(1)
    yield
    bc.set_num_threads(before)
