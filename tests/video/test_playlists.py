"""Only media files are opened: what names other files is refused by name, whatever its ending, and none is followed."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import av
import numpy as np
import pytest

from tests.video import mp4_boxes, pictures
from tests.video.clips import clip
from tests.video.encoding import Recipe, encode
from tsq_cli.errors import InputNotFoundError, NotAVideoError, VideoError
from tsq_cli.video import decode_frames, open_video
from tsq_cli.video.formats import FORMATS, options

MPD = (
    '<?xml version="1.0"?>\n<!-- made by hand -->\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static">'
    "<Period><AdaptationSet><Representation id='1' bandwidth='1'><BaseURL>clip.mp4</BaseURL></Representation>"
    "</AdaptationSet></Period></MPD>"
)
SDP = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=video 5004 RTP/AVP 96\r\n"
HLS = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nclip.ts\n"


@pytest.mark.parametrize(
    ("name", "text", "kind"),
    [
        ("self.m3u8", "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nself.m3u8\n", "HLS"),
        ("live.m3u8", HLS, "HLS"),
        ("whole.m3u8", HLS + "#EXT-X-ENDLIST\n", "HLS"),
        ("hls.mp4", HLS + "#EXT-X-ENDLIST\n", "HLS"),
        ("hls.txt", HLS + "#EXT-X-ENDLIST\n", "HLS"),
        ("bom.m3u", "\ufeff\n" + HLS, "HLS"),
        ("concat.mp4", "ffconcat version 1.0\nfile clip.ts\n", "concat"),
        ("concat.mkv", "ffconcat version 1.0\nfile clip.ts\n" * 3000, "concat"),
        ("manifest.mpd", MPD, "DASH"),
        ("manifest.mp4", MPD, "DASH"),
        ("session.sdp", SDP, "SDP"),
        ("session.mp4", SDP, "SDP"),
        ("real.ram", "rtsp://127.0.0.1/clip.rm\n", "addresses"),
        ("list.pls", "[playlist]\nFile1=clip.ts\n", "PLS"),
        ("list.asx", "[Reference]\nRef1=clip.ts\n", "ASX"),
        ("list.smil", "<smil><body><video src='clip.ts'/></body></smil>", "SMIL"),
        ("vobsub.idx", "# VobSub index file, v7 (do not modify this line!)\n", "VobSub"),
    ],
)
def test_playlists_are_refused_by_name(tmp_path: Path, name: str, text: str, kind: str) -> None:
    encode(tmp_path / "clip.ts", Recipe(num_frames=5))  # following would succeed
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    with pytest.raises(NotAVideoError) as caught:
        open_video(path)
    assert str(path) in caught.value.got
    assert kind in caught.value.got
    assert "names other files" in caught.value.got
    assert "permission" not in str(caught.value)


@pytest.mark.parametrize("name", ["captions.json", "drawing.svg", "subtitles.srt", "chapters.ffm"])
def test_what_holds_no_pictures_is_no_video(tmp_path: Path, name: str) -> None:
    content = {
        "captions.json": '{"captions":[{"duration":1000,"content":"x","startOfParagraph":true,"startTime":0}]}',
        "drawing.svg": "<svg xmlns='http://www.w3.org/2000/svg'><image href='clip.png'/></svg>",
        "subtitles.srt": "1\n00:00:01,000 --> 00:00:02,000\nhello\n",
        "chapters.ffm": ";FFMETADATA1\ntitle=x\n",
    }
    path = tmp_path / name
    path.write_text(content[name])
    with pytest.raises(NotAVideoError, match="not a video"):
        open_video(path)


def test_no_demuxer_that_follows_names_is_allowed() -> None:
    allowed = FORMATS.split(",")
    followers = "hls dash imf concat sdp rtsp rtp sap vobsub mlv lavfi webm_dash_manifest tedcaptions svg_pipe"
    assert not set(followers.split()) & set(allowed)
    assert len(allowed) == len(set(allowed))
    assert {"mov", "matroska", "webm", "avi", "mpegts", "mpeg", "flv", "asf", "ogg", "gif", "png_pipe"} <= set(allowed)


def test_name_of_a_picture_is_no_pattern(tmp_path: Path) -> None:
    picture, other, pattern = clip("png").path, tmp_path / "clip_01.png", tmp_path / "clip_%02d.png"
    encode(other, Recipe(codec="png", pix_fmt="rgb24", num_frames=1, first_number=77), format_name="image2")
    pattern.write_bytes(picture.read_bytes())
    pixels = decode_frames(open_video(pattern), [0], short_side=None).pixels
    assert pictures.read(pixels[0]) == clip("png").numbers[0] != 77


def test_raw_plane_does_not_bring_its_siblings(tmp_path: Path) -> None:
    """FFmpeg's reader of pictures takes x.U and x.V for the other two planes of x.Y."""
    for name in ("x.Y", "x.U", "x.V"):
        (tmp_path / name).write_bytes(bytes(640 * 480))
    before = [read_time(tmp_path / name) for name in ("x.U", "x.V")]
    with pytest.raises(NotAVideoError):
        open_video(tmp_path / "x.Y")
    assert [read_time(tmp_path / name) for name in ("x.U", "x.V")] == before
    assert "image2" not in options(tmp_path / "x.Y")["format_whitelist"].split(",")
    assert "image2" in options(tmp_path / "x.png")["format_whitelist"].split(",")


