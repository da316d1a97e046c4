"""Every rule by its name: tables worked out by hand, and properties that hold for any evidence."""

import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tsq_cli.config import SelectorName
from tsq_cli.errors import UsageError
from tsq_cli.rules import cover, others
from tsq_cli.rules.evidence import Evidence
from tsq_cli.selection import RULES, RuleSettings, choose

THREE = np.eye(3)


def looks(*kinds: int, tilt: float = 0.0) -> np.ndarray:
    """Unit features [T, 16]: one axis for each kind of picture; `tilt` tells the frames of a kind apart a little."""
    features = np.zeros((len(kinds), 16 + len(kinds)), dtype=np.float32)
    for position, kind in enumerate(kinds):
        features[position, kind], features[position, 16 + position] = np.cos(tilt), np.sin(tilt)
    return features


def evidence(features: np.ndarray, visual: list[float] | None = None, **options: np.ndarray) -> Evidence:
    count = len(features)
    curve = np.full(count, 1 / count) if visual is None else np.array(visual) / np.sum(visual)
    times = np.arange(count, dtype=np.float64)
    return Evidence(**{"times": times, "visual": curve, "textual": curve, "features": features, **options})


def positions(name: SelectorName, of: Evidence, k: int, options: RuleSettings | None = None) -> list[int]:
    return [choice.position for choice in choose(name, of, k, options).choices]


class TestCover:
    def test_each_event_gives_its_most_salient_frame(self) -> None:
        of = evidence(looks(0, 0, 0, 1, 1, 2, 2, 2, tilt=0.4), [1, 3, 1, 1, 2, 1, 1, 4])
        chosen = choose("cover", of, 3)
        assert sorted(choice.position for choice in chosen.choices) == [1, 4, 7]
        assert {choice.chosen_by for choice in chosen.choices} == {"event"}
        assert chosen.events is not None
        assert chosen.events.tolist() == [0, 0, 0, 1, 1, 2, 2, 2]

    def test_more_frames_than_events_add_what_is_not_shown(self) -> None:
        of = evidence(looks(0, 0, 1, 1, tilt=0.5), [2, 1, 1, 2])
        chosen = choose("cover", of, 3)
        assert [choice.chosen_by for choice in chosen.choices] == ["event", "event", "coverage"]
        assert {choice.position for choice in chosen.choices[:2]} == {0, 3}

    def test_four_shots_in_turns_are_all_shown(self) -> None:
        assert {p % 4 for p in positions("cover", evidence(looks(*[0, 1, 2, 3] * 8, tilt=0.3)), 4)} == {0, 1, 2, 3}

    def test_a_long_shot_does_not_crowd_out_short_ones(self) -> None:
        kinds = [0] * 9 + [1, 1, 2, 2, 3, 4, 5]
        chosen = positions("cover", evidence(looks(*kinds, tilt=0.5)), 5)
        assert len({kinds[p] for p in chosen}) == 5

    def test_a_still_clip_is_spread_over(self) -> None:
        assert positions("cover", evidence(looks(*[0] * 16)), 5) == [1, 4, 8, 11, 14]

    def test_as_many_as_differ(self) -> None:
        only = RuleSettings(only_different=True)
        assert len(positions("cover", evidence(looks(*[0] * 16)), 16, only)) == 1
        assert sorted(positions("cover", evidence(looks(0, 0, 1, 1, 0, 2)), 6, only)) in ([0, 2, 5], [2, 4, 5])

    def test_duplicates_come_last_and_lie_far_apart(self) -> None:
        # Two stills: the middle of each, then the two that are furthest in time from what is there.
        chosen = choose("cover", evidence(looks(*[0] * 8, *[1] * 8)), 4)
        assert [choice.chosen_by for choice in chosen.choices] == ["event", "event", "spread", "spread"]
        assert sorted(choice.position for choice in chosen.choices) == [3, 7, 11, 15]

    def test_duplicates_are_kept_where_that_is_asked_for(self) -> None:
        of = evidence(looks(0, 0, 0, 1), [5, 5, 5, 1])
        kept = positions("cover", of, 2, RuleSettings(skips_duplicates=False))
        assert len(set(kept)) == 2
        assert positions("cover", of, 2)[1:] == [3] or positions("cover", of, 2)[:1] == [3]

    def test_a_blurred_frame_gives_way_to_a_sharp_one_nearby(self) -> None:
        quality = np.array([0.4, 0.1, 0.4, 0.4])
        assert positions("cover", evidence(looks(0, 0, 0, 0, tilt=0.3), [1, 9, 2, 1], quality=quality), 1) == [2]

    def test_a_blank_frame_comes_after_everything_else(self) -> None:
        quality = np.array([0.0, 0.3, 0.3, 0.0])
        chosen = positions("cover", evidence(looks(3, 0, 0, 4), [9, 1, 1, 9], quality=quality), 3)
        assert set(chosen[:2]) == {1, 2}

    def test_of_frames_of_one_event_those_of_other_layouts_are_taken(self) -> None:
        # One event, as far from each other by their features; 0 is the anchor, and 1 and 3 lie like 0 and 2.
        of = evidence(looks(0, 0, 0, 0, 0, tilt=0.4), [9, 4, 1, 4, 1])
        layout = np.array([[1.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 1, 0], [0, 0, 1]])
        chosen = choose("cover", replace(of, layout=layout), 3)
        assert [choice.chosen_by for choice in chosen.choices] == ["event", "coverage", "coverage"]
        first, *others = (choice.position for choice in chosen.choices)
        assert first == 0
        assert sorted(others) in ([2, 4], [3, 4])
        assert {1, 3} <= set(positions("cover", of, 3))  # without layouts the more salient ones are

    @pytest.mark.parametrize("count", [1, 2, 3])
    def test_the_best_of_few_is_found_by_trying_all(self, count: int) -> None:
        rng = np.random.default_rng(7)
        for _ in range(20):
            features = rng.normal(size=(8, 4)).clip(0) + 0.05
            features /= np.linalg.norm(features, axis=1, keepdims=True)
            similarity = features @ features.T

            def score(some: Sequence[int], similarity: np.ndarray = similarity) -> float:
                covered = np.mean([max(similarity[i, j] for j in some) for i in range(8)])
                alike = np.mean([max((similarity[i, j] for j in some if j != i), default=0.0) for i in some])
                return float(covered - 0.2 * alike)

            of_all = max(score(some) for some in itertools.combinations(range(8), count))
            pool, same = np.ones(8, dtype=bool), np.eye(8, dtype=bool)
            chosen = cover._best_cover(similarity, np.zeros(8), 0.2 * similarity, [], count, pool, same)
            assert score(chosen) >= of_all - 0.02  # exchanges of one: nearly always the best


