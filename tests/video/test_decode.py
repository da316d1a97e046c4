"""Which packets are decoded for which frames, and the traps of single codecs that the odd clips do not cover."""

from __future__ import annotations

import struct
from contextlib import closing
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest

from tests.video import mp4_boxes, pictures
from tests.video.clips import clip
from tests.video.encoding import FRAME, Recipe, encode
from tsq_cli.config import Limits
from tsq_cli.errors import NoDecodableFrameError
from tsq_cli.video import VideoSource, decode, decode_frames, open_video
from tsq_cli.video.convert import Orientation
from tsq_cli.video.decoder import StreamDecoder
from tsq_cli.video.demux import open_stream
from tsq_cli.video.plan import PacketRun, expand_to_neighbor_gops, join_overlapping, plan_runs

ONE_READ = 2**15
"""Bytes that FFmpeg reads at a time."""

MILLISECOND = Fraction(1, 1000)


def plan(pts: list[int], keys: list[int], targets: list[int]) -> list[tuple[int, int, tuple[int, ...]]]:
    key = np.zeros(len(pts), dtype=np.bool_)
    key[keys] = True
    return [(run.start, run.stop, run.targets) for run in plan_runs(np.array(pts), key, np.array(targets))]


def test_targets_are_grouped_by_keyframe_and_nothing_after_the_last_is_decoded() -> None:
    pts = list(range(20))
    assert plan(pts, [0, 5, 10, 15], [2, 4, 11]) == [(0, 5, (2, 4)), (10, 12, (11,))]
    assert plan(pts, [0, 5, 10, 15], [15, 5, 0]) == [(0, 1, (0,)), (5, 6, (5,)), (15, 16, (15,))]


def test_longest_run_comes_first() -> None:
    assert [run[0] for run in plan(list(range(20)), [0, 4, 14], [1, 13, 16])] == [4, 14, 0]


def test_frame_before_its_keyframe_on_screen_needs_the_group_before() -> None:
    # In the file: I0 P3 B1 B2 | I6 B4 B5 P9 B7 B8. B4 and B5 (positions 5, 6) follow I6 but precede it on screen.
    pts = [0, 3, 1, 2, 6, 4, 5, 9, 7, 8]
    assert plan(pts, [0, 4], [5]) == [(0, 6, (5,))]
    assert plan(pts, [0, 4], [8]) == [(4, 9, (8,))]


def test_lead_in_of_a_later_edit_is_not_taken_for_an_earlier_frames_keyframe() -> None:
    # Edit 1 shows times 0..5; edit 2 starts at 6 with a hidden lead-in from a keyframe stamped 3.
    pts = [0, 1, 2, 3, 4, 5, 3, 4, 5, 6, 7]
    assert plan(pts, [0, 6], [4, 10]) == [(0, 5, (4,)), (6, 11, (10,))]


def test_without_keyframes_decoding_starts_at_the_beginning() -> None:
    assert plan([0, 1, 2], [], [2]) == [(0, 3, (2,))]


def test_widen_reaches_from_the_keyframe_before_to_the_one_after() -> None:
    key = np.zeros(20, dtype=np.bool_)
    key[[0, 5, 10, 15]] = True
    assert expand_to_neighbor_gops(PacketRun(10, 13, (12,)), key) == PacketRun(5, 16, (12,))
    assert expand_to_neighbor_gops(PacketRun(0, 3, (2,)), key) == PacketRun(0, 6, (2,))
    assert expand_to_neighbor_gops(PacketRun(15, 17, (16,)), key) == PacketRun(10, 20, (16,))


