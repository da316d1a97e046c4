"""Match frames with free texts: by the names of the objects in them, or by an image-text model (ours)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np

from tsq_cli.arrays import (
    Array,
    Engine,
    concat,
    descending,
    float32,
    inference,
    namespace,
    of_engine,
    sigmoid,
    to_numpy,
)
from tsq_cli.clip import timed
from tsq_cli.packs import load_pack
from tsq_cli.packs.image_text import NAMES, QueryModelChoice, choose_query_model, load_image_text_model
from tsq_cli.packs.onnx import objects_of_full_size
from tsq_cli.rules.matching import combine
from tsq_cli.scoring import categories, encode_images
from tsq_cli.types import Category, QueryAnswer, QueryMatches, Saliency

if TYPE_CHECKING:
    from torch import Tensor

    from tsq_cli.config import SelectSettings
    from tsq_cli.models.image_text import ImageTextModel
    from tsq_cli.models.outputs import ImageNetwork
    from tsq_cli.packs import Pack


FRAMES_AT_ONCE = 64
"""Frames prepared for a network at a time (ours): of a long video all together would take gigabytes."""


class Matcher(Protocol):
    """Matches frames with texts.

    `model` and `reason` are those of QueryAnswer.
    """

    @property
    def model(self) -> str: ...  # noqa: D102 - see above

    @property
    def reason(self) -> str: ...  # noqa: D102

    @property
    def engine(self) -> Engine:
        """Name the library that runs the network; its kind of arrays is taken and returned."""
        ...

    def prepare(self, texts: Sequence[str]) -> None:
        """Embed texts, which is cached, so that an invalid one is found before any video is read."""
        ...

    def match(self, clips: Sequence[Array], texts: Sequence[str]) -> list[Array]:
        """Match the frames uint8 [T, H, W, 3] of each clip with P texts: [P, T] in [0, 1] each, on the device.

        MATCH_LEVEL and more says that a frame shows what a text names.
        """
        ...

    def nearest(self, text: str, count: int) -> tuple[Category, ...]:
        """Name what is nearest to a text among what this matcher knows; empty where it knows no names."""
        ...


@dataclass(frozen=True, kw_only=True)
class NamesMatcher:
    """Matches texts with the names and definitions of a pack's objects, and frames with the objects.

    Attributes:
        pack: loaded.
        network: its object recognizer, for inputs of its own full size.
        model, reason: see QueryAnswer.
    """

    pack: Pack
    network: ImageNetwork
    reason: str
    model: str = "names"

    @property
    def engine(self) -> Engine:
        """Name the library that runs the pack's networks."""
        return self.pack.engine

    def prepare(self, texts: Sequence[str]) -> None:
        """Embed texts.

        Raises:
            WeightsError: the pack's text encoder is out of reach.
            UsageError: a text that is too long for it.
        """
        for text in texts:
            self.pack.query_embedding(text)

    def match(self, clips: Sequence[Array], texts: Sequence[str]) -> list[Array]:
        """Match frames with texts, see Matcher and lifts_to_matches."""
        settings = self.pack.config.settings
        matches = []
        with inference(clips[0]):
            embeddings = [self.pack.query_embedding(text) for text in texts]
            for pixels in clips:
                some = (pixels[start : start + FRAMES_AT_ONCE] for start in range(0, len(pixels), FRAMES_AT_ONCE))
                lifts = namespace(pixels).concat([self._lifts(frames, embeddings) for frames in some], axis=1)
                matches.append(lifts_to_matches(lifts, settings.query_level, settings.query_steepness))
        return matches

    def _lifts(self, pixels: Array, embeddings: Sequence[Array]) -> Array:
        """Compute the lift of each of P texts in n frames [n, H, W, 3]: [P, n], the mean over both ends of a frame."""
        from tsq_cli.models import query_lift

        pack, settings = self.pack, self.pack.config.settings
        # Naming objects takes more pixels than finding the frames that matter, and what is asked may be at the side:
        # the network sees the two ends of each frame, at its full input size.
        preprocessor = replace(pack.config.roles.objects.preprocess, crop_pct=1.0)
        images = concat([preprocessor(end, pack.device, pack.dtype) for end in _square_ends(pixels)])
        logits = encode_images(self.network, images)[1]
        lifts = [
            query_lift(
                logits,
                pack.query_embeddings,
                embedding,
                sharpness=settings.query_scale,
                temperature=settings.query_temperature,
            )
            for embedding in embeddings
        ]
        return namespace(logits).stack(lifts).reshape(len(lifts), 2, -1).mean(axis=1)

    def nearest(self, text: str, count: int) -> tuple[Category, ...]:
        """Name the objects nearest to a text, with their cosines."""
        cosines = float32(self.pack.query_embeddings @ self.pack.query_embedding(text))
        objects = descending(cosines, 0)[:count]
        return categories(objects, cosines[objects], self.pack.object_names)


