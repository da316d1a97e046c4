"""The accuracy that a pack was measured to have, which `tsq benchmark` prints beside the speed of the same networks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tsq_cli.benchmark.runners import BenchmarkConfig, FramesRunner, Runner, TSQNetRunner
from tsq_cli.packs import find_pack

METRICS = {
    "tsqnet": "map_tsq",
    "tsqnet-early-exit": "map_tsq_early_exit",
    "uniform": "map_uniform",
    "all": "map_all",
}
"""By method: the name of its mAP, from 0 to 1, among the metrics of a pack's provenance."""


def pack_accuracy(runners: Mapping[str, Runner], setting: BenchmarkConfig) -> dict[str, Any] | None:
    """Look up the mAP of a pack's own networks.

    Args:
        runners: of each method that is timed.
        setting: what they share.

    Returns:
        pack, recognizer, videos (number, if known), and map: from 0 to 1 by method, of those that were measured. None
        where there is none, or where other networks, sizes, frames or poolings are timed than were measured.
    """
    config = find_pack(setting.pack)
    metrics, settings, own = config.provenance.metrics, config.settings, config.roles.recognizer
    sizes = {runner.recognizer_size for runner in runners.values() if isinstance(runner, TSQNetRunner | FramesRunner)}
    timed: tuple[object, ...] = (
        setting.recognizer, sizes, setting.input_size, setting.num_frames, setting.num_candidates, setting.pooling,
    )  # fmt: skip
    measured: tuple[object, ...] = (
        own.model, {own.preprocess.input_size}, None, metrics.get("frames"), settings.num_candidates, settings.pooling,
    )  # fmt: skip
    found = {method: metrics[METRICS[method]] for method in runners if METRICS.get(method) in metrics}
    if not found or timed != measured:
        return None
    return {"pack": config.name, "recognizer": own.model, "videos": metrics.get("videos"), "map": found}
