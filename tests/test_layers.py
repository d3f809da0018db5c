"""Whole layers through the public interface, against the oracle."""

from __future__ import annotations

import numpy as np
import pytest
import reference as ref
from building import (
    EDGE_MODES,
    TYPES,
    convolution,
    make,
    package_source,
    pixels,
    source_of,
    takes_bits,
)
from checking import NEURONS, OUTPUT_FORMS, check, check_case, padding_of
from hypothesis import given
from strategies import Case, cases, layers, paddings, seeds, wide_layers

import binconv as bc

# ------------------------------------------------------------------------------- random layers


@given(cases())
def test_random_layers(case):
    check_case(case)


@given(cases(of=wide_layers()))
def test_random_wide_layers(case):
    check_case(case)


@given(layers(neuron=ref.Neuron(), batch_norm=None), seeds(), paddings())
def test_random_layers_of_real_weights(layer, rng, padding):
    """BINARY_WEIGHTS alone, so that as many examples reach it as the two others share."""
    layer = ref.Layer(**{**vars(layer), "type": "BINARY_WEIGHTS"})
    source = pixels(rng, (1, 5, 6, layer.input_channels), "float32")
    check_case(Case(layer, source, padding, "float32"))


@given(cases(scale=1.0, bias=0.0, neuron=ref.Neuron(), batch_norm=None, beta_scaling=False))
def test_integer_results_are_exact(case):
    """With scale 1 and bias 0 the result is S itself."""
    layer = case.layer
    if layer.type == "BINARY_WEIGHTS":
        layer = ref.Layer(**{**vars(layer), "type": "XNOR"})
    size, offset = Case(layer, case.source, case.padding, "float32").geometry()
    s, _, _ = ref.sums(layer, case.source, size, offset)
    conv = convolution(layer)
    conv.padding = padding_of(case.padding)
    actual = conv(package_source(case.source))
    assert actual.dtype == (
        np.float16
        if isinstance(case.source, np.ndarray) and case.source.dtype == np.float16
        else np.float32
    )
    expected = ref.subpixel_shuffle(s, layer.subpixel)
    if actual.dtype == np.float16:
        expected = expected.astype(np.float32).astype(np.float16)
    assert np.array_equal(actual, expected)


# ------------------------------------------------------------------------------------ the grid


@pytest.mark.parametrize("destination", OUTPUT_FORMS)
@pytest.mark.parametrize("source", ["float32", "float16", "uint8", "packed"])
@pytest.mark.parametrize("type_", TYPES)
def test_forms_of_source_and_destination(type_, source, destination):
    layer = make(5, 19, (3, 3), 37, type=type_, scale=0.05, bias=-0.3)
    if source == "packed" and not takes_bits(layer):
        pytest.skip("BINARY_WEIGHTS needs real values")
    check(layer, source_of(np.random.default_rng(6), (2, 5, 7, 37), source), destination)


@pytest.mark.parametrize("destination", OUTPUT_FORMS)
@pytest.mark.parametrize("edge_mode", EDGE_MODES)
@pytest.mark.parametrize("type_", TYPES)
@pytest.mark.parametrize("beta", [False, True])
def test_edge_modes(type_, edge_mode, destination, beta):
    """A kernel so large that reflections repeat."""
    rng = np.random.default_rng(7)
    layer = make(
        8,
        9,
        (5, 4),
        33,
        type=type_,
        edge_mode=edge_mode,
        edge_constant=-0.7,
        dilations=(2, 3),
        beta_scaling=beta,
        input_bias=rng.normal(size=33).astype(np.float32) * 0.3,
        input_scale=rng.normal(size=33).astype(np.float32),
        scale=rng.normal(size=9).astype(np.float32),
        bias=rng.normal(size=9).astype(np.float32),
    )
    check(layer, pixels(rng, (1, 3, 4, 33), "float32"), destination, padding=("FULL",))


@pytest.mark.parametrize("destination", OUTPUT_FORMS)
@pytest.mark.parametrize("edge_mode", EDGE_MODES)
@pytest.mark.parametrize("type_", ["XNOR", "AND"])
def test_edges_of_packed_sources(type_, edge_mode, destination):
    """Input terms are in the bits already, and still decide what a tap off the source reads."""
    rng = np.random.default_rng(167)
    for terms in ("bias", "scale", "both"):
        layer = make(
            168,
            9,
            (3, 4),
            70,
            type=type_,
            edge_mode=edge_mode,
            edge_constant=-0.7,
            input_bias=None if terms == "scale" else rng.normal(size=70).astype(np.float32),
            input_scale=None if terms == "bias" else rng.normal(size=70).astype(np.float32),
        )
        source = source_of(rng, (1, 3, 4, 70), "packed")
        check(layer, source, destination, padding=("FULL",))


