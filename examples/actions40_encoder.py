"""Fine-tuning of the upper stages of EfficientNet-Lite, on maps of its lower stages that are computed once.

The lower stages, up to 1/16 of the resolution, keep their published weights. So each photograph passes them a few times
only, through random crops, and every epoch trains the upper stages on the stored maps. Maps and labels of two
photographs are mixed (mixup, Zhang et al., ICLR 2018, on hidden maps as in manifold mixup, Verma et al., ICML 2019):
the network is then less sure of the photographs it was trained on, and its doubts on others can be believed.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from actions40_frames import open_photo
from needle_videos import Photo
from torch import Tensor, nn
from torch.nn import functional
from torchvision.transforms import InterpolationMode, v2

from tsq_cli.files import atomic_path
from tsq_cli.models.fold import fold_batch_norm
from tsq_cli.types import Progress, no_progress

FROZEN_STAGES = 5  # of the seven between the stem and the head
PICTURES_AT_ONCE = 16
MIXUP = 0.3  # of the beta distribution
LABEL_SMOOTHING = 0.1
DROPOUT = 0.2
CLASSIFIER_RATE, STAGES_RATE, WEIGHT_DECAY, CLIP_NORM = 5e-3, 5e-4, 0.02, 1.0


@dataclass(frozen=True, kw_only=True)
class FineTuning:
    """How a network is fine-tuned.

    Attributes:
        input_size: S, side of the crops in pixels.
        views: random crops of each photograph whose maps are stored.
        epochs: passes over the photographs, a random one of their crops each time.
        batch_size: photographs per step.
        seed: of the classifier, the order and the mixing.
    """

    input_size: int
    views: int = 4
    epochs: int = 8
    batch_size: int = 64
    seed: int = 0


class LowerStages(nn.Module):
    """Stem and frozen stages of a timm EfficientNet, with batch norms folded: images [N, 3, S, S] to maps."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        model = copy.deepcopy(model).eval()
        fold_batch_norm(model)
        self.stem = nn.Sequential(model.conv_stem, model.bn1)
        self.blocks = model.blocks[:FROZEN_STAGES]

    def forward(self, images: Tensor) -> Tensor:
        """Compute maps [N, D, S/16, S/16]."""
        maps: Tensor = self.blocks(self.stem(images))
        return maps


