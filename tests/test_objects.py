"""The objects round the numbers: names and values of MPS, properties, sources, saved forms."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import reference as ref
from building import EDGE_MODES, convolution, descriptor, make, pixels
from small import conv

import binconv as bc


@pytest.mark.parametrize(
    ("name", "values"),
    {
        "BinaryConvolutionType": {"BINARY_WEIGHTS": 0, "XNOR": 1, "AND": 2},
        "BinaryConvolutionFlags": {"NONE": 0, "USE_BETA_SCALING": 1},
        "EdgeMode": {**{mode: k for k, mode in enumerate(EDGE_MODES)}, "EXCLUDE": 16},
        "NeuronType": {
            name: k
            for k, name in enumerate(
                "NONE RELU LINEAR SIGMOID HARD_SIGMOID TANH ABSOLUTE SOFT_PLUS SOFT_SIGN ELU "
                "PRELU RELUN POWER EXPONENTIAL LOGARITHM GELU".split()
            )
        },
        "PaddingMethod": {
            "ALIGN_CENTERED": 0,
            "ALIGN_TOP_LEFT": 1,
            "ALIGN_BOTTOM_RIGHT": 2,
            "ADD_REMAINDER_TO_TOP_LEFT": 0,
            "ADD_REMAINDER_TO_TOP_RIGHT": 4,
            "ADD_REMAINDER_TO_BOTTOM_LEFT": 8,
            "ADD_REMAINDER_TO_BOTTOM_RIGHT": 12,
            "SIZE_VALID_ONLY": 0,
            "SIZE_SAME": 16,
            "SIZE_FULL": 32,
            "CUSTOM": 16384,
        },
    }.items(),
)
def test_numeric_values_are_those_of_mps(name, values):
    kind = getattr(bc, name)
    assert {key: int(member) for key, member in kind.__members__.items()} == values


def test_all_names_are_documented():
    for name in bc.__all__:
        if name.startswith("__"):
            continue
        thing = getattr(bc, name)
        assert thing.__doc__, name
        if isinstance(thing, type):
            for member in vars(thing):
                if not member.startswith("_") and callable(getattr(thing, member)):
                    assert getattr(thing, member).__doc__, f"{name}.{member}"


def test_properties_tell_the_layer():
    layer = make(
        140,
        8,
        (2, 3),
        5,
        groups=2,
        strides=(3, 4),
        dilations=(5, 6),
        type="AND",
        beta_scaling=True,
        neuron=ref.Neuron("RELUN", 0.5, 6.0),
    )
    conv = convolution(layer)
    assert conv.input_feature_channels == 10
    assert conv.output_feature_channels == 8
    assert (conv.kernel_height, conv.kernel_width) == (2, 3)
    assert (conv.stride_in_pixels_y, conv.stride_in_pixels_x) == (3, 4)
    assert (conv.dilation_rate_y, conv.dilation_rate_x) == (5, 6)
    assert conv.groups == 2
    assert conv.type is bc.BinaryConvolutionType.AND
    assert conv.flags is bc.BinaryConvolutionFlags.USE_BETA_SCALING
    assert conv.neuron == bc.NeuronDescriptor(bc.NeuronType.RELUN, a=0.5, b=6.0)
    assert conv.is_backwards is False
    assert conv.is_state_modified is False
    assert isinstance(conv.data_source, bc.ArrayDataSource)
    assert "BinaryConvolution" in repr(conv)
    assert "2" in repr(conv)


def test_defaults():
    conv = convolution(make(141, 4, (3, 3), 6))
    assert (conv.offset, conv.clip_rect) == (bc.Offset(x=0, y=0, z=0), None)
    assert (conv.edge_mode, conv.edge_constant) == (bc.EdgeMode.ZERO, 0.0)
    assert conv.destination_feature_channel_offset == 0
    assert conv.source_feature_channel_offset == 0
    assert conv.label is None
    source = np.ones((5, 7, 6), np.float32)
    assert conv(source).shape == (5, 7, 4)
    dense = convolution(make(142, 4, (5, 7), 6), bc.BinaryFullyConnected)
    assert dense(source).shape == (1, 1, 4)


def test_weights_of_every_form_are_the_same_layer():
    """uint32 words, floats by their sign, bool, and integers of +-1."""
    layer = make(143, 9, (3, 2), 37)
    source = pixels(np.random.default_rng(144), (1, 5, 6, 37), "float32")
    expected = convolution(layer)(source)
    signs = np.where(layer.weights == 1, 1, -1)
    real = signs * np.random.default_rng(145).uniform(0.01, 2, signs.shape)
    for weights in (
        ref.pack_weights(layer.weights),
        bc.pack_weights(signs.astype(np.float32)),
        layer.weights.astype(bool),
        signs.astype(np.int8),
        signs.astype(np.int64),
        real,
        real.astype(np.float16),
        np.asfortranarray(real.astype(np.float32)),
        signs.tolist(),
    ):
        conv = bc.BinaryConvolution(bc.ArrayDataSource(descriptor(layer), weights))
        assert np.array_equal(conv(source), expected)
    special = np.array([0.0, -0.0, np.nan, 1.0, -1.0, -np.inf], np.float32).reshape(1, 1, 1, 6)
    assert bc.pack_weights(special).tolist() == [[[[0b001111]]]]


def test_scale_value_and_bias():
    """One scale for all; the layer's bias goes before that of the source."""
    layer = make(146, 9, (3, 2), 37, scale=0.37)
    bias = np.arange(9, dtype=np.float32)
    source = pixels(np.random.default_rng(147), (1, 5, 6, 37), "float32")
    expected = ref.run(layer, source, *ref.padding(layer, (5, 6)))
    data = bc.ArrayDataSource(descriptor(layer), layer.weights.astype(bool), bias_terms=bias)
    plain = bc.ArrayDataSource(descriptor(layer), layer.weights.astype(bool))
    ref.check(bc.BinaryConvolution(plain, scale_value=0.37)(source), expected)
    biased = ref.Layer(layer.weights, bias=bias)
    expected = ref.run(biased, source, *ref.padding(layer, (5, 6)))
    ref.check(bc.BinaryConvolution(data)(source), expected)
    ref.check(bc.BinaryConvolution(data, output_scale_terms=np.ones(9))(source), expected)
    other = ref.run(ref.Layer(layer.weights, bias=-bias), source, *ref.padding(layer, (5, 6)))
    ref.check(bc.BinaryConvolution(data, output_bias_terms=-bias)(source), other)


