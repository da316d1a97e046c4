"""Batches: videos in order, decoded ahead, none of which stops another."""

from __future__ import annotations

import contextlib
import gc
import json
import shutil
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tsq_cli import Selector, SelectSettings, loading
from tsq_cli.batch import RunPlan, run
from tsq_cli.clip import Clip, load_clip
from tsq_cli.errors import NotAVideoError, WeightsError
from tsq_cli.pictures import Outputs, output_stems
from tsq_cli.record import Record

pytestmark = pytest.mark.usefixtures("demo_decoded_once")

DEMO = Path(__file__).parents[1] / "examples" / "demo.mp4"


def plan(paths: list[Path], **options: object) -> RunPlan:
    settings = SelectSettings(selector="uniform", num_frames=2, num_candidates=4)
    arguments = {"settings": settings, "outputs": Outputs(), "pack_sha256": None, **options}
    return RunPlan(paths=[str(path) for path in paths], **arguments)  # type: ignore[arg-type]


@pytest.fixture
def copies(tmp_path: Path) -> list[Path]:
    return [Path(shutil.copy(DEMO, tmp_path / f"{number}.mp4")) for number in range(5)]


@pytest.mark.parametrize(("workers", "batch_size"), [(1, 1), (3, 2), (2, 8)])
def test_a_batch_keeps_the_order_whatever_works_at_once(copies: list[Path], workers: int, batch_size: int) -> None:
    records = list(run(plan(copies, workers=workers, batch_size=batch_size), Selector.without_model))
    assert [Path(record["video"]["path"]) for record in records] == copies
    assert {record["status"] for record in records} == {"ok"}


def test_the_next_candidates_are_on_their_way_while_a_video_is_looked_at(
    copies: list[Path], selector: Selector, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    decoded = threading.Semaphore(0)

    def load(*args: Any, **options: Any) -> Clip:
        clip = load_clip(*args, **options)
        decoded.release()
        return clip

    class Watched(Selector):
        def prefetch(self, clips: Sequence[Clip], settings: SelectSettings) -> None:
            events.extend(f"send {Path(clip.path).stem}" for clip in clips)
            super().prefetch(clips, settings)

        def process_clips(self, clips: Sequence[Clip], settings: SelectSettings, **options: Any) -> list[Record]:
            events.extend(f"process {Path(clip.path).stem}" for clip in clips)
            if events[-1] == "process 0":
                assert all(decoded.acquire(timeout=60) for _ in range(3))
            return super().process_clips(clips, settings, **options)

    monkeypatch.setattr(loading, "load_clip", load)
    watched = Watched(selector.pack)
    records = list(run(plan(copies[:3], settings=SelectSettings(), workers=2), lambda: watched))
    alone = selector.select(copies[2]).to_dict()
    assert [frame["position"] for frame in records[2]["frames"]] == [frame["position"] for frame in alone["frames"]]
    assert events.index("send 2") < events.index("process 1")
    assert not watched._prefetched  # nothing is held that has been looked at


def test_a_clip_given_twice_is_looked_at_twice(copies: list[Path], selector: Selector) -> None:
    clip = load_clip(copies[0], SelectSettings())
    with contextlib.closing(clip):
        assert len(selector.score([clip, clip], SelectSettings(), {})) == 2
    assert not selector._prefetched


def test_a_clip_sent_ahead_and_never_looked_at_is_not_held(copies: list[Path], selector: Selector) -> None:
    with contextlib.closing(load_clip(copies[0], SelectSettings())) as clip:
        selector.prefetch([clip], SelectSettings())
        assert len(selector._prefetched) == 1
    del clip
    gc.collect()
    assert not selector._prefetched


def test_a_video_that_breaks_the_scoring_fails_alone(copies: list[Path]) -> None:
    class Fragile(Selector):
        def process_clips(self, clips: list[Clip], settings: SelectSettings, **options: object) -> list[Record]:  # type: ignore[override]
            if any(Path(clip.path).name == "2.mp4" for clip in clips):
                raise RuntimeError("out of memory")
            return super().process_clips(clips, settings, **options)  # type: ignore[arg-type]

    records = list(run(plan(copies, batch_size=5), lambda: Fragile(None)))
    assert [record["status"] for record in records] == ["ok", "ok", "error", "ok", "ok"]
    assert "out of memory" in records[2]["error"]["message"]
    assert records[2]["error"]["type"] == "RuntimeError"


def test_weights_that_fail_to_load_end_the_run_and_leave_no_thread(copies: list[Path]) -> None:
    def load() -> Selector:
        raise WeightsError("no weights", wanted="weights", fix="pull them")

    with pytest.raises(WeightsError):
        list(run(plan(copies, workers=2), load))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("tsq-decode")]


def test_a_run_left_early_closes_down(copies: list[Path]) -> None:
    records = run(plan(copies, workers=2), Selector.without_model)
    next(records)
    records.close()  # type: ignore[attr-defined]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("tsq-decode")]


def test_videos_done_before_are_handed_through_without_a_model(copies: list[Path]) -> None:
    done = {str(path): {"video": {"path": str(path)}, "status": "ok"} for path in copies}

    def load() -> Selector:
        raise AssertionError("nothing is left to do")

    assert list(run(plan(copies, done=done), load)) == list(done.values())


def test_stems_are_told_apart_by_folder_and_case(tmp_path: Path) -> None:
    stems = output_stems(["a/x.mp4", "b/X.mov", "b/y.mp4"])
    assert stems["b/y.mp4"] == "y"
    assert len({stem.lower() for stem in stems.values()}) == 3
    assert stems["a/x.mp4"].startswith("x-")


def test_errors_name_the_file(tmp_path: Path) -> None:
    text = tmp_path / "notes.mp4"
    text.write_text("hello")
    with pytest.raises(NotAVideoError, match=r"notes\.mp4"):
        load_clip(text, SelectSettings())
    records = list(run(plan([text]), Selector.without_model))
    assert json.dumps(records[0]["error"]).count("notes.mp4") == 1
