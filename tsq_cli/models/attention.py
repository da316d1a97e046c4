"""The arithmetic of a TSQ layer, on arrays of either engine: equations 1 and 2, and our variants of them.

tsq_cli.models.tsq_layer has the equations, and the network that is trained.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tsq_cli.arrays import Array, at_least_float32, is_torch, log_softmax, namespace, softmax, softplus
from tsq_cli.errors import WeightsError
from tsq_cli.models.layer_config import TSQLayerConfig
from tsq_cli.models.outputs import TSQOutput


@dataclass(frozen=True, kw_only=True)
class Attention:
    """The forward pass of a TSQ layer as a function of its parameters, for tensors and for arrays of numpy.

    Attributes:
        config: variant.
        num_classes: C.
        scale: s, factor of the attention scores; None is 1 / sqrt(dim / num_heads).
        gives_evidence: whether outputs have their evidence.
    """

    config: TSQLayerConfig
    num_classes: int
    scale: float | None = None
    gives_evidence: bool = False

    def __call__(self, tensors: Mapping[str, Array], frames: Array) -> TSQOutput:
        """Score the frames of B clips.

        Args:
            tensors: the layer's parameters by name, see tsq_cli.models.tsq_layer.TSQLayer.
            frames: X [B, T, D], finite, in the parameters' type.

        Returns:
            logits [B, C], attention [B, C, T] and, where it is given, evidence [B, C].

        Raises:
            WeightsError: features that are not finite. Checked on a CPU only: checking on a GPU means waiting for it,
                so there the caller checks the outcome.
        """
        if str(frames.device) == "cpu":
            refuse_not_finite(frames, "frame features")
        position = tensors.get("position")
        keys = frames if position is None else frames + _at_frames(position, frames.shape[1])  # X + P
        if self.config.counts:
            return self._count(tensors, keys)
        # E [1, N, D] is not copied per clip, so the first attention is one product
        queries = tensors["queries"][None]
        for i in range(self.config.num_layers):
            if self.config.self_attention:
                attention, values, _ = self._attend(tensors, f"self_attention.{i}", queries, queries, queries)
                queries = _mix(attention, values)
            # A [B, H, N, T], V [B, T, H, D/H], what is subtracted from each frame's scores [B, H, 1, T]
            attention, values, competition = self._attend(tensors, f"cross.{i}", queries, keys, frames)
            if i + 1 < self.config.num_layers:
                queries = _mix(attention, values)  # [B, N, D]
        logits, evidence = self._classify(tensors, attention, values, competition)
        clip_attention = attention.mean(axis=1)  # [B, N, T]
        shape = (len(clip_attention), self.num_classes, clip_attention.shape[2])
        return TSQOutput(
            logits=logits, attention=namespace(frames).broadcast_to(clip_attention, shape), evidence=evidence
        )

    def _count(self, tensors: Mapping[str, Array], keys: Array) -> TSQOutput:
        """Score B clips by how many of their frames show each class, from X + P [B, T, D]."""
        scores = self._scores(tensors, "cross.0", tensors["queries"][None], keys)[:, 0]  # [B, C, T]
        scores = scores + tensors["classifier_bias"][:, None]
        frame_evidence = log_softmax(scores, 1)
        logits = softplus(frame_evidence + tensors["count_shift"])
        return TSQOutput(
            logits=tensors["count_gain"] * logits.sum(axis=2),
            attention=softmax(frame_evidence, 2),
            evidence=namespace(scores).max(_constant(scores), axis=2) if self.gives_evidence else None,
        )

    def _classify(
        self, tensors: Mapping[str, Array], attention: Array, values: Array, competition: Array | None
    ) -> tuple[Array, Array | None]:
        """Compute scores and evidence [B, C] from A [B, H, N, T], V [B, T, H, D/H] and rivals [B, H, 1, T] if any.

        z_c = <w_c, sum_t A_ct V_t> + b_c = sum_t A_ct <w_c, V_t> + b_c: classifying the frames before they are pooled
        is exact and needs no [B, C, D] outputs. A shared classifier scores each frame once for all classes.
        """
        xp = namespace(values)
        weight, bias = tensors["classifier_weight"], tensors["classifier_bias"]
        weight = weight.reshape((len(weight), *values.shape[2:]))  # [C or 1, H, D/H]
        frame_scores = _products(weight, values)  # [B, H, C or 1, T]
        evidence = None
        if self.gives_evidence:
            evidence = xp.max(_constant(frame_scores).sum(axis=1), axis=2) + _constant(bias)
            evidence = xp.broadcast_to(evidence, (len(evidence), self.num_classes))
        if competition is not None:
            frame_scores = frame_scores - competition
        return (attention * frame_scores).sum(axis=(1, 3)) + bias, evidence

    def _attend(
        self, tensors: Mapping[str, Array], name: str, queries: Array, keys: Array, values: Array
    ) -> tuple[Array, Array, Array | None]:
        """Attend from queries [B or 1, N, D] to keys [B, T, D] with values [B, T, D].

        Returns:
            weights [B, H, N, T]; projected values [B, T, H, D/H]; where queries compete, the amount that each frame's
            scores lose, [B, H, 1, T], unscaled.
        """
        scores = self._scores(tensors, name, queries, keys)
        v = self._by_head(_projected(tensors, f"{name}.value", values))
        config = self.config
        if config.competition_floor is None:
            return softmax(scores, -1), v, None
        xp, scale = namespace(scores), self._scale(v.shape[3])
        strongest = xp.max(scores, axis=2, keepdims=True) / scale
        blankness = xp.clip(config.competition_floor - strongest, 0.0, None)
        competition = config.competition_weight * xp.clip(strongest, config.competition_floor, None)
        competition = competition + config.blank_frame_penalty * blankness
        return softmax(scores - scale * competition, -1), v, competition

    def _scores(self, tensors: Mapping[str, Array], name: str, queries: Array, keys: Array) -> Array:
        """Compute Q K^T s [B, H, N, T] of queries [B or 1, N, D] and keys [B, T, D], in float32 or wider."""
        xp = namespace(keys)
        q, k = (
            self._by_head(_projected(tensors, f"{name}.{part}", of)) for part, of in (("query", queries), ("key", keys))
        )
        k = k * self._scale(k.shape[3])  # T keys are fewer than N queries
        if len(q) == 1:
            return at_least_float32(_products(q[0], k))
        return at_least_float32(xp.permute_dims(q, (0, 2, 1, 3)) @ xp.permute_dims(k, (0, 2, 3, 1)))

    def _scale(self, head_width: int) -> float:
        return head_width**-0.5 if self.scale is None else self.scale

    def _by_head(self, projected: Array) -> Array:
        """Split [B, N, D] into heads: [B, N, H, D/H]."""
        heads = self.config.num_heads
        return projected.reshape((*projected.shape[:2], heads, projected.shape[2] // heads))


def refuse_not_finite(values: Array, what: str) -> None:
    """Refuse values, an array of any shape, among which some are NaN or infinite.

    Args:
        values: to look at; on a GPU this waits for them.
        what: their name in the message, in the plural.

    Raises:
        WeightsError: some are; the message counts them.
    """
    is_finite = namespace(values).isfinite(values)
    if not is_finite.all():
        bad = int((~is_finite).sum())
        raise WeightsError(
            f"{bad} of {int(np.prod(values.shape))} {what} are NaN or infinite",
            wanted="finite numbers",
            fix="try --dtype float32, then check the weights with `tsq packs verify`",
        )


def _projected(tensors: Mapping[str, Array], name: str, values: Array) -> Array:
    """Apply W of a projection, x W^T; without one it is the identity."""
    weight = tensors.get(f"{name}.weight")
    return values if weight is None else values @ weight.T


def _products(rows: Array, values: Array) -> Array:
    """Multiply rows [N, H, D/H] with the values [B, T, H, D/H] of B clips, in one product per head: [B, H, N, T]."""
    xp = namespace(values)
    b, t, h, width = values.shape
    flat = xp.permute_dims(values, (2, 3, 0, 1)).reshape((h, width, b * t))
    products = xp.permute_dims(rows, (1, 0, 2)) @ flat  # [H, N, B T]
    return xp.permute_dims(products.reshape((h, len(rows), b, t)), (2, 0, 1, 3))


def _mix(weights: Array, values: Array) -> Array:
    """Mix values by their weights, heads concatenated: the outputs [B, N, D] of an attention."""
    xp = namespace(values)
    mixed = xp.astype(weights, values.dtype, copy=False) @ xp.permute_dims(values, (0, 2, 1, 3))  # [B, H, N, D/H]
    return xp.permute_dims(mixed, (0, 2, 1, 3)).reshape((len(mixed), mixed.shape[2], -1))


def _at_frames(position: Array, num_frames: int) -> Array:
    """Interpolate P to [T, D]; frames are centers of T equal segments, as torch's align_corners=False assumes."""
    if num_frames == len(position):
        return position
    if is_torch(position):
        from torch.nn import functional

        return functional.interpolate(position.T[None], size=num_frames, mode="linear", align_corners=False)[0].T
    centers = (np.arange(num_frames) + 0.5) * len(position) / num_frames - 0.5
    below = np.floor(centers.clip(0, len(position) - 1)).astype(np.int64)
    share = (centers.clip(0, len(position) - 1) - below).astype(position.dtype)[:, None]
    return position[below] * (1 - share) + position[np.minimum(below + 1, len(position) - 1)] * share


def _constant(values: Array) -> Array:
    """Return values without the gradients that lead to them."""
    return values.detach() if is_torch(values) else values
