"""Odd clips of every kind: the number read from each decoded picture is compared with what was drawn into the clip."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from tests import processes
from tests.video import pictures
from tests.video.clips import CATALOG, Clip, clip
from tests.video.encoding import Recipe, encode
from tsq_cli.types import FrameBatch
from tsq_cli.video import VideoSource, decode_frames, open_video, sample_frames

EVERY_CLIP = pytest.mark.parametrize("name", list(CATALOG))
# Zero bytes of cache force the decoder to seek for its packets again.
EVERY_CACHE = pytest.mark.parametrize("packet_cache_bytes", [64 * 2**20, 0], ids=["cached", "seeking"])
NO_CLOCK = ("raw_h264", "raw_hevc")
KNOWN_KEYFRAMES = (
    "h264_b_frames",
    "h264_open_gop",
    "h264_single_gop",
    "h264_all_keyframes",
    "hevc",
    "hevc_open_gop",
    "h264_late_start",
    "h264_negative_start",
    "flv",
    "fragmented",
    "vfr_rising_gaps",
    "vfr_wild_gaps",
    "slide_show",
    "one_frame",
    "turned_90",
    "two_video_streams",
    "cover_before_film",
)


def assert_frames(batch: FrameBatch, known: Clip, positions: list[int]) -> None:
    """The batch holds exactly the frames at these positions of the clip, undamaged, upright and in true colors."""
    assert [pictures.read(picture) for picture in batch.pixels] == [known.numbers[i] for i in positions]
    assert batch.frame_indices.tolist() == positions
    assert [pts * batch.time_base for pts in batch.pts.tolist()] == [known.pts[i] for i in positions]
    np.testing.assert_allclose(
        batch.pts_seconds, [float(known.pts[i] - known.pts[0]) for i in positions], rtol=0, atol=1e-9
    )
    assert batch.snap_seconds.tolist() == [0] * len(positions)
    assert batch.decode_errors == 0
    for picture in (batch.pixels[0], batch.pixels[-1]):
        pictures.assert_upright_and_true_colors(picture)


def end_of(source: VideoSource, known: Clip) -> Fraction:
    """The known end of the clip; where the file does not say, what was found, if it is sound."""
    if known.end_seconds is not None:
        assert source.end_seconds == pytest.approx(float(known.end_seconds), abs=1e-6)
        return known.end_seconds
    last = known.pts[-1] - known.pts[0]
    assert last < source.end_seconds <= last + max(1, last)
    return Fraction(source.end_seconds)


def reference_frames(known: Clip) -> list[tuple[int, Fraction | None]]:
    """Number and time of every frame that PyAV's plain decoding loop shows."""
    turns = {0: 0, -90: 3, 90: 1, 180: 2, -180: 2}
    with av.open(str(known.path)) as container:
        stream = next(s for s in container.streams.video if s.codec_context.name != "mjpeg" or known.codec == "mjpeg")
        shown = []
        for frame in container.decode(stream):
            upright = np.rot90(frame.to_ndarray(format="rgb24"), turns[frame.rotation])
            shown.append((pictures.read(upright), None if frame.pts is None else frame.pts * stream.time_base))
    return shown


@EVERY_CLIP
def test_clip_is_what_it_says(name: str) -> None:
    known = clip(name)
    times = (None,) * len(known.pts) if name in NO_CLOCK else known.pts
    assert reference_frames(known) == list(zip(known.numbers, times, strict=True))


def packets_of(name: str) -> list[av.Packet]:
    with av.open(str(clip(name).path)) as container:
        return [packet for packet in container.demux(video=0) if packet.size]


