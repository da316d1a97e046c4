"""A small pack with random weights, and six videos, one broken and one missing file that it is measured on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np

from tests.packs.making import NAMES, make_pack
from tsq_cli.data import read_video_list
from tsq_cli.evaluation.evaluate import Evaluation, evaluate
from tsq_cli.features.cache import FeatureCache
from tsq_cli.packs import LoadedRecognizer, Pack, find_pack, load_pack, load_recognizer


@dataclass(frozen=True)
class Measured:
    """The parts, and what evaluate says of them; the list names classes of the pack in another order."""

    folder: Path
    pack: Pack
    recognizer: LoadedRecognizer
    list_file: Path
    evaluation: Evaluation


def write_video(path: Path, number: int) -> None:
    """Twenty frames of coarse colors at random, coded without loss."""
    rng = np.random.default_rng(number)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.width = stream.height = 64
        stream.pix_fmt = "bgr0"
        for _ in range(20):
            pixels = np.kron(rng.integers(0, 256, (4, 4, 3)), np.ones((16, 16, 1))).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, "rgb24").reformat(format="bgr0")))
        container.mux(stream.encode(None))


def write_list(folder: Path) -> Path:
    """The videos and a list of them: the classes of NAMES in turn."""
    (folder / "videos").mkdir(parents=True)
    for number in range(6):
        write_video(folder / "videos" / f"{number}.mkv", number)
    (folder / "videos" / "broken.mkv").write_bytes(b"no video at all")
    lines = [f"{number}.mkv {NAMES[number % len(NAMES)]}" for number in range(6)]
    (folder / "list.txt").write_text("\n".join([*lines, "broken.mkv cat", "gone.mkv tree", ""]))
    return folder / "list.txt"


def measure(folder: Path) -> Measured:
    """Make it all under a folder, and measure."""
    list_file = write_list(folder)
    make_pack(folder / "small")
    config = find_pack(str(folder / "small"))
    pack = load_pack(config)
    recognizer = load_recognizer(pack, "embedded")
    videos = read_video_list(list_file, root=folder / "videos")
    cache = FeatureCache(folder / "cache")
    evaluation = evaluate(videos, pack, recognizer, cache, ks=(1, 2, 16), resamples=50)
    return Measured(folder, pack, recognizer, list_file, evaluation)
