"""FrameExit, AdaFocus and Uni-AdaFocus as their papers' descriptions read, in torch's and torchvision's own parts.

Nothing of tsq_cli: the yardstick that `tsq benchmark`'s forms as published are held against. Frames are prepared as a
loader of pictures does it (crop, scale, normalize), and every tensor lies in memory as torch lays it out. Random
weights, one video, float32.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.mobilenetv2 import mobilenet_v2
from torchvision.models.resnet import resnet50
from torchvision.transforms.v2 import functional as untyped

FRAME_SIDE, GRID = 224, 7
VISITS = (5, 0, 9, 2, 7, 4, 6, 3, 8, 1)
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def prepared(frames: Tensor) -> Tensor:
    """Frames uint8 [N, H, W, 3], the shorter side 256 pixels, as a network takes them, float [N, 3, 224, 224]."""
    transforms: Any = untyped  # torchvision re-exports these functions without saying so
    images = transforms.center_crop(frames.permute(0, 3, 1, 2).contiguous(), [FRAME_SIDE, FRAME_SIDE])
    normalized: Tensor = transforms.normalize(transforms.to_dtype(images, torch.float32, scale=True), MEAN, STD)
    return normalized


def block(width: int, out: int) -> nn.Sequential:
    """ReLU(BN(Linear))."""
    return nn.Sequential(nn.Linear(width, out), nn.BatchNorm1d(out), nn.ReLU())


def features_of(network: nn.Module, name: str) -> nn.Module:
    """A network of torchvision without its classifier."""
    setattr(network, name, nn.Identity())
    return network


class PlainFrameExit(nn.Module):
    """FrameExit on one video of ten frames or more, left after a number of frames."""

    def __init__(self, num_classes: int, exit_after: int) -> None:
        super().__init__()
        self.exit_after = exit_after
        self.backbone = features_of(resnet50(), "fc")
        self.embed = block(2048, 4096)
        self.shared = nn.ModuleList(nn.Sequential(block(4096, 128), block(128, 64)) for _ in VISITS[1:-1])
        self.decide = nn.ModuleList(nn.Linear(128, 1) for _ in VISITS[1:-1])
        self.classifiers = nn.ModuleList(nn.Linear(4096, num_classes) for _ in VISITS)
        self.eval()

    def forward(self, video: Tensor) -> Tensor:
        """Class [1] of a video, uint8 [1, T, H, W, 3]."""
        state = torch.zeros(1, 4096)
        for step, time in enumerate(VISITS[: self.exit_after]):
            before = state
            state = torch.maximum(self.embed(self.backbone(prepared(video[:, time]))), before)
            if step == 0:
                bool(self.classifiers[0](state).softmax(dim=1).max() > 0.99)
            elif step < len(VISITS) - 1:
                shared = self.shared[step - 1]
                bool(self.decide[step - 1](torch.cat((shared(state), shared(before)), dim=1)).sigmoid() < 0.5)
        scores: Tensor = self.classifiers[step](state)
        return scores.argmax(dim=1)


class PlainAdaFocus(nn.Module):
    """AdaFocus on one video of T frames."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.glance = mobilenet_v2().features
        self.focus = features_of(resnet50(), "fc")
        self.look = nn.Sequential(
            nn.Conv2d(1280, 32, 1), nn.ReLU(), nn.Flatten(), nn.Linear(32 * GRID**2, 1024), nn.ReLU()
        )
        self.policy = nn.GRU(1024, 1024, batch_first=True)
        self.choose = nn.Linear(1024, GRID**2)
        self.video = nn.GRU(1280 + 2048, 1024, batch_first=True)
        self.classifier = nn.Linear(1024, num_classes)
        self.eval()

    def forward(self, video: Tensor) -> Tensor:
        """Class [1] of a video, uint8 [1, T, H, W, 3]."""
        images = prepared(video[0])
        maps = self.glance(images)
        hidden = None
        local = []
        for image, seen in zip(images, maps, strict=True):
            states, hidden = self.policy(self.look(seen[None])[:, None], hidden)
            row, column = divmod(int(self.choose(states[:, 0]).softmax(dim=1).argmax()), GRID)
            crop = image[None, :, 16 * row : 16 * row + 128, 16 * column : 16 * column + 128]
            local.append(self.focus(crop))
        joined = torch.cat((maps.mean(dim=(2, 3)), torch.cat(local)), dim=1)
        scores: Tensor = self.classifier(self.video(joined[None])[0][:, -1])
        return scores.argmax(dim=1)


class PlainUniAdaFocus(nn.Module):
    """Uni-AdaFocus on one video of 3 T frames, with patches of P x P."""

    def __init__(self, num_classes: int, side: int) -> None:
        super().__init__()
        self.side = side
        self.glance = mobilenet_v2().features
        self.focus = features_of(resnet50(), "fc")
        widths = ((1280, 1, 0), (128, 3, 1), (128, 3, 1))
        self.where = nn.Sequential(
            *(
                nn.Sequential(
                    nn.Conv3d(width, 128, kernel, padding=padding, bias=False), nn.BatchNorm3d(128), nn.ReLU()
                )
                for width, kernel, padding in widths
            ),
            nn.Conv3d(128, 4, (1, GRID, GRID), bias=False),
        )
        self.when = nn.Sequential(
            *(
                nn.Sequential(nn.Conv1d(width, 64, 3, padding=1, bias=False), nn.BatchNorm1d(64), nn.ReLU())
                for width in (1280, 64)
            ),
            nn.Conv1d(64, 1, 1, bias=False),
        )
        self.embed_glance, self.embed_focus = block(1280, 4096), block(2048, 4096)
        self.classifier = nn.Linear(2 * 4096, num_classes)
        self.eval()

    def forward(self, video: Tensor) -> Tensor:
        """Class [1] of a video, uint8 [1, 3 T, H, W, 3]."""
        images = prepared(video[0])
        maps = self.glance(images[1::3])
        pooled = maps.mean(dim=(2, 3))
        count = len(pooled)
        places = self.where(maps.transpose(0, 1)[None]).sigmoid().flatten(2)  # [1, 4, T]
        places = functional.interpolate(places, scale_factor=3, mode="linear")[0].T
        weights = self.when(pooled.T[None])[0, 0].softmax(dim=0).repeat_interleave(3) / 3
        quantiles = (torch.arange(count) + 0.5) / count
        times = torch.searchsorted(weights.cumsum(dim=0), quantiles).clamp(max=len(images) - 1)
        patches = torch.cat([self._patch(images[time], places[time]) for time in times.tolist()])
        states = (self.embed_glance(pooled).amax(dim=0), self.embed_focus(self.focus(patches)).amax(dim=0))
        scores: Tensor = self.classifier(torch.cat(states)[None])
        return scores.argmax(dim=1)

    def _patch(self, image: Tensor, place: Tensor) -> Tensor:
        y, x, high, wide = place.tolist()
        height, width = (96 + int(part * (FRAME_SIDE - 96)) for part in (high, wide))
        top, left = int(y * (FRAME_SIDE - height)), int(x * (FRAME_SIDE - width))
        cut = image[None, :, top : top + height, left : left + width]
        return functional.interpolate(cut, (self.side, self.side), mode="bilinear")
