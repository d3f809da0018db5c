"""The serialised form: everything comes back, and hostile bytes do nothing but raise ValueError."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

import binconv as bc


def terms(size: int) -> st.SearchStrategy[np.ndarray]:
    numbers = st.floats(-(2.0**99), 2.0**99, width=32)
    return st.lists(numbers, min_size=size, max_size=size).map(lambda x: np.array(x, np.float32))


@st.composite
def neurons(draw, outputs: int) -> bc.NeuronDescriptor:
    kind = draw(st.sampled_from(bc.NeuronType))
    if kind == bc.NeuronType.PRELU:
        return bc.NeuronDescriptor(kind, draw(terms(outputs)))
    number = st.floats(-3e38, 3e38)
    return bc.NeuronDescriptor(kind, draw(number), draw(number), draw(number))


@st.composite
def descriptors(draw) -> bc.ConvolutionDescriptor:
    size = st.integers(1, 3)
    groups = draw(size)
    factor = draw(st.sampled_from([1, 2]))
    outputs = factor**2 * groups * draw(size)
    norm = None
    if draw(st.booleans()):
        number = st.floats(-10, 10)
        mean = draw(st.lists(number, min_size=outputs, max_size=outputs))
        optional = [None, np.linspace(0.5, 1, outputs)]
        norm = bc.BatchNormalization(
            mean,
            np.square(mean),
            draw(st.sampled_from(optional)) if outputs else None,
            draw(st.sampled_from(optional)),
            draw(st.floats(1e-6, 1)),
        )
    fields = {
        "kernel_width": draw(size),
        "kernel_height": draw(size),
        "input_feature_channels": groups * draw(st.integers(1, 40)),
        "output_feature_channels": outputs,
        "stride_in_pixels_x": draw(st.integers(1, 2**31 - 1)),
        "stride_in_pixels_y": draw(size),
        "dilation_rate_x": draw(size),
        "dilation_rate_y": draw(st.integers(1, 2**20)),
        "groups": groups,
        "neuron": draw(neurons(outputs)),
        "batch_normalization": norm,
    }
    if factor > 1:
        return bc.SubPixelConvolutionDescriptor(**fields, subpixel_scale_factor=factor)
    if draw(st.booleans()):
        del fields["output_feature_channels"], fields["groups"]
        del fields["neuron"], fields["batch_normalization"]
        return bc.DepthWiseConvolutionDescriptor(**fields, channel_multiplier=draw(size))
    return bc.ConvolutionDescriptor(**fields)


@st.composite
def layers(draw) -> bc.BinaryConvolution:
    desc = draw(descriptors())
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    words = rng.integers(0, 2**32, desc.weights_shape, dtype=np.uint32)
    outputs, inputs = desc.output_feature_channels, desc.input_feature_channels
    small = st.sampled_from([None, 1.5])

    def array(size: int) -> np.ndarray | None:
        value = draw(small)
        return None if value is None else rng.normal(size=size) * value

    arrays = {
        "output_bias_terms": array(outputs),
        "output_scale_terms": array(outputs),
        "input_bias_terms": array(inputs),
        "input_scale_terms": array(inputs),
    }
    if all(value is None for value in arrays.values()):
        arrays = {"scale_value": draw(st.floats(-10, 10))}
    kind = draw(st.sampled_from([bc.BinaryConvolution, bc.BinaryFullyConnected]))
    conv = kind(
        bc.ArrayDataSource(desc, words, array(outputs), draw(st.none() | st.text())),
        type=draw(st.sampled_from(bc.BinaryConvolutionType)),
        flags=draw(st.sampled_from(bc.BinaryConvolutionFlags)),
        **arrays,
    )
    number = st.integers(-(2**31) + 1, 2**31 - 1)
    natural = st.integers(0, 2**31 - 1)
    triple = st.tuples(natural, natural, natural)
    conv.offset = bc.Offset(draw(number), draw(number), draw(natural))
    conv.clip_rect = draw(st.none() | st.builds(bc.Region, triple, triple))
    conv.edge_mode = draw(st.sampled_from(bc.EdgeMode))
    conv.edge_constant = draw(st.floats(-3e38, 3e38))
    conv.padding = draw(
        st.builds(
            lambda a, b, c: bc.Padding(a | b | c),
            st.sampled_from([0, 1, 2]),
            st.sampled_from([0, 4, 8, 12]),
            st.sampled_from([0, 16, 32]),
        )
        | st.builds(bc.Padding.explicit, number, number, number, number)
    )
    conv.destination_feature_channel_offset = draw(natural)
    conv.source_feature_channel_offset = draw(natural)
    conv.source_feature_channel_max_count = draw(st.none() | st.integers(1, 2**31 - 1))
    return conv


PROPERTIES = (
    "offset clip_rect edge_mode edge_constant padding destination_feature_channel_offset "
    "source_feature_channel_offset source_feature_channel_max_count label type flags neuron"
).split()


@given(layers())
def test_round_trip(conv):
    data = conv.to_bytes()
    again = bc.BinaryConvolution.from_bytes(data)
    assert type(again) is type(conv)
    for name in PROPERTIES:
        assert getattr(again, name) == getattr(conv, name), name
    assert again.data_source.descriptor() == conv.data_source.descriptor()
    for mine, theirs in zip(
        again.export_weights_and_biases(), conv.export_weights_and_biases(), strict=True
    ):
        assert np.array_equal(mine, theirs)
    assert again.to_bytes() == data
    assert len(bc.Sequential.from_bytes(data)) == 1


def small_layer() -> bc.BinaryConvolution:
    norm = bc.BatchNormalization(np.zeros(4), np.ones(4), epsilon=0.5)
    desc = bc.ConvolutionDescriptor(
        3,
        2,
        6,
        4,
        neuron=bc.NeuronDescriptor(bc.NeuronType.PRELU, np.ones(4)),
        batch_normalization=norm,
    )
    source = bc.ArrayDataSource(desc, np.ones((4, 2, 3, 6)), np.ones(4), "small")
    conv = bc.BinaryConvolution(source, output_scale_terms=np.ones(4))
    conv.clip_rect = bc.Region((0, 0, 0), (1, 1, 1))
    return conv


DATA = small_layer().to_bytes()


def test_the_documented_layout():
    size = int.from_bytes(DATA[:8], "little")
    metadata = json.loads(DATA[8 : 8 + size])["__metadata__"]
    assert metadata["format"] == "binconv"
    assert metadata["version"] == "1"
    [layer] = json.loads(metadata["layers"])
    assert (layer["prefix"], layer["kind"], layer["label"]) == ("", "BinaryConvolution", "small")
    tensors = safetensors.numpy.load(DATA)
    assert {name: array.dtype.name for name, array in tensors.items()} == {
        "weights": "uint32",
        "bias_terms": "float32",
        "output_scale_terms": "float32",
        "neuron_a": "float32",
        "batch_normalization.mean": "float64",
        "batch_normalization.variance": "float64",
    }
    network = bc.Sequential(
        small_layer(),
        bc.BinaryConvolution(
            bc.ArrayDataSource(bc.ConvolutionDescriptor(1, 1, 4, 2), np.ones((2, 1, 1, 4)))
        ),
    )
    assert {name.split(".")[0] for name in safetensors.numpy.load(network.to_bytes())} == {"0", "1"}


def harmless(data: bytes) -> None:
    """A layer, which may be run, or a ValueError; nothing else."""
    for reader in (bc.BinaryConvolution, bc.Sequential):
        try:
            layer = reader.from_bytes(data)
        except ValueError:
            continue
        if layer.to_bytes() == DATA:
            continue
        conv = layer[0] if isinstance(layer, bc.Sequential) else layer
        try:
            conv(np.ones((3, 4, conv.input_feature_channels % 4096), np.float32))
        except (ValueError, MemoryError):
            pass


@given(st.data())
def test_bytes_that_were_changed(data):
    changed = bytearray(DATA)
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(0, len(DATA) - 1))] = data.draw(st.integers(0, 255))
    harmless(bytes(changed))


@given(st.integers(0, len(DATA)), st.integers(0, len(DATA)), st.binary(max_size=20))
def test_bytes_cut_and_filled(start, end, filling):
    harmless(DATA[:start] + filling + DATA[end:])


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from([2**31, 2**63, 2**64, -1, 0, "", "0.", "BinaryConvolution"])
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


def rewritten(layers: object, **tensors: np.ndarray) -> bytes:
    metadata = {"format": "binconv", "version": "1", "layers": json.dumps(layers)}
    return safetensors.numpy.save({**safetensors.numpy.load(DATA), **tensors}, metadata)


def described() -> dict:
    size = int.from_bytes(DATA[:8], "little")
    return json.loads(json.loads(DATA[8 : 8 + size])["__metadata__"]["layers"])[0]


def places(value: object, path: tuple = ()) -> list[tuple]:
    """Every path into a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    found = []
    for key, inner in items:
        found.append((*path, key))
        if isinstance(inner, (dict, list)):
            found += places(inner, (*path, key))
    return found


