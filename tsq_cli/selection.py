"""The rules that choose K of a video's T candidates: named, pure functions of the evidence about the candidates.

A rule takes Evidence, K and RuleSettings, and returns its choices in the order in which it made them. `choose` applies
a rule by its name and explains the result. S: the paper's supplementary; the rest is ours, or another author's where
stated (docs/method.md, sections 5 and 9).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tsq_cli.config import Order, SelectorName
from tsq_cli.errors import UsageError
from tsq_cli.rules import others
from tsq_cli.rules.cover import cover, duplicate_level, duplicates_of, events_of
from tsq_cli.rules.evidence import Evidence
from tsq_cli.rules.matching import choose_matching
from tsq_cli.rules.ordering import ranking, spread
from tsq_cli.types import ChosenBy, Float64Array, Int64Array, QueryAnswer


@dataclass(frozen=True)
class Choice:
    """One selected candidate: its position in [0, T), and the reason."""

    position: int
    chosen_by: ChosenBy


@dataclass(frozen=True, kw_only=True)
class RuleSettings:
    """Parameters of the rules.

    Attributes:
        lambda_v: share of the visual module in the paper's fusion, in [0, 1] (S: 0.6).
        standing_out: `auto` follows the paper's fusion if the visual curve's peak is at least this many times its mean
            (ours; a setting of the pack).
        duplicate_cosine: two frames at least this much alike are duplicates (ours; a setting of the pack).
        skips_duplicates: whether `auto` and `cover` skip duplicates while other frames are left.
        only_different: whether `auto` and `cover` return fewer than K frames rather than a duplicate.
        seed: random seed of `random`.
    """

    lambda_v: float = 0.6
    standing_out: float = 2.0
    duplicate_cosine: float = 0.97
    skips_duplicates: bool = True
    only_different: bool = False
    seed: int = 0


Rule = Callable[[Evidence, int, RuleSettings], list[Choice]]


@dataclass(frozen=True, kw_only=True)
class Selection:
    """A rule's choices, and the reason for the rule.

    Attributes:
        choices: at most min(K, T), in the order in which they were made.
        rule: the rule that made them; for `auto`, the rule it followed.
        reason: reason for this rule, a sentence; empty if the rule was requested by its name.
        events: int64 [T], the event of each candidate, from 0; None if frames were not compared.
        duplicate_of: int64 [T], position of an earlier choice that shows the same, or -1; None as above.
    """

    choices: tuple[Choice, ...]
    rule: SelectorName
    reason: str = ""
    events: Int64Array | None = None
    duplicate_of: Int64Array | None = None

    def listed(self, order: Order) -> Sequence[Choice]:
        """The choices in order of time, or as they were made ("score")."""
        return sorted(self.choices, key=lambda choice: choice.position) if order == "time" else self.choices


def choose(
    name: SelectorName,
    evidence: Evidence,
    k: int,
    settings: RuleSettings | None = None,
    *,
    follows: tuple[SelectorName, str] | None = None,
) -> Selection:
    """Choose K of T candidates by a rule's name.

    Args:
        name: one of RULES.
        evidence: of one video.
        k: number of frames wanted, at least 1; above T all T are chosen.
        settings: the rules' parameters; None for the defaults.
        follows: the rule that `auto` follows and the reason, if that was decided on other evidence; else `follow`
            decides.

    Raises:
        UsageError: k below 1, or an unknown rule.
        ValueError: evidence that the rule needs is missing.
    """
    settings = settings or RuleSettings()
    _check_k(k)
    if name not in RULES:
        raise UsageError(f"{name} is not a rule", wanted=f"one of {', '.join(RULES)}", fix="correct the name")
    k = min(k, len(evidence))
    rule, reason = (follows or follow(evidence, settings)) if name == "auto" else (name, "")
    choices = _auto(evidence, k, settings, rule) if name == "auto" else RULES[name](evidence, k, settings)
    return selected(choices, evidence, settings, rule=rule, reason=reason)


def selected(
    choices: Sequence[Choice], evidence: Evidence, settings: RuleSettings, *, rule: SelectorName, reason: str = ""
) -> Selection:
    """Complete a rule's choices with the events of the video, and with what shows the same as a choice."""
    if evidence.features is None:
        return Selection(choices=tuple(choices), rule=rule, reason=reason)
    similarity = evidence.similarity
    level = duplicate_level(similarity, settings.duplicate_cosine)
    return Selection(
        choices=tuple(choices),
        rule=rule,
        reason=reason,
        events=events_of(similarity, duplicate_cosine=level),
        duplicate_of=duplicates_of([choice.position for choice in choices], similarity, level),
    )


