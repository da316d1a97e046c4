"""The temporal saliency query layer, class queries that attend to frames (S; docs/method.md, section 2).

    Q = E Wq    K = (X + P) Wk    V = X Wv          E [C, D] queries, X [B, T, D] frames, P [T, D] positions
    A = softmax over frames(Q K^T * s)   [B, C, T]  the saliency of each frame for each class
    z_c = <w_c, (A V)_c> + b_c           [B, C]     the class scores; all w_c, b_c are one where classes share them

One layer with one head, class-specific attention and a class-specific classifier are the paper's choice (S). Where S
is silent we chose: projections start as the identity, P at zero, there is no output projection, residual, LayerNorm or
feed-forward part. So an untrained layer with good queries already works.

The classifier "counting" (ours) asks how often a class is seen, not how strongly it is seen on average:

    e_ct = log softmax over classes(<Q_c, K_t> * s + b_c)    A_c = softmax over frames(e_c)
    z_c = g sum_t log(1 + exp(e_ct + a))
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from tsq_cli.errors import UsageError, WeightsError
from tsq_cli.models.layer_config import TSQLayerConfig

_RECURRING_SHARE = 0.2
"""Share of a video's frames that show its class, at which `count_shift` starts (ours)."""


@dataclass(frozen=True)
class TSQOutput:
    """Class scores and saliency of B clips of T frames.

    Attributes:
        logits: [B, C], one score per class, in float32 or wider.
        attention: [B, C, T], from 0 to 1, sums to one over the T frames: the mean over the heads of the last layer, in
            float32 or wider. With class-agnostic attention all C rows are the same, a view that takes no memory.
        evidence: [B, C], the highest score that a single frame gives each class, before queries compete; without
            gradients. None where the layer does not give it.
    """

    logits: Tensor
    attention: Tensor
    evidence: Tensor | None = None


