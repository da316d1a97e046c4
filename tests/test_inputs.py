"""The user's arguments become the list of videos, in order, each once."""

import os
import tempfile
from collections.abc import Iterator
from io import BytesIO, StringIO, TextIOWrapper
from pathlib import Path

import pytest

from tsq_cli.errors import InputNotFoundError, UsageError
from tsq_cli.inputs import collect_inputs, file_status


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
    (folder / "list.txt").write_text("b.mp4\n\ngone.mp4\n")
    assert collect_inputs([], files_from="list.txt").paths == ("b.mp4", "gone.mp4")
    assert collect_inputs(["a.MKV"], files_from="-", stdin=BytesIO(b"b.mp4\n")).paths == ("a.MKV", "b.mp4")


@pytest.mark.parametrize(
    ("listed", "paths"),
    [
        (b"  two spaces.mp4  \nb.mp4", ["  two spaces.mp4  ", "b.mp4"]),
        (b"\xef\xbb\xbfb.mp4\r\na.MKV\r\n", ["b.mp4", "a.MKV"]),
        (b"\n \t\n\r\nb.mp4\n\n", ["b.mp4"]),
        (b"caf\xe9.mp4\nb.mp4\n", ["caf\udce9.mp4", "b.mp4"]),
        ("line\u2028separator.mp4\nfeed\x0c.mp4\n".encode(), ["line\u2028separator.mp4", "feed\x0c.mp4"]),
    ],
)
@pytest.mark.parametrize("by", ["file", "bytes on stdin", "text on stdin"])
def test_names_of_a_list_are_kept_to_the_byte(
    folder: Path, monkeypatch: pytest.MonkeyPatch, listed: bytes, paths: list[str], by: str
) -> None:
    (folder / "list.txt").write_bytes(listed)
    stdin = TextIOWrapper(BytesIO(listed)) if by == "bytes on stdin" else StringIO(os.fsdecode(listed), newline="")
    monkeypatch.setattr("sys.stdin", stdin)
    assert collect_inputs([], files_from="list.txt" if by == "file" else "-").paths == tuple(paths)


def test_a_list_may_be_separated_by_nul(folder: Path) -> None:
    listed = b"./b.mp4\0new\nline.mp4\0 edges \0\0"
    assert collect_inputs([], files_from="-", null=True, stdin=BytesIO(listed)).paths == (
        "./b.mp4", "new\nline.mp4", " edges ",
    )  # fmt: skip
    with pytest.raises(InputNotFoundError, match=r"holds NUL bytes.*add -0"):
        collect_inputs([], files_from="-", stdin=BytesIO(listed))
    with pytest.raises(UsageError, match="-0 was given without a list"):
        collect_inputs(["b.mp4"], null=True)


def test_a_list_that_is_none_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tsq_cli.inputs.LIST_BYTES", 10)
    (folder / "long.txt").write_text("0123456789\n")
    for name, message in (("long.txt", "more than"), ("deep", "Is a directory"), ("gone.txt", "No such file")):
        with pytest.raises(InputNotFoundError, match=message):
            collect_inputs([], files_from=name)
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(InputNotFoundError, match="stdin is closed"):
        collect_inputs([], files_from="-")


def test_two_spellings_of_a_path_are_one_video_as_first_spelled(folder: Path) -> None:
    (folder / "d").mkdir()
    spellings = ["./b.mp4", "b.mp4", str(folder / "b.mp4"), "d/../b.mp4", "deep//c.webm", "deep/./c.webm"]
    assert collect_inputs(spellings).paths == ("./b.mp4", "deep//c.webm")
    assert not collect_inputs(["./b.mp4", "b.mp4"]).single


