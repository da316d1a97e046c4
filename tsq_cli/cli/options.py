"""Options that several commands share, declared once."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from tsq_cli.cli import completion
from tsq_cli.config import (
    DecodeMode,
    Dtype,
    Duplicates,
    ExportKind,
    ImageFormat,
    Order,
    SelectorName,
)
from tsq_cli.consensus import MOST_EVIDENCE, Pooling
from tsq_cli.errors import UsageError
from tsq_cli.stores import has_scheme, local_path

INPUT, SELECTION, MODEL, OUTPUT, RUN = "Input", "Selection", "Model", "Output", "Run"


def examples(*commands: str) -> str:
    """Build the `Examples` block that ends a command's help: an epilog in Markdown, one command per line."""
    return "**Examples**\n\n" + "\\\n".join(f"`{command}`" for command in commands)


def not_empty(text: str) -> str:
    """Parse an option that names a file; an empty text is a slip, such as an empty variable in a script."""
    if not text:
        raise typer.BadParameter("the name is empty; wanted the path of a file or folder")
    return text


def not_empty_path(text: str) -> Path:
    """Parse as not_empty does, into a Path, which would take an empty text for the current folder, and URLs apart."""
    return Path(on_this_machine(text))


def path_or_url(text: str) -> Path | str:
    """Parse as not_empty_path does, but a URL stays a text."""
    return text if has_scheme(local_path(not_empty(text))) else Path(local_path(text))


def on_this_machine(text: str) -> str:
    """Parse as not_empty does, and refuse a store, where nothing can be appended or locked."""
    if has_scheme(path := local_path(not_empty(text))):
        raise typer.BadParameter(f"{path} is a URL; wanted a path on this machine: write there, and copy the file then")
    return path


def count_or_auto(text: str) -> str:
    """Parse an option that takes a number or the word auto; SelectSettings checks the number's range."""
    if text != "auto" and not re.fullmatch(r"[+-]?[0-9]{1,18}", text):
        raise typer.BadParameter(f"{text!r} is neither a number nor auto")
    return text


Paths = Annotated[
    list[str] | None,
    typer.Argument(metavar="VIDEO", help="Videos, folders, quoted globs; s3://, gs://, az:// too.", show_default=False),
]
Recursive = Annotated[bool, typer.Option("--recursive", "-r", help="Search subfolders too.", rich_help_panel=INPUT)]
FilesFrom = Annotated[
    str | None,
    typer.Option(
        "--files-from",
        metavar="FILE|-",
        help="Read paths from FILE, one per line, relative to the current folder; - reads stdin.",
        parser=not_empty,
        rich_help_panel=INPUT,
    ),
]
Null = Annotated[
    bool,
    typer.Option(
        "-0", "--null", help="NUL ends each path of --files-from (as in find -print0).", rich_help_panel=INPUT
    ),
]
AllowUrl = Annotated[
    bool,
    typer.Option(
        "--allow-url",
        help="Read files from web servers too (https://, http://), in parts. Stores (s3://, gs://, az://) need no "
        "such leave; both need the extra tsq-cli[cloud].",
        rich_help_panel=INPUT,
    ),
]
Start = Annotated[
    str | None,
    typer.Option("--start", metavar="TIME", help="Start at this time: 90, 1:30 or 00:01:30.5.", rich_help_panel=INPUT),
]
End = Annotated[str | None, typer.Option("--end", metavar="TIME", help="Stop before this time.", rich_help_panel=INPUT)]
Mode = Annotated[
    DecodeMode,
    typer.Option(
        "--decode",
        help="exact: the exact frames. keyframes: the nearest keyframes, several times as fast. "
        "nvdec: the exact frames, decoded by an NVIDIA GPU; what it cannot decode, by the CPU, as a note then says.",
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
        help="Frames to select; auto: as many as differ from each other.",
        show_default="5, or T if smaller",
        parser=count_or_auto,
        rich_help_panel=SELECTION,
    ),
]


