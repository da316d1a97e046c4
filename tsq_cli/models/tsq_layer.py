"""The temporal saliency query layer, class queries that attend to frames (S; docs/method.md, section 2).

    Q = E Wq    K = (X + P) Wk    V = X Wv          E [C, D] queries, X [B, T, D] frames, P [T, D] positions
    A = softmax over frames(Q K^T * s)   [B, C, T]  the saliency of each frame for each class
    z_c = <w_c, (A V)_c> + b_c           [B, C]     the class scores

One layer with one head, class-specific attention and a class-specific classifier are the paper's choice (S). What S
leaves open is ours: projections start as the identity, P at zero, there is no output projection, residual, LayerNorm or
feed-forward part. So an untrained layer with good queries already works.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from tsq_cli.errors import UsageError, WeightsError

Sharing = Literal["class-specific", "class-agnostic"]


@dataclass(frozen=True, kw_only=True)
class TSQLayerConfig:
    """Shape and variant of a TSQLayer, stored in pack.json.

    Attributes:
        dim: D, width of frame features and queries.
        num_classes: C.
        num_frames: frames the positional embedding is made for; other lengths are interpolated over time.
        num_layers: cross-attentions in a row; the output of one gives the queries of the next (ours). S: 1.
        num_heads: heads of each attention; their outputs are concatenated. Must divide dim. S: 1.
        self_attention: whether the queries attend to each other before each cross-attention. S: False.
        attention: one query per class, or one query for all. S: class-specific.
        classifier: each class judges the output of its own query, or one linear layer with C outputs judges the mean
            over the queries' outputs (the mean is ours). With a single query the two are the same. S: class-specific.
        projections: learnable Wq, Wk, Wv that start as the identity; False is the exact identity without parameters.
        positional_embedding: a learnable P [num_frames, dim] that starts at zero, added to the keys only.
        scale: s, factor of the attention scores, finite and above 0; None is 1 / sqrt(dim / num_heads).
        competition_floor: queries compete for frames (ours, off by default): from all of a frame's scores, in attention
            and classifier, competition_weight times its best class's score is subtracted, or times this floor where no
            class reaches it. Each frame's scores are relative to its best class, so several agreeing frames outweigh
            one confident outlier. Only with one layer of one head and class-specific attention and classifier. None
            leaves the scores alone.
        competition_weight: above 0 and at most 1; below 1 a clearer frame of a class still beats a less clear one.
        blank_frame_penalty: subtracted besides, per unit by which a frame's best score stays below the floor, so that
            dark, blurred and empty frames neither speak for a class nor are chosen. 0 or more.

    Raises:
        UsageError: a value out of range, or self-attention with a single query (it would attend to itself only).
    """

    dim: int
    num_classes: int
    num_frames: int = 16
    num_layers: int = 1
    num_heads: int = 1
    self_attention: bool = False
    attention: Sharing = "class-specific"
    classifier: Sharing = "class-specific"
    projections: bool = True
    positional_embedding: bool = True
    scale: float | None = None
    competition_floor: float | None = None
    competition_weight: float = 1.0
    blank_frame_penalty: float = 0.0

    def __post_init__(self) -> None:
        for name in ("dim", "num_classes", "num_frames", "num_layers", "num_heads"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise _bad_config(name, value, "a whole number, 1 or more")
        for name in ("self_attention", "projections", "positional_embedding"):
            if type(getattr(self, name)) is not bool:
                raise _bad_config(name, getattr(self, name), "true or false")
        for name in ("attention", "classifier"):
            if getattr(self, name) not in get_args(Sharing):
                raise _bad_config(name, getattr(self, name), " or ".join(get_args(Sharing)))
        if self.scale is not None and not (_is_number(self.scale) and math.isfinite(self.scale) and self.scale > 0):
            raise _bad_config("scale", self.scale, "a finite number above 0, or null for 1 / sqrt(dim / num_heads)")
        self._check_rivals()
        if self.dim % self.num_heads:
            raise _bad_config("num_heads", self.num_heads, f"a divisor of dim {self.dim}")
        if self.self_attention and self.num_queries == 1:
            raise _bad_config("self_attention", True, "false where there is a single query, which has no other to see")

    def _check_rivals(self) -> None:
        if not (_is_number(self.competition_weight) and 0 < self.competition_weight <= 1):
            raise _bad_config("competition_weight", self.competition_weight, "a number above 0, at most 1")
        if not (_is_number(self.blank_frame_penalty) and 0 <= self.blank_frame_penalty < math.inf):
            raise _bad_config("blank_frame_penalty", self.blank_frame_penalty, "a finite number, 0 or more")
        if self.competition_floor is None:
            return
        if not (_is_number(self.competition_floor) and math.isfinite(self.competition_floor)):
            raise _bad_config(
                "competition_floor", self.competition_floor, "a finite number, or null for no competition"
            )
        plain = self.num_layers == self.num_heads == 1 and self.attention == self.classifier == "class-specific"
        if not plain:
            raise _bad_config(
                "competition_floor", self.competition_floor, "null, but for one class-specific layer of one head"
            )

    @property
    def num_queries(self) -> int:
        """C queries, or one with class-agnostic attention."""
        return self.num_classes if self.attention == "class-specific" else 1

    @property
    def head_scale(self) -> float:
        """The scale in force: the one given, or 1 / sqrt(dim / num_heads)."""
        return self.scale if self.scale is not None else (self.dim // self.num_heads) ** -0.5

    def to_dict(self) -> dict[str, Any]:
        """All fields by name, JSON-ready."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TSQLayerConfig:
        """Build a configuration from `to_dict`'s form.

        Raises:
            UsageError: an unknown or missing field, or a value out of range.
        """
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(values) - known):
            raise UsageError(
                f"TSQ layer settings hold the unknown {', '.join(map(repr, unknown))}",
                wanted="some of " + ", ".join(sorted(known)),
                fix="correct the name, or update tsq if the pack is newer",
            )
        if missing := sorted({"dim", "num_classes"} - set(values)):
            raise UsageError(
                f"TSQ layer settings lack {', '.join(missing)}", wanted="at least dim and num_classes", fix="add them"
            )
        return cls(**values)


