from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tsq_cli import selection
from tsq_cli.errors import WeightsError
from tsq_cli.models import (
    CHOSEN_ON_DEVICE,
    TSQLayer,
    TSQNet,
    TSQOutput,
    frame_saliency,
    fuse_on_device,
    object_text_features,
    query_lift,
)


def _net(*, textual_classes: int = 4) -> TSQNet:
    torch.manual_seed(0)
    return TSQNet(TSQLayer(8, 4), TSQLayer(6, textual_classes))


def test_each_module_sees_its_own_features() -> None:
    net, visual, text = _net(), torch.randn(2, 5, 8), torch.randn(2, 5, 6)
    output = net(visual, text)
    torch.testing.assert_close(output.visual.logits, net.vqm(visual).logits)
    torch.testing.assert_close(output.textual.attention, net.tqm(text).attention)
    assert output.textual.attention.shape == (2, 4, 5)


def test_modules_and_features_that_do_not_belong_together_are_refused() -> None:
    with pytest.raises(WeightsError, match="visual module knows 4 classes and the textual module 3"):
        _net(textual_classes=3)
    with pytest.raises(ValueError, match=r"visual features \[2, 5, 8\] and text features \[2, 4, 6\]"):
        _net()(torch.zeros(2, 5, 8), torch.zeros(2, 4, 6))


# Three classes of probability 1/2, 1/3, 1/6 (as softmax) whose saliency over four frames is easy to add up.
THIRDS = TSQOutput(
    logits=torch.tensor([[math.log(2.0), math.log(1.0), math.log(3.0)]]),
    attention=torch.tensor([[[0.1, 0.2, 0.3, 0.4], [1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.5, 0.5]]]),
)


@pytest.mark.parametrize(
    ("top_n", "scores"),
    [
        (1, [0, 0, 1 / 2, 1 / 2]),
        # weights 3/5 and 2/5
        (2, [0.04, 0.08, 0.42, 0.46]),
        # weights 1/2, 1/3, 1/6
        (3, [0.1 / 3 + 1 / 6, 0.2 / 3, 0.1 + 0.25, 0.4 / 3 + 0.25]),
        (9, [0.1 / 3 + 1 / 6, 0.2 / 3, 0.1 + 0.25, 0.4 / 3 + 0.25]),
    ],
)
def test_frame_saliency_by_hand(top_n: int, scores: list[float]) -> None:
    saliency = frame_saliency(THIRDS, top_n=top_n)
    np.testing.assert_allclose(saliency.scores, [scores], atol=1e-6)
    assert saliency.categories.dtype == torch.int64
    assert saliency.categories.tolist() == [[2, 0, 1][:top_n]]
    np.testing.assert_allclose(saliency.probabilities, [[1 / 2, 1 / 3, 1 / 6][:top_n]], rtol=1e-6)


def test_multi_label_saliency_takes_sigmoids() -> None:
    output = TSQOutput(logits=torch.tensor([[0.0, math.log(3.0), -9.0]]), attention=THIRDS.attention)
    saliency = frame_saliency(output, top_n=2, multi_label=True)
    np.testing.assert_allclose(saliency.probabilities, [[0.75, 0.5]], rtol=1e-6)
    # weights 3/5 on class 1 and 2/5 on class 0
    np.testing.assert_allclose(saliency.scores, [[0.64, 0.08, 0.12, 0.16]], atol=1e-6)


def test_saliency_exists_where_every_probability_rounds_to_zero() -> None:
    output = TSQOutput(logits=torch.full((1, 3), -1000.0), attention=THIRDS.attention)
    saliency = frame_saliency(output, top_n=2, multi_label=True)
    np.testing.assert_allclose(saliency.scores, [[0.55, 0.1, 0.15, 0.2]], atol=1e-6)  # classes 0 and 1 alike


def test_equally_confident_classes_come_in_the_order_of_their_index() -> None:
    output = TSQOutput(logits=torch.zeros(1, 50), attention=torch.full((1, 50, 4), 0.25))
    assert frame_saliency(output, top_n=5).categories.tolist() == [[0, 1, 2, 3, 4]]


def test_top_n_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="top_n must be at least 1, got 0"):
        frame_saliency(THIRDS, top_n=0)


