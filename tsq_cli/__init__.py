"""Select the few frames of a video that matter (TSQNet, Temporal Saliency Query Network, ECCV 2022).

Example:
    >>> import tsq_cli  # doctest: +SKIP
    >>> selector = tsq_cli.Selector.load()  # doctest: +SKIP
    >>> record = selector.select("examples/demo.mp4", tsq_cli.SelectSettings(num_frames=5))  # doctest: +SKIP
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tsq_cli.classifier import Classifier
    from tsq_cli.config import ClassifySettings, SelectSettings
    from tsq_cli.pipeline import Selector
    from tsq_cli.record import Record

__version__ = "0.1.0"
__all__ = ["Classifier", "ClassifySettings", "Record", "SelectSettings", "Selector", "__version__"]

_HOMES = {
    "ClassifySettings": "tsq_cli.config",
    "SelectSettings": "tsq_cli.config",
    "Classifier": "tsq_cli.classifier",
    "Selector": "tsq_cli.pipeline",
    "Record": "tsq_cli.record",
}


def __getattr__(name: str) -> Any:
    """Import the library's few public names on first use, so that `import tsq_cli` loads neither torch nor av."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
