from __future__ import annotations

import itertools
import json
import math
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load, save
from torch import nn

from tsq_cli.errors import UsageError, WeightsError
from tsq_cli.models import TSQLayer, TSQLayerConfig
from tsq_cli.validation import from_dict

B, T, D, C = 3, 6, 16, 5

SHARING = ("class-specific", "class-agnostic")
VARIANTS = [
    {
        "attention": attention,
        "classifier": classifier,
        "num_layers": layers,
        "num_heads": heads,
        "self_attention": self_attention,
        "projections": projections,
        "positional_embedding": positional,
    }
    for attention, classifier, layers, heads, self_attention, projections, positional in itertools.product(
        SHARING, SHARING, (1, 2), (1, 8), (False, True), (False, True), (False, True)
    )
    if not (self_attention and attention == "class-agnostic")
]


def _name(variant: dict[str, Any]) -> str:
    return "-".join(str(value).removeprefix("class-") for value in variant.values())


every_variant = pytest.mark.parametrize("variant", VARIANTS, ids=_name)


def _layer(seed: int = 0, *, dtype: torch.dtype = torch.float64, **settings: Any) -> TSQLayer:
    """A layer none of whose parameters is at its special starting value."""
    torch.manual_seed(seed)
    num_frames, scale = settings.pop("num_frames", T), settings.pop("scale", None)
    layer = TSQLayer(D, C, num_frames=num_frames, scale=scale, config=TSQLayerConfig(**settings)).to(dtype)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return layer


