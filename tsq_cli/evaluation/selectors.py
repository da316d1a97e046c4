"""Room 4: the rules that choose K of T frames, over many videos at once: arrays in, positions out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from tsq_cli import selection
from tsq_cli.errors import UsageError
from tsq_cli.models import TSQNetOutput, frame_saliency
from tsq_cli.types import BoolArray, Float64Array, Int64Array

FloatArray = npt.NDArray[np.floating[Any]]
Selector = Literal["tsq", "vqm", "tqm", "uniform", "random", "middle", "confident", "all", "oracle"]
SELECTORS: tuple[Selector, ...] = get_args(Selector)
SELECTOR_TITLES: dict[Selector, str] = {
    "tsq": "TSQNet (both modules)",
    "vqm": "visual module (VQM)",
    "tqm": "textual module (TQM)",
    "uniform": "uniform",
    "random": "random",
    "middle": "middle",
    "confident": "most confident frames",
    "all": "all frames",
    "oracle": "oracle (true class known)",
}


@dataclass(frozen=True, kw_only=True)
class SelectorInput:
    """What the rules may look at, of N videos with T frames each and C classes.

    Attributes:
        saliency_visual, saliency_textual: S^v and S^t, real and finite, [N, T].
        frame_probabilities: what the recogniser says of each frame alone, 0 to 1, [N, T, C]; see class_probabilities.
        targets: bool [N, C], the true classes, at least one a video; only the oracle looks at them.
        lambda_v: share of the visual module in the fusion, 0 to 1 (S: 0.6).

    Raises:
        ValueError: arrays whose shapes do not agree or that are not finite, or a video without a class.
    """

    saliency_visual: FloatArray
    saliency_textual: FloatArray
    frame_probabilities: FloatArray
    targets: BoolArray
    lambda_v: float = 0.6

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
        frame_logits: of the recogniser, [N, T, C].
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
        lambda_v=lambda_v,
    )


def class_probabilities(logits: FloatArray, *, multi_label: bool = False) -> Float64Array:
    """Softmax of logits [..., C] over the classes, or their sigmoid where a video may have several labels."""
    logits = logits.astype(np.float64)
    if multi_label:
        likely: Float64Array = np.exp(-np.logaddexp(0.0, -logits))  # = 1 / (1 + exp(-x)), without overflow
        return likely
    odds: Float64Array = np.exp(logits - logits.max(axis=-1, keepdims=True))
    odds /= odds.sum(axis=-1, keepdims=True)
    return odds


def select(name: Selector, inputs: SelectorInput, k: int, seed: int = 0) -> Int64Array:
    """Choose the frames of every video by one rule.

    Args:
        name: tsq (fusion of both modules), vqm, tqm (one of them), uniform (centres of equal segments), random,
            middle, confident (frames with the highest probability of any class), all (T frames, whatever k), oracle
            (frames with the highest probability of a true class: what no rule can know, a bound to compare with).
        inputs: of N videos.
        k: frames a video, at least 1; above T it is T.
        seed: of random alone; each video has a draw of its own.

    Returns:
        int64 [N, min(k, T)] ([N, T] for all), distinct positions in [0, T) of each video, in order of time.

    Raises:
        UsageError: a name that is no rule, or k below 1.
    """
    if name not in SELECTORS:
        raise UsageError(f"{name} is no selector", wanted=f"one of {', '.join(SELECTORS)}", fix="correct the name")
    if k < 1:
        raise UsageError(f"{k} frames were asked for", wanted="at least 1", fix="ask for one frame or more")
    num_videos, num_candidates = inputs.saliency_visual.shape
    rule = _rule(name, inputs, num_candidates if name == "all" else k, seed)
    return np.array([sorted(rule(number)) for number in range(num_videos)], dtype=np.int64)


def _rule(name: Selector, inputs: SelectorInput, k: int, seed: int) -> Callable[[int], Sequence[int]]:
    """The rule, as a function from a video's number to the positions that it chooses there."""
    s_v, s_t = inputs.saliency_visual, inputs.saliency_textual
    num_videos, num_candidates = s_v.shape
    if name == "tsq":
        return lambda n: _positions(selection.fuse(s_v[n], s_t[n], k, lambda_v=inputs.lambda_v))
    if name == "random":
        seeds = np.random.SeedSequence(seed).generate_state(num_videos)
        return lambda n: _positions(selection.random(num_candidates, k, seed=int(seeds[n])))
    if name in ("uniform", "middle", "all"):
        positions = _positions((selection.middle if name == "middle" else selection.uniform)(num_candidates, k))
        return lambda _: positions
    curves = {"vqm": s_v, "tqm": s_t}.get(name)
    if curves is None:
        counted = inputs.targets if name == "oracle" else np.ones_like(inputs.targets)
        curves = np.where(counted[:, None, :], inputs.frame_probabilities, 0.0).max(axis=2)
    return lambda n: selection.ranking(curves[n])[:k]


def _positions(choices: Sequence[selection.Choice]) -> list[int]:
    return [choice.position for choice in choices]
