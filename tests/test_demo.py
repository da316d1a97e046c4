"""The committed demo film is what its script renders, is hard for uniform choice, and `tsq select` finds its event."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import av
import numpy as np
import pytest

from tests.cli.conftest import Result, tsq  # noqa: F401 - a fixture

EXAMPLES = Path(__file__).parents[1] / "examples"
DEMO = EXAMPLES / "demo.mp4"
DESCRIPTION = json.loads((EXAMPLES / "demo.json").read_text())
SHOTS = DESCRIPTION["shots"]

# Centers of 5 of 16 equal segments: floor(1.6), floor(4.8), floor(8.0), floor(11.2), floor(14.4).
UNIFORM_5_OF_16 = (1, 4, 8, 11, 14)


@pytest.fixture(scope="module")
def make_demo() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_demo", EXAMPLES / "make_demo.py")
    module = importlib.util.module_from_spec(spec)
    # The dataclasses of the module look their own annotations up here.
    sys.modules["make_demo"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def decoded() -> list[np.ndarray]:
    """Every frame of the film in order of display, uint8 [360, 640, 3]: the whole file, decoded without seeking."""
    with av.open(str(DEMO)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def distance(left: np.ndarray, right: np.ndarray) -> float:
    """Mean absolute difference in gray levels, 0 to 255."""
    return float(np.abs(left.astype(np.int16) - right).mean())


def shows_event(time_seconds: float) -> bool:
    intervals = DESCRIPTION["event"]["intervals"]
    return any(interval["start_seconds"] <= time_seconds < interval["end_seconds"] for interval in intervals)


def test_description_is_the_one_the_script_writes(make_demo: ModuleType) -> None:
    assert make_demo.describe() == DESCRIPTION


def test_file_is_small_h264_of_the_described_size_and_length() -> None:
    assert DEMO.stat().st_size <= 500_000
    with av.open(str(DEMO)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert (stream.width, stream.height) == (DESCRIPTION["width"], DESCRIPTION["height"]) == (640, 360)
        assert stream.average_rate == DESCRIPTION["fps"] == 25
        assert float(stream.duration * stream.time_base) == pytest.approx(DESCRIPTION["duration_seconds"])
        times = [frame.time for frame in container.decode(stream)]
    assert times == pytest.approx(np.arange(DESCRIPTION["num_frames"]) / 25)
    assert 20 <= len(times) / 25 <= 30


def test_shots_cover_the_film_and_the_intervals_are_its_event_shots() -> None:
    assert [shot["start_frame"] for shot in SHOTS] == [0, *(shot["end_frame"] for shot in SHOTS[:-1])]
    assert SHOTS[-1]["end_frame"] == DESCRIPTION["num_frames"]
    for shot in SHOTS:
        assert shot["start_frame"] == pytest.approx(shot["start_seconds"] * 25)
        assert shot["end_frame"] == pytest.approx(shot["end_seconds"] * 25)
        assert shot["is_event"] == (shot["photograph"] == "chelsea")
    event_frames = [(shot["start_frame"], shot["end_frame"]) for shot in SHOTS if shot["is_event"]]
    intervals = DESCRIPTION["event"]["intervals"]
    assert [(interval["start_frame"], interval["end_frame"]) for interval in intervals] == event_frames


def test_each_shot_of_the_file_shows_what_the_script_draws(make_demo: ModuleType, decoded: list[np.ndarray]) -> None:
    middles = [(shot["start_frame"] + shot["end_frame"]) // 2 for shot in SHOTS]
    drawn = [np.asarray(make_demo.render_frame(index)) for index in middles]
    for number, index in enumerate(middles):
        distances = [distance(decoded[index], picture) for picture in drawn]
        assert int(np.argmin(distances)) == number, (index, distances)
        assert distances[number] < 6.0, (index, distances[number])


def test_shots_begin_and_end_on_the_described_frames(make_demo: ModuleType, decoded: list[np.ndarray]) -> None:
    hard_cuts = [s["start_frame"] for s, line in zip(SHOTS, make_demo.CUT_LIST, strict=True) if line.enters == "cut"]
    assert len(hard_cuts) >= 3
    for index in [shot["start_frame"] for shot in SHOTS[1:]]:
        before, after = (np.asarray(make_demo.render_frame(i)) for i in (index - 1, index))
        assert distance(decoded[index - 1], before) < 6.0
        assert distance(decoded[index], after) < 6.0
        if index in hard_cuts:  # here one frame late or early shows
            assert distance(decoded[index - 1], before) < distance(decoded[index - 1], after) / 4
            assert distance(decoded[index], after) < distance(decoded[index], before) / 4


def test_film_begins_and_ends_in_the_dark(decoded: list[np.ndarray]) -> None:
    assert decoded[0].mean() < 4
    assert decoded[-1].mean() < 4


def test_event_is_in_the_minority_and_uniform_choice_mostly_misses_it() -> None:
    seconds = sum(i["end_seconds"] - i["start_seconds"] for i in DESCRIPTION["event"]["intervals"])
    assert seconds < 0.4 * DESCRIPTION["duration_seconds"]
    segment = DESCRIPTION["duration_seconds"] / 16
    on_event = [position for position in range(16) if shows_event((position + 0.5) * segment)]
    assert 5 <= len(on_event) <= 6
    assert len(set(on_event) & set(UNIFORM_5_OF_16)) <= 2


def test_pictures_around_the_event_are_many_and_credited() -> None:
    others = {shot["photograph"] for shot in SHOTS if shot["shows"] not in ("cat", "title card")}
    assert len(others) >= 5
    readme = (EXAMPLES / "README.md").read_text()
    for photograph in {shot["photograph"] for shot in SHOTS}:
        row = next(line for line in readme.splitlines() if f"`{photograph}` |" in line)
        assert row.endswith(("| CC0 |", "| public domain |"))


def test_select_finds_and_names_the_event(tsq: Callable[..., Result]) -> None:  # noqa: F811
    record = json.loads(tsq("select", DEMO, "-k", "5", "--json").out)
    times = [frame["time_seconds"] for frame in record["frames"]]
    assert len(set(times)) == 5
    for interval in DESCRIPTION["event"]["intervals"]:  # each of its views, and no second copy of one
        assert sum(interval["start_seconds"] <= time < interval["end_seconds"] for time in times) == 1
    assert not any(frame["duplicate_of"] is not None for frame in record["frames"])
    alike = [candidate for candidate in record["candidates"] if candidate["duplicate_of"] is not None]
    assert all(shows_event(candidate["time_seconds"]) for candidate in alike)
    assert len(alike) + sum(map(shows_event, times)) == sum(
        shows_event(c["time_seconds"]) for c in record["candidates"]
    )
    for categories in record["top_categories"].values():
        assert categories[0]["label"] in DESCRIPTION["event"]["class_names"]


def test_the_papers_rule_takes_the_event_alone(tsq: Callable[..., Result]) -> None:  # noqa: F811
    record = json.loads(tsq("select", DEMO, "-k", "5", "--selector", "tsq", "--json").out)
    times = [frame["time_seconds"] for frame in record["frames"]]
    assert sum(map(shows_event, times)) == 5, times


def test_uniform_choice_of_the_command_misses_the_event(tsq: Callable[..., Result]) -> None:  # noqa: F811
    record = json.loads(tsq("select", DEMO, "-k", "5", "--selector", "uniform", "--json").out)
    assert sum(shows_event(frame["time_seconds"]) for frame in record["frames"]) <= 2
