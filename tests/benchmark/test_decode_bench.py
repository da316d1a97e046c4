"""The decode benchmark judges outputs before speed, survives others that fail, and reports what it ran on."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from rich.console import Console

from benchmarks import decode as bench
from benchmarks.decode import Outcome, compare, fastest_of_families, measure_clip, ratios_of
from benchmarks.decode_clips import RECIPES, encode, pictures
from benchmarks.decode_methods import Method, Task, methods, sequential
from benchmarks.reference_decoder import repeat_packets
from tests.video.clips import clip
from tsq_cli.benchmark.measure import TimedRun, Timing, in_turns


def outcome(family: str, seconds: list[float], *, is_other: bool = False, failure: str | None = None) -> Outcome:
    timing = Timing.of([TimedRun(value, 2 * value) for value in seconds])
    return Outcome(method=family, family=family, is_other=is_other, trial=timing, timing=timing, failure=failure)


def test_compare_finds_neighbors_and_strangers_but_allows_standstill() -> None:
    random = np.random.default_rng(0)
    scene = random.integers(0, 255, size=(9, 8, 12, 3)).astype(np.uint8)
    reference = np.stack([scene[i : i + 5] for i in range(4)])  # the right frames are 2, 3, 4 and 5
    right = scene[2:6]
    assert compare(right, reference).wrong_frames == 0
    assert compare(right, reference).mean_absolute_difference == 0
    late = np.stack([right[0], scene[4], right[2], right[3]])
    assert compare(late, reference).wrong_frames == 1
    strange = np.stack([right[0], right[1], right[2], scene[8]])
    assert compare(strange, reference).wrong_frames == 1
    dull = np.stack([scene[:1].repeat(5, axis=0)] * 4)
    assert compare(dull[:, 2], dull).wrong_frames == 0
    brighter = np.minimum(right, 250) + 5
    limited = compare(brighter.astype(np.uint8), np.minimum(reference, 250))
    assert limited.wrong_frames == 0
    assert limited.mean_absolute_difference == pytest.approx(5)
    with pytest.raises(ValueError, match="was returned, wanted"):
        compare(right[:3], reference)


def test_timing_is_median_and_quartiles() -> None:
    timing = Timing.of(
        [TimedRun(wall, cpu) for wall, cpu in ((4.0, 5.0), (1.0, 9.0), (2.0, 6.0), (3.0, 7.0), (100.0, 8.0))]
    )
    assert (timing.median, timing.lower_quartile, timing.upper_quartile) == (3.0, 2.0, 4.0)
    assert timing.cpu_median == 7.0


def test_everyone_takes_every_place_in_the_order() -> None:
    order: list[str] = []
    names = ("a", "b", "c")
    timings = in_turns({name: (lambda name=name: order.append(name)) for name in names}, 4)
    assert "".join(order) == "abcbcacababc"
    assert {name: len(timing.seconds) for name, timing in timings.items()} == dict.fromkeys(names, 4)


def test_fastest_correct_variant_of_each_family_goes_on() -> None:
    slow, fast = outcome("decord", [3.0]), outcome("decord", [2.0])
    wrong = outcome("decord", [1.0], failure="3 of 16 frames are wrong")
    alone = outcome("opencv", [9.0])
    assert fastest_of_families([slow, wrong, fast, alone]) == [fast, alone]
    assert fastest_of_families([wrong]) == []


def test_ratios_are_against_the_best_other() -> None:
    exact, keyframes = outcome("tsq exact", [1.0]), outcome("tsq keyframes", [0.25])
    everyone = [
        exact,
        keyframes,
        outcome("sequential", [5.0]),
        outcome("decord", [3.0], is_other=True),
        outcome("opencv", [1.5], is_other=True),
        Outcome(method="torchcodec", family="torchcodec", is_other=True, failure="missing"),
    ]
    assert ratios_of(everyone) == {
        "best_other": "opencv",
        "best_other_over_exact": 1.5,
        "sequential_over_exact": 5.0,
        "exact_over_keyframes": 4.0,
    }
    assert ratios_of([exact])["best_other_over_exact"] is None


def test_pictures_move_and_are_the_same_again() -> None:
    first, again = (list(pictures(96, 54, 8)) for _ in range(2))
    assert [a.tobytes() for a in first] == [b.tobytes() for b in again]
    assert first[0].shape == (54, 96, 3)
    gaps = [np.abs(a.astype(int) - b).mean() for a, b in pairwise(first)]
    assert min(gaps) > 2


@pytest.fixture(scope="module")
def moving_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bench") / "moving.mp4"
    options = {"preset": "veryfast", "crf": "23"}
    encode(path, replace(RECIPES[0], width=160, height=120, keyframe_every=20, options=options), seconds=2)
    return path


def test_repeated_packets_play_on(moving_clip: Path, tmp_path: Path) -> None:
    long_clip = tmp_path / "long.mp4"
    repeat_packets(moving_clip, long_clip, 3)
    shown = {}
    for path in (moving_clip, long_clip):
        with av.open(str(path)) as container:
            shown[path] = [(f.pts * f.time_base, f.to_ndarray().tobytes()) for f in container.decode(video=0)]
    assert [time for time, _ in shown[long_clip]] == [i * shown[moving_clip][1][0] for i in range(180)]
    assert [data for _, data in shown[long_clip]] == [data for _, data in shown[moving_clip]] * 3


def test_task_is_worked_out_from_a_plain_pass() -> None:
    known = clip("vfr_rising_gaps")
    task = Task.of(known.path, 16)
    # Gaps rise to 0.77 s and their median is 0.39 s, which the task takes as the last frame's length.
    centers = [(15.21 + 0.39) * (i + 0.5) / 16 for i in range(16)]
    np.testing.assert_allclose(task.times_seconds, centers)
    assert task.indices.tolist() == [known.position_at(center) for center in centers]
    assert (task.width, task.height) == (160, 120)
    assert task.start_seconds == 0
    assert Task.of(clip("mpeg4_b_frames").path, 2).start_seconds == pytest.approx(0.04)
    assert Task.from_json(task.to_json()).indices.tolist() == task.indices.tolist()


def shifted(by: int) -> Callable[[Task], np.ndarray]:
    return lambda task: sequential(replace(task, indices=task.indices + by))


def not_installed(task: Task) -> np.ndarray:
    importlib.import_module("no_such_decoder")
    raise AssertionError


def stand_ins() -> list[Method]:
    own = [method for method in methods() if not method.is_other]
    return [
        *own,
        Method(family="late", is_other=True, module="av", decode=shifted(1)),
        Method(family="missing", is_other=True, module="no_such_decoder", decode=not_installed),
        Method(family="plain", is_other=True, module="av", decode=sequential),
    ]


def test_measure_clip(moving_clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "methods", stand_ins)
    console = Console(record=True, width=200, quiet=True)
    result = measure_clip(moving_clip, repeats=2, console=console)
    found = {item["method"]: item for item in result["outcomes"]}
    assert found["tsq exact"]["comparison"]["wrong_frames"] == 0
    assert found["tsq exact"]["comparison"]["mean_absolute_difference"] < 3
    assert len(found["tsq exact"]["timing"]["seconds"]) == 2
    assert found["tsq keyframes"]["comparison"] is None
    assert found["tsq keyframes"]["failure"] is None
    assert result["ratios"]["exact_over_keyframes"] > 0
    assert found["late"]["failure"] == "16 of 16 frames are wrong"
    assert found["late"]["timing"] is None
    assert found["missing"]["failure"].startswith("ModuleNotFoundError")
    assert result["ratios"]["best_other"] == "plain"
    assert result["clip"]["total_num_frames"] == 60
    peak = found["tsq exact"]["peak_memory_mib"]
    assert peak is None or 20 < peak < 1000
    json.dumps(result)


def test_command_line(
    moving_clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench, "methods", stand_ins)
    target = tmp_path / "result.json"
    assert bench.main([str(moving_clip), "--repeats", "1", "--json", str(target)]) == 0
    report = json.loads(target.read_text())
    assert report["machine"]["versions"]["av"] == av.__version__
    assert report["settings"]["repeats"] == 1
    assert [item["clip"]["path"] for item in report["clips"]] == ["moving.mp4"]
    assert "tsq exact" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [([], "no clip was given"), (["no_such.mp4"], "no_such.mp4"), (["x.mp4", "--repeats", "0"], "--repeats is 0")],
)
def test_wrong_use_is_explained(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.main(arguments) == 2
    assert message in capsys.readouterr().err
