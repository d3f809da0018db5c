"""A small layer to do wrong things to: a 3 x 2 kernel from 6 channels to 4, and images for it."""

from __future__ import annotations

import numpy as np

import binconv as bc


def desc(**fields) -> bc.ConvolutionDescriptor:
    return bc.ConvolutionDescriptor(
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


def conv(*, terms=None, **fields) -> bc.BinaryConvolution:
    return bc.BinaryConvolution(
        bc.ArrayDataSource(desc(**fields), weights(**fields)), **(terms or {})
    )


def image(*shape, dtype=np.float32, fill=1) -> np.ndarray:
    """All of one value; (1, 5, 5, 6) unless told."""
    return np.full(shape or (1, 5, 5, 6), fill, dtype)


def words(*shape) -> np.ndarray:
    return np.zeros(shape, np.uint32)
