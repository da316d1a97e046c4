"""The run of `tsq select` and `tsq classify`: read the options, run over the videos, output the records."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from tsq_cli.cli.cluster import check_runner, column_length, on_cluster, run_there
from tsq_cli.cli.output import Output, info, print_error, progress_bar
from tsq_cli.cli.settings import limits, select_settings
from tsq_cli.cli.staging import check_urls, split, staged
from tsq_cli.cli.video_options import VideoOptions
from tsq_cli.config import ClassifySettings, MapFormat, SelectSettings, check_device
from tsq_cli.errors import EXIT_INPUT_FAILED, UsageError
from tsq_cli.files import STDOUT, check_outputs
from tsq_cli.inputs import Inputs, collect_inputs

if TYPE_CHECKING:
    from tsq_cli.batch import RunPlan, Worker
    from tsq_cli.export import Costs
    from tsq_cli.packs import PackConfig
    from tsq_cli.packs.image_text import QueryModelChoice
    from tsq_cli.packs.recognizers import RecognizerChoice
    from tsq_cli.pictures import Outputs


def run_videos(
    options: VideoOptions,
    *,
    classify: ClassifySettings | None = None,
    recognizer: str = "auto",
    maps_dir: Path | str | None = None,
    map_format: MapFormat = "overlay",
) -> None:
    """Select frames of the videos, classify them if `classify` is given, and print or write the records.

    Args:
        options: of both commands.
        classify: settings of the recognition; None only selects.
        recognizer: name of the network that recognizes, see tsq_cli.packs.recognizers.choose_recognizer.
        maps_dir, map_format: see tsq_cli.pictures.Outputs.

    Raises:
        TsqError: the run cannot start; a video that fails is recorded instead, and the run goes on.
        typer.Exit: exit code 1, a video failed.
    """
    check_runner(options)
    inputs = _collect(options)
    page = options.html
    with staged(options, inputs.paths) as options:
        outputs = _checked_outputs(options, inputs, maps_dir, map_format)
        outputs = replace(outputs, page_stays=not isinstance(page, str))
        with on_cluster(options) as (options, cluster):
            with progress_bar("choosing the networks"):
                plan, load = prepare(options, outputs, classify, recognizer)
            with _output(options, inputs, verb="selected" if classify is None else "classified") as out:
                plan = replace(plan, paths=inputs.paths, journal=out.journal)
                before = _done_before(plan, out, overwrite=options.overwrite)
                if cluster is None:
                    records = _run_here(plan, load, dict(before), out)
                else:
                    again = partial(prepare, options, outputs, classify, recognizer)
                    records = run_there(plan, again, before, cluster, options)
                _write_all(records, out, outputs)
    if page is not None:
        info(f"page: {page}")
    if out.num_failed:
        raise typer.Exit(EXIT_INPUT_FAILED)


def _write_all(records: Generator[tuple[dict[str, Any], bool]], out: Output, outputs: Outputs) -> None:
    """Output the records as they come, then what their exports cost a model."""
    from tsq_cli.export import Costs

    costs = Costs()
    with closing(records):  # so that files are completed even if printing fails
        for record, resumed in records:
            out.add(record, resumed=resumed)
            if not resumed:
                _add_costs(costs, record, outputs)
    for line in costs.lines():
        info(line)


def prepare(
    options: VideoOptions, outputs: Outputs, classify: ClassifySettings | None, recognizer: str
) -> tuple[RunPlan, Callable[[], Worker]]:
    """Choose the networks of a run; return its plan, still without videos, and the function that loads them.

    Args:
        options, classify, recognizer: as for run_videos.
        outputs: pictures and page to write.

    Raises:
        TsqError: the run cannot start.
    """
    from tsq_cli.batch import RunPlan

    settings = select_settings(options)
    pack = _checked_pack(options)
    matcher = None if settings.query is None else _choose_matcher(pack, settings)
    if matcher is not None:
        settings = replace(settings, query_model=matcher.requested)
    chosen = None if classify is None else (_choose(pack, recognizer), classify)
    plan = RunPlan(
        paths=(),
        settings=settings,
        outputs=outputs,
        pack_sha256=pack.sha256 if settings.needs_model else None,
        recognition=None if chosen is None else _identity(pack, settings, *chosen),
        dtype=_precision(options) if settings.needs_model or chosen is not None else None,
        limits=limits(options),
        batch_size=options.batch_size,
        workers=options.workers,
        device=options.device,
    )
    return plan, partial(_load, options, pack, settings, chosen, matcher)


def _run_here(
    plan: RunPlan, load: Callable[[], Worker], done: Mapping[str, dict[str, Any]], out: Output
) -> Generator[tuple[dict[str, Any], bool]]:
    """Run in this process; yield the records in order, and whether each was there before."""
    from tsq_cli.batch import run

    def load_and_say() -> Worker:
        with out.waiting("loading the networks"):
            return load()

    with closing(run(replace(plan, done=done), load_and_say)) as records:
        for record in records:
            yield record, record["video"]["path"] in done


def _identity(
    pack: PackConfig, settings: SelectSettings, choice: RecognizerChoice, classify: ClassifySettings
) -> dict[str, Any]:
    """Collect what a classification adds to the settings hash.

    Raises:
        UsageError: it asks for what only a sampler can give, and none runs, or for an early exit that is not tuned.
    """
    from tsq_cli.classifier import recognition_identity
    from tsq_cli.packs.recognizers import tuned_exit
    from tsq_cli.recognition import consensus_of, early_exit_of

    own = pack.settings.consensus
    consensus = consensus_of(own, classify, has_sampler=settings.needs_model)
    early_exit_of(tuned_exit(pack, choice), classify, settings, pack.settings, is_own_consensus=consensus == own)
    return recognition_identity(choice, classify, consensus)


def _output(options: VideoOptions, inputs: Inputs, *, verb: str) -> Output:
    total = len(inputs.paths) if options.files_column is None else column_length(options)
    return Output(
        inputs,
        verb=verb,
        as_json=options.json,
        jsonl=None if options.jsonl is None else Path(options.jsonl),
        csv=options.csv,
        parquet=options.parquet,
        html=options.html,
        verbose=options.verbose,
        total=total,
    )


def _checked_outputs(options: VideoOptions, inputs: Inputs, maps: Path | str | None, map_format: MapFormat) -> Outputs:
    """List the pictures to write, after checking that every output can be written and destroys nothing."""
    from tsq_cli.export import DEFAULT_QUALITY, check_kinds, export_path
    from tsq_cli.pictures import Outputs, check_sheet, output_stems

    sheet = _sheet_template(options.sheet, inputs)
    paths, urls = split({"frames_dir": options.output, "maps_dir": maps, "sheet": sheet})
    check_urls(urls, one_sheet=inputs.single, overwrite=options.overwrite)
    folder = paths.get("frames_dir")
    outputs = Outputs(
        frames_dir=folder,
        sheet=paths.get("sheet"),
        maps_dir=paths.get("maps_dir"),
        urls=urls,
        image_format=options.image_format,
        exports=check_kinds(options.export or []),
        max_side=options.max_side,
        image_quality=DEFAULT_QUALITY if options.image_quality is None else options.image_quality,
        html=options.html,
        overwrite=options.overwrite,
        map_format=map_format,
    )
    exported = {
        export_path(kind, folder, stem).resolve()
        for kind in outputs.exports
        for stem in output_stems(inputs.paths).values()
        if folder is not None
    }
    one_sheet, sheets = (outputs.sheet, None) if inputs.single else (None, outputs.sheet)
    check_outputs(
        {
            "--json": Path(STDOUT) if options.json else None,
            "--jsonl": None if options.jsonl is None else Path(options.jsonl),
            "--csv": options.csv,
            "--html": options.html,
            "--sheet": one_sheet,
        },
        folders={
            "-o": outputs.frames_dir,
            "--maps": outputs.maps_dir,
            "--parquet": options.parquet,
            "--sheet": None if sheets is None else sheets.parent,
        },
        inputs=[*inputs.paths, *_lists(options)],
    )
    for option, path in (("--csv", options.csv), ("--html", options.html), ("--sheet", one_sheet)):
        if path is not None and path.resolve() in exported:
            raise UsageError(f"{option} {path} is also an --export", wanted="a file of its own", fix="rename it")
    if one_sheet is not None:
        check_sheet(outputs, inputs.paths)
    return outputs


def _lists(options: VideoOptions) -> Iterator[str]:
    """List the files of names that the run reads beside its videos."""
    if options.files_from not in (None, STDOUT):
        yield options.files_from
    with suppress(OSError, ValueError):  # names with commas may be no path at all
        if options.classes is not None and Path(options.classes).is_file():
            yield options.classes


def _add_costs(costs: Costs, record: dict[str, Any], outputs: Outputs) -> None:
    """Count the pictures and tokens of a video's exports."""
    from tsq_cli.export import bounded

    for kind in record["exports"]:
        size = bounded(record["video"]["width"], record["video"]["height"], outputs.max_side)
        costs.add(kind, [size] * len(record["frames"]))


