"""Videos for an agent: find one under the served folders, select its frames, describe them. Free of the SDK."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tsq_cli.clip import Clip, load_clip
from tsq_cli.config import SelectSettings
from tsq_cli.errors import InputNotFoundError, UsageError
from tsq_cli.inputs import collect_inputs
from tsq_cli.pictures import Outputs, output_stems, write_pictures
from tsq_cli.pipeline import Selector
from tsq_cli.record import Record
from tsq_cli.report import page_words
from tsq_cli.report.text import clock

if TYPE_CHECKING:
    from PIL.Image import Image

MOST_LISTED = 200
"""Videos that are listed at most (ours): an agent reads every one of them."""

MOST_FRAMES = 64
"""Frames that a call may ask for (ours)."""

JPEG_QUALITY = 85


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """A contact sheet for an agent: JPEG, its estimated tokens, and a text that lists the frames' times."""

    jpeg: bytes
    tokens: int
    text: str


class Videos:
    """The videos under some folders, and one model for all of them, loaded when it is first needed.

    Calls may come from several threads; the model serves one at a time.

    Args:
        folders: nothing outside them is read; symlinks that lead out of them are refused.
        pack, device, dtype: as for Selector.load.
        frames_dir: where selected frames are saved at full size; None saves none.

    Raises:
        UsageError: a folder that is not there, or none at all.
    """

    def __init__(
        self,
        folders: Sequence[Path],
        *,
        pack: str,
        device: str = "auto",
        dtype: str = "auto",
        frames_dir: Path | None = None,
    ) -> None:
        for folder in folders:
            if not folder.is_dir():
                raise UsageError(f"{folder} is no folder", wanted="folders with videos", fix="correct the path")
        if not folders:
            raise UsageError("no folder was named", wanted="folders with videos", fix="name at least one")
        self._roots = [Path(os.path.realpath(folder)) for folder in folders]
        self._model: dict[str, Any] = {"pack": pack, "device": device, "dtype": dtype}
        self._frames_dir = None if frames_dir is None else frames_dir.absolute()
        self._selector: Selector | None = None
        self._lock = threading.Lock()

    def find(self, path: str) -> str:
        """Resolve a path that an agent names, relative to one of the folders or absolute.

        Raises:
            InputNotFoundError: nothing is there, or it lies outside the folders; outside, the two look alike.
        """
        for root in self._roots:
            try:
                real = Path(os.path.realpath(root / path, strict=True))
            except (OSError, ValueError):  # ValueError: NUL in the name
                continue
            if any(real.is_relative_to(allowed) for allowed in self._roots) and real.is_file():
                return str(real)
        raise InputNotFoundError(
            f"there is no video {path!r} in the folders of this server",
            wanted="a file under " + " or ".join(map(str, self._roots)),
            fix="see list_videos",
        )

    def list(self) -> dict[str, Any]:
        """List the videos under the folders, by the paths that the other tools take, if they are text."""
        found: list[str] = []
        for root in self._roots:
            try:
                found += collect_inputs([str(root)], recursive=True).paths
            except InputNotFoundError:  # a folder without a video
                continue
        inside = [path for path in dict.fromkeys(found) if self._is_inside(path) and _is_text(path)]
        return {"videos": inside[:MOST_LISTED], "total": len(inside)}

    def select(self, path: str, settings: SelectSettings) -> dict[str, Any]:
        """Select frames of a video, and save them if the server was started with a folder for frames.

        Raises:
            TsqError: a path outside the folders, a video that cannot be used, weights that are missing.
        """
        with self._selected(path, settings) as (record, clip):
            if self._frames_dir is not None:
                stem = output_stems([record.path])[record.path]
                record = write_pictures(record, clip, Outputs(frames_dir=self._frames_dir), stem)
            return described(record)

    def contact_sheet(self, path: str, settings: SelectSettings, *, max_tokens: int) -> Sheet:
        """Draw the selected frames with their times into one picture.

        Raises:
            UsageError: so many frames do not fit into the budget.
            TsqError: as for select.
        """
        from tsq_cli.report.token_sheet import draw_token_sheet, image_tokens

        with self._selected(path, settings) as (record, clip):
            frames = record.frames
            pixels = [clip.batch.pixels[frame.candidate.position] for frame in frames]
            captions = [f"{frame.rank}  {clock(frame.candidate.time_seconds)}" for frame in frames]
            sheet = draw_token_sheet(pixels, captions, max_tokens=max_tokens)
            tokens = image_tokens(*sheet.size)
            lines = [f"{Path(record.path).name}: {len(frames)} frames, about {tokens} tokens, left to right, top down"]
            lines += [f"{told['rank']}. {told['time']} - {told['why']}" for told in described(record)["frames"]]
            return Sheet(jpeg=_jpeg(sheet), tokens=tokens, text="\n".join(lines))

    @contextmanager
    def _selected(self, path: str, settings: SelectSettings) -> Iterator[tuple[Record, Clip]]:
        if settings.num_frames != "auto" and settings.num_frames > MOST_FRAMES:
            raise UsageError(
                f"num_frames is {settings.num_frames}", wanted=f"1 to {MOST_FRAMES}", fix="ask for fewer frames"
            )
        with closing(load_clip(self.find(path), settings)) as clip, self._lock:
            if self._selector is None:
                self._selector = Selector.load(**self._model)
            (record,) = self._selector.process_clips([clip], settings)
            yield record, clip

    def _is_inside(self, path: str) -> bool:
        real = Path(os.path.realpath(path))
        return any(real.is_relative_to(root) for root in self._roots)


def described(record: Record) -> dict[str, Any]:
    """Describe a record in what an agent needs of it: it pays for every word."""
    full = record.to_dict()
    shown: dict[str, Any] = {
        "video": full["video"]["path"],
        "duration_seconds": full["video"]["duration_seconds"],
        "rule": full["rule"],
        "frames": [
            {
                "rank": frame["rank"],
                "time_seconds": frame["time_seconds"],
                "time": clock(frame["time_seconds"]),
                "why": page_words.why(frame, full),
                **({"file": frame["path"]} if frame["path"] else {}),
            }
            for frame in full["frames"]
        ],
        "notes": list(full["notes"]),
    }
    if full["rule_reason"]:
        shown["rule_reason"] = full["rule_reason"]
    if full["query"]:
        shown["queries"] = [
            {"text": query["text"], "is_shown": query["matched"], "best_match": max(query["matches"])}
            for query in full["query"]["queries"]
        ]
        for told, frame in zip(shown["frames"], full["frames"], strict=True):
            told["match"] = max(query["matches"][frame["position"]] for query in full["query"]["queries"])
    return shown


def _is_text(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def _jpeg(image: Image) -> bytes:
    encoded = io.BytesIO()
    image.save(encoded, format="JPEG", quality=JPEG_QUALITY)
    return encoded.getvalue()
