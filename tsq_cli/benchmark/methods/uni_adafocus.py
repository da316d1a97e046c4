"""Uni-AdaFocus, which glances at some frames to choose when, where and how closely to look.

Source: Wang, Zhang, Yue, Song, Deng, Feng, Huang: "Uni-AdaFocus: Spatial-temporal Dynamic Computation for Video
Recognition", TPAMI 2024, arXiv 2412.11228.

    glance    MobileNetV2(every third frame) -> map [1280, 7, 7], pooled [1280]
    where     Conv3d over the maps, sigmoid -> (y, x, height, width) in 0..1 of each glance, linear between them
    when      Conv1d over the pooled, softmax -> frames at even quantiles of the accumulated weights
    focus     ResNet-50(patch of that frame, resampled to P x P) -> [2048]
    answer    Linear[max over glances of MLP(pooled), max over patches of MLP(focus)]
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import affine_grid, grid_sample, interpolate
from torch.nn.utils.fusion import fuse_conv_bn_eval

from tsq_cli.benchmark.methods.adafocus import FRAME_SIDE, GRID, Glance
from tsq_cli.benchmark.methods.frameexit import LinearBlock
from tsq_cli.models import create_encoder
from tsq_cli.models.fold import fold_batch_norm
from tsq_cli.models.microbatches import cpu_microbatches

FRAMES_PER_GLANCE = 3
SMALLEST_SIDE = 96
"""Pixels of a frame that a patch's side spans at least; at most all."""
SPATIAL_DIM, TEMPORAL_DIM, STATE_DIM = 128, 64, 4096

Split = Callable[[Tensor], Sequence[Tensor]]


class Looks(NamedTuple):
    """Frames and patches that Uni-AdaFocus chooses for its second, high-resolution pass over B videos of 3 N frames.

    Attributes:
        pooled: [B, N, 1280].
        places: [B, 3 N, 4], y, x, height and width of each frame's patch, from 0 to 1; see `cut_patches`.
        frames: int64 [B, N], the frames to look at closely, in time order.
    """

    pooled: Tensor
    places: Tensor
    frames: Tensor


class UniAdaFocus(nn.Module):
    """Uni-AdaFocus with random weights, in evaluation mode, float32, on the CPU.

    There are two forms of it, with the same weights and answers. `forward_as_published` shows each network all of a
    batch at once, as its authors' code does. `forward` shows them a few frames at a time on a CPU, as TSQNet's
    networks are; on a GPU both are one. Neither reads anything on the host. Tuning is `forward` with
    fold_batch_norms(), channels-last weights, half precision, and one CUDA graph of it all. Its authors' exit after
    fewer frames, for sure videos, is not built.

    Args:
        num_classes: C.
        patch_side: P, in pixels; the paper has 96 and 128.
        glance: a timm network whose feature map is a 32nd of the frame's side; the paper's is MobileNetV2.
        focus: a timm network; the paper's is ResNet-50.

    Raises:
        UsageError: timm has no such network, or the glance network's map has another size.
    """

    def __init__(
        self,
        num_classes: int = 200,
        *,
        patch_side: int = 128,
        glance: str = "mobilenetv2_100",
        focus: str = "resnet50",
    ) -> None:
        super().__init__()
        focus_encoder = create_encoder(focus, num_classes=0)
        self.patch_side = patch_side
        self.glance = Glance(glance)
        self.focus = focus_encoder.model
        self.spatial = nn.Sequential(
            _ConvBlock(nn.Conv3d(self.glance.map_dim, SPATIAL_DIM, 1, bias=False), nn.BatchNorm3d(SPATIAL_DIM)),
            *(
                _ConvBlock(nn.Conv3d(SPATIAL_DIM, SPATIAL_DIM, 3, padding=1, bias=False), nn.BatchNorm3d(SPATIAL_DIM))
                for _ in range(2)
            ),
            nn.Conv3d(SPATIAL_DIM, 4, (1, GRID, GRID), bias=False),
        )
        self.temporal = nn.Sequential(
            *(
                _ConvBlock(nn.Conv1d(width, TEMPORAL_DIM, 3, padding=1, bias=False), nn.BatchNorm1d(TEMPORAL_DIM))
                for width in (self.glance.pooled_dim, TEMPORAL_DIM)
            ),
            nn.Conv1d(TEMPORAL_DIM, 1, 1, bias=False),
        )
        self.embed_glance = LinearBlock(self.glance.pooled_dim, STATE_DIM)
        self.embed_focus = LinearBlock(focus_encoder.feature_dim, STATE_DIM)
        self.classifier = nn.Linear(2 * STATE_DIM, num_classes)
        self.eval()

    def forward(self, frames: Tensor, *, split: Split = cpu_microbatches) -> Tensor:
        """Classify B videos.

        Args:
            frames: float [B, 3 N, 3, 224, 224] in time order, N = 16 in the paper, normalized for the networks.
            split: how many images a network sees at a time.

        Returns:
            [B, C], one score per class.

        Raises:
            ValueError: frames of another shape.
        """
        if frames.ndim != 5 or frames.shape[2:] != (3, FRAME_SIDE, FRAME_SIDE) or frames.shape[1] % FRAMES_PER_GLANCE:
            raise ValueError(f"frames must be [B, 3 N, 3, {FRAME_SIDE}, {FRAME_SIDE}], got {list(frames.shape)}")
        looks = self.look(glances(frames), split=split)
        return self.answer(looks, picked(frames, looks.frames), split=split)

    def forward_as_published(self, frames: Tensor) -> Tensor:
        """The same answer, all images of a batch at once; see `forward`."""
        return self.forward(frames, split=lambda images: (images,))

    def look(self, images: Tensor, *, split: Split = cpu_microbatches) -> Looks:
        """Glance at every third frame, [B, N, 3, 224, 224]."""
        seen = [self.glance(part) for part in split(images.flatten(0, 1))]
        maps, pooled = (_by_video(torch.cat(parts), images) for parts in zip(*seen, strict=True))
        places = self.spatial(maps.transpose(1, 2)).flatten(2).float().sigmoid()  # [B, 4, N]
        weights = self.temporal(pooled.transpose(1, 2)).flatten(1).float().softmax(dim=1)
        return Looks(
            pooled=pooled,
            places=interpolate(places, scale_factor=FRAMES_PER_GLANCE, mode="linear").transpose(1, 2),
            frames=quantile_frames(weights),
        )

    def answer(self, looks: Looks, images: Tensor, *, split: Split = cpu_microbatches) -> Tensor:
        """Look closely at the chosen frames, [B, N, 3, 224, 224]; class scores [B, C]."""
        places = picked(looks.places, looks.frames).flatten(0, 1)
        patches = cut_patches(images.flatten(0, 1), places, self.patch_side)
        local = _by_video(torch.cat([self.focus(part) for part in split(patches)]), images)
        # Of the running maxima only the last one makes the answer.
        states = [
            _by_video(block(features.flatten(0, 1)), images).amax(dim=1)
            for block, features in ((self.embed_glance, looks.pooled), (self.embed_focus, local))
        ]
        logits: Tensor = self.classifier(torch.cat(states, dim=1))
        return logits

    def fold_batch_norms(self) -> int:
        """Fold every batch norm into the convolution or linear layer before it, in place; returns how many."""
        blocks = [module for module in self.modules() if isinstance(module, LinearBlock | _ConvBlock)]
        networks = (self.glance.network, self.focus)
        return sum(map(fold_batch_norm, networks)) + sum(block.fold() for block in blocks)


