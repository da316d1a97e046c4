"""Room 4: `tsq benchmark`: the paper's speed table for this machine, and where TSQNet's time goes.

All contenders take turns, round after round, in one process. Each is timed from decoded frames on the host to classes
on the host, so preprocessing and copies count.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from tsq_cli.baselines.frameexit import FRAME_ORDER
from tsq_cli.benchmark.counting import Cost, count
from tsq_cli.benchmark.measure import Timing, in_turns, machine_facts
from tsq_cli.benchmark.runners import (
    AdaFocusRunner,
    FrameExitRunner,
    FramesRunner,
    Runner,
    Setting,
    TSQNetRunner,
    to_device,
)
from tsq_cli.errors import UsageError

Treatment = Literal["published", "tuned"]
TREATMENTS: tuple[Treatment, ...] = ("published", "tuned")
METHODS: dict[str, Callable[[Setting], Runner]] = {
    "tsqnet": TSQNetRunner,
    "frameexit": FrameExitRunner,
    "adafocus": AdaFocusRunner,
    "uniform": lambda setting: FramesRunner(setting, setting.num_frames),
    "all": lambda setting: FramesRunner(setting, setting.num_candidates),
}
FRAME_SHAPE = (256, 455, 3)  # what decoding makes of a 16:9 video
PACKAGES = ("torch", "torchvision", "timm", "av", "numpy", "tsq-cli")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One method under one treatment.

    Attributes:
        method: its key in METHODS.
        name, title: for people, short and with what was set.
        treatment: as published, or tuned.
        cost: of one video.
        single: seconds of one video at a time.
        batch: seconds of one batch; None for a method that takes one video at a time, or where none was asked for.
        batch_size: videos in it.
        peak_mib: memory that one batch (or one video) takes at its peak above what is held before; None where the
            system does not tell.
    """

    method: str
    name: str
    title: str
    treatment: Treatment
    cost: Cost
    single: Timing
    batch: Timing | None
    batch_size: int
    peak_mib: float | None

    @property
    def videos_per_second(self) -> float:
        """One video at a time."""
        return 1 / self.single.median

    @property
    def batch_videos_per_second(self) -> float | None:
        """In batches; None without."""
        return None if self.batch is None else self.batch_size / self.batch.median

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            **asdict(self),
            "giga_macs": self.cost.giga_macs,
            "giga_flops": self.cost.giga_flops,
            "mega_parameters": self.cost.mega_parameters,
            "videos_per_second": self.videos_per_second,
            "batch_videos_per_second": self.batch_videos_per_second,
        }