def _frames(seed: int = 1, *, dtype: torch.dtype = torch.float64, shape: tuple[int, ...] = (B, T, D)) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def _reference(layer: TSQLayer, frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """docs/method.md, section 2, for one clip [T, D] in its plain form, head by head and class by class, in float64."""
    config = layer.config
    state = {name: value.detach().double().numpy() for name, value in layer.state_dict().items()}
    width = D // config.num_heads
    scale = layer.scale if layer.scale is not None else 1 / np.sqrt(width)

    def attend(prefix: str, queries: np.ndarray, keys: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if config.projections:
            queries = queries @ state[f"{prefix}.query.weight"].T
            keys = keys @ state[f"{prefix}.key.weight"].T
            values = values @ state[f"{prefix}.value.weight"].T
        output = np.zeros_like(queries)
        attention = np.zeros((len(queries), len(keys)))
        for head in range(config.num_heads):
            part = slice(head * width, (head + 1) * width)
            for n in range(len(queries)):
                e = np.exp(scale * (keys[:, part] @ queries[n, part]))
                a = e / e.sum()
                output[n, part] = a @ values[:, part]
                attention[n] += a / config.num_heads
        return output, attention

    queries = state["queries"]
    keys = frames + state["position"] if config.positional_embedding else frames
    for i in range(config.num_layers):
        if config.self_attention:
            queries, _ = attend(f"self_attention.{i}", queries, queries, queries)
        queries, attention = attend(f"cross.{i}", queries, keys, frames)
    logits = np.zeros(C)
    for c in range(C):
        row = 0 if config.attention == "class-agnostic" else c
        # S, C.1: CS + CA has one weight vector [1, D] for the outputs of all classes, the others a row for each class.
        shared = config.attention == "class-specific" and config.classifier == "class-agnostic"
        assert state["classifier_weight"].shape == (1 if shared else C, D)
        judge = 0 if shared else c
        logits[c] = state["classifier_bias"][judge]
        for d in range(D):
            logits[c] += state["classifier_weight"][judge, d] * queries[row, d]
    return logits, np.broadcast_to(attention, (C, frames.shape[0]))


@every_variant
def test_matches_a_plain_float64_computation_by_hand(variant: dict[str, Any]) -> None:
    layer, frames = _layer(**variant), _frames()
    output = layer(frames)
    assert output.logits.shape == (B, C)
    assert output.attention.shape == (B, C, T)
    torch.testing.assert_close(output.attention.sum(dim=2), torch.ones(B, C, dtype=torch.float64))
    for b in range(B):
        logits, attention = _reference(layer, frames[b].numpy())
        np.testing.assert_allclose(output.logits[b].detach(), logits, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(output.attention[b].detach(), attention, rtol=1e-10, atol=1e-12)


def test_an_explicit_scale_takes_the_place_of_the_default() -> None:
    layer, frames = _layer(scale=0.7), _frames()
    logits, attention = _reference(layer, frames[0].numpy())
    output = layer(frames)
    np.testing.assert_allclose(output.logits[0].detach(), logits, rtol=1e-10)
    np.testing.assert_allclose(output.attention[0].detach(), attention, rtol=1e-10)


@pytest.mark.parametrize("heads", [1, 8])
@pytest.mark.parametrize("self_attention", [False, True])
def test_matches_torch_multihead_attention(heads: int, self_attention: bool) -> None:
    layer = _layer(num_heads=heads, self_attention=self_attention, positional_embedding=False)

    def torch_twin(part: nn.Module) -> nn.MultiheadAttention:
        twin = nn.MultiheadAttention(D, heads, bias=False, batch_first=True, dtype=torch.float64)
        weights = [part.get_submodule(name).weight for name in ("query", "key", "value")]
        with torch.no_grad():
            twin.in_proj_weight.copy_(torch.cat(weights))
            nn.init.eye_(twin.out_proj.weight)
        return twin

    frames = _frames()
    queries = layer.queries.expand(B, -1, -1)
    if self_attention:
        queries, _ = torch_twin(layer.self_attention[0])(queries, queries, queries)
    outputs, attention = torch_twin(layer.cross[0])(queries, frames, frames)
    logits = (outputs * layer.classifier_weight).sum(dim=2) + layer.classifier_bias
    ours = layer(frames)
    torch.testing.assert_close(ours.attention, attention)
    torch.testing.assert_close(ours.logits, logits)


@every_variant
def test_a_batch_equals_its_singles(variant: dict[str, Any]) -> None:
    layer, frames = _layer(**variant), _frames()
    whole = layer(frames)
    singles = [layer(frames[b : b + 1]) for b in range(B)]
    torch.testing.assert_close(whole.logits, torch.cat([single.logits for single in singles]))
    torch.testing.assert_close(whole.attention, torch.cat([single.attention for single in singles]))


@every_variant
def test_a_gradient_reaches_every_parameter(variant: dict[str, Any]) -> None:
    layer = TSQLayer(D, C, num_frames=T, config=TSQLayerConfig(**variant)).double()  # as training starts
    (layer(_frames()).logits * _frames(2, shape=(B, C))).sum().backward()
    for name, parameter in layer.named_parameters():
        assert parameter.grad is not None, f"no gradient reaches {name}"
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 1e-9, f"the gradient of {name} is zero"


@pytest.mark.parametrize("attention", SHARING)
def test_permuting_frames_permutes_the_saliency_unless_positions_count(attention: str) -> None:
    frames, order = _frames(), torch.tensor([3, 0, 5, 1, 4, 2])
    layer = _layer(attention=attention)
    assert not torch.allclose(layer(frames[:, order]).attention, layer(frames).attention[:, :, order], atol=1e-3)
    nn.init.zeros_(layer.position)
    straight, permuted = layer(frames), layer(frames[:, order])
    torch.testing.assert_close(permuted.attention, straight.attention[:, :, order])
    torch.testing.assert_close(permuted.logits, straight.logits)


@pytest.mark.parametrize("settings", [{}, {"num_heads": 8}, {"self_attention": True, "num_layers": 2}], ids=str)
def test_untrained_projections_and_positions_change_nothing(settings: dict[str, Any]) -> None:
    bare = _layer(**settings, projections=False, positional_embedding=False)
    assert {name for name, _ in bare.named_parameters()} == {"queries", "classifier_weight", "classifier_bias"}
    start = TSQLayer(
        D,
        C,
        num_frames=T,
        config=TSQLayerConfig(**settings),
        queries=bare.queries,
        classifier_weight=bare.classifier_weight,
        classifier_bias=bare.classifier_bias,
    ).double()
    torch.testing.assert_close(start(_frames()).logits, bare(_frames()).logits, rtol=0, atol=1e-12)
    torch.testing.assert_close(start(_frames()).attention, bare(_frames()).attention, rtol=0, atol=1e-12)


def test_positions_are_interpolated_over_time_between_the_centers_of_the_segments() -> None:
    layer = _layer(num_frames=4)
    twice = _layer(num_frames=8)
    ramp = torch.tensor([0.0, 1.0, 2.0, 3.0], dtype=torch.float64)
    # Eight segments' centers on the scale of four: (i + 0.5) / 2 - 0.5, held at both ends.
    by_hand = torch.tensor([0.0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3.0], dtype=torch.float64)
    direction = _frames(3, shape=(D,))
    state = {name: value for name, value in layer.state_dict().items() if name != "position"}
    twice.load_state_dict({**state, "position": by_hand[:, None] * direction})
    with torch.no_grad():
        layer.position.copy_(ramp[:, None] * direction)
    frames = _frames(shape=(B, 8, D))
    torch.testing.assert_close(layer(frames).attention, twice(frames).attention)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float16, 2e-3), (torch.bfloat16, 2e-2)])
