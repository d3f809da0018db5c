"""The layers that are measured, and how they are built."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

import binconv as bc

Float32 = NDArray[np.float32]
Run = Callable[[], object]


@dataclass(frozen=True)
class LayerCase:
    """A layer on square images, which keeps their size but for the stride."""

    name: str
    size: int
    """Height and width of an image."""
    channels: int
    outputs: int
    kernel: int = 3
    """Kernel height and width."""
    stride: int = 1
    groups: int = 1
    images: int = 1

    @property
    def destination_size(self) -> int:
        return -(-self.size // self.stride)

    @property
    def macs(self) -> int:
        """Multiply-adds that the layer stands for, taps off the image included."""
        pixels = self.images * self.destination_size**2
        return pixels * self.kernel**2 * self.channels // self.groups * self.outputs

    @property
    def source_shape(self) -> tuple[int, int, int, int]:
        return self.images, self.size, self.size, self.channels

    @property
    def weights_shape(self) -> tuple[int, int, int, int]:
        return self.outputs, self.kernel, self.kernel, self.channels // self.groups


LAYERS = (
    LayerCase("3×3 56²×64", 56, 64, 64),
    LayerCase("3×3 28²×128", 28, 128, 128),
    LayerCase("3×3 14²×256", 14, 256, 256),
    LayerCase("3×3 7²×512", 7, 512, 512),
    LayerCase("1×1 14²×256", 14, 256, 256, kernel=1),
    LayerCase("dense 4096²", 1, 4096, 4096, kernel=1),
    LayerCase("dense 4096², batch 32", 1, 4096, 4096, kernel=1, images=32),
)
"""The stages of a ResNet, and a dense layer."""

REFERENCE = LAYERS[1]
"""What the odd shapes are compared with."""

ODD_LAYERS = (
    LayerCase("3×3 28²×32", 28, 32, 32),
    LayerCase("3×3 28²×96", 28, 96, 96),
    LayerCase("3×3 28²×16→128", 28, 16, 128),
    LayerCase("1×1 28²×128", 28, 128, 128, kernel=1),
    LayerCase("5×5 28²×64", 28, 64, 64, kernel=5),
    LayerCase("7×7 28²×64", 28, 64, 64, kernel=7),
    LayerCase("7×7 stride 2 112²×3→64", 112, 3, 64, kernel=7, stride=2),
    LayerCase("3×3 stride 2 28²×128", 28, 128, 128, stride=2),
    LayerCase("3×3 28²×128, 8 groups", 28, 128, 128, groups=8),
    LayerCase("3×3 7²×128", 7, 128, 128),
    LayerCase("3×3 14²×128, batch 8", 14, 128, 128, images=8),
)
"""Shapes that are apt to be slow."""


@dataclass(frozen=True)
class Mode:
    """How a layer is run: what it computes, from what, to what."""

    name: str
    type: bc.BinaryConvolutionType
    packed: bool = False
    """Bits in and bits out, otherwise float32 in and out."""


XNOR = Mode("XNOR", bc.BinaryConvolutionType.XNOR)
AND = Mode("AND", bc.BinaryConvolutionType.AND)
BITS = Mode("XNOR, bits", bc.BinaryConvolutionType.XNOR, packed=True)
BINARY_WEIGHTS = Mode("BINARY_WEIGHTS", bc.BinaryConvolutionType.BINARY_WEIGHTS)
MODES = (XNOR, AND, BITS, BINARY_WEIGHTS)


def random_layer(case: LayerCase) -> tuple[Float32, NDArray[np.bool_]]:
    """Images (N, H, W, C) and the bits of weights (O, kh, kw, C / groups), always the same."""
    generator = np.random.default_rng(20240229)
    images = generator.standard_normal(case.source_shape, dtype=np.float32)
    weights = generator.integers(0, 2, case.weights_shape, np.uint8).astype(np.bool_)
    return images, weights


def make_layer(case: LayerCase, mode: Mode, weights: NDArray[np.bool_]) -> bc.BinaryConvolution:
    descriptor = bc.ConvolutionDescriptor(
        kernel_width=case.kernel,
        kernel_height=case.kernel,
        input_feature_channels=case.channels,
        output_feature_channels=case.outputs,
        stride_in_pixels_x=case.stride,
        stride_in_pixels_y=case.stride,
        groups=case.groups,
    )
    return bc.BinaryConvolution(bc.ArrayDataSource(descriptor, weights), type=mode.type)


def prepare(case: LayerCase, mode: Mode) -> Run:
    """A function that runs the layer once, as `mode` says."""
    images, weights = random_layer(case)
    layer = make_layer(case, mode, weights)
    if mode.packed:
        bits = bc.pack(images)
        packed = layer(bits, packed=True)
        return lambda: layer(bits, out=packed)
    result = layer(images)
    return lambda: layer(images, out=result)
