"""Stop when sure: the scores of a video after each of its frames, and whether they are enough (ours)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tsq_cli.consensus import Consensus, EarlyExit
from tsq_cli.models.logits import probabilities
from tsq_cli.models.pooling import video_scores


def scores_so_far(
    logits: Tensor,
    consensus: Consensus,
    *,
    weights: Tensor | None = None,
    class_scores: tuple[Tensor, Tensor] | None = None,
    temperatures: Sequence[float] | None = None,
) -> Tensor:
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
    return torch.stack(scores, dim=-2)


def is_sure(scores: Tensor, bar: float, *, multi_label: bool = False) -> Tensor:
    """Tell whether the first class of scores [..., C] is as probable as the bar, bool [...]."""
    return probabilities(scores, multi_label=multi_label).amax(dim=-1) >= bar


def frames_needed(scores: Tensor, exit_at: EarlyExit, *, multi_label: bool = False) -> Tensor:
    """Count the frames after which each video is sure, or all K, int64 [...].

    Args:
        scores: [..., K, C] of scores_so_far, with the temperatures of exit_at.
        exit_at: its bar.
        multi_label: sigmoid instead of softmax.
    """
    sure = is_sure(scores, exit_at.bar, multi_label=multi_label)
    sure[..., -1] = True
    return sure.long().argmax(dim=-1) + 1
