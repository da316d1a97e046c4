"""Each saved frame is what the video shows at the recorded time, by code that shares nothing with the decoder."""

from __future__ import annotations

import json
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from tests.video.clips import clip
from tsq_cli.cli.app import main

CLIPS = {
    "constant rate": "h264_b_frames",
    "variable rate": "vfr_rising_gaps",
    "rotated": "turned_90",
    "late start": "h264_late_start",
    "WebM": "vp9",
    "MPEG-TS": "mpeg2_late_start",
}


def shown_at(path: Path, seconds: float, start_seconds: float, rotation: int) -> np.ndarray:
    """Decode the whole file; keep the frame with the largest time <= the one asked for; turn it upright by hand."""
    clock = Fraction(start_seconds + seconds)
    best: tuple[Fraction, np.ndarray] | None = None
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            time = frame.pts * frame.time_base
            # A thousandth of a tick forgives the float in the record.
            if time <= clock + frame.time_base / 1000 and (best is None or time > best[0]):
                best = (time, np.rot90(frame.to_ndarray(format="rgb24"), k=-rotation // 90))
    assert best is not None
    return best[1]


@pytest.mark.parametrize("name", list(CLIPS.values()), ids=list(CLIPS))
def test_saved_frames_are_shown_at_their_recorded_times(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    known = clip(name)
    command = ["tsq", "select", str(known.path), "--json", "-o", str(tmp_path), "--format", "png"]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 0
    record = json.loads(capsys.readouterr().out)
    video = record["video"]
    assert (video["rotation"], video["is_vfr"]) == (known.rotation, known.is_vfr)
    assert video["start_seconds"] == pytest.approx(float(known.pts[0]))
    assert len(record["frames"]) == 5
    for frame in record["frames"]:
        expected = shown_at(known.path, frame["time_seconds"], video["start_seconds"], video["rotation"])
        with Image.open(frame["path"]) as picture:
            saved = np.asarray(picture).astype(np.int16)
        assert saved.shape == expected.shape
        # The two may round a color apart by a level; the next frame of these clips differs by tens in whole blocks.
        assert np.abs(saved - expected).max() <= 2
        seconds = frame["pts"] * Fraction(frame["time_base"]) - known.pts[0]
        assert float(seconds) == pytest.approx(frame["time_seconds"], abs=1e-6)
