from typing import Any

import numpy as np
from numpy.typing import NDArray

def isa() -> str: ...
def isas() -> tuple[str, ...]: ...
def cpu_features() -> dict[str, bool]: ...
def build_info() -> dict[str, str]: ...
def set_num_threads(count: int) -> None: ...
def get_num_threads() -> int: ...
def padding_size(
    method: int, source: int, kernel: int, dilation: int, stride: int, row: bool
) -> tuple[int, int]: ...
def padding_size_explicit(
    source: int, kernel: int, dilation: int, stride: int, before: int, after: int
) -> tuple[int, int]: ...
def fold_batch_normalization(
    scale: NDArray[np.float64],
    bias: NDArray[np.float64],
    mean: NDArray[np.float64],
    variance: NDArray[np.float64],
    gamma: NDArray[np.float64],
    beta: NDArray[np.float64],
    epsilon: float,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]: ...
def pack(
    image: NDArray[Any], bias: NDArray[np.float32] | None, scale: NDArray[np.float32] | None
) -> NDArray[np.uint64]: ...
def unpack(words: NDArray[np.uint64], channels: int) -> NDArray[np.int8]: ...

class Layer:
    def __init__(
        self,
        *,
        type: int,
        beta_scaling: bool,
        input_channels: int,
        output_channels: int,
        groups: int,
        kernel: tuple[int, int],
        stride: tuple[int, int],
        dilation: tuple[int, int],
        subpixel_factor: int,
        neuron: tuple[int, float, float, float],
        neuron_a_terms: NDArray[np.float32] | None,
        weights: NDArray[np.uint32],
        scale: NDArray[np.float32] | None,
        bias: NDArray[np.float32] | None,
        input_bias: NDArray[np.float32] | None,
        input_scale: NDArray[np.float32] | None,
    ) -> None: ...
    def run(
        self,
        source: NDArray[Any],
        source_channels: int,
        destination: NDArray[Any],
        destination_channels: int,
        *,
        images: int,
        source_first_image: int,
        destination_first_image: int,
        source_channel_offset: int,
        destination_channel_offset: int,
        clip: tuple[int, int, int, int],
        offset: tuple[int, int],
        edge_mode: int,
        edge_constant: float,
        pack_bias: NDArray[np.float32] | None = None,
        pack_scale: NDArray[np.float32] | None = None,
    ) -> Plan: ...

class Plan: ...

class Call:
    def __init__(self, layer: Layer, plan: Plan, source: Any, destination: Any) -> None: ...

def set_packed_image(packed: type) -> None: ...
def run_known(calls: list[Call], source: object, destination: object) -> bool: ...
