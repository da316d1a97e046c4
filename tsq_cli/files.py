"""Write files, with one policy for every output of every command.

- A file appears whole under its final name, or not at all.
- A symlink is followed and its target replaced; an existing file keeps its mode and its owner.
- A character device, a FIFO and "-" (stdout) are written directly, never replaced.
- A folder, a socket, a block device, an input of the run, and another output of the run are refused (check_outputs).
- Unfinished files of a killed run are removed by the next run that writes to the same folder.
"""

from __future__ import annotations

import errno
import json
import os
import secrets
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tsq_cli.errors import OutputError, UsageError

if sys.platform != "win32":  # on Windows, unfinished files of killed runs stay
    import fcntl

STDOUT = "-"
LEFTOVER_PREFIX = ".tsq-"
"""Start of the names of temporary files; hidden, so that no folder input takes them for videos."""

VIDEO_SUFFIXES = frozenset(
    ".3g2 .3gp .apng .asf .avi .divx .dv .flv .gif .h264 .h265 .hevc .ivf .m1v .m2ts .m2v .m4v .mkv .mov .mp4 .mpeg "
    ".mpg .mts .mxf .ogm .ogv .qt .rm .rmvb .ts .vob .webm .wmv .y4m".split()
)
"""Suffixes of videos, which are searched for inside folders and never overwritten."""

_LONGEST_SUFFIX = 16
_being_written: set[Path] = set()
_REFUSED = {stat.S_IFDIR: "a folder", stat.S_IFSOCK: "a socket", stat.S_IFBLK: "a block device"}


@contextmanager
def atomic_path(final: Path, *, replace: bool = True) -> Iterator[Path]:
    """Yield a temporary path that becomes `final`, whole, if the block succeeds; otherwise it is removed.

    The folder of `final` is created if missing. The temporary name keeps the suffix, by which encoders choose a format.

    Args:
        final: the path to write; see the policy at the top of this file.
        replace: False refuses to replace a file, even one that appears while the block runs.

    Raises:
        OutputError: the file cannot be written (full disk, no permission, a folder in the way, a file to keep).
    """
    try:
        if is_written_straight(final):
            with tempfile.NamedTemporaryFile(suffix=_suffix(final)) as spool:
                yield Path(spool.name)
                _copy_to_stream(Path(spool.name), final)
        else:
            with _temporary_beside(Path(os.path.realpath(final))) as temporary:
                yield temporary
                _put_in_place(temporary, Path(os.path.realpath(final)), replace=replace)
    except OSError as error:
        raise cannot_write(final, error) from error


