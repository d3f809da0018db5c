"""Data sources: what they deliver, and how a layer treats those that fail."""

from __future__ import annotations

import pickle
import threading

import numpy as np
import pytest

import binconv as bc

DESC = bc.ConvolutionDescriptor(3, 2, 6, 4)
WORDS = np.arange(4 * 2 * 3, dtype=np.uint32).reshape(4, 2, 3, 1)
IMAGE = np.random.default_rng(0).normal(size=(5, 5, 6)).astype(np.float32)


class Source:
    """Works, but for the methods that keyword arguments replace by values or exceptions."""

    def __init__(self, **answers) -> None:
        self.answers = {
            "load": True,
            "purge": None,
            "data_type": bc.DataType.UINT32,
            "descriptor": DESC,
            "weights": WORDS,
            "bias_terms": None,
            "label": None,
            **answers,
        }
        self.calls: list[str] = []

    def _answer(self, name: str):
        self.calls.append(name)
        answer = self.answers[name]
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def load(self):
        return self._answer("load")

    def purge(self):
        return self._answer("purge")

    def data_type(self):
        return self._answer("data_type")

    def descriptor(self):
        return self._answer("descriptor")

    def weights(self):
        return self._answer("weights")

    def bias_terms(self):
        return self._answer("bias_terms")

    def label(self):
        return self._answer("label")


def test_a_source_is_loaded_first_and_purged_last():
    source = Source(label="mine", bias_terms=np.ones(4, np.float32))
    conv = bc.BinaryConvolution(source)
    assert source.calls[0] == "load"
    assert source.calls[-1] == "purge"
    assert source.calls.count("load") == source.calls.count("purge") == 1
    assert conv.label == "mine"
    assert conv.data_source is source
    conv(IMAGE)
    assert source.calls[-1] == "purge", "a call does not go back to the source"


FAILURES = {
    "load-false": {"load": False},
    "load-none": {"load": None},
    "load-raises": {"load": OSError("disk")},
    "purge-raises": {"purge": OSError("disk")},
    "descriptor-raises": {"descriptor": KeyError("x")},
    "descriptor-none": {"descriptor": None},
    "data-type": {"data_type": bc.DataType.FLOAT32},
    "data-type-none": {"data_type": None},
    "weights-raise": {"weights": RuntimeError("gone")},
    "weights-none": {"weights": None},
    "weights-list": {"weights": WORDS.tolist()},
    "weights-int64": {"weights": WORDS.astype(np.int64)},
    "weights-int32": {"weights": WORDS.view(np.int32)},
    "weights-rank": {"weights": WORDS[0]},
    "weights-short": {"weights": WORDS[:3]},
    "weights-words": {"weights": np.repeat(WORDS, 2, axis=3)},
    "bias-raises": {"bias_terms": ZeroDivisionError()},
    "bias-short": {"bias_terms": np.ones(3, np.float32)},
    "bias-rank": {"bias_terms": np.ones((4, 1), np.float32)},
    "bias-nan": {"bias_terms": np.array([0, 1, np.nan, 2], np.float32)},
    "bias-bool": {"bias_terms": np.ones(4, bool)},
    "bias-text": {"bias_terms": "1234"},
    "label": {"label": 5},
}


@pytest.mark.parametrize("answers", FAILURES.values(), ids=FAILURES)
def test_failures(answers):
    """DataSourceError, the purge, and for a reload the layer as it was."""
    conv = bc.BinaryConvolution(Source())
    expected, before = conv(IMAGE), conv.data_source
    for act in (bc.BinaryConvolution, conv.reload_weights_and_biases):
        source = Source(**answers)
        with pytest.raises(bc.DataSourceError) as caught:
            act(source)
        assert source.calls.count("load") == source.calls.count("purge") == 1
        raised = next((a for a in answers.values() if isinstance(a, BaseException)), None)
        assert raised is None or caught.value.__cause__ is raised
    assert np.array_equal(conv(IMAGE), expected)
    assert conv.data_source is before


