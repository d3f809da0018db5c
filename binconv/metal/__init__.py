"""The layers of binconv on a GPU: through Metal on macOS, Vulkan on Linux, DirectX on Windows.

Needs `pip install binconv[metal]`.  Images stay on the GPU between layers:

    >>> import binconv.metal as bm
    >>> conv = bm.BinaryConvolution(source, type=bc.BinaryConvolutionType.XNOR)
    >>> commands = bm.CommandBuffer()
    >>> result = conv.encode(commands, bm.Image(pixels))
    >>> commands.commit()
    >>> result.numpy()

or one call goes from NumPy to NumPy: ``conv(pixels)``.
"""

from .commands import CommandBuffer
from .convolution import BinaryConvolution
from .device import Device
from .errors import DeviceError
from .fully_connected import BinaryFullyConnected
from .image import Image
from .packing import pack
from .runtime import show_config
from .sequential import Sequential

__all__ = [
    "BinaryConvolution",
    "BinaryFullyConnected",
    "CommandBuffer",
    "Device",
    "DeviceError",
    "Image",
    "Sequential",
    "pack",
    "show_config",
]
