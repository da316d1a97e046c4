"""Make actions40_held_out.npz: what the pack's encoder sees in 40 videos of photographs that nothing was trained on.

    python -m tests.packs.make_actions40_fixture PHOTOS

PHOTOS are the Stanford 40 Actions photographs, a folder for each action. The file holds no photograph: only the
encoder's features of each shot's middle frame, in 8 bits, and which shots show the video's action.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))

from actions40_frames import open_photo  # type: ignore[import-not-found]
from actions40_videos import find_photos, plan_video  # type: ignore[import-not-found]
from needle_videos import draw  # type: ignore[import-not-found]

from tsq_cli.packs import load_pack
from tsq_cli.scoring import encode

NUM_VIDEOS = 40
FIXTURE = Path(__file__).with_name("actions40_held_out.npz")


def main(photos: Path) -> None:
    """Compose the videos, encode their shots and write the fixture."""
    pack, held_out = load_pack("actions40", dtype=torch.float32), find_photos(photos, "test")
    features, events, classes = [], [], []
    for number in range(NUM_VIDEOS):
        shots = plan_video(held_out, np.random.default_rng([4040, number]))
        pixels = np.stack([np.asarray(draw(shot, 0.5, open_photo)) for shot in shots])
        with torch.inference_mode():
            features.append(encode(pack, [torch.from_numpy(pixels)])[0][0].float().numpy())
        events.append([shot.kind == "event" for shot in shots])
        classes.append(next(shot.photo.class_index for shot in shots if shot.kind == "event"))
    seen = np.array(features)  # not negative: the encoder ends in a rectifier
    scale = seen.max() / 255
    stored = np.round(seen / scale).astype(np.uint8)
    np.savez_compressed(FIXTURE, features=stored, scale=scale, is_event=np.array(events), classes=np.array(classes))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
