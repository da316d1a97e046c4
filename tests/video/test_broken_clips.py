"""Damaged clips give the frames that are left, and what is no video gives the right error: never anything else."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from tests.video import mp4_boxes, pictures
from tests.video.clips import COVER, MILLISECOND, NO_SHIFT, Clip, clip, cover_picture
from tests.video.encoding import FRAME, Recipe, add_stream, encode, encode_stream
from tsq_cli.errors import (
    EncryptedVideoError,
    InputNotFoundError,
    NoDecodableFrameError,
    NotAVideoError,
    NoVideoStreamError,
    TsqError,
    VideoError,
)
from tsq_cli.types import FrameBatch
from tsq_cli.video import decode_frames, open_video, sample_frames

EVERY_CACHE = pytest.mark.parametrize("packet_cache_bytes", [64 * 2**20, 0], ids=["cached", "seeking"])


def sixteen(path: Path, *, packet_cache_bytes: int = 64 * 2**20, threads: int = 2) -> FrameBatch:
    source = open_video(path, packet_cache_bytes=packet_cache_bytes)
    plan = sample_frames(source.pts_seconds, source.end_seconds, 16)
    return decode_frames(source, plan.frame_indices, short_side=256, threads=threads)


# What is no video


def write_tone(container: av.container.OutputContainer, stream: av.AudioStream) -> None:
    for i in range(20):
        frame = av.AudioFrame.from_ndarray(np.zeros((2, 1152), dtype=np.float32), format="fltp", layout="stereo")
        frame.rate, frame.pts = 44100, 1152 * i
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


def make_missing(path: Path) -> None:
    assert not path.exists()


def make_directory(path: Path) -> None:
    path.mkdir()


def make_empty(path: Path) -> None:
    path.write_bytes(b"")


def make_text(path: Path) -> None:
    path.write_text("This is a shopping list, not a film.\n" * 50)


def make_noise(path: Path) -> None:
    path.write_bytes(np.random.default_rng(0).bytes(20_000))


def make_without_index(path: Path) -> None:
    data = clip("h264_b_frames").path.read_bytes()
    path.write_bytes(data[: mp4_boxes.find(data, "moov")[0].start])


def make_audio(path: Path) -> None:
    with av.open(str(path), "w", format="mp4") as container:
        write_tone(container, container.add_stream("aac", rate=44100))


def make_song_with_cover(path: Path) -> None:
    with av.open(str(path), "w", format="mp4") as container:
        tone, cover = container.add_stream("aac", rate=44100), add_stream(container, COVER)
        encode_stream(container, cover, COVER)
        write_tone(container, tone)


def make_mp3_with_cover(path: Path) -> None:
    with av.open(str(path), "w", format="mp3", options={"id3v2_version": "0"}) as container:
        write_tone(container, container.add_stream("libmp3lame", rate=44100))
    picture = b"\0image/jpeg\0\x03\0" + cover_picture()
    tag = b"APIC" + struct.pack(">IH", len(picture), 0) + picture
    size = bytes(len(tag) >> shift & 127 for shift in (21, 14, 7, 0))
    path.write_bytes(b"ID3\x03\0\0" + size + tag + path.read_bytes())


def make_encrypted(path: Path) -> None:
    key = {"encryption_scheme": "cenc-aes-ctr", "encryption_key": "0f" * 16, "encryption_kid": "a0" * 16}
    encode(path, Recipe(b_frames=3), options=key)


def make_declared_encrypted(path: Path) -> None:
    path.write_bytes(clip("h264_b_frames").path.read_bytes())
    mp4_boxes.mark_encrypted(path)


def make_unknown_codec(path: Path) -> None:
    path.write_bytes(clip("h264_b_frames").path.read_bytes())
    mp4_boxes.rename_codec(path, b"avc1", b"zzzz")


def make_all_packets_garbage(path: Path) -> None:
    damage(clip("h264_b_frames"), path, range(60))


def make_index_without_frames(path: Path) -> None:
    data = clip("fragmented").path.read_bytes()
    path.write_bytes(data[: mp4_boxes.find(data, "moof")[0].start])


@pytest.mark.parametrize(
    ("make", "name", "error"),
    [
        (make_missing, "no_such.mp4", InputNotFoundError),
        (make_directory, "folder.mp4", NotAVideoError),
        (make_empty, "empty.mp4", NotAVideoError),
        (make_text, "text.mp4", NotAVideoError),
        (make_text, "text.txt", NotAVideoError),
        (make_noise, "noise.mp4", NotAVideoError),
        (make_without_index, "no_moov.mp4", NotAVideoError),
        (make_audio, "audio.m4a", NoVideoStreamError),
        (make_song_with_cover, "song.m4a", NoVideoStreamError),
        (make_mp3_with_cover, "song.mp3", NoVideoStreamError),
        (make_encrypted, "encrypted.mp4", EncryptedVideoError),
        (make_declared_encrypted, "declared.mp4", EncryptedVideoError),
        (make_unknown_codec, "unknown.mp4", NoDecodableFrameError),
        (make_all_packets_garbage, "garbage.mp4", NoDecodableFrameError),
        (make_index_without_frames, "header_only.mp4", NoDecodableFrameError),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_what_is_no_video_is_refused(
    tmp_path: Path, make: Callable[[Path], None], name: str, error: type[TsqError]
) -> None:
    path = tmp_path / name
    make(path)
    with pytest.raises(error) as caught:
        sixteen(path)
    assert type(caught.value) is error
    message = str(caught.value)
    assert name in caught.value.got
    assert "\n" not in message
    assert "Errno" not in message
    assert all(len(part.split()) >= 2 for part in (caught.value.got, caught.value.wanted, caught.value.fix))


# Damaged packets


def damage(known: Clip, path: Path, packets: range | list[int], *, how: str = "length") -> None:
    """Copy a clip, packets (in file order) spoilt: "length" breaks the NAL unit's length, "middle" its content."""
    data = bytearray(known.path.read_bytes())
    with av.open(str(known.path)) as container:
        places = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    for i in packets:
        position, size = places[i]
        if how == "length":
            data[position : position + 4] = b"\xff\xff\xff\xff"
        else:
            noise = np.random.default_rng(i).bytes(size)
            data[position + size // 3 : position + size] = noise[: size - size // 3]
    path.write_bytes(data)


def plain_decoding(path: Path) -> tuple[int, list[bytes]]:
    """How many packets PyAV's decoder refuses, and the pictures it gives for the others."""
    refused, shown = 0, []
    with av.open(str(path)) as container:
        for packet in container.demux(video=0):
            try:
                shown += [frame.to_ndarray(format="rgb24").tobytes() for frame in packet.decode()]
            except av.error.FFmpegError:
                refused += 1
    return refused, shown


@EVERY_CACHE
@pytest.mark.parametrize("spoilt", [[13], [25], [30, 31], [24]], ids=["P", "late P", "two", "keyframe"])
def test_refused_packets_are_skipped_and_counted(tmp_path: Path, spoilt: list[int], packet_cache_bytes: int) -> None:
    known = clip("h264_b_frames")
    path = tmp_path / "spoilt.mp4"
    damage(known, path, spoilt)
    assert plain_decoding(path)[0] == len(spoilt)
    source = open_video(path, packet_cache_bytes=packet_cache_bytes)
    safe = [i for i in range(60) if i // 12 not in {packet // 12 for packet in spoilt}]
    for threads in (1, 2):
        batch = decode_frames(source, np.arange(60), short_side=64, threads=threads)
        assert_sound(batch, known, safe)
        assert batch.decode_errors == len(spoilt)
        assert batch.notes, "frames were lost or patched up without a word"


def assert_sound(batch: FrameBatch, known: Clip, positions: list[int]) -> None:
    """All these frames of the clip are in the batch, each for itself; no frame is there twice."""
    got = batch.frame_indices.tolist()
    assert got == sorted(set(got))
    shown = dict(zip(got, batch.pixels, strict=True))
    assert [pictures.read(shown[i]) for i in positions] == [known.numbers[i] for i in positions]
    assert not batch.snap_seconds[np.isin(batch.frame_indices, positions)].any()


@EVERY_CACHE
@pytest.mark.parametrize("name", ["h264_b_frames", "hevc", "vp9", "av1_mkv", "mpeg4_mkv", "mjpeg"])
def test_garbled_packet_spoils_no_other_group(tmp_path: Path, name: str, packet_cache_bytes: int) -> None:
    known = clip(name)
    path = tmp_path / known.path.name
    with av.open(str(known.path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        keys = [i for i, packet in enumerate(packets) if packet.is_keyframe]
        first, following = next(pair for pair in pairwise(keys) if pair[0] >= 18)
        hit = max(range(first + (following > first + 1), following), key=lambda i: packets[i].size)
        spoilt_span = [round(packets[i].pts * packets[i].time_base / FRAME) for i in (first, following)]
    damage(known, path, [hit], how="middle")
    assert plain_decoding(path) != plain_decoding(known.path), "the damage does not show"
    source = open_video(path, packet_cache_bytes=packet_cache_bytes)
    for threads in (1, 2):
        batch = decode_frames(source, np.arange(60), short_side=64, threads=threads)
        assert_sound(batch, known, [i for i in range(60) if not spoilt_span[0] <= i < spoilt_span[1]])


# Files cut short


@EVERY_CACHE
@pytest.mark.parametrize(
    "name", ["faststart.mp4", "vp9", "live_webm", "mpeg4_b_frames", "mpeg2_late_start", "raw_h264", "gif"]
)
def test_truncated_file_gives_what_is_left(tmp_path: Path, name: str, packet_cache_bytes: int) -> None:
    if name == "faststart.mp4":
        whole = tmp_path / name
        encode(whole, Recipe(b_frames=3), options={"movflags": "faststart"})
        known = replace(clip("h264_b_frames"), path=whole)
    else:
        known = clip(name)
    data = known.path.read_bytes()
    path = tmp_path / f"cut_{known.path.name}"
    path.write_bytes(data[: len(data) * 6 // 10])
    source = open_video(path, packet_cache_bytes=packet_cache_bytes)
    num_frames = len(source.pts_seconds)
    assert 10 < num_frames <= len(known.pts)
    # The decoder may patch up or drop the last frames, which the cut went through.
    sound = range(max(10, num_frames - 5))
    assert_sound(decode_frames(source, np.arange(num_frames), short_side=64), known, list(sound))


# Clocks and sizes that jump


def joined_streams(path: Path, *parts: list[Recipe]) -> None:
    """MPEG-TS files one after the other, as recorders leave them; each part has a stream for each recipe."""
    piece = path.with_name("piece.ts")
    with path.open("wb") as target:
        for recipes in parts:
            encode(piece, *recipes, options=NO_SHIFT)
            target.write(piece.read_bytes())


def half(start: int, **changes: Any) -> Recipe:
    """60 frames of a recording, shown one second after the clock's zero, the first of them numbered start."""
    pts = [FRAME * (25 + start + i) for i in range(60)]
    return replace(Recipe(codec="mpeg2video", b_frames=2, time_base=FRAME, first_number=start, pts=pts), **changes)


@EVERY_CACHE
@pytest.mark.parametrize(
    "second",
    [
        [half(60)],
        [half(60, width=320, height=240)],
        [half(60), half(60, width=64, height=64, first_number=1000)],
    ],
    ids=["plain", "other size", "new stream"],
)
def test_recording_that_changes_on_the_way(tmp_path: Path, second: list[Recipe], packet_cache_bytes: int) -> None:
    path = tmp_path / "recording.ts"
    joined_streams(path, [half(0)], second)
    source = open_video(path, packet_cache_bytes=packet_cache_bytes)
    assert len(source.pts) == 120
    wanted = list(range(3, 120, 9))
    batch = decode_frames(source, np.array(wanted), short_side=64)
    assert batch.frame_indices.tolist() == wanted
    assert [pictures.read(picture) for picture in batch.pixels] == wanted


def test_stream_that_appears_on_the_way(tmp_path: Path) -> None:
    # FFmpeg looks for streams at the beginning and the end of a recording; a constant bit rate fills these up.
    filled = {"b": "8M", "maxrate": "8M", "bufsize": "1M", "x264-params": "nal-hrd=cbr:force-cfr=1"}
    first = Recipe(num_frames=150, pts=[FRAME * (25 + i) for i in range(150)], options=filled)
    second = Recipe(first_number=150, pts=[FRAME * (175 + i) for i in range(60)])
    newcomer = Recipe(width=64, height=64, first_number=1000, pts=[FRAME * (175 + i) for i in range(60)])
    last = replace(first, num_frames=50, first_number=210, pts=[FRAME * (235 + i) for i in range(50)])
    path = tmp_path / "recording.ts"
    joined_streams(path, [first], [second, newcomer], [last])
    with av.open(str(path)) as container:
        assert len(container.streams) == 1
    source = open_video(path)
    assert len(source.pts) == 260
    wanted = list(range(5, 260, 10))
    batch = decode_frames(source, np.array(wanted), short_side=64)
    assert batch.frame_indices.tolist() == wanted
    assert [pictures.read(picture) for picture in batch.pixels] == wanted


@EVERY_CACHE
def test_clock_that_starts_again_gives_frames_or_an_error(tmp_path: Path, packet_cache_bytes: int) -> None:
    path = tmp_path / "clock.ts"
    joined_streams(path, [Recipe(b_frames=3)], [Recipe(b_frames=3, first_number=100)])
    batch = sixteen(path, packet_cache_bytes=packet_cache_bytes)
    numbers = [pictures.read(picture) for picture in batch.pixels]
    assert len(numbers) == 16
    assert all(number % 100 < 60 for number in numbers)


# Animated images


def test_animated_webp_is_decoded_where_ffmpeg_can(tmp_path: Path) -> None:
    path = tmp_path / "animated.webp"
    encode(path, Recipe(codec="libwebp_anim", num_frames=30, time_base=MILLISECOND))
    try:
        batch = sixteen(path)
    except NoDecodableFrameError:
        assert plain_decoding(path)[1] == [], "FFmpeg decodes what was refused"
    else:
        assert [pictures.read(picture) for picture in batch.pixels] == batch.frame_indices.tolist()


# Anything at all


@pytest.mark.parametrize(
    "name",
    [
        "h264_b_frames",
        "hevc_open_gop",
        "vp9",
        "av1_mkv",
        "mpeg4_b_frames",
        "mpeg2_late_start",
        "edit_repeats",
        "gif",
        "raw_h264",
    ],
)
def test_random_damage_ends_in_frames_or_a_video_error(tmp_path: Path, name: str) -> None:
    data = np.frombuffer(clip(name).path.read_bytes(), dtype=np.uint8)
    path = tmp_path / clip(name).path.name
    random = np.random.default_rng(7)
    for trial in range(12):
        spoilt = data.copy()
        # Every third file is hit in its head, where sizes and counts lie, the others anywhere.
        reach = len(data) if trial % 3 else 400
        spoilt[random.integers(0, min(reach, len(data)), size=1 + trial)] = random.integers(0, 256, size=1 + trial)
        path.write_bytes(spoilt.tobytes())
        for packet_cache_bytes in (64 * 2**20, 0):
            try:
                batch = sixteen(path, packet_cache_bytes=packet_cache_bytes)
            except VideoError:
                continue
            assert 1 <= len(batch) <= 16
            assert np.isfinite(batch.pts_seconds).all()