def read_time(path: Path) -> int:
    return path.stat().st_atime_ns


def test_quicktime_track_that_lies_in_another_file_is_not_fetched(tmp_path: Path) -> None:
    data = clip("h264_no_b_frames").path.read_bytes()
    (tmp_path / "other.mp4").write_bytes(data)
    *parents, old = mp4_boxes.find(data, "moov/trak/mdia/minf/dinf")
    path = tmp_path / "reference.mov"
    new = mp4_boxes.box(b"dinf", mp4_boxes.box(b"dref", struct.pack(">II", 0, 1) + alias("other.mp4")))
    path.write_bytes(mp4_boxes.replace(data, parents, old.start, old.end, new))
    with av.open(str(path), options={"enable_drefs": "1"}) as container:
        assert sum(packet.size > 0 for packet in container.demux(video=0)) == 60, "the reference should lead somewhere"
    with pytest.raises(VideoError, match="no picture"):
        open_video(path)


def alias(name: str) -> bytes:
    """An entry of a dref box that leads to a file beside this one (QuickTime file format, alias records)."""
    record = bytes(10) + b"\3vol".ljust(28, b"\0") + bytes(12) + bytes([len(name)]) + name.encode().ljust(63, b"\0")
    record += bytes(16) + struct.pack(">hh", 1, 1) + bytes(16)
    for kind, text in ((2, name), (18, f"/vol/{name}")):
        text += "\0" * (len(text) % 2)
        record += struct.pack(">hh", kind, len(text)) + text.encode()
    record += struct.pack(">hh", -1, 0)
    return struct.pack(">I4sI", 12 + len(record), b"alis", 0) + record


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no FIFOs here")
def test_pipe_is_refused_without_waiting_for_its_writer(tmp_path: Path) -> None:
    path = tmp_path / "pipe.mp4"
    os.mkfifo(path)
    with pytest.raises(NotAVideoError, match="not a regular file"):
        open_video(path)


@pytest.mark.parametrize("name", ["x" * 300 + ".mp4", "nul\0.mp4", "file.txt/clip.mp4"])
def test_names_that_lead_nowhere(tmp_path: Path, name: str) -> None:
    (tmp_path / "file.txt").write_text("no folder")
    with pytest.raises(InputNotFoundError, match="check the path"):
        open_video(tmp_path / name)


def test_allowed_formats_are_read_as_before() -> None:
    for name in ("flv", "gif", "apng", "jpeg", "png", "av1_ivf", "raw_hevc", "mpeg2_program_stream", "h264_late_start"):
        assert np.array_equal(open_video(clip(name).path).pts >= -(2**40), np.ones(len(clip(name).pts), bool))