class TSQLayer(nn.Module):
    """The layer of one module (VQM or TQM): attends to the frames that speak for each class and classifies by them.

    Parameters (each only where the configuration has it): `queries` [C, D] or [1, D]; `position` [num_frames, D];
    `classifier_weight` [C, D] and `classifier_bias` [C], or [1, D] and [1] where C queries share a classifier; where it
    counts, `classifier_bias` [C], `count_gain` [1] (g) and `count_shift` [1] (a) in their place;
    `cross.{i}.{query,key,value}.weight` and `self_attention.{i}.{query,key,value}.weight`, each [D, D] and applied as
    x W^T.

    Args:
        dim: D, width of frame features and queries, at least 1.
        num_classes: C, at least 1.
        num_frames: frames the positional embedding is made for, at least 1; other lengths are interpolated over time.
        scale: s, factor of the attention scores, finite and above 0; None is 1 / sqrt(dim / num_heads).
        config: variant; None is the paper's.
        queries: initial queries, [C, D]; with class-agnostic attention [1, D], or [C, D] to start at the mean over the
            classes (ours). None draws them from a normal distribution of variance 1 / D.
        classifier_weight: [C, D]; with a shared classifier [1, D], or [C, D] to start at the mean over the classes
            (ours). None draws it uniformly within +-1 / sqrt(D) as nn.Linear does.
        classifier_bias: likewise, [C] or [1]; None starts at zero.

    Attributes:
        gives_evidence: whether outputs have their evidence; False until set by a caller who names classes.

    Raises:
        UsageError: a size or scale out of range, a width that the heads do not divide, or self-attention with a single
            query (it would attend to itself only).
        WeightsError: a tensor of the wrong shape, or one that is not finite.
    """

    def __init__(
        self,
        dim: int,
        num_classes: int,
        *,
        num_frames: int = 16,
        scale: float | None = None,
        config: TSQLayerConfig | None = None,
        queries: Tensor | None = None,
        classifier_weight: Tensor | None = None,
        classifier_bias: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.config = TSQLayerConfig() if config is None else config
        self.dim, self.num_classes, self.num_frames, self.scale = dim, num_classes, num_frames, scale
        self.gives_evidence = False
        num_queries = 1 if self.config.attention == "class-agnostic" else num_classes
        self._check_settings(num_queries)
        if queries is None:
            queries = torch.randn(num_queries, dim) * dim**-0.5
        num_rows = 1 if self.config.shares_classifier_weight else num_classes
        if classifier_bias is None:
            classifier_bias = torch.zeros(num_rows)
        self.queries = _parameter("queries", queries, (num_queries, dim), num_classes)
        if self.config.counts:
            self.count_gain = nn.Parameter(torch.ones(1))
            self.count_shift = nn.Parameter(torch.full((1,), math.log(_RECURRING_SHARE * num_classes)))
        else:
            if classifier_weight is None:
                classifier_weight = torch.empty(num_rows, dim).uniform_(-(dim**-0.5), dim**-0.5)
            self.classifier_weight = _parameter("classifier_weight", classifier_weight, (num_rows, dim), num_classes)
        self.classifier_bias = _parameter("classifier_bias", classifier_bias, (num_rows,), num_classes)
        self.position = nn.Parameter(torch.zeros(num_frames, dim)) if self.config.positional_embedding else None
        layers = range(self.config.num_layers)
        self.self_attention = nn.ModuleList(
            _Attention(dim, scale, self.config) for _ in layers if self.config.self_attention
        )
        self.cross = nn.ModuleList(_Attention(dim, scale, self.config) for _ in layers)

    def forward(self, frames: Tensor) -> TSQOutput:
        """Score the frames of B clips.

        Args:
            frames: X, finite features [B, T, D], B and T at least 1; converted to the dtype of the layer's parameters.

        Returns:
            logits [B, C], attention [B, C, T] and, where the layer gives it, evidence [B, C].

        Raises:
            ValueError: frames of another shape.
            WeightsError: features that are not finite (half precision that overflowed, or damaged weights). Checked
                on a CPU only: checking on a GPU means waiting for it, so there the caller checks the outcome.
        """
        self._check_frames(frames)
        frames = frames.to(self.queries.dtype)
        keys = frames + self._position(frames.shape[1])  # X + P
        if self.config.counts:
            return self._count(keys)
        queries = self.queries[None]  # E [1, N, D]: not yet copied per clip, so the first attention is one product
        for i, cross in enumerate(self.cross):
            if self.config.self_attention:
                attend = self.self_attention[i]
                queries = _mix(*attend(queries, queries, queries)[:2])
            # A [B, H, N, T], V [B, T, H, D/H], what is subtracted from each frame's scores [B, H, 1, T]
            attention, values, competition = cross(queries, keys, frames)
            if i + 1 < len(self.cross):
                queries = _mix(attention, values)  # [B, N, D]
        logits, evidence = self._classify(attention, values, competition)
        clip_attention = attention.mean(dim=1).expand(-1, self.num_classes, -1)  # [B, N, T] -> [B, C, T]
        return TSQOutput(logits=logits, attention=clip_attention, evidence=evidence)

    def _count(self, keys: Tensor) -> TSQOutput:
        """Score B clips by how many of their frames show each class, from X + P [B, T, D]."""
        cross = self.cross[0]
        assert isinstance(cross, _Attention)
        scores = cross.scores(self.queries[None], keys)[:, 0] + self.classifier_bias[:, None]  # [B, C, T]
        frame_evidence = scores.log_softmax(dim=1)
        return TSQOutput(
            logits=self.count_gain * functional.softplus(frame_evidence + self.count_shift).sum(dim=2),
            attention=frame_evidence.softmax(dim=2),
            evidence=scores.detach().amax(dim=2) if self.gives_evidence else None,
        )

    def _classify(self, attention: Tensor, values: Tensor, competition: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Compute scores and evidence [B, C] from A [B, H, N, T], V [B, T, H, D/H] and rivals [B, H, 1, T] if any.

        z_c = <w_c, sum_t A_ct V_t> + b_c = sum_t A_ct <w_c, V_t> + b_c: classifying the frames before they are pooled
        is exact and needs no [B, C, D] outputs. A shared classifier scores each frame once for all classes.
        """
        heads = self.config.num_heads
        weight = self.classifier_weight.reshape(-1, heads, self.dim // heads)  # [C or 1, H, D/H]
        frame_scores = torch.einsum("chd,bthd->bhct", weight, values)
        evidence = None
        if self.gives_evidence:
            evidence = frame_scores.detach().sum(dim=1).amax(dim=2) + self.classifier_bias.detach()
            evidence = evidence.expand(-1, self.num_classes)
        if competition is not None:
            frame_scores = frame_scores - competition
        return (attention * frame_scores).sum(dim=(1, 3)) + self.classifier_bias, evidence

    def _position(self, num_frames: int) -> Tensor | float:
        """Interpolate P to [T, D]; frames are centers of T equal segments, as align_corners=False assumes."""
        if self.position is None or num_frames == len(self.position):
            return 0.0 if self.position is None else self.position
        over_time = self.position.T[None]  # [1, D, num_frames of the layer]
        return functional.interpolate(over_time, size=num_frames, mode="linear", align_corners=False)[0].T

    def _check_settings(self, num_queries: int) -> None:
        for name in ("dim", "num_classes", "num_frames"):
            if getattr(self, name) < 1:
                raise _bad_setting(name, getattr(self, name), "1 or more")
        if self.scale is not None and not 0 < self.scale < math.inf:
            raise _bad_setting("scale", self.scale, "a finite number above 0, or None for 1 / sqrt(dim / num_heads)")
        if self.dim % self.config.num_heads:
            raise _bad_setting("num_heads", self.config.num_heads, f"a divisor of dim {self.dim}")
        if self.config.self_attention and num_queries == 1:
            raise _bad_setting("self_attention", True, "false where there is a single query, which has no other to see")

    def _check_frames(self, frames: Tensor) -> None:
        if frames.ndim != 3 or frames.shape[2] != self.dim or 0 in frames.shape:
            raise ValueError(f"frames must be [B, T, {self.dim}] with B, T >= 1, got {list(frames.shape)}")
        if frames.device.type == "cpu":
            refuse_not_finite(frames, "frame features")


class _Attention(nn.Module):
    """Softmax attention of N queries to T keys: its weights and values, not yet mixed; scores in float32 or wider."""

    def __init__(self, dim: int, scale: float | None, config: TSQLayerConfig) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.scale = (dim // config.num_heads) ** -0.5 if scale is None else scale
        self.competition_floor, self.competition_weight = config.competition_floor, config.competition_weight
        self.blank_frame_penalty = config.blank_frame_penalty
        self.query, self.key, self.value = (
            _identity_linear(dim) if projected else nn.Identity()
            for projected in (config.projections, config.projections, config.projections and not config.counts)
        )

    def forward(self, queries: Tensor, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Attend from queries [B or 1, N, D] to keys [B, T, D] with values [B, T, D].

        Returns:
            weights [B, H, N, T]; projected values [B, T, H, D/H]; where queries compete, the amount that each frame's
            scores lose, [B, H, 1, T], unscaled.
        """
        scores, v = self.scores(queries, keys), self._by_head(self.value(values))
        if self.competition_floor is None:
            return scores.softmax(dim=-1), v, None
        strongest = scores.amax(dim=2, keepdim=True) / self.scale
        blankness = (self.competition_floor - strongest).clamp_min(0.0)
        competition = self.competition_weight * strongest.clamp_min(self.competition_floor)
        competition = competition + self.blank_frame_penalty * blankness
        return (scores - self.scale * competition).softmax(dim=-1), v, competition

    def scores(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Compute Q K^T s [B, H, N, T] of queries [B or 1, N, D] and keys [B, T, D], in float32 or wider."""
        q, k = self._by_head(self.query(queries)), self._by_head(self.key(keys))
        scores = torch.einsum("bnhd,bthd->bhnt", q, k * self.scale)  # T keys are fewer than N queries
        return scores.to(torch.promote_types(scores.dtype, torch.float32))

    def _by_head(self, projected: Tensor) -> Tensor:
        """Split [B, N, D] into heads: [B, N, H, D/H]."""
        return projected.reshape(*projected.shape[:2], self.num_heads, -1)


def _mix(weights: Tensor, values: Tensor) -> Tensor:
    """Mix values by their weights, heads concatenated: the outputs [B, N, D] of an attention."""
    return torch.einsum("bhnt,bthd->bnhd", weights.to(values.dtype), values).flatten(2)


def _identity_linear(dim: int) -> nn.Linear:
    linear = nn.Linear(dim, dim, bias=False)
    nn.init.eye_(linear.weight)
    return linear


def refuse_not_finite(values: Tensor, what: str) -> None:
    """Refuse values, a tensor of any shape, among which some are NaN or infinite.

    Args:
        values: to look at; on a GPU this waits for them.
        what: their name in the message, in the plural.

    Raises:
        WeightsError: some are; the message counts them.
    """
    if not torch.isfinite(values).all():
        bad = int((~torch.isfinite(values)).sum())
        raise WeightsError(
            f"{bad} of {values.numel()} {what} are NaN or infinite",
            wanted="finite numbers",
            fix="try --dtype float32, then check the weights with `tsq packs verify`",
        )


def _parameter(name: str, value: Tensor, shape: tuple[int, ...], num_classes: int) -> nn.Parameter:
    """Copy a tensor of a row per class; where the layer has one row for all, it starts at their mean (ours)."""
    if shape[0] == 1 and value.shape == (num_classes, *shape[1:]):
        value = value.mean(dim=0, keepdim=True)
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


def _bad_setting(name: str, value: object, wanted: str) -> UsageError:
    return UsageError(f"TSQ layer setting {name} is {value!r}", wanted=wanted, fix="correct it in the settings or pack")
