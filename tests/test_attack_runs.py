"""The part of the attack suite (tests/attack) that starts runs and ends them; see also tests/test_attack.py."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.attack import bombs, kills
from tests.attack.running import Report
from tests.machine import needs_fifos, needs_signals

pytestmark = [needs_signals, needs_fifos]


def quiet(what: str) -> None:
    """Says nothing of how far a part has come."""


@pytest.mark.parametrize(
    "part",
    [
        lambda: kills.kill_at_random(seed=3, kills=3, num_videos=24, tell=quiet),
        lambda: kills.signals(seed=10, count=2, num_videos=24, tell=quiet),  # one at work, one among the imports
        lambda: kills.two_at_once(num_videos=9, tell=quiet),
        lambda: bombs.attack_together(groups=[bombs.packs]),
    ],
    ids=["kill -9", "signals", "two at once", "hostile packs"],
)
def test_runs_that_are_killed_interrupted_doubled_or_deceived_end_in_order(part: Callable[[], Report]) -> None:
    assert part()["wrong"] == []
