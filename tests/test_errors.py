"""Wrong input of every kind: which exception, what its message names, what stays as it was."""

from __future__ import annotations

import copy
import json
import pickle
import re
import struct

import numpy as np
import pytest

import binconv as bc
from binconv import BinaryConvolution, ConvolutionDescriptor

BIG = 2**62


def desc(**fields) -> ConvolutionDescriptor:
    return ConvolutionDescriptor(
        **{
            "kernel_width": 3,
            "kernel_height": 2,
            "input_feature_channels": 6,
            "output_feature_channels": 4,
            **fields,
        }
    )


def weights(**fields) -> np.ndarray:
    d = desc(**fields)
    cg = d.input_feature_channels // d.groups
    return np.ones((d.output_feature_channels, d.kernel_height, d.kernel_width, cg), np.float32)


def conv(*, terms=None, **fields) -> BinaryConvolution:
    return BinaryConvolution(bc.ArrayDataSource(desc(**fields), weights(**fields)), **(terms or {}))


def image(*shape, dtype=np.float32, fill=1):
    return np.full(shape or (1, 5, 5, 6), fill, dtype)


def words(*shape):
    return np.zeros(shape, np.uint32)


def with_attribute(name: str, value: object) -> None:
    setattr(conv(), name, value)


def read_only(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array


def overlapping() -> tuple[np.ndarray, np.ndarray]:
    base = image(1, 5, 5, 11)
    return base[..., :6], base[..., 5:9]


def fails(expected: type[Exception], *fragments: str):
    return expected, fragments


# name: (call, exception, fragments of its message); most fragments are the argument's name, then
# what was expected, then what came
CASES = {
    # descriptors
    **{
        f"descriptor-{name}-{value!r}": (
            lambda name=name, value=value: desc(**{name: value}),
            TypeError if not isinstance(value, int) else ValueError,
            (name, "expected", str(value)),
        )
        for name in (
            "kernel_width",
            "kernel_height",
            "input_feature_channels",
            "output_feature_channels",
            "stride_in_pixels_x",
            "stride_in_pixels_y",
            "dilation_rate_x",
            "dilation_rate_y",
            "groups",
        )
        for value in (0, -1, 1.5, "3", 2**70)
    },
    "groups-do-not-divide-inputs": (lambda: desc(groups=4), ValueError, ("groups", "6", "4")),
    "groups-do-not-divide-outputs": (lambda: desc(groups=3), ValueError, ("groups", "4", "3")),
    "descriptor-too-large-a-sum": (
        lambda: desc(kernel_width=2**16, kernel_height=2**16, input_feature_channels=2**20),
        ValueError,
        ("kernel", "expected"),
    ),
    "descriptor-too-large-weights": (
        lambda: desc(
            kernel_width=2**15, kernel_height=2**15, output_feature_channels=2**31 - 1, groups=1
        ),
        ValueError,
        (),
    ),
    "descriptor-neuron": (lambda: desc(neuron="relu"), TypeError, ("neuron", "NeuronDescriptor")),
    "descriptor-norm": (
        lambda: desc(batch_normalization=1),
        TypeError,
        ("batch_normalization", "BatchNormalization", "1"),
    ),
    "prelu-length": (
        lambda: desc(neuron=bc.NeuronDescriptor(bc.NeuronType.PRELU, a=np.ones(5))),
        ValueError,
        ("a", "4", "5"),
    ),
    "prelu-scalar": (
        lambda: bc.NeuronDescriptor(bc.NeuronType.PRELU, a=1.0),
        TypeError,
        ("a", "array", "1.0"),
    ),
    "neuron-array": (
        lambda: bc.NeuronDescriptor(bc.NeuronType.RELU, a=np.ones(4)),
        TypeError,
        ("a", "number", "array"),
    ),
    "neuron-type": (lambda: bc.NeuronDescriptor(16), ValueError, ("type", "NeuronType", "16")),
    **{
        f"neuron-{name}-{value}": (
            lambda name=name, value=value: bc.NeuronDescriptor(
                bc.NeuronType.LINEAR, **{name: value}
            ),
            ValueError,
            (name, "finite", str(value)),
        )
        for name in "abc"
        for value in (np.inf, -np.inf, np.nan, 1e39)
    },
    "prelu-nan": (
        lambda: bc.NeuronDescriptor(bc.NeuronType.PRELU, a=[0.0, np.nan]),
        ValueError,
        ("a", "finite", "nan"),
    ),
    "norm-lengths": (
        lambda: bc.BatchNormalization(np.zeros(4), np.ones(3)),
        ValueError,
        ("variance", "4", "3"),
    ),
    "norm-gamma": (
        lambda: bc.BatchNormalization(np.zeros(4), np.ones(4), gamma=np.ones(5)),
        ValueError,
        ("gamma", "4", "5"),
    ),
    "norm-rank": (
        lambda: bc.BatchNormalization(np.zeros((4, 1)), np.ones(4)),
        ValueError,
        ("mean", "1-D", "(4, 1)"),
    ),
    "norm-negative-variance": (
        lambda: bc.BatchNormalization(np.zeros(1), -np.ones(1)),
        ValueError,
        ("variance", "-1"),
    ),
    "norm-zero-variance": (
        lambda: bc.BatchNormalization(np.zeros(1), np.zeros(1), epsilon=0.0),
        ValueError,
        ("variance", "epsilon", "0"),
    ),
    "norm-nan": (
        lambda: bc.BatchNormalization(np.array([np.nan]), np.ones(1)),
        ValueError,
        ("mean", "finite", "nan"),
    ),
    "norm-for-other-channels": (
        lambda: desc(batch_normalization=bc.BatchNormalization(np.zeros(5), np.ones(5))),
        ValueError,
        ("batch_normalization", "4", "5"),
    ),
    "subpixel-divides": (
        lambda: bc.SubPixelConvolutionDescriptor(
            kernel_width=1,
            kernel_height=1,
            input_feature_channels=1,
            output_feature_channels=6,
            subpixel_scale_factor=2,
        ),
        ValueError,
        ("subpixel_scale_factor", "6", "2"),
    ),
    "depthwise-groups": (
        lambda: bc.DepthWiseConvolutionDescriptor(
            kernel_width=1,
            kernel_height=1,
            input_feature_channels=6,
            channel_multiplier=2,
            groups=3,
        ),
        ValueError,
        ("groups", "6", "3"),
    ),
    # data sources and layers
    "weights-dtype": (
        lambda: bc.ArrayDataSource(desc(), weights().astype(complex)),
        TypeError,
        ("weights", "complex128"),
    ),
    "weights-rank": (
        lambda: bc.ArrayDataSource(desc(), weights()[0]),
        ValueError,
        ("weights", "(4, 2, 3, 6)", "(2, 3, 6)"),
    ),
    "weights-shape": (
        lambda: bc.ArrayDataSource(desc(), weights()[..., :5]),
        ValueError,
        ("weights", "(4, 2, 3, 6)", "(4, 2, 3, 5)"),
    ),
    "weights-words": (
        lambda: bc.ArrayDataSource(desc(), words(4, 2, 3, 2)),
        ValueError,
        ("weights", "(4, 2, 3, 1)", "(4, 2, 3, 2)"),
    ),
    "weights-integers-other-than-1": (
        lambda: bc.ArrayDataSource(desc(), np.full((4, 2, 3, 6), 2, np.int8)),
        ValueError,
        ("weights", "1", "2"),
    ),
    "source-bias-length": (
        lambda: BinaryConvolution(bc.ArrayDataSource(desc(), weights(), bias_terms=np.ones(3))),
        ValueError,
        ("bias_terms", "4", "3"),
    ),
    "not-a-data-source": (lambda: BinaryConvolution(weights()), TypeError, ("ConvolutionData",)),
    "not-a-descriptor": (lambda: bc.ArrayDataSource("3x3", weights()), TypeError, ("descriptor",)),
    **{
        f"{name}-{kind}": (
            lambda name=name, value=value: conv(terms={name: value}),
            error,
            (name, *fragments),
        )
        for name, length in (
            ("output_bias_terms", 4),
            ("output_scale_terms", 4),
            ("input_bias_terms", 6),
            ("input_scale_terms", 6),
        )
        for kind, value, error, fragments in (
            ("short", np.ones(length - 1), ValueError, (str(length), str(length - 1))),
            ("long", np.ones(length + 1), ValueError, (str(length), str(length + 1))),
            ("scalar", 1.0, TypeError, ("array", "1.0")),
            ("matrix", np.ones((length, 1)), ValueError, (f"({length}, 1)",)),
            ("complex", np.ones(length, complex), TypeError, ("complex128",)),
            ("text", ["a"] * length, TypeError, ()),
            ("nan", np.full(length, np.nan), ValueError, ("finite", "nan")),
            ("inf", np.full(length, -np.inf), ValueError, ("finite", "inf")),
            ("too-large", np.full(length, 1e39), ValueError, ("finite",)),
        )
    },
    "scale-value-nan": (
        lambda: conv(terms={"scale_value": np.nan}),
        ValueError,
        ("scale_value", "finite", "nan"),
    ),
    "scale-value-text": (
        lambda: conv(terms={"scale_value": "1"}),
        TypeError,
        ("scale_value", "number", "'1'"),
    ),
    "scale-value-and-terms": (
        lambda: conv(terms={"scale_value": 2.0, "output_scale_terms": np.ones(4)}),
        ValueError,
        ("scale_value", "output_scale_terms"),
    ),
    "type-unknown": (lambda: conv(terms={"type": 3}), ValueError, ("type", "3")),
    "type-text": (lambda: conv(terms={"type": "XNOR"}), TypeError, ("type", "XNOR")),
    "flags-unknown": (lambda: conv(terms={"flags": 2}), ValueError, ("flags", "2")),
    # properties
    "offset-tuple": (lambda: with_attribute("offset", (0, 0)), TypeError, ("offset", "Offset")),
    "clip-tuple": (lambda: with_attribute("clip_rect", (0, 0)), TypeError, ("clip_rect", "Region")),
    "clip-negative-size": (
        lambda: bc.Region(origin=(0, 0, 0), size=(-1, 1, 1)),
        ValueError,
        ("size", "-1"),
    ),
    "clip-two-numbers": (
        lambda: bc.Region(origin=(0, 0), size=(1, 1, 1)),
        TypeError,
        ("origin",),
    ),
    "offset-float": (lambda: bc.Offset(x=1.5, y=0), TypeError, ("x", "integer", "1.5")),
    "offset-huge": (lambda: bc.Offset(x=BIG * 4, y=0), ValueError, ("x", str(BIG * 4))),
    "edge-mode": (lambda: with_attribute("edge_mode", 5), ValueError, ("edge_mode", "5")),
    "edge-constant": (
        lambda: with_attribute("edge_constant", np.inf),
        ValueError,
        ("edge_constant", "finite", "inf"),
    ),
    "padding": (lambda: with_attribute("padding", "same"), TypeError, ("padding", "destination")),
    "padding-align": (lambda: bc.Padding(3), ValueError, ("method", "3")),
    "padding-size": (lambda: bc.Padding(48), ValueError, ("method", "48")),
    "padding-explicit": (lambda: bc.Padding.explicit(0.5, 0, 0, 0), TypeError, ("top", "0.5")),
    **{
        f"{name}-{value!r}": (
            lambda name=name, value=value: with_attribute(name, value),
            error,
            (name, str(value)),
        )
        for name in ("destination_feature_channel_offset", "source_feature_channel_offset")
        for value, error in ((-1, ValueError), (0.5, TypeError), (2**70, ValueError))
    },
    "max-count-negative": (
        lambda: with_attribute("source_feature_channel_max_count", -1),
        ValueError,
        ("source_feature_channel_max_count", "-1"),
    ),
    "label": (lambda: with_attribute("label", 5), TypeError, ("label", "5")),
    **{
        f"read-only-{name}": (
            lambda name=name: with_attribute(name, getattr(conv(), name)),
            AttributeError,
            (),
        )
        for name in (
            "input_feature_channels output_feature_channels kernel_width kernel_height "
            "stride_in_pixels_x stride_in_pixels_y dilation_rate_x dilation_rate_y groups type "
            "flags neuron is_backwards is_state_modified data_source"
        ).split()
    },
    # sources
    "float64": (
        lambda: conv()(image(dtype=np.float64)),
        TypeError,
        ("source", "float64", "astype"),
    ),
    "int32": (lambda: conv()(image(dtype=np.int32)), TypeError, ("source", "float32", "int32")),
    "bool": (lambda: conv()(image(dtype=bool)), TypeError, ("source", "float32", "bool")),
    "complex": (lambda: conv()(image(dtype=complex)), TypeError, ("source", "complex128")),
    "object": (lambda: conv()(image(dtype=object)), TypeError, ("source", "object")),
    "list": (lambda: conv()([[[1.0] * 6]]), TypeError, ("source", "list")),
    "none": (lambda: conv()(None), TypeError, ("source", "None")),
    "text": (lambda: conv()("picture.png"), TypeError, ("source", "str|picture")),
    "rank-2": (lambda: conv()(image(5, 6)), ValueError, ("source", "(5, 6)")),
    "rank-5": (lambda: conv()(image(1, 1, 5, 5, 6)), ValueError, ("source", "(1, 1, 5, 5, 6)")),
    "channels": (lambda: conv()(image(1, 5, 5, 7)), ValueError, ("source", "6", "7")),
    "packed-channels": (
        lambda: conv()(bc.pack(image(1, 5, 5, 7))),
        ValueError,
        ("source", "6", "7"),
    ),
    "packed-for-real-weights": (
        lambda: conv(terms={"type": bc.BinaryConvolutionType.BINARY_WEIGHTS})(bc.pack(image())),
        ValueError,
        ("source", "PackedImage", "BINARY_WEIGHTS"),
    ),
    "packed-for-beta": (
        lambda: conv(terms={"flags": bc.BinaryConvolutionFlags.USE_BETA_SCALING})(bc.pack(image())),
        ValueError,
        ("source", "PackedImage", "BETA|beta"),
    ),
    # destinations
    "out-shape": (
        lambda: conv()(image(), out=image(1, 5, 4, 4)),
        ValueError,
        ("out", "(1, 5, 5, 4)", "(1, 5, 4, 4)"),
    ),
    "out-channels": (
        lambda: conv()(image(), out=image(1, 5, 5, 5)),
        ValueError,
        ("out", "(1, 5, 5, 4)", "(1, 5, 5, 5)"),
    ),
    "out-rank": (
        lambda: conv()(image(), out=image(5, 5, 4)),
        ValueError,
        ("out", "(1, 5, 5, 4)", "(5, 5, 4)"),
    ),
    "out-dtype": (
        lambda: conv()(image(), out=image(1, 5, 5, 4, dtype=np.float64)),
        TypeError,
        ("out", "float32", "float64"),
    ),
    "out-read-only": (
        lambda: conv()(image(), out=read_only(image(1, 5, 5, 4))),
        ValueError,
        ("out", "read-only|writ"),
    ),
    "out-list": (lambda: conv()(image(), out=[]), TypeError, ("out", "list")),
    "dtype-float64": (
        lambda: conv()(image(), dtype=np.float64),
        (TypeError, ValueError),
        ("dtype", "float32", "float64"),
    ),
    "dtype-and-packed": (
        lambda: conv()(image(), dtype=np.float32, packed=True),
        (TypeError, ValueError),
        ("packed", "dtype"),
    ),
    "out-and-packed": (
        lambda: conv()(image(), out=image(1, 5, 5, 4), packed=True),
        (TypeError, ValueError),
        ("packed", "out"),
    ),
    "destination-channels": (
        lambda: conv().encode(image(), image(1, 5, 5, 3)),
        ValueError,
        ("destination", "4", "3"),
    ),
    "destination-rank": (
        lambda: conv().encode(image(), image(5, 4)),
        ValueError,
        ("destination", "(5, 4)"),
    ),
    "destination-dtype": (
        lambda: conv().encode(image(), image(1, 5, 5, 4, dtype=np.uint8)),
        TypeError,
        ("destination", "float32", "uint8"),
    ),
    "destination-read-only": (
        lambda: conv().encode(image(), read_only(image(1, 5, 5, 4))),
        ValueError,
        ("destination", "read-only|writ"),
    ),
    "destination-list": (lambda: conv().encode(image(), [1.0]), TypeError, ("destination", "list")),
    "batch-of-one-array": (lambda: conv().encode_batch(5), TypeError, ("sources", "5")),
    "destination-size-negative": (
        lambda: conv().destination_size((-1, 5)),
        ValueError,
        ("source_size", "-1"),
    ),
    "source-region-float": (
        lambda: conv().source_region((1.5, 5)),
        TypeError,
        ("destination_size", "1.5"),
    ),
    # packed images
    "pack-float64": (lambda: bc.pack(image(dtype=np.float64)), TypeError, ("image", "float64")),
    "pack-rank": (lambda: bc.pack(np.float32(1)), (TypeError, ValueError), ("image",)),
    "pack-bias-length": (lambda: bc.pack(image(), bias=np.ones(5)), ValueError, ("bias", "6", "5")),
    "pack-scale-nan": (
        lambda: bc.pack(image(), scale=np.full(6, np.nan)),
        ValueError,
        ("scale", "finite", "nan"),
    ),
    "packed-words-dtype": (
        lambda: bc.PackedImage(np.zeros((1, 2, 3, 1), np.int64), 6),
        TypeError,
        ("words", "uint64", "int64"),
    ),
    "packed-words-shape": (
        lambda: bc.PackedImage(np.zeros((1, 2, 3, 2), np.uint64), 6),
        ValueError,
        ("words", "1", "2"),
    ),
    "packed-words-rank": (
        lambda: bc.PackedImage(np.zeros((3, 1), np.uint64), 6),
        ValueError,
        ("words", "(3, 1)"),
    ),
    "packed-channels-zero": (
        lambda: bc.PackedImage(np.zeros((1, 2, 3, 0), np.uint64), 0),
        ValueError,
        ("channels", "0"),
    ),
    "pack-weights-dtype": (
        lambda: bc.pack_weights(np.zeros((1, 1, 1, 1), complex)),
        TypeError,
        ("weights", "complex128"),
    ),
    "pack-weights-rank": (
        lambda: bc.pack_weights(np.zeros((1, 1), np.float32)),
        ValueError,
        ("weights", "(1, 1)"),
    ),
    # fully connected
    "vectors-for-a-window": (
        lambda: bc.BinaryFullyConnected(bc.ArrayDataSource(desc(), weights()))(image(5, 6)),
        ValueError,
        ("source", "(5, 6)"),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_wrong_input(name):
    call, expected, fragments = CASES[name]
    with pytest.raises(expected) as caught:
        call()
    message = str(caught.value)
    for fragment in fragments:
        alternatives = [re.escape(part) for part in fragment.split("|")]
        assert re.search("|".join(alternatives), message), f"{fragment!r} is not in {message!r}"


# ------------------------------------------------------------- what stays after a failed call


@pytest.mark.parametrize(
    ("source", "options"),
    [
        (image(dtype=np.float64), {}),
        (image(1, 5, 5, 7), {}),
        (image(2, 5, 5, 6), {}),
        (image(1, 9, 5, 6), {}),
    ],
)
def test_a_failed_call_leaves_the_destination(source, options):
    out = image(1, 5, 5, 4, fill=7)
    with pytest.raises((TypeError, ValueError)):
        conv()(source, out=out, **options)
    assert (out == 7).all()


@pytest.mark.parametrize("how", ["out", "encode"])
def test_overlap_is_refused(how):
    layer = conv(output_feature_channels=4)
    source, destination = overlapping()
    source[...], before = 1, destination.copy()
    call = (
        (lambda: layer(source, out=destination))
        if how == "out"
        else (lambda: layer.encode(source, destination))
    )
    with pytest.raises(ValueError, match="(?s)(out|destination).*overlap"):
        call()
    assert np.array_equal(destination, before)


def test_overlap_of_packed_images_is_refused():
    layer = conv(output_feature_channels=6)
    bits = bc.pack(image())
    before = np.asarray(bits.words).copy()
    with pytest.raises(ValueError, match="overlap"):
        layer.encode(bits, bits)
    assert np.array_equal(bits.words, before)


def test_interleaved_arrays_do_not_overlap():
    """Channels of one buffer side by side share no byte."""
    base = image(1, 5, 5, 10)
    conv()(base[..., :6], out=base[..., 6:])
    assert np.array_equal(base[..., 6:], conv()(image()))


def test_a_failed_setting_keeps_the_old_value():
    layer = conv()
    layer.offset = bc.Offset(x=1, y=2)
    layer.edge_constant = 0.5
    for name, wrong in (("offset", 5), ("edge_constant", np.nan), ("edge_mode", 99)):
        before = getattr(layer, name)
        with pytest.raises((TypeError, ValueError)):
            setattr(layer, name, wrong)
        assert getattr(layer, name) == before


def test_products_that_overflow_are_refused_before_memory_is_asked_for():
    layer = conv(kernel_width=1, kernel_height=1)

    class Huge:
        def __init__(self, size):
            self.size = size

        def destination(self, source_size, kernel):
            return self.size, bc.Offset()

    for size in ((2**31 - 1, 2**31 - 1), (2**40, 2**40), (2**62, 4)):
        layer.padding = Huge(size)
        for options in ({}, {"packed": True}, {"dtype": np.float16}):
            with pytest.raises((ValueError, MemoryError)):
                layer(image(), **options)
    layer.padding = bc.Padding.explicit(2**31 - 1, 2**31 - 1, 2**31 - 1, 2**31 - 1)
    with pytest.raises((ValueError, MemoryError)):
        layer(image())


@pytest.mark.parametrize("mode", ["CLAMP", "MIRROR", "MIRROR_WITH_EDGE"])
def test_an_empty_source_has_no_edge_to_repeat(mode):
    layer = conv()
    layer.edge_mode = bc.EdgeMode[mode]
    assert layer(image(1, 0, 5, 6)).shape == (1, 0, 5, 4)
    layer.padding = bc.Padding.explicit(2, 2, 2, 2)
    with pytest.raises(ValueError, match=f"source.*{mode}"):
        layer(image(1, 0, 5, 6))
    with pytest.raises(ValueError, match=f"source.*{mode}"):
        layer.encode(image(1, 5, 0, 6), image(1, 5, 5, 4))


def test_a_broadcast_source_of_huge_shape():
    """No copy of a view that claims 2^60 bytes: an error, not a crash."""
    source = np.broadcast_to(np.float32(1), (2**20, 2**18, 2**19, 6))
    with pytest.raises((ValueError, MemoryError)):
        conv()(source)


@pytest.mark.parametrize("answer", [None, 5, ((1, 2), (0, 0)), ((1,), 0), ((-1, 2), bc.Offset())])
def test_a_custom_policy_that_answers_nonsense(answer):
    class Policy:
        def destination(self, source_size, kernel):
            return answer

    layer = conv()
    layer.padding = Policy()
    with pytest.raises((TypeError, ValueError), match="padding"):
        layer(image())


def test_a_custom_policy_that_raises():
    class Policy:
        def destination(self, source_size, kernel):
            raise ZeroDivisionError("mine")

    layer = conv()
    layer.padding = Policy()
    with pytest.raises(ZeroDivisionError, match="mine"):
        layer(image())


# ------------------------------------------------------------ data sources that fail or lie


class Source:
    """A data source that counts its loads and purges, and fails or lies where it is told."""

    def __init__(self, **answers):
        self.answers = answers
        self.loads = self.purges = 0

    def _answer(self, name, default):
        answer = self.answers.get(name, default)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def load(self):
        self.loads += 1
        return self._answer("load", True)

    def purge(self):
        self.purges += 1
        self._answer("purge", None)

    def data_type(self):
        return self._answer("data_type", bc.DataType.UINT32)

    def descriptor(self):
        return self._answer("descriptor", desc())

    def weights(self):
        return self._answer("weights", words(4, 2, 3, 1))

    def bias_terms(self):
        return self._answer("bias_terms", None)

    def label(self):
        return self._answer("label", "mine")


def test_load_and_purge_balance():
    source = Source()
    layer = BinaryConvolution(source)
    assert (source.loads, source.purges) == (1, 1)
    assert layer.label == "mine"
    layer.reload_weights_and_biases(source)
    assert (source.loads, source.purges) == (2, 2)


def test_arrays_of_a_source_are_copied():
    given = {"weights": words(4, 2, 3, 1), "bias_terms": np.zeros(4, np.float32)}
    layer = BinaryConvolution(Source(**given))
    before = layer(image())
    given["weights"][...] = 0xFFFFFFFF
    given["bias_terms"][...] = 9
    assert np.array_equal(layer(image()), before)


class Liar(np.ndarray):
    """An array whose shape says more than its memory holds."""

    @property
    def shape(self):
        return (4, 2, 3, 1)


BAD_ANSWERS = {
    "load-false": ({"load": False}, ("load",)),
    "load-none": ({"load": None}, ("load",)),
    "load-raises": ({"load": OSError("no such disk")}, ("no such disk",)),
    "descriptor-raises": ({"descriptor": RuntimeError("mine")}, ("mine",)),
    "descriptor-none": ({"descriptor": None}, ("descriptor", "ConvolutionDescriptor", "None")),
    "data-type": ({"data_type": bc.DataType.FLOAT32}, ("data_type", "UINT32", "FLOAT32")),
    "weights-raise": ({"weights": RuntimeError("mine")}, ("mine",)),
    "weights-none": ({"weights": None}, ("weights", "None")),
    "weights-text": ({"weights": "w"}, ("weights", "str|w")),
    "weights-dtype": (
        {"weights": np.zeros((4, 2, 3, 1), np.int32)},
        ("weights", "uint32", "int32"),
    ),
    "weights-shape": ({"weights": words(4, 2, 3, 2)}, ("weights", "(4, 2, 3, 1)", "(4, 2, 3, 2)")),
    "weights-rank": ({"weights": words(24)}, ("weights", "(4, 2, 3, 1)", "(24,)")),
    "weights-lie": ({"weights": words(1).view(Liar)}, ("weights",)),
    "bias-length": ({"bias_terms": np.ones(5, np.float32)}, ("bias_terms", "4", "5")),
    "bias-nan": ({"bias_terms": np.full(4, np.nan, np.float32)}, ("bias_terms", "finite", "nan")),
    "bias-text": ({"bias_terms": "none"}, ("bias_terms",)),
    "bias-raises": ({"bias_terms": RuntimeError("mine")}, ("mine",)),
    "label-wrong": ({"label": 5}, ("label", "5")),
}


@pytest.mark.parametrize("name", BAD_ANSWERS)
def test_sources_that_fail_or_lie(name):
    answers, fragments = BAD_ANSWERS[name]
    source = Source(**answers)
    with pytest.raises(bc.DataSourceError) as caught:
        BinaryConvolution(source)
    for fragment in fragments:
        assert any(part in str(caught.value) for part in fragment.split("|")), str(caught.value)
    raised = [answer for answer in answers.values() if isinstance(answer, Exception)]
    if raised:
        assert caught.value.__cause__ is raised[0]
    assert (source.loads, source.purges) == (1, 1)


def test_a_failed_reload_keeps_the_layer():
    layer = BinaryConvolution(Source())
    before = layer(image())
    source = Source(weights=words(4, 2, 3, 2))
    with pytest.raises(bc.DataSourceError):
        layer.reload_weights_and_biases(source)
    assert (source.loads, source.purges) == (1, 1)
    assert np.array_equal(layer(image()), before)


def test_a_reload_of_another_shape_is_refused():
    layer = BinaryConvolution(Source())
    other = Source(descriptor=desc(kernel_width=1), weights=words(4, 2, 1, 1))
    with pytest.raises(ValueError, match="kernel|descriptor"):
        layer.reload_weights_and_biases(other)
    assert other.purges == other.loads
    assert layer(image()).shape == (1, 5, 5, 4)


def test_a_purge_that_raises_does_not_hide_the_first_error():
    source = Source(weights=None, purge=RuntimeError("second"))
    with pytest.raises(bc.DataSourceError, match="weights"):
        BinaryConvolution(source)


def test_a_missing_file(tmp_path):
    with pytest.raises(bc.DataSourceError, match="nowhere"):
        BinaryConvolution(bc.SafetensorsDataSource(tmp_path / "nowhere.safetensors"))


def test_interrupts_pass_through():
    """KeyboardInterrupt is nobody's DataSourceError, and load is still balanced."""

    class Interrupted(Source):
        def weights(self):
            raise KeyboardInterrupt

    source = Interrupted()
    with pytest.raises(KeyboardInterrupt):
        BinaryConvolution(source)
    assert (source.loads, source.purges) == (1, 1)


# ------------------------------------------------------------------------- hostile bytes


def rewritten(data: bytes, change) -> bytes:
    """Serialised bytes whose safetensors header went through `change`."""
    (size,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + size])
    header = change(header) or header
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data[8 + size :]


def layer_bytes() -> bytes:
    return conv(terms={"output_bias_terms": np.arange(4, dtype=np.float32)}).to_bytes()


def test_serialised_bytes_round_trip():
    layer = conv(terms={"output_bias_terms": np.arange(4, dtype=np.float32)})
    for again in (
        BinaryConvolution.from_bytes(layer.to_bytes()),
        pickle.loads(pickle.dumps(layer)),
        copy.deepcopy(layer),
    ):
        assert np.array_equal(again(image()), layer(image()))


def test_truncated_bytes():
    data = layer_bytes()
    for size in [*range(64), *range(64, len(data), 7), len(data) - 1]:
        with pytest.raises(ValueError):
            BinaryConvolution.from_bytes(data[:size])
    with pytest.raises(ValueError):
        BinaryConvolution.from_bytes(data + b"\0")


def test_flipped_bits_of_the_header():
    """Whatever one wrong byte makes of it: a layer or a ValueError, nothing else."""
    data = bytearray(layer_bytes())
    (size,) = struct.unpack("<Q", data[:8])
    rng = np.random.default_rng(130)
    for at in rng.choice(8 + size, min(500, 8 + size), replace=False):
        changed = bytearray(data)
        changed[at] ^= 1 << int(rng.integers(8))
        try:
            layer = BinaryConvolution.from_bytes(bytes(changed))
        except ValueError:
            continue
        try:
            layer(np.ones((1, 5, 5, min(layer.input_feature_channels, 4096)), np.float32))
        except (ValueError, MemoryError):
            pass


def mutations():
    """(name, change): headers that lie."""

    def metadata(key, value):
        def change(header):
            header["__metadata__"][key] = value

        return change

    def field(*path, value):
        def change(header):
            described = json.loads(header["__metadata__"]["layers"])
            target = described[0]
            for name in path[:-1]:
                target = target[name]
            assert path[-1] in target, path
            target[path[-1]] = value
            header["__metadata__"]["layers"] = json.dumps(described)

        return change

    def drop(name):
        def change(header):
            del header[name]

        return change

    yield "format", metadata("format", "other")
    yield "version", metadata("version", "999")
    yield "version-text", metadata("version", "one")
    yield "layers-no-json", metadata("layers", "{")
    yield "layers-number", metadata("layers", "5")
    yield "layers-empty", metadata("layers", "[]")
    yield "layers-deep", metadata("layers", "[" * 100_000)
    yield "layers-huge-number", metadata("layers", "9" * 5000)
    yield "no-metadata", drop("__metadata__")
    yield "no-weights", drop("weights")
    yield "kind", field("kind", value="os.system")
    yield "kind-list", field("kind", value=[])
    yield "type", field("type", value=77)
    yield "type-text", field("type", value="XNOR")
    yield "flags", field("flags", value=-1)
    for name in ("kernel_width", "input_feature_channels", "output_feature_channels", "groups"):
        for value in (0, -1, 1.5, None, "3", [], 2**31, 2**100, True):
            yield f"{name}-{value!r}", field("descriptor", name, value=value)


MUTATIONS = dict(mutations())


@pytest.mark.parametrize("name", MUTATIONS)
def test_headers_that_lie(name):
    data = rewritten(layer_bytes(), MUTATIONS[name])
    with pytest.raises(ValueError):
        BinaryConvolution.from_bytes(data)


@pytest.mark.parametrize(
    "data",
    [b"", b"\0" * 8, b"\xff" * 64, b"PK\3\4", pickle.dumps([1])],
    ids=["nothing", "zeros", "ones", "zip", "pickle"],
)
def test_bytes_of_something_else(data):
    with pytest.raises(ValueError):
        BinaryConvolution.from_bytes(data)
    with pytest.raises(ValueError):
        bc.Sequential.from_bytes(data)


@pytest.mark.parametrize("data", [None, 5, "text", [1, 2]])
def test_bytes_that_are_none(data):
    with pytest.raises(TypeError, match="data"):
        BinaryConvolution.from_bytes(data)


def test_loading_the_wrong_kind(tmp_path):
    path = tmp_path / "layer.safetensors"
    conv().save(path)
    with pytest.raises(ValueError, match="BinaryFullyConnected|BinaryConvolution"):
        bc.BinaryFullyConnected.load(path)


@pytest.mark.parametrize(
    "bad",
    [b"", b"\xff" * 100, struct.pack("<Q", 2**60) + b"{}", struct.pack("<Q", 2) + b"{}"],
    ids=["nothing", "ones", "too-long-a-header", "no-layer"],
)
def test_hostile_files(bad, tmp_path):
    path = tmp_path / "bad.safetensors"
    path.write_bytes(bad)
    with pytest.raises(ValueError):
        BinaryConvolution.load(path)
    with pytest.raises(bc.DataSourceError):
        BinaryConvolution(bc.SafetensorsDataSource(path))


# --------------------------------------------------------------- arrays that change or lie


def test_an_array_protocol_that_lies():
    class Lies:
        def __array__(self, dtype=None, copy=None):
            return "not an array"

    class Raises:
        def __array__(self, dtype=None, copy=None):
            raise RuntimeError("mine")

    for wrong in (Lies(), Raises()):
        with pytest.raises((TypeError, ValueError, RuntimeError)):
            conv()(wrong)


def test_masked_and_structured_arrays():
    structured = np.zeros((1, 5, 5, 6), [("a", np.float32)])
    with pytest.raises(TypeError, match="source"):
        conv()(structured)
