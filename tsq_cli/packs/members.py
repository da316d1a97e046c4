"""Reading of a pack's files, which are untrusted: regular files inside its folder, and nothing else."""

from __future__ import annotations

import hashlib
import os
import stat
from io import BufferedReader
from pathlib import Path

from tsq_cli.errors import WeightsError
from tsq_cli.packs.limits import MAX_WEIGHTS_BYTES

REFETCH = "fetch the pack again, or correct it"
# Never wait for a writer, never take a terminal for one's own; Windows has neither these nor FIFOs in folders.
_FLAGS = sum(getattr(os, name, 0) for name in ("O_NONBLOCK", "O_NOCTTY", "O_NOFOLLOW", "O_CLOEXEC", "O_BINARY"))
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def open_member(path: Path, *, inside: Path | None, fix: str = REFETCH) -> BufferedReader:
    """Open a regular file for reading; anything else is refused without being opened.

    Args:
        path: of the file; symlinks are followed.
        inside: the pack's folder, out of which no symlink may lead; None for a file of an installed package, which an
            installer may have linked to its own store.
        fix: what to do about a file that cannot be used.

    Raises:
        WeightsError: the file is missing, cannot be read, is no regular file, or lies outside the folder.
    """
    try:
        real = os.path.realpath(path, strict=True)
        if inside is not None and not Path(real).is_relative_to(os.path.realpath(inside)):
            raise WeightsError(
                f"{path} leads out of the pack, to {real}",
                wanted="a file inside the pack's folder",
                fix="put a copy of the file in its place if you trust it, else do not use this pack",
            )
        found = os.lstat(real)
        if not stat.S_ISREG(found.st_mode):
            kind = _KINDS.get(stat.S_IFMT(found.st_mode), "no regular file")
            raise WeightsError(f"{path} is {kind}", wanted="a regular file", fix=fix)
        stream = os.fdopen(os.open(real, os.O_RDONLY | _FLAGS), "rb")
    except OSError as error:
        raise _unreadable(path, error, fix) from error
    if not os.path.samestat(found, os.fstat(stream.fileno())):  # something was put in its place meanwhile
        stream.close()
        raise WeightsError(f"{path} changed while it was opened", wanted="a file at rest", fix="try again")
    return stream


def read_member(path: Path, *, inside: Path, at_most: int) -> bytes:
    """Read a small file of a pack.

    Raises:
        WeightsError: as open_member, or more than `at_most` bytes.
    """
    with open_member(path, inside=inside) as stream:
        try:
            content = stream.read(at_most + 1)
        except OSError as error:
            raise _unreadable(path, error, REFETCH) from error
    if len(content) > at_most:
        raise WeightsError(f"{path} has more than {at_most:,} bytes", wanted="a file of that size", fix=REFETCH)
    return content


def verify_member(path: Path, sha256: str, *, inside: Path | None, fix: str = REFETCH) -> Path:
    """Return `path` after verifying its SHA-256.

    Args:
        path, inside, fix: as for open_member.
        sha256: expected, 64 hex digits.

    Raises:
        WeightsError: as open_member, a file above MAX_WEIGHTS_BYTES, or one of another sha256.
    """
    with open_member(path, inside=inside, fix=fix) as stream:
        size = os.fstat(stream.fileno()).st_size
        if size > MAX_WEIGHTS_BYTES:
            raise WeightsError(f"{path} has {size:,} bytes", wanted=f"at most {MAX_WEIGHTS_BYTES:,}", fix=fix)
        try:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        except OSError as error:
            raise _unreadable(path, error, fix) from error
    check_digest(path, digest, sha256, size, fix=fix)
    return path


def check_digest(path: Path, found: str, wanted: str, size: int, *, fix: str = REFETCH) -> None:
    """Refuse a file whose sha256 is not the one described.

    Raises:
        WeightsError: it is another.
    """
    if found != wanted:
        raise WeightsError(f"{path} has sha256 {found[:12]}... ({size} bytes)", wanted=f"{wanted[:12]}...", fix=fix)


def _unreadable(path: Path, error: OSError, fix: str) -> WeightsError:
    return WeightsError(f"cannot read {path} ({error.strerror})", wanted="a file that can be read", fix=fix)
