"""How many rounds a benchmark takes in the time that it has, and what it says before and on the way."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, TypeAlias

from tsq_cli.benchmark.measure import TimedRun, Timing, in_turns, timed_run
from tsq_cli.types import Progress

Treatment = Literal["published", "tuned"]
Form: TypeAlias = tuple[str, Treatment]
"""A method and its treatment."""
Call: TypeAlias = Callable[[], object]
Say: TypeAlias = Callable[[str], None]
Peak: TypeAlias = Callable[[Call], float | None]

DEFAULT_MINUTES = 5.0


@dataclass(frozen=True, kw_only=True)
class Rounds:
    """Rounds that fit into a time.

    Attributes:
        single: of one video at a time, at least 1.
        batch: of batches, after a first one in which their memory is measured; 0: there is time for that one only.
        warm: seconds of one warm run of each form, with one video.
        batched: the forms whose batches are timed, in this order.
        left_out: those that take batches too, and for which there is no time.
        batch_size: videos in a batch.
        profiled: the form whose stages are timed as well, if any.
    """

    single: int
    batch: int
    warm: Mapping[Form, float]
    batched: tuple[Form, ...]
    left_out: tuple[Form, ...]
    batch_size: int
    profiled: Form | None

    @property
    def single_seconds(self) -> float:
        """About how long one round of single videos takes."""
        return sum(self.warm.values())

    @property
    def batch_seconds(self) -> float:
        """About how long one round of batches takes, 0 without: as on a CPU, batch_size times as long as one video."""
        return self.batch_size * sum(self.warm[form] for form in self.batched)

    @property
    def profile_seconds(self) -> float:
        """About how long the stages take: of one video, and of a batch where the form's batches are timed."""
        batches = self.batch_size * max(1, self.batch) if self.profiled in self.batched else 0
        return self.warm.get(self.profiled, 0.0) * (self.single + 1 + batches) if self.profiled else 0.0

    @property
    def seconds(self) -> float:
        """About how long all of it takes: a round of batches, or else one of single videos, is for memory."""
        return self.single_seconds * (self.single + 1) + self.batch_seconds * (self.batch + 1) + self.profile_seconds

    def all_wanted(self, repeats: int) -> Rounds:
        """All rounds of all forms."""
        batched = self.batched + self.left_out
        return replace(self, single=repeats, batch=repeats if batched else 0, batched=batched, left_out=())


def rounds_within(
    seconds: float,
    warm: Mapping[Form, float],
    *,
    repeats: int,
    batch_size: int,
    batched: Collection[Form],
    profiled: Form | None = None,
) -> Rounds:
    """Fit rounds into a time: first those of single videos, into a quarter of it or what batches leave.

    Then one batch of each form, the tuned ones first, as far as there is time, and of the first one in any case; then
    more rounds of batches.

    Args:
        seconds: that are left.
        warm: seconds of one warm run of each form, with one video. A batch is taken to last batch_size times as long,
            as it does on a CPU; a GPU is faster.
        repeats: rounds wanted of either kind.
        batch_size: videos in a batch.
        batched: the forms that take batches; empty without.
        profiled: the form whose stages are timed as well, if any.
    """
    in_order = tuple(sorted(batched, key=lambda form: form[1] != "tuned"))
    wanted = Rounds(
        single=1, batch=0, warm=warm, batched=in_order, left_out=(), batch_size=batch_size, profiled=profiled
    )

    def fits(rounds: Rounds) -> bool:
        return rounds.seconds <= seconds

    def is_short(rounds: Rounds) -> bool:
        return fits(rounds) or rounds.single_seconds * rounds.single <= seconds / 4

    counts = range(1, repeats + 1)
    single = max((count for count in counts if is_short(replace(wanted, single=count))), default=1)
    chosen: tuple[Form, ...] = ()
    for form in in_order:
        if not chosen or fits(replace(wanted, single=single, batched=(*chosen, form))):
            chosen += (form,)
    left_out = tuple(form for form in in_order if form not in chosen)
    rounds = replace(wanted, single=single, batched=chosen, left_out=left_out)
    if not chosen or left_out:
        return rounds
    return replace(rounds, batch=max((count for count in counts if fits(replace(rounds, batch=count))), default=0))


