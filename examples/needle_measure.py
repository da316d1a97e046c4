"""Measurements on composed videos: each is decoded and scored once, then every selector and setting is applied."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from needle_videos import Part
from rich.console import Console
from rich.progress import track
from torch import Tensor
from torch.nn import functional

from tsq_cli import selection
from tsq_cli.clip import load_clip
from tsq_cli.config import PAPER, PAPER_CANDIDATES, PAPER_FRAMES
from tsq_cli.consensus import Consensus, EarlyExit
from tsq_cli.errors import InputNotFoundError
from tsq_cli.evaluation.early_exit import frame_scores
from tsq_cli.evaluation.selectors import SelectorInput, select, selector_input
from tsq_cli.models import TSQLayer, frame_saliency, object_text_features, video_scores
from tsq_cli.models.early_exit import frames_needed
from tsq_cli.models.microbatches import cpu_microbatches
from tsq_cli.packs import LoadedRecognizer, Pack, load_recognizer
from tsq_cli.scoring import score_clips
from tsq_cli.selection import Choice, RuleSettings
from tsq_cli.types import BoolArray

K, T = PAPER_FRAMES, PAPER_CANDIDATES
ALL_SCORED = "all 16, with the sampler's scores"
SAMPLED = ("fused", "VQM", "TQM", ALL_SCORED)  # those that run the sampler
COMPARED = ("fused", "two that agree", "uniform", "all 16", ALL_SCORED)
RANDOM_SEEDS = range(20)
RESAMPLES = 2000
console = Console(stderr=True)


@dataclass(frozen=True)
class Video:
    """The scores of one video, for all measurements.

    Attributes:
        truth: bool [T], which candidates show the event.
        class_index: of the event.
        features: float32 [T, Dv] of the visual encoder, at the sampler's input size.
        logits: float32 [T, O] of the object recognizer, at the same size.
        recognized: float32 [T, C], logits of the pack's embedded recognizer, at the recognizer's own input size.
        visual, textual: S^v and S^t [T] as the pipeline gives them.
        classes: z^v and z^t [C] of the whole video.
    """

    truth: np.ndarray
    class_index: int
    features: Tensor
    logits: Tensor
    recognized: Tensor
    visual: np.ndarray
    textual: np.ndarray
    classes: tuple[Tensor, Tensor]


def truth_of(event_seconds: Sequence[Sequence[float]], times_seconds: np.ndarray) -> np.ndarray:
    """Find the candidates in one of the half-open intervals of the event, bool [T]."""
    return np.array([any(start <= time < end for start, end in event_seconds) for time in times_seconds])


def read_videos(
    pack: Pack, folder: Path, part: Part, variant: str, input_sizes: Iterable[int] = ()
) -> dict[int, list[Video]]:
    """Score every video of a folder by the project's own pipeline, and keep the encoder's outputs.

    Args:
        pack: whose visual encoder is the object recognizer too.
        folder, part, variant: where `compose` wrote the videos.
        input_sizes: what the sampler looks at, one reading for each; none given, the pack's own.

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
    packs = {size: at_size(pack, size) for size in input_sizes or (pack.visual_preprocessor.input_size,)}
    recognizer = load_recognizer(pack, "embedded")
    seen: list[Any] = []
    hook = pack.visual_encoder.register_forward_hook(lambda module, inputs, output: seen.append(output))
    videos: dict[int, list[Video]] = {size: [] for size in packs}
    for path in track(truths, f"read {part} {variant}", console=console, transient=True):
        truth = json.loads(path.read_text())
        clip = load_clip(path.with_suffix(".mp4"), PAPER)
        recognized = _recognized(recognizer, clip.batch.pixels)
        for size, looks in packs.items():
            seen.clear()
            scores = score_clips(looks, [torch.from_numpy(clip.batch.pixels)], PAPER)[0]
            saliency = scores.read()
            videos[size].append(
                Video(
                    truth=truth_of(truth["event"]["seconds"], clip.batch.pts_seconds),
                    class_index=truth["event"]["class_index"],
                    features=torch.cat([output.features for output in seen]).float(),
                    logits=torch.cat([output.logits for output in seen]).float(),
                    recognized=recognized,
                    visual=saliency.visual,
                    textual=saliency.textual,
                    classes=(scores.visual.logits[0].float(), scores.textual.logits[0].float()),
                )
            )
        clip.close()
    hook.remove()
    return videos


def at_size(pack: Pack, input_size: int) -> Pack:
    """Copy a pack, with another input size of its shared encoder."""
    preprocessor = replace(pack.visual_preprocessor, input_size=input_size)
    return replace(pack, visual_preprocessor=preprocessor, object_preprocessor=preprocessor)