class TestEvents:
    def test_a_small_change_ends_an_event_where_all_else_is_still(self) -> None:
        slides = looks(0, 0, 0, 1, 1, 1)
        slides[:3, 1] = slides[3:, 0] = 2.0  # alike by 0.8
        slides /= np.linalg.norm(slides, axis=1, keepdims=True)
        assert cover.events_of(slides @ slides.T, duplicate_cosine=0.97).tolist() == [0, 0, 0, 1, 1, 1]

    def test_the_same_change_is_none_where_everything_moves(self) -> None:
        similarity = np.full((6, 6), 0.8)
        np.fill_diagonal(similarity, 1.0)
        assert cover.events_of(similarity, duplicate_cosine=0.97).tolist() == [0] * 6

    def test_a_change_that_duplicates_have_too_is_none(self) -> None:
        similarity = np.ones((4, 4))
        similarity[:2, 2:] = similarity[2:, :2] = 0.98
        assert cover.events_of(similarity, duplicate_cosine=0.97).tolist() == [0] * 4
        assert cover.events_of(similarity, duplicate_cosine=0.99).tolist() == [0, 0, 1, 1]


class TestAuto:
    def test_a_peak_brings_the_papers_fusion_and_a_flat_curve_cover(self) -> None:
        kinds = looks(*range(8), tilt=0.0)
        peaked = choose("auto", evidence(kinds, [8, 8, 1, 1, 1, 1, 1, 1]), 2)
        assert (peaked.rule, [c.position for c in peaked.choices]) == ("tsq", [0, 1])
        assert "peaks at 2.91 times" in peaked.reason  # 8 / (22 / 8)
        flat = choose("auto", evidence(kinds), 2)
        assert flat.rule == "cover"
        assert "1.00 times its mean" in flat.reason

    def test_the_bar_itself_counts_as_standing_out(self) -> None:
        of = evidence(looks(0, 1, 2, 3), [2, 1, 0.5, 0.5])  # peak 2 over mean 1
        assert choose("auto", of, 2, RuleSettings(standing_out=2.0)).rule == "tsq"
        assert choose("auto", of, 2, RuleSettings(standing_out=2.01)).rule == "cover"

    def test_the_fusion_passes_over_what_shows_the_same(self) -> None:
        of = evidence(looks(0, 0, 1, 2, 3, 4), [9, 8, 7, 1, 1, 1])
        assert positions("tsq", of, 2) == [0, 1]
        chosen = choose("auto", of, 2)
        assert [c.position for c in chosen.choices] == [0, 2]
        assert chosen.duplicate_of is not None
        assert chosen.duplicate_of.tolist() == [-1, 0, -1, -1, -1, -1]
        assert positions("auto", of, 2, RuleSettings(skips_duplicates=False)) == [0, 1]

    def test_what_was_passed_over_comes_where_nothing_else_is_left(self) -> None:
        of = evidence(looks(0, 0, 1), [9, 8, 1])
        assert positions("auto", of, 3, RuleSettings(standing_out=1.2)) == [0, 2, 1]
        assert positions("auto", of, 3, RuleSettings(standing_out=1.2, only_different=True)) == [0, 2]

    def test_the_fusion_passes_over_blank_frames(self) -> None:
        of = evidence(looks(0, 1, 2, 3), [9, 2, 1, 1], quality=np.array([0.0, 0.3, 0.3, 0.3]))
        assert 0 not in positions("auto", of, 3)
        assert positions("auto", of, 4)[-1] == 0


