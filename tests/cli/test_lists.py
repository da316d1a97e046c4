"""Behavior shared by the commands over lists of labeled videos: --json and --report, examples, the cache's folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Result
from tsq_cli.cli import ablate, evaluate, train, tsne
from tsq_cli.cli.lists import study_cache
from tsq_cli.data import LabeledVideo, VideoList

Tsq = Callable[..., Result]
COMMANDS = {"train": train, "evaluate": evaluate, "ablate": ablate, "tsne": tsne}
BEGINNINGS = [["train", "list.txt"], ["evaluate", "list.txt"], ["ablate", "alpha"], ["tsne"]]


@pytest.mark.parametrize("beginning", BEGINNINGS, ids=lambda words: words[0])
def test_a_file_after_json_is_refused_and_report_is_named(tsq: Tsq, beginning: list[str]) -> None:
    result = tsq(*beginning, "--json", "all.json")
    assert (result.code, result.out) == (2, "")
    assert result.err == (
        "tsq: --json was given a file, all.json; wanted --json alone, which prints one JSON document on stdout; "
        "use --report all.json to write a file\n"
    )
    result = tsq(beginning[0], "--json", "-", *beginning[1:])
    assert (result.code, result.out) == (2, "")
    assert "leave out the -" in result.err


def test_the_cache_of_a_run_is_used_unless_another_is_named(tmp_path: Path) -> None:
    config, cache = tmp_path / "train.toml", tmp_path / "cache"
    assert study_cache(None, config) is None
    cache.mkdir()
    assert study_cache(None, config) == cache
    assert study_cache(tmp_path / "other", config) == tmp_path / "other"
    assert study_cache(None, None) is None


def test_a_list_reports_what_was_found_missing_and_failed() -> None:
    videos = tuple(LabeledVideo(id=name, path=Path(f"{name}.mp4"), labels=(0,)) for name in ("a", "b"))
    listed = VideoList(videos=videos, class_names=("cat",), missing=("c",), origin=Path("list.txt"))
    assert listed.to_report([(videos[1], "b.mp4: empty")]) == {
        "found": "found 2 of 3 videos of list.txt (1 missing: c)",
        "missing": ["c"],
        "left_out_classes": [],
        "left_out": [],
        "failed": [{"id": "b", "reason": "b.mp4: empty"}],
    }