def choose_asked(answer: QueryAnswer, evidence: Evidence, k: int, settings: RuleSettings) -> Selection:
    """Choose K of T candidates by their matches with the queries: places first (tsq_cli.rules.matching).

    Args:
        answer: matches of the queries with the candidates.
        evidence: of the same video, with features.
        k: number of frames wanted, at least 1; above T all T are chosen.
        settings: of the rules; `only_different` stops after one frame per place.
    """
    similarity = evidence.similarity
    level = duplicate_level(similarity, settings.duplicate_cosine)
    positions = choose_matching(
        np.array([query.matches for query in answer.queries]),
        k,
        events=events_of(similarity, duplicate_cosine=level),
        same=similarity >= level if settings.skips_duplicates else np.eye(len(similarity), dtype=np.bool_),
        only_places=settings.only_different,
    )
    return selected([Choice(position, "query") for position in positions], evidence, settings, rule="tqm")


def follow(evidence: Evidence, settings: RuleSettings) -> tuple[SelectorName, str]:
    """Decide which rule `auto` follows: the paper's fusion if some frames stand out, else `cover` (ours).

    Returns:
        The rule's name, and the reason as a sentence without a final stop.
    """
    curve = evidence.both_curves()[0]
    if evidence.quality is not None and evidence.quality.any():  # beside blank frames any picture would stand out
        curve = curve[evidence.quality > 0]
    peak = peak_over_mean(curve)
    if peak >= settings.standing_out:
        return "tsq", (
            f"some frames stand out: visual saliency peaks at {peak:.2f} times its mean "
            f"(at least {settings.standing_out:.2f}), so the most salient frames were taken"
        )
    return "cover", (
        f"nothing stands out: visual saliency peaks at {peak:.2f} times its mean "
        f"(below {settings.standing_out:.2f}), so the frames were spread over what the video shows"
    )


def visual_share(k: int, lambda_v: float) -> int:
    """Compute n_v, the number of frames that the visual module picks: lambda_v * k, halves rounded up (rounding ours).

    Args:
        k: number of frames to select, at least 1.
        lambda_v: share of the visual module in [0, 1] (S: 0.6).

    Raises:
        UsageError: k below 1 or lambda_v outside [0, 1].
    """
    _check_k(k)
    if not 0.0 <= lambda_v <= 1.0:
        raise UsageError(f"lambda_v is {lambda_v}", wanted="a share between 0 and 1", fix="use 0.6, as the paper does")
    # The small term keeps 0.7 * 5 (3.4999999999999996 in binary) on the side that decimal arithmetic puts it.
    return min(k, math.floor(lambda_v * k + 0.5 + 1e-9))


def fuse(visual: npt.ArrayLike, textual: npt.ArrayLike, k: int, *, lambda_v: float = 0.6) -> list[Choice]:
    """Choose min(k, T) distinct candidates from the two modules' saliency (S; rounding and ties ours).

    First come the n_v = round_half_up(lambda_v * k) frames with the highest S^v, then the k - n_v with the highest S^t.
    A frame chosen by both counts once; the places that this leaves free are filled with the next best frames by S^v.
    Equal scores spread over the video, see ranking.

    Args:
        visual: S^v, real and finite, [T], T at least 1.
        textual: S^t, real and finite, [T].
        k: number of frames wanted, at least 1; above T all T frames are returned.
        lambda_v: share of the visual module in [0, 1].

    Returns:
        min(k, T) choices in the order in which they were made (visual, textual, refill), not in order of time.

    Raises:
        UsageError: k below 1, or lambda_v outside [0, 1].
        ValueError: saliency that is empty, not one-dimensional, of unequal length, or not finite.
    """
    s_v = _checked_scores(visual, "visual")
    s_t = _checked_scores(textual, "textual")
    if s_v.shape != s_t.shape:
        raise ValueError(f"visual {s_v.shape} and textual {s_t.shape} saliency must have the same length")
    k = min(k, len(s_v)) if k >= 1 else k
    n_v = visual_share(k, lambda_v)
    return _fused(ranking(s_v, k), ranking(s_t, k), k, n_v)


