"""benchmarks.footage: its measures by hand, its truth read back from decoded pixels of made material."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmarks import footage, footage_report, footage_rows, footage_sheets, footage_times, footage_videos
from benchmarks.footage_evidence import Observer
from benchmarks.footage_material import HALVES, PLACES, Half, Material, _clips, cropped, there_and_back
from benchmarks.footage_measures import (
    EVENT,
    Frames,
    Truth,
    balance,
    balanced_recall,
    coverage,
    difference_hashes,
    distinct,
    event_recall,
    hit_rate,
    interval,
    mean_cosine,
    measures,
    seen,
    ukss,
)
from benchmarks.footage_videos import Film, Piece, read_truth, write_film
from benchmarks.reference_decoder import write_clip
from tsq_cli.errors import InputNotFoundError
from tsq_cli.pipeline import Selector
from tsq_cli.types import UInt8Array
from tsq_cli.video import decode_frames, open_video
from tsq_cli.video.sample import displayed_at

CODEC_ERROR = 6  # levels that H.264 may move a plain color
UNIT = np.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]], dtype=np.float32)


def plain(color: tuple[int, int, int], size: tuple[int, int] = (64, 48)) -> UInt8Array:
    return np.full((size[1], size[0], 3), color, dtype=np.uint8)


def color_of(number: int) -> tuple[int, int, int]:
    """64 colors, 60 levels apart."""
    return 40 + 60 * (number % 4), 40 + 60 * (number // 4 % 4), 40 + 60 * (number // 16)


def color_of_place(place: str) -> tuple[int, int, int]:
    return color_of(sorted(PLACES).index(place))


@pytest.fixture(autouse=True, scope="module")
def _fast_encoder() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(footage_videos.ENCODING, "preset", "ultrafast")
        yield


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    """Every place's clips in one plain color, half a second long; photographs of stripes."""
    folder = tmp_path_factory.mktemp("material")
    for place, text in PLACES.items():
        first, *others = (folder / path for path in _clips(text))
        for path in (first, *others):
            path.parent.mkdir(parents=True, exist_ok=True)
        encoder = {"encoder": "mpeg4"} if first.suffix == ".avi" else {}
        write_clip(first, (plain(color_of_place(place)) for _ in range(13)), fps=25, **encoder)  # type: ignore[arg-type]
        for other in others:
            shutil.copy(first, other)
    photos = folder / "photos" / "imagenet200"
    photos.mkdir(parents=True)
    for i in range(60):
        stripes = np.random.default_rng(i).integers(0, 256, (1, 12, 3), dtype=np.uint8).repeat(8, axis=0)
        Image.fromarray(stripes).resize((120, 80), Image.Resampling.NEAREST).save(photos / f"{i:03d}_n{i:08d}_x.jpg")
    return Material(folder)


def pictures_at(path: Path, seconds: list[float]) -> UInt8Array:
    with closing(open_video(path)) as source:
        return decode_frames(source, displayed_at(source.pts_seconds, np.array(seconds))).pixels


def truth(
    *pieces: tuple[float, str] | tuple[float, str, str], class_index: int | None = None, end: float | None = None
) -> Truth:
    """Pieces by the second at which they end."""
    ends = np.array([piece[0] for piece in pieces])
    return Truth(
        starts=np.array([0.0, *ends[:-1]]),
        ends=ends,
        shows=[piece[1] for piece in pieces],
        states=[piece[2] if len(piece) == 3 else "sharp" for piece in pieces],
        duration_seconds=end or float(ends[-1]),
        class_index=class_index,
    )


def frames(times: list[float], features: Any = UNIT, **more: Any) -> Frames:
    count = len(times)
    given = {"hashes": np.zeros(count, dtype=np.uint64), "quality": np.ones(count), **more}
    return Frames(times=np.array(times), features=np.asarray(features, dtype=np.float32)[:count], **given)


def test_a_clip_is_played_there_and_back() -> None:
    assert there_and_back(4, 2, 9).tolist() == [2, 3, 2, 1, 0, 1, 2, 3, 2]
    assert there_and_back(1, 0, 3).tolist() == [0, 0, 0]