@pytest.mark.parametrize("settings", [{}, {"num_heads": 8, "num_layers": 2}, {"attention": "class-agnostic"}], ids=str)
def test_half_precision_stays_close_to_float32(dtype: torch.dtype, tolerance: float, settings: dict[str, Any]) -> None:
    layer = _layer(dtype=torch.float32, **settings)
    frames = _frames(dtype=torch.float32) / D**0.5
    exact = layer(frames)
    mixed = layer(frames.to(dtype))  # half-precision encoder, float32 layer
    half = _layer(dtype=torch.float32, **settings).to(dtype)(frames)
    for output in (mixed, half):
        assert output.logits.dtype == output.attention.dtype == torch.float32
        torch.testing.assert_close(output.attention, exact.attention, rtol=0, atol=tolerance)
        torch.testing.assert_close(output.logits, exact.logits, rtol=0, atol=tolerance)
        torch.testing.assert_close(output.attention.sum(dim=2), torch.ones(B, C))


def test_attention_does_not_overflow_on_large_scores() -> None:
    attention = _layer(dtype=torch.float32, scale=1e4)(_frames(dtype=torch.float32)).attention
    torch.testing.assert_close(attention.sum(dim=2), torch.ones(B, C))


@every_variant
def test_state_and_configuration_make_the_round_trip(variant: dict[str, Any]) -> None:
    layer = _layer(**variant)
    config = from_dict(TSQLayerConfig, json.loads(json.dumps(asdict(layer.config))))
    assert config == layer.config
    copy = TSQLayer(D, C, num_frames=T, config=config).double()
    copy.load_state_dict(load(save(layer.state_dict())))
    torch.testing.assert_close(copy(_frames()).logits, layer(_frames()).logits, rtol=0, atol=0)


def test_with_one_query_both_classifiers_are_the_same() -> None:
    agnostic = _layer(attention="class-agnostic", classifier="class-agnostic")
    specific = _layer(attention="class-agnostic", classifier="class-specific")
    specific.load_state_dict(agnostic.state_dict())
    torch.testing.assert_close(specific(_frames()).logits, agnostic(_frames()).logits)


def test_a_shared_classifier_is_one_weight_and_bias_and_knows_no_class() -> None:
    layer = _layer(classifier="class-agnostic")
    assert (list(layer.classifier_weight.shape), list(layer.classifier_bias.shape)) == ([1, D], [1])
    straight = layer(_frames()).logits
    with torch.no_grad():
        layer.queries.copy_(layer.queries[torch.tensor([3, 0, 4, 1, 2])])
    torch.testing.assert_close(layer(_frames()).logits, straight[:, [3, 0, 4, 1, 2]])


def test_the_evidence_of_a_shared_classifier_is_the_same_for_all_classes() -> None:
    layer = _layer(classifier="class-agnostic", projections=False)
    layer.gives_evidence = True
    frames, weight, bias = _frames(), layer.classifier_weight.detach(), layer.classifier_bias.detach()
    by_hand = [max(float(frame @ weight[0] + bias[0]) for frame in clip) for clip in frames]
    evidence = layer(frames).evidence
    np.testing.assert_allclose(evidence, np.array(by_hand)[:, None] * np.ones((1, C)), rtol=1e-10)


def test_a_classifier_of_the_other_kind_is_refused() -> None:
    for tensors in ({"classifier_weight": torch.zeros(2, D)}, {"classifier_bias": torch.zeros(2)}):
        with pytest.raises(WeightsError, match=rf"{next(iter(tensors))} has shape \[2.*wanted \[1"):
            TSQLayer(D, C, config=TSQLayerConfig(classifier="class-agnostic"), **tensors)
    with pytest.raises(WeightsError, match=r"classifier_weight has shape \[1, 16\]; wanted \[5, 16\]"):
        TSQLayer(D, C, classifier_weight=torch.zeros(1, D))


