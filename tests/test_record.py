"""The record: what it says of the file, the frames and the run, in the shape of docs/schema.json."""

import json
import os
from fractions import Fraction
from pathlib import Path
from typing import Any, get_args

import jsonschema
import numpy as np
import pytest
import torch

from tests.report import page_material
from tests.test_pipeline import write_clip
from tests.video.clips import clip
from tests.video.encoding import Recipe, encode
from tsq_cli import Classifier, Selector, SelectSettings, selection
from tsq_cli.config import SelectorName
from tsq_cli.models import FrameSaliency
from tsq_cli.record import Record
from tsq_cli.scoring import ClipScores, categories
from tsq_cli.types import ChosenBy

ROOT = Path(__file__).parents[1]
ONE = torch.zeros((1, 1), dtype=torch.int64)
SCHEMA = jsonschema.Draft202012Validator(json.loads((ROOT / "docs" / "schema.json").read_text()))


def valid(record: Record) -> dict[str, Any]:
    """The record as it is written, after its journey through JSON."""
    written: dict[str, Any] = json.loads(json.dumps(record.to_dict()))
    SCHEMA.validate(written)
    return written


def test_the_version_of_the_schema_is_the_record_s() -> None:
    assert valid(page_material.record())["schema_version"] == 4


def test_the_schema_knows_every_way_to_choose_and_to_be_chosen() -> None:
    assert SCHEMA.schema["$defs"]["selector"]["enum"] == list(get_args(SelectorName))
    frame = SCHEMA.schema["properties"]["frames"]["items"]["properties"]
    assert frame["chosen_by"]["enum"] == list(get_args(ChosenBy))


def test_every_field_of_a_record_is_described() -> None:
    fields = {**SCHEMA.schema["properties"], **SCHEMA.schema["properties"]["candidates"]["items"]["properties"]}
    new = {name: fields[name] for name in ("selector", "rule", "rule_reason", "requested_k", "quality", "event",
                                           "duplicate_of")}  # fmt: skip
    for field in new.values():
        described = field if "description" in field else SCHEMA.schema["$defs"][field["$ref"].rsplit("/", 1)[1]]
        assert len(described["description"]) > 40


def test_a_record_of_auto_says_what_it_followed_and_what_shows_the_same(selector: Selector, tmp_path: Path) -> None:
    coarse = np.kron(np.random.default_rng(0).integers(0, 256, (6, 8, 3)), np.ones((16, 16, 1))).astype(np.uint8)
    still = write_clip(tmp_path / "still.mp4", lambda _: coarse)
    record = valid(selector.select(still, SelectSettings(num_frames="auto", num_candidates=4)))
    assert (record["selector"], record["rule"], record["requested_k"]) == ("auto", "cover", "auto")
    assert record["rule_reason"].startswith("nothing stands out: ")
    (frame,) = record["frames"]
    same = [candidate["duplicate_of"] for candidate in record["candidates"]]
    assert same == [None if position == frame["position"] else frame["position"] for position in range(4)]
    assert [candidate["event"] for candidate in record["candidates"]] == [0] * 4


def test_who_looks_at_nothing_knows_no_event() -> None:
    record = valid(Selector.without_model().select(clip("h264_b_frames").path, SelectSettings(selector="uniform")))
    assert (record["selector"], record["rule"], record["rule_reason"]) == ("uniform", "uniform", None)
    known = {candidate[name] for candidate in record["candidates"] for name in ("quality", "event", "duplicate_of")}
    assert known == {None}


@pytest.mark.parametrize(
    "change",
    [{"rule": "best"}, {"rule_reason": 3}, {"requested_k": "many"}, {"requested_k": 0}, {"selector": None}],
    ids=str,
)
def test_what_is_not_in_the_schema_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        SCHEMA.validate({**page_material.record().to_dict(), **change})


@pytest.mark.parametrize("num_frames", [5, 25, 60, 100])
def test_a_curve_of_one_candidate_is_one(selector: Selector, tmp_path: Path, num_frames: int) -> None:
    path = tmp_path / "one.mp4"
    encode(path, Recipe(num_frames=num_frames))
    record = valid(selector.select(path, SelectSettings(num_candidates=1)))
    assert [record["candidates"][0][score] for score in ("score_visual", "score_textual")] == [1.0, 1.0]
    assert record["saliency_peak_over_mean"] == {"visual": 1.0, "textual": 1.0}


def test_curves_rounded_on_the_device_are_whole_on_the_host() -> None:
    """Weights that sum to one within single precision give a curve of one candidate a little above or below it."""
    above, below = (
        FrameSaliency(torch.tensor([[score]]), ONE, ONE.float(), ONE.float()) for score in (1 + 2.0**-23, 1 - 2.0**-24)
    )
    assert above.scores.item() > 1 > below.scores.item()
    features = torch.zeros(1, 1, 2)
    scores = ClipScores(visual=above, textual=below, features=features, names_visual=["a"], names_textual=["a"])
    read = scores.read()
    assert (read.visual.tolist(), read.textual.tolist()) == ([1.0], [1.0])


