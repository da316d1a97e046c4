"""Outputs of every command: nothing that was there is lost, and whatever cannot be written is said first."""

import csv
import io
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import processes
from tests.cli.conftest import DEMO, ROOT, Result
from tests.machine import needs_fifos, needs_root, needs_signals
from tests.video.clips import clip

Tsq = Callable[..., Result]
UNIFORM = ("--selector", "uniform", "-k", "2", "-n", "4")

FILE_OPTIONS = ("--csv", "--html", "--jsonl", "--sheet")
"""Options of select and classify that write files."""


@pytest.fixture
def labeled(demo: Path, tmp_path: Path) -> Path:
    """A list of one video, as train, evaluate, ablate and tsne take it."""
    path = tmp_path / "list.txt"
    path.write_text(f"{demo} cat\n")
    other = shutil.copy(DEMO, tmp_path / "other.mp4")
    (tmp_path / "val.txt").write_text(f"{other} cat\n")
    return path


def commands(demo: Path, labeled: Path, output: str, place: Path) -> list[list[str]]:
    """Every command that has this output option, writing to a place."""
    lists = ["--train", str(labeled), "--val", str(labeled.with_name("val.txt"))]
    videos = [["select", str(demo), *UNIFORM], ["classify", str(demo), *UNIFORM, "--recognizer", "embedded"]]
    known = {
        "--csv": videos,
        "--html": [*videos, ["tsne", "--train", str(labeled)]],
        "--jsonl": videos,
        "--sheet": videos,
        "--plot": [
            ["benchmark", "--decode", str(demo)], ["evaluate", str(labeled)], ["tsne", "--train", str(labeled)],
        ],
        "--report": [
            ["evaluate", str(labeled)], ["ablate", "alpha", *lists], ["tsne", "--train", str(labeled)],
            ["train", str(labeled)],
        ],
        "--markdown": [["evaluate", str(labeled)], ["ablate", "alpha", *lists]],
    }  # fmt: skip
    return [[*command, output, str(place)] for command in known[output]]


@pytest.mark.parametrize("output", ["--csv", "--html", "--jsonl", "--sheet", "--plot", "--report", "--markdown"])
def test_no_output_of_any_command_may_be_an_input(
    tsq: Tsq, demo: Path, labeled: Path, tmp_path: Path, output: str
) -> None:
    before = DEMO.read_bytes()
    hard = tmp_path / "hard.png"
    os.link(demo, hard)  # a picture's name, which --sheet and --plot ask for; the same file all the same
    for command in commands(demo, labeled, output, hard):
        result = tsq(*command)
        assert result.code == 2, (command, result)
        assert f"{output} {hard} is also an input" in result.err
        assert result.out == ""
        assert demo.read_bytes() == before


def test_a_list_is_an_input_too(tsq: Tsq, demo: Path, labeled: Path, tmp_path: Path) -> None:
    content = labeled.read_text()
    for arguments in (
        ("evaluate", labeled, "--markdown", labeled),
        ("ablate", "alpha", "--train", labeled, "--val", tmp_path / "val.txt", "--report", labeled),
    ):
        result = tsq(*arguments)
        assert (result.code, "is also an input" in result.err) == (2, True), result.err
    names = tmp_path / "names.txt"
    names.write_text(f"{demo}\n")
    assert tsq("select", "--files-from", names, "--csv", names, *UNIFORM).code == 2
    assert (labeled.read_text(), names.read_text()) == (content, f"{demo}\n")


def test_a_forgotten_value_costs_no_video(tsq: Tsq, tmp_path: Path) -> None:
    for name in ("a.mp4", "b.mp4"):
        shutil.copy(DEMO, tmp_path / name)
    # tsq select --csv *.mp4: the shell makes the first video the value of --csv, and no input.
    result = tsq("select", *UNIFORM, "--csv", tmp_path / "a.mp4", tmp_path / "b.mp4")
    assert result.code == 2
    assert "has the suffix of a video" in result.err
    assert (tmp_path / "a.mp4").read_bytes() == DEMO.read_bytes()


def test_two_outputs_do_not_share_a_file(tsq: Tsq, demo: Path, tmp_path: Path) -> None:
    result = tsq("select", demo, *UNIFORM, "--csv", tmp_path / "a.txt", "--html", tmp_path / "a.txt")
    assert (result.code, result.out) == (2, "")
    assert "--csv and --html both write to" in result.err
    assert not (tmp_path / "a.txt").exists()


