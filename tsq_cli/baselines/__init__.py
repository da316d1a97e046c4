"""Room 4: the two methods that TSQNet is measured against, built by us from what their papers describe."""

from tsq_cli.baselines.adafocus import AdaFocus
from tsq_cli.baselines.frameexit import FrameExit, FrameExitOutput

__all__ = ["AdaFocus", "FrameExit", "FrameExitOutput"]
