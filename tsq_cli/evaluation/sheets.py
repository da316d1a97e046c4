"""Contact sheets of uniform against selected frames, one per video (docs/method.md, section 7)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np

from tsq_cli.clip import load_clip
from tsq_cli.config import PAPER, SelectSettings
from tsq_cli.errors import UsageError
from tsq_cli.evaluation.evaluate import Evaluation
from tsq_cli.files import write_text
from tsq_cli.packs import Pack
from tsq_cli.pictures import Outputs, write_pictures
from tsq_cli.pipeline import Selector
from tsq_cli.report.text import markdown, safe_stem
from tsq_cli.types import Float64Array, Progress, no_progress

NUM_EXTREMES = 6
INDEX = "sheets.md"
_HEADING = "frames: uniform, and selected with"


def choose_videos(evaluation: Evaluation, ids: Sequence[str] = (), *, count: int = NUM_EXTREMES) -> dict[str, int]:
    """Choose the videos to draw: those asked for, or those that selection helps and harms most.

    The gain of a video is the probability of a true class from the selected frames, minus that from as many uniform
    frames.

    Args:
        evaluation: of the videos.
        ids: as in their list; empty for the extremes.
        count: of the best and of the worst, at most; no video is both.

    Returns:
        Numbers of videos by the name of their sheet, without its suffix: in the order asked for, or "best-01-..." from
        the greatest gain downwards, then "worst-01-..." from the greatest loss upwards.

    Raises:
        UsageError: an id that is not among the videos evaluated.
    """
    number_of = {video.id: number for number, video in enumerate(evaluation.videos)}
    check_ids(ids, list(number_of))
    if ids:
        return {f"{place:02d}-{_plain(name)}": number_of[name] for place, name in enumerate(dict.fromkeys(ids), 1)}
    falling = np.argsort(-gains(evaluation), kind="stable").tolist()
    num_best, num_worst = min(count, (len(falling) + 1) // 2), min(count, len(falling) // 2)
    extremes = {"best": falling[:num_best], "worst": falling[::-1][:num_worst]}
    return {
        f"{side}-{place:02d}-{_plain(evaluation.videos[number].id)}": number
        for side, numbers in extremes.items()
        for place, number in enumerate(numbers, 1)
    }


def check_ids(ids: Sequence[str], known: Sequence[str]) -> None:
    """Refuse ids that name no video.

    Raises:
        UsageError: with the first such id.
    """
    if unknown := [video_id for video_id in ids if video_id not in known]:
        raise UsageError(
            f"there is no video {unknown[0]} to draw",
            wanted="ids from the list, of videos that can be decoded",
            fix=f"the first id is {known[0]}",
        )


def check_index(folder: Path) -> None:
    """Refuse a folder where the index would overwrite a file that tsq evaluate did not write.

    Raises:
        UsageError: there is such a file.
    """
    index = folder / INDEX
    if index.is_file() and _HEADING not in index.read_text(encoding="utf-8", errors="replace")[:1000]:
        raise UsageError(
            f"{index} was not written by tsq evaluate, and would be replaced",
            wanted="a new folder, or one with sheets",
            fix="choose another folder for --sheets",
        )


def gains(evaluation: Evaluation) -> Float64Array:
    """Gain in the probability of a true class, from uniform to selected frames, float64 [N], -1 to 1."""
    return evaluation.true_probability["tsq"] - evaluation.true_probability["uniform"]


def write_sheets(
    folder: Path, evaluation: Evaluation, pack: Pack, chosen: dict[str, int], *, progress: Progress = no_progress
) -> list[Path]:
    """Decode the chosen videos again, draw their sheets, and write an index of them in Markdown.

    Args:
        folder: created if missing; sheets of the same videos in it are replaced.
        evaluation: of the videos, with this pack.
        pack: selects the frames.
        chosen: as choose_videos gives it.
        progress: called after each sheet.

    Returns:
        The files written, the index first.

    Raises:
        VideoError: a video can no longer be decoded.
        OutputError: a file cannot be written.
    """
    selector, settings = Selector(pack), sheet_settings(evaluation, pack)
    outputs = Outputs(sheet=folder / "{stem}.png")
    sheets = []
    for done, (name, number) in enumerate(chosen.items(), 1):
        with closing(load_clip(evaluation.videos[number].path, settings)) as clip:
            record = selector.process_clips([clip], settings)[0]
            sheets.append(Path(str(write_pictures(record, clip, outputs, name).sheet)))
        progress("drawing sheets", done, len(chosen))
    index = folder / INDEX
    write_text(index, _index(evaluation, pack, chosen, sheets))
    return [index, *sheets]


def sheet_settings(evaluation: Evaluation, pack: Pack) -> SelectSettings:
    """Settings of the selection that a sheet shows: the paper's rule, with the pack's numbers of frames."""
    num_candidates = pack.config.settings.num_candidates
    return replace(PAPER, num_frames=min(evaluation.num_frames, num_candidates), num_candidates=num_candidates)


def heading(evaluation: Evaluation, pack: Pack) -> str:
    """Title of sheets and of their index, by which `check_index` knows it again."""
    return f"{evaluation.num_frames} {_HEADING} {pack.config.name}"


def outcome(evaluation: Evaluation, pack: Pack, number: int) -> str:
    """Say in Markdown what a video is of, and how probable its class is from uniform and from selected frames."""
    video = evaluation.videos[number]
    uniform, selected = (evaluation.true_probability[name][number] for name in ("uniform", "tsq"))
    classes = markdown(", ".join(pack.class_names[label] for label in video.labels))
    return (
        f"**{markdown(video.id)}** ({classes}): probability of the class {uniform:.2f} from the uniform frames, "
        f"{selected:.2f} from the selected ones"
    )


def _index(evaluation: Evaluation, pack: Pack, chosen: dict[str, int], sheets: Sequence[Path]) -> str:
    lines = [f"# {markdown(heading(evaluation, pack))}", ""]
    for sheet, number in zip(sheets, chosen.values(), strict=True):
        lines += [outcome(evaluation, pack, number), "", f"![{sheet.stem}]({sheet.name})", ""]
    return "\n".join(lines)


def _plain(video_id: str) -> str:
    """Turn an id into a part of a file's name."""
    return safe_stem(re.sub(r"[^\w.-]+", "-", video_id).strip("-."))
