"""From what the user typed to a list of video files."""

from __future__ import annotations

import glob
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from tsq_cli.errors import InputNotFoundError, UsageError
from tsq_cli.files import VIDEO_SUFFIXES

LIST_BYTES = 128 * 2**20
"""The most that a list of files may hold (ours): more than a million paths of a hundred characters."""

_BOM = b"\xef\xbb\xbf"
_URL = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)


@dataclass(frozen=True)
class Inputs:
    """The videos of a run.

    Attributes:
        paths: existing files and listed ones, in order, each once, as first spelled.
        single: whether exactly one file was named outright (not through a folder, glob or list).
        skipped: files in folders that were passed over for their ending.
        unreadable: folders inside of folders that could not be looked into.
    """

    paths: tuple[str, ...]
    single: bool
    skipped: int = 0
    unreadable: tuple[str, ...] = ()


def collect_inputs(
    arguments: Sequence[str],
    *,
    recursive: bool = False,
    files_from: str | None = None,
    null: bool = False,
    stdin: BinaryIO | None = None,
) -> Inputs:
    """Expand files, folders, quoted globs and a list file (or "-" for stdin) into video paths.

    Paths that a list names or a glob matches are not checked here: one that is missing becomes that video's error
    record and does not stop the others.

    Args:
        arguments: files, folders and globs, relative to the current folder.
        recursive: look into the subfolders of folders too.
        files_from: a file that lists paths, one a line, relative to the current folder.
        null: paths in the list end with NUL instead, as `find -print0` writes them.
        stdin: what "-" reads; None is the program's own.

    Raises:
        InputNotFoundError: nothing was given, an argument names nothing, or a folder or list holds no video.
        UsageError: `null` without a list.
    """
    if null and files_from is None:
        raise UsageError("-0 was given without a list", wanted="--files-from FILE beside it", fix="drop -0")
    found: list[str] = []
    skipped = 0
    unreadable: list[str] = []
    for argument in arguments:
        if _is_folder(argument):
            videos, others, closed = _in_folder(argument, recursive)
            found += videos
            skipped += others
            unreadable += closed
        else:
            found += _named(argument)
    if files_from is not None:
        found += _listed(files_from, null, stdin)
    if not found:
        raise InputNotFoundError(
            "no video was named", wanted="at least one file, folder, glob or list", fix="try tsq select video.mp4"
        )
    return Inputs(
        paths=_each_once(found),
        single=files_from is None and len(arguments) == 1 and found == [*arguments],
        skipped=skipped,
        unreadable=tuple(unreadable),
    )


def file_status(path: str | os.PathLike[str]) -> os.stat_result:
    """What the system knows of a path, links followed; whatever stands in the way is said in one line.

    Raises:
        InputNotFoundError: nothing is there, or nothing can be: the path is empty, a URL, too long, holds a NUL, or
            leads through a folder that one may not enter.
    """
    text = os.fspath(path)
    if not text:  # to pathlib it is the current folder
        raise InputNotFoundError(
            "an empty path was given",
            wanted="a file, folder or glob",
            fix="check for an empty variable in the command",
        )
    try:
        return Path(text).stat()
    except (OSError, ValueError) as error:
        raise _not_found(text, error) from error


def _not_found(path: str, error: OSError | ValueError) -> InputNotFoundError:
    if _URL.match(path):
        return InputNotFoundError(
            f"{path} is a URL", wanted="a path: tsq reads files", fix="download it first and give the file's path"
        )
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return InputNotFoundError(
            f"{path} does not exist", wanted="an existing file or folder", fix="check the path for typing errors"
        )
    shown = path if len(path) <= 200 else f"{path[:60]}... ({len(path)} characters)"
    if isinstance(error, PermissionError):
        return InputNotFoundError(
            f"{shown} lies in a folder that may not be entered",
            wanted="a path that can be followed",
            fix="check the permissions of its folders",
        )
    reason = error.strerror if isinstance(error, OSError) else str(error)
    return InputNotFoundError(f"{shown} cannot be a file ({reason})", wanted="the path of a file", fix="check the path")


def _is_folder(argument: str) -> bool:
    """Whether it is one; False also where that cannot be known, an empty text included."""
    try:
        return bool(argument) and Path(argument).is_dir()
    except (OSError, ValueError):
        return False


