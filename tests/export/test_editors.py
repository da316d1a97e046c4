"""Tracks, chapters and markers, read back by the libraries that other programs read them with."""

from __future__ import annotations

import io
from typing import Any

import av
import opentimelineio
import pytest
import webvtt

from tests.export.material import CONSTANT, VARIABLE, selected
from tests.test_video_metadata import known
from tsq_cli import export

AWKWARD = "a=b; #1 \\ --> |c"


def exported(kind: Any, name: str, **video: Any) -> tuple[str, dict[str, Any], list[float]]:
    """An export's text, its record, and the times of its frames, rising."""
    record, _ = selected(name)
    record["video"] |= video
    text = export.build(kind, record, video_id="1a2b3c4d")
    assert isinstance(text, str)
    return text, record, sorted(frame["time_seconds"] for frame in record["frames"])


@pytest.mark.parametrize("name", CONSTANT + VARIABLE)
def test_webvtt_cues_run_from_frame_to_frame(name: str) -> None:
    text, record, times = exported("webvtt", name)
    cues = webvtt.from_buffer(io.StringIO(text)).captions
    end = record["video"]["duration_seconds"]
    assert [seconds(cue.start) for cue in cues] == pytest.approx(times, abs=0.0006)
    assert [seconds(cue.end) for cue in cues] == pytest.approx([*times[1:], end], abs=0.0006)
    assert [cue.identifier for cue in cues] == [f"Frame {number}: random" for number in range(1, len(times) + 1)]


def seconds(clock: str) -> float:
    hours, minutes, rest = clock.split(":")
    return 3600 * int(hours) + 60 * int(minutes) + float(rest)


def test_webvtt_names_the_saved_pictures() -> None:
    record, _ = selected("h264_b_frames")
    for number, frame in enumerate(record["frames"]):
        frame["path"] = f"/somewhere/a b#{number}.jpg"
    cues = webvtt.from_buffer(io.StringIO(str(export.build("webvtt", record)))).captions
    order = sorted(range(5), key=lambda number: record["frames"][number]["position"])
    assert [cue.text for cue in cues] == [f"a%20b%23{number}.jpg" for number in order]


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_ffmpeg_reads_the_chapters(suffix: str) -> None:
    record, _ = selected("vfr_wild_gaps")
    label = {"index": 0, "label": AWKWARD, "score": 1.0, "is_sure": True}
    for frame in record["frames"]:
        frame["predictions"] = [label]
    record["frames"][0]["predictions"] = [label | {"is_sure": False}]
    text = str(export.build("ffmetadata", record))
    muxed = io.BytesIO()
    with (
        av.open(io.BytesIO(text.encode()), format="ffmetadata") as chapters,
        av.open(str(known("vfr_wild_gaps").path)) as source,
        av.open(muxed, "w", format={"mkv": "matroska"}.get(suffix, suffix)) as target,
    ):
        stream = target.add_stream_from_template(source.streams.video[0])
        target.set_chapters(chapters.chapters())
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    muxed.seek(0)
    with av.open(muxed) as read:
        found = read.chapters()
    times = sorted(frame["time_seconds"] for frame in record["frames"])
    assert [float(one["start"] * one["time_base"]) for one in found] == pytest.approx([0, *times], abs=0.0011)
    assert [float(one["end"] * one["time_base"]) for one in found][:-1] == pytest.approx(times, abs=0.0011)
    first = sorted(record["frames"], key=lambda frame: frame["position"]).index(record["frames"][0])
    expected = [f"Frame {n}: {AWKWARD.replace('-->', '->')}" for n in range(1, len(times) + 1)]
    expected[first] = f"Frame {first + 1}: random"
    assert [one["metadata"]["title"] for one in found] == ["Start", *expected]


def markers(document: Any) -> list[Any]:
    (clip,) = document.find_clips()
    return list(clip.markers)


@pytest.mark.parametrize("name", CONSTANT + VARIABLE)
def test_otio_markers_stand_at_the_true_times(name: str) -> None:
    text, record, times = exported("otio", name)
    timeline = opentimelineio.adapters.read_from_string(text, "otio_json")
    found = [marker.marked_range.start_time for marker in markers(timeline)]
    assert [time.to_seconds() for time in found] == pytest.approx(times, abs=0.002)
    if name in CONSTANT:  # whole frames of the video's own rate
        order = sorted(record["frames"], key=lambda frame: frame["position"])
        assert [time.value for time in found] == [frame["frame_index"] for frame in order]
    (clip,) = timeline.find_clips()
    assert clip.media_reference.target_url.endswith(known(name).path.name)
    assert clip.source_range.duration.to_seconds() == pytest.approx(record["video"]["duration_seconds"], abs=0.05)


