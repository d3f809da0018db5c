"""The manual form: offset, clip rectangle, channel offsets, and all that must stay untouched."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import reference as ref
from building import convolution, make, package_source, pixels, source_of, takes_bits
from hypothesis import given
from hypothesis import strategies as st
from strategies import layers, seeds, wide_layers

import binconv as bc


@dataclass(frozen=True)
class Manual:
    """What encode() reads; clip is ((y, x, z), (height, width, depth))."""

    offset: tuple[int, int] = (0, 0)
    first_image: int = 0
    clip: tuple[tuple[int, int, int], tuple[int, int, int]] | None = None
    source_channel: int = 0
    source_max: int | None = None
    destination_channel: int = 0

    def apply(self, conv: bc.BinaryConvolution) -> None:
        conv.offset = bc.Offset(x=self.offset[1], y=self.offset[0], z=self.first_image)
        if self.clip is not None:
            (y, x, z), (height, width, depth) = self.clip
            conv.clip_rect = bc.Region(origin=(x, y, z), size=(width, height, depth))
        conv.source_feature_channel_offset = self.source_channel
        if self.source_max is not None:
            conv.source_feature_channel_max_count = self.source_max
        conv.destination_feature_channel_offset = self.destination_channel


class Destination:
    """An array or a packed image filled with sentinels, as the package sees it and as values."""

    def __init__(self, shape: tuple[int, int, int, int], form: str, rng: np.random.Generator):
        self.form, self.channels = form, shape[3]
        if form == "packed":
            self.before = rng.integers(0, 2, shape)
            self.given = bc.pack(np.where(self.before == 1, 1, -1).astype(np.float32))
        else:
            self.before = np.full(shape, -12344.0, form)
            self.before[...] += rng.integers(0, 2, shape).astype(form) * 8
            self.given = self.before.copy()

    def after(self) -> np.ndarray:
        if self.form != "packed":
            return self.given
        words = np.asarray(self.given.words)
        bits = ref.unpack(words, self.channels)
        assert np.array_equal(ref.pack(bits), words), "bits past the last channel are not 0"
        return bits


def check_encode(
    layer: ref.Layer, source: np.ndarray | ref.Bits, manual: Manual, destination: Destination
) -> None:
    """Runs encode() and compares what it wrote, and what it must not have written."""
    conv = convolution(layer)
    manual.apply(conv)
    conv.encode(package_source(source), destination.given)
    after = destination.after()

    images, height, width, _ = destination.before.shape
    (y, x, z), (h, w, d) = manual.clip or ((0, 0, 0), (height, width, images))
    h, w = max(0, min(h, height - y)), max(0, min(w, width - x))
    d = max(0, min(d, images - z))
    written = np.zeros(after.shape, bool)
    k = manual.destination_channel
    box = np.s_[z : z + d, y : y + h, x : x + w, k : k + layer.destination_channels]
    written[box] = True
    assert np.array_equal(after[~written], destination.before[~written]), "wrote outside the clip"
    if not written.any():
        return

    take = np.s_[
        manual.first_image : manual.first_image + d,
        :,
        :,
        manual.source_channel : manual.source_channel + layer.input_channels,
    ]
    part = ref.Bits(source.bits[take]) if isinstance(source, ref.Bits) else source[take]
    r = layer.subpixel
    result = ref.run(layer, part, (-(-h // r), -(-w // r)), manual.offset)
    cut = {name: getattr(result, name)[:, :h, :w] for name in ("chain", "value", "low", "high")}
    ref.check(after[box], ref.Result(result.sums, **cut))


@st.composite
def manuals(draw: st.DrawFn, size: tuple[int, int, int]) -> Manual:
    """Settings for a destination of size (images, height, width)."""
    small = st.integers(-9, 9)
    clip = None
    if draw(st.booleans()):
        images, height, width = size
        clip = (
            (
                draw(st.integers(0, height + 1)),
                draw(st.integers(0, width + 1)),
                draw(st.integers(0, images)),
            ),
            tuple(draw(st.sampled_from([0, 1, 2, 3, 5, 8, 10**12])) for _ in range(3)),
        )
    return Manual(
        offset=(draw(small), draw(small)),
        first_image=draw(st.integers(0, 2)),
        clip=clip,
        source_channel=draw(st.sampled_from([0, 0, 1, 3, 31, 33, 64, 70])),
        destination_channel=draw(st.sampled_from([0, 0, 1, 3, 7, 33, 63, 64, 65])),
    )


@given(layers() | wide_layers(), st.data(), seeds())
def test_random_encodes(layer, data, rng):
    size = tuple(data.draw(st.integers(low, 7)) for low in (0, 0, 0))
    manual = data.draw(manuals((min(size[0], 2), *size[1:])))
    forms = ["float32", "float16", "uint8"] + (["packed"] if takes_bits(layer) else [])
    channels = manual.source_channel + layer.input_channels
    if manual.source_channel:
        channels += data.draw(st.sampled_from([0, 1, 40]))
    source_size = (data.draw(st.integers(1, 6)), data.draw(st.integers(1, 6)))
    source = source_of(rng, (4, *source_size, channels), data.draw(st.sampled_from(forms)))
    spare = data.draw(st.sampled_from([0, 1, 5, 64]))
    shape = (
        min(size[0], 2),
        size[1],
        size[2],
        manual.destination_channel + layer.destination_channels + spare,
    )
    form = data.draw(st.sampled_from(["float32", "float16", "packed"]))
    check_encode(layer, source, manual, Destination(shape, form, rng))


@pytest.mark.parametrize("type_", ["XNOR", "AND"])
@pytest.mark.parametrize("neuron", ["NONE", "RELU", "PRELU", "ABSOLUTE"])
@pytest.mark.parametrize(
    "clip",
    [
        None,
        ((1, 2, 0), (4, 5, 2)),  # rows and images with gaps between them
        ((0, 0, 0), (5, 9, 2)),  # images with gaps
        ((0, 3, 1), (7, 1, 2)),  # columns
        ((2, 0, 0), (1, 9, 3)),  # one row of each image
    ],
)
def test_long_windows_into_a_part(type_, neuron, clip):
    """Layers whose sums some ISAs turn into results at once, wherever these go."""
    rng = np.random.default_rng(75)
    slope = rng.normal(size=64).astype(np.float32) if neuron == "PRELU" else 0.25
    layer = make(
        76,
        64,
        (3, 3),
        64,
        type=type_,
        neuron=ref.Neuron(neuron, a=slope),
        scale=rng.normal(size=64).astype(np.float32),
        bias=rng.normal(size=64).astype(np.float32) * 9,
    )
    source = pixels(rng, (3, 7, 9, 64), "float32")
    for channel, spare in ((0, 0), (3, 2)):
        destination = Destination((3, 7, 9, channel + 64 + spare), "float32", rng)
        check_encode(layer, source, Manual(clip=clip, destination_channel=channel), destination)


@pytest.mark.parametrize("form", ["float32", "float16", "packed"])
@pytest.mark.parametrize("channel", [0, 1, 3, 5, 31, 32, 33, 63, 64, 65, 100])
def test_destination_channel_offsets(form, channel):
    """Next to a word's border and across it, with channels after it that stay."""
    rng = np.random.default_rng(71)
    source = pixels(rng, (1, 3, 4, 20), "float32")
    for o, spare in ((1, 0), (9, 1), (64, 3), (70, 60)):
        layer = make(72, o, (2, 2), 20)
        destination = Destination((1, 3, 4, channel + o + spare), form, rng)
        check_encode(layer, source, Manual(destination_channel=channel), destination)


