"""Videos of 40 human actions, composed of photographs: some shots show the action, each a different photograph.

A video is 16 shots of one second, so that the 16 candidates of `tsq select` fall one in each. Two to five of them show
the action. The others are distractors: photographs of other actions, no two of the same one, and up to four shots
without any (title cards, plain colors, dark and blurred pictures). So the video's class is what is seen more than
once, and no single frame gives it away. Photographs are split before anything is composed: none is in two parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from needle_videos import SHOTS, Photo, Shot, blank, plain_look

from tsq_cli.errors import InputNotFoundError

Part = Literal["test", "training", "tuning"]
SPLIT_SEED = 40
# Everything is trained on "training", every choice is made on "tuning", and "test" is reported once. No choice of the
# pack's first version was made on today's test photographs: its encoder was trained on them.
SHARES: dict[Part, float] = {"test": 0.2, "training": 0.68, "tuning": 0.12}
MOST_EVENT_SHOTS, FEWEST_EVENT_SHOTS = 5, 2
MOST_BLANK_SHOTS = 4


def class_names(folder: Path) -> list[str]:
    """List the actions: names of the folders, in alphabetical order, split into words.

    Raises:
        InputNotFoundError: fewer folders than a video has distractors.
    """
    names = sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    if len(names) < SHOTS:
        raise InputNotFoundError(
            f"{folder} holds {len(names)} folders",
            wanted=f"at least {SHOTS}, one for each action, with photographs (.jpg) in them",
            fix="give the folder of the Stanford 40 Actions photographs with --photos",
        )
    return [name.replace("_", " ") for name in names]


def find_photos(folder: Path, part: Part) -> list[list[Photo]]:
    """List the photographs of a part per action; a photograph is in the same part in every run.

    Raises:
        InputNotFoundError: too few actions, or an action with too few photographs.
    """
    rng = np.random.default_rng(SPLIT_SEED)
    before = list(SHARES).index(part)
    first = sum(list(SHARES.values())[:before])
    found = []
    for index, name in enumerate(class_names(folder)):
        paths = sorted((folder / name.replace(" ", "_")).glob("*.jpg"))
        order = rng.permutation(len(paths))
        chosen = order[round(first * len(paths)) : round((first + SHARES[part]) * len(paths))]
        if len(chosen) < MOST_EVENT_SHOTS:
            raise InputNotFoundError(
                f"{name} has {len(chosen)} photographs for {part}",
                wanted=f"{MOST_EVENT_SHOTS} or more",
                fix="add photographs to its folder",
            )
        found.append([Photo(path=paths[i], class_index=index, class_name=name) for i in sorted(chosen)])
    return found


def draw_classes(num_classes: int, rng: np.random.Generator) -> tuple[int, list[int | None]]:
    """Draw the action of a video, and the class of each of its 16 shots in order; None shows nothing."""
    event = int(rng.integers(num_classes))
    num_event = int(rng.integers(FEWEST_EVENT_SHOTS, MOST_EVENT_SHOTS + 1))
    num_blank = int(rng.integers(0, MOST_BLANK_SHOTS + 1))
    others = rng.permutation([c for c in range(num_classes) if c != event])[: SHOTS - num_event - num_blank]
    shown: list[int | None] = [event] * num_event + [int(c) for c in others] + [None] * num_blank
    return event, [shown[i] for i in rng.permutation(SHOTS)]


def plan_video(photos: Sequence[Sequence[Photo]], rng: np.random.Generator) -> list[Shot]:
    """Draw the 16 shots of a video, no photograph twice; the kind "event" marks those that show its action."""
    event, shown = draw_classes(len(photos), rng)
    event_photos = list(rng.permutation(len(photos[event]))[:MOST_EVENT_SHOTS])
    everything = [photo for of_class in photos for photo in of_class]
    shots = []
    for c in shown:
        if c is None:
            shots.append(blank(rng, everything))
        elif c == event:
            shots.append(Shot("event", photos[c][int(event_photos.pop())], plain_look(rng)))
        else:
            shots.append(Shot("other", photos[c][int(rng.integers(len(photos[c])))], plain_look(rng)))
    return shots
