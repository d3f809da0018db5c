"""Offsets, regions and padding: where a layer reads and how large its destination is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, cast, runtime_checkable

from . import _checks, _core
from .enums import PaddingMethod

if TYPE_CHECKING:
    from ._layer import Layer
    from .convolution import BinaryConvolution
    from .descriptors import ConvolutionDescriptor

__all__ = ["Offset", "Padding", "PaddingPolicy", "Region"]


@dataclass(frozen=True)
class Offset:
    """Source position under the first destination pixel, in source pixels.  MPS: MPSOffset.

    x and y point at the centre of the kernel, tap (kernel_height >> 1, kernel_width >> 1) of the
    dilated kernel; z is the first source image.  Integers, TypeError or ValueError otherwise.
    """

    x: int = 0
    y: int = 0
    z: int = 0

    def __post_init__(self) -> None:
        for name in ("x", "y", "z"):
            object.__setattr__(self, name, _checks.integer(getattr(self, name), name))


@dataclass(frozen=True)
class Region:
    """A box of pixels and images.  MPS: MPSRegion, MTLRegion.

    origin: (x, y, z), the first column, row and image.
    size: (width, height, depth), how many of each, at least 0.

    Integers in MPS's order, TypeError or ValueError otherwise.
    """

    origin: tuple[int, int, int] = (0, 0, 0)
    size: tuple[int, int, int] = (0, 0, 0)

    def __post_init__(self) -> None:
        for name, order, minimum, maximum in (
            ("origin", "xyz", -_checks.MAX_BYTES, _checks.MAX_BYTES),
            ("size", ("width", "height", "depth"), 0, _checks.MAX_BYTES),
        ):
            value = getattr(self, name)
            if not isinstance(value, (tuple, list)) or len(value) != 3:
                raise TypeError(
                    f"{name}: expected ({', '.join(order)}), got {_checks.describe(value)}"
                )
            triple = tuple(
                _checks.integer(item, f"{name} {axis}", minimum, maximum)
                for item, axis in zip(value, order, strict=True)
            )
            object.__setattr__(self, name, triple)


@runtime_checkable
class PaddingPolicy(Protocol):
    """What sizes a destination: `Padding`, or an object of your own.  MPS: MPSNNPadding."""

    def destination(
        self, source_size: tuple[int, int], kernel: BinaryConvolution, /
    ) -> tuple[tuple[int, int], Offset]:
        """Size and offset for a source.  MPS:
        destinationImageDescriptorForSourceImages:sourceStates:forKernel:suggestedDescriptor:.

        source_size: (height, width) of the source in pixels.
        kernel: the layer, for its kernel size, strides and dilation rates.

        Returns ((height, width), offset): how many output pixels there are, before a sub-pixel
        rearrangement, and where the first of them reads.  offset.z is ignored.
        """
        ...


_ALIGN, _REMAINDER, _SIZE = 3, 12, 48
_KNOWN_BITS = _ALIGN | _REMAINDER | _SIZE | int(PaddingMethod.CUSTOM)


@dataclass(frozen=True)
class Padding:
    """A padding policy.  MPS: MPSNNDefaultPadding.

    method: see `PaddingMethod`; the default is the same size as the source (divided by the stride),
        centred, with the odd pixel added at the top left.
    amounts: for `explicit`, (top, bottom, left, right); None otherwise.

    Raises TypeError or ValueError for a method that is none.
    """

    method: PaddingMethod = PaddingMethod.SIZE_SAME
    amounts: tuple[int, int, int, int] | None = None

    def __post_init__(self) -> None:
        bits = _checks.integer(self.method, "method")
        if bits & ~_KNOWN_BITS or bits & _ALIGN == _ALIGN or bits & _SIZE == _SIZE:
            raise ValueError(f"method: expected a combination of PaddingMethod, got {bits}")
        if (self.amounts is not None) != bool(bits & PaddingMethod.CUSTOM):
            raise ValueError(
                "method: expected CUSTOM with Padding.explicit alone (a policy of your own is an "
                f"object with a destination method), got {PaddingMethod(bits)!r}"
            )
        object.__setattr__(self, "method", PaddingMethod(bits))
        if self.amounts is not None:
            sides: object = self.amounts
            if not isinstance(sides, (tuple, list)) or len(sides) != 4:
                raise TypeError(
                    f"amounts: expected (top, bottom, left, right), got {_checks.describe(sides)}"
                )
            top, bottom, left, right = sides
            amounts = (
                _checks.integer(top, "top"),
                _checks.integer(bottom, "bottom"),
                _checks.integer(left, "left"),
                _checks.integer(right, "right"),
            )
            object.__setattr__(self, "amounts", amounts)

    @classmethod
    def explicit(cls, top: int = 0, bottom: int = 0, left: int = 0, right: int = 0) -> Padding:
        """Padding by counts of pixels, the form of PyTorch and ONNX; negative ones crop.
        Not in MPS.

        Along each axis size = floor((n + before + after - f)/stride) + 1, at least 0, with f the
        dilated kernel size.
        """
        return cls(PaddingMethod.CUSTOM, (top, bottom, left, right))

    @classmethod
    def same_tensorflow(cls) -> Padding:
        """TensorFlow's and Keras's "same": the odd pixel is added at the bottom right.

        Where a stride exceeds the dilated kernel by so much that several pixels are left over,
        both sides lose some here; TensorFlow begins at the first pixel, as `ALIGN_BOTTOM_RIGHT`
        does.
        """
        return cls(PaddingMethod.SIZE_SAME | PaddingMethod.ADD_REMAINDER_TO_BOTTOM_RIGHT)

    def destination(
        self, source_size: tuple[int, int], kernel: Layer | ConvolutionDescriptor
    ) -> tuple[tuple[int, int], Offset]:
        """Size and offset for a source; see `PaddingPolicy.destination`."""
        source_height, source_width = _checks.size(source_size, "source_size")
        height, y = self._axis(
            source_height,
            kernel.kernel_height,
            kernel.dilation_rate_y,
            kernel.stride_in_pixels_y,
            is_row=True,
        )
        width, x = self._axis(
            source_width,
            kernel.kernel_width,
            kernel.dilation_rate_x,
            kernel.stride_in_pixels_x,
            is_row=False,
        )
        return (height, width), Offset(x, y)

    def _axis(
        self, source: int, taps: int, dilation: int, stride: int, *, is_row: bool
    ) -> tuple[int, int]:
        try:
            if self.amounts is None:
                return _core.padding_size(int(self.method), source, taps, dilation, stride, is_row)
            before, after = self.amounts[:2] if is_row else self.amounts[2:]
            return _core.padding_size_explicit(source, taps, dilation, stride, before, after)
        except (ValueError, OverflowError) as error:
            raise ValueError(
                f"padding: expected a destination of at most {_checks.MAX_SIZE} pixels, got more "
                f"for {source} {'rows' if is_row else 'columns'} and {self!r}"
            ) from error

    def __repr__(self) -> str:
        if self.amounts is None:
            return f"Padding({self.method!r})"
        top, bottom, left, right = self.amounts
        return f"Padding.explicit(top={top}, bottom={bottom}, left={left}, right={right})"


def resolve(
    policy: PaddingPolicy, source_size: tuple[int, int], kernel: Layer
) -> tuple[int, int, int, int]:
    """(height, width, offset y, offset x) that a policy answers, checked."""
    # Layers of every kind answer to the names that a policy may look at.
    answer: object = policy.destination(source_size, cast("BinaryConvolution", kernel))
    if not isinstance(answer, tuple) or len(answer) != 2 or not isinstance(answer[1], Offset):
        raise TypeError(
            "padding: expected its destination method to return ((height, width), Offset), "
            f"got {_checks.describe(answer)}"
        )
    height, width = _checks.size(answer[0], "padding: destination")
    return height, width, answer[1].y, answer[1].x
