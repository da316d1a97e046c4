"""From frames to their video: every pooling, and the sampler's evidence, against odds worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from tsq_cli.config import ClassifySettings
from tsq_cli.consensus import Consensus, Pooling, evidence_weights
from tsq_cli.errors import UsageError
from tsq_cli.models import pool, probabilities, video_scores

# Three frames that give the first class 0.8, 0.5 and 0.1, and the second one the rest.
P = torch.tensor([0.8, 0.5, 0.1], dtype=torch.float64)
WEIGHTS = torch.tensor([0.3, 0.1, 0.0], dtype=torch.float64)  # shares 0.75, 0.25 and 0
METHODS: tuple[Pooling, ...] = (
    "logits", "probabilities", "weighted-logits", "weighted-probabilities", "best-two", "recurrence",
)  # fmt: skip


def of_two_classes(p: Tensor) -> Tensor:
    """Logits [K, 2] whose softmax is p and 1 - p."""
    return torch.stack([p, 1 - p], dim=-1).log()


@pytest.mark.parametrize(
    ("method", "odds"),
    [
        ("logits", (4 * 1 / 9) ** (1 / 3)),  # the odds 4, 1 and 1/9, averaged as logits
        ("probabilities", 1.4 / 1.6),
        ("weighted-logits", 4**0.75),
        ("weighted-probabilities", 0.725 / 0.275),  # 0.75 * 0.8 + 0.25 * 0.5
        ("best-two", math.sqrt(0.8 * 0.5) / math.sqrt(0.9 * 0.5)),
        ("recurrence", 1.8 * 1.5 * 1.1 / (1.2 * 1.5 * 1.9)),  # 1 + 0.5 * 2 p of either class
    ],
)
def test_frames_become_a_video(method: Pooling, odds: float) -> None:
    given = pool(of_two_classes(P), method, weights=WEIGHTS).softmax(dim=-1)
    assert given.tolist() == pytest.approx([odds / (1 + odds), 1 / (1 + odds)])


@pytest.mark.parametrize(
    ("method", "p"),
    [
        ("logits", 1 / (1 + (9 / 4) ** (1 / 3))),
        ("probabilities", 1.4 / 3),
        ("weighted-logits", 4**0.75 / (1 + 4**0.75)),
        ("weighted-probabilities", 0.725),
        ("best-two", math.sqrt(0.8 * 0.5)),
        ("recurrence", 2.97 / (2.97 + 3.42)),  # the class against its absence
    ],
)
def test_of_several_labels_each_stands_alone(method: Pooling, p: float) -> None:
    logits = torch.stack([P.logit(), torch.zeros(3, dtype=torch.float64)], dim=-1)
    given = pool(logits, method, weights=WEIGHTS, multi_label=True).sigmoid()
    assert given[0] == pytest.approx(p)
    assert given[1] == pytest.approx(0.5)


@pytest.mark.parametrize("method", METHODS[:-1])
@pytest.mark.parametrize("multi_label", [False, True])
def test_a_frame_alone_stays_what_it_is(method: Pooling, multi_label: bool) -> None:
    logits = torch.tensor([[2.0, -1.0, 0.5]])
    given = pool(logits, method, weights=torch.tensor([0.2]), multi_label=multi_label)
    torch.testing.assert_close(
        probabilities(given, multi_label=multi_label), probabilities(logits[0], multi_label=multi_label)
    )


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("multi_label", [False, True])
def test_videos_are_pooled_alone_and_extremes_stay_finite(method: Pooling, multi_label: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(4, 5, 3, generator=generator)
    logits[0] = torch.tensor([300.0, -300.0, 0.0])
    weights = torch.rand(4, 5, generator=generator)
    weights[1] = 0.0
    together = pool(logits, method, weights=weights, multi_label=multi_label)
    assert together.isfinite().all()
    for video, of_video, own in zip(together, logits, weights, strict=True):
        torch.testing.assert_close(video, pool(of_video, method, weights=own, multi_label=multi_label))
    torch.testing.assert_close(together[1], pool(logits[1], method, multi_label=multi_label))  # all weigh alike


def test_the_sharpness_of_recurrence_is_a_parameter() -> None:
    given = pool(of_two_classes(P), "recurrence", recurrence=2.0).softmax(dim=-1)
    present, absent = 4.2 * 3 * 1.4, 1.8 * 3 * 4.6  # 1 + 4 p
    assert given[0] == pytest.approx(present / (present + absent))


def test_frames_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"a frame or more, got \[0, 2\]"):
        pool(torch.zeros(0, 2))
    with pytest.raises(ValueError, match=r"weights \[2\] do not fit logits \[3, 2\]"):
        pool(torch.zeros(3, 2), "weighted-logits", weights=torch.zeros(2))


@pytest.mark.parametrize(
    ("visual", "textual", "odds"),
    [
        (0.0, 0.0, 7 / 8),
        (0.5, 0.0, 7 / 8 * 3),  # p^v is 0.9 and 0.1: odds of 9, to the half
        (0.0, 1.0, 7 / 8 / 4),  # p^t is 0.2 and 0.8
        (0.5, 1.0, 7 / 8 * 3 / 4),
    ],
)
def test_the_sampler_has_a_say(visual: float, textual: float, odds: float) -> None:
    consensus = Consensus(pooling="probabilities", evidence_visual=visual, evidence_textual=textual)
    own = (of_two_classes(torch.tensor(0.9)) + 5, of_two_classes(torch.tensor(0.2)) - 3)  # a shift means nothing
    given = video_scores(of_two_classes(P), consensus, class_scores=own).softmax(dim=-1)
    assert given[0] == pytest.approx(odds / (1 + odds))
    several = Consensus(pooling="probabilities", evidence_visual=visual, evidence_textual=textual, multi_label=True)
    z = (torch.tensor([0.9]).logit(), torch.tensor([0.2]).logit())
    given = video_scores(P.logit()[:, None], several, class_scores=z).sigmoid()
    assert given[0] == pytest.approx(odds / (1 + odds))


def test_evidence_without_a_sampler_is_an_error_and_without_sampler_leaves_it_out() -> None:
    consensus = Consensus(pooling="weighted-probabilities", evidence_visual=0.5)
    with pytest.raises(ValueError, match="evidence needs the class scores"):
        video_scores(of_two_classes(P), consensus)
    assert consensus.without_sampler == Consensus(pooling="probabilities")
    assert Consensus(pooling="best-two").without_sampler == Consensus(pooling="best-two")


def test_a_run_replaces_what_it_asks_for() -> None:
    own = Consensus(pooling="best-two", evidence_visual=0.5, evidence_textual=0.25, multi_label=True)
    assert own.changed(None, None) == own
    assert own.changed("logits", None) == Consensus(
        pooling="logits", evidence_visual=0.5, evidence_textual=0.25, multi_label=True
    )
    assert own.changed(None, [2.0]) == Consensus(pooling="best-two", evidence_visual=2.0, multi_label=True)
    assert own.changed(None, (0.0, 1.0)).evidence_textual == 1.0
    assert [evidence_weights(given) for given in (1, [0.5], (0.5, 2))] == [(1.0,), (0.5,), (0.5, 2.0)]
    of_numpy = [evidence_weights(given) for given in (np.float32(0.5), np.int64(1), np.array([0.5, 2.0]))]
    assert of_numpy == [(0.5,), (1.0,), (0.5, 2.0)]
    assert {type(weight) for weights in of_numpy for weight in weights} == {float}
    assert ClassifySettings(evidence=0.5).evidence == (0.5,)
    assert own.changed(None, 0.5).evidence_visual == 0.5


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(UsageError, match=r"the pooling is 'max'.*one of logits, probabilities"):
        Consensus(pooling="max")  # type: ignore[arg-type]
    for wrong in (-1.0, 101.0, math.nan):
        with pytest.raises(UsageError, match=r"evidence_visual is .*a weight from 0 to 100"):
            Consensus(evidence_visual=wrong)
    for given in ([], [1, 2, 3], "0.5", ("a",), [True], True, None, 1j, [10**400], np.array(0.5), 101, math.nan):
        with pytest.raises(UsageError, match="evidence is"):
            evidence_weights(given)
        if given is not None:  # which is the pack's
            with pytest.raises(UsageError, match="evidence is"):
                ClassifySettings(evidence=given)  # type: ignore[arg-type]