def num_candidates_option(show_default: str) -> Any:
    """Declare the option -n; each command states its own default."""
    return Annotated[
        str | None,
        typer.Option(
            "-n",
            "--candidates",
            metavar="T|auto",
            help="Candidate frames to score, evenly spaced; auto: more in long videos, denser at changes.",
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
        help="auto: tsq if some frames stand out, else cover. tsq: the paper's fusion of both modules. cover: one "
        "frame per event. vqm, tqm: one module alone. For comparison: " + ", ".join(get_args(SelectorName)[5:]) + ".",
        rich_help_panel=SELECTION,
    ),
]
DuplicatesOption = Annotated[
    Duplicates,
    typer.Option(
        "--duplicates",
        help="Whether auto and cover skip frames that show the same as a selected one.",
        rich_help_panel=SELECTION,
    ),
]
SharpestOption = Annotated[
    bool,
    typer.Option(
        "--sharpest",
        help="Replace each selected frame by the sharpest one within half a second of it, in the same shot.",
        rich_help_panel=SELECTION,
    ),
]
OrderOption = Annotated[
    Order, typer.Option("--order", help="List frames by time, or by score (best first).", rich_help_panel=SELECTION)
]
Query = Annotated[
    list[str] | None,
    typer.Option(
        "--query",
        metavar="TEXT",
        help='Find frames by free text: "a dog", "a dog and a ball", "a dog, not a cat". Repeatable; they take turns.',
        show_default=False,
        rich_help_panel=SELECTION,
    ),
]
QueryModel = Annotated[
    str,
    typer.Option(
        "--query-model",
        metavar="auto|names|clip|clip:ID",
        help="Network that matches frames with --query. names: object names (extra tsq-cli[text]). clip: an image-text "
        "model of the hub, clip:ID another CLIP or SigLIP. auto: clip if its weights are available, else names.",
        rich_help_panel=MODEL,
    ),
]
Seed = Annotated[
    int, typer.Option("--seed", help="Random seed for --selector random, 0 or more.", rich_help_panel=SELECTION)
]
PackOption = Annotated[
    str,
    typer.Option(
        "--pack",
        metavar="NAME|DIR|clip:ID",
        help="Weights to use: an installed pack (see tsq packs list) or a pack's folder; clip:ID: another CLIP or "
        "SigLIP of the hub.",
        autocompletion=completion.packs,
        rich_help_panel=MODEL,
    ),
]
ClassesOption = Annotated[
    str | None,
    typer.Option(
        "--classes",
        metavar="FILE|A,B,...",
        help="Classes in words, without training: a file with one per line, or names with commas between them. They "
        "are told apart by the image-text model of --pack clip, which is the default with them.",
        parser=not_empty,
        rich_help_panel=MODEL,
    ),
]
PoolingOption = Annotated[
    Pooling | None,
    typer.Option(
        "--pooling",
        help="How the frames' scores become the video's: the mean of their logits or probabilities, either weighted by "
        "the visual module's saliency; each class' two best frames; or how much each class recurs.",
        show_default="the pack's",
        rich_help_panel=MODEL,
    ),
]
EvidenceOption = Annotated[
    str | None,
    typer.Option(
        "--evidence",
        metavar="V[,T]",
        help="Weights of the visual and the textual module's own class scores in the video's; 0 leaves them out.",
        show_default="the pack's",
        rich_help_panel=MODEL,
    ),
]


def evidence_of(text: str | None) -> tuple[float, ...] | None:
    """Read the value of --evidence.

    Raises:
        UsageError: no one or two numbers, or numbers out of range.
    """
    if text is None:
        return None
    try:
        weights = tuple(float(word) for word in text.split(","))
    except ValueError:
        weights = ()
    if not 1 <= len(weights) <= 2 or not all(0 <= weight <= MOST_EVIDENCE for weight in weights):
        raise UsageError(
            f"--evidence is {text!r}",
            wanted=f"one number from 0 to {MOST_EVIDENCE:g}, or two with a comma between them",
            fix="try --evidence 0.5, or 0 to leave it out",
        )
    return weights


