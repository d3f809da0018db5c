"""What a failed call leaves behind: the destination and the layer as they were, and no memory."""

from __future__ import annotations

import numpy as np
import pytest
from small import conv, image

import binconv as bc
from binconv import _core


@pytest.mark.parametrize(
    "source",
    [image(dtype=np.float64), image(1, 5, 5, 7), image(2, 5, 5, 6), image(1, 9, 5, 6)],
    ids=["dtype", "channels", "images", "height"],
)
def test_a_failed_call_leaves_the_destination(source):
    out = image(1, 5, 5, 4, fill=7)
    with pytest.raises((TypeError, ValueError)):
        conv()(source, out=out)
    assert (out == 7).all()


def test_overlap_of_packed_images_is_refused():
    layer = conv(output_feature_channels=6)
    bits = bc.pack(image())
    before = np.asarray(bits.words).copy()
    with pytest.raises(ValueError, match="overlap"):
        layer.encode(bits, bits)
    assert np.array_equal(bits.words, before)


def test_a_failed_setting_keeps_the_old_value():
    layer = conv()
    layer.offset = bc.Offset(x=1, y=2)
    layer.edge_constant = 0.5
    for name, wrong in (("offset", 5), ("edge_constant", np.nan), ("edge_mode", 99)):
        before = getattr(layer, name)
        with pytest.raises((TypeError, ValueError)):
            setattr(layer, name, wrong)
        assert getattr(layer, name) == before


def test_products_that_overflow_are_refused_before_memory_is_asked_for():
    layer = conv(kernel_width=1, kernel_height=1)

    class Huge:
        def __init__(self, size):
            self.size = size

        def destination(self, source_size, kernel):
            return self.size, bc.Offset()

    for size in ((2**31 - 1, 2**31 - 1), (2**40, 2**40), (2**62, 4)):
        layer.padding = Huge(size)
        for options in ({}, {"packed": True}, {"dtype": np.float16}):
            with pytest.raises((ValueError, MemoryError)):
                layer(image(), **options)
    layer.padding = bc.Padding.explicit(2**31 - 1, 2**31 - 1, 2**31 - 1, 2**31 - 1)
    with pytest.raises((ValueError, MemoryError)):
        layer(image())


@pytest.mark.parametrize("mode", ["CLAMP", "MIRROR", "MIRROR_WITH_EDGE"])
def test_an_empty_source_has_no_edge_to_repeat(mode):
    layer = conv()
    layer.edge_mode = bc.EdgeMode[mode]
    assert layer(image(1, 0, 5, 6)).shape == (1, 0, 5, 4)
    layer.padding = bc.Padding.explicit(2, 2, 2, 2)
    with pytest.raises(ValueError, match=f"source.*{mode}"):
        layer(image(1, 0, 5, 6))
    with pytest.raises(ValueError, match=f"source.*{mode}"):
        layer.encode(image(1, 5, 0, 6), image(1, 5, 5, 4))


def test_a_broadcast_source_of_huge_shape():
    """No copy of a view that claims 2^60 bytes: an error, not a crash."""
    source = np.broadcast_to(np.float32(1), (2**20, 2**18, 2**19, 6))
    with pytest.raises((ValueError, MemoryError)):
        conv()(source)


def test_a_custom_policy_that_raises():
    class Policy:
        def destination(self, source_size, kernel):
            raise ZeroDivisionError("mine")

    layer = conv()
    layer.padding = Policy()
    with pytest.raises(ZeroDivisionError, match="mine"):
        layer(image())


def test_compiled_parts_that_no_layer_made():
    """The compiled module is private, but Python can reach it."""
    source, out = image(), np.zeros((1, 5, 5, 4), np.float32)
    with pytest.raises(ValueError, match="plan"):
        _core.Call(conv()._snapshot.layer, _core.Plan(), source, out)
    assert not _core.run_known([None], source, out)


def test_a_call_is_not_taken_for_an_earlier_one_with_the_same_words():
    """Of packed images the words' shape says neither how many channels there are nor that they are
    packed."""
    layer = conv(input_feature_channels=100)
    words = np.zeros((1, 5, 5, 2), np.uint64)
    source, out = bc.PackedImage(words, 100), np.zeros((1, 5, 5, 4), np.float32)
    packed = layer(source, packed=True)
    for _ in range(2):
        layer(source, out)
        layer(source, packed)
    with pytest.raises(ValueError, match="channels"):
        layer(bc.PackedImage(words, 101), out)
    with pytest.raises(TypeError, match="uint64"):
        layer(words, out)
    with pytest.raises(ValueError, match="shape"):
        layer(source, bc.PackedImage(packed.words, 5))
