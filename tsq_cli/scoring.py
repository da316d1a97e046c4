"""The scores of decoded candidates: preprocess, encode, TSQ layers, saliency (docs/method.md, section 5)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import TYPE_CHECKING, TypeVar

from tsq_cli.clip import timed
from tsq_cli.config import SelectSettings
from tsq_cli.types import Category, Float32Array, Float64Array, Saliency

if TYPE_CHECKING:
    from torch import Tensor

    from tsq_cli.models import FrameEncoder, FrameSaliency
    from tsq_cli.models.preprocess import Preprocessor
    from tsq_cli.packs import Pack


T = TypeVar("T")


@dataclass(frozen=True)
class ClipScores:
    """What both modules say of B clips of T candidates each, on the device.

    Attributes:
        visual, textual: S^v and S^t with the categories behind them.
    """

    visual: FrameSaliency
    textual: FrameSaliency


@dataclass(frozen=True)
class Group:
    """Clips of one length, which went through the layers together.

    Attributes:
        numbers: which clips they are, from 0.
        scores: of both modules.
        features: [B, T, Dv] of the visual encoder.
        names_visual, names_textual: of the categories behind either.
    """

    numbers: list[int]
    scores: ClipScores
    features: Tensor
    names_visual: Sequence[str]
    names_textual: Sequence[str]


@dataclass(frozen=True)
class ScoredClips:
    """What both modules say of several clips, on the device, where nothing has been waited for."""

    groups: tuple[Group, ...]

    def positions(self, k: int, *, lambda_v: float) -> list[Tensor]:
        """What tsq_cli.selection.fuse will choose of each clip: int64 [min(K, T)] on the device, in order of time."""
        from tsq_cli.models import fuse_on_device

        def of_group(group: Group) -> Tensor:
            visual, textual = group.scores.visual.scores, group.scores.textual.scores
            return fuse_on_device(visual, textual, min(k, visual.shape[1]), lambda_v=lambda_v)

        return self._by_clip(of_group)

    def read(self) -> list[Saliency]:
        """Bring the curves and their categories to the host, waiting for them; one for each clip.

        Raises:
            WeightsError: saliency that is not finite.
        """

        def of_group(group: Group) -> Iterator[Saliency]:
            visual = _named(group.scores.visual, group.names_visual)
            textual = _named(group.scores.textual, group.names_textual)
            for (s_v, categories_v), (s_t, categories_t) in zip(visual, textual, strict=True):
                yield Saliency(visual=s_v, textual=s_t, visual_categories=categories_v, textual_categories=categories_t)

        return self._by_clip(of_group)

    def unit_features(self) -> list[Float32Array]:
        """Bring the features to the host at unit length, float32 [T, Dv] for each clip, waiting for them."""
        from torch.nn import functional

        def of_group(group: Group) -> Iterable[Float32Array]:
            features: Float32Array = functional.normalize(group.features.float(), dim=2).cpu().numpy()
            return features

        return self._by_clip(of_group)

    def _by_clip(self, of_group: Callable[[Group], Iterable[T]]) -> list[T]:
        """What each group says of its clips, one by one, in the order of all clips."""
        pairs = (pair for group in self.groups for pair in zip(group.numbers, of_group(group), strict=True))
        return [of_clip for _, of_clip in sorted(pairs, key=itemgetter(0))]


def score_clips(
    pack: Pack, clips: Sequence[Tensor], settings: SelectSettings, *, timings: dict[str, float] | None = None
) -> ScoredClips:
    """Saliency of every candidate of every clip; the candidates of all clips are encoded as one batch.

    Args:
        pack: the networks.
        clips: at least one, uint8 [T, H, W, 3] each; T, H and W may differ.
        settings: `query` replaces the textual curve by how well each frame's objects match a free text; `top_n`
            overrides the pack's.
        timings: seconds of each stage are added here; on a GPU those that the host took to ask for it.

    Raises:
        WeightsError: a query where the pack's text encoder is out of reach, or on a CPU features that are not finite.
    """
    import torch

    timings = {} if timings is None else timings
    top_n = settings.top_n or pack.config.settings.top_n
    groups = []
    with torch.inference_mode():
        features, objects = encode(pack, clips, timings)
        with timed(timings, "tsq"):
            for length in {len(clip) for clip in clips}:  # clips of one length go through the layers together
                alike = [number for number, clip in enumerate(clips) if len(clip) == length]
                x_v, logits = (torch.stack([of[number] for number in alike]) for of in (features, objects))
                scores = tsq_scores(pack, x_v, logits, top_n=top_n)
                names = pack.class_names
                if settings.query is not None:
                    scores = replace(scores, textual=_query_saliency(pack, logits, settings.query, top_n))
                    names = pack.object_names
                groups.append(Group(alike, scores, x_v, pack.class_names, names))
    return ScoredClips(tuple(groups))


def tsq_scores(pack: Pack, features: Tensor, object_logits: Tensor, *, top_n: int) -> ClipScores:
    """TSQ layers and saliency of B clips, all on the device, with nothing read on the host.

    Args:
        pack: the networks.
        features: [B, T, Dv] of the visual encoder.
        object_logits: [B, T, O] of the object recognizer.
        top_n: categories behind each curve.
    """
    from tsq_cli.models import frame_saliency, object_text_features

    output = pack.tsqnet(features, object_text_features(object_logits, pack.textual_embeddings))
    settings, words = pack.config.settings, pack.config.settings.words
    visual, textual = (
        frame_saliency(module, top_n=top_n, multi_label=settings.multi_label, temperature=temperature or 1.0)
        for module, temperature in (
            (output.visual, words.visual_temperature),
            (output.textual, words.textual_temperature),
        )
    )
    if words.least_evidence is None or output.visual.evidence is None:
        return ClipScores(visual, textual)
    first = visual.categories[:, :1]  # [B, 1]
    named = (first == textual.categories[:, :1]) & (output.visual.evidence.gather(1, first) >= words.least_evidence)
    return ClipScores(*(replace(of, sure=named & (of.categories == first)) for of in (visual, textual)))


def _query_saliency(pack: Pack, object_logits: Tensor, query: str, top_n: int) -> FrameSaliency:
    """How well the objects in each frame match a query, as a curve, and the objects nearest to it by cosine."""
    from tsq_cli.models import FrameSaliency, query_frame_scores

    embedding = pack.query_embedding(query)
    sharpness = pack.config.settings.query_scale
    matches = query_frame_scores(object_logits, pack.object_embeddings, embedding, sharpness=sharpness)  # [B, T]
    similarity, objects = (pack.object_embeddings @ embedding).float().topk(top_n)
    return FrameSaliency(
        scores=matches / matches.sum(dim=1, keepdim=True),
        categories=objects.expand(len(matches), -1),
        probabilities=similarity.expand(len(matches), -1),
    )


def _named(saliency: FrameSaliency, names: Sequence[str]) -> Iterator[tuple[Float64Array, tuple[Category, ...]]]:
    """Each clip's curve [T] and its categories, brought to the host in one go each."""
    from tsq_cli.models import refuse_not_finite

    scores = saliency.scores.double().cpu()
    scores = scores / scores.sum(dim=1, keepdim=True)  # single precision sums to one within its rounding only
    refuse_not_finite(scores, "saliency scores")
    sure = [None] * len(scores) if saliency.sure is None else saliency.sure.cpu()
    rows = zip(saliency.categories.cpu(), saliency.probabilities.cpu(), sure, strict=True)
    for curve, (indices, probabilities, are_sure) in zip(scores.numpy(), rows, strict=True):
        yield curve, categories(indices, probabilities, names, sure=are_sure)


