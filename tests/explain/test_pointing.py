"""The pointing game: a photograph on plain ground, small, in the corners and elsewhere; does the map's peak find it?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import skimage.data
import torch
from PIL import Image, ImageOps

from benchmarks.reference_decoder import write_clip
from tsq_cli.explain import normalize_maps, saliency_maps, seen_box, upsample_to_frame
from tsq_cli.models.microbatches import cpu_microbatches
from tsq_cli.models.recognizer import Recognizer, RecognizerOutput
from tsq_cli.packs import find_pack
from tsq_cli.packs.load import load_encoder
from tsq_cli.types import Float32Array, UInt8Array
from tsq_cli.video import decode_frames, open_video

WIDTH, HEIGHT = 456, 256  # the network sees the middle square only, 224 pixels wide
PHOTOGRAPHS = ("chelsea", "coffee", "rocket", "camera")
FRAMES = 10
GROUNDS = ((128, 128, 128), (240, 240, 235), (30, 60, 40), (170, 140, 90), (20, 20, 25), (90, 130, 180))


@dataclass(frozen=True)
class Placement:
    """Where a square photograph lies: its upper left corner and side, in pixels."""

    left: int
    top: int
    side: int

    def holds(self, x: int, y: int) -> bool:
        return self.left <= x < self.left + self.side and self.top <= y < self.top + self.side


def placements(box: tuple[float, float, float, float], generator: np.random.Generator) -> list[Placement]:
    """Half in the corners, half anywhere in the part seen, sides 0.35 to 0.5 of the frame's height."""
    left, top, right, bottom = (round(share * size) for share, size in zip(box, (WIDTH, HEIGHT) * 2, strict=True))
    placed = []
    for number in range(FRAMES):
        side = round(generator.uniform(0.35, 0.5) * HEIGHT)
        share_x, share_y = generator.uniform(size=2) if number % 2 else generator.integers(2, size=2)
        placed.append(
            Placement(
                left=left + round(share_x * (right - left - side)),
                top=top + round(share_y * (bottom - top - side)),
                side=side,
            )
        )
    return placed


def maps_of_likeliest_class(network: Recognizer, images: torch.Tensor) -> Float32Array:
    """Maps [N, h, w] of the class that the clip as a whole most likely shows."""
    with torch.inference_mode():
        outputs = [network(some) for some in cpu_microbatches(images)]
        logits = torch.cat([output.logits for output in outputs])
        output = RecognizerOutput(logits, torch.cat([output.activations for output in outputs]))
        return normalize_maps(saliency_maps(network, output, int(logits.mean(dim=0).argmax())), "clip")


def picture(photograph: Image.Image, placement: Placement, ground: tuple[int, int, int]) -> UInt8Array:
    canvas = Image.new("RGB", (WIDTH, HEIGHT), ground)
    canvas.paste(ImageOps.fit(photograph, (placement.side, placement.side)), (placement.left, placement.top))
    return np.array(canvas)


def test_the_peak_lies_in_the_photograph(tmp_path: Path) -> None:
    pack = find_pack("imagenet-lite")
    role = pack.roles.visual_encoder
    network, preprocess = Recognizer(load_encoder(role, pack.folder)), role.preprocess
    box = seen_box(WIDTH, HEIGHT, preprocess)
    generator = np.random.default_rng(0)
    hits = []
    for name in PHOTOGRAPHS:
        photograph = Image.fromarray(getattr(skimage.data, name)()).convert("RGB")
        placed = placements(box, generator)
        grounds = [GROUNDS[index] for index in generator.integers(len(GROUNDS), size=FRAMES)]
        drawn = [picture(photograph, *of_frame) for of_frame in zip(placed, grounds, strict=True)]
        write_clip(tmp_path / f"{name}.mp4", drawn, fps=5, options={"preset": "veryfast", "crf": "18"})
        with open_video(tmp_path / f"{name}.mp4") as source:
            pixels = decode_frames(source, range(FRAMES)).pixels
        maps = maps_of_likeliest_class(network, preprocess(torch.from_numpy(pixels)))
        for values, placement in zip(maps, placed, strict=True):
            spread_out = upsample_to_frame(values, box, height=HEIGHT, width=WIDTH)
            y, x = np.unravel_index(spread_out.argmax(), spread_out.shape)
            hits.append(placement.holds(int(x), int(y)))
    assert len(hits) == 40
    assert sum(hits) >= 36, hits
