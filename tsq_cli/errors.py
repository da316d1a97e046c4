"""Every error a user can meet, each with its exit code.

Errors are raised deep and printed once, in ``cli``, as one line: what was got, what was wanted, what to do next.
"""

from __future__ import annotations

EXIT_OK = 0
EXIT_INPUT_FAILED = 1
EXIT_USAGE = 2
EXIT_WEIGHTS = 3
EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141
"""128 + SIGPIPE: what a shell reports of other programs whose reader has gone (`| head -1`)."""


def install_extra(extra: str) -> str:
    """What to do where an optional package is missing. tsq is not on PyPI: pip knows it by its folder or wheel only."""
    return f"install tsq with its extra {extra}: pip install '.[{extra}]' in its folder, or 'NAME.whl[{extra}]'"


class TsqError(Exception):
    """Base of all errors meant for the user.

    Args:
        got: what was found, naming the file or option ("clip.mp4 is empty (0 bytes)"). Names stand in it as they are:
            whoever shows it makes it printable.
        wanted: what would have been right ("a video file"), without a final stop.
        fix: what the user can do next ("check that the download finished"), without a final stop.
    """

    exit_code = EXIT_INPUT_FAILED

    def __init__(self, got: str, *, wanted: str, fix: str) -> None:
        self.got = got
        self.wanted = wanted
        self.fix = fix
        super().__init__(f"{self.got}; wanted {wanted}; {fix}")


def one_line(said: object) -> str:
    """What a library says, often over several lines, on one."""
    return " ".join(str(said).split())


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


class TooLargeError(VideoError):
    """A video whose frames, or whose candidates together, take more memory than one video may take."""


class VideoTimeoutError(VideoError):
    """A video that was not read and decoded within the time allowed for it."""


class NvdecError(VideoError):
    """A video that no GPU of this machine decodes."""


class DecoderCrashError(VideoError):
    """A video that killed the process which read it, as the next run found out."""


class TimeRangeError(VideoError):
    """A --start/--end range that holds no frame of this video."""


class OutputError(TsqError):
    """A result that cannot be written (full disk, no permission, path in the way)."""


class StdoutError(OutputError):
    """Stdout that cannot be written (full disk, closed)."""

    def __init__(self, got: str) -> None:
        super().__init__(got, wanted="a place for what is printed", fix="free some space, or send it elsewhere")


class StdoutClosedError(StdoutError):
    """Stdout whose reader has gone, as `| head -1` does on purpose. Nothing is said of it."""

    exit_code = EXIT_BROKEN_PIPE
