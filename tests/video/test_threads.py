"""Decoding in several threads, stopping early, and leaving: nothing may hang, mix up frames or speak to stderr."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from concurrent.futures import CancelledError, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tests.video import pictures
from tests.video.clips import clip
from tsq_cli.errors import VideoTimeoutError
from tsq_cli.video import decode, decode_frames, open_video, sample_frames

TIME_LIMIT_SECONDS = 120


def numbers_of(path: Path, indices: list[int], **options: int) -> list[int]:
    batch = decode_frames(open_video(path), indices, short_side=64, **options)
    return [pictures.read(picture) for picture in batch.pixels]


def test_one_source_serves_many_threads_at_once() -> None:
    known = clip("h264_b_frames")
    source = open_video(known.path)
    random = np.random.default_rng(0)
    requests = [np.sort(random.choice(len(known.pts), 6, replace=False)) for _ in range(24)]
    with ThreadPoolExecutor(6) as pool:
        batches = list(pool.map(lambda wanted: decode_frames(source, wanted, short_side=64), requests))
    for wanted, batch in zip(requests, batches, strict=True):
        assert [pictures.read(picture) for picture in batch.pixels] == [known.numbers[i] for i in wanted]


def test_many_sources_at_once_give_what_they_give_alone() -> None:
    names = ["h264_b_frames", "hevc", "vp9", "mpeg4_b_frames", "edit_repeats", "turned_90"] * 3
    wanted, paths = [3, 11, 19, 30], [clip(name).path for name in names]
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda path: numbers_of(path, wanted), paths))
    assert found == [[clip(name).numbers[i] for i in wanted] for name in names]


def test_more_threads_than_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode, "FEW_PIXELS", 0)
    known = clip("h264_single_gop")
    for threads in (1, 3, 8):
        assert numbers_of(known.path, [1, 50, 99], threads=threads) == [known.numbers[i] for i in (1, 50, 99)]


@pytest.mark.parametrize("threads", [1, 2])
def test_stop_ends_the_decode_and_leaves_the_source_usable(threads: int) -> None:
    known = clip("h264_b_frames")
    source = open_video(known.path)
    asked = 0

    def stop_at_third_question() -> bool:
        nonlocal asked
        asked += 1
        return asked >= 3

    with pytest.raises(CancelledError):
        decode_frames(source, range(len(known.pts)), threads=threads, should_stop=stop_at_third_question)
    assert asked <= 3 + threads
    batch = decode_frames(source, [5, 40], short_side=64)
    assert [pictures.read(picture) for picture in batch.pixels] == [known.numbers[5], known.numbers[40]]
    with pytest.raises(CancelledError):
        open_video(clip("h264_all_keyframes").path, should_stop=lambda: True)


def test_error_in_one_thread_ends_the_others_and_is_the_one_raised() -> None:
    source = open_video(clip("h264_b_frames").path)
    calls = 0

    def fail_once() -> bool:
        nonlocal calls
        calls += 1
        if calls == 5:
            raise VideoTimeoutError("planted", wanted="time", fix="wait")
        return False

    with pytest.raises(VideoTimeoutError, match="planted"):
        decode_frames(source, range(len(source.pts)), threads=2, should_stop=fail_once)


@pytest.mark.parametrize("is_caller", [True, False], ids=["the caller", "another thread"])
@pytest.mark.parametrize(
    "error", [VideoTimeoutError("planted", wanted="time", fix="wait"), KeyboardInterrupt()], ids=["error", "Ctrl-C"]
)
def test_an_error_of_any_thread_ends_the_others_and_is_raised(
    monkeypatch: pytest.MonkeyPatch, error: BaseException, is_caller: bool
) -> None:
    monkeypatch.setattr(decode, "FEW_PIXELS", 0)
    known = clip("h264_b_frames")
    source = open_video(known.path)
    caller, both = threading.current_thread(), threading.Barrier(2)
    begun, polls = threading.local(), []

    def fail() -> bool:
        if not hasattr(begun, "here"):
            begun.here = True
            both.wait(TIME_LIMIT_SECONDS)  # both decode
        if (threading.current_thread() is caller) == is_caller:
            raise error
        polls.append(time.sleep(0.05))  # a second is long enough for the other one to fail
        return False

    with pytest.raises(type(error)):
        decode_frames(source, range(len(source.pts)), threads=2, should_stop=fail)
    assert len(polls) < 20 < len(source.pts) / 2
    batch = decode_frames(source, [5, 40], short_side=64)
    assert [pictures.read(picture) for picture in batch.pixels] == [known.numbers[5], known.numbers[40]]


def test_one_decoder_starts_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    known = clip("h264_single_gop")
    monkeypatch.delattr(ThreadPoolExecutor, "submit")
    assert numbers_of(known.path, [1, 50, 99]) == [known.numbers[i] for i in (1, 50, 99)]
    assert numbers_of(clip("h264_b_frames").path, [5, 40], threads=1) == [
        clip("h264_b_frames").numbers[i] for i in (5, 40)
    ]


def test_no_threads_are_left_behind() -> None:
    before = threading.active_count()
    source = open_video(clip("h264_b_frames").path)
    for _ in range(10):
        decode_frames(source, [1, 20, 50], short_side=64)
    assert threading.active_count() == before


def test_packets_are_freed_and_frames_still_come_after_close() -> None:
    known = clip("h264_open_gop")
    with open_video(known.path) as source:
        assert source.table.packets is not None
    assert source.table.packets is None
    batch = decode_frames(source, [7, 33], short_side=64)
    assert [pictures.read(picture) for picture in batch.pixels] == [known.numbers[7], known.numbers[33]]


LEAVE_EARLY = """
import sys, threading
import torch
from tsq_cli.video import decode, decode_frames, open_video, sample_frames
torch.ones(64, 64) @ torch.ones(64, 64)
for path in sys.argv[1:]:
    for threads in (1, 2):
        source = open_video(path)
        plan = sample_frames(source.pts_seconds, source.end_seconds, 16)
        decode_frames(source, plan.frame_indices, threads=threads)
        decode_frames(source, plan.frame_indices[:2], mode="keyframes")
        try:
            answers = iter([False] * 9 + [True] * 99)
            decode_frames(source, plan.frame_indices, threads=threads, should_stop=answers.__next__)
        except BaseException as error:
            assert type(error).__name__ == "CancelledError", error