def test_given_tensors_are_copied_and_a_single_query_starts_at_their_mean() -> None:
    queries = _frames(4, shape=(C, D), dtype=torch.float32)
    layer = TSQLayer(D, C, queries=queries, classifier_weight=queries)
    shared = TSQLayer(D, C, config=TSQLayerConfig(attention="class-agnostic"), queries=queries)
    with torch.no_grad():
        layer.queries += 1
    assert torch.equal(layer.classifier_weight, queries)
    assert torch.equal(layer.classifier_bias, torch.zeros(C))
    np.testing.assert_allclose(shared.queries.detach().numpy(), queries.numpy().mean(axis=0)[None], rtol=1e-5)
    one = TSQLayer(
        D,
        C,
        config=TSQLayerConfig(classifier="class-agnostic"),
        classifier_weight=queries,
        classifier_bias=torch.arange(C).float(),
    )
    np.testing.assert_allclose(one.classifier_weight.detach().numpy(), queries.numpy().mean(axis=0)[None], rtol=1e-5)
    assert one.classifier_bias.tolist() == [2.0]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_layers": 0}, "num_layers from 1 to 16, not 0"),
        ({"num_heads": 129}, "num_heads from 1 to 128, not 129"),
        ({"attention": "shared"}, "attention class-specific or class-agnostic, not 'shared'"),
        ({"classifier": "shared"}, "classifier class-specific or class-agnostic or counting, not 'shared'"),
        ({"classifier": "counting", "num_layers": 2}, "a counting classifier only for one layer"),
        ({"classifier": "counting", "num_heads": 2}, "a counting classifier only for one layer"),
        ({"classifier": "counting", "attention": "class-agnostic"}, "a counting classifier only for one layer"),
        ({"classifier": "counting", "self_attention": True}, "a counting classifier only for one layer"),
        ({"classifier": "counting", "competition_floor": 0.0}, "competition_floor null"),
        ({"competition_floor": float("nan")}, "a finite competition_floor, or null for no competition, not nan"),
        ({"competition_weight": 0.0}, "competition_weight above 0, at most 1, not 0.0"),
        ({"competition_weight": 1.1}, "competition_weight above 0, at most 1, not 1.1"),
        ({"blank_frame_penalty": -1.0}, "a finite blank_frame_penalty, 0 or more, not -1.0"),
        ({"blank_frame_penalty": float("inf")}, "a finite blank_frame_penalty"),
    ],
)
def test_bad_configurations_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TSQLayerConfig(**settings)


@pytest.mark.parametrize(
    ("sizes", "settings", "message"),
    [
        ({"dim": 0}, {}, "dim is 0; wanted 1 or more"),
        ({"num_classes": 0}, {}, "num_classes is 0; wanted 1 or more"),
        ({"num_frames": 0}, {}, "num_frames is 0; wanted 1 or more"),
        ({"scale": 0.0}, {}, "scale is 0.0"),
        ({"scale": float("nan")}, {}, "scale is nan"),
        ({}, {"num_heads": 3}, "num_heads is 3; wanted a divisor of dim 16"),
        ({}, {"self_attention": True, "attention": "class-agnostic"}, "no other to see"),
        ({"num_classes": 1}, {"self_attention": True}, "no other to see"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(sizes: dict[str, Any], settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        TSQLayer(**{"dim": D, "num_classes": C, **sizes}, config=TSQLayerConfig(**settings))


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"queries": torch.zeros(C + 1, D)}, r"queries has shape \[6, 16\]; wanted \[5, 16\]"),
        ({"classifier_weight": torch.zeros(C, D + 1)}, "classifier_weight has shape"),
        ({"classifier_bias": torch.zeros(C, 1)}, "classifier_bias has shape"),
        ({"queries": torch.full((C, D), float("nan"))}, "queries holds NaN"),
        ({"queries": torch.zeros(C, D, dtype=torch.int64)}, "queries holds int64"),
    ],
)
def test_bad_weights_are_refused(tensors: dict[str, torch.Tensor], message: str) -> None:
    with pytest.raises(WeightsError, match=message):
        TSQLayer(D, C, **tensors)


@pytest.mark.parametrize("shape", [(T, D), (B, T, D + 1), (B, 0, D), (0, T, D)], ids=str)
def test_frames_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"frames must be \[B, T, 16\]"):
        _layer()(torch.zeros(shape))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_features_that_are_not_finite_are_refused(bad: float) -> None:
    frames = _frames()
    frames[1, 2, 3] = bad
    with pytest.raises(WeightsError, match="1 of 288 frame features are NaN or infinite"):
        _layer()(frames)


