"""Descriptors are values: checked, copied, immutable, comparable."""

from __future__ import annotations

import copy
import dataclasses
import pickle

import numpy as np
import pytest

import binconv as bc

PRELU = bc.NeuronType.PRELU


def full_descriptor(**changes) -> bc.ConvolutionDescriptor:
    return bc.ConvolutionDescriptor(
        **{
            "kernel_width": 3,
            "kernel_height": 5,
            "input_feature_channels": 70,
            "output_feature_channels": 4,
            "groups": 2,
            "neuron": bc.NeuronDescriptor(PRELU, a=[0.1, 0.2, 0.3, 0.4]),
            "batch_normalization": bc.BatchNormalization(np.zeros(4), np.ones(4)),
            **changes,
        }
    )


def test_defaults():
    desc = bc.ConvolutionDescriptor(3, 5, 16, 8)
    assert (desc.kernel_width, desc.kernel_height) == (3, 5)
    assert (desc.input_feature_channels, desc.output_feature_channels) == (16, 8)
    assert (desc.stride_in_pixels_x, desc.stride_in_pixels_y) == (1, 1)
    assert (desc.dilation_rate_x, desc.dilation_rate_y, desc.groups) == (1, 1, 1)
    assert desc.neuron == bc.NeuronDescriptor(bc.NeuronType.NONE, 0.0, 0.0, 0.0)
    assert desc.batch_normalization is None
    assert bc.ConvolutionDescriptor(3, 5, 16, 8, neuron=None) == desc


def test_shape_of_the_words():
    """35 channels a group take two words of 32."""
    assert full_descriptor().weights_shape == (4, 5, 3, 2)
    assert full_descriptor(groups=1).weights_shape == (4, 5, 3, 3)


def test_numpy_integers_become_int():
    desc = bc.ConvolutionDescriptor(np.int64(3), np.uint8(5), np.int16(16), np.int32(8))
    assert all(type(getattr(desc, item.name)) is int for item in dataclasses.fields(desc)[:9])
    with pytest.raises(TypeError, match="kernel_width"):
        bc.ConvolutionDescriptor(np.True_, 5, 16, 8)


@pytest.mark.parametrize(
    "value",
    [
        full_descriptor(),
        full_descriptor().neuron,
        full_descriptor().batch_normalization,
        bc.SubPixelConvolutionDescriptor(1, 1, 8, 36, subpixel_scale_factor=3),
        bc.DepthWiseConvolutionDescriptor(3, 3, 8, channel_multiplier=2),
    ],
    ids=lambda value: type(value).__name__,
)
def test_copies_are_equal(value):
    for other in (copy.copy(value), copy.deepcopy(value), pickle.loads(pickle.dumps(value))):
        assert other == value
        assert hash(other) == hash(value)
        assert type(other) is type(value)
    assert value != "something else"
    with pytest.raises(dataclasses.FrozenInstanceError):
        value.groups = 3
    assert type(value).__name__ in repr(value)


@pytest.mark.parametrize(
    "changes",
    [
        {"kernel_width": 4},
        {"groups": 1},
        {"neuron": bc.NeuronDescriptor(PRELU, a=[0.1, 0.2, 0.3, 0.5])},
        {"neuron": bc.NeuronDescriptor()},
        {"batch_normalization": None},
        {"batch_normalization": bc.BatchNormalization(np.zeros(4), np.ones(4), np.ones(4))},
        {"batch_normalization": bc.BatchNormalization(np.ones(4), np.ones(4))},
        {"batch_normalization": bc.BatchNormalization(np.zeros(4), np.ones(4), epsilon=0.1)},
    ],
)
def test_what_differs_is_not_equal(changes):
    assert full_descriptor(**changes) != full_descriptor()


def test_classes_differ():
    plain = bc.ConvolutionDescriptor(1, 1, 8, 8, groups=8)
    assert plain != bc.DepthWiseConvolutionDescriptor(1, 1, 8)
    assert bc.ConvolutionDescriptor(1, 1, 8, 8) != bc.SubPixelConvolutionDescriptor(1, 1, 8, 8)


def test_arrays_are_copied_and_read_only():
    mean, slopes = np.zeros(4), np.ones(4, np.float32)
    norm = bc.BatchNormalization(mean, [1, 2, 3, 4], np.ones(4, np.float16))
    neuron = bc.NeuronDescriptor(PRELU, a=slopes)
    mean[...] = slopes[...] = 9
    assert not norm.mean.any()
    assert neuron.a.tolist() == [1, 1, 1, 1]
    for array in (norm.mean, norm.variance, norm.gamma, neuron.a):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 5
    assert norm.mean.dtype == norm.variance.dtype == norm.gamma.dtype == np.float64
    assert norm.beta is None
    assert neuron.a.dtype == np.float32


def test_batch_normalization_needs_a_positive_spread():
    with pytest.raises(ValueError, match="variance"):
        bc.BatchNormalization([0.0], [0.0], epsilon=0)
    with pytest.raises(ValueError, match="variance"):
        bc.BatchNormalization([0.0], [-1.0], epsilon=2)
    assert bc.BatchNormalization([0.0], [0.0], epsilon=1e-30).epsilon == 1e-30


def test_subpixel():
    desc = bc.SubPixelConvolutionDescriptor(1, 1, 8, 36, subpixel_scale_factor=3)
    assert (desc.destination_channels, desc.destination_scale) == (4, 3)
    assert bc.SubPixelConvolutionDescriptor(1, 1, 8, 5).subpixel_scale_factor == 1
    for factor in (5, 0, True, 2.0):
        with pytest.raises((ValueError, TypeError), match="subpixel_scale_factor"):
            bc.SubPixelConvolutionDescriptor(1, 1, 8, 36, subpixel_scale_factor=factor)


def test_depthwise_derives_or_checks():
    desc = bc.DepthWiseConvolutionDescriptor(3, 3, 8, channel_multiplier=2, stride_in_pixels_x=2)
    assert (desc.groups, desc.output_feature_channels, desc.channel_multiplier) == (8, 16, 2)
    assert desc.weights_shape == (16, 3, 3, 1)
    assert bc.DepthWiseConvolutionDescriptor(3, 3, 8, 16, groups=8, channel_multiplier=2).groups
    with pytest.raises(ValueError, match=r"groups.*8.*1"):
        bc.DepthWiseConvolutionDescriptor(3, 3, 8, groups=1)
    with pytest.raises(ValueError, match=r"output_feature_channels.*16.*8"):
        bc.DepthWiseConvolutionDescriptor(3, 3, 8, 8, channel_multiplier=2)
