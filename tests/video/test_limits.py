"""Limits of one video: time, by a clock that the tests move themselves, and memory."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.video import pictures
from tests.video.clips import clip
from tests.video.encoding import FRAME, Recipe, encode
from tests.video.test_broken_clips import half, joined_streams
from tsq_cli import clip as clip_module
from tsq_cli.clip import load_clip
from tsq_cli.config import PAPER, Limits, SelectSettings
from tsq_cli.errors import NoDecodableFrameError, NotAVideoError, TooLargeError, VideoError, VideoTimeoutError
from tsq_cli.video import deadline, decode, decode_frames, frames_at_once, open_video
from tsq_cli.video.convert import Geometry, Orientation
from tsq_cli.video.decoder import StreamDecoder
from tsq_cli.video.demux import open_stream
from tsq_cli.video.encryption import is_encrypted_track
from tsq_cli.video.packets import read_packets, read_table

EVERY_CACHE = pytest.mark.parametrize("packet_cache_bytes", [64 * 2**20, 0], ids=["cached", "seeking"])


class Clock:
    """Stands in for time.monotonic: runs as it does, moves on when told to, and `step` seconds with each look at it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ahead = self.step = 0.0
        self._real = time.monotonic
        monkeypatch.setattr(time, "monotonic", self)

    def __call__(self) -> float:
        self.ahead += self.step
        return self._real() + self.ahead

    def passing(self, seconds: float) -> Callable[[], bool]:
        """A should_stop that never stops, but lets time pass with each question."""

        def asked() -> bool:
            self.ahead += seconds
            return False

        return asked


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def test_deadline_is_told_from_a_stop(clock: Clock) -> None:
    is_late = deadline("a.mp4", 10)
    asked_to_stop = deadline("a.mp4", 10, lambda: True)
    assert (is_late(), asked_to_stop()) == (False, True)
    clock.ahead = 11
    with pytest.raises(VideoTimeoutError) as caught:
        is_late()
    assert caught.value.got == "a.mp4 was not read within 10 s"
    assert "--timeout" in caught.value.fix
    assert "--start" in caught.value.fix
    assert asked_to_stop()


def test_reading_a_file_ends_at_the_time_allowed(clock: Clock) -> None:
    limits = Limits(timeout_seconds=30)
    with pytest.raises(VideoTimeoutError, match="30 s"):
        open_video(clip("h264_b_frames").path, limits=limits, should_stop=clock.passing(1))  # 60 packets
    assert len(open_video(clip("h264_b_frames").path, limits=limits).pts) == 60


