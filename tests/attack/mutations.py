"""Seeded damage to small clips: each must end in a record or in one line, never in a crash, a hang or a traceback.

Each damaged file goes through what every run does to a video (reader.py): open, sample, decode small, decode the
selected frames again at full size. That happens in child processes, so that a crash of FFmpeg is a count and no end.
"""

from __future__ import annotations

import json
import os
import random
import select
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

from tests.attack import lengths
from tests.attack.clips import SOURCES, make
from tests.attack.running import ROOT, Report, Tell, environment, scratch
from tests.processes import Process, start

HANG_SECONDS = 60.0
"""Without an answer for so long a child hangs: its own limit for a video is a quarter of it (reader.LIMITS)."""

_HEAD = 2000
_SIZES = (1, 4, 7, 16, 188, 1000, 4000)
_WORDS = (0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0x01000000, 0xFFFFFFFE)


def flip_bits(data: bytearray, chance: random.Random, container: str) -> None:
    """One to 64 bits anywhere."""
    for _ in range(chance.choice((1, 2, 8, 64))):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def flip_bits_in_an_end(data: bytearray, chance: random.Random, container: str) -> None:
    """Bits in the first or the last bytes, where counts, sizes and indices stand."""
    for _ in range(chance.choice((1, 2, 8, 32))):
        data[_in_an_end(data, chance)] ^= 1 << chance.randrange(8)


def overwrite_run(data: bytearray, chance: random.Random, container: str) -> None:
    """A run of zeros, ones or noise."""
    start, size = chance.randrange(len(data)), chance.choice(_SIZES)
    size = min(size, len(data) - start)
    data[start : start + size] = chance.choice((bytes(size), b"\xff" * size, chance.randbytes(size)))


def set_words(data: bytearray, chance: random.Random, container: str) -> None:
    """32-bit numbers in the first or the last bytes: the smallest, the largest, the sign bit."""
    for _ in range(chance.choice((1, 2, 8))):
        start = min(_in_an_end(data, chance), max(0, len(data) - 4))
        data[start : start + 4] = chance.choice(_WORDS).to_bytes(4, chance.choice(("big", "little")))


def cut_end(data: bytearray, chance: random.Random, container: str) -> None:
    """A download that stopped."""
    del data[chance.randrange(len(data)) :]


def cut_start(data: bytearray, chance: random.Random, container: str) -> None:
    """A recording joined late."""
    del data[: chance.randrange(min(len(data), chance.choice((16, 600, len(data)))))]


def remove_block(data: bytearray, chance: random.Random, container: str) -> None:
    """A piece is missing."""
    start = chance.randrange(len(data))
    del data[start : start + chance.choice(_SIZES)]


def duplicate_block(data: bytearray, chance: random.Random, container: str) -> None:
    """A piece is there twice."""
    start, at = chance.randrange(len(data)), chance.randrange(len(data))
    data[at:at] = data[start : start + chance.choice(_SIZES)]


