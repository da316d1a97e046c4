"""One policy for every output: whole or not at all, nothing lost that was there, streams written straight."""

import errno
import os
import socket
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.machine import needs_fifos, needs_root, needs_signals
from tsq_cli.errors import OutputError, UsageError
from tsq_cli.files import atomic_path, check_outputs, remove_leftovers, remove_unfinished, write_text


def test_a_file_appears_whole_with_ordinary_permissions(tmp_path: Path) -> None:
    final = tmp_path / "new" / "a.txt"
    with atomic_path(final) as temporary:
        temporary.write_text("whole")
        assert not final.exists()
        assert temporary.suffix == ".txt"
    assert final.read_text() == "whole"
    plain = tmp_path / "plain.txt"
    plain.touch()
    assert final.stat().st_mode == plain.stat().st_mode
    assert os.listdir(final.parent) == ["a.txt"]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    final = tmp_path / "a.txt"
    final.write_text("old")

    def fill_the_disk() -> None:
        with atomic_path(final) as temporary:
            temporary.write_text("half")
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OutputError, match=r"a.txt: No space left.*free space"):
        fill_the_disk()
    assert os.listdir(tmp_path) == ["a.txt"]
    assert final.read_text() == "old"


def test_an_error_inside_leaves_nothing_and_passes_through(tmp_path: Path) -> None:
    def stop() -> None:
        with atomic_path(tmp_path / "a.txt"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stop()
    assert os.listdir(tmp_path) == []


def test_a_folder_in_the_way_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "a.txt").mkdir()
    (tmp_path / "a.txt" / "b").touch()

    def write() -> None:
        with atomic_path(tmp_path / "a.txt") as temporary:
            temporary.write_text("x")

    with pytest.raises(OutputError, match=r"a.txt"):
        write()


def test_a_symlink_is_followed_and_its_target_replaced_whole(tmp_path: Path) -> None:
    target = tmp_path / "elsewhere" / "real.csv"
    target.parent.mkdir()
    target.write_text("a longer text than the new one")
    link = tmp_path / "link.csv"
    link.symlink_to(target)
    write_text(link, "new")
    assert link.is_symlink()
    assert target.read_text() == "new"
    assert os.listdir(target.parent) == ["real.csv"]


def test_a_link_that_leads_nowhere_yet_gets_its_target(tmp_path: Path) -> None:
    link = tmp_path / "link.csv"
    link.symlink_to(tmp_path / "real.csv")
    write_text(link, "new")
    assert link.is_symlink()
    assert (tmp_path / "real.csv").read_text() == "new"


def test_links_in_a_circle_are_refused(tmp_path: Path) -> None:
    link = tmp_path / "link.csv"
    link.symlink_to(link)
    with pytest.raises(UsageError, match=r"--csv .*link.csv cannot be written: Too many levels"):
        check_outputs({"--csv": link})
    with pytest.raises(OutputError, match="Too many levels"):
        write_text(link, "new")


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o666])
def test_an_existing_file_keeps_its_mode(tmp_path: Path, mode: int) -> None:
    file = tmp_path / "a.csv"
    file.write_text("old")
    file.chmod(mode)
    write_text(file, "new")
    assert file.read_text() == "new"
    assert stat.S_IMODE(file.stat().st_mode) == mode