@given(st.sampled_from(places(described())), json_values, st.booleans())
def test_headers_with_other_values(path, value, remove):
    layer = described()
    target = layer
    for key in path[:-1]:
        target = target[key]
    if remove:
        del target[path[-1]]
    else:
        target[path[-1]] = value
    harmless(rewritten([layer]))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("offset", [1, 2]),
        ("offset", "123"),
        ("padding", {"explicit": [1]}),
        ("padding", {"explicit": 1}),
    ],
)
def test_lists_of_another_length(name, value):
    layer = described()
    layer["state"][name] = value
    with pytest.raises(ValueError, match=f"{name}.*not a list"):
        bc.BinaryConvolution.from_bytes(rewritten([layer]))


def test_a_prefix_is_a_string():
    layer = described() | {"prefix": 3}
    tensors = {f"3{name}": array for name, array in safetensors.numpy.load(DATA).items()}
    with pytest.raises(ValueError, match="prefix"):
        bc.BinaryConvolution.from_bytes(rewritten([layer], **tensors))


@given(json_values)
def test_headers_of_any_json(value):
    with pytest.raises(ValueError):
        bc.Sequential.from_bytes(rewritten(value))


@pytest.mark.parametrize(
    "tensors",
    [
        {"weights": np.zeros((4, 2, 3, 1), np.int32)},
        {"weights": np.zeros((4, 2, 3, 2), np.uint32)},
        {"weights": np.zeros((0, 2, 3, 1), np.uint32)},
        {"weights": np.zeros((4, 2, 3, 1), np.float16)},
        {"bias_terms": np.full(4, np.nan, np.float32)},
        {"bias_terms": np.zeros(4, np.float64)},
        {"bias_terms": np.zeros((4, 1), np.float32)},
        {"output_scale_terms": np.array([1, np.inf, 1, 1], np.float32)},
        {"output_bias_terms": np.zeros(3, np.float32)},
        {"input_bias_terms": np.zeros(4, np.float32)},
        {"neuron_a": np.zeros(5, np.float32)},
        {"batch_normalization.variance": np.full(4, -1.0)},
        {"batch_normalization.gamma": np.full(4, 1e300)},
        {"batch_normalization.mean": np.zeros(4, np.int64)},
    ],
    ids=lambda tensors: next(f"{k}-{v.dtype}{v.shape}" for k, v in tensors.items()),
)
def test_tensors_that_lie(tensors):
    with pytest.raises(ValueError):
        bc.BinaryConvolution.from_bytes(rewritten([described()], **tensors))


