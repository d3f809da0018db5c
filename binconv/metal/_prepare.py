"""The dispatch that prepares a source: bits, values or magnitudes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..images import word_count
from ._variant import shader
from .device import Device
from .image import Form

Output = Literal["words", "values", "magnitudes"]

# How the number `at` of a source is read, whose elements are counted in channels.
_LOADS = {
    "float32": "var v = make(source[at]);",
    "float16": "var v = from_float16((source[at >> 1u] >> ((at & 1u) * 16u)) & 0xffffu);",
    "uint8": "var v = from_unorm8((source[at >> 2u] >> ((at & 3u) * 8u)) & 0xffu);",
    "bits": "var v = 0.0;",
}
_TERMS = "v = careful_product(careful_sum(v, terms[2u * c]), terms[2u * c + 1u]);"
_BIT_OF_VALUE = "return bit_of(value_at(pixel, c));"
_BIT_OF_BITS = """let from_channel = params.channel_offset + c;
    let at = (params.source_first + pixel) * params.source_stride + (from_channel >> 5u);
    return (source[at] >> (from_channel & 31u)) & 1u;"""


@dataclass(frozen=True)
class Work:
    """What to prepare of which source."""

    output: Output
    source_form: Form
    input_bias: NDArray[np.float32] | None
    input_scale: NDArray[np.float32] | None
    first_pixel: int
    pixels: int
    source_channels: int
    channel_offset: int
    channels: int
    groups: int
    # Words that are made of a pixel, a multiple of groups.
    pixel_words: int

    @property
    def has_terms(self) -> bool:
        """Whether values change before they are binarised; bits are binarised already."""
        given = self.input_bias is not None or self.input_scale is not None
        return given and self.source_form != "bits"

    def source_text(self) -> str:
        """WGSL, with the entry point main."""
        bit = _BIT_OF_BITS if self.source_form == "bits" else _BIT_OF_VALUE
        text = "\n".join(shader(name) for name in ("prepare", "numbers", f"prepare_{self.output}"))
        for name, value in (
            ("$OUTPUT", f'"{self.output}"'),
            ("$LOAD", _LOADS[self.source_form]),
            ("$TERMS", _TERMS if self.has_terms else ""),
            ("$BIT", bit),
        ):
            text = text.replace(name, value)
        return text

    def build(self, device: Device) -> tuple[Any, dict[int, Any], tuple[int, int]]:
        """The pipeline, its buffers but for source and destination, and the workgroups."""
        key = ("prepare", self.output, self.source_form, self.has_terms)
        pipeline = device._pipeline(key, self.source_text)
        units, lanes = {
            "words": (self.pixels * self.pixel_words, 8),
            "values": (self.pixels * self.channels, 1),
            "magnitudes": (self.pixels, 8),
        }[self.output]
        workgroups = -(-units * lanes // 256)
        rows = -(-workgroups // 65535)
        row = -(-workgroups // rows)
        stride = self.source_channels
        if self.source_form == "bits":
            stride = 2 * word_count(self.source_channels)
        uniform = device._uniform(
            np.array(
                [
                    0,
                    units,
                    row * 256,
                    self.first_pixel,
                    stride,
                    self.channel_offset,
                    self.groups,
                    self.channels // self.groups,
                    self.pixel_words // self.groups,
                    self.channels,
                ],
                np.uint32,
            )
        )
        buffers = {0: uniform}
        if self.has_terms:
            buffers[2] = device._new_buffer(self._terms(), "input terms")
        return pipeline, buffers, (row, rows)

    def _terms(self) -> NDArray[np.float32]:
        """bias and scale of each channel, side by side."""
        terms = np.empty((self.channels, 2), np.float32)
        terms[:, 0] = 0.0 if self.input_bias is None else self.input_bias
        terms[:, 1] = 1.0 if self.input_scale is None else self.input_scale
        return terms
