"""The pipeline: stages joined, and notes that tell the truth."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import skimage.data

from tsq_cli import Selector, SelectSettings
from tsq_cli.config import PAPER
from tsq_cli.errors import UsageError
from tsq_cli.models.device import resolve_device, resolve_dtype
from tsq_cli.types import UInt8Array

pytestmark = pytest.mark.usefixtures("demo_decoded_once")

DEMO = Path(__file__).parents[1] / "examples" / "demo.mp4"


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
    with av.open(str(DEMO)) as container:
        stream = container.streams.video[0]
        keys = [float(p.pts * stream.time_base) for p in container.demux(stream) if p.is_keyframe and p.pts is not None]
    # The centers of 16 equal segments of 26 seconds, on the grid of 25 frames per second that shows them.
    asked = [math.floor((number + 0.5) * 26 / 16 * 25) / 25 for number in range(16)]
    furthest = max(min(abs(key - time) for key in keys) for time in asked)
    video = record.to_dict()["video"]
    assert video["snap_seconds"] == pytest.approx(furthest, abs=1e-9)
    assert f"up to {furthest:.3f} s away" in " ".join(record.notes)
    assert furthest > max(abs(candidate.shift_seconds) for candidate in record.candidates) > 0
    assert selector.select(DEMO).to_dict()["video"]["snap_seconds"] is None


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
    for supported in (True, False):  # results do not depend on what the processor is fast at
        monkeypatch.setattr("torch.cpu._is_avx512_bf16_supported", lambda supported=supported: supported)
        assert str(resolve_dtype("auto", "cpu")) == "torch.float32"
    assert str(resolve_dtype("bfloat16", "cpu")) == "torch.bfloat16"
    assert str(resolve_dtype("auto", "cuda:1")) == "torch.float16"
    with pytest.raises(UsageError, match="int8"):
        resolve_dtype("int8", "cpu")
