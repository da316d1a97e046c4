"""The methods that TSQNet is measured against, built by us from what their papers describe."""

from tsq_cli.benchmark.methods.adafocus import AdaFocus
from tsq_cli.benchmark.methods.frameexit import FrameExit, FrameExitOutput
from tsq_cli.benchmark.methods.uni_adafocus import UniAdaFocus

__all__ = ["AdaFocus", "FrameExit", "FrameExitOutput", "UniAdaFocus"]
