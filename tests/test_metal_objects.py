"""Devices, images, command buffers and layers of the GPU as objects, and their errors."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
import threading

import numpy as np
import pytest
from building import pixels
from metal_adapter import bm, device
from small import conv, image

import binconv as bc


@pytest.fixture
def layer() -> bm.BinaryConvolution:
    return bm.BinaryConvolution.from_cpu(conv())


def run(code: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        env={**__import__("os").environ, **environment},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


# ---- Devices -------------------------------------------------------------------------------------


def test_binconv_does_not_import_wgpu():
    assert run("import sys, binconv; print('wgpu' in sys.modules)") == "False"


def test_without_wgpu_the_extra_is_named():
    code = """
import sys
sys.modules["wgpu"] = None
try:
    import binconv.metal
except ImportError as error:
    print(error)
"""
    assert "pip install binconv[metal]" in run(code)


def test_show_config(capsys):
    config = bm.show_config("dicts")
    assert config["Device"]["backend"] == device.backend
    assert config["Device"]["adapter"] == device.name
    assert any(adapter["name"] == device.name for adapter in config["Adapters"])
    bm.show_config()
    assert device.name in capsys.readouterr().out
    with pytest.raises(ValueError, match="mode"):
        bm.show_config("yaml")


def test_a_backend_that_is_not_there():
    absent = next(name for name in ("Metal", "D3D12") if name != device.backend)
    with pytest.raises(bm.DeviceError, match=f"(?s)through {absent}.*found .*{device.backend}"):
        bm.Device(absent)
    with pytest.raises(bm.DeviceError, match="no such thing"):
        bm.Device(adapter="no such thing")
    with pytest.raises(ValueError, match="backend: expected one of Metal, Vulkan"):
        bm.Device("Glide")
    with pytest.raises(TypeError, match="backend"):
        bm.Device(3)


def test_a_device_by_name():
    again = bm.Device(device.backend.lower(), device.name.upper()[:4])
    assert (again.backend, again.name) == (device.backend, device.name)
    again.close()


def test_the_environment_chooses_the_backend():
    code = """
import binconv.metal as bm
try:
    print(bm.Device.default().backend)
except (bm.DeviceError, ValueError) as error:
    print(type(error).__name__, error)
"""
    absent = next(name for name in ("metal", "d3d12") if name != device.backend.lower())
    assert run(code, BINCONV_METAL_BACKEND=device.backend.upper()) == device.backend
    assert run(code, BINCONV_METAL_BACKEND=absent).startswith("DeviceError")
    answer = run(code, BINCONV_METAL_BACKEND="glide")
    assert answer.startswith("ValueError BINCONV_METAL_BACKEND: expected one of Metal")


def test_no_adapter_at_all():
    code = """
import binconv.metal as bm
from binconv.metal import device
device.wgpu.gpu.enumerate_adapters_sync = list
try:
    bm.Device()
except bm.DeviceError as error:
    print(error)
"""
    assert run(code) == "device: expected a GPU, found no adapter at all"


def test_a_closed_device_is_an_error_everywhere():
    other = bm.Device()
    layer = bm.BinaryConvolution.from_cpu(conv(), other)
    picture, commands = bm.Image(image(), other), bm.CommandBuffer(other)
    result = layer.encode(commands, picture)
    other.close()
    other.close()
    for use in (
        commands.commit,
        picture.numpy,
        result.numpy,
        lambda: picture.write(image()),
        lambda: layer(image()),
        lambda: layer.encode(bm.CommandBuffer(other), picture),
        lambda: bm.Image(image(), other),
        lambda: bm.BinaryConvolution.from_cpu(conv(), other),
    ):
        with pytest.raises(bm.DeviceError, match="closed"):
            use()


def test_a_device_that_is_lost_is_an_error_everywhere():
    """Taken away behind the package's back: every call says so, and none hangs."""
    other = bm.Device()
    layer = bm.BinaryConvolution.from_cpu(conv(), other)
    picture, commands = bm.Image(image(), other), bm.CommandBuffer(other)
    result = layer.encode(commands, picture)
    other._device.destroy()
    for use in (
        commands.commit,
        picture.numpy,
        result.numpy,
        lambda: picture.write(image()),
        lambda: layer(image()),
        lambda: bm.Image(image(), other),
        lambda: bm.BinaryConvolution.from_cpu(conv(), other),
    ):
        with pytest.raises(bm.DeviceError, match="lost"):
            use()
    assert np.array_equal(bm.BinaryConvolution.from_cpu(conv())(image()), conv()(image()))