@contextmanager
def held_alone(lock_path: Path, what: str, wanted: str) -> Iterator[None]:
    """Hold a lock while the block runs; its file goes at the end.

    Args:
        lock_path: of the file that is locked.
        what: is written to, for the message.
        wanted: in the place of what was found, for the message.

    Raises:
        UsageError: another run holds it.
        OSError: the file cannot be made.
    """
    from filelock import FileLock, Timeout  # its import costs more than the rest of this file

    lock = FileLock(lock_path, timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise UsageError(
            f"another run is writing to {what}", wanted=wanted, fix="wait for it to end, or give another place"
        ) from error
    try:
        yield
    finally:
        lock_path.unlink(missing_ok=True)  # while it is locked: no other run can be holding it
        lock.release()


def write_text(final: Path, text: str) -> None:
    """Write a text file as UTF-8, whole or not at all; bytes that are not text (in a file's name) become escapes.

    Raises:
        OutputError: the file cannot be written.
    """
    with atomic_path(final) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def write_json(final: Path, value: Any) -> None:
    """Write a JSON file, whole or not at all.

    Raises:
        OutputError: the file cannot be written.
    """
    write_text(final, json.dumps(value, indent=1) + "\n")


def cannot_write(path: Path, error: OSError) -> OutputError:
    """Build the error for a path that could not be written, with the system's own reason."""
    return OutputError(
        f"cannot write {path}: {error.strerror or error}",
        wanted="a writable place with free space",
        fix="choose another path or free some space, then run again (finished videos in a --jsonl file are skipped)",
    )


def is_written_straight(path: Path) -> bool:
    """Test whether a path is a stream (stdout, a character device, a FIFO) rather than a file that can be replaced.

    Raises:
        OSError: a folder, a socket or a block device, or a path whose status cannot be read.
    """
    if os.fspath(path) == STDOUT:
        return True
    found = _stat(path)
    if found is None:
        return False
    kind = stat.S_IFMT(found.st_mode)
    if kind in _REFUSED:
        number = errno.EISDIR if kind == stat.S_IFDIR else errno.EINVAL
        raise OSError(number, f"it is {_REFUSED[kind]}")
    # A path such as /dev/stdout with stdout redirected to a file: replacing it would lose other printed output.
    return kind in (stat.S_IFCHR, stat.S_IFIFO) or is_stdout(path)


def is_stdout(path: Path) -> bool:
    """Test whether a path leads to stdout: "-", /dev/stdout, or the file that stdout is redirected to."""
    if os.fspath(path) == STDOUT:
        return True
    found, own = _stat(path), _stdout_stat()
    return found is not None and own is not None and os.path.samestat(found, own)


def check_outputs(
    files: Mapping[str, Path | None],
    *,
    folders: Mapping[str, Path | None] | None = None,
    inputs: Iterable[str | os.PathLike[str]] = (),
) -> None:
    """Refuse outputs that would destroy something, and try to write each, before anything is read.

    Args:
        files: the file that each option writes, by the option's name; None if it was not given.
        folders: likewise, folders that files are written into.
        inputs: files that the run reads.

    Raises:
        UsageError: an output that is a folder, a socket or a block device, an input, or another output.
        OutputError: nothing can be written there: no permission, or no space for a byte.
    """
    given = {option: path for option, path in files.items() if path is not None}
    places = {option: path for option, path in (folders or {}).items() if path is not None}
    for option, path in given.items():
        _check_kind(option, path)
    _check_distinct(given)
    _check_not_inputs(given, inputs)
    for option, path in given.items():
        _check_no_video(option, path)
    for option, path in places.items():
        if path.exists() and not path.is_dir():
            raise UsageError(f"{option} {path} is not a folder", wanted="a folder", fix=f"give {option} another path")
        _try_folder(path, path)
    for path in given.values():
        _try_file(path)


def remove_leftovers(folder: Path) -> None:
    """Remove unfinished files of killed runs from a folder, but not those that a living process is writing."""
    if sys.platform == "win32":
        return
    with suppress(OSError), os.scandir(folder) as entries:
        for path in [Path(entry.path) for entry in entries if entry.name.startswith(LEFTOVER_PREFIX)]:
            with suppress(OSError):
                handle = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)  # held by its writer while that lives
                    if stat.S_ISREG(os.fstat(handle).st_mode):
                        path.unlink()
                finally:
                    os.close(handle)


def _check_kind(option: str, path: Path) -> None:
    try:
        is_written_straight(path)
    except OSError as error:
        raise UsageError(
            f"{option} {path} cannot be written: {error.strerror}", wanted="a file", fix=f"give {option} another path"
        ) from error


def _check_distinct(files: Mapping[str, Path]) -> None:
    """Refuse two options for one place. They may share a device such as /dev/null, but no file and not stdout."""
    seen: dict[object, str] = {}
    for option, path in files.items():
        found = _stat(path)
        if is_stdout(path):
            place: object = STDOUT
        elif found is not None and stat.S_ISCHR(found.st_mode):
            continue
        else:
            place = os.path.realpath(path) if found is None else (found.st_dev, found.st_ino)
        if place in seen:
            raise UsageError(
                f"{seen[place]} and {option} both write to {path}",
                wanted="a separate path for each output",
                fix="give one of them another path, or drop it",
            )
        seen[place] = option


def _check_not_inputs(files: Mapping[str, Path], inputs: Iterable[str | os.PathLike[str]]) -> None:
    existing = {
        (found.st_dev, found.st_ino): option
        for option, path in files.items()
        if (found := _stat(path)) is not None and stat.S_ISREG(found.st_mode)
    }
    if not existing:  # a file that does not exist yet is no input
        return
    for name in inputs:
        with suppress(OSError, ValueError):  # an input that cannot be read is reported when its turn comes
            found = os.stat(name)  # noqa: PTH116 - a name with a NUL must not get lost in a Path
            option = existing.get((found.st_dev, found.st_ino))
            if option is not None:
                raise UsageError(
                    f"{option} {files[option]} is also an input ({os.fspath(name)})",
                    wanted="an output that is not an input",
                    fix=f"give {option} a path of its own; was its value forgotten?",
                )