@pytest.mark.parametrize("error", [MemoryError(), KeyboardInterrupt()])
def test_what_is_not_the_sources_fault_passes(error):
    source = Source(weights=error)
    with pytest.raises(type(error)):
        bc.BinaryConvolution(source)
    assert source.calls[-1] == "purge"


def test_the_first_error_wins_over_that_of_purge():
    with pytest.raises(bc.DataSourceError, match="first"):
        bc.BinaryConvolution(Source(weights=OSError("first"), purge=OSError("second")))


def test_what_is_no_source():
    for wrong in (None, WORDS, DESC, "path", Source):
        with pytest.raises((TypeError, bc.DataSourceError), match="source"):
            bc.BinaryConvolution(wrong)


def test_a_layer_keeps_no_memory_of_the_source():
    words, bias = WORDS.copy(), np.ones(4, np.float32)
    conv = bc.BinaryConvolution(Source(weights=words, bias_terms=bias))
    expected = conv(IMAGE)
    words[...] = bias[...] = 7
    exported = conv.export_weights_and_biases()
    assert np.array_equal(exported.weights, WORDS)
    assert exported.biases.tolist() == [1, 1, 1, 1]
    exported.weights[...] = 0
    assert np.array_equal(conv.export_weights_and_biases().weights, WORDS)
    assert np.array_equal(conv(IMAGE), expected)


@pytest.mark.parametrize(
    "words",
    [WORDS.astype(">u4"), np.asfortranarray(WORDS), np.repeat(WORDS, 2, axis=0)[::2]],
    ids=["big-endian", "fortran", "strided"],
)
def test_words_in_any_memory(words):
    for source in (Source(weights=words), bc.ArrayDataSource(DESC, words)):
        assert np.array_equal(
            bc.BinaryConvolution(source).export_weights_and_biases().weights, WORDS
        )


def test_reload():
    """Weights, bias, neuron and batch normalisation change, the terms and settings do not."""
    norm = bc.BatchNormalization(np.arange(4.0), np.ones(4))
    new = bc.ConvolutionDescriptor(
        3, 2, 6, 4, neuron=bc.NeuronDescriptor(bc.NeuronType.ABSOLUTE), batch_normalization=norm
    )
    scale = np.array([1, 2, 3, 4], np.float32)
    conv = bc.BinaryConvolution(Source(), output_scale_terms=scale)
    conv.edge_mode = bc.EdgeMode.CLAMP
    source = Source(descriptor=new, weights=~WORDS, bias_terms=scale)
    conv.reload_weights_and_biases(source)
    fresh = bc.BinaryConvolution(source, output_scale_terms=scale)
    fresh.edge_mode = bc.EdgeMode.CLAMP
    assert np.array_equal(conv(IMAGE), fresh(IMAGE))
    assert conv.neuron == new.neuron
    assert conv.data_source is source


@pytest.mark.parametrize(
    "change",
    [
        {"kernel_width": 4},
        {"input_feature_channels": 8},
        {"output_feature_channels": 2},
        {"groups": 2},
        {"stride_in_pixels_y": 2},
        {"dilation_rate_x": 2},
    ],
)
def test_reload_of_another_shape(change):
    names = ("kernel_width", "kernel_height", "input_feature_channels", "output_feature_channels")
    other = bc.ConvolutionDescriptor(**{name: getattr(DESC, name) for name in names} | change)
    conv = bc.BinaryConvolution(Source())
    expected = conv(IMAGE)
    weights = np.zeros(other.weights_shape, np.uint32)
    with pytest.raises(ValueError, match=next(iter(change))):
        conv.reload_weights_and_biases(Source(descriptor=other, weights=weights))
    assert np.array_equal(conv(IMAGE), expected)


def test_reload_of_another_subpixel_factor():
    def source(factor):
        descriptor = bc.SubPixelConvolutionDescriptor(1, 1, 3, 4, subpixel_scale_factor=factor)
        return bc.ArrayDataSource(descriptor, np.ones((4, 1, 1, 3)))

    conv = bc.BinaryConvolution(source(1))
    with pytest.raises(ValueError, match="destination_scale 1, got 2"):
        conv.reload_weights_and_biases(source(2))


