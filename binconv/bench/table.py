"""Tables in Markdown, lined up to be read as they are."""

from __future__ import annotations

from collections.abc import Sequence


def markdown(titles: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """The first `left` columns are text, the others numbers."""
    table = [list(titles), *(list(row) for row in rows)]
    widths = [max(len(row[column]) for row in table) for column in range(len(titles))]

    def line(row: Sequence[str]) -> str:
        cells = [
            cell.ljust(width) if column < left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        return "| " + " | ".join(cells) + " |"

    rule = [
        "-" * width if column < left else "-" * (width - 1) + ":"
        for column, width in enumerate(widths)
    ]
    return "\n".join([line(titles), "| " + " | ".join(rule) + " |", *map(line, rows)])
