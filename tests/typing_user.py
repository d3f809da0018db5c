"""A user's program, for `mypy --strict` to read: it says what type everything public has."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import binconv as bc


class OwnSource:
    """A data source that is nobody's subclass."""

    def __init__(self, descriptor: bc.ConvolutionDescriptor) -> None:
        self._descriptor = descriptor

    def load(self) -> bool:
        return True

    def purge(self) -> None:
        pass

    def data_type(self) -> bc.DataType:
        return bc.DataType.UINT32

    def descriptor(self) -> bc.ConvolutionDescriptor:
        return self._descriptor

    def weights(self) -> NDArray[np.uint32]:
        return bc.pack_weights(np.ones((8, 3, 3, 16), np.float32))

    def bias_terms(self) -> NDArray[np.float32] | None:
        return None

    def label(self) -> str | None:
        return "mine"


class OwnPadding:
    """A padding policy that is nobody's subclass."""

    def destination(
        self, source_size: tuple[int, int], kernel: bc.BinaryConvolution
    ) -> tuple[tuple[int, int], bc.Offset]:
        height, width = source_size
        return (height, width), bc.Offset(kernel.kernel_width >> 1, kernel.kernel_height >> 1)


def describe() -> bc.ConvolutionDescriptor:
    return bc.ConvolutionDescriptor(
        kernel_width=3,
        kernel_height=3,
        input_feature_channels=16,
        output_feature_channels=8,
        neuron=bc.NeuronDescriptor(bc.NeuronType.RELU, a=0.1),
        batch_normalization=bc.BatchNormalization(np.zeros(8), np.ones(8)),
    )


def make(descriptor: bc.ConvolutionDescriptor) -> bc.BinaryConvolution:
    source: bc.ConvolutionDataSource = OwnSource(descriptor)
    conv = bc.BinaryConvolution(
        source,
        output_scale_terms=np.full(8, 0.5, np.float32),
        type=bc.BinaryConvolutionType.XNOR,
        flags=bc.BinaryConvolutionFlags.NONE,
    )
    conv.edge_mode = bc.EdgeMode.EXCLUDE
    conv.offset = bc.Offset(x=1, y=1, z=0)
    conv.clip_rect = bc.Region(origin=(0, 0, 0), size=(4, 4, 1))
    conv.clip_rect = None
    conv.padding = OwnPadding()
    conv.padding = bc.Padding.explicit(1, 1, 1, 1)
    conv.padding = bc.Padding(bc.PaddingMethod.SIZE_FULL | bc.PaddingMethod.ALIGN_TOP_LEFT)
    conv.label = "first"
    return conv


def run(conv: bc.BinaryConvolution, image: NDArray[np.float32]) -> bc.PackedImage:
    result = conv(image)
    print(result.shape, conv(image, dtype=np.float16).dtype)
    conv(image, out=result)
    conv.encode(image, result)
    results = conv.encode_batch([image, image])
    print(len(results), conv.destination_size((8, 8)), conv.source_region((8, 8)))
    packed: bc.PackedImage = conv(image, packed=True)
    words: NDArray[np.uint64] = packed.words
    print(words.shape, packed.channels, packed.unpack(np.float32).dtype)
    return bc.pack(image, bias=np.zeros(16, np.float32), scale=np.ones(16, np.float32))


def store(conv: bc.BinaryConvolution, path: Path) -> bc.Sequential:
    conv.save(path)
    again: bc.BinaryConvolution = bc.BinaryConvolution.load(path)
    data: bytes = again.to_bytes()
    copied = bc.BinaryConvolution.from_bytes(data)
    source = bc.SafetensorsDataSource(path, prefix="")
    dense = bc.BinaryFullyConnected(source, scale_value=2.0)
    return bc.Sequential(copied, dense)


def settings() -> tuple[str, dict[str, bool], int]:
    bc.set_num_threads(2)
    bc.show_config()
    return bc.isa(), bc.cpu_features(), bc.get_num_threads()
