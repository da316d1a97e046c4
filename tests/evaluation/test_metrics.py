"""Metrics against numbers worked out by hand, against scikit-learn, and properties of any input."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.evaluation.references import average_precision_score
from tsq_cli.evaluation.metrics import mean_average_precision, top_k_accuracy


@pytest.mark.parametrize(
    ("scores", "positive", "expected"),
    [
        ([0.9, 0.8, 0.7, 0.6], [1, 0, 1, 0], (1 / 1 + 2 / 3) / 2),
        ([0.6, 0.7, 0.8, 0.9], [1, 0, 1, 0], (1 / 2 + 2 / 4) / 2),
        ([0.9, 0.8, 0.7, 0.6], [1, 1, 0, 0], 1.0),
        ([0.9, 0.8, 0.7, 0.6], [0, 0, 0, 1], 1 / 4),
        ([0.5, 0.5, 0.5, 0.5], [1, 0, 0, 0], 1 / 4),  # all equal: the share of positives
        ([0.9, 0.5, 0.5, 0.1], [0, 1, 0, 1], (1 / 3 + 2 / 4) / 2),  # the tie's precision is that of its end
        ([-3.0], [1], 1.0),
    ],
)
def test_average_precision_by_hand(scores: list[float], positive: list[int], expected: float) -> None:
    one_class = np.array(scores)[:, None], np.array(positive, dtype=bool)[:, None]
    assert mean_average_precision(*one_class) == pytest.approx(expected, abs=1e-12)


def test_map_is_the_mean_over_classes_that_have_a_positive() -> None:
    scores = np.array([[0.9, 0.2, 0.4], [0.8, 0.3, 0.6], [0.7, 0.9, 0.5]])
    targets = np.array([[1, 1, 0], [0, 0, 0], [1, 0, 0]], dtype=bool)
    assert mean_average_precision(scores, targets) == pytest.approx(((1 + 2 / 3) / 2 + 1 / 3) / 2)


@settings(max_examples=50)
@given(seed=st.integers(0, 2**16), n=st.integers(1, 40), c=st.integers(1, 6), levels=st.sampled_from([2, 5, 10**6]))
def test_map_is_scikit_learns(seed: int, n: int, c: int, levels: int) -> None:
    generator = np.random.default_rng(seed)
    targets = generator.random((n, c)) < 0.4
    targets[generator.integers(n), generator.integers(c)] = True
    scores = np.floor(generator.normal(size=(n, c)) * levels) / levels  # few levels: many ties
    present = np.flatnonzero(targets.any(axis=0))
    expected = np.mean([average_precision_score(targets[:, number], scores[:, number]) for number in present])
    assert mean_average_precision(scores, targets) == pytest.approx(expected, abs=1e-12)


def test_top_k_accuracy_by_hand() -> None:
    scores = np.array([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7], [0.4, 0.4, 0.2], [0.2, 0.3, 0.5]])
    targets = np.array([[1, 0, 0], [0, 1, 0], [0, 1, 0], [1, 1, 0]], dtype=bool)  # the last video has two classes
    assert [top_k_accuracy(scores, targets, k) for k in (1, 2, 3, 9)] == [0.25, 1.0, 1.0, 1.0]


def test_top_k_of_unsigned_scores() -> None:
    assert top_k_accuracy(np.array([[0, 200]], dtype=np.uint8), np.array([[False, True]]), 1) == 1.0


def test_what_cannot_be_measured_is_refused() -> None:
    one = np.array([[True, False]])
    with pytest.raises(ValueError, match="needs a positive"):
        mean_average_precision([[0.1, 0.2]], ~np.array([[True, True]]))
    with pytest.raises(ValueError, match="1 of 2 are not"):
        mean_average_precision([[0.1, np.nan]], one)
    with pytest.raises(ValueError, match="as many bools"):
        mean_average_precision([[0.1, 0.2]], [[1, 0]])
    with pytest.raises(ValueError, match="as many bools"):
        top_k_accuracy([[0.1, 0.2, 0.3]], one, 1)
    with pytest.raises(ValueError, match="as many bools"):
        mean_average_precision([0.1, 0.2], one[0])
    with pytest.raises(ValueError, match="k must be"):
        top_k_accuracy([[0.1, 0.2]], one, 0)