leftover, is_under_way = open_video(sys.argv[1]), threading.Event()
def decode_while_the_program_leaves():
    decode_frames(leftover, range(40), threads=1, should_stop=lambda: is_under_way.set())
threading.Thread(target=decode_while_the_program_leaves).start()
is_under_way.wait()
print("done")
sys.exit(7)
"""


def test_leaving_with_torch_loaded_does_not_hang_nor_write_to_stderr() -> None:
    paths = [str(clip(name).path) for name in ("h264_b_frames", "h264_single_gop", "hevc", "vp9", "mpeg4_b_frames")]
    finished = subprocess.run(
        [sys.executable, "-c", LEAVE_EARLY, *paths],
        capture_output=True,
        text=True,
        timeout=TIME_LIMIT_SECONDS,
        cwd=Path(__file__).parents[2],
    )
    assert (finished.returncode, finished.stdout, finished.stderr) == (7, "done\n", "")


def test_plan_is_the_same_for_any_number_of_threads() -> None:
    source = open_video(clip("hevc_open_gop").path)
    plan = sample_frames(source.pts_seconds, source.end_seconds, 16)
    one, two = (decode_frames(source, plan.frame_indices, threads=threads) for threads in (1, 2))
    np.testing.assert_array_equal(one.pixels, two.pixels)
    np.testing.assert_array_equal(one.pts, two.pts)
