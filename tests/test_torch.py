"""An independent check: PyTorch's conv2d of signs, which this project did not write."""

from __future__ import annotations

import numpy as np
import pytest
import reference as ref
from building import convolution, pixels

import binconv as bc

torch = pytest.importorskip("torch")

# (o, c, kernel, size, stride, dilation, padding, groups)
SHAPES = [
    (8, 3, (3, 3), (8, 9), (1, 1), (1, 1), (1, 1), 1),
    (64, 64, (3, 3), (14, 14), (1, 1), (1, 1), (1, 1), 1),
    (17, 65, (1, 1), (5, 6), (1, 1), (1, 1), (0, 0), 1),
    (17, 65, (1, 1), (5, 6), (2, 3), (1, 1), (0, 0), 1),
    (9, 33, (5, 2), (9, 11), (2, 1), (1, 1), (2, 0), 1),
    (24, 40, (3, 3), (12, 13), (2, 2), (2, 3), (4, 5), 1),
    (12, 36, (3, 3), (7, 8), (1, 1), (1, 1), (1, 1), 4),
    (30, 30, (3, 3), (7, 8), (1, 2), (2, 1), (2, 2), 30),
    (60, 30, (3, 3), (7, 8), (1, 1), (1, 1), (0, 0), 30),
    (16, 512, (3, 3), (4, 4), (1, 1), (1, 1), (1, 1), 1),
    (11, 20, (7, 7), (3, 4), (1, 1), (1, 1), (3, 3), 1),
]


@pytest.fixture(autouse=True, scope="module")
def one_torch_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def both(shape, type_, seed):
    """What binconv returns, and conv2d in float64 over the operand that `type_` convolves."""
    o, c, kernel, size, stride, dilation, padding, groups = shape
    rng = np.random.default_rng(seed)
    layer = ref.Layer(
        rng.integers(0, 2, (o, *kernel, c // groups)),
        type=type_,
        groups=groups,
        strides=stride,
        dilations=dilation,
        edge_mode="EXCLUDE",
    )
    source = pixels(rng, (2, *size, c), "float32")
    conv = convolution(layer)
    conv.padding = bc.Padding.explicit(padding[0], padding[0], padding[1], padding[1])
    if type_ == "XNOR":
        operand, weights = np.where(source < 0, -1.0, 1.0), 2.0 * layer.weights - 1
    elif type_ == "AND":
        operand, weights = np.where(source < 0, 0.0, 1.0), 1.0 * layer.weights
    else:
        operand, weights = source.astype(np.float64), 2.0 * layer.weights - 1

    def conv2d(x: np.ndarray, w: np.ndarray) -> np.ndarray:
        result = torch.nn.functional.conv2d(
            torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2))),
            torch.from_numpy(np.ascontiguousarray(w.transpose(0, 3, 1, 2))),
            stride=stride,
            dilation=dilation,
            padding=padding,
            groups=groups,
        )
        return result.numpy().transpose(0, 2, 3, 1)

    actual = conv(source)
    return layer, actual, conv2d(operand, weights), conv2d(np.abs(operand), np.abs(weights))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("type_", ["XNOR", "AND"])
def test_binary_inputs(shape, type_):
    _, actual, expected, _ = both(shape, type_, 110)
    assert actual.dtype == np.float32
    assert np.array_equal(actual, expected)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_binary_weights(shape):
    layer, actual, expected, magnitude = both(shape, "BINARY_WEIGHTS", 111)
    terms = layer.weights[0].size
    # the sum, then the product with 1 and the sum with 0, which are exact
    tolerance = (terms / 4 + 8) * 2.0**-24 * magnitude
    assert (np.abs(actual - expected) <= tolerance).all()


def test_a_residual_block_of_bits():
    """Two layers in the order of common binary networks: conv, batch norm, sign, conv."""
    rng = np.random.default_rng(112)
    norm = torch.nn.BatchNorm2d(32).double().eval()
    with torch.no_grad():
        for parameter in (norm.weight, norm.bias, norm.running_mean):
            parameter.copy_(torch.from_numpy(rng.normal(size=32).astype(np.float32)))
        norm.running_var.copy_(torch.from_numpy(rng.uniform(10, 90, 32).astype(np.float32)))
    first = ref.Layer(
        rng.integers(0, 2, (32, 3, 3, 16)),
        edge_mode="EXCLUDE",
        batch_norm=ref.BatchNorm(
            norm.running_mean.numpy(),
            norm.running_var.numpy(),
            norm.weight.detach().numpy(),
            norm.bias.detach().numpy(),
            norm.eps,
        ),
    )
    second = ref.Layer(rng.integers(0, 2, (8, 3, 3, 32)), edge_mode="EXCLUDE")
    source = pixels(rng, (1, 9, 9, 16), "float32")
    bits = convolution(first)(source, packed=True)
    actual = convolution(second)(bits)

    def conv2d(x, layer):
        weights = torch.from_numpy((2.0 * layer.weights - 1).transpose(0, 3, 1, 2).copy())
        return torch.nn.functional.conv2d(x, weights, padding=1)

    def sign(x):
        return torch.where(x < 0, -1.0, 1.0).double()

    x = torch.from_numpy(source.transpose(0, 3, 1, 2).astype(np.float64))
    normalised = norm(conv2d(sign(x), first))
    assert normalised.abs().min() > 1e-4  # else the sign would hang on a rounding
    expected = conv2d(sign(normalised), second)
    assert np.array_equal(actual, expected.detach().numpy().transpose(0, 2, 3, 1))