@pytest.mark.parametrize("neuron", NEURONS, ids=lambda n: f"{n.type}-{n.c:g}")
@pytest.mark.parametrize("type_", TYPES)
def test_neurons(type_, neuron):
    rng = np.random.default_rng(9)
    scale = rng.normal(size=18).astype(np.float32) * 0.2
    layer = make(10, 18, (3, 3), 5, type=type_, neuron=neuron, scale=scale, bias=scale[::-1])
    check(layer, pixels(rng, (1, 6, 5, 5), "float32"), *OUTPUT_FORMS)


def test_logarithm_and_power_over_their_domain():
    """AND's sums are never negative, so these need no guard."""
    rng = np.random.default_rng(11)
    source = pixels(rng, (1, 6, 6, 40), "float32")
    for neuron in (
        ref.Neuron("LOGARITHM", 0.5, 1.0, 2.0),
        ref.Neuron("LOGARITHM", 0.5, 1.0, -1.0),
        ref.Neuron("LOGARITHM", 0.5, 0.0, 10.0),  # log 0 is -inf
        ref.Neuron("POWER", 0.3, 0.1, 0.37),
        ref.Neuron("POWER", 0.3, 0.1, -1.5),
        ref.Neuron("POWER", 0.3, 0.0, 0.0),
        ref.Neuron("EXPONENTIAL", 1.0, 0.0, -1.0),
        ref.Neuron("EXPONENTIAL", -1.0, 3.0, 2.0),
        ref.Neuron("SOFT_PLUS", 1.0, -1.0),
        ref.Neuron("TANH", 2.0, -0.01),
    ):
        check(make(12, 8, (3, 3), 40, type="AND", neuron=neuron), source, *OUTPUT_FORMS)


@pytest.mark.parametrize("multiplier", [1, 2, 3])
@pytest.mark.parametrize("type_", TYPES)
def test_depthwise(type_, multiplier):
    rng = np.random.default_rng(13)
    channels = 35
    layer = make(14, channels * multiplier, (3, 3), 1, groups=channels, type=type_, strides=(2, 1))
    check(layer, pixels(rng, (1, 6, 7, channels), "float32"), *OUTPUT_FORMS)
    if takes_bits(layer):
        check(layer, source_of(rng, (1, 6, 7, channels), "packed"), *OUTPUT_FORMS)


@pytest.mark.parametrize("type_", TYPES)
@pytest.mark.parametrize("cg", [1, 31, 32, 33, 63, 64, 65, 96, 100])
def test_groups_whose_channels_straddle_words(type_, cg):
    rng = np.random.default_rng(15)
    layer = make(16, 12, (2, 2), cg, groups=3, type=type_)
    check(layer, pixels(rng, (1, 4, 4, 3 * cg), "float32"), "float32", "packed")
    if takes_bits(layer):
        check(layer, source_of(rng, (1, 4, 4, 3 * cg), "packed"))


@pytest.mark.parametrize("cg", [1, 2, 3, 31, 32, 33, 63, 64, 65, 127, 128, 129, 255, 256, 257])
@pytest.mark.parametrize("type_", TYPES)
def test_channels_around_words(type_, cg):
    rng = np.random.default_rng(17)
    layer = make(18, 10, (3, 2), cg, type=type_)
    check(layer, pixels(rng, (1, 4, 5, cg), "float32"))
    if takes_bits(layer):
        check(layer, source_of(rng, (1, 4, 5, cg), "packed"), "float32", "packed")


@pytest.mark.parametrize("width", [1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 13, 16, 17])
@pytest.mark.parametrize("o", [1, 7, 8, 9, 16, 23, 64, 65])
def test_sizes_around_the_tiles(width, o):
    rng = np.random.default_rng(19)
    source = pixels(rng, (1, 2, width, 24), "float32")
    for type_ in TYPES:
        check(make(20, o, (3, 3), 24, type=type_), source, "float32", "packed")


