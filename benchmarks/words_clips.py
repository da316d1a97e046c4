"""What benchmarks/words.py makes of a clip: the answers of both modules and of the recognizer, with probabilities."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.words_material import Material, Seen
from tsq_cli import selection
from tsq_cli.consensus import Consensus
from tsq_cli.models import object_text_features, probabilities, video_scores
from tsq_cli.packs import Pack
from tsq_cli.scoring import tsq_scores

K = 5

Distribution = Callable[["Clip", float | None], Tensor]
"""Probabilities [C] of a clip at a temperature, None being none."""


@dataclass(frozen=True)
class Clip:
    """A clip with what was computed from it.

    Attributes:
        material: the clip.
        visual, textual: [C], the logits of the two modules; `textual` at a text_logit_scale of 1.
        evidence: [C], see TSQOutput.
        frames: [K, C], the embedded recognizer's logits of the frames that the paper's fusion selects.
        weights: [K], S^v of these frames.
        strongest: [C], share of the candidates in which a class is the strongest.
    """

    material: Material
    visual: Tensor
    textual: Tensor
    evidence: Tensor
    frames: Tensor
    weights: Tensor
    strongest: Tensor


@dataclass(frozen=True)
class Answer:
    """The first class of a clip by one of three who speak.

    Attributes:
        material: the clip.
        right: whether that class is one that may be named.
        probability: of it, as reported.
        evidence: for it in the visual module (TSQOutput.evidence).
        frames: share of the candidates in which it is the strongest class.
        agreed: whether both modules put the same class first.
    """

    material: Material
    right: bool
    probability: float
    evidence: float
    frames: float
    agreed: bool


def computed(pack: Pack, seen: Iterable[Seen]) -> list[Clip]:
    """Compute the answers of both modules and the recognizer for every clip."""
    settings, clips = pack.config.settings, []
    for one in seen:
        with torch.inference_mode():
            features, logits = one.features[None], one.logits[None]
            pack.tsqnet.vqm.gives_evidence = True
            output = pack.tsqnet(features, object_text_features(logits, pack.textual_embeddings))
            scores = tsq_scores(pack, features, logits, top_n=settings.top_n)
            assert output.visual.evidence is not None
            assert settings.text_logit_scale is not None
            s_v, s_t = (of.scores[0].double().numpy() for of in (scores.visual, scores.textual))
            chosen = selection.fuse(s_v, s_t, min(K, len(s_v)), lambda_v=settings.lambda_v)
            positions = [choice.position for choice in chosen]
            strongest = torch.bincount(one.logits.argmax(dim=1), minlength=one.logits.shape[1])
            clips.append(
                Clip(
                    material=one.material,
                    visual=output.visual.logits[0].clone(),
                    textual=output.textual.logits[0] / settings.text_logit_scale,
                    evidence=output.visual.evidence[0].clone(),
                    frames=one.recognized[positions].clone(),
                    weights=scores.visual.scores[0][positions].clone(),
                    strongest=strongest / len(one.logits),
                )
            )
    return clips


def distributions(logit_scale: float, consensus: Consensus) -> dict[str, Distribution]:
    """Answers by source: each module, and the recognizer."""
    return {
        "visual": lambda clip, t: (clip.visual / (t or 1.0)).softmax(dim=0),
        "textual": lambda clip, t: (clip.textual * logit_scale / (t or 1.0)).softmax(dim=0),
        "recognizer": lambda clip, t: probabilities(
            video_scores(
                clip.frames,
                consensus,
                weights=clip.weights,
                class_scores=(clip.visual, clip.textual * logit_scale),
                temperature=t,
            )
        ),
    }


def answers(clips: Sequence[Clip], distribution: Distribution, temperature: float | None) -> list[Answer]:
    """The first class of every clip."""
    found = []
    for clip in clips:
        probabilities = distribution(clip, temperature)
        index = int(probabilities.argmax())
        found.append(
            Answer(
                material=clip.material,
                right=index in clip.material.right,
                probability=float(probabilities[index]),
                evidence=float(clip.evidence[index]),
                frames=float(clip.strongest[index]),
                agreed=int(clip.visual.argmax()) == int(clip.textual.argmax()),
            )
        )
    return found
