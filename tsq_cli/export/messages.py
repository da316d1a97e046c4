"""Messages of a request: for each frame a text with its time, then its picture, and a question at the end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tsq_cli.export.images import Jpeg
from tsq_cli.export.material import Material, time_text


def openai(material: Material) -> dict[str, Any]:
    """Build `messages` for chat completions of OpenAI, and of the many servers that take the same."""
    return _messages(material, lambda jpeg: {"type": "image_url", "image_url": {"url": jpeg.data_url}})


def anthropic(material: Material) -> dict[str, Any]:
    """Build `messages` for Anthropic's Messages API."""
    return _messages(
        material,
        lambda jpeg: {
            "type": "image",
            "source": {"type": "base64", "media_type": "image/jpeg", "data": jpeg.base64},
        },
    )


def qwen(material: Material) -> dict[str, Any]:
    """Build `messages` for qwen_vl_utils and for the chat templates of Qwen2-VL, Qwen2.5-VL and Qwen3-VL.

    The frames are images, not a video: qwen_vl_utils spaces the frames of a list evenly, and so does Qwen2.5-VL
    whatever it is told. As images behind their times, frames keep their true times, and none is merged with the next.
    """
    return _messages(material, lambda jpeg: {"type": "image", "image": jpeg.data_url})


def _messages(material: Material, image_part: Callable[[Jpeg], dict[str, Any]]) -> dict[str, Any]:
    content: list[dict[str, Any]] = []
    for frame, jpeg in zip(material.frames, material.pictures, strict=True):
        content += [{"type": "text", "text": time_text(frame)}, image_part(jpeg)]
    content.append({"type": "text", "text": material.question})
    return {**material.mark, "messages": [{"role": "user", "content": content}]}