@pytest.mark.parametrize("r", [2, 3, 4])
@pytest.mark.parametrize("type_", TYPES)
def test_subpixel(type_, r):
    rng = np.random.default_rng(21)
    bias = rng.normal(size=5 * r * r).astype(np.float32)
    layer = make(22, 5 * r * r, (3, 3), 11, type=type_, subpixel=r, bias=bias, scale=0.3)
    check(layer, pixels(rng, (2, 3, 4, 11), "float32"), *OUTPUT_FORMS)


@pytest.mark.parametrize("type_", TYPES)
def test_batch_normalization_is_folded(type_):
    rng = np.random.default_rng(23)
    for gamma, beta, epsilon in ((None, None, 1e-5), (1, None, 1e-3), (None, 1, 0.0), (1, 1, 1e-5)):
        norm = ref.BatchNorm(
            rng.normal(size=9).astype(np.float32) * 5,
            rng.uniform(0.5, 20, 9).astype(np.float32),
            None if gamma is None else rng.normal(size=9).astype(np.float32),
            None if beta is None else rng.normal(size=9).astype(np.float32),
            epsilon,
        )
        terms = rng.normal(size=(2, 9)).astype(np.float32)
        layer = make(24, 9, (3, 3), 20, type=type_, batch_norm=norm, scale=terms[0], bias=terms[1])
        check(layer, pixels(rng, (1, 4, 4, 20), "float32"), *OUTPUT_FORMS)


@pytest.mark.parametrize("style", ["VALID_ONLY", "SAME", "FULL"])
@pytest.mark.parametrize("align", ["CENTERED", "TOP_LEFT", "BOTTOM_RIGHT"])
@pytest.mark.parametrize("remainder", ["TOP_LEFT", "TOP_RIGHT", "BOTTOM_LEFT", "BOTTOM_RIGHT"])
def test_padding_methods(style, align, remainder):
    rng = np.random.default_rng(25)
    for kernel, strides, size in (
        ((3, 3), (1, 1), (5, 6)),
        ((2, 4), (2, 3), (7, 8)),  # even kernels: the remainder shows
        ((1, 1), (4, 5), (6, 7)),  # pixels are left over
        ((4, 3), (1, 2), (2, 2)),  # larger than the image
    ):
        layer = make(26, 4, kernel, 3, strides=strides, edge_mode="EXCLUDE")
        source = pixels(rng, (1, *size, 3), "float32")
        check_case(Case(layer, source, (style, align, remainder), "float32"))


@pytest.mark.parametrize("sides", [(0, 0, 0, 0), (1, 0, 0, 2), (0, 3, 1, 0), (5, 0, 0, 9)])
@pytest.mark.parametrize("edge_mode", EDGE_MODES)
def test_asymmetric_explicit_padding(sides, edge_mode):
    rng = np.random.default_rng(27)
    layer = make(28, 5, (3, 2), 6, strides=(2, 1), edge_mode=edge_mode, edge_constant=-1.0)
    check(layer, pixels(rng, (1, 6, 5, 6), "float32"), padding=sides)


def test_same_tensorflow_puts_the_remainder_at_the_bottom_right():
    """TensorFlow pads (1, 2) for n = 6, f = 4, s = 1 and (0, 1) for n = 6, f = 3, s = 2."""
    rng = np.random.default_rng(29)
    for kernel, strides, sides in (((4, 4), (1, 1), (1, 2, 1, 2)), ((3, 3), (2, 2), (0, 1, 0, 1))):
        layer = make(30, 4, kernel, 3, strides=strides, edge_mode="EXCLUDE")
        source = pixels(rng, (1, 6, 6, 3), "float32")
        conv = convolution(layer)
        conv.padding = bc.Padding.same_tensorflow()
        actual = conv(source)
        size, offset = ref.padding_explicit(layer, (6, 6), *sides)
        ref.check(actual, ref.run(layer, source, size, offset))


def test_a_custom_padding_policy():
    class Shifted:
        def destination(self, source_size, kernel):
            assert source_size == (6, 7)
            return (4, 2), bc.Offset(x=-3, y=5)

    rng = np.random.default_rng(31)
    layer = make(32, 4, (3, 3), 3, strides=(2, 1))
    conv = convolution(layer)
    conv.padding = Shifted()
    source = pixels(rng, (1, 6, 7, 3), "float32")
    ref.check(conv(source), ref.run(layer, source, (4, 2), (5, -3)))


