"""The recognizer: a probe that takes features as they are, the networks it starts from, and a chain to a pack."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.packs.making import NETWORK, make_pack, network_weights
from tests.training.test_encoder import PREPARE, colored, untrained
from tsq_cli.errors import UsageError
from tsq_cli.models import create_encoder
from tsq_cli.packs import PackConfig, find_pack
from tsq_cli.packs.load import load_encoder
from tsq_cli.training import encoder as encoder_module
from tsq_cli.training.encoder import FrameTask, fine_tune
from tsq_cli.training.recognizer import ProbeTask, fit_probe, probed, starting_network
from tsq_cli.training.settings import Augmentation, FitSettings, RecognizerSettings

SETTINGS = RecognizerSettings(num_frames=2, fit=FitSettings(epochs=20, batch_size=16, learning_rate=0.02))


@pytest.fixture
def base(tmp_path: Path) -> PackConfig:
    make_pack(tmp_path / "base")
    return find_pack(tmp_path / "base")


def videos(num_videos: int, *, seed: int) -> tuple[Tensor, Tensor]:
    """Features whose last, a thousand times smaller than the others and far from zero, tells the class."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(num_videos, 4, 6, generator=generator) * 10 + 40
    labels = torch.arange(num_videos) % 2
    features[..., 5] = 3 + 0.01 * (labels[:, None] + 0.3 * torch.randn(num_videos, 4, generator=generator))
    return features, functional.one_hot(labels, 2).bool()


def test_a_probe_takes_features_as_they_are(tmp_path: Path) -> None:
    (features, targets), unseen = videos(64, seed=1), videos(50, seed=2)
    # The last feature is at its least spread, a tenth of the mean one: brought up to a like size before it is fitted.
    features[..., 5] *= 100
    unseen[0][..., 5] *= 100
    probe = fit_probe(features, targets, SETTINGS, validation=unseen, folder=tmp_path)
    assert (probe.in_features, probe.out_features, probe.weight.dtype) == (6, 2, torch.float32)
    with torch.inference_mode():
        said = probe(unseen[0]).mean(dim=1).argmax(dim=1)
    top1 = float((said == unseen[1].int().argmax(dim=1)).float().mean())
    assert top1 > 0.95
    assert json.loads((tmp_path / "log.json").read_text())[-1]["val.top1"] == pytest.approx(top1)


def test_a_feature_that_never_moves_does_no_harm() -> None:
    features, targets = videos(16, seed=1)
    features[..., 0] = 7.0
    probe = fit_probe(features.half(), targets, replace(SETTINGS, fit=replace(SETTINGS.fit, epochs=1)))
    assert probe.weight.isfinite().all()
    assert probe.weight[:, 0].abs().max() == 0
    still = fit_probe(torch.ones(2, 2, 3), torch.eye(2), replace(SETTINGS, fit=FitSettings(epochs=1)))
    assert still.weight.isfinite().all()


def test_it_is_judged_by_the_mean_of_drawn_frames() -> None:
    features = torch.arange(10 * 4).reshape(10, 4, 1).float().expand(10, 4, 3).contiguous()  # 4 v + t
    targets = functional.one_hot(torch.arange(10) % 2, 2).float()
    settings = replace(SETTINGS, label_smoothing=0.1, fit=FitSettings(batch_size=4))
    task = ProbeTask(features, targets, settings, False, None, torch.full((3,), 5.0), torch.full((3,), 2.0), "cpu")
    drawn = set()
    for epoch in range(12):
        batches = list(task.batches(epoch))
        assert [len(batch[1]) for batch in batches] == [4, 4, 2] == [4] * (task.batches_per_epoch - 1) + [2]
        for seen, _ in batches:
            drawn |= {tuple(int(value) % 4 for value in frames) for frames in seen[:, :, 0]}
        assert all(torch.equal(a[0], b[0]) for a, b in zip(batches, task.batches(epoch), strict=True))
    assert drawn == {(0, 2), (0, 3), (1, 2), (1, 3)}
    nn.init.normal_(task.model.weight)
    logits = torch.stack([task.model((frame - 5.0) / 2.0) for frame in batches[0][0].unbind(1)]).mean(dim=0)
    wanted = 0.9 * batches[0][1] + 0.05
    expected = -(wanted * logits.log_softmax(dim=1)).sum(dim=1).mean()
    torch.testing.assert_close(task.losses(batches[0])["loss"], expected)


