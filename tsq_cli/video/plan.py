"""Plan the packets to decode for given frames (pure functions over arrays)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tsq_cli.types import Int64Array


@dataclass(frozen=True)
class PacketRun:
    """Packets [start, stop) in file order, decoded from a clean state to get the targets among them."""

    start: int
    stop: int
    targets: tuple[int, ...]

    def __len__(self) -> int:
        return self.stop - self.start


def plan_runs(pts: Int64Array, key: npt.NDArray[np.bool_], targets: Int64Array) -> list[PacketRun]:
    """Group targets by the keyframe that decoding must start from, longest run first, so that threads share evenly.

    A target belongs to the last keyframe before it in the file that is also not shown after it: a frame that follows a
    keyframe in the file but precedes it on screen (open GOP) may need the group before. Looking no further than the
    target's own packet keeps apart the ranges of an edit list, whose lead-ins can carry the times of other ranges.

    Args:
        pts: int64 [P], presentation times of the packets in file order.
        key: bool [P], whether decoding can start at a packet.
        targets: int64 [T], positions of the wanted frames' packets, each in [0, P).

    Returns:
        Runs whose targets are rising and disjoint; runs can overlap.
    """
    starts = np.flatnonzero(key)
    grouped: dict[int, list[int]] = {}
    for target in np.sort(targets).tolist():
        nearest = int(np.searchsorted(starts, target, side="right")) - 1
        while nearest > 0 and pts[starts[nearest]] > pts[target]:
            nearest -= 1
        grouped.setdefault(int(starts[nearest]) if nearest >= 0 else 0, []).append(target)
    runs = [PacketRun(start, members[-1] + 1, tuple(members)) for start, members in grouped.items()]
    return sorted(runs, key=len, reverse=True)


def join_overlapping(runs: list[PacketRun]) -> list[PacketRun]:
    """Join runs that share packets, so that one decoder decodes each packet once: in open groups, often a keyframe."""
    joined: list[PacketRun] = []
    for run in sorted(runs, key=lambda run: run.start):
        if joined and run.start < joined[-1].stop:
            last = joined.pop()
            run = PacketRun(last.start, max(last.stop, run.stop), tuple(sorted({*last.targets, *run.targets})))
        joined.append(run)
    return joined


def expand_to_neighbor_gops(run: PacketRun, key: npt.NDArray[np.bool_]) -> PacketRun:
    """Extend a run from one keyframe earlier up to and including the next one, to recover what a damaged run lost.

    Args:
        run: the run; its targets are kept.
        key: bool [P], whether decoding can start at a packet.
    """
    starts = np.flatnonzero(key)
    before, after = starts[starts < run.start], starts[starts >= run.stop]
    start = int(before[-1]) if len(before) else run.start
    stop = int(after[0]) + 1 if len(after) else len(key)
    return PacketRun(start, stop, run.targets)
