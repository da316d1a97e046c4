"""Batches of videos through one model, in order: decoding ahead, resuming, and isolating errors per video."""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol

from tsq_cli.clip import Clip
from tsq_cli.config import Limits, SelectSettings, settings_hash
from tsq_cli.errors import InputNotFoundError, TsqError, UsageError, one_line
from tsq_cli.inputs import file_status
from tsq_cli.journal import Journal
from tsq_cli.loading import Loader, Loading
from tsq_cli.pictures import Outputs, output_stems, write_pictures
from tsq_cli.record import Record

if TYPE_CHECKING:
    from tsq_cli.report.page import Page


class Worker(Protocol):
    """Interface of what turns decoded clips into records: pipeline.Selector and classifier.Classifier."""

    def process_clips(
        self, clips: Sequence[Clip], settings: SelectSettings, *, settings_hash: str | None = None
    ) -> list[Record]:
        """Process a batch of clips: one record per clip, in order."""
        ...

    def prefetch(self, clips: Sequence[Clip], settings: SelectSettings) -> None:
        """Start copying the next clips' candidates to the device."""
        ...


@dataclass(frozen=True, kw_only=True)
class RunPlan:
    """Settings of a whole run.

    Attributes:
        paths: videos, in the order of the records.
        settings: of the selection.
        outputs: pictures and page to write.
        pack_sha256: of the pack; None if no network runs.
        recognition: identity of the recognizer and its settings; None if nothing is recognized.
        dtype: precision of the networks; None if none runs.
        limits: of time and memory per video.
        batch_size: videos scored together, at least 1.
        workers: videos decoded in parallel, at least 1.
        done: records of finished videos, by path.
        journal: records the videos being read; None for no journal.
        device: of the networks; its GPU decodes where the settings ask for one.
        stems: starts of the pictures' names, by path; None if `paths` are all videos of the run.
    """

    paths: Sequence[str]
    settings: SelectSettings
    outputs: Outputs
    pack_sha256: str | None
    recognition: Mapping[str, Any] | None = None
    dtype: str | None = None
    limits: Limits = field(default_factory=Limits)
    batch_size: int = 1
    workers: int = 1
    done: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    journal: Journal | None = None
    device: str = "cpu"
    stems: Mapping[str, str] | None = None

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
            dtype=self.dtype,
        )


def run(plan: RunPlan, load_worker: Callable[[], Worker]) -> Generator[dict[str, Any]]:
    """Process videos in order: yield one record (a dictionary, docs/schema.json) per path.

    Decoding starts at once in worker threads, while `load_worker` loads the weights in this one. Errors of one video
    become its record; errors of the weights are raised. The page is finished when the run ends, early or not.
    """
    stems = output_stems(plan.paths) if plan.stems is None else plan.stems
    waiting = deque(plan.paths)
    pending: deque[tuple[str, Loading | None]] = deque()
    worker: Worker | None = None
    with _page(plan.outputs) as page, Loader(plan.limits, plan.workers, plan.journal, plan.device) as loader:
        while waiting or pending:
            # Enough clips ahead to keep every worker busy while one batch is scored, and no more: memory stays flat.
            while waiting and len(pending) < plan.workers + plan.batch_size:
                path = waiting.popleft()
                pending.append((path, None if path in plan.done else loader.begin(path, plan.settings)))
            if worker is None and any(loading is not None for _, loading in pending):
                worker = load_worker()
            batch = [pending.popleft() for _ in range(min(plan.batch_size, len(pending)))]
            if worker is not None:
                coming = [loading for _, loading in [*batch, *islice(pending, plan.batch_size)] if loading is not None]
                with contextlib.suppress(RuntimeError):  # out of memory, say: the video says so when its turn comes
                    worker.prefetch([clip for loading in coming if (clip := loading.clip) is not None], plan.settings)
            yield from _finish_batch(batch, plan, loader, worker, stems, page)


