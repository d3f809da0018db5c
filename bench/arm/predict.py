"""Counts the instructions that the Arm kernels execute, and predicts how fast they run.

There is no Arm machine behind these figures.  One call of a kernel is run under qemu, which logs
every block of instructions that it executes; the count is exact and the same every time.  The
instructions of that call, in the order in which they ran, then go through llvm-mca's models of
processors, and so does one turn of its innermost loop, over and over.  The models know no caches
and predict every branch, so that what they say is an upper bound.

    python bench/arm/predict.py                 needs aarch64-linux-gnu-gcc, qemu-user-static, llvm
    python bench/arm/predict.py --cases xorpop-3x3x256 --isas asimddp
"""

from __future__ import annotations

import argparse
import collections
import glob
import itertools
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CASES = (
    "xorpop-3x3x256",
    "xorpop-3x3x64",
    "signsum-3x3x64",
    "pack_f32-256",
    "epilogue_f32-32",
    "epilogue_bits-32",
)
ISAS = ("neon", "asimddp")


@dataclass(frozen=True)
class Model:
    """A processor as llvm-mca knows it."""

    name: str
    cpu: str
    dispatch: int | None = (
        None  # micro-operations a cycle, where the model's own number is replaced
    )


# LLVM describes Cortex-A72 by Cortex-A57.  It has no model of Cortex-A76, whose core Neoverse N1
# is: the same pipelines and latencies in Arm's optimisation guides.  LLVM lets N1 dispatch 3
# micro-operations a cycle; the guides say 4 macro-operations that split into at most 8.
MODELS = (
    Model("Cortex-A72", "cortex-a72"),
    Model("A76/N1, 3 a cycle", "neoverse-n1"),
    Model("A76/N1, 4 a cycle", "neoverse-n1", 4),
    Model("A76/N1, 8 a cycle", "neoverse-n1", 8),
    Model("Apple M1", "apple-m1"),
)

BLOCK = re.compile(r"^0x([0-9a-f]+): ")
TRACE = re.compile(r"^Trace \d+: 0x[0-9a-f]+ \[[0-9a-f]+/([0-9a-f]+)/")
VECTOR = re.compile(r"\b[vq]\d+\b|\b[vd]\d+\.")


