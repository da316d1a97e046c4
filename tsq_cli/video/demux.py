"""Open a file with FFmpeg and choose its video stream. Code that depends on PyAV's version is here and in packets."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from fractions import Fraction
from typing import Self

import av
from av.codec.hwaccel import HWAccel
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from tsq_cli.config import Limits
from tsq_cli.errors import (
    NoDecodableFrameError,
    NotAVideoError,
    NoVideoStreamError,
    NvdecError,
    TooLargeError,
)
from tsq_cli.inputs import file_status
from tsq_cli.video.formats import options, playlist
from tsq_cli.video.media import Media, MediaBytes, open_media
from tsq_cli.video.remote import HOLLOW_CODECS, WHOLE_BYTES, RemoteMedia
from tsq_cli.video.stop import ShouldStop, StoppableFile, interruptible, never

PADDING_PIXELS = 2**18
"""A decoder pads frames to whole blocks before it counts their pixels. Twice the limit plus these leaves room for that,
and still stops a file whose frames are larger than its header says before they are allocated."""

FFMPEG_MAX_PIXELS = 2**31 - 1
"""The largest limit that a decoder takes; its own is lower (2^28 less a border)."""

OPEN_ERRORS = (av.FFmpegError, OSError, ValueError, NotImplementedError, RuntimeError)
"""Errors that PyAV raises for files that it cannot open."""


class NotOnGpuError(Exception):
    """A stream that NVDEC cannot decode, for its codec, profile or size; the CPU may."""


@dataclass(frozen=True, eq=False)
class OpenStream:
    """A container and the video stream chosen from it, with a codec context that decodes in the calling thread.

    Attributes:
        container, stream: PyAV's.
        file: what the container reads from.
        media: the file.
        limits: of the video.
        gpu: index of the NVIDIA GPU that decodes its frames; None for the CPU.
    """

    container: InputContainer
    stream: VideoStream
    file: StoppableFile
    media: str | MediaBytes | RemoteMedia
    limits: Limits
    gpu: int | None = None

    @property
    def path(self) -> str:
        """The file's name."""
        return str(self.media)

    def reopen(self) -> OpenStream:
        """Close the file and open it again in the same way, at its beginning."""
        self.close()
        return open_stream(self.media, limits=self.limits, gpu=self.gpu, should_stop=self.file.should_stop)

    def index_alone(self) -> OpenStream | None:
        """Open a long MP4 in a store again for a list of its packets without their content, which is not fetched.

        None for other files, whose packets have to be read.
        """
        codec, container = self.stream.codec_context.codec.canonical_name, self.container.format.name
        if not isinstance(self.media, RemoteMedia) or self.media.size <= WHOLE_BYTES:
            return None
        if codec not in HOLLOW_CODECS or not container.startswith("mov,"):
            return None
        # A parser would take zeros for pictures that are no keyframes: without it, the file's own index says what is.
        opened = _open(self.media, self.limits, self.file.should_stop, container_options={"fflags": "noparse"})
        opened.file.leave_out_pictures()
        return opened

    def close(self) -> None:
        """Close the file."""
        self.container.close()
        self.file.close()


@dataclass(frozen=True, kw_only=True)
class StreamFacts:
    """Facts that the container states about a stream, copied: a PyAV stream must not be read once its file is closed.

    Attributes:
        index: of the stream in the file.
        codec: the codec's name, whichever decoder is used.
        time_base: seconds per unit of pts.
        rate: frames per second as stated or guessed; None where there is no hint.
        sample_aspect_ratio: width of a pixel over its height; None where it is not stated.
    """

    index: int
    codec: str
    time_base: Fraction
    rate: Fraction | None
    sample_aspect_ratio: Fraction | None

    @classmethod
    def of(cls, stream: VideoStream) -> Self:
        """Copy the facts of an open stream. PyAV 19 will give zeros where these properties now give None."""
        return cls(
            index=stream.index,
            codec=stream.codec_context.codec.canonical_name,
            time_base=stream.time_base or Fraction(1, 1000),
            rate=stream.guessed_rate or stream.average_rate or None,
            sample_aspect_ratio=stream.sample_aspect_ratio or None,
        )


