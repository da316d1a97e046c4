"""Frames in other programs: transformers' own processors read their true times from a record."""

import logging
import math
import re
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from tests.video import pictures
from tests.video.clips import MILLISECOND, Clip, clip, facts, folder
from tests.video.encoding import Recipe, encode
from tsq_cli import Selector, SelectSettings
from tsq_cli.config import Order
from tsq_cli.record import Candidate, SelectedFrame, video_metadata
from tsq_cli.types import UInt8Array, VideoInfo
from tsq_cli.video import decode_frames, open_video

PROMPT = "<|vision_start|><|video_pad|><|vision_end|>"
SMALL = {"shortest_edge": 64 * 64, "longest_edge": 64 * 64 * 64}
NTSC = Fraction(1001, 30000)
CONSTANT = ["h264_b_frames", "ntsc_rate", "h264_late_start", "h264_negative_start", "mpeg4_b_frames", "ntsc_in_mkv"]
VARIABLE = ["vfr_wild_gaps", "vfr_rising_gaps", "slide_show", "busy_then_calm", "last_frame_stays"]


def made(name: str, recipe: Recipe) -> Clip:
    path = folder() / f"metadata-{name}"
    if not path.exists():
        encode(path, recipe)
    return facts(path, recipe)


def known(name: str) -> Clip:
    """A clip of the catalog, or one of these: what is known of it is what the encoder was given."""
    if name == "ntsc_in_mkv":  # 29.97 frames per second in a container of whole milliseconds
        pts = [Fraction(round(1000 * NTSC * i), 1000) for i in range(240)]
        return made(f"{name}.mkv", Recipe(pts=pts, time_base=MILLISECOND, last_duration=Fraction(33, 1000)))
    if name == "busy_then_calm":  # 25 frames per second for 5 s, then one every 2.5 s
        pts = [Fraction(i, 25) for i in range(125)] + [5 + Fraction(5 * i, 2) for i in range(15)]
        return made(f"{name}.mp4", Recipe(pts=pts, last_duration=Fraction(5, 2)))
    if name == "last_frame_stays":  # equal gaps, yet no rate: 60 frames in 12.36 s
        return made(f"{name}.mp4", Recipe(last_duration=Fraction(10)))
    return clip(name)


