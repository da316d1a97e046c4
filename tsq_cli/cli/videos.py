"""What `tsq select` and `tsq classify` do alike: read the options, run over the videos, hand out records."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import typer

from tsq_cli.cli.options import VideoOptions
from tsq_cli.cli.output import Output, info
from tsq_cli.config import (
    PAPER_CANDIDATES,
    PAPER_FRAMES,
    PASSING_OVER,
    Auto,
    ClassifySettings,
    Limits,
    SelectSettings,
    check_device,
    too_few_candidates,
)
from tsq_cli.errors import EXIT_INPUT_FAILED
from tsq_cli.files import STDOUT, check_outputs
from tsq_cli.inputs import Inputs, collect_inputs

if TYPE_CHECKING:
    from tsq_cli.batch import RunPlan, Worker
    from tsq_cli.packs import PackConfig
    from tsq_cli.packs.recognizers import RecognizerChoice
    from tsq_cli.pictures import Outputs


@dataclass(frozen=True, kw_only=True)
class Recognition:
    """What `tsq classify` adds: which recognizer, what it is asked, where its maps go."""

    recognizer: str
    settings: ClassifySettings
    maps_dir: Path | None
    map_format: Literal["overlay", "heat", "npy"]


def run_videos(shared: VideoOptions, recognition: Recognition | None = None) -> None:
    """Select frames of the videos, and recognize them where that is asked for; exit 1 where a video failed."""
    settings, limits = _select_settings(shared), _limits(shared)
    inputs = _collect(shared)
    pack = _checked_pack(shared, settings)
    outputs = _checked_outputs(shared, inputs, recognition)
    verb = "selected" if recognition is None else "classified"
    jsonl = None if shared.jsonl is None else Path(shared.jsonl)
    with Output(inputs, verb=verb, as_json=shared.json, jsonl=jsonl, csv=shared.csv, html=shared.html) as out:
        from tsq_cli.batch import RunPlan, run
        from tsq_cli.classifier import recognition_identity

        chosen = None
        if recognition is not None:
            with out.waiting("choosing a recognizer"):
                chosen = _choose(pack, recognition), recognition.settings
        plan = RunPlan(
            paths=inputs.paths,
            settings=settings,
            outputs=outputs,
            pack_sha256=pack.sha256 if settings.needs_model else None,
            recognition=None if chosen is None else recognition_identity(*chosen),
            dtype=_precision(shared) if settings.needs_model or chosen is not None else None,
            limits=limits,
            batch_size=shared.batch_size,
            workers=shared.workers,
            journal=out.journal,
        )
        plan = replace(plan, done=_done_before(plan, out, overwrite=shared.overwrite))

        def load() -> Worker:
            with out.waiting(f"loading {shared.pack}"):
                return _load(shared, settings, chosen)

        with closing(run(plan, load)) as records:  # so that files are finished also where printing fails
            for record in records:
                out.add(record, resumed=record["video"]["path"] in plan.done)
        if shared.html is not None:
            info(f"page: {shared.html}")
    if out.num_failed:
        raise typer.Exit(EXIT_INPUT_FAILED)


def _checked_outputs(shared: VideoOptions, inputs: Inputs, recognition: Recognition | None) -> Outputs:
    """What to write, once it is known that nothing is lost by it and that all of it can be written."""
    from tsq_cli.pictures import check_sheet

    outputs = _outputs(shared, inputs, recognition)
    one_sheet, sheets = (outputs.sheet, None) if inputs.single else (None, outputs.sheet)
    check_outputs(
        {
            "--json": Path(STDOUT) if shared.json else None,
            "--jsonl": None if shared.jsonl is None else Path(shared.jsonl),
            "--csv": shared.csv,
            "--html": shared.html,
            "--sheet": one_sheet,
        },
        folders={
            "-o": outputs.frames_dir,
            "--maps": outputs.maps_dir,
            "--sheet": None if sheets is None else sheets.parent,
        },
        inputs=[*inputs.paths, *([] if shared.files_from in (None, STDOUT) else [shared.files_from])],
    )
    if one_sheet is not None:
        check_sheet(outputs, inputs.paths)
    return outputs


def _done_before(plan: RunPlan, out: Output, *, overwrite: bool) -> dict[str, dict[str, Any]]:
    """Records that are not made again, by path; those of videos that killed the run before are made here."""
    done = {} if overwrite else out.finished(plan.settings_hash)
    journal = out.journal
    if journal is not None and journal.death is not None:
        from tsq_cli.batch import failed
        from tsq_cli.loading import killers

        with out.waiting("finding out which video killed the last run"):
            for path, error in killers(journal.death, plan.limits).items():
                done[path] = failed(path, error, plan).to_dict()
                out.keep(done[path])
        journal.clear()
    return done


def _precision(shared: VideoOptions) -> str:
    """Name of the precision that the networks will run in."""
    from tsq_cli.models.device import dtype_name, resolve_device, resolve_dtype

    return dtype_name(resolve_dtype(shared.dtype, resolve_device(shared.device)))


def _load(
    shared: VideoOptions, settings: SelectSettings, chosen: tuple[RecognizerChoice, ClassifySettings] | None
) -> Worker:
    from tsq_cli.classifier import Classifier
    from tsq_cli.pipeline import Selector

    if chosen is None and not settings.needs_model:
        return Selector.without_model()
    _say_what_half_precision_costs(shared)
    worker: Selector | Classifier
    if chosen is not None:
        recognizer, classify_settings = chosen
        worker = Classifier.load(
            shared.pack,
            recognizer=recognizer,
            settings=classify_settings,
            selects=settings.needs_model,
            device=shared.device,
            dtype=shared.dtype,
        )
        selector = worker.selector
    else:
        worker = selector = Selector.load(shared.pack, device=shared.device, dtype=shared.dtype)
    if settings.query is not None:  # kept for the videos; what is wrong with it is wrong with the run
        selector.loaded_pack().query_embedding(settings.query)
    return worker


def _say_what_half_precision_costs(shared: VideoOptions) -> None:
    from tsq_cli.models.device import is_slow, resolve_device, resolve_dtype

    place = resolve_device(shared.device)
    if is_slow(resolve_dtype(shared.dtype, place), place):
        info(
            f"{shared.dtype} takes many times as long as float32 on a CPU without instructions for it (--dtype auto "
            "chooses what is fast)"
        )


def _choose(pack: PackConfig, recognition: Recognition) -> RecognizerChoice:
    """Decide which network recognizes, and say so."""
    from tsq_cli.packs.recognizers import choose_recognizer

    choice = choose_recognizer(pack, recognition.recognizer)
    info(f"recognizer: {choice.reason}")
    return choice


def _outputs(shared: VideoOptions, inputs: Inputs, recognition: Recognition | None) -> Outputs:
    from tsq_cli.pictures import Outputs

    return Outputs(
        frames_dir=shared.output,
        image_format=shared.image_format,
        sheet=_sheet_template(shared.sheet, inputs),
        html=shared.html,
        overwrite=shared.overwrite,
        maps_dir=recognition.maps_dir if recognition else None,
        map_format=recognition.map_format if recognition else "overlay",
    )


def _collect(shared: VideoOptions) -> Inputs:
    inputs = collect_inputs(
        shared.paths or [], recursive=shared.recursive, files_from=shared.files_from, null=shared.null
    )
    for folder in inputs.unreadable:
        info(f"{folder} cannot be looked into and is passed over; check its permissions")
    return inputs


def _checked_pack(shared: VideoOptions, settings: SelectSettings) -> PackConfig:
    """The pack. What loading it would refuse and can be known without torch is refused here, before any video is read.

    Raises:
        UsageError: no such pack, or a text that names no device.
        WeightsError: a damaged pack, or a query whose text encoder is missing or out of reach.
    """
    from tsq_cli.packs import find_pack, find_text_encoder

    check_device(shared.device)
    pack = find_pack(shared.pack)
    if settings.query is not None:
        find_text_encoder(pack.roles.text_encoder)
    return pack


def _limits(shared: VideoOptions) -> Limits:
    return Limits(timeout_seconds=shared.timeout, max_pixels=shared.max_pixels)


def _frames_and_candidates(shared: VideoOptions) -> tuple[int | Auto, int | Auto]:
    """K and T: what was not given follows what was; two that do not fit are refused."""
    k, t = (None if text is None else _count(text) for text in (shared.num_frames, shared.num_candidates))
    if t is None:
        k = PAPER_FRAMES if k is None else k
        if shared.usual.num_candidates == "auto" and shared.selector in PASSING_OVER:
            return k, "auto"
        return k, PAPER_CANDIDATES if k == "auto" else max(PAPER_CANDIDATES, k)
    if k is None:
        return PAPER_FRAMES if t == "auto" else max(1, min(PAPER_FRAMES, t)), t
    if k != "auto" and t != "auto" and k > t > 0:
        raise too_few_candidates(k, t)
    return k, t


def _count(text: str) -> int | Auto:
    return "auto" if text == "auto" else int(text)


def _select_settings(shared: VideoOptions) -> SelectSettings:
    num_frames, num_candidates = _frames_and_candidates(shared)
    return SelectSettings(
        num_frames=num_frames,
        num_candidates=num_candidates,
        selector=shared.selector,
        duplicates=shared.duplicates,
        sharpest=shared.sharpest,
        order=shared.order,
        start_seconds=_seconds(shared.start),
        end_seconds=_seconds(shared.end),
        query=shared.query,
        decode_mode=shared.decode,
        seed=shared.seed,
    )


def _seconds(timecode: str | None) -> float | None:
    if timecode is None:
        return None
    from tsq_cli.video import parse_timecode

    return parse_timecode(timecode)


def _sheet_template(sheet: Path | None, inputs: Inputs) -> Path | None:
    """With several videos, a sheet for each: the file name takes the video's name unless it says where to put it."""
    if sheet is None or inputs.single or "{stem}" in sheet.name:
        return sheet
    template = sheet.with_name(f"{sheet.stem}-{{stem}}{sheet.suffix}")
    info(f"one sheet a video: {template}")
    return template