@dataclass(frozen=True, kw_only=True)
class ImageTextMatcher:
    """Matches texts with frames in the space of an image-text model.

    Attributes:
        network: CLIP or SigLIP.
        reason: see QueryAnswer.
    """

    network: ImageTextModel
    reason: str

    engine: Engine = "torch"

    @property
    def model(self) -> str:
        """Id of the network."""
        return self.network.name

    def prepare(self, texts: Sequence[str]) -> None:
        """Embed texts.

        Raises:
            UsageError: a text that is too long for the network.
        """
        self.network.embed_names(texts)

    def match(self, clips: Sequence[Tensor], texts: Sequence[str]) -> list[Tensor]:
        """Match frames with texts, see Matcher and ImageTextModel.match."""
        import torch

        from tsq_cli.models.microbatches import cpu_microbatches

        network = self.network
        with torch.inference_mode():
            dtype = next(network.parameters()).dtype
            features = torch.cat(
                [
                    network(images)
                    for pixels in clips
                    for some in torch.split(pixels, FRAMES_AT_ONCE)
                    for images in cpu_microbatches(network.preprocessor(some, network.device, dtype))
                ]
            )
            matches = network.match(features, network.embed_names(texts))
        return list(torch.split(matches, [len(pixels) for pixels in clips], dim=1))

    def nearest(self, text: str, count: int) -> tuple[Category, ...]:
        """Return nothing: an image-text model knows no list of names."""
        return ()


def _square_ends(pixels: Array) -> tuple[Array, Array]:
    """Cut the squares at both ends of the longer side out of frames [T, H, W, 3]."""
    height, width = pixels.shape[1:3]
    side = min(height, width)
    return pixels[:, :side, :side], pixels[:, height - side :, width - side :]


def lifts_to_matches(lifts: Array, level: float, steepness: float) -> Array:
    """Scale lifts of any shape to matches in [0, 1]: MATCH_LEVEL at the level, 1 / (1 + (level / lift)^steepness)."""
    xp = namespace(lifts)
    return sigmoid(steepness * xp.log(xp.clip(lifts, min=1e-6) / level))


def load_matcher(pack: Pack, choice: QueryModelChoice | str) -> Matcher:
    """Load what matches frames with texts.

    Args:
        pack: loaded.
        choice: of packs.image_text.choose_query_model for this pack, or a SelectSettings.query_model.

    Raises:
        UsageError, WeightsError: as choose_query_model, or weights that are damaged.
    """
    if isinstance(choice, str):
        choice = choose_query_model(pack.config, choice)
    if choice.model == NAMES:
        return names_matcher(pack, choice.reason)
    if pack.engine != "torch":  # image-text models have no graph
        pack = load_pack(pack.config)
    network = pack.image_text
    if network is None or network.name != choice.model:
        network = load_image_text_model(choice.model, device=pack.device, dtype=pack.dtype)
    return ImageTextMatcher(network=network, reason=choice.reason)


def names_matcher(pack: Pack, reason: str) -> NamesMatcher:
    """Match texts with the names of a pack's objects; by torch where their network has no graph for its full size."""
    network = pack.object_recognizer
    if pack.engine == "onnx":
        network = objects_of_full_size(pack)
        if network is None:
            pack = load_pack(pack.config)
            network = pack.object_recognizer
    return NamesMatcher(pack=pack, network=network, reason=reason)


class Matchers:
    """Networks that match frames with queries, loaded once per SelectSettings.query_model."""

    def __init__(self) -> None:
        self._loaded: dict[str, Matcher] = {}

    def prepare(self, pack: Pack, settings: SelectSettings, choice: QueryModelChoice | None = None) -> None:
        """Load what matches frames with the queries of a run, and embed them.

        Args:
            pack: loaded.
            settings: of the run, with a query.
            choice: the network that settings.query_model means, if that was decided before.

        Raises:
            UsageError: a query that is too long.
            WeightsError: weights that are missing, damaged or out of reach.
        """
        if choice is not None:
            self._loaded[settings.query_model] = load_matcher(pack, choice)
        self._of(pack, settings).prepare(settings.query_parts)

    def match(
        self, pack: Pack, clips: Sequence[Array], settings: SelectSettings, timings: dict[str, float]
    ) -> Sequence[Array | None]:
        """Match the frames uint8 [T, H, W, 3] of each clip with the parts of all queries: [P, T]; None without a query.

        Args:
            pack, clips, settings: as above.
            timings: seconds are added here.
        """
        if settings.query is None:
            return [None] * len(clips)
        with timed(timings, "match"):
            matcher = self._of(pack, settings)
            return matcher.match([of_engine(clip, matcher.engine) for clip in clips], settings.query_parts)

    def answer(
        self, pack: Pack, matches: Array, saliency: Saliency, settings: SelectSettings
    ) -> tuple[QueryAnswer, Saliency]:
        """Combine the matches of one clip with all queries, and copy them to the host.

        Args:
            pack, settings: as above.
            matches: of `match`, [P, T].
            saliency: of the clip.

        Returns:
            The answer, and the saliency with the best match of each frame in the place of the textual curve, and what
            is nearest to the first query in the place of its categories.
        """
        matcher = self._of(pack, settings)
        parts = to_numpy(matches).astype(np.float64)
        found, start = [], 0
        for query in settings.queries:
            stop = start + len(query.parts)
            combined = combine(query, parts[start:stop])
            found.append(QueryMatches(text=query.text, matches=tuple(combined.round(6).tolist())))
            start = stop
        best = np.max([query.matches for query in found], axis=0) + 1e-12  # so that the sum is not zero
        nearest = matcher.nearest(settings.query_parts[0], settings.top_n or pack.config.settings.top_n)
        answered = QueryAnswer(model=matcher.model, reason=matcher.reason, queries=tuple(found))
        return answered, replace(saliency, textual=best / best.sum(), textual_categories=nearest)

    def _of(self, pack: Pack, settings: SelectSettings) -> Matcher:
        if settings.query_model not in self._loaded:
            self._loaded[settings.query_model] = load_matcher(pack, settings.query_model)
        return self._loaded[settings.query_model]
