"""A TensorFlow Lite model of one int8 convolution, written without TensorFlow."""

from __future__ import annotations

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray


def _tensor(
    name: str, shape: tuple[int, ...], kind: int, buffer: int, scales: list[float]
) -> schema.TensorT:
    tensor = schema.TensorT()
    tensor.name = name
    tensor.shape = list(shape)
    tensor.type = kind
    tensor.buffer = buffer
    tensor.quantization = schema.QuantizationParametersT()
    tensor.quantization.scale = scales
    tensor.quantization.zeroPoint = [0] * len(scales)
    return tensor


def _buffer(data: NDArray[np.uint8] | None) -> schema.BufferT:
    buffer = schema.BufferT()
    buffer.data = data
    return buffer


def int8_convolution(
    source_shape: tuple[int, ...], weights: NDArray[np.int8], stride: int, step: float
) -> bytes:
    """SAME padding; weights (O, kh, kw, C) of scale 1, results in multiples of `step`."""
    outputs = weights.shape[0]
    images, height, width, _ = source_shape
    out_shape = (images, -(-height // stride), -(-width // stride), outputs)
    int8, int32 = schema.TensorType.INT8, schema.TensorType.INT32

    options = schema.Conv2DOptionsT()
    options.padding = schema.Padding.SAME
    options.strideW = options.strideH = stride
    options.dilationWFactor = options.dilationHFactor = 1
    options.fusedActivationFunction = schema.ActivationFunctionType.NONE

    convolution = schema.OperatorT()
    convolution.opcodeIndex = 0
    convolution.inputs, convolution.outputs = [0, 1, 2], [3]
    convolution.builtinOptionsType = schema.BuiltinOptions.Conv2DOptions
    convolution.builtinOptions = options

    graph = schema.SubGraphT()
    graph.tensors = [
        _tensor("source", source_shape, int8, 0, [1.0]),
        _tensor("weights", weights.shape, int8, 1, [1.0] * outputs),
        _tensor("bias", (outputs,), int32, 2, [1.0] * outputs),
        _tensor("result", out_shape, int8, 0, [step]),
    ]
    graph.inputs, graph.outputs = [0], [3]
    graph.operators = [convolution]

    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CONV_2D
    code.version = 3

    model = schema.ModelT()
    model.version = 3
    model.operatorCodes = [code]
    model.subgraphs = [graph]
    model.buffers = [
        _buffer(None),
        _buffer(np.ascontiguousarray(weights).view(np.uint8).ravel()),
        _buffer(np.zeros(4 * outputs, np.uint8)),
    ]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())
