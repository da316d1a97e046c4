"""Training clips composed afresh in every batch, out of frames that were drawn and encoded once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from actions40_videos import draw_classes
from needle_videos import SHOTS, Photo, Shot, blank, draw, plain_look
from PIL import Image
from rich.progress import track
from safetensors.torch import load_file, save_file
from torch import Tensor

from tsq_cli.files import atomic_path
from tsq_cli.models import FrameEncoder
from tsq_cli.models.microbatches import cpu_microbatches
from tsq_cli.models.preprocess import Preprocessor
from tsq_cli.training.heads import ClipBatch
from tsq_cli.types import Int64Array

BLANKS = 512
PICTURES_AT_ONCE = 16


def open_photo(path: Path) -> Image.Image:
    """Open a photograph in RGB."""
    return Image.open(path).convert("RGB")


@dataclass(frozen=True)
class Frames:
    """Encoded frames of shots.

    Attributes:
        classes: int64 [M], what each shows; -1 where it shows nothing.
        photos: int64 [M], the photograph behind each, numbered from 0; -1 where there is none.
        outputs: by network its features, float16 [M, D].
    """

    classes: Tensor
    photos: Tensor
    outputs: dict[str, Tensor]

    def save(self, path: Path) -> None:
        """Write a safetensors file."""
        with atomic_path(path) as temporary:
            save_file({"classes": self.classes, "photos": self.photos, **self.outputs}, temporary)

    def joined(self, other: Frames) -> Frames:
        """Concatenate with frames of other photographs."""
        shift = int(self.photos.max()) + 1
        photos = torch.where(other.photos >= 0, other.photos + shift, other.photos)
        outputs = {name: torch.cat([mine, other.outputs[name]]) for name, mine in self.outputs.items()}
        return Frames(torch.cat([self.classes, other.classes]), torch.cat([self.photos, photos]), outputs)

    @classmethod
    def load(cls, path: Path) -> Frames:
        """Read a file that `save` wrote."""
        tensors = load_file(path)
        own = [tensors.pop(field.name) for field in fields(cls)[:2]]
        return cls(own[0], own[1], tensors)


def see_photos(
    photos: Sequence[Sequence[Photo]],
    networks: dict[str, tuple[FrameEncoder, Preprocessor]],
    *,
    views: int,
    seed: int = 0,
) -> Frames:
    """Draw every photograph through several windows, and some shots without a photograph; encode all of them.

    Args:
        photos: by class.
        networks: encoders with how they are fed, by name.
        views: windows of each photograph.
        seed: of the windows.
    """
    rng = np.random.default_rng([seed, 1])
    numbered = [photo for of_class in photos for photo in of_class]
    shots = [(p, Shot("event", photo, plain_look(rng))) for p, photo in enumerate(numbered) for _ in range(views)]
    shots += [(-1, blank(rng, numbered)) for _ in range(BLANKS)]
    outputs: dict[str, list[Tensor]] = {name: [] for name in networks}
    with torch.inference_mode():
        for first in track(range(0, len(shots), PICTURES_AT_ONCE), "encode frames", transient=True):
            some = [np.asarray(draw(shot, 0.5, open_photo)) for _, shot in shots[first : first + PICTURES_AT_ONCE]]
            pixels = torch.from_numpy(np.stack(some))
            for name, (encoder, preprocessor) in networks.items():
                parts = cpu_microbatches(preprocessor(pixels))
                outputs[name].append(torch.cat([encoder(part).features for part in parts]).half())
    owners = torch.tensor([p for p, _ in shots])
    classes = torch.tensor([numbered[p].class_index if p >= 0 else -1 for p, _ in shots])
    return Frames(classes, owners, {name: torch.cat(parts) for name, parts in outputs.items()})


class Composer:
    """Draws clips of 16 frames as actions40_videos draws videos.

    Args:
        frames: to choose from.
        num_classes: C.
    """

    def __init__(self, frames: Frames, num_classes: int) -> None:
        self.frames, self.num_classes = frames, num_classes
        classes, photos = frames.classes.numpy(), frames.photos.numpy()
        self._blanks = np.flatnonzero(classes == -1)
        # Per class its photographs, per photograph its frames.
        self._of_class = [
            [np.flatnonzero(photos == photo) for photo in np.unique(photos[classes == c])] for c in range(num_classes)
        ]

    def draw(self, count: int, rng: np.random.Generator) -> tuple[Int64Array, Int64Array]:
        """Draw clips: frame numbers [count, 16] and classes [count]; no photograph appears twice in a clip."""
        chosen = np.empty((count, SHOTS), dtype=np.int64)
        events = np.empty(count, dtype=np.int64)
        for i in range(count):
            events[i], shown = draw_classes(self.num_classes, rng)
            left = {c: list(rng.permutation(len(self._of_class[c]))) for c in {c for c in shown if c is not None}}
            for t, c in enumerate(shown):
                views = self._blanks if c is None else self._of_class[c][int(left[c].pop())]
                chosen[i, t] = rng.choice(views)
        return chosen, events


class ComposedClips:
    """A ClipSource whose clips are new in every batch.

    Args:
        composer: draws them.
        see: from frame numbers [B, T] to X^v [B, T, Dv] and X^t [B, T, Dt].
        batch_size, batches: clips of a batch, batches of an epoch.
        seed: of the clips.
    """

    def __init__(
        self,
        composer: Composer,
        see: Callable[[Tensor], tuple[Tensor, Tensor]],
        *,
        batch_size: int,
        batches: int,
        seed: int = 0,
    ) -> None:
        self._composer, self._see, self._seed = composer, see, seed
        self._batch_size = batch_size
        self.num_classes, self.batches_per_epoch = composer.num_classes, batches

    def epoch(self, number: int) -> Iterator[ClipBatch]:
        """Yield the batches of an epoch, always the same."""
        rng = np.random.default_rng([self._seed, number])
        for _ in range(self.batches_per_epoch):
            chosen, events = self._composer.draw(self._batch_size, rng)
            visual, textual = self._see(torch.from_numpy(chosen))
            yield ClipBatch(visual, textual, torch.nn.functional.one_hot(torch.from_numpy(events), self.num_classes))