def speed_table(
    methods: Sequence[str],
    setting: Setting,
    *,
    batch_size: int,
    repeats: int,
    treatments: Sequence[Treatment] = TREATMENTS,
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Time methods against each other.

    Args:
        methods: keys of METHODS.
        setting: what they share.
        batch_size: videos in a batch; 1 leaves batches out.
        repeats: rounds with one video at a time; batches are timed in a third as many, at least two.
        treatments: which of the two.
        progress: told what is being done.

    Returns:
        A JSON object: machine, settings, rows, stages of the tuned TSQNet.

    Raises:
        UsageError: an unknown method, a number out of range, or a network that timm does not have.
    """
    _check(methods, batch_size=batch_size, repeats=repeats, setting=setting)
    generator = torch.Generator().manual_seed(0)
    shape = (batch_size, setting.num_candidates, *FRAME_SHAPE)
    frames = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    runners: dict[tuple[str, Treatment], Runner] = {}
    costs: dict[str, Cost] = {}
    with torch.inference_mode():
        for method in methods:
            for treatment in treatments:
                progress(f"building {method}, {treatment}")
                runner = METHODS[method](setting)
                if method not in costs:
                    pixels = runner.taken(frames[:1]).to(setting.device)
                    costs[method] = count(runner.forward, pixels, modules=runner.networks)
                if treatment == "tuned":
                    runner.tune()
                runners[method, treatment] = runner
        rows = list(_rows(runners, costs, frames, repeats=repeats, batch_size=batch_size, progress=progress))
        tsqnet = runners.get(("tsqnet", "tuned"))
        stages = _stages(tsqnet, frames[:1], repeats) if isinstance(tsqnet, TSQNetRunner) else None
    return {
        "machine": machine_facts(PACKAGES) | device_facts(setting.device),
        "settings": {**asdict(setting), "dtype": str(setting.dtype), "frame_shape": FRAME_SHAPE, "repeats": repeats},
        "rows": [row.to_dict() for row in rows],
        "stages": stages,
    }


def device_facts(device: str) -> dict[str, Any]:
    """What the networks run on."""
    if device.startswith("cuda"):
        return {"device": torch.cuda.get_device_name(device), "cuda": torch.version.cuda}
    return {"device": "CPU", "torch_threads": torch.get_num_threads()}


def peak_memory_mib(work: Callable[[], object], device: str) -> float | None:
    """Memory that a call takes at its peak above what is held before it; None where the system does not tell."""
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        work()
        return (torch.cuda.max_memory_allocated(device) - before) / 2**20
    before_mib = _status_mib("VmRSS")
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # Linux: the peak starts again from here
        work()
        peak = _status_mib("VmHWM")
        return None if before_mib is None or peak is None else max(0.0, peak - before_mib)
    return None


def _status_mib(name: str) -> float | None:
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{name}:")), None)


def _rows(
    runners: Mapping[tuple[str, Treatment], Runner],
    costs: Mapping[str, Cost],
    frames: Tensor,
    *,
    repeats: int,
    batch_size: int,
    progress: Callable[[str], None],
) -> Iterator[Row]:
    def calls(some: Tensor) -> dict[tuple[str, Treatment], Callable[[], object]]:
        return {
            key: partial(runner.classify, some) for key, runner in runners.items() if runner.batches or len(some) == 1
        }

    singles = calls(frames[:1])
    progress("warming up")
    for call in singles.values():
        call()
    progress(f"one video at a time, {repeats} rounds")
    single = in_turns(singles, repeats)
    batch: dict[tuple[str, Treatment], Timing] = {}
    batches = calls(frames) if batch_size > 1 else {}
    if batches:
        rounds = max(2, repeats // 3)
        progress(f"batches of {batch_size}, {rounds} rounds")
        batch = in_turns(batches, rounds)
    progress("memory")
    for key, runner in runners.items():
        method, treatment = key
        device = str(next(runner.networks[0].parameters()).device)
        yield Row(
            method=method,
            name=runner.name,
            title=runner.title,
            treatment=treatment,
            cost=costs[method],
            single=single[key],
            batch=batch.get(key),
            batch_size=batch_size,
            peak_mib=peak_memory_mib(batches.get(key, singles[key]), device),
        )


def _stages(runner: TSQNetRunner, frames: Tensor, repeats: int) -> dict[str, float]:
    """Median seconds of TSQNet's stages for one video, each waited for."""
    device = str(next(runner.networks[0].parameters()).device)

    def wait() -> float:
        if device.startswith("cuda"):
            torch.cuda.synchronize(device)
        return time.perf_counter()

    seconds: dict[str, list[float]] = {}
    for _ in range(repeats):
        started = wait()
        held = {"pixels": to_device(frames, device)}
        seconds.setdefault("copy to the device", []).append(wait() - started)
        for name, stage in runner.stages.items():
            started = wait()
            stage(held)
            seconds.setdefault(name, []).append(wait() - started)
    return {name: sorted(values)[len(values) // 2] for name, values in seconds.items()}


def _check(methods: Sequence[str], *, batch_size: int, repeats: int, setting: Setting) -> None:
    for method in methods:
        if method not in METHODS:
            raise UsageError(f"the method is {method!r}", wanted="some of " + ", ".join(METHODS), fix="see --methods")
    ranges = {
        "--batch-size": (batch_size, 1, None),
        "--repeats": (repeats, 1, None),
        "-k": (setting.num_frames, 1, setting.num_candidates),
        "--exit-after": (setting.exit_after, 1, len(FRAME_ORDER)),
        "--input-size": (32 if setting.input_size is None else setting.input_size, 32, None),
    }
    for name, (value, least, most) in ranges.items():
        if value < least or (most is not None and value > most):
            wanted = f"{least} or more" if most is None else f"{least} to {most}"
            raise UsageError(f"{name} is {value}", wanted=wanted, fix="leave it at the default")