def _recognized(loaded: LoadedRecognizer, pixels: np.ndarray) -> Tensor:
    """Compute logits [T, C] of all candidates, uint8 [T, H, W, 3]."""
    with torch.inference_mode():
        images = loaded.preprocessor(torch.from_numpy(pixels))
        return torch.cat([loaded.recognizer(some).logits for some in cpu_microbatches(images)]).float()


def recall(choices: Iterable[Choice], truth: np.ndarray) -> float:
    """Compute the share of the event's candidates that were chosen; of at most K if the event has more."""
    choices = list(choices)
    return sum(bool(truth[choice.position]) for choice in choices) / min(len(choices), int(truth.sum()))


def is_right(video: Video, choices: Iterable[Choice], consensus: Consensus) -> float:
    """Whether the first class of the video is the event's, by the recognizer on the chosen frames."""
    positions = [choice.position for choice in choices]
    scores = video_scores(
        video.recognized[positions],
        consensus,
        weights=torch.from_numpy(video.visual[positions]),
        class_scores=video.classes,
    )
    return float(int(scores.argmax()) == video.class_index)


def selectors(lambda_v: float) -> dict[str, Callable[[Video], list[Choice]]]:
    """List the deterministic selectors by name."""
    everything = [Choice(position, "uniform") for position in range(T)]
    return {
        "fused": lambda video: selection.fuse(video.visual, video.textual, K, lambda_v=lambda_v),
        "VQM": lambda video: selection.top_k(video.visual, K, chosen_by="visual"),
        "TQM": lambda video: selection.top_k(video.textual, K, chosen_by="textual"),
        "most confident": lambda video: selection.top_k(
            video.logits.softmax(dim=1).amax(dim=1).numpy(), K, chosen_by="visual"
        ),
        "two that agree": lambda video: [
            Choice(int(position), "uniform") for position in select("agree", inputs([video], lambda_v), K)[0]
        ],
        "uniform": lambda video: selection.uniform(T, K),
        "all 16": lambda video: everything,
        ALL_SCORED: lambda video: everything,
        "event's frames": lambda video: [choice for choice in everything if video.truth[choice.position]],
    }


def consensus_of(name: str, consensus: Consensus) -> Consensus:
    """Decide how a selector's frames become their video: S^v and evidence are for those that run the sampler."""
    return consensus if name in SAMPLED else consensus.without_sampler


def inputs(videos: Sequence[Video], lambda_v: float) -> SelectorInput:
    """Bring videos into the form of tsq_cli.evaluation."""
    classes = [torch.stack([video.classes[module] for video in videos]) for module in (0, 1)]
    targets = np.zeros((len(videos), len(videos[0].classes[0])), dtype=bool)
    targets[range(len(videos)), [video.class_index for video in videos]] = True
    return selector_input(
        (_stack([video.visual for video in videos]), _stack([video.textual for video in videos])),
        torch.stack([video.recognized for video in videos]).numpy(),
        targets,
        settings=RuleSettings(lambda_v=lambda_v),
        class_scores=(classes[0], classes[1]),
    )