def check_file(path: Media) -> tuple[int, int]:
    """Check that a file can be tried as a video, and return its size in bytes and time of modification in ns.

    Bytes in memory have a hash of them in the place of the time, so that it tells two videos of one name apart.

    Raises:
        InputNotFoundError: the path does not exist or cannot exist (see tsq_cli.inputs.file_status).
        NotAVideoError: a directory, an empty file, or no regular file at all.
    """
    size, modified_ns = _size_and_time(path)
    if size == 0:
        raise NotAVideoError(
            f"{path} is empty (0 bytes)", wanted="a video file", fix="check that the copy or download finished"
        )
    return size, modified_ns


def _size_and_time(path: Media) -> tuple[int, int]:
    if isinstance(path, MediaBytes):
        return len(path.data), int(path.sha256[:15], 16)
    fix = "give the path of a video file"
    status = path.status if isinstance(path, RemoteMedia) else file_status(path)
    if stat.S_ISDIR(status.st_mode):
        raise NotAVideoError(f"{path} is a directory", wanted="a video file", fix=fix)
    if not stat.S_ISREG(status.st_mode):  # reading a device or a pipe may wait for ever
        raise NotAVideoError(f"{path} is not a regular file", wanted="a video file", fix=fix)
    return status.st_size, status.st_mtime_ns


def open_stream(path: Media, *, limits: Limits, gpu: int | None = None, should_stop: ShouldStop = never) -> OpenStream:
    """Open a file and choose its best video stream (by FFmpeg's rule, cover pictures excluded).

    Args:
        path: the file.
        limits: larger frames than these allow are refused by the decoder.
        gpu: index of an NVIDIA GPU that decodes; frames come back to the host, with the pixels that a CPU would give.
            None for the CPU.
        should_stop: polled before each block is read, until another one replaces it.

    Raises:
        NvdecError: gpu where there is no such GPU; the file is known to open.
        NotOnGpuError: gpu, and NVDEC does not know the codec.
        NotAVideoError: no demuxer reads the file, or only one that would read other files too.
        NoVideoStreamError: there is no picture stream.
        NoDecodableFrameError: the stream's codec is not supported.
        TooLargeError: the stream says that its frames have more pixels than are allowed.
        CancelledError: should_stop said so.
    """
    if gpu is None:
        return _open(path, limits, should_stop)
    try:
        # torch's own context of this GPU. A context for every decoder would take memory and, at first, a second or so.
        return _open(path, limits, should_stop, gpu, {"primary_ctx": "1"})
    except NvdecError:  # FFmpeg shares one only if it was first: torch's waits in another way than it wants
        return _open(path, limits, should_stop, gpu, {})


def _open(
    path: Media,
    limits: Limits,
    should_stop: ShouldStop,
    gpu: int | None = None,
    gpu_options: dict[str, object] | None = None,
    container_options: dict[str, str] | None = None,
) -> OpenStream:
    decoder_options = {"max_pixels": str(min(2 * limits.max_pixels + PADDING_PIXELS, FFMPEG_MAX_PIXELS))}
    try:
        file = StoppableFile(path, should_stop)
    except OSError as error:
        raise _unreadable(path, error) from error
    container: InputContainer | None = None
    try:
        with interruptible():
            container = av.open(
                file,
                "r",
                options=decoder_options,
                container_options=options(path) | _less_analysis(file) | (container_options or {}),
                metadata_errors="replace",
                hwaccel=None if gpu is None else _nvdec(gpu, gpu_options),
            )
        stream = _choose_stream(container, path)
        if gpu is not None:
            _check_on_gpu(path, stream)
        check_pixels(path, stream.codec_context.width, stream.codec_context.height, limits)
        stream.codec_context.options = decoder_options
        media = path if isinstance(path, MediaBytes | RemoteMedia) else os.fspath(path)
        return OpenStream(container, stream, file, media, limits, gpu)
    except BaseException as error:
        if container is not None:
            container.close()
        file.close()
        if container is None and isinstance(error, OPEN_ERRORS):
            raise (_unreadable if gpu is None else _refused)(path, error) from error
        raise


