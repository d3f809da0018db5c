"""Whole layers through the public interface, against the oracle."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import numpy as np
import pytest
import reference as ref
from building import (
    EDGE_MODES,
    TYPES,
    convolution,
    package_source,
    pixels,
    result_array,
    run_form,
    source_of,
    takes_bits,
)
from hypothesis import given
from strategies import Case, cases, layers, paddings, seeds

import binconv as bc

OUTPUT_FORMS = ("float32", "float16", "packed")
NEURONS = (
    ref.Neuron("NONE"),
    ref.Neuron("RELU", 0.0),
    ref.Neuron("RELU", 0.25),
    ref.Neuron("LINEAR", -0.3, 1.7),
    ref.Neuron("SIGMOID"),
    ref.Neuron("HARD_SIGMOID", 0.2, 0.5),
    ref.Neuron("TANH", 1.5, 0.1),
    ref.Neuron("ABSOLUTE"),
    ref.Neuron("SOFT_PLUS", 1.5, 0.7),
    ref.Neuron("SOFT_SIGN"),
    ref.Neuron("ELU", 0.9),
    ref.Neuron("PRELU", np.linspace(-1, 1, 18, dtype=np.float32)),
    ref.Neuron("RELUN", 0.1, 6.0),
    ref.Neuron("POWER", 0.5, 3.0, 2.0),
    ref.Neuron("EXPONENTIAL", 0.1, -0.2, 2.0),
    ref.Neuron("EXPONENTIAL", 0.1, -0.2, -1.0),
    ref.Neuron("LOGARITHM", 0.0, 1.3, 10.0),
    ref.Neuron("LOGARITHM", 0.0, 1.3, -1.0),
    ref.Neuron("GELU"),
)


def padding_of(words: tuple[str, ...] | tuple[int, int, int, int]) -> bc.Padding:
    if isinstance(words[0], int):
        return bc.Padding.explicit(*words)
    style, align, remainder = words
    method = bc.PaddingMethod
    return bc.Padding(
        method[f"SIZE_{style}"] | method[f"ALIGN_{align}"] | method[f"ADD_REMAINDER_TO_{remainder}"]
    )


def check_case(case: Case) -> None:
    conv = convolution(case.layer)
    conv.padding = padding_of(case.padding)
    size, offset = case.geometry()
    expected = ref.run(case.layer, case.source, size, offset)
    actual = run_form(conv, package_source(case.source), case.form)
    ref.check(result_array(actual), expected)


def check(layer: ref.Layer, source: np.ndarray | ref.Bits, *forms: str, padding=("SAME",)) -> None:
    words = (*padding, "CENTERED", "TOP_LEFT")[:3] if isinstance(padding[0], str) else padding
    for form in forms or ("float32",):
        check_case(Case(layer, source, words, form))


def make(seed: int, o: int, kernel: tuple[int, int], cg: int, **fields) -> ref.Layer:
    rng = np.random.default_rng(seed)
    return ref.Layer(rng.integers(0, 2, (o, *kernel, cg)), **fields)


# ------------------------------------------------------------------------------- random layers


@given(cases())
def test_random_layers(case):
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


# ------------------------------------------------------------------------ what peers get wrong


@pytest.mark.parametrize("edge_mode", EDGE_MODES)
@pytest.mark.parametrize("type_", TYPES)
def test_dilated_kernel_larger_than_the_image(type_, edge_mode):
    layer = make(35, 9, (3, 3), 10, type=type_, dilations=(7, 9), edge_mode=edge_mode)
    source = pixels(np.random.default_rng(36), (1, 4, 5, 10), "float32")
    check(layer, source, "float32", "packed")
    check(layer, source, padding=("VALID_ONLY",))
    check(layer, source, padding=("FULL",))


@pytest.mark.parametrize("edge_mode", EDGE_MODES)
@pytest.mark.parametrize("beta", [False, True])
@pytest.mark.parametrize("type_", TYPES)
def test_window_wholly_in_the_padding(type_, edge_mode, beta):
    """Even rows and columns of taps that never meet the source."""
    layer = make(
        37, 9, (2, 2), 10, type=type_, edge_mode=edge_mode, edge_constant=-2.0, beta_scaling=beta
    )
    source = pixels(np.random.default_rng(38), (1, 3, 2, 10), "float32")
    check(layer, source, "float32", "packed", padding=(6, 7, 5, 9))


@pytest.mark.parametrize("type_", TYPES)
def test_stride_larger_than_the_kernel(type_):
    layer = make(39, 9, (2, 1), 10, type=type_, strides=(5, 4))
    source = pixels(np.random.default_rng(40), (2, 11, 13, 10), "float32")
    for padding in (("SAME",), ("VALID_ONLY",), ("FULL",), (1, 2, 0, 4)):
        check(layer, source, padding=padding)


@pytest.mark.parametrize("edge_mode", EDGE_MODES)
def test_a_side_of_length_1(edge_mode):
    rng = np.random.default_rng(41)
    layer = make(42, 9, (3, 4), 10, dilations=(2, 1), edge_mode=edge_mode, edge_constant=-1.0)
    for size in ((1, 1), (1, 5), (5, 1)):
        check(layer, pixels(rng, (1, *size, 10), "float32"), *OUTPUT_FORMS)


@pytest.mark.parametrize("destination", OUTPUT_FORMS)
def test_no_images(destination):
    layer = make(43, 9, (3, 3), 10)
    check(layer, np.zeros((0, 4, 5, 10), np.float32), destination)


@pytest.mark.parametrize("destination", OUTPUT_FORMS)
def test_empty_destination(destination):
    """A kernel larger than the image, where only whole windows count."""
    layer = make(44, 9, (3, 3), 10)
    source = np.ones((2, 2, 5, 10), np.float32)
    result = run_form_with_padding(layer, source, destination, ("VALID_ONLY",))
    assert result_array(result).shape == (2, 0, 3, 9)
    check(layer, source, destination, padding=("VALID_ONLY",))


def run_form_with_padding(layer, source, form, padding):
    conv = convolution(layer)
    conv.padding = padding_of((*padding, "CENTERED", "TOP_LEFT"))
    return run_form(conv, source, form)


@pytest.mark.parametrize("size", [(0, 4), (4, 0), (0, 0)])
def test_empty_source(size):
    """Nothing to read: the destination is empty, or all of it lies in the padding."""
    layer = make(45, 9, (3, 3), 10)
    source = np.ones((1, *size, 10), np.float32)
    check(layer, source)
    check(layer, source, padding=("FULL",))
    check(ref.Layer(**{**vars(layer), "edge_mode": "EXCLUDE"}), source, padding=(2, 2, 2, 2))


@pytest.mark.parametrize("source_dtype", ["float32", "float16"])
def test_signs_of_special_pixels(source_dtype):
    """+0, -0 and NaN of either sign are bit 1; only what compares less than 0 is bit 0."""
    tiny = np.finfo(source_dtype).smallest_subnormal
    special = np.array([0.0, -0.0, np.nan, -np.nan, np.inf, -np.inf, tiny, -tiny], source_dtype)
    for channels in (8, 64, 72, 136):
        source = np.resize(special, (1, 3, 9, channels)).copy()
        source[0, 1] = source[0, 1, ::-1, ::-1]
        for type_ in ("XNOR", "AND"):
            check(make(46, 9, (1, 2), channels, type=type_), source, "float32", "packed")
        bits = bc.pack(source)
        assert np.array_equal(ref.unpack(np.asarray(bits.words), channels), ref.bit(source))


def test_special_pixels_with_input_terms():
    """inf * 0 and inf - inf are NaN, thus bit 1; 0 * -1 is -0, thus bit 1."""
    source = np.array([np.inf, -np.inf, 0.0, -0.0, np.nan, 1e38, -1e38, -1e-45], np.float32)
    source = np.resize(source, (1, 2, 4, 40))
    rng = np.random.default_rng(47)
    layer = make(
        48,
        9,
        (2, 2),
        40,
        input_bias=rng.choice([0.0, -0.0, 1.0, -1e38, 3e38], 40).astype(np.float32),
        input_scale=rng.choice([0.0, -0.0, -1.0, 10.0, 1e-45], 40).astype(np.float32),
    )
    check(layer, source, "float32", "packed")


@pytest.mark.parametrize("special", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("neuron", ["NONE", "RELU"])
def test_special_pixels_reach_the_windows_that_read_them_alone(special, neuron):
    """BINARY_WEIGHTS: NaN and infinities follow IEEE 754 and stay in their own windows."""
    rng = np.random.default_rng(49)
    source = pixels(rng, (1, 5, 17, 21), "float32")
    source[0, 2, 8, 13] = special
    layer = make(50, 18, (3, 3), 21, type="BINARY_WEIGHTS", neuron=ref.Neuron(neuron, 0.5))
    check(layer, source, *OUTPUT_FORMS)
    source[0, 2, 9, 14] = np.inf
    check(layer, source, "float32", "float16")


def test_nan_passes_through_every_neuron():
    source = np.full((1, 1, 1, 3), np.nan, np.float32)
    for neuron in NEURONS:
        layer = make(51, 18, (1, 1), 3, type="BINARY_WEIGHTS", neuron=neuron)
        if neuron.type == "LOGARITHM":
            neuron = ref.Neuron("LOGARITHM", 1.0, 1.3, neuron.c)
            layer = make(51, 18, (1, 1), 3, type="BINARY_WEIGHTS", neuron=neuron)
        assert np.isnan(convolution(layer)(source)).all(), neuron.type


def test_beta_of_infinite_pixels():
    source = np.ones((1, 4, 5, 6), np.float32)
    source[0, 1, 1, 1] = -np.inf
    check(make(52, 9, (2, 2), 6, beta_scaling=True, bias=1.0), source)


@pytest.mark.parametrize(
    "k", [255, 256, 257, 2047, 2048, 16319, 16320, 16384, 32768, 65535, 65536, 65537, 131136]
)
@pytest.mark.parametrize("type_", TYPES)
def test_accumulators_hold_the_largest_sums(type_, k):
    """All bits alike, all different: the largest counts that K terms can make."""
    for weight in (0, 1):
        layer = ref.Layer(np.full((9, 1, 1, k), weight), type=type_)
        for value in (-1, 1):
            source = np.full((1, 1, 3, k), value, np.float32)
            actual = convolution(layer)(source)
            agree = k if (value > 0) == (weight == 1) else -k
            expected = {
                "XNOR": agree,
                "AND": k if value > 0 and weight else 0,
                "BINARY_WEIGHTS": agree,
            }[type_]
            assert (actual == expected).all(), (weight, value, actual.ravel()[:3], expected)


@pytest.mark.parametrize("type_", TYPES)
def test_accumulators_over_many_taps(type_):
    layer = ref.Layer(np.ones((8, 9, 9, 1024), int), type=type_)
    source = np.ones((1, 9, 9, 1024), np.float32)
    check(layer, source, padding=("VALID_ONLY",))


@pytest.mark.parametrize("type_", ["XNOR", "AND"])
def test_sums_past_the_integers_of_float32(type_):
    """2^24 + 3 lies halfway between two float32 numbers and goes to the even one."""
    k = 2**24 + 3
    words = np.full((1, 1, 1, -(-k // 32)), 0xFFFFFFFF, np.uint32)
    desc = bc.ConvolutionDescriptor(
        kernel_width=1, kernel_height=1, input_feature_channels=k, output_feature_channels=1
    )
    conv = bc.BinaryConvolution(
        bc.ArrayDataSource(desc, words), type=bc.BinaryConvolutionType[type_]
    )
    assert conv(np.full((1, 1, k), 255, np.uint8)).item() == 2**24 + 4


@pytest.mark.parametrize("form", OUTPUT_FORMS)
@pytest.mark.parametrize("type_", TYPES)
def test_negative_and_zero_scales(type_, form):
    """With packed output a negative scale turns the comparison round; -0 is bit 1."""
    rng = np.random.default_rng(53)
    scale = np.tile(np.array([-1.0, 0.0, -0.0, 1.0, -0.5, 2.0], np.float32), 3)
    bias = np.repeat(np.array([0.0, -0.0, 0.25, -0.25, 1.0, -1.0], np.float32), 3)
    for c in (1, 2, 40):  # even K sums to 0 often
        layer = make(54, 18, (1, 2), c, type=type_, scale=scale, bias=bias)
        check(layer, pixels(rng, (1, 4, 5, c), "float32"), form)


def test_scales_at_the_ends_of_float32():
    """Overflow to infinity and underflow to zero are those of float32 arithmetic."""
    rng = np.random.default_rng(55)
    scale = np.array([1e38, -1e38, 1e-44, -1e-44, 3e38, 1e-38, 1, 1, 1], np.float32)
    bias = np.array([0, 0, 0, 0, -3e38, 1e-40, 1e38, -1e-45, 2e-45], np.float32)
    layer = make(56, 9, (1, 1), 12, scale=scale, bias=bias)
    check(layer, pixels(rng, (1, 3, 4, 12), "float32"), *OUTPUT_FORMS)


def test_unorm8_is_the_quotient_and_not_a_product():
    """value / 255 rounded once: a bias of exactly -(value / 255) leaves +0, bit 1."""
    values = np.arange(256, dtype=np.uint8)
    exact = (values / np.float64(255)).astype(np.float32)
    source = values.reshape(1, 1, 1, 256)
    layer = ref.Layer(np.eye(256, dtype=int).reshape(256, 1, 1, 256), type="AND", input_bias=-exact)
    assert (convolution(layer)(source) == 1).all()
    below = np.nextafter(-exact, np.float32(-np.inf))
    layer = ref.Layer(layer.weights, type="AND", input_bias=below)
    assert (convolution(layer)(source) == 0).all()


def test_bits_are_packed_from_the_rounded_sum():
    """(value + bias) * scale is two float32 roundings: no fused multiply-add may save a bit."""
    tiny = np.float32(1e-30)
    source = np.full((1, 1, 1, 4), -tiny, np.float32)
    layer = ref.Layer(
        np.ones((1, 1, 1, 4), int),
        type="AND",
        input_bias=np.array([0, tiny, 1, -1], np.float32),
        input_scale=np.array([1e-30, 1, -1e-45, 1e-45], np.float32),
    )
    check(layer, source)


def test_no_fused_multiply_add_in_the_epilogue():
    """S * scale + bias is rounded twice; a fused one would differ for these."""
    rng = np.random.default_rng(57)
    scale = rng.uniform(0.1, 1, 64).astype(np.float32)
    layer = make(58, 64, (3, 3), 64, scale=scale, bias=-(scale * np.float32(3)))
    source = pixels(rng, (1, 8, 8, 64), "float32")
    s, _, _ = ref.sums(layer, source, (8, 8), (0, 0))
    fused = (s * scale.astype(np.float64) + layer.bias.astype(np.float64)).astype(np.float32)
    separate = s.astype(np.float32) * scale + layer.bias
    assert (fused != separate).any()
    assert np.array_equal(convolution(layer)(source), separate)


def test_float16_rounds_to_nearest_even():
    """Ties, subnormals, the largest number and beyond it."""
    bias = np.array(
        [
            1 + 2**-11,
            1 + 3 * 2**-11,
            65519,
            65520,
            -65520,
            2**-25,
            3 * 2**-25,
            2**-14 - 2**-25,
            0.1,
        ],
        np.float32,
    )
    layer = make(59, 9, (1, 1), 4, scale=0.0, bias=bias)
    source = np.ones((1, 1, 1, 4), np.float16)
    with np.errstate(over="ignore"):
        expected = bias.astype(np.float16)
    assert np.array_equal(convolution(layer)(source).ravel(), expected)


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


# --------------------------------------------------------------------------------- extremes


def test_huge_offsets_dilations_and_strides_take_no_memory():
    """Run apart, so that the high-water mark of memory is this test's own."""
    program = textwrap.dedent(
        """
        import resource
        import numpy as np
        import reference as ref
        from building import EDGE_MODES, convolution, pixels
        import binconv as bc

        rng = np.random.default_rng(66)
        source = pixels(rng, (1, 4, 5, 10), "float32")
        weights = rng.integers(0, 2, (9, 2, 3, 10))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        big = 10**9
        for mode in EDGE_MODES:
            for type_ in ("XNOR", "BINARY_WEIGHTS"):
                common = dict(weights=weights, type=type_, edge_mode=mode, edge_constant=-1.0)
                layer = ref.Layer(**common, dilations=(big, big - 1))
                ref.check(convolution(layer)(source), ref.run(layer, source, (4, 5), (0, 0)))
                layer = ref.Layer(**common, strides=(big, big + 7))
                size, offset = ref.padding(layer, (4, 5))
                assert size == (1, 1)
                ref.check(convolution(layer)(source), ref.run(layer, source, size, offset))
                layer = ref.Layer(**common)
                conv = convolution(layer)
                for y, x in ((2 * big, 3), (-big, -2 * big), (2, 2**31 - 1), (1 - 2**31, 0)):
                    conv.offset = bc.Offset(x=x, y=y)
                    destination = np.empty((1, 3, 4, 9), np.float32)
                    conv.encode(source, destination)
                    ref.check(destination, ref.run(layer, source, (3, 4), (y, x)))
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        assert grown < 32 * 1024, f"{grown} KiB"
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=__file__.rpartition("/")[0],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr


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
