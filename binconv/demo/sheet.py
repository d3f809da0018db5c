"""Pictures in and out, with Pillow: grey values from a file, and a labelled grid of maps."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont, ImageOps, UnidentifiedImageError

from binconv.demo.errors import CommandError

Real = NDArray[np.float32]

COLUMNS = 8
MIN_TILE = 128  # pixels; a smaller map is enlarged by a whole number, up to this size
GAP = 10
CAPTION = 22  # height of a tile's caption, which also holds the filter's pattern
TITLE = 34
CELL = 3  # side of one weight in the drawn pattern
PAPER, INK = 255, 0


@dataclass(frozen=True)
class Tile:
    """A map to draw: values from -1 (black) to 1 (white), and the filter that made it."""

    name: str
    values: Real  # (H, W)
    pattern: Real | None = None  # (size, size), +1 and -1


@dataclass(frozen=True)
class Section:
    title: str
    tiles: list[Tile]


def read_grey(path: Path, size: int) -> Real:
    """The picture as (H, W, 1) grey values 0..1, upright, no side longer than `size`."""
    try:
        with Image.open(path) as image:
            grey = _grey(ImageOps.exif_transpose(image))
    except UnidentifiedImageError as error:
        raise CommandError(f"{path} is not a picture that Pillow can read") from error
    except OSError as error:
        raise CommandError(f"cannot read {path}: {error.strerror or error}") from error
    except (SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        # What Pillow's readers raise for a damaged or absurdly large picture.
        raise CommandError(f"cannot read {path}: {error}") from error
    grey.thumbnail((size, size), Image.Resampling.BILINEAR)  # never leaves 0..1
    return np.asarray(grey, np.float32)[..., np.newaxis]


def _grey(image: Image.Image) -> Image.Image:
    """Mode F, 0..1; what is transparent is put on white."""
    if image.mode.startswith(("I", "F")):  # 16 or more bits, which convert("L") would clip
        values = np.asarray(image, np.float32)
        darkest, brightest = values.min(), values.max()
        return Image.fromarray((values - darkest) / max(brightest - darkest, 1e-6))
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return Image.fromarray(np.asarray(image.convert("L"), np.float32) / 255)


def draw(sections: list[Section]) -> Image.Image:
    """All sections below one another, each a grid of captioned tiles."""
    height, width = sections[0].tiles[0].values.shape
    zoom = max(1, MIN_TILE // max(width, height))
    tile = (width * zoom, height * zoom)
    cell = (max(tile[0], MIN_TILE) + GAP, tile[1] + CAPTION + GAP)
    rows = [-(-len(section.tiles) // COLUMNS) for section in sections]
    sheet = Image.new(
        "L", (COLUMNS * cell[0] + GAP, len(sections) * TITLE + sum(rows) * cell[1] + GAP), PAPER
    )
    pen = ImageDraw.Draw(sheet)
    top = 0
    for section, count in zip(sections, rows, strict=True):
        pen.text((GAP, top + GAP), section.title, fill=INK, font=ImageFont.load_default(16))
        top += TITLE
        for i, item in enumerate(section.tiles):
            corner = (GAP + i % COLUMNS * cell[0], top + i // COLUMNS * cell[1])
            _caption(sheet, pen, corner, item)
            sheet.paste(
                _picture(item.values).resize(tile, Image.Resampling.NEAREST),
                (corner[0], corner[1] + CAPTION),
            )
        top += count * cell[1]
    return sheet


def _caption(
    sheet: Image.Image, pen: ImageDraw.ImageDraw, corner: tuple[int, int], tile: Tile
) -> None:
    x, y = corner
    if tile.pattern is not None:
        glyph = _picture(np.kron(tile.pattern, np.ones((CELL, CELL), np.float32)))
        glyph = ImageOps.expand(glyph, 1, 128)
        sheet.paste(glyph, (x, y + (CAPTION - glyph.height) // 2))
        x += glyph.width + 6
    pen.text((x, y + 4), tile.name, fill=INK, font=ImageFont.load_default(12))


def _picture(values: Real) -> Image.Image:
    """-1 black, 0 grey, 1 white."""
    return Image.fromarray(np.clip(values * 127.5 + 127.5, 0, 255).astype(np.uint8))
