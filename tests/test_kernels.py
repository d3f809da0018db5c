"""Each kernel of each instruction set, called directly, against NumPy.

The C tests (csrc/tests) go through more sizes, between pages that cannot be touched; these come
from the other side: another language, another oracle, and arrays as NumPy hands them over, with
strides of every sign. Every kernel of the manifest has a test of its name here.
"""

from __future__ import annotations

import platform
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.lib.stride_tricks import as_strided

from binconv import _kernels as kernels

ISAS = kernels.isas()
each_isa = pytest.mark.parametrize("isa", ISAS)

CHANNELS = (1, 2, 3, 31, 32, 33, 63, 64, 65, 127, 128, 129, 255, 256, 257, 511, 512, 513)
PIXELS = (0, 1, 2, 3, 6, 7, 8, 13, 14, 15, 29)
SPECIAL = np.array([0.0, -0.0, np.nan, np.inf, -np.inf, 1e-45, -1e-45, 1.0, -1.0], np.float32)


# ---- Inputs and guards --------------------------------------------------------------------------


def ordinary(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


def special(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return np.where(rng.random(shape) < 0.3, rng.choice(SPECIAL, shape), ordinary(rng, *shape))


def words64(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.integers(0, 2**64, shape, np.uint64)


def words32(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.integers(0, 2**32, shape, np.uint32)


def bits_of(words: np.ndarray) -> np.ndarray:
    """(..., words) to (..., bits) of 0 and 1, least significant first."""
    little = np.ascontiguousarray(words).astype(words.dtype.newbyteorder("<"))
    if 0 in words.shape:
        return np.zeros((*words.shape[:-1], words.shape[-1] * words.itemsize * 8), np.uint8)
    return np.unpackbits(little.view(np.uint8), axis=-1, bitorder="little")


def words_from(bits: np.ndarray) -> np.ndarray:
    """(..., bits) to (..., ceil(bits / 64)) uint64."""
    count = -(-bits.shape[-1] // 64)
    padded = np.zeros((*bits.shape[:-1], count * 64), np.uint8)
    padded[..., : bits.shape[-1]] = bits
    return np.packbits(padded, axis=-1, bitorder="little").view("<u8").astype(np.uint64)


def restride(array: np.ndarray, kind: str) -> np.ndarray:
    """The same number of rows with another distance between them."""
    if kind == "dense" or array.size == 0:
        return array
    if kind == "gaps":
        wide = np.zeros((array.shape[0], array.shape[1] + 3), array.dtype)
        wide[:, 2:-1] = array
        return wide[:, 2:-1]
    if kind == "backwards":
        return array[::-1]
    if kind == "same":
        return np.broadcast_to(array[:1], array.shape)
    # Windows that overlap: each pixel begins one element after the one before.
    flat = np.ascontiguousarray(array).ravel()
    return as_strided(flat, array.shape, (array.itemsize, array.itemsize), writeable=False)


STRIDES = ("dense", "gaps", "backwards", "same", "overlapping")
each_stride = pytest.mark.parametrize("stride", STRIDES)


class Guarded:
    """An output in the middle of a larger array that must not change."""

    def __init__(self, shape: tuple[int, ...], dtype: type) -> None:
        rng = np.random.default_rng(7)
        size = np.dtype(dtype).itemsize
        around = tuple(extent + 6 for extent in shape)
        random = rng.integers(0, 256, (*around[:-1], around[-1] * size), np.uint8)
        self.all = random.view(dtype)
        # One row of two dimensions is dense in the middle too, so kernels meet odd starts.
        self.middle = tuple(slice(3, 3 + extent) for extent in shape)
        self.out = self.all[self.middle]
        self.before = self.all.copy()

    def check(self) -> None:
        after, before = self.all.copy(), self.before.copy()
        after[self.middle] = before[self.middle] = 0
        assert after.tobytes() == before.tobytes(), "wrote outside the output"


def assert_same_bits(actual: np.ndarray, expected: np.ndarray) -> None:
    """Equal as bits (so +0 is not -0), except that any NaN equals any other."""
    assert actual.dtype == expected.dtype
    assert actual.shape == expected.shape
    both_nan = np.isnan(actual) & np.isnan(expected)
    same = actual.view(f"u{actual.itemsize}") == expected.view(f"u{actual.itemsize}")
    wrong = np.argwhere(~(same | both_nan))
    assert not wrong.size, (
        f"at {wrong[0]}: {actual[tuple(wrong[0])]} != {expected[tuple(wrong[0])]}"
    )


# ---- Nothing is left out ------------------------------------------------------------------------


def test_every_isa_of_this_machine_is_tested():
    """By the operating system's list, so that a lost SIMD path does not pass as a slow one."""
    cpuinfo = Path("/proc/cpuinfo")
    if platform.machine() not in ("x86_64", "AMD64") or not cpuinfo.exists():
        pytest.skip("no list of this processor's features to compare with")
    flags = next(
        line for line in cpuinfo.read_text().splitlines() if line.startswith("flags")
    ).split()
    expected = {"scalar"}
    if {"avx2", "f16c", "fma", "popcnt"} <= set(flags):
        expected.add("avx2")
    if {"avx512bw", "avx512dq", "avx512vl", "avx512_vpopcntdq", "avx512_bitalg"} <= set(flags):
        expected.add("avx512vpopcnt")
    assert expected <= set(ISAS)


def test_every_kernel_is_tested():
    missing = [name for name in kernels.names() if f"test_{name}" not in globals()]
    assert not missing


@each_isa
def test_each_isa_brings_kernels(isa):
    own = kernels.own(isa)
    assert set(own) == set(kernels.names()) if isa == "scalar" else own


def test_an_unknown_isa_is_refused():
    with pytest.raises(ValueError, match="scalar"):
        kernels.unpack_i8("mmx2000", np.zeros((1, 1), np.uint64), 3)


# ---- Reading the source -------------------------------------------------------------------------


@each_isa
def test_widen_f16(isa):
    every = np.arange(65536, dtype=np.uint16).view(np.float16)
    for source in (every, *(every[31000 : 31000 + count] for count in range(40))):
        guarded = Guarded(source.shape, np.float32)
        kernels.widen(isa, source, out=guarded.out)
        assert_same_bits(guarded.out, source.astype(np.float32))
        guarded.check()


@each_isa
def test_widen_u8(isa):
    every = np.arange(256, dtype=np.uint8)
    for source in (every, *(every[100 : 100 + count] for count in range(40))):
        guarded = Guarded(source.shape, np.float32)
        kernels.widen(isa, source, out=guarded.out)
        assert_same_bits(guarded.out, source.astype(np.float32) / np.float32(255))
        guarded.check()


def check_source_kernel(isa, source, terms, with_abs_sum, kernel, dtype, expected_of):
    """pack_f32 and terms_f32 read alike and differ in what they write."""
    pixels, channels = source.shape
    v = source
    if terms is not None:
        with np.errstate(all="ignore"):
            v = (source + terms[0]) * terms[1]
    expected = expected_of(v)
    abs_sum = Guarded((pixels,), np.float32) if with_abs_sum else None
    if abs_sum:
        abs_sum.out[:] = np.arange(pixels)
    guarded = Guarded(expected.shape, dtype)
    if kernel is kernels.pack_f32 and terms is not None and not with_abs_sum:
        kernel(isa, source, thresholds=kernels.InputThresholds(*terms), out=guarded.out)
    else:
        bias, scale = terms if terms is not None else (None, None)
        kernel(isa, source, bias, scale, abs_sum=abs_sum and abs_sum.out, out=guarded.out)
    assert_same_bits(guarded.out, expected)
    guarded.check()
    if abs_sum:
        exact = np.arange(pixels) + np.abs(v).astype(np.float64).sum(axis=1)
        finite = np.isfinite(exact)
        error = np.abs(abs_sum.out[finite] - exact[finite])
        assert (error <= (channels + 1) * 2.0**-24 * exact[finite]).all()
        np.testing.assert_array_equal(abs_sum.out[~finite], exact[~finite].astype(np.float32))
        abs_sum.check()


def source_cases(seed: int):
    """(source, terms, with_abs_sum) for sizes around words and tiles, numbers of all kinds."""
    rng = np.random.default_rng(seed)
    sizes = [(2, channels) for channels in CHANNELS] + [(pixels, 67) for pixels in PIXELS]
    for index, (pixels, channels) in enumerate(sizes):
        for numbers in (ordinary, special):
            source = restride(numbers(rng, pixels, channels), STRIDES[index % len(STRIDES)])
            scale = ordinary(rng, channels)
            for terms in (
                None,
                (numbers(rng, channels), scale),
                (numbers(rng, channels), abs(scale)),
            ):
                yield source, terms, bool(index % 2)
                yield source, terms, not index % 2


@each_isa
def test_pack_f32(isa):
    for source, terms, with_abs_sum in source_cases(1):
        check_source_kernel(
            isa,
            source,
            terms,
            with_abs_sum,
            kernels.pack_f32,
            np.uint64,
            lambda v: words_from(~(v < 0)),
        )


EDGES = np.array(
    [0, 1e-45, 3e-45, 1e-38, 2.0**-126, 0.3, 0.5, 0.7, 1, 3, 1e10, 3e38, np.inf, np.nan], np.float32
)
EDGES = np.concatenate([EDGES, -EDGES])


@each_isa
def test_pack_f32_by_thresholds_is_what_terms_give(isa):
    """Bias, scale and source from the edges of float32, and sources next to where the bit turns."""
    bias, scale = (terms.ravel() for terms in np.meshgrid(EDGES, EDGES))
    turns = np.unique(np.concatenate([-EDGES, EDGES]).view(np.uint32))
    near = (turns[:, None] + np.arange(-2, 3)).astype(np.uint32).view(np.float32).ravel()
    with np.errstate(all="ignore"):
        for kept in (np.ones(bias.shape, bool), ~(scale < 0), scale < 0):
            thresholds = kernels.InputThresholds(bias[kept], scale[kept])
            for x in (*near, near):  # one by one, as what is not finite goes another way
                source = np.repeat(np.atleast_1d(x)[:, None], kept.sum(), axis=1)
                expected = words_from(~((source + bias[kept]) * scale[kept] < 0))
                actual = kernels.pack_f32(isa, source, thresholds=thresholds)
                np.testing.assert_array_equal(actual, expected)


floats = st.floats(width=32)


@given(st.lists(st.tuples(floats, floats, floats), min_size=1, max_size=200), st.integers(1, 9))
def test_pack_f32_of_any_terms(rows, pixels):
    bias, scale, x = np.array(rows, np.float32).T
    with np.errstate(all="ignore"):
        turn = -bias
        beside = [np.nextafter(turn, np.float32(end)) for end in (-np.inf, np.inf)]
        source = np.stack([x, turn, *beside] * pixels)
        expected = words_from(~((source + bias) * scale < 0))
    thresholds = kernels.InputThresholds(bias, scale)
    for isa in ISAS:
        actual = kernels.pack_f32(isa, source, thresholds=thresholds)
        np.testing.assert_array_equal(actual, expected)


def test_only_scales_that_turn_the_order_around_need_flips():
    assert not kernels.InputThresholds([1, np.nan, 2, -np.inf], [0.5, -1, 0, -1]).flips
    assert kernels.InputThresholds([1, 1], [0.5, -1e-30]).flips


@each_isa
def test_terms_f32(isa):
    for source, terms, with_abs_sum in source_cases(2):
        check_source_kernel(
            isa, source, terms, with_abs_sum, kernels.terms_f32, np.float32, np.ascontiguousarray
        )


@each_isa
def test_gather_bits(isa):
    rng = np.random.default_rng(3)
    source = words64(rng, 1, 200)[0]
    source_bits = bits_of(source[None])[0]
    for bits in CHANNELS:
        for groups, step in [(1, 0), (1, 6), (1, 16), (1, 64), (8, 128), (3, 3 * bits), (2, -64)]:
            taps, pixels = int(rng.integers(1, 6)), int(rng.choice(PIXELS))
            tap_bit = rng.integers(0, 800, taps)
            reach = 800 + max(pixels - 1, 0) * abs(step) + groups * bits
            if reach >= source.size * 64:
                continue
            first = int(rng.integers(source.size * 64 - reach)) + max(pixels - 1, 0) * max(-step, 0)
            at = (
                first
                + (np.arange(pixels) * step)[:, None, None, None]
                + (np.arange(groups) * bits)[:, None, None]
                + tap_bit[:, None]
                + np.arange(bits)
            )
            words = words_from(source_bits[at].reshape(pixels * groups, taps * bits))
            expected = words.T.reshape(words.shape[1], pixels, groups)
            guarded = Guarded(expected.shape, np.uint64)
            arguments = first, step, tap_bit, bits, groups, pixels
            kernels.gather_bits(isa, source, *arguments, out=guarded.out)
            np.testing.assert_array_equal(guarded.out, expected)
            guarded.check()
            np.testing.assert_array_equal(kernels.gather_bits(isa, source, *arguments), expected)


@each_isa
def test_unpack_i8(isa):
    rng = np.random.default_rng(4)
    for pixels, channels in [(2, c) for c in CHANNELS] + [(p, 67) for p in PIXELS]:
        words = words64(rng, pixels, -(-channels // 64))
        expected = bits_of(words)[:, :channels].astype(np.int8) * 2 - 1
        np.testing.assert_array_equal(kernels.unpack_i8(isa, words, channels), expected)


# ---- Sums of bits -------------------------------------------------------------------------------


def filter_bits(weights: np.ndarray, channels: int) -> np.ndarray:
    """Weights' bits, with what lies past the last channel 0, as words are in the source."""
    bits = bits_of(weights).copy()
    bits[..., channels:] = 0
    width = -(-channels // 64) * 64
    padded = np.zeros((*bits.shape[:-1], width), np.uint8)
    padded[..., : bits.shape[-1]] = bits
    return padded


def check_xorpop(isa, weights, channels, source, tap_offset):
    packed = kernels.XorpopWeights(isa, weights, channels)
    words = -(-channels // 64)
    wanted = filter_bits(weights, channels)
    expected = np.zeros((source.shape[0], packed.padded_filters), np.int32)
    for tap, offset in enumerate(tap_offset):
        bits = bits_of(source[:, offset : offset + words])
        expected[:, : packed.filters] += (bits[:, None] ^ wanted[None, :, tap]).sum(
            -1, dtype=np.int32
        )
        expected[:, packed.filters :] += bits.sum(-1, dtype=np.int32)[:, None]
    guarded = Guarded(expected.shape, np.int32)
    packed.counts(source, tap_offset, out=guarded.out)
    np.testing.assert_array_equal(guarded.out, expected)
    guarded.check()


@each_isa
@each_stride
def test_xorpop(isa, stride):
    rng = np.random.default_rng(5)
    for index, channels in enumerate(CHANNELS):
        taps, words = 1 + index % 9, -(-channels // 64)
        weights = words32(rng, 1 + 5 * index % 37, taps, -(-channels // 32))
        source = restride(words64(rng, PIXELS[index % len(PIXELS)], 3 * words + 2), stride)
        check_xorpop(isa, weights, channels, source, rng.integers(0, 2 * words + 3, taps))


@each_isa
@pytest.mark.parametrize("weights_word", [0, 0xFFFFFFFF])
@pytest.mark.parametrize("source_word", [0, 0xFFFFFFFFFFFFFFFF])
def test_xorpop_uniform_bits_past_16_bits(isa, weights_word, source_word):
    """All-zeros and all-ones, with sums past 65,535."""
    channels, taps = 64 * 40, 26
    weights = np.full((9, taps, channels // 32), weights_word, np.uint32)
    source = np.full((8, channels // 64), source_word, np.uint64)
    check_xorpop(isa, weights, channels, source, np.zeros(taps, int))


@each_isa
def test_xorpop_weights(isa):
    """One bit at a time shows where each bit of the weights ends up."""
    filters, taps, channels = 17, 2, 70
    source = np.zeros((1, 2), np.uint64)
    for filter_ in range(filters):
        for channel in (0, 31, 32, 63, 64, 69, 70, 95):
            weights = np.zeros((filters, taps, 3), np.uint32)
            weights[filter_, 1, channel // 32] = 1 << (channel % 32)
            counts = kernels.XorpopWeights(isa, weights, channels).counts(source, [0, 0])
            assert counts.sum() == (channel < channels)
            assert counts[0, filter_] == (channel < channels)


def chain_of(rows: np.ndarray) -> np.ndarray:
    """(runs, rows, words) to chains, (runs, 1 + words * rows)."""
    words = rows.transpose(0, 2, 1).reshape(len(rows), -1)
    low = words & np.uint64(0xFFFFFFFF)
    ones = np.bitwise_xor.accumulate(low ^ (words >> np.uint64(32)), axis=1)
    return np.concatenate(
        [np.zeros((len(rows), 1), np.uint64), low | ones << np.uint64(32)], axis=1
    )


@each_isa
@each_stride
def test_chain_source(isa, stride):
    rng = np.random.default_rng(8)
    for index, words in enumerate((1, 7, 8, 9, 15, 16, 17, 31, 33, 100)):
        rows, runs = 1 + index % 9, 1 + index % 3
        source = restride(words64(rng, runs, 3 * words), stride)
        offset = rng.integers(0, 2 * words + 1, rows)
        expected = chain_of(np.stack([source[:, at : at + words] for at in offset], axis=1))
        out = kernels.chain_source(isa, source, offset, words)
        np.testing.assert_array_equal(out[: expected.size].reshape(expected.shape), expected)


def check_chain_sums(isa, weights, channels, rows, pixels, step):
    """rows: (runs, rows, words) of which each window reads as many as a row of weights has."""
    packed = kernels.ChainWeights(isa, weights, channels)
    filters, _, taps, _ = weights.shape
    width = taps * -(-channels // 64)
    wanted = filter_bits(weights, channels).reshape(filters, -1)
    windows = np.stack([rows[:, :, i * step : i * step + width] for i in range(pixels)], axis=1)
    bits = bits_of(windows.reshape(len(rows) * pixels, -1))
    expected = np.zeros((len(bits), packed.padded_filters), np.int32)
    expected[:, :filters] = (bits[:, None] ^ wanted[None]).sum(-1, dtype=np.int32)
    expected[:, filters:] = bits.sum(-1, dtype=np.int32)[:, None]
    guarded = Guarded(expected.shape, np.int32)
    packed.counts(chain_of(rows), pixels, step, out=guarded.out)
    np.testing.assert_array_equal(guarded.out, expected)
    guarded.check()


@each_isa
def test_chain_sums(isa):
    rng = np.random.default_rng(9)
    for index, channels in enumerate(CHANNELS):
        height, taps, words = 1 + index % 5, 1 + index % 3, -(-channels // 64)
        pixels, step = 1 + 2 * index % 9, words * (1 + index % 2)
        weights = words32(rng, 1 + 17 * index % 150, height, taps, -(-channels // 32))
        rows = words64(rng, 1 + index % 3, height, (pixels - 1) * step + taps * words)
        check_chain_sums(isa, weights, channels, rows, pixels, step)


@each_isa
@pytest.mark.parametrize("weights_word", [0, 0xFFFFFFFF])
@pytest.mark.parametrize("source_word", [0, 0xFFFFFFFFFFFFFFFF])
def test_chain_sums_of_the_longest_window(isa, weights_word, source_word):
    weights = np.full((65, 3, 11, 62), weights_word, np.uint32)
    rows = np.full((1, 3, 11 * 31), source_word, np.uint64)
    check_chain_sums(isa, weights, 31 * 64, rows, 1, 1)


@each_isa
def test_chain_weights(isa):
    """One bit at a time shows where each bit of the weights ends up."""
    channels, rows = 70, np.zeros((1, 2, 4), np.uint64)
    for filter_ in range(0, 70, 3):
        for channel in (0, 31, 32, 63, 64, 69, 70, 95):
            weights = np.zeros((70, 2, 2, 3), np.uint32)
            weights[filter_, 1, filter_ % 2, channel // 32] = 1 << (channel % 32)
            counts = kernels.ChainWeights(isa, weights, channels).counts(chain_of(rows), 1, 0)
            assert counts.sum() == (channel < channels)
            assert counts[0, filter_] == (channel < channels)


@each_isa
@each_stride
def test_window_popcount(isa, stride):
    rng = np.random.default_rng(6)
    for index, pixels in enumerate(PIXELS):
        words = index
        source = restride(words64(rng, pixels, words + 5), stride)
        tap_offset = rng.integers(0, 6, 1 + index)
        expected = sum(
            bits_of(source[:, offset : offset + words]).sum(-1, dtype=np.int32)
            for offset in tap_offset
        )
        guarded = Guarded((pixels,), np.int32)
        kernels.window_popcount(isa, source, tap_offset, words, out=guarded.out)
        np.testing.assert_array_equal(guarded.out, expected)
        guarded.check()


# ---- Sums of floats -----------------------------------------------------------------------------


def check_signsum(isa, weights, run, source, row_offset, accumulate):
    packed = kernels.SignsumWeights(isa, weights, run)
    filters, rows, _ = weights.shape
    signs = bits_of(weights)[..., :run].astype(np.float64) * 2 - 1
    guarded = Guarded((source.shape[0], packed.padded_filters), np.float32)
    guarded.out[:] = 0.25
    exact = np.full((source.shape[0], filters), 0.25 * accumulate)
    magnitude = np.abs(exact)
    for row, offset in enumerate(row_offset):
        v = source[:, offset : offset + run].astype(np.float64)
        exact += v @ signs[:, row].T
        magnitude += np.abs(v).sum(axis=1)[:, None]
    expanded = [packed.expand(source[:, offset : offset + run]) for offset in row_offset]
    packed.sums(np.stack(expanded), accumulate=accumulate, out=guarded.out)
    roundings = rows * -(-run // 4) + 3
    error = np.abs(guarded.out[:, :filters] - exact)
    assert (error <= roundings * 2.0**-24 * magnitude).all()
    guarded.check()


@each_isa
@each_stride
def test_signsum(isa, stride):
    rng = np.random.default_rng(8)
    for index, channels in enumerate(CHANNELS):
        rows, run = 1 + index % 4, (1 + index % 3) * channels
        weights = words32(rng, 1 + 7 * index % 71, rows, -(-run // 32))
        source = restride(ordinary(rng, PIXELS[index % len(PIXELS)], run + 5), stride)
        check_signsum(isa, weights, run, source, rng.integers(0, 6, rows), bool(index % 2))


@each_isa
def test_signsum_weights(isa):
    """A single +1 among -1 shows where each bit of the weights ends up."""
    filters, rows, run = 17, 2, 70
    source = np.ones((1, run), np.float32)
    for filter_ in range(filters):
        for input_ in (0, 31, 32, 66, 69, 70, 95):
            weights = np.zeros((filters, rows, 3), np.uint32)
            weights[filter_, 1, input_ // 32] = 1 << (input_ % 32)
            packed = kernels.SignsumWeights(isa, weights, run)
            sums = packed.sums(np.stack([packed.expand(source)] * 2))
            expected = np.full(filters, -rows * run, np.float32)
            expected[filter_] += 2 * (input_ < run)
            np.testing.assert_array_equal(sums[0, :filters], expected)


@each_isa
def test_signsum_infinities(isa):
    """An infinity makes infinities of the right signs; NaN stays in its pixel."""
    rng = np.random.default_rng(9)
    weights = words32(rng, 20, 1, 1)
    source = ordinary(rng, 9, 30)
    source[2, 11], source[5, 29] = np.inf, np.nan
    packed = kernels.SignsumWeights(isa, weights, 30)
    sums = packed.sums(packed.expand(source)[None])[:, :20]
    signs = bits_of(weights)[:, 0, 11].astype(bool)
    np.testing.assert_array_equal(sums[2], np.where(signs, np.inf, -np.inf))
    assert np.isnan(sums[5]).all()
    assert np.isfinite(np.delete(sums, [2, 5], axis=0)).all()


@each_isa
@each_stride
def test_signsum_expand(isa, stride):
    """Every length of the last group; what is absent from it adds nothing, whatever lies there."""
    rng = np.random.default_rng(12)
    for run in range(1, 14):
        weights = words32(rng, 16, 1, 1)
        source = np.full((PIXELS[run % len(PIXELS)], run + 7), np.nan, np.float32)
        source[:, 3 : 3 + run] = ordinary(rng, len(source), run)
        source = restride(source, "dense" if stride == "overlapping" else stride)
        check_signsum(isa, weights, run, source, [3], accumulate=False)


@each_isa
@each_stride
def test_window_sum(isa, stride):
    rng = np.random.default_rng(10)
    for index, pixels in enumerate(PIXELS):
        source = restride(special(rng, pixels, 9), stride)
        tap_offset = rng.integers(0, 9, index + 1)
        expected = np.zeros(pixels, np.float32)
        with np.errstate(invalid="ignore"):
            for offset in tap_offset:
                expected = expected + source[:, offset]
            expected = expected / np.float32(index + 1)
        guarded = Guarded((pixels,), np.float32)
        kernels.window_sum(isa, source, tap_offset, index + 1, out=guarded.out)
        assert_same_bits(guarded.out, expected)
        guarded.check()


# ---- Epilogue: neurons are in test_neurons.py ---------------------------------------------------


def insert_bits(words: np.ndarray, bits: np.ndarray, first: int) -> np.ndarray:
    kept = bits_of(words).copy()
    kept[:, first : first + bits.shape[1]] = bits
    return words_from(kept)


@st.composite
def epilogues(draw):
    pixels, channels = draw(st.sampled_from(PIXELS)), draw(st.integers(1, 128))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    numbers = draw(st.sampled_from([ordinary, special]))
    keywords = {}
    if draw(st.booleans()):
        values = numbers(rng, pixels, channels)
        sums = values
    else:
        values = rng.integers(0, 70000, (pixels, channels)).astype(np.int32)
        keywords = {
            "channel_base": rng.integers(0, 70000, channels).astype(np.int32),
            "count_shift": draw(st.integers(0, 1)),
            "sum_shift": draw(st.integers(0, 1)),
        }
        total = keywords["channel_base"][None].astype(np.int64)
        if draw(st.booleans()):
            keywords["pixel_base"] = rng.integers(0, 70000, pixels).astype(np.int32)
            total = total + keywords["pixel_base"][:, None]
        shifted = total - (values.astype(np.int64) << keywords["count_shift"])
        sums = (shifted >> keywords["sum_shift"]).astype(np.float32)
    scale, bias = numbers(rng, channels), numbers(rng, channels)
    with np.errstate(all="ignore"):
        y = sums * scale
        if draw(st.booleans()):
            keywords["beta"] = ordinary(rng, pixels)
            y = y * keywords["beta"][:, None]
        y = y + bias
    return values, scale, bias, keywords, y.astype(np.float32), rng


@each_isa
@given(case=epilogues(), first_bit=st.integers(0, 140), with_pack_terms=st.booleans())
def test_epilogue(isa, case, first_bit, with_pack_terms):
    values, scale, bias, keywords, y, rng = case
    for dtype in (np.float32, np.float16):
        guarded = Guarded(y.shape, dtype)
        kernels.epilogue(isa, values, scale, bias, dtype=dtype, out=guarded.out, **keywords)
        with np.errstate(over="ignore"):
            assert_same_bits(guarded.out, y.astype(dtype))
        guarded.check()

    pixels, channels = y.shape
    if with_pack_terms:
        keywords["pack_bias"] = ordinary(rng, channels)
        keywords["pack_scale"] = ordinary(rng, channels)
        with np.errstate(all="ignore"):
            y = (y + keywords["pack_bias"]) * keywords["pack_scale"]
    guarded = Guarded((pixels, -(-(first_bit + channels) // 64)), np.uint64)
    expected = insert_bits(guarded.out.copy(), ~(y < 0), first_bit)
    kernels.epilogue(
        isa,
        values,
        scale,
        bias,
        dtype=np.uint64,
        destination_bit=first_bit,
        out=guarded.out,
        **keywords,
    )
    np.testing.assert_array_equal(guarded.out, expected)
    guarded.check()