def _page(outputs: Outputs) -> contextlib.AbstractContextManager[Page | None]:
    """Open the page of a run, if one was asked for."""
    if outputs.html is None:
        return contextlib.nullcontext()
    from tsq_cli.report.page import Page  # templates and their engine, which most runs do without

    return Page(outputs.html, stays=outputs.page_stays)


def _finish_batch(
    batch: Sequence[tuple[str, Loading | None]],
    plan: RunPlan,
    loader: Loader,
    worker: Worker | None,
    stems: Mapping[str, str],
    page: Page | None,
) -> Iterator[dict[str, Any]]:
    """Score one batch of decoded clips together, then write and yield each, in order."""
    clips: dict[str, Clip] = {}
    results: dict[str, Record | dict[str, Any]] = {}
    for path, loading in batch:
        if loading is None:
            results[path] = plan.done[path]
            continue
        try:
            clips[path] = loader.wait(loading)
        except Exception as error:  # noqa: BLE001 - the batch's boundary: whatever one video does, the others go on
            results[path] = failed(path, error, plan)
    try:
        if worker is not None and clips:
            results.update(_process(clips, plan, worker))
        for path, _ in batch:
            result = results[path]
            if isinstance(result, Record) and result.status == "ok":
                try:
                    with loader.reading(path) as should_stop:
                        result = write_pictures(result, clips[path], plan.outputs, stems[path], should_stop=should_stop)
                except Exception as error:  # noqa: BLE001 - as above
                    result = failed(path, error, plan)
            record = result.to_dict() if isinstance(result, Record) else result
            if page is not None:
                _add_to_page(page, record, result, clips.get(path))
            yield record
    finally:
        for clip in clips.values():
            clip.close()


def _add_to_page(page: Page, record: dict[str, Any], result: Record | dict[str, Any], clip: Clip | None) -> None:
    """Add a video's section to the page, with pictures if it was processed in this run."""
    from tsq_cli.report.page import Pictures

    pictures = None
    if clip is not None and isinstance(result, Record) and result.status == "ok":
        pictures = Pictures(candidates=clip.batch.pixels, maps=result.maps)
    page.add(record, pictures)


def _process(clips: Mapping[str, Clip], plan: RunPlan, worker: Worker) -> dict[str, Record]:
    """Process a batch; if it fails as a whole, each video is tried alone, so that one fails only itself."""
    try:
        records = worker.process_clips(list(clips.values()), plan.settings, settings_hash=plan.settings_hash)
        return dict(zip(clips, records, strict=True))
    except Exception as error:  # noqa: BLE001 - the batch's boundary
        if len(clips) == 1:
            return {path: failed(path, error, plan) for path in clips}
        return {key: record for path in clips for key, record in _process({path: clips[path]}, plan, worker).items()}


def failed(path: str, error: Exception, plan: RunPlan) -> Record:
    """Build the record of a video that failed in a run."""
    return error_record(path, error, plan.settings, plan.settings_hash)


def error_record(path: str, error: Exception, settings: SelectSettings, settings_hash: str) -> Record:
    """Build the record of a video that failed.

    Args:
        path: its name.
        error: why; if it is none of TsqError, the message says that it was not expected.
        settings, settings_hash: of the run.
    """
    if os.environ.get("TSQ_DEBUG") == "1" and not isinstance(error, TsqError):
        raise error
    said = str(error) if isinstance(error, TsqError) else one_line(error)
    message = said if path in said else f"{path}: {said}"
    if not isinstance(error, TsqError):
        message += " (unexpected; set TSQ_DEBUG=1 for the traceback)"
    try:
        found = file_status(path)
    except InputNotFoundError:
        found = None
    return Record(
        path=path,
        size_bytes=None if found is None else found.st_size,
        modified_ns=None if found is None else found.st_mtime_ns,
        status="error",
        settings_hash=settings_hash,
        requested_k=settings.num_frames,
        error_type=type(error).__name__,
        error_message=message,
        selector=settings.selector,
    )
