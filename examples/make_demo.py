"""Render examples/demo.mp4, a small edited film with a known event, and examples/demo.json, its ground truth.

The film follows one day in eight photographs that ship inside scikit-image's wheel (examples/README.md names their
authors). A cat comes and goes three times, in about a third of the film; the rest is other pictures, title cards, dark
frames and blurred transitions. The cut list below is the only source of both files.

Run from the root of the repository: python examples/make_demo.py
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal

import av
import numpy as np
import skimage.data
from PIL import Image, ImageChops, ImageDraw, ImageEnhance, ImageFilter, ImageFont, ImageOps

FPS = 25
SIZE = (640, 360)
TRANSITION_SECONDS = 0.56
PAPER = (240, 234, 222)

EVENT = "cat"
EVENT_PHOTOGRAPH = "chelsea"
# ImageNet's classes of the photograph; the three overlap, and classifiers divide the probability among them.
EVENT_CLASS_NAMES = ("tabby", "tabby cat", "tiger cat", "Egyptian cat")

# Gray photographs are toned to match the color ones: (tone of the shadows, tone of the lights).
TONES = {
    "brick": ((34, 18, 14), (255, 214, 180)),
    "camera": ((16, 20, 30), (250, 240, 222)),
    "grass": ((14, 24, 12), (236, 246, 196)),
}

# Where the camera looks: center x and y as shares of the photograph, width as a share of its widest 16:9 crop.
View = tuple[float, float, float]
Transition = Literal["cut", "fade", "defocus"]


@dataclass(frozen=True)
class Shot:
    """One line of the cut list.

    Attributes:
        photograph: name of the function in skimage.data that holds the picture.
        seconds: length on the time line; a transition is centered on the cut, so half of it lies in each shot.
        look: where the camera starts and where it ends.
        enters: how the shot follows the one before.
        clock: small caption, the hour of the day.
        title, subtitle: text of a title card; the photograph is then only a dark, blurred ground.
    """

    photograph: str
    seconds: float
    look: tuple[View, View]
    enters: Transition = "cut"
    clock: str = ""
    title: str = ""
    subtitle: str = ""

    @property
    def shows(self) -> str:
        """Name the content of the shot: the event, a title card, or the photograph's name."""
        if self.title:
            return "title card"
        return EVENT if self.photograph == EVENT_PHOTOGRAPH else self.photograph


CUT_LIST = (
    Shot("coffee", 1.6, ((0.5, 0.5, 1.0), (0.5, 0.5, 0.9)), "fade", title="The Visitor", subtitle="a day in pictures"),
    Shot("coffee", 1.6, ((0.5, 0.47, 0.98), (0.5, 0.46, 0.92)), "defocus", clock="07:40"),
    Shot("chelsea", 3.2, ((0.5, 0.46, 1.0), (0.48, 0.45, 0.9)), "defocus", clock="08:15"),
    Shot("brick", 1.6, ((0.5, 0.4, 0.8), (0.5, 0.48, 0.8)), "cut", clock="10:05"),
    Shot("brick", 1.6, ((0.5, 0.7, 0.8), (0.5, 0.7, 0.7)), "fade", title="Afternoon", subtitle="someone is about"),
    Shot("camera", 1.8, ((0.52, 0.46, 1.0), (0.51, 0.44, 0.92)), "fade", clock="14:20"),
    Shot("chelsea", 1.4, ((0.42, 0.38, 0.64), (0.48, 0.38, 0.64)), "cut", clock="14:21"),
    Shot("grass", 1.6, ((0.5, 0.45, 0.66), (0.5, 0.49, 0.66)), "defocus", clock="15:50"),
    Shot("rocket", 1.4, ((0.5, 0.3, 0.7), (0.5, 0.3, 0.6)), "fade", title="Night", subtitle="everything leaves"),
    Shot("rocket", 1.6, ((0.5, 0.56, 0.98), (0.5, 0.49, 0.98)), "fade", clock="21:03"),
    Shot("astronaut", 0.8, ((0.45, 0.3, 0.9), (0.45, 0.29, 0.87)), "cut", clock="21:04"),
    Shot("chelsea", 4.2, ((0.46, 0.42, 0.82), (0.5, 0.46, 0.98)), "defocus", clock="22:30"),
    Shot("hubble_deep_field", 1.8, ((0.47, 0.5, 0.7), (0.5, 0.5, 0.74)), "fade", clock="23:59"),
    Shot(
        "hubble_deep_field",
        1.8,
        ((0.5, 0.5, 0.74), (0.5, 0.5, 0.78)),
        "defocus",
        title="Good Night",
        subtitle="the end",
    ),
)