@pytest.mark.parametrize(("share", "penalty"), [(1.0, 0.0), (0.5, 0.0), (0.9, 2.0)])
def test_competing_queries_lose_a_share_of_their_strongest_rival_or_of_the_floor(share: float, penalty: float) -> None:
    # Two classes, three frames, queries are the axes: the frames' scores are their own coordinates.
    eye = torch.eye(2, dtype=torch.float64)
    config = TSQLayerConfig(
        projections=False,
        positional_embedding=False,
        competition_floor=4.0,
        competition_weight=share,
        blank_frame_penalty=penalty,
    )
    bias = torch.tensor([0.1, 0.2]).double()
    layer = TSQLayer(2, 2, scale=0.5, config=config, queries=eye, classifier_weight=eye, classifier_bias=bias)
    frames = torch.tensor([[[9.0, 2.0], [6.0, 7.0], [1.0, 3.0]]], dtype=torch.float64)
    # Margins by hand: frame 0 has rival 9, frame 1 has rival 7, frame 2 reaches 3 only, so the floor of 4 counts,
    # and it is blank by 1.
    scores = np.array([[9.0, 6.0, 1.0], [2.0, 7.0, 3.0]])  # [C, T]
    margins = scores - share * np.array([9.0, 7.0, 4.0]) - penalty * np.array([0.0, 0.0, 1.0])
    attention = np.exp(0.5 * margins) / np.exp(0.5 * margins).sum(axis=1, keepdims=True)
    output = layer(frames)
    np.testing.assert_allclose(output.attention[0].detach().numpy(), attention, rtol=1e-12)
    expected = (attention * margins).sum(axis=1) + np.array([0.1, 0.2])
    np.testing.assert_allclose(output.logits[0].detach().numpy(), expected, rtol=1e-7)
    output.logits.sum().backward()
    assert all(parameter.grad is not None for parameter in layer.parameters())


@pytest.mark.parametrize(
    "settings", [{"num_layers": 2}, {"num_heads": 2}, {"attention": "class-agnostic"}, {"classifier": "class-agnostic"}]
)
def test_competition_is_refused_where_it_is_not_defined(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"competition_floor null, but for one .* not 1\.0"):
        TSQLayerConfig(competition_floor=1.0, **settings)


@pytest.mark.parametrize("projections", [False, True])
def test_a_counting_classifier_adds_up_how_surely_each_frame_shows_a_class(projections: bool) -> None:
    layer, frames = _layer(classifier="counting", projections=projections, scale=0.7), _frames()
    layer.gives_evidence = True
    state = {name: value.detach().numpy() for name, value in layer.state_dict().items()}
    assert "classifier_weight" not in state
    output = layer(frames)
    for b in range(B):
        keys, queries = frames[b].numpy() + state["position"], state["queries"]
        if projections:
            keys, queries = keys @ state["cross.0.key.weight"].T, queries @ state["cross.0.query.weight"].T
        raised = np.exp(0.7 * queries @ keys.T + state["classifier_bias"][:, None])  # [C, T]
        shares = raised / raised.sum(axis=0)  # p of each class in a frame
        counted = np.log(1 + shares * np.exp(state["count_shift"])).sum(axis=1) * state["count_gain"]
        np.testing.assert_allclose(output.logits[b].detach(), counted, rtol=1e-10)
        attention = shares / shares.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(output.attention[b].detach(), attention, rtol=1e-10)
        assert output.evidence is not None
        np.testing.assert_allclose(output.evidence[b], np.log(raised).max(axis=1), rtol=1e-10)
    output.logits.sum().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in layer.parameters())


def test_counting_prefers_the_class_seen_twice_to_the_one_seen_once_more_surely() -> None:
    config = TSQLayerConfig(classifier="counting", projections=False, positional_embedding=False)
    layer = TSQLayer(2, 2, scale=1.0, config=config, queries=torch.eye(2), classifier_bias=torch.zeros(2))
    seen = layer(torch.tensor([[[6.0, 0.0], [0.0, 2.0], [0.0, 2.0], [0.0, 2.0]]]))
    # By hand, a = log(0.2 * 2): p = 1 / (1 + e^-6) once against 1 / (1 + e^-2) three times.
    once, thrice, rest = (1 / (1 + math.exp(-x)) for x in (6, 2, -2))
    expected = [
        math.log(1 + 0.4 * once) + 3 * math.log(1 + 0.4 * rest),
        math.log(1 + 0.4 * (1 - once)) + 3 * math.log(1 + 0.4 * thrice),
    ]
    np.testing.assert_allclose(seen.logits[0].detach(), expected, rtol=1e-5)
    assert seen.logits[0].argmax() == 1


@pytest.mark.parametrize("num_frames", [1, 40])
def test_any_number_of_frames_is_taken(num_frames: int) -> None:
    output = _layer()(_frames(shape=(B, num_frames, D)))
    assert output.attention.shape == (B, C, num_frames)
    torch.testing.assert_close(output.attention.sum(dim=2), torch.ones(B, C, dtype=torch.float64))
