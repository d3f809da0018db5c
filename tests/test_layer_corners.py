"""The corners that peers get wrong: geometry, special numbers, large sums, roundings, extremes."""

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
    make,
    pixels,
    result_array,
    run_form,
)
from checking import NEURONS, OUTPUT_FORMS, check, padding_of

import binconv as bc


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


@pytest.mark.parametrize("edge_mode", ["CLAMP", "MIRROR", "MIRROR_WITH_EDGE"])
def test_no_edge_to_repeat(edge_mode):
    conv = convolution(ref.Layer(**{**vars(make(45, 9, (3, 3), 10)), "edge_mode": edge_mode}))
    conv.padding = bc.Padding.explicit(2, 2, 2, 2)
    with pytest.raises(ValueError, match="source: expected at least one pixel"):
        conv(np.ones((1, 0, 4, 10), np.float32))


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


EDGES = np.array([0, 1e-45, 1e-38, 0.3, 0.5, 1, 3, 1e10, 3e38, np.inf, np.nan], np.float32)
EDGES = np.concatenate([EDGES, -EDGES])


@pytest.mark.parametrize("signs", ["one sign", "both signs"])
@pytest.mark.parametrize("edge_mode", ["ZERO", "CONSTANT", "EXCLUDE"])
def test_input_terms_from_the_ends_of_float32(signs, edge_mode):
    """Overflow and underflow to -0: every finite bias with every finite scale, on every pixel."""
    finite = EDGES[np.isfinite(EDGES)]
    bias, scale = (terms.ravel() for terms in np.meshgrid(finite, finite))
    if signs == "one sign":
        scale = np.abs(scale)
    channels = bias.size
    layer = ref.Layer(
        np.random.default_rng(61).integers(0, 2, (40, 1, 2, channels)),
        type="XNOR",
        edge_mode=edge_mode,
        edge_constant=-1e-45,
        input_bias=bias,
        input_scale=scale,
    )
    for source in (np.append(EDGES, np.nextafter(EDGES, 0)), EDGES[:9], EDGES[1:2]):
        image = np.repeat(source[None, None, :, None], channels, axis=3)
        check(layer, image, "float32", "packed")
    each = ref.Layer(
        np.eye(channels, dtype=int).reshape(channels, 1, 1, channels),
        type="AND",
        input_bias=bias,
        input_scale=scale,
    )
    image = np.repeat(EDGES[None, None, :, None], channels, axis=3)
    check(each, image)
    with np.errstate(all="ignore"):
        bits = np.where((image + bias) * scale < 0, np.float32(0), np.float32(1))
    assert np.array_equal(convolution(each)(image), bits)
    packed = bc.pack(image, bias=bias, scale=scale)
    assert np.array_equal(ref.unpack(np.asarray(packed.words), channels) == 1, bits == 1)


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
