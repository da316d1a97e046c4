"""Stop when sure: scores frame by frame, against probabilities worked out by hand."""

from __future__ import annotations

import pytest
import torch

from tsq_cli.consensus import Consensus, EarlyExit
from tsq_cli.models.early_exit import frames_needed, is_sure, scores_so_far

# Two videos of three frames, best first, with two classes: one is clear at once, the other stays open.
P = torch.tensor([[0.9, 0.5, 0.5], [0.6, 0.4, 0.8]], dtype=torch.float64)
LOGITS = torch.stack([P, 1 - P], dim=-1).log()
MEANS = [[0.9, 0.7, 1.9 / 3], [0.6, 0.5, 0.6]]  # of p, after each frame


def test_scores_are_those_of_the_frames_so_far() -> None:
    scores = scores_so_far(LOGITS, Consensus(pooling="probabilities"))
    torch.testing.assert_close(scores.softmax(dim=-1)[..., 0], torch.tensor(MEANS, dtype=torch.float64))
    halved = scores_so_far(LOGITS, Consensus(pooling="probabilities"), temperatures=(1.0, 0.5, 1.0, 9.0))
    odds = (0.7 / 0.3) ** 2  # a temperature of one half squares the odds
    assert halved[0, 1].softmax(dim=-1)[0] == pytest.approx(odds / (1 + odds))
    weighted = scores_so_far(
        LOGITS, Consensus(pooling="weighted-probabilities"), weights=torch.tensor([[3.0, 1.0, 4.0]] * 2)
    )
    assert weighted[0, 1].softmax(dim=-1)[0] == pytest.approx(0.8)  # (3 * 0.9 + 0.5) / 4
    own = (torch.tensor([[0.0, 0.0], [2.0, 2.0]]).double(), torch.zeros(2, 2).double())
    said = scores_so_far(LOGITS, Consensus(pooling="probabilities", evidence_visual=1.0), class_scores=own)
    torch.testing.assert_close(said.softmax(dim=-1), scores.softmax(dim=-1))  # evidence that says nothing


@pytest.mark.parametrize(
    ("bar", "needed"),
    [(0.85, [1, 3]), (0.6, [1, 1]), (0.61, [1, 3]), (0.99, [3, 3])],  # whoever is never sure sees all
)
def test_a_video_is_done_once_it_is_sure(bar: float, needed: list[int]) -> None:
    scores = scores_so_far(LOGITS, Consensus(pooling="probabilities"))
    exit_at = EarlyExit(bar=bar - 1e-9, temperatures=(1.0, 1.0, 1.0))
    assert frames_needed(scores, exit_at).tolist() == needed


def test_of_several_labels_the_likeliest_decides() -> None:
    scores = torch.tensor([[-3.0, 1.0], [-3.0, -1.0]])  # sigmoids 0.05, 0.73 and 0.05, 0.27
    assert is_sure(scores, 0.7, multi_label=True).tolist() == [True, False]


@pytest.mark.parametrize(
    ("bar", "temperatures", "words"),
    [(0.0, (1.0,), "bar above 0"), (1.1, (1.0,), "bar above 0"), (0.5, (), "one temperature or more"),
     (0.5, (1.0, 0.0), "above 0 each"), (float("nan"), (1.0,), "bar above 0")],
)  # fmt: skip
def test_values_out_of_range_are_refused(bar: float, temperatures: tuple[float, ...], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        EarlyExit(bar=bar, temperatures=temperatures)
