"""A layer's parameters on a device."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._parameters import LayerParameters
from .._plan import Plan
from ..enums import BinaryConvolutionFlags, BinaryConvolutionType, NeuronType
from . import _variant
from ._programs import MAX_PROGRAMS, Call, PackTerms, Program
from .commands import Dispatch
from .device import Device
from .image import Image

# Terms from here on make no products that are subnormal, which drivers may flush to 0: sums of
# XNOR and AND are 0 or at least 1.
_SMALL = 2.0**-40


class DeviceLayer:
    """A layer's parameters on a device.  Used under the device's lock."""

    def __init__(self, device: Device, parameters: LayerParameters) -> None:
        self.device = device
        self.parameters = parameters
        descriptor = parameters.descriptor
        self.is_binary = parameters.type != BinaryConvolutionType.BINARY_WEIGHTS
        self.has_beta = bool(parameters.flags & BinaryConvolutionFlags.USE_BETA_SCALING)
        self.taps = descriptor.kernel_height * descriptor.kernel_width
        self.group_channels = descriptor.input_channels_per_group
        self.group_words = -(-self.group_channels // 32)
        self.group_filters = descriptor.output_feature_channels // descriptor.groups
        self.tile = _variant.SMALL if self.group_filters <= 16 else _variant.LARGE
        self.quads = self._quads()
        self._programs: dict[Any, Program] = {}
        with device._lock:
            scale, bias = parameters.folded()
            self.scale, self.bias = scale, bias
            self.weights = device._new_buffer(self._weights(), "weights")
            self._terms: dict[Any, Any] = {}

    @property
    def filter_tiles(self) -> int:
        """Tiles that cover the filters of a group."""
        return -(-self.group_filters // self.tile.filters)

    @property
    def steps(self) -> int:
        """Turns of the loop over all taps."""
        if not self.is_binary:
            return self.taps * self.group_words
        return -(-self.taps * self.group_words // (4 * self.quads))

    @property
    def masked_weights(self) -> NDArray[np.uint32]:
        """MPS's words with the bits past the last channel clear."""
        words: NDArray[np.uint32] = self.parameters.weights.copy()
        tail = self.group_channels % 32
        if tail:
            words[..., -1] &= np.uint32((1 << tail) - 1)
        return words

    @property
    def tap_counts(self) -> NDArray[np.uint32]:
        """Set bits of the weights of each filter and tap."""
        as_bytes = self.masked_weights.view(np.uint8)
        counts = np.unpackbits(as_bytes.reshape(-1, self.taps, 4 * self.group_words), axis=2)
        sums: NDArray[np.uint32] = counts.sum(axis=2, dtype=np.uint32)
        return sums

    def _quads(self) -> int:
        """Quads of a step: those that waste least of the last one, then the most."""
        if not self.is_binary:
            return min(8, -(-self.group_channels // 4))
        total = -(-self.taps * self.group_words // 4)
        return min((4, 3, 2, 1), key=lambda quads: (-(-total // quads) * quads, -quads))

    def _weights(self) -> NDArray[np.uint32]:
        """The weights in the order in which tiles read them."""
        groups, filters = self.parameters.descriptor.groups, self.group_filters
        padded = self.filter_tiles * self.tile.filters
        words = self.masked_weights.reshape(groups, filters, -1)
        steps = self.steps
        elements = steps * (4 * self.quads if self.is_binary else 1)
        full = np.zeros((groups, padded, elements), np.uint32)
        full[:, :filters, : words.shape[2]] = words
        if not self.is_binary:
            tiled = full.reshape(groups, self.filter_tiles, self.tile.filters, steps)
            return np.ascontiguousarray(tiled.transpose(0, 1, 3, 2))
        tiled = full.reshape(groups, self.filter_tiles, self.tile.filters, steps * self.quads, 4)
        if self.parameters.type == BinaryConvolutionType.XNOR:
            # The shader wants the first word of a pair, and the difference of both.
            tiled[..., 1::2] ^= tiled[..., 0::2]
        return np.ascontiguousarray(tiled.transpose(0, 1, 3, 2, 4))

    def terms(self, pack_terms: PackTerms) -> Any:
        """scale, bias, PRELU's a, and the bias and scale of the bits that are made."""
        key = tuple(id(array) for array in pack_terms.values())
        if key not in self._terms:
            count = self.parameters.descriptor.output_feature_channels
            zeros = np.zeros(count, np.float32)
            slope = self.parameters.descriptor.neuron.a_terms
            rows = [self.scale, self.bias, zeros if slope is None else slope]
            if pack_terms:
                # They are for destination channels; filters that a sub-pixel layer spreads over a
                # block of pixels share them.
                repeats = self.parameters.descriptor.destination_scale**2
                rows += [np.tile(pack_terms[n], repeats) for n in ("pack_bias", "pack_scale")]
            if len(self._terms) >= MAX_PROGRAMS:
                self._terms.clear()
            # The arrays are kept, so that no others get their ids.
            buffer = self.device._new_buffer(np.stack(rows), "terms")
            self._terms[key] = (buffer, tuple(pack_terms.values()))
        return self._terms[key][0]

    @property
    def is_careful(self) -> bool:
        """Whether the arithmetic of the epilogue may meet subnormal numbers."""
        neuron = self.parameters.descriptor.neuron
        arrays = [self.scale, self.bias]
        if neuron.a_terms is not None:
            arrays.append(neuron.a_terms)
        elif neuron.type != NeuronType.NONE:
            arrays.append(np.array([neuron.a], np.float32))
        return any(bool(((array != 0) & (np.abs(array) < _SMALL)).any()) for array in arrays)

    def encode(
        self, plan: Plan, source: Image, destination: Image, pack_terms: PackTerms | None = None
    ) -> list[Dispatch]:
        """The commands of one run."""
        terms = pack_terms or {} if destination.form == "bits" else {}
        key = (
            source.shape,
            source.form,
            destination.shape,
            destination.form,
            tuple(plan.arguments.values()),
            tuple(id(array) for array in terms.values()),
        )
        program = self._programs.get(key)
        if program is None:
            if len(self._programs) >= MAX_PROGRAMS:
                self._programs.clear()
            program = Program.of(self, Call.of(self, plan, source, destination, terms))
            self._programs[key] = program
        return program.dispatches(source, destination)
