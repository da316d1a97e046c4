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

import torch
from torch import Tensor, nn

from tsq_cli.errors import UsageError, WeightsError
from tsq_cli.models.attention import Attention
from tsq_cli.models.layer_config import TSQLayerConfig
from tsq_cli.models.outputs import TSQOutput

_RECURRING_SHARE = 0.2
"""Share of a video's frames that show its class, at which `count_shift` starts (ours)."""


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
            _Projections(dim, self.config) for _ in layers if self.config.self_attention
        )
        self.cross = nn.ModuleList(_Projections(dim, self.config) for _ in layers)

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
        if frames.ndim != 3 or frames.shape[2] != self.dim or 0 in frames.shape:
            raise ValueError(f"frames must be [B, T, {self.dim}] with B, T >= 1, got {list(frames.shape)}")
        attention = Attention(
            config=self.config, num_classes=self.num_classes, scale=self.scale, gives_evidence=self.gives_evidence
        )
        return attention(dict(self.named_parameters()), frames.to(self.queries.dtype))

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


class _Projections(nn.Module):
    """Parameters of one attention: Wq, Wk and Wv where it has them."""

    def __init__(self, dim: int, config: TSQLayerConfig) -> None:
        super().__init__()
        self.query, self.key, self.value = (
            _identity_linear(dim) if projected else nn.Identity()
            for projected in (config.projections, config.projections, config.projections and not config.counts)
        )


def _identity_linear(dim: int) -> nn.Linear:
    linear = nn.Linear(dim, dim, bias=False)
    nn.init.eye_(linear.weight)
    return linear


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