def test_terms_of_every_dtype():
    """float64 and integers are rounded to float32 once, and the arrays are copied."""
    layer = make(148, 4, (1, 1), 6, scale=np.array([0.1, 0.2, 0.3, 0.4], np.float32))
    source = np.ones((1, 1, 1, 6), np.float32)
    given = np.array([0.1, 0.2, 0.3, 0.4])
    data = bc.ArrayDataSource(descriptor(layer), layer.weights.astype(bool))
    conv = bc.BinaryConvolution(data, output_scale_terms=given)
    given[...] = 9
    ref.check(conv(source), ref.run(layer, source, (1, 1), (0, 0)))


def test_depthwise_descriptor():
    desc = bc.DepthWiseConvolutionDescriptor(
        kernel_width=3, kernel_height=3, input_feature_channels=6, channel_multiplier=2
    )
    assert (desc.groups, desc.output_feature_channels) == (6, 12)
    layer = make(149, 12, (3, 3), 1, groups=6)
    conv = bc.BinaryConvolution(bc.ArrayDataSource(desc, layer.weights.astype(bool)))
    source = pixels(np.random.default_rng(150), (1, 5, 6, 6), "float32")
    ref.check(conv(source), ref.run(layer, source, (5, 6), (0, 0)))


def everything_set() -> tuple[bc.BinaryConvolution, np.ndarray]:
    """A layer whose every parameter and setting differs from the default, and a source for it."""
    rng = np.random.default_rng(151)
    layer = make(
        152,
        8,
        (2, 3),
        5,
        groups=2,
        strides=(2, 1),
        dilations=(1, 2),
        subpixel=2,
        type="AND",
        scale=rng.normal(size=8).astype(np.float32),
        bias=rng.normal(size=8).astype(np.float32),
        input_bias=rng.normal(size=10).astype(np.float32),
        input_scale=rng.normal(size=10).astype(np.float32),
        batch_norm=ref.BatchNorm(
            rng.normal(size=8), rng.uniform(1, 2, 8), rng.normal(size=8), rng.normal(size=8), 1e-3
        ),
        neuron=ref.Neuron("PRELU", rng.normal(size=8).astype(np.float32)),
        edge_mode="CONSTANT",
        edge_constant=-0.7,
    )
    conv = convolution(layer)
    conv.label = "all set"
    conv.offset = bc.Offset(x=1, y=-1, z=1)
    conv.clip_rect = bc.Region(origin=(1, 0, 0), size=(3, 9, 1))
    conv.padding = bc.Padding.explicit(1, 2, 3, 0)
    conv.destination_feature_channel_offset = 3
    conv.source_feature_channel_offset = 2
    conv.source_feature_channel_max_count = 10
    return conv, pixels(rng, (2, 5, 6, 13), "float32")


