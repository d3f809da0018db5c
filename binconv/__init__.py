"""Convolution with 1-bit weights on the CPU, in the manner of Metal Performance Shaders.

A layer takes its weights from a data source and is called on an array:

    >>> import numpy as np
    >>> import binconv as bc
    >>> desc = bc.ConvolutionDescriptor(
    ...     kernel_width=3, kernel_height=3, input_feature_channels=64, output_feature_channels=128
    ... )
    >>> rng = np.random.default_rng(0)
    >>> source = bc.ArrayDataSource(desc, rng.normal(size=(128, 3, 3, 64)))
    >>> conv = bc.BinaryConvolution(source, type=bc.BinaryConvolutionType.XNOR)
    >>> conv(rng.normal(size=(56, 56, 64)).astype(np.float32)).shape
    (56, 56, 128)
"""

from .convolution import BinaryConvolution, WeightsAndBiases
from .descriptors import (
    BatchNormalization,
    ConvolutionDescriptor,
    DepthWiseConvolutionDescriptor,
    NeuronDescriptor,
    SubPixelConvolutionDescriptor,
)
from .enums import (
    BinaryConvolutionFlags,
    BinaryConvolutionType,
    DataType,
    EdgeMode,
    NeuronType,
    PaddingMethod,
)
from .errors import DataSourceError
from .fully_connected import BinaryFullyConnected
from .geometry import Offset, Padding, PaddingPolicy, Region
from .images import PackedImage, pack
from .runtime import (
    cpu_features,
    get_include,
    get_num_threads,
    isa,
    set_num_threads,
    show_config,
)
from .sequential import Sequential
from .sources import (
    ArrayDataSource,
    ConvolutionDataSource,
    SafetensorsDataSource,
    pack_weights,
)

__version__ = "0.1.0"

__all__ = [
    "ArrayDataSource",
    "BatchNormalization",
    "BinaryConvolution",
    "BinaryConvolutionFlags",
    "BinaryConvolutionType",
    "BinaryFullyConnected",
    "ConvolutionDataSource",
    "ConvolutionDescriptor",
    "DataSourceError",
    "DataType",
    "DepthWiseConvolutionDescriptor",
    "EdgeMode",
    "NeuronDescriptor",
    "NeuronType",
    "Offset",
    "PackedImage",
    "Padding",
    "PaddingMethod",
    "PaddingPolicy",
    "Region",
    "SafetensorsDataSource",
    "Sequential",
    "SubPixelConvolutionDescriptor",
    "WeightsAndBiases",
    "__version__",
    "cpu_features",
    "get_include",
    "get_num_threads",
    "isa",
    "pack",
    "pack_weights",
    "set_num_threads",
    "show_config",
]