def _done_before(plan: RunPlan, out: Output, *, overwrite: bool) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield path and record of videos that need no new run, among them errors for those that killed the last run."""
    if not overwrite:
        yield from out.finished(plan.settings_hash)
    journal = out.journal
    if journal is not None and journal.death is not None:
        from tsq_cli.batch import failed
        from tsq_cli.loading import find_killers

        with out.waiting("finding out which video killed the last run"):
            killers = find_killers(journal.death, plan.limits)
        for path, error in killers.items():
            record = failed(path, error, plan).to_dict()
            out.keep(record)
            yield path, record
        journal.clear()


def _precision(options: VideoOptions) -> str:
    """Name the precision that the networks will run in."""
    from tsq_cli.models.device import resolve_device, resolve_precision

    # The machine that starts a run on others may have no GPU itself.
    device = resolve_device(options.device) if options.runner == "local" else options.device
    return resolve_precision(options.dtype, device)


def _load(
    options: VideoOptions,
    pack: PackConfig,
    settings: SelectSettings,
    chosen: tuple[RecognizerChoice, ClassifySettings] | None,
    matcher: QueryModelChoice | None,
) -> Worker:
    from tsq_cli.classifier import Classifier
    from tsq_cli.pipeline import Selector

    if chosen is None and not settings.needs_model:
        return Selector.without_model()
    _warn_of_slow_precision(options)
    worker: Selector | Classifier
    if chosen is not None:
        recognizer, classify_settings = chosen
        worker = Classifier.load(
            pack,
            recognizer=recognizer,
            settings=classify_settings,
            selects=settings.needs_model,
            device=options.device,
            dtype=options.dtype,
            engine=options.engine,
        )
        selector = worker.selector
    else:
        worker = selector = Selector.load(pack, device=options.device, dtype=options.dtype, engine=options.engine)
    selector.prepare_queries(settings, matcher)  # an invalid query is an error of the run, not of a video
    return worker


def _warn_of_slow_precision(options: VideoOptions) -> None:
    from tsq_cli.models.device import is_slow, resolve_device, resolve_precision

    place = resolve_device(options.device)
    if is_slow(resolve_precision(options.dtype, place), place):
        info(
            f"{options.dtype} takes many times as long as float32 on a CPU without instructions for it (--dtype auto "
            "is float32 there)"
        )


def _choose(pack: PackConfig, recognizer: str) -> RecognizerChoice:
    """Choose the network that recognizes, and report it."""
    from tsq_cli.packs.recognizers import choose_recognizer

    choice = choose_recognizer(pack, recognizer)
    info(f"recognizer: {choice.reason}")
    return choice


def _collect(options: VideoOptions) -> Inputs:
    if options.files_column is not None:
        return Inputs(paths=(), single=False)  # the workers' side reads the list as the run goes
    inputs = collect_inputs(
        options.paths or [],
        recursive=options.recursive,
        files_from=options.files_from,
        null=options.null,
        allow_url=options.allow_url,
    )
    for folder in inputs.unreadable:
        print_error(f"{folder} cannot be read and is skipped; check its permissions")
    return inputs


def _checked_pack(options: VideoOptions) -> PackConfig:
    """Find the pack, and refuse before any video is read what can be refused without torch.

    Raises:
        UsageError: no such pack, a text that names no device, or classes for a pack that has its own.
        WeightsError: a damaged pack, or an image-text model that is out of reach.
    """
    from tsq_cli.packs import find_pack
    from tsq_cli.packs.registry import pack_of_classes
    from tsq_cli.packs.weights import require_weights

    check_device(options.device)
    pack = find_pack(options.pack) if options.classes is None else pack_of_classes(options.pack, options.classes)
    if pack.is_image_text:
        info(f"image-text model: {pack.roles.visual_encoder.model}, {require_weights(pack.roles.visual_encoder)}")
    return pack


def _choose_matcher(pack: PackConfig, settings: SelectSettings) -> QueryModelChoice:
    """Choose the network that matches frames with the queries, and report it.

    Raises:
        WeightsError: its weights are missing or cannot be downloaded.
    """
    from tsq_cli.packs.image_text import choose_query_model

    choice = choose_query_model(pack, settings.query_model)
    info(f"query: {choice.reason}")
    return choice


def _sheet_template(sheet: Path | str | None, inputs: Inputs) -> Path | str | None:
    """Put {stem} into the sheet's name when there are several videos, so that each gets a sheet of its own."""
    if sheet is None or inputs.single:
        return sheet
    folder, name = sheet.rpartition("/")[::2] if isinstance(sheet, str) else (sheet.parent, sheet.name)
    if "{stem}" in name:
        return sheet
    name = f"{Path(name).stem}-{{stem}}{Path(name).suffix}"
    template = folder / name if isinstance(folder, Path) else f"{folder}/{name}"
    info(f"one sheet per video: {template}")
    return template
