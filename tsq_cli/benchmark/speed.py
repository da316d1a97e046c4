"""`tsq benchmark`: the paper's speed table for this machine, and where TSQNet's time goes.

All methods take turns, round after round, in one process. Each is timed from decoded frames on the host to classes
on the host, so preprocessing and copies count.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tsq_cli.benchmark.accuracy import pack_accuracy
from tsq_cli.benchmark.early_exit import EarlyExitRunner
from tsq_cli.benchmark.measure import Timing, in_turns, load_average, process_mib
from tsq_cli.benchmark.methods.frameexit import FRAME_ORDER
from tsq_cli.benchmark.paper import TABLE_2
from tsq_cli.benchmark.peers import AdaFocusRunner, FrameExitRunner, UniAdaFocusRunner
from tsq_cli.benchmark.profile import profile
from tsq_cli.benchmark.rounds import (
    DEFAULT_MINUTES,
    Form,
    Rounds,
    Say,
    Treatment,
    announcement,
    rounds_within,
    time_batches,
    warm_up,
    warm_ups_on,
)
from tsq_cli.benchmark.runners import BenchmarkConfig, FramesRunner, Runner, TSQNetRunner
from tsq_cli.errors import UsageError
from tsq_cli.models.device import keep_freed_memory
from tsq_cli.models.flops import Cost, count
from tsq_cli.models.preprocess import MAX_INPUT, MIN_INPUT
from tsq_cli.packs import find_pack
from tsq_cli.provenance import provenance
from tsq_cli.types import Progress, no_progress

TREATMENTS: tuple[Treatment, ...] = ("published", "tuned")
METHODS: dict[str, Callable[[BenchmarkConfig], Runner]] = {
    "tsqnet": TSQNetRunner,
    "tsqnet-early-exit": EarlyExitRunner,
    "frameexit": FrameExitRunner,
    "adafocus": AdaFocusRunner,
    "uni-adafocus-96": lambda setting: UniAdaFocusRunner(setting, 96),
    "uni-adafocus-128": lambda setting: UniAdaFocusRunner(setting, 128),
    "uniform": lambda setting: FramesRunner(setting, setting.num_frames),
    "all": lambda setting: FramesRunner(setting, setting.num_candidates),
}
FRAME_SHAPE = (256, 455, 3)  # what decoding makes of a 16:9 video
_PROFILED: Form = ("tsqnet", "tuned")
FRAMES_SEED = 0  # networks have random weights, which change no time


@dataclass(frozen=True, kw_only=True)
class SpeedRow:
    """One method under one treatment.

    Attributes:
        method: its key in METHODS.
        name, title: for people, short and with what was set.
        treatment: as published, or tuned.
        cost: of one video.
        single: seconds of one video at a time.
        batch: seconds of one batch; None for a method that takes one video at a time, where none was asked for, or
            where there was no time for one.
        batch_size: videos in it.
        peak_mib: memory that one batch (or one video) takes at its peak above what is held before; None where the
            system does not tell, and without a batch where others have one.
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
    setting: BenchmarkConfig,
    *,
    batch_size: int,
    repeats: int,
    minutes: float = DEFAULT_MINUTES,
    treatments: Sequence[Treatment] = TREATMENTS,
    progress: Progress = no_progress,
    say: Say = lambda _: None,
) -> dict[str, Any]:
    """Time methods against each other.

    Args:
        methods: keys of METHODS.
        setting: what they share.
        batch_size: videos in a batch; 1 leaves batches out.
        repeats: rounds, with one video at a time and in batches; fewer where they would take longer than `minutes`.
        minutes: that all of it is to take, about; one round of each kind is made however long it takes.
        treatments: which of the two.
        progress: told what is being done, and how far it is.
        say: told in a line each how long it will take, and every speed as soon as it is known.

    Returns:
        A JSON object: provenance, load_average, settings, rounds (made of each kind, whether a batch came before them
        to warm up, and the forms for whose batches there was no time), rows, and Table 2 as paper; the pack's own mAP
        as accuracy, where its recognizer is the one timed; with the tuned TSQNet among them also its stages' seconds by
        batch size (of batches where there is time), and what share of the device's matrix_peak_gflops its recognizer
        reaches.

    Raises:
        UsageError: an unknown method, a number out of range, or a network that timm does not have.
    """
    _check(methods, batch_size=batch_size, repeats=repeats, minutes=minutes, setting=setting)
    started = time.perf_counter()
    ends = started + 60 * minutes
    asked = {"repeats": repeats, "minutes": minutes}

    @cache
    def videos(num_frames: int) -> Tensor:
        generator = torch.Generator().manual_seed(FRAMES_SEED)
        return torch.randint(0, 256, (batch_size, num_frames, *FRAME_SHAPE), dtype=torch.uint8, generator=generator)

    runners, costs = _built(methods, setting, treatments, videos, progress)
    with torch.inference_mode():
        rows, rounds, no_time = _rows(
            runners,
            costs,
            {form: videos(runner.num_given) for form, runner in runners.items()},
            repeats=repeats,
            ends=ends,
            progress=progress,
            say=say,
        )
        progress("stages", 0, 1)
        frames = videos(setting.num_candidates)
        stages = _profile(runners.get(_PROFILED), frames, rows, rounds, ends=ends)
    accuracy = pack_accuracy({method: runner for (method, _), runner in runners.items()}, setting)
    return {
        "provenance": provenance(device=setting.device, dtype=setting.dtype, seeds={"frames": FRAMES_SEED}),
        "load_average": load_average(),
        "settings": {**asdict(setting), "dtype": str(setting.dtype), "frame_shape": FRAME_SHAPE, **asked},
        "rounds": {
            **_made(rows, rounds, no_time, warm_ups=warm_ups_on(setting.device)),
            "seconds": time.perf_counter() - started,
        },
        "paper": TABLE_2,
        "rows": [row.to_dict() for row in rows],
        **({"accuracy": accuracy} if accuracy else {}),
        **stages,
    }