def _fused(by_visual: Sequence[int], by_textual: Sequence[int], k: int, n_v: int) -> list[Choice]:
    """Fuse two rankings, which may lack candidates: n_v by the first, k - n_v by the second, the rest by the first."""
    chosen: dict[int, ChosenBy] = dict.fromkeys(by_visual[:n_v], "visual")
    for position in by_textual[: k - n_v]:
        chosen.setdefault(position, "textual")
    for position in by_visual[n_v:]:
        if len(chosen) == k:
            break
        chosen.setdefault(position, "refill")
    return [Choice(position, chosen_by) for position, chosen_by in chosen.items()]


def top_k(scores: npt.ArrayLike, k: int, *, chosen_by: ChosenBy) -> list[Choice]:
    """Choose the min(k, T) highest-scoring candidates of one curve, best first; equal scores spread, see ranking.

    Args:
        scores: real and finite, [T], T at least 1.
        k: number of frames wanted, at least 1.
        chosen_by: reason to record.

    Raises:
        UsageError: k below 1.
        ValueError: scores that are empty, not one-dimensional or not finite.
    """
    _check_k(k)
    return [Choice(position, chosen_by) for position in ranking(_checked_scores(scores, "one-module"), k)[:k]]


def uniform(num_candidates: int, k: int) -> list[Choice]:
    """Choose the candidates at the centers of min(k, T) equal segments of [0, T) (baseline)."""
    _check_k(k)
    return [Choice(position, "uniform") for position in spread(num_candidates, k)]


def random(num_candidates: int, k: int, *, seed: int) -> list[Choice]:
    """Draw min(k, T) distinct candidates without replacement, the same for the same seed (baseline)."""
    _check_k(k)
    drawn = np.random.default_rng(seed).choice(num_candidates, size=min(k, num_candidates), replace=False)
    return [Choice(int(position), "random") for position in drawn]


def middle(num_candidates: int, k: int) -> list[Choice]:
    """Choose the min(k, T) neighboring candidates around the middle of the video (baseline)."""
    _check_k(k)
    k = min(k, num_candidates)
    first = (num_candidates - k) // 2
    return [Choice(position, "middle") for position in range(first, first + k)]


def peak_over_mean(scores: npt.ArrayLike) -> float:
    """Measure how far a saliency curve [T] stands out: its peak over its mean, 1.0 for a flat curve (ours)."""
    checked = _checked_scores(scores, "one-module")
    mean = float(checked.mean())
    return max(1.0, float(checked.max()) / mean) if mean > 0 else 1.0  # a mean can be rounded above the peak


def _tsq(evidence: Evidence, k: int, settings: RuleSettings) -> list[Choice]:
    """Apply the paper's fusion to the letter (S)."""
    return fuse(*evidence.both_curves(), k, lambda_v=settings.lambda_v)


