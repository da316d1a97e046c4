"""The cost of `tsq classify` beyond `tsq select`: ``python -m benchmarks.classify VIDEO --json FILE``.

Times, in turns and with everything loaded: selecting from a video; the recognizer's own forward pass on as many ready
inputs; the same predictions and saliency maps through the whole chain. The overhead is what the chain costs over the
sum of the first two. A recognizer by name gets random weights, which cost the same.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.command import Measured, command_line, run_command
from tsq_cli.benchmark.end_to_end import random_recognizer
from tsq_cli.benchmark.measure import Timing, in_turns, machine_facts
from tsq_cli.classifier import Classifier
from tsq_cli.clip import load_clip
from tsq_cli.config import DEFAULT_PACK, PAPER, ClassifySettings
from tsq_cli.pipeline import Selector
from tsq_cli.report.grid import Grid

PACKAGES = ("torch", "torchvision", "timm", "av", "numpy", "tsq-cli")


def classifier(selector: Selector, name: str) -> Classifier:
    """A classifier behind a loaded selector: the pack's embedded recognizer, or a network of random weights."""
    from tsq_cli.packs import choose_recognizer, load_recognizer

    pack = selector.loaded_pack()
    if name == "embedded":
        choice = choose_recognizer(pack.config, name)
        loaded = load_recognizer(pack, choice)
    else:
        loaded = random_recognizer(name, pack)
    return Classifier(selector, loaded, ClassifySettings())


def measure(path: Path, name: str, *, repeats: int) -> dict[str, Any]:
    """Times of one recognizer on one video.

    Returns:
        A JSON object: the recognizer, the timings of the three methods, `overhead` (classify over select plus
        forward, less 1; from the medians) and the stages of the last classification.
    """
    import torch

    from tsq_cli.models import Recognizer
    from tsq_cli.models.microbatches import cpu_microbatches

    selector = Selector.load(DEFAULT_PACK, engine="torch")
    whole = classifier(selector, name)
    settings = PAPER
    clip = load_clip(path, settings)
    frames = torch.from_numpy(clip.batch.pixels[: settings.num_frames])
    clip.close()
    pack = selector.loaded_pack()
    inputs = whole.recognizer.preprocessor(frames, pack.device, pack.dtype)

    network: Recognizer = whole.recognizer.recognizer

    def forward() -> None:
        with torch.inference_mode():
            for some in cpu_microbatches(inputs, multiplier=2):
                network(some).logits.cpu()

    methods: dict[str, Callable[[], object]] = {
        "select": lambda: selector.select(path, settings),
        "forward": forward,
        "classify": lambda: whole.classify(path, settings),
    }
    for work in methods.values():
        work()
    timings = in_turns(methods, repeats)
    return {
        "recognizer": name,
        "timings": {method: asdict(timing) for method, timing in timings.items()},
        "overhead": overhead(timings),
        "stages": whole.classify(path, settings).timings_seconds,
    }


def overhead(timings: dict[str, Timing]) -> float:
    """Share by which classify exceeds select plus the forward pass; medians."""
    return timings["classify"].median / (timings["select"].median + timings["forward"].median) - 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark from the command line; returns the exit code."""
    parser = command_line("classify", __doc__, repeats=9)
    parser.add_argument("video", type=Path)
    parser.add_argument("--recognizer", nargs="+", default=["embedded", "resnet101"], help="embedded, or timm names")
    return run_command(parser, arguments, run)


def run(options: argparse.Namespace) -> Measured:
    """Measure every recognizer.

    Raises:
        TsqError: a video or a recognizer that cannot be used.
    """
    report: dict[str, Any] = {"machine": machine_facts(PACKAGES), "video": options.video.name, "results": []}
    for name in options.recognizer:
        report["results"].append(measure(options.video, name, repeats=options.repeats))
    return report, overhead_grid(report)


def overhead_grid(report: Mapping[str, Any]) -> Grid:
    """Median milliseconds of each recognizer, and the overhead.

    Args:
        report: what --json writes.
    """
    parts = ("select", "forward", "classify")
    return Grid(
        title="",
        headings=["recognizer", *(f"{part} ms" for part in parts), "overhead"],
        rows=[
            [
                result["recognizer"],
                *(f"{1000 * result['timings'][part]['median']:.0f}" for part in parts),
                f"{result['overhead']:.1%}",
            ]
            for result in report["results"]
        ],
    )


if __name__ == "__main__":
    sys.exit(main())