def edl_markers(text: str, rate: float) -> list[tuple[str, int]]:
    """Comment and frame number of each LOC marker, by OpenTimelineIO's reader of CMX 3600."""
    timeline = opentimelineio.adapters.read_from_string(text, "cmx_3600", rate=rate)
    clips = list(timeline.find_clips())
    found = [(marker.name, int(marker.marked_range.start_time.value)) for clip in clips for marker in clip.markers]
    starts = [int(clip.source_range.start_time.value) for clip in clips]
    assert [number for _, number in found] == starts
    assert {clip.source_range.duration.value for clip in clips} == {1}
    return found


def test_an_edl_counts_the_videos_own_frames() -> None:
    """29.97 frames per second are counted by 30: an hour of timecode is 3.6 s longer, and the frame is exact."""
    text, record, _ = exported("edl", "ntsc_rate")
    assert record["video"]["average_fps"] == pytest.approx(30000 / 1001)
    found = edl_markers(text, 30)
    assert [number for _, number in found] == sorted(frame["frame_index"] for frame in record["frames"])
    assert [title for title, _ in found] == [f"Frame {number}: random" for number in range(1, 6)]
    assert "FCM: NON-DROP FRAME" in text


def test_an_edl_of_a_variable_rate_is_on_the_nearest_timeline() -> None:
    text, _, times = exported("edl", "busy_then_calm")
    assert "* 24 frames per second of timecode" in text  # 140 frames in 42.5 s are nearest to 24
    assert [number for _, number in edl_markers(text, 24)] == [round(24 * time) for time in times]


@pytest.mark.parametrize(("fps", "rate", "numbers"), [(15.0, 30, [14, 20]), (12.5, 24, [13, 19]), (48.0, 48, [7, 10])])
def test_an_edl_of_a_rate_that_editors_lack_is_on_a_multiple(fps: float, rate: int, numbers: list[int]) -> None:
    """Frames 7 and 10: at 15 per second every second one of 30; 12.5 is put on 24 by time (0.56 and 0.8 s)."""
    record, _ = selected("h264_b_frames")
    record["frames"] = sorted(record["frames"], key=lambda frame: frame["position"])[:2]
    for frame, index in zip(record["frames"], (7, 10), strict=True):
        frame["time_seconds"] = index / fps
    record["video"] |= {"average_fps": fps}
    record["video_metadata"] |= {"fps": fps, "frames_indices": [7, 10]}
    assert [number for _, number in edl_markers(str(export.build("edl", record)), rate)] == numbers


def test_the_101st_second_of_25_frames_per_second() -> None:
    """By hand: frame 2,537 is 1 min 41 s and 12 frames; two hours later 02:01:41:12."""
    record, _ = selected("h264_b_frames")
    record["video"] |= {"average_fps": 25.0}
    record["video_metadata"] |= {"fps": 25.0, "frames_indices": [2537 + 2 * 3600 * 25 * n for n in range(2)]}
    record["frames"] = record["frames"][:2]
    text = str(export.build("edl", record))
    assert "00:01:41:12 00:01:41:13 00:01:41:12 00:01:41:13" in text
    assert "02:01:41:12 02:01:41:13 02:01:41:12 02:01:41:13" in text


@pytest.mark.parametrize("kind", ["webvtt", "edl", "otio", "ffmetadata"])
def test_names_from_outside_stay_on_their_lines(kind: Any) -> None:
    text, _, _ = exported(kind, "h264_b_frames", path="a\n001  AX\n[CHAPTER]\n\nNOTE.mp4")
    assert "\n001  AX\n" not in text
    assert text.count("[CHAPTER]\n") == (6 if kind == "ffmetadata" else 0)


def test_a_single_frame_has_no_rate_and_no_end() -> None:
    record, _ = selected("h264_b_frames")
    record["frames"] = record["frames"][:1]
    record["frames"][0]["time_seconds"] = 0.0
    record["video"] |= {"duration_seconds": None, "average_fps": None}
    record["video_metadata"] |= {"fps": 1000.0, "frames_indices": [0], "total_num_frames": 1, "duration": None}
    assert "00:00:00.000 --> 00:00:00.001" in str(export.build("webvtt", record))
    assert "00:00:00:00 00:00:00:01" in str(export.build("edl", record))
    assert markers(opentimelineio.adapters.read_from_string(str(export.build("otio", record)), "otio_json"))
