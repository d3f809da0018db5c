from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

def isas() -> tuple[str, ...]: ...
def names() -> tuple[str, ...]: ...
def own(isa: str) -> tuple[str, ...]: ...
def widen(
    isa: str, source: ArrayLike, *, out: NDArray[np.float32] | None = None
) -> NDArray[np.float32]: ...

class InputThresholds:
    channels: int
    def __init__(self, bias: ArrayLike, scale: ArrayLike) -> None: ...
    @property
    def flips(self) -> bool: ...

def pack_f32(
    isa: str,
    source: ArrayLike,
    bias: ArrayLike | None = None,
    scale: ArrayLike | None = None,
    *,
    thresholds: InputThresholds | None = None,
    abs_sum: NDArray[np.float32] | None = None,
    out: NDArray[np.uint64] | None = None,
    repeat: int = 1,
) -> NDArray[np.uint64]: ...
def terms_f32(
    isa: str,
    source: ArrayLike,
    bias: ArrayLike | None = None,
    scale: ArrayLike | None = None,
    *,
    abs_sum: NDArray[np.float32] | None = None,
    out: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]: ...
def gather_bits(
    isa: str,
    source: ArrayLike,
    first_bit: int,
    pixel_step_bits: int,
    tap_bit: ArrayLike,
    bits: int,
    groups: int,
    pixels: int,
    *,
    out: NDArray[np.uint64] | None = None,
) -> NDArray[np.uint64]: ...
def unpack_i8(
    isa: str, words: ArrayLike, channels: int, *, out: NDArray[np.int8] | None = None
) -> NDArray[np.int8]: ...

class XorpopWeights:
    filters: int
    taps: int
    channels: int
    padded_filters: int
    def __init__(self, isa: str, weights: ArrayLike, channels: int) -> None: ...
    def counts(
        self,
        source: ArrayLike,
        tap_offset: ArrayLike,
        *,
        out: NDArray[np.int32] | None = None,
        repeat: int = 1,
    ) -> NDArray[np.int32]: ...

def chains_least(isa: str) -> tuple[int, int] | None: ...
def chain_source(
    isa: str,
    source: ArrayLike,
    row_offset: ArrayLike,
    words: int,
    *,
    out: NDArray[np.uint64] | None = None,
) -> NDArray[np.uint64]: ...

class ChainWeights:
    padded_filters: int
    def __init__(self, isa: str, weights: ArrayLike, channels: int) -> None: ...
    def counts(
        self,
        chain: ArrayLike,
        pixels: int,
        step: int,
        *,
        out: NDArray[np.int32] | None = None,
        repeat: int = 1,
    ) -> NDArray[np.int32]: ...

class SignsumWeights:
    filters: int
    rows: int
    run: int
    padded_filters: int
    def __init__(self, isa: str, weights: ArrayLike, run: int) -> None: ...
    def expand(
        self, source: ArrayLike, *, out: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]: ...
    def sums(
        self,
        expanded: ArrayLike,
        *,
        accumulate: bool = False,
        out: NDArray[np.float32] | None = None,
        repeat: int = 1,
    ) -> NDArray[np.float32]: ...

def window_popcount(
    isa: str,
    source: ArrayLike,
    tap_offset: ArrayLike,
    words: int,
    *,
    out: NDArray[np.int32] | None = None,
) -> NDArray[np.int32]: ...
def window_sum(
    isa: str,
    source: ArrayLike,
    tap_offset: ArrayLike,
    divisor: float,
    *,
    out: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]: ...
def epilogue(
    isa: str,
    values: ArrayLike,
    scale: ArrayLike,
    bias: ArrayLike,
    *,
    neuron: tuple[int, float, float, float] = (0, 0.0, 0.0, 0.0),
    a_terms: ArrayLike | None = None,
    beta: ArrayLike | None = None,
    channel_base: ArrayLike | None = None,
    pixel_base: ArrayLike | None = None,
    count_shift: int = 0,
    sum_shift: int = 0,
    pack_bias: ArrayLike | None = None,
    pack_scale: ArrayLike | None = None,
    dtype: DTypeLike = ...,
    destination_bit: int = 0,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]: ...
def spin(additions: int) -> int: ...
def read(isa: str, array: NDArray[np.uint64], *, repeat: int = 1) -> int: ...
