"""Room 1: from what the user typed to a list of video files."""

from __future__ import annotations

import glob
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tsq_cli.errors import InputNotFoundError

# Endings looked for inside folders. A file named outright or matched by a glob is taken whatever its ending.
VIDEO_SUFFIXES = frozenset(
    ".3g2 .3gp .apng .asf .avi .divx .dv .flv .gif .h264 .h265 .hevc .ivf .m1v .m2ts .m2v .m4v .mkv .mov .mp4 .mpeg "
    ".mpg .mts .mxf .ogm .ogv .qt .rm .rmvb .ts .vob .webm .wmv .y4m".split()
)


@dataclass(frozen=True)
class Inputs:
    """The videos of a run.

    Attributes:
        paths: existing files and listed ones, in order, each once.
        single: whether exactly one file was named outright (not through a folder, glob or list).
        skipped: files in folders that were passed over for their ending.
    """

    paths: tuple[str, ...]
    single: bool
    skipped: int = 0


def collect_inputs(
    arguments: Sequence[str],
    *,
    recursive: bool = False,
    files_from: str | None = None,
    stdin: Iterable[str] | None = None,
) -> Inputs:
    """Expand files, folders, quoted globs and a list file (or "-" for stdin) into video paths.

    Paths named by a list are not checked here: one that is missing becomes that video's error record and does not stop
    the others.

    Raises:
        InputNotFoundError: nothing was given, an argument names nothing, or a folder holds no video.
    """
    found: list[str] = []
    skipped = 0
    for argument in arguments:
        if Path(argument).is_dir():
            videos, others = _in_folder(Path(argument), recursive)
            found += videos
            skipped += others
        elif Path(argument).exists():
            found.append(argument)
        else:
            found += _matching(argument)
    if files_from is not None:
        found += _listed(files_from, sys.stdin if stdin is None else stdin)
    if not found:
        raise InputNotFoundError(
            "no video was named", wanted="at least one file, folder, glob or list", fix="try tsq select video.mp4"
        )
    single = files_from is None and len(arguments) == 1 and Path(arguments[0]).is_file()
    return Inputs(paths=tuple(dict.fromkeys(found)), single=single, skipped=skipped)


def _in_folder(folder: Path, recursive: bool) -> tuple[list[str], int]:
    files = sorted(path for path in (folder.rglob("*") if recursive else folder.iterdir()) if path.is_file())
    visible = [path for path in files if not path.name.startswith(".")]
    videos = [str(path) for path in visible if path.suffix.lower() in VIDEO_SUFFIXES]
    if not videos:
        raise InputNotFoundError(
            f"folder {folder} holds {len(visible)} files and no video by its ending",
            wanted="a folder with video files",
            fix="name the files outright" if recursive else "add -r to look into its subfolders, or name the files",
        )
    return videos, len(visible) - len(videos)


def _matching(argument: str) -> list[str]:
    if glob.has_magic(argument):
        matches = sorted(match for match in glob.glob(argument, recursive=True) if Path(match).is_file())  # noqa: PTH207
        if matches:
            return matches
        raise InputNotFoundError(f"{argument} matches no file", wanted="a glob that matches", fix="check the pattern")
    raise InputNotFoundError(
        f"{argument} does not exist", wanted="an existing file or folder", fix="check the path for typing errors"
    )


def _listed(files_from: str, stdin: Iterable[str]) -> list[str]:
    if files_from == "-":
        lines = list(stdin)
    else:
        try:
            lines = Path(files_from).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise InputNotFoundError(
                f"the list {files_from} cannot be read ({error})",
                wanted="a text file with one path a line",
                fix="check the path given to --files-from",
            ) from error
    paths = [line.strip() for line in lines if line.strip()]
    if not paths:
        raise InputNotFoundError(
            f"the list {files_from} is empty", wanted="one path a line", fix="check what wrote the list"
        )
    return paths
