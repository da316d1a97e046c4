"""The one kind of console that tables and lines are printed on."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.text import Text

from tsq_cli.printable import printable


class SafeConsole(Console):
    """A console that takes every string for words: no markup, no emoji codes, and nothing that a terminal obeys.

    Strings are made printable where rich turns them into text, in tables as well, so no caller can forget it. Style
    comes from arguments, not from tags.

    Args:
        stderr: print there instead of on stdout.
        least_width: for tables that are so many characters wide: better wrapped by the terminal than cut by us.
    """

    def __init__(self, *, stderr: bool = False, least_width: int = 0) -> None:
        super().__init__(stderr=stderr, markup=False, emoji=False, highlight=False)
        self.width = max(self.width, least_width)

    def render_str(self, text: str, **options: Any) -> Text:
        """A string as rich's text, printable."""
        return super().render_str(printable(text), **options)
