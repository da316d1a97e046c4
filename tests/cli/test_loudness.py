"""How much a run prints: -q, -v, one line per video beyond five, and resumed videos counted only."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.cli.conftest import DEMO, Result
from tests.report.page_material import CATEGORIES, asked, record
from tsq_cli.cli.lines import video_line

Tsq = Callable[..., Result]
UNIFORM = ("--selector", "uniform", "-k", "2", "-n", "4")
# The candidates are shown in the middles of the quarters of 26 s; evenly spaced are the second and the fourth, 9.75 s
# and 22.75 s, and the frames of 25 per second that are shown then begin at multiples of 40 ms.
LINE = "  2 frames at 0:09.720 0:22.720  uniform"


def copies(folder: Path, number: int) -> list[Path]:
    folder.mkdir()
    return [Path(shutil.copy(DEMO, folder / f"{place}.mp4")) for place in range(number)]


def test_six_videos_get_a_line_each_and_five_a_table(tsq: Tsq, tmp_path: Path) -> None:
    videos = copies(tmp_path / "videos", 6)
    six = tsq("select", *videos, *UNIFORM)
    assert six.out.splitlines() == [f"{video}{LINE}" for video in videos]
    assert six.err == "tsq: 6 selected, 0 done before, 0 failed\n"
    assert tsq("select", *videos[:5], *UNIFORM).out.count("chosen by") == 5
    assert tsq("select", *videos, *UNIFORM, "-v").out.count("chosen by") == 6


def test_quiet_prints_errors_only(tsq: Tsq, tmp_path: Path) -> None:
    videos = copies(tmp_path / "videos", 2)
    broken = tmp_path / "broken.mp4"
    broken.touch()
    (tmp_path / "videos" / "notes.txt").touch()  # skipped, and said so unless quiet
    result = tsq("select", broken, tmp_path / "videos", *UNIFORM, "-q", "--csv", tmp_path / "a.csv")
    assert (result.code, result.out) == (1, "")
    (line,) = result.err.splitlines()
    assert line.startswith(f"tsq: {broken} is empty")
    assert len((tmp_path / "a.csv").read_text().splitlines()) == 1 + 1 + 2 * len(videos)


def test_quiet_classification_is_silent_and_data_is_data(tsq: Tsq, demo: Path) -> None:
    quiet = tsq("classify", demo, *UNIFORM, "--recognizer", "embedded", "--json", "-q")
    assert quiet.err == ""  # which recognizer it is goes unsaid
    assert json.loads(quiet.out)["status"] == "ok"


def test_quiet_ends_with_its_command(tsq: Tsq, demo: Path) -> None:
    assert tsq("select", demo, *UNIFORM, "-q").out == ""
    assert "chosen by" in tsq("select", demo, *UNIFORM).out


def test_quiet_and_verbose_exclude_each_other(tsq: Tsq, demo: Path) -> None:
    result = tsq("select", demo, "-q", "-v")
    assert (result.code, result.out) == (2, "")
    assert "both --quiet and --verbose" in result.err


@pytest.mark.parametrize("more", [(), ("-v",)])
def test_resumed_videos_are_counted_and_not_printed(tsq: Tsq, tmp_path: Path, more: tuple[str, ...]) -> None:
    first, second = copies(tmp_path / "videos", 2)
    common = (*UNIFORM, "--jsonl", tmp_path / "a.jsonl", *more)
    tsq("select", first, *common)
    again = tsq("select", first, second, *common)
    assert str(second) in again.out
    assert str(first) not in again.out
    assert again.err == "tsq: 1 selected, 1 done before, 0 failed\n"
    alone = tsq("select", first, *common)
    assert (alone.out, alone.err) == ("", "tsq: 0 selected, 1 done before, 0 failed\n")


def test_a_line_names_class_and_notes() -> None:
    made = record(selector="auto", rule="cover", notes=("one", "two"))
    assert video_line(made.to_dict()) == (
        "3 frames at 0:00.800 0:23.200 0:24.800  auto (cover)  Egyptian cat 0.520  2 notes"
    )
    unsure = replace(made, notes=(), predictions=(replace(CATEGORIES[0], is_sure=False),))
    assert video_line(unsure.to_dict()).endswith("auto (cover)  unsure")


def test_a_line_says_where_an_early_exit_ended() -> None:
    made = record(selector="tsq")
    assert made.recognizer is not None
    early, whole = (
        video_line(replace(made, recognizer=replace(made.recognizer, frames_used=used)).to_dict()) for used in (2, 3)
    )
    assert early.endswith("tsq  Egyptian cat 0.520  early exit after 2 of 3 frames")
    assert whole.endswith("tsq  Egyptian cat 0.520")


def test_a_line_names_the_queries_and_says_that_no_frame_shows_them() -> None:
    shown, absent = (
        video_line(record(query=asked("a dog", matches=matches)).to_dict()).split("  ")
        for matches in ((0.1,) * 15 + (0.8,), (0.1,) * 16)
    )
    assert "query: a dog" in shown
    assert "no frame shows it" not in shown
    assert absent[1:3] == ["query: a dog", "no frame shows it"]


def test_a_line_has_eight_times_at_most() -> None:
    chosen = dict.fromkeys(range(9), "event")
    assert video_line(record(chosen=chosen, recognized=False).to_dict()).startswith(
        "9 frames at 0:00.800 0:02.400 0:04.000 0:05.600 0:07.200 0:08.800 0:10.400 … 0:13.600  "
    )
    assert "…" not in video_line(record(chosen=dict.fromkeys(range(8), "event")).to_dict())
