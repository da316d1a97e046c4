"""GMACs per video of each selector: the networks that it needs to choose frames, and the recognizer on these."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from tsq_cli.config import BASELINES
from tsq_cli.consensus import UNWEIGHTED, Consensus
from tsq_cli.evaluation.selectors import WITHOUT_FRAMES, WITHOUT_SAMPLER, EvaluatedSelector
from tsq_cli.models import object_text_features
from tsq_cli.models.flops import count
from tsq_cli.models.preprocess import Preprocessor
from tsq_cli.packs import LoadedRecognizer, Pack


@dataclass(frozen=True, kw_only=True)
class Costs:
    """GMACs (10^9 multiply-adds, the "GFLOPs" of papers) of one video of T frames.

    Attributes:
        visual, textual: encoding T frames and running one module over them.
        both: running both modules; less than their sum where one encoder serves both.
        frame: recognizing one frame.
        num_candidates: T.
    """

    visual: float
    textual: float
    both: float
    frame: float
    num_candidates: int

    def of(
        self,
        selector: EvaluatedSelector,
        k: int,
        consensus: Consensus = Consensus(),  # noqa: B008 - frozen
    ) -> float:
        """Compute the cost of a selector with K frames.

        Selectors that use no pixels cost the recognizer on K frames; `all` costs the recognizer on all T, and so do
        those that choose by its output on each frame (`confident`, `agree`, `oracle`). The class scores of a module by
        themselves cost that module. A selector by one module runs the other one too where the consensus reads it.

        Args:
            selector, k: as for tsq_cli.evaluation.compare.selected_scores.
            consensus: how the frames' scores become the video's.
        """
        if selector in BASELINES:
            return min(k, self.num_candidates) * self.frame
        if selector in (*WITHOUT_SAMPLER, "oracle"):
            return self.num_candidates * self.frame
        if selector in WITHOUT_FRAMES:
            return self.visual if selector == "z-visual" else self.textual
        reads_visual = consensus.evidence_visual > 0 or consensus.pooling in UNWEIGHTED
        if selector == "vqm" and consensus.evidence_textual == 0:
            sampler = self.visual
        elif selector == "tqm" and not reads_visual:
            sampler = self.textual
        else:
            sampler = self.both
        return sampler + min(k, self.num_candidates) * self.frame


def count_costs(pack: Pack, recognizer: LoadedRecognizer) -> Costs:
    """Count the GMACs of a pack's sampler on its T candidates, and of a recognizer.

    Each network runs once on a black picture, on its device. Folded batch norms cost nothing; papers count convolutions
    and matrix products only, too.
    """
    t = pack.config.settings.num_candidates
    vqm, tqm, embeddings = pack.tsqnet.vqm, pack.tsqnet.tqm, pack.textual_embeddings
    features = embeddings.new_zeros(1, t, vqm.dim)
    object_logits = embeddings.new_zeros(1, t, len(embeddings))
    visual_layer = count(vqm, features).giga_macs
    textual_layer = count(lambda: tqm(object_text_features(object_logits, embeddings)), modules=[tqm]).giga_macs
    visual = t * _giga_macs_of_one(pack.visual_encoder, pack.visual_preprocessor)
    shared = pack.object_recognizer is pack.visual_encoder
    objects = visual if shared else t * _giga_macs_of_one(pack.object_recognizer, pack.object_preprocessor)
    return Costs(
        visual=visual + visual_layer,
        textual=objects + textual_layer,
        both=visual + (0.0 if shared else objects) + visual_layer + textual_layer,
        frame=_giga_macs_of_one(recognizer.recognizer, recognizer.preprocessor),
        num_candidates=t,
    )


def _giga_macs_of_one(network: nn.Module, feeding: Preprocessor) -> float:
    """Count the GMACs of one picture."""
    weights = next(network.parameters())
    size = feeding.input_size
    picture = torch.zeros(1, 3, size, size, device=weights.device, dtype=weights.dtype)
    return count(network, picture).giga_macs
