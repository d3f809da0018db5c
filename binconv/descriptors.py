"""What a layer is: descriptors of convolutions, neurons and batch normalisation, all immutable."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _arrays, _checks
from .enums import NeuronType

__all__ = [
    "BatchNormalization",
    "ConvolutionDescriptor",
    "DepthWiseConvolutionDescriptor",
    "NeuronDescriptor",
    "SubPixelConvolutionDescriptor",
]


# Integers made of counts of so many bits fit an int32; the C core has the same limit.
_MAX_WINDOW_BITS = 2**30 - 1


@dataclass(frozen=True, init=False, eq=False)
class NeuronDescriptor:
    """An activation function and its parameters.  MPS: MPSNNNeuronDescriptor.

    `NeuronType` has the formulas; parameters that a formula does not name are ignored.  For PRELU,
    `a` is an array of shape (output feature channels,), copied as float32; otherwise a, b and c are
    numbers.

    Raises TypeError or ValueError where a parameter is of the wrong kind or not finite.
    """

    type: NeuronType
    a: float | NDArray[np.float32]
    b: float
    c: float

    def __init__(
        self,
        type: NeuronType = NeuronType.NONE,
        a: float | ArrayLike = 0.0,
        b: float = 0.0,
        c: float = 0.0,
    ) -> None:
        kind = _checks.member(NeuronType, type, "type")
        if kind == NeuronType.PRELU:
            if not isinstance(a, (list, tuple)) and np.ndim(a) == 0:
                raise TypeError(
                    "a: PRELU expects an array with one value for each output feature channel, "
                    f"got {_checks.describe(a)}"
                )
            parameter: float | NDArray[np.float32] = _arrays.terms(a, "a")
        else:
            parameter = _checks.real(a, "a")
        object.__setattr__(self, "type", kind)
        object.__setattr__(self, "a", parameter)
        object.__setattr__(self, "b", _checks.real(b, "b"))
        object.__setattr__(self, "c", _checks.real(c, "c"))

    @property
    def a_terms(self) -> NDArray[np.float32] | None:
        """PRELU's array `a`, None for the other types."""
        return self.a if isinstance(self.a, np.ndarray) else None

    def _key(self) -> tuple[object, ...]:
        terms = self.a_terms
        a = self.a if terms is None else terms.tobytes()
        return self.type, a, self.b, self.c

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, NeuronDescriptor):
            return NotImplemented
        return self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())


@dataclass(frozen=True, init=False, eq=False)
class BatchNormalization:
    """Statistics of an inference-time batch normalisation between the sums and the neuron.

    With I = gamma / sqrt(variance + epsilon), a layer's scale becomes scale*I and its bias
    bias*I + beta - I*mean, computed in float64 and rounded once to float32.  MPS:
    setBatchNormalizationParametersForInferenceWithMean:variance:gamma:beta:epsilon:.

    Arrays have the shape (output feature channels,) and are copied as float64.  gamma None means 1,
    beta None means 0.  Raises TypeError or ValueError where an array is of the wrong kind, lengths
    differ, a value is not finite, or variance + epsilon is not above 0.
    """

    mean: NDArray[np.float64]
    variance: NDArray[np.float64]
    gamma: NDArray[np.float64] | None
    beta: NDArray[np.float64] | None
    epsilon: float

    def __init__(
        self,
        mean: ArrayLike,
        variance: ArrayLike,
        gamma: ArrayLike | None = None,
        beta: ArrayLike | None = None,
        epsilon: float = 1e-5,
    ) -> None:
        means = _arrays.terms(mean, "mean", dtype=np.float64)
        length = means.shape[0]
        spread = _checks.real(epsilon, "epsilon")
        arrays = {"mean": means}
        for name, value in (("variance", variance), ("gamma", gamma), ("beta", beta)):
            if value is None and name != "variance":
                continue
            arrays[name] = _arrays.terms(value, name, length, np.float64)
        lowest = arrays["variance"].min(initial=np.inf)
        if spread < 0 or lowest < 0 or lowest + spread <= 0:
            raise ValueError(
                "variance, epsilon: expected values of at least 0 with a sum above 0, "
                f"got a variance of {lowest} and an epsilon of {spread}"
            )
        for name in ("mean", "variance", "gamma", "beta"):
            object.__setattr__(self, name, arrays.get(name))
        object.__setattr__(self, "epsilon", spread)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, BatchNormalization):
            return NotImplemented
        return self.epsilon == other.epsilon and all(
            _arrays.same_array(getattr(self, name), getattr(other, name))
            for name in ("mean", "variance", "gamma", "beta")
        )

    def __hash__(self) -> int:
        return hash((self.epsilon, tuple(self.mean.tolist()), tuple(self.variance.tolist())))


