"""Frames as a video, with the metadata that gives processors their true times: transformers and vLLM.

Both take frames_indices / fps as the time of a frame. Qwen2-VL, Qwen2.5-VL, Qwen3-VL and GLM-4V merge each pair of
frames into one patch, at the mean of their times: of frames that were selected far apart that is neither picture nor
time. So each export has the frames `once`, for models that do not merge, and `twice`, each frame beside itself: its own
patch at its own time, for twice the tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from tsq_cli.export.images import Jpeg, opened
from tsq_cli.export.material import PROMPT, Material
from tsq_cli.types import UInt8Array

T = TypeVar("T")

TIMES = {"once": 1, "twice": 2}
"""How often each frame is given, by the name of the form."""


def hf(material: Material) -> dict[str, Any]:
    """Build keyword arguments of a transformers processor: `processor(text=..., **export["twice"])`."""
    return material.mark | {name: _processor_arguments(material, times) for name, times in TIMES.items()}


def vllm(material: Material) -> dict[str, Any]:
    """Build a request to a vLLM server: `client.chat.completions.create(model=..., **export["twice"])`."""
    return material.mark | {name: _request(material, times) for name, times in TIMES.items()}


def pre_extracted(
    record: Mapping[str, Any], pictures: Sequence[Jpeg], *, times: int = 1
) -> tuple[UInt8Array, dict[str, Any]]:
    """Return frames and metadata as vLLM takes them in Python: `multi_modal_data={"video": (frames, metadata)}`.

    Args:
        record: of the video.
        pictures: of its frames, in order of time.
        times: how often each frame is given, 1 or 2; see the top of this file.

    Returns:
        uint8 [times x K, H, W, 3] RGB, and the metadata.
    """
    frames = np.stack([np.asarray(opened(picture)) for picture in _repeated(pictures, times)])
    return frames, metadata(record, times=times)


def metadata(record: Mapping[str, Any], *, times: int = 1) -> dict[str, Any]:
    """Return a record's video_metadata for frames that are each given `times` times."""
    known = dict(record["video_metadata"])
    indices = _repeated(known["frames_indices"], times)
    # vLLM refuses more frames than the video has, as a short video of repeated frames would.
    return known | {"frames_indices": indices, "total_num_frames": max(known["total_num_frames"], len(indices))}


def _processor_arguments(material: Material, times: int) -> dict[str, Any]:
    fields = metadata(material.record, times=times)
    sampling = fields.pop("do_sample_frames")  # an argument of its own in transformers
    urls = [jpeg.data_url for jpeg in _repeated(material.pictures, times)]
    # A batch of one list of one video: a list of texts alone would be read as paths of videos.
    return {"videos": [[urls]], "video_metadata": [fields], "do_sample_frames": sampling}


def _request(material: Material, times: int) -> dict[str, Any]:
    fields = metadata(material.record, times=times)
    del fields["video_backend"]  # the name of a loader of vLLM's, where it is given
    if fields["duration"] is None:
        del fields["duration"]
    url = "data:video/jpeg;base64," + ",".join(jpeg.base64 for jpeg in _repeated(material.pictures, times))
    content = [{"type": "video_url", "video_url": {"url": url}}, {"type": "text", "text": PROMPT}]
    # Without num_frames -1, only the first 32 frames are read.
    return {
        "messages": [{"role": "user", "content": content}],
        "extra_body": {"media_io_kwargs": {"video": {"num_frames": -1, **fields}}},
    }


def _repeated(items: Sequence[T], times: int) -> list[T]:
    return [item for item in items for _ in range(times)]