def _stack(curves: Sequence[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.stack(curves)).double()


def scores_by_frames(videos: Sequence[Video], lambda_v: float, consensus: Consensus) -> tuple[Tensor, BoolArray]:
    """Compute class scores after 1 to K of the fused rule's frames [N, K, C], best first; with the true classes."""
    given = inputs(videos, lambda_v)
    logits = torch.stack([video.recognized for video in videos]).numpy()
    return frame_scores(given, logits, K, consensus), given.targets


def summary(values: Sequence[float]) -> dict[str, float]:
    """Compute the mean over the videos, and its 95 % bootstrap interval."""
    scores = np.asarray(values, dtype=np.float64)
    rng = np.random.default_rng(0)
    means = scores[rng.integers(0, len(scores), (RESAMPLES, len(scores)))].mean(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    return {"mean": round(float(scores.mean()), 4), "low": round(float(low), 4), "high": round(float(high), 4)}


def measure(videos: Sequence[Video], lambda_v: float, consensus: Consensus) -> dict[str, Any]:
    """Measure recall of the event's frames at K and accuracy of the video's first class, per selector."""
    measured: dict[str, Any] = {}
    for name, choose in selectors(lambda_v).items():
        chosen = [choose(video) for video in videos]
        measured[name] = {"accuracy": summary(_right(videos, chosen, consensus_of(name, consensus)))}
        if name not in ("all 16", ALL_SCORED, "event's frames"):
            measured[name]["recall"] = summary([recall(c, v.truth) for v, c in zip(videos, chosen, strict=True)])
    # Every video has its own draw per seed; its value is the mean over the seeds.
    drawn = [[selection.random(T, K, seed=1000 * s + i) for s in RANDOM_SEEDS] for i in range(len(videos))]
    pairs, alone = list(zip(videos, drawn, strict=True)), consensus.without_sampler
    measured["random"] = {
        "accuracy": summary([float(np.mean([is_right(v, c, alone) for c in cs])) for v, cs in pairs]),
        "recall": summary([float(np.mean([recall(c, v.truth) for c in cs])) for v, cs in pairs]),
    }
    return measured


def _right(videos: Sequence[Video], chosen: Iterable[Sequence[Choice]], consensus: Consensus) -> list[float]:
    return [is_right(video, choices, consensus) for video, choices in zip(videos, chosen, strict=True)]


def compared(
    videos: Mapping[str, Sequence[Video]], lambda_v: float, consensuses: Sequence[Consensus]
) -> list[dict[str, Any]]:
    """Measure accuracy of the same frames by each consensus, per variant and for each way of COMPARED."""
    ways = selectors(lambda_v)
    chosen = {name: {way: [ways[way](video) for video in some] for way in COMPARED} for name, some in videos.items()}
    rows: list[dict[str, Any]] = []
    for consensus in track(consensuses, "try poolings", console=console, transient=True):
        row: dict[str, Any] = asdict(consensus)
        for name, some in videos.items():
            row[name] = {
                way: _mean(_right(some, choices, consensus_of(way, consensus))) for way, choices in chosen[name].items()
            }
        rows.append(row)
    return rows


def early_exit(videos: Sequence[Video], lambda_v: float, consensus: Consensus, exit_at: EarlyExit) -> dict[str, float]:
    """Measure the fused rule's frames seen one after the other: accuracy of all K and with the exit, mean frames."""
    scores, targets = scores_by_frames(videos, lambda_v, consensus)
    calibrated = scores / torch.tensor(exit_at.temperatures[: scores.shape[1]], dtype=scores.dtype)[:, None]
    needed = frames_needed(calibrated, exit_at)
    right = torch.from_numpy(targets).gather(1, scores.argmax(dim=2)).double()  # [N, K]
    return {
        "accuracy_all": round(float(right[:, -1].mean()), 4),
        "accuracy": round(float(right.gather(1, needed[:, None] - 1).mean()), 4),
        "mean_frames": round(float(needed.double().mean()), 3),
    }


def rescore(pack: Pack, videos: Sequence[Video], settings: Mapping[str, Any]) -> list[Video]:
    """Recompute saliency for other settings (named as in PLAIN) from the stored features."""
    embeddings = pack.object_embeddings
    if settings["centered"]:
        embeddings = functional.normalize(embeddings - embeddings.mean(dim=0), dim=1)
    vqm = pack.tsqnet.vqm
    rivals = {name: settings[name] for name in ("competition_floor", "competition_weight", "blank_frame_penalty")}
    visual = TSQLayer(
        vqm.dim,
        vqm.num_classes,
        num_frames=vqm.num_frames,
        scale=settings["visual_scale"],
        config=replace(vqm.config, **rivals),
        queries=vqm.queries,
        classifier_weight=vqm.classifier_weight,
        classifier_bias=vqm.classifier_bias,
    )
    tqm = pack.tsqnet.tqm
    textual = TSQLayer(
        tqm.dim,
        tqm.num_classes,
        num_frames=tqm.num_frames,
        scale=settings["textual_scale"],
        config=tqm.config,
        queries=embeddings,
        classifier_weight=settings["text_logit_scale"] * embeddings,
    )

    with torch.inference_mode():
        features = torch.stack([video.features for video in videos])  # [N, T, Dv]
        texts = object_text_features(torch.stack([video.logits for video in videos]), embeddings)  # [N, T, Dt]
        of_visual = frame_saliency(visual(features), top_n=settings["top_n"])
        of_textual = frame_saliency(textual(texts), top_n=settings["top_n"])
    curves = (of_visual.scores.double().numpy(), of_textual.scores.double().numpy())
    rows = zip(videos, *curves, of_visual.logits, of_textual.logits, strict=True)
    return [replace(video, visual=v, textual=t, classes=(z_v, z_t)) for video, v, t, z_v, z_t in rows]


def fused_scores(videos: Sequence[Video], lambda_v: float, consensus: Consensus) -> dict[str, float]:
    """Compute mean recall of each module and of their fusion, and the fusion's accuracy."""
    ways = selectors(lambda_v)
    chosen = {way: [ways[way](video) for video in videos] for way in ("VQM", "TQM", "fused")}
    means = {
        way: _mean(recall(c, v.truth) for v, c in zip(videos, choices, strict=True)) for way, choices in chosen.items()
    }
    return {**means, "accuracy": _mean(_right(videos, chosen["fused"], consensus))}


def reference_accuracy(videos: Sequence[Video], consensus: Consensus) -> dict[str, float]:
    """Measure accuracy of the selectors without a sampler."""
    ways = selectors(lambda_v=1.0)
    return {
        way: _mean(is_right(video, ways[way](video), consensus.without_sampler) for video in videos)
        for way in ("uniform", "all 16", "event's frames")
    }


def _mean(values: Iterable[float]) -> float:
    return round(float(np.mean(list(values))), 4)
