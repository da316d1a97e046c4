"""The kinds of export by name, and the file of each."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, cast

from PIL import Image

from tsq_cli.config import ExportKind
from tsq_cli.errors import UsageError
from tsq_cli.export import editors, messages, processors
from tsq_cli.export.images import DEFAULT_QUALITY, Jpeg, encode
from tsq_cli.export.material import Material
from tsq_cli.files import atomic_path, is_written_straight
from tsq_cli.types import UInt8Array

Picture = Jpeg | Image.Image | UInt8Array | str | os.PathLike[str]
"""A picture of a frame: encoded already, an image, uint8 [H, W, 3] RGB, or a path."""

_VIDEO_ID = re.compile(rb'tsq_video_id"?: "?([0-9a-f]{8})\b')
_HEAD = 1024  # bytes of an export that hold its video's id


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One kind of export: the ending of its files, its content (JSON or text), and whether pictures are in it."""

    ending: str
    content: Callable[[Material], dict[str, Any] | str]
    has_pictures: bool = False


KINDS: Mapping[ExportKind, Kind] = {
    "openai": Kind(ending="openai.json", content=messages.openai, has_pictures=True),
    "anthropic": Kind(ending="anthropic.json", content=messages.anthropic, has_pictures=True),
    "qwen": Kind(ending="qwen.json", content=messages.qwen, has_pictures=True),
    "vllm": Kind(ending="vllm.json", content=processors.vllm, has_pictures=True),
    "hf": Kind(ending="hf.json", content=processors.hf, has_pictures=True),
    "webvtt": Kind(ending="vtt", content=editors.webvtt),
    "edl": Kind(ending="edl", content=editors.edl),
    "otio": Kind(ending="otio", content=editors.otio),
    "ffmetadata": Kind(ending="ffmetadata", content=editors.ffmetadata),
}


def check_kinds(names: Sequence[str]) -> tuple[ExportKind, ...]:
    """Check the names of exports, each listed once in the result.

    Raises:
        UsageError: an unknown name, or a kind whose library is not installed.
    """
    for name in names:
        if name not in KINDS:
            near = get_close_matches(name, KINDS, n=1, cutoff=0.0)[0]
            raise UsageError(
                f"there is no export {name!r}", wanted="one of " + ", ".join(KINDS), fix=f"try --export {near}"
            )
    if "otio" in names:
        editors.check_otio()
    return cast("tuple[ExportKind, ...]", tuple(dict.fromkeys(names)))


def has_pictures(kinds: Sequence[ExportKind]) -> bool:
    """Test whether any of the kinds holds pictures."""
    return any(KINDS[kind].has_pictures for kind in kinds)


def build(
    kind: ExportKind,
    record: Mapping[str, Any],
    images: Sequence[Picture] = (),
    *,
    max_side: int | None = None,
    quality: int = DEFAULT_QUALITY,
    video_id: str | None = None,
) -> dict[str, Any] | str:
    """Build an export: a dictionary ready for JSON, or the text of a file.

    Args:
        kind: a name of KINDS.
        record: of the video (docs/schema.json).
        images: a picture per frame, in the order of record["frames"]; not needed for kinds without pictures.
        max_side, quality: of the pictures, see tsq_cli.export.images.encode.
        video_id: identity of the video file, if it is to be marked.

    Raises:
        UsageError: the number of images is not that of the frames, or opentimelineio is missing.
    """
    pictures = encode_all(record, images, max_side=max_side, quality=quality) if KINDS[kind].has_pictures else []
    return KINDS[kind].content(Material(record=record, pictures=pictures, video_id=video_id))


def encode_all(
    record: Mapping[str, Any], images: Sequence[Picture], *, max_side: int | None = None, quality: int = DEFAULT_QUALITY
) -> list[Jpeg]:
    """Encode the pictures of a record's frames, given in the order of record["frames"], and put them in order of time.

    Raises:
        UsageError: the number of images is not that of the frames.
    """
    frames = record["frames"]
    if len(images) != len(frames):
        raise UsageError(
            f"{len(images)} images for {len(frames)} frames", wanted="an image per frame", fix="give one for each"
        )
    order = sorted(range(len(frames)), key=lambda number: frames[number]["position"])
    return [encode(images[number], max_side=max_side, quality=quality) for number in order]


def write(
    kind: ExportKind,
    record: Mapping[str, Any],
    images: Sequence[Picture] = (),
    *,
    folder: Path,
    stem: str,
    max_side: int | None = None,
    quality: int = DEFAULT_QUALITY,
    video_id: str | None = None,
    overwrite: bool = False,
) -> str:
    """Write an export to `{folder}/{stem}.{ending}`, whole or not at all, and never over a file of another video.

    Args:
        kind, record, images, max_side, quality, video_id: as of build.
        folder, stem: folder to write into, and start of the name.
        overwrite: whether any other file may be replaced.

    Returns:
        The path written.

    Raises:
        UsageError: as build.
        OutputError: the file cannot be written.
    """
    content = build(kind, record, images, max_side=max_side, quality=quality, video_id=video_id)
    text = content if isinstance(content, str) else json.dumps(content, indent=1) + "\n"
    final = export_path(kind, folder, stem)
    is_ours = os.path.lexists(final) and may_write(final, video_id)
    with atomic_path(final, replace=overwrite or is_ours) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")
    return str(final)


def export_path(kind: ExportKind, folder: Path, stem: str) -> Path:
    """Name an export's file."""
    return folder / f"{stem}.{KINDS[kind].ending}"


def may_write(path: Path, video_id: str | None) -> bool:
    """Test whether writing an export would replace nothing but an older export of the same video."""
    try:
        if is_written_straight(path) or not os.path.lexists(path):
            return True
    except OSError:  # writing will say why
        return True
    return video_id is not None and video_id_in(path) == video_id


def video_id_in(path: Path) -> str | None:
    """Read the identity of the video from an export; None for any other file."""
    try:
        with path.open("rb") as file:
            found = _VIDEO_ID.search(file.read(_HEAD))
    except OSError:
        return None
    return None if found is None else found[1].decode()