def glances(frames: Tensor) -> Tensor:
    """Every third of 3 N frames [B, 3 N, ...] from the second on: [B, N, ...]."""
    return frames[:, 1::FRAMES_PER_GLANCE]


def picked(values: Tensor, frames: Tensor) -> Tensor:
    """Take of values [B, T, ...] those of some frames, int64 [B, N]: [B, N, ...], gathered on the device."""
    return values[torch.arange(len(values), device=values.device)[:, None], frames]


def quantile_frames(weights: Tensor) -> Tensor:
    """Choose N of 3 N frames by inverse transform: at the quantiles (i + 0.5) / N of the accumulated weights.

    Args:
        weights: [B, N], each row sums to 1; a weight is spread evenly over the three frames of its glance.

    Returns:
        int64 [B, N], strictly increasing: of frames chosen twice the later ones move on, and back where the video ends.
    """
    num_videos, count = weights.shape
    num_frames = FRAMES_PER_GLANCE * count
    steps = torch.arange(count, device=weights.device)
    reached = nn.functional.pad(weights.cumsum(dim=1), (1, 0))
    reached[:, -1] = 1  # it is, but for rounding
    quantiles = ((steps + 0.5) / count).expand(num_videos, -1).contiguous()
    before = (torch.searchsorted(reached, quantiles) - 1).clamp(0, count - 1)
    low, high = reached.gather(1, before), reached.gather(1, before + 1)
    frames = ((before + (quantiles - low) / (high - low)) * FRAMES_PER_GLANCE).floor().long()
    increasing = (frames - steps).cummax(dim=1).values + steps
    return torch.minimum(increasing, num_frames - count + steps)


def cut_patches(frames: Tensor, places: Tensor, side: int) -> Tensor:
    """Cut a patch from each frame and resample it bilinearly.

    Args:
        frames: [N, 3, 224, 224].
        places: [N, 4], (y, x, height, width) from 0 to 1: the patch spans 96 + 128 height by 96 + 128 width pixels, and
            its corner lies y and x of the way that it can move.
        side: P, of the patches returned.

    Returns:
        [N, 3, P, P], of the frames' dtype.
    """
    places = places.float()
    spans = (SMALLEST_SIDE + places[:, 2:] * (FRAME_SIDE - SMALLEST_SIDE)) / FRAME_SIDE  # parts of the frame's side
    centers = 2 * places[:, :2] * (1 - spans) + spans - 1  # from -1 to 1
    scale = spans.flip(1).diag_embed()  # torch has x before y
    grid = affine_grid(
        torch.cat((scale, centers.flip(1)[:, :, None]), dim=2), [len(frames), 3, side, side], align_corners=False
    )
    # In half precision a place would be off by a pixel.
    return grid_sample(frames.float(), grid, align_corners=False).to(frames.dtype)


def _by_video(values: Tensor, images: Tensor) -> Tensor:
    """Split [B * N, ...] as images [B, N, ...] are."""
    return values.reshape(*images.shape[:2], *values.shape[1:])


class _ConvBlock(nn.Module):
    """ReLU(BN(convolution(x)))."""

    def __init__(self, conv: nn.Conv1d | nn.Conv3d, norm: nn.BatchNorm1d | nn.BatchNorm3d) -> None:
        super().__init__()
        self.conv = conv
        self.norm: nn.BatchNorm1d | nn.BatchNorm3d | nn.Identity = norm

    def forward(self, x: Tensor) -> Tensor:
        normed: Tensor = self.norm(self.conv(x))
        return normed.relu()

    def fold(self) -> int:
        """Fold the batch norm into the convolution, in place; returns how many there were to fold."""
        if isinstance(self.norm, nn.Identity):
            return 0
        self.conv, self.norm = fuse_conv_bn_eval(self.conv, self.norm), nn.Identity()
        return 1
