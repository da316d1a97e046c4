"""Room 4: many videos through one model, in order, with decoding ahead, resume, and no video stopping another."""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from tsq_cli.clip import Clip, load_clip
from tsq_cli.config import SelectSettings, settings_hash
from tsq_cli.errors import TsqError, UsageError, one_line
from tsq_cli.record import Record, SelectedFrame
from tsq_cli.report.frames import ImageFormat, save_frame
from tsq_cli.report.maps import MapFormat, save_map
from tsq_cli.report.sheet import SHEET_SUFFIXES, save_sheet
from tsq_cli.video import decode_frames

if TYPE_CHECKING:
    from tsq_cli.report.page import Page

# Full-resolution frames decoded at a time when saving: bounds memory at four 8K frames (400 MB) whatever K is.
FRAMES_AT_ONCE = 4


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """Pictures to write: each video's selected frames, their saliency maps, a contact sheet; one page about all."""

    frames_dir: Path | None = None
    image_format: ImageFormat = "jpg"
    sheet: Path | None = None
    maps_dir: Path | None = None
    map_format: MapFormat = "overlay"
    html: Path | None = None

    def __post_init__(self) -> None:
        if self.sheet is not None and self.sheet.suffix.lower() not in SHEET_SUFFIXES:
            raise UsageError(
                f"the sheet's name is {self.sheet.name}",
                wanted="a name ending in " + ", ".join(SHEET_SUFFIXES),
                fix="try --sheet sheet.png",
            )

    def identity(self) -> dict[str, object]:
        """What takes part in the settings hash: a run that must write other files is another run.

        The page does not: it is written anew in every run, with what earlier runs left in the records.
        """
        return {
            "frames_dir": None if self.frames_dir is None else str(self.frames_dir.absolute()),
            "image_format": self.image_format,
            "sheet": None if self.sheet is None else str(self.sheet.absolute()),
            "maps_dir": None if self.maps_dir is None else str(self.maps_dir.absolute()),
            "map_format": self.map_format,
        }


class Worker(Protocol):
    """Turns decoded clips into records: tsq_cli.pipeline.Selector and tsq_cli.classifier.Classifier."""

    def process_clips(
        self, clips: Sequence[Clip], settings: SelectSettings, *, settings_hash: str | None = None
    ) -> list[Record]:
        """One record for each clip, in order."""
        ...

    def send_ahead(self, clips: Sequence[Clip], settings: SelectSettings) -> None:
        """Begin to copy the candidates of clips that come next to where they are looked at."""
        ...


