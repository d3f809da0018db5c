"""The command line: `python -m binconv info`, `demo` and `bench`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

import binconv
from binconv.bench import command as bench
from binconv.demo import command as demo
from binconv.demo.errors import CommandError
from binconv.runtime import check_environment


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0, 1 for a failure, 2 for a wrong argument or
    environment variable.
    """
    parser = argparse.ArgumentParser(
        prog="python -m binconv",
        description="Binary convolution on the CPU: what this build is, and what it does.",
    )
    parser.add_argument("--version", action="version", version=f"binconv {binconv.__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    add_info(commands)
    demo.add_to(commands)
    bench.add_to(commands)
    options = parser.parse_args(arguments)
    try:
        check_environment()
    except ValueError as error:
        print(f"{parser.prog}: error: {error}", file=sys.stderr)
        return 2
    try:
        options.run(options)
        sys.stdout.flush()
    except CommandError as error:
        print(f"{parser.prog}: error: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # The reader of a pipe (head, less) went away: nothing more to say, also not at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def add_info(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "info",
        help="show the build, the CPU features and the kernels in use",
        description="Print binconv.show_config(): the build, the CPU features and the kernels.",
    )
    parser.set_defaults(run=lambda options: binconv.show_config())


if __name__ == "__main__":
    sys.exit(main())