def _check_no_video(option: str, path: Path) -> None:
    """Refuse a video as an output: with `--csv *.mp4` the shell makes the first video the value of the option."""
    found = None if is_written_straight(path) else _stat(path)
    if found is not None and found.st_size > 0 and path.suffix.lower() in VIDEO_SUFFIXES:
        raise UsageError(
            f"{option} {path} has the suffix of a video",
            wanted="a file that may be replaced",
            fix=f"give {option} a path of its own; was its value forgotten?",
        )


def _try_file(path: Path) -> None:
    if os.fspath(path) == STDOUT:
        return
    try:
        is_stream = is_written_straight(path)
        final = path if is_stream else Path(os.path.realpath(path))
        if final.exists() and not os.access(final, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise cannot_write(path, error) from error
    if not is_stream:
        _try_folder(final.parent, path)


def _try_folder(folder: Path, for_path: Path) -> None:
    """Write a byte, and remove it and new folders again, with unfinished files of killed runs."""
    try:
        new = [one for one in (folder, *folder.parents) if not one.exists()]
        try:
            with _temporary_beside(folder / "trial") as temporary:
                temporary.write_bytes(b"\0")
        finally:
            for one in new:
                with suppress(OSError):  # another run has written something there by now
                    one.rmdir()
    except OSError as error:
        raise cannot_write(for_path, error) from error
    remove_leftovers(folder)


@contextmanager
def _temporary_beside(final: Path) -> Iterator[Path]:
    """Create a file in the folder of `final`, locked while the block runs, so that no other run removes it."""
    final.parent.mkdir(parents=True, exist_ok=True)
    while True:
        path = final.with_name(f"{LEFTOVER_PREFIX}{secrets.token_hex(6)}{_suffix(final)}")
        _being_written.add(path)  # known before it exists, so that an interruption at any moment leaves none behind
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        if sys.platform == "win32":
            break
        with suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(handle).st_nlink:  # else another run took it for a leftover before it was locked
            break
        os.close(handle)
        _being_written.discard(path)
    try:
        yield path
    finally:
        os.close(handle)
        path.unlink(missing_ok=True)
        _being_written.discard(path)


def remove_unfinished() -> None:
    """Remove unfinished files of this process, if an interruption kept it from cleaning up."""
    for path in list(_being_written):
        with suppress(OSError):
            path.unlink(missing_ok=True)


def _put_in_place(temporary: Path, final: Path, *, replace: bool) -> None:
    """Give a complete file its final name, with the mode and the owner of the file it replaces."""
    old = _stat(final)
    if old is not None:
        with suppress(OSError, AttributeError):  # only root may give files away
            os.chown(temporary, old.st_uid, old.st_gid)
    temporary.chmod(0o666 & ~_umask() if old is None else stat.S_IMODE(old.st_mode))
    if not replace:
        try:
            os.link(temporary, final)  # unlike a rename, it fails where the name is taken
        except OSError:
            if final.exists():
                raise
        else:
            return  # the temporary name is removed like any other
    temporary.replace(final)  # also on a file system without hard links


def _copy_to_stream(source: Path, target: Path) -> None:
    with source.open("rb") as content:
        if is_stdout(target):
            sys.stdout.flush()
            shutil.copyfileobj(content, sys.stdout.buffer)
            sys.stdout.buffer.flush()
        else:
            with target.open("wb") as stream:
                shutil.copyfileobj(content, stream)


def _suffix(path: Path) -> str:
    return path.suffix if len(path.suffix) <= _LONGEST_SUFFIX else ""


def _stat(path: Path) -> os.stat_result | None:
    """Return the status of a path, following links; None if nothing is there."""
    try:
        return path.stat()
    except FileNotFoundError:
        return None
    except ValueError as error:  # a NUL
        raise OSError(errno.EINVAL, str(error)) from error


def _stdout_stat() -> os.stat_result | None:
    try:
        return os.fstat(sys.stdout.fileno())
    except (AttributeError, OSError, ValueError):  # no stdout, or one that is not a file, as in a test or a notebook
        return None


def _umask() -> int:
    current = os.umask(0o022)
    os.umask(current)
    return current
