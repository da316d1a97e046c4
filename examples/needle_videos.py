"""Compose videos with a known event from photographs, one per class: real H.264 files, the truth beside each as JSON.

A video is 16 shots of one second, so that the 16 candidates of `tsq select` fall one in each. Some shots show the
event, always the same photograph through other, slowly zooming windows (there is only one photograph per class); every
other shot shows another class. Windows, order and classes are drawn at random, the same for the same seed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import av
import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter

from tsq_cli.errors import InputNotFoundError, UsageError
from tsq_cli.files import atomic_path

Part = Literal["tuning", "held-out"]
Window = tuple[float, float, float]
PARTS: tuple[Part, ...] = ("tuning", "held-out")
SHOTS = 16
FPS = 8
SIZE = (340, 256)
SPLIT_SEED = 7

# Pictures without an object, as between the scenes of edited films.
BLANKS = ("title card", "plain color", "dark", "blurred")


@dataclass(frozen=True)
class Photo:
    """A photograph file named `{class index:03d}_{anything}_{class name}.jpg`."""

    path: Path
    class_index: int
    class_name: str


@dataclass(frozen=True)
class Look:
    """Parameters that turn a photograph into a frame.

    Attributes:
        start, end: windows at the shot's start and end: left, top, width as shares of the photograph's largest window
            of the video's shape (width 1), left and top as shares of the room that the width leaves.
        mirrored: left and right swapped.
        brightness, contrast, color: factors, 1 leaves the picture alone.
        blur: radius of a Gaussian in pixels.
    """

    start: Window
    end: Window
    mirrored: bool = False
    brightness: float = 1.0
    contrast: float = 1.0
    color: float = 1.0
    blur: float = 0.0


@dataclass(frozen=True)
class Shot:
    """One second of video: a look at a photograph, or a drawn picture without a photograph (color, text)."""

    kind: str
    photo: Photo | None = None
    look: Look | None = None
    color: tuple[int, int, int] = (0, 0, 0)
    text: str = ""


@dataclass(frozen=True)
class Variant:
    """One kind of video.

    Attributes:
        event_shots: shots of 16 that show the event.
        is_hard: whether the event's shots are mirrored at random, cropped to 0.35-0.7 of the width (else 0.6-1) and
            recolored, so that telling duplicates is not enough.
        blank_shots: shots without an object, among those that do not show the event.
    """

    event_shots: int = 2
    is_hard: bool = False
    blank_shots: int = 0


VARIANTS: dict[str, Variant] = {
    "plain": Variant(),
    "hard": Variant(is_hard=True),
    "long": Variant(event_shots=4),
    "blanks": Variant(blank_shots=5),
    "lone": Variant(event_shots=1, blank_shots=15),
}


def find_photos(folder: Path, part: Part) -> list[Photo]:
    """List the photographs of one part: a fixed random half of the classes is for tuning, the other is held out.

    Raises:
        InputNotFoundError: fewer photographs than one video of each part needs, or no such folder.
    """
    paths = sorted(folder.glob("*.jpg"))
    if len(paths) < 2 * SHOTS:
        raise InputNotFoundError(
            f"{folder} holds {len(paths)} .jpg files",
            wanted=f"at least {2 * SHOTS} photographs, one per class, named like 281_cats_tabby.jpg",
            fix="give their folder with --photos",
        )
    shuffled = np.random.default_rng(SPLIT_SEED).permutation(len(paths))
    half = len(paths) // 2
    chosen = shuffled[:half] if part == "tuning" else shuffled[half:]
    return [_photo(paths[i]) for i in sorted(chosen)]


def _photo(path: Path) -> Photo:
    index, _, rest = path.stem.partition("_")
    if not index.isdigit() or "_" not in rest:
        raise UsageError(
            f"{path.name} names no class", wanted="a name like 281_n02123045_tabby.jpg", fix="rename the photograph"
        )
    return Photo(path=path, class_index=int(index), class_name=rest.partition("_")[2].replace("_", " "))


def plan_video(photos: Sequence[Photo], variant: Variant, rng: np.random.Generator) -> list[Shot]:
    """Draw the 16 shots of a video; the kind "event" marks those that show it."""
    num_others = SHOTS - variant.event_shots - variant.blank_shots
    chosen = rng.choice(len(photos), num_others + 1, replace=False)
    event, *others = (photos[i] for i in chosen)
    look = hard_look if variant.is_hard else plain_look
    shots = [Shot("event", event, look(rng)) for _ in range(variant.event_shots)]
    shots += [Shot("other", photo, plain_look(rng)) for photo in others]
    unseen = others or [photo for photo in photos if photo is not event]
    shots += [blank(rng, unseen) for _ in range(variant.blank_shots)]
    return [shots[i] for i in rng.permutation(SHOTS)]


def _windows(rng: np.random.Generator, narrow: float, wide: float) -> tuple[Window, Window]:
    """Draw a slow zoom: a window between narrow and wide at mid-shot, whose width changes by a tenth."""
    left, top = rng.uniform(0, 1, 2)
    width = rng.uniform(narrow, wide)
    ends = (float(left), float(top), float(min(1.0, width * 1.05))), (float(left), float(top), float(width * 0.95))
    return ends if rng.random() < 0.5 else (ends[1], ends[0])


def plain_look(rng: np.random.Generator) -> Look:
    """Draw a slow zoom over 0.6 to 1 of the width."""
    return Look(*_windows(rng, 0.6, 1.0))


def hard_look(rng: np.random.Generator) -> Look:
    """Draw a slow zoom over 0.35 to 0.7 of the width, randomly mirrored and recolored."""
    return Look(
        *_windows(rng, 0.35, 0.7),
        mirrored=bool(rng.random() < 0.5),
        brightness=float(rng.uniform(0.5, 1.4)),
        contrast=float(rng.uniform(0.6, 1.3)),
        color=float(rng.uniform(0.3, 1.6)),
    )


def blank(rng: np.random.Generator, photos: Sequence[Photo]) -> Shot:
    """Draw a shot without an object: a title card, a plain color, or one of the photographs, dark or blurred."""
    kind = str(rng.choice(BLANKS))
    if kind in ("dark", "blurred"):
        look = plain_look(rng)
        photo = photos[int(rng.integers(len(photos)))]
        if kind == "dark":
            return Shot(kind, photo, replace(look, brightness=float(rng.uniform(0.02, 0.15))))
        return Shot(kind, photo, replace(look, blur=float(rng.uniform(6, 14))))
    red, green, blue = (int(value) for value in rng.integers(0, 256, 3))
    words = ("Chapter", "one", "The end", "A film by", "Thanks for watching", "Part", "two", "Credits", "Episode")
    text = "\n".join(str(word) for word in rng.choice(words, 3)) if kind == "title card" else ""
    return Shot(kind, color=(red, green, blue), text=text)


def draw(shot: Shot, progress: float, opened: Callable[[Path], Image.Image]) -> Image.Image:
    """Render a shot at progress 0 (its start) to 1 (its end): RGB, of the video's size."""
    if shot.photo is None or shot.look is None:
        picture = Image.new("RGB", SIZE, shot.color)
        if shot.text:
            opposite = tuple(255 - value for value in shot.color)
            ImageDraw.Draw(picture).multiline_text((24, 40), shot.text, fill=opposite, font_size=36)
        return picture
    look, photo = shot.look, opened(shot.photo.path)
    left, top, width = ((1 - progress) * a + progress * b for a, b in zip(look.start, look.end, strict=True))
    scale = width * min(photo.width / SIZE[0], photo.height / SIZE[1])
    box_width, box_height = SIZE[0] * scale, SIZE[1] * scale
    x, y = left * max(0.0, photo.width - box_width), top * max(0.0, photo.height - box_height)
    box = (
        x,
        y,
        min(x + box_width, photo.width),
        min(y + box_height, photo.height),
    )  # clipped after rounding
    picture = photo.resize(SIZE, Image.Resampling.BICUBIC, box=box)
    if look.mirrored:
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    for enhance, factor in (
        (ImageEnhance.Brightness, look.brightness),
        (ImageEnhance.Contrast, look.contrast),
        (ImageEnhance.Color, look.color),
    ):
        picture = enhance(picture).enhance(factor) if factor != 1.0 else picture
    return picture.filter(ImageFilter.GaussianBlur(look.blur)) if look.blur else picture