def test_array_source_copies_and_freezes():
    words = WORDS.copy()
    source = bc.ArrayDataSource(DESC, words, [1, 2, 3, 4], "mine")
    words[...] = 0
    assert np.array_equal(source.weights(), WORDS)
    assert source.bias_terms().dtype == np.float32
    assert source.data_type() == bc.DataType.UINT32
    assert (source.label(), source.descriptor()) == ("mine", DESC)
    with pytest.raises(ValueError, match="read-only"):
        source.weights()[...] = 0
    again = pickle.loads(pickle.dumps(source))
    assert np.array_equal(again.weights(), WORDS)
    assert "mine" in repr(source)


@pytest.mark.parametrize("channels", [1, 7, 8, 9, 31, 32, 33, 64, 65])
def test_pack_weights(channels):
    """Channel 32k + b is bit b of word k."""
    bits = np.random.default_rng(channels).integers(0, 2, (2, 1, 3, channels)).astype(bool)
    words = bc.pack_weights(bits)
    assert words.dtype == np.uint32
    assert words.shape == (2, 1, 3, -(-channels // 32))
    for c in range(channels):
        assert np.array_equal(words[..., c // 32] >> (c % 32) & 1, bits[..., c])
    tail = channels % 32
    assert tail == 0 or not (words[..., -1] >> tail).any()


@pytest.mark.parametrize(
    ("weights", "error"),
    [
        (np.zeros((4, 2, 3, 6), np.int8), ValueError),
        (np.full((4, 2, 3, 6), 2, np.int64), ValueError),
        (np.ones((4, 2, 3, 6), np.uint8), TypeError),
        (np.ones((4, 2, 3, 6), complex), TypeError),
        (np.ones((4, 2, 3, 6), object), TypeError),
        (np.ones((4, 2, 3), np.float32), ValueError),
        ("weights", TypeError),
        (None, TypeError),
        ([[1], [1, 2]], ValueError),
    ],
)
def test_weights_that_do_not_pack(weights, error):
    with pytest.raises(error, match="weights"):
        bc.pack_weights(weights)
    with pytest.raises((TypeError, ValueError), match="weights"):
        bc.ArrayDataSource(DESC, weights)


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "layer.safetensors"
    bc.BinaryConvolution(Source(label="stored", bias_terms=np.ones(4, np.float32))).save(file)
    return file


def test_safetensors_source(path):
    source = bc.SafetensorsDataSource(str(path))
    assert isinstance(source, bc.ConvolutionDataSource)
    with pytest.raises(bc.DataSourceError, match="load"):
        source.weights()
    assert source.load()
    assert np.array_equal(source.weights(), WORDS)
    assert source.bias_terms().tolist() == [1, 1, 1, 1]
    assert (source.label(), source.descriptor()) == ("stored", DESC)
    source.purge()
    with pytest.raises(bc.DataSourceError, match="load"):
        source.descriptor()
    again = pickle.loads(pickle.dumps(source))
    assert np.array_equal(bc.BinaryConvolution(again)(IMAGE), bc.BinaryConvolution(source)(IMAGE))


def test_safetensors_source_without_its_layer(path):
    for prefix in ("0", "weights", "layers."):
        with pytest.raises(bc.DataSourceError, match="prefix"):
            bc.BinaryConvolution(bc.SafetensorsDataSource(path, prefix))
    for wrong in (None, 5):
        with pytest.raises(TypeError, match="path"):
            bc.SafetensorsDataSource(wrong)
        with pytest.raises(TypeError, match="prefix"):
            bc.SafetensorsDataSource(path, wrong)


def test_safetensors_source_shared_by_threads(path):
    source, errors = bc.SafetensorsDataSource(path), []
    barrier = threading.Barrier(4)

    def make():
        barrier.wait()
        try:
            for _ in range(20):
                bc.BinaryConvolution(source)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    with pytest.raises(bc.DataSourceError):
        source.weights()