def output(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def build(folder: Path) -> Path:
    program = folder / "loops"
    output(
        "aarch64-linux-gnu-gcc",
        *("-O3", "-std=c11", "-ffp-contract=off", "-static", "-Icsrc/include", "-Icsrc"),
        *sorted(glob.glob("csrc/*.c")),
        "bench/arm/loops.c",
        *("-lm", "-o", str(program)),
    )
    return program


def disassembly(program: Path) -> dict[int, str]:
    """The instruction at each address, in a form that llvm-mca reads."""
    instructions = {}
    for line in output(
        "aarch64-linux-gnu-objdump", "-d", "--no-show-raw-insn", str(program)
    ).splitlines():
        parts = line.split("\t", 1)
        if len(parts) == 2 and parts[0].strip().endswith(":"):
            text = re.sub(r"\s*(//|<).*", "", parts[1]).strip()
            instructions[int(parts[0].strip()[:-1], 16)] = text
    return instructions


def executed(program: Path, isa: str, case: str, calls: int, log: Path) -> tuple[list[int], int]:
    """The address of every instruction in the order of execution, and the case's multiply-adds."""
    work = output(
        qemu(), "-d", "in_asm,exec,nochain", "-D", str(log), str(program), isa, case, str(calls)
    )
    blocks: dict[int, list[int]] = {}
    addresses: list[int] = []
    block: list[int] = []
    for line in log.read_text().splitlines():
        if line.startswith("IN:"):
            block = []
        elif match := BLOCK.match(line):
            block.append(int(match[1], 16))
            blocks[block[0]] = block
        elif match := TRACE.match(line):
            addresses.extend(blocks[int(match[1], 16)])
    return addresses, int(work)


def qemu() -> str:
    found = shutil.which("qemu-aarch64-static") or shutil.which("qemu-aarch64")
    if found is None:
        raise SystemExit("qemu-aarch64 is missing: install qemu-user-static")
    return found


def llvm_mca() -> str:
    """The newest one that is installed."""
    versions = [Path(path).name for path in glob.glob("/usr/bin/llvm-mca-*")]
    if versions:
        return max(versions, key=lambda name: int(name.rpartition("-")[2]))
    if shutil.which("llvm-mca"):
        return "llvm-mca"
    raise SystemExit("llvm-mca is missing: install llvm")


def one_call(program: Path, isa: str, case: str, folder: Path) -> tuple[list[int], int]:
    """What the second of two calls executes, starting anywhere in it."""
    once, work = executed(program, isa, case, 1, folder / "log")
    twice, _ = executed(program, isa, case, 2, folder / "log")
    length = len(twice) - len(once)
    end = next(i for i, (a, b) in enumerate(zip(once, twice, strict=False)) if a != b)
    return twice[end - length : end], work


def for_llvm(text: str) -> str:
    """Branches and addresses of the program become ones that an assembler takes."""
    name, _, operands = text.partition("\t")
    if name in ("ret", "bl", "blr", "br", "b"):
        return "b 0b"
    if name.startswith("b.") or name in ("cbz", "cbnz", "tbz", "tbnz"):
        return f"{name} {', '.join([*operands.split(', ')[:-1], '0b'])}"
    if name in ("adrp", "adr"):
        return f"{name} {operands.split(',')[0]}, 0b"
    return text


def loop_of(addresses: list[int]) -> tuple[list[int], int]:
    """One turn of the loop that turns most often, and how often it does."""
    (hottest, turns), *_ = collections.Counter(addresses).most_common(1)
    at = [i for i, address in enumerate(addresses) if address == hottest]
    lengths = collections.Counter(b - a for a, b in itertools.pairwise(at))
    length = lengths.most_common(1)[0][0]
    start = next(a for a, b in itertools.pairwise(at) if b - a == length)
    return addresses[start : start + length], turns


def predicted_cycles(lines: list[str], assembly: Path, model: Model, times: int = 1) -> float:
    assembly.write_text("0:\n" + "\n".join(lines) + "\n")
    arguments = [f"-mcpu={model.cpu}", "-mtriple=aarch64", f"-iterations={times}"]
    if model.dispatch:
        arguments.append(f"-dispatch={model.dispatch}")
    report = output(
        llvm_mca(), *arguments, "-instruction-info=0", "-resource-pressure=0", str(assembly)
    )
    match = re.search(r"Total Cycles:\s+(\d+)", report)
    assert match is not None
    return int(match[1]) / times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cases", nargs="+", default=CASES, choices=CASES)
    parser.add_argument("--isas", nargs="+", default=ISAS, choices=ISAS)
    options = parser.parse_args()
    print(output("aarch64-linux-gnu-gcc", "--version").splitlines()[0])
    print(output(llvm_mca(), "--version").strip().splitlines()[0])
    print("\nMultiply-adds, or elements, a cycle: the loop (the whole call)\n")
    print(f"| case | kernels | per 128: all | vector | {' | '.join(m.name for m in MODELS)} |")
    print(f"|{' --- |' * (4 + len(MODELS))}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        program = build(folder)
        instructions = disassembly(program)
        for case in options.cases:
            for isa in options.isas:
                addresses, work = one_call(program, isa, case, folder)
                counts = collections.Counter(addresses)
                vector = sum(
                    n
                    for address, n in counts.items()
                    if VECTOR.search(instructions[address])
                    and not re.match(r"(ld|st)", instructions[address])
                )
                assembly = folder / "call.s"
                loop, turns = loop_of(addresses)
                call_lines = [for_llvm(instructions[address]) for address in addresses]
                loop_lines = [for_llvm(instructions[address]) for address in loop]
                speeds = [
                    f"{work / turns / predicted_cycles(loop_lines, assembly, model, 200):.3g} "
                    f"({work / predicted_cycles(call_lines, assembly, model):.3g})"
                    for model in MODELS
                ]
                counted = [f"{n * 128 / work:.2f}" for n in (len(addresses), vector)]
                print(f"| {case} | {isa} | {' | '.join(counted + speeds)} |", flush=True)


if __name__ == "__main__":
    main()