def _each_once(paths: Sequence[str]) -> tuple[str, ...]:
    """Paths that mean different files, as first spelled."""
    folders: dict[str, str] = {}  # by how they are spelled: a list of a million paths names few
    first: dict[tuple[str, str], str] = {}
    for path in paths:
        folder, name = os.path.split(path)
        if folder not in folders:
            folders[folder] = _whole(folder)
        first.setdefault((folders[folder], name), path)
    return tuple(first.values())


def _whole(folder: str) -> str:
    """A folder's absolute path; links are resolved only where ".." may lead back from one."""
    try:
        return os.path.realpath(folder) if os.pardir in Path(folder).parts else os.path.abspath(folder)  # noqa: PTH100
    except OSError:  # the current folder is gone
        return folder


def _in_folder(folder: str, recursive: bool) -> tuple[list[str], int, list[str]]:
    """Videos of a folder by name, how many other files it holds, and folders inside that cannot be looked into."""
    errors: list[OSError] = []
    walk = os.walk(folder, onerror=errors.append)
    files = sorted(Path(where, name) for where, _, names in islice(walk, None if recursive else 1) for name in names)
    visible = [path for path in files if not path.name.startswith(".")]
    videos = [str(path) for path in visible if path.suffix.lower() in VIDEO_SUFFIXES]
    if not videos and errors:
        raise InputNotFoundError(
            f"folder {errors[0].filename} cannot be looked into ({errors[0].strerror})",
            wanted="a folder with video files",
            fix="check its permissions",
        )
    if not videos:
        raise InputNotFoundError(
            f"folder {folder} holds {len(visible)} files and no video by its ending",
            wanted="a folder with video files",
            fix="name the files outright" if recursive else "add -r to look into its subfolders, or name the files",
        )
    return videos, len(visible) - len(videos), [str(error.filename) for error in errors]


def _named(argument: str) -> list[str]:
    """The file of that name, or the matches of a glob."""
    try:
        file_status(argument)
    except InputNotFoundError as error:
        if not glob.has_magic(argument) or not isinstance(error.__cause__, OSError) or _URL.match(argument):
            raise
        matches = sorted(match for match in glob.glob(argument, recursive=True) if not _is_folder(match))  # noqa: PTH207
        if matches:
            return matches
        if not isinstance(error.__cause__, FileNotFoundError | NotADirectoryError):
            raise
        raise InputNotFoundError(
            f"{argument} matches no file", wanted="a glob that matches", fix="check the pattern"
        ) from error
    return [argument]


def _listed(files_from: str, null: bool, stdin: BinaryIO | None) -> list[str]:
    """The paths of a list, byte for byte as they stand between its separators; blank lines are passed over."""
    fix = "check the path given to --files-from"
    try:
        listed = _list_bytes(files_from, stdin)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise InputNotFoundError(
            f"the list {files_from} cannot be read ({reason})", wanted="a file that lists paths", fix=fix
        ) from error
    if len(listed) > LIST_BYTES:
        raise InputNotFoundError(
            f"the list {files_from} holds more than {LIST_BYTES >> 20} MiB", wanted="a file that lists paths", fix=fix
        )
    listed = listed.removeprefix(_BOM)
    if null:
        names = [name for name in listed.split(b"\0") if name]
    elif b"\0" in listed:
        raise InputNotFoundError(
            f"the list {files_from} holds NUL bytes",
            wanted="a text in UTF-8, one path a line",
            fix="add -0 where NUL ends each path, as find -print0 writes them",
        )
    else:
        names = [line.removesuffix(b"\r") for line in listed.split(b"\n") if line.strip()]
    if not names:
        raise InputNotFoundError(
            f"the list {files_from} is empty", wanted="one path a line", fix="check what wrote the list"
        )
    return [os.fsdecode(name) for name in names]


def _list_bytes(files_from: str, stdin: BinaryIO | None) -> bytes:
    """At most one byte more than a list may hold."""
    if files_from != "-":
        with Path(files_from).open("rb") as file:
            return file.read(LIST_BYTES + 1)
    if stdin is None and sys.stdin is None:
        raise ValueError("stdin is closed")
    binary: BinaryIO | None = stdin or getattr(sys.stdin, "buffer", None)
    return os.fsencode(sys.stdin.read(LIST_BYTES + 1)) if binary is None else binary.read(LIST_BYTES + 1)
