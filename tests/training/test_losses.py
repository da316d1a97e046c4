"""Losses against sums worked out by hand and torch's own, and who learns from whom."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from tsq_cli.training.losses import InteractionKind, classification_loss, interaction_loss

STUDENT = [0.5, 0.25, 0.25]
TEACHER = [0.25, 0.5, 0.25]


def attention(*rows: list[float]) -> Tensor:
    """One video's attention [1, C, T]."""
    return torch.tensor([rows], dtype=torch.float64)


def test_single_label_loss_by_hand() -> None:
    logits = torch.tensor([[0.0, math.log(3.0)], [0.0, 0.0]])  # probabilities 1/4, 3/4 and 1/2, 1/2
    targets = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    expected = (math.log(4) + math.log(2)) / 2
    assert classification_loss(logits, targets, multi_label=False).item() == pytest.approx(expected)


def test_a_mixed_target_weighs_its_classes_and_two_labels_share() -> None:
    logits = torch.tensor([[0.0, math.log(3.0)]])
    mixed = 0.3 * math.log(4) + 0.7 * math.log(4 / 3)
    loss = classification_loss(logits, torch.tensor([[0.3, 0.7]]), multi_label=False)
    assert loss.item() == pytest.approx(mixed)
    both = (math.log(4) + math.log(4 / 3)) / 2
    assert classification_loss(logits, torch.ones(1, 2), multi_label=False).item() == pytest.approx(both)


def test_multi_label_loss_sums_classes_and_averages_videos() -> None:
    logits = torch.tensor([[0.0, math.log(3.0)], [0.0, 0.0]])  # sigmoids 1/2, 3/4 and 1/2, 1/2
    targets = torch.tensor([[1.0, 1.0], [0.0, 1.0]])
    expected = ((math.log(2) + math.log(4 / 3)) + (math.log(2) + math.log(2))) / 2
    assert classification_loss(logits, targets, multi_label=True).item() == pytest.approx(expected)


def test_both_losses_pull_the_true_class_alike() -> None:
    pulls = []
    for multi_label in (False, True):
        logits = torch.zeros(1, 2, requires_grad=True)
        classification_loss(logits, torch.tensor([[1.0, 0.0]]), multi_label=multi_label).backward()
        pulls.append(logits.grad[0, 0].item())
    assert pulls == [-0.5, -0.5]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        # KL of (1/2, 1/4, 1/4) and (1/4, 1/2, 1/4), either way round: a quarter of ln 2
        ("kl", math.log(2) / 4),
        ("reverse-kl", math.log(2) / 4),
        # the mean is (3/8, 3/8, 1/4)
        ("js", 0.5 * math.log(4 / 3) + 0.25 * math.log(2 / 3)),
        ("mse", 2 / 16),
        ("none", 0.0),
    ],
)
def test_each_distance_by_hand(kind: InteractionKind, expected: float) -> None:
    loss = interaction_loss(attention(STUDENT), attention(TEACHER), torch.ones(1, 1), kind=kind)
    assert loss.item() == pytest.approx(expected, abs=1e-12)


def test_the_two_kl_differ_and_are_torchs() -> None:
    student, teacher = attention([0.7, 0.2, 0.1]), attention([0.2, 0.2, 0.6])
    one = torch.ones(1, 1)
    forward = functional.kl_div(student[0, 0].log(), teacher[0, 0], reduction="sum")
    reverse = functional.kl_div(teacher[0, 0].log(), student[0, 0], reduction="sum")
    assert forward.item() != pytest.approx(reverse.item(), rel=0.05)
    assert interaction_loss(student, teacher, one).item() == pytest.approx(forward.item())
    assert interaction_loss(student, teacher, one, kind="reverse-kl").item() == pytest.approx(reverse.item())


def test_only_the_rows_of_the_true_classes_count_alike_within_a_video_and_videos_alike() -> None:
    far = [0.0, 0.0, 1.0]
    student = torch.cat([attention(STUDENT, TEACHER, far), attention(STUDENT, far, far)])
    teacher = attention(TEACHER, TEACHER, TEACHER).expand(2, -1, -1)
    targets = torch.tensor([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    distance = math.log(2) / 4
    assert interaction_loss(student, teacher, targets).item() == pytest.approx((distance / 2 + distance) / 2)
    mixed = torch.tensor([[0.25, 0.75, 0.0], [1.0, 0.0, 0.0]])
    assert interaction_loss(student, teacher, mixed).item() == pytest.approx((distance / 4 + distance) / 2)


@pytest.mark.parametrize("kind", ["kl", "reverse-kl", "js", "mse"])
def test_the_student_moves_to_the_teacher_and_the_teacher_stays(kind: InteractionKind) -> None:
    torch.manual_seed(0)
    scores = torch.randn(2, 3, 5, dtype=torch.float64, requires_grad=True)
    lesson = torch.randn(2, 3, 5, dtype=torch.float64, requires_grad=True)
    targets = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
    true = targets.bool()
    gaps = []
    for _ in range(50):
        gaps.append((scores.softmax(dim=2) - lesson.softmax(dim=2))[true].abs().sum())
        scores.grad = None
        interaction_loss(scores.softmax(dim=2), lesson.softmax(dim=2), targets, kind=kind).backward()
        with torch.no_grad():
            scores -= 0.2 * scores.grad / scores.grad.abs().max()
    assert gaps[-1] < 0.3 * gaps[0]
    assert lesson.grad is None
    assert scores.grad[~true].abs().max() == 0


@pytest.mark.parametrize("kind", ["kl", "reverse-kl", "js", "mse"])
def test_attention_that_rounded_to_zero_gives_finite_losses_and_gradients(kind: InteractionKind) -> None:
    scores = torch.tensor([[[0.0, -300.0, -80.0]]], requires_grad=True)  # softmax 1, 0 and 2e-35
    loss = interaction_loss(scores.softmax(dim=2), torch.tensor([[[0.0, 1.0, 0.0]]]), torch.ones(1, 1), kind=kind)
    loss.backward()
    assert loss.isfinite()
    assert loss > 0
    assert scores.grad.isfinite().all()


def test_half_precision_is_widened() -> None:
    logits, targets = torch.tensor([[4.0, -4.0]], dtype=torch.bfloat16), torch.tensor([[1.0, 0.0]])
    for multi_label, expected in ((False, math.log1p(math.exp(-8))), (True, 2 * math.log1p(math.exp(-4)))):
        loss = classification_loss(logits, targets, multi_label=multi_label)
        assert loss.dtype == torch.float32
        assert loss.item() == pytest.approx(expected, rel=1e-3)
    rows = torch.tensor([[STUDENT]], dtype=torch.float16)
    assert interaction_loss(rows, rows, torch.ones(1, 1)).dtype == torch.float32


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"must both be \[B, C\]"):
        classification_loss(torch.zeros(2, 3), torch.zeros(2, 4), multi_label=True)
    with pytest.raises(ValueError, match=r"must be \[B, C, T\]"):
        interaction_loss(attention(STUDENT), attention(TEACHER, TEACHER), torch.ones(1, 1))
    with pytest.raises(ValueError, match=r"targets \[1, 2\]"):
        interaction_loss(attention(STUDENT), attention(TEACHER), torch.ones(1, 2))
    with pytest.raises(ValueError, match="no interaction loss of kind 'kld'"):
        interaction_loss(attention(STUDENT), attention(TEACHER), torch.ones(1, 1), kind="kld")
