"""The tests of the manual form on a GPU: the same cases, with images made of the arrays."""

from __future__ import annotations

import numpy as np
import pytest
import reference as ref
import test_encode
from building import convolution, pixels
from hypothesis import given, settings
from hypothesis import strategies as st
from metal_adapter import bm
from strategies import layers, seeds

import binconv as bc


class OnArrays:
    """A layer of the GPU that encodes from arrays to arrays, as those of the CPU do."""

    def __init__(self, layer: bc.BinaryConvolution):
        self.__dict__["gpu"] = bm.BinaryConvolution.from_cpu(layer)

    def __getattr__(self, name):
        return getattr(self.gpu, name)

    def __setattr__(self, name, value):
        setattr(self.gpu, name, value)

    def __call__(self, *arguments, **options):
        return self.gpu(*arguments, **options)

    def encode(self, source, destination=None):
        return self.encode_batch([source], None if destination is None else [destination])[0]

    def encode_batch(self, sources, destinations=None):
        commands = bm.CommandBuffer()
        images = [bm.Image(source) for source in sources]
        into = None if destinations is None else [bm.Image(each) for each in destinations]
        results = self.gpu.encode_batch(commands, images, into)
        commands.commit()
        arrays = [result.numpy() for result in results]
        for array, destination in zip(arrays, destinations or [], strict=False):
            if isinstance(destination, bc.PackedImage):
                destination.words[...] = array.words
            else:
                destination[...] = array if destination.ndim == 4 else array[0]
        return arrays if destinations is None else destinations


# Below with fewer examples; of arrays, which are images here before anything is encoded.
_NOT_HERE = {
    "test_random_encodes",
    "test_encode_batch_sees_the_layer_as_it_was_when_it_began",
}
for _name, _test in vars(test_encode).items():
    if _name.startswith("test_") and callable(_test) and _name not in _NOT_HERE:
        globals()[_name] = _test


@pytest.fixture(autouse=True, scope="module")
def _on_the_gpu():
    test_encode.convolution = lambda layer: OnArrays(convolution(layer))
    yield
    test_encode.convolution = convolution


@settings(max_examples=40)
@given(layers(), st.data(), seeds())
def test_random_encodes(layer, data, rng):
    test_encode.test_random_encodes.hypothesis.inner_test(layer, data, rng)


def test_a_layer_reads_what_the_one_before_wrote():
    """In one command buffer, through bits; the image between is never read back."""
    rng = np.random.default_rng(90)
    first = convolution(test_encode.make(91, 40, (3, 3), 10))
    second = convolution(test_encode.make(92, 9, (3, 3), 40))
    source = pixels(rng, (2, 5, 6, 10), "float32")
    commands = bm.CommandBuffer()
    between = bm.Image.empty((2, 5, 6, 40), "bits")
    gpu = [bm.BinaryConvolution.from_cpu(layer) for layer in (first, second)]
    gpu[0].encode(commands, bm.Image(source), between)
    result = gpu[1].encode(commands, between)
    commands.commit()
    commands.wait_until_completed()
    assert np.array_equal(result.numpy(), second(first(source)))
    assert between.numpy() == first(source, packed=True)


def test_one_image_of_bits_sliced_by_a_layer():
    """Whole words are read in place, others are moved first; foreign bits do not count."""
    rng = np.random.default_rng(93)
    for channels, first, wanted in ((128, 64, 64), (100, 64, 36), (128, 32, 40), (70, 3, 60)):
        layer = test_encode.make(94, 9, (2, 2), wanted)
        source = rng.integers(0, 2, (1, 4, 5, channels))
        test_encode.check_encode(
            layer,
            ref.Bits(source),
            test_encode.Manual(source_channel=first, source_max=wanted),
            test_encode.Destination((1, 4, 5, 9), "float32", rng),
        )
