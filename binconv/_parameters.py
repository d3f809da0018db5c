"""What a layer holds: parameters fixed with its weights, and the state that its properties set."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from . import _arrays, _checks, _core
from .descriptors import ConvolutionDescriptor
from .enums import BinaryConvolutionFlags, BinaryConvolutionType, EdgeMode
from .geometry import Offset, Padding, PaddingPolicy, Region
from .images import both_terms

# (name, whether the array has a value for each output channel or for each input channel)
TERMS = (
    ("output_bias_terms", True),
    ("output_scale_terms", True),
    ("input_bias_terms", False),
    ("input_scale_terms", False),
)


@dataclass(frozen=True, eq=False, kw_only=True)
class LayerParameters:
    """The descriptor, weights and terms of a layer, checked, copied and read-only."""

    descriptor: ConvolutionDescriptor
    weights: NDArray[np.uint32]
    bias_terms: NDArray[np.float32] | None
    scale_value: float = 1.0
    output_bias_terms: NDArray[np.float32] | None = None
    output_scale_terms: NDArray[np.float32] | None = None
    input_bias_terms: NDArray[np.float32] | None = None
    input_scale_terms: NDArray[np.float32] | None = None
    type: BinaryConvolutionType = BinaryConvolutionType.XNOR
    flags: BinaryConvolutionFlags = BinaryConvolutionFlags.NONE
    # The kernel covers the whole source.
    is_fully_connected: bool = False
    # The input terms as arguments of Layer.run, for a layer that packs bits for this one: both or
    # neither, as a missing one becomes 0 or 1, which leaves every bit as it is.  They stay the same
    # objects, by which compiled plans know them.
    pack_terms: dict[str, NDArray[np.float32]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        for name, is_output in TERMS:
            channels = (
                self.descriptor.output_feature_channels
                if is_output
                else self.descriptor.input_feature_channels
            )
            array = _arrays.optional_terms(getattr(self, name), name, channels)
            object.__setattr__(self, name, array)
        scale = _checks.real(self.scale_value, "scale_value")
        given = [name for name, _ in TERMS if getattr(self, name) is not None]
        if scale != 1.0 and given:
            raise ValueError(
                f"scale_value: expected either it or arrays of terms, got {scale} and "
                f"{', '.join(given)}"
            )
        flags = _checks.integer(self.flags, "flags")
        if flags not in (0, 1):
            raise ValueError(f"flags: expected a BinaryConvolutionFlags, got {flags}")
        object.__setattr__(self, "scale_value", scale)
        object.__setattr__(self, "type", _checks.member(BinaryConvolutionType, self.type, "type"))
        object.__setattr__(self, "flags", BinaryConvolutionFlags(flags))
        object.__setattr__(self, "pack_terms", self._pack_terms())

    def _pack_terms(self) -> dict[str, NDArray[np.float32]]:
        bias, scale = both_terms(self.input_bias_terms, self.input_scale_terms)
        if bias is None or scale is None:
            return {}
        return {"pack_bias": bias, "pack_scale": scale}

    def with_weights(
        self,
        descriptor: ConvolutionDescriptor,
        weights: NDArray[np.uint32],
        bias_terms: NDArray[np.float32] | None,
    ) -> LayerParameters:
        """The same terms with other weights."""
        return replace(self, descriptor=descriptor, weights=weights, bias_terms=bias_terms)

    @property
    def bias(self) -> NDArray[np.float32]:
        """The bias in effect, before batch normalisation."""
        if self.output_bias_terms is not None:
            return self.output_bias_terms
        if self.bias_terms is not None:
            return self.bias_terms
        return np.zeros(self.descriptor.output_feature_channels, np.float32)

    @property
    def scale(self) -> NDArray[np.float32]:
        """The scale in effect, before batch normalisation."""
        if self.output_scale_terms is not None:
            return self.output_scale_terms
        return np.full(self.descriptor.output_feature_channels, self.scale_value, np.float32)

    @property
    def takes_bits(self) -> bool:
        """Whether a source may be a `PackedImage`: the real values are not needed."""
        return (
            self.type != BinaryConvolutionType.BINARY_WEIGHTS
            and not self.flags & BinaryConvolutionFlags.USE_BETA_SCALING
        )

    @property
    def takes_vectors(self) -> bool:
        """Whether a source may be (N, C) or (C,)."""
        d = self.descriptor
        return self.is_fully_connected and d.kernel_height == d.kernel_width == 1

    def build(self) -> _core.Layer:
        """The compiled layer."""
        d = self.descriptor
        scale, bias = self.folded()
        neuron_a = d.neuron.a
        return _core.Layer(
            type=int(self.type),
            beta_scaling=bool(self.flags & BinaryConvolutionFlags.USE_BETA_SCALING),
            input_channels=d.input_feature_channels,
            output_channels=d.output_feature_channels,
            groups=d.groups,
            kernel=(d.kernel_height, d.kernel_width),
            stride=(d.stride_in_pixels_y, d.stride_in_pixels_x),
            dilation=(d.dilation_rate_y, d.dilation_rate_x),
            subpixel_factor=d.destination_scale,
            neuron=(
                int(d.neuron.type),
                neuron_a if isinstance(neuron_a, float) else 0.0,
                d.neuron.b,
                d.neuron.c,
            ),
            neuron_a_terms=d.neuron.a_terms,
            weights=self.weights,
            scale=scale,
            bias=bias,
            input_bias=self.input_bias_terms,
            input_scale=self.input_scale_terms,
        )

    def folded(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Scale and bias with the batch normalisation folded in."""
        norm = self.descriptor.batch_normalization
        if norm is None:
            return self.scale, self.bias
        channels = self.descriptor.output_feature_channels
        gamma = np.ones(channels) if norm.gamma is None else norm.gamma
        beta = np.zeros(channels) if norm.beta is None else norm.beta
        scale, bias = _core.fold_batch_normalization(
            self.scale.astype(np.float64),
            self.bias.astype(np.float64),
            norm.mean,
            norm.variance,
            gamma,
            beta,
            norm.epsilon,
        )
        for name, array in (("scale", scale), ("bias", bias)):
            if not np.isfinite(array).all():
                raise ValueError(
                    f"batch_normalization: expected a folded {name} that is finite in float32, "
                    f"got {array[~np.isfinite(array)][0]}"
                )
        return scale, bias