def test_a_probe_is_judged_by_the_pooling_of_its_pack() -> None:
    """Two frames of the first class at 0.9 and 0.2 by a layer that passes features on: 0.55 on average, a loss of
    -log 0.55; of the mean of logits it is the odds 9 / 4, to the half."""
    features = torch.tensor([[[0.9, 0.1], [0.2, 0.8]]]).log()
    for pooling, p in (("probabilities", 0.55), ("logits", 1.5 / 2.5), ("weighted-probabilities", 0.55)):
        settings = replace(SETTINGS, pooling=pooling)
        task = ProbeTask(features, torch.eye(2)[:1], settings, False, None, torch.zeros(2), torch.ones(2), "cpu")
        with torch.no_grad():
            task.model.weight.copy_(torch.eye(2))
        loss = task.losses((features, torch.eye(2)[:1]))["loss"]
        assert float(loss.detach()) == pytest.approx(-math.log(p))
    with pytest.raises(UsageError, match="pooling is 'mean'"):
        replace(SETTINGS, pooling="mean")


def test_features_and_targets_of_other_videos_are_refused() -> None:
    for shape in ((4, 3), (5, 2, 3)):
        with pytest.raises(ValueError, match=r"must be \[N, T, D\] with targets \[4, 2\]"):
            fit_probe(torch.zeros(shape), torch.eye(4, 2), SETTINGS)


def test_a_probed_network_says_what_the_probe_says_of_its_features() -> None:
    encoder = create_encoder(NETWORK)
    encoder.model.load_state_dict(network_weights(NETWORK))
    probe = nn.Linear(encoder.feature_dim, 5)
    network = probed(encoder, probe)
    images = torch.rand(2, 3, 48, 48)
    with torch.inference_mode():
        torch.testing.assert_close(network(images).logits, probe(encoder(images).features))
    assert (network.num_classes, encoder.num_classes) == (5, 1000)


def test_a_whole_network_learns_videos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    predict: list[str] = []

    def watched(*arguments: Any, **options: Any) -> FrameTask:
        predict.append(options["pooling"])
        return FrameTask(*arguments, **options)

    monkeypatch.setattr(encoder_module, "FrameTask", watched)
    settings = RecognizerSettings(
        method="finetune",
        num_frames=2,
        augmentation=Augmentation(min_area=0.5, color_jitter=0.0),
        fit=FitSettings(epochs=4, batch_size=8, learning_rate=0.02, warmup_epochs=0.5),
    )
    encoder = untrained()
    frames, targets = colored(16, seed=1)
    options: dict[str, Any] = {"preprocessor": PREPARE, "validation": colored(12, seed=2), "folder": tmp_path}
    network = fine_tune(encoder, frames, targets, settings, **options)
    assert (network.num_classes, network.training, predict) == (2, False, ["logits"])  # by their frames' mean
    assert json.loads((tmp_path / "log.json").read_text())[-1]["val.top1"] == 1.0
    with pytest.raises(UsageError, match=r"recognizer\.num_frames was 2, now 1"):
        fine_tune(encoder, frames, targets, replace(settings, num_frames=1), **options)


def test_a_recognizer_starts_from_the_packs_networks_or_timms(base: PackConfig, tmp_path: Path) -> None:
    own = starting_network(base, "visual_encoder")
    role = base.roles.visual_encoder
    assert (own.model, own.preprocess) == (role.model, role.preprocess)
    expected = load_encoder(role, base.folder).state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in own.encoder.state_dict().items())

    network = timm.create_model("test_resnet", num_classes=7)
    network.pretrained_cfg |= {"mean": (0.1, 0.2, 0.3), "num_classes": 7}
    timm.models.save_for_hf(network, tmp_path / "net", safe_serialization=True)
    other = starting_network(base, f"local-dir:{tmp_path / 'net'}")
    # A pack can build it anywhere: by its architecture, not by this folder.
    assert (other.model, other.preprocess.mean, other.preprocess.input_size) == ("test_resnet", (0.1, 0.2, 0.3), 160)
    assert torch.equal(other.encoder.classifier_bias, network.fc.bias)
    with pytest.raises(UsageError, match="no model named 'resnet1011'"):
        starting_network(base, "resnet1011")
