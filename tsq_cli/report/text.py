"""Room 3: numbers and curves as short text."""

from __future__ import annotations

from collections.abc import Sequence

_BARS = "▁▂▃▄▅▆▇█"


def clock(seconds: float) -> str:
    """A time as m:ss.mmm, or h:mm:ss.mmm from an hour on."""
    milliseconds = round(seconds * 1000)
    minutes, milliseconds = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    rest = f"{minutes:02d}" if hours else f"{minutes}"
    return (f"{hours}:" if hours else "") + f"{rest}:{milliseconds // 1000:02d}.{milliseconds % 1000:03d}"


def sparkline(values: Sequence[float]) -> str:
    """One bar a value, from zero to the largest."""
    top = max(values, default=0.0)
    if top <= 0:
        return _BARS[0] * len(values)
    return "".join(_BARS[min(len(_BARS) - 1, int(value / top * len(_BARS)))] for value in values)
