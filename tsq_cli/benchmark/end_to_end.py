"""Whole files, from path to record: what a user of `tsq classify` waits for, and which stage limits it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from tsq_cli.batch import RunPlan, run
from tsq_cli.benchmark.measure import in_turns, process_mib
from tsq_cli.benchmark.rounds import DEFAULT_MINUTES, Say, Treatment
from tsq_cli.benchmark.runners import BenchmarkConfig, random_pack, recognizer_network
from tsq_cli.benchmark.speed import TREATMENTS, speed_table
from tsq_cli.classifier import Classifier
from tsq_cli.config import PAPER, ClassifySettings
from tsq_cli.errors import InputNotFoundError, UsageError, VideoError
from tsq_cli.models import Recognizer
from tsq_cli.networks import enable_cuda_graphs
from tsq_cli.packs import RecognizerChoice, find_pack
from tsq_cli.packs.load import Pack, optimize_for_inference, optimize_pack
from tsq_cli.packs.recognizers import LoadedRecognizer
from tsq_cli.pictures import Outputs
from tsq_cli.pipeline import Selector
from tsq_cli.types import Progress, no_progress
from tsq_cli.video import open_video


def random_recognizer(name: str, pack: Pack, *, input_size: int | None = None) -> LoadedRecognizer:
    """A recognizer of random weights for a loaded pack's classes: costs what the real one costs.

    Args, Raises:
        as recognizer_network.
    """
    encoder, preprocessor = recognizer_network(name, len(pack.class_names), input_size)
    return LoadedRecognizer(
        choice=RecognizerChoice(
            requested=name, name=name, source="timm", reason="random weights", role=None, pack_sha256=pack.config.sha256
        ),
        recognizer=Recognizer(optimize_for_inference(encoder, pack.device, pack.dtype)),
        preprocessor=preprocessor,
        class_names=pack.class_names,
    )


def check_files(paths: Sequence[Path]) -> None:
    """Refuse paths that are not there, and files of which none is a video, before anything is measured.

    Raises:
        InputNotFoundError: the first path that is not there.
        VideoError: what is wrong with the last file, where none opens.
    """
    for path in paths:
        if not path.exists():
            raise InputNotFoundError(f"{path} does not exist", wanted="a video file", fix="correct the path")
    for number, path in enumerate(paths, start=1):
        try:
            open_video(path).close()
        except VideoError:
            if number == len(paths):
                raise
        else:
            return


def time_files(
    paths: Sequence[Path],
    setting: BenchmarkConfig,
    *,
    workers: Sequence[int],
    batch_size: int = 1,
    rounds: int = 3,
    progress: Progress = no_progress,
) -> dict[str, Any]:
    """Classify files as `tsq classify` does, with everything loaded and warm, with several numbers of workers in turns.

    Args:
        paths: videos.
        setting: of the benchmark; networks have random weights.
        workers: numbers of videos decoded at once to try.
        batch_size: videos scored together.
        rounds: passes over all files with each number.
        progress: told what is being done, and how far it is.

    Returns:
        A JSON object: videos, failed, rounds, batch_size, and for each number of workers the seconds of each round,
        videos_per_second (median), the stages' mean seconds a video, and the memory held after its last round (None
        where the system does not tell).

    Raises:
        InputNotFoundError, VideoError: as check_files.
        UsageError: no file could be classified.
    """
    check_files(paths)
    pack = optimize_pack(random_pack(find_pack(setting.pack), setting.device), setting.dtype)
    says = ClassifySettings(num_predictions=1, pooling=setting.pooling)
    recognizer = random_recognizer(setting.recognizer, pack, input_size=setting.recognizer_input_size)
    enable_cuda_graphs(pack, recognizer)
    classifier = Classifier(Selector(pack), recognizer, says)
    stages: dict[int, Counter[str]] = {number: Counter() for number in workers}
    held: dict[int, float | None] = {}

    def once(number: int) -> int:
        failed = 0
        records = run(_plan(paths, setting, workers=number, batch_size=batch_size), lambda: classifier)
        for i, record in enumerate(records, start=1):
            progress(f"files, {number} at once", i, len(paths))
            failed += record["status"] == "error"
            stages[number].update(record["timings_seconds"])
        held[number] = process_mib("VmRSS")
        return failed

    failed = once(workers[0])
    if failed == len(paths):
        raise UsageError(
            f"none of the {failed} files could be classified", wanted="videos", fix="see why with tsq classify FILE"
        )
    stages[workers[0]].clear()
    timings = in_turns({number: partial(once, number) for number in workers}, rounds)
    rows = [
        {
            "workers": number,
            "seconds": timing.seconds,
            "videos_per_second": len(paths) / timing.median,
            "memory_mib": held[number],
            "stages": {
                name: total / (rounds * (len(paths) - failed))
                for name, total in stages[number].items()
                if name != "total"
            },
        }
        for number, timing in timings.items()
    ]
    return {"videos": len(paths), "failed": failed, "rounds": rounds, "batch_size": batch_size, "workers": rows}


def run_benchmark(
    methods: Sequence[str],
    setting: BenchmarkConfig,
    *,
    batch_size: int,
    repeats: int,
    minutes: float = DEFAULT_MINUTES,
    treatments: Sequence[Treatment] = TREATMENTS,
    files: Sequence[Path] = (),
    workers: int = 1,
    progress: Progress = no_progress,
    say: Say = lambda _: None,
) -> dict[str, Any]:
    """Time methods against each other, and whole files if there are any: all that `tsq benchmark` reports.

    Args:
        methods, setting, batch_size, repeats, minutes, treatments: as for speed_table; files come on top.
        files: videos, timed with 1, 2, 4, ... workers as well.
        workers: the largest number of workers, at least 1.
        progress: told what is being done, and how far it is.
        say: told in lines how long it will take, and what is known already.

    Returns:
        The report of speed_table; with files, that of time_files as "files", and decoding among the stages.

    Raises:
        UsageError, InputNotFoundError, VideoError: as speed_table and time_files.
    """
    report = speed_table(
        methods,
        setting,
        batch_size=batch_size,
        repeats=repeats,
        minutes=minutes,
        treatments=treatments,
        progress=progress,
        say=say,
    )
    if files:
        tried = [2**i for i in range(workers.bit_length()) if 2**i < workers] + [workers]
        report["files"] = time_files(files, setting, workers=tried, progress=progress)
        if "stages" in report:
            report["stages"] = with_decoding(report["stages"], report["files"])
    return report


def with_decoding(stages: Mapping[str, Mapping[str, float]], files: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Put the decoding of files in front of a profile's stages.

    Args:
        stages: seconds by number of videos and stage, as speed_table gives them.
        files: as time_files gives them; what one decoder takes for a video of theirs counts.
    """
    alone = files["workers"][0]["stages"]
    decoding = sum(alone.get(name, 0.0) for name in ("probe", "decode"))
    return {videos: {"probe and decode": int(videos) * decoding, **of} for videos, of in stages.items()}


def _plan(paths: Sequence[Path], setting: BenchmarkConfig, *, workers: int, batch_size: int) -> RunPlan:
    return RunPlan(
        paths=[str(path) for path in paths],
        settings=replace(PAPER, num_frames=setting.num_frames),
        outputs=Outputs(),
        pack_sha256=None,
        workers=workers,
        batch_size=batch_size,
    )
