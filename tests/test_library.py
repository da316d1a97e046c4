"""The Python library: whatever a video comes as, the same frames, true times and true pictures."""

from __future__ import annotations

import gc
import io
import json
import shutil
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast, get_type_hints

import jsonschema
import numpy as np
import pytest
import torch
from PIL import Image

import tsq_cli
from tests import consumer
from tests.test_film import drifting
from tests.video import pictures
from tests.video.clips import clip
from tsq_cli import Frame, Model, Result, Selector, SelectSettings, loading
from tsq_cli import result as result_module
from tsq_cli.errors import InputNotFoundError, NotAVideoError, UsageError, VideoError
from tsq_cli.library import SelectOptions, Video
from tsq_cli.types import UInt8Array
from tsq_cli.video import VideoSource, decode_frames, open_video

pytestmark = pytest.mark.usefixtures("demo_decoded_once", "text_encoder_loaded_once")

ROOT = Path(__file__).parents[1]
SCHEMA = jsonschema.Draft202012Validator(json.loads((ROOT / "docs" / "schema.json").read_text()))
NAME = "h264_b_frames"  # 60 frames of 160 x 120 at 25 per second
EVEN = SelectSettings(selector="uniform", num_candidates=16)
EVEN_INDICES = [5, 16, 31, 43, 54]
"""Five even ones of 16 candidates, at 1.6, 4.8, 8, 11.2 and 14.4, are numbers 1, 4, 8, 11 and 14; number i shows frame
3.75 (i + 0.5), rounded down."""


class Pipe:
    """A stream that can only be read on, and gives less than was asked for."""

    def __init__(self, data: bytes) -> None:
        self._rest = io.BytesIO(data)

    def read(self, size: int = -1) -> bytes:
        return self._rest.read(min(size, 1000))


@pytest.fixture(scope="module")
def model(selector: Selector) -> Model:
    return Model(selector, "embedded")


def numbers(result: Result) -> list[int]:
    """The numbers drawn in a result's pictures."""
    return [pictures.read(np.asarray(frame.image)) for frame in result.frames]


def drawn(count: int = 60) -> UInt8Array:
    return np.stack([pictures.draw(number, 160, 120) for number in range(count)])


KINDS: dict[str, Callable[[Path], Any]] = {
    "path": lambda path: path,
    "text": str,
    "bytes": lambda path: path.read_bytes(),
    "bytearray": lambda path: bytearray(path.read_bytes()),
    "memoryview": lambda path: memoryview(path.read_bytes()),
    "file object": lambda path: io.BytesIO(path.read_bytes()),
    "pipe": lambda path: Pipe(path.read_bytes()),
}


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        *((kind, NAME) for kind in KINDS),
        *(("bytes", name) for name in ("turned_90", "vfr_wild_gaps", "mpeg4_b_frames")),
        ("path", "h264_late_start"),
        ("path", "vfr_wild_gaps"),
        ("pipe", "live_webm"),
    ],
)
def test_the_same_frames_and_true_times_whatever_the_video_comes_as(model: Model, kind: str, name: str) -> None:
    known = clip(name)
    video: Video = KINDS[kind](known.path)
    result = model.select(video, settings=EVEN)
    del video
    assert len(result.frames) == min(5, len(result.record.candidates)) > 3
    for frame in result.frames:
        assert frame.time_seconds == pytest.approx(float(known.pts[frame.frame_index] - known.pts[0]), abs=1e-9)
        assert frame.image.size == (known.width, known.height)
    assert numbers(result) == [known.numbers[frame.frame_index] for frame in result.frames]
    pictures.assert_upright_and_true_colors(np.asarray(result.frames[0].image))
    if name == NAME:
        assert [frame.frame_index for frame in result.frames] == EVEN_INDICES
    named = kind in ("path", "text")
    assert result.path == str(known.path) if named else result.path.startswith("bytes-")
    SCHEMA.validate(json.loads(result.to_json()))