@pytest.mark.parametrize("form", ["float32", "float16", "uint8", "packed"])
@pytest.mark.parametrize("channel", [0, 1, 3, 31, 32, 33, 63, 64, 65, 100])
def test_source_channel_offsets(form, channel):
    rng = np.random.default_rng(73)
    for cg, spare in ((1, 0), (20, 1), (64, 0), (70, 90)):
        source = source_of(rng, (1, 3, 4, channel + cg + spare), form)
        manual = Manual(source_channel=channel, source_max=cg)
        check_encode(
            make(74, 9, (2, 2), cg), source, manual, Destination((1, 3, 4, 9), "float32", rng)
        )


def test_source_channel_offset_of_calls_too():
    """conv(x) reads the same slice, and a new result starts with channels of zero."""
    rng = np.random.default_rng(75)
    layer = make(76, 9, (3, 3), 10)
    conv = convolution(layer)
    source = pixels(rng, (1, 4, 5, 17), "float32")
    conv.source_feature_channel_offset = 5
    expected = ref.run(layer, source[..., 5:15], (4, 5), (0, 0))
    ref.check(conv(source), expected)
    conv.destination_feature_channel_offset = 3
    result = conv(source)
    assert result.shape == (1, 4, 5, 12)
    assert (result[..., :3] == 0).all()
    ref.check(result[..., 3:], expected)
    bits = conv(source, packed=True)
    assert bits.channels == 12
    unpacked = ref.unpack(np.asarray(bits.words), 12)
    assert (unpacked[..., :3] == 0).all()
    ref.check(unpacked[..., 3:], expected)
    out = np.full((1, 4, 5, 14), 7, np.float32)
    conv(source, out=out)
    assert (out[..., :3] == 7).all()
    assert (out[..., 12:] == 7).all()
    ref.check(out[..., 3:12], expected)