def is_finished(path: Path, seed: int) -> bool:
    """Whether write_video has written this video, from a plan of this seed; another one's would get wrong labels."""
    truth = path.with_suffix(".json")
    return truth.exists() and json.loads(truth.read_text())["seed"] == seed


def write_video(
    path: Path, shots: Sequence[Shot], truth: dict[str, Any], opened: Callable[[Path], Image.Image]
) -> None:
    """Encode the shots as H.264 in MP4, then write the ground truth beside it (`.json`), which marks it as finished."""
    with atomic_path(path) as temporary, av.open(str(temporary), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"crf": "23", "preset": "veryfast"})
        stream.width, stream.height = SIZE
        stream.pix_fmt = "yuv420p"
        stream.time_base = Fraction(1, FPS)
        for shot in shots:
            for i in range(FPS):
                frame = av.VideoFrame.from_image(draw(shot, i / (FPS - 1), opened))
                container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with atomic_path(path.with_suffix(".json")) as temporary:
        Path(temporary).write_text(json.dumps(truth, indent=1) + "\n")


def describe(shots: Sequence[Shot]) -> dict[str, Any]:
    """Describe a video, JSON-ready: the event's class and seconds `[start, end)`, and every shot with its look."""
    event = next(shot.photo for shot in shots if shot.kind == "event")
    assert event is not None
    listed = []
    for i, shot in enumerate(shots):
        photo = {"photo": shot.photo.path.name, "class_name": shot.photo.class_name} if shot.photo else {}
        look = {"look": asdict(shot.look)} if shot.look else {"color": shot.color, "text": shot.text}
        listed.append({"start_seconds": i, "end_seconds": i + 1, "kind": shot.kind, **photo, **look})
    seconds = [[i, i + 1] for i, shot in enumerate(shots) if shot.kind == "event"]
    named = {"class_index": event.class_index, "class_name": event.class_name, "seconds": seconds}
    return {"event": named, "width": SIZE[0], "height": SIZE[1], "fps": FPS, "shots": listed}
