"""Fine-tuning: a tiny network learns two colors, the loss is what it should be, and a cut run ends as a whole one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.packs.making import NETWORK, network_weights
from tsq_cli.consensus import Pooling
from tsq_cli.errors import UsageError
from tsq_cli.models import FrameEncoder, create_encoder
from tsq_cli.models.preprocess import Preprocessor
from tsq_cli.training.encoder import FrameTask, fine_tune, training_images, with_classifier
from tsq_cli.training.images import FrameImages, MemoryFrames
from tsq_cli.training.settings import Augmentation, EncoderSettings, FitSettings

PREPARE = Preprocessor(input_size=32, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), interpolation="bicubic", crop_pct=1.0)
FITTING = FitSettings(epochs=4, batch_size=8, learning_rate=0.02, warmup_epochs=0.5)
SETTINGS = EncoderSettings(
    frames_per_video=2, backbone_lr_scale=0.1, augmentation=Augmentation(min_area=0.5, color_jitter=0.0), fit=FITTING
)


@pytest.fixture(scope="module")
def start() -> FrameEncoder:
    return untrained()


def untrained() -> FrameEncoder:
    """A tiny network whose batch norms, which have seen nothing, come to know the data within a few steps."""
    network = create_encoder(NETWORK)
    network.model.load_state_dict(network_weights(NETWORK))
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.5
    return network


def colored(num_videos: int, *, seed: int) -> tuple[MemoryFrames, Tensor]:
    """Noisy videos of three frames, reddish and bluish ones in turn."""
    noise = torch.randint(160, (num_videos, 3, 36, 40, 3), generator=torch.Generator().manual_seed(seed))
    labels = torch.arange(num_videos) % 2
    noise[labels == 0, ..., 0] += 95
    noise[labels == 1, ..., 2] += 95
    return MemoryFrames(list(noise.to(torch.uint8))), functional.one_hot(labels, 2).bool()


def tuned(start: FrameEncoder, settings: EncoderSettings = SETTINGS, **options: Any) -> FrameEncoder:
    frames, targets = colored(16, seed=1)
    return fine_tune(start, frames, targets, settings, preprocessor=PREPARE, **options)


def entries(network: FrameEncoder) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def test_it_learns_from_frames_and_measures_videos_it_has_not_seen(start: FrameEncoder, tmp_path: Path) -> None:
    before = entries(start)
    # The ranking is perfect before every single frame is named rightly.
    to_the_end = replace(SETTINGS, fit=replace(FITTING, keep="last"))
    network = tuned(start, to_the_end, validation=colored(12, seed=2), folder=tmp_path)
    rows = json.loads((tmp_path / "log.json").read_text())
    assert rows[-1]["train.loss"] < 0.7 * rows[0]["train.loss"]
    assert (rows[-1]["val.top1"], rows[-1]["val.map"]) == (1.0, 1.0)
    assert (network.num_classes, network.feature_dim, network.training) == (2, start.feature_dim, False)
    frames, targets = colored(12, seed=2)
    images = torch.cat([PREPARE(frames[video, 1][None]) for video in range(12)])
    with torch.inference_mode():
        assert torch.equal(network(images).logits.argmax(dim=1), targets.int().argmax(dim=1))
    for name, tensor in start.state_dict().items():  # what it started from is left as it was
        assert torch.equal(tensor, before[name]), name


def test_the_trained_layers_may_learn_slower_than_the_new_classifier_or_not_at_all(start: FrameEncoder) -> None:
    network = tuned(start, replace(SETTINGS, backbone_lr_scale=0.0, fit=replace(FITTING, epochs=1)))
    begun = with_classifier(start, 2, seed=FITTING.seed)
    parameters = dict(network.named_parameters())
    changed = {name for name, before in begun.named_parameters() if not torch.equal(parameters[name], before)}
    assert changed == {"model.classifier.weight", "model.classifier.bias"}


def test_frozen_stages_stay_as_they_are_to_the_last_statistic(start: FrameEncoder) -> None:
    before, after = entries(start), entries(tuned(start, replace(SETTINGS, frozen_stages=2)))
    frozen = ("conv_stem", "bn1", "blocks.0.")  # timm's first two stages of this network
    kept = {name for name in before if name.removeprefix("model.").startswith(frozen)}
    assert any("running_mean" in name for name in kept)
    assert all(torch.equal(before[name], after[name]) for name in kept)
    moved = {name for name in before.keys() - kept if before[name].is_floating_point() and "classifier" not in name}
    assert moved
    assert not any(torch.equal(before[name], after[name]) for name in moved)


def test_a_network_without_so_many_stages_says_how_many_it_has(start: FrameEncoder) -> None:
    with pytest.raises(UsageError, match="6 stages before its classifier"):
        tuned(start, replace(SETTINGS, frozen_stages=6))


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("pooling", [None, "logits", "probabilities"])
def test_a_frame_is_judged_by_itself_or_with_its_video(
    start: FrameEncoder, multi_label: bool, pooling: Pooling | None
) -> None:
    frames, _ = colored(6, seed=3)
    targets = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]] * 2)
    settings = replace(SETTINGS, label_smoothing=0.2, fit=replace(FITTING, batch_size=3))
    network = with_classifier(start, 2, seed=4)
    network.model.classifier.weight.data.mul_(5000)  # frames of a video are to be judged differently
    task = FrameTask(
        network,
        training_images(frames, targets, settings, PREPARE, 2),
        settings,
        preprocessor=PREPARE,
        pooling=pooling,
        multi_label=multi_label,
        validation=None,
        workers=0,
    )
    assert task.batches_per_epoch == 2
    batches = list(task.batches(0))
    assert [tuple(images.shape) for images, _ in batches] == [(3, 2, 3, 32, 32)] * 2
    images, truth = batches[0]
    task.model.eval()
    with torch.inference_mode():
        loss = float(task.losses(batches[0])["loss"])
        logits = torch.stack([task.network((frame / 255.0 - 0.5) / 0.5).logits for frame in images])  # [3, 2, 2]
    # 0.8 of the target is the truth, 0.2 is spread over both classes
    wanted = 0.8 * truth + 0.1
    pooled: Tensor = logits.mean(dim=1)
    if pooling == "probabilities":
        pooled = logits.sigmoid().mean(dim=1).logit() if multi_label else logits.softmax(dim=2).mean(dim=1).log()
    predict = pooled if pooling else logits.reshape(6, 2)
    wanted = wanted if pooling else torch.stack([wanted, wanted], dim=1).reshape(6, 2)
    assert (logits[:, 0] - logits[:, 1]).abs().min() > 0.2
    if multi_label:
        p = predict.sigmoid()
        expected = -(wanted * p.log() + (1 - wanted) * (1 - p).log()).sum(dim=1).mean()
    else:
        expected = -(wanted * predict.softmax(dim=1).log()).sum(dim=1).mean()
    assert loss == pytest.approx(float(expected), rel=1e-4)


def test_a_run_cut_off_ends_where_the_whole_one_does(start: FrameEncoder, tmp_path: Path) -> None:
    settings = replace(SETTINGS, fit=replace(FITTING, epochs=2))
    whole = entries(tuned(start, settings))

    def cut(_what: str, done: int, _total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tuned(start, settings, folder=tmp_path, progress=cut)
    steps: list[int] = []
    resumed = tuned(start, settings, folder=tmp_path, progress=lambda _what, done, _total: steps.append(done))
    assert steps == [3, 4]  # two steps an epoch: the first epoch was kept
    for name, tensor in resumed.state_dict().items():
        assert torch.equal(tensor, whole[name]), name


def test_targets_of_other_videos_are_refused() -> None:
    frames, targets = colored(4, seed=0)
    with pytest.raises(ValueError, match="4 videos need as many targets"):
        FrameImages(frames, targets[:3], frames_per_video=1, preprocessor=PREPARE, augmentation=None)
