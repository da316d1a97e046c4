"""Fusion against the paper's worked example, tables worked out by hand, and properties of any input."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tsq_cli import selection
from tsq_cli.errors import UsageError
from tsq_cli.rules import ordering


def chosen(visual: list[float], textual: list[float], k: int, **options: float) -> list[tuple[int, str]]:
    return [(choice.position, choice.chosen_by) for choice in selection.fuse(visual, textual, k, **options)]


def curve(peaks: dict[int, float], length: int = 16) -> list[float]:
    return [peaks.get(position, 0.0) for position in range(length)]


def test_the_papers_example_three_visual_two_textual() -> None:
    visual = curve({3: 0.9, 7: 0.8, 11: 0.7, 12: 0.6, 0: 0.5})
    textual = curve({5: 0.9, 14: 0.8, 2: 0.7})
    assert chosen(visual, textual, 5) == [
        (3, "visual"), (7, "visual"), (11, "visual"), (5, "textual"), (14, "textual"),
    ]  # fmt: skip


def test_a_duplicate_is_refilled_down_the_visual_curve() -> None:
    visual = curve({3: 0.9, 7: 0.8, 11: 0.7, 12: 0.6, 0: 0.5})
    textual = curve({7: 0.9, 14: 0.8, 2: 0.7})
    assert chosen(visual, textual, 5) == [
        (3, "visual"), (7, "visual"), (11, "visual"), (14, "textual"), (12, "refill"),
    ]  # fmt: skip


def test_two_duplicates_are_both_refilled() -> None:
    visual = curve({3: 0.9, 7: 0.8, 11: 0.7, 12: 0.6, 0: 0.5})
    textual = curve({7: 0.9, 3: 0.8, 2: 0.7})
    assert [position for position, _ in chosen(visual, textual, 5)] == [3, 7, 11, 12, 0]


def test_a_refill_passes_over_what_the_textual_module_chose() -> None:
    visual = curve({3: 0.9, 7: 0.8, 11: 0.7, 14: 0.6, 0: 0.5})
    textual = curve({7: 0.9, 14: 0.8})
    assert chosen(visual, textual, 5)[-1] == (0, "refill")


def test_a_flat_curve_gives_frames_from_the_whole_video_never_the_first_ones() -> None:
    # Centers of five equal segments of sixteen: 1.6, 4.8, 8, 11.2, 14.4.
    for flat in (1.0, 0.0):
        assert sorted(position for position, _ in chosen([flat] * 16, [flat] * 16, 5)) == [1, 4, 8, 11, 14]
    assert chosen([1.0] * 16, [1.0] * 16, 1) == [(8, "visual")]
    assert sorted(c.position for c in selection.top_k([0.5] * 16, 5, chosen_by="visual")) == [1, 4, 8, 11, 14]


def test_what_stands_out_comes_before_a_tie() -> None:
    assert chosen(curve({2: 0.9}), curve({13: 0.8}), 3) == [(2, "visual"), (8, "visual"), (13, "textual")]


@pytest.mark.parametrize("candidates", [1, 2, 5, 16, 37])
@pytest.mark.parametrize("k", [1, 3, 5, 16, 40])
def test_the_order_of_ties_begins_with_the_uniform_choice(candidates: int, k: int) -> None:
    order = ordering.tie_order(candidates, k).tolist()
    assert sorted(order) == list(range(candidates))
    even = [math.floor((i + 0.5) * candidates / min(k, candidates)) for i in range(min(k, candidates))]
    assert sorted(order[: len(even)]) == even


@pytest.mark.parametrize(
    ("k", "lambda_v", "n_v"),
    [(5, 0.6, 3), (1, 0.6, 1), (2, 0.6, 1), (3, 0.6, 2), (16, 0.6, 10), (5, 0.5, 3), (5, 0.7, 4), (5, 0.0, 0),
     (5, 1.0, 5), (1, 0.5, 1), (1, 0.4, 0), (10, 0.25, 3)],
)  # fmt: skip
def test_visual_share_rounds_half_up(k: int, lambda_v: float, n_v: int) -> None:
    assert selection.visual_share(k, lambda_v) == n_v


def test_k_of_one_takes_the_visual_peak() -> None:
    assert chosen(curve({4: 1.0}), curve({9: 1.0}), 1) == [(4, "visual")]


def test_lambda_of_zero_leaves_all_to_the_textual_module() -> None:
    assert chosen(curve({4: 1.0}), curve({9: 1.0, 2: 0.5}), 2, lambda_v=0.0) == [(9, "textual"), (2, "textual")]


@pytest.mark.parametrize("k", [16, 17, 1000])
def test_k_of_t_or_more_returns_every_frame_once(k: int) -> None:
    positions = [choice.position for choice in selection.fuse(range(16), range(16), k)]
    assert sorted(positions) == list(range(16))


@pytest.mark.parametrize("k", [0, -1])
def test_k_below_one_is_refused(k: int) -> None:
    for choose in (
        lambda: selection.fuse([1.0], [1.0], k),
        lambda: selection.top_k([1.0], k, chosen_by="visual"),
        lambda: selection.uniform(4, k),
        lambda: selection.random(4, k, seed=0),
        lambda: selection.middle(4, k),
    ):
        with pytest.raises(UsageError, match="wanted at least 1"):
            choose()


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_scores_that_are_not_finite_are_refused_with_their_place(bad: float) -> None:
    with pytest.raises(ValueError, match=r"visual saliency must be finite.*position 2"):
        selection.fuse([0.0, 0.0, bad], [0.0, 0.0, 0.0], 1)
    with pytest.raises(ValueError, match=r"textual saliency must be finite.*position 0"):
        selection.fuse([0.0, 0.0, 0.0], [bad, 0.0, 0.0], 1)


def test_curves_of_unequal_length_none_or_two_axes_are_refused() -> None:
    with pytest.raises(ValueError, match="same length"):
        selection.fuse([1.0, 2.0], [1.0], 1)
    with pytest.raises(ValueError, match="T >= 1"):
        selection.fuse([], [], 1)
    with pytest.raises(ValueError, match="T >= 1"):
        selection.fuse([[1.0]], [[1.0]], 1)


@pytest.mark.parametrize("lambda_v", [-0.1, 1.1, math.nan])
def test_a_share_outside_zero_to_one_is_refused(lambda_v: float) -> None:
    with pytest.raises(UsageError, match="between 0 and 1"):
        selection.fuse([1.0], [1.0], 1, lambda_v=lambda_v)


def curves() -> st.SearchStrategy[tuple[np.ndarray, np.ndarray]]:
    # Few distinct values, so that ties and duplicates are common.
    values = st.one_of(st.sampled_from([0.0, 0.25, 0.5, 1.0]), st.floats(-1e6, 1e6))
    return st.integers(1, 40).flatmap(
        lambda length: st.tuples(*(hnp.arrays(np.float64, length, elements=values) for _ in range(2)))
    )


@given(curves(), st.integers(1, 60), st.floats(0.0, 1.0))
def test_properties_of_fusion(both: tuple[np.ndarray, np.ndarray], k: int, lambda_v: float) -> None:
    visual, textual = both
    before = visual.copy(), textual.copy()
    choices = selection.fuse(visual, textual, k, lambda_v=lambda_v)
    positions = [choice.position for choice in choices]
    wanted = min(k, len(visual))
    assert len(positions) == len(set(positions)) == wanted
    assert set(positions) <= set(range(len(visual)))
    # The top n_v of S^v are always in, counted off independently of the code's sorting: their scores are, at least.
    n_v = selection.visual_share(wanted, lambda_v)
    assert [visual[t] for t in positions[:n_v]] == sorted(visual, reverse=True)[:n_v]
    assert [choice.chosen_by for choice in choices[:n_v]] == ["visual"] * n_v
    # Every textual choice scores as high as the top k - n_v of S^t.
    least = min(sorted(textual, reverse=True)[: wanted - n_v], default=math.inf)
    assert all(textual[choice.position] >= least for choice in choices if choice.chosen_by == "textual")
    np.testing.assert_array_equal(before[0], visual)
    np.testing.assert_array_equal(before[1], textual)


@given(curves(), st.integers(1, 60))
def test_fusing_a_curve_with_itself_is_its_top_k(both: tuple[np.ndarray, np.ndarray], k: int) -> None:
    curve_ = both[0]
    fused = {choice.position for choice in selection.fuse(curve_, curve_, k)}
    assert fused == {choice.position for choice in selection.top_k(curve_, k, chosen_by="visual")}


@pytest.mark.parametrize(
    ("candidates", "k", "expected"),
    [
        (16, 5, [1, 4, 8, 11, 14]),
        (16, 1, [8]),
        (16, 16, list(range(16))),
        (3, 5, [0, 1, 2]),
        (1, 1, [0]),
        (10, 2, [2, 7]),
    ],
)
def test_uniform_takes_the_centers_of_equal_segments(candidates: int, k: int, expected: list[int]) -> None:
    assert [choice.position for choice in selection.uniform(candidates, k)] == expected


@pytest.mark.parametrize(("candidates", "k", "expected"), [(16, 4, [6, 7, 8, 9]), (5, 2, [1, 2]), (2, 9, [0, 1])])
def test_middle_takes_neighbors_around_the_middle(candidates: int, k: int, expected: list[int]) -> None:
    assert [choice.position for choice in selection.middle(candidates, k)] == expected


@given(st.integers(1, 40), st.integers(1, 60), st.integers(0, 2**32 - 1))
def test_random_is_distinct_and_repeatable(candidates: int, k: int, seed: int) -> None:
    first = selection.random(candidates, k, seed=seed)
    assert len({choice.position for choice in first}) == min(k, candidates)
    assert first == selection.random(candidates, k, seed=seed)


def test_random_reaches_every_candidate() -> None:
    seen = {choice.position for seed in range(200) for choice in selection.random(16, 2, seed=seed)}
    assert seen == set(range(16))


def test_peak_over_mean() -> None:
    assert selection.peak_over_mean([0.25] * 4) == 1.0
    assert selection.peak_over_mean([0.7, 0.1, 0.1, 0.1]) == pytest.approx(2.8)
    assert selection.peak_over_mean([0.0, 0.0]) == 1.0