def _salient(evidence: Evidence, k: int, settings: RuleSettings) -> list[Choice]:
    """Apply the paper's fusion, skipping blank frames and duplicates of chosen ones (ours)."""
    same = evidence.similarity >= duplicate_level(evidence.similarity, settings.duplicate_cosine)
    by_visual, by_textual = (ranking(curve, k) for curve in evidence.both_curves())
    n_v = visual_share(k, settings.lambda_v)
    passed = set() if evidence.quality is None else {int(i) for i in np.flatnonzero(evidence.quality == 0)}
    while True:
        left_v, left_t = ([i for i in order if i not in passed] for order in (by_visual, by_textual))
        choices = _fused(left_v, left_t, k, n_v)
        if not settings.skips_duplicates:
            break
        chosen = [choice.position for choice in choices]
        twice = [chosen[i] for i in range(len(chosen)) if same[chosen[i], chosen[:i]].any()]
        if not twice:
            break
        passed.add(twice[0])  # only the first: without it the places of the others change
    if not settings.only_different:
        rest = [position for position in by_visual if position in passed]
        choices += [Choice(position, "refill") for position in rest[: k - len(choices)]]
    return choices


def _cover(evidence: Evidence, k: int, settings: RuleSettings) -> list[Choice]:
    """Apply tsq_cli.rules.cover: one frame per event, then those that add the most (ours)."""
    similarity = evidence.similarity
    chosen = cover(
        similarity,
        evidence.saliency,
        evidence.times,
        k,
        quality=evidence.quality,
        layout=evidence.layout,
        duplicate_cosine=duplicate_level(similarity, settings.duplicate_cosine),
        skips_duplicates=settings.skips_duplicates,
        only_different=settings.only_different,
    )
    return [Choice(position, chosen_by) for position, chosen_by in chosen]


def _auto(evidence: Evidence, k: int, settings: RuleSettings, rule: SelectorName | None = None) -> list[Choice]:
    """Apply the paper's fusion without duplicates if some frames stand out (or `rule` is "tsq"), else cover (ours)."""
    return (_salient if (rule or follow(evidence, settings)[0]) == "tsq" else _cover)(evidence, k, settings)


def _compared(choose_positions: Callable[[Float64Array, Float64Array, int], list[int]], name: ChosenBy) -> Rule:
    """Wrap another author's rule over (relevance, similarity, k) as a Rule."""

    def rule(evidence: Evidence, k: int, _settings: RuleSettings) -> list[Choice]:
        return [Choice(position, name) for position in choose_positions(evidence.saliency, evidence.similarity, k)]

    return rule


RULES: Mapping[SelectorName, Rule] = {
    "auto": _auto,
    "tsq": _tsq,
    "cover": _cover,
    "vqm": lambda evidence, k, _: top_k(evidence.both_curves()[0], k, chosen_by="visual"),
    "tqm": lambda evidence, k, _: top_k(evidence.both_curves()[1], k, chosen_by="textual"),
    "topk": lambda evidence, k, _: top_k(evidence.saliency, k, chosen_by="topk"),
    "mmr": _compared(others.mmr, "mmr"),
    "bolt": _compared(lambda relevance, _, k: others.bolt(relevance, k), "bolt"),
    "aks": _compared(lambda relevance, _, k: others.aks(relevance, k), "aks"),
    "dpp": _compared(others.dpp, "dpp"),
    "kcenter": _compared(lambda _, similarity, k: others.k_center(similarity, k), "kcenter"),
    "facility": _compared(lambda _, similarity, k: others.facility_location(similarity, k), "facility"),
    "uniform": lambda evidence, k, _: uniform(len(evidence), k),
    "random": lambda evidence, k, settings: random(len(evidence), k, seed=settings.seed),
    "middle": lambda evidence, k, _: middle(len(evidence), k),
}
"""Every rule by the name that a user types; the first five are the product's, the others are for comparison."""


def _check_k(k: int) -> None:
    if k < 1:
        raise UsageError(f"{k} frames were asked for", wanted="at least 1", fix="give -k 1 or more (default 5)")


def _checked_scores(scores: npt.ArrayLike, module: str) -> Float64Array:
    checked = np.asarray(scores, dtype=np.float64)
    if checked.ndim != 1 or len(checked) == 0:
        raise ValueError(f"{module} saliency must be [T] with T >= 1, got shape {checked.shape}")
    if not np.isfinite(checked).all():
        bad = np.flatnonzero(~np.isfinite(checked))
        raise ValueError(f"{module} saliency must be finite, got {checked[bad[0]]} at position {bad[0]}")
    return checked
