"""Properties of a video before its frames are decoded: rules worked out by hand on made-up packet tables."""

from __future__ import annotations

import re
import socket
import threading
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from tests.video import mp4_boxes
from tests.video.clips import clip
from tests.video.encoding import FRAME, Recipe, encode
from tsq_cli.clip import load_clip
from tsq_cli.config import SelectSettings
from tsq_cli.errors import TsqError, VideoError
from tsq_cli.video import decode_frames, open_video, sample_frames
from tsq_cli.video.encryption import is_encrypted_track
from tsq_cli.video.probe import _doubts, has_variable_rate
from tsq_cli.video.sample import displayed_at

SHARED = Path(__file__).parents[2] / "../shared"
BROKEN = sorted(SHARED.glob("broken/*/*"))


@pytest.mark.parametrize(
    ("gaps", "time_base", "is_vfr"),
    [
        ([33, 34, 33, 33, 34], Fraction(1, 1000), False),  # 30 fps in milliseconds
        ([3003, 3003, 3003], Fraction(1, 90000), False),
        ([3690, 3780, 3780], Fraction(1, 90000), False),  # 24 fps that went through milliseconds
        ([40, 40, 80, 40], Fraction(1, 1000), True),  # a frame left out
        ([1, 1, 2, 1], Fraction(1, 30), True),  # a frame left out, in a time base of whole frames
        ([512, 512, 512], Fraction(1, 12800), False),
        ([512, 700], Fraction(1, 12800), True),
        ([7], Fraction(1, 1000), False),
        ([], Fraction(1, 1000), False),
    ],
)
def test_variable_rate_is_told_from_rounding(gaps: list[int], time_base: Fraction, is_vfr: bool) -> None:
    assert has_variable_rate(np.array(gaps, dtype=np.int64), time_base) == is_vfr


@pytest.mark.parametrize(
    ("pts_seconds", "end", "note"),
    [
        (np.arange(60) / 25, 60 / 25, None),
        (np.arange(40_000) * 60.0, 40_000 * 60.0, None),  # a picture a minute, for a month
        (np.arange(1000) / 960, 1000 / 960, None),  # a phone's slow motion
        (np.array([0.0]), 1 / 25, None),
        (np.array([0.0]), 3600.0 * 5, None),  # one picture on a screen, for an evening
        (np.array([0.0, 7200.0, 9000.0]), 10_000.0, None),  # slides
        (np.arange(60) / 25, 4.7e12, "60 frames over 5.44e\\+07 days"),
        (np.append(np.arange(59) / 25, 1e8), 1e8 + 0.04, "60 frames over 1.16e\\+03 days"),
        (np.array([0.0]), 1e8, "1 frame over"),
        (np.arange(60) * 4000.0, 240_000.0, "60 frames over 2.78 days"),
        (np.arange(60) / 90_000, 60 / 90_000, "60 frames into 0.000667 s"),
    ],
)
def test_clocks_that_can_hardly_be_true_are_noted(pts_seconds: np.ndarray, end: float, note: str | None) -> None:
    notes = list(_doubts(pts_seconds, end))
    assert len(notes) == (note is not None)
    if note is not None:
        assert re.search(note, notes[0])
        assert notes[0].endswith("they may be damaged.")


def test_note_on_the_clock_reaches_the_clip(tmp_path: Path) -> None:
    path = tmp_path / "wild.mkv"
    pts = [*(FRAME * i for i in range(20)), Fraction(10**8)]
    encode(path, Recipe(pts=pts, time_base=Fraction(1, 1000)))
    (note,) = load_clip(path, SelectSettings(num_candidates=30)).plan.notes[1:]
    assert note == "The time stamps spread 21 frames over 1.16e+03 days: they may be damaged."


@pytest.mark.filterwarnings("error")
def test_time_stamps_out_of_all_range_count_as_missing(tmp_path: Path) -> None:
    """IVF has 64 bits of them: the first and last frame lie further apart than 63 bits can tell."""
    path = tmp_path / "wild.ivf"
    data = bytearray(clip("av1_ivf").path.read_bytes())
    places, at = [], 32
    while at < len(data):  # each frame: its size (4 bytes), its time stamp (8 bytes), and the frame
        places.append(at + 4)
        at += 12 + int.from_bytes(data[at : at + 4], "little")
    for place, time in ((places[0], -(2**62)), (places[-1], 2**62)):
        data[place : place + 8] = time.to_bytes(8, "little", signed=True)
    path.write_bytes(data)
    source = open_video(path)
    assert source.info.total_num_frames == 58
    assert np.all(np.diff(source.pts_seconds) > 0)
    assert source.end_seconds < 10


