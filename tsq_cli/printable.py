"""Make text from outside safe to show."""

from __future__ import annotations

import re

# Characters that move the cursor, end a line, change the writing direction or are invisible. Joiners (U+200C, U+200D)
# stay: scripts and emoji need them. Lone surrogates stand for bytes that are not UTF-8 (PEP 383).
UNPRINTABLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u115f\u1160\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\u3164\ufeff\uffa0"
    "\ufff0-\ufffb\ud800-\udfff\U000e0000-\U000e0fff]"
)
_SHORT_ESCAPES = {"\t": r"\t", "\n": r"\n", "\r": r"\r"}


def printable(text: str, most: int | None = None) -> str:
    r"""Escape text so that it can be shown anywhere: on one line, without terminal commands or characters that no
    encoder takes.

    Control characters, line and paragraph separators, characters that change the writing direction, invisible ones,
    and bytes that are not text become Python's escapes (``\n``, ``\x1b``, ``\u202e``, ``\xff`` for the byte ff). All
    else stays, backslashes too, so the result is for people; JSON has the exact name.

    Args:
        text: a name, a message, any text from outside.
        most: largest length of the result; the middle of a longer one is replaced by "…".
    """
    shown = UNPRINTABLE.sub(lambda found: _escape(found[0]), text)
    if most is None or len(shown) <= most:
        return shown
    end = (most - 1) // 2
    return f"{shown[: most - 1 - end]}…{shown[len(shown) - end :]}"


def _escape(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:
        return rf"\x{code - 0xDC00:02x}"
    if character in _SHORT_ESCAPES:
        return _SHORT_ESCAPES[character]
    if code < 0x80:
        return rf"\x{code:02x}"
    return rf"\u{code:04x}" if code < 0x10000 else rf"\U{code:08x}"  # U+0085 is \u0085: \x85 says byte 85


def shown(value: object, width: int = 60) -> str:
    """Format a value from outside for a message: its repr, in at most `width` characters."""
    text = repr(value)
    return text if len(text) <= width else text[: width - 3] + "..."
