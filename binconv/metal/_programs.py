"""Programs: what a layer runs on a device for one form of a call."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from .._parameters import LayerParameters
from .._plan import Plan
from ..enums import BinaryConvolutionType, EdgeMode, NeuronType
from ..images import word_count
from . import _prepare, _sums
from ._positions import source_positions
from ._variant import Variant
from .commands import Dispatch
from .device import Device
from .image import Form, Image

if TYPE_CHECKING:
    from ._device_layer import DeviceLayer

# Programs kept for a layer; a network sees few source sizes, or too many to keep.
MAX_PROGRAMS = 32
_MAX_WORKGROUPS = 65535

PackTerms = Mapping[str, NDArray[np.float32]]


class Call(NamedTuple):
    """The form of a call: all but the images' buffers."""

    layer: DeviceLayer
    arguments: dict[str, Any]
    source_shape: tuple[int, int, int, int]
    source_form: Form
    destination_shape: tuple[int, int, int, int]
    destination_form: Form
    pack_terms: PackTerms

    @classmethod
    def of(
        cls,
        layer: DeviceLayer,
        plan: Plan,
        source: Image,
        destination: Image,
        pack_terms: PackTerms,
    ) -> Call:
        """The form of a call on these images."""
        return cls(
            layer,
            plan.arguments,
            source.shape,
            source.form,
            destination.shape,
            destination.form,
            pack_terms,
        )

    @property
    def output_size(self) -> tuple[int, int]:
        """(height, width) before the pixels of a sub-pixel layer are spread."""
        scale = self.layer.parameters.descriptor.destination_scale
        _, _, height, width = self.arguments["clip"]
        return -(-height // scale), -(-width // scale)

    @property
    def source_pixels(self) -> int:
        """Pixels of the images that are read."""
        return int(self.arguments["images"]) * self.source_shape[1] * self.source_shape[2]

    @property
    def reads_directly(self) -> bool:
        """Whether the sums can read the source as it is."""
        parameters = self.layer.parameters
        if self.layer.is_binary:
            if self.source_form != "bits" or parameters.descriptor.groups != 1:
                return False
            # Whole words, and no foreign bits behind the last channel.
            first, wanted = self.arguments["source_channel_offset"], self.layer.group_channels
            return first % 32 == 0 and (wanted % 32 == 0 or first + wanted == self.source_shape[3])
        has_terms = (
            parameters.input_bias_terms is not None or parameters.input_scale_terms is not None
        )
        return self.source_form == "float32" and not has_terms

    def edge_values(self) -> NDArray[np.float32]:
        """v of each input channel off the source."""
        parameters = self.layer.parameters
        mode = self.arguments["edge_mode"]
        edge = self.arguments["edge_constant"] if mode == EdgeMode.CONSTANT else 0.0
        values = np.full(parameters.descriptor.input_feature_channels, edge, np.float32)
        with np.errstate(all="ignore"):
            if parameters.input_bias_terms is not None:
                values += parameters.input_bias_terms
            if parameters.input_scale_terms is not None:
                values *= parameters.input_scale_terms
        return values

    def edges(self) -> NDArray[np.uint32]:
        """What a tap off the source reads, and the set bits of each filter's taps."""
        layer = self.layer
        values = self.edge_values()
        excludes = self.arguments["edge_mode"] == EdgeMode.EXCLUDE
        if not layer.is_binary:
            return (values * 0 if excludes else values).view(np.uint32)
        groups = layer.parameters.descriptor.groups
        bits = np.zeros((groups, 32 * layer.group_words), np.uint8)
        if not excludes:
            bits[:, : layer.group_channels] = ~(values < 0).reshape(groups, -1)
        words = np.packbits(bits, axis=1, bitorder="little").view("<u4").astype(np.uint32).ravel()
        if not self.counts_taps:
            return words
        return np.concatenate([words, layer.tap_counts.ravel()])

    @property
    def counts_taps(self) -> bool:
        """Whether taps may be left out of sums of XNOR, to which a 0 bit is not nothing."""
        return (
            self.layer.parameters.type == BinaryConvolutionType.XNOR
            and self.arguments["edge_mode"] == EdgeMode.EXCLUDE
        )

    def variant(self) -> Variant:
        """The shader that this call needs."""
        layer, descriptor = self.layer, self.layer.parameters.descriptor
        # A kernel of many words is worth a shader of its own.
        fixed = None
        if layer.is_binary and layer.group_words % 4 == 0:
            fixed = (layer.group_words, descriptor.kernel_width)
        return Variant(
            type=layer.parameters.type,
            tile=layer.tile,
            quads=layer.quads,
            neuron=descriptor.neuron.type,
            destination=self.destination_form,
            beta=layer.has_beta,
            excludes=self.counts_taps,
            careful=layer.is_careful,
            pack_terms=bool(self.pack_terms),
            shuffled=descriptor.destination_scale > 1,
            fixed=fixed,
        )


@dataclass(frozen=True, eq=False)
class _Part:
    """A dispatch but for the images' buffers: "source" and "destination" stand for them."""

    pipeline: Any
    buffers: dict[int, Any]
    workgroups: tuple[int, int]

    def dispatch(self, device: Device, source: Image, destination: Image) -> Dispatch:
        named = {"source": source._buffer, "destination": destination._buffer}
        buffers = {
            binding: named[buffer] if isinstance(buffer, str) else buffer
            for binding, buffer in self.buffers.items()
        }
        return Dispatch(self.pipeline, device._bind(self.pipeline, buffers), self.workgroups)


class Program:
    """The dispatches of one form of a call, bound to images as they come."""

    def __init__(self, device: Device, parts: list[_Part]) -> None:
        self._device = device
        self._parts = parts
        # Bind groups of the images seen, for as long as the destination lives.
        self._bound: WeakKeyDictionary[Image, tuple[Any, list[Dispatch]]] = WeakKeyDictionary()

    def dispatches(self, source: Image, destination: Image) -> list[Dispatch]:
        """The dispatches for these images."""
        bound = self._bound.get(destination)
        if bound is None or bound[0] is not source._buffer:
            made = [part.dispatch(self._device, source, destination) for part in self._parts]
            bound = (source._buffer, made)
            self._bound[destination] = bound
        return bound[1]

    @classmethod
    def of(cls, layer: DeviceLayer, call: Call) -> Program:
        """The program for one form of a call."""
        device = layer.device
        height, width = call.output_size
        if not (call.arguments["images"] and height and width):
            return cls(device, [])
        parts: list[_Part] = []
        source: Any = "source"
        if not call.reads_directly:
            source = _prepare_part(parts, call, "words" if layer.is_binary else "values")
        buffers = {1: source}
        if layer.has_beta:
            buffers[7] = _prepare_part(parts, call, "magnitudes")
        parts.append(_sums_part(call, buffers))
        return cls(device, parts)


def _prepare_part(parts: list[_Part], call: Call, output: _prepare.Output) -> Any:
    """Adds the dispatch that prepares a source, and returns the buffer with the result."""
    layer, device = call.layer, call.layer.device
    descriptor = layer.parameters.descriptor
    pixels = call.source_pixels
    elements = {
        "words": descriptor.groups * layer.group_words,
        "values": descriptor.input_feature_channels,
        "magnitudes": 1,
    }[output]
    made = device._scratch_buffer(output, 4 * pixels * elements)
    work = _prepare.Work(
        output=output,
        source_form=call.source_form,
        input_bias=layer.parameters.input_bias_terms,
        input_scale=layer.parameters.input_scale_terms,
        first_pixel=call.arguments["source_first_image"]
        * call.source_shape[1]
        * call.source_shape[2],
        pixels=pixels,
        source_channels=call.source_shape[3],
        channel_offset=call.arguments["source_channel_offset"],
        channels=descriptor.input_feature_channels,
        groups=descriptor.groups,
        pixel_words=descriptor.groups * layer.group_words,
    )
    if not pixels:  # nothing but edges to read
        return made
    pipeline, buffers, workgroups = work.build(device)
    parts.append(_Part(pipeline, {**buffers, 1: "source", 3: made}, workgroups))
    return made


def _sums_part(call: Call, buffers: dict[int, Any]) -> _Part:
    layer, device = call.layer, call.layer.device
    variant = call.variant()
    edges = call.edges()
    pixels = call.arguments["images"] * math.prod(call.output_size)
    blocks = (
        -(-pixels // layer.tile.pixels) * layer.filter_tiles * layer.parameters.descriptor.groups
    )
    workgroups = rows_of(blocks)
    pipeline = device._pipeline(variant, lambda: _sums.source_text(variant))
    uniform = device._uniform(_sums_parameters(call, pixels, blocks, workgroups[0]))
    return _Part(
        pipeline,
        {
            **buffers,
            0: uniform,
            2: layer.weights,
            3: layer.terms(call.pack_terms),
            4: device._new_buffer(_positions(call), "positions"),
            5: device._new_buffer(edges, "edges"),
            6: "destination",
        },
        workgroups,
    )


def rows_of(workgroups: int) -> tuple[int, int]:
    """A dispatch of at least so many workgroups, which may be more than one row can have."""
    rows = -(-workgroups // _MAX_WORKGROUPS)
    return -(-workgroups // rows), rows


def _positions(call: Call) -> NDArray[np.int32]:
    d = call.layer.parameters.descriptor
    height, width = call.output_size
    y, x = call.arguments["offset"]
    mode = EdgeMode(call.arguments["edge_mode"])
    rows = source_positions(
        height,
        d.kernel_height,
        first=y - (((d.kernel_height - 1) * d.dilation_rate_y + 1) >> 1),
        stride=d.stride_in_pixels_y,
        dilation=d.dilation_rate_y,
        size=call.source_shape[1],
        mode=mode,
    )
    columns = source_positions(
        width,
        d.kernel_width,
        first=x - (((d.kernel_width - 1) * d.dilation_rate_x + 1) >> 1),
        stride=d.stride_in_pixels_x,
        dilation=d.dilation_rate_x,
        size=call.source_shape[2],
        mode=mode,
    )
    return np.concatenate([rows.ravel(), columns.ravel()])


def _sums_parameters(call: Call, pixels: int, blocks: int, row: int) -> NDArray[np.uint32]:
    """struct Params of shaders/sums.wgsl."""
    layer, arguments = call.layer, call.arguments
    d = layer.parameters.descriptor
    height, width = call.output_size
    direct = call.reads_directly
    elements = layer.group_words if layer.is_binary else layer.group_channels
    if not direct:
        stride, first_element, first_image = d.groups * elements, 0, 0
    else:
        first_image = arguments["source_first_image"]
        if layer.is_binary:
            stride = 2 * word_count(call.source_shape[3])
            first_element = arguments["source_channel_offset"] // 32
        else:
            stride, first_element = call.source_shape[3], arguments["source_channel_offset"]
    _, to_height, to_width, to_channels = call.destination_shape
    clip_y, clip_x, clip_height, clip_width = arguments["clip"]
    offset = arguments["destination_channel_offset"]
    in_pairs = not (to_channels % 2 or offset % 2 or layer.group_filters % 2)
    whole = (
        0,
        blocks,
        row,
        layer.filter_tiles,
        d.groups,
        pixels,
        height,
        width,
        d.kernel_height,
        d.kernel_width,
        first_image,
        call.source_shape[1],
        call.source_shape[2],
        stride,
        first_element,
        layer.group_filters,
        elements,
        layer.group_words,
        layer.steps,
        layer.group_channels,
        d.groups * layer.group_words,
        arguments["destination_first_image"],
        to_height,
        to_width,
        to_channels,
        2 * word_count(to_channels),
        offset,
        clip_y,
        clip_x,
        clip_height,
        clip_width,
        d.destination_scale,
        d.destination_channels,
        in_pairs,
    )
    a, b, c, is_whole, log_hi, log_lo = _neuron_parameters(layer.parameters)
    beta_factor = 1.0 / (d.input_feature_channels * layer.taps)
    return np.concatenate(
        [
            np.array(whole, np.uint32),
            np.array([beta_factor, a, b, c], np.float32).view(np.uint32),
            np.array([is_whole], np.uint32),
            np.array([log_hi, log_lo], np.float32).view(np.uint32),
        ]
    )


def _neuron_parameters(
    parameters: LayerParameters,
) -> tuple[float, float, float, int, float, float]:
    """a, b, c, what is known of c as an exponent, and a function of its logarithm as a pair."""
    neuron = parameters.descriptor.neuron
    a = neuron.a if isinstance(neuron.a, float) else 0.0
    c = float(np.float32(neuron.c))
    is_whole = int(c.is_integer())
    if is_whole and abs(c) < 2**53 and int(c) % 2:
        is_whole |= 2
    value = 0.0
    with np.errstate(all="ignore"):
        if neuron.type == NeuronType.EXPONENTIAL:
            value = 1.0 if c == -1 else float(np.log(np.float64(abs(c))))
            c = math.e if c == -1 else c
        elif neuron.type == NeuronType.LOGARITHM:
            value = 1.0 if c == -1 else float(np.float64(1.0) / np.log(np.float64(c)))
        high = float(np.float32(value))
    low = value - high if math.isfinite(high) else 0.0
    return a, neuron.b, c, is_whole, high, low
