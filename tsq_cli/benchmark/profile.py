"""Time each stage of TSQNet by itself, and its recognizer against the device's fastest matrix products."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from tsq_cli.benchmark.rounds import warm_ups_on
from tsq_cli.benchmark.runners import Pass, Stage, TSQNetRunner
from tsq_cli.errors import UsageError
from tsq_cli.models.device import to_device


def profile(runner: TSQNetRunner, frames: Tensor, repeats: Mapping[int, int]) -> dict[str, Any]:
    """Profile a tuned TSQNet stage by stage; maps only if the network has them.

    Args:
        runner: tuned.
        frames: of videos, uint8 [B, T, H, W, 3].
        repeats: rounds of each number of videos, from 1 to B.

    Returns:
        stages (seconds of each, by number of videos), matrix_peak_gflops of the device, and recognizer_share_of_peak.
    """
    stages = runner.profiled_stages
    try:
        _stages(runner, stages, frames[:1], 1)
    except UsageError:
        del stages["maps"]
    peak = matrix_peak_gflops(runner.device, runner.dtype)
    seconds = {str(size): _stages(runner, stages, frames[:size], rounds) for size, rounds in repeats.items()}
    gflops = runner.recognizer_cost(frames[:1]).giga_flops
    return {
        "stages": seconds,
        "matrix_peak_gflops": peak,
        "recognizer_share_of_peak": {
            size: int(size) * gflops / of_size["recognizer"] / peak for size, of_size in seconds.items()
        },
    }


def _stages(runner: TSQNetRunner, stages: Mapping[str, Stage], frames: Tensor, repeats: int) -> dict[str, float]:
    """Median seconds of each stage, each waited for; on a GPU after runs that do not count."""
    seconds: dict[str, list[float]] = {}
    warm_ups = warm_ups_on(runner.device)
    for i in range(warm_ups + repeats):
        if i == warm_ups:
            seconds = {}
        started = _finished(runner.device)
        state = Pass(to_device(frames, runner.device))
        seconds.setdefault("copy to the device", []).append(_finished(runner.device) - started)
        for name, stage in stages.items():
            started = _finished(runner.device)
            stage(state)
            seconds.setdefault(name, []).append(_finished(runner.device) - started)
    return {name: statistics.median(values) for name, values in seconds.items()}


def matrix_peak_gflops(device: str, dtype: torch.dtype, *, repeats: int = 7) -> float:
    """The fastest of some products of large square matrices: what the device does at best, measured, not claimed."""
    side = 8192 if device.startswith("cuda") else 2048
    one, other = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    seconds = []
    for _ in range(repeats):
        started = _finished(device)
        one @ other
        seconds.append(_finished(device) - started)
    return 2 * side**3 / min(seconds) / 1e9


def _finished(device: str) -> float:
    """The time when all that was asked of the device is done."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    return time.perf_counter()