@dataclass(frozen=True, eq=False, kw_only=True)
class LayerState:
    """What the properties of a layer set.  Replaced, never changed, so that a call sees one."""

    offset: Offset = field(default_factory=Offset)
    clip_rect: Region | None = None
    edge_mode: EdgeMode = EdgeMode.ZERO
    edge_constant: float = 0.0
    padding: PaddingPolicy = field(default_factory=Padding)
    destination_feature_channel_offset: int = 0
    source_feature_channel_offset: int = 0
    source_feature_channel_max_count: int | None = None

    def __post_init__(self) -> None:
        self._check_places()
        object.__setattr__(self, "edge_mode", _checks.member(EdgeMode, self.edge_mode, "edge_mode"))
        object.__setattr__(self, "edge_constant", _checks.real(self.edge_constant, "edge_constant"))
        for name, minimum in (
            ("destination_feature_channel_offset", 0),
            ("source_feature_channel_offset", 0),
            ("source_feature_channel_max_count", 1),
        ):
            value = getattr(self, name)
            if value is None and minimum == 1:
                continue
            object.__setattr__(self, name, _checks.integer(value, name, minimum))

    def _check_places(self) -> None:
        offset: object = self.offset
        clip_rect: object = self.clip_rect
        padding: object = self.padding
        if not isinstance(offset, Offset):
            raise TypeError(f"offset: expected an Offset, got {_checks.describe(offset)}")
        if offset.z < 0:
            raise ValueError(f"offset: expected z, a source image, of at least 0, got {offset.z}")
        if clip_rect is not None:
            if not isinstance(clip_rect, Region):
                raise TypeError(
                    f"clip_rect: expected a Region or None, got {_checks.describe(clip_rect)}"
                )
            if min(clip_rect.origin) < 0:
                raise ValueError(
                    f"clip_rect: expected an origin of at least 0, got {clip_rect.origin}"
                )
        if not isinstance(padding, PaddingPolicy):
            raise TypeError(
                "padding: expected a Padding or an object with a destination method, got "
                f"{_checks.describe(padding)}"
            )
