"""`tsq select`."""

from __future__ import annotations

from tsq_cli.cli.options import examples
from tsq_cli.cli.output import quietly
from tsq_cli.cli.video_options import VideoOptions, with_video_options
from tsq_cli.cli.videos import run_videos
from tsq_cli.config import SelectSettings

EXAMPLES = examples(
    "tsq select holiday.mp4",
    "tsq select holiday.mp4 -k 5 -o frames/ --sheet sheet.png",
    "tsq select videos/ -r --jsonl frames.jsonl --html report.html",
    'tsq select match.mp4 --query "a goal" --start 45:00 --json',
)


@with_video_options(SelectSettings())
def select(options: VideoOptions) -> None:
    """Select the K frames of each video that matter, and say why.

    Scores T candidate frames per video with TSQNet (one visual and one textual query per class). If some frames stand
    out, they are selected, as in the paper; otherwise one frame per event, then those that add the most.
    """
    with quietly(options.quiet):
        run_videos(options)