def test_a_networks_choice_is_the_same_too(model: Model) -> None:
    path = ROOT / "examples" / "demo.mp4"
    of_path, of_bytes = model.select(path), model.select(path.read_bytes())
    assert [frame.time_seconds for frame in of_path.frames] == [5.68, 7.28, 12.16, 17.04, 18.68]  # README's table
    assert [frame.selected for frame in of_path.frames] == [frame.selected for frame in of_bytes.frames]
    first, refill = (frame.selected.candidate for frame in of_path.frames[:2])
    assert of_path.frames[0].score == first.score_visual
    assert of_path.frames[1].score == refill.score_visual
    assert of_path.frames[0].why == "It looks like “Egyptian cat”: highest visual saliency of 16."
    (best,) = model.select(path, 1, selector="topk").frames
    visual, textual = best.selected.candidate.score_visual, best.selected.candidate.score_textual
    assert visual is not None
    assert textual is not None
    assert best.score == pytest.approx(visual / 2 + textual / 2)
    (best,) = model.select(path, 1, query="a cat").frames
    assert best.score == pytest.approx(0.99, abs=0.02)  # how well it matches, in the record's query too
    assert best.why.startswith("It shows what was asked")


def test_the_pictures_are_the_pixels_that_are_saved(model: Model, tmp_path: Path) -> None:
    path = shutil.copy(clip(NAME).path, tmp_path / "x.mp4")
    result = model.select(path, settings=EVEN)
    saved = result.save(tmp_path / "frames", image_format="png")
    assert [file.name for file in saved] == [f"x-0{i}-00000{40 * n:04d}.png" for i, n in enumerate(EVEN_INDICES, 1)]
    for frame, file in zip(result.frames, saved, strict=True):
        with Image.open(file) as picture:
            assert np.array_equal(np.asarray(picture), np.asarray(frame.image))
    assert [frame["path"] for frame in result.to_dict()["frames"]] == [str(file) for file in saved]
    other = shutil.copy(clip("mpeg4_b_frames").path, tmp_path / "x.avi")
    before = {file: file.read_bytes() for file in saved}
    model.select(other, settings=EVEN).save(tmp_path / "frames", image_format="png")
    assert {file: file.read_bytes() for file in saved} == before
    assert len(list((tmp_path / "frames").iterdir())) == 10