def settings(conv: bc.BinaryConvolution) -> list[object]:
    return [
        conv.label,
        conv.offset,
        conv.clip_rect,
        conv.padding,
        conv.edge_mode,
        conv.edge_constant,
        conv.destination_feature_channel_offset,
        conv.source_feature_channel_offset,
        conv.source_feature_channel_max_count,
        conv.neuron,
        conv.type,
        conv.flags,
        conv.groups,
    ]


@pytest.mark.parametrize("how", ["bytes", "file", "pickle", "copy", "deepcopy"])
def test_saved_forms_keep_everything(how, tmp_path):
    conv, source = everything_set()
    if how == "file":
        conv.save(tmp_path / "layer.safetensors")
        again = bc.BinaryConvolution.load(tmp_path / "layer.safetensors")
    else:
        again = {
            "bytes": lambda: bc.BinaryConvolution.from_bytes(conv.to_bytes()),
            "pickle": lambda: pickle.loads(pickle.dumps(conv)),
            "copy": lambda: copy.copy(conv),
            "deepcopy": lambda: copy.deepcopy(conv),
        }[how]()
    assert type(again) is type(conv)
    assert settings(again) == settings(conv)
    assert np.array_equal(again(source), conv(source))
    destinations = [np.zeros((1, 6, 7, 5), np.float32) for _ in range(2)]
    conv.encode(source, destinations[0])
    again.encode(source, destinations[1])
    assert np.array_equal(*destinations)
    assert destinations[0].any()
    assert again.to_bytes() == conv.to_bytes()


def test_a_copy_is_a_layer_of_its_own():
    conv, _ = everything_set()
    for other in (copy.copy(conv), copy.deepcopy(conv)):
        other.label = "other"
        other.edge_constant = 2.0
    assert conv.label == "all set"
    assert conv.edge_constant == pytest.approx(-0.7)


def test_packed_images():
    rng = np.random.default_rng(159)
    image = pixels(rng, (2, 3, 4, 70), "float32")
    bits = bc.pack(image)
    assert bits.channels == 70
    assert bits.words.shape == (2, 3, 4, 2)
    assert bits.words.dtype == np.uint64
    assert np.array_equal(bits.words, ref.pack(ref.bit(image)))
    for dtype in (np.float32, np.float16, np.int8):
        unpacked = bits.unpack(dtype)
        assert unpacked.dtype == dtype
        assert np.array_equal(unpacked, 2 * ref.bit(image) - 1)
    assert bc.pack(image[0]).words.shape == (1, 3, 4, 2)
    bias, scale = rng.normal(size=(2, 70)).astype(np.float32)
    for terms in ({"bias": bias}, {"scale": scale}, {"bias": bias, "scale": scale}):
        layer = ref.Layer(
            np.ones((1, 1, 1, 70)),
            input_bias=terms.get("bias"),
            input_scale=terms.get("scale"),
        )
        expected = ref.pack(ref.bit(ref.input_terms(layer, image)))
        assert np.array_equal(bc.pack(image, **terms).words, expected)
    for dtype in (np.float16, np.uint8):
        other = np.abs(image * 9).astype(dtype)
        expected = ref.pack(ref.bit(ref.to_float32(other) + bias))
        assert np.array_equal(bc.pack(other, bias=bias).words, expected)
    assert pickle.loads(pickle.dumps(bits)) == bits
    assert bc.pack(np.zeros((0, 3, 4, 70), np.float32)).words.shape == (0, 3, 4, 2)


@pytest.mark.parametrize("channels", [1, 2, 3, 7, 8, 9, 31, 32, 33, 63, 64, 65, 127, 128, 129])
@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8"])
def test_packing_around_words(channels, dtype):
    rng = np.random.default_rng(160)
    for width in (1, 2, 3, 5):
        image = pixels(rng, (1, 1, width, channels), dtype)
        bias = -np.full(channels, 0.5, np.float32) if dtype == "uint8" else None
        v = ref.to_float32(image)
        expected = ref.bit(v if bias is None else v + bias)
        assert np.array_equal(bc.pack(image, bias=bias).words, ref.pack(expected))


def test_information():
    text = bc.show_config()
    assert text is None or bc.isa() in str(text)
    assert isinstance(bc.cpu_features(), dict)
    assert bc.get_num_threads() >= 1


# ---- Results -------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_large_results_begin_with_a_cache_line(dtype):
    layer = conv()
    channels = layer.input_feature_channels
    for size in range(64, 72):
        result = layer(np.zeros((size, size, channels), np.float32), dtype=dtype)
        assert result.ctypes.data % 64 == 0
        assert result.flags.c_contiguous
        assert result.flags.writeable
