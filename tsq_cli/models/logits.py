"""Probabilities of classes from their scores, with one label per video or several (docs/method.md, section 1)."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def probabilities(logits: Tensor, *, multi_label: bool = False) -> Tensor:
    """Compute the probability of each class.

    Args:
        logits: floating point [..., C].
        multi_label: whether several classes may hold at once: the sigmoid of each score, not the softmax over all.

    Returns:
        [..., C], from 0 to 1, in the dtype of the logits.
    """
    return logits.sigmoid() if multi_label else logits.softmax(dim=-1)


def log_probabilities(logits: Tensor, *, multi_label: bool = False) -> Tensor:
    """Compute the logarithm of each class's probability, [..., C], finite where the probability rounds to zero.

    Args:
        logits, multi_label: as for probabilities.
    """
    return functional.logsigmoid(logits) if multi_label else logits.log_softmax(dim=-1)
