"""Frames as a video: transformers' own processors, and vLLM's loader, are told the true time of every frame."""

from __future__ import annotations

import base64
import io
import json
import re
from typing import Any

import numpy as np
import pytest
import transformers
from PIL import Image

from tests.export.material import CONSTANT, VARIABLE, selected, true_times
from tests.test_video_metadata import PROMPT, pair_means, qwen3, tokenizer  # noqa: F401 - fixtures
from tests.video import pictures
from tsq_cli import export

# transformers opens pictures in URLs with what torchvision 0.29 calls deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:The image decoding:DeprecationWarning")

GENERIC = ["LlavaOnevisionVideoProcessor", "InternVLVideoProcessor", "SmolVLMVideoProcessor", "Glm4vVideoProcessor"]


def written(kind: Any, name: str, k: int = 5) -> tuple[dict[str, Any], list[float]]:
    """An export as it is read from its file, and the true times of its frames, read out of their pixels."""
    record, images = selected(name, k)
    shown = [pictures.read(np.asarray(image)) for image in images]
    return json.loads(json.dumps(export.build(kind, record, images, quality=95))), sorted(true_times(name, shown))


def told_by_qwen3(processor: Any, arguments: dict[str, Any]) -> list[float]:
    inputs = processor(text=[PROMPT], **arguments)
    times = re.findall(r"<([0-9.]+) seconds>", processor.tokenizer.decode(inputs["input_ids"][0]))
    assert len(times) == inputs["video_grid_thw"][0][0]
    return [float(time) for time in times]


@pytest.mark.parametrize("name", CONSTANT + VARIABLE)
def test_qwen3_is_told_each_frames_own_time(qwen3: Any, name: str) -> None:  # noqa: F811
    document, times = written("hf", name)
    assert told_by_qwen3(qwen3, document["twice"]) == pytest.approx(times, abs=0.0501)  # one decimal is written
    assert told_by_qwen3(qwen3, document["once"]) == pytest.approx(pair_means(times), abs=0.0501)


@pytest.mark.parametrize("name", [CONSTANT[1], VARIABLE[0]])
@pytest.mark.parametrize("kind", GENERIC)
def test_generic_processors_are_told_the_true_times(kind: str, name: str) -> None:
    document, times = written("hf", name)
    arguments = document["once"] | {"videos": [[opened(url) for url in document["once"]["videos"][0][0]]]}
    outputs = getattr(transformers, kind)()(**arguments, return_metadata=True)
    assert outputs["video_metadata"][0].timestamps == pytest.approx(times, abs=0.0021)


def opened(url: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(url.split(",")[1])))


def test_frames_given_twice_are_patches_of_one_picture(qwen3: Any) -> None:  # noqa: F811
    """A patch holds both of its frames: its two halves are equal."""
    document, _ = written("hf", "h264_b_frames")
    patches = {
        name: qwen3.video_processor(**document[name], return_tensors="pt")["pixel_values_videos"].numpy()
        for name in ("once", "twice")
    }
    halves = {name: values.reshape(len(values), 3, 2, -1) for name, values in patches.items()}
    assert np.array_equal(halves["twice"][:, :, 0], halves["twice"][:, :, 1])
    assert not np.array_equal(halves["once"][:, :, 0], halves["once"][:, :, 1])


def loaded_by_vllm(request: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Read a request as vLLM's VideoMediaIO.load_base64 does, with its checks (pull requests 37301 and 40133)."""
    given = request["extra_body"]["media_io_kwargs"]["video"]
    header, data = request["messages"][0]["content"][0]["video_url"]["url"].split(",", 1)
    assert header == "data:video/jpeg;base64"
    assert given["num_frames"] == -1  # else 32 at most are read
    frames = np.stack([np.asarray(Image.open(io.BytesIO(base64.b64decode(one)))) for one in data.split(",")])
    assert all(isinstance(index, int) for index in given["frames_indices"])
    assert len(given["frames_indices"]) == len(frames) <= given["total_num_frames"]
    assert given["duration"] >= 0
    names = ("total_num_frames", "fps", "duration", "frames_indices", "do_sample_frames")
    return frames, {name: given[name] for name in names}


@pytest.mark.parametrize("name", CONSTANT + VARIABLE)
def test_vllm_is_told_each_frames_own_time(qwen3: Any, name: str) -> None:  # noqa: F811
    document, times = written("vllm", name)
    for form, expected in (("twice", times), ("once", pair_means(times))):
        frames, metadata = loaded_by_vllm(document[form])
        sampling = metadata.pop("do_sample_frames")
        assert sampling is False
        arguments = {"videos": [frames], "video_metadata": [metadata], "do_sample_frames": sampling}
        assert told_by_qwen3(qwen3, arguments) == pytest.approx(expected, abs=0.0501)
        shown = [pictures.read(frame) for frame in frames]
        assert true_times(name, shown) == pytest.approx(sorted(times * (len(frames) // len(times))))


def test_frames_and_metadata_for_vllm_in_python() -> None:
    record, images = selected("vfr_wild_gaps")
    pictures_by_time = export.encode_all(record, images, quality=95)
    frames, metadata = export.pre_extracted(record, pictures_by_time, times=2)
    assert frames.shape == (2 * len(images), images[0].height, images[0].width, 3)
    assert frames.dtype == np.uint8
    assert metadata["do_sample_frames"] is False
    times = [index / metadata["fps"] for index in metadata["frames_indices"]]
    shown = [pictures.read(frame) for frame in frames]
    assert times == pytest.approx(true_times("vfr_wild_gaps", shown), abs=0.0006)


def test_a_video_shorter_than_its_repeated_frames_is_accepted() -> None:
    record, _ = selected("h264_b_frames")
    record["video_metadata"] |= {"total_num_frames": 6}
    assert export.metadata(record, times=2)["total_num_frames"] == 10
    assert export.metadata(record, times=1)["total_num_frames"] == 6
