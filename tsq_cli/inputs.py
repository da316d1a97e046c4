"""Expand the user's arguments into a list of video files."""

from __future__ import annotations

import glob
import os
import stat
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from tsq_cli import stores
from tsq_cli.errors import InputNotFoundError, UsageError
from tsq_cli.files import VIDEO_SUFFIXES
from tsq_cli.stores import is_url, local_path

LIST_BYTES = 128 * 2**20
"""Largest size of a list of files (ours): more than a million paths of a hundred characters."""

_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Inputs:
    """The videos of a run.

    Attributes:
        paths: existing files and listed ones, in order, each once, as first spelled.
        single: whether exactly one file was named directly (not by a folder, glob or list).
        skipped: number of files in folders that were skipped because of their suffix.
        unreadable: subfolders that could not be read.
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
    allow_url: bool = False,
    stdin: BinaryIO | None = None,
) -> Inputs:
    """Expand files, folders, quoted globs and a list file (or "-" for stdin) into video paths.

    Each may be a URL too: of an object, a prefix or a glob in a store (s3, gs, az), or of a file (file, http, https).
    Paths that a list names or a glob matches are not checked here: one that is missing becomes that video's error
    record and does not stop the others. In a list, a URL that ends in "/" or has a "*" stands for all that it names.

    Args:
        arguments: files, folders and globs, relative to the current folder.
        recursive: search the subfolders of folders too.
        files_from: a file that lists paths, one per line, relative to the current folder.
        null: paths in the list end with NUL instead, as `find -print0` writes them.
        allow_url: whether files on web servers (http, https) may be read.
        stdin: stream that "-" reads; None for the program's own.

    Raises:
        InputNotFoundError: no argument, an argument that does not exist, or a folder or list without a video.
        UsageError: `null` without a list, a URL that may not be read, or one whose libraries are not installed.
        StoreError: a store that refuses or does not answer.
    """
    if null and files_from is None:
        raise UsageError("-0 was given without a list", wanted="--files-from FILE beside it", fix="drop -0")
    found: list[str] = []
    skipped = 0
    unreadable: list[str] = []
    arguments = [local_path(argument) for argument in arguments]
    for argument in arguments:
        if is_url(argument):
            stores.check_url(argument, allow_url=allow_url)
            videos, others = _in_store(argument, recursive)
            found += videos
            skipped += others
        elif _is_folder(argument):
            videos, others, closed = _in_folder(argument, recursive)
            found += videos
            skipped += others
            unreadable += closed
        else:
            found += _named(argument)
    if files_from is not None:
        for name in _listed(files_from, null, stdin):
            videos, others = _of_list(name, recursive, allow_url=allow_url)
            found += videos
            skipped += others
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
    """Return the status of a path, following links, or of a URL in a store; a one-line error for every obstacle.

    Raises:
        InputNotFoundError: the path does not exist, or cannot: it is empty, an unknown URL, too long, contains a NUL,
            or leads through a folder without permission.
        StoreError: the store refuses or does not answer.
    """
    text = os.fspath(path)
    if not text:  # to pathlib it is the current folder
        raise InputNotFoundError(
            "an empty path was given",
            wanted="a file, folder or glob",
            fix="check for an empty variable in the command",
        )
    if is_url(text):
        return stores.status(text)
    try:
        return Path(text).stat()
    except (OSError, ValueError) as error:
        raise _not_found(text, error) from error


def _not_found(path: str, error: OSError | ValueError) -> InputNotFoundError:
    if stores.has_scheme(path):
        return stores.unknown_url(path)
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return InputNotFoundError(
            f"{path} does not exist", wanted="an existing file or folder", fix="check the path for typing errors"
        )
    shown = path if len(path) <= 200 else f"{path[:60]}... ({len(path)} characters)"
    if isinstance(error, PermissionError):
        return InputNotFoundError(
            f"{shown} is in a folder without permission to enter",
            wanted="a path that can be followed",
            fix="check the permissions of its folders",
        )
    reason = error.strerror if isinstance(error, OSError) else str(error)
    return InputNotFoundError(f"{shown} cannot be a file ({reason})", wanted="the path of a file", fix="check the path")


def _is_folder(argument: str) -> bool:
    """Test for a folder; False also if that cannot be known, or for an empty text."""
    try:
        return bool(argument) and Path(argument).is_dir()
    except (OSError, ValueError):
        return False


def _each_once(paths: Sequence[str]) -> tuple[str, ...]:
    """Drop paths that mean a file already listed; keep the first spelling."""
    folders: dict[str, str] = {}  # by how they are spelled: a list of a million paths names few
    first: dict[tuple[str, str], str] = {}
    for path in paths:
        if is_url(path):
            first.setdefault((path, ""), path)
            continue
        folder, name = os.path.split(path)
        if folder not in folders:
            folders[folder] = _whole(folder)
        first.setdefault((folders[folder], name), path)
    return tuple(first.values())


def _whole(folder: str) -> str:
    """Make a folder's path absolute; links are resolved only if ".." may lead back from one."""
    try:
        return os.path.realpath(folder) if os.pardir in Path(folder).parts else os.path.abspath(folder)  # noqa: PTH100
    except OSError:  # the current folder is gone
        return folder


