"""One damaged pack hides no other; and names that can be of no pack are refused with one line, in Python and by tsq."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Result, tsq  # noqa: F401 - a fixture
from tests.packs.making import make_pack
from tsq_cli.errors import UsageError
from tsq_cli.packs import find_pack, list_packs

Tsq = Callable[..., Result]
SHIPPED = ["actions40", "clip", "imagenet", "imagenet-lite"]


@pytest.fixture
def damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """$TSQ_PACKS with a good pack among damaged ones; the names of these."""
    root = tmp_path / "packs"
    make_pack(root / "good")
    broken = {"a-nested": "[" * 20_000, "empty": "", "version": '{"schema_version": 99}', "zz": "{"}
    for name, content in broken.items():
        (root / name).mkdir()
        (root / name / "pack.json").write_text(content)
    for name, target in (("dangling", "nowhere"), ("endless", "/dev/zero")):
        (root / name).mkdir()
        (root / name / "pack.json").symlink_to(target)
    (root / "no-pack").mkdir()
    (root / "notes.txt").write_text("mine")
    monkeypatch.setenv("TSQ_PACKS", str(root))
    return sorted([*broken, "dangling", "endless"])


def test_a_damaged_pack_hides_no_other(damaged: list[str]) -> None:
    packs, errors = list_packs()
    assert [pack.name for pack in packs] == [*SHIPPED, "good"]
    assert [folder.name for folder in errors] == damaged
    for folder, error in errors.items():
        assert str(folder / "pack.json") in str(error)
    for name in (*SHIPPED, "good"):
        assert find_pack(name).name == name


def test_the_list_names_the_damaged_and_fails_at_its_end(damaged: list[str], tsq: Tsq) -> None:  # noqa: F811
    result = tsq("packs", "list")
    assert result.code == 3
    assert all(name in result.out for name in (*SHIPPED, "good"))
    lines = result.err.splitlines()
    assert len(lines) == len(damaged)
    assert all(f"{name}/pack.json" in line for name, line in zip(damaged, lines, strict=True))

    result = tsq("packs", "list", "--json")
    assert result.code == 3
    rows = json.loads(result.out)
    assert [row["name"] for row in rows if row["error"] is None] == [*SHIPPED, "good"]
    assert [row["name"] for row in rows if row["error"] is not None] == damaged
    assert all(row.keys() == rows[0].keys() for row in rows)
    assert all((row["sha256"] is None) == (row["error"] is not None) for row in rows)


def test_a_list_of_whole_packs_succeeds(tsq: Tsq, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.delenv("TSQ_PACKS", raising=False)
    assert tsq("packs", "list").code == 0
    assert [row["error"] for row in json.loads(tsq("packs", "list", "--json").out)] == [None] * 4


@pytest.mark.parametrize("name", ["", "a\0b", "./a\0b", "~nobody-of-that-name/x", "~nobody-of-that-name"])
def test_a_name_that_can_be_of_no_pack_is_a_usage_error(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_pack(tmp_path / "small")
    monkeypatch.chdir(tmp_path / "small")  # the empty name is not the folder here
    with pytest.raises(UsageError, match="there is no pack") as caught:
        find_pack(name)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("name", ["n" * 300, "./" + "n" * 300, "n" * 100_000, "./" + "d/" * 5000])
@pytest.mark.parametrize("command", ["show", "pull", "verify"])
def test_a_name_too_long_is_one_short_line(tsq: Tsq, command: str, name: str) -> None:  # noqa: F811
    result = tsq("packs", command, name)
    assert result.code == 2
    assert "File name too long" in result.err
    assert result.err.count("\n") == 1
    assert len(result.err) < 600


def test_a_folder_that_is_no_pack_is_said_to_lack_its_description(tsq: Tsq, tmp_path: Path) -> None:  # noqa: F811
    for command in ("show", "pull"):
        result = tsq("packs", command, tmp_path)
        assert (result.code, result.err.count("\n")) == (3, 1)
        assert "cannot read" in result.err
        assert "pack.json (No such file or directory)" in result.err
    result = tsq("packs", "verify", tmp_path)
    assert result.code == 3
    assert "FAIL  pack.json  cannot read" in result.out


@pytest.fixture
def closed(tmp_path: Path) -> Iterator[Path]:
    """A folder in one that may not be entered. Root may enter everything, so root becomes nobody for the test."""
    if not hasattr(os, "geteuid"):
        pytest.skip("permissions as on POSIX")
    inside = tmp_path / "closed" / "pack"
    inside.mkdir(parents=True)
    inside.parent.chmod(0)
    if is_root := os.geteuid() == 0:
        os.seteuid(65534)
    yield inside
    if is_root:
        os.seteuid(0)
    inside.parent.chmod(0o755)


@pytest.mark.parametrize("command", ["show", "pull", "verify"])
def test_a_folder_one_may_not_enter_is_one_line(closed: Path, tsq: Tsq, command: str) -> None:  # noqa: F811
    result = tsq("packs", command, closed)
    assert result.code == 2
    assert result.err.startswith(f"tsq: cannot look at '{closed}' (Permission denied); ")
    assert result.err.count("\n") == 1


def test_a_search_folder_one_may_not_enter_is_one_line(closed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TSQ_PACKS", str(closed))
    with pytest.raises(UsageError, match=r"cannot look at .* \(Permission denied\)"):
        list_packs()


def test_a_search_folder_that_cannot_be_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    for root, message in (("~nobody-of-that-name", "which is no folder"), ("n" * 300, "File name too long")):
        monkeypatch.setenv("TSQ_PACKS", root)
        with pytest.raises(UsageError, match=message):
            list_packs()