SIMILAR = np.array([[1.0, 0.9, 0.1, 0.2], [0.9, 1.0, 0.2, 0.1], [0.1, 0.2, 1.0, 0.8], [0.2, 0.1, 0.8, 1.0]])


class TestOtherRules:
    def test_mmr_weighs_relevance_against_likeness(self) -> None:
        relevance = np.array([1.0, 0.9, 0.2, 0.0])
        # After 0: 1 has 0.5*0.9 - 0.5*0.9 = 0, 2 has 0.1 - 0.05 = 0.05, 3 has 0 - 0.1.
        assert others.mmr(relevance, SIMILAR, 2) == [0, 2]
        assert others.mmr(relevance, SIMILAR, 2, weight=1.0) == [0, 1]

    def test_bolt_takes_quantiles_of_the_sharpened_curve(self) -> None:
        # Squares 0 0 1 4 1 0, cumulated 0 0 1/6 5/6 1 1: the quantiles 1/4 and 3/4 both meet 3; the second moves on.
        assert others.bolt(np.array([0.0, 0.0, 1.0, 2.0, 1.0, 0.0]), 2) == [3, 4]
        assert others.bolt(np.ones(16), 4) == [1, 5, 9, 13]  # quantiles 1/8, 3/8, ...
        assert others.bolt(np.array([0.0, 0.0, 0.0, 1.0]), 3) == [1, 2, 3]

    def test_aks_takes_the_top_where_it_stands_out_and_halves_where_not(self) -> None:
        standing_out = np.array([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1], dtype=float)
        assert sorted(others.aks(standing_out, 2)) == [14, 15]  # 1 - 2/16 > 0.8
        flat = np.array([0.5, 0.4, 0.5, 0.6, 0.4, 1.0, 0.4, 0.0])
        assert sorted(others.aks(flat, 2)) == [3, 5]  # one of each half

    def test_dpp_has_the_largest_determinant_of_all_pairs(self) -> None:
        relevance = np.array([1.0, 0.8, 0.9, 0.5])
        quality = relevance / relevance.mean()
        kernel = np.outer(quality, quality) * (1 + SIMILAR) / 2
        best = max(itertools.combinations(range(4), 2), key=lambda pair: np.linalg.det(kernel[np.ix_(pair, pair)]))
        assert sorted(others.dpp(relevance, SIMILAR, 2)) == sorted(best)

    def test_k_center_goes_to_the_least_alike(self) -> None:
        # Sums of rows: 2.2 2.2 2.1 2.1. From 0 the least alike is 2 (0.1); then 1 (0.9, 0.2) and 3 (0.2, 0.8): 3.
        assert others.k_center(SIMILAR, 3) == [0, 2, 3]

    def test_facility_location_adds_most_coverage(self) -> None:
        # 0 alone 2.2 as 1; with 0 shown: 2 adds 0 + 0 + 0.9 + 0.6, 3 adds 0 + 0 + 0.7 + 0.8.
        assert others.facility_location(SIMILAR, 2)[0] in (0, 1)
        assert others.facility_location(SIMILAR, 2)[1] in (2, 3)