@pytest.mark.parametrize("form", ["float32", "float16", "packed"])
@pytest.mark.parametrize("type_", ["XNOR", "AND", "BINARY_WEIGHTS"])
def test_offset_and_clip(type_, form):
    rng = np.random.default_rng(77)
    source = pixels(rng, (3, 6, 7, 20), "float32")
    layer = make(78, 9, (3, 2), 20, type=type_, strides=(2, 1), dilations=(1, 2))
    for manual in (
        Manual(),
        Manual(offset=(3, -2)),
        Manual(offset=(-50, 70)),
        Manual(clip=((1, 2, 0), (3, 2, 2))),
        Manual(offset=(1, 1), clip=((4, 0, 1), (100, 3, 100)), first_image=2),
        Manual(clip=((5, 5, 0), (0, 3, 1))),
        Manual(clip=((0, 0, 2), (2, 2, 5))),
    ):
        check_encode(layer, source, manual, Destination((2, 5, 6, 9), form, rng))


@pytest.mark.parametrize("form", ["float32", "packed"])
@pytest.mark.parametrize("r", [2, 3])
def test_subpixel_with_a_clip_rectangle(r, form):
    """Blocks count from the clip origin; those at the end are cut."""
    rng = np.random.default_rng(79)
    layer = make(80, 4 * r * r, (3, 3), 10, subpixel=r)
    source = pixels(rng, (1, 4, 5, 10), "float32")
    for clip in (
        None,
        ((0, 0, 0), (4, 6, 1)),
        ((1, 2, 0), (5, 4, 1)),
        ((3, 5, 0), (2, 1, 1)),
        ((6, 1, 0), (99, 99, 1)),
    ):
        destination = Destination((1, 7, 8, 6), form, rng)
        check_encode(layer, source, Manual(clip=clip, destination_channel=1), destination)


def test_settings_changed_between_runs_take_effect():
    """What a layer keeps from one run to the next must notice every change."""
    rng = np.random.default_rng(171)
    layer = make(172, 9, (3, 2), 10, input_bias=np.full(10, 0.25, np.float32))
    conv = convolution(layer)
    for turn in range(200):
        edge_mode = rng.choice(["ZERO", "CLAMP", "CONSTANT", "EXCLUDE"])
        # -0.25 makes +0, bit 1; what is less makes bit 0
        constant = float(rng.choice([-0.5, -0.25, 0.0])) if edge_mode == "CONSTANT" else 0.0
        if turn % 50 == 49:
            fresh = make(turn, 9, (3, 2), 10)
            layer = replace(layer, weights=fresh.weights)
            conv.reload_weights_and_biases(convolution(layer).data_source)
        layer = replace(layer, edge_mode=edge_mode, edge_constant=constant)
        conv.edge_mode, conv.edge_constant = bc.EdgeMode[edge_mode], constant
        y, x = int(rng.integers(-2, 3)), int(rng.integers(-2, 3))
        conv.offset = bc.Offset(x=x, y=y, z=int(rng.integers(2)))
        conv.source_feature_channel_offset = first = int(rng.integers(3))
        conv.source_feature_channel_max_count = 10
        conv.destination_feature_channel_offset = k = int(rng.integers(3))
        height, width = int(rng.integers(1, 4)), int(rng.integers(1, 4))
        source = pixels(rng, (2, height, width, 12), rng.choice(["float32", "float16"]))
        z = conv.offset.z
        destination = np.full((1, 3, 4, 11), 7, rng.choice(["float32", "float16"]))
        conv.encode(source, destination)
        part = source[z : z + 1, :, :, first : first + 10]
        ref.check(destination[..., k : k + 9], ref.run(layer, part, (3, 4), (y, x)))
        ref.check(
            conv(source)[..., k:],
            ref.run(layer, source[..., first : first + 10], (height, width), (0, 0)),
        )


