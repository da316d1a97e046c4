"""Quality of frames: blur, noise and light put upon real photographs, and what shows nothing."""

import numpy as np
import pytest
import skimage.data
from PIL import Image, ImageDraw, ImageFilter

from tsq_cli.rules.quality import candidate_quality, frame_quality, is_mixed
from tsq_cli.types import UInt8Array

PHOTOGRAPHS = ("astronaut", "chelsea", "coffee", "rocket", "camera", "immunohistochemistry", "coins")
RADII = (0.0, 1.0, 1.5, 2.0, 3.0)


def photograph(name: str) -> Image.Image:
    """A photograph as a candidate has it: the shorter side 256 pixels, each the mean of what it covers."""
    picture = Image.fromarray(getattr(skimage.data, name)()).convert("RGB")
    scale = 256 / min(picture.size)
    return picture.resize((round(picture.width * scale), round(picture.height * scale)), Image.Resampling.BOX)


def blurred(picture: Image.Image) -> UInt8Array:
    return np.stack([np.asarray(picture.filter(ImageFilter.GaussianBlur(radius))) for radius in RADII])


def rounded(values: np.ndarray) -> UInt8Array:
    levels: UInt8Array = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return levels


def noisy(pixels: UInt8Array, deviation: float) -> UInt8Array:
    gray = np.random.default_rng(0).normal(0, deviation, pixels.shape[:-1])
    return rounded(pixels + gray[..., None])


def moved(picture: UInt8Array, pixels: int, axis: int) -> UInt8Array:
    """A picture as a camera that moves so many pixels has it."""
    return rounded(np.mean([np.roll(picture, i, axis).astype(float) for i in range(pixels)], axis=0))


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_more_blur_is_less_quality_whatever_noise_or_light(name: str) -> None:
    frames = blurred(photograph(name))
    for seen in (frames, noisy(frames, 6), rounded(frames * 0.6), rounded(frames * 0.5 + 60)):
        quality = frame_quality(seen)
        assert quality.dtype == np.float64
        assert (np.diff(quality) < 0).all(), quality


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_light_and_noise_do_not_pass_for_sharpness(name: str) -> None:
    sharp, *_, soft, _, _ = blurred(photograph(name))
    worst = frame_quality(np.stack([rounded(sharp * 0.5 + 60), rounded(sharp * 0.6), noisy(sharp, 6)])).min()
    best = frame_quality(np.stack([soft, rounded(soft * 0.6), noisy(rounded(soft * 0.3), 3), noisy(soft, 6)])).max()
    assert worst > best


@pytest.mark.parametrize("name", PHOTOGRAPHS)
@pytest.mark.parametrize("axis", [0, 1])
def test_motion_blur_is_seen_both_ways(name: str, axis: int) -> None:
    sharp = np.asarray(photograph(name))
    still, slow, fast = frame_quality(np.stack([sharp, moved(sharp, 5, axis), moved(sharp, 11, axis)]))
    assert still > slow > fast


def test_a_frame_with_nothing_on_it_has_no_quality() -> None:
    shape = (256, 455, 3)
    nothing = [np.full(shape, color, dtype=np.uint8) for color in ((0, 0, 0), (255, 255, 255), (30, 120, 200))]
    faded = np.asarray(photograph("coffee").resize((455, 256)))
    snow = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    frames = np.stack([*nothing, rounded(faded * 0.02), rounded(255 - (255.0 - faded) * 0.02), snow])
    assert frame_quality(frames).tolist() == [0.0] * 6
    assert (frame_quality(noisy(frames[:3], 2)) == 0).all()


@pytest.mark.parametrize("name", ["astronaut", "coffee", "coins"])
def test_a_dark_picture_is_a_picture(name: str) -> None:
    assert frame_quality(rounded(np.asarray(photograph(name)) * 0.1)[None])[0] > 0


@pytest.mark.parametrize("ink", ["white", "red", "blue"])
def test_a_title_card_is_a_picture(ink: str) -> None:
    card = Image.new("RGB", (455, 256))
    ImageDraw.Draw(card).text((180, 120), "PART TWO", fill=ink, font_size=16)
    sharp, _, soft, _, _ = frame_quality(blurred(card))
    assert sharp > soft > 0


def test_pictures_too_small_to_judge_have_no_quality() -> None:
    assert frame_quality(np.zeros((2, 2, 400, 3), dtype=np.uint8)).tolist() == [0.0, 0.0]
    corner = np.zeros((1, 3, 3, 3), dtype=np.uint8)
    corner[0, :2, :2] = 200
    assert frame_quality(corner)[0] > 0


@pytest.mark.parametrize("axis", [0, 1])
def test_the_value_is_the_one_of_its_definition(axis: int) -> None:
    # Stripes of five at 100, six at 200: variance 10000 x 5/11 x 6/11. Pixels 1 and 2 apart, across the stripes, differ
    # by 100 in 2 and in 4 of 11 places, along them nowhere; the mean over both directions is half of that.
    stripes = np.resize(np.repeat([100, 200], [5, 6]), 332).astype(np.uint8)
    frame = np.broadcast_to(np.expand_dims(stripes, (1 - axis, 2)), (332, 332, 3))
    variance, near, far = 10000 * 30 / 121, 10000 / 11, 20000 / 11
    expected = 1 - (variance - far / 2) / (variance - near / 2)
    assert frame_quality(frame[None])[0] == pytest.approx(expected, rel=0.01)


def test_the_middle_of_a_dissolve_counts_as_poor_and_a_cut_does_not() -> None:
    cat, coffee = (
        np.ascontiguousarray(picture()[:256, :256]) for picture in (skimage.data.chelsea, skimage.data.coffee)
    )
    half = (0.6 * cat + 0.4 * coffee).round().astype(np.uint8)
    assert is_mixed(np.stack([cat, cat, half, coffee, coffee])).tolist() == [False, False, True, False, False]
    assert not is_mixed(np.stack([cat, cat, coffee, coffee])).any()
    assert not is_mixed(np.stack([cat, np.roll(cat, 40, axis=1), np.roll(cat, 80, axis=1)])).any()  # a pan
    quality = candidate_quality(np.stack([cat, half, coffee]))
    np.testing.assert_allclose(quality, frame_quality(np.stack([cat, half, coffee])) * [1, 0.1, 1], rtol=1e-12)


def test_light_that_changes_slowly_is_no_dissolve() -> None:
    cat = skimage.data.chelsea()[:256, :256].astype(np.float64)
    fading = np.stack([cat * light for light in (0.2, 0.4, 0.6, 0.8, 1.0)]).astype(np.uint8)
    assert not is_mixed(fading).any()
    assert not is_mixed(fading[:2]).any()
