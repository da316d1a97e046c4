"""Room 3: finding packs and reading what they say of themselves. Free of torch."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import fields
from pathlib import Path
from typing import Any

from tsq_cli.errors import UsageError, WeightsError
from tsq_cli.packs.reading import Misfit, build
from tsq_cli.packs.schema import SCHEMA_VERSION, PackConfig, PackedFile, PackFile

PACK_JSON = "pack.json"
SEARCH_VARIABLE = "TSQ_PACKS"
_REFETCH = "fetch the pack again, or correct it"


def list_packs() -> list[PackConfig]:
    """All packs in the search folders, by name: the shipped ones, then those of $TSQ_PACKS.

    Raises:
        UsageError: a folder named in $TSQ_PACKS does not exist.
        WeightsError: a damaged pack among them.
    """
    return [read_pack(folder) for folder in _pack_folders()]


def find_pack(name_or_path: str | Path) -> PackConfig:
    """Find a pack by the name of its folder in the search folders, or by a path to its folder.

    A text with a path separator is a path; any other is a name, or failing that a folder here.

    Raises:
        UsageError: no such pack (the message says which exist), or two of that name.
        WeightsError: a pack.json that is missing, damaged or of another format.
    """
    text = os.fspath(name_or_path)
    path = Path(text).expanduser()
    is_path = isinstance(name_or_path, Path) or os.sep in text or text in (".", "..")
    matches = [] if is_path else [folder for folder in _pack_folders() if folder.name == text]
    if len(matches) > 1:
        raise UsageError(
            f"there are {len(matches)} packs called {text}: {', '.join(map(str, matches))}",
            wanted="a name that means one pack",
            fix="give the folder's path instead",
        )
    if matches:
        return read_pack(matches[0])
    if path.is_dir():
        return read_pack(path)
    names = ", ".join(folder.name for folder in _pack_folders())
    raise UsageError(
        f"there is no pack {text!r}",
        wanted=f"one of {names}, or a folder that holds a {PACK_JSON}",
        fix="see `tsq packs list`",
    )


def read_pack(folder: Path) -> PackConfig:
    """Read and check pack.json and the name lists of one folder; the weights are not touched.

    Raises:
        WeightsError: a file that is missing, damaged, of another format or of another sha256.
    """
    folder = folder.resolve()
    path = folder / PACK_JSON
    document = _read_json(path)
    version = document.get("schema_version")
    if version != SCHEMA_VERSION:
        raise WeightsError(
            f"{path} has schema_version {version!r}",
            wanted=f"schema_version {SCHEMA_VERSION}",
            fix="upgrade tsq-cli, or use a pack made for this version",
        )
    try:
        parsed = build(PackFile, document)
    except Misfit as misfit:
        place = f"{path}: {misfit.where}" if misfit.where else str(path)
        raise WeightsError(f"{place} is {misfit.got}", wanted=misfit.wanted, fix=_REFETCH) from misfit
    canonical = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return PackConfig(
        **{item.name: getattr(parsed, item.name) for item in fields(PackFile)},
        name=folder.name,
        folder=folder,
        sha256=hashlib.sha256(canonical.encode()).hexdigest(),
        class_names=_read_names(folder, parsed.classes),
        object_names=_read_names(folder, parsed.objects),
    )


def checked_file(path: Path, sha256: str, *, fix: str = _REFETCH) -> Path:
    """The path itself, once its content is known to be the one described.

    Raises:
        WeightsError: the file is missing, cannot be read, or has another sha256.
    """
    try:
        with path.open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise WeightsError(f"cannot read {path} ({error.strerror})", wanted="a file of the pack", fix=fix) from error
    if found != sha256:
        raise WeightsError(
            f"{path} has sha256 {found[:12]}... ({path.stat().st_size} bytes)", wanted=f"{sha256[:12]}...", fix=fix
        )
    return path


def _pack_folders() -> list[Path]:
    """Folders that hold a pack.json: the shipped ones, then those of each folder in $TSQ_PACKS."""
    package = Path(__file__).resolve().parents[1]
    # A wheel carries the packs inside the package; a clone or an editable install has them beside it.
    shipped = package / "weights" if (package / "weights").is_dir() else package.parent / "weights"
    roots = [shipped]
    for entry in filter(None, os.environ.get(SEARCH_VARIABLE, "").split(os.pathsep)):
        root = Path(entry).expanduser()
        if not root.is_dir():
            raise UsageError(
                f"{SEARCH_VARIABLE} names {entry}, which is no folder",
                wanted=f"folders of packs, separated by {os.pathsep!r}",
                fix=f"correct or unset {SEARCH_VARIABLE}",
            )
        roots.append(root)
    return [path.parent for root in roots for path in sorted(root.glob(f"*/{PACK_JSON}"))]


def _read_json(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise WeightsError(f"cannot read {path} ({error.strerror})", wanted=f"a {PACK_JSON}", fix=_REFETCH) from error
    except ValueError as error:  # bad JSON or bad UTF-8
        raise WeightsError(f"{path} is no JSON ({error})", wanted="a JSON object", fix=_REFETCH) from error
    if not isinstance(document, dict):
        raise WeightsError(f"{path} holds a JSON {type(document).__name__}", wanted="a JSON object", fix=_REFETCH)
    return document


def _read_names(folder: Path, part: PackedFile) -> tuple[str, ...]:
    path = checked_file(folder / part.file, part.sha256)
    try:
        names = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise WeightsError(f"{path} is no UTF-8 text", wanted="one name per line", fix=_REFETCH) from error
    if not names or "" in names or len(set(names)) < len(names):
        raise WeightsError(f"{path} has empty or repeated lines", wanted="unique names, one per line", fix=_REFETCH)
    return tuple(names)
