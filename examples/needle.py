"""How often does training-free selection find the event? Compose videos with a known event, tune, measure.

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
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from needle_report import page
from needle_videos import PARTS, VARIANTS, Part, describe, find_photos, plan_video, write_video
from PIL import Image
from rich.console import Console
from rich.progress import track
from torch import Tensor
from torch.nn import functional

from tsq_cli import selection
from tsq_cli.clip import load_clip
from tsq_cli.config import SelectSettings
from tsq_cli.errors import InputNotFoundError, TsqError
from tsq_cli.files import atomic_path
from tsq_cli.models import TSQLayer, frame_saliency, object_text_features
from tsq_cli.packs import Pack
from tsq_cli.pipeline import Selector
from tsq_cli.scoring import score_clips
from tsq_cli.selection import Choice

SELECT = SelectSettings()
K, T = SELECT.num_frames, SELECT.num_candidates
RANDOM_SEEDS = range(20)
RESAMPLES = 2000
console = Console(stderr=True)

# The plain method: no competition, embeddings as they are, scales tuned for that.
PLAIN: dict[str, Any] = {
    "visual_scale": 0.05,
    "rival_floor": None,
    "rival_share": 1.0,
    "blank_penalty": 0.0,
    "textual_scale": 3.0,
    "centred": False,
    "top_n": 3,
    "lambda_v": 0.6,
}


@dataclass(frozen=True)
class Video:
    """What the measurements need of one video.

    Attributes:
        truth: bool [T], which candidates show the event.
        class_index: of the event.
        features: float32 [T, Dv] of the visual encoder.
        logits: float32 [T, O] of the object recogniser.
        saliency: S^v and S^t [T] as the pipeline gives them.
    """

    truth: np.ndarray
    class_index: int
    features: Tensor
    logits: Tensor
    visual: np.ndarray
    textual: np.ndarray


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
                if path.with_suffix(".json").exists():
                    continue
                shots = plan_video(found, variant, np.random.default_rng([seed, PARTS.index(part), number, i]))
                facts = {"video": path.name, "part": part, "variant": name, "seed": seed}
                write_video(path, shots, {**facts, **describe(shots)}, opened)


def truth_of(event_seconds: Sequence[Sequence[float]], times_seconds: np.ndarray) -> np.ndarray:
    """Which candidates [T] lie in one of the half-open intervals that show the event."""
    return np.array([any(start <= time < end for start, end in event_seconds) for time in times_seconds])


def read_videos(selector: Selector, folder: Path, part: Part, variant: str) -> list[Video]:
    """Score every video of a folder with the project's own pipeline, and keep what its encoder saw.

    Raises:
        InputNotFoundError: no video there.
    """
    truths = sorted((folder / part / variant).glob("[0-9]*.json"))
    if not truths:
        raise InputNotFoundError(
            f"{folder / part / variant} holds no composed video",
            wanted="videos and their truth",
            fix="run the compose command first",
        )
    pack = cast(Pack, selector.pack)
    seen: list[Any] = []
    hook = pack.visual_encoder.register_forward_hook(lambda module, inputs, output: seen.append(output))
    videos = []
    for path in track(truths, f"read {part} {variant}", console=console, transient=True):
        truth = json.loads(path.read_text())
        clip = load_clip(path.with_suffix(".mp4"), SELECT)
        saliency = score_clips(pack, [clip], SELECT)[0]
        videos.append(
            Video(
                truth=truth_of(truth["event"]["seconds"], clip.batch.pts_seconds),
                class_index=truth["event"]["class_index"],
                features=torch.cat([output.features for output in seen]).float(),
                logits=torch.cat([output.logits for output in seen]).float(),
                visual=saliency.visual,
                textual=saliency.textual,
            )
        )
        seen.clear()
        clip.close()
    hook.remove()
    return videos


def recall(choices: Iterable[Choice], truth: np.ndarray) -> float:
    """Share of the event's candidates among the choices; of at most K, should the event have more."""
    choices = list(choices)
    return sum(bool(truth[choice.position]) for choice in choices) / min(len(choices), int(truth.sum()))


def is_right(video: Video, choices: Iterable[Choice]) -> float:
    """Whether the mean of the chosen frames' logits names the event's class."""
    mean = video.logits[[choice.position for choice in choices]].mean(dim=0)
    return float(int(mean.argmax()) == video.class_index)


