"""Things that must not be destroyed, given to every output option of every command.

A device, a symlink, a FIFO and a private file are written and stay what they are; an input, a folder and a socket are
refused with one line before any work. What is meant to become a folder takes none of them.
"""

from __future__ import annotations

import os
import shutil
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.attack.running import UNIFORM, Outcome, Report, Tell, run, run_inside, scratch, wrong
from tests.packs.making import NAMES
from tests.studies.videos import write_study

Run = Callable[[list[str]], Outcome]

WRITTEN = ("device", "link", "pipe", "private")
REFUSED = ("input", "folder", "socket")


@dataclass(frozen=True, kw_only=True)
class Command:
    """A command and its options that name outputs: files and folders; `video` is one of its inputs."""

    arguments: tuple[str | Path, ...]
    files: tuple[str, ...]
    folders: tuple[str, ...] = ()
    video: Path

    @property
    def name(self) -> str:
        """As the user calls it."""
        return str(self.arguments[0])


def commands(place: Path) -> list[Command]:
    """Every command that writes, over fifteen tiny clips of five classes and a pack of random weights."""
    write_study(place)
    train, val = (next((place / "videos").glob(f"{part}-*")) for part in ("train", "val"))
    kinds = zip(sorted((place / "videos").glob("val-*")), NAMES, strict=False)
    (place / "named.txt").write_text("".join(f"{path.name} {name}\n" for path, name in kinds))
    root = ("--root", place / "videos")
    lists = ("--train", place / "train.txt", "--val", place / "val.txt", *root)
    small = ("--pack", place / "small")
    embedded = (*small, "--recognizer", "embedded")
    cache = ("--cache", place / "cache")
    videos = ("--csv", "--html", "--jsonl", "--sheet")
    return [
        Command(arguments=("select", val, *UNIFORM), files=videos, folders=("-o",), video=val),
        Command(arguments=("classify", val, *UNIFORM, *embedded), files=videos, folders=("-o", "--maps"), video=val),
        Command(
            arguments=("evaluate", place / "named.txt", *root, *embedded, *cache, "--resamples", "10", "-k", "1",
                       "--selectors", "tsq,uniform"),
            files=("--report", "--markdown", "--plot"), folders=("--sheets",), video=val,
        ),
        Command(
            arguments=("ablate", "layers-heads", *lists, *embedded, *cache, "--epochs", "1", "--seeds", "1"),
            files=("--report", "--markdown"), video=val,
        ),
        Command(
            arguments=("tsne", "--train", place / "train.txt", *root, *small, *cache, "--epochs", "1"),
            files=("--plot", "--html", "--report"), video=train,
        ),
        Command(
            arguments=("benchmark", "--decode", val, "--repeats", "1", "--tuned-only", *small, "-b", "1",
                       "--methods", "tsqnet", "--recognizer", "resnet18"),
            files=("--plot",), video=val,
        ),
        Command(
            arguments=("train", place / "train.txt", *root, *small, "--epochs", "1"),
            files=("--report",), folders=("--out", "--cache"), video=train,
        ),
    ]  # fmt: skip


