"""Fine-tuning of image networks on frames labeled with their video's classes: stages (a) and (d).

Stage (a) takes ten epochs in S; see docs/method.md, section 4.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from timm.models import group_modules
from torch import Tensor, nn

from tsq_cli.consensus import Pooling
from tsq_cli.errors import UsageError
from tsq_cli.evaluation.metrics import mean_average_precision, top_k_accuracy
from tsq_cli.models import FrameEncoder, pool, probabilities
from tsq_cli.models.microbatches import cpu_microbatches
from tsq_cli.models.preprocess import Preprocessor
from tsq_cli.training import distributed
from tsq_cli.training.fit import TrainingTask, fit
from tsq_cli.training.images import FrameImages, FrameSource, image_batches, normalized
from tsq_cli.training.losses import classification_loss
from tsq_cli.training.settings import EncoderSettings, FineTuneSettings, RecognizerSettings
from tsq_cli.types import Progress, no_progress


def fine_tune(
    encoder: FrameEncoder,
    frames: FrameSource,
    targets: Tensor,
    settings: EncoderSettings | RecognizerSettings,
    *,
    preprocessor: Preprocessor,
    multi_label: bool = False,
    validation: tuple[FrameSource, Tensor] | None = None,
    folder: Path | None = None,
    device: torch.device | str = "cpu",
    workers: int = 0,
    progress: Progress = no_progress,
) -> FrameEncoder:
    """Fine-tune a whole network on frames of videos.

    An encoder learns to predict the classes of a video from each of `frames_per_video` frames; a recognizer from the
    pooled scores of `num_frames` frames.

    Args:
        encoder: with the weights to start from, as load_encoder gives it (not folded); it is not changed.
        frames: T of each of N videos.
        targets: bool or float [N, C], 1 for each of a video's classes.
        settings: their type decides between encoder and recognizer.
        preprocessor: of the network.
        multi_label: sigmoid and binary cross-entropy instead of softmax and cross-entropy.
        validation: frames and targets of the same classes to evaluate on after each epoch; None skips this.
        folder: for checkpoint and logs; None writes and resumes nothing.
        device: to train on.
        workers: processes that prepare images.
        progress: called with epoch and loss after every step.

    Returns:
        A network of C classes in evaluation mode, on `device`.

    Raises:
        TsqError: a loss that is not finite.
        UsageError: the folder holds a run of other settings, or more frozen stages than the network has.
        ValueError: targets that do not fit the frames.
    """
    recognizes = isinstance(settings, RecognizerSettings)
    num_frames = settings.num_frames if isinstance(settings, RecognizerSettings) else settings.frames_per_video
    network = with_classifier(encoder, targets.shape[1], seed=settings.fit.seed).to(device)
    task = FrameTask(
        network,
        training_images(frames, targets, settings, preprocessor, num_frames),
        settings,
        preprocessor=preprocessor,
        pooling=settings.pooling if isinstance(settings, RecognizerSettings) else None,
        multi_label=multi_label,
        validation=validation_images(validation, preprocessor, num_frames),
        workers=workers,
    )
    key, what = ("recognizer", "recognizer") if recognizes else ("encoder", "encoder")
    identity = {key: asdict(settings), "num_classes": targets.shape[1], "multi_label": multi_label}
    fit(task, settings.fit, folder, identity=identity, what=what, progress=progress)
    return network


def with_classifier(encoder: FrameEncoder, num_classes: int, *, seed: int) -> FrameEncoder:
    """Copy a network, with a new classifier of C classes whose weights are drawn from the seed."""
    model: Any = copy.deepcopy(encoder.model)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        model.reset_classifier(num_classes)
    return FrameEncoder(model, pretrained_cfg=encoder.pretrained_cfg).eval()


def training_images(
    frames: FrameSource,
    targets: Tensor,
    settings: EncoderSettings | RecognizerSettings,
    preprocessor: Preprocessor,
    frames_per_video: int,
) -> FrameImages:
    """Build training images: frames drawn and augmented according to the settings."""
    return FrameImages(
        frames,
        targets.float(),
        frames_per_video=frames_per_video,
        preprocessor=preprocessor,
        augmentation=settings.augmentation,
        seed=settings.fit.seed,
    )


def validation_images(
    validation: tuple[FrameSource, Tensor] | None, preprocessor: Preprocessor, frames_per_video: int
) -> FrameImages | None:
    """Build validation images: frames without augmentation, from the middle of each segment of a video."""
    if validation is None:
        return None
    frames, targets = validation
    return FrameImages(
        frames,
        targets.float(),
        frames_per_video=frames_per_video,
        preprocessor=preprocessor,
        augmentation=None,
    )


def freeze(network: FrameEncoder, num_stages: int) -> list[nn.Module]:
    """Freeze the first stages of a network, as timm groups them.

    Args:
        network: whose parameters are frozen in place.
        num_stages: counted from the pixels, 0 or more.

    Returns:
        The frozen layers, which must stay in evaluation mode.

    Raises:
        UsageError: as many stages as there are, or more.
    """
    if num_stages == 0:
        return []
    stages = group_modules(network.model, network.model.group_matcher(coarse=True))
    last = max(stages)  # the classifier
    if num_stages > last - 1:
        raise UsageError(
            f"frozen_stages is {num_stages}",
            wanted=f"0 to {last - 1}: {type(network.model).__name__} has {last} stages before its classifier",
            fix="use the method probe to train a linear layer alone",
        )
    frozen = [network.model.get_submodule(name) for number in range(num_stages) for name in stages.get(number, [])]
    for module in frozen:
        module.requires_grad_(requires_grad=False)
    return frozen


class FrameTask(TrainingTask):
    """An image network on frames of videos.

    Args:
        network: of C classes, on its device.
        images: to learn from.
        settings: learning rates, label smoothing, batch size and seed.
        preprocessor: of the network.
        pooling: of the scores of a video's k frames, for a loss of the video (as in TSN); None is a loss of each frame.
        multi_label: see fine_tune.
        validation: to evaluate on, by a video's pooled scores, the mean of logits without a pooling; None skips this.
        workers: processes that prepare images.
    """

    def __init__(
        self,
        network: FrameEncoder,
        images: FrameImages,
        settings: FineTuneSettings,
        *,
        preprocessor: Preprocessor,
        pooling: Pooling | None,
        multi_label: bool,
        validation: FrameImages | None,
        workers: int,
    ) -> None:
        # Convolutions are faster in channels-last layout, on a GPU and on a CPU; a checkpoint has the usual layout.
        self.model = self.network = network.to(memory_format=torch.channels_last)
        self._frozen = freeze(network, settings.frozen_stages)
        self._images, self._settings, self._preprocessor = images, settings, preprocessor
        self._pooling, self._multi_label = pooling, multi_label
        self._validation, self._workers = validation, workers
        self._device = network.classifier_weight.device
        new = {id(parameter) for parameter in network.model.get_classifier().parameters()}
        self._new = {name for name, parameter in network.named_parameters() if id(parameter) in new}
        self.batches_per_epoch = distributed.batches_per_epoch(len(images), settings.fit.batch_size)

    def batches(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield images uint8 [B, k, 3, S, S] and targets [B, C]."""
        fitting = self._settings.fit
        videos = distributed.shuffled_batches(len(self._images), fitting.batch_size, seed=fitting.seed, epoch=epoch)
        return image_batches(self._images, videos, epoch=epoch, workers=self._workers)

    def losses(self, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        """Compute the classification loss with smoothed targets, of images [B, k, 3, S, S] and targets [B, C]."""
        images, targets = batch
        for module in self._frozen:
            module.eval()  # the loop sets the whole network to training mode, where batch norms would be updated
        logits = self.frame_logits(images)
        wanted = smoothed(targets.to(self._device), self._settings.label_smoothing)
        if self._pooling is not None:
            logits = pool(logits, self._pooling, multi_label=self._multi_label)
        else:
            logits, wanted = logits.flatten(end_dim=1), wanted.repeat_interleave(logits.shape[1], dim=0)
        return {"loss": classification_loss(logits, wanted, multi_label=self._multi_label)}

    def frame_logits(self, images: Tensor) -> Tensor:
        """Compute float32 logits [B, k, C] of images uint8 [B, k, 3, S, S]."""
        inputs = normalized(images, self._preprocessor, self._device).to(memory_format=torch.channels_last)
        parts = (inputs,) if self.network.training else cpu_microbatches(inputs)
        logits = torch.cat([self.network(part).logits for part in parts])
        return logits.float().reshape(*images.shape[:2], -1)

    def validate(self) -> dict[str, float]:
        """Compute the measures of videos' pooled scores; nothing without validation."""
        if self._validation is None:
            return {}
        videos = iter(torch.split(torch.arange(len(self._validation)), self._settings.fit.batch_size))
        batches = image_batches(self._validation, videos, workers=self._workers)
        logits, targets = zip(*((self.frame_logits(images), truth) for images, truth in batches), strict=True)
        scores = pool(torch.cat(logits), self._pooling or "logits", multi_label=self._multi_label)
        return measures(scores, torch.cat(targets), multi_label=self._multi_label)

    def lr_scale(self, name: str) -> float:
        """Return 1 for the new classifier, else the backbone's share of the learning rate."""
        return 1.0 if name in self._new else self._settings.backbone_lr_scale


def measures(logits: Tensor, targets: Tensor, *, multi_label: bool) -> dict[str, float]:
    """Compute mAP and top-1 accuracy, 0 to 1, and the loss of videos' pooled logits [N, C] against targets [N, C]."""
    scores = probabilities(logits, multi_label=multi_label).double().cpu().numpy()
    truth = targets.bool().cpu().numpy()
    loss = classification_loss(logits.float().cpu(), targets.float().cpu(), multi_label=multi_label)
    return {"map": mean_average_precision(scores, truth), "top1": top_k_accuracy(scores, truth, 1), "loss": float(loss)}


def smoothed(targets: Tensor, share: float) -> Tensor:
    """Smooth targets [B, C]: distribute a share of them evenly over all classes."""
    return targets * (1.0 - share) + share / targets.shape[1]
