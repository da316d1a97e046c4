"""Labeled videos found on disk."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tsq_cli.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class LabeledVideo:
    """A video and its labels.

    Attributes:
        id: its name in the list.
        path: an existing file.
        labels: indices into the list's class names, ascending, each once, at least one.
    """

    id: str
    path: Path
    labels: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.labels or self.labels[0] < 0 or list(self.labels) != sorted(set(self.labels)):
            raise ValueError(f"labels of {self.id} must be ascending indices, at least one, got {self.labels}")


@dataclass(frozen=True, kw_only=True)
class VideoList:
    """The labeled videos of one list.

    Attributes:
        videos: those that were found, in the list's order.
        class_names: unique, including the classes of missing videos, so that they do not depend on the disk.
        missing: ids of the videos that were not found, in the list's order.
        origin: the list's file, or the folder of class folders.
        subset: the part of the list that was read ("training"); None for the whole list.
        part: which part of these a split made ("to train on"); None for all of them.
        left_out_classes: names of classes that `of_classes` left out.
        left_out: ids of videos that had no other class.
    """

    videos: tuple[LabeledVideo, ...]
    class_names: tuple[str, ...]
    missing: tuple[str, ...]
    origin: Path
    subset: str | None = None
    part: str | None = None
    left_out_classes: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(set(self.class_names)) != len(self.class_names):
            raise ValueError(f"class names must be unique, got {self.class_names}")
        if any(video.labels[-1] >= len(self.class_names) for video in self.videos):
            raise ValueError(f"labels must be below the number of classes, {len(self.class_names)}")

    @property
    def multi_label(self) -> bool:
        """Whether some video has several labels."""
        return any(len(video.labels) > 1 for video in self.videos)

    @property
    def found(self) -> str:
        """State how many of the list's videos were found, naming up to three missing ones."""
        where = str(self.origin) if self.subset is None else f"{self.origin}, subset {self.subset}"
        if self.part is None:
            count = len(self.videos) + len(self.left_out)
            sentence = f"found {count} of {count + len(self.missing)} videos of {where}"
        else:
            sentence = f"{len(self.videos)} videos of {where} {self.part}"
        if not self.missing:
            return sentence
        shown = ", ".join(self.missing[:3]) + (", ..." if len(self.missing) > 3 else "")
        return f"{sentence} ({len(self.missing)} missing: {shown})"

    def to_report(self, failed: Sequence[tuple[LabeledVideo, str]]) -> dict[str, Any]:
        """JSON-ready: found (the sentence), missing and left_out (ids), left_out_classes, and failed, {id, reason}.

        Args:
            failed: videos of this list that could not be decoded, each with the reason.
        """
        return {
            "found": self.found,
            "missing": list(self.missing),
            "left_out_classes": list(self.left_out_classes),
            "left_out": list(self.left_out),
            "failed": [{"id": video.id, "reason": reason} for video, reason in failed],
        }

    def targets(self) -> npt.NDArray[np.bool_]:
        """Return the labels as bool [N, C]: video by class."""
        targets = np.zeros((len(self.videos), len(self.class_names)), dtype=np.bool_)
        for row, video in zip(targets, self.videos, strict=True):
            row[list(video.labels)] = True
        return targets

    def counts(self) -> tuple[int, ...]:
        """Count the videos of each class; a video of several classes counts for each."""
        counted = Counter(label for video in self.videos for label in video.labels)
        return tuple(counted[label] for label in range(len(self.class_names)))

    def of_classes(self, class_names: Collection[str]) -> VideoList:
        """Leave out all classes but these, and the videos that have no other; `left_out` and its classes say which."""
        index = [number for number, name in enumerate(self.class_names) if name in class_names]
        new = {old: number for number, old in enumerate(index)}
        videos = [
            replace(video, labels=tuple(new[label] for label in video.labels if label in new))
            for video in self.videos
            if any(label in new for label in video.labels)
        ]
        kept = {video.id for video in videos}
        return replace(
            self,
            videos=tuple(videos),
            class_names=tuple(self.class_names[number] for number in index),
            left_out_classes=tuple(name for name in self.class_names if name not in class_names),
            left_out=tuple(video.id for video in self.videos if video.id not in kept),
        )

    def aligned(self, class_names: Sequence[str]) -> VideoList:
        """Re-index the labels into another list's or pack's classes.

        Args:
            class_names: unique; they may include classes that this list lacks.

        Raises:
            UsageError: a video here has a label that is not among them.
        """
        index = {name: number for number, name in enumerate(class_names)}
        videos = []
        for video in self.videos:
            names = [self.class_names[label] for label in video.labels]
            if unknown := [name for name in names if name not in index]:
                raise UsageError(
                    f"{video.id} in {self.origin} is of the class {unknown[0]!r}",
                    wanted=f"one of the {len(index)} known classes ({', '.join(list(class_names)[:5])}, ...)",
                    fix="give the list and the pack, or both lists, the same class names",
                )
            videos.append(replace(video, labels=tuple(sorted(index[name] for name in names))))
        return replace(self, videos=tuple(videos), class_names=tuple(class_names))
