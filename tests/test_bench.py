"""`python -m binconv bench`: what it prints, and the yardsticks that it holds layers to."""

from __future__ import annotations

import time

import numpy as np
import pytest

import binconv as bc
from binconv import _kernels
from binconv.__main__ import main
from binconv.bench.cases import LAYERS, MODES, ODD_LAYERS, LayerCase, prepare
from binconv.bench.table import markdown
from binconv.bench.timing import Rounds, clock_hertz


@pytest.fixture(autouse=True)
def threads_as_before():
    before = bc.get_num_threads()
    yield
    bc.set_num_threads(before)


def test_command(capsys):
    assert main(["bench", "--rounds", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert bc.isa() in lines[0]
    assert "1 thread" in lines[0]
    for case in LAYERS:
        assert sum(line.startswith(f"| {case.name} ") for line in lines) == 3


@pytest.mark.parametrize("arguments", [["--rounds", "0"], ["--threads", "x"], ["more"]])
def test_wrong_usage(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["bench", *arguments])
    assert stopped.value.code == 2
    assert "usage" in capsys.readouterr().err


def test_macs():
    assert [case.macs for case in LAYERS[:4]] == [115_605_504] * 4
    assert LayerCase("", 7, 16, 32, kernel=3, stride=2, groups=4, images=2).macs == 36_864


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.name)
def test_every_mode_runs_each_shape(mode):
    for case in ODD_LAYERS:
        prepare(case, mode)()


def test_rounds_take_turns():
    calls = []
    timed = Rounds({"slow": lambda: time.sleep(0.002), "fast": lambda: calls.append(0)}, 3)
    assert len(timed.samples["slow"]) == len(timed.samples["fast"]) == 3
    assert timed.times_faster("fast", than="slow") > 10
    assert timed.seconds("slow") > 0.002


def test_clock():
    hertz = clock_hertz()
    assert hertz == 0 or 1e8 < hertz < 2e10


def test_spin_counts_its_additions():
    assert _kernels.spin(1000) in (0, 992)


@pytest.mark.parametrize("isa", _kernels.isas())
def test_read(isa):
    array = np.zeros(256, np.uint64)
    assert _kernels.read(isa, array) == 0
    with pytest.raises(ValueError, match="uint64"):
        _kernels.read(isa, array[::2])


def test_table():
    lines = markdown(["layer", "ms"], [["a", "10"], ["longer", "1"]]).splitlines()
    assert lines == ["| layer  | ms |", "| ------ | -: |", "| a      | 10 |", "| longer |  1 |"]
