"""Data of studies, from two lists of videos: cached features, initial queries, and a fixed recognizer."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from tsq_cli.data import VideoList
from tsq_cli.errors import UsageError
from tsq_cli.features.cache import FeatureCache, VideoFeatures, pack_networks, recognizer_network
from tsq_cli.packs import LoadedRecognizer, Pack
from tsq_cli.packs.schema import TextRole, TransformersWeights
from tsq_cli.packs.texts import load_text_encoder
from tsq_cli.studies.ablation import StudyData, TrainingData
from tsq_cli.studies.registry import RANDOM_TEXT
from tsq_cli.training.datasets import Clips, clips_of, name_queries, prototype_queries, read_lists
from tsq_cli.training.heads import CachedClips, ClipBatch
from tsq_cli.training.prototypes import Prototypes
from tsq_cli.training.recognizer import fit_probe
from tsq_cli.training.settings import TrainSettings
from tsq_cli.types import Progress, no_progress

VideoLists = tuple[VideoList, VideoList]
"""The videos to train on, and those to evaluate on, with the same classes."""


@dataclass(frozen=True, kw_only=True, eq=False)
class StudyFeatures:
    """Features of two lists of videos, for studies with any text encoder.

    Attributes:
        pack: whose networks encoded the frames.
        lists: the videos to train on, and those to evaluate on.
        extracted: the features of both.
        prototypes: the initial queries of VQM.
        frame_logits: of the recognizer on the frames to evaluate on, float32 [N, T, C].
        batch_size: clips per training step.
        about: JSON-ready: lists (see VideoList.to_report), pack, recognizer, prototypes.
    """

    pack: Pack
    lists: VideoLists
    extracted: tuple[VideoFeatures, VideoFeatures]
    prototypes: Prototypes
    frame_logits: Tensor
    batch_size: int
    about: dict[str, Any]

    def data(self, text_encoder: str | None = None) -> StudyData:
        """Build the data of a study.

        Args:
            text_encoder: embeds the names of classes and objects: None is the pack's own; else a model of the hub, or
                RANDOM_TEXT, a random direction per name (ours).

        Raises:
            WeightsError: the encoder is unavailable or damaged.
        """
        pack = self.pack if text_encoder is None else with_texts(self.pack, text_encoder)
        training, clips = (clips_of(pack, *pair) for pair in zip(self.lists, self.extracted, strict=True))
        names = self.lists[0].class_names
        multi_label = any(videos.multi_label for videos in self.lists)
        return StudyData(
            **vars(_training_data(pack, names, training, self.prototypes, self.batch_size, multi_label=multi_label)),
            validation=ClipBatch(clips.visual, clips.textual, clips.targets.float()),
            frame_logits=self.frame_logits,
        )


def gather_training(
    settings: TrainSettings,
    videos: VideoList,
    pack: Pack,
    cache: FeatureCache,
    *,
    workers: int = 1,
    progress: Progress = no_progress,
) -> tuple[TrainingData, VideoFeatures]:
    """Gather training data alone, for studies that evaluate nothing.

    Args:
        settings, pack, cache, workers, progress: as for gather.
        videos: the list to train on.

    Returns:
        The data, and the features behind them.

    Raises:
        UsageError, TsqError, WeightsError: as gather, and if the pack's text encoder is unavailable.
    """
    extracted = cache.extract(
        videos.videos, pack_networks(pack), num_frames=settings.num_candidates, workers=workers, progress=progress
    )
    clips = clips_of(pack, videos, extracted)
    prototypes = prototype_queries(clips, prototype_ratio=settings.heads.prototype_ratio)
    batch_size = settings.heads.fit.batch_size
    data = _training_data(pack, videos.class_names, clips, prototypes, batch_size, multi_label=videos.multi_label)
    return data, extracted


def _training_data(
    pack: Pack,
    class_names: Sequence[str],
    clips: Clips,
    prototypes: Prototypes,
    batch_size: int,
    *,
    multi_label: bool,
) -> TrainingData:
    def source(seed: int) -> CachedClips:
        return CachedClips(clips.visual, clips.textual, clips.targets, batch_size=batch_size, seed=seed)

    return TrainingData(
        source=source,
        queries_visual=prototypes.vectors,
        queries_textual=name_queries(pack, class_names),
        num_candidates=clips.visual.shape[1],
        multi_label=multi_label,
    )


def read_both_lists(settings: TrainSettings) -> VideoLists:
    """Read the training and the validation list, with the classes of the first.

    Raises:
        InputNotFoundError, UsageError: as read_lists, or there is no validation list.
    """
    train, validation = read_lists(settings)
    if validation is None:
        raise UsageError("no list to evaluate on was given", wanted="labeled videos", fix="add --val LIST")
    return train, validation


def gather(
    settings: TrainSettings,
    lists: VideoLists,
    pack: Pack,
    recognizer: LoadedRecognizer,
    cache: FeatureCache,
    *,
    device: torch.device | str = "cpu",
    workers: int = 1,
    progress: Progress = no_progress,
) -> StudyFeatures:
    """Extract features of both lists, and compute prototypes and the recognizer's logits.

    All rows of a study share one recognizer: the given one if it knows the lists' classes, else a linear probe on its
    features, fitted to the training list.

    Args:
        settings: T, m and batch size of the heads, and how a probe is fitted.
        lists: as read_both_lists gives them.
        pack: with the networks of both modules.
        recognizer: of this pack.
        cache: videos in it are not decoded again.
        device: to fit a probe on.
        workers: videos decoded at once.
        progress: called after each video, and while a probe is fitted.

    Raises:
        UsageError: a class without a training video.
        TsqError: no video could be decoded, or the cache cannot be used.
        WeightsError: features that float16 does not hold.
    """
    networks = [*pack_networks(pack), recognizer_network(recognizer)]
    train, validation = (
        cache.extract(videos.videos, networks, num_frames=settings.num_candidates, workers=workers, progress=progress)
        for videos in lists
    )
    clips = clips_of(pack, lists[0], train)
    prototypes = prototype_queries(clips, prototype_ratio=settings.heads.prototype_ratio)
    names = lists[0].class_names
    known = set(names) == set(recognizer.class_names)
    if known:
        frame_logits = validation.logits["recognizer"][:, :, [recognizer.class_names.index(name) for name in names]]
    else:
        probe = fit_probe(
            train.features["recognizer"],
            clips.targets,
            settings.recognizer,
            multi_label=any(videos.multi_label for videos in lists),
            device=device,
            progress=progress,
        )
        with torch.inference_mode():
            frame_logits = torch.stack([probe(video.float()) for video in validation.features["recognizer"]])
    return StudyFeatures(
        pack=pack,
        lists=lists,
        extracted=(train, validation),
        prototypes=prototypes,
        frame_logits=frame_logits.float(),
        batch_size=settings.heads.fit.batch_size,
        about={
            "lists": [of.to_report(some.failed) for of, some in zip(lists, (train, validation), strict=True)],
            "pack": {"name": pack.config.name, "sha256": pack.config.sha256},
            "recognizer": {
                "name": recognizer.choice.name + ("" if known else ", linear probe on its features"),
                "reason": recognizer.choice.reason,
            },
            "prototypes": {name: value for name, value in vars(prototypes).items() if name != "vectors"},
        },
    )


def with_texts(pack: Pack, encoder: str) -> Pack:
    """Copy a pack with another text encoder and its embeddings of the objects' names.

    Args:
        pack: on any device; it is not changed.
        encoder: a model of the hub, or RANDOM_TEXT, a random direction per name (ours).

    Raises:
        WeightsError: the encoder is unavailable or damaged.
    """
    if encoder == RANDOM_TEXT:
        texts: Any = _RandomTexts(pack.object_embeddings.shape[1])
    else:
        texts = load_text_encoder(TextRole(model=encoder, weights=TransformersWeights(source="transformers")))
    objects = texts.embed(pack.object_names).to(pack.object_embeddings)
    centered = functional.normalize(objects - objects.mean(dim=0), dim=1)
    return replace(
        pack,
        object_embeddings=objects,
        textual_embeddings=centered if pack.config.settings.center_object_embeddings else objects,
        _text_encoder=texts,
        _queries={},
    )


class _RandomTexts:
    """A text encoder without meaning: a random unit vector per text, the same for equal texts."""

    def __init__(self, dim: int) -> None:
        self.dim = dim

    def embed(self, texts: Sequence[str]) -> Tensor:
        """Embed N texts as unit vectors [N, D]."""
        seeds = (int.from_bytes(hashlib.sha256(text.encode()).digest()[:7]) for text in texts)
        vectors = [torch.randn(self.dim, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        return functional.normalize(torch.stack(vectors), dim=1)
