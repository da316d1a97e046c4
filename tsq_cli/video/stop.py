"""When reading and decoding end early: the caller asks for it, or a video takes too long."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import CancelledError

from tsq_cli.errors import VideoTimeoutError

ShouldStop = Callable[[], bool]


def never() -> bool:
    """The should_stop that never asks to stop."""
    return False


def check_stop(should_stop: ShouldStop) -> None:
    """Raise CancelledError where the caller asked to stop."""
    if should_stop():
        raise CancelledError("the decode was stopped")


def deadline(path: str | os.PathLike[str], seconds: float, should_stop: ShouldStop | None = None) -> ShouldStop:
    """A should_stop that also ends work on a video when the time allowed for it is over.

    Args:
        path: the video, for the error.
        seconds: the time allowed, from now on.
        should_stop: asked first: who stops a run is not told of a timeout.

    Returns:
        A function that answers as should_stop does, and raises VideoTimeoutError after the deadline.
    """
    stops, end = should_stop or never, time.monotonic() + seconds

    def stops_or_is_late() -> bool:
        if stops():
            return True
        if time.monotonic() > end:
            raise timed_out(path, seconds)
        return False

    return stops_or_is_late


def timed_out(path: str | os.PathLike[str], seconds: float) -> VideoTimeoutError:
    """The error for a video that takes too long."""
    return VideoTimeoutError(
        f"{path} was not read within {seconds:g} s",
        wanted="a video that can be read and decoded in that time",
        fix="give a larger --timeout, or a part of the video with --start and --end",
    )
