"""Who computes a layer: this package, and the peers that are installed.

A contender turns a case into a function of no arguments that runs the layer once, on one image,
float32 in and float32 out, on one thread. A peer that is not installed is left out by name.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version

import numpy as np
from cases import LayerCase
from numpy.typing import NDArray

import binconv as bc

Float32 = NDArray[np.float32]
Run = Callable[[], object]


def random_layer(case: LayerCase) -> tuple[Float32, Float32]:
    """An image (size, size, channels) and ±1 weights (out, kernel, kernel, in), always the same."""
    generator = np.random.default_rng(20240229)
    image = generator.standard_normal((case.size, case.size, case.channels), dtype=np.float32)
    shape = (case.channels, case.kernel, case.kernel, case.channels)
    weights = generator.choice(np.array([-1, 1], np.float32), shape)
    return image, weights


def binconv_layer(case: LayerCase, weights: Float32) -> bc.BinaryConvolution:
    descriptor = bc.ConvolutionDescriptor(
        kernel_width=case.kernel,
        kernel_height=case.kernel,
        input_feature_channels=case.channels,
        output_feature_channels=case.channels,
    )
    source = bc.ArrayDataSource(descriptor, weights)
    return bc.BinaryConvolution(source, type=bc.BinaryConvolutionType.XNOR)


def binconv(case: LayerCase) -> Run:
    image, weights = random_layer(case)
    layer = binconv_layer(case, weights)
    bc.set_num_threads(1)
    result = layer(image)
    return lambda: layer(image, out=result)


def torch_float32(case: LayerCase, channels_last: bool) -> Run:
    import torch

    torch.set_num_threads(1)
    image, weights = random_layer(case)
    x = torch.from_numpy(image).permute(2, 0, 1).unsqueeze(0)
    w = torch.from_numpy(weights).permute(0, 3, 1, 2)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    x, w = x.contiguous(memory_format=layout), w.contiguous(memory_format=layout)

    def run() -> object:
        with torch.inference_mode():
            return torch.nn.functional.conv2d(x, w, padding=case.kernel // 2)

    return run


CONTENDERS: dict[str, tuple[str, Callable[[LayerCase], Run]]] = {
    "binconv": ("binconv", binconv),
    "torch": ("torch", lambda case: torch_float32(case, channels_last=False)),
    "torch-channels-last": ("torch", lambda case: torch_float32(case, channels_last=True)),
}
"""Name to the distribution it needs and the function that prepares a case."""


def installed(package: str) -> str | None:
    """The version of a distribution, or None."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None
