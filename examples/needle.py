"""Recall of training-free selection on composed videos with a known event: compose, tune, measure.

    python examples/needle.py compose  --photos DIR --videos /tmp/needle          videos of both parts
    python examples/needle.py tune     --videos /tmp/needle --json tuning.json    settings, on the tuning classes
    python examples/needle.py evaluate --videos /tmp/needle --tuning tuning.json \\
                                       --json docs/needle.json --markdown docs/needle.md

DIR holds one photograph per ImageNet class, named `{class index:03d}_{wnid}_{name}.jpg`. Half of the classes are for
tuning, the other half is held out: `evaluate` reports on classes and photographs that no setting has seen.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cache
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from needle_measure import (
    K,
    T,
    Video,
    compared,
    console,
    early_exit,
    fused_scores,
    measure,
    read_videos,
    reference_accuracy,
    rescore,
    scores_by_frames,
)
from needle_report import page
from needle_videos import PARTS, VARIANTS, describe, find_photos, is_finished, plan_video, write_video
from PIL import Image
from rich.progress import track

from tsq_cli.consensus import Consensus, EarlyExit, Pooling
from tsq_cli.errors import TsqError
from tsq_cli.evaluation.early_exit import tune_early_exit
from tsq_cli.files import atomic_path
from tsq_cli.models.flops import count
from tsq_cli.packs import Pack, load_pack

# The plain method: no competition, embeddings as they are, scales tuned for that.
PLAIN: dict[str, Any] = {
    "visual_scale": 0.03,
    "competition_floor": None,
    "competition_weight": 1.0,
    "blank_frame_penalty": 0.0,
    "textual_scale": 3.0,
    "text_logit_scale": 100.0,
    "centered": False,
    "top_n": 3,
    "lambda_v": 0.6,
}

# The smaller the picture, the larger the logits. Every input size tries these, in units of what its own logits are (the
# median over frames of the strongest one): the floor of seeing anything, and the sharpness over frames.
FLOORS = (0.5, 0.55, 0.6, 0.65)
SHARPNESSES = (1.5, 2.0, 2.5, 3.0)

# Of log p^v and log p^t in the video's score.
EVIDENCES = ((0.0, 0.0), (0.25, 0.0), (0.5, 0.0), (1.0, 0.0), (0.25, 0.25), (0.5, 0.5))


def compose(photos: Path, videos: Path, counts: Mapping[str, int], seed: int) -> None:
    """Write the videos of both parts into `videos/{part}/{variant}/`; finished ones are kept."""

    @cache
    def opened(path: Path) -> Image.Image:
        return Image.open(path).convert("RGB")

    for part in PARTS:
        found = find_photos(photos, part)
        for number, (name, variant) in enumerate(VARIANTS.items()):
            for i in track(range(counts[name]), f"compose {part} {name}", console=console, transient=True):
                path = videos / part / name / f"{i:04d}.mp4"
                if is_finished(path, seed):
                    continue
                shots = plan_video(found, variant, np.random.default_rng([seed, PARTS.index(part), number, i]))
                facts = {"video": path.name, "part": part, "variant": name, "seed": seed}
                write_video(path, shots, {**facts, **describe(shots)}, opened)


def pack_settings(pack: Pack) -> dict[str, Any]:
    """Return the pack's settings under the names that PLAIN uses."""
    stated, layer = pack.config.settings, pack.config.modules.visual.layer
    return {
        "visual_scale": stated.visual_scale,
        "competition_floor": layer.competition_floor,
        "competition_weight": layer.competition_weight,
        "blank_frame_penalty": layer.blank_frame_penalty,
        "textual_scale": stated.textual_scale,
        "text_logit_scale": stated.text_logit_scale,
        "centered": stated.center_object_embeddings,
        "top_n": stated.top_n,
        "lambda_v": stated.lambda_v,
    }