@pytest.mark.parametrize("num_candidates", [3, 7, 16])
def test_curves_sum_to_one(selector: Selector, num_candidates: int) -> None:
    record = valid(selector.select(clip("h264_b_frames").path, SelectSettings(num_candidates=num_candidates)))
    for score in ("score_visual", "score_textual"):
        assert sum(candidate[score] for candidate in record["candidates"]) == pytest.approx(1.0, abs=1e-9)


def test_a_flat_curve_peaks_at_its_mean() -> None:
    """The sum of equal shares is rounded, for one length in six so that their mean is above them."""
    for length in range(1, 200):
        flat = np.full(length, np.float32(1 / length), np.float64)
        flat /= flat.sum()
        assert selection.peak_over_mean(flat) >= 1.0


def test_probabilities_and_cosines_keep_their_bounds() -> None:
    """Single precision rounds the cosine of a vector with itself, and the exponential of a tiny logarithm, past 1."""
    scores = torch.tensor([1.0000001192092896, -1.0000001192092896, 0.25])
    assert [category.score for category in categories(torch.arange(3), scores, ["a", "b", "c"])] == [1.0, -1.0, 0.25]


def test_keyframe_mode_says_how_far_each_frame_is_from_the_one_asked_for() -> None:
    known = clip("h264_b_frames")  # 60 frames, a keyframe at every twelfth
    assert known.keyframes == (0, 12, 24, 36, 48)
    chosen = SelectSettings(selector="uniform", num_candidates=4, decode_mode="keyframes")
    record = valid(Selector.without_model().select(known.path, chosen))
    # The centers of four parts of 2.4 s lie on frames 7, 22, 37 and 52; the keyframes nearest to them are these.
    nearest = {12: 7, 24: 22, 36: 37, 48: 52}
    assert [candidate["frame_index"] for candidate in record["candidates"]] == list(nearest)
    shifts = [(key - asked) / 25 for key, asked in nearest.items()]
    assert [candidate["shift_seconds"] for candidate in record["candidates"]] == pytest.approx(shifts)
    by_position = {frame["position"]: frame["shift_seconds"] for frame in record["frames"]}
    assert [by_position[position] for position in range(4)] == pytest.approx(shifts)


def test_exact_mode_shifts_nothing() -> None:
    record = valid(Selector.without_model().select(clip("vfr_wild_gaps").path, SelectSettings(selector="uniform")))
    assert {candidate["shift_seconds"] for candidate in record["candidates"]} == {0.0}


def test_the_file_is_known_by_its_size_and_time(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    encode(path, Recipe(num_frames=5))
    os.utime(path, ns=(1_600_000_000_000_000_001, 1_650_000_000_123_456_700))
    video = valid(Selector.without_model().select(path, SelectSettings(selector="uniform")))["video"]
    assert (video["size_bytes"], video["modified_ns"]) == (len(path.read_bytes()), 1_650_000_000_123_456_700)


def test_a_failed_video_s_file_is_known_where_it_is_there() -> None:
    gone = page_material.failed("gone.mp4")
    assert valid(gone)["video"] == {"path": "gone.mp4"}
    there = Record(
        path="bad.mp4",
        status="error",
        settings_hash="0" * 16,
        requested_k=5,
        error_type="NotAVideoError",
        error_message="no",
        size_bytes=0,
        modified_ns=12,
    )
    assert valid(there)["video"] == {"path": "bad.mp4", "size_bytes": 0, "modified_ns": 12}


def test_a_record_that_went_well_needs_its_file_s_size_and_time() -> None:
    for name in ("size_bytes", "modified_ns"):
        record = page_material.record().to_dict()
        del record["video"][name]
        with pytest.raises(jsonschema.ValidationError, match=name):
            SCHEMA.validate(record)


def test_the_networks_precision_and_device_are_named_where_they_looked(selector: Selector) -> None:
    path = clip("h264_b_frames").path
    record = valid(selector.select(path))
    assert (record["dtype"], record["device"]) == ("float32", "cpu")
    even = SelectSettings(selector="uniform", num_frames=1, num_candidates=1)
    blind = valid(selector.select(path, even))
    assert (blind["dtype"], blind["device"], blind["pack"]) == (None, None, None)
    # A recognizer looks at the frames that a baseline chose.
    classifier = Classifier.load("imagenet-lite", recognizer="embedded", device="cpu", dtype="float32", selects=False)
    seen = valid(classifier.classify(path, even))
    assert (seen["dtype"], seen["device"], seen["pack"]) == ("float32", "cpu", None)


def test_frames_keep_the_order_asked_for_and_the_metadata_that_of_time() -> None:
    record = valid(
        Selector.without_model().select(
            clip("h264_b_frames").path, SelectSettings(selector="random", order="score", seed=3)
        )
    )
    listed = [frame["position"] for frame in record["frames"]]
    assert listed != sorted(listed)
    by_time = sorted(record["frames"], key=lambda frame: frame["position"])
    assert record["video_metadata"]["frames_indices"] == [frame["frame_index"] for frame in by_time]


def test_a_time_base_is_a_fraction() -> None:
    record = valid(Selector.without_model().select(clip("h264_b_frames").path, SelectSettings(selector="uniform")))
    for candidate in record["candidates"]:
        assert float(candidate["pts"] * Fraction(candidate["time_base"])) == pytest.approx(candidate["time_seconds"])