@dataclass(frozen=True)
class ConvolutionDescriptor:
    """Shape and arithmetic of a convolution.  MPS: MPSCNNConvolutionDescriptor.

    kernel_width, kernel_height: taps, before dilation.
    input_feature_channels, output_feature_channels: channels of a source and a destination pixel.
    stride_in_pixels_x, stride_in_pixels_y: source pixels from one destination pixel to the next.
    dilation_rate_x, dilation_rate_y: source pixels from one tap to the next.
    groups: divides both channel counts; output channels of a group see its input channels only.
        (MPS's binary convolution stops at 1.)
    neuron: the activation function; None means NONE.  MPS: fusedNeuronDescriptor.
    batch_normalization: folded into scale and bias; None for none.

    All are integers of at least 1.  Raises TypeError or ValueError where one is not, where groups
    does not divide, where an array of the neuron or the batch normalisation does not have
    output_feature_channels values, or where the layer is too large for its sums or its weights.
    """

    kernel_width: int
    kernel_height: int
    input_feature_channels: int
    output_feature_channels: int
    _: KW_ONLY
    stride_in_pixels_x: int = 1
    stride_in_pixels_y: int = 1
    dilation_rate_x: int = 1
    dilation_rate_y: int = 1
    groups: int = 1
    neuron: NeuronDescriptor = NeuronDescriptor()
    batch_normalization: BatchNormalization | None = None

    def __post_init__(self) -> None:
        for name in (
            "kernel_width",
            "kernel_height",
            "input_feature_channels",
            "output_feature_channels",
            "stride_in_pixels_x",
            "stride_in_pixels_y",
            "dilation_rate_x",
            "dilation_rate_y",
            "groups",
        ):
            object.__setattr__(self, name, _checks.positive(getattr(self, name), name))
        if self.neuron is None:
            object.__setattr__(self, "neuron", NeuronDescriptor())
        self._check_kinds()
        self._check_channels()
        self._check_sizes()

    def _check_kinds(self) -> None:
        neuron: object = self.neuron
        norm: object = self.batch_normalization
        if not isinstance(neuron, NeuronDescriptor):
            raise TypeError(f"neuron: expected a NeuronDescriptor, got {_checks.describe(neuron)}")
        if norm is not None and not isinstance(norm, BatchNormalization):
            raise TypeError(
                "batch_normalization: expected a BatchNormalization or None, "
                f"got {_checks.describe(norm)}"
            )

    def _check_channels(self) -> None:
        for name in ("input_feature_channels", "output_feature_channels"):
            channels = getattr(self, name)
            if channels % self.groups:
                raise ValueError(
                    f"groups: expected a divisor of {name}, {channels}, got {self.groups}"
                )
        terms, norm = self.neuron.a_terms, self.batch_normalization
        for name, array in (
            ("neuron: a", terms),
            ("batch_normalization: mean", None if norm is None else norm.mean),
        ):
            if array is not None and array.shape[0] != self.output_feature_channels:
                raise ValueError(
                    f"{name}: expected {self.output_feature_channels} values, one for each output "
                    f"feature channel, got {array.shape[0]}"
                )

    def _check_sizes(self) -> None:
        # As kernels count them: whole words of 64 channels.
        bits = (
            self.kernel_height * self.kernel_width * (-(-self.input_channels_per_group // 64) * 64)
        )
        if bits > _MAX_WINDOW_BITS:
            raise ValueError(
                "kernel_height * kernel_width * input_feature_channels / groups, the channels of a "
                f"group rounded up to a multiple of 64: expected at most {_MAX_WINDOW_BITS}, so "
                f"that sums do not overflow, got {bits}"
            )
        weight_bytes = 4 * math.prod(self.weights_shape)
        if weight_bytes > _checks.MAX_BYTES:
            raise ValueError(f"weights: their {weight_bytes} bytes overflow the address space")
        for axis, kernel, rate in (
            ("x", self.kernel_width, self.dilation_rate_x),
            ("y", self.kernel_height, self.dilation_rate_y),
        ):
            if (kernel - 1) * rate + 1 > _checks.MAX_SIZE:
                raise ValueError(
                    f"dilation_rate_{axis}: expected a dilated kernel of at most "
                    f"{_checks.MAX_SIZE} pixels, got {(kernel - 1) * rate + 1}"
                )

    @property
    def input_channels_per_group(self) -> int:
        """Input feature channels that one output channel sees."""
        return self.input_feature_channels // self.groups

    @property
    def weights_shape(self) -> tuple[int, int, int, int]:
        """Shape of the uint32 weights: (O, kernel_height, kernel_width, ceil(Cg / 32))."""
        return (
            self.output_feature_channels,
            self.kernel_height,
            self.kernel_width,
            -(-self.input_channels_per_group // 32),
        )

    @property
    def destination_scale(self) -> int:
        """Side of the block of destination pixels that one output pixel becomes."""
        return 1

    @property
    def destination_channels(self) -> int:
        """Channels that a layer writes to each destination pixel."""
        return self.output_feature_channels // self.destination_scale**2


@dataclass(frozen=True, kw_only=True)
class SubPixelConvolutionDescriptor(ConvolutionDescriptor):
    """A convolution whose N output features become blocks of pixels.  MPS:
    MPSCNNSubPixelConvolutionDescriptor.

    With r = subpixel_scale_factor the destination is r times as high and as wide and has N/r²
    channels: destination[y, x, c] = out[y // r, x // r, (N/r²)*(r*(y % r) + x % r) + c].

    Takes the arguments of `ConvolutionDescriptor` and subpixel_scale_factor, an integer of at least
    1.  Raises ValueError where its square does not divide output_feature_channels.
    """

    subpixel_scale_factor: int = 1

    def __post_init__(self) -> None:
        factor = _checks.positive(self.subpixel_scale_factor, "subpixel_scale_factor")
        object.__setattr__(self, "subpixel_scale_factor", factor)
        super().__post_init__()
        if self.output_feature_channels % factor**2:
            raise ValueError(
                "subpixel_scale_factor: expected its square to divide output_feature_channels, "
                f"{self.output_feature_channels}, got {factor}"
            )

    @property
    def destination_scale(self) -> int:
        """Side of the block of destination pixels that one output pixel becomes."""
        return self.subpixel_scale_factor


# The default of a field that __post_init__ derives from others; never seen afterwards.
_DERIVED: Any = None


@dataclass(frozen=True, kw_only=True)
class DepthWiseConvolutionDescriptor(ConvolutionDescriptor):
    """A convolution that does not mix channels.  MPS: MPSCNNDepthWiseConvolutionDescriptor.

    Output channel o sees input channel o // channel_multiplier alone: groups is
    input_feature_channels and output_feature_channels is input_feature_channels *
    channel_multiplier.  Both are derived; ValueError where they are given and are not that.
    """

    output_feature_channels: int = field(default=_DERIVED, kw_only=False)
    groups: int = _DERIVED
    channel_multiplier: int = 1

    def __post_init__(self) -> None:
        channels = _checks.positive(self.input_feature_channels, "input_feature_channels")
        multiplier = _checks.positive(self.channel_multiplier, "channel_multiplier")
        object.__setattr__(self, "channel_multiplier", multiplier)
        for name, derived, rule in (
            ("groups", channels, "input_feature_channels"),
            (
                "output_feature_channels",
                channels * multiplier,
                "input_feature_channels * channel_multiplier",
            ),
        ):
            given = getattr(self, name)
            if given is not None and _checks.positive(given, name) != derived:
                raise ValueError(f"{name}: expected {rule}, {derived}, got {given}")
            object.__setattr__(self, name, derived)
        super().__post_init__()