def test_header_nested_without_end():
    deep = "[" * 100_000 + "]" * 100_000
    metadata = {"format": "binconv", "version": "1", "layers": deep}
    with pytest.raises(ValueError):
        bc.BinaryConvolution.from_bytes(
            safetensors.numpy.save(safetensors.numpy.load(DATA), metadata)
        )
    text = (b'{"a":' * 100_000) + b"1" + b"}" * 100_000
    with pytest.raises(ValueError):
        bc.BinaryConvolution.from_bytes(struct.pack("<Q", len(text)) + text)


def test_other_tensors_and_metadata_are_let_be():
    """A file may hold more: what made it, where it came from."""
    tensors = {**safetensors.numpy.load(DATA), "more": np.zeros(3, np.int16)}
    size = int.from_bytes(DATA[:8], "little")
    metadata = json.loads(DATA[8 : 8 + size])["__metadata__"] | {"licence": "CC0"}
    again = bc.BinaryConvolution.from_bytes(safetensors.numpy.save(tensors, metadata))
    assert again.to_bytes() == DATA


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_kinds_of_bytes(kind):
    assert bc.BinaryConvolution.from_bytes(kind(DATA)).to_bytes() == DATA


def test_a_policy_of_ones_own_has_no_serialised_form():
    class Own:
        def destination(self, source_size, kernel):
            return source_size, bc.Offset()

    conv = small_layer()
    conv.padding = Own()
    with pytest.raises(TypeError, match="padding"):
        conv.to_bytes()


def test_several_layers_are_not_one(tmp_path):
    network = bc.Sequential(
        *[
            bc.BinaryConvolution(
                bc.ArrayDataSource(bc.ConvolutionDescriptor(1, 1, 4, 4), np.ones((4, 1, 1, 4)))
            )
            for _ in range(2)
        ]
    )
    network.save(tmp_path / "file")
    with pytest.raises(ValueError, match="Sequential"):
        bc.BinaryConvolution.load(tmp_path / "file")
    with pytest.raises(FileNotFoundError):
        bc.BinaryConvolution.load(tmp_path / "nothing")
