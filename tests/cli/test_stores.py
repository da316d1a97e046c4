"""Videos in stores from the command line: named, listed, resumed, and every error in one line."""

import csv
import io
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import av
import jsonschema
import numpy as np
import pytest
from PIL import Image

from tests.cli.conftest import DEMO, ROOT, Result
from tests.servers import BUCKET, new_file_systems, s3, web
from tsq_cli import load, stores
from tsq_cli.clip import load_clip
from tsq_cli.config import SelectSettings
from tsq_cli.errors import OutputError, UsageError
from tsq_cli.inputs import collect_inputs, file_status
from tsq_cli.report.page_links import video_link

Tsq = Callable[..., Result]
EVEN = ("--selector", "uniform", "-k", "2", "-n", "4")
SCHEMA = jsonschema.Draft202012Validator(json.loads((ROOT / "docs" / "schema.json").read_text()))


@pytest.fixture(scope="module")
def store() -> Iterator[Any]:
    with s3() as client:
        for name in ("b.mp4", "a.MP4", ".hidden.mp4", "deep/c.mp4", "notes.txt"):
            client.upload_file(str(DEMO), BUCKET, f"clips/{name}")
        client.upload_file(str(DEMO), BUCKET, "x[1].mp4")
        client.put_object(Bucket=BUCKET, Key="texts/a.txt", Body=b"a")
        yield client


