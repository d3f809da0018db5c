"""Each instruction set of this machine runs whole layers, forced and verified, with equal bits."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from pathlib import Path

import pytest

import binconv as bc
from binconv import _core

HERE = Path(__file__).parent


def run_forced(isa: str, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "BINCONV_ISA": isa}
    return subprocess.run(
        [sys.executable, program, *arguments],
        cwd=HERE,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


@functools.cache
def digests(isa: str) -> dict[str, str]:
    """What layer_digests.py prints under a forced ISA."""
    done = run_forced(isa, "layer_digests.py")
    assert done.returncode == 0, done.stderr
    lines = dict(line.split() for line in done.stdout.splitlines())
    assert lines.pop("isa") == isa, "another ISA ran than the forced one"
    return lines


def test_the_list_is_complete():
    """Losing a SIMD path silently would be the worst regression of speed there is."""
    isas = _core.isas()
    features = bc.cpu_features()
    assert "scalar" in isas
    if features.get("avx2"):
        assert any("avx2" in isa for isa in isas)
    if features.get("avx512vpopcntdq") and features.get("avx512bitalg"):
        assert any("avx512" in isa for isa in isas)
    for feature in ("neon", "asimddp"):
        assert (feature in isas) == bool(features.get(feature))
    # The last one, or one of those where several suit and a measurement decides.
    measured = [isa for isa in isas if isa.startswith("avx512")]
    assert bc.isa() in (measured or isas[-1:])


@pytest.mark.parametrize("isa", _core.isas())
def test_whole_layers_under_each_isa(isa):
    """Checks against the oracle happen in the child; here, that the forced one ran at all."""
    assert len(digests(isa)) >= 40


@pytest.mark.parametrize("isa", _core.isas())
def test_same_bits_as_portable_c(isa):
    portable, forced = digests("scalar"), digests(isa)
    assert portable.keys() == forced.keys()
    different = [name for name in portable if portable[name] != forced[name]]
    assert not different


@pytest.mark.parametrize("isa", _core.isas())
def test_same_bits_as_on_other_processors(isa):
    """The file was made on x86-64 by `layer_digests.py | grep -v ^isa`; aarch64 gives the same."""
    lines = (HERE / "layer_digests.txt").read_text(encoding="ascii").splitlines()
    assert digests(isa) == dict(line.split() for line in lines)


def test_an_unknown_isa_is_a_clear_error():
    done = run_forced("mmx2000", "-c", "import binconv")
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert "BINCONV_ISA" in last
    assert "mmx2000" in last
    assert "scalar" in last, "the message names what there is"


def test_an_empty_setting_is_no_setting():
    done = run_forced("", "-c", "import binconv; print(binconv.isa())")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [_core.isas()[-1]] or done.stdout.strip() in _core.isas()


def test_the_thread_count_is_set_by_the_environment():
    done = subprocess.run(
        [sys.executable, "-c", "import binconv; print(binconv.get_num_threads())"],
        env={**os.environ, "BINCONV_NUM_THREADS": "3"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.split() == ["3"], done.stderr


@pytest.mark.parametrize("setting", ["0", "-1", "many", "1.5"])
def test_a_wrong_thread_count_is_a_clear_error(setting):
    environment = {**os.environ, "BINCONV_NUM_THREADS": setting}
    done = subprocess.run(
        [sys.executable, "-c", "import binconv"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert "BINCONV_NUM_THREADS" in last
    assert setting in last
