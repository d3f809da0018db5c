"""Padding, offsets and regions against examples that were worked out by hand."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

import binconv as bc
from binconv import PaddingMethod as M


def layer(kernel=3, stride=1, dilation=1, factor=1, **changes) -> bc.BinaryConvolution:
    """A square layer; changes are fields of its descriptor."""
    desc = bc.SubPixelConvolutionDescriptor(
        **{
            "kernel_width": kernel,
            "kernel_height": kernel,
            "input_feature_channels": 1,
            "output_feature_channels": factor**2,
            "stride_in_pixels_x": stride,
            "stride_in_pixels_y": stride,
            "dilation_rate_x": dilation,
            "dilation_rate_y": dilation,
            "subpixel_scale_factor": factor,
            **changes,
        }
    )
    return bc.BinaryConvolution(bc.ArrayDataSource(desc, np.zeros(desc.weights_shape, np.uint32)))


# source, kernel, stride, dilation -> size and offset of each style with a centred remainder at the
# top left.  By the formulas: extra = (size - 1)*s + f - n, left = (extra + 1)/2 rounded toward 0,
# offset = (f >> 1) - left.
BY_HAND = [
    # n, k, s, d,  VALID_ONLY,  SAME,    FULL
    (5, 3, 1, 1, (3, 1), (5, 0), (7, -1)),
    (5, 4, 1, 1, (2, 2), (5, 0), (8, -1)),  # SAME: extra 3, left 2; FULL: extra 6, left 3
    (6, 3, 2, 1, (2, 1), (3, 0), (4, -1)),  # VALID: extra -1, left 0; SAME: 1, 1; FULL: 3, 2
    (5, 2, 3, 1, (2, 1), (2, 1), (2, 1)),  # VALID and SAME: extra 0; FULL: ceil(6/3) = 2
    (7, 3, 1, 2, (3, 2), (7, 0), (11, -2)),  # f = 5
    (2, 5, 1, 1, (0, 1), (2, 0), (6, -2)),  # VALID: size 0, extra (0 - 1) + 5 - 2 = 2, left 1
    (1, 1, 4, 1, (1, 0), (1, 0), (1, 0)),
]


@pytest.mark.parametrize(("n", "k", "s", "d", "valid", "same", "full"), BY_HAND)
def test_sizes_and_offsets(n, k, s, d, valid, same, full):
    conv = layer(k, s, d)
    for method, (size, offset) in (
        (M.SIZE_VALID_ONLY, valid),
        (M.SIZE_SAME, same),
        (M.SIZE_FULL, full),
    ):
        padding = bc.Padding(method)
        assert padding.destination((n, n), conv) == ((size, size), bc.Offset(offset, offset))
        conv.padding = padding
        assert conv.destination_size((n, n)) == (size, size)


@pytest.mark.parametrize(
    ("method", "row", "column"),
    [
        # SAME, n = 5, f = 4: extra 3, so 2 rows before with the remainder first, else 1
        (M.ADD_REMAINDER_TO_TOP_LEFT, 0, 0),
        (M.ADD_REMAINDER_TO_TOP_RIGHT, 0, 1),
        (M.ADD_REMAINDER_TO_BOTTOM_LEFT, 1, 0),
        (M.ADD_REMAINDER_TO_BOTTOM_RIGHT, 1, 1),
        (M.ALIGN_TOP_LEFT, -1, -1),  # left = extra
        (M.ALIGN_BOTTOM_RIGHT, 2, 2),  # left = 0
    ],
)
def test_alignment_and_remainder(method, row, column):
    size, offset = bc.Padding(M.SIZE_SAME | method).destination((5, 5), layer(4))
    assert size == (5, 5)
    assert (offset.y, offset.x) == (row, column)


@pytest.mark.parametrize(
    ("method", "offset"),
    [
        # VALID_ONLY, n = 7, f = 2, s = 3: size 2, extra (2-1)*3 + 2 - 7 = -2, toward zero
        (M.ALIGN_CENTERED, 1),  # (-2 + 1)/2 = 0
        (M.ADD_REMAINDER_TO_BOTTOM_RIGHT, 2),  # -2/2 = -1
        (M.ALIGN_TOP_LEFT, 3),
    ],
)
def test_pixels_left_over(method, offset):
    size, at = bc.Padding(method).destination((7, 7), layer(2, 3))
    assert (size, at) == ((2, 2), bc.Offset(offset, offset))


def test_rows_and_columns_are_apart():
    conv = layer(kernel_height=3, kernel_width=5, stride_in_pixels_y=2, dilation_rate_x=2)
    # rows: n 7, f 3, s 2, size 4, extra 2, left 1; columns: n 8, f 9, s 1, extra 8, left 4
    assert conv.padding.destination((7, 8), conv) == ((4, 8), bc.Offset(x=0, y=0))
    conv.padding = bc.Padding(M.SIZE_VALID_ONLY)
    # rows: size ceil(5/2) = 3, extra 0; columns: size 0
    assert conv.destination_size((7, 8)) == (3, 0)


def test_explicit():
    """PyTorch's formula, floor((n + before + after - f)/s) + 1."""
    conv = layer(3, 2)
    padding = bc.Padding.explicit(top=1, bottom=0, left=2, right=1)
    # rows: (6 + 1 - 3)//2 + 1 = 3; columns: (6 + 3 - 3)//2 + 1 = 4
    assert padding.destination((6, 6), conv) == ((3, 4), bc.Offset(x=-1, y=0))
    assert bc.Padding.explicit().destination((1, 2), conv)[0] == (0, 0)
    assert bc.Padding.explicit(-1, -1).destination((6, 6), conv)[0] == (1, 2)
    assert padding.method == M.CUSTOM
    assert "top=1" in repr(padding)


