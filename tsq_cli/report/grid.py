"""Tables that are printed, written as Markdown, and compared with the docs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich import box
from rich.table import Table

from tsq_cli.report.text import markdown


@dataclass(frozen=True)
class Grid:
    """A table of strings: the first column is text, the others are numbers."""

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]

    def markdown(self) -> str:
        """Render as Markdown, the title above it."""
        lines = [self.headings, ["---", *["---:"] * (len(self.headings) - 1)], *self.rows]
        table = "\n".join("| " + " | ".join(markdown(cell) for cell in line) + " |" for line in lines)
        return f"{markdown(self.title)}\n\n{table}\n"

    def rich(self) -> Table:
        """Render for a tsq_cli.report.console.SafeConsole, which interprets no markup."""
        table = Table(title=self.title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
        for number, heading in enumerate(self.headings):
            table.add_column(heading, justify="left" if number == 0 else "right", no_wrap=number == 0)
        for row in self.rows:
            table.add_row(*row)
        return table
