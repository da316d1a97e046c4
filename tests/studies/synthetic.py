"""Clips of synthetic features whose event is known: a few frames show their class, the others noise."""

from __future__ import annotations

import torch
from torch import Tensor

from tsq_cli.studies.ablation import StudyData
from tsq_cli.training.heads import CachedClips, ClipBatch, ClipSource

C, T, DV, DT = 5, 8, 16, 8


class CountedSource:
    """A StudyData.source that records the seeds it was asked for."""

    def __init__(self, clips: ClipBatch) -> None:
        self.seeds: list[int] = []
        self._clips = clips

    def __call__(self, seed: int) -> ClipSource:
        self.seeds.append(seed)
        clips = self._clips
        return CachedClips(clips.visual, clips.textual, clips.targets, batch_size=16, seed=seed)


def make_data(*, num_train: int = 40, num_val: int = 60, seed: int = 0) -> StudyData:
    """Make clips of which two frames in eight show the event; the recognizer's logits of the others are random."""
    generator = torch.Generator().manual_seed(seed)
    looks, texts = torch.randn(C, DV, generator=generator), torch.randn(C, DT, generator=generator)

    def clips(count: int) -> tuple[ClipBatch, Tensor]:
        targets = torch.nn.functional.one_hot(torch.arange(count) % C, C).float()
        event = torch.zeros(count, T, 1)
        event.scatter_(1, torch.rand(count, T, 1, generator=generator).argsort(dim=1)[:, :2], 1.0)
        visual, textual, said = (torch.randn(count, T, width, generator=generator) for width in (DV, DT, C))
        batch = ClipBatch(
            event * (targets @ looks)[:, None] + 0.5 * visual,
            event * (targets @ texts)[:, None] + 0.5 * textual,
            targets,
        )
        return batch, 2.0 * event * targets[:, None] + 2.0 * said

    train, _ = clips(num_train)
    validation, frame_logits = clips(num_val)
    return StudyData(
        source=CountedSource(train),
        queries_visual=looks,
        queries_textual=texts,
        num_candidates=T,
        validation=validation,
        frame_logits=frame_logits,
    )
