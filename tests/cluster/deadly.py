"""Workers that some videos kill, for runs on a cluster."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from tsq_cli.batch import RunPlan, Worker
from tsq_cli.clip import Clip
from tsq_cli.config import SelectSettings
from tsq_cli.pictures import Outputs
from tsq_cli.pipeline import Selector
from tsq_cli.record import Record

DEMO = Path(__file__).parents[2] / "examples" / "demo.mp4"
SETTINGS = SelectSettings(num_frames=2, num_candidates=2, selector="uniform")


def copies(folder: Path, *names: str) -> list[str]:
    """Copy the demo under several names."""
    return [str(shutil.copy(DEMO, folder / f"{name}.mp4")) for name in names]


class Deadly:
    """A worker that writes down what it processes, and is killed by some videos: each time, or only the first time."""

    def __init__(self, log: Path) -> None:
        self._real = Selector.without_model()
        self._log = log

    def process_clips(
        self, clips: Sequence[Clip], settings: SelectSettings, *, settings_hash: str | None = None
    ) -> list[Record]:
        for clip in clips:
            name = Path(clip.source.info.path).name
            with self._log.open("a", errors="surrogateescape") as log:
                log.write(f"{name}\n")
            if "poison" in name or ("once" in name and self._log.read_text(errors="surrogateescape").count(name) == 1):
                os.kill(os.getpid(), signal.SIGKILL)
        return self._real.process_clips(clips, settings, settings_hash=settings_hash)

    def prefetch(self, clips: Sequence[Clip], settings: SelectSettings) -> None:
        self._real.prefetch(clips, settings)


class Slow(Deadly):
    """The same, a second for each video."""

    def process_clips(
        self, clips: Sequence[Clip], settings: SelectSettings, *, settings_hash: str | None = None
    ) -> list[Record]:
        time.sleep(len(clips))
        return super().process_clips(clips, settings, settings_hash=settings_hash)


def deadly(log: Path, kind: type[Deadly] = Deadly) -> tuple[RunPlan, Callable[[], Worker]]:
    return RunPlan(paths=(), settings=SETTINGS, outputs=Outputs(), pack_sha256=None), partial(kind, log)
