"""`tsq benchmark`."""

from __future__ import annotations

import json as json_module
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.table import Table

from tsq_cli.benchmark.rounds import DEFAULT_MINUTES
from tsq_cli.cli import options
from tsq_cli.cli.options import INPUT, MODEL, OUTPUT, RUN
from tsq_cli.cli.output import info, progress_bar
from tsq_cli.config import DEFAULT_PACK, PAPER_CANDIDATES, PAPER_FRAMES
from tsq_cli.files import STDOUT, check_outputs
from tsq_cli.provenance import machine_and_versions
from tsq_cli.report.console import SafeConsole

EXAMPLES = options.examples(
    "tsq benchmark",
    "tsq benchmark --recognizer resnet50 --batch-size 1",
    "tsq benchmark --methods tsqnet,uniform --tuned-only --plot speed.png",
    "tsq benchmark --decode first.mp4 second.mp4 --json",
)

_DECODING = "; add --decode FILES for decoding"


def benchmark(
    files: Annotated[
        list[Path] | None, typer.Argument(metavar="FILE", help="More files for --decode.", show_default=False)
    ] = None,
    *,
    methods: Annotated[
        str,
        typer.Option(
            "--methods",
            metavar="LIST",
            help="Methods to compare, separated by commas: tsqnet, tsqnet-early-exit, frameexit, adafocus, "
            "uni-adafocus-96, uni-adafocus-128, uniform, all.",
            rich_help_panel=RUN,
        ),
    ] = "tsqnet,tsqnet-early-exit,frameexit,adafocus,uni-adafocus-96,uniform,all",
    batch_size: Annotated[
        int, typer.Option("-b", "--batch-size", help="Videos per batch; 1: no batches.", rich_help_panel=RUN)
    ] = 32,
    repeats: Annotated[
        int,
        typer.Option(
            "--repeats",
            help="Rounds, in each of which every method is timed once, with one video and with a batch.",
            rich_help_panel=RUN,
        ),
    ] = 7,
    minutes: Annotated[
        float,
        typer.Option(
            "--minutes",
            help="Make fewer rounds, to end within about this time; files come on top.",
            rich_help_panel=RUN,
        ),
    ] = DEFAULT_MINUTES,
    tuned_only: Annotated[
        bool, typer.Option("--tuned-only", help="Skip the as-published form.", rich_help_panel=RUN)
    ] = False,
    num_frames: options.NumFrames = PAPER_FRAMES,
    exit_after: Annotated[
        int, typer.Option("--exit-after", help="Frames after which FrameExit stops, 1 to 10.", rich_help_panel=RUN)
    ] = 6,
    sure_after: Annotated[
        int | None,
        typer.Option(
            "--sure-after",
            help="Frames after which TSQNet with early exit stops, 1 to K; default: 3, what actions40 needs (2.79 on "
            "average), rounded up.",
            show_default=False,
            rich_help_panel=RUN,
        ),
    ] = None,
    pack: options.PackOption = DEFAULT_PACK,
    recognizer: Annotated[
        str,
        typer.Option(
            "--recognizer", metavar="NAME", help="timm network that classifies the frames.", rich_help_panel=MODEL
        ),
    ] = "resnet101",
    input_size: Annotated[
        int | None,
        typer.Option(
            "--input-size", metavar="PX", help="Input size of the sampler; default: the pack's.", rich_help_panel=MODEL
        ),
    ] = None,
    recognizer_input_size: Annotated[
        int | None,
        typer.Option(
            "--recognizer-input-size",
            metavar="PX",
            help="Input size of the recognizer; default: timm's for the network.",
            rich_help_panel=MODEL,
        ),
    ] = None,
    device: options.DeviceOption = "auto",
    dtype: options.DtypeOption = "auto",
    pooling: options.PoolingOption = None,
    decode: Annotated[
        list[Path] | None,
        typer.Option(
            "--decode", metavar="FILE...", help="Also time whole files, from path to record.", rich_help_panel=INPUT
        ),
    ] = None,
    workers: Annotated[
        int, typer.Option("-j", "--workers", help="Time 1, 2, 4, ... up to this many decoders.", rich_help_panel=RUN)
    ] = 2,
    json: options.JsonOption = False,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="PNG", help="Plot speed against cost.", rich_help_panel=OUTPUT)
    ] = None,
) -> None:
    """Compare the speed of TSQNet and other methods on this machine: the paper's table, and time per stage.

    It says first how long it will take. Networks have random weights, so nothing is downloaded. Every method is timed
    from decoded frames in memory to a class. GMACs count a multiply-add once (papers call them GFLOPs); GFLOPs count
    it twice.
    """
    paths = [*(decode or []), *(files or [])]
    check_outputs({"--json": Path(STDOUT) if json else None, "--plot": plot}, inputs=paths)
    with progress_bar("loading") as progress:
        from tsq_cli.benchmark.end_to_end import check_files, run_benchmark
        from tsq_cli.benchmark.runners import BenchmarkConfig
        from tsq_cli.benchmark.speed import TREATMENTS
        from tsq_cli.models.device import resolve_device, resolve_dtype
        from tsq_cli.packs import find_pack

        check_files(paths)
        if plot is not None:
            from tsq_cli.report.plots import check_plot_path

            check_plot_path(plot)
        place = resolve_device(device)
        setting = BenchmarkConfig(
            pack=pack,
            recognizer=recognizer,
            num_frames=num_frames,
            num_candidates=PAPER_CANDIDATES,
            device=place,
            dtype=resolve_dtype(dtype, place),
            input_size=input_size,
            exit_after=exit_after,
            pooling=pooling or find_pack(pack).settings.pooling,
            sure_after=sure_after,
            recognizer_input_size=recognizer_input_size,
        )
        info("building the networks; one warm run of each will tell how long this takes")
        report = run_benchmark(
            [name.strip() for name in methods.split(",") if name.strip()],
            setting,
            batch_size=batch_size,
            repeats=repeats,
            minutes=minutes,
            treatments=TREATMENTS[1:] if tuned_only else TREATMENTS,
            files=paths,
            workers=workers,
            progress=progress,
            say=info,
        )
    if plot is not None:
        from tsq_cli.report.plots import plot_speed

        plot_speed(report, plot)
        info(f"plot: {plot}")
    if json:
        print(json_module.dumps(report, indent=1))
    else:
        _print(report)