def test_clips_hold_the_structures_they_are_named_for() -> None:
    assert any(packet.pts > packet.dts for packet in packets_of("h264_b_frames")[1:])
    for name in ("h264_open_gop", "hevc_open_gop"):
        packets = packets_of(name)
        keys = [i for i, packet in enumerate(packets) if packet.is_keyframe]
        leading = [i for i in keys[1:] if packets[i + 1].pts < packets[i].pts]
        assert leading == keys[1:-1] or leading == keys[1:], f"{name}: no leading pictures"
    assert [packet.is_keyframe for packet in packets_of("h264_single_gop")].count(True) == 1
    for name in ("edit_hides_start", "edit_cuts_both", "edit_repeats", "edit_reorders"):
        assert any(packet.is_discard for packet in packets_of(name)), f"{name}: no hidden packet"
    repeated = [packet.pts for packet in packets_of("edit_repeats")]
    assert len(repeated) > len(set(repeated)), "hidden and shown packets should share time stamps"
    assert {packet.pts for packet in packets_of("raw_h264")} == {None}
    for name, duration in (("live_webm", None), ("h264_b_frames", 2_400_000)):
        with av.open(str(clip(name).path)) as container:
            assert container.duration == duration
    with av.open(str(clip("cover_before_film").path)) as container:
        assert container.streams.video[0].codec_context.name == "mjpeg"
    with av.open(str(clip("h264_interlaced").path)) as container:
        assert next(container.decode(video=0)).interlaced_frame


@EVERY_CLIP
def test_facts_are_found(name: str) -> None:
    known = clip(name)
    source = open_video(known.path)
    info = source.info
    assert (info.codec, info.width, info.height, info.rotation) == (
        known.codec,
        known.width,
        known.height,
        known.rotation,
    )
    assert info.path == str(known.path)
    assert info.size_bytes == known.path.stat().st_size
    assert info.start_seconds == pytest.approx(float(known.pts[0]), abs=1e-9)
    assert info.total_num_frames in (None, len(known.pts))
    assert info.is_vfr == known.is_vfr
    np.testing.assert_allclose(source.pts_seconds, [float(pts - known.pts[0]) for pts in known.pts], rtol=0, atol=1e-9)
    if known.end_seconds is not None:
        assert info.duration_seconds == pytest.approx(float(known.end_seconds), abs=1e-6)
        assert len(known.pts) == 1 or info.average_fps == pytest.approx(float(len(known.pts) / known.end_seconds))


@EVERY_CACHE
@EVERY_CLIP
def test_sixteen_targets(name: str, packet_cache_bytes: int) -> None:
    known = clip(name)
    source = open_video(known.path, packet_cache_bytes=packet_cache_bytes)
    plan = sample_frames(source.pts_seconds, source.end_seconds, 16)
    wanted = known.sampled(16, Fraction(0), end_of(source, known))
    assert plan.frame_indices.tolist() == wanted
    for threads in (1, 2):
        assert_frames(decode_frames(source, plan.frame_indices, short_side=256, threads=threads), known, wanted)