@dataclass(frozen=True)
class TSQOutput:
    """What a TSQLayer says of B clips of T frames.

    Attributes:
        logits: [B, C], one score per class, in float32 or wider.
        attention: [B, C, T], from 0 to 1, sums to one over the T frames: the mean over the heads of the last layer, in
            float32 or wider. With class-agnostic attention all C rows are the same, a view that takes no memory.
        evidence: [B, C], the score that the frame which speaks most for a class gives it by itself, before queries
            compete; without gradients. None where nobody asks whether a class may be named.
    """

    logits: Tensor
    attention: Tensor
    evidence: Tensor | None = None


class TSQLayer(nn.Module):
    """Finds the frames that speak for each class, and classifies the clip by them (one module: VQM or TQM).

    Parameters (each only where the configuration has it): `queries` [C, D] or [1, D]; `position` [num_frames, D];
    `classifier_weight` [C, D]; `classifier_bias` [C]; `cross.{i}.{query,key,value}.weight` and
    `self_attention.{i}.{query,key,value}.weight`, each [D, D] and applied as x W^T.

    Args:
        config: shape and variant.
        queries: where the queries start, [C, D]; with class-agnostic attention [1, D], or [C, D] to start at the mean
            over the classes (ours). None draws them from a normal distribution of variance 1 / D.
        classifier_weight: [C, D], None draws it uniformly within +-1 / sqrt(D) as nn.Linear does.
        classifier_bias: [C], None starts at zero.

    Raises:
        WeightsError: a tensor of the wrong shape, or one that is not finite.
    """

    def __init__(
        self,
        config: TSQLayerConfig,
        *,
        queries: Tensor | None = None,
        classifier_weight: Tensor | None = None,
        classifier_bias: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        c, d = config.num_classes, config.dim
        if queries is None:
            queries = torch.randn(config.num_queries, d) * d**-0.5
        elif config.num_queries == 1 and queries.shape == (c, d):
            queries = queries.mean(dim=0, keepdim=True)
        if classifier_weight is None:
            classifier_weight = torch.empty(c, d).uniform_(-(d**-0.5), d**-0.5)
        if classifier_bias is None:
            classifier_bias = torch.zeros(c)
        self.queries = _parameter("queries", queries, (config.num_queries, d))
        self.classifier_weight = _parameter("classifier_weight", classifier_weight, (c, d))
        self.classifier_bias = _parameter("classifier_bias", classifier_bias, (c,))
        self.position = nn.Parameter(torch.zeros(config.num_frames, d)) if config.positional_embedding else None
        layers = range(config.num_layers)
        self.self_attention = nn.ModuleList(_Attention(config) for _ in layers if config.self_attention)
        self.cross = nn.ModuleList(_Attention(config) for _ in layers)

    def forward(self, frames: Tensor) -> TSQOutput:
        """Score the frames of B clips.

        Args:
            frames: finite features [B, T, D], B and T at least 1; converted to the dtype of the layer's parameters.

        Returns:
            logits [B, C], attention [B, C, T] and evidence [B, C] (see TSQOutput).

        Raises:
            ValueError: frames of another shape.
            WeightsError: features that are not finite (half precision that overflowed, or damaged weights). Only looked
                for on a CPU: to ask a GPU is to wait for it, so there it is the caller who looks at the outcome.
        """
        self._check(frames)
        frames = frames.to(self.queries.dtype)
        keys = frames + self._position(frames.shape[1])
        queries = self.queries[None]  # [1, N, D]: not yet copied per clip, so the first attention is one product
        for i, cross in enumerate(self.cross):
            if self.config.self_attention:
                attend = self.self_attention[i]
                queries = _mix(*attend(queries, queries, queries)[:2])
            attention, values, rivals = cross(queries, keys, frames)  # [B, H, N, T], [B, T, H, D/H], [B, H, 1, T]
            if i + 1 < len(self.cross):
                queries = _mix(attention, values)  # [B, N, D]
        logits, evidence = self._classify(attention, values, rivals)
        clip_attention = attention.mean(dim=1).expand(-1, self.config.num_classes, -1)  # [B, N, T] -> [B, C, T]
        return TSQOutput(logits=logits, attention=clip_attention, evidence=evidence)

    def _classify(self, attention: Tensor, values: Tensor, rivals: Tensor | None) -> tuple[Tensor, Tensor]:
        """Class scores [B, C] from attention [B, H, N, T], values [B, T, H, D/H] and rivals [B, H, 1, T] if any.

        z_c = <w_c, sum_t A_ct V_t> + b_c = sum_t A_ct <w_c, V_t> + b_c: classifying the frames before they are pooled
        is exact and needs no [B, C, D] outputs. The class-agnostic classifier sees the mean over the queries.
        """
        if self.config.classifier == "class-agnostic":
            attention = attention.mean(dim=2, keepdim=True)
        heads = self.config.num_heads
        weight = self.classifier_weight.reshape(-1, heads, self.config.dim // heads)  # [C, H, D/H]
        frame_scores = torch.einsum("chd,bthd->bhct", weight, values)
        evidence = frame_scores.detach().sum(dim=1).amax(dim=2) + self.classifier_bias.detach()
        if rivals is not None:
            frame_scores = frame_scores - rivals
        return (attention * frame_scores).sum(dim=(1, 3)) + self.classifier_bias, evidence

    def _position(self, num_frames: int) -> Tensor | float:
        """P [T, D]; frames are centers of T equal segments, which is what align_corners=False takes them for."""
        if self.position is None or num_frames == len(self.position):
            return 0.0 if self.position is None else self.position
        over_time = self.position.T[None]  # [1, D, num_frames of the configuration]
        return functional.interpolate(over_time, size=num_frames, mode="linear", align_corners=False)[0].T

    def _check(self, frames: Tensor) -> None:
        if frames.ndim != 3 or frames.shape[2] != self.config.dim or 0 in frames.shape:
            raise ValueError(f"frames must be [B, T, {self.config.dim}] with B, T >= 1, got {list(frames.shape)}")
        if frames.device.type == "cpu":
            refuse_not_finite(frames, "frame features")


def refuse_not_finite(values: Tensor, what: str) -> None:
    """Raise a WeightsError that counts what is NaN or infinite among some values, if anything is."""
    if not torch.isfinite(values).all():
        bad = int((~torch.isfinite(values)).sum())
        raise WeightsError(
            f"{bad} of {values.numel()} {what} are NaN or infinite",
            wanted="finite numbers",
            fix="try --dtype float32, then check the weights with `tsq packs verify`",
        )


class _Attention(nn.Module):
    """Softmax attention of N queries to T keys, up to its weights and values; scores in float32 or wider."""

    def __init__(self, config: TSQLayerConfig) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.scale = config.head_scale
        self.competition_floor, self.competition_weight = config.competition_floor, config.competition_weight
        self.blank_frame_penalty = config.blank_frame_penalty
        self.query, self.key, self.value = (
            _identity_linear(config.dim) if config.projections else nn.Identity() for _ in range(3)
        )

    def forward(self, queries: Tensor, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Take queries [B or 1, N, D], keys [B, T, D] and values [B, T, D].

        Returns:
            weights [B, H, N, T]; projected values [B, T, H, D/H]; where queries compete, what each frame's scores
            lose, [B, H, 1, T], unscaled.
        """
        q, k, v = (
            projected.unflatten(2, (self.num_heads, -1))  # [B, N, D] -> [B, N, H, D/H]
            for projected in (self.query(queries), self.key(keys), self.value(values))
        )
        scores = torch.einsum("bnhd,bthd->bhnt", q, k * self.scale)  # T keys are fewer than N queries
        scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
        if self.competition_floor is None:
            return scores.softmax(dim=-1), v, None
        strongest = scores.amax(dim=2, keepdim=True) / self.scale
        blankness = (self.competition_floor - strongest).clamp_min(0.0)
        rivals = (
            self.competition_weight * strongest.clamp_min(self.competition_floor) + self.blank_frame_penalty * blankness
        )
        return (scores - self.scale * rivals).softmax(dim=-1), v, rivals


def _mix(weights: Tensor, values: Tensor) -> Tensor:
    """Outputs [B, N, D] of an attention: the weighted values, heads concatenated."""
    return torch.einsum("bhnt,bthd->bnhd", weights.to(values.dtype), values).flatten(2)


def _identity_linear(dim: int) -> nn.Linear:
    linear = nn.Linear(dim, dim, bias=False)
    nn.init.eye_(linear.weight)
    return linear


def _parameter(name: str, value: Tensor, shape: tuple[int, ...]) -> nn.Parameter:
    if value.shape != shape:
        raise WeightsError(
            f"{name} has shape {list(value.shape)}",
            wanted=f"{list(shape)}",
            fix="match it to the layer's settings",
        )
    if not value.is_floating_point() or not torch.isfinite(value).all():
        raise WeightsError(f"{name} holds {_flaw(value)}", wanted="finite floating point numbers", fix="rebuild it")
    return nn.Parameter(value.detach().clone())


def _flaw(value: Tensor) -> str:
    return "NaN or infinity" if value.is_floating_point() else str(value.dtype).removeprefix("torch.")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _bad_config(name: str, value: object, wanted: str) -> UsageError:
    return UsageError(f"TSQ layer setting {name} is {value!r}", wanted=wanted, fix="correct it in the settings or pack")