def _print(report: dict[str, Any]) -> None:
    out = SafeConsole(least_width=125)
    for part in report_parts(report):
        out.print(part, soft_wrap=isinstance(part, str))


def report_parts(report: dict[str, Any]) -> Iterator[str | Table]:
    """A report (of tsq_cli.benchmark.speed.speed_table) as lines and tables, for a rich console."""
    machine, versions = machine_and_versions(report["provenance"])
    yield f"{machine}; tuned: {report['provenance']['dtype']}; as published: float32"
    yield f"{versions}; {_rounds_made(report)}"
    yield _speed_table(report)
    for title in dict.fromkeys(row["title"] for row in report["rows"]):
        yield f"  {title}"
    if "accuracy" in report:
        yield _accuracy(report["accuracy"], report["rows"])
    yield ""
    if "paper" in report:
        paper = report["paper"]
        yield f"for comparison {paper['source']}, on {paper['machine']}; {paper['data']}"
        yield _paper_table(paper)
    for videos, stages in report.get("stages", {}).items():
        yield _share_table(f"TSQNet tuned, {videos} at once", stages)
    if any("maps" in stages for stages in report.get("stages", {}).values()):
        yield "maps are computed after the class, outside the videos/s above" + _DECODING * ("files" not in report)
        yield ""
    if "recognizer_share_of_peak" in report:
        shares = report["recognizer_share_of_peak"]
        yield (
            f"matrix products reach {report['matrix_peak_gflops']:.0f} GFLOPs/s here; the recognizer reaches "
            + ", ".join(f"{share:.0%} of it with {videos} at once" for videos, share in shares.items())
        )
    if report.get("files"):
        yield from _file_parts(report["files"])