class UpperStages(nn.Module):
    """The trained stages, head and classifier of a timm EfficientNet, which they share: maps to logits [N, C]."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.blocks = model.blocks[FROZEN_STAGES:]
        self.conv_head, self.bn2, self.pool, self.classifier = (
            model.conv_head, model.bn2, model.global_pool, model.classifier
        )  # fmt: skip

    def forward(self, maps: Tensor) -> Tensor:
        """Compute logits [N, C]; features are dropped at random while training."""
        features = self.pool(self.bn2(self.conv_head(self.blocks(maps))))
        logits: Tensor = self.classifier(functional.dropout(features, DROPOUT, self.training))
        return logits


@torch.inference_mode()
def lower_maps(model: Any, photos: Sequence[Photo], settings: FineTuning, path: Path) -> np.memmap[Any, Any]:
    """Compute the maps of random crops of photographs, float16 [views, N, D, S/16, S/16]; kept in a file.

    Args:
        model: a timm EfficientNet with its published weights, whose input is scaled to -1 to 1.
        photos: N.
        settings: size and number of the crops.
        path: of the .npy file; read if it is there.
    """
    if not path.exists():
        lower = LowerStages(model).to(memory_format=torch.channels_last)
        crop = v2.Compose(
            [
                v2.RandomHorizontalFlip(),
                v2.RandomResizedCrop(settings.input_size, (0.3, 1.0), interpolation=InterpolationMode.BICUBIC),
                v2.ColorJitter(0.2, 0.2, 0.2),
            ]
        )
        torch.manual_seed(0)
        with atomic_path(path) as temporary:
            stored = None
            for view in range(settings.views):
                for first in range(0, len(photos), PICTURES_AT_ONCE):
                    some = [_pixels(photo) for photo in photos[first : first + PICTURES_AT_ONCE]]
                    images = (torch.stack([crop(pixels) for pixels in some]).float() / 255 - 0.5) / 0.5
                    maps = lower(images.contiguous(memory_format=torch.channels_last)).half().numpy()
                    if stored is None:
                        shape = (settings.views, len(photos), *maps.shape[1:])
                        stored = np.lib.format.open_memmap(temporary, "w+", np.float16, shape)
                    stored[view, first : first + len(maps)] = maps
            if stored is not None:
                stored.flush()
    return np.load(path, mmap_mode="r")  # type: ignore[no-any-return]


def _pixels(photo: Photo) -> Tensor:
    return torch.from_numpy(np.asarray(open_photo(photo.path)).copy()).permute(2, 0, 1)


def fine_tune_upper(
    model: Any,
    maps: np.ndarray[Any, Any],
    classes: Tensor,
    settings: FineTuning,
    *,
    progress: Progress = no_progress,
) -> None:
    """Fine-tune the upper stages in place, as a classifier of C actions; the lower ones stay as they are.

    Args:
        model: a timm EfficientNet with its published weights; its classifier is replaced.
        maps: of lower_maps, [views, N, ...].
        classes: int64 [N].
        settings: of the training.
        progress: told every step.
    """
    num_classes = int(classes.max()) + 1
    model.reset_classifier(num_classes)
    torch.manual_seed(settings.seed)
    nn.init.zeros_(model.classifier.weight)
    nn.init.zeros_(model.classifier.bias)
    upper = UpperStages(model).to(memory_format=torch.channels_last).train()
    optimizer = _optimizer(upper)
    rates = [group["lr"] for group in optimizer.param_groups]
    targets = functional.one_hot(classes, num_classes) * (1 - LABEL_SMOOTHING) + LABEL_SMOOTHING / num_classes
    rng = np.random.default_rng(settings.seed)
    per_epoch = len(classes) // settings.batch_size
    step, steps = 0, per_epoch * settings.epochs
    for epoch in range(settings.epochs):
        order = rng.permutation(len(classes))[: per_epoch * settings.batch_size]
        for chosen in order.reshape(per_epoch, settings.batch_size):
            step += 1
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * min(1.0, step / per_epoch) * 0.5 * (1 + math.cos(math.pi * step / steps))
            places = np.sort(chosen)  # the maps are read from a file
            views = rng.integers(settings.views, size=len(places))
            some = torch.from_numpy(maps[views, places]).float().contiguous(memory_format=torch.channels_last)
            share, other = float(rng.beta(MIXUP, MIXUP)), torch.from_numpy(rng.permutation(len(places)))
            wanted = targets[places]
            logits = upper(share * some + (1 - share) * some[other])
            loss = functional.cross_entropy(logits, share * wanted + (1 - share) * wanted[other])
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(upper.parameters(), CLIP_NORM)
            optimizer.step()
            progress(f"epoch {epoch + 1} of {settings.epochs}, loss {loss.item():.3f}", step, steps)
    model.eval()


def _optimizer(upper: UpperStages) -> torch.optim.Optimizer:
    """AdamW: the new classifier learns ten times as fast as the stages, and norms and biases do not decay."""
    stages = [parameter for name, parameter in upper.named_parameters() if not name.startswith("classifier")]
    return torch.optim.AdamW(
        [
            {"params": list(upper.classifier.parameters()), "lr": CLASSIFIER_RATE, "weight_decay": WEIGHT_DECAY},
            {"params": [p for p in stages if p.ndim > 1], "lr": STAGES_RATE, "weight_decay": WEIGHT_DECAY},
            {"params": [p for p in stages if p.ndim <= 1], "lr": STAGES_RATE, "weight_decay": 0.0},
        ]
    )
