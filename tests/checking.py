"""One layer through the public interface, compared with the oracle."""

from __future__ import annotations

import numpy as np
import reference as ref
from building import convolution, package_source, result_array, run_form
from strategies import Case

import binconv as bc

OUTPUT_FORMS = ("float32", "float16", "packed")
NEURONS = (
    ref.Neuron("NONE"),
    ref.Neuron("RELU", 0.0),
    ref.Neuron("RELU", 0.25),
    ref.Neuron("LINEAR", -0.3, 1.7),
    ref.Neuron("SIGMOID"),
    ref.Neuron("HARD_SIGMOID", 0.2, 0.5),
    ref.Neuron("TANH", 1.5, 0.1),
    ref.Neuron("ABSOLUTE"),
    ref.Neuron("SOFT_PLUS", 1.5, 0.7),
    ref.Neuron("SOFT_SIGN"),
    ref.Neuron("ELU", 0.9),
    ref.Neuron("PRELU", np.linspace(-1, 1, 18, dtype=np.float32)),
    ref.Neuron("RELUN", 0.1, 6.0),
    ref.Neuron("POWER", 0.5, 3.0, 2.0),
    ref.Neuron("EXPONENTIAL", 0.1, -0.2, 2.0),
    ref.Neuron("EXPONENTIAL", 0.1, -0.2, -1.0),
    ref.Neuron("LOGARITHM", 0.0, 1.3, 10.0),
    ref.Neuron("LOGARITHM", 0.0, 1.3, -1.0),
    ref.Neuron("GELU"),
)


def padding_of(words: tuple[str, ...] | tuple[int, int, int, int]) -> bc.Padding:
    if isinstance(words[0], int):
        return bc.Padding.explicit(*words)
    style, align, remainder = words
    method = bc.PaddingMethod
    return bc.Padding(
        method[f"SIZE_{style}"] | method[f"ALIGN_{align}"] | method[f"ADD_REMAINDER_TO_{remainder}"]
    )


def check_case(case: Case) -> None:
    conv = convolution(case.layer)
    conv.padding = padding_of(case.padding)
    size, offset = case.geometry()
    expected = ref.run(case.layer, case.source, size, offset)
    actual = run_form(conv, package_source(case.source), case.form)
    ref.check(result_array(actual), expected)


def check(layer: ref.Layer, source: np.ndarray | ref.Bits, *forms: str, padding=("SAME",)) -> None:
    words = (*padding, "CENTERED", "TOP_LEFT")[:3] if isinstance(padding[0], str) else padding
    for form in forms or ("float32",):
        check_case(Case(layer, source, words, form))