def announcement(rounds: Rounds, names: Mapping[Form, str], *, repeats: int) -> list[str]:
    """Say how long a benchmark is about to take, of what, and what would shorten it or add rounds."""
    kinds = [f"{_rounds(rounds.single)} of one video at a time ({duration(rounds.single_seconds)} each)"]
    if rounds.batched:
        number = f"{_rounds(rounds.batch)} after one for memory" if rounds.batch else "1 round, for memory as well,"
        kinds.append(f"{number} of batches of {rounds.batch_size} (at most {duration(rounds.batch_seconds)} each)")
    shorter = ["--tuned-only", "fewer --methods", *(["--batch-size 1"] if rounds.batched else [])]
    lines = [
        f"this takes about {duration(rounds.seconds)} more: " + ", ".join([*kinds, "and TSQNet's stages"]),
        "shorter with " + ", ".join(shorter),
    ]
    if rounds.left_out:
        lines.append("no time for batches of " + "; ".join(names[form] for form in rounds.left_out))
    wanted = rounds.all_wanted(repeats)
    if wanted != rounds:
        lines.append(
            f"fewer rounds than --repeats {repeats} are made, to end in time; "
            f"--minutes {math.ceil(wanted.seconds / 60) + 1} has room for all"
        )
    return lines


def duration(seconds: float) -> str:
    """Write seconds as people do: 40 s, 3 min 20 s."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def warm_ups_on(device: str) -> int:
    """Batches before the first that counts: on a GPU one as it is, one to record its graph, one more; on a CPU none."""
    return 3 if device.startswith("cuda") else 0


def warm_up(
    calls: Mapping[Form, Call], names: Mapping[Form, str], *, warm_ups: int, progress: Progress, say: Say
) -> dict[Form, float]:
    """Run each form with one video until it is warm, and once more; say, and return, the seconds of that run.

    Args:
        calls, names: of the forms.
        warm_ups: runs that do not count, at least 1.
        progress: told how far it is.
        say: told each form's speed.
    """
    seconds: dict[Form, float] = {}
    for i, (form, call) in enumerate(calls.items()):
        progress("warming up", i, len(calls))
        for _ in range(warm_ups):
            call()
        seconds[form] = timed_run(call).seconds
        say(f"{names[form]}: about {1 / seconds[form]:.2f} videos/s (one warm run)")
    return seconds


def time_batches(
    calls: Mapping[Form, Call],
    names: Mapping[Form, str],
    rounds: Rounds,
    *,
    warm_ups: int,
    ends: float,
    peak: Peak,
    progress: Progress,
    say: Say,
) -> tuple[dict[Form, Timing], dict[Form, float | None]]:
    """Run the batches of some forms for their memory, then in turns.

    Args:
        calls, names: of the forms.
        rounds: which of the forms, in what order, and how many turns; 0: the run for memory counts, and is the first
            of a whole batch where warm_ups is 0.
        warm_ups: runs that do not count, before the one for memory.
        ends: time.perf_counter() until which a form's first batch is to end, or it is left out, unless it is the first.
            Batches that took longer than their videos one by one let the later ones be taken to do so too.
        peak: measures the memory of a call, in MiB.
        progress: told how far it is.
        say: told each form's speed once it is known.

    Returns:
        timings and peaks by form, of those that were not left out.
    """
    first: dict[Form, list[TimedRun]] = {}
    peaks: dict[Form, float | None] = {}
    title = f"batches of {rounds.batch_size}"
    begun = time.perf_counter()
    for i, form in enumerate(rounds.batched):
        foreseen = sum(rounds.warm[done] for done in first)
        took = time.perf_counter() - begun
        expected = rounds.warm[form] * max(rounds.batch_size, took / foreseen) if first else 0.0
        if first and begun + took + expected > ends:
            say(f"{names[form]}: no time for {title}, everything took longer than foreseen")
            continue
        progress(f"{title}, first and for memory", i, len(rounds.batched))
        runs: list[TimedRun] = []

        def timed(runs: list[TimedRun] = runs, call: Call = calls[form]) -> None:
            # Within the measurement of memory, so that its own time does not count; a graph is recorded there too.
            runs.extend(timed_run(call) for _ in range(warm_ups + 1))

        peaks[form] = peak(timed)
        if not runs:  # where memory cannot be measured, the call is not made
            timed()
        first[form] = runs[-1:]
        say(f"{names[form]}, {title}: about {rounds.batch_size / runs[-1].seconds:.2f} videos/s (one run)")
    if rounds.batch and first:
        some = {form: calls[form] for form in first}
        return in_turns(some, rounds.batch, ends=ends, told=partial(progress, title)), peaks
    return {form: Timing.of(runs) for form, runs in first.items()}, peaks


def _rounds(count: int) -> str:
    return f"{count} round{'s' * (count != 1)}"