def test_padding_is_ignored():
    rng = np.random.default_rng(81)
    layer = make(82, 9, (3, 3), 10)
    conv = convolution(layer)
    conv.padding = bc.Padding(bc.PaddingMethod.SIZE_FULL)
    source = pixels(rng, (1, 4, 5, 10), "float32")
    destination = np.empty((1, 2, 3, 9), np.float32)
    conv.encode(source, destination)
    ref.check(destination, ref.run(layer, source, (2, 3), (0, 0)))
    ref.check(conv.encode(source), ref.run(layer, source, (6, 7), (-1, -1)))


def test_three_dimensions():
    rng = np.random.default_rng(83)
    layer = make(84, 9, (3, 3), 10)
    source = pixels(rng, (4, 5, 10), "float32")
    destination = np.full((4, 5, 9), 7, np.float32)
    convolution(layer).encode(source, destination)
    ref.check(destination[None], ref.run(layer, source[None], (4, 5), (0, 0)))


@pytest.mark.parametrize("first_image", [2, 3, 2**31 - 1])
def test_source_images_must_exist(first_image):
    conv = convolution(make(85, 9, (3, 3), 10))
    conv.offset = bc.Offset(x=0, y=0, z=first_image)
    destination = np.full((2, 4, 5, 9), 7, np.float32)
    with pytest.raises(ValueError, match="offset"):
        conv.encode(np.ones((3, 4, 5, 10), np.float32), destination)
    assert (destination == 7).all()


def test_encode_batch_is_encode_for_each():
    rng = np.random.default_rng(86)
    layer = make(87, 9, (3, 3), 10)
    conv = convolution(layer)
    conv.offset = bc.Offset(x=1, y=-1)
    sources = [pixels(rng, (1, 4, 5, 10), "float32") for _ in range(3)]
    destinations = [np.empty((1, 3, 3, 9), np.float32) for _ in sources]
    conv.encode_batch(sources, destinations)
    for source, destination in zip(sources, destinations, strict=True):
        ref.check(destination, ref.run(layer, source, (3, 3), (-1, 1)))
    results = conv.encode_batch(sources)
    assert len(results) == 3
    for source, result in zip(sources, results, strict=True):
        ref.check(result, ref.run(layer, source, (4, 5), (0, 0)))
    with pytest.raises(ValueError, match="destination"):
        conv.encode_batch(sources, destinations[:2])


@pytest.mark.parametrize("edge_mode", ["CLAMP", "MIRROR", "MIRROR_WITH_EDGE"])
def test_no_edge_to_repeat(edge_mode):
    conv = convolution(make(45, 9, (3, 3), 10, edge_mode=edge_mode))
    source, destination = np.ones((1, 0, 4, 10), np.float32), np.full((1, 2, 2, 9), 7, np.float32)
    with pytest.raises(ValueError, match="source: expected at least one pixel"):
        conv.encode(source, destination)
    assert (destination == 7).all()


def test_encode_batch_sees_the_layer_as_it_was_when_it_began():
    conv = convolution(make(89, 9, (3, 3), 10))
    image = np.ones((1, 4, 5, 10), np.float32)

    class Meddler:
        def __array__(self, dtype=None, copy=None):
            conv.edge_mode = bc.EdgeMode.EXCLUDE
            return image

    expected = conv(image)
    for result in conv.encode_batch([image, Meddler(), image]):
        assert np.array_equal(result, expected)
    assert not np.array_equal(conv(image), expected)


def test_destination_size():
    layer = make(88, 18, (3, 2), 10, strides=(2, 3), dilations=(2, 1), subpixel=3)
    conv = convolution(layer)
    for style in ("VALID_ONLY", "SAME", "FULL"):
        conv.padding = bc.Padding(bc.PaddingMethod[f"SIZE_{style}"])
        (height, width), _ = ref.padding(layer, (9, 8), style)
        assert tuple(conv.destination_size((9, 8))) == (3 * height, 3 * width)


def test_source_region_holds_all_that_a_destination_reads():
    """Origin and size of the smallest box of the taps of the destination's pixels."""
    layer = make(89, 9, (3, 2), 10, strides=(2, 3), dilations=(2, 1))
    conv = convolution(layer)
    conv.offset = bc.Offset(x=5, y=-4)
    region = conv.source_region((4, 6))
    rows = [-4 + y * 2 - (5 >> 1) + i * 2 for y in range(4) for i in range(3)]
    columns = [5 + x * 3 - (2 >> 1) + j for x in range(6) for j in range(2)]
    assert tuple(region.origin)[:2] == (min(columns), min(rows))
    assert tuple(region.size)[:2] == (
        max(columns) - min(columns) + 1,
        max(rows) - min(rows) + 1,
    )
