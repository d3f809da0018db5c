"""What a Sequential hands from layer to layer, and what happens to layers that several share."""

from __future__ import annotations

import copy
import os
import threading

import numpy as np
import pytest

import binconv as bc

RNG = np.random.default_rng(11)


def layer(kind, size: int, channels: int, outputs: int, **options):
    desc = bc.ConvolutionDescriptor(size, size, channels, outputs)
    weights = RNG.normal(size=(outputs, size, size, channels))
    source = bc.ArrayDataSource(desc, weights, RNG.normal(size=outputs) * 3)
    return kind(source, **options)


def dense(channels: int, outputs: int, **options):
    return layer(bc.BinaryFullyConnected, 1, channels, outputs, **options)


def handed_on(network: bc.Sequential, source) -> list[str]:
    """B for bits and R for reals, between the layers."""
    forms = [result for _, result in network.steps(source)][:-1]
    return ["B" if isinstance(form, bc.PackedImage) else "R" for form in forms]


@pytest.fixture
def rows() -> list[bc.BinaryFullyConnected]:
    terms = {"input_bias_terms": RNG.normal(size=40)}
    return [dense(70, 40), dense(40, 33, **terms), dense(33, 10)]


@pytest.mark.parametrize("shape", [(70,), (5, 70), (0, 70), (1, 1, 70), (3, 1, 1, 70)])
def test_vectors_stay_vectors(rows, shape):
    network = bc.Sequential(*rows)
    x = RNG.normal(size=shape).astype(np.float32)
    a, b, c = rows
    y = network(x)
    assert y.shape == (*shape[:-1], 10)
    assert np.array_equal(y, c(b(a(x))))
    out = np.empty_like(y)
    assert network(x, out=out) is out
    assert np.array_equal(out, y)
    assert network(x, packed=True) == c(b(a(x)), packed=True)
    assert network(x, dtype=np.float16).dtype == np.float16


def test_steps_are_the_layers_and_their_results(rows):
    network = bc.Sequential(*rows)
    x = RNG.normal(size=(2, 70)).astype(np.float32)
    steps = list(network.steps(x))
    assert [step[0] for step in steps] == rows == list(network)
    assert np.array_equal(steps[-1][1], network(x))
    assert [len(network), network[0], network[-1]] == [3, rows[0], rows[-1]]
    assert list(network[1:]) == rows[1:]
    assert "33 -> 10" in repr(network)


def test_bits_where_the_next_layer_binarises(rows):
    x = RNG.normal(size=(2, 70)).astype(np.float32)
    assert handed_on(bc.Sequential(*rows), x) == ["B", "B"]
    real = dense(40, 33, type=bc.BinaryConvolutionType.BINARY_WEIGHTS)
    assert handed_on(bc.Sequential(rows[0], real, rows[2]), x) == ["R", "B"]
    beta = dense(40, 33, flags=bc.BinaryConvolutionFlags.USE_BETA_SCALING)
    assert handed_on(bc.Sequential(rows[0], beta, rows[2]), x) == ["R", "B"]


@pytest.mark.parametrize(
    ("skipped", "first", "most", "terms", "forms"),
    [
        # skipped channels are 0, and the bit of 0 is 1, not the 0 of words that are not written
        (3, 0, None, False, ["B", "R"]),
        (3, 5, None, False, ["B", "R"]),
        (0, 7, 25, False, ["B", "B"]),
        # terms belong to the channels that are read, not to those that are written
        (0, 7, None, True, ["B", "R"]),
        (0, 0, 25, True, ["B", "R"]),
    ],
)
def test_channel_offsets_between_layers(rows, skipped, first, most, terms, forms):
    a, b = rows[0], copy.copy(rows[1])
    b.destination_feature_channel_offset = skipped
    read = 36 if skipped and not first else 20
    c = dense(read, 10, **({"input_scale_terms": RNG.normal(size=read)} if terms else {}))
    c.source_feature_channel_offset = first
    c.source_feature_channel_max_count = most
    network = bc.Sequential(a, b, c)
    x = RNG.normal(size=(6, 70)).astype(np.float32)
    assert handed_on(network, x) == forms
    assert np.array_equal(network(x), c(b(a(x))))


def test_shapes_are_checked_before_the_first_layer_runs():
    first, second = layer(bc.BinaryConvolution, 3, 4, 5), layer(bc.BinaryFullyConnected, 4, 5, 2)
    network = bc.Sequential(first, second)
    assert network(np.zeros((4, 4, 4), np.float32)).shape == (1, 1, 2)
    steps = network.steps(np.zeros((5, 4, 4), np.float32))
    with pytest.raises(ValueError, match="layers: at 1"):
        next(steps)
    with pytest.raises(ValueError, match="out"):
        network(np.zeros((4, 4, 4), np.float32), out=np.empty((1, 1, 3), np.float32))


def test_batches_do_not_overlap():
    conv = layer(bc.BinaryConvolution, 3, 4, 4)
    images = [np.zeros((5, 5, 4), np.float32) for _ in range(2)]
    target = np.full((5, 5, 4), 7, np.float32)
    for destinations in ([target, target], [target, images[0]], [images[1], target]):
        with pytest.raises(ValueError, match=r"destination.*overlap"):
            conv.encode_batch(images, destinations)
        assert (target == 7).all()


def test_no_setting_is_lost():
    """Different properties set at once, from several threads."""
    conv = layer(bc.BinaryConvolution, 3, 4, 4)
    names = (
        "destination_feature_channel_offset",
        "source_feature_channel_offset",
        "source_feature_channel_max_count",
    )

    def work(name: str) -> None:
        for value in range(1, 300):
            setattr(conv, name, value)
            assert getattr(conv, name) == value

    threads = [threading.Thread(target=work, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [getattr(conv, name) for name in names] == [299, 299, 299]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_settings_in_the_child_of_a_fork():
    conv, stop = layer(bc.BinaryConvolution, 3, 4, 4), threading.Event()

    def work() -> None:
        while not stop.is_set():
            conv.edge_mode = bc.EdgeMode.CLAMP

    thread = threading.Thread(target=work)
    thread.start()
    try:
        for _ in range(20):
            child = os.fork()
            if child == 0:
                conv.edge_mode = bc.EdgeMode.EXCLUDE
                os._exit(conv.edge_mode is not bc.EdgeMode.EXCLUDE)
            assert os.waitpid(child, 0)[1] == 0
    finally:
        stop.set()
        thread.join()
