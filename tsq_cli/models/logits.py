"""Probabilities of classes from their scores, with one label per video or several (docs/method.md, section 1)."""

from __future__ import annotations

from tsq_cli.arrays import Array, log_sigmoid, log_softmax, sigmoid, softmax


def probabilities(logits: Array, *, multi_label: bool = False) -> Array:
    """Compute the probability of each class.

    Args:
        logits: floating point [..., C].
        multi_label: whether several classes may hold at once: the sigmoid of each score, not the softmax over all.

    Returns:
        [..., C], from 0 to 1, in the dtype of the logits.
    """
    return sigmoid(logits) if multi_label else softmax(logits, -1)


def log_probabilities(logits: Array, *, multi_label: bool = False) -> Array:
    """Compute the logarithm of each class's probability, [..., C], finite where the probability rounds to zero.

    Args:
        logits, multi_label: as for probabilities.
    """
    return log_sigmoid(logits) if multi_label else log_softmax(logits, -1)