@settings(max_examples=40)
@given(seed=st.integers(0, 2**16), sharpness=st.floats(0.01, 50), top_n=st.integers(1, 9), multi_label=st.booleans())
def test_saliency_is_a_distribution_over_the_frames(seed: int, sharpness: float, top_n: int, multi_label: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    attention = (sharpness * torch.randn(2, 7, 16, generator=generator)).softmax(dim=2)
    logits = sharpness * torch.randn(2, 7, generator=generator)
    saliency = frame_saliency(TSQOutput(logits=logits, attention=attention), top_n=top_n, multi_label=multi_label)
    assert (saliency.scores >= 0).all()
    torch.testing.assert_close(saliency.scores.sum(dim=1), torch.ones(2))
    assert (saliency.probabilities.diff(dim=1) <= 0).all()


def _objects() -> tuple[Tensor, Tensor]:
    """Two frames over three objects: p = (1/2, 1/4, 1/4) and (1/8, 3/4, 1/8); embeddings along two axes."""
    return torch.tensor([[2.0, 1.0, 1.0], [1.0, 6.0, 1.0]]).log(), torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])


def test_object_text_features_by_hand() -> None:
    logits, embeddings = _objects()
    wanted = np.array([[0.65, 0.45], [0.2, 0.85]])
    wanted /= np.linalg.norm(wanted, axis=1, keepdims=True)
    np.testing.assert_allclose(object_text_features(logits, embeddings), wanted, rtol=1e-6)
    stacked = object_text_features(logits.expand(4, 2, 3), embeddings)  # leading dimensions are free
    np.testing.assert_allclose(stacked, np.broadcast_to(wanted, (4, 2, 2)), rtol=1e-6)


def test_the_lift_of_a_query_by_hand() -> None:
    logits, embeddings = _objects()
    # The query points at object 0: cosines 1, 0 and 0.6, so at sharpness log(2) * 5 the weights are 32 : 1 : 8.
    query, sharpness = torch.tensor([7.0, 0.0]), 5 * math.log(2.0)
    g = np.array([32, 1, 8]) / 41
    lifts = query_lift(logits, embeddings, query, sharpness=sharpness)
    np.testing.assert_allclose(lifts, [3 * g @ [1 / 2, 1 / 4, 1 / 4], 3 * g @ [1 / 8, 3 / 4, 1 / 8]], rtol=1e-5)
    # A temperature of 0.5 squares the probabilities: 4 : 1 : 1 and 1 : 36 : 1.
    sharper = query_lift(logits, embeddings, query, sharpness=sharpness, temperature=0.5)
    np.testing.assert_allclose(sharper, [3 * g @ [4 / 6, 1 / 6, 1 / 6], 3 * g @ [1 / 38, 36 / 38, 1 / 38]], rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_logits_are_handled_in_float32(dtype: torch.dtype) -> None:
    # 1000 objects at p = 1/1000 each: in bfloat16 their sum would be off by far more than the tolerance.
    logits, embeddings = torch.zeros(2, 1000, dtype=dtype), torch.eye(1000)[:, :4].to(dtype) + 1
    features = object_text_features(logits, embeddings)
    lifts = query_lift(logits, embeddings, torch.ones(4, dtype=dtype), sharpness=20.0)
    assert features.dtype == lifts.dtype == torch.float32
    np.testing.assert_allclose(features, np.full((2, 4), 0.5), rtol=1e-5)
    np.testing.assert_allclose(lifts, [1, 1], rtol=1e-4)


def test_logits_and_embeddings_of_different_objects_are_refused() -> None:
    with pytest.raises(ValueError, match="of the same O objects"):
        object_text_features(torch.zeros(2, 3), torch.zeros(4, 2))


@given(
    st.integers(1, 16).flatmap(
        lambda t: st.tuples(
            st.lists(st.lists(st.integers(0, 5), min_size=t, max_size=t), min_size=2, max_size=6),
            st.integers(1, t),
            st.sampled_from((0.0, 0.3, 0.5, 0.6, 1.0)),
        )
    )
)
def test_fusing_on_the_device_chooses_what_fuse_chooses(case: tuple[list[list[int]], int, float]) -> None:
    rows, k, lambda_v = case  # few distinct scores, so that ties abound
    visual, textual = torch.tensor(rows[::2]).float(), torch.tensor(rows[1::2] + rows[:1])[: len(rows[::2])].float()
    fused = zip(*fuse_on_device(visual, textual, k, lambda_v=lambda_v), strict=True)
    for (positions, reasons), s_v, s_t in zip(fused, visual, textual, strict=True):
        expected = selection.fuse(s_v.numpy(), s_t.numpy(), k, lambda_v=lambda_v)
        assert positions.tolist() == [choice.position for choice in expected]
        assert [CHOSEN_ON_DEVICE[reason] for reason in reasons] == [choice.chosen_by for choice in expected]
