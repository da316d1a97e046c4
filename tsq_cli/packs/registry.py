"""Finding packs and reading their descriptions. Free of torch."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from tsq_cli.config import CLIP_PACK, DEFAULT_PACK
from tsq_cli.errors import UsageError, WeightsError
from tsq_cli.packs.limits import MAX_JSON_BYTES, MAX_LIST_BYTES, MAX_NAME, MAX_NAMES
from tsq_cli.packs.members import REFETCH, check_digest, read_member
from tsq_cli.packs.schema import PACK_SCHEMA_VERSION, PackConfig, PackedFile, PackFile
from tsq_cli.printable import printable, shown
from tsq_cli.validation import SchemaError, check_document, from_dict

PACK_JSON = "pack.json"
SEARCH_VARIABLE = "TSQ_PACKS"


def list_packs() -> tuple[list[PackConfig], dict[Path, WeightsError]]:
    """Read all packs in the search folders: the shipped ones, then those of $TSQ_PACKS, each in the order of names.

    Returns:
        The packs, and for each folder whose pack is damaged what is wrong with it.

    Raises:
        UsageError: a folder named in $TSQ_PACKS does not exist or may not be read.
    """
    packs, damaged = [], {}
    for folder in _pack_folders():
        try:
            packs.append(read_pack(folder))
        except WeightsError as error:
            damaged[folder] = error
    return packs, damaged


def pack_names() -> list[str]:
    """List the names of all packs, damaged or not, without reading them.

    Raises:
        UsageError: as list_packs.
    """
    return [folder.name for folder in _pack_folders()]


def find_pack(name_or_path: str | Path) -> PackConfig:
    """Find a pack by the name of its folder in the search folders, or by a path to its folder.

    A text with a path separator is a path; any other is a name, or failing that a folder here. clip:owner/name is the
    pack `clip` with another image-text model. Other packs, damaged or not, are not read.

    Raises:
        UsageError: no such pack (the message says which exist), or two of that name.
        WeightsError: a pack.json that is missing, damaged or of another format.
    """
    text = os.fspath(name_or_path)
    if text.startswith(f"{CLIP_PACK}:"):
        from tsq_cli.packs.image_text import checked_model

        return find_pack(CLIP_PACK).with_model(checked_model(text.partition(":")[2]))
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
    path = Path(os.path.expanduser(text))  # noqa: PTH111 - Path.expanduser raises where there is no such user
    if text and _is_folder(path):
        return read_pack(path)
    raise UsageError(
        f"there is no pack {shown(text, 200)}",
        wanted=f"one of {', '.join(pack_names())}, or a folder that holds a {PACK_JSON}",
        fix="see `tsq packs list`",
    )


def pack_of_classes(pack: str, classes: str | Sequence[str]) -> PackConfig:
    """Find a pack around an image-text model and give it classes in words; the default pack means the pack clip.

    Args:
        pack: name or folder.
        classes: names, or a text as for parse_classes.

    Raises:
        UsageError: as parse_classes; no such pack, or one whose classes are those it was trained for.
    """
    names = parse_classes(classes) if isinstance(classes, str) else _checked_classes(tuple(classes), "the list")
    return find_pack(CLIP_PACK if pack == DEFAULT_PACK else pack).with_classes(names)


def parse_classes(text: str) -> tuple[str, ...]:
    """Read class names from a file with one per line, or else from a text with commas between them.

    Raises:
        UsageError: fewer than two names, too many, equal ones, or one that cannot be shown.
    """
    path = Path(text)
    try:
        is_file = path.is_file()
        content = path.read_text(encoding="utf-8") if is_file and path.stat().st_size <= MAX_LIST_BYTES else None
    except (OSError, ValueError) as error:
        raise UsageError(f"{shown(text, 200)} cannot be read", wanted="a text file", fix="check the file") from error
    names = [name.strip() for name in (text.split(",") if content is None else content.splitlines())]
    named = tuple(name for name in names if name)
    if len(named) < 2 and not is_file:
        raise _bad_classes(f"{shown(text, 200)} is neither a file nor a list of names with commas")
    return _checked_classes(named, shown(text, 200))


def _checked_classes(names: tuple[str, ...], where: str) -> tuple[str, ...]:
    for number, name in enumerate(names, 1):
        if (flaw := name_flaw(name)) is not None:
            raise _bad_classes(f"class {number} {flaw}")
    if not 2 <= len(names) <= MAX_NAMES:
        raise _bad_classes(f"there are {len(names)} classes in {where}")
    if len(set(names)) < len(names):
        raise _bad_classes(f"there are equal classes in {where}")
    return names


def _bad_classes(flaw: str) -> UsageError:
    return UsageError(
        flaw,
        wanted=f"2 to {MAX_NAMES:,} different names of at most {MAX_NAME} characters, in a file or with commas",
        fix='try --classes "a dog,a cat"',
    )


def read_pack(folder: Path) -> PackConfig:
    """Read and check pack.json and the name lists of one folder; the weights are not touched.

    Raises:
        WeightsError: a file that is missing, damaged, of another format or of another sha256.
    """
    folder = folder.resolve()
    if printable(folder.name) != folder.name:
        raise WeightsError(
            f"a pack's folder is called {shown(folder.name)}", wanted="a name that can be shown", fix="rename it"
        )
    path = folder / PACK_JSON
    document = read_json(path)
    try:
        check_document(document)
        if document.get("schema_version") != PACK_SCHEMA_VERSION:
            raise WeightsError(
                f"{path} has schema_version {shown(document.get('schema_version'))}",
                wanted=f"schema_version {PACK_SCHEMA_VERSION}",
                fix="upgrade tsq-cli, or use a pack made for this version",
            )
        parsed = from_dict(PackFile, document)
    except SchemaError as misfit:
        place = f"{path}: {misfit.where}" if misfit.where else str(path)
        raise WeightsError(f"{place} is {misfit.got}", wanted=misfit.wanted, fix=REFETCH) from misfit
    canonical = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return PackConfig(
        **{item.name: getattr(parsed, item.name) for item in fields(PackFile)},
        name=folder.name,
        folder=folder,
        sha256=hashlib.sha256(canonical.encode()).hexdigest(),
        class_names=_read_names(folder, parsed.classes),
        object_names=_read_names(folder, parsed.objects),
    )


def name_flaw(name: str) -> str | None:
    """Describe why a text cannot name a class or an object; None where it can."""
    if not name:
        return "is empty"
    if printable(name) != name:
        return f"is {shown(name)}, with characters that cannot be shown"
    return f"has {len(name):,} characters, more than {MAX_NAME}" if len(name) > MAX_NAME else None


def _pack_folders() -> list[Path]:
    """List folders that hold a pack.json, readable or not: the shipped ones, then those in $TSQ_PACKS' folders."""
    package = Path(__file__).resolve().parents[1]
    # A wheel carries the packs inside the package; a clone or an editable install has them beside it.
    shipped = package / "weights" if (package / "weights").is_dir() else package.parent / "weights"
    roots = [shipped]
    for entry in filter(None, os.environ.get(SEARCH_VARIABLE, "").split(os.pathsep)):
        root = Path(os.path.expanduser(entry))  # noqa: PTH111 - as in find_pack
        if not _is_folder(root):
            raise UsageError(
                f"{SEARCH_VARIABLE} names {shown(entry, 200)}, which is no folder",
                wanted=f"folders of packs, separated by {os.pathsep!r}",
                fix=f"correct or unset {SEARCH_VARIABLE}",
            )
        roots.append(root)
    try:
        entries = [path for root in roots for path in sorted(root.iterdir())]
    except OSError as error:
        raise _not_entered(error) from error
    return [path for path in entries if os.path.lexists(path / PACK_JSON)]


