"""Rows of layers on a GPU give what they give on the CPU."""

from __future__ import annotations

import copy
import pickle

import building
import numpy as np
import pytest
import test_sequential
from building import package_source, pixels, source_of, takes_bits
from hypothesis import given, settings
from hypothesis import strategies as st
from metal_adapter import bm
from strategies import seeds
from test_sequential import same, stack, stacks

import binconv as bc

__all__ = ["stack"]  # a fixture


@pytest.fixture(autouse=True, scope="module")
def _on_the_cpu_first():
    """Layers are made on the CPU, and their twins from them."""
    assert building.package is bc


@settings(max_examples=20)
@given(stacks(), seeds(), st.data())
def test_random_stacks(stack, rng, data):
    """With bits between layers or not: the result is that of the layers one by one, on the GPU."""
    forms = ["float32", "float16", "uint8"] + (["packed"] if takes_bits(stack[0]) else [])
    shape = (data.draw(st.integers(0, 2)), 5, 6, stack[0].input_channels)
    source = package_source(source_of(rng, shape, data.draw(st.sampled_from(forms))))
    network = bm.Sequential.from_cpu(bc.Sequential(*map(building.convolution, stack)))
    options = data.draw(
        st.sampled_from([{"dtype": np.float32}, {"dtype": np.float16}, {"packed": True}])
    )
    expected = test_sequential.one_by_one(list(network), source, **options)
    assert same(network(source, **options), expected)


def test_a_stack_of_integers_against_the_cpu(stack):
    network = bc.Sequential(*stack)
    twin = bm.Sequential.from_cpu(network)
    source = np.round(pixels(np.random.default_rng(124), (2, 4, 5, 6), "float32") * 4)
    assert np.array_equal(twin(source), network(source))
    assert np.array_equal(twin.to_cpu()(source), network(source))
    assert np.array_equal(twin[1:](network[:1](source)), network(source))


def test_images_between_layers_are_bits_where_the_next_binarises(stack):
    network = bm.Sequential.from_cpu(bc.Sequential(*stack))
    network(pixels(np.random.default_rng(1), (2, 4, 5, 6), "float32"))
    assert [image.form for image in network._between.values()] == ["bits", "bits"]


def test_encoding_many_times_uses_the_images_between_again(stack):
    network = bm.Sequential.from_cpu(bc.Sequential(*stack))
    rng = np.random.default_rng(2)
    sources = [np.round(pixels(rng, (2, 4, 5, 6), "float32") * 4) for _ in range(3)]
    commands = bm.CommandBuffer()
    results = [network.encode(commands, bm.Image(source)) for source in sources]
    commands.commit()
    for source, result in zip(sources, results, strict=True):
        assert np.array_equal(result.numpy(), network.to_cpu()(source))
    with pytest.raises(ValueError, match="destination_image: expected shape"):
        network.encode(bm.CommandBuffer(), bm.Image(sources[0]), bm.Image.empty((2, 4, 5, 9)))


def test_saved_copied_and_pickled(stack, tmp_path):
    network = bm.Sequential.from_cpu(bc.Sequential(*stack))
    source = np.round(pixels(np.random.default_rng(3), (1, 4, 5, 6), "float32") * 4)
    expected = network(source)
    network.save(tmp_path / "network.safetensors")
    for again in (
        bm.Sequential.load(tmp_path / "network.safetensors"),
        bc.Sequential.load(tmp_path / "network.safetensors"),
        bm.Sequential.from_bytes(bc.Sequential(*stack).to_bytes()),
        pickle.loads(pickle.dumps(network)),
        copy.copy(network),
        copy.deepcopy(network),
    ):
        assert np.array_equal(again(source), expected)


def test_what_does_not_fit(stack):
    network = bm.Sequential.from_cpu(bc.Sequential(*stack))
    with pytest.raises(TypeError, match=r"binconv\.Sequential"):
        bm.Sequential.from_cpu(network)
    with pytest.raises(TypeError, match="layers: expected BinaryConvolution"):
        bm.Sequential(stack[0])
    with pytest.raises(ValueError, match="layers"):
        bm.Sequential()
    with pytest.raises(ValueError, match="layers: at 1"):
        bm.Sequential(network[1], network[0])
    other = bm.BinaryConvolution.from_cpu(stack[1], bm.Device())
    with pytest.raises(ValueError, match="layers: expected one of the layer's device"):
        bm.Sequential(network[0], other)
