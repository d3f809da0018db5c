"""Run the bank of binary filters over a picture and write all feature maps as one PNG."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import binconv as bc
from binconv.demo import report
from binconv.demo.errors import CommandError
from binconv.demo.filters import Bank, banks
from binconv.demo.sheet import Real, Section, Tile, draw, read_grey

NEIGHBOURHOOD = 15  # side of the square whose mean is taken away, in pixels
NOISE = 0.02  # a contrast weaker than this (of 0..1) does not make a pixel dark
RUNS = 10  # the fastest is shown: the others were held up by something else on the machine


def run(picture: Path, out: Path, size: int) -> None:
    grey = read_grey(picture, size)
    if out.resolve() == picture.resolve():
        raise CommandError(f"{out} is the picture itself; name another file with --out")
    print(f"{picture}, as {grey.shape[1]} x {grey.shape[0]} pixels ({report.machine()})")
    print()
    print(report.HEADING)
    contrast = grey - _run_layer(local_mean(), grey)
    sections = [_inputs(grey, contrast)]
    for bank in banks():
        for type in (bc.BinaryConvolutionType.BINARY_WEIGHTS, bc.BinaryConvolutionType.XNOR):
            maps = _run_layer(filter_layer(bank, type), contrast)
            sections.append(_maps(bank, type, maps))
    print(f"(time for the whole picture, the fastest of {RUNS} runs)")
    sheet = draw(sections)
    try:
        sheet.save(out, format="PNG")
    except OSError as error:
        raise CommandError(f"cannot write {out}: {error.strerror or error}") from error
    count = sum(len(section.tiles) for section in sections[1:])
    print()
    print(f"{count} feature maps written to {out} ({sheet.width} x {sheet.height} pixels)")


def local_mean() -> bc.BinaryConvolution:
    """A box filter: all weights are +1, and the scale divides by their number."""
    side = NEIGHBOURHOOD
    descriptor = bc.ConvolutionDescriptor(
        kernel_width=side, kernel_height=side, input_feature_channels=1, output_feature_channels=1
    )
    weights = np.ones((1, side, side, 1), np.float32)
    layer = bc.BinaryConvolution(
        bc.ArrayDataSource(descriptor, weights, label="local mean"),
        scale_value=1 / side**2,
        type=bc.BinaryConvolutionType.BINARY_WEIGHTS,
    )
    layer.edge_mode = bc.EdgeMode.CLAMP
    return layer


def filter_layer(bank: Bank, type: bc.BinaryConvolutionType) -> bc.BinaryConvolution:
    """All filters of a bank as one layer. The scale makes an XNOR map the share of pixels that
    agree with the pattern less the share that do not, -1 to 1.

    XNOR sees a pixel as dark only if it is darker than its surroundings by more than NOISE: this
    is what the input bias does, and it keeps even surfaces free of speckles.
    """
    descriptor = bc.ConvolutionDescriptor(
        kernel_width=bank.size,
        kernel_height=bank.size,
        input_feature_channels=1,
        output_feature_channels=len(bank.names),
    )
    binarises = type is not bc.BinaryConvolutionType.BINARY_WEIGHTS
    layer = bc.BinaryConvolution(
        bc.ArrayDataSource(descriptor, bank.weights, label=bank.label),
        output_scale_terms=np.full(len(bank.names), 1 / bank.size**2, np.float32),
        input_bias_terms=np.full(1, NOISE, np.float32) if binarises else None,
        type=type,
    )
    # What lies outside looks like the picture's rim, so that the rim itself is no edge.
    layer.edge_mode = bc.EdgeMode.CLAMP
    return layer


def _run_layer(layer: bc.BinaryConvolution, image: Real) -> Real:
    """The result; the layer's line is printed."""
    result = layer(image)
    seconds = [report.timed(lambda: layer(image, out=result))[1] for _ in range(RUNS)]
    print(report.row(layer, result, min(seconds)))
    return result


def _inputs(grey: Real, contrast: Real) -> Section:
    bits = bc.pack(contrast, bias=np.full(1, NOISE, np.float32)).unpack(np.float32)[0]
    return Section(
        "What the filters see",
        [
            Tile("the picture", grey[..., 0] * 2 - 1),
            _scaled("contrast", contrast[..., 0]),
            Tile("its bits, for XNOR", bits[..., 0]),
        ],
    )


def _maps(bank: Bank, type: bc.BinaryConvolutionType, maps: Real) -> Section:
    return Section(
        f"{bank.title}, {bank.size} x {bank.size}, {type.name}",
        [
            _scaled(name, maps[..., channel], pattern)
            for channel, (name, pattern) in enumerate(zip(bank.names, bank.patterns, strict=True))
        ],
    )


def _scaled(name: str, values: Real, pattern: Real | None = None) -> Tile:
    """A map on a scale of its own: grey is 0, black and white are as far off as the name says."""
    limit = float(np.percentile(abs(values), 99.5)) or 1.0
    return Tile(f"{name}  \N{PLUS-MINUS SIGN}{limit:.2g}", values / np.float32(limit), pattern)
