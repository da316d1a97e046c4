"""Training images: frames drawn from their videos, randomly cropped, mirrored and recolored."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
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
    """T frames of each of N videos, such as tsq_cli.features.cache.FrameStore or MemoryFrames."""

    @property
    def num_frames(self) -> int:
        """T."""

    def __len__(self) -> int:
        """N."""

    def __getitem__(self, place: tuple[int, int]) -> Tensor:
        """Read frame `position` of video `video`, uint8 RGB [H, W, 3]; sizes may differ."""


class MemoryFrames:
    """Videos with all frames in memory; a photograph is a video of one frame, `picture[None]`.

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
        """Return frame `position` of video `video`, uint8 [H, W, 3]."""
        video, position = place
        return self._videos[video][position]


class FrameImages(Dataset[tuple[Tensor, Tensor]]):
    """Images of k of the T frames of each video, one from each of k equal segments of time (as in TSN).

    The index of an item is (epoch, video), and an item is the same in every process: images uint8 [k, 3, S, S], not yet
    normalized (see `normalized`), and the video's row of targets [C].

    Args:
        frames: of N videos.
        targets: float [N, C].
        frames_per_video: k, at least 1; T if there are fewer frames.
        preprocessor: of the network; gives S, the interpolation, and the crop without augmentation.
        augmentation: of the frames; None takes the middle frame of each segment, resized and center-cropped as the
            preprocessor does, in every epoch.
        seed: of all random draws.

    Raises:
        ValueError: the numbers of targets and of videos differ.
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
        self._segments = segments(frames.num_frames, frames_per_video)
        self._is_drawn = augmentation is not None
        self._transform = _transform(preprocessor, augmentation)

    def __len__(self) -> int:
        """N."""
        return len(self._frames)

    def __getitem__(self, item: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Make images uint8 [k, 3, S, S] and targets [C] of (epoch, video)."""
        epoch, video = item
        begin, length = self._segments
        # torchvision draws from the CPU's global generator: seeded for the item, and restored afterwards.
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(
                distributed.epoch_seed(distributed.epoch_seed(self._seed, epoch), video)
            )
            share = torch.rand(len(begin)) if self._is_drawn else torch.full((len(begin),), 0.5)
            positions = begin + (share * length).long()
            images = [self._transform(self._frames[video, int(p)].permute(2, 0, 1)) for p in positions]
        return torch.stack(images), self._targets[video]


def segments(num_frames: int, parts: int) -> tuple[Tensor, Tensor]:
    """Cut T frames into k segments whose lengths differ by at most one frame; into T segments if k is larger.

    Returns:
        First frame and length (at least 1) of each segment, both int64 [min(k, T)].
    """
    edges = torch.arange(min(parts, num_frames) + 1) * num_frames // min(parts, num_frames)
    return edges[:-1], edges.diff()


def image_batches(
    images: FrameImages, videos: Iterator[Tensor], *, epoch: int = 0, workers: int = 0
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield batches of images.

    Args:
        images: to take them from.
        videos: the videos of each batch, int64 [B] (see distributed.shuffled_batches).
        epoch: counted from 0; random draws depend on it.
        workers: processes that prepare images ahead of the network; 0 uses this process. No image depends on it.

    Yields:
        uint8 [B, k, 3, S, S] and targets [B, C], on the CPU.
    """
    chosen = [[(epoch, int(video)) for video in batch] for batch in videos]
    # The loader draws an unused seed for its workers: from a generator of its own, not from the global one.
    yield from DataLoader(images, batch_sampler=chosen, num_workers=workers, generator=torch.Generator())


def normalized(images: Tensor, preprocessor: Preprocessor, device: torch.device | str) -> Tensor:
    """Normalize images uint8 [..., 3, S, S] to the network's input, float32 [M, 3, S, S] on its device."""
    exact = replace(preprocessor, crop_pct=1.0)  # the images already have the input's size: no resize, no crop
    prepared: Tensor = exact(images.flatten(end_dim=-4), device)
    return prepared


def _transform(preprocessor: Preprocessor, augmentation: Augmentation | None) -> Any:
    """Build the transform from uint8 [3, H, W] to uint8 [3, S, S]."""
    if augmentation is None:
        return partial(_as_prepared, preprocessor)
    size, interpolation = preprocessor.input_size, InterpolationMode(preprocessor.interpolation)
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


def _as_prepared(preprocessor: Preprocessor, picture: Tensor) -> Tensor:
    """Resize and crop uint8 [3, H, W] as in selection."""
    frames = picture.permute(1, 2, 0)[None].numpy()
    return torch.from_numpy(preprocessor.resize_and_crop(frames)[0]).permute(2, 0, 1)