def _less_analysis(file: StoppableFile) -> dict[str, str]:
    """Keep FFmpeg from guessing the frame rate of an MP4, whose index states all times.

    For one with a variable rate it would read 20 frames, and decode up to 7 of them, whenever the file is opened.
    """
    is_mp4 = _is_mp4(file.read(8))
    file.seek(0)
    return {"fpsprobesize": "0"} if is_mp4 else {}


def _nvdec(gpu: int, gpu_options: dict[str, object] | None) -> HWAccel:
    return HWAccel("cuda", device=str(gpu), allow_software_fallback=False, options=gpu_options)


def _check_on_gpu(path: Media, stream: VideoStream) -> None:
    """Refuse a stream whose codec NVDEC does not know: beside another that it knows, PyAV opens it for the CPU."""
    if not stream.codec_context.is_hwaccel:
        raise NotOnGpuError(path)


def _refused(path: Media, error: Exception) -> NvdecError | NotOnGpuError:
    if type(error) is RuntimeError:  # PyAV's own: NVDEC knows the codec of no stream; FFmpeg's are subclasses
        return NotOnGpuError(path)
    return NvdecError(
        f"{path} cannot be decoded by NVDEC ({error})",
        wanted="an NVIDIA GPU with its driver",
        fix="use --decode exact, which gives the same frames",
    )


def _unreadable(path: Media, error: Exception) -> NotAVideoError:
    if isinstance(error, OSError) and not isinstance(error, av.FFmpegError):  # the system's own, not FFmpeg's
        return NotAVideoError(
            f"{path} cannot be read ({error.strerror})",
            wanted="a readable file",
            fix="check its permissions and the disk",
        )
    with open_media(path) as file:
        is_mp4 = _is_mp4(file.read(8))
    if is_mp4:
        return NotAVideoError(
            f"{path} is an MP4 file without a usable index (moov box)",
            wanted="a complete video file",
            fix="the recording or download was probably cut off: fetch it again",
        )
    return playlist(path) or NotAVideoError(
        f"{path} is not a video that FFmpeg can read", wanted="a video file", fix="check the file"
    )


def _is_mp4(head: bytes) -> bool:
    return head[4:] == b"ftyp"


def check_pixels(path: Media, width: int, height: int, limits: Limits) -> None:
    """Refuse frames of this size if they have more pixels than are allowed.

    Raises:
        TooLargeError: they have.
    """
    if width * height > limits.max_pixels:
        raise TooLargeError(
            f"{path} has frames of {width}x{height}, {width * height} pixels",
            wanted=f"at most {limits.max_pixels} pixels",
            fix="make a smaller copy of it, or give a larger --max-pixels",
        )


def _choose_stream(container: InputContainer, path: Media) -> VideoStream:
    if container.format.name == "tty":  # FFmpeg draws any .txt file as ANSI art
        raise playlist(path) or NotAVideoError(f"{path} is a text file", wanted="a video file", fix="check the file")
    moving = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not moving:
        kinds = sorted({"cover picture" if s.type == "video" else s.type for s in container.streams})
        raise NoVideoStreamError(
            f"{path} holds no video stream ({', '.join(kinds) or 'nothing'} only)",
            wanted="a file with moving pictures",
            fix="leave this file out",
        )
    best = container.streams.best("video")
    stream = best if isinstance(best, VideoStream) and best in moving else moving[0]
    if stream.codec_context is None:
        raise NoDecodableFrameError(
            f"{path} uses a video codec that this FFmpeg cannot decode",
            wanted="a codec such as H.264, HEVC, VP9 or AV1",
            fix="convert the file first",
        )
    for other in container.streams:
        if other is not stream:
            other.discard = av.stream.Discard.all
    stream.codec_context.thread_type = "NONE"
    stream.codec_context.thread_count = 1
    return stream
