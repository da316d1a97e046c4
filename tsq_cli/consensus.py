"""How the scores of K frames become those of their video: the settings of tsq_cli.models.pooling. Free of torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any, Literal, get_args

from tsq_cli.errors import UsageError

Pooling = Literal[
    "logits", "probabilities", "weighted-logits", "weighted-probabilities", "best-two", "recurrence"
]  # fmt: skip
"""The ways from K frames' logits to one score per class of their video, see tsq_cli.models.pooling."""

UNWEIGHTED: Mapping[Pooling, Pooling] = {"weighted-logits": "logits", "weighted-probabilities": "probabilities"}
"""The poolings that weigh frames by S^v, and what each is where all frames weigh the same."""

MOST_EVIDENCE = 100.0


@dataclass(frozen=True, kw_only=True)
class Consensus:
    """Settings by which the class scores of K frames, and the sampler's own, become those of the video (ours).

    tsq_cli.models.pooling.video_scores computes it; TSN (Wang et al., ECCV 2016) calls it the consensus of the frames.

    Attributes:
        pooling: of the frames' logits.
        evidence_visual, evidence_textual: weights of the sampler's own log p^v and log p^t of the whole video, from 0
            (left out) to MOST_EVIDENCE.
        multi_label: whether a video may be of several classes: sigmoids instead of a softmax.

    Raises:
        UsageError: an unknown pooling, or a weight out of range.
    """

    pooling: Pooling = "logits"
    evidence_visual: float = 0.0
    evidence_textual: float = 0.0
    multi_label: bool = False

    def __post_init__(self) -> None:
        if self.pooling not in get_args(Pooling):
            raise UsageError(
                f"the pooling is {self.pooling!r}",
                wanted="one of " + ", ".join(get_args(Pooling)),
                fix="leave it to the pack",
            )
        for name in ("evidence_visual", "evidence_textual"):
            if not 0.0 <= getattr(self, name) <= MOST_EVIDENCE:
                raise UsageError(
                    f"{name} is {getattr(self, name):g}",
                    wanted=f"a weight from 0 to {MOST_EVIDENCE:g}",
                    fix="try 0.5, or 0 to leave it out",
                )

    @property
    def has_evidence(self) -> bool:
        """Whether the sampler's own class scores take part."""
        return self.evidence_visual > 0 or self.evidence_textual > 0

    @property
    def without_sampler(self) -> Consensus:
        """The same where no sampler ran: all frames weigh the same, and there is no evidence."""
        pooling = UNWEIGHTED.get(self.pooling, self.pooling)
        return replace(self, pooling=pooling, evidence_visual=0.0, evidence_textual=0.0)

    def changed(self, pooling: Pooling | None, evidence: float | Sequence[float] | None) -> Consensus:
        """Replace what a run asks for; None keeps the pack's.

        Args:
            pooling: as above.
            evidence: weights of log p^v and log p^t; a single one is that of log p^v alone.

        Raises:
            UsageError: as the class, or as evidence_weights.
        """
        new = self if pooling is None else replace(self, pooling=pooling)
        if evidence is None:
            return new
        visual, textual = (*evidence_weights(evidence), 0.0)[:2]
        return replace(new, evidence_visual=visual, evidence_textual=textual)


def evidence_weights(evidence: Any) -> tuple[float, ...]:
    """Bring weights of evidence to one form: a number, or one or two of them, of Python or of NumPy.

    Raises:
        UsageError: something else.
    """
    try:
        weights = (evidence,) if isinstance(evidence, str | bytes) else tuple(evidence)
    except TypeError:  # no sequence
        weights = (evidence,)
    if not 1 <= len(weights) <= 2 or not all(map(_is_weight, weights)):
        raise UsageError(
            f"evidence is {evidence!r}",
            wanted=f"one weight from 0 to {MOST_EVIDENCE:g} for the visual module's class scores, or two, the second "
            "for the textual module's",
            fix="try 0.5, or 0 to leave them out",
        )
    return tuple(float(weight) for weight in weights)


def _is_weight(value: Any) -> bool:
    number: Any = value if isinstance(value, Real) else math.nan
    return not isinstance(value, bool) and bool(0 <= number <= MOST_EVIDENCE)


@dataclass(frozen=True, kw_only=True)
class EarlyExit:
    """When a recognizer has seen enough of a video's chosen frames, of which it sees one after the other (ours).

    tsq_cli.evaluation.early_exit tunes it, for one recognizer and one consensus.

    Attributes:
        bar: probability of the video's first class from which it stops, above 0, at most 1.
        temperatures: what the video's scores are divided by before they are probabilities, after 1, 2, ... frames; as
            many as frames can be asked for. Scores of few frames and of many are confident to other degrees, and a
            ranking of videos would suffer from it.

    Raises:
        ValueError: a value out of range.
    """

    bar: float
    temperatures: tuple[float, ...]

    def __post_init__(self) -> None:
        if not 0.0 < self.bar <= 1.0:
            raise ValueError(f"bar above 0, at most 1, not {self.bar:g}")
        if not self.temperatures or not all(0.0 < one < math.inf for one in self.temperatures):
            raise ValueError("one temperature or more, above 0 each")
