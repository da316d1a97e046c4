"""A user's program, type-checked strictly with the package (pyproject.toml) and run by test_library."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, assert_type

import numpy as np
import torch
from PIL import Image

import tsq_cli


def look_at(model: tsq_cli.Model, path: Path) -> list[str]:
    """Use everything that the library has, as a program would."""
    result = model.select(path, 3, order="time", start_seconds=0.2)
    assert_type(result, tsq_cli.Result)
    assert_type(result.frames, tuple[tsq_cli.Frame, ...])
    best = result.frames[0]
    assert_type(best.time_seconds, float)
    assert_type(best.image, Image.Image)
    assert_type(best.score, float | None)
    assert_type(best.why, str)
    assert_type(result.to_dict(), dict[str, Any])
    assert_type(result.sheet(), Image.Image)
    assert_type(result.record, tsq_cli.Record)
    frames = np.stack([np.asarray(frame.image) for frame in result.frames])
    others = [
        model.select(path.read_bytes(), num_frames=2),
        model.select(io.BytesIO(path.read_bytes()), num_frames="auto"),
        model.select(frames, fps=25.0),
        model.select(torch.from_numpy(frames), times=[0.0, 0.5, 2.0]),
        model.select([frame.image for frame in result.frames], settings=tsq_cli.SelectSettings()),
        *model.select_many([path, str(path)], 2, selector="uniform"),
    ]
    try:
        model.select(path, order="best")  # type: ignore[arg-type]
    except tsq_cli.TsqError as error:
        return [repr(each) for each in others] + [str(error)]
    return []
