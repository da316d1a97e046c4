"""`tsq select`."""

from __future__ import annotations

from tsq_cli.cli.options import VideoOptions, with_video_options
from tsq_cli.cli.videos import run_videos
from tsq_cli.config import SelectSettings


@with_video_options(SelectSettings())
def select(shared: VideoOptions) -> None:
    """Select the K frames of each video that matter, and say why.

    Looks at T candidates spread over the video and scores them with TSQNet (a visual and a textual query for every
    class). Where some frames stand out these are taken, as in the paper; else one for each event, then what adds most.

    Example: tsq select holiday.mp4 -k 5 -o frames/ --sheet sheet.png
    """
    run_videos(shared)
