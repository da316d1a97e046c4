"""Visual prototypes, the initial queries of VQM, stage (b) (S; docs/method.md, section 3)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tsq_cli.errors import UsageError


@dataclass(frozen=True)
class Prototypes:
    """The mean visual feature of each class, and how it came about.

    Attributes:
        vectors: float32 [C, D].
        num_kept: number of frames averaged.
        num_without_correct: number of pairs of video and class without a correctly classified frame, of which the most
            probable frame is used.
        num_pairs: number of all pairs of video and class.
    """

    vectors: Tensor
    num_kept: int
    num_without_correct: int
    num_pairs: int


def visual_prototypes(
    features: Tensor, frame_logits: Tensor, targets: Tensor, *, prototype_ratio: float = 0.3
) -> Prototypes:
    """Compute prototypes: per class the mean over its videos of the mean of their best frames (S).

    A video's best frames are the share `prototype_ratio` of those whose likeliest class is the video's (S), ranked by
    the probability of that class (ours), rounded, at least one. A video of several classes counts for each (ours).

    Args:
        features: [N, T, D].
        frame_logits: [N, T, C] of a frame classifier.
        targets: [N, C], above 0 where the video shows the class.
        prototype_ratio: m, above 0 and at most 1.

    Raises:
        UsageError: a class without a video.
        ValueError: shapes that do not fit, or prototype_ratio out of range.
    """
    n, t, d = features.shape
    c = targets.shape[1]
    if frame_logits.shape != (n, t, c) or len(targets) != n or not 0 < prototype_ratio <= 1:
        raise ValueError(
            f"features {list(features.shape)}, frame_logits {list(frame_logits.shape)} and targets "
            f"{list(targets.shape)} must be [N, T, D], [N, T, C] and [N, C], "
            f"and prototype_ratio {prototype_ratio} in (0, 1]"
        )
    need_every_class(targets)
    log_p = frame_logits.float().log_softmax(dim=2)
    predicted = log_p.argmax(dim=2)  # [N, T]
    sums = torch.zeros(c, d, dtype=torch.float64)
    num_kept = num_without_correct = 0
    pairs = targets.nonzero().tolist()
    for video, label in pairs:
        num_correct = int((predicted[video] == label).sum())
        count = max(1, math.floor(prototype_ratio * num_correct + 0.5))
        # A frame that is classified as another class must not displace a correct one, however probable.
        score = log_p[video, :, label].masked_fill(predicted[video] != label, -math.inf)
        ranked = (score if num_correct else log_p[video, :, label]).argsort(descending=True, stable=True)
        sums[label] += features[video, ranked[:count]].double().mean(dim=0)
        num_kept += count
        num_without_correct += not num_correct
    per_class = (targets > 0).sum(dim=0)[:, None]
    return Prototypes((sums / per_class).float(), num_kept, num_without_correct, len(pairs))


def held_out_frame_logits(features: Tensor, targets: Tensor, *, folds: int = 5, ridge: float = 1.0) -> Tensor:
    """Compute class scores of every frame by a linear classifier that was not fitted on the frame's video.

    A classifier's scores of its own training frames are meaningless: with more dimensions than frames it fits them all.
    So this is cross-validation: the frames of each fold are scored by a ridge regression onto the classes, all weighted
    the same, that was fitted on the frames of the other folds, labeled with their video's classes.

    Args:
        features: [N, T, D].
        targets: [N, C], above 0 where the video shows the class.
        folds: at least 2; limited to the number of videos.
        ridge: strength of the regularization, above 0, as a multiple of the mean variance of a feature.

    Returns:
        float32 [N, T, C].

    Raises:
        UsageError: a class without a video.

    Source: ours.
    """
    need_every_class(targets)
    frames = features.float()
    shares = targets.float() / targets.float().sum(dim=1, keepdim=True)
    weights = (shares / shares.sum(dim=0)).sum(dim=1)  # [N]: each class weighs 1 over its videos
    folds = min(folds, len(features))
    fold_of = _folds(targets, folds)
    logits = torch.empty(*features.shape[:2], targets.shape[1])
    for fold in range(folds):
        own = fold_of == fold
        logits[own] = _ridge(frames[~own], shares[~own], weights[~own], frames[own], ridge)
    return logits


def _folds(targets: Tensor, folds: int) -> Tensor:
    """Assign videos to folds, int64 [N], with the videos of a class evenly distributed."""
    by_class = targets.float().argmax(dim=1).argsort(stable=True)
    fold_of = torch.empty(len(targets), dtype=torch.long)
    fold_of[by_class] = torch.arange(len(targets)) % folds
    return fold_of


def _ridge(frames: Tensor, shares: Tensor, weights: Tensor, others: Tensor, ridge: float) -> Tensor:
    """Fit class shares [N, C] of frames [N, T, D] by weighted ridge regression; predict `others` [M, T, D].

    Args:
        frames: [N, T, D].
        shares: [N, C], rows of sum 1.
        weights: [N], of the videos.
        others: [M, T, D].
        ridge: see held_out_frame_logits.

    Returns:
        [M, T, C].
    """
    n, t, d = frames.shape
    x = frames.reshape(n * t, d)
    w = (weights / (weights.sum() * t)).repeat_interleave(t)[:, None]  # [NT, 1], sums to one
    mean_x, mean_y = (w * x).sum(dim=0), (weights / weights.sum()) @ shares
    centered = x - mean_x
    gram = centered.T @ (w * centered)
    gram.diagonal().add_(ridge * gram.diagonal().mean() + torch.finfo(gram.dtype).tiny)
    y = (shares - mean_y).repeat_interleave(t, dim=0)
    coefficients: Tensor = torch.linalg.solve(gram, centered.T @ (w * y))  # [D, C]
    return (others - mean_x) @ coefficients


def need_every_class(targets: Tensor, class_names: Sequence[str] = ()) -> None:
    """Refuse targets [N, C] of the videos that could be decoded with a class that has none.

    Raises:
        UsageError: it names such classes, or without names numbers them.
    """
    if empty := ((targets > 0).sum(dim=0) == 0).nonzero().flatten().tolist():
        shown = [repr(class_names[label]) if class_names else str(label) for label in empty[:5]]
        raise UsageError(
            f"{len(empty)} of {targets.shape[1]} classes have no video that can be decoded: {', '.join(shown)}",
            wanted="a training video of every class",
            fix="add videos, or remove these classes from the lists",
        )