DeviceOption = Annotated[
    str,
    typer.Option(
        "--device",
        help="Device that runs the networks: auto, cpu, cuda or cuda:1.",
        autocompletion=completion.devices,
        rich_help_panel=MODEL,
    ),
]
DtypeOption = Annotated[
    Dtype,
    typer.Option(
        "--dtype",
        metavar="DTYPE",
        help="Precision of the networks: float32, bfloat16, float16, or auto: float32 on a CPU, float16 on CUDA.",
        rich_help_panel=MODEL,
    ),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print one JSON document instead of tables.", rich_help_panel=OUTPUT)
]
Jsonl = Annotated[
    str | None,
    typer.Option(
        "--jsonl",
        metavar="FILE|-",
        help="Append one JSON line per video; finished videos are skipped.",
        parser=on_this_machine,
        rich_help_panel=OUTPUT,
    ),
]
Csv = Annotated[
    Any,  # Path | str | None, which typer does not take
    typer.Option(
        "--csv", metavar="FILE|URL", help="Write one row per frame.", parser=path_or_url, rich_help_panel=OUTPUT
    ),
]
OutputDir = Annotated[
    Any,
    typer.Option(
        "-o",
        "--output",
        metavar="DIR|URL",
        help="Save the selected frames at full size; s3://, gs:// or az:// too.",
        parser=path_or_url,
        rich_help_panel=OUTPUT,
    ),
]
ImageFormatOption = Annotated[
    ImageFormat,
    typer.Option("--format", help="Image format of the saved frames.", rich_help_panel=OUTPUT),
]
Export = Annotated[
    list[str] | None,
    typer.Option(
        "--export",
        metavar="KIND",
        help="Write the frames for another program, into the folder of -o: " + ", ".join(get_args(ExportKind)) + ".",
        rich_help_panel=OUTPUT,
    ),
]
MaxSide = Annotated[
    int | None,
    typer.Option(
        "--max-side",
        metavar="N",
        help="Longest side of the pictures in an --export, in pixels; their tokens go with it.",
        show_default="full size",
        rich_help_panel=OUTPUT,
    ),
]
ImageQuality = Annotated[
    int | None,
    typer.Option(
        "--image-quality",
        metavar="Q",
        help="JPEG quality of the pictures in an --export, 1 to 100.",
        show_default="85",
        rich_help_panel=OUTPUT,
    ),
]
Sheet = Annotated[
    Any,
    typer.Option(
        "--sheet",
        metavar="FILE|URL",
        help="Draw a contact sheet: uniform choice, selected frames, all candidates. {stem}: the video's name.",
        parser=path_or_url,
        rich_help_panel=OUTPUT,
    ),
]
Html = Annotated[
    Any,
    typer.Option(
        "--html",
        metavar="FILE|URL",
        help="Write one HTML page for all videos.",
        parser=path_or_url,
        rich_help_panel=OUTPUT,
    ),
]
Quiet = Annotated[
    bool,
    typer.Option("-q", "--quiet", help="Print errors only: no tables, messages or bars.", rich_help_panel=OUTPUT),
]
Verbose = Annotated[
    bool,
    typer.Option(
        "-v",
        "--verbose",
        help="Print the full table of each video, also of more than five videos.",
        rich_help_panel=OUTPUT,
    ),
]
BatchSize = Annotated[int, typer.Option("-b", "--batch-size", help="Videos scored together.", rich_help_panel=RUN)]
Workers = Annotated[int, typer.Option("-j", "--workers", help="Videos decoded in parallel.", rich_help_panel=RUN)]
Overwrite = Annotated[
    bool,
    typer.Option(
        "--overwrite",
        help="Redo videos that are already in the --jsonl file, and replace pictures from other runs.",
        rich_help_panel=RUN,
    ),
]
Timeout = Annotated[
    float,
    typer.Option("--timeout", metavar="SECONDS", help="Give up on a video after this time.", rich_help_panel=RUN),
]
MaxPixels = Annotated[
    int,
    typer.Option(
        "--max-pixels",
        metavar="N",
        help="Give up on a video whose frames have more pixels than this.",
        rich_help_panel=RUN,
    ),
]