@pytest.fixture(scope="module")
def long_film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A film of 40 times the same two seconds of noise, some 25 MB, with its index at the end."""
    path = tmp_path_factory.mktemp("long") / "long.mp4"
    noise = np.random.default_rng(0).integers(0, 255, (50, 180, 320, 3), dtype=np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"preset": "ultrafast", "b": "2M"})
        stream.width, stream.height, stream.pix_fmt = 320, 180, "yuv420p"
        stream.codec_context.gop_size, stream.codec_context.thread_count = 50, 1
        frames = [av.VideoFrame.from_ndarray(one, "rgb24") for one in noise]
        packets = [packet for frame in [*frames, None] for packet in stream.encode(frame)]
        kept = [(bytes(packet), packet.pts, packet.dts, packet.is_keyframe, packet.time_base) for packet in packets]
        for turn in range(40):
            for data, pts, dts, is_key, base in kept:
                packet = av.Packet(data)
                packet.stream, packet.time_base, packet.is_keyframe = stream, base, is_key
                packet.pts, packet.dts = pts + turn * 50, dts + turn * 50
                container.mux(packet)
    return path


def url(key: str) -> str:
    return f"s3://{BUCKET}/{key}"


@pytest.mark.parametrize("mode", ["keyframes", "exact"])
def test_a_long_film_gives_the_files_frames_for_a_fifth_of_its_bytes(store: Any, long_film: Path, mode: Any) -> None:
    store.upload_file(str(long_film), BUCKET, "long.mp4")
    settings = SelectSettings(selector="uniform", num_candidates=8, num_frames=5, decode_mode=mode)
    with (
        closing(load_clip(str(long_film), settings)) as own,
        closing(load_clip(url("long.mp4"), settings)) as far,
    ):
        assert np.array_equal(far.batch.pixels, own.batch.pixels)
        assert np.array_equal(far.batch.pts, own.batch.pts)
        size = long_film.stat().st_size
        assert far.source.info.size_bytes == size > 2e7
        assert far.bytes_read is not None
        if mode == "keyframes":
            print(f"read {far.bytes_read} of {size} bytes: {far.bytes_read / size:.3f}")
            assert 0 < far.bytes_read < size / 5


def test_the_record_is_the_files_with_the_url_and_the_bytes_read(tsq: Tsq, store: Any, tmp_path: Path) -> None:
    own = json.loads(tsq("select", DEMO, *EVEN, "--json").out)
    result = tsq("select", url("clips/b.mp4"), *EVEN, "--json", "-o", tmp_path / "frames")
    far = json.loads(result.out)
    SCHEMA.validate(far)
    video = far["video"]
    assert (result.code, video["path"]) == (0, url("clips/b.mp4"))
    assert video.pop("bytes_read") == DEMO.stat().st_size == video["size_bytes"]
    assert "bytes_read" not in own["video"]
    assert video["modified_ns"] // 10**9 == int(
        store.head_object(Bucket=BUCKET, Key="clips/b.mp4")["LastModified"].timestamp()
    )
    assert [Path(frame["path"]).name[:4] for frame in far["frames"]] == ["b-01", "b-02"]
    for record in (own, far):
        for frame in record["frames"]:
            frame.pop("path")
        for name in ("path", "modified_ns"):
            record["video"].pop(name)
        for name in ("timings_seconds", "settings_hash"):
            record.pop(name)
    assert far == own
    assert "0.5 of 0.5 MB read" in tsq("select", url("clips/b.mp4"), *EVEN).out


def test_prefixes_globs_and_lists_name_what_is_in_the_store(store: Any, tmp_path: Path) -> None:
    a, b, c = (url(f"clips/{name}") for name in ("a.MP4", "b.mp4", "deep/c.mp4"))
    for prefix in (url("clips"), url("clips/")):
        assert collect_inputs([prefix]).paths == (a, b)
        assert collect_inputs([prefix]).skipped == 1
        assert collect_inputs([prefix], recursive=True).paths == (a, b, c)
    assert collect_inputs([url("clips/*.mp4")]).paths == (url("clips/.hidden.mp4"), b)
    assert collect_inputs([url("clips/**/c.mp4")]).paths == (c,)
    assert collect_inputs([url("x[1].mp4")]).paths == (url("x[1].mp4"),)
    single = collect_inputs([b])
    assert (single.paths, single.single) == ((b,), True)
    listed = tmp_path / "list.txt"
    listed.write_text(
        f"{b}\n{DEMO}\n{url('gone.mp4')}\n{url('clips/deep/')}\n{url('clips/a*')}\n{b}\n{DEMO.as_uri()}\n"
    )
    assert collect_inputs([], files_from=str(listed)).paths == (b, str(DEMO), url("gone.mp4"), c, a)


def test_a_file_url_is_its_path(tmp_path: Path) -> None:
    path = Path(shutil.copy(DEMO, tmp_path / "a b#c%.mp4"))
    assert collect_inputs([path.as_uri(), str(path)]).paths == (str(path),)
    assert collect_inputs([path.as_uri().replace("file:///", "file://localhost/")]).single
    with pytest.raises(UsageError, match="names a file on elsewhere"):
        collect_inputs(["file://elsewhere/a.mp4"])


def test_a_run_is_resumed_by_what_the_store_says_of_each_object(tsq: Tsq, store: Any, tmp_path: Path) -> None:
    lines = tmp_path / "out.jsonl"
    run = ("select", url("clips/"), "-r", *EVEN, "--jsonl", lines)
    assert "3 selected, 0 done before, 0 failed" in tsq(*run).err
    assert "0 selected, 3 done before, 0 failed" in tsq(*run).err
    data = bytearray(DEMO.read_bytes())
    data[-1] ^= 1
    before = file_status(url("clips/deep/c.mp4"))
    store.put_object(Bucket=BUCKET, Key="clips/deep/c.mp4", Body=bytes(data))  # as large, and perhaps the same second
    after = file_status(url("clips/deep/c.mp4"))
    assert (after.st_size, after.st_mtime_ns % 10**9) != (before.st_size, before.st_mtime_ns % 10**9)
    assert "1 selected, 2 done before, 0 failed" in tsq(*run).err
    assert len(lines.read_text().splitlines()) == 3


MISSING = {
    "an object": ("s3://films/none.mp4", 2, "s3://films/none.mp4 does not exist; wanted an existing object"),
    "a bucket": ("s3://no-such-bucket/a.mp4", 2, "does not exist: there is no bucket no-such-bucket"),
    "a bucket of a prefix": ("s3://no-such-bucket/", 2, "does not exist"),
    "a glob": ("s3://films/*.none", 2, "matches no object"),
    "a video in a prefix": ("s3://films/texts/", 2, "has 1 objects and none with a video's suffix"),
    "a bucket's name": ("s3:///a.mp4", 2, "names no bucket or host"),
    "a scheme": (
        "ftp://host/a.mp4",
        2,
        "is a URL that tsq does not read; wanted a path, or a URL that begins with s3://",
    ),
    "leave": ("https://127.0.0.1/a.mp4", 2, "is on a web server; wanted leave"),
    "discretion": ("https://me:secret@127.0.0.1/a.mp4", 2, "has a name or a password in it"),
}


@pytest.mark.parametrize("what", MISSING)
def test_what_is_missing_is_said_in_one_line_before_anything_is_read(tsq: Tsq, store: Any, what: str) -> None:
    named, code, message = MISSING[what]
    more = ["--allow-url"] if what == "discretion" else []
    result = tsq("select", named, *EVEN, *more)
    assert result.code == code
    assert message in result.err
    assert len(result.err.splitlines()) == 1
    assert "secret" not in result.err


def test_in_a_list_a_missing_object_fails_alone(tsq: Tsq, store: Any, tmp_path: Path) -> None:
    listed = tmp_path / "list.txt"
    listed.write_text(f"{url('none.mp4')}\n{url('clips')}\n{url('clips/b.mp4')}\n")
    result = tsq("select", "--files-from", listed, *EVEN, "--json")
    records = json.loads(result.out)
    assert (result.code, [record["status"] for record in records]) == (1, ["error", "error", "ok"])
    assert [record["error"] and record["error"]["type"] for record in records] == [
        "InputNotFoundError", "NotAVideoError", None,
    ]  # fmt: skip
    for record in records:
        SCHEMA.validate(record)


def test_without_credentials_the_message_says_how_to_give_them(
    tsq: Tsq, store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    new_file_systems()
    result = tsq("select", url("clips/b.mp4"), *EVEN)
    new_file_systems()
    assert result.code == 1
    assert "there are no credentials for s3://films/clips/b.mp4" in result.err
    assert "set AWS_PROFILE" in result.err


def test_without_the_extra_the_message_names_it(tsq: Tsq, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, library in (("s3://films/a.mp4", "s3fs"), ("gs://films/a.mp4", "gcsfs"), ("az://films/a.mp4", "adlfs")):
        monkeypatch.setitem(sys.modules, library, None)
        result = tsq("select", name, *EVEN)
        assert result.code == 2
        assert f"{name} needs {library}, which is not installed" in result.err
        assert ".[cloud]" in result.err


def test_a_web_server_is_read_with_leave(tsq: Tsq, tmp_path: Path) -> None:
    shutil.copy(DEMO, tmp_path / "a.mp4")
    with web(tmp_path) as server:
        result = tsq("select", f"{server}/good/a.mp4?token=1", *EVEN, "--allow-url", "--json")
        assert (result.code, json.loads(result.out)["video"]["bytes_read"]) == (0, DEMO.stat().st_size)
        for how, code, message in (
            ("good/none.mp4", 2, "does not exist"),
            ("refuses/a.mp4", 1, "may not be read (status 403)"),
            ("whole/a.mp4", 1, "gives whole files only, no parts of them"),
        ):
            result = tsq("select", f"{server}/{how}", *EVEN, "--allow-url")
            assert (result.code, message in result.err) == (code, True), result.err
        result = tsq("select", "http://127.0.0.1:9/a.mp4", *EVEN, "--allow-url")
        assert result.code == 1
        assert "cannot be read (ClientConnector" in result.err


def test_pictures_go_into_the_store_and_are_missed_there(tsq: Tsq, store: Any, tmp_path: Path) -> None:
    lines = tmp_path / "out.jsonl"
    run = ("select", DEMO, url("clips/b.mp4"), *EVEN, "--jsonl", lines, "-o", url("out/"))
    result = tsq(*run)
    assert result.code == 0
    assert "frames s3://films/out: 2 saved" in result.out
    records = [json.loads(line) for line in lines.read_text().splitlines()]
    named = [frame["path"] for record in records for frame in record["frames"]]
    found = [entry["Key"] for entry in store.list_objects_v2(Bucket=BUCKET, Prefix="out/")["Contents"]]
    assert sorted(named) == sorted(map(url, found))  # and no trial is left
    assert len({*named}) == 4, "pictures of two videos have one name"
    tsq("select", DEMO, *EVEN, "-o", tmp_path / "own")
    own = sorted(path for path in (tmp_path / "own").iterdir())
    for picture, path in zip(named[:2], own, strict=True):
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(body(store, picture)))), np.asarray(Image.open(path)))
    assert "0 selected, 2 done before" in tsq(*run).err
    store.delete_object(Bucket=BUCKET, Key=found[0])
    assert "1 selected, 1 done before" in tsq(*run).err
    assert len(store.list_objects_v2(Bucket=BUCKET, Prefix="out/")["Contents"]) == 4


@pytest.mark.parametrize(
    ("place", "code", "message"),
    [
        ("s3://no-such-bucket/out", 1, "cannot write s3://no-such-bucket/out/"),
        ("https://127.0.0.1/out", 2, "is on a web server; wanted a folder, or s3://"),
        ("ftp://127.0.0.1/out", 2, "is a URL that tsq does not read"),
    ],
)
def test_a_place_that_takes_no_pictures_is_refused_before_anything_is_read(
    tsq: Tsq, store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, code: int, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = tsq("select", DEMO, *EVEN, "-o", place)
    assert (result.code, message in result.err) == (code, True), result.err
    assert (result.out, list(tmp_path.iterdir())) == ("", [])
    assert tsq("select", DEMO, *EVEN, "-o", place, "--export", "openai").code == code


@pytest.mark.parametrize("option", ["--jsonl", "--parquet"])
def test_what_is_added_to_stays_on_this_machine(
    tsq: Tsq, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = tsq("select", DEMO, *EVEN, option, "s3://films/out")
    assert result.code == 2
    assert "is a URL; wanted a path on this machine" in result.err
    assert list(tmp_path.iterdir()) == []


def body(store: Any, name: str) -> bytes:
    return store.get_object(Bucket=BUCKET, Key=name.removeprefix(url("")))["Body"].read()  # type: ignore[no-any-return]


def test_every_picture_export_and_page_goes_into_the_store(tsq: Tsq, store: Any, tmp_path: Path) -> None:
    own = tmp_path / "own"
    shared = ("--recognizer", "embedded", "-k", "2", "--export", "webvtt", "--json")
    tsq("classify", DEMO, *shared, "-o", own, "--maps", own, "--sheet", own / "sheet.png",
        "--csv", own / "rows.csv", "--html", own / "page.html")  # fmt: skip
    far = ("-o", url("all/frames"), "--maps", url("all/maps/"), "--sheet", url("all/sheet.png"),
           "--csv", url("all/rows.csv"), "--html", url("all/page.html"))  # fmt: skip
    result = tsq("classify", DEMO, *shared, *far)
    assert result.code == 0
    assert f"page: {url('all/page.html')}" in result.err
    record = json.loads(result.out)
    SCHEMA.validate(record)
    named = [frame[key] for frame in record["frames"] for key in ("path", "map")]
    named += [record["sheet"], *record["exports"].values(), url("all/rows.csv"), url("all/page.html")]
    found = {url(entry["Key"]) for entry in store.list_objects_v2(Bucket=BUCKET, Prefix="all/")["Contents"]}
    assert found == {*named}
    assert len(found) == 2 * 2 + 1 + 1 + 2

    pictures = {path.name: path for path in own.iterdir() if path.suffix in (".png", ".jpg")}
    for name in [*(frame[key] for frame in record["frames"] for key in ("path", "map")), record["sheet"]]:
        video = Path(name).name.partition("demo-")[2].partition("-")[0]  # names in a store have the video's id
        path = pictures[Path(name).name.replace(f"demo-{video}-", "demo-")]
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(body(store, name)))), np.asarray(Image.open(path)))
    (captions,) = record["exports"].values()
    assert body(store, captions).startswith(b"WEBVTT")
    rows = list(csv.DictReader(io.StringIO(body(store, url("all/rows.csv")).decode())))
    assert [row["file"] for row in rows] == [frame["path"] for frame in record["frames"]]
    page = body(store, url("all/page.html")).decode()
    assert f'href="file://{DEMO}' in page  # from a store no relative path leads to it
    assert "maps   s3://films/all/maps: 2 saved" in tsq("classify", DEMO, *shared[:4], "--maps", url("all/maps/")).out

    again = tsq("classify", DEMO, *shared, *far)
    assert (again.code, again.out) == (2, "")
    assert "sheet.png exists, and a store does not say whose it is" in again.err
    assert tsq("classify", DEMO, *shared, *far, "--overwrite").code == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--csv", "s3://films/clips/b.mp4"], "--csv s3://films/clips/b.mp4 names a video"),
        (["--csv", "s3://films/new.mov"], "names a video"),
        (["--html", "s3://films/page/"], "--html s3://films/page/ ends in /"),
        (["--csv", "s3://films/x", "--html", "s3://films/x"], "--csv and --html have a URL in common"),
    ],
)
def test_what_would_replace_a_video_or_another_output_is_refused(
    tsq: Tsq, store: Any, options: list[str], said: str
) -> None:
    before = store.head_object(Bucket=BUCKET, Key="clips/b.mp4")["ETag"]
    result = tsq("select", DEMO, *EVEN, *options)
    assert (result.code, said in result.err) == (2, True), result.err
    assert store.head_object(Bucket=BUCKET, Key="clips/b.mp4")["ETag"] == before


def test_what_a_store_does_not_take_at_the_end_stays_on_this_machine(
    tsq: Tsq, store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(url: str, data: bytes) -> None:
        raise OutputError(f"cannot write {url}", wanted="room", fix="wait")

    monkeypatch.setattr("tsq_cli.cli.staging.put", refuse)
    result = tsq("select", DEMO, *EVEN, "--csv", url("rows.csv"))
    assert result.code == 1
    kept = Path(result.err.rpartition("copy it from ")[2].strip())
    assert str(DEMO) in kept.read_text()
    shutil.rmtree(kept.parent)


def test_several_sheets_in_a_store_have_a_name_each(tsq: Tsq, store: Any) -> None:
    result = tsq("select", DEMO, url("clips/b.mp4"), *EVEN, "--sheet", url("sheets/a.png"), "--json")
    sheets = [record["sheet"] for record in json.loads(result.out)]
    found = store.list_objects_v2(Bucket=BUCKET, Prefix="sheets/")["Contents"]
    assert sorted(sheets) == sorted(url(entry["Key"]) for entry in found)
    assert Path(sheets[0]).name.startswith("a-demo-")
    assert Path(sheets[1]).name.startswith("a-b-")


def test_an_interrupted_run_puts_the_rows_it_has_into_the_store(
    tsq: Tsq, store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*arguments: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("tsq_cli.cli.output.print_table", stop)
    result = tsq("select", DEMO, url("clips/b.mp4"), *EVEN, "--csv", url("part/rows.csv"))
    assert result.code == 130
    rows = list(csv.DictReader(io.StringIO(body(store, url("part/rows.csv")).decode())))
    assert {row["path"] for row in rows} == {str(DEMO)}


def test_the_library_reads_stores_and_asks_leave_for_web_servers(store: Any, tmp_path: Path) -> None:
    shutil.copy(DEMO, tmp_path / "a.mp4")
    settings = SelectSettings(selector="uniform", num_candidates=4, num_frames=2)
    model = load(device="cpu")
    result = model.select(url("clips/b.mp4"), settings=settings)
    own = model.select(DEMO, settings=settings)
    assert [frame.time_seconds for frame in result.frames] == [frame.time_seconds for frame in own.frames]
    assert np.array_equal(np.asarray(result.frames[0].image), np.asarray(own.frames[0].image))
    assert 'href="s3:' not in (page := result.to_html())
    assert "b.mp4" in page
    with web(tmp_path) as server:
        with pytest.raises(UsageError, match="is on a web server"):
            model.select(f"{server}/good/a.mp4", settings=settings)
        (found,) = load(device="cpu", allow_url=True).select_many([f"{server}/good/a.mp4"], settings=settings)
        assert found.record.bytes_read == DEMO.stat().st_size


def test_links_lead_to_web_servers_and_not_into_stores() -> None:
    assert video_link("s3://films/a.mp4", None) is None
    link = video_link('https://example.org/a b"<.mp4?x=1&y=%20#part', Path("page.html"))
    assert link == "https://example.org/a%20b%22%3C.mp4?x=1&amp;y=%20"  # HTML's escape of the one "&"


def test_times_and_tags_of_every_store_become_one_number() -> None:
    second = 1_700_000_000
    texts = ("2023-11-14T22:13:20Z", "2023-11-14T22:13:20.000000+00:00", "Tue, 14 Nov 2023 22:13:20 GMT")
    assert {stores._modified_ns({"updated": text}) for text in texts} == {second * 10**9}
    one, two = (stores._modified_ns({"mtime": texts[0], "ETag": tag}) for tag in ('"a"', "b"))
    assert one != two
    assert one // 10**9 == two // 10**9 == second
    assert stores._modified_ns({}) == 0


def test_a_list_that_needs_leave_or_an_extra_is_refused_as_a_whole(
    tsq: Tsq, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = tmp_path / "list.txt"
    listed.write_text(f"{DEMO}\nhttps://127.0.0.1/a.mp4\n")
    result = tsq("select", "--files-from", listed, *EVEN)
    assert (result.code, "is on a web server" in result.err) == (2, True)
    monkeypatch.setitem(sys.modules, "s3fs", None)
    listed.write_text(f"{DEMO}\n{url('a.mp4')}\n")
    result = tsq("select", "--files-from", listed, *EVEN)
    assert (result.code, ".[cloud]" in result.err) == (2, True)