def trials(chosen: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """List the trials of `tune`: plain settings, each change from there to the pack's, and the pack's neighbors."""
    steps: dict[str, dict[str, Any]] = {"plain TSQ layers": PLAIN}
    changes = {
        "queries compete": ("competition_floor", "visual_scale"),
        "own strength counts": ("competition_weight",),
        "blank frames lose": ("blank_frame_penalty",),
        "centered embeddings": ("centered", "textual_scale"),
        "textual module not certain": ("text_logit_scale",),
    }
    reached = PLAIN
    for change, names in changes.items():
        reached = {**reached, **{name: chosen[name] for name in names}}
        steps[f"+ {change}"] = reached
    steps["pack"] = dict(chosen)
    around = {
        "visual_scale": (0.06, 0.08, 0.11, 0.14, 0.17, 0.22),
        "competition_floor": (5.5, 6.5, 7.0, 7.5, 8.0, 8.5, 9.0, 10.0),
        "competition_weight": (0.5, 0.7, 0.8, 0.9, 0.95, 1.0),
        "blank_frame_penalty": (0.0, 1.0, 2.0, 3.0, 5.0, 8.0),
        "textual_scale": (1.0, 1.5, 2.0, 2.5, 3.0, 5.0),
        "text_logit_scale": (100.0, 50.0, 30.0, 20.0, 15.0, 10.0, 7.0, 5.0),
        "centered": (False, True),
        "top_n": (1, 2, 3, 5, 10),
        "lambda_v": (0.0, 0.2, 0.4, 0.6, 0.8, 1.0),
    }
    for name, values in around.items():
        steps.update({f"pack, {name} {value}": {**chosen, name: value} for value in values})
    return steps


def tune(pack: Pack, folder: Path, input_sizes: Sequence[int]) -> dict[str, Any]:
    """Measure recall and accuracy on the tuning part, per variant: of every trial, pooling, input size and scale."""
    own, chosen = pack.visual_preprocessor.input_size, pack_settings(pack)
    consensus = pack.config.settings.consensus
    read = {name: read_videos(pack, folder, "tuning", name, {own, *input_sizes}) for name in VARIANTS}

    def tried(size: int, settings: Mapping[str, Any]) -> dict[str, Any]:
        scored = {name: rescore(pack, videos[size], settings) for name, videos in read.items()}
        return {name: fused_scores(videos, settings["lambda_v"], consensus) for name, videos in scored.items()}

    rows: list[dict[str, Any]] = []
    for label, settings in track(list(trials(chosen).items()), "try settings", console=console, transient=True):
        rows.append({"trial": label, "settings": settings, **tried(own, settings)})
    sizes: list[dict[str, Any]] = []
    for size in track(sorted(input_sizes, reverse=True), "try sizes", console=console, transient=True):
        strongest = torch.stack([video.logits for video in read["plain"][size]]).amax(dim=2).median().item()
        for floor, sharpness in product(FLOORS, SHARPNESSES):
            scales = {"competition_floor": round(floor * strongest, 2), "visual_scale": round(sharpness / strongest, 3)}
            scores = tried(size, {**chosen, **scales})
            sizes.append({"input_size": size, "giga_macs": sampler_cost(pack, size), **scales, **scores})
    any_size = {name: videos[own] for name, videos in read.items()}
    return {
        "part": "tuning",
        "consensus": asdict(consensus),
        "videos": {name: len(videos) for name, videos in any_size.items()},
        "trials": rows,
        "poolings": compared(any_size, chosen["lambda_v"], consensuses()),
        "sizes": {
            "text_logit_scale": chosen["text_logit_scale"],
            "consensus": asdict(consensus),
            "input_sizes": sizes,
            "accuracy": {name: reference_accuracy(videos, consensus) for name, videos in any_size.items()},
        },
        **tuned_exit(pack, any_size),
    }


def tuned_exit(pack: Pack, videos: Mapping[str, Sequence[Video]]) -> dict[str, Any]:
    """Tune the early exit on all variants together.

    The bar is at least the level from which a name is shown: a video that stops below it would be "unsure", though
    more frames might name it.
    """
    settings = pack.config.settings
    everything = [video for some in videos.values() for video in some]
    tuned = tune_early_exit(*scores_by_frames(everything, settings.lambda_v, settings.consensus))
    if tuned is None:
        raise TsqError(
            "every bar of an early exit loses too much accuracy on the tuning videos",
            wanted="one that keeps what all frames give",
            fix="drop the early exit from this script",
        )
    exit_at = EarlyExit(
        bar=round(max(tuned.bar, settings.words.least_probability), 3),
        temperatures=tuple(round(one, 3) for one in tuned.temperatures),
    )
    return {
        "lowest_bar": round(tuned.bar, 3),
        "early_exit": asdict(exit_at),
        "early_exits": {
            name: early_exit(some, settings.lambda_v, settings.consensus, exit_at) for name, some in videos.items()
        },
    }


def consensuses() -> list[Consensus]:
    """List every pooling with every evidence that `tune` compares."""
    return [
        Consensus(pooling=pooling, evidence_visual=visual, evidence_textual=textual)
        for pooling, (visual, textual) in product(get_args(Pooling), EVIDENCES)
    ]


def sampler_cost(pack: Pack, input_size: int) -> float:
    """Count the encoder's 10^9 multiply-adds for the T candidates of a video."""
    return round(count(pack.visual_encoder, torch.zeros(T, 3, input_size, input_size)).giga_macs, 2)


def evaluate(pack: Pack, folder: Path) -> dict[str, Any]:
    """Measure everything on the held-out part, per variant."""
    settings = pack.config.settings
    consensus, exit_at = settings.consensus, settings.early_exit
    read = {name: next(iter(read_videos(pack, folder, "held-out", name).values())) for name in VARIANTS}
    results: dict[str, Any] = {}
    for name, videos in read.items():
        results[name] = {"videos": len(videos), "ways": measure(videos, settings.lambda_v, consensus)}
        if exit_at is not None:
            results[name]["early_exit"] = early_exit(videos, settings.lambda_v, consensus, exit_at)
    alone = [Consensus(pooling=pooling) for pooling in get_args(Pooling)]
    return {
        "part": "held-out",
        "k": K,
        "candidates": T,
        "consensus": asdict(consensus),
        "early_exit": None if exit_at is None else asdict(exit_at),
        "variants": results,
        "poolings": compared(read, settings.lambda_v, list(dict.fromkeys([consensus, *alone]))),
    }


def circumstances(pack: Pack) -> dict[str, Any]:
    """Collect machine, versions and settings behind the numbers."""
    return {
        "machine": {"system": platform.system(), "machine": platform.machine(), "threads": torch.get_num_threads()},
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "torchvision", "timm", "av", "numpy", "pillow")},
        },
        "pack": {
            "name": pack.config.name,
            "sha256": pack.config.sha256,
            "settings": {**pack_settings(pack), "sampler_input_size": pack.visual_preprocessor.input_size},
        },
    }


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Build the parser of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("compose", "tune", "evaluate"):
        command = commands.add_parser(name)
        command.add_argument("--videos", type=Path, default=Path(tempfile.gettempdir()) / "needle", help="their folder")
        if name == "compose":
            command.add_argument("--photos", type=Path, required=True, help="folder of photographs, one per class")
            command.add_argument("--count", type=int, default=100, help="videos per part and variant; plain has twice")
            command.add_argument("--seed", type=int, default=0)
        else:
            command.add_argument("--pack", default="imagenet-lite")
            if name == "tune":
                command.add_argument(
                    "--input-sizes", type=int, nargs="*", default=(), help="also try these for the sampler"
                )
            else:
                command.add_argument("--tuning", type=Path, help="what tune wrote: joins the report")
            command.add_argument("--json", type=Path, help="write everything measured here")
            command.add_argument("--markdown", type=Path, help="write the tables here")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code is tsq's own."""
    options = parse(arguments)
    try:
        if options.command == "compose":
            counts = {name: options.count * (2 if name == "plain" else 1) for name in VARIANTS}
            compose(options.photos, options.videos, counts, options.seed)
            return 0
        pack = load_pack(options.pack)
        results: dict[str, Any] = {"circumstances": circumstances(pack)}
        if options.command == "tune":
            results["tuning"] = tune(pack, options.videos, options.input_sizes)
        else:
            if options.tuning is not None:
                results["tuning"] = json.loads(options.tuning.read_text())["tuning"]
            results["evaluation"] = evaluate(pack, options.videos)
        text = page(results)
        print(text)
        for path, content in ((options.json, json.dumps(results, indent=1)), (options.markdown, text)):
            if path is not None:
                with atomic_path(path) as temporary:
                    temporary.write_text(content + "\n")
    except TsqError as error:
        console.print(f"error: {error}", style="red")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