@EVERY_CACHE
@EVERY_CLIP
def test_any_frames(name: str, packet_cache_bytes: int) -> None:
    known = clip(name)
    source = open_video(known.path, packet_cache_bytes=packet_cache_bytes)
    random = np.random.default_rng(len(name))
    count = len(known.pts)
    for size in {count, max(1, count // 3), min(count, 5), 1, 1 + count // 40}:
        wanted = sorted(random.choice(count, size=size, replace=False).tolist())
        for threads in (1, 2):
            assert_frames(decode_frames(source, np.array(wanted), short_side=64, threads=threads), known, wanted)


@EVERY_CLIP
def test_full_resolution_pass_finds_the_same_frames(name: str) -> None:
    known = clip(name)
    source = open_video(known.path)
    wanted = sorted({0, len(known.pts) // 2, len(known.pts) - 1})
    batch = decode_frames(source, np.array(wanted), short_side=None)
    assert_frames(batch, known, wanted)
    assert batch.pixels.shape == (len(wanted), known.height, known.width, 3)


@pytest.mark.parametrize("name", ["h264_b_frames", "turned_90", "turned_270", "vp9_odd_size", "bt709"])
def test_short_side_keeps_the_shape_of_the_picture(name: str) -> None:
    known = clip(name)
    batch = decode_frames(open_video(known.path), np.array([0]), short_side=90)
    height, width = batch.pixels.shape[1:3]
    assert min(height, width) == 90
    assert width / height == pytest.approx(known.width / known.height, rel=0.02)


@pytest.mark.parametrize("name", KNOWN_KEYFRAMES)
@EVERY_CACHE
def test_keyframe_mode_takes_the_nearest_keyframes(name: str, packet_cache_bytes: int) -> None:
    known = clip(name)
    assert known.keyframes is not None
    source = open_video(known.path, packet_cache_bytes=packet_cache_bytes)
    asked = [i for i in range(0, len(known.pts), 5) if not tied(known, i)]
    batch = decode_frames(source, np.array(asked), short_side=64, mode="keyframes")
    answers: dict[int, list[Fraction]] = {}
    for request in asked:
        nearest = min(known.keyframes, key=lambda key: abs(known.pts[key] - known.pts[request]))
        answers.setdefault(nearest, []).append(known.pts[nearest] - known.pts[request])
    # Each keyframe comes once, for the request that it is nearest to.
    assert batch.frame_indices.tolist() == sorted(answers)
    assert [pictures.read(picture) for picture in batch.pixels] == [known.numbers[i] for i in sorted(answers)]
    assert [pts * batch.time_base for pts in batch.pts.tolist()] == [known.pts[i] for i in sorted(answers)]
    snaps = [float(min(answers[i], key=abs)) for i in sorted(answers)]
    np.testing.assert_allclose(np.abs(batch.snap_seconds), np.abs(snaps), rtol=0, atol=1e-9)
    assert batch.notes


def tied(known: Clip, position: int) -> bool:
    """Whether two keyframes are equally near to a frame."""
    distances = sorted(abs(known.pts[key] - known.pts[position]) for key in known.keyframes or ())
    return len(distances) > 1 and distances[0] == distances[1]


@pytest.mark.parametrize(
    "name", ["vfr_rising_gaps", "vfr_wild_gaps", "slide_show", "edit_waits_first", "h264_late_start"]
)
def test_times_within_a_range(name: str) -> None:
    known = clip(name)
    source = open_video(known.path)
    end = end_of(source, known)
    start, stop = end / 5, end * 7 / 8
    plan = sample_frames(
        source.pts_seconds, source.end_seconds, 16, start_seconds=float(start), end_seconds=float(stop)
    )
    assert plan.frame_indices.tolist() == known.sampled(16, start, stop)


# Peak memory is read from /proc because getrusage keeps the peak of the process that started the child.
PEAK_MEMORY = """
import sys
from pathlib import Path
from tsq_cli.video import decode_frames, open_video, sample_frames
from tests import processes
from tests.video import pictures
source = open_video(Path(sys.argv[1]), packet_cache_bytes=2**20)
plan = sample_frames(source.pts_seconds, source.end_seconds, 16)
batch = decode_frames(source, plan.frame_indices, short_side=64)
assert [pictures.read(picture) for picture in batch.pixels] == plan.frame_indices.tolist()
status = Path("/proc/self/status").read_text()
print(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
@pytest.mark.parametrize("gop", [50, 10_000], ids=["many keyframes", "one keyframe"])
def test_peak_memory_does_not_grow_with_the_video(tmp_path: Path, gop: int) -> None:
    # A constant bit rate makes the encoder fill up its packets, so that a small picture makes a large file.
    filled = {"b": "8M", "maxrate": "8M", "bufsize": "1M", "x264-params": "nal-hrd=cbr:force-cfr=1"}
    peaks = []
    for num_frames in (60, 480):
        path = tmp_path / f"{num_frames}.mp4"
        encode(path, Recipe(num_frames=num_frames, gop=gop, b_frames=3, options=filled))
        assert path.stat().st_size > num_frames * 30_000
        child = processes.run(["-c", PEAK_MEMORY, path], cwd=Path(__file__).parents[2])
        assert child.returncode == 0, child.stderr
        peaks.append(int(child.stdout) * 1024)
    assert peaks[1] - peaks[0] < 10 * 2**20, f"eight times as long a clip of 19 MB took {peaks} bytes"
