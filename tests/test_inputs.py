"""What the user typed becomes the list of videos, in order, each once."""

from pathlib import Path

import pytest

from tsq_cli.errors import InputNotFoundError
from tsq_cli.inputs import collect_inputs


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("b.mp4", "a.MKV", "notes.txt", ".hidden.mp4", "deep/c.webm", "deep/er/d.avi", "empty/readme.md"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_files_keep_their_order_and_come_once(folder: Path) -> None:
    inputs = collect_inputs(["b.mp4", "a.MKV", "b.mp4"])
    assert inputs.paths == ("b.mp4", "a.MKV")
    assert not inputs.single


def test_one_file_named_outright_is_single_and_may_have_any_ending(folder: Path) -> None:
    assert collect_inputs(["notes.txt"]).single
    assert not collect_inputs(["*.mp4"]).single
    assert not collect_inputs(["deep"]).single


def test_a_folder_gives_its_videos_by_name_and_counts_the_rest(folder: Path) -> None:
    inputs = collect_inputs([str(folder)])
    assert [Path(path).name for path in inputs.paths] == ["a.MKV", "b.mp4"]
    assert inputs.skipped == 1


def test_a_folder_is_searched_deep_only_when_asked(folder: Path) -> None:
    inputs = collect_inputs(["deep"], recursive=True)
    assert [Path(path).as_posix() for path in inputs.paths] == ["deep/c.webm", "deep/er/d.avi"]
    assert collect_inputs(["deep"]).paths == ("deep/c.webm",)


def test_a_quoted_glob_is_expanded(folder: Path) -> None:
    assert collect_inputs(["**/*.webm"]).paths == ("deep/c.webm",)


def test_a_file_whose_name_looks_like_a_glob_is_that_file(folder: Path) -> None:
    (folder / "take[1].mp4").touch()
    assert collect_inputs(["take[1].mp4"]).paths == ("take[1].mp4",)


def test_a_list_may_name_missing_files_which_fail_later_alone(folder: Path) -> None:
    (folder / "list.txt").write_text("b.mp4\n\n  gone.mp4  \n")
    assert collect_inputs([], files_from="list.txt").paths == ("b.mp4", "gone.mp4")
    assert collect_inputs(["a.MKV"], files_from="-", stdin=["b.mp4\n"]).paths == ("a.MKV", "b.mp4")


@pytest.mark.parametrize(
    ("arguments", "files_from", "message"),
    [
        ([], None, "no video was named"),
        (["gone.mp4"], None, "gone.mp4 does not exist"),
        (["b.mp4", "gone.mp4"], None, "gone.mp4 does not exist"),
        (["*.mov"], None, "matches no file"),
        (["empty"], None, "holds 1 files and no video.*add -r"),
        ([], "gone.txt", "gone.txt cannot be read"),
        ([], "-", "is empty"),
    ],
)
def test_what_names_nothing_is_refused(
    folder: Path, arguments: list[str], files_from: str | None, message: str
) -> None:
    with pytest.raises(InputNotFoundError, match=message) as caught:
        collect_inputs(arguments, files_from=files_from, stdin=["\n"])
    assert caught.value.exit_code == 2