def categories(
    indices: Tensor, scores: Tensor, names: Sequence[str], *, sure: Tensor | None = None
) -> tuple[Category, ...]:
    """Named categories from class indices [n] and their scores [n]: probabilities, or cosines.

    Args:
        indices, scores: as above.
        names: of all classes, or objects.
        sure: bool [n], which of them may be named; None is all.
    """
    bounded = scores.float().clamp(-1, 1).tolist()  # single precision rounds some of them past their bounds
    are_sure = [True] * len(bounded) if sure is None else sure.tolist()
    return tuple(
        Category(index=index, label=names[index], score=score, is_sure=is_sure)
        for index, score, is_sure in zip(indices.tolist(), bounded, are_sure, strict=True)
    )


def encode(
    pack: Pack, clips: Sequence[Tensor], timings: dict[str, float] | None = None
) -> tuple[list[Tensor], list[Tensor]]:
    """Visual features [T, Dv] and object logits [T, O] of each clip, from one pass where the encoder is shared.

    Args:
        pack: the networks.
        clips: uint8 [T, H, W, 3] each; T, H and W may differ.
        timings: seconds of each stage are added here.
    """
    import torch

    timings = {} if timings is None else timings
    lengths = [len(pixels) for pixels in clips]
    with timed(timings, "preprocess"):
        visual_input = prepare_clips(pack, pack.visual_preprocessor, clips)
    with timed(timings, "encode"):
        visual_features, visual_logits = encode_images(pack.visual_encoder, visual_input)
    if pack.object_recognizer is pack.visual_encoder:
        object_logits = visual_logits
    else:
        with timed(timings, "preprocess"):
            object_input = prepare_clips(pack, pack.object_preprocessor, clips)
        with timed(timings, "encode"):
            object_logits = encode_images(pack.object_recognizer, object_input)[1]
    return list(torch.split(visual_features, lengths)), list(torch.split(object_logits, lengths))


def prepare_clips(pack: Pack, preprocessor: Preprocessor, clips: Sequence[Tensor]) -> Tensor:
    """All frames [N, 3, S, S] of clips uint8 [T, H, W, 3] as a network of the pack takes them."""
    import torch

    return torch.cat([preprocessor(pixels, pack.device, pack.dtype) for pixels in clips])


def encode_images(encoder: FrameEncoder, images: Tensor) -> tuple[Tensor, Tensor]:
    """Features [N, D] and logits [N, O] of images [N, 3, S, S]."""
    import torch

    from tsq_cli.models.device import cpu_microbatches

    outputs = [encoder(some) for some in cpu_microbatches(images)]
    return torch.cat([output.features for output in outputs]), torch.cat([output.logits for output in outputs])