def test_links_are_videos_of_their_own(folder: Path) -> None:
    (folder / "link.mp4").symlink_to("b.mp4")
    (folder / "inner").symlink_to("deep/er")
    (folder / "deep" / "b.mp4").touch()
    assert collect_inputs(["b.mp4", "link.mp4"]).paths == ("b.mp4", "link.mp4")
    # inner/.. is deep, so this is no other spelling of ./b.mp4
    assert collect_inputs(["inner/../b.mp4", "b.mp4"]).paths == ("inner/../b.mp4", "b.mp4")


def test_a_broken_link_in_a_folder_or_glob_fails_alone_and_not_unseen(folder: Path) -> None:
    (folder / "deep" / "lost.mp4").symlink_to("nowhere.mp4")
    assert collect_inputs(["deep"]).paths == ("deep/c.webm", "deep/lost.mp4")
    assert collect_inputs(["deep/*.mp4"]).paths == ("deep/lost.mp4",)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("", "an empty path was given"),
        ("ftp://example.org/*.mp4", "is a URL that tsq does not read"),
        ("RTSP://camera?x=[1]", "is a URL"),
        ("nul\0.mp4", "cannot be a file"),
        ("n" * 300, r"nnn\.\.\. \(300 characters\) cannot be a file"),
        ("b.mp4/inside", "does not exist"),
    ],
)
def test_a_path_that_cannot_be_one_has_its_own_line(folder: Path, path: str, message: str) -> None:
    for look in (file_status, lambda path: collect_inputs(["b.mp4", path])):
        with pytest.raises(InputNotFoundError, match=message):
            look(path)


def test_a_loop_of_links_has_its_own_line(folder: Path) -> None:
    (folder / "loop.mp4").symlink_to("loop.mp4")
    with pytest.raises(InputNotFoundError, match=r"loop.mp4 cannot be a file \(Too many levels"):
        collect_inputs(["loop.mp4"])


@pytest.fixture
def closed() -> Iterator[Path]:
    """A folder with a video and a subfolder that this process may not enter, though it may be root's."""
    with tempfile.TemporaryDirectory() as name:  # pytest's own folder may be entered by its owner only
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "a.mp4").touch()
        (folder / "closed").mkdir()
        (folder / "closed" / "b.mp4").touch()
        (folder / "closed").chmod(0)
        is_root = os.geteuid() == 0
        if is_root:
            os.seteuid(65534)
        yield folder
        if is_root:
            os.seteuid(0)
        (folder / "closed").chmod(0o755)


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="permissions of POSIX")
def test_a_folder_that_may_not_be_entered_has_its_own_line(closed: Path) -> None:
    inside = str(closed / "closed" / "b.mp4")
    for argument in (inside, str(closed / "closed" / "*.mp4")):
        with pytest.raises(InputNotFoundError, match="in a folder without permission to enter"):
            collect_inputs([argument])
    with pytest.raises(InputNotFoundError, match=r"closed cannot be read \(Permission denied\)"):
        collect_inputs([str(closed / "closed")])
    listed = BytesIO(os.fsencode(inside))
    assert collect_inputs([], files_from="-", stdin=listed).paths == (inside,)
    deep = collect_inputs([str(closed)], recursive=True)
    assert (deep.paths, deep.unreadable) == ((str(closed / "a.mp4"),), (str(closed / "closed"),))


@pytest.mark.parametrize(
    ("arguments", "files_from", "message"),
    [
        ([], None, "no video was named"),
        (["gone.mp4"], None, "gone.mp4 does not exist"),
        (["b.mp4", "gone.mp4"], None, "gone.mp4 does not exist"),
        (["*.mov"], None, "matches no file"),
        (["empty"], None, "has 1 files and none with a video's suffix.*add -r"),
        ([], "gone.txt", "gone.txt cannot be read"),
        ([], "-", "is empty"),
    ],
)
def test_what_names_nothing_is_refused(
    folder: Path, arguments: list[str], files_from: str | None, message: str
) -> None:
    with pytest.raises(InputNotFoundError, match=message) as caught:
        collect_inputs(arguments, files_from=files_from, stdin=BytesIO(b"\n"))
    assert caught.value.exit_code == 2
