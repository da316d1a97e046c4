"""benchmarks/same_records.py: two records are compared field by field, and only versions and times may differ."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks import same_records
from benchmarks.same_records import differences

RECORD = {
    "tsq_version": "0.1.0",
    "pack": {"name": "p", "sha256": "a"},
    "frames": [{"position": 3, "score": 0.25}, {"position": 7, "score": None}],
    "timings_seconds": {"total": 1.0},
}


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"tsq_version": "0.2.0", "timings_seconds": {"total": 9.0}, "pack": {"name": "p", "sha256": "b"}}, []),
        ({"pack": {"name": "q", "sha256": "a"}}, ['.pack.name: "p" -> "q"']),
        (
            {"frames": [{"position": 3, "score": 0.2500001}, {"position": 7, "score": None}]},
            [".frames[0].score: 0.25 -> 0.2500001"],
        ),
        (
            {"frames": [{"position": 3, "score": 0.25}, {"position": 7}]},
            ['.frames[1].score: null -> "absent"'],
        ),
        (
            {"frames": [{"position": 3.0, "score": 0.25}, {"position": 7, "score": None}]},
            [".frames[0].position: 3 -> 3.0"],
        ),
        ({"new": 1}, ['.new: "absent" -> 1']),
    ],
)
def test_what_differs_is_named_by_its_place(changed: dict[str, Any], expected: list[str]) -> None:
    assert list(differences(RECORD, {**RECORD, **changed})) == expected


def test_a_list_of_another_length_and_a_lost_record_differ() -> None:
    assert len(list(differences(RECORD, {**RECORD, "frames": []}))) == 1
    assert next(iter(differences(RECORD, None))).startswith("record: {")


def test_a_key_that_is_only_spelled_anew_does_not_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(same_records, "RENAMED", {"recogniser": "recognizer"})
    assert list(differences({"recogniser": 1}, {"recognizer": 1})) == []
    assert list(differences({"recogniser": 1}, {"recognizer": 2})) == [".recognizer: 1 -> 2"]


def test_wrong_use_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert same_records.main(["HEAD", "no_such.mp4"]) == 2
    assert "no such file: no_such.mp4" in capsys.readouterr().err
