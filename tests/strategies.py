"""Hypothesis strategies for whole layers: every parameter, small sizes, awkward numbers.

Hypothesis chooses the structure, which it can shrink; the bulk data comes from a generator whose
seed it chooses.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import reference as ref
from building import EDGE_MODES, TYPES, source_of, takes_bits
from hypothesis import strategies as st

# Around the words of 32 and 64 bits, and around two of them.
CHANNELS = (1, 2, 3, 4, 5, 7, 8, 9, 16, 31, 32, 33, 63, 64, 65, 127, 128, 129)
# Around the 8 lanes and their multiples.
OUTPUTS = (1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 24, 33)


@dataclass(frozen=True)
class Case:
    """One layer with its source, what sizes its output, and the form of the output."""

    layer: ref.Layer
    source: np.ndarray | ref.Bits
    padding: tuple[str, ...] | tuple[int, int, int, int]
    form: str

    def geometry(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """((height, width), offset) before sub-pixel rearrangement."""
        pixels = self.source.bits if isinstance(self.source, ref.Bits) else self.source
        size = (int(pixels.shape[1]), int(pixels.shape[2]))
        if isinstance(self.padding[0], int):
            return ref.padding_explicit(self.layer, size, *self.padding)
        return ref.padding(self.layer, size, *self.padding)


def seeds() -> st.SearchStrategy[np.random.Generator]:
    return st.integers(0, 2**32 - 1).map(np.random.default_rng)


@st.composite
def neurons(draw: st.DrawFn, outputs: int) -> ref.Neuron:
    """All 16, with parameters for which every float32 argument of modest size is in the domain."""
    number = st.sampled_from([-2.0, -0.5, 0.0, 0.1, 0.5, 1.0, 1.5])
    name = draw(
        st.sampled_from(
            "NONE RELU LINEAR SIGMOID HARD_SIGMOID TANH ABSOLUTE SOFT_PLUS SOFT_SIGN ELU PRELU "
            "RELUN POWER EXPONENTIAL LOGARITHM GELU".split()
        )
    )
    a, b, c = draw(number), draw(number), 0.0
    if name == "PRELU":
        return ref.Neuron(name, a=draw(seeds()).normal(size=outputs).astype(np.float32))
    if name == "POWER":
        c = draw(st.sampled_from([0.0, 1.0, 2.0, 3.0]))
    if name == "EXPONENTIAL":
        a, c = a / 64, draw(st.sampled_from([-1.0, 0.5, 2.0, 10.0]))
    if name == "LOGARITHM":
        a, b, c = 0.0, 0.25, draw(st.sampled_from([-1.0, 2.0, 10.0]))
    if name == "RELUN":
        b = draw(st.sampled_from([0.5, 1.0, 6.0]))
    return ref.Neuron(name, a, b, c)


@st.composite
def batch_norms(draw: st.DrawFn, outputs: int) -> ref.BatchNorm:
    rng = draw(seeds())
    return ref.BatchNorm(
        mean=rng.normal(size=outputs).astype(np.float32) * 4,
        variance=rng.uniform(0.1, 5, outputs).astype(np.float32),
        gamma=rng.normal(size=outputs).astype(np.float32) if draw(st.booleans()) else None,
        beta=rng.normal(size=outputs).astype(np.float32) if draw(st.booleans()) else None,
        epsilon=draw(st.sampled_from([1e-5, 1e-3, 0.5])),
    )


@st.composite
def layers(draw: st.DrawFn, **fixed: object) -> ref.Layer:
    """A random layer; keyword arguments fix fields of reference.Layer."""
    rng = draw(seeds())
    type_ = fixed.pop("type", None) or draw(st.sampled_from(TYPES))
    groups = draw(st.sampled_from([1, 1, 1, 2, 3, 4, 9]))
    cg = draw(st.sampled_from(CHANNELS if groups == 1 else CHANNELS[:12]))
    subpixel = draw(st.sampled_from([1, 1, 1, 2, 3]))
    if subpixel > 1:
        outputs = subpixel**2 * groups * draw(st.integers(1, 3))
    else:
        outputs = groups * draw(st.sampled_from(OUTPUTS if groups == 1 else (1, 2, 3, 8)))
    kernel = (draw(st.integers(1, 4)), draw(st.integers(1, 4)))
    channels = cg * groups
    terms = draw(st.booleans())
    edge_mode = draw(st.sampled_from(EDGE_MODES))
    fields = {
        "weights": rng.integers(0, 2, (outputs, *kernel, cg)),
        "type": type_,
        "groups": groups,
        "strides": (draw(st.integers(1, 5)), draw(st.integers(1, 5))),
        "dilations": (draw(st.integers(1, 4)), draw(st.integers(1, 4))),
        "beta_scaling": draw(st.sampled_from([False, False, False, True])),
        "input_bias": rng.normal(size=channels).astype(np.float32) * 0.5
        if terms and draw(st.booleans())
        else None,
        "input_scale": rng.normal(size=channels).astype(np.float32)
        if terms and draw(st.booleans())
        else None,
        "batch_norm": draw(st.none() | batch_norms(outputs)),
        "neuron": draw(neurons(outputs)),
        "subpixel": subpixel,
        "edge_mode": edge_mode,
        "edge_constant": draw(st.sampled_from([-1.5, -0.0, 0.75]))
        if edge_mode == "CONSTANT"
        else 0.0,
    }
    scaling = draw(st.sampled_from(["none", "value", "terms"]))
    if scaling == "value":
        fields["scale"] = draw(st.sampled_from([-1.0, 0.0, 0.125, 3.0]))
    elif scaling == "terms":
        scale = rng.normal(size=outputs).astype(np.float32)
        scale[rng.random(outputs) < 0.2] = 0.0
        fields["scale"] = scale
        fields["bias"] = rng.normal(size=outputs).astype(np.float32) * 3
    return ref.Layer(**{**fields, **fixed})


@st.composite
def wide_layers(draw: st.DrawFn) -> ref.Layer:
    """XNOR and AND with many outputs and long windows, which some ISAs sum otherwise."""
    rng = draw(seeds())
    outputs = draw(st.sampled_from([32, 60, 64, 90, 96, 100, 128, 160]))
    channels = draw(st.sampled_from([63, 64, 65, 128, 130, 200]))
    kernel = (draw(st.integers(1, 8)), draw(st.integers(1, 4)))
    edge_mode = draw(st.sampled_from(EDGE_MODES))
    terms = draw(st.booleans())
    slope = rng.normal(size=outputs).astype(np.float32)
    made_with_sums = (ref.Neuron(), ref.Neuron("RELU", 0.25), ref.Neuron("PRELU", slope))
    return ref.Layer(
        rng.integers(0, 2, (outputs, *kernel, channels)),
        type=draw(st.sampled_from(["XNOR", "AND"])),
        strides=(draw(st.integers(1, 3)), draw(st.integers(1, 5))),
        dilations=(draw(st.integers(1, 3)), draw(st.sampled_from([1, 1, 1, 2]))),
        beta_scaling=draw(st.sampled_from([False, False, True])),
        input_bias=rng.normal(size=channels).astype(np.float32) * 0.5 if terms else None,
        scale=rng.normal(size=outputs).astype(np.float32) * 0.1,
        bias=rng.normal(size=outputs).astype(np.float32),
        neuron=draw(st.sampled_from(made_with_sums)),
        subpixel=2 if outputs % 4 == 0 and draw(st.booleans()) else 1,
        edge_mode=edge_mode,
        edge_constant=0.75 if edge_mode == "CONSTANT" else 0.0,
    )


@st.composite
def paddings(draw: st.DrawFn) -> tuple[str, ...] | tuple[int, int, int, int]:
    if draw(st.booleans()):
        sides = [draw(st.integers(0, 6)) for _ in range(4)]
        return (sides[0], sides[1], sides[2], sides[3])
    return (
        draw(st.sampled_from(["VALID_ONLY", "SAME", "FULL"])),
        draw(st.sampled_from(["CENTERED", "TOP_LEFT", "BOTTOM_RIGHT"])),
        draw(st.sampled_from(["TOP_LEFT", "TOP_RIGHT", "BOTTOM_LEFT", "BOTTOM_RIGHT"])),
    )


@st.composite
def cases(draw: st.DrawFn, of: st.SearchStrategy[ref.Layer] | None = None, **fixed: object) -> Case:
    layer = draw(layers(**fixed) if of is None else of)
    forms = ["float32", "float16", "uint8"] + (["packed"] if takes_bits(layer) else [])
    shape = (
        draw(st.sampled_from([1, 2, 1, 3, 0])),
        draw(st.integers(1, 9)),
        draw(st.integers(1, 9)),
        layer.input_channels,
    )
    return Case(
        layer,
        source_of(draw(seeds()), shape, draw(st.sampled_from(forms))),
        draw(paddings()),
        draw(st.sampled_from(["float32", "float16", "packed"])),
    )
