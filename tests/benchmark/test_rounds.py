"""What a benchmark says before it starts: rounds that fit its time, and how long they take."""

from __future__ import annotations

import pytest

from tsq_cli.benchmark.measure import TimedRun
from tsq_cli.benchmark.rounds import Form, Rounds, announcement, duration, rounds_within, time_batches, warm_up
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


def test_it_says_how_long_and_what_shortens_it() -> None:
    enough = announcement(fitted(300, batch_size=32), repeats=7)
    assert len(enough) == 2
    for word in ("about 2 min 24 s", "7 rounds of one video at a time (2 s each)", "7 rounds after one for memory"):
        assert word in enough[0]
    assert "--tuned-only, fewer --methods, --batch-size 1" in enough[1]
    short = announcement(fitted(47, batch_size=32), repeats=7)
    assert "1 round, for memory as well, of batches of 32 (at most 16 s each)" in short[0]
    assert "--repeats 7" in short[2]
    assert "--minutes 4 " in short[2]  # 144 s of rounds, and a minute to build and warm up
    single = " ".join(announcement(fitted(300), repeats=7))
    assert "batch" not in single
    assert "fewer rounds" not in single


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (200, "3 min 20 s")])
def test_durations_are_written_as_people_do(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(("rounds", "runs"), [(0, 1), (2, 3)])
def test_a_batch_is_first_run_for_its_memory(rounds: int, runs: int) -> None:
    ran: list[str] = []
    said: list[str] = []

    def peak(call: object) -> float:
        ran.append("peak")
        call()  # type: ignore[operator]
        return 12.5

    timings, peaks = time_batches(
        {TSQNET: lambda: ran.append("run")},
        {TSQNET: "TSQNet, tuned"},
        rounds=rounds,
        batch_size=4,
        peak=peak,
        progress=no_progress,
        say=said.append,
    )
    assert ran == ["peak"] + ["run"] * runs
    assert peaks == {TSQNET: 12.5}
    assert len(timings[TSQNET].seconds) == max(1, rounds)
    assert len(said) == 1
    assert said[0].startswith("TSQNet, tuned, batches of 4: about ")


def test_each_form_is_told_once_it_is_warm(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def half_a_second(call: object) -> TimedRun:
        call()  # type: ignore[operator]
        return TimedRun(0.5, 0.5)

    monkeypatch.setattr("tsq_cli.benchmark.rounds.timed_run", half_a_second)
    calls = {form: (lambda name=form[0]: seen.append(name)) for form in (TSQNET, EXIT)}
    names = {TSQNET: "TSQNet, tuned", EXIT: "FrameExit, tuned"}
    seconds = warm_up(calls, names, progress=no_progress, say=seen.append)
    assert seconds == {TSQNET: 0.5, EXIT: 0.5}
    told = ["TSQNet, tuned: about 2.00 videos/s (one warm run)", "FrameExit, tuned: about 2.00 videos/s (one warm run)"]
    assert seen == ["tsqnet", "tsqnet", told[0], "frameexit", "frameexit", told[1]]


def test_a_batch_is_timed_where_memory_cannot_be_measured() -> None:
    timings, peaks = time_batches(
        {TSQNET: lambda: None},
        {TSQNET: "TSQNet, tuned"},
        rounds=0,
        batch_size=4,
        peak=lambda _: None,
        progress=no_progress,
        say=lambda _: None,
    )
    assert peaks == {TSQNET: None}
    assert len(timings[TSQNET].seconds) == 1
