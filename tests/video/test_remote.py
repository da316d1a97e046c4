"""Videos read in ranges: the same frames as from a file, and only the parts of it that they need."""

from collections.abc import Iterator
from contextlib import closing
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from tests.servers import web
from tests.video.encoding import FRAME, Recipe, encode
from tsq_cli.clip import load_clip
from tsq_cli.config import Limits, SelectSettings
from tsq_cli.errors import StoreError, UsageError, VideoTimeoutError
from tsq_cli.video import VideoSource, open_video, remote, stop

LIMITS = Limits(allow_url=True)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("web")


@pytest.fixture(scope="module")
def server(root: Path) -> Iterator[str]:
    with web(root) as url:
        yield url


LISTED = {
    "h264.mp4": (Recipe(b_frames=2), {}),
    "open_gop.mp4": (Recipe(b_frames=2, options={"x264-params": "open-gop=1"}), {}),
    "front.mp4": (Recipe(), {"movflags": "faststart"}),
    "late.mov": (Recipe(pts=[2 + FRAME * i for i in range(60)]), {}),
    "fragmented.mp4": (Recipe(), {"movflags": "frag_keyframe+empty_moov"}),
    "hevc.mp4": (Recipe(codec="libx265", b_frames=2), {}),
    "mjpeg.mov": (Recipe(codec="mjpeg", pix_fmt="yuvj420p"), {}),
    "mpeg2.mp4": (Recipe(codec="mpeg2video", b_frames=1, time_base=Fraction(1, 25)), {}),
    "av1.mp4": (Recipe(codec="libsvtav1"), {}),
}


