"""How many rounds a benchmark takes in the time that it has, and what it says before and on the way."""

from __future__ import annotations

import math
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
        single_seconds, batch_seconds: about how long one round takes; without batches the latter is 0.
        profiled_seconds: about how long the form takes whose stages are timed as well, with one video.
        batch_size: videos in a batch.
    """

    single: int
    batch: int
    single_seconds: float
    batch_seconds: float
    profiled_seconds: float
    batch_size: int

    @property
    def seconds(self) -> float:
        """About how long all of it takes: a round of batches, or else one of single videos, is for memory."""
        rounds = self.single_seconds * (self.single + 1) + self.batch_seconds * (self.batch + 1)
        batches = self.batch_size * max(1, self.batch) if self.batch_seconds else 0
        return rounds + self.profiled_seconds * (self.single + 1 + batches)


def rounds_within(
    seconds: float,
    warm: Mapping[Form, float],
    *,
    repeats: int,
    batch_size: int,
    batched: Collection[Form],
    profiled: Form | None = None,
) -> Rounds:
    """Fit rounds into a time: those of single videos first, into a quarter of it or what batches leave.

    Args:
        seconds: that are left.
        warm: seconds of one warm run of each form, with one video. A batch is taken to last batch_size times as long,
            as it does on a CPU; a GPU is faster.
        repeats: rounds wanted of either kind.
        batch_size: videos in a batch.
        batched: the forms that take batches; empty without.
        profiled: the form whose stages are timed as well, if any.
    """

    def fitted(num_single: int, num_batch: int) -> Rounds:
        return Rounds(
            single=num_single,
            batch=num_batch,
            single_seconds=sum(warm.values()),
            batch_seconds=batch_size * sum(warm[form] for form in batched),
            profiled_seconds=warm.get(profiled, 0.0) if profiled else 0.0,
            batch_size=batch_size,
        )

    def fits(rounds: Rounds) -> bool:
        alone = rounds.batch == 0 and rounds.single_seconds * rounds.single <= seconds / 4
        return alone or rounds.seconds <= seconds

    single = max((count for count in range(1, repeats + 1) if fits(fitted(count, 0))), default=1)
    batch = max((count for count in range(1, repeats + 1) if fits(fitted(single, count))), default=0)
    return fitted(single, batch if batched else 0)


def announcement(rounds: Rounds, *, repeats: int) -> list[str]:
    """Say how long a benchmark is about to take, of what, and what would shorten it or add rounds."""
    kinds = [f"{_rounds(rounds.single)} of one video at a time ({duration(rounds.single_seconds)} each)"]
    if rounds.batch_seconds:
        number = f"{_rounds(rounds.batch)} after one for memory" if rounds.batch else "1 round, for memory as well,"
        kinds.append(f"{number} of batches of {rounds.batch_size} (at most {duration(rounds.batch_seconds)} each)")
    shorter = ["--tuned-only", "fewer --methods", *(["--batch-size 1"] if rounds.batch_seconds else [])]
    lines = [
        f"this takes about {duration(rounds.seconds)} more: " + ", ".join([*kinds, "and TSQNet's stages"]),
        "shorter with " + ", ".join(shorter),
    ]
    most = replace(rounds, single=repeats, batch=repeats if rounds.batch_seconds else 0)
    if most != rounds:
        lines.append(
            f"fewer rounds than --repeats {repeats} are made, to end in time; "
            f"--minutes {math.ceil(most.seconds / 60) + 1} has room for all"
        )
    return lines


def duration(seconds: float) -> str:
    """Write seconds as people do: 40 s, 3 min 20 s."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def warm_up(
    calls: Mapping[Form, Call], names: Mapping[Form, str], *, progress: Progress, say: Say
) -> dict[Form, float]:
    """Run each form twice with one video; say, and return, how many seconds the second run took."""
    seconds: dict[Form, float] = {}
    for i, (form, call) in enumerate(calls.items()):
        progress("warming up", i, len(calls))
        call()
        seconds[form] = timed_run(call).seconds
        say(f"{names[form]}: about {1 / seconds[form]:.2f} videos/s (one warm run)")
    return seconds


def time_batches(
    calls: Mapping[Form, Call],
    names: Mapping[Form, str],
    *,
    rounds: int,
    batch_size: int,
    peak: Peak,
    progress: Progress,
    say: Say,
) -> tuple[dict[Form, Timing], dict[Form, float | None]]:
    """Run each form's batch once for its memory, then in turns.

    Args:
        calls, names: of the forms.
        rounds: of the turns; 0: the first runs count, which no run of a whole batch has warmed.
        batch_size: videos in a batch.
        peak: measures the memory of a call, in MiB.
        progress: told how far it is.
        say: told each form's speed once it is known.

    Returns:
        timings and peaks by form.
    """
    first: dict[Form, list[TimedRun]] = {form: [] for form in calls}
    peaks: dict[Form, float | None] = {}
    title = f"batches of {batch_size}"
    for i, (form, call) in enumerate(calls.items()):
        progress(f"{title}, first and for memory", i, len(calls))

        def timed(form: Form = form, call: Call = call) -> None:
            first[form].append(timed_run(call))  # within the measurement of memory, so that its own time does not count

        peaks[form] = peak(timed)
        if not first[form]:  # where memory cannot be measured, the call is not made
            timed()
        say(f"{names[form]}, {title}: about {batch_size / first[form][0].seconds:.2f} videos/s (first run)")
    if rounds:
        return in_turns(calls, rounds, told=partial(progress, title)), peaks
    return {form: Timing.of(runs) for form, runs in first.items()}, peaks


def _rounds(count: int) -> str:
    return f"{count} round{'s' * (count != 1)}"