def test_a_default_device_that_was_closed_is_made_anew():
    code = """
import binconv.metal as bm
first = bm.Device.default()
assert bm.Device.default() is first
first.close()
second = bm.Device.default()
assert second is not first
bm.Image.empty((1, 1, 1, 1)).numpy()
"""
    run(code)


# ---- Limits --------------------------------------------------------------------------------------


@pytest.fixture
def small_device(monkeypatch) -> bm.Device:
    """One that takes no buffers above 4 KiB."""
    other = bm.Device()
    real = other._device.limits

    class Limits(dict):
        pass

    limits = Limits(real)
    limits["max-storage-buffer-binding-size"] = 4096
    monkeypatch.setattr(type(other._device), "limits", property(lambda self: limits))
    return other


@pytest.mark.parametrize("packed", [False, True])
def test_a_batch_over_the_limits_runs_in_parts(small_device, packed):
    cpu = conv()
    layer = bm.BinaryConvolution.from_cpu(cpu, small_device)
    source = np.round(pixels(np.random.default_rng(1), (50, 5, 5, 6), "float32") * 3)
    assert source.nbytes > 4 * 4096
    actual, expected = layer(source, packed=packed), cpu(source, packed=packed)
    assert actual == expected if packed else np.array_equal(actual, expected)
    stack = bm.Sequential(layer)
    assert np.array_equal(stack(source), cpu(source))
    assert max(size[2][0] for size in enumerate_staged(small_device)) < 50


def enumerate_staged(device: bm.Device):
    return [(None, role, shape) for role, shape, _ in device._staged]


def test_an_image_over_the_limits_names_the_limit(small_device):
    message = "expected at most 4096 bytes, the limit max-storage-buffer-binding-size"
    with pytest.raises(ValueError, match=f"image: {message}"):
        bm.Image(image(1, 20, 20, 6), small_device)
    with pytest.raises(ValueError, match=message):
        bm.BinaryConvolution.from_cpu(conv(), small_device)(image(2, 20, 20, 6))


def test_an_image_that_no_adapter_takes():
    with pytest.raises(ValueError, match="image: expected at most .* bytes, the limit max-"):
        bm.Image.empty((2**20, 2**10, 2**10, 64))


# ---- Images --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8"])
def test_images_are_copies(dtype):
    array = pixels(np.random.default_rng(2), (2, 3, 5, 7), dtype)
    expected = array.copy()
    picture = bm.Image(array)
    array[...] = 0
    assert (picture.shape, picture.form, picture.nbytes) == ((2, 3, 5, 7), dtype, array.nbytes)
    assert picture.numpy().tobytes() == expected.tobytes()
    picture.write(array)
    assert picture.numpy().tobytes() == array.tobytes()
    assert bm.Image(expected[0]).shape == (1, 3, 5, 7)
    assert np.array_equal(bm.Image(expected[:, ::2, ::-1]).numpy(), expected[:, ::2, ::-1])


def test_images_of_bits():
    bits = bc.pack(pixels(np.random.default_rng(3), (2, 3, 5, 70), "float32"))
    picture = bm.Image(bits)
    assert (picture.shape, picture.form) == ((2, 3, 5, 70), "bits")
    assert picture.numpy() == bits
    empty = bm.Image.empty((2, 3, 5, 70), "bits")
    assert not empty.numpy().words.any()
    empty.write(bits)
    assert empty.numpy() == bits


@pytest.mark.parametrize("shape", [(0, 3, 5, 7), (2, 0, 5, 7), (1, 3, 5, 1)])
def test_images_with_few_or_no_pixels(shape):
    assert bm.Image(np.ones(shape, np.float16)).numpy().shape == shape
    assert bm.Image.empty(shape).numpy().shape == shape


def test_what_makes_no_image():
    for array, kind, message in (
        (np.ones((2, 2)), TypeError, "array: expected float32, float16 or uint8"),
        (np.ones((2, 2), np.float32), ValueError, "array: expected shape"),
        ([[[1.0]]], TypeError, "array"),
    ):
        with pytest.raises(kind, match=message):
            bm.Image(array)
    with pytest.raises(TypeError, match="device: expected a Device"):
        bm.Image(image(), "cuda")
    with pytest.raises(ValueError, match="form"):
        bm.Image.empty((1, 1, 1, 1), "uint8")
    with pytest.raises(ValueError, match="shape"):
        bm.Image.empty((1, -1, 1, 1))
    with pytest.raises(TypeError, match="shape"):
        bm.Image.empty((1, 1, 1))
    with pytest.raises(ValueError, match="array: expected float32 of shape"):
        bm.Image(image()).write(image(1, 5, 5, 7))
    for thing in (bm.Image(image()), device):
        with pytest.raises(TypeError, match="travel"):
            pickle.dumps(thing)


