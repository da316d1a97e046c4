"""A run that dies leaves the names of the videos it was reading, and of the signal that ended it."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.machine import needs_signals
from tsq_cli.journal import Death, Journal

DIES = """
import os, signal, sys
from pathlib import Path
from tsq_cli.journal import Journal
with Journal(Path(sys.argv[1])) as journal:
    with journal.reading("fine.mp4"):
        pass
    with journal.reading("slow.mp4"), journal.reading("odd \\udcff\\n.mp4"):
        os.kill(os.getpid(), getattr(signal, sys.argv[2]))
"""


def death(path: Path) -> Death | None:
    with Journal(path) as journal:
        return journal.death


@needs_signals
@pytest.mark.parametrize(
    ("name", "said"),
    [("SIGKILL", None), ("SIGSEGV", "Segmentation fault"), ("SIGABRT", "Aborted"), ("SIGBUS", "Bus error")],
)
def test_the_next_run_knows_what_was_being_read_and_the_signal(tmp_path: Path, name: str, said: str | None) -> None:
    path = tmp_path / "journal"
    died = subprocess.run([sys.executable, "-c", DIES, str(path), name], capture_output=True, check=False)
    assert died.returncode < 0
    assert path.exists()
    assert death(path) == Death(("slow.mp4", "odd \udcff\n.mp4"), said)
    assert os.listdir(tmp_path) == []


def test_a_run_that_ends_leaves_nothing(tmp_path: Path) -> None:
    def stop() -> None:
        with Journal(tmp_path / "journal") as journal, journal.reading("a.mp4"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stop()
    assert os.listdir(tmp_path) == []


def test_a_death_is_kept_until_it_is_on_record(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    content = json.dumps(["begin", "a.mp4"]) + "\n"
    path.write_text(content)
    with Journal(path) as journal:
        assert journal.death == Death(("a.mp4",), None)
        assert path.read_text() == content
        journal.clear()
        assert path.read_text() == ""


@pytest.mark.parametrize("content", ["", "no journal\n", "3\n[1]\n[[]]\n", '["begin", "a"]\n["end", "a"]\n'])
def test_what_tells_of_no_reading_is_no_death(tmp_path: Path, content: str) -> None:
    path = tmp_path / "journal"
    path.write_text(content)
    assert death(path) is None


def test_it_stays_small_and_right_with_many_threads(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with Journal(path) as journal, journal.reading("the whole time.mp4"):

        def read_many(number: int) -> None:
            for i in range(1000):
                with journal.reading(f"{number}-{i}.mp4"):
                    pass

        threads = [threading.Thread(target=read_many, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        content = path.read_bytes()
    assert len(content) < 2 * 2**16
    path.write_bytes(content)
    assert death(path) == Death(("the whole time.mp4",), None)
