"""Runs that are killed, interrupted, starved of disk or doubled: nothing half written stays, and the next run ends it.

The run under attack selects frames of a folder of small copies, three of them broken, and writes every kind of file.
"""

from __future__ import annotations

import csv
import json
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from tests.attack.clips import SOURCES, make
from tests.attack.running import UNIFORM, Outcome, Report, Tell, command, environment, run, scratch, wrong
from tests.processes import Process, start

NUM_BROKEN = 3
_FILES = ("--jsonl", "out.jsonl", "--csv", "out.csv", "--html", "out.html", "-o", "frames")


class Folder:
    """A folder of videos, and what a run over it writes beside it.

    Args:
        place: an empty folder.
        num_videos: copies of three clips, NUM_BROKEN of them broken.
    """

    def __init__(self, place: Path, num_videos: int) -> None:
        self.place = place
        self.videos = place / "videos"
        self.videos.mkdir()
        clips = list(make(place, SOURCES[:3]).items())
        for number in range(num_videos):
            name, content = clips[number % len(clips)]
            (self.videos / f"{number:03d}-{name}").write_bytes(content)
        broken = sorted(self.videos.iterdir())[:: max(1, num_videos // NUM_BROKEN)][:NUM_BROKEN]
        for path, content in zip(broken, (b"", b"no video\n", clips[0][1][:200]), strict=True):
            path.write_bytes(content)
        self.names = sorted(str(path.relative_to(place)) for path in self.videos.iterdir())
        for name, _ in clips:
            (place / name).unlink()

    arguments = ("select", "videos", *UNIFORM, *_FILES)

    def finish(self) -> Outcome:
        """A run that nobody disturbs."""
        return run(*self.arguments, cwd=self.place, memory_bytes=None, timeout=300)

    def clear(self) -> None:
        """Remove all that runs wrote."""
        shutil.rmtree(self.place / "frames", ignore_errors=True)
        for path in self.place.glob("*out.*"):
            path.unlink()

    def num_lines(self) -> int:
        """Of the record file so far."""
        path = self.place / "out.jsonl"
        return path.read_bytes().count(b"\n") if path.exists() else 0

    def halves(self) -> list[str]:
        """What is half written under a final name: a run may have been killed at any moment."""
        found = [f"half a picture: {path.name}" for path in self._pictures() if not _is_whole(path)]
        lines = (self.place / "out.jsonl").read_bytes().splitlines(keepends=True) if self.num_lines() else []
        for number, line in enumerate(lines):
            if not _is_json(line) and not (number == len(lines) - 1 and not line.endswith(b"\n")):
                found.append(f"line {number + 1} of {len(lines)} is half a record")
        page = self.place / "out.html"
        if page.exists() and not page.read_text(encoding="utf-8").rstrip().endswith("</html>"):
            found.append("half a page")
        table = self.place / "out.csv"
        if table.exists() and not table.read_bytes().endswith(b"\n"):
            found.append("half a table")
        return found

    def flaws(self, outcome: Outcome) -> list[str]:
        """What is not as it must be after a run that came to its end."""
        found = wrong(outcome, 1, f"{NUM_BROKEN} failed", lines=None) + self.halves()
        records = [json.loads(line) for line in (self.place / "out.jsonl").read_text().splitlines()]
        if sorted(record["video"]["path"] for record in records) != self.names:
            found.append(f"{len(records)} lines for {len(self.names)} videos")
        if sum(record["status"] == "error" for record in records) != NUM_BROKEN:
            found.append("another number of failed videos in the record file")
        named = {frame["path"] for record in records for frame in record["frames"]}
        there = {str(path.relative_to(self.place)) for path in self._pictures()}
        if named != there:
            found.append(f"{len(named - there)} named pictures are missing, {len(there - named)} are named nowhere")
        with (self.place / "out.csv").open(newline="", encoding="utf-8") as stream:
            rows = [row["path"] for row in csv.DictReader(stream)]
        if len(rows) != 2 * (len(self.names) - NUM_BROKEN) + NUM_BROKEN or set(rows) != set(self.names):
            found.append(f"{len(rows)} rows in the table")
        page = (self.place / "out.html").read_text(encoding="utf-8")
        found += [f"{name} is not on the page" for name in self.names if Path(name).name not in page][:1]
        return found + [f"left behind: {path}" for path in self.leftovers()]

    def leftovers(self) -> list[str]:
        """Hidden files: temporary ones, locks, journals."""
        return [str(path.relative_to(self.place)) for path in self.place.rglob(".*")]

    def _pictures(self) -> list[Path]:
        return [path for path in (self.place / "frames").glob("[!.]*") if path.is_file()]


def _is_whole(path: Path) -> bool:
    try:
        with Image.open(path) as picture:
            picture.verify()
        with Image.open(path) as picture:
            picture.load()
    except (OSError, SyntaxError, ValueError):
        return False
    return True


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True


# kill -9


def kill_at_random(*, seed: int, kills: int, num_videos: int = 150, tell: Tell = print) -> Report:
    """Kill runs, look at what they left, and start them again; whenever one ends, look closely and begin anew.

    A kill comes at a random time from the start, or a few videos on, or when all videos are done and files are put in
    their places.
    """
    chance = random.Random(f"kills:{seed}")
    wrongs: list[str] = []
    made = finished = 0
    most_leftovers = 0
    with scratch() as place:
        folder = Folder(place, num_videos)
        while made < kills:
            moment = chance.choice(("early", "on the way", "on the way", "at the end"))
            outcome = _killed(folder, moment, chance)
            if outcome is None:
                made += 1
                most_leftovers = max(most_leftovers, len(folder.leftovers()))
                wrongs += [f"kill {made} ({moment}): {flaw}" for flaw in folder.halves()]
            else:
                finished += 1
                wrongs += [f"run {finished} to its end, after kill {made}: {flaw}" for flaw in folder.flaws(outcome)]
                folder.clear()
            if made % 10 == 0:
                tell(f"kills: {made} of {kills}, {finished} runs to their end, {len(wrongs)} wrong")
        finished += 1
        wrongs += [f"last run: {flaw}" for flaw in folder.flaws(folder.finish())]
    return {
        "kills": made,
        "videos": num_videos,
        "runs_to_their_end": finished,
        "most_hidden_files_after_a_kill": most_leftovers,
        "wrong": wrongs,
    }


def _killed(folder: Folder, moment: str, chance: random.Random) -> Outcome | None:
    """A run that is killed at a moment; its outcome where it came to its end before."""
    before = folder.num_lines()
    to_go = len(folder.names) - before
    wait_for = {"early": 0, "on the way": chance.randint(1, 40), "at the end": to_go}[moment]
    delay = chance.uniform(0, 1.2 if moment == "early" else 0.05 if moment == "on the way" else 0.4)

    def kill(process: Process) -> None:
        until = time.monotonic() + 120
        while wait_for and folder.num_lines() < before + wait_for and time.monotonic() < until:
            if process.poll() is not None:
                return
            time.sleep(0.002)
        time.sleep(delay)
        process.kill()

    outcome = run(*folder.arguments, cwd=folder.place, memory_bytes=None, while_running=kill)
    return None if outcome.code == -signal.SIGKILL else outcome


# Other ends


def signals(*, seed: int, count: int, num_videos: int = 150, tell: Tell = print) -> Report:
    """Interrupt, terminate, hang up: exit 130 in order, from the first moment on at which Python can be asked."""
    chance = random.Random(f"signals:{seed}")
    wrongs: list[str] = []
    codes: dict[str, int] = {}
    with scratch() as place:
        folder = Folder(place, num_videos)
        for number in range(count):
            sent = chance.choice((signal.SIGINT, signal.SIGTERM, signal.SIGHUP))
            delay = chance.uniform(0, 0.3) if number % 2 else chance.uniform(0.3, 3.0)

            under_way: list[bool] = []

            def send(process: Process, sent: int = sent, delay: float = delay, seen: list[bool] = under_way) -> None:
                time.sleep(delay)
                seen.append((place / ".out.jsonl.running").exists())
                process.send_signal(sent)

            outcome = run(*folder.arguments, cwd=place, memory_bytes=None, while_running=send, afresh=True)
            codes[str(outcome.code)] = codes.get(str(outcome.code), 0) + 1
            # Before Python has begun to run the program, a signal kills it as the system has it, with no word.
            allowed = (130, 1) if under_way == [True] else (130, 1, -sent)
            if outcome.code not in allowed or ("Traceback" in outcome.err and "tsq_cli" in outcome.err):
                wrongs.append(f"{sent.name} after {delay:.2f} s: {outcome.code}: {outcome.err[-600:]!r}")
            if outcome.code == 130 and "tsq: interrupted" not in outcome.err:
                wrongs.append(f"{sent.name} after {delay:.2f} s: {outcome.err!r}")
            wrongs += [f"{sent.name} after {delay:.2f} s: {flaw}" for flaw in folder.halves()]
            if outcome.code in (130, 1):
                wrongs += [f"{sent.name} after {delay:.2f} s left {name}" for name in folder.leftovers()]
            if outcome.code == 1:
                folder.clear()
        wrongs += [f"after signals: {flaw}" for flaw in folder.flaws(folder.finish())]
    tell(f"signals: {count}, ends {codes}, {len(wrongs)} wrong")
    return {"signals": count, "exit_codes": dict(sorted(codes.items())), "wrong": wrongs}


def two_at_once(*, num_videos: int = 150, tell: Tell = print) -> Report:
    """A second run on one record file is refused; two runs on one folder of pictures share it without a loss."""
    wrongs: list[str] = []
    with scratch() as place:
        folder = Folder(place, num_videos)

        def second(process: Process) -> None:
            until = time.monotonic() + 60
            while not folder.num_lines() and time.monotonic() < until:
                time.sleep(0.002)
            process.send_signal(signal.SIGSTOP)  # so that it is still there
            try:
                other = run("select", "videos", *UNIFORM, "--jsonl", "out.jsonl", cwd=place, memory_bytes=None)
            finally:
                process.send_signal(signal.SIGCONT)
            wrongs.extend(wrong(other, 2, "another run is writing to out.jsonl"))

        wrongs += folder.flaws(run(*folder.arguments, cwd=place, memory_bytes=None, while_running=second))
        folder.clear()

        # Other names of the same videos: names of pictures that both runs would choose.
        shutil.copytree(folder.videos, place / "others")
        theirs = ("select", "others", *UNIFORM, "--jsonl", "other.jsonl", "-o", "frames")
        with start(command(*theirs), cwd=place, env=environment()) as process:
            outcome = folder.finish()
            if process.wait(300) != 1:
                wrongs.append(f"the other of two runs on one folder: exit {process.returncode}")
        wrongs += wrong(outcome, 1, lines=None)
        named: list[str] = []
        for name in ("out.jsonl", "other.jsonl"):
            records = [json.loads(line) for line in (place / name).read_text().splitlines()]
            if sum(record["status"] == "error" for record in records) != NUM_BROKEN:
                wrongs.append(f"two runs on one folder: other failures in {name}")
            named += [frame["path"] for record in records for frame in record["frames"]]
        if len(set(named)) != len(named) or not all(_is_whole(place / name) for name in named):
            wrongs.append("two runs on one folder: a picture is missing, broken or named by both")
    tell(f"two at once: {len(wrongs)} wrong")
    return {"runs": 4, "wrong": wrongs}


def full_disk(*, num_videos: int = 60, tell: Tell = print) -> Report:
    """No space left: no half file under a final name, and with space again the next run ends it."""
    wrongs: list[str] = []
    runs = 0
    with scratch() as place:
        mounted, size_kb = place / "disk", 0
        mounted.mkdir()
        folder = Folder(place, num_videos)
        content = sum(path.stat().st_size for path in folder.videos.iterdir()) // 1024
        if not _mount(mounted, 4 * content + 8192):
            tell("full disk: SKIPPED: a small file system cannot be mounted here (needs root)")
            return {"skipped": "needs root, to mount a small file system", "wrong": []}
        try:
            inner = Folder.__new__(Folder)
            inner.__dict__.update(folder.__dict__)
            inner.place, inner.videos = mounted, mounted / "videos"
            shutil.copytree(folder.videos, inner.videos)
            free = shutil.disk_usage(mounted).free // 1024
            filler = mounted / "filler"
            for left_kb in (0, 4, 16, 64, 200, 400):
                size_kb = free - left_kb
                filler.write_bytes(bytes(size_kb * 1024))
                outcome = inner.finish()
                runs += 1
                if outcome.code not in (1, 2) or "Traceback" in outcome.err:
                    wrongs.append(f"{left_kb} kB free: exit {outcome.code}: {outcome.err[-600:]!r}")
                wrongs += [f"{left_kb} kB free: {flaw}" for flaw in inner.halves()]
                wrongs += [f"{left_kb} kB free: left {name}" for name in inner.leftovers()]
                filler.unlink()
                free = shutil.disk_usage(mounted).free // 1024
            wrongs += [f"with space again: {flaw}" for flaw in inner.flaws(inner.finish())]
        finally:
            subprocess.run(["umount", "-l", str(mounted)], check=False)
    tell(f"full disk: {runs} runs, {len(wrongs)} wrong")
    return {"runs": runs, "wrong": wrongs}


def _mount(folder: Path, size_kb: int) -> bool:
    made = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size_kb}k", "tmpfs", str(folder)], check=False, capture_output=True
    )
    return bool(made) and made.returncode == 0


