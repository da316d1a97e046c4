"""Child process of the mutations: reads one file after the other as every run does, and says how each ended.

A line on stdin names a file, a line of JSON on stdout answers. Where no answer comes, FFmpeg has crashed or hangs.
"""

from __future__ import annotations

import json
import resource
import sys
import time
import traceback
import warnings
from typing import Any

from jsonschema import Draft202012Validator

from tests.attack.running import ROOT, limit_memory
from tsq_cli.clip import Clip, load_clip
from tsq_cli.config import Limits, SelectSettings
from tsq_cli.errors import TsqError
from tsq_cli.pipeline import Selector
from tsq_cli.video import decode_frames, frames_at_once

SETTINGS = SelectSettings(selector="uniform")
LIMITS = Limits(timeout_seconds=15, max_pixels=2**24)


def main() -> None:
    """Answer until stdin ends."""
    warnings.simplefilter("error")
    limit_memory(4 * 2**30)
    validator = Draft202012Validator(json.loads((ROOT / "docs" / "schema.json").read_text()))
    selector = Selector.without_model()
    for line in sys.stdin:
        path = json.loads(line)
        started = time.perf_counter()
        try:
            clip = load_clip(path, SETTINGS, limits=LIMITS)
            try:
                answer = {"outcome": "record", "doubts": _doubts(_record(selector, clip), validator)}
                _second_pass(clip)
            finally:
                clip.close()
        except TsqError as error:
            answer = {"outcome": type(error).__name__, "doubts": _doubts_of_message(str(error))}
        except BaseException:  # noqa: BLE001 - whatever it is, it is the finding
            answer = {"outcome": "unexpected", "doubts": [traceback.format_exc()]}
        answer["seconds"] = time.perf_counter() - started
        answer["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps(answer), flush=True)


def _record(selector: Selector, clip: Clip) -> dict[str, Any]:
    (record,) = selector.process_clips([clip], SETTINGS, settings_hash="0" * 16)
    return json.loads(json.dumps(record.to_dict(), allow_nan=False))


def _second_pass(clip: Clip) -> None:
    """Decode at full size, as many frames at once as a run would."""
    at_once = frames_at_once(clip.source)
    wanted = clip.batch.frame_indices[: SETTINGS.num_frames]
    for first in range(0, len(wanted), at_once):
        decode_frames(clip.source, wanted[first : first + at_once], short_side=None)


def _doubts(record: dict[str, Any], validator: Draft202012Validator) -> list[str]:
    """What cannot be right about a record, whatever the file was."""
    doubts = [f"{error.json_path}: {error.message}" for error in validator.iter_errors(record)]
    times = [frame["time_seconds"] for frame in record["frames"]]
    if times != sorted(times) or len(set(times)) < len(times) or not times:
        doubts.append(f"times {times}")
    duration = record["video"]["duration_seconds"]
    if duration is not None and duration > 1e5 and not record["notes"]:
        doubts.append(f"{duration} s without a note")
    return doubts


def _doubts_of_message(message: str) -> list[str]:
    return [] if len(message.splitlines()) == 1 and "; " in message else [f"no line with a remedy: {message!r}"]


if __name__ == "__main__":
    main()
