"""Selectors that choose K of T frames, applied to many videos at once: arrays in, positions out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tsq_cli import selection
from tsq_cli.config import BASELINES, SelectorName
from tsq_cli.errors import UsageError
from tsq_cli.models import TSQNetOutput, frame_saliency, probabilities
from tsq_cli.rules.evidence import Evidence
from tsq_cli.rules.ordering import ranking
from tsq_cli.selection import RuleSettings
from tsq_cli.types import BoolArray, Float32Array, Float64Array, Int64Array

FloatArray = npt.NDArray[np.floating[Any]]
EvaluatedSelector = SelectorName | Literal["confident", "agree", "agree3", "all", "oracle", "z-visual", "z-textual"]
WITHOUT_SAMPLER: tuple[EvaluatedSelector, ...] = (*BASELINES, "confident", "agree", "agree3", "all")
"""Selectors that run no TSQ layer: what the sampler has to beat."""
WITHOUT_FRAMES: tuple[EvaluatedSelector, ...] = ("z-visual", "z-textual")
"""Class scores of the sampler's modules by themselves: no frame is recognized."""
ALL_SELECTORS: tuple[EvaluatedSelector, ...] = (
    *selection.RULES,
    "confident",
    "agree",
    "agree3",
    "all",
    "oracle",
    *WITHOUT_FRAMES,
)
SELECTORS: tuple[EvaluatedSelector, ...] = (
    "tsq",
    "vqm",
    "tqm",
    "uniform",
    "random",
    "middle",
    "confident",
    "agree",
    "agree3",
    "all",
    "oracle",
    "z-visual",
    "z-textual",
)
"""Selectors that are compared by default."""

AGREEING: Mapping[EvaluatedSelector, int] = {"agree": 2, "agree3": 3}
"""The frames that have to agree."""

_TITLES: dict[EvaluatedSelector, str] = {
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
    "agree": "two frames that agree",
    "agree3": "three frames that agree",
    "all": "all frames",
    "oracle": "oracle (true class known)",
    "z-visual": "VQM's own classes, no frame",
    "z-textual": "TQM's own classes, no frame",
}


def title(name: EvaluatedSelector) -> str:
    """Name a selector in a table."""
    return _TITLES.get(name, name)


@dataclass(frozen=True, kw_only=True)
class SelectorInput:
    """Inputs of the selectors: N videos with T frames each and C classes.

    Attributes:
        saliency_visual, saliency_textual: S^v and S^t, real and finite, [N, T].
        frame_probabilities: of the recognizer on each frame alone, 0 to 1, [N, T, C]; see class_probabilities.
        targets: bool [N, C], the true classes, at least one per video; only the oracle uses them.
        settings: numbers of the rules of tsq_cli.selection.
        features: of the visual encoder, unit length, [N, T, D], for rules that compare frames; None leaves them out.
        class_scores: z^v and z^t of the sampler, finite, [N, C] each, for evidence and for WITHOUT_FRAMES; None leaves
            them out.

    Raises:
        ValueError: arrays whose shapes do not agree or that are not finite, or a video without a class.
    """

    saliency_visual: FloatArray
    saliency_textual: FloatArray
    frame_probabilities: FloatArray
    targets: BoolArray
    settings: RuleSettings = field(default_factory=RuleSettings)
    features: Float32Array | None = None
    class_scores: tuple[FloatArray, FloatArray] | None = None

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
            raise ValueError("targets must be bool [N, C] with at least one true class per video")
        for scores in self.class_scores or ():
            if scores.shape != (n, c) or not np.isfinite(scores).all():
                raise ValueError(f"class_scores must be finite, two of [{n}, {c}], got {list(scores.shape)}")
        for name in ("saliency_visual", "saliency_textual", "frame_probabilities"):
            if not np.isfinite(getattr(self, name)).all():
                raise ValueError(f"{name} must be finite")


def module_saliency(output: TSQNetOutput, *, top_n: int, multi_label: bool = False) -> tuple[Tensor, Tensor]:
    """Compute the saliency curves S^v and S^t of N videos, each float64 [N, T].

    Args:
        output: of both modules, on the CPU.
        top_n: categories behind each curve, at least 1.
        multi_label: sigmoid instead of softmax.
    """
    visual, textual = (
        frame_saliency(module, top_n=top_n, multi_label=multi_label).scores.double()
        for module in (output.visual, output.textual)
    )
    return visual, textual