class Thing:
    """Something precious with a picture's name, and what it was before a run.

    Args:
        kind: of WRITTEN or REFUSED.
        place: an empty folder.
        video: that becomes the input.
    """

    def __init__(self, kind: str, place: Path, video: Path) -> None:
        self.kind = kind
        self.path = place / "thing.png"
        self._real = place / "real.png"
        self._read: list[bytes] = []
        if kind == "device":
            os.mknod(self.path, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        elif kind == "link":
            self._real.touch()
            self.path.symlink_to(self._real.name)
        elif kind == "pipe":
            os.mkfifo(self.path)
        elif kind == "private":
            self.path.touch()
            self.path.chmod(0o600)
        elif kind == "input":
            os.link(video, self.path)
        elif kind == "folder":
            self.path.mkdir()
        elif kind == "socket":
            with socket.socket(socket.AF_UNIX) as made, _inside(place):  # a socket's path is short
                made.bind(self.path.name)
        self._before = self._look()

    def _look(self) -> tuple[object, ...]:
        found = self.path.lstat()
        link = self.path.readlink() if self.path.is_symlink() else None
        content = self.path.read_bytes() if self.kind == "input" else None
        return stat.S_IFMT(found.st_mode), stat.S_IMODE(found.st_mode), found.st_rdev, link, content

    @contextmanager
    def read(self) -> Iterator[None]:
        """Read what comes out of a pipe while the block runs."""
        if self.kind != "pipe":
            yield
            return
        # A daemon: where the pipe was replaced by a file, nobody can ever open its other end.
        thread = threading.Thread(target=lambda: self._read.append(self.path.read_bytes()), daemon=True)
        thread.start()
        try:
            yield
        finally:
            handle = os.open(self.path, os.O_RDWR | os.O_NONBLOCK)  # so that who waits for a writer waits no longer
            os.close(handle)
            thread.join(10)

    def damage(self, *, is_written: bool) -> list[str]:
        """What a run did to it that it must not, or did not do."""
        found = [] if self._look() == self._before else [f"was {self._before}, is {self._look()}"]
        if is_written:
            size = {
                "device": lambda: 1,
                "link": lambda: self._real.stat().st_size,
                "pipe": lambda: len(b"".join(self._read)),
                "private": lambda: self.path.stat().st_size,
            }[self.kind]()
            found += [] if size else ["nothing was written"]
        elif self.kind == "folder" and list(self.path.iterdir()):
            found.append("something is in the folder")
        return found


@contextmanager
def _inside(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def refusals(command: Command, place: Path, start: Run) -> tuple[int, list[str]]:
    """Give what must be refused to each option: number of runs, and what was wrong."""
    wrongs, runs = [], 0
    for option in (*command.files, *command.folders):
        is_folder = option in command.folders
        for kind in (*WRITTEN, "input", "socket") if is_folder else REFUSED:
            if kind == "device" and os.geteuid() != 0:
                continue
            with scratch(place) as empty:
                thing = Thing(kind, empty, command.video)
                outcome = start([*map(str, command.arguments), option, str(thing.path)])
                found = wrong(outcome, 2) + thing.damage(is_written=False)
                found += [f"left {path.name}" for path in empty.iterdir() if path.name not in ("thing.png", "real.png")]
            wrongs += [f"{command.name} {option} with the {kind}: {what}" for what in found]
            runs += 1
    return runs, wrongs


def writings(command: Command, place: Path, start: Run) -> tuple[int, list[str]]:
    """Give each option each thing that may be written, all options of a run another: number of runs, what was wrong."""
    wrongs, runs = [], 0
    kinds = WRITTEN if os.geteuid() == 0 else WRITTEN[1:]
    for turn in range(len(kinds) if command.files else 0):
        with scratch(place) as empty:
            things = {}
            for number, option in enumerate(command.files):
                folder = empty / str(number)
                folder.mkdir()
                things[option] = Thing(kinds[(number + turn) % len(kinds)], folder, command.video)
            arguments = [*map(str, command.arguments)]
            for option, thing in things.items():
                arguments += [option, str(thing.path)]
            outcome = _read_all(list(things.values()), lambda arguments=arguments: start(arguments))
            wrongs += [f"{command.name}: {what}" for what in wrong(outcome, 0, lines=None)]
            for option, thing in things.items():
                found = thing.damage(is_written=outcome.code == 0)
                wrongs += [f"{command.name} {option} with the {thing.kind}: {what}" for what in found]
            wrongs += [f"{command.name} left {path.name}" for path in empty.rglob(".*")]
        runs += 1
    return runs, wrongs


def _read_all(things: list[Thing], then: Callable[[], Outcome]) -> Outcome:
    if not things:
        return then()
    with things[0].read():
        return _read_all(things[1:], then)


def attack(*, tell: Tell = print) -> Report:
    """All commands. Each run is a process of its own, but for refusals by commands that load much: these share one."""
    wrongs: list[str] = []
    pairs = runs = 0
    with scratch() as place:

        def start(arguments: list[str]) -> Outcome:
            return run(*arguments, cwd=place, memory_bytes=None, timeout=300)

        for command in commands(place):
            is_light = command.name in ("select", "classify")
            for part, how in ((refusals, start if is_light else run_inside), (writings, start)):
                made, found = part(command, place, how)
                runs += made
                wrongs += found
            pairs += len(command.files) * (len(WRITTEN) + len(REFUSED)) + len(command.folders) * (len(WRITTEN) + 2)
            tell(f"outputs: {command.name}: {runs} runs, {len(wrongs)} wrong")
            shutil.rmtree(place / "trained", ignore_errors=True)
    return {"options_times_things": pairs, "runs": runs, "as_root": os.geteuid() == 0, "wrong": wrongs}
