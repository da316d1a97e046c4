"""Messages: what the clients' own types accept, pictures that are right, times that are true, tokens as published."""

from __future__ import annotations

import base64
import io
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import qwen_vl_utils
import transformers
from PIL import Image
from pydantic import TypeAdapter, ValidationError

from tests.export.material import CONSTANT, VARIABLE, selected, true_times
from tests.test_video_metadata import qwen25, tokenizer  # noqa: F401 - fixtures
from tests.video import pictures
from tsq_cli import export
from tsq_cli.errors import UsageError
from tsq_cli.export.tokens import claude, gpt4o, qwen3_video, qwen_image


def content_of(document: Any) -> list[dict[str, Any]]:
    (message,) = document["messages"]
    assert message["role"] == "user"
    return list(message["content"])


def picture_in(url: str) -> Image.Image:
    kind, data = url.split(",")
    assert kind == "data:image/jpeg;base64"
    return Image.open(io.BytesIO(base64.b64decode(data, validate=True)))


def seconds(text: str) -> float:
    minutes, rest = re.fullmatch(r"at (\d+):(\d\d\.\d{3})", text).groups()  # type: ignore[union-attr]
    return 60 * int(minutes) + float(rest)


def url_of(kind: str, part: dict[str, Any]) -> str:
    if kind == "openai":
        return str(part["image_url"]["url"])
    if kind == "anthropic":
        return f"data:{part['source']['media_type']};base64,{part['source']['data']}"
    return str(part["image"])


@pytest.mark.parametrize("kind", ["openai", "anthropic", "qwen"])
@pytest.mark.parametrize("name", [CONSTANT[1], VARIABLE[1]])
def test_each_frame_stands_behind_its_own_time(kind: Any, name: str) -> None:
    record, images = selected(name)
    *parts, question = content_of(export.build(kind, record, images, quality=95))
    texts, shown = parts[::2], [picture_in(url_of(kind, part)) for part in parts[1::2]]
    assert [part["type"] for part in texts] == ["text"] * 5
    times = [seconds(part["text"]) for part in texts]
    assert times == sorted(times)
    assert times == pytest.approx(
        true_times(name, [pictures.read(np.asarray(picture)) for picture in shown]), abs=0.0006
    )
    assert question["text"].startswith("These are 5 frames")


def check_by_the_clients_types(kind: str, messages: list[Any]) -> None:
    """Check `messages` by the client's own types, which refuse what is in none of their typed dictionaries.

    Parts are checked one by one: their list is an Iterable in the types, which pydantic would check only when it is
    read.
    """
    # Thousands of modules, which every worker would import at the start.
    import anthropic.types as anthropic_types
    import openai.types.chat as openai_types

    message, part = (
        (openai_types.ChatCompletionMessageParam, openai_types.chat_completion_content_part_param)
        if kind == "openai"
        else (anthropic_types.MessageParam, anthropic_types.content_block_param)
    )
    part = part.ChatCompletionContentPartParam if kind == "openai" else part.ContentBlockParam
    for one in messages:
        TypeAdapter(message).validate_python(one | {"content": "text"}, strict=True, extra="forbid")
        for given in one["content"]:
            TypeAdapter(part).validate_python(given, strict=True, extra="forbid")


@pytest.mark.parametrize("kind", ["openai", "anthropic"])
def test_the_clients_own_types_accept_them(kind: Any) -> None:
    record, images = selected("h264_b_frames")
    messages = json.loads(json.dumps(export.build(kind, record, images)))["messages"]
    check_by_the_clients_types(kind, messages)
    for fault in ({"type": "picture"}, {"more": 1}):
        wrong = json.loads(json.dumps(messages))
        wrong[0]["content"][1] |= fault
        with pytest.raises(ValidationError):
            check_by_the_clients_types(kind, wrong)


def test_qwen25_reads_times_and_images_in_turns(qwen25: Any) -> None:  # noqa: F811
    """As its chat template writes them; qwen_vl_utils opens the images."""
    record, images = selected("busy_then_calm")
    document = export.build("qwen", record, images)
    opened, videos = qwen_vl_utils.process_vision_info(document["messages"])  # type: ignore[index]
    assert videos is None
    mark = "<|vision_start|><|image_pad|><|vision_end|>"
    text = "".join(part.get("text", mark) for part in content_of(document))
    inputs = qwen25(text=[text], images=opened, do_resize=False)
    decoded = qwen25.tokenizer.decode(inputs["input_ids"][0])
    told = [
        seconds(found) for found in re.findall(r"(at \d+:\d\d\.\d{3})<\|vision_start\|>(?:<\|image_pad\|>)+", decoded)
    ]
    assert told == sorted(frame["time_seconds"] for frame in record["frames"])
    assert len(inputs["image_grid_thw"]) == 5  # no two frames became one patch
    assert inputs["image_grid_thw"].prod(-1).sum() == 4 * decoded.count("<|image_pad|>")


def test_pictures_are_as_large_as_allowed_and_say_nothing_of_the_disk() -> None:
    record, images = selected("h264_b_frames")
    width, height = images[0].size
    assert width > height
    for max_side, size in (
        (None, (width, height)),
        (10 * width, (width, height)),
        (80, (80, round(80 * height / width))),
    ):
        part = content_of(export.build("openai", record, images, max_side=max_side))[1]
        picture = picture_in(part["image_url"]["url"])
        assert picture.size == size == export.bounded(width, height, max_side)
        assert not picture.getexif()
    poor, good = (len(json.dumps(export.build("openai", record, images, quality=quality))) for quality in (20, 95))
    assert poor < 0.7 * good


def test_paths_and_arrays_are_pictures_too(tmp_path: Path) -> None:
    record, images = selected("h264_b_frames")
    for number, image in enumerate(images):
        image.save(tmp_path / f"{number}.png")
    paths = [tmp_path / f"{number}.png" for number in range(5)]
    first = export.build("openai", record, images)
    assert export.build("openai", record, paths) == first
    assert export.build("openai", record, [np.asarray(image) for image in images]) == first
    with pytest.raises(UsageError, match="4 images for 5 frames"):
        export.build("openai", record, images[:4])


def test_tokens_are_those_that_the_providers_publish() -> None:
    assert [gpt4o(1024, 1024), gpt4o(2048, 4096)] == [765, 1105]  # OpenAI's two examples of detail high
    assert [claude(200, 200), claude(1000, 1000), claude(1092, 1092)] == [54, 1334, 1590]  # Anthropic's table
    assert claude(1920, 1080) == math.ceil(1568 * 882 / 750) or claude(1920, 1080) == 1600


@pytest.mark.parametrize("size", [(640, 360), (360, 640), (1280, 720), (99, 99)])
def test_tokens_of_qwen_are_those_of_its_processors(size: tuple[int, int]) -> None:
    picture = Image.new("RGB", size)
    images = transformers.Qwen2VLImageProcessor(max_pixels=16384 * 28 * 28)([picture], return_tensors="pt")
    assert qwen_image(*size, 28) == int(images["image_grid_thw"].prod()) // 4
    for frames in (2, 5):
        published = {"shortest_edge": 4096, "longest_edge": 25165824}
        processor = transformers.Qwen3VLVideoProcessor(size=published)
        grid = processor([[picture] * frames], do_sample_frames=False, return_tensors="pt")["video_grid_thw"]
        assert qwen3_video([size] * frames) == int(grid.prod()) // 4