def swap_blocks(data: bytearray, chance: random.Random, container: str) -> None:
    """Two pieces have changed places."""
    size = min(chance.choice(_SIZES), len(data) // 2)
    first = chance.randrange(len(data) - 2 * size + 1)
    second = chance.randrange(first + size, len(data) - size + 1)
    data[first : first + size], data[second : second + size] = (
        data[second : second + size],
        data[first : first + size],
    )


def zero_header(data: bytearray, chance: random.Random, container: str) -> None:
    """The file begins with nothing."""
    size = min(chance.choice((4, 8, 16, 64, 512)), len(data))
    data[:size] = bytes(size)


def set_lengths(data: bytearray, chance: random.Random, container: str) -> None:
    """One to four parts claim a wrong length: none, all, one more, one less, twice as much, far more than there is."""
    fields = lengths.find(bytes(data), container)
    for field in chance.sample(fields, min(len(fields), chance.choice((1, 1, 2, 4)))):
        length = field.read(data)
        wrong = (0, (1 << field.bits) - 1, 1 << (field.bits - 1), length + 1, length - 1, 2 * length, len(data) * 1000)
        field.write(data, chance.choice(wrong))


MUTATIONS: tuple[Callable[[bytearray, random.Random, str], None], ...] = (
    flip_bits, flip_bits_in_an_end, overwrite_run, set_words, cut_end, cut_start, remove_block, duplicate_block,
    swap_blocks, zero_header, set_lengths, set_lengths,
)  # fmt: skip


def _in_an_end(data: bytearray, chance: random.Random) -> int:
    at = chance.randrange(min(_HEAD, len(data)))
    return at if chance.random() < 0.5 else len(data) - 1 - at


def mutant(clips: Mapping[str, bytes], seed: int, number: int) -> tuple[str, str, bytes]:
    """Name of the clip, what was done to it, and the damaged content; the same for the same seed and number."""
    chance = random.Random(f"{seed}:{number}")
    name = list(clips)[number % len(clips)]
    mutate = chance.choice(MUTATIONS)
    data = bytearray(clips[name])
    mutate(data, chance, name.rpartition(".")[2])
    return name, mutate.__name__, bytes(data)


class Reader:
    """A child process that reads files; it is started anew where it crashed or hung. Use as a context manager."""

    def __init__(self) -> None:
        self._process: Process | None = None
        self._questions: IO[str] | None = None
        self._answers: IO[str] | None = None

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *exception: object) -> None:
        self._end()

    def read(self, path: Path, *, timeout: float = HANG_SECONDS) -> dict[str, Any]:
        """The child's answer; outcome "crash" or "hang" where it gave none."""
        if self._process is None:
            self._start()
        assert self._questions is not None
        assert self._answers is not None
        print(json.dumps(str(path)), file=self._questions, flush=True)
        ready, _, _ = select.select([self._answers], [], [], timeout)
        answer = self._answers.readline() if ready else ""
        if answer:
            return dict(json.loads(answer))
        code = self._end()
        how = f"exit code {code}" if ready else f"no answer for {timeout:g} s"
        return {"outcome": "crash" if ready else "hang", "doubts": [how], "seconds": timeout, "peak_mb": 0.0}

    def _start(self) -> None:
        asked, questions = os.pipe()
        answers, answered = os.pipe()
        try:
            self._process = start(
                ["-m", "tests.attack.reader"], cwd=ROOT, env=environment(), stdin=asked, stdout=answered
            )
        finally:
            os.close(asked)
            os.close(answered)
        self._questions, self._answers = os.fdopen(questions, "w"), os.fdopen(answers)

    def _end(self) -> int | None:
        """Kill the child; its exit code where it had ended by itself."""
        if self._process is None:
            return None
        process, self._process = self._process, None
        assert self._questions is not None
        assert self._answers is not None
        try:
            self._questions.close()
            code: int | None = process.wait(5)
        except (subprocess.TimeoutExpired, OSError):
            process.kill()
            process.wait()
            code = None
        self._answers.close()
        return code


def attack(
    *, seed: int, count: int, workers: int = 2, keep: Path | None = None, tell: Tell = print, sources: int | None = None
) -> Report:
    """Damage clips and read them.

    Args:
        seed: of the damage.
        count: damaged files.
        workers: child processes at once.
        keep: where files go that ended in what must not be; nowhere by default.
        tell: takes a line now and then.
        sources: how many of the clips to start from; all by default.
    """
    tally: dict[str, Counter[str]] = {}
    wrong: list[str] = []
    slowest, peak = (0.0, ""), (0.0, "")
    lock = threading.Lock()
    with scratch() as folder:
        clips = make(folder, SOURCES[:sources])
        numbers = iter(range(count))

        def work() -> None:
            nonlocal slowest, peak
            with Reader() as reader:
                while True:
                    with lock:
                        number = next(numbers, None)
                    if number is None:
                        return
                    name, damage, data = mutant(clips, seed, number)
                    path = folder / f"{seed}-{number:05d}-{name}"
                    path.write_bytes(data)
                    answer = reader.read(path)
                    with lock:
                        what = f"{damage} {path.name}"
                        tally.setdefault(name.rpartition(".")[2], Counter())[answer["outcome"]] += 1
                        slowest = max(slowest, (answer["seconds"], what))
                        peak = max(peak, (answer["peak_mb"], what))
                        if answer["doubts"]:
                            wrong.append(f"{what}: {answer['outcome']}: {' '.join(answer['doubts'])}")
                        if number % 500 == 499:
                            tell(f"mutations: {number + 1} of {count}, {len(wrong)} wrong")
                    if answer["doubts"] and keep is not None:
                        keep.mkdir(parents=True, exist_ok=True)
                        (keep / path.name).write_bytes(data)
                    path.unlink()

        threads = [threading.Thread(target=work) for _ in range(workers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return _report(tally, wrong, slowest, peak, {name: len(data) for name, data in clips.items()})


def _report(
    tally: dict[str, Counter[str]],
    wrong: list[str],
    slowest: tuple[float, str],
    peak: tuple[float, str],
    clips: dict[str, int],
) -> Report:
    total = sum(tally.values(), Counter())
    return {
        "files": total.total(),
        "records": total["record"],
        "clean_errors": total.total() - sum(total[kind] for kind in ("record", "unexpected", "crash", "hang")),
        "unexpected": total["unexpected"],
        "crashes": total["crash"],
        "hangs": total["hang"],
        "by_container": {name: dict(sorted(counts.items())) for name, counts in sorted(tally.items())},
        "clips_bytes": clips,
        "slowest_seconds": round(slowest[0], 2),
        "slowest": slowest[1],
        "peak_memory_mb": round(peak[0]),
        "wrong": wrong,
    }
