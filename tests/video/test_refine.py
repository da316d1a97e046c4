"""Further candidates: tables by hand, properties that hold for any video, and two batches merged."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.video import pictures
from tests.video.clips import clip
from tsq_cli.types import SamplePlan
from tsq_cli.video import decode_frames, open_video
from tsq_cli.video.refine import closer_frames, merge_batches, merge_plans

PTS = np.arange(1000) / 10
"""100 s at 10 frames a second."""


def closer(taken: list[int], similarity: list[float], budget: int) -> list[int]:
    found: list[int] = closer_frames(PTS, np.array(taken), np.array(similarity), budget).tolist()
    return found


def test_the_gap_whose_ends_differ_most_is_halved_first() -> None:
    taken, similarity = [0, 100, 200, 300], [0.95, 0.2, 0.6]
    assert closer(taken, similarity, 1) == [150]
    # Differences of 0.8, then 0.4 three times: the two halves are narrower than the gap that is still whole.
    assert closer(taken, similarity, 2) == [150, 250]
    assert closer(taken, similarity, 4) == [125, 150, 175, 250]


def test_of_gaps_that_differ_alike_the_widest_is_halved_first() -> None:
    assert closer([0, 100, 500, 600], [0.51, 0.53, 0.52], 1) == [300]
    assert closer([0, 100, 500, 600], [0.55, 0.95, 0.55], 1) != [300]


def test_a_video_that_looks_the_same_everywhere_is_looked_at_everywhere() -> None:
    taken = list(range(0, 1000, 40))
    found = closer(taken, [0.97] * 24, 4)
    assert max(b - a for a, b in pairwise([0, *found, 960])) < 500
    assert len(closer(taken, [0.97] * 24, 24)) == 24
    assert closer(taken, [0.97] * 24, 24) == list(range(20, 960, 40))


def test_a_wide_gap_is_halved_again() -> None:
    assert closer([0, 800], [0.1], 7) == [100, 200, 300, 400, 500, 600, 700]


def test_shots_in_turns_that_even_candidates_skip_are_met() -> None:
    """Four shots take turns, 32 in all: 16 even candidates see two of them, and twice as many all four."""
    shot = np.arange(1024) // 32 % 4
    taken = np.arange(16) * 64 + 16
    assert set(shot[taken]) == {0, 2}
    found = closer_frames(np.arange(1024) / 25, taken, np.full(15, 0.3), 15)
    assert set(shot[found]) == {1, 3}


def test_nothing_to_halve() -> None:
    assert closer([5], [], 9) == []
    assert closer([5, 8], [0.0], 9) == []  # 3 frames apart
    assert closer([5, 9], [0.0], 9) == [7]
    assert closer([5, 500], [0.0], 0) == []
    quick = np.arange(100) / 100
    assert closer_frames(quick, np.array([10, 49]), np.zeros(1), 9).tolist() == []  # 0.39 s
    assert closer_frames(quick, np.array([10, 50]), np.zeros(1), 9).tolist() == [30]
    with pytest.raises(ValueError, match="must be"):
        closer([1, 50, 90], [0.5], 3)


def test_a_frame_that_is_long_on_screen_is_not_taken_twice() -> None:
    pts = np.array([0, 0.1, 30, 30.1, 30.2, 30.3, 30.4, 31.0])
    assert closer_frames(pts, np.array([0, 7]), np.zeros(1), 9).tolist() == [2, 5]


@given(data=st.data())
def test_what_holds_for_any_video(data: st.DataObject) -> None:
    random = np.random.default_rng(data.draw(st.integers(0, 2**32), "seed"))
    count = data.draw(st.integers(1, 500), "frames")
    pts = np.cumsum(random.exponential(data.draw(st.sampled_from([0.02, 0.1, 2]), "gap"), count) + 1e-3)
    taken = np.sort(random.choice(count, data.draw(st.integers(1, min(count, 40)), "T"), replace=False))
    similarity = random.uniform(-1, 1, len(taken) - 1)
    budget = data.draw(st.integers(0, 60), "budget")
    found = closer_frames(pts, taken, similarity, budget)
    assert len(found) <= budget
    assert (np.diff(found) > 0).all()
    both = np.union1d(taken, found)
    assert len(both) == len(taken) + len(found)
    assert ((found > taken[0]) & (found < taken[-1])).all()
    for index in found:
        others = both[both != index]
        assert np.abs(others - index).min() >= 2
        assert np.abs(pts[others] - pts[index]).min() >= 0.2 - 1e-6
    if len(found) < budget:  # then nothing is left that could be halved
        for left, right in pairwise(both):
            inside = pts[left + 2 : right - 1]
            assert not ((inside - pts[left] > 0.2 + 1e-6) & (pts[right] - inside > 0.2 + 1e-6)).any()


def test_two_looks_together_are_in_the_order_of_time() -> None:
    with open_video(clip("h264_b_frames").path) as source:
        first, more = decode_frames(source, [3, 30, 50]), decode_frames(source, [10, 30, 55])
    both = merge_batches(first, more)
    assert both.frame_indices.tolist() == [3, 10, 30, 50, 55]
    assert [pictures.read(frame) for frame in both.pixels] == [3, 10, 30, 50, 55]
    np.testing.assert_allclose(both.pts_seconds, np.array([3, 10, 30, 50, 55]) / 25, rtol=1e-9)
    assert (both.pts == source.pts[both.frame_indices]).all()
    assert (both.snap_seconds == 0).all()
    assert both.furthest_snap_seconds is None
    near, far = (replace(first, furthest_snap_seconds=seconds) for seconds in (0.5, 0.75))
    assert merge_batches(near, far).furthest_snap_seconds == merge_batches(far, more).furthest_snap_seconds == 0.75


def test_two_plans_together() -> None:
    first = SamplePlan(frame_indices=np.array([2, 9]), times_seconds=np.array([0.2, 0.9]), requested=2, notes=("a",))
    more = SamplePlan(frame_indices=np.array([5]), times_seconds=np.array([0.5]), requested=4, notes=("a", "b"))
    both = merge_plans(first, more)
    assert both.frame_indices.tolist() == [2, 5, 9]
    assert both.times_seconds.tolist() == [0.2, 0.5, 0.9]
    assert (both.requested, both.notes) == (6, ("a", "b"))