@needs_root
def test_an_existing_file_keeps_its_owner(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("old")
    os.chown(file, 12345, 12345)
    write_text(file, "new")
    assert (file.stat().st_uid, file.stat().st_gid) == (12345, 12345)


@needs_root
def test_a_device_stays_a_device(tmp_path: Path) -> None:
    null = tmp_path / "null"
    os.mknod(null, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    write_text(null, "swallowed")
    assert stat.S_ISCHR(null.stat().st_mode)
    full = tmp_path / "full"
    os.mknod(full, 0o666 | stat.S_IFCHR, os.makedev(1, 7))
    with pytest.raises(OutputError, match="No space left"):
        write_text(full, "refused")
    assert stat.S_ISCHR(full.stat().st_mode)
    assert sorted(os.listdir(tmp_path)) == ["full", "null"]


@needs_fifos
def test_a_fifo_gets_every_byte_and_stays_a_fifo(tmp_path: Path) -> None:
    fifo = tmp_path / "pipe"
    os.mkfifo(fifo)
    text = "0123456789" * 50_000  # more than a pipe holds
    got: list[str] = []
    reader = threading.Thread(target=lambda: got.append(fifo.read_text()))
    reader.start()
    write_text(fifo, text)
    reader.join(30)
    assert got == [text]
    assert stat.S_ISFIFO(fifo.stat().st_mode)


def test_stdout_is_written_by_its_sign_by_its_device_and_by_its_file(tmp_path: Path) -> None:
    out = tmp_path / "out.txt"
    code = (
        "import sys; from pathlib import Path; from tsq_cli.files import write_text; print('before');"
        "[write_text(Path(name), f'{name}\\n') for name in sys.argv[1:]]; print('after')"
    )
    names = ["-", "/dev/stdout", str(out)]
    with out.open("w") as stream:
        subprocess.run([sys.executable, "-c", code, *names], stdout=stream, check=True)
    assert out.read_text().split() == ["before", *names, "after"]


def test_a_file_that_may_not_be_replaced_is_not_even_if_it_appears_meanwhile(tmp_path: Path) -> None:
    final = tmp_path / "a.png"

    def write() -> None:
        with atomic_path(final, replace=False) as temporary:
            temporary.write_text("ours")
            final.write_text("theirs")

    with pytest.raises(OutputError, match="File exists"):
        write()
    assert final.read_text() == "theirs"
    assert os.listdir(tmp_path) == ["a.png"]


def test_a_new_file_that_may_replace_nothing_appears_whole(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "a.png", replace=False) as temporary:
        temporary.write_text("ours")
    assert (tmp_path / "a.png").read_text() == "ours"
    assert os.listdir(tmp_path) == ["a.png"]


def test_outputs_that_are_no_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="it is a folder"):
        check_outputs({"--csv": tmp_path})
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket"))
        with pytest.raises(UsageError, match="it is a socket"):
            check_outputs({"--csv": tmp_path / "socket"})
    (tmp_path / "a.txt").touch()
    with pytest.raises(UsageError, match=r"-o .*a.txt is not a folder"):
        check_outputs({}, folders={"-o": tmp_path / "a.txt"})


@needs_root
def test_a_disk_is_refused(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    os.mknod(disk, 0o666 | stat.S_IFBLK, os.makedev(7, 99))  # of no device that is there
    with pytest.raises(UsageError, match="it is a block device"):
        check_outputs({"--csv": disk})


def test_an_output_that_is_an_input_is_refused_whatever_its_name(tmp_path: Path) -> None:
    video = tmp_path / "in.mp4"
    video.write_bytes(b"precious")
    names = [video, tmp_path / "." / "in.mp4", tmp_path / "soft.csv", tmp_path / "hard.csv"]
    names[2].symlink_to(video)
    os.link(video, names[3])
    for name in names:
        with pytest.raises(UsageError, match=r"--csv .* is also an input \(.*in.mp4\).*forgotten"):
            check_outputs({"--csv": name}, inputs=["no such file", "a\0b", str(video)])
    assert video.read_bytes() == b"precious"


def test_outputs_need_places_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "a.txt")
    for first, second in ((tmp_path / "a.txt", tmp_path / "link"), (Path("-"), Path("-"))):
        with pytest.raises(UsageError, match="--csv and --html both write to"):
            check_outputs({"--csv": first, "--html": second})
    check_outputs({"--csv": Path(os.devnull), "--html": Path(os.devnull), "--json": Path("-"), "--sheet": None})


def test_every_place_is_tried_before_the_work(tmp_path: Path) -> None:
    blocked = tmp_path / "file" / "out.csv"
    blocked.parent.touch()
    for given in ({"files": {"--csv": blocked}}, {"files": {}, "folders": {"-o": blocked}}):
        with pytest.raises((OutputError, UsageError), match="Not a directory"):
            check_outputs(**given)  # type: ignore[arg-type]
    check_outputs({"--csv": tmp_path / "new" / "out.csv"}, folders={"-o": tmp_path / "frames"})
    assert os.listdir(tmp_path) == ["file"]  # a run that is refused for another reason leaves no folder behind


def test_a_full_disk_is_found_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OutputError, match=r"out.csv: No space left"):
        check_outputs({"--csv": tmp_path / "out.csv"})
    assert os.listdir(tmp_path) == []


WRITES_FOR_EVER = """
import sys, time
from pathlib import Path
from tsq_cli.files import atomic_path
with atomic_path(Path(sys.argv[1])) as temporary:
    temporary.write_text("half")
    print(flush=True)
    time.sleep(60)
"""


@needs_signals
def test_what_a_killed_run_left_is_removed_and_what_a_living_one_writes_is_not(tmp_path: Path) -> None:
    processes = [
        subprocess.Popen([sys.executable, "-c", WRITES_FOR_EVER, str(tmp_path / name)], stdout=subprocess.PIPE)
        for name in ("killed.png", "living.png")
    ]
    for process in processes:
        assert process.stdout is not None
        process.stdout.readline()
    killed, living = processes
    killed.kill()
    killed.wait()
    assert len(os.listdir(tmp_path)) == 2
    remove_leftovers(tmp_path)
    assert len(os.listdir(tmp_path)) == 1
    assert living.poll() is None
    living.kill()
    living.wait()
    check_outputs({"--csv": tmp_path / "out.csv"})
    assert os.listdir(tmp_path) == []
    for process in processes:
        assert process.stdout is not None
        process.stdout.close()


def test_an_interruption_at_any_moment_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = os.open

    def interrupted(*arguments: Any, **options: Any) -> int:
        os.close(opened(*arguments, **options))  # the file is there, and nothing else has happened yet
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", interrupted)
        with pytest.raises(KeyboardInterrupt):
            write_text(tmp_path / "a.txt", "whole")
    assert len(os.listdir(tmp_path)) == 1
    remove_unfinished()
    assert os.listdir(tmp_path) == []


@needs_fifos
def test_nothing_else_is_taken_for_a_leftover(tmp_path: Path) -> None:
    for name in ("video.mp4", ".hidden", "tsq-1.png"):
        (tmp_path / name).touch()
    (tmp_path / ".tsq-link").symlink_to(tmp_path / "video.mp4")
    os.mkfifo(tmp_path / ".tsq-pipe")
    (tmp_path / ".tsq-folder").mkdir()
    before = sorted(os.listdir(tmp_path))
    remove_leftovers(tmp_path)
    assert sorted(os.listdir(tmp_path)) == before
