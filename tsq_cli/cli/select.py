"""Room 5: `tsq select`."""

from __future__ import annotations

from tsq_cli.cli.options import Shared, takes_shared
from tsq_cli.cli.videos import run_videos


@takes_shared
def select(shared: Shared) -> None:
    """Select the K frames of each video that matter, and say why.

    Looks at T candidates spread evenly over the video, scores them with TSQNet (a visual and a textual query for every
    class) and fuses both saliencies into K frames.

    Example: tsq select holiday.mp4 -k 5 -o frames/ --sheet sheet.png
    """
    run_videos(shared)
