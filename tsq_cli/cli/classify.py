"""`tsq classify`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from tsq_cli.cli.options import MODEL, OUTPUT, VideoOptions, not_empty_path, with_video_options
from tsq_cli.cli.videos import Recognition, run_videos
from tsq_cli.config import PAPER, ClassifySettings, MapScale


@with_video_options(PAPER)
def classify(
    shared: VideoOptions,
    *,
    recognizer: Annotated[
        str,
        typer.Option(
            "--recognizer",
            metavar="auto|resnet101|NAME|embedded",
            help="What looks at the frames: the pack's choice if its weights can be had (auto), a timm model, or "
            "what the pack carries itself.",
            rich_help_panel=MODEL,
        ),
    ] = "auto",
    topk: Annotated[int, typer.Option("--topk", metavar="N", help="Classes to list.", rich_help_panel=OUTPUT)] = 5,
    maps: Annotated[
        Path | None,
        typer.Option(
            "--maps",
            metavar="DIR",
            help="Save where each frame shows the class.",
            parser=not_empty_path,
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    map_format: Annotated[
        Literal["overlay", "heat", "npy"],
        typer.Option("--map-format", help="Over the frame, the heat alone, or numbers.", rich_help_panel=OUTPUT),
    ] = "overlay",
    map_scale: Annotated[
        MapScale,
        typer.Option(
            "--map-scale", help="Maps of a clip compare, or each frame fills its range.", rich_help_panel=OUTPUT
        ),
    ] = "clip",
) -> None:
    """Select frames of each video and say what they show, and where in them.

    Chooses frames as `tsq select` does, passes them to a recognizer (ResNet-101 in the paper), and averages what it
    says of each into one prediction for the video.

    Example: tsq classify holiday.mp4 --html report.html --maps maps/
    """
    settings = ClassifySettings(
        num_predictions=topk, maps=maps is not None or shared.html is not None, map_scale=map_scale
    )
    run_videos(shared, Recognition(recognizer=recognizer, settings=settings, maps_dir=maps, map_format=map_format))
