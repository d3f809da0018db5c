"""Run under a forced ISA by test_isas: checks layers against the oracle, prints digests.

A digest is printed for what must be the same bits on every ISA (XNOR and AND without beta); the
others are checked against the oracle alone.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import reference as ref
from building import TYPES, convolution, package_source, result_array, run_form, source_of
from checking import NEURONS

import binconv as bc

SHAPES = {
    "plain": {"o": 24, "kernel": (3, 3), "cg": 64},
    "ragged": {"o": 19, "kernel": (3, 2), "cg": 37, "strides": (2, 1), "dilations": (1, 2)},
    "wide": {"o": 9, "kernel": (1, 1), "cg": 513},
    "tall": {"o": 33, "kernel": (5, 1), "cg": 200, "edge_mode": "MIRROR"},
    "long": {"o": 96, "kernel": (3, 3), "cg": 130, "dilations": (2, 1), "strides": (1, 2)},
    "longer": {"o": 123, "kernel": (2, 3), "cg": 192, "edge_mode": "EXCLUDE"},
    "wider": {"o": 128, "kernel": (1, 1), "cg": 640},
    "groups": {"o": 12, "kernel": (3, 3), "cg": 33, "groups": 3, "edge_mode": "EXCLUDE"},
    "depthwise": {"o": 40, "kernel": (3, 3), "cg": 1, "groups": 40, "edge_mode": "CLAMP"},
    "subpixel": {"o": 20, "kernel": (3, 3), "cg": 16, "subpixel": 2},
}


def layers():
    """(name, layer) with terms that make every step round."""
    for type_ in TYPES:
        for name, shape in SHAPES.items():
            for beta in (False, True):
                rng = np.random.default_rng(90)
                fields = dict(shape)
                o, kernel, cg = fields.pop("o"), fields.pop("kernel"), fields.pop("cg")
                channels = cg * fields.get("groups", 1)
                yield (
                    f"{type_}-{name}" + ("-beta" if beta else ""),
                    ref.Layer(
                        rng.integers(0, 2, (o, *kernel, cg)),
                        type=type_,
                        beta_scaling=beta,
                        scale=rng.normal(size=o).astype(np.float32),
                        bias=rng.normal(size=o).astype(np.float32) * 9,
                        input_bias=rng.normal(size=channels).astype(np.float32) * 0.3,
                        input_scale=rng.normal(size=channels).astype(np.float32),
                        **fields,
                    ),
                )
        for number, neuron in enumerate(NEURONS):
            for name, o, cg in (("", 18, 20), ("-long", 64, 64)):
                rng = np.random.default_rng(91)
                slope = np.linspace(-1, 1, o, dtype=np.float32)
                yield (
                    f"{type_}-{number}-{neuron.type}{name}",
                    ref.Layer(
                        rng.integers(0, 2, (o, 3, 3, cg)),
                        type=type_,
                        scale=rng.normal(size=o).astype(np.float32) * 0.1,
                        bias=rng.normal(size=o).astype(np.float32),
                        neuron=replace(neuron, a=slope) if neuron.type == "PRELU" else neuron,
                    ),
                )


def main() -> None:
    print("isa", bc.isa())
    for name, layer in layers():
        same_bits = layer.type != "BINARY_WEIGHTS" and not layer.beta_scaling
        digest = hashlib.sha256()
        forms = ("float32", "float16", "uint8", "packed") if same_bits else ("float32",)
        for form in forms:
            source = source_of(np.random.default_rng(92), (2, 7, 9, layer.input_channels), form)
            expected = ref.run(layer, source, *ref.padding(layer, (7, 9)))
            conv = convolution(layer)
            for destination in ("float32", "float16", "packed"):
                actual = result_array(run_form(conv, package_source(source), destination))
                ref.check(actual, expected, where=f"in {name} {form} {destination}")
                digest.update(np.ascontiguousarray(actual).tobytes())
        if same_bits:
            print(name, digest.hexdigest())


if __name__ == "__main__":
    main()
