from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import one_hot

from tsq_cli.errors import UsageError
from tsq_cli.models import TSQNet
from tsq_cli.models.layer_config import TSQLayerConfig
from tsq_cli.training.heads import INITIAL, CachedClips, ClipBatch, HeadTask, initial_tsqnet, train_heads
from tsq_cli.training.settings import FitSettings, HeadSettings

N, T, C, DV, DT = 96, 6, 3, 16, 8
SETTINGS = HeadSettings(fit=FitSettings(epochs=6, batch_size=32, learning_rate=0.02, warmup_epochs=0.5))


def _clips(seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Clips of noise in which two frames show the class: features, targets, the class of each frame, and queries."""
    generator = torch.Generator().manual_seed(seed)
    directions = torch.Generator().manual_seed(99)
    queries_v, queries_t = torch.randn(C, DV, generator=directions), torch.randn(C, DT, generator=directions)
    labels = torch.arange(N) % C
    event = torch.rand(N, T, generator=generator).argsort(dim=1) < 2  # [N, T]
    visual = torch.randn(N, T, DV, generator=generator) + 3.0 * event[..., None] * queries_v[labels][:, None]
    textual = torch.randn(N, T, DT, generator=generator) + 3.0 * event[..., None] * queries_t[labels][:, None]
    return visual, textual, one_hot(labels, C).float(), event, queries_v, queries_t


def _train(settings: HeadSettings = SETTINGS, **options: Any) -> TSQNet:
    visual, textual, targets, _, queries_v, queries_t = _clips()
    source = CachedClips(visual.half(), textual, targets.bool(), batch_size=settings.fit.batch_size)
    options = {"queries_visual": queries_v, "queries_textual": queries_t, "num_classes": C, "num_frames": T, **options}
    return train_heads(source, settings, **options)


def test_trained_modules_find_the_frames_and_the_class_of_new_clips() -> None:
    visual, textual, targets, event, _, _ = _clips(seed=1)
    net = _train()
    with torch.no_grad():
        output = net(visual, textual)
    for module in (output.visual, output.textual):
        assert (module.logits.argmax(dim=1) == targets.argmax(dim=1)).float().mean() > 0.95
        attention = module.attention[torch.arange(N), targets.argmax(dim=1)]  # [N, T]
        assert (attention * event).sum(dim=1).mean() > 0.8, "two of six frames would have a third by chance"


def test_the_total_is_the_sum_that_the_method_gives() -> None:
    visual, textual, targets, _, queries_v, queries_t = _clips()
    settings = replace(SETTINGS, alpha=0.3, beta=0.7)
    net = initial_tsqnet(settings, queries_visual=queries_v, queries_textual=queries_t, num_frames=T)
    source = CachedClips(visual, textual, targets, batch_size=8)
    losses = HeadTask(net, source, settings).losses(ClipBatch(visual, textual, targets))
    output = net(visual, textual)
    labels = targets.argmax(dim=1)
    a_v, a_t = (module.attention[torch.arange(N), labels] for module in (output.visual, output.textual))
    cls = [torch.nn.functional.cross_entropy(module.logits, labels) for module in (output.visual, output.textual)]
    text_teaches = (a_t * (a_t / a_v).log()).sum(dim=1).mean()
    visual_teaches = (a_v * (a_v / a_t).log()).sum(dim=1).mean()
    torch.testing.assert_close(losses["text_teaches_visual"], text_teaches)
    torch.testing.assert_close(losses["visual_teaches_text"], visual_teaches)
    torch.testing.assert_close(losses["loss"], sum(cls) + 0.3 * text_teaches + 0.7 * visual_teaches)


def test_who_is_taught_is_who_moves() -> None:
    """Alpha's loss moves VQM alone, beta's TQM alone (docs/method.md, section 4)."""
    visual, textual, targets, _, queries_v, queries_t = _clips()
    net = initial_tsqnet(SETTINGS, queries_visual=queries_v, queries_textual=queries_t, num_frames=T)
    task = HeadTask(net, CachedClips(visual, textual, targets, batch_size=8), SETTINGS)
    for part, taught, teacher in (
        ("text_teaches_visual", net.vqm, net.tqm),
        ("visual_teaches_text", net.tqm, net.vqm),
    ):
        net.zero_grad()
        task.losses(ClipBatch(visual, textual, targets))[part].backward()
        assert taught.queries.grad is not None
        assert taught.queries.grad.abs().sum() > 0
        assert teacher.queries.grad is None


@pytest.mark.parametrize(
    "layer",
    [
        TSQLayerConfig(self_attention=True),
        TSQLayerConfig(num_layers=2),
        TSQLayerConfig(num_heads=4),
        TSQLayerConfig(attention="class-agnostic", classifier="class-agnostic"),
        TSQLayerConfig(attention="class-agnostic"),
        TSQLayerConfig(classifier="class-agnostic"),
        TSQLayerConfig(competition_floor=0.0, competition_weight=0.9, blank_frame_penalty=0.5),
        TSQLayerConfig(projections=False, positional_embedding=False),
    ],
    ids=lambda layer: ",".join(f"{k}={v}" for k, v in vars(layer).items() if v != getattr(TSQLayerConfig(), k)),
)
def test_every_variant_can_be_trained_and_every_parameter_moves(layer: TSQLayerConfig) -> None:
    visual, textual, targets, _, queries_v, queries_t = _clips()
    settings = replace(SETTINGS, layer=layer, fit=replace(SETTINGS.fit, epochs=2))
    before = initial_tsqnet(settings, queries_visual=queries_v, queries_textual=queries_t, num_frames=T)
    after = _train(settings)
    for (name, old), (_, new) in zip(before.named_parameters(), after.named_parameters(), strict=True):
        assert not torch.equal(old, new), name
    with torch.no_grad():
        logits = [net(visual, textual).visual.logits for net in (before, after)]
    losses = [float(torch.nn.functional.cross_entropy(z, targets.argmax(dim=1))) for z in logits]
    assert losses[1] < losses[0]


def test_both_modules_may_differ_in_shape() -> None:
    net = _train(
        replace(
            SETTINGS, textual_layer=TSQLayerConfig(num_heads=2), textual_scale=0.5, fit=replace(SETTINGS.fit, epochs=1)
        )
    )
    assert (net.vqm.config.num_heads, net.tqm.config.num_heads) == (1, 2)
    assert (net.vqm.scale, net.tqm.scale) == (None, 0.5)
    assert net.vqm.num_frames == T


def test_queries_start_where_they_are_told() -> None:
    _, _, _, _, queries_v, queries_t = _clips()
    options = {"queries_visual": queries_v, "queries_textual": queries_t}
    told = initial_tsqnet(SETTINGS, **options)
    assert torch.equal(told.vqm.queries, queries_v)
    assert torch.equal(told.tqm.queries, queries_t)
    random = initial_tsqnet(replace(SETTINGS, visual_init="random", textual_init="random"), **options)
    again = initial_tsqnet(replace(SETTINGS, visual_init="random", textual_init="random"), **options)
    other = replace(SETTINGS, visual_init="random", fit=replace(SETTINGS.fit, seed=1))
    assert random.vqm.queries.shape == queries_v.shape
    assert not torch.equal(random.vqm.queries, queries_v)
    assert not torch.equal(random.tqm.queries, queries_t)
    assert torch.equal(random.vqm.queries, again.vqm.queries)
    assert not torch.equal(random.vqm.queries, initial_tsqnet(other, **options).vqm.queries)


def test_the_run_is_kept_with_its_first_queries_and_resumes(tmp_path: Path) -> None:
    measured: list[TSQNet] = []

    def validate(net: TSQNet) -> dict[str, float]:
        assert not net.training
        measured.append(net)
        return {"calls": float(len(measured))}

    whole = _train(folder=tmp_path, validate=validate)
    assert len(measured) == 6
    _, _, _, _, queries_v, queries_t = _clips()
    first = load_file(tmp_path / INITIAL)
    torch.testing.assert_close(first, {"visual": queries_v, "textual": queries_t})
    assert not torch.equal(whole.vqm.queries, queries_v)
    again = _train(folder=tmp_path, validate=validate)
    assert len(measured) == 6
    assert torch.equal(whole.tqm.queries, again.tqm.queries)
    with pytest.raises(UsageError, match=r"heads\.alpha was 0\.6, now 0\.5"):
        _train(replace(SETTINGS, alpha=0.5), folder=tmp_path)


def test_the_same_seed_gives_the_same_network() -> None:
    settings = replace(SETTINGS, fit=replace(SETTINGS.fit, epochs=1))
    a, b = _train(settings), _train(settings)
    assert torch.equal(a.vqm.queries, b.vqm.queries)


def test_several_labels_are_learnt_one_by_one() -> None:
    visual, textual, targets, _, queries_v, queries_t = _clips()
    both = targets.clone()
    both[targets[:, 0] > 0, 1] = 1.0  # whoever is of class 0 is of class 1 too
    net = train_heads(
        CachedClips(visual, textual, both, batch_size=32),
        SETTINGS,
        queries_visual=queries_v,
        queries_textual=queries_t,
        num_classes=C,
        num_frames=T,
        multi_label=True,
    )
    with torch.no_grad():
        found = net(visual, textual).visual.logits > 0
    assert (found == both.bool()).float().mean() > 0.95


class Composed:
    """Clips that are made when they are asked for, other ones in each epoch."""

    num_classes = C
    batches_per_epoch = 3

    def __init__(self) -> None:
        self.asked: list[int] = []

    def epoch(self, number: int) -> Iterator[ClipBatch]:
        self.asked.append(number)
        visual, textual, targets, *_ = _clips(seed=number)
        for start in range(0, N, 32):
            yield ClipBatch(*(part[start : start + 32] for part in (visual, textual, targets)))


def test_clips_may_be_composed_afresh_in_every_epoch() -> None:
    source, (_, _, _, _, queries_v, queries_t) = Composed(), _clips()
    options = {"queries_visual": queries_v, "queries_textual": queries_t, "num_frames": T}
    train_heads(source, SETTINGS, num_classes=C, **options)
    assert source.asked == list(range(6))
    with pytest.raises(ValueError, match="3 classes"):
        train_heads(source, SETTINGS, num_classes=C + 1, **options)
