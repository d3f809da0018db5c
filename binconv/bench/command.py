"""The options of `python -m binconv bench`."""

from __future__ import annotations

import argparse

import binconv as bc
from binconv.bench.cases import BINARY_WEIGHTS, BITS, LAYERS, XNOR, LayerCase, prepare
from binconv.bench.limits import stream_limit
from binconv.bench.machine import describe
from binconv.bench.progress import Progress
from binconv.bench.table import markdown
from binconv.bench.timing import Rounds

DESCRIPTION = """\
Run layers of common sizes on random images, and print how long each takes, how many
multiply-adds (MAC) that is in a clock cycle, and which part of the stream limit: the speed of
the innermost kernel when all that it reads lies in the first-level cache.
"""
MODES = (XNOR, BITS, BINARY_WEIGHTS)


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "bench",
        help="measure how fast layers are on this machine",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--threads", type=_positive, default=1, metavar="N", help="threads to use (default: 1)"
    )
    parser.add_argument(
        "--rounds", type=_positive, default=9, metavar="N", help="samples of each (default: 9)"
    )
    parser.set_defaults(run=lambda options: _run(parser, options))


def _run(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    try:
        bc.set_num_threads(options.threads)
    except ValueError as error:
        parser.error(f"argument --threads: {error}")
    threads = bc.get_num_threads()
    print(f"{describe()}, {threads} thread{'s' if threads > 1 else ''}", flush=True)
    progress = Progress(1 + len(LAYERS) * options.rounds)
    progress.now("stream limits")
    limits = {mode.type: stream_limit(mode) for mode in (XNOR, BINARY_WEIGHTS)}
    progress.step()
    rows = []
    for case in LAYERS:
        progress.now(case.name)
        rows += _measure(case, options.rounds, limits, progress)
    progress.done()
    print(markdown(["layer", "mode", "ms", "MAC/cycle", "of stream"], rows, left=2))
    known = [f"{kind.name} {limit:.0f} MAC/cycle" for kind, limit in limits.items() if limit]
    if known:
        print(f"Stream limits of one thread: {', '.join(known)}.")
    print("XNOR and BINARY_WEIGHTS: float32 in and out. XNOR, bits: bits in and out.")


def _measure(
    case: LayerCase,
    rounds: int,
    limits: dict[bc.BinaryConvolutionType, float],
    progress: Progress,
) -> list[list[str]]:
    timed = Rounds({mode.name: prepare(case, mode) for mode in MODES}, rounds, progress.step)
    rows = []
    for mode in MODES:
        speed = timed.per_cycle(mode.name, case.macs)
        limit = limits[mode.type]
        rows.append(
            [
                case.name,
                mode.name,
                f"{timed.seconds(mode.name) * 1e3:.4f}",
                f"{speed:.0f}" if speed else "?",
                f"{speed / limit:.0%}" if limit else "?",
            ]
        )
    return rows


def _positive(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number above 0, got {text!r}")
    return value
