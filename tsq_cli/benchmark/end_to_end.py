"""Room 4: whole files, from path to record: what a user of `tsq classify` waits for, and which stage limits it."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tsq_cli.batch import Outputs, RunPlan, run
from tsq_cli.benchmark.runners import Setting
from tsq_cli.config import ClassifySettings, SelectSettings
from tsq_cli.errors import InputNotFoundError
from tsq_cli.models import Recognizer, create_encoder
from tsq_cli.packs import RecognizerChoice, load_pack
from tsq_cli.packs.load import Pack, ready_to_run
from tsq_cli.packs.recognizers import LoadedRecognizer
from tsq_cli.pipeline import Classifier, Selector
from tsq_cli.preprocess import Preprocessor


def random_recognizer(name: str, pack: Pack) -> LoadedRecognizer:
    """A recogniser of random weights for a loaded pack's classes: costs what the real one costs."""
    encoder = create_encoder(name, num_classes=len(pack.class_names))
    return LoadedRecognizer(
        choice=RecognizerChoice(
            requested=name, name=name, source="timm", reason="random weights", role=None, pack_sha256=pack.config.sha256
        ),
        recognizer=Recognizer(ready_to_run(encoder, pack.device, pack.dtype)),
        preprocessor=Preprocessor.from_dict(encoder.pretrained_cfg),
        class_names=pack.class_names,
    )


def time_files(
    paths: Sequence[Path],
    setting: Setting,
    *,
    workers: int,
    batch_size: int = 1,
    rounds: int = 3,
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Classify files as `tsq classify` does, with everything loaded and warm.

    Args:
        paths: videos.
        setting: of the benchmark; networks have random weights.
        workers: videos decoded at once.
        batch_size: videos scored together.
        rounds: passes over all files.
        progress: told what is being done.

    Returns:
        A JSON object: videos, failed, workers, rounds, seconds of each round, videos_per_second (median) and the
        stages' mean seconds a video.

    Raises:
        InputNotFoundError: a path that is not there.
    """
    for path in paths:
        if not path.exists():
            raise InputNotFoundError(f"{path} does not exist", wanted="a video file", fix="correct the path")
    pack = load_pack(setting.pack, device=setting.device, dtype=setting.dtype, random_weights=True)
    classifier = Classifier(
        Selector(pack), random_recognizer(setting.recognizer, pack), ClassifySettings(num_predictions=1)
    )
    plan = RunPlan(
        paths=[str(path) for path in paths],
        settings=SelectSettings(num_frames=setting.num_frames),
        outputs=Outputs(),
        pack_sha256=None,
        workers=workers,
        batch_size=batch_size,
    )
    seconds: list[float] = []
    stages: Counter[str] = Counter()
    failed = 0
    for number in range(rounds + 1):  # the first is a warm-up
        progress(f"files, round {number} of {rounds}")
        started = time.perf_counter()
        records = list(run(plan, lambda: classifier))
        if number == 0:
            failed = sum(record["status"] == "error" for record in records)
            continue
        seconds.append(time.perf_counter() - started)
        for record in records:
            stages.update(record["timings_seconds"])
    stages.pop("total", None)
    return {
        "videos": len(paths),
        "failed": failed,
        "workers": workers,
        "batch_size": batch_size,
        "rounds": rounds,
        "seconds": seconds,
        "videos_per_second": len(paths) / statistics.median(seconds),
        "stages": {name: total / (rounds * len(paths)) for name, total in stages.items()},
    }
