"""Scores of clips: what is scored together is what is scored alone, read back per clip."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tsq_cli.arrays import Array, of_engine
from tsq_cli.config import PAPER
from tsq_cli.errors import WeightsError
from tsq_cli.models import FrameSaliency
from tsq_cli.packs import Pack, load_pack
from tsq_cli.scoring import ClipScores, encode, score_clips


@pytest.fixture(scope="module", params=["onnx", "torch"])
def pack(request: pytest.FixtureRequest) -> Pack:
    return load_pack("imagenet-lite", engine=request.param)


def clips_of(pack: Pack, *shapes: tuple[int, int, int]) -> list[Array]:
    """Clips of coarse patches, uint8 [T, H, W, 3] for each shape (T, H, W), as the pack's engine wants them."""
    rng = np.random.default_rng(0)
    clips = [
        np.kron(rng.integers(0, 256, (t, 4, 6, 3)), np.ones((1, h // 4, w // 6, 1))).astype(np.uint8)
        for t, h, w in shapes
    ]
    return [of_engine(clip, pack.engine) for clip in clips]


def test_clips_of_any_length_and_size_are_scored_in_order_as_they_are_alone(pack: Pack) -> None:
    clips = clips_of(pack, (3, 40, 60), (5, 60, 48), (3, 80, 60))
    together = score_clips(pack, clips, PAPER)
    for clip, scores in zip(clips, together, strict=True):
        (alone,) = score_clips(pack, [clip], PAPER)
        assert scores.features.shape[:2] == (1, len(clip))
        for one, other in ((scores, alone), (alone, scores)):
            np.testing.assert_allclose(one.read().visual, other.read().visual, atol=1e-5)
            np.testing.assert_allclose(one.read().textual, other.read().textual, atol=1e-5)
        np.testing.assert_allclose(scores.unit_features(), alone.unit_features(), atol=1e-5)
        np.testing.assert_allclose(np.linalg.norm(scores.unit_features(), axis=1), 1, atol=1e-5)


def test_stages_are_timed(pack: Pack) -> None:
    timings: dict[str, float] = {"encode": 100.0}
    score_clips(pack, clips_of(pack, (2, 40, 60)), PAPER, timings=timings)
    assert set(timings) == {"preprocess", "encode", "tsq"}
    assert timings["encode"] > 100


def test_features_and_logits_come_per_clip(pack: Pack) -> None:
    with torch.inference_mode():
        features, logits = encode(pack, clips_of(pack, (2, 40, 60), (3, 60, 60)))
    assert [tuple(part.shape) for part in features] == [(2, 1280), (3, 1280)]
    assert [tuple(part.shape) for part in logits] == [(2, 1000), (3, 1000)]


def test_splitting_keeps_each_clip_and_what_may_be_named() -> None:
    def saliency(rows: list[list[float]], sure: list[list[bool]] | None) -> FrameSaliency:
        categories = torch.tensor([[0], [1]])
        return FrameSaliency(
            torch.tensor(rows),
            categories,
            torch.tensor([[0.5], [0.25]]),
            torch.tensor([[1.0, 2.0], [3.0, 4.0]]),
            None if sure is None else torch.tensor(sure),
        )

    both = ClipScores(
        visual=saliency([[0.25, 0.75], [0.5, 0.5]], [[True], [False]]),
        textual=saliency([[1.0, 0.0], [0.0, 1.0]], None),
        features=torch.eye(2)[:, None].expand(2, 2, 2),
        names_visual=["cat", "dog"],
        names_textual=["rug", "sky"],
    )
    first, second = (scores.read() for scores in both.split())
    assert (first.visual.tolist(), second.visual.tolist()) == ([0.25, 0.75], [0.5, 0.5])
    assert [(c.label, c.score, c.is_sure) for c in second.visual_categories] == [("dog", 0.25, False)]
    assert [(c.label, c.is_sure) for c in second.textual_categories] == [("sky", True)]
    assert [part.textual.logits.tolist() for part in both.split()] == [[[1.0, 2.0]], [[3.0, 4.0]]]
    assert both.split()[1].unit_features().tolist() == [[0.0, 1.0], [0.0, 1.0]]


def test_saliency_that_is_not_finite_is_refused() -> None:
    broken = FrameSaliency(torch.tensor([[float("nan"), 1.0]]), torch.tensor([[0]]), torch.ones(1, 1), torch.ones(1, 1))
    scores = ClipScores(
        visual=broken, textual=broken, features=torch.ones(1, 2, 1), names_visual="a", names_textual="a"
    )
    with pytest.raises(WeightsError, match="saliency scores"):
        scores.read()
