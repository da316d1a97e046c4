"""The network that recognizes a video from a few frames, stage (d): its initial weights, and a linear probe.

tsq_cli.training.encoder.fine_tune trains the whole network instead. In both cases the loss is of the frames' pooled
scores, as in recognition (TSN's consensus).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor, nn

from tsq_cli.models import FrameEncoder, create_encoder, pool
from tsq_cli.models.preprocess import Preprocessor
from tsq_cli.packs import PackConfig
from tsq_cli.packs.load import load_encoder
from tsq_cli.packs.weights import require_weights
from tsq_cli.packs.write import TrainedNetwork
from tsq_cli.training import distributed
from tsq_cli.training.encoder import measures, smoothed, with_classifier
from tsq_cli.training.fit import TrainingTask, fit
from tsq_cli.training.images import segments
from tsq_cli.training.losses import classification_loss
from tsq_cli.training.settings import RecognizerSettings
from tsq_cli.types import Progress, no_progress

_LEAST_STD = 0.1  # of a feature, as a share of the mean std: a nearly constant feature is not blown up


def starting_network(base: PackConfig, model: str) -> TrainedNetwork:
    """Load the network that a recognizer is trained from, with published weights, on the CPU.

    Args:
        base: the pack that the training starts from.
        model: "visual_encoder" or the name of the pack's recognizer, both with the pack's weights and preprocessing; or
            any timm name, with those that timm publishes.

    Raises:
        UsageError: timm has no such network.
        WeightsError: weights that are unavailable or damaged.
    """
    roles = base.roles
    for role, names in ((roles.visual_encoder, ("visual_encoder",)), (roles.recognizer, (roles.recognizer.model,))):
        if model in names:
            return TrainedNetwork(encoder=load_encoder(role, base.folder), model=role.model, preprocess=role.preprocess)
    require_weights(model)
    encoder = create_encoder(model, pretrained=True)
    preprocess = Preprocessor.from_timm(encoder.pretrained_cfg)
    # A pack builds the network from its name alone: a location of weights may be gone by then.
    name = encoder.model.pretrained_cfg["architecture"] if ":" in model else model
    return TrainedNetwork(encoder=encoder, model=name, preprocess=preprocess)


def fit_probe(
    features: Tensor,
    targets: Tensor,
    settings: RecognizerSettings,
    *,
    multi_label: bool = False,
    validation: tuple[Tensor, Tensor] | None = None,
    folder: Path | None = None,
    device: torch.device | str = "cpu",
    progress: Progress = no_progress,
) -> nn.Linear:
    """Fit a linear classifier on frozen features, by the pooled scores of k frames drawn anew in each epoch.

    It is fitted on features of mean 0 and standard deviation 1 (ours); the returned layer takes the original ones.

    Args:
        features: [N, T, D] of N videos, the input of the network's own classifier, of any floating point type.
        targets: bool or float [N, C].
        settings: k = num_frames, pooling, label smoothing, and optimization.
        multi_label: sigmoid and binary cross-entropy instead of softmax and cross-entropy.
        validation: features [M, T', D] and targets [M, C] to evaluate on after each epoch, by all T' frames.
        folder: for checkpoint and logs; None writes and resumes nothing.
        device: to train on.
        progress: called with epoch and loss after every step.

    Returns:
        The layer from D to C, float32, on the CPU.

    Raises:
        TsqError: a loss that is not finite.
        UsageError: the folder holds a run of other settings.
        ValueError: features of another shape, or not as many as targets.
    """
    if features.ndim != 3 or len(features) != len(targets):
        raise ValueError(f"features {list(features.shape)} must be [N, T, D] with targets {list(targets.shape)} [N, C]")
    mean, std = _moments(features)
    task = ProbeTask(features, targets.float(), settings, multi_label, validation, mean, std, device)
    identity = {"probe": asdict(settings), "shape": [*features.shape, targets.shape[1]], "multi_label": multi_label}
    fit(task, settings.fit, folder, identity=identity, what="recognizer", progress=progress)
    probe = nn.Linear(features.shape[2], targets.shape[1])
    with torch.no_grad():
        weight = task.model.weight.cpu() / std
        probe.weight.copy_(weight)
        probe.bias.copy_(task.model.bias.cpu() - weight @ mean)
    return probe


def probed(encoder: FrameEncoder, probe: nn.Linear) -> FrameEncoder:
    """Copy a network, with a probe as its classifier, in evaluation mode, on the CPU."""
    network = with_classifier(encoder, probe.out_features, seed=0).cpu()
    network.model.get_classifier().load_state_dict(probe.state_dict())
    return network


class ProbeTask(TrainingTask):
    """A linear layer on standardized features; it starts at zero, as the problem is convex.

    Args:
        features, targets, settings, multi_label, validation, device: as for fit_probe.
        mean, std: of the features, [D].
    """

    model: nn.Linear

    def __init__(
        self,
        features: Tensor,
        targets: Tensor,
        settings: RecognizerSettings,
        multi_label: bool,
        validation: tuple[Tensor, Tensor] | None,
        mean: Tensor,
        std: Tensor,
        device: torch.device | str,
    ) -> None:
        self.model = nn.Linear(features.shape[2], targets.shape[1]).to(device)
        nn.init.zeros_(self.model.weight)
        nn.init.zeros_(self.model.bias)
        self._features, self._targets, self._settings = features, targets, settings
        self._multi_label, self._validation, self._device = multi_label, validation, device
        self._mean, self._std = mean.to(device), std.to(device)
        self.batches_per_epoch = distributed.batches_per_epoch(len(features), settings.fit.batch_size)

    def batches(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield features [B, k, D] of drawn frames and targets [B, C]."""
        fitting = self._settings.fit
        generator = torch.Generator().manual_seed(distributed.epoch_seed(fitting.seed, epoch) + distributed.rank())
        for videos in distributed.shuffled_batches(
            len(self._features), fitting.batch_size, seed=fitting.seed, epoch=epoch
        ):
            begin, length = segments(self._features.shape[1], self._settings.num_frames)
            share = torch.rand(len(videos), len(begin), generator=generator)
            positions = begin + (share * length).long()  # [B, k]
            yield self._features[videos[:, None], positions], self._targets[videos]

    def losses(self, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        """Compute the classification loss of features [B, k, D]."""
        features, targets = batch
        wanted = smoothed(targets.to(self._device), self._settings.label_smoothing)
        return {"loss": classification_loss(self._scores(features), wanted, multi_label=self._multi_label)}

    def validate(self) -> dict[str, float]:
        """Compute the measures of the mean of a video's logits; nothing without validation."""
        if self._validation is None:
            return {}
        features, targets = self._validation
        return measures(self._scores(features), targets, multi_label=self._multi_label)

    def _scores(self, features: Tensor) -> Tensor:
        """Pool the logits of features [B, k, D] to [B, C], in float32."""
        logits = self.model((features.to(self._device, torch.float32) - self._mean) / self._std)
        pooled: Tensor = pool(logits, self._settings.pooling, multi_label=self._multi_label)
        return pooled


def _moments(features: Tensor) -> tuple[Tensor, Tensor]:
    """Compute mean and standard deviation [D] of features [N, T, D], video by video: they may be large, in float16."""
    count = features.shape[0] * features.shape[1]
    total = torch.stack([video.double().sum(dim=0) for video in features]).sum(dim=0)
    mean = total / count
    square = torch.stack([(video.double() - mean).square().sum(dim=0) for video in features]).sum(dim=0)
    std = (square / count).sqrt()
    return mean.float(), std.clamp(min=(_LEAST_STD * float(std.mean())) or 1.0).float()
