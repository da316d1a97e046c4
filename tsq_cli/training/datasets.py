"""Training data: the lists of a run, clips of cached features, and initial queries of the TSQ layers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from tsq_cli.data import LabeledVideo, VideoList, need_videos, read_video_list, split_list
from tsq_cli.errors import InputNotFoundError, UsageError
from tsq_cli.features.cache import VideoFeatures
from tsq_cli.models import object_text_features
from tsq_cli.packs import Pack
from tsq_cli.training.prototypes import Prototypes, held_out_frame_logits, visual_prototypes
from tsq_cli.training.settings import TrainSettings

_CHUNK_VIDEOS = 64


def read_lists(settings: TrainSettings) -> tuple[VideoList, VideoList | None]:
    """Read the training list and the validation list, if there is one, with the classes of the first.

    Both may be parts of the training list: see TrainSettings.val_list and split_list.

    Raises:
        InputNotFoundError: a list, its root or all of its videos do not exist.
        UsageError: a file that is no list, a class without a training video, a class that the first list does not have,
            videos that are in both, or a share of no video.
    """
    train = _whole_training_list(settings)
    if settings.val_list is None:
        return train, None
    if settings.val_share is not None:
        return split_list(train, settings.val_share, settings.split_seed)
    if not Path(settings.val_list).exists():
        raise InputNotFoundError(
            f"--val {settings.val_list} does not exist",
            wanted="an existing list, or the share of the training list to hold out, such as 0.2",
            fix="check the path",
        )
    val = read_list(settings, settings.val_list, settings.val_subset)
    if train.left_out_classes:
        # A class that the first list does not even name is refused below.
        val = val.of_classes(set(val.class_names) - set(train.left_out_classes))
        if not val.videos:
            raise UsageError(
                f"all videos of {val.origin} are of classes without a training video",
                wanted="validation videos of the classes that are trained",
                fix="add training videos, or give another list",
            )
    val = val.aligned(train.class_names)
    trained = {video.path.resolve() for video in train.videos}
    if shared := [video.id for video in val.videos if video.path.resolve() in trained]:
        raise UsageError(
            f"{len(shared)} videos of {val.origin} are also in {train.origin} ({', '.join(shared[:3])})",
            wanted="different videos for training and validation",
            fix="remove them from one of the lists",
        )
    return train, val


def read_training_list(settings: TrainSettings) -> VideoList:
    """Read what read_lists gives to train on, without the validation list.

    Raises:
        InputNotFoundError, UsageError: as read_lists.
    """
    train = _whole_training_list(settings)
    return train if settings.val_share is None else split_list(train, settings.val_share, settings.split_seed)[0]


def _whole_training_list(settings: TrainSettings) -> VideoList:
    """Read the training list, before a split, with at least one video of each class."""
    train = read_list(settings, settings.train_list, settings.subset)
    if settings.skip_empty_classes:
        train = train.of_classes({name for name, n in zip(train.class_names, train.counts(), strict=True) if n})
    need_videos(train)
    return train


def read_list(settings: TrainSettings, name: str, subset: str | None) -> VideoList:
    """Read one list with the root, delimiter and classes of the settings.

    Args:
        settings: of the run.
        name: path of the list.
        subset: the part of the list to read; None is all of it.

    Raises:
        InputNotFoundError, UsageError: as read_lists.
    """
    root, classes = (None if text is None else Path(text) for text in (settings.root, settings.classes))
    return read_video_list(
        Path(name),
        root=root,
        delimiter=settings.delimiter,
        classes=classes,
        subset=subset,
        empty_folders=settings.skip_empty_classes,
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Clips:
    """Features of N labeled videos, on the CPU.

    Attributes:
        videos: the N that could be decoded.
        visual: X^v, float16 [N, T, Dv].
        textual: X^t, float16 [N, T, Dt], of unit length.
        targets: bool [N, C].
    """

    videos: tuple[LabeledVideo, ...]
    visual: Tensor
    textual: Tensor
    targets: Tensor


def clips_of(pack: Pack, videos: VideoList, extracted: VideoFeatures) -> Clips:
    """Build the inputs of the TSQ layers for the videos of a list.

    Args:
        pack: its text embeddings of the object names turn object scores into TQM's features.
        videos: the list that `extracted` was asked for.
        extracted: of the networks "visual" and, unless that one scores the pack's objects, "objects".
    """
    logits = extracted.logits["objects" if "objects" in extracted.features else "visual"]
    embeddings = pack.textual_embeddings.cpu()
    textual = [object_text_features(some, embeddings).half() for some in torch.split(logits, _CHUNK_VIDEOS)]
    return Clips(
        videos=tuple(videos.videos[number] for number in extracted.kept),
        visual=extracted.features["visual"],
        textual=torch.cat(textual),
        targets=torch.from_numpy(videos.targets())[list(extracted.kept)],
    )


def prototype_queries(clips: Clips, *, prototype_ratio: float, frame_logits: Tensor | None = None) -> Prototypes:
    """Compute VQM's initial queries (docs/method.md, section 3).

    Args:
        clips: to train on.
        prototype_ratio: m, see visual_prototypes.
        frame_logits: [N, T, C] of a classifier of the clips' classes; None fits one (ours).

    Raises:
        UsageError: a class without a video.
    """
    if frame_logits is None:
        frame_logits = held_out_frame_logits(clips.visual, clips.targets)
    return visual_prototypes(clips.visual, frame_logits, clips.targets, prototype_ratio=prototype_ratio)


def name_queries(pack: Pack, class_names: Sequence[str]) -> Tensor:
    """Compute TQM's initial queries: embeddings of the class names in the space of TQM's features.

    Args:
        pack: with the text encoder.
        class_names: C of them.

    Returns:
        float32 [C, Dt] on the CPU.

    Raises:
        UsageError: a name that is too long to embed.
        WeightsError: the pack's text encoder is unavailable.
    """
    embeddings: Tensor = pack.text_encoder().embed([readable(name) for name in class_names])
    if pack.config.settings.center_object_embeddings:
        embeddings = functional.normalize(embeddings - pack.object_embeddings.cpu().mean(dim=0), dim=1)
    return embeddings


def readable(name: str) -> str:
    """Split a class name into words: "ApplyEyeMakeup" and "apply_eye_makeup" become "apply eye makeup" (ours)."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name)
    return " ".join(words.replace("_", " ").split()).lower() or name