def _built(
    methods: Sequence[str],
    setting: BenchmarkConfig,
    treatments: Sequence[Treatment],
    videos: Callable[[int], Tensor],
    progress: Progress,
) -> tuple[dict[Form, Runner], dict[str, Cost]]:
    """Build every form, and count every method's cost by one of the videos of so many frames."""
    keep_freed_memory()  # all methods alike, whichever are asked for: others' buffers would be mapped anew each time
    runners: dict[Form, Runner] = {}
    costs: dict[str, Cost] = {}
    with torch.no_grad():  # not in inference mode: Grad-CAM, where maps need it, differentiates by what is built here
        for i, method in enumerate(methods):
            for treatment in treatments:
                progress(f"building {method}, {treatment}", i, len(methods))
                runner = METHODS[method](setting)
                if method not in costs:
                    pixels = runner.frames_used(videos(runner.num_given)[:1]).to(setting.device)
                    costs[method] = count(runner.forward, pixels, modules=runner.networks)
                if treatment == "tuned":
                    runner.optimize()
                runners[method, treatment] = runner
    return runners, costs


def peak_memory_mib(work: Callable[[], object], device: str) -> float | None:
    """Memory that a call takes at its peak above what is held before it; None where the system does not tell."""
    if device.startswith("cuda"):
        # Reserved, not allocated: what lies in the graphs' pool is no allocation of the allocator's count.
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_reserved(device)
        work()
        return (torch.cuda.max_memory_reserved(device) - before) / 2**20
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)  # glibc: give back what earlier calls left behind, or this one would reuse it
    before_mib = process_mib("VmRSS")
    try:
        Path("/proc/self/clear_refs").write_text("5")  # Linux: the peak starts again from here
    except OSError:
        return None
    work()
    peak = process_mib("VmHWM")
    return None if before_mib is None or peak is None else max(0.0, peak - before_mib)


