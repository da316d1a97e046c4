"""Read a list of labeled videos, or a folder of class folders, into a VideoList."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from tsq_cli.data.find import Finder, video_files
from tsq_cli.data.formats import Entry, Listing, parse, read_text
from tsq_cli.data.lists import LabeledVideo, VideoList
from tsq_cli.errors import InputNotFoundError, UsageError

_NUMBERED = re.compile(r"(\d+)[\s,;]\s*(.+)")


def read_video_list(
    path: Path,
    *,
    root: Path | None = None,
    delimiter: str | None = None,
    classes: Path | None = None,
    subset: str | None = None,
    empty_folders: bool = False,
) -> VideoList:
    r"""Read a list of labeled videos and find their files; its content determines the format.

    - Lines `path label`. The path ends with its video suffix, or else at the first tab, space, ";", "|" or ",". Several
      labels are separated by ",", ";", "|" or tabs. Empty lines and lines that start with "#" are skipped.
    - A table (commas, tabs, ";" or "|") with a header that names the paths or ids (path, video, file, id, ...) and the
      labels (label, class, category, ...), and perhaps a split or subset. Kinetics' tables (youtube_id, time_start,
      time_end) name the file `id_000010_000020.*` or `id.*`. Their labels, and a column exact_label, are not split.
    - ActivityNet's JSON; files are named `v_id.*` or `id.*`.
    - A folder with one folder of videos per class.

    A video named twice has the labels of both lines. Without `classes`, labels are numbered alphabetically (numbers by
    size) over all subsets of the list.

    Args:
        path: the list or folder.
        root: folder of the videos: paths start there, and bare names and ids may be anywhere below it. None is the
            list's own folder; paths may then start at the current folder too.
        delimiter: one character between path and label, "\t" also as typed; None detects it.
        classes: a file with one class name per line. Numbers in the list count its lines from zero, or are the numbers
            before the names if it has those ("1 ApplyEyeMakeup").
        subset: the part of the list to read ("training"); required if the list has several.
        empty_folders: accept class folders without a video.

    Raises:
        InputNotFoundError: the list, the root or all of the videos do not exist.
        UsageError: a file that is no such list, an unknown label, or a video that fits several files.
    """
    for place in (path, root):
        if place is not None and not place.exists():
            raise InputNotFoundError(f"{place} does not exist", wanted="an existing one", fix="check the path")
    delimiter = _delimiter(delimiter)
    if path.is_dir():
        if root is not None or delimiter is not None or subset is not None:
            raise UsageError(
                f"{path} is a folder of class folders, with a root, delimiter or subset",
                wanted="these with lists only",
                fix="leave them out, or write a list",
            )
        listing, finder = _class_folders(path, empty_folders=empty_folders), Finder(path)
    else:
        listing = parse(path, delimiter=delimiter, subset=subset)
        finder = Finder(path.parent, also=Path()) if root is None else Finder(root)
    if not listing.entries:
        raise UsageError(f"{path} names no video", wanted="at least one", fix="check what wrote the list")
    class_names, index = _classes(listing, path, classes)
    videos, missing = [], []
    for entry in listing.entries:
        if file := finder.find(entry.names):
            labels = sorted({index[label] for label in entry.labels})
            videos.append(LabeledVideo(id=entry.id, path=file, labels=tuple(labels)))
        else:
            missing.append(entry.id)
    if not videos:
        raise InputNotFoundError(
            f"none of the {len(missing)} videos of {path} was found under {root or path.parent} "
            f"(the first is {missing[0]!r})",
            wanted="the list's videos there",
            fix="give their folder as the root, or give the list's delimiter",
        )
    return VideoList(videos=tuple(videos), class_names=class_names, missing=tuple(missing), origin=path, subset=subset)


def _delimiter(typed: str | None) -> str | None:
    """Return a delimiter of one character, from what was typed."""
    if typed is None or len(one := typed.replace("\\t", "\t")) == 1:
        return typed if typed is None else one
    raise UsageError(f"delimiter is {one!r}", wanted="one character", fix="leave it out to have it detected")


def _class_folders(folder: Path, *, empty_folders: bool) -> Listing:
    """List the videos of a folder of class folders; a video's id is its path."""
    labels = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    ids = [video.relative_to(folder).as_posix() for video in video_files(folder)]
    fix = "move it, or write a list"
    if stray := [name for name in ids if "/" not in name]:
        got = f"{folder / stray[0]} is in no class folder"
    elif not empty_folders and (empty := sorted(set(labels) - {name.split("/")[0] for name in ids})):
        got = f"the class folder {folder / empty[0]} holds no video"
        fix = "remove it, or train with --skip-empty-classes"
    elif not labels:
        got = f"{folder} holds no folder"
    else:
        entries = tuple(Entry(name, (name.split("/")[0],), (name,)) for name in ids)
        return Listing(entries, frozenset(labels))
    raise UsageError(got, wanted="a folder with one folder of videos per class", fix=fix)


def _classes(listing: Listing, origin: Path, classes: Path | None) -> tuple[tuple[str, ...], dict[str, int]]:
    """Return the class names, and the index of each label."""
    if classes is None:
        numbers = all(label.isdecimal() for label in listing.labels)
        names: Sequence[str] = sorted(listing.labels, key=int if numbers else None)
        return tuple(names), {name: index for index, name in enumerate(names)}
    names, index = _class_file(classes)
    if unknown := sorted(listing.labels - set(index)):
        raise UsageError(
            f"{origin} has the label {unknown[0]!r}",
            wanted=f"one of the {len(names)} classes of {classes} ({', '.join(names[:5])}, ...) or its number",
            fix="correct one of them; numbers count from 0 unless the file has numbers before the names",
        )
    return tuple(names), index


def _class_file(path: Path) -> tuple[list[str], dict[str, int]]:
    """Read a class file: its names, and indices by name and by number."""
    lines = [line.strip() for line in read_text(path).splitlines() if line.strip()]
    numbered = [match for line in lines if (match := _NUMBERED.fullmatch(line))]
    first = int(numbered[0][1]) if numbered else 0
    if [int(match[1]) for match in numbered] == list(range(first, first + len(lines))):
        names = [match[2].strip() for match in numbered]
    else:  # a name may start with a number
        first, names = 0, lines
    if not names or len(set(names)) != len(names):
        raise UsageError(
            f"{path} holds {len(names)} class names, {len(set(names))} different ones",
            wanted="one different class name per line",
            fix="correct the file",
        )
    by_number = {str(first + index): index for index in range(len(names))}
    return names, by_number | {name: index for index, name in enumerate(names)}
