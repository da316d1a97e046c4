"""The rules that choose frames, on arrays whose answers can be read off."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit, softmax

from tsq_cli import selection
from tsq_cli.errors import UsageError
from tsq_cli.evaluation.selectors import ALL_SELECTORS, WITHOUT_FRAMES, SelectorInput, class_probabilities, select
from tsq_cli.selection import RuleSettings

# One video of six frames and two classes; the true one is the second.
ONE = SelectorInput(
    saliency_visual=np.array([[0.30, 0.05, 0.20, 0.05, 0.25, 0.15]]),
    saliency_textual=np.array([[0.30, 0.10, 0.05, 0.25, 0.20, 0.10]]),
    frame_probabilities=np.array([[[0.5, 0.5], [0.9, 0.1], [0.4, 0.6], [0.1, 0.9], [0.3, 0.7], [0.95, 0.05]]]),
    targets=np.array([[False, True]]),
)


@pytest.mark.parametrize(
    ("name", "k", "positions"),
    [
        ("tsq", 3, [0, 2, 4]),  # two by S^v: 0 and 4; by S^t 0 again, so the next of S^v: 2
        ("tsq", 5, [0, 2, 3, 4, 5]),  # three by S^v: 0, 4, 2; two by S^t: 0 again, 3; the next of S^v: 5
        ("vqm", 2, [0, 4]),
        ("tqm", 2, [0, 3]),
        ("uniform", 3, [1, 3, 5]),
        ("middle", 2, [2, 3]),
        ("confident", 3, [1, 3, 5]),
        ("oracle", 3, [2, 3, 4]),
        ("oracle", 1, [3]),
        ("all", 1, [0, 1, 2, 3, 4, 5]),
        ("vqm", 9, [0, 1, 2, 3, 4, 5]),
        ("agree", 3, [0, 1, 5]),  # first class: 0.95 * 0.9 beats 0.9 * 0.7
        ("agree3", 3, [0, 1, 5]),  # 0.95 * 0.9 * 0.5 = 0.4275 beats 0.9 * 0.7 * 0.6 = 0.378
    ],
)
def test_a_rule_chooses(name: str, k: int, positions: list[int]) -> None:
    chosen = select(name, ONE, k)
    assert chosen.dtype == np.int64
    assert chosen.tolist() == [positions]


def test_the_share_of_the_visual_module_is_the_inputs() -> None:
    assert select("tsq", replace(ONE, settings=RuleSettings(lambda_v=0.0)), 2).tolist() == [[0, 3]]
    assert select("tsq", replace(ONE, settings=RuleSettings(lambda_v=1.0)), 2).tolist() == [[0, 4]]


def test_the_oracle_takes_the_likeliest_of_several_true_classes() -> None:
    both = replace(ONE, targets=np.array([[True, True]]))
    assert select("oracle", both, 3).tolist() == [[1, 3, 5]]


def made(num_videos: int = 40, num_frames: int = 16) -> SelectorInput:
    rng = np.random.default_rng(3)
    vectors = rng.normal(size=(num_videos, num_frames, 8))
    return SelectorInput(
        saliency_visual=rng.random((num_videos, num_frames)),
        saliency_textual=rng.random((num_videos, num_frames)),
        frame_probabilities=rng.random((num_videos, num_frames, 3)),
        targets=np.eye(3, dtype=np.bool_)[rng.integers(3, size=num_videos)],
        features=(vectors / np.linalg.norm(vectors, axis=2, keepdims=True)).astype(np.float32),
    )


def test_two_frames_that_agree_and_three_may_name_other_classes() -> None:
    p = np.array([[[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.3, 0.7], [0.35, 0.65]]])
    of = replace(ONE, frame_probabilities=p, saliency_visual=p[:, :, 0], saliency_textual=p[:, :, 0])
    assert select("agree", of, 2).tolist() == [[0, 1]]  # 0.9 * 0.8 = 0.72 against 0.9 * 0.7 = 0.63
    assert select("agree3", of, 2).tolist() == [[2, 3]]  # 0.72 * 0.35 = 0.252 against 0.63 * 0.65 = 0.4095


@pytest.mark.parametrize("name", [name for name in ALL_SELECTORS if name not in WITHOUT_FRAMES])
def test_every_rule_gives_distinct_positions_in_order_and_treats_videos_alone(name: str) -> None:
    inputs = made()
    chosen = select(name, inputs, 5, seed=1)
    assert chosen.shape == (40, 16 if name == "all" else 5)
    assert (np.diff(chosen, axis=1) > 0).all()
    assert chosen.min() >= 0
    assert chosen.max() < 16
    first = SelectorInput(
        saliency_visual=inputs.saliency_visual[:7],
        saliency_textual=inputs.saliency_textual[:7],
        frame_probabilities=inputs.frame_probabilities[:7],
        targets=inputs.targets[:7],
        features=None if inputs.features is None else inputs.features[:7],
    )
    assert np.array_equal(select(name, first, 5, seed=1), chosen[:7])


def test_the_fusion_is_the_one_that_tsq_select_uses() -> None:
    inputs = made()
    for number, positions in enumerate(select("tsq", inputs, 5)):
        choices = selection.fuse(inputs.saliency_visual[number], inputs.saliency_textual[number], 5)
        assert sorted(choice.position for choice in choices) == positions.tolist()


def test_random_draws_differ_by_seed_and_video_and_come_back() -> None:
    inputs = made(num_videos=2000)
    drawn = select("random", inputs, 5, seed=0)
    assert np.array_equal(drawn, select("random", inputs, 5, seed=0))
    assert not np.array_equal(drawn, select("random", inputs, 5, seed=1))
    # 10,000 draws over 16 places: 625 each, with a standard deviation of 21 where frames of a video are drawn at once
    counts = np.bincount(drawn.ravel(), minlength=16)
    assert np.abs(counts - 625).max() < 5 * 21


def test_probabilities_are_scipys_and_survive_large_logits() -> None:
    logits = np.random.default_rng(0).normal(scale=30, size=(4, 5, 3)).astype(np.float16)
    logits[0, 0] = [60000, -60000, 0]
    wide = logits.astype(np.float64)
    np.testing.assert_allclose(class_probabilities(logits), softmax(wide, axis=-1), rtol=1e-12)
    np.testing.assert_allclose(class_probabilities(logits, multi_label=True), expit(wide), rtol=1e-12)


def test_what_cannot_be_chosen_from_is_refused() -> None:
    for name in ("best", "z-visual"):
        with pytest.raises(UsageError, match=f"{name} is no selector of frames"):
            select(name, ONE, 3)  # type: ignore[arg-type]
    for name in ("uniform", "vqm", "all"):
        with pytest.raises(UsageError, match="0 frames"):
            select(name, ONE, 0)
    with pytest.raises(ValueError, match=r"saliency_textual.*\(1, 5\)"):
        replace(ONE, saliency_textual=ONE.saliency_textual[:, :5])
    with pytest.raises(ValueError, match="saliency_visual must be finite"):
        replace(ONE, saliency_visual=np.where(ONE.saliency_visual == 0.3, np.nan, ONE.saliency_visual))
    for own in (np.zeros((1, 3)), np.array([[0.0, np.inf]])):
        with pytest.raises(ValueError, match=r"class_scores must be finite, two of \[1, 2\]"):
            replace(ONE, class_scores=(np.zeros((1, 2)), own))
    with pytest.raises(ValueError, match="at least one true class"):
        replace(ONE, targets=np.array([[False, False]]))
    with pytest.raises(ValueError, match="without an empty axis"):
        replace(ONE, frame_probabilities=np.zeros((0, 6, 2)))
