"""Rule `cover`: K frames that cover a video, one anchor per event first, then those that add the most (ours).

Pure functions of cosines [T, T], saliency [T], quality [T], layout [T, P] and times [T]. Follows "events first"
selectors for video question answering (EFS); submodular coverage (facility location) decides among events and inside
them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tsq_cli.rules.layout import layout_likeness
from tsq_cli.rules.ordering import spread
from tsq_cli.types import BoolArray, ChosenBy, Float64Array, Int64Array

HARD_CUT, CUT_COSINE = 0.5, 0.7
"""Cosines of neighboring candidates below which they belong to two events in any video (CUT_COSINE), and to two events
that are served first (HARD_CUT): two shots are hardly ever more alike, and one moving shot hardly ever less."""

CUT_DEVIATIONS = 6.0
"""Median absolute deviations by which a difference must exceed the median to end an event in a calm video."""

SALIENCY_WEIGHT = 0.01
"""Gain of a choice whose frames are twice as salient as the mean; full coverage is worth 1."""

LIKENESS_WEIGHT = 0.2
"""Loss of a choice whose frames all look alike; full coverage is worth 1."""

LAYOUT_WEIGHT = 0.125
"""Loss of a choice whose frames all have one layout; full coverage is worth 1."""

CALM_TIMES, LEAST_DIFFERENCE = 30.0, 0.005
"""In a calm video, frames count as different from this multiple of the lower quartile of neighbors' differences on, and
at least from LEAST_DIFFERENCE on."""

GOOD_QUALITY = 0.5
"""Share of the best sharpness nearby, in the same event, that a frame needs in order not to be skipped."""

NEAR = 2
"""Candidates on either side that count as nearby."""

LEAST_SHARPNESS = 0.006
"""Sharpness below which a frame of short side 256 counts as blurred: 99.8 % of the frames of real clips have more
(footage, actions and fights; blurred by a Gaussian of 4 pixels and more, they have 0.002 to 0.005)."""


def cover(
    similarity: Float64Array,
    saliency: Float64Array,
    times: Float64Array,
    k: int,
    *,
    quality: Float64Array | None,
    layout: Float64Array | None = None,
    duplicate_cosine: float,
    skips_duplicates: bool,
    only_different: bool,
) -> list[tuple[int, ChosenBy]]:
    """Choose the most salient good frame per event, then the frames that add the most coverage.

    Events between hard cuts are served first, then the finer events. The score of a choice is its coverage (the mean
    over all candidates of the best cosine to a chosen one), minus its redundancy (the mean of each chosen frame's best
    cosine to another), plus a little saliency. If there are more events than K, those whose anchors score best are
    kept. If there are fewer, frames that score best are added; for these, redundancy compares layouts, because cosines
    hardly tell the frames of one event apart, and saliency no longer counts. Duplicates of a chosen frame are skipped
    while other frames are left.

    Args:
        similarity: cosines [T, T].
        saliency: [T], 1 is the mean.
        times: [T], seconds, not decreasing.
        k: from 1 to T.
        quality: [T], 0 for a blank frame, else its sharpness; None where it was not measured.
        layout: [T, P], where a frame is light and dark (rules/layout.py); None if it was not measured: redundancy then
            compares cosines throughout.
        duplicate_cosine: frames at least this much alike are duplicates.
        skips_duplicates: whether duplicates are skipped.
        only_different: whether to return fewer than K frames rather than a duplicate.

    Returns:
        Positions in the order of choice, each with its reason: "event", "coverage" or "spread".

    Source: ours.
    """
    count = len(similarity)
    same = np.eye(count, dtype=bool) | (skips_duplicates & (similarity >= duplicate_cosine))
    salient, alike = SALIENCY_WEIGHT * saliency, LIKENESS_WEIGHT * similarity
    of_events: list[int] = []
    for cut_cosine in (HARD_CUT, CUT_COSINE):
        events = events_of(similarity, duplicate_cosine=duplicate_cosine, cut_cosine=cut_cosine)
        good = _good_candidates(quality, events)
        anchors = _anchors(events, saliency, good, of_events)
        of_events = _best_cover(similarity, salient, alike, of_events, k, anchors, same)
    if layout is not None:
        salient, alike = np.zeros(count), LAYOUT_WEIGHT * layout_likeness(layout)
    covering = _best_cover(similarity, salient, alike, of_events, k, good, same)
    choices: list[tuple[int, ChosenBy]] = [(position, "event") for position in of_events]
    choices += [(position, "coverage") for position in covering[len(of_events) :]]
    if len(choices) == k or (only_different and choices):
        return choices
    blank = np.zeros(count, dtype=bool) if quality is None else quality == 0
    if same.all() and not blank.any():
        return [(position, "spread") for position in spread(count, k)]
    rest = _rest(covering, 1 if only_different else k, times, similarity, blank)
    return [*choices, *((position, "spread") for position in rest)]


def _anchors(events: Int64Array, saliency: Float64Array, good: BoolArray, chosen: Sequence[int]) -> BoolArray:
    """Mark the most salient good frame (the middle one of equals) of each event without a chosen frame: bool [T]."""
    anchors = np.zeros(len(events), dtype=bool)
    for event in np.setdiff1d(events, events[list(chosen)]):
        members = np.flatnonzero((events == event) & good)
        if len(members):
            from_middle = members[np.abs(members - members.mean()).argsort(kind="stable")]
            anchors[from_middle[saliency[from_middle].argmax()]] = True
    return anchors


def _rest(chosen: Sequence[int], k: int, times: Float64Array, similarity: Float64Array, blank: BoolArray) -> list[int]:
    """Order the skipped frames, up to K in total: most different first, then farthest in time; blank frames last."""
    taken = list(chosen)
    while len(taken) < k:
        left = np.setdiff1d(np.arange(len(times)), taken)
        distance = np.abs(times[left, None] - times[None, taken]).min(axis=1, initial=np.inf)
        alike = similarity[left][:, taken].max(axis=1, initial=-1.0)
        order = np.lexsort((-distance, np.floor(alike / LEAST_DIFFERENCE), blank[left]))
        taken.append(int(left[order[0]]))
    return taken[len(chosen) :]


def duplicate_level(similarity: Float64Array, duplicate_cosine: float) -> float:
    """Compute the cosine from which on two frames of this video are duplicates: above the pack's in a calm video.

    Two slides of a talk are more alike than two frames of a moving scene, and yet they differ; a calm video is
    recognized by the small differences between most neighbors.

    Args:
        similarity: cosines [T, T].
        duplicate_cosine: of the pack, for videos with motion.

    Source: ours.
    """
    differences = 1.0 - similarity.diagonal(offset=1)
    if len(differences) == 0:
        return duplicate_cosine
    usual = max(LEAST_DIFFERENCE, CALM_TIMES * float(np.quantile(differences, 0.25)))
    return max(duplicate_cosine, 1.0 - usual)


def events_of(similarity: Float64Array, *, duplicate_cosine: float, cut_cosine: float = CUT_COSINE) -> Int64Array:
    """Assign each candidate to an event: a new event begins where neighbors differ abruptly.

    Neighbors less alike than cut_cosine always differ abruptly. In a calm video a smaller difference is enough: one
    that exceeds the median difference by CUT_DEVIATIONS deviations and does not count as a duplicate.

    Args:
        similarity: cosines [T, T].
        duplicate_cosine: frames at least this much alike are duplicates.
        cut_cosine: neighbors less alike than this belong to two events.

    Returns:
        Int64 [T], events from 0, not decreasing.

    Source: ours.
    """
    differences = 1.0 - similarity.diagonal(offset=1)
    if len(differences) == 0:
        return np.zeros(1, dtype=np.int64)
    median = float(np.median(differences))
    outlying = median + CUT_DEVIATIONS * float(np.median(np.abs(differences - median)))
    is_cut = differences > min(max(outlying, 1.0 - duplicate_cosine), 1.0 - cut_cosine)
    return np.concatenate([[0], np.cumsum(is_cut)]).astype(np.int64)


def shows_too_little(similarity: Float64Array, quality: Float64Array | None, k: int) -> bool:
    """Test whether more candidates are needed: most neighbors differ abruptly, or fewer than K are sharp.

    If most neighbors differ, the frames between them may show as much as they do.

    Args:
        similarity: cosines [T, T].
        quality: [T], as for cover.
        k: frames wanted.
    """
    neighbors = similarity.diagonal(offset=1)
    if 2 * (neighbors < CUT_COSINE).sum() > len(neighbors):
        return True
    num_sharp = k if quality is None else int((quality >= LEAST_SHARPNESS).sum())
    return 0 < num_sharp < min(k, len(similarity))


def duplicates_of(chosen: Sequence[int], similarity: Float64Array, duplicate_cosine: float) -> Int64Array:
    """Find the first choice that each candidate duplicates (an earlier one, for a choice), or -1: int64 [T]."""
    found = np.full(len(similarity), -1, dtype=np.int64)
    for position in reversed(chosen):
        found[similarity[position] >= duplicate_cosine] = position
    for rank, position in enumerate(chosen):
        earlier = [other for other in chosen[:rank] if similarity[position, other] >= duplicate_cosine]
        found[position] = earlier[0] if earlier else -1
    return found


def _good_candidates(quality: Float64Array | None, events: Int64Array) -> BoolArray:
    """Mark the good candidates [T]: not blank, not blurred, and not much less sharp than those nearby.

    Args:
        quality: [T], 0 for a blank frame, else its sharpness; None where it was not measured.
        events: [T], the event of each; sharpness is compared within an event.
    """
    if quality is None:
        return np.ones(len(events), dtype=bool)
    nearby = quality.copy()
    for shift in range(1, NEAR + 1):
        together = events[shift:] == events[:-shift]
        nearby[shift:] = np.maximum(nearby[shift:], np.where(together, quality[:-shift], 0.0))
        nearby[:-shift] = np.maximum(nearby[:-shift], np.where(together, quality[shift:], 0.0))
    least = LEAST_SHARPNESS if quality.max() >= LEAST_SHARPNESS else 0.0
    good: BoolArray = (quality > 0) & (quality >= least) & (quality >= GOOD_QUALITY * nearby)
    return good


def _best_cover(
    similarity: Float64Array,
    salient: Float64Array,
    alike: Float64Array,
    chosen: Sequence[int],
    k: int,
    pool: BoolArray,
    same: BoolArray,
) -> list[int]:
    """Add candidates of a pool to those chosen, up to K: greedily, then by exchanges as long as one improves the score.

    Args:
        similarity: cosines [T, T].
        salient: [T], gain of each if chosen.
        alike: [T, T], above -1, loss of each of two chosen together.
        chosen: positions that stay.
        k: total number of frames.
        pool: bool [T], candidates that may be added.
        same: bool [T, T], pairs that must not both be chosen.

    Returns:
        `chosen`, then the new ones, best first; fewer than K if no other candidate may be added.
    """

    def best(others: list[int], pool: BoolArray) -> tuple[float, int] | None:
        """Return the best score of `others` plus one candidate of the pool, and that candidate's position."""
        is_open = pool & ~same[others].any(axis=0)
        if not is_open.any():
            return None
        shown = np.maximum(similarity, similarity[others].max(axis=0, initial=-1.0)).mean(axis=1)
        to_others = alike[others]  # [K - 1, T]
        among = np.where(np.eye(len(others), dtype=bool), -1.0, to_others[:, others]).max(axis=1, initial=-1.0)
        likeness = np.maximum(among[:, None], to_others).sum(axis=0) + to_others.max(axis=0, initial=0.0)
        scores = shown + (salient[others].sum() + salient - likeness) / (len(others) + 1)
        scores = np.where(is_open, scores, -np.inf)
        return float(scores.max()), int(scores.argmax())

    def grown(pool: BoolArray) -> list[int]:
        result = list(chosen)
        while len(result) < k and (found := best(result, pool)) is not None:
            result.append(found[1])
        return result

    result, kept, score = grown(pool), len(chosen), -np.inf
    while True:
        exchanges = [
            (*found, place)
            for place in range(kept, len(result))
            if (found := best([*result[:place], *result[place + 1 :]], pool)) is not None
        ]
        if not exchanges or max(exchanges)[0] <= score + 1e-9:
            break
        score, position, place = max(exchanges)
        result[place] = position
    final = np.zeros(len(salient), dtype=bool)
    final[result[kept:]] = True
    return grown(final)