def test_calling_changes_nothing_in_the_object():
    layer = make(33, 4, (3, 3), 3)
    conv = convolution(layer)
    conv.offset = bc.Offset(x=11, y=12, z=13)
    conv.clip_rect = bc.Region(origin=(1, 1, 0), size=(1, 1, 1))
    source = pixels(np.random.default_rng(34), (1, 6, 7, 3), "float32")
    ref.check(conv(source), ref.run(layer, source, (6, 7), (0, 0)))
    assert (conv.offset.x, conv.offset.y, conv.offset.z) == (11, 12, 13)
    assert conv.clip_rect == bc.Region(origin=(1, 1, 0), size=(1, 1, 1))


# ------------------------------------------------------------------------------------- shapes


def test_three_dimensions_in_three_out():
    layer = make(60, 9, (3, 3), 10)
    conv = convolution(layer)
    source = pixels(np.random.default_rng(61), (4, 5, 10), "float32")
    assert conv(source).shape == (4, 5, 9)
    assert np.array_equal(conv(source), conv(source[None])[0])
    assert conv(source, packed=True).words.shape == (1, 4, 5, 1)
    out = np.empty((4, 5, 9), np.float32)
    assert conv(source, out=out) is out
    assert np.array_equal(out, conv(source))


def test_strides_of_the_arrays_do_not_matter():
    rng = np.random.default_rng(62)
    layer = make(63, 9, (3, 3), 10, type="BINARY_WEIGHTS")
    conv = convolution(layer)
    source = pixels(rng, (2, 4, 5, 10), "float32")
    expected = conv(source)
    for view in (
        np.asfortranarray(source),
        source[:, ::-1].copy()[:, ::-1],
        np.repeat(source, 2, axis=3)[..., ::2],
        np.moveaxis(np.ascontiguousarray(np.moveaxis(source, 3, 1)), 1, 3),
    ):
        assert not view.flags.c_contiguous
        assert np.array_equal(conv(view), expected)
    unaligned = np.frombuffer(b"\0" + source.tobytes(), np.uint8)[1:].view(np.float32)
    assert np.array_equal(conv(unaligned.reshape(source.shape)), expected)
    swapped = source.astype(source.dtype.newbyteorder())
    try:
        assert np.array_equal(conv(swapped), expected)
    except TypeError:
        pass  # refusing the other byte order is as good; misreading it is not
    wide = np.full((2, 4, 5, 18), 7, np.float32)
    conv(source, out=wide[..., ::2])
    assert np.array_equal(wide[..., ::2], expected)
    assert (wide[..., 1::2] == 7).all()


def test_arrays_of_other_libraries():
    class WithArray:
        def __init__(self, array):
            self.array = array

        def __array__(self, dtype=None, copy=None):
            return self.array

    class WithDlpack:
        def __init__(self, array):
            self.array = array

        def __dlpack__(self, **options):
            return self.array.__dlpack__(**options)

        def __dlpack_device__(self):
            return self.array.__dlpack_device__()

    layer = make(64, 9, (3, 3), 10)
    conv = convolution(layer)
    source = pixels(np.random.default_rng(65), (1, 4, 5, 10), "float32")
    assert np.array_equal(conv(WithArray(source)), conv(source))
    assert np.array_equal(conv(WithDlpack(source)), conv(source))


def test_fully_connected():
    rng = np.random.default_rng(67)
    layer = make(68, 12, (3, 4), 20, scale=0.5, bias=1.0)
    dense = convolution(layer, bc.BinaryFullyConnected)
    source = pixels(rng, (3, 3, 4, 20), "float32")
    expected = ref.run(layer, source, (1, 1), ref.padding(layer, (3, 4), "VALID_ONLY")[1])
    assert dense(source).shape == (3, 1, 1, 12)
    ref.check(dense(source), expected)


def test_fully_connected_of_vectors():
    rng = np.random.default_rng(69)
    layer = make(70, 12, (1, 1), 100, type="BINARY_WEIGHTS")
    dense = convolution(layer, bc.BinaryFullyConnected)
    source = pixels(rng, (7, 100), "float32")
    expected = ref.run(layer, source.reshape(7, 1, 1, 100), (1, 1), (0, 0))
    assert dense(source).shape == (7, 12)
    ref.check(dense(source).reshape(7, 1, 1, 12), expected)
    assert np.array_equal(dense(source[0]), dense(source)[0])