@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8"])
@pytest.mark.parametrize("channels", [1, 31, 32, 33, 64, 65, 130])
def test_packing_makes_the_words_of_the_cpu(dtype, channels):
    rng = np.random.default_rng(4)
    array = pixels(rng, (2, 3, 5, channels), dtype)
    if dtype != "uint8":
        tiny = np.finfo(dtype).smallest_subnormal
        special = np.array([np.nan, -np.nan, np.inf, -np.inf, tiny, -tiny, 0.0, -0.0], dtype)
        array[0] = np.resize(special, array[0].shape)
    terms = rng.normal(size=(2, channels)).astype(np.float32)
    for bias, scale in ((None, None), (terms[0], None), (None, terms[1]), (terms[0], terms[1])):
        commands = bm.CommandBuffer()
        bits = bm.pack(commands, bm.Image(array), bias, scale)
        commands.commit()
        assert bits.numpy() == bc.pack(array, bias, scale)


def test_what_is_not_packed():
    commands = bm.CommandBuffer()
    with pytest.raises(TypeError, match="image: expected a"):
        bm.pack(commands, image())
    with pytest.raises(TypeError, match="image: expected an image of reals"):
        bm.pack(commands, bm.Image.empty((1, 1, 1, 1), "bits"))
    with pytest.raises(ValueError, match="bias"):
        bm.pack(commands, bm.Image(image()), np.ones(7))
    with pytest.raises(ValueError, match="image: expected one of the command buffer's device"):
        bm.pack(bm.CommandBuffer(bm.Device()), bm.Image(image()))


# ---- Command buffers -----------------------------------------------------------------------------


def test_what_a_command_buffer_refuses(layer):
    commands = bm.CommandBuffer()
    with pytest.raises(ValueError, match="committed"):
        commands.wait_until_completed()
    with pytest.raises(ValueError, match="timed"):
        _ = commands.gpu_time
    commands.commit()
    commands.wait_until_completed()
    assert commands.is_committed
    for use in (commands.commit, lambda: layer.encode(commands, bm.Image(image()))):
        with pytest.raises(ValueError, match="not committed yet"):
            use()
    with pytest.raises(TypeError, match="command_buffer: expected a CommandBuffer"):
        layer.encode(None, bm.Image(image()))


def test_the_time_on_the_gpu(layer):
    if not device.has_timestamps:
        pytest.skip("this adapter tells no times")
    commands = bm.CommandBuffer(timed=True)
    layer.encode(commands, bm.Image(image()))
    commands.commit()
    assert 0 <= commands.gpu_time < 60


def test_images_that_a_layer_refuses(layer):
    commands, picture, other = bm.CommandBuffer(), bm.Image(image()), bm.Device()
    foreign = bm.Image(image(), other)
    real = bm.BinaryConvolution.from_cpu(conv(terms={"type": 0}))
    for use, kind, message in (
        (lambda: layer.encode(commands, image()), TypeError, "source_image: expected a binconv"),
        (lambda: layer.encode(commands, foreign), ValueError, "source_image: .*another Device"),
        (
            lambda: layer.encode(commands, picture, bm.Image.empty((1, 5, 5, 4), device=other)),
            ValueError,
            "destination_image: .*another Device",
        ),
        (
            lambda: layer.encode(bm.CommandBuffer(other), picture),
            ValueError,
            "command_buffer: .*another Device",
        ),
        (lambda: layer.encode(commands, picture, picture), ValueError, "another image"),
        (
            lambda: layer.encode(commands, picture, bm.Image(np.ones((1, 5, 5, 4), np.uint8))),
            ValueError,
            "destination_image: expected float32",
        ),
        (
            lambda: layer.encode(commands, picture, bm.Image.empty((1, 5, 5, 3))),
            ValueError,
            "destination: expected at least 4",
        ),
        (
            lambda: layer.encode(commands, bm.Image(image(1, 5, 5, 7))),
            ValueError,
            "source: expected 6 feature channels",
        ),
        (
            lambda: real.encode(commands, bm.Image(bc.pack(image()))),
            ValueError,
            "source_image: expected real values",
        ),
        (lambda: layer.encode_batch(commands, picture), TypeError, "source_images"),
        (
            lambda: layer.encode_batch(commands, [picture], []),
            ValueError,
            "destination_images: expected as many",
        ),
    ):
        with pytest.raises(kind, match=message):
            use()
    assert not commands._dispatches


def test_the_form_of_a_new_result(layer):
    commands = bm.CommandBuffer()
    for dtype, form in (("float32", "float32"), ("float16", "float16"), ("uint8", "float32")):
        assert layer.encode(commands, bm.Image(image(dtype=dtype))).form == form
    assert layer.encode(commands, bm.Image(bc.pack(image()))).form == "float32"