def test_places_name_their_files() -> None:
    assert _clips("fi009-fi011 nofi004 clips/abseiling.mp4") == [
        "fights/fight/fi009.mp4",
        "fights/fight/fi010.mp4",
        "fights/fight/fi011.mp4",
        "fights/noFight/nofi004.mp4",
        "clips/abseiling.mp4",
    ]
    listed = [path for text in PLACES.values() for path in _clips(text)]
    assert len(listed) == len(set(listed))
    assert sum("fights" in path for path in listed) == 100


def test_the_halves_share_nothing(material: Material) -> None:
    places, clips, photos = (
        [take(half) for half in HALVES] for take in (material.places, material.single_clips, material.photos)
    )
    for tuning, test in (places, clips, photos):
        assert not set(tuning) & set(test)
    assert set(places[0]) | set(places[1]) == set(PLACES)
    assert abs(len(places[0]) - len(places[1])) <= 1
    for half_places, half_clips in zip(places, clips, strict=True):
        assert {path for paths in half_places.values() for path in paths} == set(half_clips)


def test_a_picture_of_any_size_is_cropped_to_its_middle() -> None:
    for width, height in ((200, 113), (341, 256), (256, 384), (426, 240), (333, 77), (116, 93)):
        left_to_right = Image.fromarray(np.tile(np.linspace(0, 250, width, dtype=np.uint8), (height, 1)))
        for size in ((200, 150), (426, 240), (426, 320)):
            found = np.asarray(cropped(left_to_right, size))
            assert found.shape == (size[1], size[0])
            assert found.mean() == pytest.approx(125, abs=2)


def test_material_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputNotFoundError, match=r"holds no .*\.(mp4|avi)"):
        Material(tmp_path).places("test")
    with pytest.raises(InputNotFoundError, match="0 photographs"):
        Material(tmp_path).photos("test")
    assert footage.main(["compose", "--material", str(tmp_path), "--videos", str(tmp_path)]) == 2
    assert footage.main(["report", "--videos", str(tmp_path)]) == 2


