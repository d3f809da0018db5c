"""The oracle itself, against hand-computed numbers, naive loops and PyTorch."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import reference as ref


def random_layer(rng, o, kernel, cg, **fields):
    return ref.Layer(rng.integers(0, 2, (o, *kernel, cg)), **fields)


def naive_sum(layer, source, at, offset):
    """S of one destination pixel (n, y, x, o), term by term."""
    n, y, x, o = at
    _, height, width, _ = source.shape
    (kh, kw), (fy, fx) = layer.kernel, layer.dilated_kernel
    cg = layer.weights.shape[3]
    g = o // (layer.output_channels // layer.groups)
    total = 0.0
    for i, j, c in itertools.product(range(kh), range(kw), range(cg)):
        row = offset[0] + y * layer.strides[0] - (fy >> 1) + i * layer.dilations[0]
        column = offset[1] + x * layer.strides[1] - (fx >> 1) + j * layer.dilations[1]
        inside = 0 <= row < height and 0 <= column < width
        if not inside and layer.edge_mode == "EXCLUDE":
            continue
        channel = g * cg + c
        v = source[n, row, column, channel] if inside else np.float32(layer.edge_constant)
        v = (v + layer.input_bias[channel]) * layer.input_scale[channel]
        w = layer.weights[o, i, j, c]
        bit = 0 if v < 0 else 1
        if layer.type == "XNOR":
            total += 1 if bit == w else -1
        elif layer.type == "AND":
            total += 1 if bit == 1 and w == 1 else 0
        else:
            total += v if w == 1 else -v
    return total


@pytest.mark.parametrize("type_", ["XNOR", "AND", "BINARY_WEIGHTS"])
@pytest.mark.parametrize("edge_mode", ["CONSTANT", "EXCLUDE"])
def test_sums_equal_naive_loops(type_, edge_mode):
    rng = np.random.default_rng(1)
    layer = random_layer(
        rng,
        4,
        (2, 3),
        3,
        type=type_,
        groups=2,
        strides=(2, 1),
        dilations=(1, 2),
        input_bias=rng.normal(size=6).astype(np.float32),
        input_scale=rng.normal(size=6).astype(np.float32),
        edge_mode=edge_mode,
        edge_constant=-0.25,
    )
    source = rng.normal(size=(2, 4, 5, 6)).astype(np.float32)
    s, _, _ = ref.sums(layer, source, (3, 6), (-1, 1))
    for at in np.ndindex(s.shape):
        assert s[at] == pytest.approx(naive_sum(layer, source, at, (-1, 1)), rel=1e-6, abs=1e-6)


def test_hand_computed_row():
    """One row, three taps, one channel: +2 -1 | weights 1 0 1, zero padded."""
    source = np.array([2.0, -1.0], np.float32).reshape(1, 1, 2, 1)
    weights = np.array([1, 0, 1]).reshape(1, 1, 3, 1)
    expected = {
        # windows (0, 2, -1) and (2, -1, 0), bits (1 1 0) and (1 0 1)
        ("XNOR", "ZERO"): [-1, 3],
        ("XNOR", "EXCLUDE"): [-2, 2],
        ("AND", "ZERO"): [1, 2],
        ("AND", "EXCLUDE"): [0, 1],
        ("BINARY_WEIGHTS", "ZERO"): [-3, 3],
        ("BINARY_WEIGHTS", "EXCLUDE"): [-3, 3],
        # windows (2, 2, -1) and (2, -1, -1)
        ("BINARY_WEIGHTS", "CLAMP"): [-1, 2],
        # windows (-1, 2, -1) and (2, -1, 2)
        ("BINARY_WEIGHTS", "MIRROR"): [-4, 5],
    }
    for (type_, edge_mode), row in expected.items():
        layer = ref.Layer(weights, type=type_, edge_mode=edge_mode)
        s, _, _ = ref.sums(layer, source, (1, 2), (0, 0))
        assert s.ravel().tolist() == row, (type_, edge_mode)


def test_hand_computed_beta():
    """beta is the mean of the channel means over all taps, those outside counting as 0."""
    source = np.array([[2.0, -4.0], [1.0, 1.0]], np.float32).reshape(1, 1, 2, 2)
    layer = ref.Layer(np.ones((1, 1, 3, 2), int), beta_scaling=True)
    _, _, beta = ref.sums(layer, source, (1, 2), (0, 0))
    assert beta.ravel().tolist() == pytest.approx([4 / 3, 4 / 3])
    clamped = ref.Layer(layer.weights, beta_scaling=True, edge_mode="CLAMP")
    _, _, beta = ref.sums(clamped, source, (1, 2), (0, 0))
    assert beta.ravel().tolist() == pytest.approx([7 / 3, 5 / 3])


def test_edge_modes_repeat():
    def read(size, mode):
        return [ref.nearest_inside(k, size, mode) for k in range(-5, size + 5)]

    assert read(3, "CLAMP") == [0] * 6 + [1] + [2] * 6
    assert read(3, "MIRROR") == [1, 0, 1, 2, 1, 0, 1, 2, 1, 0, 1, 2, 1]
    assert read(3, "MIRROR_WITH_EDGE") == [1, 2, 2, 1, 0, 0, 1, 2, 2, 1, 0, 0, 1]
    assert read(1, "MIRROR") == [0] * 11
    assert read(1, "MIRROR_WITH_EDGE") == [0] * 11
    assert read(1, "ZERO") == [None] * 5 + [0] + [None] * 5


@pytest.mark.parametrize(
    ("n", "f", "s", "style", "align", "first", "expected"),
    [
        (5, 3, 1, "SAME", "CENTERED", True, (5, 0)),
        (5, 3, 1, "VALID_ONLY", "CENTERED", True, (3, 1)),
        (5, 3, 1, "FULL", "CENTERED", True, (7, -1)),
        (5, 4, 1, "SAME", "CENTERED", True, (5, 0)),  # 3 to pad, 2 of them in front
        (5, 4, 1, "SAME", "CENTERED", False, (5, 1)),
        (6, 3, 2, "SAME", "CENTERED", True, (3, 0)),  # 1 to pad
        (6, 3, 2, "SAME", "CENTERED", False, (3, 1)),
        (6, 3, 2, "SAME", "TOP_LEFT", False, (3, 0)),
        (6, 3, 2, "SAME", "BOTTOM_RIGHT", True, (3, 1)),
        (7, 1, 4, "SAME", "CENTERED", True, (2, 0)),  # 2 left over: (-2 + 1) / 2 = 0
        (7, 1, 4, "SAME", "CENTERED", False, (2, 1)),  # -2 / 2 = -1
        (8, 1, 4, "SAME", "CENTERED", True, (2, 1)),  # 3 left over: (-3 + 1) / 2 = -1
        (8, 1, 4, "SAME", "CENTERED", False, (2, 1)),  # -3 / 2 toward zero = -1
        (2, 5, 1, "VALID_ONLY", "CENTERED", True, (0, 1)),
    ],
)
def test_padding_by_hand(n, f, s, style, align, first, expected):
    # extra = (size - 1) * s + f - n, offset = (f >> 1) - left
    assert ref.padding_1d(n, f, s, style=style, align=align, remainder_first=first) == expected


def test_subpixel_by_hand():
    out = np.arange(8).reshape(1, 1, 1, 8)
    shuffled = ref.subpixel_shuffle(out, 2)
    assert shuffled.shape == (1, 2, 2, 2)
    assert shuffled[0, 0, 0].tolist() == [0, 1]
    assert shuffled[0, 0, 1].tolist() == [2, 3]
    assert shuffled[0, 1, 0].tolist() == [4, 5]


def test_packing_round_trip_and_bit_order():
    bits = np.random.default_rng(2).integers(0, 2, (3, 130))
    assert ref.unpack(ref.pack(bits), 130).tolist() == bits.tolist()
    one = np.zeros((1, 130), int)
    one[0, 65] = 1
    assert ref.pack(one).tolist() == [[0, 2, 0]]
    assert ref.pack_weights(one).tolist() == [[0, 0, 2, 0, 0]]


def test_signs_of_special_pixels():
    v = np.array([0.0, -0.0, np.nan, -np.nan, np.inf, -np.inf, -1e-45], np.float32)
    assert ref.bit(v).tolist() == [1, 1, 1, 1, 1, 0, 0]


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("type_", ["XNOR", "BINARY_WEIGHTS"])
def test_agrees_with_torch(groups, type_):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(3)
    layer = random_layer(
        rng,
        8,
        (3, 2),
        4 // groups,
        groups=groups,
        type=type_,
        strides=(2, 1),
        dilations=(1, 3),
        edge_mode="EXCLUDE",
    )
    source = rng.normal(size=(2, 7, 9, 4)).astype(np.float32)
    size, offset = ref.padding_explicit(layer, (7, 9), 1, 1, 2, 2)
    result = ref.run(layer, source, size, offset)
    operand = np.sign(source) if type_ == "XNOR" else source
    expected = torch.nn.functional.conv2d(
        torch.from_numpy(operand.transpose(0, 3, 1, 2).astype(np.float64)),
        torch.from_numpy((2.0 * layer.weights - 1).transpose(0, 3, 1, 2)),
        stride=layer.strides,
        dilation=layer.dilations,
        padding=(1, 2),
        groups=groups,
    )
    expected = expected.numpy().transpose(0, 2, 3, 1)
    np.testing.assert_allclose(result.value, expected, rtol=1e-12, atol=1e-12)
    if type_ == "XNOR":
        assert result.sums.dtype == np.int64
        assert np.array_equal(result.sums, expected)
    assert (result.low <= expected).all()
    assert (result.high >= expected).all()


def test_bounds_can_fail():
    rng = np.random.default_rng(4)
    layer = random_layer(rng, 3, (1, 1), 5, scale=0.1, neuron=ref.Neuron("SIGMOID"))
    source = rng.normal(size=(1, 2, 2, 5)).astype(np.float32)
    result = ref.run(layer, source, (2, 2), (0, 0))
    right = result.value.astype(np.float32)
    ref.check(right, result)
    wrong = right.copy()
    wrong[0, 1, 1, 2] += 6 * np.spacing(wrong[0, 1, 1, 2])
    with pytest.raises(AssertionError, match="1 of 12"):
        ref.check(wrong, result)
