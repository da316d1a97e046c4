"""All options of a command over videos, as one value: declared once for `select` and `classify`."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import wraps
from typing import Annotated, Any, get_type_hints

import typer

from tsq_cli.cli.cluster import (
    CpusPerWorker,
    FilesColumn,
    GpusPerWorker,
    NumWorkers,
    RayAddress,
    RunnerOption,
)
from tsq_cli.cli.options import (
    MODEL,
    AllowUrl,
    BatchSize,
    ClassesOption,
    Csv,
    DeviceOption,
    DtypeOption,
    DuplicatesOption,
    End,
    Export,
    FilesFrom,
    Html,
    ImageFormatOption,
    ImageQuality,
    Jsonl,
    JsonOption,
    MaxPixels,
    MaxSide,
    Mode,
    Null,
    NumFramesOrNone,
    OrderOption,
    OutputDir,
    Overwrite,
    PackOption,
    Paths,
    Query,
    QueryModel,
    Quiet,
    Recursive,
    Seed,
    SelectorOption,
    SharpestOption,
    Sheet,
    Start,
    Timeout,
    Verbose,
    Workers,
    num_candidates_option,
)
from tsq_cli.cli.parquet_shards import ParquetOption
from tsq_cli.config import DEFAULT_PACK, PAPER_CANDIDATES, EngineChoice, Limits, SelectSettings
from tsq_cli.errors import UsageError

_LIMITS = Limits()

EngineOption = Annotated[
    EngineChoice,
    typer.Option(
        "--engine",
        metavar="ENGINE",
        help="What runs the networks: onnx, torch, or auto: onnx on a CPU where the pack has graphs, else torch.",
        rich_help_panel=MODEL,
    ),
]


@dataclass(frozen=True, kw_only=True)
class VideoOptions:
    """The options of every command over videos: inputs, selection, model, outputs, limits.

    `usual` is not an option: it holds the command's own defaults for the selection.
    """

    usual: SelectSettings
    paths: Paths = None
    recursive: Recursive = False
    files_from: FilesFrom = None
    null: Null = False
    allow_url: AllowUrl = False
    files_column: FilesColumn = None
    start: Start = None
    end: End = None
    decode: Mode = "exact"
    num_frames: NumFramesOrNone = None
    num_candidates: str | None = None  # with_video_options puts the command's own option here
    selector: SelectorOption = "auto"
    duplicates: DuplicatesOption = "skip"
    sharpest: SharpestOption = False
    order: OrderOption = "time"
    query: Query = None
    query_model: QueryModel = "auto"
    seed: Seed = 0
    pack: PackOption = DEFAULT_PACK
    classes: ClassesOption = None
    device: DeviceOption = "auto"
    dtype: DtypeOption = "auto"
    engine: EngineOption = "auto"
    json: JsonOption = False
    jsonl: Jsonl = None
    csv: Csv = None
    parquet: ParquetOption = None
    output: OutputDir = None
    image_format: ImageFormatOption = "jpg"
    export: Export = None
    max_side: MaxSide = None
    image_quality: ImageQuality = None
    sheet: Sheet = None
    html: Html = None
    quiet: Quiet = False
    verbose: Verbose = False
    batch_size: BatchSize = 1
    workers: Workers = 1
    overwrite: Overwrite = False
    timeout: Timeout = _LIMITS.timeout_seconds
    max_pixels: MaxPixels = _LIMITS.max_pixels
    runner: RunnerOption = "local"
    ray_address: RayAddress = None
    num_workers: NumWorkers = None
    cpus_per_worker: CpusPerWorker = None
    gpus_per_worker: GpusPerWorker = None

    def __post_init__(self) -> None:
        if self.quiet and self.verbose:
            raise UsageError(
                "both --quiet and --verbose were given", wanted="one of the two, or neither", fix="leave one out"
            )


def with_video_options(usual: SelectSettings) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add the options of VideoOptions to a command, which receives them as its first argument.

    Args:
        usual: the command's own defaults for the selection.
    """
    paper = f"{PAPER_CANDIDATES}, or K if larger"
    most = f"auto; for comparison rules {paper}" if usual.num_candidates == "auto" else paper
    hints = get_type_hints(VideoOptions, include_extras=True) | {"num_candidates": num_candidates_option(most)}
    defaults = {f.name: f.default for f in fields(VideoOptions) if f.name != "usual"} | {"selector": usual.selector}
    shared = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hints[name])
        for name, default in defaults.items()
    ]

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        _, *own = inspect.signature(command, eval_str=True).parameters.values()

        @wraps(command)
        def with_options(**values: Any) -> None:
            command(VideoOptions(usual=usual, **{name: values.pop(name) for name in defaults}), **values)

        # Typer reads a command's options from its signature.
        parameters = [*shared, *own]
        with_options.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        with_options.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return with_options

    return decorate
