"""Frames that are decoded and never shown: headers written bit by bit, and clips made to hide some."""

from __future__ import annotations

from pathlib import Path

import av
import pytest
from av.container import Flags

from tests.video import pictures
from tests.video.clips import MILLISECOND, clip
from tests.video.encoding import Recipe, encode
from tsq_cli.video import decode_frames, open_video
from tsq_cli.video.hidden import shows_nothing


def vp9(profile: int, *, existing: bool = False, is_inter: bool = False, is_shown: bool = True) -> bytes:
    """The first bits of an uncompressed header, in the order of the specification (6.2), and some content."""
    bits = f"10{profile & 1}{profile >> 1}" + ("0" if profile == 3 else "") + f"{existing:d}"
    bits += "000" if existing else f"{is_inter:d}{is_shown:d}"
    return int(bits.ljust(16, "1"), 2).to_bytes(2, "big") + b"content"


def superframe(*frames: bytes, width: int = 2) -> bytes:
    """Frames in one packet, with the index of Annex B at its end."""
    marker = bytes([0b110_00_000 | (width - 1) << 3 | len(frames) - 1])
    return b"".join(frames) + marker + b"".join(len(frame).to_bytes(width, "little") for frame in frames) + marker


@pytest.mark.parametrize("profile", range(4))
@pytest.mark.parametrize("is_inter", [False, True])
def test_vp9_headers(profile: int, is_inter: bool) -> None:
    shown, hidden = (vp9(profile, is_inter=is_inter, is_shown=value) for value in (True, False))
    existing = vp9(profile, existing=True)
    assert not shows_nothing("vp9", memoryview(shown))
    assert not shows_nothing("vp9", memoryview(existing))
    assert shows_nothing("vp9", memoryview(hidden))
    for width in (1, 2, 3, 4):
        assert not shows_nothing("vp9", memoryview(superframe(hidden, shown, width=width)))
        assert not shows_nothing("vp9", memoryview(superframe(hidden, existing, width=width)))
        assert shows_nothing("vp9", memoryview(superframe(hidden, hidden, width=width)))
    assert not shows_nothing("av1", memoryview(hidden))


@pytest.mark.parametrize("data", [b"\0", b"\xc9", b"\xff" * 3, b"\x82\xc9", superframe(b"", b"")])
def test_damaged_vp9_packets_raise_nothing(data: bytes) -> None:
    assert shows_nothing("vp9", memoryview(data)) in (True, False)


@pytest.mark.parametrize("packet_cache_bytes", [64 * 2**20, 0], ids=["cached", "seeking"])
def test_hidden_frames_of_vp9_with_packets_of_their_own(tmp_path: Path, packet_cache_bytes: int) -> None:
    """The keyframe before picture 20 is hidden, and shown by a packet of its own: 61 packets, 60 frames.

    The one before picture 40 is hidden for good: 59. A keyframe's header says nothing else where it is hidden.
    """
    path = tmp_path / "hidden.webm"
    with av.open(str(clip("vp9").path)) as source, av.open(str(path), "w") as target:
        template = source.streams.video[0]
        stream = target.add_stream_from_template(template)
        target.flags &= ~Flags.auto_bsf.value  # the muxer would join the two again
        for packet in source.demux(template):
            if packet.size == 0:
                continue
            data = [bytes(packet)]
            if packet.is_keyframe and packet.pts in (800, 1600):
                data = [bytes([data[0][0] & ~0b10]) + data[0][1:]]
                data += [b"\x88"] if packet.pts == 800 else []  # show_existing_frame, of the first reference
            for piece in data:
                copy = av.Packet(piece)
                copy.pts = copy.dts = packet.pts
                copy.time_base, copy.is_keyframe, copy.stream = packet.time_base, packet.is_keyframe, stream
                target.mux(copy)
    with av.open(str(path)) as container:
        assert sum(packet.size > 0 for packet in container.demux(video=0)) == 61
    with av.open(str(path)) as container:
        times = [frame.pts for frame in container.decode(video=0)]
    assert times == [40 * i for i in range(60) if i != 40]
    opened = open_video(path, packet_cache_bytes=packet_cache_bytes)
    assert opened.pts.tolist() == times
    batch = decode_frames(opened, range(59), short_side=64)
    assert [pictures.read(picture) for picture in batch.pixels] == [i for i in range(60) if i != 40]
    assert batch.snap_seconds.tolist() == [0] * 59


def test_hidden_frames_of_vp8_are_not_shown(tmp_path: Path) -> None:
    path = tmp_path / "hidden.webm"
    encode(path, Recipe(codec="libvpx", num_frames=20, time_base=MILLISECOND))
    with av.open(str(path)) as container:
        packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    hidden = bytes([packets[7][0] & ~0x10]) + packets[7][1:]  # RFC 6386, 9.1: bit 4 is show_frame
    path.write_bytes(path.read_bytes().replace(packets[7], hidden))
    source = open_video(path)
    assert source.info.total_num_frames == 19
    batch = decode_frames(source, range(19), short_side=64)
    assert [pictures.read(picture) for picture in batch.pixels] == [i for i in range(20) if i != 7]
    assert batch.snap_seconds.tolist() == [0] * 19


@pytest.mark.parametrize("name", ["av1_mp4", "av1_mkv", "av1_ivf", "vp9", "live_webm"])
def test_every_packet_shows_a_frame_where_none_is_hidden(name: str) -> None:
    with av.open(str(clip(name).path)) as container:
        shown = [frame.pts for frame in container.decode(video=0)]
    assert open_video(clip(name).path).pts.tolist() == shown
