"""The decoders that are timed against each other: each turns a file and 16 frame times into the same RGB pictures.

Others are imported when they are used, get the settings that suit them best, and may be missing.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.reference_decoder import decode_all, frame_seconds
from tsq_cli.config import DecodeMode
from tsq_cli.types import Float64Array, Int64Array, UInt8Array
from tsq_cli.video import decode_frames, open_video, sample_frames

SHORT_SIDE = 256
TARGETS = 16


@dataclass(frozen=True, kw_only=True)
class Task:
    """The frames that every method must return for one clip.

    Attributes:
        path: the file.
        stream_index: of the video's stream in the file.
        start_seconds: time of the first frame shown on the file's own clock.
        times_seconds: float64 [T], relative to the first frame shown: the middle of the time that each frame is on
            screen, so that no method loses one by rounding.
        indices: int64 [T], rising, the frames wanted: those on screen at the centers of 16 equal segments, each once;
            all of them where there are no more.
        width, height: size of the pictures wanted: upright, square pixels, short side 256.
    """

    path: Path
    stream_index: int
    start_seconds: float
    times_seconds: Float64Array
    indices: Int64Array
    width: int
    height: int

    @classmethod
    def of(cls, path: Path, count: int) -> Task:
        """The task for a clip: which times are wanted is for `tsq` to say, which frames those are for a plain pass.

        Args:
            path: the file, any that `tsq select` takes.
            count: centers of so many segments.

        Raises:
            NotAVideoError, NoVideoStreamError, NoDecodableFrameError: the clip cannot be used.
        """
        with open_video(path) as source:
            info, end = source.info, source.end_seconds
            wanted = sample_frames(source.pts_seconds, end, count).times_seconds
        shown = frame_seconds(path, info.stream_index)
        seconds = shown - shown[0]
        # A microsecond forgives rounding where a target falls on a frame.
        indices = np.unique(np.searchsorted(seconds, wanted + 1e-6, side="right") - 1)
        scale = min(1.0, SHORT_SIDE / min(info.width, info.height))
        return cls(
            path=path,
            stream_index=info.stream_index,
            start_seconds=float(shown[0]),
            times_seconds=(seconds[indices] + np.append(seconds[1:], end)[indices]) / 2,
            indices=indices,
            width=round(info.width * scale),
            height=round(info.height * scale),
        )

    @property
    def count(self) -> int:
        """Number of targets T."""
        return len(self.indices)

    def to_json(self) -> str:
        """The task as text, for another process."""
        values = {"times_seconds": self.times_seconds.tolist(), "indices": self.indices.tolist()}
        return json.dumps({**vars(self), **values, "path": str(self.path)})

    @classmethod
    def from_json(cls, text: str) -> Task:
        """The task that ``to_json`` wrote."""
        values = json.loads(text)
        return cls(
            **{
                **values,
                "path": Path(values["path"]),
                "times_seconds": np.array(values["times_seconds"], dtype=np.float64),
                "indices": np.array(values["indices"], dtype=np.int64),
            }
        )


@dataclass(frozen=True, kw_only=True)
class Method:
    """One way to do the task.

    Attributes:
        family: what the table calls it; of several variants of a family the fastest correct one counts.
        variant: its settings, in words; empty where there is only one.
        is_exact: whether its pictures must be those asked for.
        is_other: whether it is one of the libraries that ours is measured against.
        module: the module it needs.
        decode: opens the file afresh and returns uint8 [T, H, W, 3], RGB.
    """

    family: str
    variant: str = ""
    is_exact: bool = True
    is_other: bool = False
    module: str
    decode: Callable[[Task], UInt8Array]

    @property
    def name(self) -> str:
        """Family and variant."""
        return f"{self.family} {self.variant}".strip()


def methods() -> list[Method]:
    """All methods, every variant."""
    found = [
        Method(family="tsq exact", module="tsq_cli.video", decode=lambda task: _ours(task, "exact")),
        Method(
            family="tsq keyframes", is_exact=False, module="tsq_cli.video", decode=lambda task: _ours(task, "keyframes")
        ),
    ]
    found += [
        Method(
            family="sequential", variant=f"threads={threads}", module="av", decode=_with(sequential, threads=threads)
        )
        for threads in (1, 2)
    ]
    found += [
        Method(
            family="torchcodec",
            variant=f"{seek_mode}, threads={threads}",
            is_other=True,
            module="torchcodec.decoders",
            decode=_with(_torchcodec, seek_mode=seek_mode, threads=threads),
        )
        for seek_mode in ("exact", "approximate")
        for threads in (0, 1, 2)
    ]
    found += [
        Method(
            family="decord",
            variant=f"threads={threads}",
            is_other=True,
            module="decord",
            decode=_with(_decord, threads=threads),
        )
        for threads in (0, 1, 2)
    ]
    found += [
        Method(family="opencv", variant=variant, is_other=True, module="cv2", decode=decode)
        for variant, decode in (("seek", _opencv_seek), ("grab", _opencv_grab))
    ]
    found += [
        Method(family="pyav", variant=variant, is_other=True, module="av", decode=decode)
        for variant, decode in (("seek, first", _pyav_seek), ("seek, search", _pyav_search))
    ]
    return found


def _with(decode: Callable[..., UInt8Array], **settings: Any) -> Callable[[Task], UInt8Array]:
    return partial(decode, **settings)


def _ours(task: Task, mode: DecodeMode) -> UInt8Array:
    with open_video(task.path) as source:
        plan = sample_frames(source.pts_seconds, source.end_seconds, TARGETS)
        return decode_frames(source, plan.frame_indices, short_side=SHORT_SIDE, mode=mode).pixels


def sequential(task: Task, *, threads: int = 2, margin: int = 0) -> UInt8Array:
    """Decode the whole stream with PyAV and keep the targets, each with ``margin`` frames on both sides.

    Returns:
        uint8 [T * (2 * margin + 1), H, W, 3]; a neighbor beyond either end of the clip is the frame at that end.
    """
    wanted = task.indices[:, None] + np.arange(-margin, margin + 1)
    return decode_all(
        task.path,
        wanted.ravel(),
        stream_index=task.stream_index,
        width=task.width,
        height=task.height,
        threads=threads,
    )


def _torchcodec(task: Task, *, seek_mode: str, threads: int) -> UInt8Array:
    decoders = importlib.import_module("torchcodec.decoders")
    transforms = importlib.import_module("torchcodec.transforms")
    decoder = decoders.VideoDecoder(
        task.path,
        dimension_order="NHWC",
        num_ffmpeg_threads=threads,
        seek_mode=seek_mode,
        transforms=[transforms.Resize((task.height, task.width))],
    )
    # The file's clock as it is: the start that the decoder states is wrong for AVI with B-frames.
    times = task.times_seconds + task.start_seconds
    pictures: UInt8Array = decoder.get_frames_played_at(times.tolist()).data.numpy()
    return pictures


def _decord(task: Task, *, threads: int) -> UInt8Array:
    decord = importlib.import_module("decord")
    reader = decord.VideoReader(str(task.path), width=task.width, height=task.height, num_threads=threads)
    pictures: UInt8Array = reader.get_batch(task.indices.tolist()).asnumpy()
    return pictures


def _opencv_seek(task: Task) -> UInt8Array:
    cv2 = importlib.import_module("cv2")
    capture = cv2.VideoCapture(str(task.path), cv2.CAP_FFMPEG)
    pictures = []
    for index in task.indices.tolist():
        capture.set(cv2.CAP_PROP_POS_FRAMES, index)
        pictures.append(_opencv_picture(cv2, capture.retrieve() if capture.grab() else (False, None), task))
    capture.release()
    return np.stack(pictures)


def _opencv_grab(task: Task) -> UInt8Array:
    cv2 = importlib.import_module("cv2")
    capture = cv2.VideoCapture(str(task.path), cv2.CAP_FFMPEG)
    pictures, reached = [], -1
    for index in task.indices.tolist():
        while reached < index and capture.grab():
            reached += 1
        pictures.append(_opencv_picture(cv2, capture.retrieve(), task))
    capture.release()
    return np.stack(pictures)


def _opencv_picture(cv2: Any, retrieved: tuple[bool, Any], task: Task) -> UInt8Array:
    is_there, picture = retrieved
    if not is_there:
        raise RuntimeError("OpenCV gave no frame")
    small = cv2.resize(picture, (task.width, task.height), interpolation=cv2.INTER_AREA)
    converted: UInt8Array = cv2.cvtColor(small, cv2.COLOR_BGR2RGB)
    return converted


def _pyav_seek(task: Task) -> UInt8Array:
    """Take the first frame after each seek, as is often written: a keyframe before the time."""
    return _pyav(task, lambda frames, _: next(frames))


def _pyav_search(task: Task) -> UInt8Array:
    """Decode on from each seek to the frame on screen."""
    return _pyav(task, _on_screen)


def _on_screen(frames: Iterator[Any], seconds: float) -> Any:
    found = next(frames)
    for frame in frames:
        if frame.time > seconds:
            break
        found = frame
    return found


def _pyav(task: Task, choose: Callable[[Iterator[Any], float], Any]) -> UInt8Array:
    av = importlib.import_module("av")
    pictures = []
    with av.open(str(task.path)) as container:
        stream = container.streams.video[0]
        for seconds in (task.times_seconds + task.start_seconds).tolist():
            container.seek(round(seconds / stream.time_base), stream=stream)
            frame = choose(container.decode(stream), seconds)
            pictures.append(
                frame.to_ndarray(format="rgb24", width=task.width, height=task.height, interpolation="AREA")
            )
    return np.stack(pictures)