def first_frames() -> list[int]:
    """Compute the first frame of each shot, and the number of frames as a last entry: [number of shots + 1]."""
    return [0, *accumulate(round(shot.seconds * FPS) for shot in CUT_LIST)]


def render_frame(index: int) -> Image.Image:
    """Draw frame `index` of the film: RGB, 640 x 360, the same pixels on every run.

    Raises:
        IndexError: index outside [0, number of frames).
    """
    starts = first_frames()
    if not 0 <= index < starts[-1]:
        raise IndexError(f"frame {index} of a film of {starts[-1]} frames")
    number = next(i for i in range(len(CUT_LIST)) if index < starts[i + 1])
    # The nearer end of the shot decides which transition, if any, this frame belongs to.
    cut = number if 2 * index < starts[number] + starts[number + 1] else number + 1
    enters = CUT_LIST[cut].enters if cut < len(CUT_LIST) else "fade"
    # Frames have a length: measured from its middle, the frame before a cut and the frame after it are equally near.
    seconds_past_cut = (index + 0.5 - starts[cut]) / FPS
    position = 2 * seconds_past_cut / TRANSITION_SECONDS  # -1 .. 1 inside the transition
    picture = _draw_shot(number, index)
    if enters == "cut" or abs(position) >= 1:
        return picture
    if enters == "fade":
        return ImageEnhance.Brightness(picture).enhance(_smooth(abs(position)))
    mix = Image.blend(_draw_shot(cut - 1, index), _draw_shot(cut, index), _smooth((position + 1) / 2))
    return mix.filter(ImageFilter.GaussianBlur(14 * _smooth(1 - abs(position))))


def describe() -> dict[str, Any]:
    """Build demo.json: intervals are half-open, [start, end), and meet in the middle of a transition."""
    starts = first_frames()
    cut_list = list(zip(CUT_LIST, starts[:-1], starts[1:], strict=True))
    return {
        "video": "demo.mp4",
        "width": SIZE[0],
        "height": SIZE[1],
        "fps": FPS,
        "num_frames": starts[-1],
        "duration_seconds": starts[-1] / FPS,
        "event": {
            "name": EVENT,
            "class_names": list(EVENT_CLASS_NAMES),
            "intervals": [_interval(start, end) for shot, start, end in cut_list if shot.shows == EVENT],
        },
        "shots": [
            {
                **_interval(start, end),
                "shows": shot.shows,
                "photograph": shot.photograph,
                "is_event": shot.shows == EVENT,
            }
            for shot, start, end in cut_list
        ],
    }


def encode(path: Path) -> None:
    """Render every frame and write an H.264 file; one thread, so that the same encoder gives the same bytes."""
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", rate=FPS)
        stream.width, stream.height = SIZE
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": "28", "preset": "veryslow", "tune": "animation", "g": str(4 * FPS), "threads": "1"}
        for index in range(first_frames()[-1]):
            picture = av.VideoFrame.from_ndarray(np.asarray(render_frame(index)), format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode())


