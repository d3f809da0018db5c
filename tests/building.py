"""From the oracle's description of a layer to the package's objects, and back to arrays."""

from __future__ import annotations

import numpy as np
import reference as ref

import binconv as bc

EDGE_MODES = ("ZERO", "CLAMP", "MIRROR", "MIRROR_WITH_EDGE", "CONSTANT", "EXCLUDE")
TYPES = ("XNOR", "AND", "BINARY_WEIGHTS")

# Whose layers are built: binconv's, or in test_metal_layers.py their twins of binconv.metal.
package = bc


def make(seed: int, o: int, kernel: tuple[int, int], cg: int, **fields) -> ref.Layer:
    """A layer of random weights; the rest is fields of reference.Layer."""
    rng = np.random.default_rng(seed)
    return ref.Layer(rng.integers(0, 2, (o, *kernel, cg)), **fields)


def descriptor(layer: ref.Layer) -> bc.ConvolutionDescriptor:
    norm = layer.batch_norm
    fields = {
        "kernel_height": layer.kernel[0],
        "kernel_width": layer.kernel[1],
        "input_feature_channels": layer.input_channels,
        "output_feature_channels": layer.output_channels,
        "stride_in_pixels_y": layer.strides[0],
        "stride_in_pixels_x": layer.strides[1],
        "dilation_rate_y": layer.dilations[0],
        "dilation_rate_x": layer.dilations[1],
        "groups": layer.groups,
        "neuron": bc.NeuronDescriptor(
            bc.NeuronType[layer.neuron.type],
            a=layer.neuron.a,
            b=layer.neuron.b,
            c=layer.neuron.c,
        ),
        "batch_normalization": None
        if norm is None
        else bc.BatchNormalization(norm.mean, norm.variance, norm.gamma, norm.beta, norm.epsilon),
    }
    if layer.subpixel > 1:
        return bc.SubPixelConvolutionDescriptor(**fields, subpixel_scale_factor=layer.subpixel)
    return bc.ConvolutionDescriptor(**fields)


def words_with_dirty_padding(weights: np.ndarray) -> np.ndarray:
    """MPS's words, with every bit past the last channel set: they must be ignored."""
    words = ref.pack_weights(weights)
    tail = weights.shape[3] % 32
    if tail:
        words[..., -1] |= np.uint32((0xFFFFFFFF << tail) & 0xFFFFFFFF)
    return words


def convolution(layer: ref.Layer, kind: type = bc.BinaryConvolution) -> bc.BinaryConvolution:
    """The layer as the package's object; scale and bias go in as terms only where they matter."""
    source = bc.ArrayDataSource(descriptor(layer), words_with_dirty_padding(layer.weights))
    o = layer.output_channels

    def terms(value: np.ndarray | float, neutral: float) -> np.ndarray | None:
        if np.isscalar(value) and value == neutral:
            return None
        return np.broadcast_to(np.asarray(value, np.float32), o)

    conv = getattr(package, kind.__name__)(
        source,
        output_scale_terms=terms(layer.scale, 1.0),
        output_bias_terms=terms(layer.bias, 0.0),
        input_bias_terms=layer.input_bias,
        input_scale_terms=layer.input_scale,
        type=bc.BinaryConvolutionType[layer.type],
        flags=bc.BinaryConvolutionFlags.USE_BETA_SCALING
        if layer.beta_scaling
        else bc.BinaryConvolutionFlags.NONE,
    )
    conv.edge_mode = bc.EdgeMode[layer.edge_mode]
    conv.edge_constant = layer.edge_constant
    return conv


def takes_bits(layer: ref.Layer) -> bool:
    return layer.type != "BINARY_WEIGHTS" and not layer.beta_scaling


def package_source(source: np.ndarray | ref.Bits) -> np.ndarray | bc.PackedImage:
    """Bits become a PackedImage, made by the package from +-1."""
    if isinstance(source, ref.Bits):
        return bc.pack(np.where(source.bits == 1, 1, -1).astype(np.float32))
    return source


def result_array(result: np.ndarray | bc.PackedImage) -> np.ndarray:
    """A result that reference.check() takes; bits past the last channel must be 0."""
    if isinstance(result, bc.PackedImage):
        words = np.asarray(result.words)
        assert words.dtype == np.uint64
        bits = ref.unpack(words, result.channels)
        assert np.array_equal(ref.pack(bits), words), "bits past the last channel are not 0"
        return bits
    return result


def run_form(conv: bc.BinaryConvolution, source, form: str) -> np.ndarray | bc.PackedImage:
    """conv(source) in one of the three forms of output."""
    if form == "packed":
        return conv(source, packed=True)
    return conv(source, dtype=np.dtype(form).type)


def pixels(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """Random pixels with zeros of both signs among them."""
    if dtype == "uint8":
        return rng.integers(0, 256, shape, dtype=np.uint8)
    values = rng.normal(size=shape).astype(dtype)
    values[rng.random(shape) < 0.1] = 0.0
    values[rng.random(shape) < 0.1] = -0.0
    return values


def source_of(rng: np.random.Generator, shape: tuple[int, ...], form: str) -> np.ndarray | ref.Bits:
    """Random pixels of a dtype, or bits for "packed"."""
    if form == "packed":
        return ref.Bits(rng.integers(0, 2, shape))
    return pixels(rng, shape, form)