def test_loading_has_one_allowance_for_all_of_it(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    def sample_slowly(*args: object, **options: object) -> object:
        clock.ahead += 700
        return sample(*args, **options)  # type: ignore[arg-type]

    sample = clip_module.sample_frames
    monkeypatch.setattr(clip_module, "sample_frames", sample_slowly)
    path = clip("h264_b_frames").path
    with pytest.raises(VideoTimeoutError, match="600 s"):
        load_clip(path, PAPER)
    load_clip(path, PAPER, limits=Limits(timeout_seconds=800)).close()


@EVERY_CACHE
def test_each_pass_has_the_time_to_itself(clock: Clock, packet_cache_bytes: int) -> None:
    source = open_video(clip("h264_b_frames").path, packet_cache_bytes=packet_cache_bytes)
    for _ in range(2):
        clock.ahead += 10_000  # between passes: what PyAV measures of a read must not go on meanwhile
        batch = decode_frames(source, [5, 40], short_side=64, should_stop=clock.passing(5))
        assert [pictures.read(picture) for picture in batch.pixels] == [5, 40]
        with pytest.raises(VideoTimeoutError, match="600 s"):
            decode_frames(source, [5, 40], should_stop=clock.passing(200))


@EVERY_CACHE
def test_stop_is_no_timeout(clock: Clock, packet_cache_bytes: int) -> None:
    source = open_video(clip("h264_b_frames").path, packet_cache_bytes=packet_cache_bytes)
    clock.step = 50.0
    with pytest.raises(CancelledError):
        decode_frames(source, [5, 40], should_stop=lambda: clock.ahead > 300)


@pytest.mark.parametrize(("name", "kept"), [("vp9", 400), ("mpeg4_b_frames", 400), ("mpeg2_program_stream", 9000)])
def test_a_search_without_end_is_ended(tmp_path: Path, name: str, kept: int, clock: Clock) -> None:
    """A gigabyte of zeros behind the first packets, which FFmpeg searches in one call: seconds, or minutes."""
    path = tmp_path / clip(name).path.name
    with path.open("wb") as file:
        file.write(clip(name).path.read_bytes()[:kept])
        file.truncate(2**30)
    asked = 0

    def stop_at_hundredth() -> bool:
        nonlocal asked
        asked += 1
        return asked >= 100

    with pytest.raises(CancelledError):
        open_video(path, should_stop=stop_at_hundredth)
    assert asked == 100
    with pytest.raises(VideoTimeoutError, match="600 s"):
        open_video(path, should_stop=clock.passing(10))


def test_decoder_that_was_stopped_while_it_read_opens_the_file_again() -> None:
    source = open_video(clip("mjpeg").path, packet_cache_bytes=0)  # two blocks, and more after each seek
    for last in range(60, 76):  # the second block is read at the 69th question
        questions = iter([False] * last + [True] * 9)
        with pytest.raises(CancelledError):
            decode_frames(source, range(60), short_side=16, threads=1, should_stop=questions.__next__)
        batch = decode_frames(source, [3, 57], short_side=64)
        assert [pictures.read(picture) for picture in batch.pixels] == [3, 57]
        assert batch.notes == ()


def test_interrupt_comes_through_ffmpeg() -> None:
    def interrupted() -> bool:
        raise KeyboardInterrupt

    path = clip("mjpeg").path
    with pytest.raises(KeyboardInterrupt):
        open_stream(path, limits=Limits(), should_stop=interrupted)
    opened = open_stream(path, limits=Limits())
    with pytest.raises(KeyboardInterrupt):
        list(read_packets(opened, interrupted))


def test_disk_that_fails_on_the_way_gives_what_was_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(descriptor: int, size: int) -> bytes:
        if os.lseek(descriptor, 0, os.SEEK_CUR) >= 32_768:
            raise OSError(errno.EIO, "the disk is broken")
        return read(descriptor, size)

    read, path = os.read, clip("mjpeg").path
    opened = open_stream(path, limits=Limits())
    monkeypatch.setattr(os, "read", failing)
    table = read_table(opened, max_packet_bytes=2**20, should_stop=lambda: False)
    assert 10 < len(table) < 60
    assert table.read_errors > 0
    with pytest.raises(NotAVideoError, match=r"cannot be read \(the disk is broken\)"):
        open_stream(path, limits=Limits())


def test_every_loop_asks_whether_to_stop(tmp_path: Path) -> None:
    asked: list[int] = []

    def stop_at_tenth() -> bool:
        asked.append(1)
        return len(asked) >= 10

    boxes = tmp_path / "boxes.mp4"
    boxes.write_bytes(b"\0\0\0\x08free" * 1000)
    with pytest.raises(CancelledError):
        is_encrypted_track(boxes, 1, stop_at_tenth)
    opened = open_stream(clip("h264_b_frames").path, limits=Limits())
    asked.clear()
    with pytest.raises(CancelledError):
        list(read_packets(opened, stop_at_tenth))
    assert len(asked) == 10
    source = open_video(clip("mpeg4_mkv").path)
    opened = open_stream(clip("mpeg4_mkv").path, limits=Limits())
    with pytest.raises(CancelledError):  # it looks at the first packets
        StreamDecoder(opened, source.table, lambda: True)


def test_packets_passed_over_ask_too() -> None:
    """If a seek fails, the file is read from its beginning; before the wanted packet nothing is decoded."""
    source = open_video(clip("h264_single_gop").path, packet_cache_bytes=0)
    source = replace(source, table=replace(source.table, dts=source.table.dts.copy()))
    source.table.dts[:] = 10**12  # seeking by these leads behind the end
    asked = 0

    def stop_at_fifth() -> bool:
        nonlocal asked
        asked += 1
        return asked >= 5

    with source.decoder() as decoder, pytest.raises(CancelledError):
        next(decoder.frames(90, 100, should_stop=stop_at_fifth))
    assert asked == 5


@pytest.mark.parametrize(("aspect", "size"), [(None, "160x120"), (FRAME * 50, "320x120")])
def test_frames_of_too_many_pixels_are_refused(tmp_path: Path, aspect: object, size: str) -> None:
    """As displayed, too: pixels twice as wide as high make a frame twice as large."""
    path = tmp_path / "clip.mp4"
    encode(path, replace(Recipe(num_frames=2), aspect=aspect))
    width, height = (int(side) for side in size.split("x"))
    assert open_video(path, limits=Limits(max_pixels=width * height)).info.width == width
    with pytest.raises(TooLargeError, match=f"frames of {size}") as caught:
        open_video(path, limits=Limits(max_pixels=width * height - 1))
    assert "--max-pixels" in caught.value.fix
    with pytest.raises(TooLargeError, match="frames of 160x120"):  # before anything is decoded
        open_stream(path, limits=Limits(max_pixels=160 * 120 - 1))


@pytest.mark.parametrize(
    ("size", "error", "message"),
    [((160, 120), TooLargeError, "frames of 160x120"), ((704, 576), NoDecodableFrameError, "at most 3072 pixels")],
)
def test_size_in_the_header_may_lie(
    tmp_path: Path, size: tuple[int, int], error: type[VideoError], message: str
) -> None:
    """The container says 64 x 48: what the decoder gives is looked at, and it gives nothing much larger."""
    path = tmp_path / "lie.avi"
    encode(path, Recipe(codec="mpeg4", time_base=FRAME, num_frames=5, width=size[0], height=size[1]))
    said, lie = (b"".join(side.to_bytes(4, "little") for side in sides) for sides in (size, (64, 48)))
    data = path.read_bytes()
    assert data.count(said) >= 2  # for the file, and for the stream
    path.write_bytes(data.replace(said, lie))
    assert open_video(path).info.width == size[0]
    with pytest.raises(error, match=message):
        open_video(path, limits=Limits(max_pixels=64 * 48))


def test_frames_that_grow_on_the_way_are_lost_and_noted(tmp_path: Path) -> None:
    path = tmp_path / "recording.ts"
    joined_streams(path, [half(0)], [half(60, width=704, height=576, pts=[FRAME * (85 + i) for i in range(10)])])
    with open_video(path, limits=Limits(max_pixels=200 * 200)) as source:
        batch = decode_frames(source, [10, 68], short_side=64)
    assert pictures.read(batch.pixels[0]) == 10
    assert 68 not in batch.frame_indices.tolist()
    assert any("could not be decoded" in note for note in batch.notes)


def test_candidates_that_do_not_fit_are_refused_before_they_are_allocated(monkeypatch: pytest.MonkeyPatch) -> None:
    path, settings = clip("h264_b_frames").path, SelectSettings(num_candidates=50)
    # 160 x 120 pixels of 3 bytes, and 3 x 224 x 224 floats of 4.
    limits = Limits(max_candidate_bytes=20 * (57_600 + 602_112))
    fitting = load_clip(path, replace(settings, num_candidates=20), limits=limits)
    assert len(fitting.batch) == 20
    monkeypatch.setattr(clip_module, "decode_frames", None)
    with pytest.raises(TooLargeError, match="50 candidates of 160x120") as caught:
        load_clip(path, settings, limits=limits)
    assert caught.value.fix == "use -n 20 or less"


def test_full_size_frames_are_held_by_their_size() -> None:
    source = open_video(clip("h264_b_frames").path)
    for width, height, count in ((7680, 4320, 4), (16000, 16000, 1), (1920, 1080, 64)):
        assert frames_at_once(replace(source, geometry=Geometry(width, height, Orientation()))) == count


def test_large_frames_have_one_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    workers: list[int] = []

    def pool(max_workers: int) -> ThreadPoolExecutor:
        workers.append(max_workers)
        return ThreadPoolExecutor(max_workers)

    monkeypatch.setattr(decode, "ThreadPoolExecutor", pool)
    source = open_video(clip("h264_b_frames").path)
    for large_pixels in (160 * 120, 160 * 120 - 1):
        monkeypatch.setattr(decode, "LARGE_PIXELS", large_pixels)
        decode_frames(source, np.arange(0, 60, 5), threads=2)
    assert workers == [2, 1]
