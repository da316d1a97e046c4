"""The library: stages joined, notes that tell the truth, batches in which no video stops another."""

from __future__ import annotations

import contextlib
import gc
import json
import shutil
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import skimage.data

from tsq_cli import Selector, SelectSettings, loading
from tsq_cli.batch import RunPlan, run
from tsq_cli.clip import Clip, load_clip
from tsq_cli.config import PAPER
from tsq_cli.errors import NotAVideoError, UsageError, WeightsError
from tsq_cli.models.device import resolve_device, resolve_dtype
from tsq_cli.pictures import Outputs, output_stems
from tsq_cli.record import Record
from tsq_cli.types import UInt8Array

DEMO = Path(__file__).parents[1] / "examples" / "demo.mp4"


@pytest.fixture(scope="module")
def selector() -> Selector:
    return Selector.load("imagenet-lite", device="cpu", dtype="float32")


def write_clip(path: Path, picture: Callable[[int], UInt8Array], num_frames: int = 50) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.height, stream.width = picture(0).shape[:2]
        stream.pix_fmt = "yuv420p"
        for number in range(num_frames):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(number), format="rgb24")))
        container.mux(stream.encode(None))
    return path


def test_a_static_clip_is_said_to_be_one_and_the_demo_is_not(selector: Selector, tmp_path: Path) -> None:
    still = np.ascontiguousarray(skimage.data.coffee()[::2, ::2])
    path = write_clip(tmp_path / "still.mp4", lambda _: still)
    record = selector.select(path, PAPER)
    assert any("no frame stands out" in note for note in record.notes)
    demo = selector.select(DEMO, PAPER)
    assert not any("stands out" in note for note in demo.notes)
    assert demo.visual_peak_over_mean is not None
    assert demo.visual_peak_over_mean > 1.5


def test_one_frame_among_black_ones_is_found_by_the_visual_module(selector: Selector, tmp_path: Path) -> None:
    cat = np.ascontiguousarray(skimage.data.chelsea()[:, :450])
    black = np.zeros_like(cat)
    path = write_clip(tmp_path / "cat.mp4", lambda n: cat if 20 <= n < 26 else black, num_frames=96)
    record = selector.select(path, replace(PAPER, num_frames=2))
    # Sixteen segments of six frames: candidate 3, shown by frame 21, is the only one with the cat.
    assert [frame.candidate.position for frame in record.frames if frame.chosen_by == "visual"] == [3]
    assert "cat" in record.visual_categories[0].label


def test_a_range_and_a_single_candidate_work(selector: Selector) -> None:
    record = selector.select(DEMO, SelectSettings(num_candidates=1, start_seconds=4.0, end_seconds=6.0))
    assert [frame.candidate.time_seconds for frame in record.frames] == [5.0]
    assert record.frames[0].candidate.score_visual == pytest.approx(1.0)


def test_keyframe_mode_says_how_far_it_snapped(selector: Selector) -> None:
    record = selector.select(DEMO, SelectSettings(decode_mode="keyframes"))
    assert any("keyframe" in note.lower() for note in record.notes)


def test_candidates_far_apart_are_said_to_be(tmp_path: Path) -> None:
    source = tmp_path / "slow.mkv"
    with av.open(str(source), "w") as container:
        stream = container.add_stream("mpeg4", rate=1)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1)
        for number in range(320):
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), number % 256, np.uint8), format="rgb24")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    record = Selector.without_model().select(source, replace(PAPER, selector="uniform"))
    assert any("up to 20.0 s apart" in note for note in record.notes)


def test_a_selector_without_a_model_refuses_to_guess() -> None:
    with pytest.raises(ValueError, match="without a model"):
        Selector.without_model().select(DEMO)


def test_records_are_equal_on_every_run(selector: Selector) -> None:
    first, second = (selector.select(DEMO).to_dict() for _ in range(2))
    for record in (first, second):
        del record["timings_seconds"]
    assert first == second


def test_bfloat16_agrees_with_float32(selector: Selector) -> None:
    half = Selector.load("imagenet-lite", device="cpu", dtype="bfloat16")
    few = SelectSettings(
        num_frames=3, num_candidates=8
    )  # without instructions for it bfloat16 takes many times as long
    exact, rough = selector.select(DEMO, few), half.select(DEMO, few)
    assert (exact.dtype, rough.dtype) == ("float32", "bfloat16")
    chosen, roughly = ({frame.candidate.position for frame in record.frames} for record in (exact, rough))
    assert chosen == roughly
    for one, other in zip(exact.candidates, rough.candidates, strict=True):
        assert other.score_visual == pytest.approx(one.score_visual, abs=0.02)
        assert other.score_textual == pytest.approx(one.score_textual, abs=0.04)


@pytest.mark.parametrize("device", ["tpu", "cuda:x", "cuda:", "cpu:0", "cuda:99"])
def test_devices_that_are_not_there_are_refused(device: str) -> None:
    with pytest.raises(UsageError, match="device is"):
        resolve_device(device)


def test_dtypes_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    for supported, expected in ((True, "torch.bfloat16"), (False, "torch.float32")):
        monkeypatch.setattr("torch.cpu._is_avx512_bf16_supported", lambda supported=supported: supported)
        assert str(resolve_dtype("auto", "cpu")) == expected
    assert str(resolve_dtype("auto", "cuda:1")) == "torch.float16"
    with pytest.raises(UsageError, match="int8"):
        resolve_dtype("int8", "cpu")


def plan(paths: list[Path], **options: object) -> RunPlan:
    settings = SelectSettings(selector="uniform", num_frames=2)
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
