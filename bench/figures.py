"""Puts the figures of a run into the documentation, and draws the plot of its layers.

    python bench/compare.py --json results.json && python bench/figures.py results.json

README.md and docs/PERFORMANCE.md each have a part between two comments that is rewritten;
docs/layers.png and docs/layers.svg are drawn anew.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import parts
from compare import NODE, table
from plot import draw

from binconv.bench.cases import BITS, LAYERS, XNOR
from binconv.bench.table import markdown

ROOT = Path(__file__).resolve().parent.parent
PART = re.compile(r"(<!-- figures: .*? -->\n).*?(<!-- figures end -->)", re.S)


def about(report: dict[str, Any]) -> str:
    compiler = f", {report['compiler']}" if report["compiler"] else ""
    return f"{report['machine']}{compiler}; one thread, batch 1 where not said otherwise"


def short_table(report: dict[str, Any]) -> str:
    """Milliseconds: ours, then the peers; the least of float32 in and out in bold."""
    peers = report["peers"]
    rows = []
    for case in LAYERS:
        ours = {row["mode"]: row["seconds"] for row in report["rows"] if row["layer"] == case.name}
        theirs = report["peer_seconds"][case.name]
        seconds = [ours[BITS.name], ours[XNOR.name], *(theirs.get(name) for name in peers)]
        whole = [ours[XNOR.name], *(theirs[name] for name in peers if name in theirs)]
        fastest = min(s for s in whole if s != theirs.get(NODE))
        cells = [f"{1e3 * s:.3f}" if s else "" for s in seconds]
        bold = [f"**{c}**" if s == fastest else c for c, s in zip(cells, seconds, strict=True)]
        rows.append([case.name, *bold])
    return markdown(["ms", "binconv, bits", "binconv, float32", *peers], rows)


def long_part(report: dict[str, Any]) -> str:
    limits = report["limits"].items()
    streams = ", ".join(f"{name} {limit:.0f} MAC/cycle" for name, limit in limits)
    said = "\n".join(f"- {line}" for line in parts.lines(report))
    return (
        f"{about(report)}. Stream limits, operands in L1: {streams}.\n\n"
        f"{table(report['rows'], report['peers'])}\n\n{said}\n"
    )


def put(path: Path, text: str) -> None:
    before = path.read_text(encoding="utf-8")
    after, count = PART.subn(lambda found: f"{found[1]}\n{text}\n{found[2]}", before)
    if count != 1:
        raise SystemExit(f"{path} has {count} places for figures, not 1")
    path.write_text(after, encoding="utf-8")


def main() -> None:
    report = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    put(ROOT / "README.md", f"{short_table(report)}\n\n{about(report)}.\n")
    put(ROOT / "docs" / "PERFORMANCE.md", long_part(report))
    draw(report, ROOT / "docs" / "layers")


if __name__ == "__main__":
    main()
