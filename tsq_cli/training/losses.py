"""Training losses: classification, and the interaction of the two modules' attention (docs/method.md, section 4).

torch is imported inside the functions, so that settings can use InteractionKind without it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Tensor

InteractionKind = Literal["kl", "reverse-kl", "js", "mse", "none"]
"""Distance between student's and teacher's attention (all ours): KL(teacher || student), KL(student || teacher),
Jensen-Shannon divergence, sum of squared differences, or none."""


def classification_loss(logits: Tensor, targets: Tensor, *, multi_label: bool) -> Tensor:
    """Compute L_cls of B videos: softmax cross-entropy, or binary cross-entropy if videos have several labels.

    Args:
        logits: [B, C].
        targets: float [B, C], from 0 to 1. Without multi_label each row is a distribution over the classes: it is
            scaled to a sum of 1, and a row of zeros gives NaN.
        multi_label: whether classes are predicted independently of each other.

    Returns:
        Scalar in float32 or wider, the mean over the videos. Binary cross-entropy is summed over the classes, so that
        its gradient for the true class weighs as much against the interaction losses as that of cross-entropy.

    Raises:
        ValueError: logits and targets that are not of one shape [B, C].

    Source: ours.
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
    """Compute the distance of one module's attention to the other's, its teacher's, for the true classes.

    Args:
        student: attention [B, C, T] of the module that learns; each row is a distribution over the T frames.
        teacher: attention [B, C, T] of the other module; it receives no gradient.
        targets: float [B, C], at least 0, with a positive value in every row: the weight of each class' attention row
            in its video. Several labels weigh the same, other classes nothing.
        kind: the distance between two attention rows.

    Returns:
        Scalar in float32 or wider, the mean over the videos; zero if both agree, and for "none".

    Raises:
        ValueError: shapes that do not fit, or an unknown kind.

    Source: S gives the weight and the purpose of this loss; the formula is ours.
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
    """Compute KL(p || q) over the last dimension, in nats; zeros are replaced by the smallest positive number."""
    import torch

    tiny = torch.finfo(p.dtype).tiny
    return (p * (p.clamp_min(tiny).log() - q.clamp_min(tiny).log())).sum(dim=-1)


def _shares(targets: Tensor) -> Tensor:
    """Scale rows [B, C] to a sum of one."""
    return targets / targets.sum(dim=1, keepdim=True)


def _wide(tensor: Tensor) -> Tensor:
    """Convert to float32 or wider: half precision would lose small probabilities."""
    import torch

    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