_POISON = """
import os, signal, sys
from pathlib import Path
from tsq_cli import loading
real = loading.load_clip
def load(path, *args, **options):
    if "poison" in Path(path).name:
        os.kill(os.getpid(), signal.SIGSEGV)
    return real(path, *args, **options)
loading.load_clip = load
from tsq_cli.__main__ import main
main()
"""


def poison(*, num_videos: int = 30, tell: Tell = print) -> Report:
    """A video that crashes the process: the run after names it, records it as failed and does the others."""
    wrongs: list[str] = []
    with scratch() as place:
        folder = Folder(place, num_videos)
        sound = folder.videos / Path(folder.names[1]).name
        sound.rename(folder.videos / f"poison{sound.suffix}")
        starts: Callable[[], Outcome] = lambda: run(  # noqa: E731
            *folder.arguments, cwd=place, memory_bytes=None, prefix=("-c", _POISON)
        )
        if (first := starts()).code != -signal.SIGSEGV:
            wrongs.append(f"the crash: exit {first.code}")
        wrongs += [f"after the crash: {flaw}" for flaw in folder.halves()]
        for _ in range(2):
            wrongs += wrong(starts(), 1, "killed an earlier run while it was read", lines=None)
            records = [json.loads(line) for line in (place / "out.jsonl").read_text().splitlines()]
            failed = [Path(record["video"]["path"]).name for record in records if record["status"] == "error"]
            if len(records) != num_videos or len(failed) != NUM_BROKEN + 1 or f"poison{sound.suffix}" not in failed:
                wrongs.append(f"{len(records)} records, failed: {failed}")
            wrongs += [f"left behind: {name}" for name in folder.leftovers()]
    tell(f"poison: {len(wrongs)} wrong")
    return {"runs": 3, "wrong": wrongs}