@pytest.fixture
def hollow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small files are read as long ones are, and pictures do not compress: what is left out is more than a buffer."""
    monkeypatch.setattr("tsq_cli.video.demux.WHOLE_BYTES", 0)
    monkeypatch.setattr(remote, "HOLLOW_BYTES", 1)
    monkeypatch.setattr(remote, "FIRST_BLOCKS", 1)
    monkeypatch.setattr(remote, "MOST_BLOCKS", 1)
    random = np.random.default_rng(0)
    monkeypatch.setattr("tests.video.pictures.draw", lambda _, w, h: random.integers(0, 255, (h, w, 3), dtype=np.uint8))


@pytest.mark.usefixtures("hollow")
@pytest.mark.parametrize("name", LISTED)
def test_packets_listed_without_their_content_are_those_of_the_file(root: Path, server: str, name: str) -> None:
    recipe, options = LISTED[name]
    encode(root / name, recipe, options=options)
    with open_video(root / name) as own, open_video(f"{server}/good/{name}", limits=LIMITS) as far:
        assert far.table.packets is None, "the packets were read, not listed"
        for column in ("pts", "dts", "pos", "duration", "size", "key", "shown"):
            assert np.array_equal(getattr(far.table, column), getattr(own.table, column)), column
        assert len(far.pts) == recipe.num_frames
        assert far.bytes_read is not None
        # Each of the five fragments has a header of its own, and a block is half as large as a fragment.
        assert far.bytes_read < (root / name).stat().st_size * (0.9 if name == "fragmented.mp4" else 0.5)
        assert far.info.codec == own.info.codec


@pytest.mark.parametrize(
    ("name", "codec"), [("hides.mp4", "libvpx-vp9"), ("packs.mp4", "mpeg4"), ("other.mkv", "libx264")]
)
@pytest.mark.usefixtures("hollow")
def test_a_file_whose_packets_say_more_is_read_whole(root: Path, server: str, name: str, codec: str) -> None:
    encode(root / name, Recipe(codec=codec, time_base=Fraction(1, 25)))
    settings = SelectSettings(selector="uniform", num_candidates=8, num_frames=5)
    with (
        closing(load_clip(str(root / name), settings)) as own,
        closing(load_clip(f"{server}/good/{name}", settings, limits=LIMITS)) as far,
    ):
        assert np.array_equal(far.batch.pixels, own.batch.pixels)
        assert isinstance(far.source, VideoSource)
        assert far.source.table.packets is not None, "the packets were listed, not read"
        assert far.bytes_read == (root / name).stat().st_size
        assert own.bytes_read is None


def test_blocks_are_fetched_once_and_in_growing_steps(root: Path, server: str) -> None:
    data = np.random.default_rng(0).bytes(20 * remote.BLOCK + 7)
    (root / "data").write_bytes(data)
    media = remote.RemoteMedia(f"{server}/good/data")
    fetches: list[tuple[int, int]] = []
    fetch = media.fetch

    def counted(first: int, count: int, should_stop: stop.ShouldStop) -> None:
        fetches.append((first, count))
        fetch(first, count, should_stop)

    media.fetch = counted  # type: ignore[method-assign]
    file = remote.RemoteFile(media, stop.never)
    assert b"".join(iter(lambda: file.read(10_000), b"")) == data
    assert fetches == [(0, 2), (2, 4), (6, 8), (14, 16)]  # 2, doubled each time that reading goes on
    assert media.bytes_read == len(data)
    other = remote.RemoteFile(media, stop.never)
    other.seek(-7, 2)
    assert (other.read(), other.read(1)) == (data[-7:], b"")
    assert len(fetches) == 4, "a second reader fetched what was kept"
    media.forget()
    other.seek(5 * remote.BLOCK)
    assert other.read(3) == data[5 * remote.BLOCK :][:3]
    assert fetches[4:] == [(5, 2)]


def test_an_object_that_shrinks_while_it_is_read_is_an_error(root: Path, server: str) -> None:
    (root / "shrinks").write_bytes(bytes(4 * remote.BLOCK))
    file = remote.RemoteFile(remote.RemoteMedia(f"{server}/good/shrinks"), stop.never)
    (root / "shrinks").write_bytes(bytes(remote.BLOCK))
    with pytest.raises(StoreError, match=r"gave 65536 bytes in the place of 131072"):
        file.read(1)


def test_a_server_of_whole_files_is_refused_and_says_what_to_do(root: Path, server: str) -> None:
    (root / "a.mp4").write_bytes(bytes(100))
    with pytest.raises(StoreError, match=r"whole files only.*download the file first"):
        open_video(f"{server}/whole/a.mp4", limits=LIMITS)


def test_a_server_that_dies_in_the_middle_is_an_error_and_no_short_video(root: Path, server: str) -> None:
    encode(root / "cut.mkv", Recipe(codec="mjpeg", pix_fmt="yuvj420p", width=640, height=480))
    assert (root / "cut.mkv").stat().st_size > remote.FIRST_BLOCKS * remote.BLOCK
    with pytest.raises(StoreError, match=r"cut.mkv cannot be read \(ClientPayloadError"):
        open_video(f"{server}/dies/cut.mkv", limits=LIMITS)


def test_a_server_that_never_answers_costs_the_videos_time_only(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(VideoTimeoutError, match=r"was not read within 0.3 s"):
        open_video(f"{server}/silent/a.mp4", limits=Limits(allow_url=True, timeout_seconds=0.3))
    monkeypatch.setattr("tsq_cli.stores.ANSWER_SECONDS", 0.3)
    with pytest.raises(StoreError, match=r"did not answer within 0.3 s"):
        open_video(f"{server}/silent/a.mp4", limits=LIMITS)


def test_a_web_server_is_read_only_with_leave(server: str) -> None:
    with pytest.raises(UsageError, match=r"is on a web server.*--allow-url"):
        open_video(f"{server}/good/a.mp4")


def test_ffmpeg_gets_no_name_of_a_url(root: Path, server: str) -> None:
    encode(root / "h.mp4", Recipe(num_frames=10))
    with open_video(f"{server}/good/h.mp4", limits=LIMITS) as source, source.decoder() as decoder:
        assert decoder._opened.file.name == ""
        assert decoder._opened.container.name == ""
    (root / "list.m3u8").write_text(f"#EXTM3U\n#EXTINF:1,\n{server}/good/h.mp4\n")
    with pytest.raises(Exception, match="is a playlist"):
        open_video(f"{server}/good/list.m3u8", limits=LIMITS)