# ---- Layers --------------------------------------------------------------------------------------


def test_twins():
    cpu = conv(terms={"scale_value": 0.5})
    cpu.edge_mode, cpu.label = bc.EdgeMode.MIRROR, "seventh"
    cpu.offset = bc.Offset(1, 2)
    gpu = bm.BinaryConvolution.from_cpu(cpu)
    again = gpu.to_cpu()
    for twin in (gpu, again):
        assert (twin.edge_mode, twin.label) == (bc.EdgeMode.MIRROR, "seventh")
        assert twin.offset == bc.Offset(1, 2)
        assert twin.data_source is cpu.data_source
        assert repr(twin) == repr(cpu)
        assert np.array_equal(twin(image()), cpu(image()))
    assert isinstance(again, bc.BinaryConvolution)
    assert again.to_bytes() == gpu.to_bytes() == cpu.to_bytes()
    gpu.edge_mode = bc.EdgeMode.CLAMP
    assert cpu.edge_mode == bc.EdgeMode.MIRROR
    assert gpu.device is bm.Device.default()


def test_twins_of_fully_connected_layers():
    source = bc.ArrayDataSource(
        bc.ConvolutionDescriptor(2, 2, 6, 4), np.ones((4, 2, 2, 6), np.float32)
    )
    cpu = bc.BinaryFullyConnected(source)
    gpu = bm.BinaryFullyConnected.from_cpu(cpu)
    assert np.array_equal(gpu(image(3, 2, 2, 6)), cpu(image(3, 2, 2, 6)))
    assert isinstance(gpu.to_cpu(), bc.BinaryFullyConnected)
    for kind, layer in (
        (bm.BinaryConvolution, cpu),
        (bm.BinaryFullyConnected, conv()),
        (bm.BinaryConvolution, gpu),
    ):
        with pytest.raises(TypeError, match="layer: expected a binconv"):
            kind.from_cpu(layer)


def test_constructed_like_those_of_the_cpu():
    arguments = {"output_bias_terms": np.arange(4.0), "type": bc.BinaryConvolutionType.AND}
    cpu = bc.BinaryConvolution(conv().data_source, **arguments)
    gpu = bm.BinaryConvolution(conv().data_source, **arguments, device=bm.Device())
    assert np.array_equal(gpu(image()), cpu(image()))
    for kind, wrong in ((ValueError, {"scale_value": 2.0}), (TypeError, {"device": 1})):
        with pytest.raises(kind):
            bm.BinaryConvolution(conv().data_source, **arguments, **wrong)


def test_reloading(layer):
    before = layer(image())
    layer.reload_weights_and_biases(
        bc.ArrayDataSource(conv().data_source.descriptor(), -np.ones((4, 2, 3, 6), np.float32))
    )
    assert np.array_equal(layer(image()), -before)


def test_copied_pickled_and_saved(layer, tmp_path):
    layer.padding = bc.Padding.explicit(1, 1, 2, 2)
    layer.save(tmp_path / "layer.safetensors")
    expected = layer(image())
    for again in (
        copy.copy(layer),
        copy.deepcopy(layer),
        pickle.loads(pickle.dumps(layer)),
        bm.BinaryConvolution.load(tmp_path / "layer.safetensors"),
        bm.BinaryConvolution.from_bytes(layer.to_cpu().to_bytes()),
    ):
        assert isinstance(again, bm.BinaryConvolution)
        assert np.array_equal(again(image()), expected)


def test_many_source_sizes_and_states(layer):
    """More than are kept: what is forgotten is made again."""
    cpu = layer.to_cpu()
    for turn in range(80):
        size = (1 + turn % 3, 1 + turn % 7, 1 + turn % 41, 6)
        source = pixels(np.random.default_rng(turn), size, "float32")
        assert np.array_equal(layer(source), cpu(source))


def test_threads(layer):
    """One layer, one device, several threads, different sources."""
    cpu, wrong = layer.to_cpu(), []

    def work(seed: int) -> None:
        rng = np.random.default_rng(seed)
        for _ in range(10):
            source = pixels(rng, (2, 5 + seed, 5, 6), "float32")
            if not np.array_equal(layer(source), cpu(source)):
                wrong.append(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_the_same_bits_on_every_run():
    rng = np.random.default_rng(5)
    layer = bm.BinaryConvolution.from_cpu(conv(terms={"type": 0}))
    source = pixels(rng, (3, 9, 9, 6), "float32")
    first = layer(source).tobytes()
    assert all(layer(source).tobytes() == first for _ in range(5))
