"""One sheet in the layout of S's figures: three videos of one class and three of different classes."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tsq_cli.clip import load_clip
from tsq_cli.data import LabeledVideo
from tsq_cli.errors import UsageError
from tsq_cli.evaluation.evaluate import Evaluation
from tsq_cli.evaluation.sheets import INDEX, check_ids, heading, outcome, sheet_settings
from tsq_cli.files import write_text
from tsq_cli.packs import Pack
from tsq_cli.pipeline import Selector
from tsq_cli.report.frames import description, new_picture, write_image
from tsq_cli.report.paper_sheet import ComparedVideo, draw_paper_sheet
from tsq_cli.report.text import markdown
from tsq_cli.types import Progress, no_progress

SHEET = "paper.png"
SEED = 0
NUM_ROWS = 3
"""Videos of one class, and videos of different classes."""

_OWN = "a sheet of several videos, by tsq evaluate"  # takes the place of a video's id in the picture


class PaperChoice(NamedTuple):
    """Numbers of the videos to draw, NUM_ROWS each."""

    same: tuple[int, ...]
    different: tuple[int, ...]


def choose_paper_videos(videos: Sequence[LabeledVideo], ids: Sequence[str] = (), *, seed: int = SEED) -> PaperChoice:
    """Choose the videos of the sheet: those asked for, or drawn at random, so that they are no choice of successes.

    Args:
        videos: to choose from.
        ids: as in their list, first NUM_ROWS of one class, then as many of different classes; empty to draw them.
        seed: of the draw: a class with enough videos, videos of it, then videos that share no class, of other classes
            as far as there are some.

    Raises:
        UsageError: the list has no such videos, or the ids are not of such, or of none.

    Source: S for the layout (docs/method.md, section 7), ours for the choice.
    """
    if ids:
        return _asked_for(videos, ids)
    generator = np.random.default_rng(seed)
    of_class: dict[int, list[int]] = {}
    for number, video in enumerate(videos):
        for label in video.labels:
            of_class.setdefault(label, []).append(number)
    large = [label for label in sorted(of_class) if len(of_class[label]) >= NUM_ROWS]
    if not large:
        raise _too_few(f"no class has {NUM_ROWS} videos")
    label = large[generator.integers(len(large))]
    same = sorted(generator.choice(of_class[label], NUM_ROWS, replace=False).tolist())
    different: list[int] = []
    others = [other for other in sorted(of_class) if other != label]
    for other in [*(others[place] for place in generator.permutation(len(others))), label]:
        shown = {known for number in different for known in videos[number].labels}
        left = [n for n in of_class[other] if n not in same and shown.isdisjoint(videos[n].labels)]
        if left and len(different) < NUM_ROWS:
            different.append(left[generator.integers(len(left))])
    if len(different) < NUM_ROWS:
        raise _too_few(f"beside {NUM_ROWS} videos of one class there are {len(different)} of different classes")
    return PaperChoice(tuple(same), tuple(different))


def _asked_for(videos: Sequence[LabeledVideo], ids: Sequence[str]) -> PaperChoice:
    number_of = {video.id: number for number, video in enumerate(videos)}
    check_ids(ids, list(number_of))
    numbers = [number_of[video_id] for video_id in ids]
    same, different = (tuple(numbers[:NUM_ROWS]), tuple(numbers[NUM_ROWS:]))
    labels = [set(videos[number].labels) for number in numbers]
    shared = bool(set.intersection(*labels[:NUM_ROWS]))
    apart = sum(map(len, labels[NUM_ROWS:])) == len(set().union(*labels[NUM_ROWS:]))
    if len(set(numbers)) != 2 * NUM_ROWS or len(numbers) != 2 * NUM_ROWS or not (shared and apart):
        raise UsageError(
            f"--sheet-layout paper was given the ids {', '.join(ids)}",
            wanted=f"{2 * NUM_ROWS} ids: {NUM_ROWS} of one class, then {NUM_ROWS} of different classes",
            fix="correct --sheet-ids, or leave it out to have them drawn",
        )
    return PaperChoice(same, different)


def _too_few(got: str) -> UsageError:
    return UsageError(
        got,
        wanted=f"{NUM_ROWS} videos of one class and {NUM_ROWS} others of different classes for --sheet-layout paper",
        fix="give a longer list, or leave out --sheet-layout",
    )


def write_paper_sheet(
    folder: Path, evaluation: Evaluation, pack: Pack, chosen: PaperChoice, *, progress: Progress = no_progress
) -> list[Path]:
    """Decode the chosen videos again, draw the sheet, and write an index of it in Markdown.

    Args:
        folder: created if missing; a sheet of this kind in it is replaced.
        evaluation: of the videos, with this pack.
        pack: selects the frames.
        chosen: as choose_paper_videos gives it.
        progress: called after each video.

    Returns:
        The files written, the index first.

    Raises:
        VideoError: a video can no longer be decoded.
        OutputError: a file cannot be written, or there is another picture of that name.
    """
    selector, settings = Selector(pack), sheet_settings(evaluation, pack)
    rows = []
    for done, number in enumerate([*chosen.same, *chosen.different], 1):
        video = evaluation.videos[number]
        with closing(load_clip(video.path, settings)) as clip:
            record = selector.process_clips([clip], settings)[0]
            rows.append(ComparedVideo(f"{_classes(pack, video)}  -  {video.id}", record, clip.batch.pixels))
        progress("drawing the sheet", done, 2 * NUM_ROWS)
    shared = sorted(set.intersection(*(set(evaluation.videos[number].labels) for number in chosen.same)))
    groups = {
        f"Three videos of one class: {pack.class_names[shared[0]]}": rows[:NUM_ROWS],
        "Three videos of different classes": rows[NUM_ROWS:],
    }
    picture = draw_paper_sheet(heading(evaluation, pack), groups)
    path = folder / SHEET
    with new_picture(path, _OWN) as temporary:
        write_image(picture, temporary, format="PNG", exif=description(None, source=pack.config.name, video_id=_OWN))
    lines = [f"# {markdown(heading(evaluation, pack))}", "", f"![{path.stem}]({path.name})", ""]
    lines += [f"- {outcome(evaluation, pack, number)}" for number in [*chosen.same, *chosen.different]]
    index = folder / INDEX
    write_text(index, "\n".join([*lines, ""]))
    return [index, path]


def _classes(pack: Pack, video: LabeledVideo) -> str:
    return ", ".join(pack.class_names[label] for label in video.labels)