@dataclass(frozen=True, kw_only=True)
class RunPlan:
    """A whole run: which videos, how, with how many decoding workers and videos a batch, and what is done already.

    `recognition` is what identifies the recogniser and what it is asked; None where nothing is recognised.
    """

    paths: Sequence[str]
    settings: SelectSettings
    outputs: Outputs
    pack_sha256: str | None
    recognition: Mapping[str, Any] | None = None
    batch_size: int = 1
    workers: int = 1
    done: Mapping[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("batch_size", "workers"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}", wanted="1 or more", fix="leave it at the default")

    @property
    def settings_hash(self) -> str:
        """Identity shared by all records of the run."""
        return settings_hash(
            self.settings,
            pack_sha256=self.pack_sha256,
            outputs=self.outputs.identity(),
            recognition=self.recognition,
        )


def run(plan: RunPlan, load_worker: Callable[[], Worker]) -> Generator[dict[str, Any]]:
    """Yield one record (as a dictionary, docs/schema.json) for each path, in the order of the paths.

    Decoding starts at once in worker threads, while `load_worker` loads the weights in this one. Errors of one video
    become its record; errors of the weights are raised. The page is finished when the run ends, early or not.
    """
    if plan.outputs.html is None:
        yield from _run(plan, load_worker, None)
        return
    from tsq_cli.report.page import Page  # templates and their engine, which most runs do without

    with Page(plan.outputs.html) as page:
        yield from _run(plan, load_worker, page)


def _run(plan: RunPlan, load_worker: Callable[[], Worker], page: Page | None) -> Iterator[dict[str, Any]]:
    stop = threading.Event()
    threads = max(1, min(2, (os.cpu_count() or 1) // plan.workers))
    stems = output_stems(plan.paths)
    waiting = deque(path for path in plan.paths)
    pending: deque[tuple[str, Future[Clip] | None]] = deque()
    worker: Worker | None = None
    executor = ThreadPoolExecutor(plan.workers, thread_name_prefix="tsq-decode")
    try:
        while waiting or pending:
            # Enough clips ahead to keep every worker busy while one batch is scored, and no more: memory stays flat.
            while waiting and len(pending) < plan.workers + plan.batch_size:
                path = waiting.popleft()
                future = (
                    None
                    if path in plan.done
                    else executor.submit(load_clip, path, plan.settings, threads=threads, should_stop=stop.is_set)
                )
                pending.append((path, future))
            if worker is None and any(future is not None for _, future in pending):
                worker = load_worker()
            group = [pending.popleft() for _ in range(min(plan.batch_size, len(pending)))]
            if worker is not None:
                with contextlib.suppress(RuntimeError):  # out of memory, say: the video says so when its turn comes
                    worker.send_ahead(_decoded([*group, *islice(pending, plan.batch_size)]), plan.settings)
            yield from _finish_group(group, plan, worker, stems, page)
    finally:
        stop.set()
        executor.shutdown(wait=True, cancel_futures=True)
        for _, future in pending:
            if future is not None and future.done() and not future.cancelled() and future.exception() is None:
                future.result().close()


def _decoded(group: Iterable[tuple[str, Future[Clip] | None]]) -> list[Clip]:
    """Those that are ready."""
    ready = [future for _, future in group if future is not None and future.done()]
    return [future.result() for future in ready if future.exception() is None]


def _finish_group(
    group: Sequence[tuple[str, Future[Clip] | None]],
    plan: RunPlan,
    worker: Worker | None,
    stems: Mapping[str, str],
    page: Page | None,
) -> Iterator[dict[str, Any]]:
    """Score one batch of decoded clips together, then write and yield each, in order."""
    clips: dict[str, Clip] = {}
    results: dict[str, Record | dict[str, Any]] = {}
    for path, future in group:
        if future is None:
            results[path] = plan.done[path]
            continue
        try:
            clips[path] = future.result()
        except Exception as error:  # noqa: BLE001 - the batch's boundary: whatever one video does, the others go on
            results[path] = _failed(path, error, plan)
    try:
        if worker is not None and clips:
            results.update(_process(clips, plan, worker))
        for path, _ in group:
            result = results[path]
            if isinstance(result, Record) and result.status == "ok":
                try:
                    result = write_outputs(result, clips[path], plan.outputs, stems[path])
                except Exception as error:  # noqa: BLE001 - as above
                    result = _failed(path, error, plan)
            record = result.to_dict() if isinstance(result, Record) else result
            if page is not None:
                _add_to_page(page, record, result, clips.get(path))
            yield record
    finally:
        for clip in clips.values():
            clip.close()


def _add_to_page(page: Page, record: dict[str, Any], result: Record | dict[str, Any], clip: Clip | None) -> None:
    """A video's section: with pictures where it was decoded and done in this run."""
    from tsq_cli.report.page import Pictures

    pictures = None
    if clip is not None and isinstance(result, Record) and result.status == "ok":
        pictures = Pictures(candidates=clip.batch.pixels, maps=result.maps)
    page.add(record, pictures)


def _process(clips: Mapping[str, Clip], plan: RunPlan, worker: Worker) -> dict[str, Record]:
    """Records of a batch; where the batch fails as a whole, each video is tried alone, so that only its own fails."""
    try:
        records = worker.process_clips(list(clips.values()), plan.settings, settings_hash=plan.settings_hash)
        return dict(zip(clips, records, strict=True))
    except Exception as error:  # noqa: BLE001 - the batch's boundary
        if len(clips) == 1:
            return {path: _failed(path, error, plan) for path in clips}
        return {key: record for path in clips for key, record in _process({path: clips[path]}, plan, worker).items()}


def _failed(path: str, error: Exception, plan: RunPlan) -> Record:
    if os.environ.get("TSQ_DEBUG") == "1" and not isinstance(error, TsqError):
        raise error
    said = str(error) if isinstance(error, TsqError) else one_line(error)
    message = said if path in said else f"{path}: {said}"
    if not isinstance(error, TsqError):
        message += " (unexpected; set TSQ_DEBUG=1 for the traceback)"
    return Record(
        path=path,
        status="error",
        settings_hash=plan.settings_hash,
        requested_k=plan.settings.num_frames,
        error_type=type(error).__name__,
        error_message=message,
        selector=plan.settings.selector,
        query=plan.settings.query,
    )


def write_outputs(record: Record, clip: Clip, outputs: Outputs, stem: str) -> Record:
    """Write a video's selected frames (a second, planned decode at full resolution), maps and contact sheet.

    Returns:
        The record with the paths written.

    Raises:
        OutputError: a file cannot be written.
        VideoError: the frames cannot be decoded a second time.
    """
    frames = record.frames
    if outputs.frames_dir is not None:
        frames = _save_frames(record, clip, outputs.frames_dir, outputs.image_format, stem)
    if outputs.maps_dir is not None and record.maps is not None:
        saved = [
            save_map(
                clip.batch.pixels[frame.candidate.position],
                record.maps,
                number,
                frame=frame,
                source=record.path,
                folder=outputs.maps_dir,
                stem=stem,
                map_format=outputs.map_format,
            )
            for number, frame in enumerate(frames)
        ]
        frames = tuple(replace(frame, map_path=path) for frame, path in zip(frames, saved, strict=True))
    sheet = None
    if outputs.sheet is not None:
        sheet = save_sheet(record, clip.batch.pixels, sheet_path(outputs.sheet, stem))
    return replace(record, frames=frames, sheet=sheet)


def _save_frames(
    record: Record, clip: Clip, folder: Path, image_format: ImageFormat, stem: str
) -> tuple[SelectedFrame, ...]:
    by_time = sorted(record.frames, key=lambda frame: frame.candidate.position)
    paths: dict[int, str] = {}
    for first in range(0, len(by_time), FRAMES_AT_ONCE):
        some = by_time[first : first + FRAMES_AT_ONCE]
        indices = clip.batch.frame_indices[[frame.candidate.position for frame in some]]
        full = decode_frames(clip.source, indices, short_side=None)
        for frame, pixels in zip(some, full.pixels, strict=True):
            paths[frame.rank] = save_frame(
                pixels, frame, source=record.path, folder=folder, stem=stem, image_format=image_format
            )
    return tuple(replace(frame, path=paths[frame.rank]) for frame in record.frames)


def output_stems(paths: Sequence[str]) -> dict[str, str]:
    """The name that each video's files begin with: its stem, made distinct by its folder where two are the same."""
    stems = {path: Path(path).stem or "video" for path in paths}
    counts = Counter(stem.lower() for stem in stems.values())
    return {
        path: stem
        if counts[stem.lower()] == 1
        else f"{stem}-{hashlib.sha256(str(Path(path).absolute()).encode()).hexdigest()[:6]}"
        for path, stem in stems.items()
    }


def sheet_path(template: Path, stem: str) -> Path:
    """Where a video's sheet goes: `{stem}` in the file name stands for the video's name."""
    return template.with_name(template.name.replace("{stem}", stem))
