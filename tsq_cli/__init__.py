"""Select the few frames of a video that matter (TSQNet, Temporal Saliency Query Network, ECCV 2022).

Example:
    >>> import tsq_cli  # doctest: +SKIP
    >>> result = tsq_cli.load().select("examples/demo.mp4", num_frames=5)  # doctest: +SKIP
    >>> [(frame.time_seconds, frame.image) for frame in result.frames]  # doctest: +SKIP
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tsq_cli.classifier import Classifier
    from tsq_cli.config import ClassifySettings, SelectSettings
    from tsq_cli.errors import TsqError
    from tsq_cli.library import Model, load
    from tsq_cli.pipeline import Selector
    from tsq_cli.record import Record
    from tsq_cli.result import Frame, Result

__version__ = "0.1.0"
__all__ = [
    "Classifier",
    "ClassifySettings",
    "Frame",
    "Model",
    "Record",
    "Result",
    "SelectSettings",
    "Selector",
    "TsqError",
    "__version__",
    "load",
]

_HOMES = {
    "ClassifySettings": "tsq_cli.config",
    "SelectSettings": "tsq_cli.config",
    "Classifier": "tsq_cli.classifier",
    "Frame": "tsq_cli.result",
    "Model": "tsq_cli.library",
    "Record": "tsq_cli.record",
    "Result": "tsq_cli.result",
    "Selector": "tsq_cli.pipeline",
    "TsqError": "tsq_cli.errors",
    "load": "tsq_cli.library",
}


def __getattr__(name: str) -> Any:
    """Import the library's few public names on first use, so that `import tsq_cli` loads neither torch nor av."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
