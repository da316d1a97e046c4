from __future__ import annotations

import pytest
import torch

from tsq_cli.errors import UsageError
from tsq_cli.training.prototypes import held_out_frame_logits, visual_prototypes

# One video of class 0 and two of class 1, five frames of two classes; the features number the frames.
FEATURES = torch.tensor([[[float(10 * video + frame)] for frame in range(5)] for video in range(3)])
TARGETS = torch.tensor([[1, 0], [0, 1], [0, 1]])


def _logits(*videos: list[float]) -> torch.Tensor:
    """Logit of class 1 against class 0: above zero the frame is classified as class 1."""
    margins = torch.tensor(videos)
    return torch.stack([torch.zeros_like(margins), margins], dim=2)


def test_a_prototype_is_the_mean_of_the_videos_best_frames() -> None:
    logits = _logits(
        [-1.0, -5.0, 2.0, -3.0, -4.0],  # class 0: frames 0, 1, 3, 4 are right, best first 1, 4, 3, 0
        [9.0, 1.0, 2.0, -1.0, 3.0],  # class 1: frames 0, 1, 2, 4, best first 0, 4, 2, 1
        [-3.0, -1.0, -2.0, -9.0, -4.0],  # class 1: none is right, frame 1 is the likeliest
    )
    half = visual_prototypes(FEATURES, logits, TARGETS, prototype_ratio=0.5)
    # two of four frames: (1 + 4) / 2; and the mean of (10 + 14) / 2 and 21
    assert half.vectors.tolist() == [[2.5], [(12.0 + 21.0) / 2]]
    assert (half.num_kept, half.num_without_correct, half.num_pairs) == (5, 1, 3)
    # 0.3 of four frames is 1.2, so one
    assert visual_prototypes(FEATURES, logits, TARGETS).vectors.tolist() == [[1.0], [(10.0 + 21.0) / 2]]
    assert visual_prototypes(FEATURES, logits, TARGETS, prototype_ratio=1.0).vectors.tolist() == [
        [2.0],
        [(11.75 + 21.0) / 2],
    ]


def test_more_than_two_classes_are_told_apart_by_the_likeliest() -> None:
    # class 0 has 0.40 in the first frame, where class 1 has more, and 0.36 in the second, where it is the likeliest
    logits = torch.tensor(
        [[[0.40, 0.45, 0.15], [0.36, 0.32, 0.32]], [[0.1, 0.8, 0.1]] * 2, [[0.1, 0.1, 0.8]] * 2]
    ).log()
    features = torch.arange(6.0).reshape(3, 2, 1)
    assert visual_prototypes(features, logits, torch.eye(3), prototype_ratio=1.0).vectors[0].tolist() == [1.0]


def test_a_video_of_several_classes_counts_for_each() -> None:
    logits = _logits([-1.0, -1.0, -2.0, 1.0, 2.0])
    found = visual_prototypes(FEATURES[:1], logits, torch.tensor([[1.0, 1.0]]))
    assert found.vectors.tolist() == [[2.0], [4.0]]
    assert found.num_pairs == 2


def test_a_class_without_videos_is_refused() -> None:
    with pytest.raises(UsageError, match=r"1 of 2 classes have no video that can be decoded: 1;"):
        visual_prototypes(FEATURES[:1], _logits([0.0] * 5), TARGETS[:1])


def test_frames_are_judged_by_a_classifier_that_has_not_seen_their_video() -> None:
    """More dimensions than frames, and nothing in the features: a fitted classifier would know every frame."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(40, 4, 400, generator=generator)
    targets = torch.nn.functional.one_hot(torch.arange(40) % 2, 2).bool()
    right = held_out_frame_logits(features, targets).argmax(dim=2) == targets.float().argmax(dim=1)[:, None]
    assert 0.3 < right.float().mean() < 0.7
    features[..., 0] += 8.0 * targets[:, None, 0].float()  # and here there is something to find
    right = held_out_frame_logits(features, targets).argmax(dim=2) == targets.float().argmax(dim=1)[:, None]
    assert right.float().mean() > 0.95


def test_the_frame_classifier_is_weighted_ridge_regression() -> None:
    from sklearn.linear_model import Ridge

    generator = torch.Generator().manual_seed(1)
    features = torch.randn(9, 3, 6, generator=generator)
    targets = torch.nn.functional.one_hot(torch.tensor([0, 0, 0, 0, 0, 0, 1, 1, 1]), 2)
    found = held_out_frame_logits(features, targets, folds=3, ridge=0.5)
    # videos are dealt class by class: 0, 3 and 6 are the first fold
    held = torch.tensor([True, False, False] * 3)
    x = features[~held].reshape(-1, 6).double()
    weight = torch.tensor([1 / 6] * 4 + [1 / 3] * 2).double().repeat_interleave(3)
    weight /= weight.sum()
    mean = (weight[:, None] * x).sum(dim=0)
    variance = (weight[:, None] * (x - mean) ** 2).sum(dim=0).mean()
    y = targets[~held].repeat_interleave(3, dim=0).double()
    wanted = Ridge(alpha=0.5 * float(variance)).fit(x, y, sample_weight=weight).predict(features[held].reshape(-1, 6))
    mean_y = (weight[:, None] * y).sum(dim=0)
    torch.testing.assert_close(found[held].reshape(-1, 2).double(), torch.tensor(wanted) - mean_y, atol=1e-5, rtol=1e-5)