def _draw_shot(number: int, index: int) -> Image.Image:
    """Draw one shot without its transitions; `index` may lie beyond its ends, where the camera keeps moving."""
    shot = CUT_LIST[number]
    seconds = (index - first_frames()[number]) / FPS
    progress = seconds / shot.seconds
    x, y, width = (a + (b - a) * progress for a, b in zip(*shot.look, strict=True))
    picture = _crop(_photograph(shot.photograph), x, y, width)
    if shot.title:
        picture = ImageEnhance.Brightness(picture.filter(ImageFilter.GaussianBlur(16))).enhance(0.26)
        _write(picture, shot.title, size=44, y=168, opacity=_smooth(seconds / 0.6))
        _write(picture, shot.subtitle.upper(), size=13, y=216, tracking=4, opacity=_smooth((seconds - 0.25) / 0.6))
    picture = ImageChops.multiply(picture, _vignette())
    if shot.clock:
        _write(picture, shot.clock, size=15, y=330, x=54, tracking=2, opacity=0.85)
    return picture


def _crop(photograph: Image.Image, x: float, y: float, width: float) -> Image.Image:
    """Crop 16:9 around (x, y), shifted to stay inside the photograph, and resize to the film's size."""
    aspect = SIZE[0] / SIZE[1]
    widest = min(photograph.width, photograph.height * aspect)
    crop_width = min(1.0, width) * widest
    crop_height = crop_width / aspect
    left = min(max(x * photograph.width - crop_width / 2, 0), photograph.width - crop_width)
    top = min(max(y * photograph.height - crop_height / 2, 0), photograph.height - crop_height)
    # A box of floats moves the camera by parts of a pixel; whole pixels would make slow moves stutter.
    box = (left, top, left + crop_width, top + crop_height)
    return photograph.resize(SIZE, Image.Resampling.BICUBIC, box=box)


def _write(
    picture: Image.Image, text: str, *, size: int, y: int, x: int = SIZE[0] // 2, tracking: int = 0, opacity: float
) -> None:
    """Write one line centered on (x, y) into the picture, its letters `tracking` pixels further apart than usual."""
    font = ImageFont.load_default(size)
    advances = [font.getlength(letter) + tracking for letter in text]
    mask = Image.new("L", picture.size)
    draw = ImageDraw.Draw(mask)
    left = x - (sum(advances) - tracking) / 2
    for letter, advance in zip(text, advances, strict=True):
        draw.text((left, y), letter, fill=round(255 * opacity), font=font, anchor="lm")
        left += advance
    # A soft shadow keeps the letters readable on a light picture.
    picture.paste((0, 0, 0), mask=mask.filter(ImageFilter.GaussianBlur(3)))
    picture.paste(PAPER, mask=mask)


@cache
def _photograph(name: str) -> Image.Image:
    picture = Image.fromarray(getattr(skimage.data, name)())
    if name in TONES:
        shadows, lights = TONES[name]
        return ImageOps.colorize(picture.convert("L"), shadows, lights)
    return picture.convert("RGB")


@cache
def _vignette() -> Image.Image:
    """Build a mask whose corners are a third darker than its middle, to multiply frames by."""
    x = np.linspace(-1, 1, SIZE[0])[None, :]
    y = np.linspace(-1, 1, SIZE[1])[:, None]
    light = 255 * (1 - 0.17 * (x**2 + y**2))
    return Image.fromarray(light.round().astype(np.uint8)).convert("RGB")


def _smooth(share: float) -> float:
    """Ease in and out between 0 and 1, and stay there outside."""
    share = min(max(share, 0.0), 1.0)
    return share * share * (3 - 2 * share)


def _interval(start_frame: int, end_frame: int) -> dict[str, float]:
    return {
        "start_seconds": start_frame / FPS,
        "end_seconds": end_frame / FPS,
        "start_frame": start_frame,
        "end_frame": end_frame,
    }


def main() -> None:
    """Write demo.mp4 and demo.json beside this file, or into a folder of the user's choice."""
    parser = argparse.ArgumentParser(description="Render the demo film and its description.")
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).parent, help="folder for both files")
    folder = parser.parse_args().output
    folder.mkdir(parents=True, exist_ok=True)
    encode(folder / "demo.mp4")
    (folder / "demo.json").write_text(json.dumps(describe(), indent=2) + "\n")
    print(f"{folder / 'demo.mp4'}: {(folder / 'demo.mp4').stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
