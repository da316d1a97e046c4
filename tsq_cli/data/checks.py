"""Checks of a list of labeled videos for probable mistakes, before anything is decoded (ours)."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence

from tsq_cli.data.lists import VideoList
from tsq_cli.errors import UsageError

IMBALANCE = 10
"""Times as many videos in the largest class as in the smallest from which a list is called unbalanced."""

_LEAST_LETTERS = 6  # of a name, for one letter more, less or other to be a likely slip
_MOST_SHOWN = 5


def need_videos(videos: VideoList) -> None:
    """Refuse a list with a class that has no video.

    Raises:
        UsageError: it names such classes.
    """
    if empty := [name for name, count in zip(videos.class_names, videos.counts(), strict=True) if count == 0]:
        raise UsageError(
            f"{len(empty)} of {len(videos.class_names)} classes have no video of {videos.origin}: {_named(empty)}",
            wanted="a training video of every class",
            fix="add videos, or leave such classes out: --skip-empty-classes, or skip_empty_classes in train.toml",
        )


def warnings_of(train: VideoList, val: VideoList | None) -> list[str]:
    """List what is odd about the lists of a training run, one sentence each.

    Args:
        train: to train on.
        val: to evaluate on, of the same classes, if there is one.
    """
    return [*_left_out(train, val), *_counts(train, val), *_names(train.class_names)]


def _left_out(train: VideoList, val: VideoList | None) -> Iterator[str]:
    if train.left_out_classes:
        yield f"left out for want of videos: {len(train.left_out_classes)} classes ({_named(train.left_out_classes)})"
    if val is not None and val.left_out:
        yield f"left out with these classes: validation videos {_named(val.left_out)}"


def _counts(train: VideoList, val: VideoList | None) -> Iterator[str]:
    counts = dict(zip(train.class_names, train.counts(), strict=True))
    single = [name for name, count in counts.items() if count == 1]
    if single:
        yield f"a single video to train on: {_classes(single)}"
    largest, smallest = max(counts, key=counts.__getitem__), min(counts, key=counts.__getitem__)
    if counts[smallest] and counts[largest] >= IMBALANCE * counts[smallest]:
        yield (
            f"unbalanced: {largest!r} has {counts[largest]} videos, {smallest!r} {counts[smallest]}; "
            "rare classes will be recognized less often"
        )
    if val is not None:
        unmeasured = [name for name, count in zip(val.class_names, val.counts(), strict=True) if count == 0]
        if unmeasured:
            yield f"no validation video, so not measured: {_classes(unmeasured)}"


def _names(class_names: Sequence[str]) -> Iterator[str]:
    groups = near_equal(class_names)
    for group in groups[:_MOST_SHOWN]:
        yield f"nearly the same name: {_classes(group)}; if they are one class, give them one name"
    if len(groups) > _MOST_SHOWN:
        yield f"nearly the same name: {len(groups) - _MOST_SHOWN} more groups of classes"


def near_equal(names: Sequence[str]) -> list[list[str]]:
    """Group names that are probably meant to be the same; names that stand alone are left out.

    Compared are letters and digits, without case, spaces, punctuation and a plural's s; of six letters and more, one
    may be added, left out or another. Names that differ in a digit are different.

    Args:
        names: unique.

    Returns:
        Groups of two or more, in the order of their first names.
    """
    keys = [_key(name) for name in names]
    group_of = list(range(len(names)))
    numbers = {key: number for number, key in reversed(list(enumerate(keys)))}
    substituted: dict[tuple[str, str], int] = {}
    for number, key in enumerate(keys):
        alike = [numbers[key]]
        for i in range(len(key) if len(key) >= _LEAST_LETTERS else 0):
            before, after = key[:i], key[i + 1 :]
            if not key[i].isdigit():
                alike += [numbers.get(before + after, number), substituted.setdefault((before, after), number)]
        merged = {group_of[other] for other in alike} | {group_of[number]}
        if len(merged) > 1:
            group_of = [min(merged) if group in merged else group for group in group_of]
    groups = defaultdict(list)
    for name, group in zip(names, group_of, strict=True):
        groups[group].append(name)
    return [groups[group] for group in sorted(groups) if len(groups[group]) > 1]


def _key(name: str) -> str:
    key = re.sub(r"[\W_]+", "", name.casefold()) or name
    return key.removesuffix("s") if len(key) > 3 else key


def _classes(names: Sequence[str]) -> str:
    return f"{'the class' if len(names) == 1 else f'{len(names)} classes'} {_named(names)}"


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_SHOWN} more" if len(names) > _MOST_SHOWN else ""
    return ", ".join(repr(name) for name in names[:_MOST_SHOWN]) + more
