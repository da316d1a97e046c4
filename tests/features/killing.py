"""Work done in child processes that are killed at random moments, until one of them gets to its end."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from typing import Any

Pace = Callable[[], None]
"""Called by the work at each of its steps."""


def killed_until_done(
    work: Callable[[Pace], None], look: Callable[[], Any], *, kills: int, most_steps: int, seed: int
) -> list[Any]:
    """Fork, let the child work, kill it, look at what it left; the last child is let be.

    Each child may make a random number of steps, and is killed 0 to 10 ms after some of them: so they get on, but none
    gets far, however busy the machine, and none is killed at a moment of its own choice. Call this in a process of one
    thread.

    Args:
        work: what a child does; it must end well where nothing kills it.
        look: called after each kill.
        kills: children to kill.
        most_steps: steps that a child makes at the most before it is killed.
        seed: of the random numbers.

    Returns:
        What was seen after each kill that met a child at work.
    """
    chance = random.Random(seed)
    seen = []
    for _ in range(kills):
        allowed = chance.randint(1, most_steps)
        child, steps_made, leave = _start(work)
        os.write(leave, bytes(allowed))
        for _ in range(chance.randint(0, allowed)):
            os.read(steps_made, 1)
        time.sleep(chance.uniform(0, 0.01))
        os.kill(child, signal.SIGKILL)
        if os.WIFSIGNALED(_end(child, steps_made, leave)):
            seen.append(look())
    assert _end(*_start(work)) == 0
    return seen


def _start(work: Callable[[Pace], None]) -> tuple[int, int, int]:
    """A child, a pipe that has a byte for each step it made, and one that takes a byte for each it may make."""
    steps_made, make_step = os.pipe()
    get_leave, leave = os.pipe()
    child = os.fork()
    if child:
        os.close(make_step)
        os.close(get_leave)
        return child, steps_made, leave
    os.close(leave)  # so that the child sees it closed, which is leave for all steps

    def pace() -> None:
        os.read(get_leave, 1)
        os.write(make_step, b".")

    status = 1
    try:
        work(pace)
        status = 0
    finally:
        os._exit(status)


def _end(child: int, steps_made: int, leave: int) -> int:
    """Let a child go on to its end; its exit status as os.waitpid gives it."""
    os.close(leave)
    status = os.waitpid(child, 0)[1]
    os.close(steps_made)
    return status
