"""The stream limits: how fast the innermost kernels are when all that they read lies in L1."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

import binconv as bc
from binconv import _kernels
from binconv.bench.cases import Mode, Run
from binconv.bench.timing import Rounds

Array = TypeVar("Array", bound=NDArray[Any])

REPEAT = 500  # so that the call from Python is next to nothing
LINE = 64  # bytes, of a cache line


def aligned(array: Array) -> Array:
    """A copy that begins with a cache line, as what the kernels read inside a layer does."""
    memory = np.empty(array.nbytes + LINE, np.uint8)
    skipped = -memory.ctypes.data % LINE
    copy = memory[skipped : skipped + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy  # type: ignore[return-value]


def xnor_stream(isa: str, filters: int, pixels: int, words: int) -> tuple[Run, int]:
    """Runs the XNOR kernel over 9 taps of `words` words; with how many multiply-adds that is."""
    generator = np.random.default_rng(1)
    weights = generator.integers(0, 2**32, (filters, 9, 2 * words), np.uint32)
    kernel = _kernels.XorpopWeights(isa, weights, 64 * words)
    source = aligned(generator.integers(0, 2**64, (pixels, 9 * words), np.uint64))
    taps = np.arange(9) * words
    out = aligned(np.zeros((pixels, kernel.padded_filters), np.int32))
    macs = REPEAT * pixels * filters * 9 * words * 64
    return lambda: kernel.counts(source, taps, out=out, repeat=REPEAT), macs


def chain_stream(isa: str, filters: int, pixels: int, words: int) -> tuple[Run, int]:
    """The same for sums by chains; neighbouring windows of `words` words share two thirds."""
    generator = np.random.default_rng(1)
    weights = generator.integers(0, 2**32, (filters, 1, 1, 2 * words), np.uint32)
    kernel = _kernels.ChainWeights(isa, weights, 64 * words)
    step = words // 3
    entries = 1 + (pixels - 1) * step + words
    chain = aligned(generator.integers(0, 2**64, (1, entries), np.uint64))
    out = aligned(np.zeros((pixels, kernel.padded_filters), np.int32))
    macs = REPEAT * pixels * filters * words * 64
    return lambda: kernel.counts(chain, pixels, step, out=out, repeat=REPEAT), macs


def signed_stream(isa: str, pixels: int, channels: int) -> tuple[Run, int]:
    """The same for the BINARY_WEIGHTS kernel, one row of `channels` inputs and 128 filters."""
    filters = 128
    generator = np.random.default_rng(1)
    weights = generator.integers(0, 2**32, (filters, 1, -(-channels // 32)), np.uint32)
    kernel = _kernels.SignsumWeights(isa, weights, channels)
    source = generator.standard_normal((pixels, channels), dtype=np.float32)
    expanded = aligned(kernel.expand(source)[np.newaxis])
    out = aligned(np.zeros((pixels, kernel.padded_filters), np.float32))
    macs = REPEAT * pixels * filters * channels
    return lambda: kernel.sums(expanded, out=out, repeat=REPEAT), macs


def stream_limit(mode: Mode, rounds: int = 7) -> float:
    """Multiply-adds a clock cycle of the instruction set in use; 0 where the clock is unknown."""
    isa = bc.isa()
    if mode.type == bc.BinaryConvolutionType.BINARY_WEIGHTS:
        streams = [signed_stream(isa, *sizes) for sizes in ((12, 128), (5, 384), (10, 128))]
    else:
        streams = [
            xnor_stream(isa, *sizes)
            for sizes in ((64, 28, 4), (32, 28, 8), (32, 14, 16), (128, 28, 2))
        ]
        if _kernels.chains_least(isa):
            streams += [chain_stream(isa, *sizes) for sizes in ((64, 28, 36), (64, 28, 72))]
    timed = Rounds({str(index): run for index, (run, _) in enumerate(streams)}, rounds)
    return max(timed.per_cycle(str(index), macs) for index, (_, macs) in enumerate(streams))
