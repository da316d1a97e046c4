"""Records and pictures for the tests of exports: made videos, whose frames carry their number in their pixels."""

from __future__ import annotations

import json
from typing import Any

from PIL import Image

from tests.test_video_metadata import known
from tsq_cli import Selector, SelectSettings
from tsq_cli.video import decode_frames, open_video

CONSTANT = ["h264_b_frames", "ntsc_rate"]
VARIABLE = ["vfr_wild_gaps", "busy_then_calm"]


def selected(name: str, k: int = 5) -> tuple[dict[str, Any], list[Image.Image]]:
    """A record of frames drawn at random, listed in the order of the draw, and their pictures in the same order."""
    settings = SelectSettings(selector="random", num_frames=k, order="score", seed=3)
    record = json.loads(json.dumps(Selector.without_model().select(known(name).path, settings).to_dict()))
    numbers = [frame["frame_index"] for frame in record["frames"]]
    assert numbers != sorted(numbers)
    with open_video(known(name).path) as source:
        pixels = decode_frames(source, sorted(numbers), short_side=None).pixels
    return record, [Image.fromarray(pixels[sorted(numbers).index(number)]) for number in numbers]


def true_times(name: str, numbers: list[int]) -> list[float]:
    """Times given to the encoder for the numbers drawn in frames."""
    facts = known(name)
    return [float(facts.pts[facts.numbers.index(number)] - facts.pts[0]) for number in numbers]
