"""Room 3: which characters the texts of a pack may hold: those that a terminal and a page show, and do not obey."""

from __future__ import annotations

import re

# Control characters (C0, DEL, C1), the line and paragraph separators, what embeds, overrides or isolates a direction of
# writing, the byte order mark, and halves of surrogate pairs, which no encoding writes (ours). Marks that words of some
# scripts need, such as joiners, stay.
_UNSHOWABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")


def is_plain(text: str) -> bool:
    """Whether a text holds nothing but characters that are shown as they are."""
    return _UNSHOWABLE.search(text) is None


def escaped(text: str) -> str:
    r"""The text with every other character as Python writes it: an escape sequence becomes the letters \x1b[31m."""
    return _UNSHOWABLE.sub(lambda found: ascii(found[0])[1:-1], text)


def shown(value: object, width: int = 60) -> str:
    """How a value of a pack appears in a message: as Python writes it, in at most `width` characters."""
    text = repr(value)
    return text if len(text) <= width else text[: width - 3] + "..."
