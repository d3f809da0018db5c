"""What counts as an image: arrays of any memory and maker, packed images, destinations."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import binconv as bc
from binconv import _arrays

RNG = np.random.default_rng(3)
PLAIN = RNG.integers(-8, 8, (2, 5, 6, 70)).astype(np.float32)


@pytest.fixture(scope="module")
def conv() -> bc.BinaryConvolution:
    desc = bc.ConvolutionDescriptor(3, 3, 70, 9)
    weights = np.random.default_rng(4).normal(size=(9, 3, 3, 70))
    kind = bc.BinaryConvolutionType.BINARY_WEIGHTS
    return bc.BinaryConvolution(bc.ArrayDataSource(desc, weights), type=kind)


class Interface:
    """Like a Pillow image."""

    def __init__(self, array):
        self.array = array

    @property
    def __array_interface__(self):
        return self.array.__array_interface__


class Array:
    def __init__(self, array):
        self.array = array

    def __array__(self, dtype=None, copy=None):
        return self.array


class DLPack:
    def __init__(self, array):
        self.array = array

    def __dlpack__(self, **options):
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


def unaligned(array: np.ndarray) -> np.ndarray:
    memory = np.zeros(array.nbytes + 1, np.uint8)[1:]
    view = memory.view(array.dtype).reshape(array.shape)
    view[...] = array
    assert not view.flags.aligned
    return view


FORMS = {
    "fortran": np.asfortranarray,
    "reversed": lambda a: np.ascontiguousarray(a[:, ::-1, ::-1, ::-1])[:, ::-1, ::-1, ::-1],
    "channels-first": lambda a: np.ascontiguousarray(a.transpose(0, 3, 1, 2)).transpose(0, 2, 3, 1),
    "every-second": lambda a: np.repeat(a, 2, axis=3)[..., ::2],
    "big-endian": lambda a: a.astype(a.dtype.newbyteorder(">")),
    "read-only": lambda a: np.frombuffer(a.tobytes(), a.dtype).reshape(a.shape),
    "unaligned": unaligned,
    "subclass": lambda a: a.view(np.ma.MaskedArray),
    "array": Array,
    "interface": Interface,
    "dlpack": DLPack,
}


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("form", FORMS)
def test_sources_in_any_memory(conv, form, dtype):
    plain = PLAIN.astype(dtype)
    expected = conv(plain)
    assert np.array_equal(conv(FORMS[form](plain)), expected)
    assert expected.dtype == dtype
    assert np.array_equal(bc.pack(FORMS[form](plain)).words, bc.pack(plain).words)


def test_zero_strides(conv):
    image = np.broadcast_to(PLAIN[:, :1, :1], PLAIN.shape)
    assert np.array_equal(conv(image), conv(image.copy()))


def test_torch_tensors(conv):
    torch = pytest.importorskip("torch")
    assert np.array_equal(conv(torch.from_numpy(PLAIN)), conv(PLAIN))
    channels_last = torch.from_numpy(PLAIN).permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1)
    assert np.array_equal(conv(channels_last), conv(PLAIN))
    for wrong in (
        torch.zeros(5, 6, 70, requires_grad=True),
        torch.zeros(5, 6, 70, dtype=torch.bfloat16),
        torch.zeros(5, 6, 70, dtype=torch.float64),
        torch.zeros(5, 6, 70, device="meta"),
    ):
        with pytest.raises(TypeError, match="source"):
            conv(wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        PLAIN.astype(np.float64),
        PLAIN.astype(np.int32),
        PLAIN.astype(np.int8),
        PLAIN > 0,
        PLAIN.astype(complex),
        PLAIN.astype(object),
        PLAIN.astype(np.longdouble),
        PLAIN.astype("U2"),
        PLAIN.tolist(),
        "image",
        None,
        3.0,
    ],
    ids=lambda wrong: str(getattr(wrong, "dtype", type(wrong).__name__)),
)
def test_what_is_no_source(conv, wrong):
    with pytest.raises(TypeError, match="source"):
        conv(wrong)
    with pytest.raises(TypeError, match="image"):
        bc.pack(wrong)


def test_float64_is_told_what_to_do(conv):
    with pytest.raises(TypeError, match=r"float64.*source\.astype\(numpy\.float32\)"):
        conv(PLAIN.astype(np.float64))


DESTINATIONS = {
    "fortran": lambda shape: np.empty(shape, np.float32, order="F"),
    "reversed": lambda shape: np.empty(shape, np.float32)[:, ::-1, :, ::-1],
    "every-second": lambda shape: np.empty((*shape[:3], 2 * shape[3]), np.float32)[..., ::2],
    "big-endian": lambda shape: np.empty(shape, ">f4"),
    "unaligned": lambda shape: unaligned(np.zeros(shape, np.float32)),
    "subclass": lambda shape: np.empty(shape, np.float32).view(np.ma.MaskedArray),
}


@pytest.mark.parametrize("form", DESTINATIONS)
def test_destinations_in_any_memory(conv, form):
    expected = conv(PLAIN)
    out = DESTINATIONS[form](expected.shape)
    assert conv(PLAIN, out=out) is out
    assert np.array_equal(np.asarray(out), expected)
    part = DESTINATIONS[form]((2, 4, 5, 12))
    part[...] = 7
    other = copy.copy(conv)
    other.clip_rect = bc.Region((1, 2, 1), (2, 9, 9))
    other.destination_feature_channel_offset = 2
    plain = np.full((2, 4, 5, 12), 7, np.float32)
    other.encode(PLAIN, plain)
    assert other.encode(PLAIN, part) is part
    assert np.array_equal(np.asarray(part), plain)
    assert (plain[1, 2:, 1:3, 2:11] != 7).any()
    plain[1, 2:, 1:3, 2:11] = 7
    assert (plain == 7).all()


def test_interleaved_memory_does_not_overlap(conv):
    """Bounds overlap, elements do not."""
    memory = np.zeros((2, 5, 6, 79), np.float32)
    memory[..., :70] = PLAIN
    out = memory[..., 70:]
    conv(memory[..., :70], out=out)
    assert np.array_equal(out, conv(PLAIN))
    assert np.array_equal(memory[..., :70], PLAIN)


@pytest.mark.parametrize("make", [lambda m: m[..., 1:10], lambda m: m[..., 9::-1][..., :9]])
def test_memory_that_overlaps(conv, make):
    memory = np.zeros((2, 5, 6, 79), np.float32)
    before = memory.copy()
    with pytest.raises(ValueError, match=r"out.*overlap"):
        conv(memory[..., :70], out=make(memory))
    assert np.array_equal(memory, before)


def strided(shape, strides):
    """Writable zeros of float32 with these strides, counted in elements, over as much memory."""
    extent = sum((n - 1) * abs(stride) for n, stride in zip(shape, strides, strict=True))
    start = -sum((n - 1) * min(stride, 0) for n, stride in zip(shape, strides, strict=True))
    memory = np.zeros(max(extent, 0) + 1, np.float32)
    steps = tuple(4 * stride for stride in strides)
    return np.lib.stride_tricks.as_strided(memory[start:], shape, steps)


@pytest.mark.parametrize(
    "strides",
    [
        (270, 54, 9, 0),
        (0, 54, 9, 1),
        (270, 54, 8, 1),
        (270, -54, -8, 1),
        (1, 5, 10, 50),
        (270, 53, 9, 1),
        (5, 3, 7, 11),
    ],
)
def test_destinations_whose_elements_overlap(conv, strides):
    """Whichever of the threads came last would decide what is in them."""
    out = strided((2, 5, 6, 9), strides)
    with pytest.raises(ValueError, match=r"out: .*overlap"):
        conv(PLAIN, out=out)
    with pytest.raises(ValueError, match=r"destination: .*overlap"):
        conv.encode(PLAIN, out)
    with pytest.raises(ValueError, match=r"destination: .*overlap"):
        conv.encode_batch([PLAIN], [out])
    with pytest.raises(ValueError, match=r"out: .*overlap"):
        bc.Sequential(conv)(PLAIN, out=out)
    assert not out.any()


def test_destinations_whose_bytes_overlap(conv):
    """Less than an element from one to the next."""
    memory = np.zeros(1000, np.float32)
    out = np.lib.stride_tricks.as_strided(memory, (2, 5, 6, 9), (1200, 240, 40, 2))
    with pytest.raises(ValueError, match=r"out: .*overlap"):
        conv(PLAIN, out=out)


@pytest.mark.parametrize(
    "strides", [(-300, 60, -10, 1), (1, 2, 10, 60), (3, 500, -84, 9), (540, 108, 18, 2)]
)
def test_unusual_strides_are_no_overlap(conv, strides):
    out = strided((2, 5, 6, 9), strides)
    conv(PLAIN, out=out)
    assert np.array_equal(out, conv(PLAIN))


def test_overlap_within_an_array_is_found_exactly():
    """Also strides that interleave, for which bounds alone tell nothing."""
    rng = np.random.default_rng(5)
    found = set()
    for _ in range(400):
        shape = tuple(map(int, rng.integers(1, 5, 3)))
        array = strided(shape, tuple(map(int, rng.integers(-12, 13, 3))))
        addresses = np.zeros(shape, np.int64)
        for axis, (n, stride) in enumerate(zip(shape, array.strides, strict=True)):
            addresses += np.arange(n).reshape([-1 if k == axis else 1 for k in range(3)]) * stride
        overlaps = np.unique(addresses).size < addresses.size
        assert _arrays.overlaps_itself(array) == overlaps
        found.add(overlaps)
    assert found == {False, True}
    assert not _arrays.overlaps_itself(np.zeros((0, 3), np.float32)[:, ::2])
    assert not _arrays.overlaps_itself(np.zeros((), np.float32))


def test_packed_image():
    words = np.zeros((1, 2, 3, 2), np.uint64)
    image = bc.PackedImage(words, 70)
    assert image.words is words
    assert (image.shape, image.ndim, image.channels) == ((1, 2, 3, 70), 4, 70)
    assert "70" in repr(image)
    assert (image.unpack(np.int8) == -1).all()
    assert image.unpack().dtype == np.float32
    words[0, 1, 2, 1] = 1
    assert image.unpack(np.int8)[0, 1, 2].tolist() == [-1] * 64 + [1] + [-1] * 5
    for other in (copy.copy(image), copy.deepcopy(image), pickle.loads(pickle.dumps(image))):
        assert other == image
        other.words[...] = 0
        assert other != image
    assert bc.PackedImage(np.zeros((1, 2, 3, 1), np.uint64), 64) != image
    with pytest.raises(TypeError, match="unhashable"):
        hash(image)
    for wrong in (bool, np.uint8, complex, "U1"):
        with pytest.raises(TypeError, match="dtype"):
            image.unpack(wrong)


@pytest.mark.parametrize(
    ("words", "channels", "error"),
    [
        (np.zeros((2, 3, 2), np.uint64), 70, ValueError),
        (np.zeros((1, 2, 3, 1), np.uint64), 70, ValueError),
        (np.zeros((1, 2, 3, 2), np.uint64), 64, ValueError),
        (np.zeros((1, 2, 3, 2), np.int64), 70, TypeError),
        (np.zeros((1, 2, 3, 2), np.uint64).tolist(), 70, TypeError),
        (np.full((1, 2, 3, 2), 2**64 - 1, np.uint64), 70, ValueError),
        (np.zeros((1, 2, 3, 0), np.uint64), 0, ValueError),
        (np.zeros((1, 2, 3, 2), np.uint64), 70.0, TypeError),
        (np.zeros((1, 2, 3, 1), np.uint64), True, TypeError),
    ],
)
def test_packed_images_that_are_none(words, channels, error):
    with pytest.raises(error, match="words|channels"):
        bc.PackedImage(words, channels)


@pytest.mark.parametrize(
    ("arguments", "error", "name"),
    [
        ({"image": PLAIN[0, 0]}, ValueError, "image"),
        ({"image": PLAIN[..., :0]}, ValueError, "image"),
        ({"image": bc.PackedImage(np.zeros((1, 1, 1, 1), np.uint64), 3)}, TypeError, "image"),
        ({"image": PLAIN, "bias": np.zeros(69)}, ValueError, "bias"),
        ({"image": PLAIN, "scale": np.zeros((70, 1))}, ValueError, "scale"),
        ({"image": PLAIN, "scale": 2.0}, TypeError, "scale"),
        ({"image": PLAIN, "bias": np.full(70, np.nan)}, ValueError, "bias"),
        ({"image": PLAIN, "bias": np.ones(70, bool)}, TypeError, "bias"),
    ],
)
def test_pack_with_wrong_arguments(arguments, error, name):
    with pytest.raises(error, match=name):
        bc.pack(**arguments)