def _in_folder(folder: str, recursive: bool) -> tuple[list[str], int, list[str]]:
    """List a folder's videos by name, with the number of other files and the subfolders that cannot be read."""
    errors: list[OSError] = []
    walk = os.walk(folder, onerror=errors.append)
    files = sorted(Path(where, name) for where, _, names in islice(walk, None if recursive else 1) for name in names)
    visible = [path for path in files if not path.name.startswith(".")]
    videos = [str(path) for path in visible if path.suffix.lower() in VIDEO_SUFFIXES]
    if not videos and errors:
        raise InputNotFoundError(
            f"folder {errors[0].filename} cannot be read ({errors[0].strerror})",
            wanted="a folder with video files",
            fix="check its permissions",
        )
    if not videos:
        raise InputNotFoundError(
            f"folder {folder} has {len(visible)} files and none with a video's suffix",
            wanted="a folder with video files",
            fix="name the files themselves" if recursive else "add -r to search its subfolders, or name the files",
        )
    return videos, len(visible) - len(videos), [str(error.filename) for error in errors]


def _named(argument: str) -> list[str]:
    """Return the file of that name, or the matches of a glob."""
    try:
        file_status(argument)
    except InputNotFoundError as error:
        if not glob.has_magic(argument) or not isinstance(error.__cause__, OSError) or stores.has_scheme(argument):
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


def _in_store(url: str, recursive: bool) -> tuple[list[str], int]:
    """Return the object of that name, the videos under a prefix, or the matches of a glob; and the others' number."""
    try:
        found = file_status(url)
    except InputNotFoundError:
        if stores.is_web(url) or not glob.has_magic(url):
            raise
        matched = stores.matches(url)
        if not matched:
            raise InputNotFoundError(
                f"{url} matches no object", wanted="a glob that matches", fix="check the pattern"
            ) from None
        return matched, 0
    if not stat.S_ISDIR(found.st_mode):
        return [url], 0
    visible = [one for one in stores.listing(url, recursive=recursive) if not stores.name_in(one).startswith(".")]
    videos = [one for one in visible if Path(one).suffix.lower() in VIDEO_SUFFIXES]
    if not videos:
        raise InputNotFoundError(
            f"{url} has {len(visible)} objects and none with a video's suffix",
            wanted="a prefix with video files",
            fix="name the objects themselves" if recursive else "add -r to search below it, or name the objects",
        )
    return videos, len(visible) - len(videos)


def _of_list(name: str, recursive: bool, *, allow_url: bool) -> tuple[list[str], int]:
    """Return the path that a list names, or all that its URL stands for; and the number of files skipped."""
    name = local_path(name)
    if not is_url(name):
        return [name], 0
    stores.check_url(name, allow_url=allow_url)
    stands_for_many = not stores.is_web(name) and (name.endswith("/") or "*" in name)
    return _in_store(name, recursive) if stands_for_many else ([name], 0)


def _listed(files_from: str, null: bool, stdin: BinaryIO | None) -> list[str]:
    """Read the paths of a list, byte for byte between its separators, without blank lines."""
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
            wanted="a text in UTF-8, one path per line",
            fix="add -0 if NUL ends each path, as find -print0 writes them",
        )
    else:
        names = [line.removesuffix(b"\r") for line in listed.split(b"\n") if line.strip()]
    if not names:
        raise InputNotFoundError(
            f"the list {files_from} is empty", wanted="one path per line", fix="check what wrote the list"
        )
    return [os.fsdecode(name) for name in names]


def _list_bytes(files_from: str, stdin: BinaryIO | None) -> bytes:
    """Read at most one byte more than a list may have."""
    if files_from != "-":
        with Path(files_from).open("rb") as file:
            return file.read(LIST_BYTES + 1)
    if stdin is None and sys.stdin is None:
        raise ValueError("stdin is closed")
    binary: BinaryIO | None = stdin or getattr(sys.stdin, "buffer", None)
    return os.fsencode(sys.stdin.read(LIST_BYTES + 1)) if binary is None else binary.read(LIST_BYTES + 1)
