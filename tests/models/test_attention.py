"""The arithmetic around the networks gives the same on arrays of numpy as on tensors of torch."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, get_args

import numpy as np
import pytest
import torch
from torch import Tensor

from tsq_cli.arrays import is_torch
from tsq_cli.consensus import Consensus, EarlyExit, Pooling
from tsq_cli.errors import WeightsError
from tsq_cli.models import TSQLayer, TSQLayerConfig, frame_saliency, object_text_features, pool, video_scores
from tsq_cli.models.attention import Attention
from tsq_cli.models.early_exit import frames_needed, scores_so_far
from tsq_cli.models.microbatches import cpu_microbatches
from tsq_cli.models.outputs import TSQOutput
from tsq_cli.models.saliency import query_lift

B, T, D, C = 3, 6, 16, 5

VARIANTS: list[dict[str, Any]] = [
    {
        "attention": attention,
        "classifier": classifier,
        "num_layers": layers,
        "num_heads": heads,
        "self_attention": self_attention,
        "projections": is_learned,
        "positional_embedding": is_learned,
    }
    for attention, classifier, layers, heads, self_attention, is_learned in itertools.product(
        ("class-specific", "class-agnostic"),
        ("class-specific", "class-agnostic"),
        (1, 3),
        (1, 8),
        (False, True),
        (False, True),
    )
    if not (self_attention and attention == "class-agnostic")
]
VARIANTS += [
    {"classifier": "counting"},
    {"classifier": "counting", "projections": False},
    {"competition_floor": 0.5},
    {"competition_floor": 2.0, "competition_weight": 0.7, "blank_frame_penalty": 1.5},
]


def layer_of(settings: dict[str, Any], *, num_frames: int = T, scale: float | None = None) -> TSQLayer:
    """A layer none of whose parameters is at its special starting value."""
    torch.manual_seed(0)
    layer = TSQLayer(D, C, num_frames=num_frames, scale=scale, config=TSQLayerConfig(**settings)).eval()
    layer.gives_evidence = True
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return layer


def numpy_twin(layer: TSQLayer) -> Callable[[np.ndarray], TSQOutput]:
    """The layer on arrays of numpy."""
    tensors = {name: value.numpy() for name, value in layer.state_dict().items()}
    attention = Attention(config=layer.config, num_classes=C, scale=layer.scale, gives_evidence=True)
    return lambda frames: attention(tensors, frames)


def random(*shape: int, seed: int = 1, spread: float = 1.0) -> Tensor:
    return spread * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def assert_same(of_numpy: Any, of_torch: Tensor) -> None:
    """Compare numpy's result with torch's, which has the same type."""
    assert not is_torch(of_numpy)
    wanted = of_torch.detach().numpy()
    assert of_numpy.dtype == wanted.dtype
    np.testing.assert_allclose(of_numpy, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("num_frames", [T, 4, 9], ids=lambda n: f"P of {n}")
@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: "-".join(map(str, variant.values())))
def test_a_layer_without_torch_is_the_layer(variant: dict[str, Any], num_frames: int) -> None:
    layer, frames = layer_of(variant, num_frames=num_frames), random(B, T, D)
    wanted, given = layer(frames), numpy_twin(layer)(frames.numpy())
    for name in ("logits", "attention", "evidence"):
        assert_same(getattr(given, name), getattr(wanted, name))


def test_the_layers_scale_counts_and_large_scores_do_not_overflow() -> None:
    frames = random(B, T, D)
    for scale in (0.05, 3.0, 1e4):
        layer = layer_of({}, scale=scale)
        wanted, given = layer(frames), numpy_twin(layer)(frames.numpy())
        assert_same(given.attention, wanted.attention)
        assert_same(given.logits, wanted.logits)
    assert np.allclose(given.attention.sum(axis=2), 1)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_features_that_are_not_finite_are_refused_without_torch(bad: float) -> None:
    frames = random(B, T, D).numpy()
    frames[1, 2, 3] = bad
    with pytest.raises(WeightsError, match="1 of 288 frame features are NaN or infinite"):
        numpy_twin(layer_of({}))(frames)


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("temperature", [1.0, 2.5])
@pytest.mark.parametrize("top_n", [1, 3, 9])
def test_saliency_is_the_same(top_n: int, temperature: float, multi_label: bool) -> None:
    logits = random(B, C, spread=4)
    logits[1] = torch.tensor([2.0, 2.0, -1.0, 2.0, 500.0])  # equally confident classes; the others' p rounds to zero
    attention = random(B, C, T, seed=2).softmax(dim=2)
    options: dict[str, Any] = {"top_n": top_n, "temperature": temperature, "multi_label": multi_label}
    wanted = frame_saliency(TSQOutput(logits=logits, attention=attention), **options)
    given = frame_saliency(TSQOutput(logits=logits.numpy(), attention=attention.numpy()), **options)
    assert given.categories.tolist() == wanted.categories.tolist()
    for name in ("scores", "probabilities", "logits"):
        assert_same(getattr(given, name), getattr(wanted, name))


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_features_of_object_names_and_the_lift_of_a_query_are_the_same(dtype: torch.dtype) -> None:
    logits, embeddings, query = random(2, T, C, spread=6).to(dtype), random(C, D, seed=2), random(D, seed=3)
    given = object_text_features(logits.numpy(), embeddings.numpy())
    assert_same(given, object_text_features(logits, embeddings))
    np.testing.assert_allclose(np.linalg.norm(given, axis=-1), 1, rtol=1e-5)
    lifts = [
        query_lift(of[0], of[1], of[2], sharpness=20.0, temperature=2.0)
        for of in ((logits.numpy(), embeddings.numpy(), query.numpy()), (logits, embeddings, query))
    ]
    assert_same(*lifts)


WEIGHTS = torch.tensor([[0.2, 0.0, 0.5, 0.1, 0.0, 0.2], [0.0] * 6, [1.0, 0.0, 0.0, 0.0, 0.0, 0.0]])
"""[B, T]: some frames count for nothing; all alike; a single one."""


def frame_logits() -> Tensor:
    """Logits [B, T, C] of frames, some of them extreme."""
    logits = random(B, T, C, spread=3)
    logits[0, 0] = torch.tensor([300.0, -300.0, 0.0, 10.0, -10.0])
    return logits


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("method", get_args(Pooling))
def test_pooling_is_the_same(method: Pooling, multi_label: bool) -> None:
    logits = frame_logits()
    for weights in (None, WEIGHTS):
        given = pool(
            logits.numpy(), method, weights=None if weights is None else weights.numpy(), multi_label=multi_label
        )
        assert_same(given, pool(logits, method, weights=weights, multi_label=multi_label))
        assert np.isfinite(given).all()
    alone = logits[:, :1]
    assert_same(pool(alone.numpy(), method, multi_label=multi_label), pool(alone, method, multi_label=multi_label))


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("temperature", [None, 0.6])
@pytest.mark.parametrize("method", get_args(Pooling))
def test_scores_of_videos_are_the_same(method: Pooling, temperature: float | None, multi_label: bool) -> None:
    logits, own = frame_logits(), (random(B, C, seed=4, spread=3), random(B, C, seed=5, spread=3))
    consensus = Consensus(pooling=method, evidence_visual=0.5, evidence_textual=1.5, multi_label=multi_label)
    given = video_scores(
        logits.numpy(),
        consensus,
        weights=WEIGHTS.numpy(),
        class_scores=(own[0].numpy(), own[1].numpy()),
        temperature=temperature,
    )
    assert_same(given, video_scores(logits, consensus, weights=WEIGHTS, class_scores=own, temperature=temperature))


@pytest.mark.parametrize("method", get_args(Pooling))
def test_a_video_is_done_after_the_same_number_of_frames(method: Pooling) -> None:
    logits, consensus = frame_logits(), Consensus(pooling=method)
    temperatures = (1.0, 0.9, 0.8, 1.2, 0.7, 1.1)
    wanted = scores_so_far(logits, consensus, weights=WEIGHTS, temperatures=temperatures)
    given = scores_so_far(logits.numpy(), consensus, weights=WEIGHTS.numpy(), temperatures=temperatures)
    assert_same(given, wanted)
    # Bars between the probabilities that occur, so that no rounding decides.
    reached = wanted.softmax(dim=-1).amax(dim=-1).flatten().sort().values
    bars = [float(bar) for bar in (reached[1:] + reached[:-1]) / 2 if 0.3 < bar < 0.99][::4]
    assert len(bars) > 1
    for bar in bars:
        exit_at = EarlyExit(bar=bar, temperatures=temperatures)
        needed = frames_needed(given, exit_at)
        assert (needed.dtype, needed.tolist()) == (np.int64, frames_needed(wanted, exit_at).tolist())
    assert frames_needed(given, EarlyExit(bar=1.0, temperatures=temperatures)).shape == (B,)


def test_microbatches_are_views_of_equal_size_of_either_kind() -> None:
    images = torch.zeros(13, 3, 162, 162)  # eight at once at most
    for of in (images, images.numpy()):
        parts = cpu_microbatches(of)
        assert [len(part) for part in parts] == [7, 6]
        assert [is_torch(part) for part in parts] == [is_torch(of)] * 2
    parts[1][5] = 1  # a view
    assert float(images[12].min()) == 1
    twice = images.bfloat16().repeat(2, 1, 1, 1)  # of half the bytes sixteen at once
    assert [len(part) for part in cpu_microbatches(twice)] == [13, 13]
    assert [len(part) for part in cpu_microbatches(twice, multiplier=2)] == [26]
