"""From what a list calls its videos to the files that are there."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from tsq_cli.errors import UsageError
from tsq_cli.files import VIDEO_SUFFIXES


class Finder:
    """Looks for videos under one folder; the folder is walked once, and only if some path does not lead there itself.

    Args:
        root: the folder.
        also: another folder that paths may start from.
    """

    def __init__(self, root: Path, also: Path | None = None) -> None:
        self._root = root
        self._starts = [root] if also is None else [root, also]

    def find(self, names: Sequence[str]) -> Path | None:
        """The file with the first of these names that is there.

        A path with folders is looked for below the root, also without its first folders: lists made elsewhere start
        at other roots. A bare name or id, with or without its ending, is looked for in every folder below the root.

        Raises:
            UsageError: several files fit equally.
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
                        wanted="one file for each video of the list",
                        fix="write the path into the list, or name a root that holds just one of them",
                    )
                if found:
                    return found[0]
        return None

    @cached_property
    def _index(self) -> dict[str, list[Path]]:
        """Files by what a list may call them: "/path/from/root.mp4", "/path/from/root", "root.mp4", "root"."""
        index: dict[str, list[Path]] = defaultdict(list)
        for path in video_files(self._root):
            relative = path.relative_to(self._root)
            for key in (f"/{relative.as_posix()}", f"/{relative.with_suffix('').as_posix()}", path.name, path.stem):
                index[key].append(path)
        return index


def video_files(folder: Path) -> list[Path]:
    """All files below a folder that are videos by their ending, sorted; hidden ones and hidden folders are left out."""
    found: list[Path] = []
    walked: set[str] = set()
    for parent, folders, names in os.walk(folder, followlinks=True):  # data sets often lie behind links
        real = os.path.realpath(parent)
        folders[:] = [] if real in walked else sorted(name for name in folders if not name.startswith("."))
        if real not in walked:
            found += [Path(parent, name) for name in names if not name.startswith(".")]
        walked.add(real)
    return sorted(path for path in found if path.suffix.lower() in VIDEO_SUFFIXES)
