"""The console on which all tables and lines are printed."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.text import Text

from tsq_cli.printable import printable


class SafeConsole(Console):
    """A console that prints every string literally: no markup, no emoji codes, no terminal commands.

    Strings are made printable where rich turns them into text, in tables as well, so that no caller can forget it.
    Style comes from arguments, not from tags.

    Args:
        stderr: print to stderr instead of stdout.
        least_width: smallest width in characters, for wide tables: wrapping by the terminal is better than cutting.
    """

    def __init__(self, *, stderr: bool = False, least_width: int = 0) -> None:
        super().__init__(stderr=stderr, markup=False, emoji=False, highlight=False)
        self.width = max(self.width, least_width)

    def render_str(self, text: str, **options: Any) -> Text:
        """Convert a string to rich's text, made printable."""
        return super().render_str(printable(text), **options)
