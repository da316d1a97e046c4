"""Build the record of a clip from its selection, with notes for the user."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tsq_cli import selection
from tsq_cli.clip import Clip
from tsq_cli.config import PAPER_CANDIDATES, PASSING_OVER, SelectSettings
from tsq_cli.record import Candidate, Record, SelectedFrame
from tsq_cli.rules.evidence import Evidence
from tsq_cli.selection import Selection
from tsq_cli.types import MATCH_LEVEL, QueryAnswer, Saliency

if TYPE_CHECKING:
    from tsq_cli.packs import Pack


@dataclass(frozen=True, kw_only=True)
class Seen:
    """Everything on the host about one clip: its frames, the evidence, and the networks' scores (None if none ran).

    `answer` is what the queries found, None without a query.
    """

    clip: Clip
    evidence: Evidence
    saliency: Saliency | None = None
    answer: QueryAnswer | None = None


def describe(
    seen: Seen, chosen: Selection, settings: SelectSettings, *, pack: Pack | None, dtype: str | None, settings_hash: str
) -> Record:
    """Build the record of a clip and of the selection among its candidates.

    Args:
        seen: the clip with its evidence and scores.
        chosen: the selection among its candidates.
        settings: of the run.
        pack, dtype: pack and precision of the networks that ran; None if none did.
        settings_hash: identity of the run, see tsq_cli.config.settings_hash.
    """
    clip, saliency = seen.clip, seen.saliency
    candidates = tuple(_candidate(seen, chosen, position) for position in range(len(clip.batch)))
    used = pack if saliency is not None else None
    return Record(
        path=clip.path,
        status="ok",
        settings_hash=settings_hash,
        requested_k=settings.num_frames,
        video=clip.source.info,
        decode_errors=clip.batch.decode_errors,
        snap_seconds=clip.batch.furthest_snap_seconds,
        bytes_read=clip.bytes_read,
        pack_name=used.config.name if used else None,
        pack_sha256=used.config.sha256 if used else None,
        dtype=dtype,
        device=str(used.textual_embeddings.device) if used else None,
        engine=used.engine if used else None,
        selector=settings.selector,
        rule=chosen.rule,
        rule_reason=chosen.reason,
        query=seen.answer,
        candidates=candidates,
        frames=tuple(
            SelectedFrame(rank=rank, chosen_by=choice.chosen_by, candidate=candidates[choice.position])
            for rank, choice in enumerate(chosen.listed(settings.order), start=1)
        ),
        visual_categories=saliency.visual_categories if saliency else (),
        textual_categories=saliency.textual_categories if saliency else (),
        visual_peak_over_mean=selection.peak_over_mean(saliency.visual) if saliency else None,
        textual_peak_over_mean=selection.peak_over_mean(saliency.textual) if saliency else None,
        timings_seconds={**clip.timings_seconds, "total": sum(clip.timings_seconds.values())},
        notes=(*_unmatched(seen.answer), *_notes(clip, chosen, settings), *_flatness(saliency, settings, used)),
    )


def _flatness(saliency: Saliency | None, settings: SelectSettings, pack: Pack | None) -> Iterator[str]:
    """Note that no candidate stands out in either curve (a static clip) if the rule reads the curves alone."""
    if pack is None or saliency is None or len(saliency.visual) == 1 or not settings.reads_only_curves:
        return
    flat = pack.config.settings
    visual, textual = (selection.peak_over_mean(curve) for curve in (saliency.visual, saliency.textual))
    if visual < flat.flat_visual and textual < flat.flat_textual:
        yield (
            f"no frame stands out: saliency peaks at {visual:.2f} (visual) and {textual:.2f} (textual) times its "
            "mean, so any other frames would do as well (a static or uniform clip)"
        )


def _unmatched(answer: QueryAnswer | None) -> Iterator[str]:
    """Note each query that no frame shows."""
    for query in answer.queries if answer else ():
        if not query.matched:
            yield (
                f"no frame shows {query.text!r}: the best match is {max(query.matches):.2f} (a frame that shows it has "
                f"{MATCH_LEVEL} or more), so the nearest frames are listed"
            )


def _candidate(seen: Seen, chosen: Selection, position: int) -> Candidate:
    batch, saliency, quality = seen.clip.batch, seen.saliency, seen.evidence.quality
    same = -1 if chosen.duplicate_of is None else int(chosen.duplicate_of[position])
    return Candidate(
        position=position,
        frame_index=int(batch.frame_indices[position]),
        pts=int(batch.pts[position]),
        time_base=batch.time_base,
        time_seconds=float(batch.pts_seconds[position]),
        shift_seconds=float(batch.snap_seconds[position]),
        score_visual=float(saliency.visual[position]) if saliency else None,
        score_textual=float(saliency.textual[position]) if saliency else None,
        quality=None if quality is None else float(quality[position]),
        event=None if chosen.events is None else int(chosen.events[position]),
        duplicate_of=None if same < 0 else same,
    )


def _notes(clip: Clip, chosen: Selection, settings: SelectSettings) -> Iterator[str]:
    yield from clip.plan.notes
    yield from clip.batch.notes
    num_candidates = len(clip.batch)
    if clip.plan.requested == settings.num_frames and clip.plan.requested > PAPER_CANDIDATES:
        yield (
            f"the candidates were raised from {PAPER_CANDIDATES} to {clip.plan.requested}, as many as "
            "frames were asked for, so all are taken (more --candidates leave a choice)"
        )
    if settings.num_frames != "auto" and settings.num_frames > num_candidates:
        yield (
            f"{settings.num_frames} frames were asked for and there are {num_candidates} candidates: "
            "all of them are listed"
        )
    if settings.selector in PASSING_OVER and settings.duplicates == "skip" and chosen.duplicate_of is not None:
        positions = [choice.position for choice in chosen.choices]
        repeated = int((chosen.duplicate_of[positions] >= 0).sum())
        if repeated:
            yield (
                f"{repeated} of {len(positions)} frames show the same as another of them: nothing else was left "
                "(-k auto lists as many as differ)"
            )
    if num_candidates > 1 and settings.num_candidates != "auto":
        gap = float(np.diff(clip.batch.pts_seconds).max())
        if gap > 10.0:
            yield (
                f"candidates lie up to {gap:.1f} s apart; a shorter event can fall between them "
                "(more --candidates look closer)"
            )
