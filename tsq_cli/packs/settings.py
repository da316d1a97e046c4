"""The settings of a pack, as pack.json states them. Free of torch."""

from __future__ import annotations

from dataclasses import dataclass, field

from tsq_cli.consensus import MOST_EVIDENCE, Consensus, EarlyExit, Pooling
from tsq_cli.models.preprocess import MAX_INPUT, MIN_INPUT
from tsq_cli.packs.limits import MAX_CANDIDATES, MAX_NAMES
from tsq_cli.packs.words import Words
from tsq_cli.selection import RuleSettings
from tsq_cli.validation import check_range


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of a pack; S and ours as in docs/method.md, section 1.

    Attributes:
        num_candidates: T, candidates per video, 1 to MAX_CANDIDATES; also the length of a positional embedding.
        num_frames: K, frames to select, 1 to MAX_CANDIDATES.
        lambda_v: share of the visual module in the K frames, in [0, 1] (S: 0.6).
        top_n: categories behind each saliency curve, 1 to MAX_NAMES (ours).
        visual_scale, textual_scale: s of the two modules' softmax over frames; null is 1/sqrt(D) (ours).
        text_logit_scale: factor of the class-name embeddings in TQM's classifier (ours; training-free packs only).
        query_scale: sharpness of the weights that a free text query puts on the objects (ours).
        query_temperature: divides the object logits before frames are matched with a free text (ours).
        query_level, query_steepness: a frame matches a free text where its lift (models.query_lift) reaches the level;
            the steepness of the match around it. The defaults are those of imagenet-lite (docs/query.md,
            ours).
        flat_visual, flat_textual: a curve whose peak stays below this many times its mean singles out no frame; the
            record says so where both do (ours).
        sampler_input_size: side in pixels of what the networks of the two modules see, in the place of the input_size
            of their roles, which is what they see as recognizers; null keeps that (ours: finding the frames takes fewer
            pixels than naming them).
        standing_out: `auto` follows the paper's fusion where the visual curve's peak is at least this many times its
            mean, and covers what the video shows where it is not; 1 or more (ours).
        duplicate_cosine: two frames whose features are at least this much alike show the same, in (0, 1] (ours).
        multi_label: whether a video may be of several classes: the confidence in one is the sigmoid of its score then,
            not the softmax over all of them (ours).
        center_object_embeddings: whether TQM's texts are told apart by what they do not share: the mean embedding is
            subtracted from each before it is brought back to unit length (ours; free text queries keep the plain ones).
        pooling: how the logits of the K frames become one score per class of their video, see tsq_cli.models.pooling
            (ours).
        evidence_visual, evidence_textual: weights of the sampler's own log p^v and log p^t in the video's score, 0 to
            MOST_EVIDENCE; 0 leaves them out (ours).
        early_exit: when the pack's recognizer has seen enough of the K frames; null where that was never tuned (ours).
        words: temperatures of what is reported, and levels below which nothing is named (ours).
    """

    num_candidates: int
    num_frames: int
    lambda_v: float
    top_n: int
    visual_scale: float | None
    textual_scale: float | None
    query_scale: float
    query_temperature: float = 1.5
    query_level: float = 6.1
    query_steepness: float = 1.5
    text_logit_scale: float | None = None
    sampler_input_size: int | None = None
    center_object_embeddings: bool = False
    flat_visual: float = 1.05
    flat_textual: float = 1.05
    standing_out: float = 2.0
    duplicate_cosine: float = 0.97
    multi_label: bool = False
    pooling: Pooling = "logits"
    evidence_visual: float = 0.0
    evidence_textual: float = 0.0
    early_exit: EarlyExit | None = None
    words: Words = field(default_factory=Words)

    def __post_init__(self) -> None:
        check_range("num_candidates", self.num_candidates, 1, MAX_CANDIDATES)
        check_range("num_frames", self.num_frames, 1, MAX_CANDIDATES)
        check_range("top_n", self.top_n, 1, MAX_NAMES)
        check_range("lambda_v", self.lambda_v, 0, 1)
        check_range("evidence_visual", self.evidence_visual, 0, MOST_EVIDENCE)
        check_range("evidence_textual", self.evidence_textual, 0, MOST_EVIDENCE)
        if self.standing_out < 1.0:
            raise ValueError("standing_out of 1 or more")
        if not 0.0 < self.duplicate_cosine <= 1.0:
            raise ValueError("duplicate_cosine above 0, at most 1")
        if self.sampler_input_size is not None:
            check_range("sampler_input_size", self.sampler_input_size, MIN_INPUT, MAX_INPUT)
        queries = (self.query_scale, self.query_temperature, self.query_level, self.query_steepness)
        scales = (self.visual_scale, self.textual_scale, self.text_logit_scale, *queries)
        if any(scale is not None and scale <= 0 for scale in scales):
            raise ValueError("scales above 0")

    @property
    def consensus(self) -> Consensus:
        """How the scores of frames become those of their video."""
        return Consensus(
            pooling=self.pooling,
            evidence_visual=self.evidence_visual,
            evidence_textual=self.evidence_textual,
            multi_label=self.multi_label,
        )

    @property
    def rules(self) -> RuleSettings:
        """The settings that the rules of tsq_cli.selection read."""
        return RuleSettings(
            lambda_v=self.lambda_v, standing_out=self.standing_out, duplicate_cosine=self.duplicate_cosine
        )