@needs_root
@pytest.mark.parametrize("output", FILE_OPTIONS)
@pytest.mark.parametrize("command", ["select", "classify"])
def test_a_device_stays_one(tsq: Tsq, demo: Path, tmp_path: Path, command: str, output: str) -> None:
    null = tmp_path / "null.png"
    os.mknod(null, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    recognizer = ("--recognizer", "embedded") if command == "classify" else ()
    result = tsq(command, demo, *UNIFORM, *recognizer, output, null)
    assert result.code == 0, result.err
    assert stat.S_ISCHR(null.stat().st_mode)


@pytest.mark.parametrize("output", FILE_OPTIONS)
def test_a_link_is_followed_and_a_private_file_stays_private(tsq: Tsq, demo: Path, tmp_path: Path, output: str) -> None:
    real, link = tmp_path / "real.png", tmp_path / "link.png"
    real.touch()
    real.chmod(0o600)
    link.symlink_to(real)
    assert tsq("select", demo, *UNIFORM, output, link).code == 0
    assert link.is_symlink()
    assert real.stat().st_size > 100
    assert stat.S_IMODE(real.stat().st_mode) == 0o600


@needs_fifos
@pytest.mark.parametrize("output", FILE_OPTIONS)
def test_a_pipe_gets_what_a_file_would(tmp_path: Path, output: str) -> None:
    fifo = tmp_path / "pipe.png"
    os.mkfifo(fifo)
    with processes.start(
        ["-m", "tsq_cli", "select", clip("h264_b_frames").path, *UNIFORM, output, fifo], cwd=ROOT
    ) as process:
        content = fifo.read_bytes()
        assert process.wait(60) == 0
    begins = {
        "--csv": b"path,status,",
        "--html": b"<!doctype html>",
        "--jsonl": b'{"schema_version"',
        "--sheet": b"\x89PNG",
    }
    assert content.lower().startswith(begins[output].lower())
    assert stat.S_ISFIFO(fifo.stat().st_mode)


@pytest.mark.parametrize(("output", "begins"), [("--csv", "path,status,"), ("--html", "<!doctype html>")])
def test_a_file_can_go_to_stdout_alone(output: str, begins: str) -> None:
    short = clip("h264_b_frames").path
    ended = processes.run(["-m", "tsq_cli", "select", short, *UNIFORM, output, "-"], cwd=ROOT)
    assert ended.returncode == 0
    assert ended.stdout.lower().startswith(begins)
    if output == "--csv":
        assert [row["status"] for row in csv.DictReader(io.StringIO(ended.stdout))] == ["ok", "ok"]
    assert not Path("-").exists()


@pytest.mark.parametrize("content", ["my notes", "my notes\n", '{"a": 1}'])
def test_a_file_of_another_kind_is_no_record_file(tsq: Tsq, demo: Path, tmp_path: Path, content: str) -> None:
    notes = tmp_path / "notes.txt"
    notes.write_text(content)
    result = tsq("select", demo, *UNIFORM, "--jsonl", notes)
    assert (result.code, result.out) == (2, "")
    assert "is not a record of tsq" in result.err
    assert notes.read_text() == content
    assert sorted(os.listdir(tmp_path)) == ["demo.mp4", "notes.txt"]


@pytest.mark.parametrize(
    ("output", "name"), [("--csv", "out.csv"), ("--html", "out.html"), ("--jsonl", "out.jsonl"), ("-o", "frames")]
)
def test_what_cannot_be_written_is_said_before_a_video_is_opened(
    tsq: Tsq, demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str, name: str
) -> None:
    monkeypatch.setattr("tsq_cli.loading.load_clip", lambda *_, **__: pytest.fail("a video was opened"))
    (tmp_path / "file").touch()
    result = tsq("select", demo, *UNIFORM, output, tmp_path / "file" / name)
    assert result.code in (1, 2)
    assert len(result.err.splitlines()) == 1, result.err
    assert str(tmp_path / "file" / name) in result.err
    assert "Not a directory" in result.err


def test_one_name_in_two_runs_is_two_pictures(tsq: Tsq, tmp_path: Path) -> None:
    for folder in ("d1", "d2"):
        (tmp_path / folder).mkdir()
        shutil.copy(DEMO, tmp_path / folder / "x.mp4")
        arguments = ("-o", tmp_path / "shared", "--jsonl", tmp_path / f"{folder}.jsonl")
        assert tsq("select", tmp_path / folder / "x.mp4", *UNIFORM, *arguments).code == 0
    paths = [
        frame["path"]
        for folder in ("d1", "d2")
        for frame in json.loads((tmp_path / f"{folder}.jsonl").read_text())["frames"]
    ]
    assert len(set(paths)) == len(os.listdir(tmp_path / "shared")) == 4


def test_pictures_that_are_gone_are_made_again(tsq: Tsq, demo: Path, tmp_path: Path) -> None:
    arguments = ("select", demo, *UNIFORM, "-o", tmp_path / "frames", "--jsonl", tmp_path / "out.jsonl", "--json")
    first = json.loads(tsq(*arguments).out)
    shutil.rmtree(tmp_path / "frames")
    second = json.loads(tsq(*arguments).out)
    assert [frame["path"] for frame in second["frames"]] == [frame["path"] for frame in first["frames"]]
    assert len(os.listdir(tmp_path / "frames")) == 2
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 1


def test_failed_videos_have_one_line_however_often_they_are_tried(tsq: Tsq, demo: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.mp4").write_text("no video")
    for more in ((), (), ("-k", "3"), ("--overwrite",)):
        assert tsq("select", tmp_path, *UNIFORM, *more, "--jsonl", tmp_path / "out.jsonl").code == 1
        records = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
        assert sorted(Path(record["video"]["path"]).name for record in records) == ["bad.mp4", "demo.mp4"]


@needs_signals
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_every_signal_that_asks_a_run_to_end_ends_it_in_order(tmp_path: Path, number: signal.Signals) -> None:
    for index in range(200):
        os.link(DEMO, tmp_path / f"{index:03d}.mp4")
    lines, table = tmp_path / "out.jsonl", tmp_path / "out.csv"
    command = ["-m", "tsq_cli", "select", tmp_path, *UNIFORM, "--jsonl", lines, "--csv", table]
    with tempfile.TemporaryFile() as stderr:
        with processes.start(command, cwd=ROOT, stderr=stderr) as process:
            until = time.monotonic() + 60
            while time.monotonic() < until and (not lines.exists() or lines.read_text().count("\n") < 2):
                time.sleep(0.02)
            process.send_signal(number)
            process.wait(60)
        stderr.seek(0)
        err = stderr.read().decode()
    assert process.returncode == 130, err
    assert err.splitlines()[-1] == "tsq: interrupted"
    assert "Traceback" not in err
    records = [json.loads(line) for line in lines.read_text().splitlines()]
    assert 2 <= len(records) < 200
    assert len(table.read_text().splitlines()) == 1 + 2 * len(records)
    assert not list(tmp_path.glob(".*"))


@needs_signals
def test_a_signal_that_nohup_ignores_stays_ignored(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; signal.signal(signal.SIGHUP, signal.SIG_IGN);"
        "os.execv(sys.executable, [sys.executable, '-c', "
        '\'import signal, sys; sys.argv = ["tsq", "--version"]\\n'
        "from tsq_cli.__main__ import main\\n"
        "try: main()\\nexcept SystemExit: print(signal.getsignal(signal.SIGHUP) is signal.SIG_IGN)'])"
    )
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ended.stdout.split()[-1] == "True"


@needs_signals
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_meets_code_made_of_text_ends_a_run_like_any_other(
    tmp_path: Path, number: signal.Signals
) -> None:
    # As while a dataclass is being made; Python's own exit code differs only where a module is run with -m.
    (tmp_path / "struck.py").write_text(
        "import os, sys\n"
        "from tests import conftest\n"  # which gives back a SIGINT that the parent ignores
        "from tsq_cli import __main__\n"
        "from tsq_cli.cli import app\n"
        "app.main = lambda: exec('os.kill(os.getpid(), int(sys.argv[1]))\\nwhile True: pass')\n"
        "__main__.main()\n"
    )
    ended = subprocess.run(
        [sys.executable, "-m", "struck", str(int(number))],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (ended.returncode, ended.stderr) == (130, "tsq: interrupted\n")


@needs_signals
def test_a_signal_that_a_library_turns_into_an_error_ends_the_run_all_the_same() -> None:
    code = (
        "import os, signal, sys\n"
        "from tsq_cli.cli import app\n"
        "def interrupted():\n"
        "    try: os.kill(os.getpid(), signal.SIGTERM); signal.pause()\n"
        "    except BaseException: raise ImportError('PyCapsule_Import could not import module') from None\n"
        "app.main = interrupted\n"
        "from tsq_cli.__main__ import main\n"
        "main()"
    )
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (130, "tsq: interrupted\n")
