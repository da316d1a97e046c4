"""The variants of a TSQ layer, as pack.json and train.toml name them. Free of torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from tsq_cli.validation import check_range

Sharing = Literal["class-specific", "class-agnostic"]
Classifier = Literal["class-specific", "class-agnostic", "counting"]

MAX_LAYERS = 16  # of width D, each of 3 D^2 numbers; the paper has one
MAX_HEADS = 128


@dataclass(frozen=True, kw_only=True)
class TSQLayerConfig:
    """A variant of TSQLayer; the defaults are the paper's (S; docs/method.md, section 2).

    Attributes:
        num_layers: cross-attentions in a row, 1 to MAX_LAYERS; the output of one gives the queries of the next (ours).
            S: 1.
        num_heads: heads of each attention, 1 to MAX_HEADS; their outputs are concatenated. Must divide the layer's
            width. S: 1.
        self_attention: whether the queries attend to each other before each cross-attention. S: False.
        attention: one query per class, or one query for all. S: class-specific.
        classifier: one fully connected layer per class, or a single one for all (S, C.1). The single one has C outputs
            where there is one query, so that with one query the two are the same; where each class has its query, it
            has one output, which judges all classes by the same weights. "counting" (ours) adds up how surely each
            frame shows a class, so that a class which is seen again outweighs one that is seen once; the same scores
            give the attention. Only with one layer of one head and class-specific attention. S: class-specific.
        projections: learnable Wq, Wk, Wv that start as the identity; False is the exact identity without parameters.
        positional_embedding: a learnable P [num_frames, dim] that starts at zero, added to the keys only.
        competition_floor: queries compete for frames (ours, off by default): from all of a frame's scores, in attention
            and classifier, competition_weight times its best class's score is subtracted, or times this floor where no
            class reaches it. Each frame's scores are relative to its best class, so several agreeing frames outweigh
            one confident outlier. Only with one layer of one head and class-specific attention and classifier. None
            leaves the scores alone.
        competition_weight: above 0 and at most 1; below 1 a clearer frame of a class still beats a less clear one.
        blank_frame_penalty: subtracted besides, per unit by which a frame's best score stays below the floor, so that
            dark, blurred and empty frames neither speak for a class nor are chosen. 0 or more.

    Raises:
        ValueError: a value out of range; the message says what is wanted.
    """

    num_layers: int = 1
    num_heads: int = 1
    self_attention: bool = False
    attention: Sharing = "class-specific"
    classifier: Classifier = "class-specific"
    projections: bool = True
    positional_embedding: bool = True
    competition_floor: float | None = None
    competition_weight: float = 1.0
    blank_frame_penalty: float = 0.0

    @property
    def counts(self) -> bool:
        """Whether the classifier counts frames."""
        return self.classifier == "counting"

    @property
    def shares_classifier_weight(self) -> bool:
        """Whether all classes share one row of weights: each has its query and one layer judges all outputs (CS+CA)."""
        return self.attention == "class-specific" and self.classifier == "class-agnostic"

    def __post_init__(self) -> None:
        check_range("num_layers", self.num_layers, 1, MAX_LAYERS)
        check_range("num_heads", self.num_heads, 1, MAX_HEADS)
        for name, kinds in (("attention", Sharing), ("classifier", Classifier)):
            if getattr(self, name) not in get_args(kinds):
                raise ValueError(f"{name} {' or '.join(get_args(kinds))}, not {getattr(self, name)!r}")
        one = self.num_layers == self.num_heads == 1 and self.attention == "class-specific" and not self.self_attention
        if self.counts and not one:
            raise ValueError("a counting classifier only for one layer of one head with a query per class")
        if not 0 < self.competition_weight <= 1:
            raise ValueError(f"competition_weight above 0, at most 1, not {self.competition_weight}")
        if not 0 <= self.blank_frame_penalty < math.inf:
            raise ValueError(f"a finite blank_frame_penalty, 0 or more, not {self.blank_frame_penalty}")
        if self.competition_floor is not None:
            self._check_competition(self.competition_floor)

    def _check_competition(self, floor: float) -> None:
        if not math.isfinite(floor):
            raise ValueError(f"a finite competition_floor, or null for no competition, not {floor}")
        plain = self.num_layers == self.num_heads == 1 and self.attention == self.classifier == "class-specific"
        if not plain:
            raise ValueError(f"competition_floor null, but for one class-specific layer of one head, not {floor}")
