"""Room 5: `tsq select`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import typer

from tsq_cli.cli import options
from tsq_cli.cli.output import Output, talk
from tsq_cli.config import DEFAULT_PACK, SelectSettings
from tsq_cli.errors import EXIT_INPUT_FAILED
from tsq_cli.inputs import Inputs, collect_inputs


def select(
    paths: options.Paths = None,
    *,
    recursive: options.Recursive = False,
    files_from: options.FilesFrom = None,
    start: options.Start = None,
    end: options.End = None,
    decode: options.Mode = "exact",
    num_frames: options.NumFrames = 5,
    num_candidates: options.NumCandidates = 16,
    selector: options.SelectorOption = "tsq",
    order: options.OrderOption = "time",
    query: options.Query = None,
    seed: options.Seed = 0,
    pack: options.PackOption = DEFAULT_PACK,
    device: options.DeviceOption = "auto",
    dtype: options.DtypeOption = "auto",
    json: options.JsonOption = False,
    jsonl: options.Jsonl = None,
    csv: options.Csv = None,
    output: options.OutputDir = None,
    image_format: options.ImageFormatOption = "jpg",
    sheet: options.Sheet = None,
    batch_size: options.BatchSize = 1,
    workers: options.Workers = 1,
    overwrite: options.Overwrite = False,
) -> None:
    """Select the K frames of each video that matter, and say why.

    Looks at T candidates spread evenly over the video, scores them with TSQNet (a visual and a textual query for every
    class) and fuses both saliencies into K frames.

    Example: tsq select holiday.mp4 -k 5 -o frames/ --sheet sheet.png
    """
    settings = SelectSettings(
        num_frames=num_frames,
        num_candidates=num_candidates,
        selector=selector,
        order=order,
        start_seconds=_seconds(start),
        end_seconds=_seconds(end),
        query=query,
        decode_mode=decode,
        seed=seed,
    )
    inputs = collect_inputs(paths or [], recursive=recursive, files_from=files_from)
    with Output(inputs, as_json=json, jsonl=jsonl, csv=csv) as out:
        from tsq_cli.batch import Outputs, RunPlan, run
        from tsq_cli.packs import find_pack
        from tsq_cli.pipeline import Selector

        plan = RunPlan(
            paths=inputs.paths,
            settings=settings,
            outputs=Outputs(frames_dir=output, image_format=image_format, sheet=_sheet_template(sheet, inputs)),
            pack_sha256=find_pack(pack).sha256 if settings.needs_model else None,
            batch_size=batch_size,
            workers=workers,
        )
        finished = out.finished(plan.settings_hash)
        plan = plan if overwrite else replace(plan, done=finished)

        def load() -> Selector:
            if not settings.needs_model:
                return Selector.without_model()
            with out.waiting(f"loading {pack}"):
                return Selector.load(pack, device=device, dtype=dtype)

        for record in run(plan, load):
            out.add(record, resumed=record["video"]["path"] in plan.done)
    if out.num_failed:
        raise typer.Exit(EXIT_INPUT_FAILED)


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
    talk(f"one sheet a video: {template}")
    return template