def handed_over(
    name: str, k: int, order: Order = "time", **settings: Any
) -> tuple[UInt8Array, dict[str, Any], list[float]]:
    """The selected frames [K, H, W, 3] in order of time, the record's metadata, and the frames' true times.

    The times are those given to the encoder for the numbers that are read out of the pixels.
    """
    facts = known(name)
    # Frames drawn at random are listed in the order of the draw unless they are listed by time.
    chosen = SelectSettings(selector="random", num_frames=k, order=order, seed=3, **settings)
    record = Selector.without_model().select(facts.path, chosen).to_dict()
    positions = [frame["position"] for frame in record["frames"]]
    assert (positions == sorted(positions)) == (order == "time" or k == 1)
    by_time = sorted(record["frames"], key=lambda frame: frame["position"])
    with open_video(facts.path) as source:
        pixels = decode_frames(source, [frame["frame_index"] for frame in by_time], short_side=64).pixels
    shown = [facts.numbers.index(pictures.read(picture)) for picture in pixels]
    return pixels, record["video_metadata"], [float(facts.pts[i] - facts.pts[0]) for i in shown]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    """One token for each byte, and those that the processors look for."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    bytewise = Tokenizer(models.BPE(vocab={byte: number for number, byte in enumerate(alphabet)}, merges=[]))
    bytewise.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytewise.decoder = decoders.ByteLevel()
    special = ["<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>"]
    made = transformers.PreTrainedTokenizerFast(tokenizer_object=bytewise, pad_token="<|pad|>")
    made.add_special_tokens({"additional_special_tokens": special})
    return made


@pytest.fixture(scope="module")
def qwen3(tokenizer: Any) -> Any:
    return transformers.Qwen3VLProcessor(
        image_processor=transformers.Qwen2VLImageProcessor(),
        video_processor=transformers.Qwen3VLVideoProcessor(size=SMALL),
        tokenizer=tokenizer,
    )


@pytest.fixture(scope="module")
def qwen25(tokenizer: Any) -> Any:
    return transformers.Qwen2_5_VLProcessor(
        image_processor=transformers.Qwen2VLImageProcessor(),
        video_processor=transformers.Qwen2VLVideoProcessor(size=SMALL),
        tokenizer=tokenizer,
    )


def process(processor: Any, pixels: UInt8Array, metadata: dict[str, Any], **arguments: Any) -> Any:
    """Call a processor as the documentation says: do_sample_frames is an argument, the rest is the metadata."""
    fields = dict(metadata)
    sampling = fields.pop("do_sample_frames")
    return processor(videos=[pixels], video_metadata=[fields], do_sample_frames=sampling, **arguments)


def pair_means(times: Sequence[float]) -> list[float]:
    """Qwen3-VL makes one patch of two frames, of the last frame twice where their number is odd."""
    even = [*times, times[-1]] if len(times) % 2 else list(times)
    return [(first + second) / 2 for first, second in zip(even[::2], even[1::2], strict=True)]


def half_a_frame(metadata: dict[str, Any]) -> float:
    """Half a frame of the stated clock, in seconds; a rate below that of the clips would make it easy."""
    assert metadata["fps"] > 24
    return float(0.5 / metadata["fps"]) + 1e-9


@pytest.mark.parametrize("name", CONSTANT + VARIABLE)
@pytest.mark.parametrize(("k", "order"), [(5, "score"), (4, "time")])
def test_qwen3_is_told_the_true_times(qwen3: Any, name: str, k: int, order: Order) -> None:
    pixels, metadata, times = handed_over(name, k, order)
    inputs = process(qwen3, pixels, metadata, text=[PROMPT])
    told = re.findall(r"<([0-9.]+) seconds>", qwen3.tokenizer.decode(inputs["input_ids"][0]))
    assert inputs["video_grid_thw"][0][0] == math.ceil(len(times) / 2) == len(told)  # no frame was dropped
    for token, true in zip(told, pair_means(times), strict=True):
        assert float(token) == pytest.approx(true, abs=half_a_frame(metadata) + 0.05)  # tokens have one decimal
    assert qwen3._calculate_timestamps(list(metadata["frames_indices"]), metadata["fps"]) == pytest.approx(
        pair_means(times), abs=half_a_frame(metadata)
    )


@pytest.mark.parametrize("name", CONSTANT + VARIABLE)
def test_the_generic_processor_is_told_the_true_times(name: str) -> None:
    from transformers.video_processing_utils import BaseVideoProcessor

    pixels, metadata, times = handed_over(name, 5, "score")
    plain = BaseVideoProcessor(do_resize=False, do_rescale=False, do_normalize=False, do_center_crop=False)
    outputs = process(plain, pixels, metadata, return_metadata=True)
    np.testing.assert_array_equal(outputs["pixel_values_videos"][0].numpy().transpose(0, 2, 3, 1), pixels)
    assert outputs["video_metadata"][0].timestamps == pytest.approx(times, abs=half_a_frame(metadata))


@pytest.mark.parametrize("name", CONSTANT + VARIABLE)
@pytest.mark.parametrize("k", [5, 1])
def test_qwen25_is_told_the_true_times_and_their_mean_spacing(qwen25: Any, name: str, k: int) -> None:
    pixels, metadata, times = handed_over(name, k, "score")
    inputs = process(qwen25, pixels, metadata, text=[PROMPT], return_metadata=True)
    assert inputs["video_metadata"][0].timestamps == pytest.approx(times, abs=half_a_frame(metadata))
    # It knows one spacing alone: that of K frames spread evenly over the video, two of which make a patch.
    end = known(name).end_seconds
    duration = metadata["duration"] if end is None else float(end)
    spacing = 2 * duration / len(times)
    assert float(inputs["second_per_grid_ts"][0]) == pytest.approx(spacing, abs=half_a_frame(metadata) + 0.001)


def test_qwen25_places_evenly_spaced_frames_where_they_are(qwen25: Any) -> None:
    """Six candidates of 60 frames stand at 0.2, 0.6, ... 2.2 s: patches of two start 0.8 s apart."""
    pixels, metadata, times = handed_over("h264_b_frames", 6, num_candidates=6)
    assert times == pytest.approx([0.2, 0.6, 1.0, 1.4, 1.8, 2.2])
    inputs = process(qwen25, pixels, metadata, text=[PROMPT])
    starts = [times[0] + float(inputs["second_per_grid_ts"][0]) * patch for patch in range(3)]
    assert starts == pytest.approx(times[::2], abs=half_a_frame(metadata))


@pytest.mark.parametrize("name", CONSTANT)
def test_a_constant_rate_keeps_its_own_indices(name: str) -> None:
    facts = known(name)
    record = Selector.without_model().select(facts.path, SelectSettings(selector="uniform")).to_dict()
    metadata = record["video_metadata"]
    gap = float(facts.pts[-1] - facts.pts[0]) / (len(facts.pts) - 1)
    assert metadata["fps"] == pytest.approx(1 / gap, rel=2e-4)  # milliseconds cannot say 29.97 more exactly
    assert metadata["frames_indices"] == [frame["frame_index"] for frame in record["frames"]]
    assert metadata["total_num_frames"] == len(facts.pts)


@pytest.mark.parametrize("name", VARIABLE)
def test_no_constant_rate_gives_times_in_milliseconds(name: str) -> None:
    facts = known(name)
    record = Selector.without_model().select(facts.path, SelectSettings(selector="uniform")).to_dict()
    metadata = record["video_metadata"]
    assert metadata["fps"] == 1000
    true = [1000 * (facts.pts[frame["frame_index"]] - facts.pts[0]) for frame in record["frames"]]
    assert metadata["frames_indices"] == [round(time) for time in true]
    assert metadata["total_num_frames"] == pytest.approx(1000 * metadata["duration"], abs=0.5)
    assert metadata["total_num_frames"] > max(metadata["frames_indices"])


def test_what_vllm_reads_beside_frames() -> None:
    """It takes do_sample_frames out and the rest as VideoMetadata; its loader of JPEGs checks types and the count."""
    from transformers.video_utils import VideoMetadata

    _, metadata, times = handed_over("busy_then_calm", 5)
    fields = {name: value for name, value in metadata.items() if name != "do_sample_frames"}
    assert metadata["do_sample_frames"] is False
    assert VideoMetadata(**fields).timestamps == pytest.approx(times, abs=0.0005)
    assert all(type(index) is int for index in metadata["frames_indices"])
    assert type(metadata["total_num_frames"]) is int
    assert metadata["total_num_frames"] >= len(times)


def test_a_range_is_timed_from_the_start_of_the_video() -> None:
    _, metadata, times = handed_over("busy_then_calm", 3, start_seconds=20.0, end_seconds=33.0)
    assert min(times) >= 17.5
    assert [index / metadata["fps"] for index in metadata["frames_indices"]] == pytest.approx(times, abs=0.0005)


def test_a_single_frame_has_times_too(qwen3: Any, qwen25: Any, caplog: pytest.LogCaptureFixture) -> None:
    """A picture, and a video of one frame: no rate can be known, and no program is to make one up."""
    for name in ("png", "one_frame"):
        record = Selector.without_model().select(clip(name).path, SelectSettings(selector="uniform")).to_dict()
        assert record["video"]["average_fps"] is None
        metadata = record["video_metadata"]
        assert metadata["frames_indices"] == [0]
        assert metadata["total_num_frames"] == 1000 * metadata["duration"] == 40
        pixels = np.zeros((1, 64, 64, 3), np.uint8)
        with caplog.at_level(logging.WARNING, logger="transformers"):
            # Its own resizing refuses a video of one frame, whoever hands it over.
            inputs = process(qwen3, pixels, metadata, text=[PROMPT], do_resize=False)
            text = qwen3.tokenizer.decode(inputs["input_ids"][0])
        assert "<0.0 seconds>" in text
        assert "fps" not in caplog.text
        assert float(process(qwen25, pixels, metadata, text=[PROMPT])["second_per_grid_ts"][0]) > 0


def frame_at(position: int, index: int | None, seconds: float) -> SelectedFrame:
    at = Candidate(
        position=position,
        frame_index=index,
        pts=round(90000 * seconds),
        time_base=Fraction(1, 90000),
        time_seconds=seconds,
        score_visual=None,
        score_textual=None,
    )
    return SelectedFrame(rank=position + 1, chosen_by="uniform", candidate=at)


VIDEO = VideoInfo(
    path="video.mp4",
    size_bytes=1,
    modified_ns=1,
    codec="h264",
    width=64,
    height=64,
    rotation=0,
    duration_seconds=40.0,
    average_fps=25.0,
    is_vfr=False,
    start_seconds=0.0,
    total_num_frames=1000,
    stream_index=0,
    time_base=Fraction(1, 90000),
)


def test_two_rates_in_one_video_count_as_none() -> None:
    """Half an hour of 30 frames per second, then half an hour of 29.97: gaps a hair apart, and 0.9 s in the middle."""
    joint, end = 54000, 54000 / 30 + 54000 * 1001 / 30000
    video = replace(VIDEO, duration_seconds=end, average_fps=108000 / end, total_num_frames=108000)
    metadata = video_metadata(video, [frame_at(0, 0, 0.0), frame_at(1, joint, joint / 30)])
    assert (metadata["fps"], metadata["frames_indices"]) == (1000, [0, 1_800_000])
    assert metadata["total_num_frames"] == 3_601_800


def test_what_is_not_known_of_a_video_is_not_needed() -> None:
    frames = [frame_at(0, 30, 1.2), frame_at(1, 90, 3.6)]
    plain = video_metadata(VIDEO, frames)
    assert (plain["fps"], plain["total_num_frames"], plain["frames_indices"]) == (25, 1000, [30, 90])
    for video in (
        replace(VIDEO, total_num_frames=None),
        replace(VIDEO, average_fps=None),
        replace(VIDEO, duration_seconds=None, average_fps=None, total_num_frames=None),
    ):
        metadata = video_metadata(video, frames)
        assert (metadata["fps"], metadata["frames_indices"]) == (1000, [1200, 3600])
        assert metadata["total_num_frames"] == (40000 if video.duration_seconds else 3601)
    unknown = video_metadata(VIDEO, [frame_at(0, None, 1.2), frame_at(1, 90, 3.6)])
    assert (unknown["fps"], unknown["frames_indices"]) == (1000, [1200, 3600])