def selectors(lambda_v: float) -> dict[str, Callable[[Video], list[Choice]]]:
    """Every deterministic way to choose, by name."""
    everything = [Choice(position, "uniform") for position in range(T)]
    return {
        "fused": lambda video: selection.fuse(video.visual, video.textual, K, lambda_v=lambda_v),
        "VQM": lambda video: selection.top_k(video.visual, K, chosen_by="visual"),
        "TQM": lambda video: selection.top_k(video.textual, K, chosen_by="textual"),
        "most confident": lambda video: selection.top_k(
            video.logits.softmax(dim=1).amax(dim=1).numpy(), K, chosen_by="visual"
        ),
        "uniform": lambda video: selection.uniform(T, K),
        "all 16": lambda video: everything,
        "event's frames": lambda video: [choice for choice in everything if video.truth[choice.position]],
    }


def summary(values: Sequence[float]) -> dict[str, float]:
    """Mean over the videos, and the 95 % interval of the mean by resampling the videos."""
    scores = np.asarray(values, dtype=np.float64)
    rng = np.random.default_rng(0)
    means = scores[rng.integers(0, len(scores), (RESAMPLES, len(scores)))].mean(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    return {"mean": round(float(scores.mean()), 4), "low": round(float(low), 4), "high": round(float(high), 4)}


def measure(videos: Sequence[Video], lambda_v: float) -> dict[str, Any]:
    """Recall of the event's frames at K and accuracy of the mean prediction, per way to choose."""
    measured: dict[str, Any] = {}
    for name, choose in selectors(lambda_v).items():
        chosen = [choose(video) for video in videos]
        measured[name] = {"accuracy": summary([is_right(v, c) for v, c in zip(videos, chosen, strict=True)])}
        if name not in ("all 16", "event's frames"):
            measured[name]["recall"] = summary([recall(c, v.truth) for v, c in zip(videos, chosen, strict=True)])
    # Each video draws afresh for every seed: the mean over the seeds is the video's value.
    drawn = [[selection.random(T, K, seed=1000 * s + i) for s in RANDOM_SEEDS] for i in range(len(videos))]
    pairs = list(zip(videos, drawn, strict=True))
    measured["random"] = {
        "accuracy": summary([float(np.mean([is_right(v, c) for c in cs])) for v, cs in pairs]),
        "recall": summary([float(np.mean([recall(c, v.truth) for c in cs])) for v, cs in pairs]),
    }
    return measured


def rescore(pack: Pack, videos: Sequence[Video], settings: Mapping[str, Any]) -> list[Video]:
    """The same videos with the saliency that other settings give (named as in PLAIN), from the features kept."""
    embeddings = pack.object_embeddings
    if settings["centred"]:
        embeddings = functional.normalize(embeddings - embeddings.mean(dim=0), dim=1)
    vqm, logit_scale = pack.tsqnet.vqm, pack.config.settings.text_logit_scale
    rivals = {name: settings[name] for name in ("rival_floor", "rival_share", "blank_penalty")}
    visual = TSQLayer(
        replace(vqm.config, scale=settings["visual_scale"], **rivals),
        queries=vqm.queries,
        classifier_weight=vqm.classifier_weight,
        classifier_bias=vqm.classifier_bias,
    )
    textual = TSQLayer(
        replace(pack.tsqnet.tqm.config, scale=settings["textual_scale"]),
        queries=embeddings,
        classifier_weight=cast(float, logit_scale) * embeddings,
    )

    with torch.inference_mode():
        features = torch.stack([video.features for video in videos])  # [N, T, Dv]
        texts = object_text_features(torch.stack([video.logits for video in videos]), embeddings)  # [N, T, Dt]
        of_visual = frame_saliency(visual(features), top_n=settings["top_n"]).scores.double().numpy()
        of_textual = frame_saliency(textual(texts), top_n=settings["top_n"]).scores.double().numpy()
    rows = zip(videos, of_visual, of_textual, strict=True)
    return [replace(video, visual=row_v, textual=row_t) for video, row_v, row_t in rows]


def pack_settings(pack: Pack) -> dict[str, Any]:
    """The pack's settings under the names that PLAIN uses."""
    stated, layer = pack.config.settings, pack.config.modules.visual.layer
    return {
        "visual_scale": stated.visual_scale,
        "rival_floor": layer.rival_floor,
        "rival_share": layer.rival_share,
        "blank_penalty": layer.blank_penalty,
        "textual_scale": stated.textual_scale,
        "centred": stated.centre_object_embeddings,
        "top_n": stated.top_n,
        "lambda_v": stated.lambda_v,
    }


def trials(chosen: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What `tune` tries: plain settings, each change from there to the pack's, and the pack's neighbours."""
    steps: dict[str, dict[str, Any]] = {"plain TSQ layers": PLAIN}
    changes = {
        "queries compete": ("rival_floor", "visual_scale"),
        "own strength counts": ("rival_share",),
        "blank frames lose": ("blank_penalty",),
        "centred embeddings": ("centred", "textual_scale"),
    }
    reached = PLAIN
    for change, names in changes.items():
        reached = {**reached, **{name: chosen[name] for name in names}}
        steps[f"+ {change}"] = reached
    steps["pack"] = dict(chosen)
    around = {
        "visual_scale": (0.1, 0.15, 0.2, 0.25, 0.3, 0.4),
        "rival_floor": (4.0, 5.0, 5.5, 6.0, 6.5, 7.0, 8.0),
        "rival_share": (0.5, 0.7, 0.8, 0.9, 0.95, 1.0),
        "blank_penalty": (0.0, 1.0, 2.0, 3.0, 5.0, 8.0),
        "textual_scale": (1.0, 1.5, 2.0, 2.5, 3.0, 5.0),
        "centred": (False, True),
        "top_n": (1, 2, 3, 5, 10),
        "lambda_v": (0.0, 0.2, 0.4, 0.6, 0.8, 1.0),
    }
    for name, values in around.items():
        steps.update({f"pack, {name} {value}": {**chosen, name: value} for value in values})
    return steps


def recalls(videos: Sequence[Video], lambda_v: float) -> dict[str, float]:
    """Mean recall of each module and of both fused."""
    ways = selectors(lambda_v)
    return {
        way: round(float(np.mean([recall(ways[way](video), video.truth) for video in videos])), 4)
        for way in ("VQM", "TQM", "fused")
    }


def at_size(selector: Selector, input_size: int) -> Selector:
    """The same selector, its shared encoder fed smaller or larger pictures."""
    pack = cast(Pack, selector.pack)
    preprocessor = replace(pack.visual_preprocessor, input_size=input_size)
    return Selector(replace(pack, visual_preprocessor=preprocessor, object_preprocessor=preprocessor))


def tune(selector: Selector, folder: Path, input_sizes: Sequence[int]) -> dict[str, Any]:
    """Recall of every trial on the tuning part, per variant."""
    pack = cast(Pack, selector.pack)
    chosen = pack_settings(pack)
    videos = {name: read_videos(selector, folder, "tuning", name) for name in VARIANTS}
    rows: list[dict[str, Any]] = []
    for label, settings in track(list(trials(chosen).items()), "try", console=console, transient=True):
        scored = {name: recalls(rescore(pack, read, settings), settings["lambda_v"]) for name, read in videos.items()}
        rows.append({"trial": label, "settings": settings, **scored})
    for size in input_sizes:
        scored = {"plain": recalls(read_videos(at_size(selector, size), folder, "tuning", "plain"), chosen["lambda_v"])}
        rows.append({"trial": f"pack, input_size {size}", "settings": {**chosen, "input_size": size}, **scored})
    return {"part": "tuning", "videos": {name: len(read) for name, read in videos.items()}, "trials": rows}


def evaluate(selector: Selector, folder: Path) -> dict[str, Any]:
    """Everything on the held-out part, per variant."""
    lambda_v = cast(Pack, selector.pack).config.settings.lambda_v
    results = {}
    for variant in VARIANTS:
        videos = read_videos(selector, folder, "held-out", variant)
        results[variant] = {"videos": len(videos), "ways": measure(videos, lambda_v)}
    return {"part": "held-out", "k": K, "candidates": T, "variants": results}


def circumstances(selector: Selector) -> dict[str, Any]:
    """Machine, versions and settings that the numbers came from."""
    pack = cast(Pack, selector.pack)
    return {
        "machine": {"system": platform.system(), "machine": platform.machine(), "threads": torch.get_num_threads()},
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "torchvision", "timm", "av", "numpy", "pillow")},
        },
        "pack": {"name": pack.config.name, "sha256": pack.config.sha256, "settings": pack_settings(pack)},
    }


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
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
                    "--input-sizes", type=int, nargs="*", default=(), help="also try these, on plain videos"
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
        selector = Selector.load(options.pack, device="cpu", dtype="float32")
        results: dict[str, Any] = {"circumstances": circumstances(selector)}
        if options.command == "tune":
            results["tuning"] = tune(selector, options.videos, options.input_sizes)
        else:
            if options.tuning is not None:
                results["tuning"] = json.loads(options.tuning.read_text())["tuning"]
            results["evaluation"] = evaluate(selector, options.videos)
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
