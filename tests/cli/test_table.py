"""The table of a record on the terminal."""

from dataclasses import replace
from typing import Any

import pytest

from tests.report.page_material import failed, record
from tsq_cli.cli.output import Output
from tsq_cli.inputs import Inputs
from tsq_cli.record import Record


def shown(capsys: pytest.CaptureFixture[str], made: Record) -> list[str]:
    """Lines on stdout, without the spaces at their ends."""
    inputs = Inputs(paths=(made.path,), single=True)
    with Output(inputs, verb="selected", as_json=False, jsonl=None, csv=None, html=None) as output:
        output.add(made.to_dict())
    return [line.rstrip() for line in capsys.readouterr().out.splitlines()]


def below(lines: list[str]) -> list[str]:
    """The last lines, which stand below the curves."""
    return [line for line in lines[[line[:3] for line in lines].index("S^t") + 1 :] if line]


def test_marks_stand_below_their_candidates(capsys: pytest.CaptureFixture[str]) -> None:
    events = [0] * 4 + [1] * 2 + [2] * 10
    made = record(chosen={0: "event", 5: "event", 9: "event"}, events=events, duplicate_of={1: 0, 2: 0, 10: 9})
    lines = shown(capsys, made)
    assert below(lines) == [
        "    ^==  ^   ^=       3 of 16 candidates (^), 3 more show the same as one of them (=)",
        "    1111223333333333  3 events",
    ]
    curve = next(line for line in lines if line.startswith("S^v"))
    assert curve[4 + 16] == " " != curve[4 + 15]  # as long as the marks


def test_frames_that_were_not_looked_at_are_not_counted(capsys: pytest.CaptureFixture[str]) -> None:
    made = record()
    made = replace(made, frames=(replace(made.frames[0], predictions=None), *made.frames[1:]))
    (line,) = [line for line in shown(capsys, made) if line.endswith("2 of 2")]
    assert "Egyptian cat" in line


@pytest.mark.parametrize("events", [None, [0] * 16])
def test_nothing_is_said_of_what_is_not_there(capsys: pytest.CaptureFixture[str], events: list[int] | None) -> None:
    lines = shown(capsys, record(chosen={3: "visual"}, events=events, recognized=False))
    assert below(lines) == ["       ^              1 of 16 candidates"]
    assert not [line for line in lines if line.startswith("rule")]


def test_one_duplicate_is_one(capsys: pytest.CaptureFixture[str]) -> None:
    (marks,) = below(shown(capsys, record(chosen={3: "visual"}, duplicate_of={4: 3})))
    assert marks.endswith("1 of 16 candidates (^), 1 more shows the same as one of them (=)")


def test_more_than_a_line_of_candidates_is_counted(capsys: pytest.CaptureFixture[str]) -> None:
    made = record(272, {3: "event", 9: "coverage"}, events=list(range(272)), duplicate_of={4: 3})
    lines = [line for line in shown(capsys, made) if line]
    assert lines[-1] == "    2 of 272 candidates"


def test_the_table_says_what_each_frame_was_chosen_for(capsys: pytest.CaptureFixture[str]) -> None:
    chosen: dict[int, Any] = {0: "event", 5: "coverage", 9: "spread", 12: "event"}
    made = record(chosen=chosen, events=[0] * 10 + [1] * 6, duplicate_of={9: 5}, recognized=False)
    lines = shown(capsys, made)
    first = next(number for number, line in enumerate(lines) if line.startswith("    1 "))
    assert [line.split(maxsplit=5)[5] for line in lines[first : first + 4]] == [
        "event 1",
        "coverage",
        "spread, same as 0:08.800",
        "event 2",
    ]


def test_the_rule_and_its_reason_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    lines = shown(capsys, record(rule="cover", rule_reason="nothing stands out: " + "words " * 30 + "end"))
    assert "rule   auto (cover), because nothing stands out: " + "words " * 30 + "end" in lines


def test_a_failed_video_has_no_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(capsys, failed()) == []