@st.composite
def any_evidence(draw: st.DrawFn) -> Evidence:
    count = draw(st.integers(1, 24))
    curve = hnp.arrays(np.float64, count, elements=st.floats(0.0, 1.0))
    kinds = draw(hnp.arrays(np.int64, count, elements=st.integers(0, 5)))
    tilt = draw(st.sampled_from([0.0, 0.1, 0.5]))
    quality = draw(st.none() | hnp.arrays(np.float64, count, elements=st.sampled_from([0.0, 0.1, 0.4])))
    layout = draw(st.none() | hnp.arrays(np.float64, (count, 4), elements=st.sampled_from([-0.5, 0.0, 0.1])))
    return Evidence(
        times=np.cumsum(draw(hnp.arrays(np.float64, count, elements=st.floats(0.01, 9.0)))),
        visual=draw(curve),
        textual=draw(curve),
        features=looks(*kinds.tolist(), tilt=tilt),
        quality=quality,
        layout=layout,
    )


@pytest.mark.parametrize("name", RULES)
@settings(max_examples=25)
@given(data=st.data())
def test_any_rule_gives_k_distinct_candidates_and_the_same_ones_again(name: SelectorName, data: st.DataObject) -> None:
    of, k = data.draw(any_evidence()), data.draw(st.integers(1, 30))
    chosen = positions(name, of, k)
    assert len(chosen) == len(set(chosen)) == min(k, len(of))
    assert set(chosen) <= set(range(len(of)))
    assert positions(name, of, k) == chosen


@pytest.mark.parametrize("name", ["auto", "cover"])
@settings(max_examples=40)
@given(data=st.data())
def test_no_duplicate_is_chosen_while_something_else_is_left(name: SelectorName, data: st.DataObject) -> None:
    of, k = replace(data.draw(any_evidence()), quality=None), data.draw(st.integers(1, 24))
    chosen = positions(name, of, k)
    same = of.similarity >= RuleSettings().duplicate_cosine
    for rank, position in enumerate(chosen):
        if same[position, chosen[:rank]].any():
            left = [other for other in range(len(of)) if not same[other, chosen[:rank]].any()]
            assert left == [], (chosen, rank)
    only = positions(name, of, k, RuleSettings(only_different=True))
    assert not same[np.ix_(only, only)][~np.eye(len(only), dtype=bool)].any()


@pytest.mark.parametrize("name", ["auto", "tsq", "cover", "vqm", "tqm", "topk", "uniform"])
def test_a_still_clip_is_spread_over_evenly(name: SelectorName) -> None:
    assert sorted(positions(name, evidence(looks(*[0] * 16)), 5)) == [1, 4, 8, 11, 14]


def test_a_duplicate_names_the_first_choice_that_shows_the_same() -> None:
    similarity = looks(0, 0, 1, 0) @ looks(0, 0, 1, 0).T
    assert cover.duplicates_of([3, 2, 0], similarity, 0.97).tolist() == [3, 3, -1, -1]


def test_slips_are_refused() -> None:
    with pytest.raises(UsageError, match="wanted at least 1"):
        choose("cover", evidence(looks(0, 1)), 0)
    with pytest.raises(UsageError, match="is not a rule"):
        choose("best", evidence(looks(0, 1)), 1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no features"):
        choose("cover", Evidence(times=np.arange(3.0), visual=np.ones(3), textual=np.ones(3)), 1)
    with pytest.raises(ValueError, match="there is none"):
        choose("tsq", Evidence(times=np.arange(3.0)), 1)
    with pytest.raises(ValueError, match="visual must have 1 axes"):
        Evidence(times=np.arange(3.0), visual=np.ones(2))
    with pytest.raises(ValueError, match="quality must be finite"):
        Evidence(times=np.arange(3.0), quality=np.array([0.0, np.nan, 1.0]))
    with pytest.raises(ValueError, match="layout must have 2 axes"):
        Evidence(times=np.arange(3.0), layout=np.zeros(3))
