"""The layer tests on a GPU: the same cases, oracle and strategies, with binconv.metal's layers."""

from __future__ import annotations

import building
import numpy as np
import pytest
import reference as ref
import test_layer_corners
import test_layers
from building import convolution, package_source, pixels, result_array
from checking import check_case, padding_of
from hypothesis import given, settings
from metal_adapter import bm
from strategies import Case, cases, layers, paddings, seeds, wide_layers

import binconv as bc

# Every new kind of layer is a shader to compile, which a driver on the CPU takes long for.
few = settings(max_examples=25)

# Of those below, or of the CPU alone.
_NOT_HERE = {
    "test_random_layers",
    "test_random_wide_layers",
    "test_random_layers_of_real_weights",
    "test_integer_results_are_exact",
    "test_sums_past_the_integers_of_float32",  # builds a layer of the CPU
    "test_huge_offsets_dilations_and_strides_take_no_memory",  # measures the CPU's memory
}
for _module in (test_layers, test_layer_corners):
    for _name, _test in vars(_module).items():
        if _name.startswith("test_") and callable(_test) and _name not in _NOT_HERE:
            globals()[_name] = _test


@pytest.fixture(autouse=True, scope="module")
def _on_the_gpu():
    building.package = bm
    yield
    building.package = bc


def test_layers_are_those_of_the_gpu():
    layer = convolution(ref.Layer(np.ones((1, 1, 1, 1), int)))
    assert isinstance(layer, bm.BinaryConvolution)


@few
@given(cases())
def test_random_layers(case):
    check_case(case)


@few
@given(cases(of=wide_layers()))
def test_random_wide_layers(case):
    check_case(case)


@few
@given(layers(neuron=ref.Neuron(), batch_norm=None, type="BINARY_WEIGHTS"), seeds(), paddings())
def test_random_layers_of_real_weights(layer, rng, padding):
    source = pixels(rng, (1, 5, 6, layer.input_channels), "float32")
    check_case(Case(layer, source, padding, "float32"))


@few
@given(cases(scale=1.0, bias=0.0, neuron=ref.Neuron(), batch_norm=None, beta_scaling=False))
def test_integer_results_are_those_of_the_cpu(case):
    """Bit for bit, whatever the form; BINARY_WEIGHTS is left to the tests above."""
    layer = case.layer
    if layer.type == "BINARY_WEIGHTS":
        layer = ref.Layer(**{**vars(layer), "type": "AND"})
    gpu = convolution(layer)
    gpu.padding = padding_of(case.padding)
    source = package_source(case.source)
    actual, expected = gpu(source), gpu.to_cpu()(source)
    assert actual.dtype == expected.dtype
    assert np.array_equal(actual, expected)
    assert np.array_equal(
        result_array(gpu(source, packed=True)), result_array(gpu.to_cpu()(source, packed=True))
    )


@pytest.mark.parametrize("type_", ["XNOR", "AND"])
def test_sums_past_the_integers_of_float32(type_):
    """2^24 + 3 lies halfway between two float32 numbers and goes to the even one."""
    k = 2**24 + 3
    words = np.full((1, 1, 1, -(-k // 32)), 0xFFFFFFFF, np.uint32)
    desc = bc.ConvolutionDescriptor(
        kernel_width=1, kernel_height=1, input_feature_channels=k, output_feature_channels=1
    )
    conv = bm.BinaryConvolution(
        bc.ArrayDataSource(desc, words), type=bc.BinaryConvolutionType[type_]
    )
    assert conv(np.full((1, 1, k), 255, np.uint8)).item() == 2**24 + 4


def test_huge_offsets_dilations_and_strides():
    rng = np.random.default_rng(66)
    source = pixels(rng, (1, 4, 5, 10), "float32")
    weights = rng.integers(0, 2, (9, 2, 3, 10))
    big = 10**9
    for mode in building.EDGE_MODES:
        common = {"weights": weights, "edge_mode": mode, "edge_constant": -1.0}
        layer = ref.Layer(**common, dilations=(big, big - 1))
        ref.check(convolution(layer)(source), ref.run(layer, source, (4, 5), (0, 0)))
        layer = ref.Layer(**common)
        conv = convolution(layer)
        for y, x in ((2 * big, 3), (-big, -2 * big), (2, 2**31 - 1), (1 - 2**31, 0)):
            conv.offset = bc.Offset(x=x, y=y)
            destination = bm.Image.empty((1, 3, 4, 9))
            commands = bm.CommandBuffer()
            conv.encode(commands, bm.Image(source), destination)
            commands.commit()
            ref.check(destination.numpy(), ref.run(layer, source, (3, 4), (y, x)))