def _rows(
    runners: Mapping[Form, Runner],
    costs: Mapping[str, Cost],
    videos: Mapping[Form, Tensor],
    *,
    repeats: int,
    ends: float,
    progress: Progress,
    say: Say,
) -> tuple[list[SpeedRow], Rounds, list[Form]]:
    """Time each form with its videos, until about `ends` of time.perf_counter.

    Returns:
        The rows, the rounds planned, and the forms whose batches were left out for lack of time.
    """
    batch_size = len(next(iter(videos.values())))
    names = {form: f"{runner.name}, {form[1]}" for form, runner in runners.items()}
    singles = {form: partial(runner.classify, videos[form][:1]) for form, runner in runners.items()}
    batches = {
        form: partial(runner.classify, videos[form])
        for form, runner in runners.items()
        if runner.batches and batch_size > 1
    }
    device = str(next(next(iter(runners.values())).networks[0].parameters()).device)
    warm_ups = warm_ups_on(device)
    warm = warm_up(singles, names, warm_ups=max(1, warm_ups), progress=progress, say=say)
    rounds = rounds_within(
        ends - time.perf_counter(), warm, repeats=repeats, batch_size=batch_size, batched=batches, profiled=_PROFILED
    )
    for line in announcement(rounds, names, repeats=repeats):
        say(line)
    for_batches = rounds.batch_seconds * (rounds.batch + 1)
    single = in_turns(
        singles,
        rounds.single,
        ends=ends - for_batches - rounds.profile_seconds,
        told=partial(progress, "one video at a time"),
    )
    for form, timing in single.items():
        say(f"{names[form]}: {1 / timing.median:.2f} videos/s")
    peak = partial(peak_memory_mib, device=device)
    batch, peaks = time_batches(
        batches, names, rounds, warm_ups=warm_ups, ends=ends - rounds.profile_seconds, peak=peak, progress=progress,
        say=say,
    )  # fmt: skip
    no_time = [form for form in batches if form not in batch]
    for i, form in enumerate(form for form in runners if form not in batches):
        progress("memory", i, len(runners) - len(batches))
        peaks[form] = peak(singles[form])
    rows = [
        SpeedRow(
            method=form[0],
            name=runner.name,
            title=runner.title,
            treatment=form[1],
            cost=costs[form[0]],
            single=single[form],
            batch=batch.get(form),
            batch_size=batch_size,
            peak_mib=peaks.get(form),
        )
        for form, runner in runners.items()
    ]
    return rows, rounds, no_time


def _made(rows: Sequence[SpeedRow], rounds: Rounds, no_time: Sequence[Form], *, warm_ups: int) -> dict[str, Any]:
    """Say how many rounds were made of those planned, and of which forms no batch was timed."""
    return {
        "single": len(rows[0].single.seconds),
        "batch": max((len(row.batch.seconds) for row in rows if row.batch), default=0),
        "batch_warm": rounds.batch > 0 or warm_ups > 0,
        "no_time_for_batches": list(no_time),
    }


def _profile(
    tsqnet: Runner | None, frames: Tensor, rows: Sequence[SpeedRow], rounds: Rounds, *, ends: float
) -> dict[str, Any]:
    """Profile the tuned TSQNet, if it is there; with a batch, if its batches were timed and one more ends in time."""
    if not isinstance(tsqnet, TSQNetRunner):
        return {}
    batch = next(row.batch for row in rows if (row.method, row.treatment) == _PROFILED)
    sizes = {1: rounds.single}
    if batch is not None and time.perf_counter() + batch.median <= ends:
        sizes[len(frames)] = max(1, rounds.batch)
    return profile(tsqnet, frames, sizes)


def _check(methods: Sequence[str], *, batch_size: int, repeats: int, minutes: float, setting: BenchmarkConfig) -> None:
    for method in methods:
        if method not in METHODS:
            raise UsageError(f"the method is {method!r}", wanted="some of " + ", ".join(METHODS), fix="see --methods")
    find_pack(setting.pack).at_input_size(setting.input_size)
    if not minutes > 0:
        raise UsageError(f"--minutes is {minutes:g}", wanted="more than 0", fix="leave it at the default")
    ranges = {
        "--batch-size": (batch_size, 1, None),
        "--repeats": (repeats, 1, None),
        "-k": (setting.num_frames, 1, setting.num_candidates),
        "--exit-after": (setting.exit_after, 1, len(FRAME_ORDER)),
    }
    if setting.sure_after is not None:
        ranges["--sure-after"] = (setting.sure_after, 1, setting.num_frames)
    if setting.recognizer_input_size is not None:
        ranges["--recognizer-input-size"] = (setting.recognizer_input_size, MIN_INPUT, MAX_INPUT)
    for name, (value, least, most) in ranges.items():
        if value < least or (most is not None and value > most):
            wanted = f"{least} or more" if most is None else f"{least} to {most}"
            raise UsageError(f"{name} is {value}", wanted=wanted, fix="leave it at the default")
