"""Sequential gives what its layers give one by one with real numbers between them."""

from __future__ import annotations

import copy
import pickle

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
from hypothesis import given
from hypothesis import strategies as st
from strategies import layers, seeds

import binconv as bc


@st.composite
def stacks(draw: st.DrawFn) -> list[ref.Layer]:
    """Two to four layers whose channels fit, in any mixture of types."""
    stack = [draw(layers(dilations=(1, 1), strides=(1, 1)))]
    for _ in range(draw(st.integers(1, 3))):
        rng = draw(seeds())
        channels = stack[-1].destination_channels
        outputs = draw(st.sampled_from([1, 7, 8, 9, 33, 64, 65]))
        kernel = (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
        terms = draw(st.booleans())
        edge_mode = draw(st.sampled_from(EDGE_MODES))
        stack.append(
            ref.Layer(
                rng.integers(0, 2, (outputs, *kernel, channels)),
                type=draw(st.sampled_from(TYPES)),
                beta_scaling=draw(st.sampled_from([False, False, True])),
                strides=(draw(st.integers(1, 2)), draw(st.integers(1, 2))),
                scale=rng.normal(size=outputs).astype(np.float32) * 0.1,
                bias=rng.normal(size=outputs).astype(np.float32),
                input_bias=rng.normal(size=channels).astype(np.float32) if terms else None,
                input_scale=rng.normal(size=channels).astype(np.float32)
                if terms and draw(st.booleans())
                else None,
                neuron=ref.Neuron(draw(st.sampled_from(["NONE", "RELU", "TANH"])), 1.0, 0.5),
                edge_mode=edge_mode,
                edge_constant=-0.5 if edge_mode == "CONSTANT" else 0.0,
            )
        )
    return stack


def one_by_one(convs, source, **options):
    for conv in convs[:-1]:
        source = conv(source, dtype=np.float32)
    return convs[-1](source, **options)


def same(a, b) -> bool:
    if isinstance(a, bc.PackedImage):
        return a.channels == b.channels and np.array_equal(a.words, b.words)
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


@given(stacks(), seeds(), st.data())
def test_random_stacks(stack, rng, data):
    """Bit for bit, also where a layer's bits depend on the input terms of the next."""
    forms = ["float32", "float16", "uint8"] + (["packed"] if takes_bits(stack[0]) else [])
    shape = (data.draw(st.integers(0, 2)), 5, 6, stack[0].input_channels)
    form = data.draw(st.sampled_from(forms))
    source = package_source(source_of(rng, shape, form))
    convs = [convolution(layer) for layer in stack]
    network = bc.Sequential(*convs)
    options = data.draw(
        st.sampled_from([{"dtype": np.float32}, {"dtype": np.float16}, {"packed": True}])
    )
    assert same(network(source, **options), one_by_one(convs, source, **options))


@pytest.fixture
def stack() -> list[bc.BinaryConvolution]:
    rng = np.random.default_rng(120)
    terms = rng.normal(size=(2, 20)).astype(np.float32)
    return [
        convolution(make(121, 20, (3, 3), 6, type="BINARY_WEIGHTS", bias=0.5)),
        convolution(make(122, 20, (3, 3), 20, input_bias=terms[0], input_scale=terms[1])),
        convolution(make(123, 9, (4, 5), 20, scale=0.1), bc.BinaryFullyConnected),
    ]


def test_a_stack_against_the_oracle(stack):
    """Not only the package against itself."""
    source = pixels(np.random.default_rng(124), (2, 4, 5, 6), "float32")
    rng = np.random.default_rng(120)
    terms = rng.normal(size=(2, 20)).astype(np.float32)
    # integer pixels make the first layer exact, so that the oracle knows every bit
    source = np.round(source * 4).astype(np.float32)
    a = make(121, 20, (3, 3), 6, type="BINARY_WEIGHTS", bias=0.5)
    b = make(122, 20, (3, 3), 20, input_bias=terms[0], input_scale=terms[1])
    c = make(123, 9, (4, 5), 20, scale=0.1)
    x = ref.run(a, source, (4, 5), (0, 0)).chain
    x = ref.run(b, x, (4, 5), (0, 0)).chain
    expected = ref.run(c, x, *ref.padding(c, (4, 5), "VALID_ONLY"))
    ref.check(bc.Sequential(*stack)(source), expected)


def test_types_of_results(stack):
    network = bc.Sequential(*stack)
    source = pixels(np.random.default_rng(125), (2, 4, 5, 6), "float32")
    assert network(source).dtype == np.float32
    assert network(source).shape == (2, 1, 1, 9)
    assert network(source[0]).shape == (1, 1, 9)
    assert network(source.astype(np.float16)).dtype == np.float16
    assert network((source > 0).astype(np.uint8)).dtype == np.float32
    assert isinstance(network(source, packed=True), bc.PackedImage)
    out = np.empty((2, 1, 1, 9), np.float32)
    assert network(source, out=out) is out
    assert np.array_equal(out, network(source))


def test_settings_of_each_layer_hold(stack):
    stack[0].edge_mode = bc.EdgeMode.MIRROR
    stack[1].padding = bc.Padding.explicit(1, 1, 1, 1)
    source = pixels(np.random.default_rng(126), (2, 4, 5, 6), "float32")
    assert same(bc.Sequential(*stack)(source), one_by_one(stack, source))


def test_one_layer_and_none(stack):
    source = pixels(np.random.default_rng(127), (2, 4, 5, 6), "float32")
    assert same(bc.Sequential(stack[0])(source), stack[0](source))
    with pytest.raises(ValueError, match="layers"):
        bc.Sequential()


def test_layers_that_do_not_fit(stack):
    with pytest.raises(ValueError, match=r"(?s)(?=.*20)(?=.*6)"):
        bc.Sequential(stack[1], stack[0])
    with pytest.raises(TypeError, match="layers"):
        bc.Sequential(stack[0], "relu")


def test_saved_and_loaded(stack, tmp_path):
    network = bc.Sequential(*stack)
    source = pixels(np.random.default_rng(128), (2, 4, 5, 6), "float32")
    expected = network(source)
    network.save(tmp_path / "network.safetensors")
    for again in (
        bc.Sequential.load(tmp_path / "network.safetensors"),
        bc.Sequential.from_bytes(network.to_bytes()),
        pickle.loads(pickle.dumps(network)),
        copy.copy(network),
        copy.deepcopy(network),
    ):
        assert same(again(source), expected)


def wild(rng: np.random.Generator, size: int) -> np.ndarray:
    """float32 numbers of all magnitudes and both signs, zeros, ties and subnormals among them."""
    kinds = [
        rng.normal(size=size),
        np.exp(rng.uniform(-103, 88, size)) * rng.choice([-1, 1], size),
        rng.integers(-20, 20, size),
        rng.integers(-40, 40, size) / 4,
        rng.choice([0.0, -0.0, 1e-45, -1e-45, 3e38, -3e38, 1e-38], size),
    ]
    return np.choose(rng.integers(0, len(kinds), size), kinds).astype(np.float32)


@pytest.mark.parametrize("neuron", ["NONE", "RELU", "PRELU", "TANH", "ABSOLUTE", "RELUN", "LINEAR"])
@pytest.mark.parametrize("type_", ["XNOR", "AND"])
def test_bits_of_wild_terms(type_, neuron):
    """Bits made without the real numbers are those of the real numbers, overflow and all."""
    rng = np.random.default_rng(180)
    for turn in range(40):
        o = 70
        scale = wild(rng, o)
        with np.errstate(over="ignore"):
            ties = (-scale * rng.integers(-6, 6, o)).astype(np.float32)  # sums that cancel
        bias = np.where(np.isfinite(ties) & (turn % 2 == 1), ties, wild(rng, o))
        slope = rng.choice([0.0, 0.25, 1.0, -1.0, -0.0])
        a = np.abs(wild(rng, o)) if neuron == "PRELU" else slope
        layer = make(
            turn,
            o,
            (1, 2),
            3,
            type=type_,
            scale=scale,
            bias=bias,
            neuron=ref.Neuron(neuron, a, 0.5),
            edge_mode="EXCLUDE",
        )
        source = pixels(rng, (1, 4, 5, 3), "float32")
        first = convolution(layer)
        real = first(source)
        size, offset = ref.padding(layer, (4, 5))
        ref.check(real, ref.run(layer, source, size, offset))
        assert np.array_equal(first(source, packed=True).words, ref.pack(ref.bit(real)))
        terms = [wild(rng, o) if turn % 3 != k else None for k in range(2)]
        identity = ref.Layer(
            np.eye(o, dtype=int).reshape(o, 1, 1, o),
            type="AND",
            input_bias=terms[0],
            input_scale=terms[1],
        )
        second = convolution(identity)
        bits = bc.Sequential(first, second)(source)
        assert np.array_equal(bits, second(real))