def test_times_are_single_roundings_of_exact_fractions() -> None:
    source = open_video(clip("ntsc_rate").path)
    exact = [float(Fraction(int(pts - source.pts[0])) * source.info.time_base) for pts in source.pts]
    assert source.pts_seconds.tolist() == exact


def test_indices_at_times() -> None:
    source = open_video(clip("h264_b_frames").path)  # 25 fps
    times = np.array([-5.0, 0.0, 0.039, 0.04, 2.0, 99.0])
    assert displayed_at(source.pts_seconds, times).tolist() == [0, 0, 0, 1, 50, 59]
    assert displayed_at(source.pts_seconds, 1.0).tolist() == 25


def test_pixels_nearly_square_are_left_alone(tmp_path: Path) -> None:
    """454 x 256 for a 16:9 picture comes with pixels of 1024:1021; stretching it by one column would only blur it."""
    for aspect, size in (
        (Fraction(1024, 1021), (160, 120)),
        (Fraction(3, 2), (240, 120)),
        (Fraction(1, 2), (160, 240)),
    ):
        path = tmp_path / f"{aspect.numerator}.mp4"
        encode(path, Recipe(num_frames=2, aspect=aspect))
        source = open_video(path)
        assert (source.info.width, source.info.height) == size
        assert decode_frames(source, [0], short_side=None).pixels.shape[1:3] == size[::-1]


def test_smaller_pictures_are_not_enlarged() -> None:
    source = open_video(clip("h264_b_frames").path)
    assert decode_frames(source, [0], short_side=256).pixels.shape == (1, 120, 160, 3)
    assert decode_frames(source, [0], short_side=60).pixels.shape == (1, 60, 80, 3)


def test_encryption_is_seen_in_the_track_that_has_it(tmp_path: Path) -> None:
    path = tmp_path / "protected.mp4"
    path.write_bytes(clip("h264_b_frames").path.read_bytes())
    assert not is_encrypted_track(path, 1)
    mp4_boxes.mark_encrypted(path)
    assert is_encrypted_track(path, 1)
    assert not is_encrypted_track(path, 2)
    path.write_bytes(path.read_bytes()[:40])
    assert not is_encrypted_track(path, 1)
    assert not is_encrypted_track(clip("vp9").path, 1)


def test_names_that_ffmpeg_would_read_otherwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("http:clip.mp4", "a b%20c.mp4", "concat:x.mp4", "ünï — 视频.mp4", "-i.mp4", "clip_%03d.mp4"):
        Path(name).write_bytes(clip("h264_b_frames").path.read_bytes())
        source = open_video(name)
        assert (source.info.path, source.info.total_num_frames) == (name, 60)


def test_playlist_cannot_reach_the_network(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        playlist = tmp_path / "list.m3u8"
        url = f"http://127.0.0.1:{server.getsockname()[1]}/clip.ts"
        playlist.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{url}\n#EXT-X-ENDLIST\n")
        failures: list[BaseException] = []

        def open_it() -> None:
            try:
                open_video(playlist)
            except TsqError as error:
                failures.append(error)

        thread = threading.Thread(target=open_it, daemon=True)
        thread.start()
        thread.join(20)
        server.settimeout(0.2)
        with pytest.raises(TimeoutError):
            server.accept()
    assert isinstance(failures[0], VideoError)


def test_second_stream_is_chosen_by_default_flag_not_by_place() -> None:
    with av.open(str(clip("two_video_streams").path)) as container:
        best = container.streams.best("video")
        assert best is not None
        assert open_video(clip("two_video_streams").path).info.stream_index == best.index


@pytest.mark.skipif(not BROKEN, reason="the folder of broken files lies beside the working tree only")
def test_every_broken_file_gives_frames_or_a_one_line_error() -> None:
    given = 0
    for path in BROKEN:
        for cache in (2**26, 0):
            failure: TsqError | None = None
            try:
                source = open_video(path, packet_cache_bytes=cache)
                plan = sample_frames(source.pts_seconds, source.end_seconds, 16)
                assert 1 <= len(decode_frames(source, plan.frame_indices)) <= 16
                given += 1
            except TsqError as error:
                failure = error
            assert failure is None or (isinstance(failure, VideoError) and path.name in failure.got)
    assert given >= 40  # 22 of the files hold frames that can be decoded, each opened in two ways