def test_runs_that_share_packets_are_joined_and_others_are_not() -> None:
    runs = [PacketRun(4, 9, (8,)), PacketRun(0, 6, (2, 5)), PacketRun(9, 12, (11,)), PacketRun(8, 9, (8,))]
    assert join_overlapping(runs) == [PacketRun(0, 9, (2, 5, 8)), PacketRun(9, 12, (11,))]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The ranges of packets that are decoded from now on."""
    ranges: list[tuple[int, int]] = []
    original = StreamDecoder.frames

    def spying(self: StreamDecoder, start: int, stop: int, **options: Any) -> Any:
        ranges.append((start, stop))
        return original(self, start, stop, **options)

    monkeypatch.setattr(StreamDecoder, "frames", spying)
    return ranges


def test_only_the_packets_needed_are_decoded(asked: list[tuple[int, int]]) -> None:
    source = open_video(clip("h264_no_b_frames").path)  # a keyframe every 12 frames
    asked.clear()
    decode_frames(source, [1, 14, 15, 50], threads=1)
    assert sorted(asked) == [(0, 2), (12, 16), (48, 51)]
    asked.clear()
    decode_frames(source, [1, 14, 50], threads=1, mode="keyframes")
    assert sorted(asked) == [(0, 1), (12, 13), (48, 49)]


def test_few_small_frames_are_decoded_by_one_decoder_each_once(
    monkeypatch: pytest.MonkeyPatch, asked: list[tuple[int, int]]
) -> None:
    known = clip("hevc_open_gop")  # B-frames before a keyframe refer to it: both groups decode it
    for few_pixels, overlap in ((0, True), (2**40, False)):
        monkeypatch.setattr(decode, "FEW_PIXELS", few_pixels)
        source = open_video(known.path)
        asked.clear()
        batch = decode_frames(source, [10, 11, 13], short_side=None)
        assert [pictures.read(picture) for picture in batch.pixels] == [known.numbers[i] for i in (10, 11, 13)]
        asked.sort()
        assert (asked[-1][0] < asked[0][1] and len(asked) > 1) == overlap


def test_opening_an_mp4_of_variable_rate_reads_its_index_and_no_more_frames_than_needed(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    times = [FRAME * (i + 1) + (i**3 % 13) * MILLISECOND for i in range(60)]
    filler = {"x264-params": "bitrate=800:vbv-maxrate=800:vbv-bufsize=400:nal-hrd=cbr"}  # frames of 4 KB
    encode(path, Recipe(pts=times, options=filler))
    with closing(open_stream(path, limits=Limits())) as opened:
        assert opened.file.tell() < 2 * ONE_READ < 20 * 4000  # to guess a rate, FFmpeg reads 20 frames


def test_keyframes_say_how_far_off_they_are() -> None:
    source = open_video(clip("h264_no_b_frames").path)  # a keyframe every 12 frames, 25 frames per second
    batch = decode_frames(source, [1, 17, 24], mode="keyframes")
    assert batch.frame_indices.tolist() == [0, 12, 24]
    np.testing.assert_allclose(batch.snap_seconds, [-1 / 25, -5 / 25, 0], atol=1e-9)
    assert batch.notes == ("Keyframes only: each frame is the keyframe nearest to its time, up to 0.200 s away.",)


@pytest.mark.parametrize("cache", [2**26, 0], ids=["cached", "seeking"])
@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(codec="mpeg4", b_frames=2, gop=24, options={"flags": "+ildct+ilme"}, time_base=MILLISECOND),
        Recipe(codec="mpeg4", b_frames=2, gop=24, options={"flags": "+qpel+mv4"}, time_base=MILLISECOND),
        Recipe(codec="mpeg2video", b_frames=3, gop=20, time_base=FRAME),
        Recipe(codec="libx264", b_frames=4, gop=24, options={"x264-params": "b-pyramid=normal"}, time_base=MILLISECOND),
        Recipe(codec="libx265", b_frames=4, gop=24, time_base=MILLISECOND),
    ],
    ids=lambda value: f"{value.codec}-{next(iter(value.options.values()), '')}" if isinstance(value, Recipe) else value,
)
def test_skipping_frames_that_nothing_refers_to_changes_no_pixel(tmp_path: Path, recipe: Recipe, cache: int) -> None:
    path = tmp_path / "clip.mkv"
    encode(path, recipe)
    with av.open(str(path)) as container:
        reference = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    source = open_video(path, packet_cache_bytes=cache)
    assert len(reference) == len(source.pts)
    for wanted in ([7], [30, 31], [26], [1, 25, 47, 59], list(range(60))):
        batch = decode_frames(source, wanted, short_side=None)
        assert batch.frame_indices.tolist() == wanted
        np.testing.assert_array_equal(batch.pixels, [reference[i] for i in wanted])


def test_packed_pictures_of_old_xvid_files_get_their_own_times(tmp_path: Path) -> None:
    """Two pictures to a packet, then an empty one: the decoder gives them in order, but with each other's times."""
    coded, path = tmp_path / "coded.avi", tmp_path / "packed.avi"
    recipe = Recipe(codec="mpeg4", b_frames=1, num_frames=59, time_base=FRAME, options={"b_strategy": "0"})
    encode(coded, recipe)
    mark = b"\0\0\1\xb2DivX503b1393p"
    with av.open(str(coded)) as source, av.open(str(path), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        packets = [(bytes(packet), packet.is_keyframe) for packet in source.demux(video=0) if packet.size]
        packed: list[tuple[bytes, bool]] = []
        while packets:
            data, is_key = packets.pop(0)
            if packets and is_b_picture(packets[0][0]):
                packed += [(data + packets.pop(0)[0], is_key), (b"\0\0\1\xb6\x51\x5f\x80", False)]
            else:
                packed.append((data, is_key))
        start = packed[0][0].index(b"\0\0\1\xb6")
        packed[0] = (packed[0][0][:start] + mark + packed[0][0][start:], True)
        for time, (data, is_key) in enumerate(packed):
            packet = av.Packet(data)
            packet.pts = packet.dts = time
            packet.time_base, packet.is_keyframe, packet.stream = FRAME, is_key, stream
            target.mux(packet)
    with av.open(str(path)) as container:
        times = [frame.pts for frame in container.decode(video=0)]
    assert times != sorted(times), "the decoder should mix up the times"
    opened = open_video(path)
    assert len(opened.pts) == 59
    batch = decode_frames(opened, range(59), short_side=64)
    assert [pictures.read(picture) for picture in batch.pixels] == list(range(59))
    assert [pictures.read(picture) for picture in decode_frames(opened, [33, 5]).pixels] == [33, 5]


def is_b_picture(data: bytes) -> bool:
    """Whether a packet of MPEG-4 Part 2 starts with a bidirectional picture (vop_coding_type, ISO/IEC 14496-2)."""
    return data[data.index(b"\0\0\1\xb6") + 4] >> 6 == 2


@pytest.mark.parametrize("cache", [2**26, 0], ids=["cached", "seeking"])
def test_headers_that_change_on_the_way(tmp_path: Path, cache: int) -> None:
    """Two H.264 clips in one MP4 track, as tools that append files write them: headers stand in the moov box only."""
    path = tmp_path / "appended.mp4"
    append(path, [Recipe(num_frames=30), Recipe(num_frames=30, first_number=30, width=240, height=180)])
    with av.open(str(path)) as container:
        changes = [i for i, packet in enumerate(container.demux(video=0)) if packet.has_sidedata("new_extradata")]
    assert changes == [30]
    source = open_video(path, packet_cache_bytes=cache)
    for wanted in (list(range(60)), [5, 45], [58, 3]):
        batch = decode_frames(source, wanted, short_side=64)
        assert [pictures.read(picture) for picture in batch.pixels] == wanted
        assert (batch.decode_errors, batch.snap_seconds.tolist()) == (0, [0] * len(wanted))


def append(path: Path, recipes: list[Recipe]) -> None:
    """Write clips without B-frames one after another into one track, a chunk and a sample description for each."""
    descriptions, samples = [], []
    for recipe in recipes:
        encode(path, recipe)
        data = path.read_bytes()
        description = mp4_boxes.find(data, "moov/trak/mdia/minf/stbl/stsd")[-1]
        descriptions.append(data[description.start + 16 : description.end])
        with av.open(str(path)) as container:
            samples.append([(bytes(packet), packet.is_keyframe) for packet in container.demux(video=0) if packet.size])
    sizes = [[len(sample) for sample, _ in chunk] for chunk in samples]
    flat = [key for chunk in samples for _, key in chunk]
    keys = [position for position, key in enumerate(flat, 1) if key]
    (start,) = (box for box in mp4_boxes.children(data, 0, len(data)) if box.kind == b"mdat")
    offsets = [start.start + 8, start.start + 8 + sum(sizes[0])]
    tables = [
        mp4_boxes.box(b"stsd", struct.pack(">2I", 0, 2) + b"".join(descriptions)),
        mp4_boxes.box(b"stts", struct.pack(">4I", 0, 1, len(flat), 512)),
        mp4_boxes.box(b"stss", struct.pack(f">{len(keys) + 2}I", 0, len(keys), *keys)),
        mp4_boxes.box(b"stsc", struct.pack(">8I", 0, 2, 1, len(sizes[0]), 1, 2, len(sizes[1]), 2)),
        mp4_boxes.box(b"stsz", struct.pack(f">{len(flat) + 3}I", 0, 0, len(flat), *sizes[0], *sizes[1])),
        mp4_boxes.box(b"stco", struct.pack(">4I", 0, 2, *offsets)),
    ]
    for name in ("moov/trak/edts", "moov/trak/mdia/minf/stbl"):
        *parents, table = mp4_boxes.find(data, name)
        new = mp4_boxes.box(b"stbl", b"".join(tables)) if table.kind == b"stbl" else b""
        data = mp4_boxes.replace(data, parents, table.start, table.end, new)
    (movie,) = (box for box in mp4_boxes.children(data, 0, len(data)) if box.kind == b"moov")
    content = b"".join(sample for chunk in samples for sample, _ in chunk)
    path.write_bytes(data[: start.start] + mp4_boxes.box(b"mdat", content) + data[movie.start : movie.end])


@pytest.mark.parametrize(
    ("matrix", "expected", "rotation"),
    [  # a, b, c, d of x' = a x + c y, y' = b x + d y; the picture's corners are 1 2 over 3 4
        ((1, 0, 0, 1), [[1, 2], [3, 4]], 0),
        ((-1, 0, 0, 1), [[2, 1], [4, 3]], 0),
        ((1, 0, 0, -1), [[3, 4], [1, 2]], 180),
        ((-1, 0, 0, -1), [[4, 3], [2, 1]], 180),
        ((0, 1, 1, 0), [[1, 3], [2, 4]], 90),
        ((0, 1, -1, 0), [[3, 1], [4, 2]], 90),
        ((0, -1, 1, 0), [[2, 4], [1, 3]], 270),
        ((0, -1, -1, 0), [[4, 2], [3, 1]], 270),
    ],
)
def test_all_eight_orientations(
    tmp_path: Path, matrix: tuple[int, ...], expected: list[list[int]], rotation: int
) -> None:
    path = tmp_path / "turned.mp4"
    path.write_bytes(clip("h264_b_frames").path.read_bytes())
    data = bytearray(path.read_bytes())
    (*_, header) = mp4_boxes.find(bytes(data), "moov/trak/tkhd")
    a, b, c, d = (value * 65536 for value in matrix)
    nine = [a, b, 0, c, d, 0, 0, 0, 1 << 30]
    data[header.end - 44 : header.end - 8] = b"".join(value.to_bytes(4, "big", signed=True) for value in nine)
    path.write_bytes(data)
    source = open_video(path)
    assert source.info.rotation == rotation
    assert (source.info.width, source.info.height) == ((160, 120) if matrix[0] else (120, 160))
    corners = np.array([[1, 2], [3, 4]], dtype=np.uint8)[..., None]
    assert source.geometry.orientation.apply(corners)[..., 0].tolist() == expected
    upright = decode_frames(open_video(clip("h264_b_frames").path), [9], short_side=None).pixels[0]
    quarters = np.indices((120, 160)) // np.array([60, 80])[:, None, None]
    pixels = decode_frames(source, [9], short_side=None).pixels[0]
    for row in (0, 1):
        for column in (0, 1):
            part = upright[(quarters[0] == row) & (quarters[1] == column)].mean(axis=0)
            place = np.argwhere(np.array(expected) == 1 + 2 * row + column)[0]
            height, width = pixels.shape[0] // 2, pixels.shape[1] // 2
            found = pixels[place[0] * height :, place[1] * width :][:height, :width].reshape(-1, 3).mean(axis=0)
            np.testing.assert_allclose(found, part, atol=1e-9)


def test_upright_is_the_default() -> None:
    assert Orientation().apply(np.zeros((2, 3, 3), dtype=np.uint8)).shape == (2, 3, 3)


def test_indices_may_come_in_any_order_and_count_once() -> None:
    known = clip("h264_b_frames")
    batch = decode_frames(open_video(known.path), [40, 3, 40, 17], short_side=64)
    assert batch.frame_indices.tolist() == [40, 3, 17]
    assert [pictures.read(picture) for picture in batch.pixels] == [known.numbers[i] for i in (40, 3, 17)]


@pytest.mark.parametrize("indices", [[], [-1], [60], [[1, 2]]])
def test_indices_that_make_no_sense(indices: list[int]) -> None:
    with pytest.raises(ValueError, match="frame_indices"):
        decode_frames(open_video(clip("h264_b_frames").path), indices)


def test_lost_frames_are_replaced_by_their_nearest_neighbor(tmp_path: Path) -> None:
    """The second of five groups loses all its packets: its frames give way to those around it, and the notes say so."""
    source, known = damaged_group(tmp_path, range(12, 24))
    batch = decode_frames(source, [5, 13, 30])
    assert batch.frame_indices.tolist() == [5, 11, 30]
    assert [pictures.read(picture) for picture in batch.pixels] == [known[5], known[11], known[30]]
    np.testing.assert_allclose(batch.snap_seconds, [0, -0.08, 0], atol=1e-9)
    assert batch.decode_errors == 12
    assert batch.notes == ("1 of 3 frames could not be decoded and are replaced by the nearest ones that could.",)
    # Two requests meet the same neighbor: it comes once, for the nearer one.
    both = decode_frames(source, [13, 14])
    assert both.frame_indices.tolist() == [11]
    np.testing.assert_allclose(both.snap_seconds, [-0.08], atol=1e-9)


def test_nothing_left_around_is_an_error(tmp_path: Path) -> None:
    source, _ = damaged_group(tmp_path, range(12, 60), "mjpeg")
    with pytest.raises(NoDecodableFrameError, match="none of the 2 frames"):
        decode_frames(source, [40, 50])
    assert decode_frames(source, [40, 5]).frame_indices.tolist() == [5]


def damaged_group(folder: Path, lost: range, name: str = "h264_no_b_frames") -> tuple[VideoSource, tuple[int, ...]]:
    """A clip with these packets spoilt, and the numbers in its frames."""
    known = clip(name)
    path = folder / f"damaged{known.path.suffix}"
    data = known.path.read_bytes()
    with av.open(str(known.path)) as container:
        packets = [(bytes(packet), packet.pos or 0) for packet in container.demux(video=0) if packet.size]
    for whole, position in packets[lost.start : lost.stop]:
        # Of H.264 only the length of the first unit: were nothing left of it, the frame would be copied silently.
        spoilt = b"\xff" * 4 + whole[4:] if name.startswith("h264") else bytes(len(whole))
        start = data.index(whole, position)
        data = data[:start] + spoilt + data[start + len(whole) :]
    path.write_bytes(data)
    return open_video(path), known.numbers


def test_what_stands_in_for_a_lost_frame_keeps_its_place_in_time() -> None:
    # Frames 5, 16 and 20 are wanted; 20 is lost, and 12 is the nearest to it that its part of the file gives.
    job: Any = SimpleNamespace(
        indices=np.array([5, 16, 20]),
        decoded=np.array([5, 16, 12]),
        pixels=np.array([5, 16, 12], np.uint8).reshape(3, 1, 1, 1).repeat(3, axis=3),
        bad_packets=set(),
        damaged=set(),
        recolored=set(),
        left_the_gpu=False,
        source=SimpleNamespace(
            pts=np.arange(30),
            pts_seconds=np.arange(30) / 25,
            info=SimpleNamespace(path="a.mp4", time_base=FRAME),
            table=SimpleNamespace(read_errors=0),
        ),
    )
    wanted = np.array([5, 16, 20])
    batch = decode._batch(job, wanted, wanted, "exact")
    assert batch.frame_indices.tolist() == batch.pixels[:, 0, 0, 0].tolist() == [5, 12, 16]
    assert batch.snap_seconds.tolist() == pytest.approx([0, (12 - 20) / 25, 0])
    backwards = decode._batch(job, wanted[::-1], wanted[::-1], "exact")  # in the order that was asked for
    assert backwards.frame_indices.tolist() == [12, 16, 5]