def test_same_tensorflow():
    """TensorFlow pads the odd pixel at the end: n = 6, f = 3, s = 2 pads 0 before and 1 after."""
    size, offset = bc.Padding.same_tensorflow().destination((6, 6), layer(3, 2))
    assert (size, offset) == ((3, 3), bc.Offset(1, 1))


def test_subpixel_sizes():
    conv = layer(factor=3)
    assert conv.destination_size((4, 5)) == (12, 15)
    # rows 0 to 3 of the destination come of 2 output rows, columns 0 to 6 of 3
    assert conv.source_region((4, 7)) == bc.Region((-1, -1, 0), (5, 4, 1))


def test_source_region():
    conv = layer(3, 2, 2)  # f = 5, reached from 2 before to 2 after
    conv.offset = bc.Offset(x=10, y=20, z=3)
    assert conv.source_region((4, 1)) == bc.Region((8, 18, 3), (5, 3 * 2 + 5, 1))
    assert conv.source_region((0, 0)).size == (0, 0, 1)


def test_a_policy_of_ones_own():
    class Crop:
        def __init__(self):
            self.seen = []

        def destination(self, source_size, kernel):
            self.seen.append((source_size, kernel.kernel_width))
            return (2, 3), bc.Offset(x=1, y=2, z=99)

    conv = layer(3)
    policy = Crop()
    conv.padding = policy
    image = np.random.default_rng(0).normal(size=(7, 8, 1)).astype(np.float32)
    out = conv(image)
    assert out.shape == (2, 3, 1)
    assert policy.seen == [((7, 8), 3)]
    manual = layer(3)
    manual.offset = bc.Offset(x=1, y=2)
    assert np.array_equal(out, manual.encode(image, np.empty((2, 3, 1), np.float32)))
    conv(image)
    assert len(policy.seen) == 2, "a policy may answer differently each time"


@pytest.mark.parametrize("base", [object, bc.Padding])
def test_a_policy_is_asked_in_every_call(base):
    answers = []

    class Moving(base):
        def destination(self, source_size, kernel):
            answers.append(bc.Offset(x=100 * len(answers)))
            return (2, 2), answers[-1]

    conv = layer()
    conv.edge_mode = bc.EdgeMode.EXCLUDE
    conv.padding = Moving()
    image = np.ones((4, 4, 1), np.float32)
    out = np.empty((2, 2, 1), np.float32)
    on_source = [bool(conv(image, out).any()) for _ in range(3)]
    assert (len(answers), on_source) == (3, [True, False, False])
    conv(image)
    assert len(answers) == 4
    with pytest.raises(TypeError, match="padding"):
        conv.to_bytes()


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (None, TypeError),
        ((2, 3), TypeError),
        (((2, 3), (0, 0)), TypeError),
        (((2, 3, 4), bc.Offset()), TypeError),
        (((2, 3.0), bc.Offset()), TypeError),
        (((-1, 3), bc.Offset()), ValueError),
        (((2**31, 3), bc.Offset()), ValueError),
    ],
)
def test_a_policy_that_answers_nonsense(answer, error):
    class Nonsense:
        def destination(self, source_size, kernel):
            return answer

    conv = layer()
    conv.padding = Nonsense()
    with pytest.raises(error, match="padding"):
        conv(np.ones((4, 4, 1), np.float32))


@pytest.mark.parametrize("method", [3, 48, 64, 16384, -1, 2**20])
def test_methods_that_are_none(method):
    with pytest.raises(ValueError, match="method"):
        bc.Padding(method)


def test_values():
    assert bc.Padding() == bc.Padding(M.SIZE_SAME)
    assert bc.Padding(28) == bc.Padding.same_tensorflow()
    assert bc.Padding.explicit(1, 2, 3, 4) != bc.Padding.explicit(1, 2, 3, 5)
    for value in (
        bc.Padding.explicit(1, 2, 3, 4),
        bc.Padding(M.SIZE_FULL | M.ALIGN_TOP_LEFT),
        bc.Offset(1, -2, 3),
        bc.Region((1, 2, 3), (4, 5, 6)),
    ):
        again = pickle.loads(pickle.dumps(value))
        assert again == value
        assert hash(again) == hash(value)
    assert bc.Region([1, 2, 3], [4, 5, 6]).size == (4, 5, 6)
    for wrong in (lambda: bc.Region((1, 2)), lambda: bc.Offset(1.0), lambda: bc.Offset(True)):
        with pytest.raises(TypeError):
            wrong()


def test_destinations_beyond_measure():
    conv = layer(stride=1)
    conv.padding = bc.Padding.explicit(2**31 - 1, 2**31 - 1)
    with pytest.raises(ValueError, match="padding"):
        conv.destination_size((5, 5))
