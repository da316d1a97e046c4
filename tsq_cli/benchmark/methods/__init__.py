"""The two methods that TSQNet is measured against, built by us from what their papers describe."""

from tsq_cli.benchmark.methods.adafocus import AdaFocus
from tsq_cli.benchmark.methods.frameexit import FrameExit, FrameExitOutput

__all__ = ["AdaFocus", "FrameExit", "FrameExitOutput"]
