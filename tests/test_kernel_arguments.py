"""The module that hands out single kernels lets no array through that a kernel would leave."""

from __future__ import annotations

import numpy as np
import pytest

from binconv import _kernels as kernels

ROW = np.zeros((2, 70), np.float32)
WORDS = np.zeros((2, 3), np.uint64)
TERMS = np.ones(70, np.float32)
FILTERS = np.zeros((4, 9, 2), np.uint32)
READ_ONLY = np.broadcast_to(np.uint64(0), (2, 2))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda k: k.widen("scalar", TERMS), "float16 or uint8"),
        (lambda k: k.pack_f32("scalar", ROW.astype(np.float64)), "float32"),
        (lambda k: k.pack_f32("scalar", ROW[:, ::2]), "dense"),
        (lambda k: k.pack_f32("scalar", TERMS), "2 dimensions"),
        (lambda k: k.pack_f32("scalar", ROW, TERMS), "both or neither"),
        (lambda k: k.pack_f32("scalar", ROW, TERMS[1:], TERMS[1:]), r"\(70,\)"),
        (lambda k: k.pack_f32("scalar", ROW, TERMS, TERMS), "abs_sum"),
        (
            lambda k: k.pack_f32("scalar", ROW, thresholds=k.InputThresholds([1], [1])),
            "channels of source",
        ),
        (lambda k: k.InputThresholds(TERMS, TERMS[1:]), r"\(70,\)"),
        (lambda k: k.InputThresholds(ROW, ROW), "1 dimension"),
        (lambda k: k.pack_f32("scalar", ROW, out=WORDS), "out"),
        (lambda k: k.pack_f32("scalar", ROW, out=READ_ONLY), "writeable"),
        (lambda k: k.pack_f32("scalar", ROW, abs_sum=TERMS), "abs_sum"),
        (lambda k: k.terms_f32("scalar", ROW, out=ROW.T), "out"),
        (lambda k: k.gather_bits("scalar", WORDS[0], 100, 0, [0], 93, 1, 1), "in the source"),
        (lambda k: k.gather_bits("scalar", WORDS[0], 0, -1, [0], 1, 1, 2), "in the source"),
        (lambda k: k.gather_bits("scalar", WORDS[0], 0, 0, [[0]], 1, 1, 1), "1 dimension"),
        (lambda k: k.gather_bits("scalar", WORDS[0], 0, 0, [0], -1, 1, 1), "negative"),
        (lambda k: k.gather_bits("scalar", WORDS[0], 0, 0, [0], 1, 1, 1, out=WORDS), "out"),
        (lambda k: k.unpack_i8("scalar", WORDS, 193), "channels"),
        (lambda k: k.unpack_i8("scalar", WORDS[:, :2], 128), "dense"),
        (lambda k: k.unpack_i8("scalar", WORDS, -1), "channels"),
        (lambda k: k.XorpopWeights("scalar", FILTERS, 65), "weights"),
        (lambda k: k.XorpopWeights("scalar", FILTERS, 64).counts(WORDS, [0] * 8), "9 elements"),
        (lambda k: k.XorpopWeights("scalar", FILTERS, 64).counts(WORDS, [3] * 9), "tap_offset"),
        (lambda k: k.XorpopWeights("scalar", FILTERS, 64).counts(WORDS, [-1] * 9), "tap_offset"),
        (lambda k: k.SignsumWeights("scalar", FILTERS, 65), "weights"),
        (lambda k: k.SignsumWeights("scalar", FILTERS, 64).expand(ROW), "64"),
        (lambda k: k.SignsumWeights("scalar", FILTERS, 64).sums(ROW[None]), "expand"),
        (lambda k: k.window_popcount("scalar", WORDS, [2], 2), "tap_offset"),
        (lambda k: k.window_popcount("scalar", WORDS, [0], -1), "words"),
        (lambda k: k.window_sum("scalar", ROW, [70], 1), "tap_offset"),
        (lambda k: k.epilogue("scalar", np.zeros((1, 257), np.float32), TERMS, TERMS), "channels"),
        (lambda k: k.epilogue("scalar", ROW, TERMS, TERMS, neuron=(16, 0, 0, 0)), "0 to 15"),
        (lambda k: k.epilogue("scalar", ROW, TERMS, TERMS, neuron=(10, 0, 0, 0)), "PRELU"),
        (lambda k: k.epilogue("scalar", ROW, TERMS, TERMS, beta=TERMS), "beta"),
        (lambda k: k.epilogue("scalar", ROW, TERMS, TERMS, dtype=np.float64), "dtype"),
        (lambda k: k.epilogue("scalar", ROW.astype(np.int32), TERMS, TERMS), "channel_base"),
    ],
)
def test_wrong_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call(kernels)
