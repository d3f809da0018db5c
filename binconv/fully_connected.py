"""The binary fully connected layer."""

from __future__ import annotations

from ._parameters import LayerState
from .convolution import BinaryConvolution
from .enums import PaddingMethod
from .geometry import Padding

__all__ = ["BinaryFullyConnected"]


class BinaryFullyConnected(BinaryConvolution):
    """A binary convolution whose kernel covers the whole source.  MPS: MPSCNNBinaryFullyConnected.

    Takes the arguments of `BinaryConvolution`.  The height and width of a source are those of the
    (dilated) kernel, ValueError otherwise; with the padding that it starts with, VALID_ONLY, the
    result is one pixel.  Where the kernel is 1 x 1, a source may also be (N, C) or (C,), and the
    result is then (N, O) or (O,).
    """

    _is_fully_connected = True

    @staticmethod
    def _default_state() -> LayerState:
        return LayerState(padding=Padding(PaddingMethod.SIZE_VALID_ONLY))


BinaryFullyConnected._kinds[True] = BinaryFullyConnected
