"""Room 0: writing files so that nothing half written is ever left under a final name."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tsq_cli.errors import OutputError


@contextmanager
def atomic_path(final: Path) -> Iterator[Path]:
    """Yield a temporary path beside `final`; rename it to `final` when the block ends well, else remove it.

    The folder of `final` is made where missing. The temporary name keeps the suffix, as encoders choose by it.

    Raises:
        OutputError: the file cannot be written (full disk, no permission, a folder in the way).
    """
    temporary: Path | None = None
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=final.parent, prefix=f".{final.stem[:40]}-", suffix=final.suffix)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(final)
    except OSError as error:
        raise cannot_write(final, error) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def write_text(final: Path, text: str) -> None:
    """Write a text file as UTF-8, whole or not at all; what is no text (bytes in a file's name) is written as escapes.

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
    """The error for a path that could not be written, with the system's own reason."""
    return OutputError(
        f"cannot write {path}: {error.strerror or error}",
        wanted="a writable place with free space",
        fix="choose another path or free some space, then run again (finished videos in a --jsonl file are skipped)",
    )


def _umask() -> int:
    current = os.umask(0o022)
    os.umask(current)
    return current
