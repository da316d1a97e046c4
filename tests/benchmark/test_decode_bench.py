"""The decode benchmark judges outputs before speed, survives others that fail, and reports what it ran on."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from dataclasses import asdict, replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from rich.console import Console

from benchmarks import decode as bench
from benchmarks.decode import Outcome, compare, fastest_of_families, measure_clip, ratios_of
from benchmarks.decode_clips import RECIPES, encode, pictures
from benchmarks.decode_methods import Method, Task, methods, sequential
from benchmarks.reference_decoder import frame_seconds, repeat_packets
from tests.video import mp4_boxes
from tests.video import pictures as numbers
from tests.video.clips import clip
from tests.video.encoding import FRAME, Recipe
from tests.video.encoding import encode as encode_streams
from tsq_cli.benchmark.measure import TimedRun, Timing, in_turns
from tsq_cli.video import open_video


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


def test_task_is_the_middle_of_each_wanted_frames_time_on_screen() -> None:
    task = Task.of(clip("slide_show").path, 16)  # at 0, 12, 25, 31 and 60 s, the last one for 30 s
    assert task.indices.tolist() == [0, 1, 2, 3, 4]
    np.testing.assert_allclose(task.times_seconds, [6, 18.5, 28, 45.5, 75])
    assert (task.width, task.height) == (160, 120)
    assert task.start_seconds == 0
    task = Task.of(clip("vfr_rising_gaps").path, 16)  # frame i comes at i * i / 100 s
    np.testing.assert_allclose(task.times_seconds[:-1], [(i * i + (i + 1) ** 2) / 200 for i in task.indices[:-1]])
    assert Task.of(clip("mpeg4_b_frames").path, 2).start_seconds == pytest.approx(0.04)
    assert Task.from_json(task.to_json()).indices.tolist() == task.indices.tolist()


def small_stream_first(path: Path) -> list[int]:
    encode_streams(path, Recipe(width=64, height=64, first_number=1000), Recipe(b_frames=3))
    data = bytearray(path.read_bytes())
    for track, is_default in (
        (0, 0),
        (1, 1),
    ):  # the last bit of the flags, which follow 8 bytes of header and the version
        data[mp4_boxes.find(bytes(data), "moov/trak/tkhd", track)[-1].start + 8 + 3] = 2 | is_default
    path.write_bytes(data)
    return [1, 5, 9, 13, 16, 20, 24, 28, 31, 35, 39, 43, 46, 50, 54, 58]  # of 60: 60 * (i + 0.5) / 16


def ten_frames(path: Path) -> list[int]:
    encode_streams(path, Recipe(num_frames=10, b_frames=3))
    return list(range(10))


def cut_in_a_packet(path: Path) -> list[int]:
    whole = clip("mpeg2_late_start").path.read_bytes()
    path.write_bytes(whole[: len(whole) * 2 // 3])
    return []


@pytest.mark.parametrize("make", [small_stream_first, ten_frames])
def test_any_file_is_judged_by_the_frames_that_it_shows(make: Callable[[Path], list[int]], tmp_path: Path) -> None:
    path = tmp_path / "odd.mp4"
    expected = make(path)
    task = Task.of(path, 16)
    assert [numbers.read(picture) for picture in sequential(task)] == expected
    assert [numbers.read(picture) for picture in methods()[0].decode(task)] == expected


@pytest.mark.parametrize(
    "name",
    ["edit_cuts_end", "edit_hides_start", "vfr_wild_gaps", "slide_show", "one_frame", "turned_90", "two_video_streams"],
)
def test_any_clip_is_judged_by_the_frames_that_it_shows(name: str) -> None:
    known = clip(name)
    task = Task.of(known.path, 16)
    end = known.end_seconds or known.pts[-1] - known.pts[0] + FRAME  # the median gap, of vfr_wild_gaps
    expected = [known.numbers[i] for i in known.sampled(16, Fraction(0), end)]
    assert [numbers.read(picture) for picture in sequential(task)] == expected
    assert [numbers.read(picture) for picture in methods()[0].decode(task)] == expected


def test_frames_without_times_follow_each_other_and_a_file_may_be_cut_off(tmp_path: Path) -> None:
    raw = clip("raw_h264")
    np.testing.assert_allclose(frame_seconds(raw.path, 0), np.arange(60) / 25)
    path = tmp_path / "cut.ts"
    assert cut_in_a_packet(path) == []
    seconds = frame_seconds(path, 0)
    assert 20 < len(seconds) < 60
    np.testing.assert_allclose(np.diff(seconds), 1 / 25)


def test_a_scalers_rounding_is_no_wrong_frame_where_a_film_fades() -> None:
    random = np.random.default_rng(0)
    base = random.integers(0, 200, size=(60, 80, 3))
    fade = [base + (random.random(base.shape) < 0.2 * n) for n in range(5)]  # neighbors differ by a fifth of a level
    reference = np.stack(fade)[None].astype(np.uint8)
    assert compare((reference[:, 2] + 2), reference).wrong_frames == 0  # nearer to brighter neighbors by that fifth
    cut = reference.copy()
    cut[0, 3] += 20
    assert compare(cut[:, 3] + 2, cut).wrong_frames == 1


def test_the_usual_seek_gives_keyframes_and_a_search_the_frame_on_screen() -> None:
    known = clip("h264_b_frames")  # a keyframe every 12 frames
    task = Task.of(known.path, 4)
    seek, search = (next(m for m in methods() if m.variant == name) for name in ("seek, first", "seek, search"))
    assert [numbers.read(picture) for picture in search.decode(task)] == [7, 22, 37, 52]
    assert [numbers.read(picture) for picture in seek.decode(task)] == [0, 12, 36, 48]


def test_a_phones_clip_is_on_its_side_and_of_variable_rate(tmp_path: Path) -> None:
    phone = next(recipe for recipe in RECIPES if recipe.is_phone)
    small = replace(phone, encoder="libx264", width=160, height=120, options={"preset": "veryfast"})
    encode(tmp_path / "phone.mp4", small, seconds=1)
    info = open_video(tmp_path / "phone.mp4").info
    assert (info.width, info.height, info.rotation, info.is_vfr) == (120, 160, 90, True)
    assert info.total_num_frames == 30


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


def test_a_clip_of_few_frames_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "methods", stand_ins)
    ten_frames(tmp_path / "ten.mp4")
    console = Console(record=True, width=200, quiet=True)
    result = measure_clip(tmp_path / "ten.mp4", repeats=1, console=console, quick=True)
    found = {item["method"]: item for item in result["outcomes"]}
    assert found["tsq exact"]["failure"] is None
    assert found["late"]["failure"] == "9 of 10 frames are wrong"  # there is none after the last


def json_of(*outcomes: Outcome) -> dict[str, Any]:
    facts = {"path": "a.mp4", "codec": "h264", "width": 640, "height": 360, "total_num_frames": 99}
    return {"clip": facts, "outcomes": [asdict(o) for o in outcomes], "ratios": ratios_of(outcomes)}


def test_ratios_are_taken_round_by_round() -> None:
    exact, other = outcome("tsq exact", [1.0, 10.0, 2.0]), outcome("opencv", [2.0, 10.0, 6.0], is_other=True)
    assert bench.ratios_grid([json_of(exact, other)]).rows == [
        ["a.mp4", "h264 640x360, 99 frames", "opencv", "2.00 (1.50-2.50)", "", ""]
    ]
    alone = replace(exact, timing=None, failure="it failed")
    assert bench.ratios_grid([json_of(alone)]).rows[0][2:] == ["", "", "", ""]
    assert bench.clips_grid([json_of(alone)]).rows[0][1:3] == ["", ""]


def test_faults_are_told_by_library_and_variant() -> None:
    def of(method: str, failure: str | None) -> Outcome:
        return Outcome(method=method, family=method.split()[0], is_other=True, failure=failure)

    grid = bench.faults_grid(
        [
            json_of(
                outcome("tsq exact", [1.0]),
                of("decord threads=1", "3 of 16 frames are wrong"),
                of("decord threads=2", "3 of 16 frames are wrong"),
                of("torchcodec exact, threads=2", None),
                of("torchcodec approximate, threads=2", "IndexError: Invalid frame index"),
                of("opencv seek", None),
            )
        ]
    )
    assert grid.headings == ["clip", "decord", "torchcodec", "opencv"]
    assert grid.rows == [["a.mp4", "3 of 16 wrong", "exact: right; approximate: IndexError", "right"]]


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