@pytest.mark.parametrize("kind", ["shots", "dissolves"])
def test_shots_are_where_the_truth_says(material: Material, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "film.mp4"
    plan = footage.KINDS[kind][1]
    write_film(path, plan(material, "test", np.random.default_rng(1), 0), {"half": "test"})
    written = read_truth(path)
    shots = written["shots"]
    places = [shot["shows"] for shot in shots]
    assert len(set(places)) == 6
    assert set(places) <= set(material.places("test"))
    lengths = np.array([shot["end_seconds"] - shot["start_seconds"] for shot in shots])
    shares = 16 * lengths / lengths.sum()
    assert sorted(shares.round(1).tolist()) == pytest.approx([1, 1, 1, 2, 2, 9], abs=0.3)
    assert 16 <= lengths.sum() <= 40.5
    # Hard cuts: a picture's length to either side. Dissolves: the quarter of a second that it lasts to either side.
    margin = 0.06 if kind == "shots" else 0.3
    for edge in ("start", "end"):
        seconds = [shot[f"{edge}_seconds"] + (margin if edge == "start" else -margin) for shot in shots]
        for picture, place in zip(pictures_at(path, seconds), places, strict=True):
            assert np.abs(picture.mean((0, 1)) - color_of_place(place)).max() < CODEC_ERROR, (place, edge)


def test_a_dissolve_mixes_its_two_shots_half_and_half_in_the_middle(tmp_path: Path) -> None:
    def of(color: tuple[int, int, int]) -> Piece:
        def pictures() -> Iterator[UInt8Array]:
            return (plain(color) for _ in range(25))

        return Piece(str(color), "drawn", 25, pictures)

    film = Film([of((40, 40, 40)), of((240, 240, 240))], dissolve=11)
    drawn = [float(picture.mean()) for picture in film.pictures()]
    assert len(drawn) == 25 + 25 - 11
    assert drawn[:14] == [40.0] * 14
    assert drawn[25:] == [240.0] * 14
    assert drawn[14 + 5] == 140.0
    assert np.all(np.diff(drawn[13:26]) > 0)
    first, second = film.truth()["shots"]
    assert first["end_seconds"] == second["start_seconds"] == pytest.approx((14 + 5.5) / 25)
    assert second["end_seconds"] == pytest.approx(39 / 25)


def test_turns_show_four_places_eight_times(material: Material) -> None:
    film = footage_videos.turns(material, "tuning", np.random.default_rng(0), 0)
    names = [piece.shows for piece in film.pieces]
    assert names == names[:4] * 8
    assert len(set(names)) == 4
    assert all(25 <= piece.count <= 50 for piece in film.pieces)


def test_one_source_shows_clips_of_one_place(material: Material) -> None:
    for number in range(8):
        film = footage_videos.one_source(material, "test", np.random.default_rng(number), number)
        names = [piece.source for piece in film.pieces]
        assert 4 <= len(names) == len(set(names)) <= 6
        (place,) = {place for place, paths in material.places("test").items() if set(names) <= set(paths)}
        assert film.facts["place"] == place


def test_what_is_blurred_or_blank_is_so_in_the_pictures(material: Material, monkeypatch: pytest.MonkeyPatch) -> None:
    checks = np.indices((48, 64)).sum(0)[..., None].repeat(3, -1) // 2 % 2 * 100 + 60
    monkeypatch.setattr(Material, "frames", lambda *_args, **_more: np.stack([checks.astype(np.uint8)] * 4))
    film = footage_videos.blurred(material, "test", np.random.default_rng(3), 0)
    assert sum(piece.count for piece in film.pieces) == pytest.approx(40 * 25, abs=10)
    assert sum(piece.count for piece in film.pieces if piece.state == "sharp") == pytest.approx(5 * 1.5 * 25, abs=5)
    for piece in film.pieces:
        picture = next(iter(piece.pictures()))
        if piece.state == "blank":
            assert picture.min() == picture.max()
            assert picture.max() in (0, 255)
        else:
            assert picture.std() > 40 if piece.state == "sharp" else picture.std() < 20


def test_drawn_kinds_are_as_described(material: Material) -> None:
    talk = footage.KINDS["lectures"][1](material, "test", np.random.default_rng(0), 1)
    assert [piece.shows for piece in talk.pieces] == [f"slide {i}" for i in range(1, 13)]
    seconds = [piece.count / talk.fps for piece in talk.pieces]
    assert min(seconds) >= 7.9
    assert 300 <= sum(seconds) <= 602
    slides = [next(iter(piece.pictures())) for piece in talk.pieces]
    assert all(slide.mean() > 200 for slide in slides)
    assert len({slide.tobytes() for slide in slides}) == 12
    speaker = talk.facts["speaker"]
    place = next(place for place, paths in material.places("test").items() if speaker in paths)
    assert np.abs(slides[0][20:70, 510:620].mean((0, 1)) - color_of_place(place)).max() < CODEC_ERROR

    watch = footage.KINDS["long_event"][1](material, "test", np.random.default_rng(0), 1)
    assert [piece.shows == EVENT for piece in watch.pieces] == [False, True, False]
    assert sum(piece.count for piece in watch.pieces) == 600 * watch.fps
    assert len(list(watch.pieces[1].pictures())) == watch.pieces[1].count == 6 * watch.fps
    assert watch.options["sc_threshold"] == "0"

    wall = footage.KINDS["pans"][1](material, "test", np.random.default_rng(0), 0)
    assert len({piece.shows for piece in wall.pieces if piece.state == "sharp"}) == 6
    for piece in wall.pieces[:3]:
        assert len(list(piece.pictures())) == piece.count


def test_a_still_has_noise_in_every_second_film(material: Material) -> None:
    for number in range(2):
        first, *others = footage_videos.still(material, "test", np.random.default_rng(0), number).pieces[0].pictures()
        assert len(others) == 74
        changes = np.abs(others[-1].astype(int) - first)
        assert (changes.max() > 0) == (number == 1)
        assert changes.max() < 30


def test_finished_videos_are_kept(material: Material, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(footage, "KINDS", {"still": (1, footage_videos.still)})
    arguments = ["compose", "--material", str(material.folder), "--videos", str(tmp_path), "--kinds", "still"]
    assert footage.main(arguments) == 0
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*")}
    assert len(before) == 4
    assert footage.main(arguments) == 0
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*")} == before


def test_a_difference_hash_has_a_bit_where_it_gets_lighter() -> None:
    ramp = np.tile(np.linspace(0, 255, 90, dtype=np.uint8)[None, :, None], (80, 1, 3))
    half = ramp.copy()
    half[40:] = half[40:, ::-1]  # the lower four of eight rows get darker
    hashes = difference_hashes(np.stack([ramp, ramp[:, ::-1], half, np.full_like(ramp, 90)]))
    assert [int(value) for value in hashes] == [2**64 - 1, 0, (2**32 - 1) << 32, 0]


def test_frames_are_distinct_from_seven_bits_on() -> None:
    for values, expected in (
        ([0, 0b111111], 1),
        ([0, 0b1111111], 2),
        ([0, 0b1111111, 0b1111110], 2),  # 1 bit from the second
        ([0, 2**64 - 1, 0b1111111], 3),
    ):
        assert distinct(np.array(values, dtype=np.uint64)) == expected


def test_cosines_and_coverage() -> None:
    assert mean_cosine(UNIT) == pytest.approx((0.0 + 0.6 + 0.8) / 3)
    assert math.isnan(mean_cosine(UNIT[:1]))
    assert coverage(UNIT, UNIT[:1]) == pytest.approx((1.0 + 0.0 + 0.6) / 3)
    assert coverage(UNIT, UNIT[1:]) == pytest.approx((0.6 + 1.0 + 1.0) / 3)


def test_kfs_bench_by_hand() -> None:
    shown = truth((2, "a"), (3, "b"), (4, "c"))
    counts = seen(shown, np.array([0.0, 1.99, 2.0]))
    assert counts == {"a": 2, "b": 1, "c": 0}
    assert hit_rate(counts) == pytest.approx(2 / 3)
    # Lengths (2, 1, 1) fit (2, 1, 0) best to the power of 1: 5 / sqrt(5 * 6).
    assert balance(counts, shown.scenes) == pytest.approx(5 / math.sqrt(30))
    # (1, 1, 1) frames fit equal shares, to the power of 0.
    assert balance({"a": 1, "b": 1, "c": 1}, shown.scenes) == pytest.approx(1.0)
    assert balance({"a": 0, "b": 0, "c": 0}, shown.scenes) == 0.0
    # Of 3 frames each scene deserves 3 * min(its share, 1/3) = 1, 0.75 and 0.75: one each.
    assert balanced_recall(counts, shown.scenes) == pytest.approx(2 / 3)
    # Of 10, floor(3.33), floor(2.5), floor(2.5): the longest does not need five.
    assert balanced_recall({"a": 6, "b": 3, "c": 1}, shown.scenes) == pytest.approx(2 / 3)
    assert balanced_recall({"a": 4, "b": 4, "c": 2}, shown.scenes) == 1.0
    # A fourth frame shows nothing: 3 of 4 frames count.
    assert ukss(counts, shown.scenes, 4) == pytest.approx((3 / 4 * 2 / 3 * 5 / math.sqrt(30)) ** (1 / 3))


def test_blurred_and_blank_frames_show_nothing() -> None:
    shown = truth((1, "a"), (2, "a", "blurred"), (3, "b"), (4, "b", "blank"), (5, "c"))
    assert shown.scenes == {"a": 1.0, "b": 1.0, "c": 1.0}
    found = measures(frames([1.5, 2.5, 3.5]), UNIT, shown, 5)
    assert (found["shots"], found["shots_of"], found["blurred"], found["blank"]) == (1, 3, 1, 1)
    assert found["hit_rate"] == pytest.approx(1 / 3)
    assert found["span"] == pytest.approx(2 / 5)
    assert "event_found" not in found


def test_scenes_that_come_back_count_once() -> None:
    found = measures(frames([0.5, 2.5, 3.5]), UNIT, truth((1, "a"), (2, "b"), (3, "a"), (4, "b")), 5)
    assert (found["shots"], found["shots_of"]) == (2, 2)


def test_no_more_shots_count_than_frames_were_wanted() -> None:
    found = measures(frames([0.5, 1.5, 2.5]), UNIT, truth((1, "a"), (2, "b"), (3, "c")), 2)
    assert (found["shots"], found["shots_of"]) == (2, 2)


def test_of_an_unknown_video_only_pictures_are_measured() -> None:
    hashes = np.array([0, 2**64 - 1], dtype=np.uint64)
    given = frames([1.0, 2.0], quality=np.array([0.0, 0.3]), hashes=hashes)
    found = measures(given, UNIT, footage_rows.unknown(4.0), 5)
    assert set(found) == {"frames", "distinct", "mean_cosine", "coverage", "span", "blurred", "blank"}
    assert (found["blank"], found["distinct"]) == (1, 1)  # a blank frame is none of the distinct ones


def test_events_and_accuracy() -> None:
    shown = truth((1, EVENT), (2, "x"), (3, EVENT), (4, "y"), class_index=1)
    assert event_recall(shown, np.array([0.5, 0.6, 1.5, 3.5])) == 0.5
    assert event_recall(shown, np.array([2.5])) == 1.0  # one frame can show one of the two
    logits = np.array([[1.0, 3.0], [1.5, 0.0], [0.0, 0.1]], dtype=np.float32)
    found = measures(frames([0.5, 1.5, 3.5], recognized=logits), UNIT, shown, 3)
    assert (found["event_recall"], found["event_found"], found["accuracy"]) == (0.5, 1.0, 1.0)
    assert measures(frames([1.5], recognized=logits[1:2]), UNIT, shown, 3)["accuracy"] == 0.0


def test_the_interval_is_that_of_a_proportion() -> None:
    found = interval([0.0, 1.0] * 200 + [math.nan])
    assert found["videos"] == 400
    assert found["mean"] == 0.5
    assert found["high"] - found["low"] == pytest.approx(2 * 1.96 * 0.5 / 20, rel=0.15)


def test_the_middles_of_the_longest_scenes() -> None:
    scenes = [(0.0, 1.0), (1.0, 7.0), (7.0, 9.0), (9.0, 12.0)]
    assert footage_rows.middles(scenes, 2) == [4.0, 10.5]
    # Two more than there are scenes: at a quarter and at three quarters of the twelve seconds.
    assert footage_rows.middles(scenes, 6) == [0.5, 3.0, 4.0, 8.0, 9.0, 10.5]


def test_pyscenedetect_finds_hard_cuts(tmp_path: Path) -> None:
    pytest.importorskip("scenedetect")
    rng = np.random.default_rng(0)
    textures = rng.integers(0, 256, (3, 96, 128, 3), dtype=np.uint8)
    write_clip(tmp_path / "cuts.mp4", (textures[i // 50] for i in range(150)), fps=25)
    assert footage_rows.scene_times(tmp_path / "cuts.mp4", 3) == pytest.approx([1, 3, 5], abs=0.05)


def test_a_needles_truth_is_read() -> None:
    kinds = ["event", "other", "dark", "blurred"]
    shots = [{"start_seconds": i, "end_seconds": i + 1, "kind": kind} for i, kind in enumerate(kinds)]
    read = footage_rows.needle_truth({"shots": shots, "event": {"class_index": 7}})
    assert (read.shows[0], read.class_index, read.duration_seconds) == (EVENT, 7, 4)
    assert read.states == ["sharp", "sharp", "blank", "blurred"]
    assert len(set(read.shows)) == 4


@pytest.fixture(scope="module")
def observer() -> Observer:
    return Observer(Selector.load("imagenet-lite", device="cpu", dtype="float32", engine="torch"))


def test_every_row_of_a_video_is_measured_once(
    observer: Observer, material: Material, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(footage, "KINDS", {"turns": (1, footage_videos.turns)})
    assert (
        footage.main(["compose", "--material", str(material.folder), "--videos", str(tmp_path), "--kinds", "turns"])
        == 0
    )
    (video,) = footage_rows.composed(tmp_path, "test", "turns")
    rows = {found.row: found for found in footage_rows.measure(observer, video, [footage_rows.PRODUCT])}
    assert {"auto", "tsq", "uniform", "kcenter", footage_rows.PRODUCT} <= set(rows)
    record = observer.selector.select(video.path)
    assert list(rows[footage_rows.PRODUCT].times) == [frame.candidate.time_seconds for frame in record.frames]
    for found in rows.values():
        places = {video.truth.shows[video.truth.piece_at(seconds)] for seconds in found.times}
        if found.row != "random":
            assert found.values["shots"] == len(places)
    video.path.unlink()  # all that is needed again lies in the caches
    again = {found.row: found for found in footage_rows.measure(observer, video, [footage_rows.PRODUCT])}
    assert {row: found.times for row, found in again.items()} == {row: found.times for row, found in rows.items()}
    with pytest.raises(InputNotFoundError):
        footage_rows.measure(observer, video, [footage_rows.PRODUCT], afresh=True)


def measured_video(name: str, half: Half = "test", **shots: float) -> dict[str, Any]:
    rows = {
        row: {"times": [1.0], "values": {"shots": value, "distinct": 3, "shots_of": 5}} for row, value in shots.items()
    }
    return {"half": half, "kind": "shots", "path": name, "k": 5, "rows": rows}


def test_the_best_and_the_worst_are_found() -> None:
    videos = [measured_video(str(i), uniform=3, auto=3 + gain) for i, gain in enumerate((0, 2, -1, 1))]
    assert [video["path"] for video in footage_sheets.extremes(videos, "auto", "uniform", 1)] == ["1", "2"]
    assert len(footage_sheets.extremes(videos[:1], "auto", "uniform", 2)) == 1


def test_the_report_has_means_and_intervals() -> None:
    videos = [measured_video("a", auto=5, uniform=3), measured_video("b", auto=4, uniform=3)]
    videos[0]["rows"]["auto"]["values"]["mean_cosine"] = None
    results = footage_report.summarized(videos)
    assert results["test"]["shots"]["auto"]["shots"] == {"mean": 4.5, "low": 4.0, "high": 5.0, "videos": 2}
    assert "mean_cosine" not in results["test"]["shots"]["auto"]
    machine = {"python": "3.11", "versions": {"av": "18"}}
    gains = footage_report.gains(videos)
    (gain,) = gains["test"]["shots"]  # 5 - 3 and 4 - 3
    assert (gain["row"], gain["over"], gain["mean"], gain["low"], gain["high"]) == ("auto", "uniform", 1.5, 1.0, 2.0)
    text = footage_report.page({"machine": machine, "results": results, "gains": gains})
    assert "| shots (2) | shots shown | auto | uniform | 1.50 (1.00 to 2.00) |" in text
    assert "| | shots shown (of 5) | distinct |" in text
    assert "| auto | 4.50 (4.00-5.00) | 3.00 |" in text
    assert json.loads(json.dumps(results, allow_nan=False)) == results


def test_the_table_of_times_compares_medians() -> None:
    def timing(median: float) -> dict[str, float]:
        return {"median": median, "lower_quartile": median - 1, "upper_quartile": median + 1, "cpu_median": 2 * median}

    timed = [{"video": "000.mp4", "timings": {"tsq select": timing(2.0), "PySceneDetect": timing(5.0)}}]
    assert footage_times.table(timed)[-1] == (
        "| 000.mp4 | 2.00 (1.00-3.00) | 4.00 | 5.00 (4.00-6.00) | 10.00 | 2.50 | 2.50 |"
    )


def test_a_sheet_shows_the_chosen_frames(material: Material, tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    write_film(path, footage_videos.shots(material, "test", np.random.default_rng(1), 0), {})
    shots = read_truth(path)["shots"]
    times = [(shot["start_seconds"] + shot["end_seconds"]) / 2 for shot in shots]
    values = {"distinct": 6, "shots": 6}
    rows = {"uniform": {"times": times[:2], "values": values}, "auto": {"times": times, "values": values}}
    video = {"half": "test", "kind": "shots", "path": str(path), "rows": rows}
    drawn = np.asarray(footage_sheets.sheet(video, ["uniform", "auto"]))
    width = round(footage_sheets.TILE_HEIGHT * 426 / 240)
    top = footage_sheets.HEADING * 3 + footage_sheets.TILE_HEIGHT + footage_sheets.MARGIN
    for i, shot in enumerate(shots):
        left = footage_sheets.MARGIN + i * (width + footage_sheets.MARGIN)
        middle = drawn[top + 50 : top + 60, left + 80 : left + 100].mean((0, 1))
        assert np.abs(middle - color_of_place(shot["shows"])).max() < CODEC_ERROR
