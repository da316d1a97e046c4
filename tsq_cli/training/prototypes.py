"""Where VQM's queries start: the mean of what each class looks like, stage (b) (S; docs/method.md, section 3)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from tsq_cli.errors import UsageError


@dataclass(frozen=True)
class Prototypes:
    """What each class looks like.

    Attributes:
        vectors: float32 [C, D].
        num_kept: frames that they are made of.
        num_without_correct: pairs of video and class none of whose frames was classified as the class, so that its
            likeliest frame stands for it.
        num_pairs: of how many.
    """

    vectors: Tensor
    num_kept: int
    num_without_correct: int
    num_pairs: int


def visual_prototypes(
    features: Tensor, frame_logits: Tensor, targets: Tensor, *, prototype_ratio: float = 0.3
) -> Prototypes:
    """Mean over a class' videos of the mean of their best frames (S).

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
        # a frame that is classified as another class must not displace one that is not, however likely
        score = log_p[video, :, label].masked_fill(predicted[video] != label, -math.inf)
        ranked = (score if num_correct else log_p[video, :, label]).argsort(descending=True, stable=True)
        sums[label] += features[video, ranked[:count]].double().mean(dim=0)
        num_kept += count
        num_without_correct += not num_correct
    per_class = (targets > 0).sum(dim=0)[:, None]
    return Prototypes((sums / per_class).float(), num_kept, num_without_correct, len(pairs))


def held_out_frame_logits(features: Tensor, targets: Tensor, *, folds: int = 5, ridge: float = 1.0) -> Tensor:
    """Class scores of every frame by a linear classifier that has not seen the frame's video (ours).

    What a classifier says of the frames that it was fitted on says little about them: with more dimensions than frames
    it knows them all. So the videos are dealt into folds, and each fold's frames are judged by a ridge regression onto
    the classes, all as heavy, that was fitted on the other folds' frames with their video's classes.

    Args:
        features: [N, T, D].
        targets: [N, C], above 0 where the video shows the class.
        folds: at least 2; at most as many as there are videos are made.
        ridge: strength of the regularisation, above 0, as a multiple of the mean variance of a feature.

    Returns:
        float32 [N, T, C].

    Raises:
        UsageError: a class without a video.
    """
    need_every_class(targets)
    frames = features.float()
    shares = targets.float() / targets.float().sum(dim=1, keepdim=True)
    weights = (shares / shares.sum(dim=0)).sum(dim=1)  # [N]: each class weighs 1 over its videos
    folds = min(folds, len(features))
    fold_of = _dealt(targets, folds)
    logits = torch.empty(*features.shape[:2], targets.shape[1])
    for fold in range(folds):
        held = fold_of == fold
        logits[held] = _ridge(frames[~held], shares[~held], weights[~held], frames[held], ridge)
    return logits


def _dealt(targets: Tensor, folds: int) -> Tensor:
    """A fold [N] for each video, the videos of a class spread evenly over them."""
    by_class = targets.float().argmax(dim=1).argsort(stable=True)
    fold_of = torch.empty(len(targets), dtype=torch.long)
    fold_of[by_class] = torch.arange(len(targets)) % folds
    return fold_of


def _ridge(frames: Tensor, shares: Tensor, weights: Tensor, others: Tensor, ridge: float) -> Tensor:
    """Fit class shares [N] of frames [N, T, D], videos weighing [N], by least squares; predict others [M, T, D]."""
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


def need_every_class(targets: Tensor) -> None:
    """Refuse targets [N, C] that leave a class without a video.

    Raises:
        UsageError: it names such classes by their numbers.
    """
    if empty := ((targets > 0).sum(dim=0) == 0).nonzero().flatten().tolist():
        raise UsageError(
            f"{len(empty)} of {targets.shape[1]} classes have no video (numbers {', '.join(map(str, empty[:5]))})",
            wanted="a video of every class to train on",
            fix="add some, or drop these classes from the lists",
        )
