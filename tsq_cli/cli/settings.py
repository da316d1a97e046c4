"""The settings of a run over videos, read from the options."""

from __future__ import annotations

from tsq_cli.cli.video_options import VideoOptions
from tsq_cli.config import PAPER_FRAMES, Auto, Limits, SelectSettings, too_few_candidates, usual_candidates


def limits(options: VideoOptions) -> Limits:
    """Read the limits per video."""
    return Limits(timeout_seconds=options.timeout, max_pixels=options.max_pixels, allow_url=options.allow_url)


def _frames_and_candidates(options: VideoOptions) -> tuple[int | Auto, int | Auto]:
    """Complete K and T: one that was not given follows the other; a pair that does not fit is refused."""
    k, t = (None if text is None else _count(text) for text in (options.num_frames, options.num_candidates))
    if t is None:
        k = PAPER_FRAMES if k is None else k
        return k, usual_candidates(k, options.selector, adapts=options.usual.num_candidates == "auto")
    if k is None:
        return PAPER_FRAMES if t == "auto" else max(1, min(PAPER_FRAMES, t)), t
    if k != "auto" and t != "auto" and k > t > 0:
        raise too_few_candidates(k, t)
    return k, t


def _count(text: str) -> int | Auto:
    return "auto" if text == "auto" else int(text)


def select_settings(options: VideoOptions) -> SelectSettings:
    """Read the settings of the selection.

    Raises:
        UsageError: they do not fit together.
    """
    num_frames, num_candidates = _frames_and_candidates(options)
    return SelectSettings(
        num_frames=num_frames,
        num_candidates=num_candidates,
        selector=options.selector,
        duplicates=options.duplicates,
        sharpest=options.sharpest,
        order=options.order,
        start_seconds=_seconds(options.start),
        end_seconds=_seconds(options.end),
        query=options.query or None,
        query_model=options.query_model,
        decode_mode=options.decode,
        seed=options.seed,
    )


def _seconds(timecode: str | None) -> float | None:
    if timecode is None:
        return None
    from tsq_cli.video import parse_timecode

    return parse_timecode(timecode)
