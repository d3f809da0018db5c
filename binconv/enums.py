"""Enumerations with the numeric values of Metal Performance Shaders."""

from __future__ import annotations

from enum import IntEnum, IntFlag

__all__ = [
    "BinaryConvolutionFlags",
    "BinaryConvolutionType",
    "DataType",
    "EdgeMode",
    "NeuronType",
    "PaddingMethod",
]

_FLOAT = 0x10000000
_SIGNED = 0x20000000
_NORMALIZED = 0x40000000


class BinaryConvolutionType(IntEnum):
    """What is binary in the convolution.  MPS: MPSCNNBinaryConvolutionType."""

    BINARY_WEIGHTS = 0
    """Real source values, added where the weight's bit is 1 and subtracted where it is 0."""
    XNOR = 1
    """Both are bits that stand for -1 and +1."""
    AND = 2
    """Both are bits that stand for 0 and 1."""


class BinaryConvolutionFlags(IntFlag):
    """Options of a binary convolution.  MPS: MPSCNNBinaryConvolutionFlags."""

    NONE = 0
    USE_BETA_SCALING = 1
    """Multiply each sum by the mean magnitude of the source under the window (XNOR-Net's K)."""


class DataType(IntEnum):
    """Type of the elements of an array.  MPS: MPSDataType."""

    INVALID = 0
    FLOAT32 = _FLOAT | 32
    FLOAT16 = _FLOAT | 16
    INT8 = _SIGNED | 8
    INT16 = _SIGNED | 16
    INT32 = _SIGNED | 32
    UINT8 = 8
    UINT16 = 16
    UINT32 = 32
    UNORM1 = _NORMALIZED | 1
    UNORM8 = _NORMALIZED | 8


class EdgeMode(IntEnum):
    """What a tap reads outside the source.  MPS: MPSImageEdgeMode (EXCLUDE is binconv's own)."""

    ZERO = 0
    """Source value 0, which is then biased, scaled and binarised like any other (to bit 1)."""
    CLAMP = 1
    """The nearest source pixel."""
    MIRROR = 2
    """Reflected about the centre of the edge pixel: ... 2 1 | 0 1 2 ..."""
    MIRROR_WITH_EDGE = 3
    """Reflected about the border: ... 1 0 | 0 1 2 ..."""
    CONSTANT = 4
    """Source value `BinaryConvolution.edge_constant`."""
    EXCLUDE = 16
    """Nothing: the tap is left out of the sum, as in PyTorch's, Keras's and Larq's padding."""


class NeuronType(IntEnum):
    """Activation function of a layer, with parameters a, b, c.  MPS: MPSCNNNeuronType."""

    NONE = 0
    """x"""
    RELU = 1
    """x if x >= 0 else a*x"""
    LINEAR = 2
    """a*x + b"""
    SIGMOID = 3
    """1 / (1 + e^-x)"""
    HARD_SIGMOID = 4
    """clamp(a*x + b, 0, 1)"""
    TANH = 5
    """a * tanh(b*x)"""
    ABSOLUTE = 6
    """|x|"""
    SOFT_PLUS = 7
    """a * log(1 + e^(b*x))"""
    SOFT_SIGN = 8
    """x / (1 + |x|)"""
    ELU = 9
    """x if x >= 0 else a*(e^x - 1)"""
    PRELU = 10
    """RELU with an array `a`, one value for each output channel"""
    RELUN = 11
    """min(x if x >= 0 else a*x, b)"""
    POWER = 12
    """(a*x + b)^c"""
    EXPONENTIAL = 13
    """c^(a*x + b), or e^(a*x + b) for c == -1"""
    LOGARITHM = 14
    """log_c(a*x + b), or the natural logarithm for c == -1"""
    GELU = 15
    """0.5 * x * (1 + erf(x / sqrt(2)))"""


class PaddingMethod(IntFlag):
    """How a destination is sized and aligned: one of ALIGN_*, one of ADD_REMAINDER_TO_* and one of
    SIZE_*, combined with ``|``; the first of each is 0.  MPS: MPSNNPaddingMethod.
    """

    ALIGN_CENTERED = 0
    ALIGN_TOP_LEFT = 1
    ALIGN_BOTTOM_RIGHT = 2
    ADD_REMAINDER_TO_TOP_LEFT = 0
    ADD_REMAINDER_TO_TOP_RIGHT = 4
    ADD_REMAINDER_TO_BOTTOM_LEFT = 8
    ADD_REMAINDER_TO_BOTTOM_RIGHT = 12
    SIZE_VALID_ONLY = 0
    SIZE_SAME = 16
    SIZE_FULL = 32
    CUSTOM = 16384
    """The padding of `Padding.explicit`, and of policies that are objects of the user's own."""