def selector_input(
    saliency: tuple[Tensor, Tensor],
    frame_logits: FloatArray,
    targets: BoolArray,
    *,
    settings: RuleSettings | None = None,
    multi_label: bool = False,
    features: Float32Array | None = None,
    class_scores: tuple[Tensor, Tensor] | None = None,
) -> SelectorInput:
    """Build the inputs of the selectors.

    Args:
        saliency: S^v and S^t, [N, T] each, on the CPU.
        frame_logits: [N, T, C], of the recognizer on each frame alone.
        targets: bool [N, C], the true classes, at least one per video.
        settings: numbers of the rules of tsq_cli.selection; None is their defaults.
        multi_label: sigmoid instead of softmax.
        features: see SelectorInput.
        class_scores: z^v and z^t, [N, C] each, on the CPU; None leaves them out.

    Raises:
        ValueError: as SelectorInput.
    """
    visual, textual = saliency
    own = None if class_scores is None else (class_scores[0].double().numpy(), class_scores[1].double().numpy())
    return SelectorInput(
        saliency_visual=visual.numpy(),
        saliency_textual=textual.numpy(),
        frame_probabilities=class_probabilities(frame_logits, multi_label=multi_label),
        targets=targets,
        settings=settings or RuleSettings(),
        features=features,
        class_scores=own,
    )


def class_probabilities(logits: FloatArray, *, multi_label: bool = False) -> Float64Array:
    """Compute float64 probabilities of logits [..., C]: softmax over the classes, or sigmoid if `multi_label`."""
    wide: Float64Array = probabilities(torch.from_numpy(logits.astype(np.float64)), multi_label=multi_label).numpy()
    return wide


def select(
    name: EvaluatedSelector, inputs: SelectorInput, k: int, seed: int = 0, *, best_first: bool = False
) -> Int64Array:
    """Choose the frames of every video by one selector.

    Args:
        name: a rule of tsq_cli.selection, or confident (frames with the highest probability of any class), agree or
            agree3 (frames with the highest probability of one class: that whose two or three best frames have the
            highest geometric mean; ours), all (T frames, whatever k), or oracle (frames with the highest probability of
            a true class: an upper bound, since no selector knows the classes).
        inputs: of N videos.
        k: frames per video, at least 1; above T it is T.
        seed: of random alone; each video has a draw of its own.
        best_first: whether positions come in the order of the choice.

    Returns:
        int64 [N, min(k, T)] ([N, T] for all), distinct positions in [0, T) per video, in order of time or choice.

    Raises:
        UsageError: an unknown name, one of WITHOUT_FRAMES, or k below 1.
        ValueError: a rule that compares frames, without features.
    """
    if name not in ALL_SELECTORS or name in WITHOUT_FRAMES:
        known = ", ".join(known for known in ALL_SELECTORS if known not in WITHOUT_FRAMES)
        raise UsageError(f"{name} is no selector of frames", wanted=f"one of {known}", fix="correct the name")
    if k < 1:
        raise UsageError(f"{k} frames were asked for", wanted="at least 1", fix="ask for one frame or more")
    num_videos, num_candidates = inputs.saliency_visual.shape
    rule = _rule(name, inputs, num_candidates if name == "all" else k, seed)
    order = list if best_first else sorted
    return np.array([order(rule(number)) for number in range(num_videos)], dtype=np.int64)


def _rule(name: EvaluatedSelector, inputs: SelectorInput, k: int, seed: int) -> Callable[[int], Sequence[int]]:
    """Build the selector as a function from a video's number to the positions chosen in it."""
    num_videos, num_candidates = inputs.saliency_visual.shape
    if name == "confident" or name == "oracle":
        counted = inputs.targets if name == "oracle" else np.ones_like(inputs.targets)
        highest = np.where(counted[:, None, :], inputs.frame_probabilities, 0.0).max(axis=2)
        return lambda n: ranking(highest[n])[:k]
    if name in AGREEING:
        best = np.sort(inputs.frame_probabilities, axis=1)[:, -AGREEING[name] :]  # [N, 2 or 3, C]
        agreed = best.prod(axis=1).argmax(axis=1)  # of the geometric means; the lower class of equal ones
        return lambda n: ranking(inputs.frame_probabilities[n, :, agreed[n]])[:k]
    if name == "all":
        return lambda _: range(num_candidates)
    seeds = np.random.SeedSequence(seed).generate_state(num_videos)  # one per video

    def rule(number: int) -> list[int]:
        evidence = Evidence(
            times=np.arange(num_candidates, dtype=np.float64),
            visual=np.asarray(inputs.saliency_visual[number], dtype=np.float64),
            textual=np.asarray(inputs.saliency_textual[number], dtype=np.float64),
            features=None if inputs.features is None else inputs.features[number],
        )
        settings = replace(inputs.settings, seed=int(seeds[number]))
        chosen = selection.choose(cast(SelectorName, name), evidence, k, settings)  # the others are above
        return [choice.position for choice in chosen.choices]

    return rule
