"""Format text safely for people and file names, and numbers and curves in few characters."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from tsq_cli.printable import UNPRINTABLE, printable

_BARS = "▁▂▃▄▅▆▇█"
_ASCII_BARS = "12345678"

_ASCII_FORMS = {
    "\u00a0": " ", "°": " deg", "±": "+-", "·": "-", "×": "x", "“": '"', "”": '"', "‘": "'", "’": "'",  # noqa: RUF001
    "–": "-", "—": "-", "•": "*", "…": "...", "→": "->", "█": "#", "─": "-", "━": "-", "╸": "-", "╺": "-",  # noqa: RUF001
    "│": "|",
    **dict.fromkeys("┌┐└┘├┤┬┴┼╭╮╯╰╷╵╶╴", "+"),
}  # fmt: skip

_NOT_IN_A_NAME = re.compile(r'[/\\<>:"|?*]')
_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(?=\.|$)", re.IGNORECASE)
_LONGEST_STEM = 120  # bytes; a name has 255, and rank, time, suffix and a temporary's ending must fit beside the stem

_FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")  # and the wide ones of East Asian keyboards


def ascii_forms(error: UnicodeError) -> tuple[str, int]:
    """Replace characters that an encoding lacks by ASCII: a handler for ``codecs.register_error``.

    Our own typography gets a form that reads the same (… is ..., ─ is -, █ is #), everything else an escape.
    """
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(_ASCII_FORMS.get(c) or _in_ascii(c) for c in error.object[error.start : error.end]), error.end


def _in_ascii(character: str) -> str:
    is_spinner = "\u2800" <= character <= "\u28ff"
    return "*" if is_spinner else character.encode("ascii", "backslashreplace").decode()


def markdown(text: str) -> str:
    """Escape text for a line or a table cell of Markdown: printable, and nothing in it is markup."""
    return re.sub(r"[\\`*<|]|(?<=\])\(", r"\\\g<0>", printable(text))


def spreadsheet_cell(text: str) -> str:
    """Escape text for a cell of a CSV file: printable, and not a formula for a spreadsheet.

    A text that begins like a formula gets an apostrophe before it (OWASP, "CSV Injection").
    """
    return f"'{printable(text)}" if text.startswith((*_FORMULA, "\t", "\r")) else printable(text)


def safe_stem(stem: str) -> str:
    r"""Turn the stem of a video's name into the start of file names that are valid on every file system.

    Separators, control and invisible characters, those that Windows forbids (``<>:"\|?*``) and a leading ``-`` or ``.``
    become ``_``; a byte that is not text becomes ``_ff``; a name that Windows reserves (CON, NUL, COM1) gets a ``_``.
    At most 120 bytes of UTF-8 are kept, cut between characters. Different stems can become equal.

    Returns:
        At least one character; "video" for an empty stem.
    """
    bytes_shown = re.sub("[\udc80-\udcff]", lambda found: f"_{ord(found[0]) - 0xDC00:02x}", stem)
    safe = _NOT_IN_A_NAME.sub("_", UNPRINTABLE.sub("_", bytes_shown))
    safe = _RESERVED.sub(r"\1_", safe, count=1) if _RESERVED.match(safe) else safe
    if safe.startswith(("-", ".")):
        safe = "_" + safe[1:]
    return safe.encode()[:_LONGEST_STEM].decode(errors="ignore") or "video"


def clock(seconds: float) -> str:
    """Format a time as m:ss.mmm, or h:mm:ss.mmm from an hour on."""
    milliseconds = round(seconds * 1000)
    minutes, milliseconds = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    rest = f"{minutes:02d}" if hours else f"{minutes}"
    return (f"{hours}:" if hours else "") + f"{rest}:{milliseconds // 1000:02d}.{milliseconds % 1000:03d}"


def way_to_choose(selector: str, rule: str | None, queries: Sequence[str]) -> str:
    """Name the rule that selected: "tsq", "auto (cover)" if auto followed cover, "query: a dog; a cat"."""
    if queries:
        return f"query: {'; '.join(queries)}"
    return selector if rule in (selector, None) else f"{selector} ({rule})"


def query_texts(record: Mapping[str, Any]) -> list[str]:
    """List the texts of a record's queries; none without a query."""
    return [query["text"] for query in record["query"]["queries"]] if record["query"] else []


def early_exit(record: Mapping[str, Any]) -> str:
    """Say after how many of a record's frames the recognizer was sure; empty where it saw all, or none ran."""
    used, listed = (record["recognizer"] or {}).get("frames_used"), len(record["frames"])
    return f"early exit after {used} of {listed} frames" if used is not None and used < listed else ""


def chosen_for(chosen_by: str, event: int | None) -> str:
    """Name the reason for a frame in a word or two; an event, counted from 0, by its number: "event 3"."""
    return f"event {event + 1}" if chosen_by == "event" and event is not None else chosen_by


def as_sentence(reason: str) -> str:
    """Turn a record's reason into a sentence with a capital and a full stop; empty stays empty."""
    return f"{reason[0].upper()}{reason[1:]}." if reason else ""


def sparkline(values: Sequence[float], encoding: str = "utf-8") -> str:
    """Draw one bar per value, from zero to the largest; digits from 1 to 8 if the encoding lacks the bars."""
    bars = _BARS if _carries(encoding, _BARS) else _ASCII_BARS
    top = max(values, default=0.0)
    if top <= 0:
        return bars[0] * len(values)
    return "".join(bars[min(len(bars) - 1, int(value / top * len(bars)))] for value in values)


def _carries(encoding: str, text: str) -> bool:
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True
