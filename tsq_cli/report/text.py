"""Text that is safe to show or to name a file by; numbers and curves in few characters."""

from __future__ import annotations

import re
from collections.abc import Sequence

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
    """Handler for ``codecs.register_error``: what an encoding lacks, in ASCII.

    Our own typography gets a form that reads the same (… is ..., ─ is -, █ is #), everything else an escape.
    """
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(_ASCII_FORMS.get(c) or _in_ascii(c) for c in error.object[error.start : error.end]), error.end


def _in_ascii(character: str) -> str:
    is_spinner = "\u2800" <= character <= "\u28ff"
    return "*" if is_spinner else character.encode("ascii", "backslashreplace").decode()


def markdown(text: str) -> str:
    """Text for a line or a table's cell of Markdown: printable, and none of it taken as markup."""
    return re.sub(r"[\\`*<|]|(?<=\])\(", r"\\\g<0>", printable(text))


def spreadsheet_cell(text: str) -> str:
    """Text for a cell of a CSV file: printable, and no formula to the spreadsheet that opens it.

    A text that begins as formulas do gets an apostrophe before it (OWASP, "CSV Injection").
    """
    return f"'{printable(text)}" if text.startswith((*_FORMULA, "\t", "\r")) else printable(text)


def safe_stem(stem: str) -> str:
    r"""The stem of a video's name as the beginning of the names of new files, good on every file system.

    Separators, control and invisible characters, those that Windows forbids (``<>:"\|?*``) and a leading ``-`` or ``.``
    become ``_``; a byte that is no text becomes ``_ff``; a name that Windows reserves (CON, NUL, COM1) gets a ``_``. At
    most 120 bytes of UTF-8 are kept, cut between characters. Different stems can become the same one.

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
    """A time as m:ss.mmm, or h:mm:ss.mmm from an hour on."""
    milliseconds = round(seconds * 1000)
    minutes, milliseconds = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    rest = f"{minutes:02d}" if hours else f"{minutes}"
    return (f"{hours}:" if hours else "") + f"{rest}:{milliseconds // 1000:02d}.{milliseconds % 1000:03d}"


def way_to_choose(selector: str, rule: str | None, query: str | None) -> str:
    """Which rule chose, in a few words: "tsq", "auto (cover)" where cover was followed, "query: a dog"."""
    if query is not None:
        return f"query: {query}"
    return selector if rule in (selector, None) else f"{selector} ({rule})"


def chosen_for(chosen_by: str, event: int | None) -> str:
    """What a frame was chosen for, in a word or two; an event, which counts from 0, is named: "event 3"."""
    return f"event {event + 1}" if chosen_by == "event" and event is not None else chosen_by


def as_sentence(reason: str) -> str:
    """A reason as records have it, with a capital and a full stop; empty where there is none."""
    return f"{reason[0].upper()}{reason[1:]}." if reason else ""


def sparkline(values: Sequence[float], encoding: str = "utf-8") -> str:
    """One bar per value, from zero to the largest; digits from 1 to 8 where the encoding lacks the bars."""
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
