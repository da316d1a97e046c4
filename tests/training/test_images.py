"""Training images: what is drawn, that it is drawn alike wherever it is drawn, and that undrawn ones are as in use."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
import torch
from skimage import data as pictures

from tsq_cli.models.preprocess import Preprocessor
from tsq_cli.training.images import FrameImages, MemoryFrames, image_batches, normalized, segments
from tsq_cli.training.settings import Augmentation

PREPARE = Preprocessor(
    input_size=32, mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.5), interpolation="bicubic", crop_pct=0.875
)
STILL = Augmentation(min_area=1.0, flip=False, color_jitter=0.0)


def numbered(num_videos: int, num_frames: int) -> MemoryFrames:
    """Plain frames whose red is the video's number and whose green is the frame's."""
    frames = torch.zeros(num_videos, num_frames, 40, 50, 3, dtype=torch.uint8)
    frames[..., 0] = torch.arange(num_videos)[:, None, None, None]
    frames[..., 1] = torch.arange(num_frames)[None, :, None, None]
    return MemoryFrames(list(frames))


def dataset(frames: MemoryFrames, augmentation: Augmentation | None, **changed: Any) -> FrameImages:
    arguments: dict[str, Any] = {"frames_per_video": 1, "preprocessor": PREPARE, "augmentation": augmentation}
    return FrameImages(frames, torch.eye(len(frames)), **(arguments | changed))


@pytest.mark.parametrize(
    ("num_frames", "parts", "begin", "length"),
    [(7, 3, [0, 2, 4], [2, 2, 3]), (16, 4, [0, 4, 8, 12], [4] * 4), (2, 5, [0, 1], [1, 1]), (1, 1, [0], [1])],
)
def test_segments_cover_all_frames(num_frames: int, parts: int, begin: list[int], length: list[int]) -> None:
    assert [part.tolist() for part in segments(num_frames, parts)] == [begin, length]


def test_each_segment_gives_one_frame_and_every_frame_has_its_turn() -> None:
    images = dataset(numbered(2, 7), STILL, frames_per_video=3)
    seen = set()
    for epoch in range(60):
        pixels, targets = images[epoch, 1]
        assert (pixels.shape, pixels.dtype) == ((3, 3, 32, 32), torch.uint8)
        assert targets.tolist() == [0.0, 1.0]
        assert set(pixels[:, 0].flatten().tolist()) == {1}
        seen.add(tuple(pixels[:, 1, 0, 0].tolist()))
    assert seen == {(a, b, c) for a in (0, 1) for b in (2, 3) for c in (4, 5, 6)}
    middles = dataset(numbered(2, 7), None, frames_per_video=3)
    assert {tuple(middles[epoch, 0][0][:, 1, 0, 0].tolist()) for epoch in range(3)} == {(1, 3, 5)}
    assert dataset(numbered(2, 2), STILL, frames_per_video=5)[0, 0][0].shape[0] == 2


def test_crops_keep_their_least_area_and_half_of_them_are_mirrored() -> None:
    side = torch.arange(256, dtype=torch.uint8)
    picture = torch.stack([side[None].expand(256, -1), side[:, None].expand(-1, 256), torch.zeros(256, 256)], dim=2)
    images = dataset(MemoryFrames([picture.to(torch.uint8)[None]]), Augmentation(min_area=0.25, color_jitter=0.0))
    areas, mirrored = [], 0
    for epoch in range(80):
        red, green = (images[epoch, 0][0][0, channel].int() for channel in (0, 1))
        width, height = (abs(int(part.max() - part.min())) / 255 for part in (red, green))
        areas.append(width * height)
        mirrored += int(red[0, 0] > red[0, -1])
    assert 0.22 < min(areas) < 0.35  # a cubic kernel takes the very edge off
    assert max(areas) > 0.8
    assert 25 < mirrored < 55
    assert not any(int(r[0, 0] > r[0, -1]) for e in range(20) for r in [dataset(images._frames, STILL)[e, 0][0][0, 0]])


def test_colors_move_where_they_are_told_to() -> None:
    gray = MemoryFrames([torch.full((1, 40, 40, 3), 100, dtype=torch.uint8)])
    values = {int(dataset(gray, Augmentation(color_jitter=0.2))[epoch, 0][0].float().mean()) for epoch in range(40)}
    assert 78 <= min(values) < 90 < 110 < max(values) <= 122  # brightness within a fifth


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_an_image_is_the_same_whenever_and_wherever_it_is_drawn() -> None:
    picture = torch.from_numpy(pictures.coffee())
    images = dataset(MemoryFrames([picture[None], picture[None, 100:]]), Augmentation(), seed=5)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = [images[epoch, video][0] for epoch in (0, 1) for video in (0, 1)]
    assert torch.equal(torch.get_rng_state(), state)
    assert len({tuple(image.flatten()[:999].tolist()) for image in first}) == 4  # of epoch and video
    torch.manual_seed(2)
    again = pickle.loads(pickle.dumps(images))
    assert torch.equal(again[1, 0][0], first[2])
    for workers in (0, 1):
        batches = list(image_batches(images, iter([torch.tensor([1, 0])]), epoch=1, workers=workers))
        assert len(batches) == 1
        assert torch.equal(batches[0][0], torch.stack([first[3], first[2]]))
        assert batches[0][1].tolist() == [[0.0, 1.0], [1.0, 0.0]]
    assert not torch.equal(dataset(images._frames, Augmentation(), seed=6)[0, 0][0], first[0])


def test_an_undrawn_image_is_what_the_network_sees_in_use() -> None:
    picture = torch.from_numpy(pictures.chelsea())
    images = dataset(MemoryFrames([picture[None]]), None)
    ours = normalized(images[0, 0][0][None], PREPARE, "cpu")
    torch.testing.assert_close(ours, PREPARE(picture[None]), rtol=0, atol=0)


def test_images_are_normalized_by_the_networks_own_mean_and_spread() -> None:
    values = np.array([51, 102, 255])  # 0.2, 0.4 and 1
    pixels = torch.from_numpy(values.astype(np.uint8))[None, None, :, None, None].expand(2, 3, 3, 32, 32)
    ours = normalized(pixels, PREPARE, "cpu")
    assert ours.shape == (6, 3, 32, 32)
    torch.testing.assert_close(ours[4, :, 7, 9], torch.tensor([-1.0, -0.4, 0.8]))


def test_videos_that_do_not_fit_are_refused() -> None:
    whole = torch.zeros(2, 9, 9, 3, dtype=torch.uint8)
    for videos in ([whole, whole[:1]], [whole.float()], [whole[0]], [whole.permute(0, 3, 1, 2)], []):
        with pytest.raises(ValueError, match="need uint8"):
            MemoryFrames(videos)
    with pytest.raises(ValueError, match="2 videos need as many targets"):
        FrameImages(
            numbered(2, 1), torch.eye(3), frames_per_video=1, preprocessor=PREPARE, augmentation=None
        )  # fmt: skip
