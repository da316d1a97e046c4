"""The default of `tsq select` on films whose shots were put together here from photographs."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import skimage.data
from PIL import Image, ImageFilter

from tsq_cli import Classifier, Selector, SelectSettings, selection
from tsq_cli.clip import load_clip
from tsq_cli.config import PAPER, SelectorName
from tsq_cli.record import Record
from tsq_cli.rules.evidence import Evidence
from tsq_cli.rules.layout import layouts
from tsq_cli.selection import Selection
from tsq_cli.types import UInt8Array

RATE = 25
PHOTOGRAPHS = [
    np.ascontiguousarray(np.asarray(Image.fromarray(picture()).resize((320, 240))))
    for picture in (skimage.data.coffee, skimage.data.chelsea, skimage.data.rocket, skimage.data.astronaut)
]


def film(path: Path, num_frames: int, shown: Callable[[int], UInt8Array]) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"crf": "18", "preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for number in range(num_frames):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(shown(number), format="rgb24")))
        container.mux(stream.encode(None))
    return path


def drifting(photograph: int, step: int) -> UInt8Array:
    """A photograph that moves a little, so that no two frames of it are the same."""
    return np.roll(PHOTOGRAPHS[photograph], step, axis=1)


def photographs_of(record: Record, piece: int) -> set[int]:
    """Which photographs the selected frames show, where the pieces of `piece` frames take turns."""
    frames = [frame.candidate.frame_index for frame in record.frames]
    return {index // piece % len(PHOTOGRAPHS) for index in frames if index is not None}


def test_four_shots_in_turns_are_all_seen_and_chosen(selector: Selector, tmp_path: Path) -> None:
    piece = 15
    path = film(tmp_path / "turns.mp4", 32 * piece, lambda n: drifting(n // piece % 4, n % piece))
    sixteen = selector.select(path, replace(PAPER, selector="cover", num_frames=4))
    assert len(photographs_of(sixteen, piece)) == 2  # even candidates meet every other piece
    record = selector.select(path, SelectSettings(num_frames=4))
    assert record.rule == "cover"
    assert photographs_of(record, piece) == {0, 1, 2, 3}
    assert len(record.candidates) == 32
    assert any("16 more (at most 16) were looked at" in note for note in record.notes)
    assert [candidate.position for candidate in record.candidates] == list(range(32))
    times = [candidate.time_seconds for candidate in record.candidates]
    assert times == sorted(set(times))
    assert sum(candidate.score_visual or 0 for candidate in record.candidates) == pytest.approx(1.0)


def test_one_long_shot_leaves_room_for_the_short_ones(selector: Selector, tmp_path: Path) -> None:
    shots = [0] * 9 + [1] * 3 + [2] * 2 + [3] * 2  # sixteenths
    path = film(tmp_path / "long.mp4", 16 * 20, lambda n: drifting(shots[n // 20], 3 * (n % 20)))
    record = selector.select(path, SelectSettings(num_frames=4))
    assert {shots[(frame.candidate.frame_index or 0) // 20] for frame in record.frames} == {0, 1, 2, 3}


def test_the_layouts_of_all_candidates_are_looked_at(
    selector: Selector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = film(tmp_path / "drifting.mp4", 48, lambda n: drifting(0, 6 * n))
    choose, seen = selection.choose, list[Evidence]()

    def watched(name: SelectorName, evidence: Evidence, *arguments: Any, **options: Any) -> Selection:
        seen.append(evidence)
        return choose(name, evidence, *arguments, **options)

    monkeypatch.setattr(selection, "choose", watched)
    selector.select(path)
    selector.select(path, replace(PAPER, selector="cover"))
    selector.select(path, PAPER)
    *covered, paper = seen
    with closing(load_clip(path, PAPER)) as clip:
        expected = layouts(clip.batch.pixels)
    for each in covered:
        assert each.layout is not None
        np.testing.assert_array_equal(each.layout, expected)
    assert paper.layout is None


def test_a_still_clip_gives_one_frame_or_frames_from_all_of_it(selector: Selector, tmp_path: Path) -> None:
    path = film(tmp_path / "still.mp4", 75, lambda _: PHOTOGRAPHS[0])
    (only,) = selector.select(path, SelectSettings(num_frames="auto")).frames
    assert only.candidate.duplicate_of is None
    record = selector.select(path, SelectSettings())
    assert [frame.candidate.position for frame in record.frames] == [1, 4, 8, 11, 14]
    assert any("4 of 5 frames show the same as another" in note for note in record.notes)


def test_a_six_second_event_in_a_long_film_is_found(selector: Selector, tmp_path: Path) -> None:
    start = 846  # of 3,000 frames, five a second
    path = tmp_path / "watch.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=5, options={"crf": "28", "preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        usual, event = (av.VideoFrame.from_ndarray(PHOTOGRAPHS[i][::2, ::2].copy(), format="rgb24") for i in (2, 1))
        for number in range(3000):
            frame = event if start <= number < start + 30 else usual
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    record = selector.select(path, SelectSettings(num_frames=3))
    assert any(start <= (frame.candidate.frame_index or 0) < start + 30 for frame in record.frames)
    assert any("candidates (at most 150) for 600 s" in note for note in record.notes)


SHARP = (4, 5, 6)


@functools.cache
def blurred(radius: float) -> UInt8Array:
    return np.asarray(Image.fromarray(PHOTOGRAPHS[0]).filter(ImageFilter.GaussianBlur(radius)))


def blinking(number: int, radius: float = 5.0) -> UInt8Array:
    """A photograph that is sharp in frames 4 to 6 of every ten."""
    return PHOTOGRAPHS[0] if number % 10 in SHARP else blurred(radius)


def test_the_sharpest_frame_beside_takes_a_selected_ones_place(selector: Selector, tmp_path: Path) -> None:
    path = film(tmp_path / "blinking.mp4", 200, blinking)
    settings = SelectSettings(num_frames=3, num_candidates=10)  # centers: frames 10, 30, 50, ...
    plain = selector.select(path, settings)
    sharp = selector.select(path, replace(settings, sharpest=True))
    for before, after in zip(plain.frames, sharp.frames, strict=True):
        assert (before.candidate.frame_index or 0) % 10 not in SHARP
        assert (after.candidate.frame_index or 0) % 10 in SHARP
        assert 0 < abs(after.candidate.shift_seconds) <= 0.5
        assert after.candidate.time_seconds == pytest.approx(
            before.candidate.time_seconds + after.candidate.shift_seconds
        )
        assert (after.candidate.quality or 0) > 2 * (before.candidate.quality or 0)
    assert any("beside their candidate, where the picture is sharper" in note for note in sharp.notes)


def test_classify_recognizes_the_frames_that_were_moved(tmp_path: Path) -> None:
    path = film(tmp_path / "blinking.mp4", 200, lambda number: blinking(number, radius=12.0))
    classifier = Classifier.load("imagenet-lite", recognizer="embedded", device="cpu", dtype="float32")
    settings = replace(PAPER, num_frames=3, num_candidates=10)
    plain, sharp = (classifier.classify(path, replace(settings, sharpest=sharpest)) for sharpest in (False, True))
    assert plain.predictions is not None
    assert sharp.predictions is not None
    assert sharp.predictions[0].label == "espresso"
    assert sharp.predictions[0].score > plain.predictions[0].score
