"""The options of `python -m binconv demo`."""

from __future__ import annotations

import argparse
from pathlib import Path

import binconv as bc
from binconv.demo import digits
from binconv.demo.errors import CommandError

DEFAULT_OUT = Path("maps.png")
DEFAULT_SIZE = 256  # pixels
MAX_SIZE = 2048  # 67 maps of this size make a PNG of 300 million pixels

DESCRIPTION = """\
Without --image: classify handwritten digits that the packaged binary network has not been
trained on, and say how many it gets right and how fast each layer is.

With --image: run a bank of binary filters (edges, lines, corners, spots and Walsh-Hadamard
patterns) over a picture of yours, as BINARY_WEIGHTS and as XNOR layers, and write all feature
maps as one PNG. This needs Pillow: pip install "binconv[image]".
"""


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "demo",
        help="classify handwritten digits, or filter a picture of yours",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--threads", type=_positive, metavar="N", help="threads to use (default: binconv's own)"
    )
    parser.add_argument("--image", type=Path, metavar="FILE", help="the picture to filter")
    picture = parser.add_argument_group("with --image")
    picture.add_argument(
        "--out", type=Path, metavar="PNG", help=f"where the maps go (default: {DEFAULT_OUT})"
    )
    picture.add_argument(
        "--size",
        type=_positive,
        metavar="PIXELS",
        help="shrink the picture so that its longer side has at most this many pixels "
        f"(default: {DEFAULT_SIZE})",
    )
    parser.set_defaults(run=lambda options: _run(parser, options))


def _run(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    if options.image is None:
        for option in ("out", "size"):
            if getattr(options, option) is not None:
                parser.error(f"--{option} needs --image")
    elif options.size is not None and options.size > MAX_SIZE:
        parser.error(f"argument --size: expected at most {MAX_SIZE} pixels, got {options.size}")
    if options.threads is not None:
        try:
            bc.set_num_threads(options.threads)
        except ValueError as error:
            parser.error(f"argument --threads: {error}")
    if options.image is None:
        digits.run()
    else:
        _filter_picture(options.image, options.out or DEFAULT_OUT, options.size or DEFAULT_SIZE)


def _filter_picture(picture: Path, out: Path, size: int) -> None:
    try:
        from binconv.demo import pictures
    except ModuleNotFoundError as error:
        if error.name != "PIL":
            raise
        raise CommandError('--image needs Pillow: pip install "binconv[image]"') from error
    pictures.run(picture, out, size)


def _positive(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number above 0, got {text!r}")
    return value
