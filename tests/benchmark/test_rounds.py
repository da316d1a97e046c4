"""What a benchmark says before it starts: rounds that fit its time, and how long they take."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping

import pytest

from tsq_cli.benchmark.measure import TimedRun, Timing
from tsq_cli.benchmark.rounds import (
    Call,
    Form,
    Peak,
    Rounds,
    Say,
    announcement,
    duration,
    rounds_within,
    time_batches,
    warm_up,
)
from tsq_cli.types import no_progress

TSQNET: Form = ("tsqnet", "tuned")
EXIT: Form = ("frameexit", "tuned")
WARM = {TSQNET: 0.5, EXIT: 1.5}  # a round of single videos takes 2 s


def fitted(seconds: float, *, repeats: int = 7, batch_size: int = 1, profiled: Form | None = None) -> Rounds:
    batched = [TSQNET] if batch_size > 1 else []
    return rounds_within(seconds, WARM, repeats=repeats, batch_size=batch_size, batched=batched, profiled=profiled)


@pytest.mark.parametrize(
    ("seconds", "single", "takes"),
    [
        (100, 7, 16),  # seven rounds and one for memory, of 2 s each
        (16, 7, 16),
        (15, 6, 14),
        (1, 1, 4),  # one round is made in any case
    ],
)
def test_single_videos_take_as_many_rounds_as_fit(seconds: float, single: int, takes: float) -> None:
    rounds = fitted(seconds)
    assert (rounds.single, rounds.batch, rounds.seconds) == (single, 0, takes)


@pytest.mark.parametrize(
    ("seconds", "single", "batch"),
    [
        (300, 7, 7),  # 8 rounds of 2 s and 8 of 16 s: 144 s
        (144, 7, 7),
        (143, 7, 6),
        (47, 7, 0),  # 16 s singly and 16 s for memory, which is the round
        (40, 7, 0),
        (24, 3, 0),  # 16 s for the batches leave 8 s: three rounds and memory
        (1, 1, 0),
    ],
)
def test_batches_take_what_single_videos_leave(seconds: float, single: int, batch: int) -> None:
    rounds = fitted(seconds, batch_size=32)
    assert rounds.batch_seconds == 16  # only one of the two takes batches
    assert (rounds.single, rounds.batch) == (single, batch)


def test_stages_are_part_of_the_time() -> None:
    # 8 rounds of 2 s, 8 profiles of 0.5 s; with batches 8 rounds of 16 s and 7 profiles of 16 s more
    assert fitted(1000, profiled=TSQNET).seconds == 20
    assert fitted(1000, profiled=TSQNET, batch_size=32).seconds == 20 + 8 * 16 + 7 * 16
    assert fitted(1000, profiled=("tsqnet", "published")).seconds == 16


def test_tuned_forms_come_first_where_there_is_no_time_for_all_batches() -> None:
    published: Form = ("tsqnet", "published")
    ours: Form = ("uniform", "tuned")
    warm = {published: 0.25, TSQNET: 0.5, ours: 0.25}  # a round of 1 s; batches of 8, 16 and 8 s

    def within(seconds: float) -> Rounds:
        return rounds_within(seconds, warm, repeats=7, batch_size=32, batched=list(warm))

    most = within(8 + 8 * 32)
    assert (most.single, most.batch, most.batched, most.left_out) == (7, 7, (TSQNET, ours, published), ())
    assert (within(40).batch, within(40).batched) == (0, (TSQNET, ours, published))  # eight rounds singly and 32 s
    assert (within(39).single, within(39).left_out) == (7, (published,))
    # A quarter for single videos, 5 rounds and one for memory: 16 s are left, 24 s would be wanted.
    short = within(22)
    assert (short.single, short.batch) == (5, 0)
    assert (short.batched, short.left_out) == ((TSQNET,), (ours, published))
    assert short.seconds == 22
    assert within(0.1).batched == (TSQNET,)  # one is timed in any case
    lines = announcement(short, {published: "A", TSQNET: "B", ours: "C"}, repeats=7)
    assert "no time for batches of C; A" in lines
    assert "--minutes 6 " in lines[-1]  # 8 + 8 * 32 = 264 s, and a minute


def test_a_form_without_time_for_batches_gets_smaller_ones_of_others() -> None:
    slow: Form = ("all", "tuned")
    warm = {TSQNET: 0.25, slow: 1.0, EXIT: 0.25}
    rounds = rounds_within(6 + 16 + 3, warm, repeats=3, batch_size=32, batched=list(warm))
    assert (rounds.batched, rounds.left_out) == ((TSQNET, EXIT), (slow,))


def test_it_says_how_long_and_what_shortens_it() -> None:
    names = {TSQNET: "TSQNet, tuned", EXIT: "FrameExit, tuned"}
    enough = announcement(fitted(300, batch_size=32), names, repeats=7)
    assert len(enough) == 2
    for word in ("about 2 min 24 s", "7 rounds of one video at a time (2 s each)", "7 rounds after one for memory"):
        assert word in enough[0]
    assert "--tuned-only, fewer --methods, --batch-size 1" in enough[1]
    short = announcement(fitted(47, batch_size=32), names, repeats=7)
    assert "1 round, for memory as well, of batches of 32 (at most 16 s each)" in short[0]
    assert "--repeats 7" in short[2]
    assert "--minutes 4 " in short[2]  # 144 s of rounds, and a minute to build and warm up
    single = " ".join(announcement(fitted(300), names, repeats=7))
    assert "batch" not in single
    assert "fewer rounds" not in single


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (200, "3 min 20 s")])
def test_durations_are_written_as_people_do(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def batches(
    rounds: int,
    *,
    calls: Mapping[Form, Call],
    warm_ups: int = 0,
    ends: float = math.inf,
    peak: Peak = lambda _: None,
    say: Say = lambda _: None,
) -> tuple[dict[Form, Timing], dict[Form, float | None]]:
    planned = Rounds(single=1, batch=rounds, warm=WARM, batched=tuple(calls), left_out=(), batch_size=4, profiled=None)
    names = {TSQNET: "TSQNet, tuned", EXIT: "FrameExit, tuned"}
    return time_batches(calls, names, planned, warm_ups=warm_ups, ends=ends, peak=peak, progress=no_progress, say=say)


@pytest.mark.parametrize(("rounds", "warm_ups", "runs"), [(0, 0, 1), (2, 0, 3), (0, 3, 4), (2, 3, 6)])
def test_a_batch_is_first_run_for_its_memory(rounds: int, warm_ups: int, runs: int) -> None:
    ran: list[str] = []
    said: list[str] = []

    def peak(call: Call) -> float:
        ran.append("peak")
        call()
        return 12.5

    timings, peaks = batches(
        rounds, calls={TSQNET: lambda: ran.append("run")}, warm_ups=warm_ups, peak=peak, say=said.append
    )
    assert ran == ["peak"] + ["run"] * runs
    assert peaks == {TSQNET: 12.5}
    assert len(timings[TSQNET].seconds) == max(1, rounds)
    assert len(said) == 1
    assert said[0].startswith("TSQNet, tuned, batches of 4: about ")


def test_only_a_warm_batch_counts_where_batches_are_warmed(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter([9.0, 8.0, 7.0, 0.5])
    monkeypatch.setattr("tsq_cli.benchmark.rounds.timed_run", lambda _: TimedRun(next(seconds), 0.0))
    said: list[str] = []
    timings, _ = batches(0, calls={TSQNET: lambda: None}, warm_ups=3, say=said.append)
    assert timings[TSQNET].seconds == [0.5]
    assert said == ["TSQNet, tuned, batches of 4: about 8.00 videos/s (one run)"]


def test_what_would_end_too_late_is_left_out_but_for_the_first() -> None:
    said: list[str] = []
    calls: dict[Form, Call] = {TSQNET: lambda: None, EXIT: lambda: None}
    timings, peaks = batches(5, calls=calls, ends=time.perf_counter(), say=said.append)
    assert list(timings) == list(peaks) == [TSQNET]
    assert len(timings[TSQNET].seconds) == 1  # and no further round begins
    assert said[1].startswith("FrameExit, tuned: no time for batches of 4")


def test_batches_slower_than_foreseen_let_the_next_be_slower_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches of four of 0.5 s a video are taken to need 2 s; this one needs 4, so that of 1.5 s a video 12, not 6."""
    clock = [100.0]
    monkeypatch.setattr("tsq_cli.benchmark.rounds.time.perf_counter", lambda: clock[0])

    def slow() -> None:
        clock[0] += 4

    calls: dict[Form, Call] = {TSQNET: slow, EXIT: slow}
    assert list(batches(0, calls=calls, ends=100 + 4 + 11.9)[0]) == [TSQNET]
    clock[0] = 100.0
    assert list(batches(0, calls=calls, ends=100 + 4 + 12.1)[0]) == [TSQNET, EXIT]


def test_each_form_is_told_once_it_is_warm(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def half_a_second(call: Call) -> TimedRun:
        call()
        return TimedRun(0.5, 0.5)

    monkeypatch.setattr("tsq_cli.benchmark.rounds.timed_run", half_a_second)
    calls = {form: (lambda name=form[0]: seen.append(name)) for form in (TSQNET, EXIT)}
    names = {TSQNET: "TSQNet, tuned", EXIT: "FrameExit, tuned"}
    seconds = warm_up(calls, names, warm_ups=2, progress=no_progress, say=seen.append)
    assert seconds == {TSQNET: 0.5, EXIT: 0.5}
    told = ["TSQNet, tuned: about 2.00 videos/s (one warm run)", "FrameExit, tuned: about 2.00 videos/s (one warm run)"]
    assert seen == ["tsqnet"] * 3 + told[:1] + ["frameexit"] * 3 + told[1:]


def test_a_batch_is_timed_where_memory_cannot_be_measured() -> None:
    timings, peaks = batches(0, calls={TSQNET: lambda: None})
    assert peaks == {TSQNET: None}
    assert len(timings[TSQNET].seconds) == 1
