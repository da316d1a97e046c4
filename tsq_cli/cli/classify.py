"""`tsq classify`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from tsq_cli.cli import completion
from tsq_cli.cli.options import (
    MODEL,
    OUTPUT,
    EvidenceOption,
    PoolingOption,
    evidence_of,
    examples,
    path_or_url,
)
from tsq_cli.cli.output import quietly
from tsq_cli.cli.video_options import VideoOptions, with_video_options
from tsq_cli.cli.videos import run_videos
from tsq_cli.config import PAPER, ClassifySettings, MapFormat, MapScale

EXAMPLES = examples(
    "tsq classify holiday.mp4",
    "tsq classify holiday.mp4 --html report.html --maps maps/",
    "tsq classify videos/ -r --jsonl classes.jsonl -j 4 -b 8",
    "tsq classify holiday.mp4 --recognizer embedded --topk 3 --json",
)


@with_video_options(PAPER)
def classify(
    options: VideoOptions,
    *,
    recognizer: Annotated[
        str,
        typer.Option(
            "--recognizer",
            metavar="auto|resnet101|NAME|embedded",
            help="Network that classifies the frames. auto: the pack's first choice if its weights are available. "
            "embedded: the network inside the pack. Or the name of a timm model.",
            autocompletion=completion.recognizers,
            rich_help_panel=MODEL,
        ),
    ] = "auto",
    pooling: PoolingOption = None,
    evidence: EvidenceOption = None,
    early_exit: Annotated[
        bool,
        typer.Option(
            "--early-exit",
            help="Recognize the frames one after the other, best first, and stop once the class is sure.",
            rich_help_panel=MODEL,
        ),
    ] = False,
    topk: Annotated[
        int, typer.Option("--topk", metavar="N", help="Classes to list, most likely first.", rich_help_panel=OUTPUT)
    ] = 5,
    maps: Annotated[
        Any,  # Path | str | None, which typer does not take
        typer.Option(
            "--maps",
            metavar="DIR|URL",
            help="Save a saliency map per frame: where it shows the class.",
            parser=path_or_url,
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    map_format: Annotated[
        MapFormat,
        typer.Option(
            "--map-format",
            help="overlay: the heat over the frame. heat: the heat alone. npy: its values.",
            rich_help_panel=OUTPUT,
        ),
    ] = "overlay",
    map_scale: Annotated[
        MapScale,
        typer.Option(
            "--map-scale",
            help="clip: one scale per video, so that its maps compare. frame: each map fills the range.",
            rich_help_panel=OUTPUT,
        ),
    ] = "clip",
) -> None:
    """Select frames of each video, name what they show, and show where in the frames it is.

    Selects frames as `tsq select` does, runs a recognizer (ResNet-101 in the paper) on them, and pools its
    predictions into one per video.
    """
    settings = ClassifySettings(
        num_predictions=topk,
        maps=maps is not None or (options.html is not None and not _is_image_text(options)),
        map_scale=map_scale,
        pooling=pooling,
        evidence=evidence_of(evidence),
        early_exit=early_exit,
    )
    with quietly(options.quiet):
        run_videos(options, classify=settings, recognizer=recognizer, maps_dir=maps, map_format=map_format)


def _is_image_text(options: VideoOptions) -> bool:
    """Test whether classes are told apart by an image-text model, which has no maps to give."""
    from tsq_cli.packs import find_pack

    return options.classes is not None or find_pack(options.pack).is_image_text
