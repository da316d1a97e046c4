"""Candidates of long videos: what is taken, what it costs, and what is found, worked out by hand and on real files."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.video import pictures
from tests.video.encoding import Recipe, encode
from tsq_cli.clip import load_clip
from tsq_cli.config import Limits, SelectSettings
from tsq_cli.errors import TooLargeError
from tsq_cli.types import BoolArray, Float64Array, Int64Array, SamplePlan
from tsq_cli.video import sample_frames
from tsq_cli.video.auto import MOST, auto_frames

RATE = 10
TEN_MINUTES = 600 * RATE


def plan(keys: BoolArray, sizes: Int64Array | None = None, **options: Any) -> tuple[SamplePlan, Float64Array]:
    """The plan of a video of 10 frames a second with these keyframes, and the times of its frames."""
    pts = np.arange(len(keys)) / RATE
    sizes = np.full(len(keys), 100) if sizes is None else sizes
    found = auto_frames(pts, len(keys) / RATE, keys, sizes, **options)
    return found, pts[found.frame_indices]


def every(seconds: float, count: int = TEN_MINUTES) -> BoolArray:
    return np.isin(np.arange(count), np.arange(0, count, round(seconds * RATE)))


def packets(indices: Int64Array, keys: BoolArray) -> int:
    """How many packets have to be decoded for these frames, each group of pictures from its beginning."""
    starts = [*np.flatnonzero(keys).tolist(), len(keys)]
    groups = [indices[(indices >= a) & (indices < b)] - a + 1 for a, b in pairwise(starts)]
    return sum(int(group.max()) for group in groups if len(group))


@pytest.mark.parametrize("seconds", [0.1, 1.5, 30, 64])
def test_a_short_video_has_the_candidates_of_the_paper(seconds: float) -> None:
    keys = every(2, round(seconds * RATE))
    found, _ = plan(keys)
    even = sample_frames(np.arange(len(keys)) / RATE, seconds, 16)
    assert found.frame_indices.tolist() == even.frame_indices.tolist()
    assert (found.notes, found.requested) == (even.notes, 16)


def test_so_has_a_short_range_of_a_long_video() -> None:
    found, times = plan(every(10), start_seconds=100, end_seconds=116)
    assert times.tolist() == [100.5 + i for i in range(16)]
    assert found.requested == 16


def test_all_keyframes_are_taken_where_they_are_few() -> None:
    keys = every(10)
    keys[[1234, 1294, 5000]] = True
    _, times = plan(keys)
    assert set(np.flatnonzero(keys) / RATE) <= set(times)


def test_of_many_keyframes_the_nearest_to_the_middle_of_each_segment_is_taken() -> None:
    found, times = plan(every(1.5))
    # 150 segments of 4 s; of 1.5 s x n, the nearest to 2, 6, 10, 14, 18 s, and so on every 12 s.
    assert times[:6].tolist() == [1.5, 6, 10.5, 13.5, 18, 22.5]
    assert len(times) == found.requested == 150
    assert found.notes == ("150 candidates (at most 150) for 600 s, up to 4.5 s apart: keyframes 150, others 0.",)


def test_a_large_packet_gives_a_cut_away() -> None:
    sizes = np.full(TEN_MINUTES, 100)
    sizes[2345] = 400  # in the middle between two keyframes
    for keys in (every(10), every(20), every(600)):
        _, times = plan(keys, sizes)
        assert 234.7 in times
        assert 234.7 not in plan(keys)[1]


def test_a_keyframe_is_large_without_a_cut() -> None:
    keys, sizes = every(10), np.full(TEN_MINUTES, 100)
    sizes[keys] = 2000
    sizes[2312] = 400  # the keyframe of its segment, [228, 232) s, is at 230 s
    assert 231.4 in plan(keys, sizes)[1]


def test_cuts_leave_enough_for_the_gaps() -> None:
    keys, sizes = every(600), np.full(TEN_MINUTES, 100)
    keys[0:1000:10] = True  # 100 keyframes of 150 candidates
    sizes[1000:3000:40] = 400
    found, times = plan(keys, sizes)
    assert len(times) == found.requested == 150
    assert np.diff([0, *times, 600]).max() <= 12 + 1 / RATE


def test_keyframes_stay_in_their_own_segments() -> None:
    keys = np.zeros(TEN_MINUTES, dtype=bool)
    keys[0:3000:5] = True  # half a second apart, and none in the second half
    _, times = plan(keys, keyframes_only=True)
    assert times.tolist() == [2.0 + 4 * i for i in range(75)]


def test_of_many_cuts_the_clearest_are_taken_at_the_price_of_16_frames() -> None:
    keys, sizes = every(10), np.full(TEN_MINUTES, 100)
    cuts = np.arange(60, TEN_MINUTES, 100)  # 6 s after each keyframe
    sizes[cuts] = 300 + np.arange(len(cuts))
    found, _ = plan(keys, sizes)
    seen = np.isin(cuts + 2, found.frame_indices)
    assert seen[seen.argmax() :].all()  # none is passed over for a less clear one
    assert 5 < seen.sum() < 30
    # 16 centers, 37.5 s apart, lie 18.75, 56.25, ... s in: 78 packets a group on average.
    usual = sample_frames(np.arange(TEN_MINUTES) / RATE, 600, 16).frame_indices
    assert packets(found.frame_indices, keys) <= packets(usual, keys)


def test_a_cut_that_a_keyframe_soon_shows_needs_no_frame_of_its_own() -> None:
    sizes = np.full(TEN_MINUTES, 100)
    sizes[2390] = 400
    assert 239.2 not in plan(every(10), sizes)[1]


@pytest.mark.parametrize("seconds", [14, 20, 30, 45, 100, 600])
def test_gaps_between_keyframes_are_divided(seconds: int) -> None:
    keys = every(seconds)
    found, times = plan(keys)
    assert np.diff([0, *times, 600]).max() <= 12 + 1 / RATE
    usual = sample_frames(np.arange(TEN_MINUTES) / RATE, 600, 16).frame_indices
    assert packets(found.frame_indices, keys) <= 1.6 * packets(usual, keys)


def test_what_is_decoded_anyway_is_looked_at() -> None:
    found, times = plan(every(600))
    assert len(times) > 0.9 * found.requested == 0.9 * 150
    assert np.diff(times).max() < 9


def test_slides_are_all_taken() -> None:
    pts = np.array([0, 5, 9, 80, 81, 150, 300, 302, 310, 500.0])
    found = auto_frames(pts, 600, np.arange(10) == 0, np.full(10, 100), least=4)
    assert found.frame_indices.tolist() == list(range(10))
    assert "up to 190.0 s apart" in found.notes[0]


def test_a_longer_video_has_no_more_than_the_most() -> None:
    keys = every(2, 3 * 3600 * RATE)
    found, times = plan(keys)
    assert len(times) == found.requested == MOST == 256
    # 3 h / 256 = 42.1875 s: the segments' first middle is 21.09 s, and its keyframe 22 s.
    assert times[0] == 22
    assert len(plan(keys, most=20)[1]) == 20


def test_at_least_as_many_as_asked_for() -> None:
    assert len(plan(every(10), least=300, most=400)[1]) == 300
    assert len(plan(every(10), least=300)[1]) == 256


def test_keyframes_only() -> None:
    keys = every(20)
    found, _ = plan(keys, keyframes_only=True)
    assert found.frame_indices.tolist() == np.flatnonzero(keys).tolist()
    none = np.zeros(TEN_MINUTES, dtype=bool)
    assert len(plan(none, keyframes_only=True)[1]) > 16


@given(data=st.data())
def test_what_holds_for_any_video(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 4000), "frames")
    random = np.random.default_rng(data.draw(st.integers(0, 2**32), "seed"))
    pts = np.cumsum(random.exponential(data.draw(st.sampled_from([0.04, 0.3, 5]), "gap"), count) + 1e-3)
    pts -= pts[0]
    end = float(pts[-1]) + 0.1
    keys = random.random(count) < data.draw(st.sampled_from([0, 0.002, 0.05, 1]), "keys")
    sizes = random.integers(1, 10**5, count)
    most = data.draw(st.integers(1, 300), "most")
    start = data.draw(st.floats(0, 0.9), "start") * end
    only = data.draw(st.booleans(), "keyframes only")
    found = auto_frames(pts, end, keys, sizes, most=most, start_seconds=start, keyframes_only=only)
    assert 1 <= len(found.frame_indices) <= found.requested <= most
    times = pts[found.frame_indices]
    first = max(int(np.searchsorted(pts, start, side="right")) - 1, 0)
    assert found.frame_indices[0] >= first
    assert (found.times_seconds >= min(start, pts[-1])).all()
    if end - start > 64 and not only:
        widest = max(12, 3 * (end - start) / found.requested)
        longest_shown = np.diff(pts, append=end).max()
        assert np.diff([start, *times, end]).max() <= widest + longest_shown + 1e-6


@pytest.fixture(scope="module")
def long_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """100 s at 4 frames a second, a keyframe every 5 s."""
    path: Path = tmp_path_factory.mktemp("auto") / "long.mp4"
    encode(path, Recipe(num_frames=400, pts=[Fraction(i, 4) for i in range(400)], gop=20, width=64, height=48))
    return path


AUTO = SelectSettings(num_candidates="auto")


def test_a_long_file_is_looked_at_every_few_seconds(long_clip: Path) -> None:
    clip = load_clip(long_clip, AUTO)
    numbers = [pictures.read(frame) for frame in clip.batch.pixels]
    assert numbers == clip.batch.frame_indices.tolist()
    assert set(range(0, 400, 20)) <= set(numbers)
    assert 20 < len(numbers) <= 25
    assert (clip.batch.snap_seconds == 0).all()
    assert clip.plan.notes[0].startswith(f"{len(numbers)} candidates (at most 25) for 100 s, up to 5.0 s apart")


def test_keyframe_mode_takes_keyframes(long_clip: Path) -> None:
    clip = load_clip(long_clip, SelectSettings(num_candidates="auto", decode_mode="keyframes"))
    assert clip.batch.frame_indices.tolist() == list(range(0, 400, 20))
    assert (clip.batch.snap_seconds == 0).all()


def test_a_baseline_keeps_its_even_candidates(long_clip: Path) -> None:
    clip = load_clip(long_clip, SelectSettings(num_candidates="auto", selector="uniform"))
    assert clip.batch.frame_indices.tolist() == [int(4 * 99.79 * (i + 0.5) / 16) for i in range(16)]


def test_as_many_candidates_as_frames_are_asked_for(long_clip: Path) -> None:
    assert len(load_clip(long_clip, SelectSettings(num_candidates="auto", num_frames=60)).batch) == 60


def test_memory_lowers_the_number(long_clip: Path) -> None:
    each = 3 * 64 * 48 + 4 * 3 * 224 * 224
    clip = load_clip(long_clip, AUTO, limits=Limits(max_candidate_bytes=18 * each))
    assert 16 <= len(clip.batch) <= 18
    with pytest.raises(TooLargeError, match="1 candidates of 64x48"):
        load_clip(long_clip, AUTO, limits=Limits(max_candidate_bytes=each - 1))


def test_packets_are_weighed(long_clip: Path) -> None:
    source = load_clip(long_clip, AUTO).source
    assert np.flatnonzero(source.is_key).tolist() == list(range(0, 400, 20))
    assert source.table.packets is not None
    sizes = sorted((packet.pts, packet.size) for packet in source.table.packets)
    assert source.packet_bytes.tolist() == [size for _, size in sizes]
