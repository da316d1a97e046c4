"""Room 0: every error a user can meet, each with its exit code.

Errors are raised deep and printed once, in ``cli``, as one line: what was got, what was wanted, what to do next.
"""

from __future__ import annotations

EXIT_OK = 0
EXIT_INPUT_FAILED = 1
EXIT_USAGE = 2
EXIT_WEIGHTS = 3
EXIT_INTERRUPTED = 130


def install_extra(extra: str) -> str:
    """What to do where an optional package is missing. tsq is not on PyPI: pip knows it by its folder or wheel only."""
    return f"install tsq with its extra {extra}: pip install '.[{extra}]' in its folder, or 'NAME.whl[{extra}]'"


class TsqError(Exception):
    """Base of all errors meant for the user.

    Args:
        got: what was found, naming the file or option ("clip.mp4 is empty (0 bytes)").
        wanted: what would have been right ("a video file"), without a final stop.
        fix: what the user can do next ("check that the download finished"), without a final stop.
    """

    exit_code = EXIT_INPUT_FAILED

    def __init__(self, got: str, *, wanted: str, fix: str) -> None:
        self.got = " ".join(got.split())
        self.wanted = wanted
        self.fix = fix
        super().__init__(f"{self.got}; wanted {wanted}; {fix}")


class UsageError(TsqError):
    """An option or argument that cannot be used. Raised before any weights load."""

    exit_code = EXIT_USAGE


class InputNotFoundError(UsageError):
    """An input path that does not exist, or a folder or list that names no file."""


class WeightsError(TsqError):
    """Weights that are missing, damaged, of the wrong shape, unsafe to read or out of reach."""

    exit_code = EXIT_WEIGHTS


class VideoError(TsqError):
    """One input that cannot be used. A batch records it and goes on."""


class NotAVideoError(VideoError):
    """A directory, an empty file, or bytes that no demuxer accepts."""


class NoVideoStreamError(VideoError):
    """A media file with no picture stream (audio only, subtitles only)."""


class NoDecodableFrameError(VideoError):
    """A video stream none of whose frames can be decoded (damaged, or an unsupported codec)."""


class EncryptedVideoError(VideoError):
    """A video stream whose samples are encrypted."""


class NvdecError(VideoError):
    """A video that no GPU of this machine decodes."""


class TimeRangeError(VideoError):
    """A --start/--end range that holds no frame of this video."""


class OutputError(TsqError):
    """A result that cannot be written (full disk, no permission, path in the way)."""
