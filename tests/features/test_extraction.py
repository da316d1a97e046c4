"""Extraction into a store: killed at any moment, it ends like a run that was not. Free of torch, to start fast."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import av
import numpy as np

from tests import processes
from tests.features.killing import Pace, killed_until_done
from tests.features.test_shards import contents, names_in_headers
from tsq_cli.data import LabeledVideo
from tsq_cli.features import shards
from tsq_cli.features.extraction import FeatureSpec, extract
from tsq_cli.features.shards import Arrays, ShardStore
from tsq_cli.types import FrameBatch

NUM_VIDEOS = 30


def color(video: int, frame: int) -> tuple[int, int, int]:
    return 10 + 7 * video, 20 + 9 * frame, 200


def write_video(path: Path, number: int, *, num_frames: int = 20, size: int = 16) -> Path:
    """One color a frame, coded without loss."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.width, stream.height, stream.pix_fmt = size, size, "bgr0"
        for frame in range(num_frames):
            pixels = np.full((size, size, 3), color(number, frame), dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, "rgb24").reformat(format="bgr0")))
        container.mux(stream.encode(None))
    return path


def labeled(*paths: Path) -> list[LabeledVideo]:
    return [LabeledVideo(id=path.stem, path=path, labels=(0,)) for path in paths]


def means(batch: FrameBatch) -> Arrays:
    return {"times": batch.pts_seconds, "means": batch.pixels.mean(axis=(1, 2))}


def pixels(batch: FrameBatch) -> Arrays:
    return {"pixels": batch.pixels}


SPECS = {"means": FeatureSpec("means", 256, means), "pixels": FeatureSpec("pixels", 16, pixels)}


def extract_both(videos: list[LabeledVideo], folder: Path, pace: Pace) -> None:
    """First one spec, then both, as a run does that was first asked for less."""
    for specs in ({"means": SPECS["means"]}, SPECS):
        extract(ShardStore(folder), videos, specs, num_frames=4, workers=2, progress=lambda *_: pace())


def test_a_run_killed_at_random_moments_ends_like_one_that_was_not(tmp_path: Path) -> None:
    code = "import sys; from tests.features.test_extraction import kill_and_compare; kill_and_compare(sys.argv[1])"
    result = processes.run(["-c", code, tmp_path], cwd=Path(__file__).parents[2])
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["partial"] >= 3


def kill_and_compare(root: str) -> None:
    """In a process of its own: fill one store in peace, another under fire, and compare them."""
    shards.SHARD_ENTRIES = 3
    calm, killed = Path(root) / "calm", Path(root) / "killed"
    videos = labeled(*(write_video(Path(root) / f"{number}.mkv", number) for number in range(NUM_VIDEOS)))
    extract_both(videos, calm, lambda: None)
    before: dict[str, object] = {}

    def look() -> int:
        """Nothing that was indexed may be lost or change, and nothing may be there twice."""
        now = contents(ShardStore(killed))
        assert before.items() <= now.items()
        before.update(now)
        assert set(names_in_headers(killed).values()) <= {1}
        return len(now)

    seen = killed_until_done(partial(extract_both, videos, killed), look, kills=8, most_steps=14, seed=2)
    assert contents(ShardStore(killed)) == contents(ShardStore(calm))
    assert names_in_headers(killed) == names_in_headers(calm)
    assert len(names_in_headers(calm)) == 3 * NUM_VIDEOS
    assert not list(killed.glob(".*.safetensors"))
    print(json.dumps({"partial": len({count for count in seen if 0 < count < 2 * NUM_VIDEOS}), "seen": seen}))
