"""Choose frames by their matches with free text queries: places first, then the best of the rest (ours).

Pure functions of matches [Q, T] or [T] in [0, 1], where MATCH_LEVEL and more says that a frame shows what is asked.
"""

from __future__ import annotations

import numpy as np

from tsq_cli.queries import Query
from tsq_cli.rules.ordering import ranking
from tsq_cli.types import MATCH_LEVEL, BoolArray, Float64Array, Int64Array


def combine(query: Query, matches: Float64Array) -> Float64Array:
    """Combine the matches of a query's parts: the worst part decides (fuzzy logic).

    Args:
        query: with its P parts.
        matches: [P, T], in the order of `query.parts`.

    Returns:
        [T]: the lowest match of all_of and of one minus the matches of none_of.
    """
    wanted, unwanted = np.split(matches, [len(query.all_of)])
    combined: Float64Array = np.concatenate([wanted, 1.0 - unwanted]).min(axis=0)
    return combined


def choose_matching(
    matches: Float64Array, k: int, *, events: Int64Array, same: BoolArray, only_places: bool = False
) -> list[int]:
    """Choose K frames by their matches with one or several queries.

    The places where a query is shown come first: a place is a run of matching candidates within one event, and its
    best match stands for it. Then come further matching frames that show something else than those before them, then
    the rest, by match. Several queries take turns.

    Args:
        matches: [Q, T].
        k: frames wanted, at least 1.
        events: [T], not decreasing, see tsq_cli.rules.cover.events_of.
        same: [T, T], whether two candidates show the same.
        only_places: whether to stop after the places; the nearest frame alone, if no frame matches.

    Returns:
        Positions in the order of choice, at most min(k, T).
    """
    turns = [_tiers(match, k, events, same) for match in matches]
    chosen: list[int] = []
    for tier in zip(*turns, strict=True):
        queues = [list(positions) for positions in tier]
        while any(queues):
            for queue in queues:
                queue[:] = [position for position in queue if position not in chosen]
                chosen += queue[:1]
        if only_places:
            return chosen[:k] or [int(matches.max(axis=0).argmax())]
    return chosen[:k]


def _tiers(match: Float64Array, k: int, events: Int64Array, same: BoolArray) -> tuple[list[int], list[int], list[int]]:
    """Order all candidates by their match [T] with one query: the places, other matching frames, and the rest."""
    by_match = ranking(match, k)
    shows = match >= MATCH_LEVEL
    begins = np.diff(events, prepend=-1) > 0
    begins[1:] |= shows[1:] != shows[:-1]
    place = np.cumsum(begins)
    best: dict[int, int] = {}
    for position in by_match:
        if shows[position]:
            best.setdefault(int(place[position]), position)
    first = list(best.values())
    further: list[int] = []
    for position in by_match:
        if shows[position] and position not in first and not same[position][[*first, *further]].any():
            further.append(position)
    return first, further, [position for position in by_match if position not in (*first, *further)]
