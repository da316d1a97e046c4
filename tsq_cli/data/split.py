"""Split a list of labeled videos into one to train on and one to evaluate on, and write lists (ours)."""

from __future__ import annotations

import csv
import io
import math
import os
import random
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path

from tsq_cli.data.formats import EXACT_LABEL, SEVERAL_LABELS
from tsq_cli.data.lists import VideoList
from tsq_cli.errors import UsageError


def split_list(videos: VideoList, share: float, seed: int) -> tuple[VideoList, VideoList]:
    """Hold out a share of a list's videos, of every class as nearly as whole videos allow.

    The classes take turns, the rarest first, and each holds out of its undecided videos, in random order, what its
    share still lacks; a rest of at most half a video goes on to the next class, so that the sizes add up. So a video of
    several classes is decided by its rarest one. A file that is listed by several names stays on one side. The last
    training video of a class is never held out, so a class of one video is trained on. The order of the list does not
    matter.

    Args:
        videos: at least one of each class.
        share: to hold out, above 0 and below 1.
        seed: of the draw.

    Returns:
        The list to train on, which keeps what was missing, and the list to evaluate on, with the same classes.

    Raises:
        UsageError: no video would be held out.

    Source: ours; the rarest class first as in Sechidis et al., 2011.
    """
    names: dict[Path, list[str]] = defaultdict(list)
    labels: dict[Path, set[int]] = defaultdict(set)
    for video in videos.videos:
        file = video.path.resolve()
        names[file].append(video.id)
        labels[file] |= set(video.labels)
    held_out = _draw({min(names[file]): labels[file] for file in names}, share, random.Random(seed))
    if not held_out:
        raise UsageError(
            f"a share of {share:g} of the {len(names)} videos of {videos.origin} is no video that could be held out",
            wanted="one video or more; each class keeps one to train on",
            fix="give a larger share, or a list of other videos",
        )
    ids = {name for of_file in names.values() if min(of_file) in held_out for name in of_file}
    train = tuple(video for video in videos.videos if video.id not in ids)
    val = tuple(video for video in videos.videos if video.id in ids)
    return (
        replace(videos, videos=train, part="to train on"),
        replace(videos, videos=val, part=f"held out (share {share:g}, seed {seed})", missing=(), left_out=()),
    )


def _draw(labels: dict[str, set[int]], share: float, rng: random.Random) -> set[str]:
    """Draw what to hold out of videos by id, as split_list."""
    order = sorted(labels)
    rng.shuffle(order)
    of_class: dict[int, list[str]] = defaultdict(list)
    for name in order:
        for label in sorted(labels[name]):
            of_class[label].append(name)
    undecided, held_out = set(order), set[str]()
    num_held: Counter[int] = Counter()
    rest = 0.0
    for label in sorted(of_class, key=lambda c: len(of_class[c])):  # of equally rare ones, the first that was drawn
        wanted = share * len(of_class[label]) - num_held[label] + rest
        count = 0
        for name in [name for name in of_class[label] if name in undecided]:
            undecided.remove(name)
            spares_one = all(num_held[other] + 2 <= len(of_class[other]) for other in labels[name])
            if count < math.floor(wanted + 0.5) and spares_one:
                held_out.add(name)
                num_held.update(labels[name])
                count += 1
        rest = min(0.5, max(-0.5, wanted - count))
    return held_out


def list_csv(videos: VideoList) -> str:
    """Format a list as a CSV that read_video_list reads from anywhere: absolute paths, and names of classes.

    Its columns are path and label, with commas between the labels of a video; if some name has a separator of labels in
    it, path and exact_label, with a row for each label.

    Raises:
        UsageError: a path or a name that cannot stand in a line.
    """
    exact = any(SEVERAL_LABELS.search(name) for name in videos.class_names)
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["path", EXACT_LABEL if exact else "label"])
    for video in videos.videos:
        path = os.path.abspath(video.path)  # noqa: PTH100 - links keep their own names
        names = [videos.class_names[label] for label in video.labels]
        for cell in (path, *names):
            is_text = cell.encode(errors="replace").decode() == cell  # a file's name may be bytes of no encoding
            if cell != cell.strip() or len(cell.splitlines()) != 1 or not is_text:
                raise UsageError(
                    f"{cell!r} begins or ends with a space, has a line break, or is no UTF-8",
                    wanted="paths and classes that a list can hold, to save the split",
                    fix="rename it, or give --val a list",
                )
        writer.writerows([path, label] for label in (names if exact else [",".join(names)]))
    return stream.getvalue()
