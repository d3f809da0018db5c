"""Holds kernels and layers to the numbers of instructions that are checked in.

    python bench/instructions.py            fails where one is more than 2% off
    python bench/instructions.py --update   states what was counted, after a change that was meant

Times are too noisy for CI, instructions are the same on every run. They are counted by valgrind's
callgrind, which knows AVX2 but not AVX-512, so AVX2 it is; and they are the compiler's, so they are
kept by its major version. With one that instructions.json does not know, or where something is
missing that this needs, nothing is checked and the reason is printed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
CSRC = HERE.parent / "csrc"
STATED = HERE / "instructions.json"
TOLERANCE = 0.02
# Without threads, and with nothing that depends on the machine that compiles.
FLAGS = ["-O3", "-std=c11", "-ffp-contract=off", "-D_POSIX_C_SOURCE=200809L", "-DBC_NO_THREADS"]


class NotHereError(Exception):
    """What this needs is missing."""


def compiler_name(compiler: str) -> str:
    """Such as "gcc 12"."""
    macros = subprocess.run(
        [compiler, "-dM", "-E", "-x", "c", os.devnull], capture_output=True, text=True, check=True
    ).stdout
    found = dict(re.findall(r"#define (__clang_major__|__GNUC__) (\d+)", macros))
    if "__clang_major__" in found:
        return f"clang {found['__clang_major__']}"
    return f"gcc {found['__GNUC__']}"


def check_tools(compiler: str) -> None:
    if platform.machine() not in ("x86_64", "AMD64"):
        raise NotHereError(f"AVX2 is not an instruction set of {platform.machine()}")
    for tool in (compiler, "valgrind"):
        if shutil.which(tool) is None:
            raise NotHereError(f"{tool} is not installed")


def count(compiler: str) -> dict[str, int]:
    """Builds the driver, runs it under callgrind, and returns instructions by name."""
    with tempfile.TemporaryDirectory() as folder:
        driver = Path(folder, "instructions")
        sources = [str(HERE / "instructions.c"), *map(str, sorted(CSRC.glob("*.c")))]
        includes = [f"-I{CSRC / 'include'}", f"-I{CSRC}"]
        subprocess.run(
            [compiler, *FLAGS, *includes, *sources, "-lm", "-o", str(driver)], check=True
        )
        output = Path(folder, "counts")
        valgrind = ["valgrind", "-q", "--tool=callgrind", f"--callgrind-out-file={output}"]
        environment = {**os.environ, "BINCONV_ISA": "avx2"}
        subprocess.run([*valgrind, str(driver)], check=True, env=environment)
        counts = {}
        for dump in Path(folder).glob("counts.*"):
            text = dump.read_text(encoding="utf-8")
            name = re.search(r"^desc: Trigger: Client Request: (.*)$", text, re.M)
            total = re.search(r"^(?:summary|totals): (\d+)", text, re.M)
            if name and total:
                counts[name[1]] = int(total[1])
        return dict(sorted(counts.items()))


def compare(stated: dict[str, int], counted: dict[str, int]) -> list[str]:
    """What is wrong, a line each."""
    wrong = [f"{name}: not stated" for name in counted.keys() - stated.keys()]
    wrong += [f"{name}: stated, but not counted" for name in stated.keys() - counted.keys()]
    for name in sorted(stated.keys() & counted.keys()):
        change = counted[name] / stated[name] - 1
        if abs(change) > TOLERANCE:
            wrong.append(f"{name}: {stated[name]} stated, {counted[name]} counted ({change:+.1%})")
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--update", action="store_true", help="rewrite instructions.json")
    update = parser.parse_args().update
    compiler = os.environ.get("CC", "cc")
    everything = json.loads(STATED.read_text(encoding="utf-8")) if STATED.is_file() else {}
    try:
        check_tools(compiler)
        name = compiler_name(compiler)
        if name not in everything and not update:
            raise NotHereError(f"{STATED.name} has no numbers for {name}")
    except NotHereError as reason:
        print(f"instructions: skipped, {reason}")
        return 0
    counted = count(compiler)
    if update:
        everything[name] = counted
        STATED.write_text(json.dumps(everything, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        print(f"{name}: {len(counted)} numbers written to {STATED.name}")
        return 0
    wrong = compare(everything[name], counted)
    for line in wrong:
        print(f"instructions: {line}", file=sys.stderr)
    if wrong:
        print("instructions: if that is meant, make instructions-update", file=sys.stderr)
        return 1
    print(f"{name}: {len(counted)} numbers of instructions are within {TOLERANCE:.0%}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
