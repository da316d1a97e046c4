"""Find the files of the videos that a list names."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from tsq_cli.errors import UsageError
from tsq_cli.files import VIDEO_SUFFIXES


class Finder:
    """Looks for videos under one folder, which is walked once, and only if some path does not exist as written.

    Args:
        root: the folder.
        also: another folder that paths may start from.
    """

    def __init__(self, root: Path, also: Path | None = None) -> None:
        self._root = root
        self._starts = [root] if also is None else [root, also]

    def find(self, names: Sequence[str]) -> Path | None:
        """Find the file with the first of these names that exists; None if there is none.

        A path with folders is searched for below the root, also without its first folders, because lists made elsewhere
        start at other roots. A bare name or id, with or without its suffix, is searched for in every folder below the
        root.

        Raises:
            UsageError: several files fit equally well.
        """
        for name in names:
            for start in self._starts:
                if (start / name).is_file():
                    return start / name
            parts = [part for part in Path(name).parts if part != Path(name).anchor]
            keys = [name] if len(parts) == 1 else ["/" + "/".join(parts[first:]) for first in range(len(parts))]
            for key in keys:
                found = self._index.get(key, [])
                if len(found) > 1:
                    raise UsageError(
                        f"{name} may be {found[0]} or {found[1]}",
                        wanted="one file per video of the list",
                        fix="write the path into the list, or give a root that holds only one of them",
                    )
                if found:
                    return found[0]
        return None

    @cached_property
    def _index(self) -> dict[str, list[Path]]:
        """Files by the names a list may use: "/path/from/root.mp4", "/path/from/root", "root.mp4", "root"."""
        index: dict[str, list[Path]] = defaultdict(list)
        for path in video_files(self._root):
            relative = path.relative_to(self._root)
            for key in (f"/{relative.as_posix()}", f"/{relative.with_suffix('').as_posix()}", path.name, path.stem):
                index[key].append(path)
        return index


def video_files(folder: Path) -> list[Path]:
    """List all files below a folder with a video's suffix, sorted, without hidden files and folders."""
    found: list[Path] = []
    walked: set[str] = set()
    for parent, folders, names in os.walk(folder, followlinks=True):  # data sets often lie behind links
        real = os.path.realpath(parent)
        folders[:] = [] if real in walked else sorted(name for name in folders if not name.startswith("."))
        if real not in walked:
            found += [Path(parent, name) for name in names if not name.startswith(".")]
        walked.add(real)
    return sorted(path for path in found if path.suffix.lower() in VIDEO_SUFFIXES)
