"""What the shader of the sums depends on, and the files it is made of."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files

from ..enums import BinaryConvolutionType, NeuronType


@dataclass(frozen=True)
class Tile:
    """How a workgroup shares its tile: lanes_y x lanes_x invocations with rows x columns sums."""

    lanes_x: int
    lanes_y: int
    rows: int
    columns: int

    @property
    def invocations(self) -> int:
        return self.lanes_x * self.lanes_y

    @property
    def pixels(self) -> int:
        return self.lanes_y * self.rows

    @property
    def filters(self) -> int:
        return self.lanes_x * self.columns


# 32 sums an invocation leave registers for four workgroups on an NVIDIA multiprocessor.
LARGE = Tile(lanes_x=16, lanes_y=8, rows=8, columns=4)
# For few filters: groups, depthwise layers.
SMALL = Tile(lanes_x=4, lanes_y=16, rows=2, columns=4)


@dataclass(frozen=True)
class Variant:
    """All that a shader depends on."""

    type: BinaryConvolutionType
    tile: Tile
    quads: int  # of a step
    neuron: NeuronType
    destination: str  # "float32", "float16" or "bits"
    beta: bool
    excludes: bool  # XNOR with taps that are left out
    careful: bool  # terms so small that products may be subnormal
    pack_terms: bool
    shuffled: bool  # sub-pixel
    # (elements of a tap, kernel width) where they are built in, for taps of whole quads
    fixed: tuple[int, int] | None

    @property
    def is_binary(self) -> bool:
        """Whether sums are counts of bits."""
        return self.type != BinaryConvolutionType.BINARY_WEIGHTS


def shader(name: str) -> str:
    """The text of a file of shaders/."""
    return (files(__package__) / "shaders" / f"{name}.wgsl").read_text("utf-8")
