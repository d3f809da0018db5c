"""The same layers in other libraries, on one thread, one layer a call.

A peer turns a case into a function of no arguments. Libraries for floats get the same images and
the weights as -1 and +1; that their results agree with ours is checked before anything is timed. A
peer that is not installed is left out by name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import binconv as bc
from binconv.bench.cases import BINARY_WEIGHTS, XNOR, LayerCase, Run, make_layer, random_layer


class Prepared(NamedTuple):
    """A peer's layer, ready to run."""

    run: Run
    result: Callable[[], NDArray[Any]]
    """(N, H, W, O) of the last run."""
    node_seconds: Callable[[], float] | None = None
    """What the library's own counters say the convolution alone takes."""


@dataclass(frozen=True)
class Peer:
    """A library that computes the layer."""

    name: str
    package: str
    prepare: Callable[[LayerCase, bc.BinaryConvolution], Prepared]
    tolerance: float
    """How far a result may be from ours, in parts of the largest."""
    binarises: bool = False


def signs(case: LayerCase) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Images and weights as (N, C, H, W) and (O, C, kh, kw), weights -1 and +1."""
    images, weights = random_layer(case)
    values = np.where(weights, np.float32(1), np.float32(-1)).transpose(0, 3, 1, 2)
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2)), np.ascontiguousarray(values)


def is_dense(case: LayerCase) -> bool:
    return case.size == case.kernel == 1


# ---- OpenVINO ----------------------------------------------------------------------------------


def openvino(case: LayerCase, layer: bc.BinaryConvolution) -> Prepared:
    """BinaryConvolution behind the FakeQuantize that it asks for; float32 in and out.

    A batch of dense layers is given as one wide image, which it computes three times as fast.
    """
    import openvino as ov
    from openvino import opset8 as op

    images, weights = random_layer(case)
    source = images.transpose(0, 3, 1, 2)
    if is_dense(case):
        source = source.transpose(2, 1, 3, 0)
    source = np.ascontiguousarray(source)
    bits = np.packbits(weights.transpose(0, 3, 1, 2).ravel(), bitorder="little")
    shape = ov.Shape([case.outputs, case.channels, case.kernel, case.kernel])
    parameter = op.parameter(source.shape, np.float32)
    zero, one = (op.constant(np.full((1, 1, 1, 1), value, np.float32)) for value in (0, 1))
    binary = op.fake_quantize(parameter, zero, zero, zero, one, 2)
    convolution = op.binary_convolution(
        binary,
        ov.op.Constant(ov.Tensor(bits, shape, ov.Type.u1)),
        [case.stride, case.stride],
        [case.kernel // 2, case.kernel // 2],
        [case.kernel // 2, case.kernel // 2],
        [1, 1],
        "xnor-popcount",
        1.0,  # off the image: bit 1, as in EdgeMode.ZERO
    )
    model = ov.Model([convolution], [parameter], "layer")

    def request(counting: bool) -> Any:
        settings = {"INFERENCE_NUM_THREADS": 1, "PERFORMANCE_HINT": "LATENCY"}
        compiled = ov.Core().compile_model(model, "CPU", {**settings, "PERF_COUNT": counting})
        made: Any = compiled.create_infer_request()
        made.get_input_tensor().data[:] = source
        return made

    plain, counting = request(False), request(True)

    def result() -> NDArray[Any]:
        axes = (3, 2, 0, 1) if is_dense(case) else (0, 2, 3, 1)
        return np.transpose(np.asarray(plain.get_output_tensor().data), axes)

    def node_seconds() -> float:
        counting.infer()
        nodes = counting.get_profiling_info()
        times = [node.real_time for node in nodes if node.node_type == "BinaryConvolution"]
        return float(sum(taken.total_seconds() for taken in times))

    def run(_alive: object = (bits, model)) -> None:
        plain.infer()

    return Prepared(run, result, node_seconds)


# ---- Floats ------------------------------------------------------------------------------------


def onnxruntime(case: LayerCase, layer: bc.BinaryConvolution) -> Prepared:
    import onnxruntime as ort
    from onnx import TensorProto, helper, numpy_helper

    source, weights = signs(case)
    size = case.destination_size
    out_shape = [case.images, case.outputs, size, size]
    if is_dense(case):
        source, weights = source.reshape(case.images, -1), weights.reshape(case.outputs, -1).T
        out_shape = [case.images, case.outputs]
        node = helper.make_node("MatMul", ["x", "w"], ["y"])
    else:
        padding, strides = [case.kernel // 2] * 4, [case.stride] * 2
        node = helper.make_node("Conv", ["x", "w"], ["y"], pads=padding, strides=strides)
    graph = helper.make_graph(
        [node],
        "layer",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, source.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, out_shape)],
        [numpy_helper.from_array(np.ascontiguousarray(weights), "w")],
    )
    opset = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=9)
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    result = np.empty(out_shape, np.float32)
    binding = session.io_binding()
    binding.bind_cpu_input("x", source)
    binding.bind_output("y", "cpu", 0, np.float32, out_shape, result.ctypes.data)
    pixels = result.reshape(case.images, case.outputs, size, size).transpose(0, 2, 3, 1)
    return Prepared(lambda: session.run_with_iobinding(binding), lambda: pixels)


def torch_float32(case: LayerCase, channels_last: bool) -> Prepared:
    import torch
    from torch.nn import functional

    torch.set_num_threads(1)
    source, weights = signs(case)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    x = torch.from_numpy(source).contiguous(memory_format=layout)
    w = torch.from_numpy(weights).contiguous(memory_format=layout)

    def convolve() -> Any:
        with torch.inference_mode():
            return functional.conv2d(x, w, padding=case.kernel // 2, stride=case.stride)

    rows, matrix = x.reshape(case.images, -1), w.reshape(case.outputs, -1)

    def multiply() -> Any:
        with torch.inference_mode():
            return functional.linear(rows, matrix)

    if is_dense(case):
        return Prepared(multiply, lambda: np.asarray(multiply())[:, None, None])
    return Prepared(convolve, lambda: np.asarray(convolve().permute(0, 2, 3, 1)))


def torch_default(case: LayerCase, layer: bc.BinaryConvolution) -> Prepared:
    return torch_float32(case, channels_last=False)


def torch_channels_last(case: LayerCase, layer: bc.BinaryConvolution) -> Prepared:
    return torch_float32(case, channels_last=True)


# ---- int8 --------------------------------------------------------------------------------------


def litert(case: LayerCase, layer: bc.BinaryConvolution) -> Prepared:
    """A convolution of int8 by int8 with XNNPACK; its images are -1 and +1."""
    from ai_edge_litert.interpreter import Interpreter
    from litert_model import int8_convolution

    images, weights = random_layer(case)
    source = np.where(images < 0, np.int8(-1), np.int8(1))
    if is_dense(case):
        source = np.ascontiguousarray(source.transpose(1, 2, 0, 3))
    # Sums are rounded to multiples of this; few are as large as a quarter of what is possible.
    step = case.kernel**2 * case.channels / 127 / 4
    signed = np.where(weights, np.int8(1), np.int8(-1))
    model = int8_convolution(source.shape, signed, case.stride, step)
    interpreter = Interpreter(model_content=model, num_threads=1)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], source)
    output = interpreter.get_output_details()[0]["index"]

    def result() -> NDArray[Any]:
        values: NDArray[Any] = np.asarray(interpreter.get_tensor(output), np.float32)
        values = values * np.float32(step)
        return values.transpose(2, 0, 1, 3) if is_dense(case) else values

    return Prepared(interpreter.invoke, result)


PEERS = (
    Peer("OpenVINO", "openvino", openvino, tolerance=0, binarises=True),
    Peer("LiteRT int8", "ai-edge-litert", litert, tolerance=0.1, binarises=True),
    Peer("ONNX Runtime", "onnxruntime", onnxruntime, tolerance=1e-4),
    Peer("PyTorch", "torch", torch_default, tolerance=1e-4),
    Peer("PyTorch, channels last", "torch", torch_channels_last, tolerance=1e-4),
)


def checked(peer: Peer, case: LayerCase) -> Prepared:
    """The peer's layer, after its result was compared with ours."""
    images, weights = random_layer(case)
    layer = make_layer(case, XNOR if peer.binarises else BINARY_WEIGHTS, weights)
    prepared = peer.prepare(case, layer)
    prepared.run()
    if peer.name == "LiteRT int8":
        layer.edge_mode = bc.EdgeMode.EXCLUDE
    expected = layer(images)
    result = prepared.result()
    error = float(np.abs(result - expected).max())
    if result.shape != expected.shape or error > peer.tolerance * float(np.abs(expected).max()):
        raise AssertionError(f"{peer.name}, {case.name}: wrong by {error}")
    return prepared
