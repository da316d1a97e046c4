"""Stop when sure: the scores of a video after each of its frames, and whether they are enough (ours)."""

from __future__ import annotations

from collections.abc import Sequence

from tsq_cli.arrays import Array, namespace
from tsq_cli.consensus import Consensus, EarlyExit
from tsq_cli.models.logits import probabilities
from tsq_cli.models.pooling import video_scores


def scores_so_far(
    logits: Array,
    consensus: Consensus,
    *,
    weights: Array | None = None,
    class_scores: tuple[Array, Array] | None = None,
    temperatures: Sequence[float] | None = None,
) -> Array:
    """Compute the video's class scores after 1, 2, ..., K frames, [..., K, C].

    Args:
        logits: [..., K, C] of the frames in the order in which they are seen.
        consensus, class_scores: as for video_scores.
        weights: S^v of the frames [..., K], in the same order.
        temperatures: K or more, what the scores are divided by; None leaves them as they are.
    """
    counts = range(1, logits.shape[-2] + 1)
    scores = [
        video_scores(
            logits[..., :count, :],
            consensus,
            weights=None if weights is None else weights[..., :count],
            class_scores=class_scores,
            temperature=None,
        )
        / (1.0 if temperatures is None else temperatures[count - 1])
        for count in counts
    ]
    return namespace(logits).stack(scores, axis=-2)


def is_sure(scores: Array, bar: float, *, multi_label: bool = False) -> Array:
    """Tell whether the first class of scores [..., C] is as probable as the bar, bool [...]."""
    return namespace(scores).max(probabilities(scores, multi_label=multi_label), axis=-1) >= bar


def frames_needed(scores: Array, exit_at: EarlyExit, *, multi_label: bool = False) -> Array:
    """Count the frames after which each video is sure, or all K, int64 [...].

    Args:
        scores: [..., K, C] of scores_so_far, with the temperatures of exit_at.
        exit_at: its bar.
        multi_label: sigmoid instead of softmax.
    """
    sure = is_sure(scores, exit_at.bar, multi_label=multi_label)
    sure[..., -1] = True
    xp = namespace(scores)
    return xp.argmax(xp.astype(sure, xp.int64), axis=-1) + 1
