"""What is trained on: the lists of a run, clips of cached features, and the queries that layers start from."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from tsq_cli.data import LabeledVideo, VideoList, read_video_list
from tsq_cli.errors import UsageError
from tsq_cli.features.cache import Extracted
from tsq_cli.models import object_text_features
from tsq_cli.packs import Pack
from tsq_cli.training.prototypes import Prototypes, held_out_frame_logits, visual_prototypes
from tsq_cli.training.settings import TrainSettings

_VIDEOS_AT_ONCE = 64


def read_lists(settings: TrainSettings) -> tuple[VideoList, VideoList | None]:
    """The list to train on, and the one to measure on if there is one, with the classes of the first.

    Raises:
        InputNotFoundError: a list, its root or all of its videos are not there.
        UsageError: a file that is no list, a class that the first list does not know, or videos that are in both.
    """
    train = read_list(settings, settings.train_list, settings.subset)
    if settings.val_list is None:
        return train, None
    val = read_list(settings, settings.val_list, settings.val_subset).aligned(train.class_names)
    trained = {video.path.resolve() for video in train.videos}
    if shared := [video.id for video in val.videos if video.path.resolve() in trained]:
        raise UsageError(
            f"{len(shared)} videos of {val.origin} are in {train.origin} too ({', '.join(shared[:3])})",
            wanted="other videos to measure on than to train on",
            fix="take them out of one of the lists",
        )
    return train, val


def read_list(settings: TrainSettings, name: str, subset: str | None) -> VideoList:
    """One list, as the settings say.

    Raises:
        InputNotFoundError, UsageError: as read_lists.
    """
    root, classes = (None if text is None else Path(text) for text in (settings.root, settings.classes))
    return read_video_list(Path(name), root=root, delimiter=settings.delimiter, classes=classes, subset=subset)


@dataclass(frozen=True, kw_only=True, eq=False)
class Clips:
    """Features of N labeled videos, on the CPU.

    Attributes:
        videos: [N], those that could be decoded.
        visual: X^v, float16 [N, T, Dv].
        textual: X^t, float16 [N, T, Dt], of unit length.
        targets: bool [N, C].
    """

    videos: tuple[LabeledVideo, ...]
    visual: Tensor
    textual: Tensor
    targets: Tensor


def clips_of(pack: Pack, videos: VideoList, extracted: Extracted) -> Clips:
    """The clips that TSQ layers see of a list's videos.

    Args:
        pack: gives the texts that TQM's features are made of.
        videos: the list that `extracted` was asked for.
        extracted: with the networks "visual" and, unless that one scores the pack's objects, "objects".
    """
    logits = extracted.logits["objects" if "objects" in extracted.features else "visual"]
    embeddings = pack.textual_embeddings.cpu()
    textual = [object_text_features(some, embeddings).half() for some in torch.split(logits, _VIDEOS_AT_ONCE)]
    return Clips(
        videos=tuple(videos.videos[number] for number in extracted.kept),
        visual=extracted.features["visual"],
        textual=torch.cat(textual),
        targets=torch.from_numpy(videos.targets())[list(extracted.kept)],
    )


def prototype_queries(clips: Clips, *, prototype_ratio: float, frame_logits: Tensor | None = None) -> Prototypes:
    """Where VQM's queries start (docs/method.md, section 3).

    Args:
        clips: to train on.
        prototype_ratio: m, see visual_prototypes.
        frame_logits: [N, T, C] of a classifier of the clips' classes; None has one fitted (ours).

    Raises:
        UsageError: a class without a video.
    """
    if frame_logits is None:
        frame_logits = held_out_frame_logits(clips.visual, clips.targets)
    return visual_prototypes(clips.visual, frame_logits, clips.targets, prototype_ratio=prototype_ratio)


def name_queries(pack: Pack, class_names: Sequence[str]) -> Tensor:
    """Where TQM's queries start: embeddings of the class names, where TQM's features lie, float32 [C, Dt] on the CPU.

    Raises:
        UsageError: a name that is too long to embed.
        WeightsError: the pack's text encoder is out of reach.
    """
    embeddings = pack.text_encoder().embed([readable(name) for name in class_names])
    if pack.config.settings.center_object_embeddings:
        embeddings = functional.normalize(embeddings - pack.object_embeddings.cpu().mean(dim=0), dim=1)
    return embeddings


def readable(name: str) -> str:
    """A class name as words: "ApplyEyeMakeup" and "apply_eye_makeup" are "apply eye makeup" (ours)."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name)
    return " ".join(words.replace("_", " ").split()).lower() or name
