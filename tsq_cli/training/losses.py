"""Training losses: classification, and one module teaching the other where to look (docs/method.md, section 4).

Nothing here imports torch before it is called, so that settings can name an InteractionKind without it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Tensor

InteractionKind = Literal["kl", "reverse-kl", "js", "mse", "none"]
"""What is between the student's attention and the teacher's (all ours): KL(teacher || student), KL(student || teacher),
the mean of both one's KL to their mean, the sum of squared differences, or nothing."""


def classification_loss(logits: Tensor, targets: Tensor, *, multi_label: bool) -> Tensor:
    """L_cls of B videos (ours): softmax cross-entropy, or binary cross-entropy where a video has several labels.

    Args:
        logits: [B, C].
        targets: float [B, C], from 0 to 1. Without multi_label each row is a distribution over the classes; a row of
            another sum is brought to one, a row of zeros gives NaN.
        multi_label: whether the classes are told apart one by one.

    Returns:
        Scalar in float32 or wider, the mean over the videos. Binary cross-entropy is summed over the classes, so that
        its pull on the true class is as strong against the interaction losses as cross-entropy's.

    Raises:
        ValueError: logits and targets that are not of one shape [B, C].
    """
    if logits.ndim != 2 or logits.shape != targets.shape:
        raise ValueError(f"logits {list(logits.shape)} and targets {list(targets.shape)} must both be [B, C]")
    from torch.nn import functional

    logits = _wide(logits)
    targets = targets.to(logits.dtype)
    if multi_label:
        return functional.binary_cross_entropy_with_logits(logits, targets, reduction="none").sum(dim=1).mean()
    return functional.cross_entropy(logits, _shares(targets))


def interaction_loss(student: Tensor, teacher: Tensor, targets: Tensor, *, kind: InteractionKind = "kl") -> Tensor:
    """How far one module's attention to the true classes is from the other's, which teaches it.

    S gives the weight of this loss and what it does; the formula is ours.

    Args:
        student: attention [B, C, T] of the module that learns; each row a distribution over the T frames.
        teacher: attention [B, C, T] of the other one; no gradient reaches it.
        targets: float [B, C], at least 0, a positive one in every row: the weight of each class' attention row in its
            video. Several labels count alike, other classes not at all.
        kind: the distance between two attention rows.

    Returns:
        Scalar in float32 or wider, the mean over the videos; zero where both agree, and for "none".

    Raises:
        ValueError: shapes that do not fit, or an unknown kind.
    """
    if student.ndim != 3 or student.shape != teacher.shape or targets.shape != student.shape[:2]:
        raise ValueError(
            f"student {list(student.shape)} and teacher {list(teacher.shape)} must be [B, C, T] "
            f"and targets {list(targets.shape)} [B, C]"
        )
    s, t = _wide(student), _wide(teacher.detach())
    if kind == "kl":
        distances = _kl(t, s)
    elif kind == "reverse-kl":
        distances = _kl(s, t)
    elif kind == "js":
        mean = (s + t) / 2
        distances = (_kl(s, mean) + _kl(t, mean)) / 2
    elif kind == "mse":
        distances = (s - t).square().sum(dim=-1)
    elif kind == "none":
        distances = s.new_zeros(targets.shape)
    else:
        raise ValueError(f"no interaction loss of kind {kind!r}")
    return (distances * _shares(targets.to(distances.dtype))).sum(dim=1).mean()


def _kl(p: Tensor, q: Tensor) -> Tensor:
    """KL(p || q) over the last dimension, in nats; a probability that rounded to zero counts as the smallest one."""
    import torch

    tiny = torch.finfo(p.dtype).tiny
    return (p * (p.clamp_min(tiny).log() - q.clamp_min(tiny).log())).sum(dim=-1)


def _shares(targets: Tensor) -> Tensor:
    """Rows [B, C] brought to a sum of one."""
    return targets / targets.sum(dim=1, keepdim=True)


def _wide(tensor: Tensor) -> Tensor:
    """In float32 or wider: half precision would lose small probabilities."""
    import torch

    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
