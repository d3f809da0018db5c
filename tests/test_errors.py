"""Wrong input of every kind: which exception comes, and what its message names."""

from __future__ import annotations

import re

import numpy as np
import pytest
from small import conv, desc, image, weights, words

import binconv as bc
from binconv import BinaryConvolution

BIG = 2**62


def with_attribute(name: str, value: object) -> None:
    setattr(conv(), name, value)


def source_that(**answers) -> BinaryConvolution:
    """A layer from a data source that works, but for the answers given (exceptions are raised)."""
    right = {
        "load": True,
        "purge": None,
        "data_type": bc.DataType.UINT32,
        "descriptor": desc(),
        "weights": words(4, 2, 3, 1),
        "bias_terms": None,
        "label": None,
    }

    def method(answer):
        def call(self):
            if isinstance(answer, Exception):
                raise answer
            return answer

        return call

    methods = {name: method(answer) for name, answer in (right | answers).items()}
    return BinaryConvolution(type("Source", (), methods)())


class Liar(np.ndarray):
    """An array whose shape says more than its memory holds."""

    @property
    def shape(self):
        return (4, 2, 3, 1)


def read_only(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array


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
    # What the compiled core refuses too, but without a name.
    "descriptor-too-many-words": (
        lambda: desc(kernel_width=2**12, kernel_height=2**12, input_feature_channels=1),
        ValueError,
        ("kernel_height * kernel_width", "1073741823", "1073741824"),
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
    "prelu-ragged": (
        lambda: bc.NeuronDescriptor(bc.NeuronType.PRELU, a=[1, [2]]),
        ValueError,
        ("a: expected", "ragged"),
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
    **{
        f"padding-amounts-{value!r}": (
            lambda value=value: bc.Padding(bc.PaddingMethod.CUSTOM, value),
            TypeError,
            ("amounts", "(top, bottom, left, right)", got),
        )
        for value, got in ((5, "5"), ((1, 2, 3), "a tuple of length 3"), ("1234", "1234"))
    },
    "enumeration-by-name": (
        lambda: with_attribute("edge_mode", "CLAMP"),
        TypeError,
        ("edge_mode", "EdgeMode", "CLAMP 1", "'CLAMP'"),
    ),
    **{
        f"packed-{value!r}": (
            lambda value=value: conv()(image(), packed=value),
            TypeError,
            ("packed", "bool"),
        )
        for value in (0, 1, "yes", np.zeros(2))
    },
    "array-that-is-none": (
        lambda: conv()(type("Odd", (), {"__array__": lambda self, *_, **__: 5})()),
        TypeError,
        ("source", "Odd"),
    ),
    "unpack-dtype": (lambda: bc.pack(image()).unpack("zz"), TypeError, ("dtype", "zz")),
    # fully connected
    "vectors-for-a-window": (
        lambda: bc.BinaryFullyConnected(bc.ArrayDataSource(desc(), weights()))(image(5, 6)),
        ValueError,
        ("source", "(5, 6)"),
    ),
    # data sources that fail or lie
    **{
        f"source-{name}": (
            lambda answers=answers: source_that(**answers),
            bc.DataSourceError,
            fragments,
        )
        for name, (answers, fragments) in {
            "load-false": ({"load": False}, ("load",)),
            "load-none": ({"load": None}, ("load",)),
            "load-raises": ({"load": OSError("no such disk")}, ("no such disk",)),
            "descriptor-raises": ({"descriptor": RuntimeError("mine")}, ("mine",)),
            "descriptor-none": (
                {"descriptor": None},
                ("descriptor", "ConvolutionDescriptor", "None"),
            ),
            "data-type": ({"data_type": bc.DataType.FLOAT32}, ("data_type", "UINT32", "FLOAT32")),
            "weights-raise": ({"weights": RuntimeError("mine")}, ("mine",)),
            "weights-none": ({"weights": None}, ("weights", "None")),
            "weights-text": ({"weights": "w"}, ("weights", "str|w")),
            "weights-dtype": (
                {"weights": np.zeros((4, 2, 3, 1), np.int32)},
                ("weights", "uint32", "int32"),
            ),
            "weights-shape": (
                {"weights": words(4, 2, 3, 2)},
                ("weights", "(4, 2, 3, 1)", "(4, 2, 3, 2)"),
            ),
            "weights-rank": ({"weights": words(24)}, ("weights", "(4, 2, 3, 1)", "(24,)")),
            "weights-lie": ({"weights": words(1).view(Liar)}, ("weights",)),
            "bias-length": ({"bias_terms": np.ones(5, np.float32)}, ("bias_terms", "4", "5")),
            "bias-nan": (
                {"bias_terms": np.full(4, np.nan, np.float32)},
                ("bias_terms", "finite", "nan"),
            ),
            "bias-text": ({"bias_terms": "none"}, ("bias_terms",)),
            "bias-raises": ({"bias_terms": RuntimeError("mine")}, ("mine",)),
            "label-wrong": ({"label": 5}, ("label", "5")),
        }.items()
    },
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