def _rounds_made(report: dict[str, Any]) -> str:
    """Say how many rounds; reports of earlier versions have made as many as were asked for."""
    rounds = report.get("rounds")
    if rounds is None:
        return f"{report['settings']['repeats']} rounds"
    made = f"{rounds['single']} rounds"
    if rounds["batch"]:
        made += f", of batches {rounds['batch']}" + " (one run of each)" * (not rounds["batch_warm"])
    return made


def _accuracy(accuracy: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    """Say which mAP the pack's own networks reach, which cost what these random ones cost."""
    names = {row["method"]: row["name"] for row in rows}
    values = ", ".join(f"{names[method]} {100 * value:.1f}" for method, value in accuracy["map"].items())
    videos = f" on {accuracy['videos']:.0f} videos" if accuracy["videos"] else ""
    return f"  mAP of the pack {accuracy['pack']} with its own weights, measured{videos}: {values}"


def _paper_table(paper: dict[str, Any]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("method")
    for heading in ("mAP", "GMACs", "videos/s: 1", f"{paper['batch_size']}"):
        table.add_column(heading, justify="right")
    for row in paper["rows"]:
        batch = row["batch_videos_per_second"]
        table.add_row(
            row["name"],
            f"{row['map']:.1f}",
            f"{row['giga_macs']:.1f}",
            f"{row['videos_per_second']:.1f}",
            "-" if batch is None else f"{batch:.1f}",
        )
    return table


def _file_parts(files: dict[str, Any]) -> Iterator[str | Table]:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("workers", "videos/s", "times one worker", "memory MiB", "limited by"):
        table.add_column(heading, justify="left" if heading == "limited by" else "right")
    first = files["workers"][0]["videos_per_second"]
    for row in files["workers"]:
        slowest = max(row["stages"], key=row["stages"].get)
        table.add_row(
            str(row["workers"]),
            f"{row['videos_per_second']:.2f}",
            f"{row['videos_per_second'] / first:.2f}",
            "?" if row["memory_mib"] is None else f"{row['memory_mib']:.0f}",
            f"{slowest} ({row['stages'][slowest] / sum(row['stages'].values()):.0%} of the stages' time)",
        )
    yield f"{files['videos']} files, from path to record; medians of {files['rounds']} rounds in turns"
    yield table
    yield _share_table("a file's stages, one worker", files["workers"][0]["stages"])


def _speed_table(report: dict[str, Any]) -> Table:
    rows = report["rows"]
    batch_size = rows[0]["batch_size"]
    no_time = [tuple(form) for form in report.get("rounds", {}).get("no_time_for_batches", [])]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("method")
    table.add_column("form")
    headings = ["GMACs", "GFLOPs", "M params", "videos/s: 1", "quartiles"]
    headings += [f"{batch_size}"] if batch_size > 1 else []
    headings += ["TSQNet's speed", "peak MiB"]
    for heading in headings:
        table.add_column(heading, justify="right")
    ours = {row["treatment"]: row["single"]["median"] for row in rows if row["method"] == "tsqnet"}
    for row in rows:
        single = row["single"]
        cells = [
            row["name"],
            row["treatment"],
            f"{row['giga_macs']:.1f}",
            f"{row['giga_flops']:.1f}",
            f"{row['mega_parameters']:.1f}",
            f"{row['videos_per_second']:.2f}",
            f"{1 / single['upper_quartile']:.2f}-{1 / single['lower_quartile']:.2f}",
        ]
        if batch_size > 1:
            lacks = "no time" if (row["method"], row["treatment"]) in no_time else "-"
            cells.append(lacks if row["batch"] is None else f"{row['batch_videos_per_second']:.2f}")
        mine = ours.get(row["treatment"])
        cells.append("-" if mine is None else f"{single['median'] / mine:.2f} x")
        cells.append("-" if row["peak_mib"] is None else f"{row['peak_mib']:.0f}")
        table.add_row(*cells)
    return table


def _share_table(title: str, stages: dict[str, float]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=title, title_justify="left")
    table.add_column("stage")
    table.add_column("ms", justify="right")
    table.add_column("share", justify="right")
    total = sum(stages.values())
    for stage, seconds in stages.items():
        table.add_row(stage, f"{1000 * seconds:.1f}", f"{seconds / total:.0%}")
    return table
