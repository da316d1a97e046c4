"""Compare ONNX Runtime with torch in float32: ``python -m benchmarks.engines FOLDER... --json docs/engines.json``.

Every video of the folders is classified by both engines, warm and in turns: how many have the same frames, how far
saliency and predictions are apart, and what each engine takes. The memory is that of a process per engine.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from benchmarks.command import Measured, command_line, run_command
from benchmarks.processes import process_cost
from tsq_cli.arrays import Engine
from tsq_cli.classifier import Classifier
from tsq_cli.config import DEFAULT_PACK, ClassifySettings, SelectSettings
from tsq_cli.errors import UsageError, VideoError
from tsq_cli.provenance import provenance
from tsq_cli.record import Record

ENGINES: tuple[Engine, ...] = get_args(Engine)
SUFFIXES = {".avi", ".mkv", ".mov", ".mp4", ".webm"}
ROOT = Path(__file__).parents[1]
NETWORK_STAGES = ("preprocess", "encode", "tsq", "recognize")
"""Stages that an engine runs; decoding is the same for both."""


def find_videos(folders: Sequence[Path]) -> list[Path]:
    """List the videos of folders and below, each folder's in order of their names.

    Raises:
        UsageError: there is none.
    """
    found = [path for folder in folders for path in sorted(folder.rglob("*")) if path.suffix.lower() in SUFFIXES]
    if not found:
        raise UsageError(
            f"no video in {', '.join(map(str, folders))}",
            wanted=f"files that end in {', '.join(sorted(SUFFIXES))}",
            fix="correct the path",
        )
    return found


def differences(one: Record, other: Record) -> dict[str, Any]:
    """Compare two records of a video: the same frames, reasons and first class, and largest differences."""
    curves = ("score_visual", "score_textual")
    of_one, of_other = ({each.index: each.score for each in record.predictions or ()} for record in (one, other))
    alike = len(one.candidates) == len(other.candidates)
    apart = [abs(of_one[index] - of_other[index]) for index in of_one]
    frames = [[frame.candidate.frame_index for frame in record.frames] for record in (one, other)]
    reasons = [[frame.chosen_by for frame in record.frames] for record in (one, other)]
    return {
        "same_frames": frames[0] == frames[1],
        "same_reasons": reasons[0] == reasons[1],
        "same_first_class": next(iter(of_one), None) == next(iter(of_other), None),
        # None where the engines looked at other candidates
        "saliency": max(
            abs(getattr(a, curve) - getattr(b, curve))
            for a, b in zip(one.candidates, other.candidates, strict=True)
            for curve in curves
        )
        if alike
        else None,
        "predictions": max(apart) if frames[0] == frames[1] else None,
    }


def compare(videos: Sequence[Path], pack: str, seconds: float) -> dict[str, Any]:
    """Classify videos with both engines, the one first that was second before.

    Args:
        videos: paths.
        pack: name or folder.
        seconds: after these no further video is begun.

    Raises:
        UsageError: no video could be used.
        TsqError: a pack that cannot be used, or has no graphs.
    """
    settings = SelectSettings()
    loaded = {engine: _classifier(pack, engine) for engine in ENGINES}
    spent: dict[Engine, list[float]] = {engine: [] for engine in ENGINES}
    in_networks: dict[Engine, list[float]] = {engine: [] for engine in ENGINES}
    rows: list[dict[str, Any]] = []
    failed, start = 0, time.monotonic()
    for number, path in enumerate(videos):
        if rows and time.monotonic() - start > seconds:
            break
        path.read_bytes()  # so that neither engine waits for the disk
        records: dict[Engine, Record] = {}
        try:
            if not rows:
                for classifier in loaded.values():  # warm
                    classifier.classify(path, settings)
            for engine in ENGINES if number % 2 else reversed(ENGINES):
                began = time.perf_counter()
                records[engine] = loaded[engine].classify(path, settings)
                spent[engine].append(time.perf_counter() - began)
        except VideoError:
            failed += 1
            spent = {engine: times[: len(rows)] for engine, times in spent.items()}
            continue
        for engine in ENGINES:
            stages = records[engine].timings_seconds
            in_networks[engine].append(sum(stages.get(stage, 0.0) for stage in NETWORK_STAGES))
        rows.append({"video": path.name, **differences(records["onnx"], records["torch"])})
    if not rows:
        raise UsageError("no video could be used", wanted="videos", fix="see why with tsq classify FILE")
    return {
        "pack": pack,
        "videos": len(rows),
        "failed": failed,
        **{name: sum(row[name] for row in rows) for name in ("same_frames", "same_reasons", "same_first_class")},
        **{f"largest_{name}": _largest(rows, name) for name in ("saliency", "predictions")},
        "others": [row for row in rows if not row["same_frames"]],
        "seconds": {engine: _summary(times) for engine, times in spent.items()},
        "network_seconds": {engine: _summary(times) for engine, times in in_networks.items()},
        "torch_over_onnx": _ratio(spent),
        "torch_over_onnx_networks": _ratio(in_networks),
        "peak_mib": {engine: _memory(videos[0], pack, engine) for engine in ENGINES},
    }


def _classifier(pack: str, engine: Engine) -> Classifier:
    from tsq_cli.packs import find_pack

    says = ClassifySettings(num_predictions=len(find_pack(pack).class_names), maps=False)
    return Classifier.load(pack, recognizer="embedded", settings=says, device="cpu", dtype="float32", engine=engine)


def _memory(video: Path, pack: str, engine: Engine) -> float:
    command = [sys.executable, "-m", "tsq_cli", "classify", str(video.resolve()), "--pack", pack]
    command += ["--recognizer", "embedded", "--device", "cpu", "--dtype", "float32", "--engine", engine, "--json"]
    return process_cost(command, {"PYTHONPATH": str(ROOT)}).peak_mib


def _largest(rows: Sequence[dict[str, Any]], name: str) -> float:
    return max((row[name] for row in rows if row[name] is not None), default=0.0)


def _summary(times: Sequence[float]) -> dict[str, float]:
    return {"median": statistics.median(times), "least": min(times), "most": max(times)}


def _ratio(times: dict[Engine, list[float]]) -> dict[str, float]:
    """How much longer torch takes than ONNX Runtime, per video."""
    return _summary([torch / onnx for onnx, torch in zip(times["onnx"], times["torch"], strict=True)])


def run(options: argparse.Namespace) -> Measured:
    """Compare the engines.

    Raises:
        UsageError: no video in the folders, or none that can be used.
        TsqError: a pack that cannot be used.
    """
    import torch

    videos = find_videos(options.folders)
    busy = os.getloadavg()[0]
    report = compare(videos, options.pack, options.minutes * 60)
    report["load_before"] = busy  # processes at work beside this one: with any, the times are no measurement
    report["provenance"] = provenance(device="cpu", dtype=torch.float32, seeds={}, engine="onnx")
    of, network = report["torch_over_onnx"]["median"], report["torch_over_onnx_networks"]["median"]
    return report, (
        f"{report['same_frames']} of {report['videos']} videos with the same frames; saliency within "
        f"{report['largest_saliency']:.2g}, predictions within {report['largest_predictions']:.2g}; torch takes "
        f"{of:.2f} times as long ({network:.2f} in the networks); MiB {report['peak_mib']}"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the comparison from the command line."""
    parser = command_line("engines", __doc__)
    parser.add_argument("folders", nargs="+", type=Path, help="folders of videos")
    parser.add_argument("--pack", default=DEFAULT_PACK, help=f"name or folder ({DEFAULT_PACK})")
    parser.add_argument("--minutes", type=float, default=60.0, help="begin no further video after these (60)")
    return run_command(parser, arguments, run)


if __name__ == "__main__":
    sys.exit(main())
