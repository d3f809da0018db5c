"""The command line, the packaged digit network, and the accuracy that the README states."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import binconv as bc
from binconv.demo import digits
from binconv.demo.filters import banks

README = Path(__file__).resolve().parent.parent / "README.md"
needs_pillow = pytest.mark.skipif(
    importlib.util.find_spec("PIL") is None, reason="Pillow is not installed"
)


def command(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "binconv", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        **options,  # type: ignore[call-overload]
    )


def fails(status: int, *arguments: object, **options: object) -> str:
    """What the command says on stderr when it fails, which must not be a traceback."""
    done = command(*arguments, **options)
    assert done.returncode == status, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


# ------------------------------------------------------------ the network


def held_out_right(path: Path = digits.NETWORK) -> tuple[int, int]:
    """(right, all) as stored with the weights, the one place that states the accuracy."""
    about = digits.about_network(path)
    return int(about["held_out_right"]), int(about["held_out_images"])


def test_packaged_weights_have_the_stated_accuracy() -> None:
    data = digits.load_digits()
    scores, _, _ = digits.forward(digits.load_network(), data.grey)
    right = int((scores.argmax(axis=1) == data.labels).sum())
    assert (right, len(data.labels)) == held_out_right()
    assert right / len(data.labels) >= 0.98


@pytest.mark.skipif(not README.is_file(), reason="needs a checkout")
def test_readme_states_the_accuracy() -> None:
    right, total = held_out_right()
    text = README.read_text(encoding="utf-8")
    assert re.search(rf"\b{right}\s+of\s+(the\s+)?{total}\b", text)
    assert re.search(re.escape(f"{right / total:.1%}").replace("%", "[ \u00a0]?%"), text)


def test_network_is_what_the_demo_says_it_is() -> None:
    layers = digits.load_network()
    types = [layer.type for layer in layers]
    assert types[0] is bc.BinaryConvolutionType.BINARY_WEIGHTS
    assert set(types[1:]) == {bc.BinaryConvolutionType.XNOR}
    assert isinstance(layers[-1], bc.BinaryFullyConnected)
    assert all(isinstance(layer.data_source, bc.SafetensorsDataSource) for layer in layers)
    _, outputs, _ = digits.forward(layers, digits.load_digits().grey[:3])
    assert all(isinstance(output, bc.PackedImage) for output in outputs[:-1])


def test_sequential_gives_the_same_scores() -> None:
    grey = digits.load_digits().grey
    scores, _, _ = digits.forward(digits.load_network(), grey)
    together = bc.Sequential.load(digits.NETWORK)(grey)
    np.testing.assert_array_equal(together.reshape(scores.shape), scores)


def test_bits_between_layers_change_nothing() -> None:
    x = grey = digits.load_digits().grey
    for layer in digits.load_network():
        x = layer(x)
    scores, _, _ = digits.forward(digits.load_network(), grey)
    np.testing.assert_array_equal(x.reshape(scores.shape), scores)


def test_held_out_file_is_what_the_training_script_holds_out() -> None:
    sklearn_data = pytest.importorskip("sklearn.datasets")
    selection = pytest.importorskip("sklearn.model_selection")
    everything = sklearn_data.load_digits()
    _, held_out = selection.train_test_split(
        np.arange(1797), test_size=0.2, random_state=20, stratify=everything.target
    )
    data = digits.load_digits()
    np.testing.assert_array_equal(data.images, everything.images[held_out])
    np.testing.assert_array_equal(data.labels, everything.target[held_out])


def test_data_name_their_source_and_licence() -> None:
    about = digits.load_digits().about
    assert "scikit-learn" in about["source"]
    assert "Alpaydin" in about["source"]
    assert about["licence"] == "CC BY 4.0"
    assert digits.load_digits().images.max() == 16


# ----------------------------------------------------------- the commands


def test_info() -> None:
    done = command("info")
    assert done.returncode == 0, done.stderr
    assert bc.isa() in done.stdout


@pytest.mark.parametrize("isa", bc.show_config("dicts")["Kernels"]["available"])
def test_demo(isa: str) -> None:
    done = command("demo", "--threads", 1, env=os.environ | {"BINCONV_ISA": isa})
    assert done.returncode == 0, done.stderr
    right, total = held_out_right()
    assert f"{right} of {total} right, {right / total:.2%}" in done.stdout
    assert re.search(r"[\d,]+ images per second", done.stdout)
    assert f"ISA {isa}, 1 thread;" in done.stdout
    rows = [line for line in done.stdout.splitlines() if line.endswith(" ms")]
    assert len(rows) == len(digits.load_network())
    assert done.stdout.count("-> ") > len(rows)  # the drawn digits


def test_demo_survives_a_closed_pipe() -> None:
    running = subprocess.Popen(
        [sys.executable, "-m", "binconv", "demo"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert running.stdout is not None
    assert running.stderr is not None
    running.stdout.close()
    with running.stderr:
        assert b"Traceback" not in running.stderr.read()
    running.wait(60)


@pytest.mark.parametrize("arguments", [["--help"], ["demo", "--help"], ["--version"]])
def test_help(arguments: list[str]) -> None:
    done = command(*arguments)
    assert done.returncode == 0
    assert "binconv" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "COMMAND"),
        (["dance"], "dance"),
        (["demo", "--threads", "0"], "above 0"),
        (["demo", "--threads", "1000000"], "--threads"),
        (["demo", "--out", "maps.png"], "--out needs --image"),
        (["demo", "--size", "9"], "--size needs --image"),
        (["demo", "--image", "x.png", "--size", "wide"], "whole number"),
        (["demo", "--image", "x.png", "--size", "99999"], "at most"),
    ],
)
def test_wrong_usage(arguments: list[str], says: str) -> None:
    assert says in fails(2, *arguments)


@pytest.mark.parametrize("arguments", [["info"], ["demo"], ["bench"]])
@pytest.mark.parametrize(
    ("variable", "value"), [("BINCONV_ISA", "mmx2000"), ("BINCONV_NUM_THREADS", "many")]
)
def test_wrong_environment(arguments: list[str], variable: str, value: str) -> None:
    environment = os.environ | {variable: value}
    (line,) = fails(2, *arguments, env=environment).splitlines()
    assert variable in line
    assert value in line
    assert command("--help", env=environment).returncode == 0


# --------------------------------------------------------------- pictures


def test_filters_are_signs_and_walsh_hadamard_is_orthogonal() -> None:
    shapes, walsh = banks()
    for bank in (shapes, walsh):
        assert set(np.unique(bank.patterns)) == {-1, 1}
        assert len(bank.names) == len(set(bank.names)) == len(bank.patterns)
        assert len(np.unique(bank.patterns, axis=0)) == len(bank.patterns)
    rows = walsh.patterns.reshape(16, 16)
    np.testing.assert_array_equal(rows @ rows.T, 16 * np.eye(16))
    for name, pattern in zip(walsh.names, walsh.patterns, strict=True):
        down, across = map(int, name.split()[1].split(","))
        assert (np.diff(pattern[:, 0]) != 0).sum() == down
        assert (np.diff(pattern[0]) != 0).sum() == across


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """A bright square on a dark ground, 60 x 40 pixels."""
    from PIL import Image

    pixels = np.full((40, 60, 3), 40, np.uint8)
    pixels[10:30, 20:40] = 200
    path = tmp_path / "square.png"
    Image.fromarray(pixels).save(path)
    return path


@needs_pillow
def test_picture(picture: Path, tmp_path: Path) -> None:
    from PIL import Image

    done = command("demo", "--image", picture, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "64 feature maps written to maps.png" in done.stdout
    with Image.open(tmp_path / "maps.png") as sheet:
        assert sheet.format == "PNG"
        assert f"{sheet.width} x {sheet.height} pixels" in done.stdout
        assert np.asarray(sheet).std() > 10


@needs_pillow
@pytest.mark.parametrize("type", ["BINARY_WEIGHTS", "XNOR"])
def test_filters_find_what_they_are_named_for(picture: Path, type: str) -> None:
    from binconv.demo import pictures, sheet

    grey = sheet.read_grey(picture, 60)
    contrast = grey - pictures.local_mean()(grey)
    bank = banks()[0]
    maps = pictures.filter_layer(bank, bc.BinaryConvolutionType[type])(contrast)
    assert maps.shape == (40, 60, 16)
    # The left side of the bright square is an edge whose right side is the brighter one.
    side = maps[20, 18:22].max(axis=0)
    assert bank.names[int(side.argmax())] == "edge: right"
    top = maps[8:12, 30].max(axis=0)
    assert bank.names[int(top.argmax())] == "edge: bottom"


@needs_pillow
@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "I", "F"])
def test_every_kind_of_picture_is_read(tmp_path: Path, mode: str) -> None:
    from PIL import Image

    from binconv.demo import sheet

    grey = np.linspace(0, 255, 20 * 30).reshape(20, 30)
    if mode == "I;16":
        image = Image.fromarray((grey * 257).astype(np.uint16))
    else:
        image = Image.fromarray(grey.astype(np.uint8)).convert(mode)
    path = tmp_path / "picture.tiff"
    image.save(path)
    read = sheet.read_grey(path, 64)
    assert read.shape == (20, 30, 1)
    assert read.dtype == np.float32
    assert 0 <= read.min() < 0.1 < 0.9 < read.max() <= 1
    assert sheet.read_grey(path, 10).shape == (7, 10, 1)


@needs_pillow
def test_transparent_is_white(tmp_path: Path) -> None:
    from PIL import Image

    from binconv.demo import sheet

    path = tmp_path / "nothing.png"
    Image.new("RGBA", (3, 2), (0, 0, 0, 0)).save(path)
    np.testing.assert_array_equal(sheet.read_grey(path, 9), np.ones((2, 3, 1), np.float32))


@needs_pillow
@pytest.mark.parametrize("size", [(1, 1), (1, 40), (300, 2)])
def test_odd_pictures(tmp_path: Path, size: tuple[int, int]) -> None:
    from PIL import Image

    path = tmp_path / "odd.png"
    Image.new("L", size, 128).save(path)
    done = command("demo", "--image", path, "--out", tmp_path / "maps.png")
    assert done.returncode == 0, done.stderr


@needs_pillow
def test_picture_errors(picture: Path, tmp_path: Path) -> None:
    missing = tmp_path / "missing.png"
    text = tmp_path / "text.png"
    text.write_text("not a picture")
    cut = tmp_path / "cut.png"
    cut.write_bytes(picture.read_bytes()[:60])
    nowhere = tmp_path / "no" / "maps.png"
    assert f"cannot read {missing}: No such file" in fails(1, "demo", "--image", missing)
    assert f"{text} is not a picture" in fails(1, "demo", "--image", text)
    assert "cut.png" in fails(1, "demo", "--image", cut)
    assert "cannot read" in fails(1, "demo", "--image", tmp_path)
    assert f"cannot write {nowhere}" in fails(1, "demo", "--image", picture, "--out", nowhere)
    before = picture.read_bytes()
    assert "picture itself" in fails(1, "demo", "--image", picture, "--out", picture)
    assert picture.read_bytes() == before


def test_picture_without_pillow_names_the_extra(tmp_path: Path) -> None:
    # A module that fails as a missing one does stands in for a machine without Pillow.
    (tmp_path / "PIL.py").write_text("raise ModuleNotFoundError(\"No module 'PIL'\", name='PIL')")
    script = (
        "import sys, runpy; sys.path.insert(0, sys.argv.pop()); "
        "sys.argv[0] = 'binconv'; runpy.run_module('binconv', run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "demo", "--image", "any.png", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "pip install" in done.stderr
    assert "binconv[image]" in done.stderr
