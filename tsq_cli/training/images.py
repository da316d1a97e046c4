"""Frames as what a network learns from: drawn from their videos, cut, mirrored and colored at random."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2
from torchvision.transforms.functional import InterpolationMode

from tsq_cli.models.preprocess import Preprocessor
from tsq_cli.training import distributed
from tsq_cli.training.settings import Augmentation

# torchvision re-exports these classes without saying so, which a strict type checker refuses.
transforms: Any = v2


class FrameSource(Protocol):
    """T frames of each of N videos: tsq_cli.features.cache.FrameStore, or MemoryFrames."""

    @property
    def num_frames(self) -> int:
        """T."""

    def __len__(self) -> int:
        """N."""

    def __getitem__(self, place: tuple[int, int]) -> Tensor:
        """Frame `position` of video `video`, uint8 RGB [H, W, 3]; sizes may differ."""


class MemoryFrames:
    """Videos whose frames are in memory; photographs are videos of one frame, `picture[None]`.

    Args:
        videos: N, at least 1, each uint8 RGB [T, H, W, 3]; H and W may differ between them.

    Raises:
        ValueError: videos of another type or shape, or of different T.
    """

    def __init__(self, videos: Sequence[Tensor]) -> None:
        shapes = {(video.dtype, video.ndim, video.shape[0], video.shape[-1]) for video in videos}
        if not videos or shapes != {(torch.uint8, 4, len(videos[0]), 3)}:
            raise ValueError(f"need uint8 [T, H, W, 3] of one T, got (dtype, ndim, T, channels) {list(shapes)}")
        self._videos = videos
        self.num_frames = len(videos[0])

    def __len__(self) -> int:
        """N."""
        return len(self._videos)

    def __getitem__(self, place: tuple[int, int]) -> Tensor:
        """Frame `position` of video `video`, uint8 [H, W, 3]."""
        video, position = place
        return self._videos[video][position]


class FrameImages(Dataset[tuple[Tensor, Tensor]]):
    """Of each video k of its T frames, one out of each of k equal stretches of time (as in TSN), made into images.

    An item is asked for as (epoch, video), and is the same whenever asked, in whichever process: uint8 [k, 3, S, S],
    to be normalized by `normalized`, and the video's row of targets [C].

    Args:
        frames: of N videos.
        targets: float [N, C].
        frames_per_video: k, at least 1; all T where there are no more.
        preprocessor: of the network; gives S, the interpolation, and the crop where nothing is drawn.
        augmentation: what happens to a frame; None takes the middle of each stretch, resized and cut from the center as
            the preprocessor does, whatever the epoch.
        seed: of all that is drawn.

    Raises:
        ValueError: another number of targets than of videos.
    """

    def __init__(
        self,
        frames: FrameSource,
        targets: Tensor,
        *,
        frames_per_video: int,
        preprocessor: Preprocessor,
        augmentation: Augmentation | None,
        seed: int = 0,
    ) -> None:
        if len(targets) != len(frames):
            raise ValueError(f"{len(frames)} videos need as many targets, got {list(targets.shape)}")
        self._frames, self._targets, self._seed = frames, targets, seed
        self._stretches = stretches(frames.num_frames, frames_per_video)
        self._is_drawn = augmentation is not None
        self._transform = _transform(preprocessor, augmentation)

    def __len__(self) -> int:
        """N."""
        return len(self._frames)

    def __getitem__(self, item: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Images uint8 [k, 3, S, S] and targets [C] of (epoch, video)."""
        epoch, video = item
        begin, length = self._stretches
        # torchvision draws from the global generator of the CPU, so that one is lent to the item and given back.
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(
                distributed.epoch_seed(distributed.epoch_seed(self._seed, epoch), video)
            )
            share = torch.rand(len(begin)) if self._is_drawn else torch.full((len(begin),), 0.5)
            positions = begin + (share * length).long()
            images = [self._transform(self._frames[video, int(p)].permute(2, 0, 1)) for p in positions]
        return torch.stack(images), self._targets[video]


def stretches(num_frames: int, parts: int) -> tuple[Tensor, Tensor]:
    """Cut T frames into k stretches of equal length, give or take one frame; into T where k is more.

    Returns:
        int64 [k]: where each begins, and how many frames it has, at least 1.
    """
    edges = torch.arange(min(parts, num_frames) + 1) * num_frames // min(parts, num_frames)
    return edges[:-1], edges.diff()


def image_batches(
    images: FrameImages, videos: Iterator[Tensor], *, epoch: int = 0, workers: int = 0
) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of images.

    Args:
        images: of which.
        videos: the videos of each batch, int64 [B] (see distributed.shuffled_batches).
        epoch: counted from 0; what is drawn depends on it.
        workers: processes that read and cut frames ahead of the network; 0 does it here. No image depends on it.

    Yields:
        uint8 [B, k, 3, S, S] and targets [B, C], on the CPU.
    """
    chosen = [[(epoch, int(video)) for video in batch] for batch in videos]
    # The loader draws a number for its workers, which nothing depends on: not from the global generator.
    yield from DataLoader(images, batch_sampler=chosen, num_workers=workers, generator=torch.Generator())


def normalized(images: Tensor, preprocessor: Preprocessor, device: torch.device | str) -> Tensor:
    """Images of FrameImages as the network's input on its device, float32 [..., 3, S, S] as [M, 3, S, S]."""
    exact = replace(preprocessor, crop_pct=1.0)  # the images have the input's size already: nothing is resized or cut
    return exact(images.flatten(end_dim=-4), device)


def _transform(preprocessor: Preprocessor, augmentation: Augmentation | None) -> Any:
    """From uint8 [3, H, W] to uint8 [3, S, S]."""
    size, interpolation = preprocessor.input_size, InterpolationMode(preprocessor.interpolation)
    if augmentation is None:
        resize = transforms.Resize(preprocessor.resize_side, interpolation, antialias=True)
        return transforms.Compose([resize, transforms.CenterCrop(size)])
    jitter = augmentation.color_jitter
    return transforms.Compose(
        [
            transforms.RandomResizedCrop(
                size, (augmentation.min_area, 1.0), interpolation=interpolation, antialias=True
            ),
            transforms.RandomHorizontalFlip(0.5 if augmentation.flip else 0.0),
            transforms.ColorJitter(jitter, jitter, jitter),
        ]
    )
