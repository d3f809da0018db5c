"""The binary fully connected layer on a GPU."""

from __future__ import annotations

from .._parameters import LayerState
from ..enums import PaddingMethod
from ..geometry import Padding
from .convolution import BinaryConvolution

__all__ = ["BinaryFullyConnected"]


class BinaryFullyConnected(BinaryConvolution):
    """A binary convolution whose kernel covers the whole source, on a GPU.  MPS:
    MPSCNNBinaryFullyConnected.

    Takes the arguments of `binconv.metal.BinaryConvolution`; otherwise as
    `binconv.BinaryFullyConnected`.
    """

    _is_fully_connected = True

    @staticmethod
    def _default_state() -> LayerState:
        return LayerState(padding=Padding(PaddingMethod.SIZE_VALID_ONLY))


BinaryFullyConnected._kinds[True] = BinaryFullyConnected
