"""Options that several commands share, declared once."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_type_hints

import typer

from tsq_cli.config import (
    DEFAULT_PACK,
    PAPER_CANDIDATES,
    DecodeMode,
    Dtype,
    Duplicates,
    Limits,
    Order,
    SelectorName,
    SelectSettings,
)

INPUT, SELECTION, MODEL, OUTPUT, RUN = "Input", "Selection", "Model", "Output", "Run"


def not_empty(text: str) -> str:
    """Parser of an option that names a file: an empty text is a slip, such as an empty variable in a script."""
    if not text:
        raise typer.BadParameter("the name is empty; wanted the path of a file or folder")
    return text


def not_empty_path(text: str) -> Path:
    """As not_empty, for a Path, which would take an empty text for the current folder."""
    return Path(not_empty(text))


def count_or_auto(text: str) -> str:
    """Parser of an option that takes a number or the word auto; which numbers fit, SelectSettings knows."""
    if text != "auto" and not re.fullmatch(r"[+-]?[0-9]{1,18}", text):
        raise typer.BadParameter(f"{text!r} is neither a number nor auto")
    return text


Paths = Annotated[
    list[str] | None,
    typer.Argument(metavar="VIDEO...", help="Video files, folders, or quoted globs.", show_default=False),
]
Recursive = Annotated[bool, typer.Option("--recursive", "-r", help="Look into subfolders too.", rich_help_panel=INPUT)]
FilesFrom = Annotated[
    str | None,
    typer.Option(
        "--files-from",
        metavar="FILE|-",
        help="Read paths from a file, one per line, relative to the current folder; - for stdin.",
        parser=not_empty,
        rich_help_panel=INPUT,
    ),
]
Null = Annotated[
    bool,
    typer.Option("-0", "--null", help="In that list NUL ends each path (find -print0).", rich_help_panel=INPUT),
]
Start = Annotated[
    str | None,
    typer.Option("--start", metavar="TIME", help="Begin here: 90, 1:30 or 00:01:30.5.", rich_help_panel=INPUT),
]
End = Annotated[str | None, typer.Option("--end", metavar="TIME", help="Stop before this time.", rich_help_panel=INPUT)]
Mode = Annotated[
    DecodeMode,
    typer.Option(
        "--decode",
        help="Exact frames; the nearest keyframes, several times as fast; or exact frames from an NVIDIA GPU.",
        rich_help_panel=INPUT,
    ),
]
NumFrames = Annotated[
    int, typer.Option("-k", "--num-frames", metavar="K", help="Frames to select.", rich_help_panel=SELECTION)
]
NumFramesOrNone = Annotated[
    str | None,
    typer.Option(
        "-k",
        "--num-frames",
        metavar="K|auto",
        help="Frames to select; auto: as many as differ.",
        show_default="5, or T if smaller",
        parser=count_or_auto,
        rich_help_panel=SELECTION,
    ),
]


def num_candidates_option(show_default: str) -> Any:
    """The option -n, whose default each command states for itself."""
    return Annotated[
        str | None,
        typer.Option(
            "-n",
            "--candidates",
            metavar="T|auto",
            help="Frames to look at, evenly spaced; auto: more of a long video, closer where it changes.",
            show_default=show_default,
            parser=count_or_auto,
            rich_help_panel=SELECTION,
        ),
    ]


SelectorOption = Annotated[
    SelectorName,
    typer.Option(
        "--selector",
        metavar="RULE",
        help="auto: tsq where something stands out, else cover. tsq: the paper's fusion. cover: one frame for each "
        "event. vqm, tqm: one module alone. Rules to compare with: " + ", ".join(get_args(SelectorName)[5:]) + ".",
        rich_help_panel=SELECTION,
    ),
]
DuplicatesOption = Annotated[
    Duplicates,
    typer.Option(
        "--duplicates",
        help="Whether auto and cover pass over frames that show the same as a chosen one.",
        rich_help_panel=SELECTION,
    ),
]
SharpestOption = Annotated[
    bool,
    typer.Option(
        "--sharpest",
        help="Take the sharpest frame within half a second of each selected one, in the same shot.",
        rich_help_panel=SELECTION,
    ),
]
OrderOption = Annotated[
    Order, typer.Option("--order", help="List frames by time, or best first.", rich_help_panel=SELECTION)
]
Query = Annotated[
    str | None,
    typer.Option(
        "--query",
        metavar="TEXT",
        help='Rank frames by free text: "a dog" (needs the extra text).',
        rich_help_panel=SELECTION,
    ),
]
Seed = Annotated[int, typer.Option("--seed", help="Seed of --selector random, 0 or more.", rich_help_panel=SELECTION)]
PackOption = Annotated[
    str, typer.Option("--pack", metavar="NAME|DIR", help="Weights to use; see tsq packs list.", rich_help_panel=MODEL)
]
DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:1.", rich_help_panel=MODEL)]
DtypeOption = Annotated[Dtype, typer.Option("--dtype", help="Precision of the networks.", rich_help_panel=MODEL)]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print one JSON document instead of tables.", rich_help_panel=OUTPUT)
]
Jsonl = Annotated[
    str | None,
    typer.Option(
        "--jsonl",
        metavar="FILE|-",
        help="Add one JSON line a video; videos done are skipped.",
        parser=not_empty,
        rich_help_panel=OUTPUT,
    ),
]
Csv = Annotated[
    Path | None,
    typer.Option("--csv", metavar="FILE", help="Write one row a frame.", parser=not_empty_path, rich_help_panel=OUTPUT),
]
OutputDir = Annotated[
    Path | None,
    typer.Option(
        "-o",
        "--output",
        metavar="DIR",
        help="Save the frames at full size.",
        parser=not_empty_path,
        rich_help_panel=OUTPUT,
    ),
]
ImageFormatOption = Annotated[
    Literal["jpg", "png", "webp"], typer.Option("--format", help="Format of saved frames.", rich_help_panel=OUTPUT)
]
Sheet = Annotated[
    Path | None,
    typer.Option(
        "--sheet",
        metavar="FILE",
        help="Draw a contact sheet, uniform above selected; {stem} names the video.",
        parser=not_empty_path,
        rich_help_panel=OUTPUT,
    ),
]
Html = Annotated[
    Path | None,
    typer.Option(
        "--html",
        metavar="FILE",
        help="Write one page about all videos, to look at.",
        parser=not_empty_path,
        rich_help_panel=OUTPUT,
    ),
]
BatchSize = Annotated[int, typer.Option("-b", "--batch-size", help="Videos scored together.", rich_help_panel=RUN)]
Workers = Annotated[int, typer.Option("-j", "--workers", help="Videos decoded at once.", rich_help_panel=RUN)]
Overwrite = Annotated[
    bool,
    typer.Option(
        "--overwrite",
        help="Redo videos that the --jsonl file holds, and replace pictures of other runs.",
        rich_help_panel=RUN,
    ),
]
Timeout = Annotated[
    float,
    typer.Option("--timeout", metavar="SECONDS", help="Give a video up after this long.", rich_help_panel=RUN),
]
MaxPixels = Annotated[
    int,
    typer.Option(
        "--max-pixels",
        metavar="N",
        help="Give up a video whose frames have more pixels than this.",
        rich_help_panel=RUN,
    ),
]
_LIMITS = Limits()


@dataclass(frozen=True, kw_only=True)
class VideoOptions:
    """What every command over videos takes: where they are, how frames are chosen, where results go.

    `usual` is no option: how the command chooses unless it is told.
    """

    usual: SelectSettings
    paths: Paths = None
    recursive: Recursive = False
    files_from: FilesFrom = None
    null: Null = False
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
    seed: Seed = 0
    pack: PackOption = DEFAULT_PACK
    device: DeviceOption = "auto"
    dtype: DtypeOption = "auto"
    json: JsonOption = False
    jsonl: Jsonl = None
    csv: Csv = None
    output: OutputDir = None
    image_format: ImageFormatOption = "jpg"
    sheet: Sheet = None
    html: Html = None
    batch_size: BatchSize = 1
    workers: Workers = 1
    overwrite: Overwrite = False
    timeout: Timeout = _LIMITS.timeout_seconds
    max_pixels: MaxPixels = _LIMITS.max_pixels


def with_video_options(usual: SelectSettings) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options of Shared beside its own; it is called with them gathered as its first argument.

    Args:
        usual: how the command chooses unless it is told.
    """
    paper = f"{PAPER_CANDIDATES}, or K if larger"
    most = f"auto; with rules to compare with {paper}" if usual.num_candidates == "auto" else paper
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
