"""The errors that a user can meet, each with its exit code.

An error is raised where it occurs and printed once, by ``cli``, as one line: what was got, what was wanted, what to do.
"""

from __future__ import annotations

EXIT_OK = 0
EXIT_INPUT_FAILED = 1
EXIT_USAGE = 2
EXIT_WEIGHTS = 3
EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141
"""128 + SIGPIPE: exit code in a shell of programs whose reader has closed the pipe (`| head -1`)."""


def install_extra(extra: str) -> str:
    """Say how to install an optional dependency. tsq is not on PyPI: pip finds it by its folder or wheel only."""
    return f"install tsq with its extra {extra}: pip install '.[{extra}]' in its folder, or 'NAME.whl[{extra}]'"


class TsqError(Exception):
    """Base class of all errors meant for the user.

    Args:
        got: the problem, naming the file or option ("clip.mp4 is empty (0 bytes)"). Names are not escaped: the code
            that shows the message does that.
        wanted: the correct input ("a video file"), without a final stop.
        fix: the next step for the user ("check that the download finished"), without a final stop.
    """

    exit_code = EXIT_INPUT_FAILED

    def __init__(self, got: str, *, wanted: str, fix: str) -> None:
        self.got = got
        self.wanted = wanted
        self.fix = fix
        super().__init__(f"{self.got}; wanted {wanted}; {fix}")

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle by what the error was made of: it may come from another process."""
        return _remade, (type(self), self.got, self.wanted, self.fix)


def _remade(kind: type[TsqError], got: str, wanted: str, fix: str) -> TsqError:
    error = kind.__new__(kind)
    TsqError.__init__(error, got, wanted=wanted, fix=fix)
    return error


def one_line(said: object) -> str:
    """Join a library's message, often several lines, into one line."""
    return " ".join(str(said).split())


class UsageError(TsqError):
    """An option or argument that cannot be used. Raised before any weights load."""

    exit_code = EXIT_USAGE


class InputNotFoundError(UsageError):
    """An input path that does not exist, or a folder or list that names no file."""


class WeightsError(TsqError):
    """Weights that are missing, damaged, of the wrong shape, unsafe to read or not downloadable."""

    exit_code = EXIT_WEIGHTS


class VideoError(TsqError):
    """One input that cannot be used; a batch records it and goes on."""


class NotAVideoError(VideoError):
    """A directory, an empty file, or bytes that no demuxer accepts."""


class NoVideoStreamError(VideoError):
    """A media file with no picture stream (audio only, subtitles only)."""


class NoDecodableFrameError(VideoError):
    """A video stream none of whose frames can be decoded (damaged, or an unsupported codec)."""


class EncryptedVideoError(VideoError):
    """A video stream whose samples are encrypted."""


class TooLargeError(VideoError):
    """A video whose frames or candidates take more memory than the limit for one video."""


class VideoTimeoutError(VideoError):
    """A video that was not read and decoded within its time limit."""


class StoreError(VideoError):
    """A store or a web server that refuses, does not answer, or cannot give parts of a file."""


class NvdecError(VideoError):
    """Decoding by NVDEC where there is no NVIDIA GPU, or not the one that was asked for."""


class DecoderCrashError(VideoError):
    """A video that killed the process reading it, as found out by the next run."""


class TimeRangeError(VideoError):
    """A --start/--end range without a frame of this video."""


class OutputError(TsqError):
    """A result that cannot be written (full disk, no permission, path in the way)."""


class ClusterError(TsqError):
    """A run on many machines that cannot go on."""


class StdoutError(OutputError):
    """Stdout that cannot be written (full disk, closed)."""

    def __init__(self, got: str) -> None:
        super().__init__(got, wanted="a stdout that takes output", fix="free some space, or redirect it elsewhere")


class StdoutClosedError(StdoutError):
    """Stdout whose reader has closed it, as `| head -1` does on purpose; not reported."""

    exit_code = EXIT_BROKEN_PIPE