def _is_folder(path: Path) -> bool:
    """Tell whether a path leads to a folder.

    Raises:
        UsageError: a name that no file can have, or a parent folder that may not be entered.
    """
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: NUL in the name
        return False
    except OSError as error:
        raise _not_entered(error) from error


def _not_entered(error: OSError) -> UsageError:
    return UsageError(
        f"cannot look at {shown(str(error.filename), 200)} ({error.strerror})",
        wanted="a folder that can be read",
        fix="correct the path, or its permissions",
    )


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object of a pack's folder.

    Raises:
        WeightsError: a file that is missing, too large, or no such object.
    """
    content = read_member(path, inside=path.parent, at_most=MAX_JSON_BYTES)
    try:
        document = json.loads(content.decode("utf-8"))
    except RecursionError as error:
        raise WeightsError(f"{path} is nested too deeply", wanted="a pack's description", fix=REFETCH) from error
    except ValueError as error:  # bad JSON or bad UTF-8
        raise WeightsError(f"{path} is no JSON ({error})", wanted="a JSON object", fix=REFETCH) from error
    if not isinstance(document, dict):
        raise WeightsError(f"{path} holds a JSON {type(document).__name__}", wanted="a JSON object", fix=REFETCH)
    return document


def _read_names(folder: Path, part: PackedFile) -> tuple[str, ...]:
    """Read a list of names, one per line; only a line feed ends a line."""
    path = folder / part.file
    content = read_member(path, inside=folder, at_most=MAX_LIST_BYTES)
    check_digest(path, hashlib.sha256(content).hexdigest(), part.sha256, len(content))
    try:
        names = content.decode("utf-8").removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        raise WeightsError(f"{path} is no UTF-8 text", wanted="one name per line", fix=REFETCH) from error
    if len(names) > MAX_NAMES:
        raise WeightsError(f"{path} has {len(names):,} lines", wanted=f"at most {MAX_NAMES:,} names", fix=REFETCH)
    for number, name in enumerate(names, 1):
        if flaw := name_flaw(name):
            raise WeightsError(
                f"{path}: line {number} {flaw}",
                wanted=f"one name per line, of at most {MAX_NAME} characters that can be shown",
                fix=REFETCH,
            )
    if len(set(names)) < len(names):
        raise WeightsError(f"{path} has repeated lines", wanted="unique names, one per line", fix=REFETCH)
    return tuple(names)
