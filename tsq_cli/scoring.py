"""Room 4: what TSQNet says of decoded candidates: preprocess, encode, TSQ layers, saliency (METHOD section 5)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tsq_cli.clip import Clip, timed
from tsq_cli.config import SelectSettings
from tsq_cli.types import Category, Saliency

if TYPE_CHECKING:
    import torch

    from tsq_cli.models import FrameEncoder
    from tsq_cli.packs import Pack


def score_clips(
    pack: Pack, clips: Sequence[Clip], settings: SelectSettings, *, timings: dict[str, float] | None = None
) -> list[Saliency]:
    """Saliency of every candidate of every clip; the candidates of all clips are encoded as one batch.

    Args:
        pack: the networks.
        clips: at least one; they may differ in size and number of candidates.
        settings: `query` replaces the textual curve by how well each frame's objects match a free text; `top_n`
            overrides the pack's.
        timings: seconds of each stage are added here.

    Raises:
        WeightsError: a query where the pack's text encoder is out of reach, or features that are not finite.
    """
    import torch

    from tsq_cli.models import frame_saliency, object_text_features, query_frame_scores

    timings = {} if timings is None else timings
    top_n = settings.top_n or pack.config.settings.top_n
    with torch.inference_mode():
        features, objects = _encode(pack, clips, timings)
        results = []
        for x_v, logits in zip(features, objects, strict=True):
            with timed(timings, "tsq"):
                x_t = object_text_features(logits, pack.textual_embeddings)
                output = pack.tsqnet(x_v[None], x_t[None])
                visual = frame_saliency(output.visual, top_n=top_n)
                if settings.query is None:
                    textual = frame_saliency(output.textual, top_n=top_n)
                    scores_t = textual.scores[0]
                    categories_t = categories(textual.categories[0], textual.probabilities[0], pack.class_names)
                else:
                    embedding = pack.query_embedding(settings.query)
                    sharpness = pack.config.settings.query_scale
                    matches = query_frame_scores(logits, pack.object_embeddings, embedding, sharpness=sharpness)
                    scores_t = matches / matches.sum()
                    categories_t = _matching_objects(pack, embedding, top_n)
                results.append(
                    Saliency(
                        visual=visual.scores[0].double().cpu().numpy(),
                        textual=scores_t.double().cpu().numpy(),
                        visual_categories=categories(visual.categories[0], visual.probabilities[0], pack.class_names),
                        textual_categories=categories_t,
                    )
                )
    return results


def categories(indices: torch.Tensor, scores: torch.Tensor, names: Sequence[str]) -> tuple[Category, ...]:
    """Named categories from class indices [n] and their scores [n]."""
    return tuple(
        Category(index=int(index), label=names[int(index)], score=float(score))
        for index, score in zip(indices.tolist(), scores.float().tolist(), strict=True)
    )


def _encode(
    pack: Pack, clips: Sequence[Clip], timings: dict[str, float]
) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Visual features [T, Dv] and object logits [T, O] of each clip, from one pass where the encoder is shared."""
    import torch

    lengths = [len(clip.batch) for clip in clips]
    pixels = [torch.from_numpy(clip.batch.pixels) for clip in clips]  # uint8 [T, H, W, 3], sizes differ by clip
    with timed(timings, "preprocess"):
        visual_input = torch.cat([pack.visual_preprocessor(p, pack.device, pack.dtype) for p in pixels])
    with timed(timings, "encode"):
        visual_features, visual_logits = _encoded(pack.visual_encoder, visual_input)
    if pack.object_recognizer is pack.visual_encoder:
        object_logits = visual_logits
    else:
        with timed(timings, "preprocess"):
            object_input = torch.cat([pack.object_preprocessor(p, pack.device, pack.dtype) for p in pixels])
        with timed(timings, "encode"):
            object_logits = _encoded(pack.object_recognizer, object_input)[1]
    return list(torch.split(visual_features, lengths)), list(torch.split(object_logits, lengths))


def _encoded(encoder: FrameEncoder, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Features [N, D] and logits [N, O] of images [N, 3, S, S]."""
    import torch

    from tsq_cli.models.device import chunks

    outputs = [encoder(some) for some in chunks(images)]
    return torch.cat([output.features for output in outputs]), torch.cat([output.logits for output in outputs])


def _matching_objects(pack: Pack, embedding: torch.Tensor, top_n: int) -> tuple[Category, ...]:
    """The objects nearest in meaning to a query, scored by cosine similarity."""
    similarity, index = (pack.object_embeddings @ embedding).float().topk(top_n)
    return categories(index, similarity, pack.object_names)
