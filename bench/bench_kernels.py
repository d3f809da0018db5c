"""Every kernel of every instruction set of this machine: pytest bench/bench_kernels.py.

Kernels are called as the tests of kernels call them. A call from Python checks its arguments, which
takes some microseconds, and `epilogue` copies its values: for figures without these, see
`build/ctest/run --bench`, and for the innermost kernels the stream limits of `make bench`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture
from test_kernels import ISAS, ordinary, words32, words64

from binconv import _kernels as kernels

PIXELS = 196
CHANNELS = 128
WORDS = CHANNELS // 64
TAPS = np.arange(9) * WORDS
FILTERS = 128

Run = Callable[[], Any]
rng = np.random.default_rng(5)


def widen(dtype: Any) -> Callable[[str], Run]:
    source = np.zeros(PIXELS * CHANNELS, dtype)
    out = np.empty(source.shape, np.float32)
    return lambda isa: lambda: kernels.widen(isa, source, out=out)


def pack_f32(isa: str) -> Run:
    source = ordinary(rng, PIXELS, CHANNELS)
    thresholds = kernels.InputThresholds(*ordinary(rng, 2, CHANNELS))
    out = np.empty((PIXELS, WORDS), np.uint64)
    return lambda: kernels.pack_f32(isa, source, thresholds=thresholds, out=out)


def terms_f32(isa: str) -> Run:
    source = ordinary(rng, PIXELS, CHANNELS)
    bias, scale = ordinary(rng, 2, CHANNELS)
    out = np.empty((PIXELS, CHANNELS), np.float32)
    return lambda: kernels.terms_f32(isa, source, bias, scale, out=out)


def gather_bits(isa: str) -> Run:
    source = words64(rng, 1, (PIXELS + 2) * 2)[0]
    return lambda: kernels.gather_bits(isa, source, 0, 128, [0, 128, 256], 16, 8, PIXELS)


def xorpop_weights(isa: str) -> Run:
    weights = words32(rng, FILTERS, 9, 2 * WORDS)
    return lambda: kernels.XorpopWeights(isa, weights, CHANNELS)


def xorpop(isa: str) -> Run:
    made = kernels.XorpopWeights(isa, words32(rng, FILTERS, 9, 2 * WORDS), CHANNELS)
    source = words64(rng, PIXELS, 9 * WORDS)
    out = np.empty((PIXELS, made.padded_filters), np.int32)
    return lambda: made.counts(source, TAPS, out=out)


def chain_source(isa: str) -> Run:
    source = words64(rng, 1, 3 * (PIXELS + 2) * WORDS)
    offset = np.arange(3) * ((PIXELS + 2) * WORDS)
    out = kernels.chain_source(isa, source, offset, (PIXELS + 2) * WORDS)
    return lambda: kernels.chain_source(isa, source, offset, (PIXELS + 2) * WORDS, out=out)


def chain_weights(isa: str) -> Run:
    weights = words32(rng, FILTERS, 3, 3, 2 * WORDS)
    return lambda: kernels.ChainWeights(isa, weights, CHANNELS)


def chain_sums(isa: str) -> Run:
    made = kernels.ChainWeights(isa, words32(rng, FILTERS, 3, 3, 2 * WORDS), CHANNELS)
    chain = words64(rng, 1, 1 + 3 * (PIXELS + 2) * WORDS)
    out = np.empty((PIXELS, made.padded_filters), np.int32)
    return lambda: made.counts(chain, PIXELS, WORDS, out=out)


def window_popcount(isa: str) -> Run:
    source = words64(rng, PIXELS, 9 * WORDS)
    return lambda: kernels.window_popcount(isa, source, TAPS, WORDS)


def signsum_weights(isa: str) -> Run:
    weights = words32(rng, FILTERS, 1, 2 * WORDS)
    return lambda: kernels.SignsumWeights(isa, weights, CHANNELS)


def signsum_expand(isa: str) -> Run:
    made = kernels.SignsumWeights(isa, words32(rng, FILTERS, 1, 2 * WORDS), CHANNELS)
    source = ordinary(rng, PIXELS, CHANNELS)
    out = made.expand(source)
    return lambda: made.expand(source, out=out)


def signsum(isa: str) -> Run:
    made = kernels.SignsumWeights(isa, words32(rng, FILTERS, 1, 2 * WORDS), CHANNELS)
    expanded = made.expand(ordinary(rng, PIXELS, CHANNELS))[np.newaxis]
    out = made.sums(expanded)
    return lambda: made.sums(expanded, out=out)


def window_sum(isa: str) -> Run:
    source = ordinary(rng, PIXELS, 9)
    return lambda: kernels.window_sum(isa, source, np.arange(9), 9.0)


def epilogue(isa: str) -> Run:
    counts = rng.integers(0, 1152, (PIXELS, CHANNELS), np.int32)
    base = np.full(CHANNELS, 1152, np.int32)
    scale, bias = ordinary(rng, 2, CHANNELS)
    out = np.empty((PIXELS, CHANNELS), np.float32)
    return lambda: kernels.epilogue(
        isa, counts, scale, bias, channel_base=base, count_shift=1, out=out
    )


def unpack_i8(isa: str) -> Run:
    words = words64(rng, PIXELS, WORDS)
    return lambda: kernels.unpack_i8(isa, words, CHANNELS)


BENCHMARKS: dict[str, Callable[[str], Run]] = {
    "widen_f16": widen(np.float16),
    "widen_u8": widen(np.uint8),
    "pack_f32": pack_f32,
    "terms_f32": terms_f32,
    "gather_bits": gather_bits,
    "xorpop_weights": xorpop_weights,
    "xorpop": xorpop,
    "chain_source": chain_source,
    "chain_weights": chain_weights,
    "chain_sums": chain_sums,
    "window_popcount": window_popcount,
    "signsum_weights": signsum_weights,
    "signsum_expand": signsum_expand,
    "signsum": signsum,
    "window_sum": window_sum,
    "epilogue": epilogue,
    "unpack_i8": unpack_i8,
}


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("name", kernels.names())
def test_kernel(benchmark: BenchmarkFixture, name: str, isa: str) -> None:
    """A kernel of the manifest that is not in BENCHMARKS fails here."""
    benchmark.group = name
    benchmark.extra_info.update(own=name in kernels.own(isa))
    benchmark(BENCHMARKS[name](isa))
