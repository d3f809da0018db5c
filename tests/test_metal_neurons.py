"""The neurons of the GPU over all of float32, against the formulas in float64."""

from __future__ import annotations

import numpy as np
import pytest
import reference as ref
from building import convolution
from metal_adapter import bm

TINY = float(np.finfo(np.float32).smallest_normal)
NEURONS = (
    ref.Neuron("NONE"),
    ref.Neuron("RELU", 0.25),
    ref.Neuron("LINEAR", -0.3, 1.7),
    ref.Neuron("SIGMOID"),
    ref.Neuron("HARD_SIGMOID", 0.2, 0.5),
    ref.Neuron("TANH", 1.5, 0.1),
    ref.Neuron("TANH", -3.0, 2.0),
    ref.Neuron("ABSOLUTE"),
    ref.Neuron("SOFT_PLUS", 1.5, 0.7),
    ref.Neuron("SOFT_PLUS", -1.0, -3.0),
    ref.Neuron("SOFT_SIGN"),
    ref.Neuron("ELU", 0.9),
    ref.Neuron("PRELU", np.array([-0.7], np.float32)),
    ref.Neuron("RELUN", 0.1, 6.0),
    ref.Neuron("POWER", 0.5, 3.0, 2.0),
    ref.Neuron("POWER", 1.0, 0.0, 3.0),
    ref.Neuron("POWER", 1.0, 0.0, -1.0),
    ref.Neuron("POWER", 1.0, 0.0, 0.37),
    ref.Neuron("POWER", 1.0, 0.0, -2.6),
    ref.Neuron("POWER", 1.0, 0.0, 0.0),
    ref.Neuron("EXPONENTIAL", 1.0, 0.0, -1.0),
    ref.Neuron("EXPONENTIAL", 0.1, -0.2, 2.0),
    ref.Neuron("EXPONENTIAL", 1.0, 0.0, 10.0),
    ref.Neuron("EXPONENTIAL", 1.0, 0.0, 0.5),
    ref.Neuron("EXPONENTIAL", 1.0, 0.0, 1.0),
    ref.Neuron("EXPONENTIAL", 1.0, 0.0, 0.0),
    ref.Neuron("EXPONENTIAL", 1.0, 0.0, -2.0),
    ref.Neuron("LOGARITHM", 1.0, 0.0, -1.0),
    ref.Neuron("LOGARITHM", 2.0, 1.0, 10.0),
    ref.Neuron("LOGARITHM", 1.0, 0.0, 0.5),
    ref.Neuron("GELU"),
)


def arguments() -> np.ndarray:
    """All magnitudes, both signs, whole numbers, and what lies round the bends of the formulas."""
    rng = np.random.default_rng(1)
    magnitudes = np.exp2(rng.uniform(-126, 127, 4000))
    near = rng.uniform(-20, 20, 6000)
    far = rng.uniform(-120, 120, 4000)
    bends = np.array([0.625, 0.927734375, 9.1, 17.5, 88.72, 103.97, 87.33, 104, 89, 1, 2, 4, 0.5])
    steps = np.arange(-4, 5) * 1e-6
    round_bends = (bends[:, None] * (1 + steps)).ravel()
    values = [magnitudes, -magnitudes, near, far, round_bends, -round_bends, np.arange(-130, 131)]
    special = [0.0, -0.0, np.inf, -np.inf, np.nan, TINY, -TINY, 3.4e38, -3.4e38]
    return np.concatenate([*values, special]).astype(np.float32)


@pytest.mark.parametrize("neuron", NEURONS, ids=lambda n: f"{n.type}-{np.ravel(n.a)[0]:g}-{n.c:g}")
def test_neurons_are_within_4_ulp(neuron):
    x = arguments()
    layer = ref.Layer(np.ones((1, 1, 1, 1), int), type="BINARY_WEIGHTS", neuron=neuron)
    gpu = bm.BinaryConvolution.from_cpu(convolution(layer))
    y = gpu(x.reshape(1, -1, 1, 1)).ravel().astype(np.float64)
    with np.errstate(all="ignore"):
        expected = ref.neuron64(neuron, x)
        rounded = expected.astype(np.float32).astype(np.float64)
        terms = ref.neuron_terms(neuron, x)
        allowed = 4 * ref.ulp(np.maximum(np.abs(expected), terms))
        if neuron.type == "LOGARITHM":
            allowed += 2.0**-52  # of a*x + b in float64, where that is close to 1
            # docs/METAL.md: an a*x + b beyond float32 is an infinity on the GPU.
            expected[np.isposinf(np.float32(neuron.a) * x)] = np.inf
        good = np.abs(y - expected) <= allowed
        good |= (y == rounded) | (np.isnan(y) & np.isnan(expected))
        # Overflow may come up to 4 ULP early or late.
        good |= np.isinf(y) & (np.abs(expected) > 3.4028e38) & (np.sign(y) == np.sign(expected))
        good |= (np.abs(y) > 3.4028e38) & np.isinf(rounded) & (np.sign(y) == np.sign(rounded))
    worst = np.flatnonzero(~good)
    assert not worst.size, [(x[k], y[k], expected[k]) for k in worst[:8]]
