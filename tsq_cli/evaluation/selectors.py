"""The rules that choose K of T frames, over many videos at once: arrays in, positions out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from tsq_cli import selection
from tsq_cli.config import SelectorName
from tsq_cli.errors import UsageError
from tsq_cli.models import TSQNetOutput, frame_saliency, probabilities
from tsq_cli.rules.ordering import ranking
from tsq_cli.selection import Evidence, RuleSettings
from tsq_cli.types import BoolArray, Float32Array, Float64Array, Int64Array

FloatArray = npt.NDArray[np.floating[Any]]
Selector = SelectorName | Literal["confident", "all", "oracle"]
ALL_SELECTORS: tuple[Selector, ...] = (*selection.RULES, "confident", "all", "oracle")
SELECTORS: tuple[Selector, ...] = ("tsq", "vqm", "tqm", "uniform", "random", "middle", "confident", "all", "oracle")
"""Those that are compared unless others are asked for."""

_TITLES: dict[Selector, str] = {
    "auto": "auto (TSQNet or cover)",
    "tsq": "TSQNet (both modules)",
    "cover": "cover (events first)",
    "vqm": "visual module (VQM)",
    "tqm": "textual module (TQM)",
    "topk": "top K of both curves",
    "mmr": "maximal marginal relevance",
    "bolt": "BOLT",
    "aks": "AKS",
    "dpp": "determinantal (DPP)",
    "kcenter": "k-center",
    "facility": "facility location",
    "confident": "most confident frames",
    "all": "all frames",
    "oracle": "oracle (true class known)",
}


def title(name: Selector) -> str:
    """A rule's name in a table."""
    return _TITLES.get(name, name)


@dataclass(frozen=True, kw_only=True)
class SelectorInput:
    """What the rules may look at, of N videos with T frames each and C classes.

    Attributes:
        saliency_visual, saliency_textual: S^v and S^t, real and finite, [N, T].
        frame_probabilities: what the recognizer says of each frame alone, 0 to 1, [N, T, C]; see class_probabilities.
        targets: bool [N, C], the true classes, at least one a video; only the oracle looks at them.
        settings: numbers of the rules of tsq_cli.selection.
        features: of the visual encoder, unit length, [N, T, D], for the rules that compare frames; None without them.

    Raises:
        ValueError: arrays whose shapes do not agree or that are not finite, or a video without a class.
    """

    saliency_visual: FloatArray
    saliency_textual: FloatArray
    frame_probabilities: FloatArray
    targets: BoolArray
    settings: RuleSettings = field(default_factory=RuleSettings)
    features: Float32Array | None = None

    def __post_init__(self) -> None:
        shape = self.frame_probabilities.shape
        if len(shape) != 3 or 0 in shape:
            raise ValueError(f"frame_probabilities must be [N, T, C] without an empty axis, got {list(shape)}")
        n, t, c = shape
        wanted = {"saliency_visual": (n, t), "saliency_textual": (n, t), "targets": (n, c)}
        wrong = {name: getattr(self, name).shape for name, s in wanted.items() if getattr(self, name).shape != s}
        if wrong:
            raise ValueError(f"frame_probabilities [{n}, {t}, {c}] do not fit {wrong}")
        if self.targets.dtype != np.bool_ or not self.targets.any(axis=1).all():
            raise ValueError("targets must be bool [N, C] with at least one true class a video")
        for name in ("saliency_visual", "saliency_textual", "frame_probabilities"):
            if not np.isfinite(getattr(self, name)).all():
                raise ValueError(f"{name} must be finite")


def selector_input(
    output: TSQNetOutput,
    frame_logits: FloatArray,
    targets: BoolArray,
    *,
    top_n: int,
    lambda_v: float,
    multi_label: bool = False,
) -> SelectorInput:
    """What the rules may look at, from what both modules say of N videos.

    Args:
        output: of both modules, on the CPU.
        frame_logits: of the recognizer, [N, T, C].
        targets: bool [N, C], the true classes.
        top_n: categories behind each saliency curve, at least 1.
        lambda_v: share of the visual module in the fusion, 0 to 1.
        multi_label: sigmoid in the place of softmax.

    Raises:
        ValueError: as SelectorInput.
    """
    visual, textual = (
        frame_saliency(module, top_n=top_n, multi_label=multi_label).scores.double().numpy()
        for module in (output.visual, output.textual)
    )
    return SelectorInput(
        saliency_visual=visual,
        saliency_textual=textual,
        frame_probabilities=class_probabilities(frame_logits, multi_label=multi_label),
        targets=targets,
        settings=RuleSettings(lambda_v=lambda_v),
    )


def class_probabilities(logits: FloatArray, *, multi_label: bool = False) -> Float64Array:
    """Probabilities of the classes from logits [..., C], in float64 (see tsq_cli.models.probabilities)."""
    wide: Float64Array = probabilities(torch.from_numpy(logits.astype(np.float64)), multi_label=multi_label).numpy()
    return wide


def select(name: Selector, inputs: SelectorInput, k: int, seed: int = 0) -> Int64Array:
    """Choose the frames of every video by one rule.

    Args:
        name: a rule of tsq_cli.selection, or confident (frames with the highest probability of any class), all (T
            frames, whatever k), oracle (frames with the highest probability of a true class: what no rule can know, a
            bound to compare with).
        inputs: of N videos.
        k: frames a video, at least 1; above T it is T.
        seed: of random alone; each video has a draw of its own.

    Returns:
        int64 [N, min(k, T)] ([N, T] for all), distinct positions in [0, T) of each video, in order of time.

    Raises:
        UsageError: a name that is no rule, or k below 1.
        ValueError: a rule that compares frames, and no features.
    """
    if name not in ALL_SELECTORS:
        raise UsageError(f"{name} is no selector", wanted=f"one of {', '.join(ALL_SELECTORS)}", fix="correct the name")
    if k < 1:
        raise UsageError(f"{k} frames were asked for", wanted="at least 1", fix="ask for one frame or more")
    num_videos, num_candidates = inputs.saliency_visual.shape
    rule = _rule(name, inputs, num_candidates if name == "all" else k, seed)
    return np.array([sorted(rule(number)) for number in range(num_videos)], dtype=np.int64)


def _rule(name: Selector, inputs: SelectorInput, k: int, seed: int) -> Callable[[int], Sequence[int]]:
    """The rule, as a function from a video's number to the positions that it chooses there."""
    num_videos, num_candidates = inputs.saliency_visual.shape
    if name == "confident" or name == "oracle":
        counted = inputs.targets if name == "oracle" else np.ones_like(inputs.targets)
        highest = np.where(counted[:, None, :], inputs.frame_probabilities, 0.0).max(axis=2)
        return lambda n: ranking(highest[n])[:k]
    if name == "all":
        return lambda _: range(num_candidates)
    seeds = np.random.SeedSequence(seed).generate_state(num_videos)  # each video draws afresh

    def rule(number: int) -> list[int]:
        evidence = Evidence(
            times=np.arange(num_candidates, dtype=np.float64),
            visual=np.asarray(inputs.saliency_visual[number], dtype=np.float64),
            textual=np.asarray(inputs.saliency_textual[number], dtype=np.float64),
            features=None if inputs.features is None else inputs.features[number],
        )
        settings = replace(inputs.settings, seed=int(seeds[number]))
        return [choice.position for choice in selection.choose(name, evidence, k, settings).choices]

    return rule
