"""Tables of results, for a terminal or in Markdown."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table


def report(title: str, rows: list[dict[str, float | str]], markdown: bool) -> None:
    names = list(dict.fromkeys(name for row in rows for name in row))
    cells = [
        [f"{row[n]:.2f}" if isinstance(row.get(n), float) else str(row.get(n, "–")) for n in names] for row in rows
    ]
    if markdown:
        print(f"{title}\n\n| {' | '.join(names)} |\n|{'---|' * len(names)}")
        print("\n".join(f"| {' | '.join(row)} |" for row in cells))
        return
    table = Table(*names, title=title)
    for row in cells:
        table.add_row(*row)
    Console().print(table)