def test_all_pictures_come_of_one_pass_on_first_use(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    passes: list[int] = []

    def counted(source: Any, indices: Any, **options: Any) -> Any:
        passes.append(len(indices))
        return decode_frames(source, indices, **options)

    result = model.select(clip(NAME).path, settings=EVEN)
    monkeypatch.setattr("tsq_cli.pictures.decode_frames", counted)
    assert passes == []
    assert numbers(result) == EVEN_INDICES
    assert result.frames[1].image is result.frames[1].image
    assert passes == [5]
    source = result._decodable()._clip.source
    assert isinstance(source, VideoSource)
    assert source._idle == {False: [], True: []}, "a result holds no file open"


def test_a_file_that_is_gone_or_has_changed_is_an_error_and_no_other_picture(model: Model, tmp_path: Path) -> None:
    path = Path(shutil.copy(clip(NAME).path, tmp_path / "x.mp4"))
    changed, gone, seen = (model.select(path, settings=EVEN) for _ in range(3))
    first = seen.frames[0].image
    shutil.copy(clip("h264_single_gop").path, path)
    with pytest.raises(VideoError, match=r"x\.mp4 has changed since its frames were selected; wanted the same file"):
        changed.frames[0].image  # noqa: B018
    path.unlink()
    for use in (lambda: gone.frames[2].image, gone.sheet, gone.to_html, lambda: gone.save(tmp_path / "frames")):
        with pytest.raises(InputNotFoundError, match=r"x\.mp4 does not exist"):
            use()
    assert "<img" not in gone._repr_html_()
    assert "0:00.200" in gone._repr_html_()
    assert seen.frames[0].image is first


@pytest.mark.parametrize("kind", ["array", "tensor", "pictures"])
def test_frames_in_memory_are_chosen_by_their_times(model: Model, kind: str) -> None:
    array = drawn()
    frames: Any = {
        "array": array,
        "tensor": torch.from_numpy(array),
        "pictures": [Image.fromarray(picture) for picture in array],
    }[kind]
    result = model.select(frames, fps=25, settings=EVEN)
    assert [frame.frame_index for frame in result.frames] == numbers(result) == EVEN_INDICES
    assert [frame.time_seconds for frame in result.frames] == [index / 25 for index in EVEN_INDICES]
    assert np.array_equal(np.asarray(result.frames[0].image), array[EVEN_INDICES[0]])
    video = result.to_dict()["video"]
    assert (video["duration_seconds"], video["average_fps"], video["is_vfr"]) == (60 / 25, 25.0, False)
    SCHEMA.validate(json.loads(result.to_json()))

    # 30 frames in the first second, then one each second.
    times = [*(i / 30 for i in range(30)), *(float(i) for i in range(1, 31))]
    uneven = model.select(frames, times=[10.0 + time for time in times], settings=EVEN)
    assert [frame.time_seconds for frame in uneven.frames] == pytest.approx(
        [times[frame.frame_index] for frame in uneven.frames]
    )
    assert numbers(uneven) == [frame.frame_index for frame in uneven.frames]
    assert sum(frame.time_seconds >= 1.0 for frame in uneven.frames) >= 4
    video = uneven.to_dict()["video"]
    assert (video["is_vfr"], video["start_seconds"]) == (True, 10.0)
    assert any("first frame's time is 10 s" in note for note in uneven.record.notes)


def test_without_times_an_index_is_a_time_and_a_note_says_so(model: Model) -> None:
    result = model.select([Image.fromarray(picture) for picture in drawn(7)], 3, selector="uniform")
    assert [frame.time_seconds for frame in result.frames] == [float(number) for number in numbers(result)]
    assert "No times were given with the frames: frame i counts as the one at i seconds." in result.record.notes
    (only,) = model.select(drawn(1), fps=10).frames
    assert only.time_seconds == 0.0


def test_a_second_look_works_on_frames_in_memory(model: Model) -> None:
    piece = 30  # as in test_film: four photographs take turns, of which 16 even candidates meet two
    frames = np.stack([drifting(number // piece % 4, number % piece) for number in range(32 * piece)])
    result = model.select(frames, 4, fps=25, sharpest=True)
    assert {frame.frame_index // piece % 4 for frame in result.frames} == {0, 1, 2, 3}
    assert len(result.record.candidates) == 32


@pytest.mark.parametrize("name", ["turned_90", "ntsc_rate"])
def test_the_frames_of_a_file_have_the_scores_of_the_file(model: Model, name: str) -> None:
    with open_video(clip(name).path) as source:
        frames = decode_frames(source, np.arange(len(source.pts)), short_side=None).pixels
        times = source.pts_seconds
    of_file, of_frames = model.select(clip(name).path, 3), model.select(frames, 3, times=times)
    assert [frame.frame_index for frame in of_frames.frames] == [frame.frame_index for frame in of_file.frames]
    assert [frame.score for frame in of_frames.frames] == [frame.score for frame in of_file.frames]
    assert [frame.time_seconds for frame in of_frames.frames] == [frame.time_seconds for frame in of_file.frames]


def test_pictures_of_different_frames_have_different_names(model: Model, tmp_path: Path) -> None:
    first, second, again = (model.select(drawn()[start:], 2, fps=25, selector="uniform") for start in (0, 20, 0))
    assert first.path == again.path != second.path
    changed = drawn()
    changed[59] = 0
    assert model.select(changed, 2, fps=25, selector="uniform").path != first.path
    assert model.select(drawn(), 2, fps=24, selector="uniform").path != first.path
    files = [file for result in (first, second, again) for file in result.save(tmp_path)]
    assert len(set(files)) == 4


@pytest.mark.parametrize(
    ("video", "error", "message"),
    [
        (3, UsageError, "the video is of type int; wanted a path, bytes, a binary file object, an array"),
        (b"", NotAVideoError, "is empty (0 bytes)"),
        (b"no video", NotAVideoError, "is not a video that FFmpeg can read"),
        (b"#EXTM3U\n/etc/passwd\n", NotAVideoError, "is a playlist (HLS or M3U), which names other files"),
        (io.StringIO("text"), UsageError, "the file object gives str; wanted a file opened in binary mode"),
        (io.BytesIO(), NotAVideoError, "the file object has no bytes left to read"),
        ("none.mp4", InputNotFoundError, "none.mp4 does not exist"),
        ([], UsageError, "the list of images is empty"),
        (["a.mp4"], UsageError, "item 0 of the list is of type str; wanted PIL images"),
        ([Image.new("RGB", (4, 4)), Image.new("RGB", (4, 5))], UsageError, "image 1 is 4x5 and the first 4x4"),
        (np.zeros((2, 3, 4, 5), np.uint8), UsageError, "frames.transpose(0, 2, 3, 1)"),
        (np.zeros((2, 4, 5, 3)), UsageError, "the frames are float64 [2, 4, 5, 3]; wanted uint8 [T, H, W, 3]"),
        (np.zeros((4, 5, 3), np.uint8), UsageError, "stack frames of one size"),
        (np.zeros((0, 4, 5, 3), np.uint8), UsageError, "T at least 1"),
    ],
)
def test_what_is_no_video_is_refused_in_words(
    model: Model, video: Any, error: type[tsq_cli.TsqError], message: str
) -> None:
    with pytest.raises(error) as raised:
        model.select(video)
    assert message in str(raised.value)


def test_a_file_object_is_read_on_and_left_open_and_one_that_is_closed_is_refused(model: Model, tmp_path: Path) -> None:
    data = clip(NAME).path.read_bytes()
    for_both = io.BytesIO(b"header" + data)
    for_both.seek(6)
    assert numbers(model.select(for_both, settings=EVEN)) == EVEN_INDICES
    assert not for_both.closed
    for_both.close()
    with pytest.raises(NotAVideoError, match="the file object cannot be read"):
        model.select(for_both)
    with clip(NAME).path.open("rb") as file:
        assert model.select(file, settings=EVEN).path == str(clip(NAME).path)


def test_no_file_is_opened_by_the_name_of_a_file_object(model: Model, tmp_path: Path) -> None:
    """FFmpeg's image2 opens files by their names: here, a picture that the caller did not give."""
    secret = tmp_path / "000.png"
    Image.fromarray(pictures.draw(7, 160, 120)).save(secret)
    stream = io.BytesIO(b"not a picture")
    stream.name = str(secret)
    with pytest.raises(NotAVideoError, match="is not a video"):
        model.select(stream)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_frames": 0}, "num_frames is 0; wanted 1 to 1000000"),
        ({"num_frames": "5"}, "num_frames is '5'; wanted 1 to 1000000"),
        ({"num_frames": 2.5}, "num_frames is 2.5; wanted a whole number or 'auto'; the default is 5"),
        ({"num_frames": True}, "num_frames is True; wanted a whole number or 'auto'"),
        ({"numframes": 3}, "numframes is no option; wanted one of num_frames, num_candidates, "),
        ({"numframes": 3}, "did you mean num_frames?"),
        ({"start": 3}, "did you mean start_seconds?"),
        ({"zzz": 3}, "zzz is no option"),
        ({"order": "best"}, "order is 'best'; wanted one of time, score"),
        ({"end_seconds": "1:30"}, "end_seconds is '1:30'; wanted a number; the default is None"),
        ({"query": " "}, "the query is empty; wanted a few words"),
        ({"num_frames": 8, "num_candidates": 6}, "wanted at least as many candidates as frames"),
        ({"settings": EVEN, "seed": 3}, "settings were given beside seed; wanted one of the two"),
        ({"settings": EVEN, "num_frames": 3}, "settings were given beside num_frames"),
        ({"fps": 25}, "fps was given with a video file; wanted times with frames in memory only"),
    ],
)
def test_options_are_checked_before_the_video_is_opened(model: Model, options: Any, message: str) -> None:
    with pytest.raises(UsageError) as raised:
        model.select("none.mp4", **options)
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("times", "message"),
    [
        ({"fps": 0}, "fps is 0; wanted frames per second, 0.001 to 1,000,000"),
        ({"fps": float("nan")}, "fps is nan"),
        ({"fps": 25, "times": [0, 1, 2]}, "fps and times were both given"),
        ({"times": [0, 1]}, "times of shape [2] were given for 3 frames"),
        ({"times": [0, 2, 1]}, "wanted a rising number of seconds for each frame"),
        ({"times": [0, 1, float("inf")]}, "wanted a rising number of seconds for each frame"),
        ({"times": "soon"}, "wanted a rising number of seconds for each frame"),
    ],
)
def test_times_must_fit_the_frames(model: Model, times: Any, message: str) -> None:
    with pytest.raises(UsageError) as raised:
        model.select(drawn(3), **times)
    assert message in str(raised.value)


def test_the_number_of_candidates_is_the_command_lines(model: Model) -> None:
    frames = drawn()  # two minutes at one in 2 s: one candidate for each 4 s
    assert len(model.select(frames, fps=0.5).record.candidates) == 30
    assert len(model.select(frames, fps=0.5, selector="tsq").record.candidates) == 16
    assert len(model.select(frames, 20, fps=0.5, selector="tsq").record.candidates) == 20
    assert len(model.classify(frames, fps=0.5, maps=False).record.candidates) == 16


def test_every_setting_is_an_option() -> None:
    assert get_type_hints(SelectSettings) == {"num_frames": get_type_hints(SelectSettings)["num_frames"]} | (
        get_type_hints(SelectOptions)
    )


def test_many_videos_come_in_order_with_errors_as_values(model: Model, tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    good = clip(NAME).path
    videos: list[Any] = ["none.mp4", good, None, tmp_path / "empty.mp4", good.read_bytes(), drawn(), b"xx", 7]
    results = list(model.select_many(iter(videos), settings=EVEN, workers=3))
    assert [type(result.error).__name__ for result in results] == [
        "InputNotFoundError", "NoneType", "UsageError", "NotAVideoError", "NoneType", "NoneType", "NotAVideoError",
        "UsageError",
    ]  # fmt: skip
    assert [len(result.frames) for result in results] == [0, 5, 0, 0, 5, 5, 0, 0]
    assert [numbers(result) for result in results if result.frames] == [EVEN_INDICES] * 3
    assert [results[i].path for i in (0, 2, 3)] == ["none.mp4", "video 2", str(tmp_path / "empty.mp4")]
    assert len({result.record.settings_hash for result in results}) == 1
    for result in results:
        SCHEMA.validate(json.loads(result.to_json()))
        assert len(repr(result).splitlines()) == 1
    failed = results[3]
    assert failed.to_dict()["error"] == {"type": "NotAVideoError", "message": str(failed.error)}
    assert "is empty" in failed.to_html()
    assert "is empty" in failed._repr_html_()
    for use in (failed.sheet, lambda: failed.save(tmp_path)):
        with pytest.raises(NotAVideoError, match="is empty"):
            use()


def test_a_video_whose_scores_fail_is_a_value_too(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    process, calls = Selector.process_clips, iter(range(10))

    def sometimes(*arguments: Any, **options: Any) -> Any:
        if next(calls) == 1:
            raise RuntimeError("out of memory")
        return process(*arguments, **options)

    monkeypatch.setattr(Selector, "process_clips", sometimes)
    results = list(model.select_many([clip(NAME).path] * 3, settings=EVEN))
    assert [repr(result.error) for result in results] == ["None", "RuntimeError('out of memory')", "None"]
    assert "unexpected" in results[1].to_dict()["error"]["message"]


def test_wrong_options_of_many_videos_are_errors_of_the_call(model: Model) -> None:
    with pytest.raises(UsageError, match="workers is 0"):
        model.select_many([], workers=0)
    with pytest.raises(UsageError, match="num_frames is 0"):
        model.select_many([], 0)


def test_memory_stays_flat_over_fifty_videos(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    alive: set[int] = set()
    load = loading.load_clip

    def watched(*arguments: Any, **options: Any) -> Any:
        loaded = load(*arguments, **options)
        key = id(loaded.batch.pixels)
        alive.add(key)
        weakref.finalize(loaded.batch.pixels, alive.discard, key)
        return loaded

    taken = 0

    def videos() -> Iterator[bytes]:
        nonlocal taken
        for _ in range(50):
            taken += 1
            yield data

    data = clip(NAME).path.read_bytes()
    monkeypatch.setattr(loading, "load_clip", watched)
    gc.disable()  # nothing may wait for it
    try:
        most, kept = 0, []
        for done, result in enumerate(model.select_many(videos(), settings=EVEN), start=1):
            kept.append(result)
            most = max(most, len(alive))
            assert taken <= done + 2
    finally:
        gc.enable()
    assert len(kept) == 50
    assert most <= 3  # two ahead, and the one at hand: a result lets go of its candidates
    assert numbers(kept[0]) == EVEN_INDICES


def test_leaving_the_loop_stops_decoding(model: Model) -> None:
    results = model.select_many([clip(NAME).path] * 20, settings=EVEN)
    next(results)
    cast("Any", results).close()
    with pytest.raises(StopIteration):
        next(results)


def test_sheet_page_and_notebook_show_the_frames(model: Model) -> None:
    result = model.select(clip(NAME).path, 3)
    assert result.sheet().size == result_module.draw_sheet(result.record, result._decodable().small()).size
    page = result.to_html()
    assert page.startswith("<!doctype html>") or page.startswith("<!DOCTYPE html>")
    shown = result._repr_html_()
    assert shown.count('<img src="data:image/webp;base64,') == 3
    assert all(f"<b>0:0{frame.time_seconds:.3f}</b>" in shown for frame in result.frames)
    assert len(shown) < 60_000
    assert repr(result).startswith(f"<Result {clip(NAME).path}: 3 of ")
    assert len(repr(result)) < 300
    assert "<Frame 0:0" in repr(result.frames[0])


def test_a_hostile_name_is_only_text_in_a_notebook(model: Model, tmp_path: Path) -> None:
    path = shutil.copy(clip(NAME).path, tmp_path / "<img onerror=x>\x1b[31m.mp4")
    result = model.select(path, 2, selector="uniform")
    assert "<img onerror" not in result._repr_html_()
    assert "&lt;img onerror" in result._repr_html_()
    assert "\x1b" not in result._repr_html_() + repr(result)


def test_classify_loads_its_recognizer_once_and_chooses_as_the_paper(model: Model) -> None:
    path = ROOT / "examples" / "demo.mp4"
    result = model.classify(path, num_predictions=2, maps=False)
    assert [frame.time_seconds for frame in result.frames] == [5.68, 12.16, 18.68, 20.28, 21.92]
    assert result.record.selector == "tsq"
    assert result.predictions is not None
    assert result.predictions[0].label == "Egyptian cat"
    assert len(result.predictions) == len(result.frames[0].predictions or ()) == 2
    assert result.maps is None
    recognizer = model.recognizer()
    other = model.classify(path, maps=False, pooling="best-two", evidence=0.5)
    assert other.record.recognizer is not None
    assert (other.record.recognizer.pooling, other.record.recognizer.evidence_visual) == ("best-two", 0.5)
    for asked, words in (
        ({"pooling": "max"}, "the pooling is 'max'"),
        ({"evidence": "much"}, "evidence is 'much'"),
        ({"evidence": -1}, "evidence is -1"),
        ({"early_exit": True, "pooling": "logits"}, "an early exit was asked for with another pooling"),
    ):
        with pytest.raises(UsageError, match=words):
            model.classify("gone.mp4", **asked)  # type: ignore[arg-type]
    mapped = model.classify(clip(NAME).path, 20)
    assert model.recognizer() is recognizer
    assert mapped.maps is not None
    assert len(mapped.frames) == len(mapped.maps.values) == 20  # the candidates follow K, as in `tsq classify -k 20`
    assert "data:image/png" in mapped.to_html()


def test_a_typed_program_runs(model: Model) -> None:
    said = consumer.look_at(model, clip(NAME).path)
    assert len(said) == 8
    assert said[-1].startswith("order is 'best'")
    assert (Path(tsq_cli.__file__).parent / "py.typed").is_file()


def test_a_frame_hides_its_machinery() -> None:
    assert [name for name in vars(Frame) if not name.startswith("_")] == [
        "time_seconds", "frame_index", "predictions", "image",
    ]  # fmt: skip


def test_uploads_of_one_name_and_size_keep_their_own_pictures(model: Model, tmp_path: Path) -> None:
    first = clip("two_frames").path.read_bytes()
    second = first[:-1] + bytes([first[-1] ^ 1])
    files = []
    for content in (first, second):
        upload = io.BytesIO(content)
        upload.name = "upload.mp4"
        result = model.select(upload, num_frames=1)
        files.append(result.save(tmp_path)[0])
        assert result.frames[0].selected.path == str(files[-1])
    assert files[0] != files[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"query": b"dog"}, "a query is of type bytes"),
        ({"query": [1]}, "a query is of type int"),
        ({"query": "\udcff dog"}, "has bytes that are no text"),
        ({"settings": {"num_frames": 2}}, "settings are of type dict; wanted SelectSettings"),
    ],
)
def test_what_is_no_text_and_no_settings_is_refused(model: Model, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as raised:
        model.select(drawn(3), fps=1, **options)
    assert message in str(raised.value)
