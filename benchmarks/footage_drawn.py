"""Videos drawn rather than cut from clips: talks with slides, a phone's view of a wall of photographs, a long watch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from benchmarks.footage_material import FPS, SIZE, Half, Material, cropped, photograph, there_and_back
from benchmarks.footage_measures import EVENT
from benchmarks.footage_videos import Film, Pictures, Piece, State, clip_pictures, noisy
from tsq_cli.types import Float64Array, UInt8Array

SLIDES = 12
LECTURE_SIZE, LECTURE_FPS = (640, 360), 5
INSET = (128, 72)
INK, PALE = (40, 40, 46), (150, 150, 156)
WORDS = (
    "method result sample network error training accuracy model image sensor signal budget market cell protein policy "
    "survey history region climate energy storage query index cache thread memory kernel proof lemma bound graph"
).split()

# Pictures that hardly change are encoded as well at half the cost.
CALM_ENCODING = {"preset": "superfast"}
WATCH_FPS, WATCH_SECONDS, EVENT_SECONDS = 10, 600, 6

TILE = (426, 320)
WALL = (3, 2)


def lectures(material: Material, half: Half, rng: np.random.Generator, number: int) -> Film:
    """A talk of 12 slides of one template, 5 to 10 minutes, each at least 8 s; every second one with its speaker."""
    seconds = float(rng.uniform(300, 600))
    durations = 8 + rng.dirichlet(np.full(SLIDES, 1.5)) * (seconds - 8 * SLIDES)
    accent = tuple(int(value) for value in rng.integers(20, 170, 3))
    talk = " ".join(rng.choice(WORDS, 3)).capitalize()
    photos = material.photos(half)
    places = material.places(half)
    place = sorted(places)[int(rng.integers(len(places)))]
    speaker = places[place][0] if number % 2 else None
    pieces, start = [], 0
    for page, duration in enumerate(durations.tolist()):
        count = round(duration * LECTURE_FPS)
        slide = np.asarray(_slide(page, talk, accent, photos[int(rng.integers(len(photos)))], rng))
        pictures = _spoken(material, slide, speaker, start, count)
        pieces.append(Piece(f"slide {page + 1}", "drawn", count, pictures))
        start += count
    return Film(pieces, fps=LECTURE_FPS, options=CALM_ENCODING, facts={"speaker": speaker})


def _slide(page: int, talk: str, accent: Sequence[int], photo: Path, rng: np.random.Generator) -> Image.Image:
    """One slide: the talk's title, or a heading with bullets; every third has a chart, one in six a photograph."""
    picture = Image.new("RGB", LECTURE_SIZE, "white")
    draw = ImageDraw.Draw(picture)
    draw.rectangle((0, 0, LECTURE_SIZE[0], 6), fill=tuple(accent))
    draw.text((24, 338), f"{talk}   {page + 1}", fill=PALE, font_size=12)
    if page == 0:
        draw.text((60, 120), talk, fill=tuple(accent), font_size=38)
        draw.text((60, 190), " ".join(rng.choice(WORDS, 2)).title(), fill=INK, font_size=20)
        return picture
    draw.text((32, 26), " ".join(rng.choice(WORDS, 3)).capitalize(), fill=tuple(accent), font_size=28)
    for line in range(int(rng.integers(2, 6))):
        text = " ".join(rng.choice(WORDS, int(rng.integers(3, 6)))).capitalize()
        draw.text((44, 90 + 40 * line), "-  " + text, fill=INK, font_size=18)
    if page % 6 == 4:
        picture.paste(cropped(photograph(photo), (200, 150)), (400, 170))
    elif page % 3 == 2:
        _chart(draw, accent, rng)
    return picture


def _chart(draw: ImageDraw.ImageDraw, accent: Sequence[int], rng: np.random.Generator) -> None:
    """Six bars, or a line, in the lower right."""
    heights = rng.uniform(10, 120, 6)
    draw.line((400, 180, 400, 310, 600, 310), fill=INK, width=2)
    if rng.random() < 0.5:
        for i, height in enumerate(heights):
            draw.rectangle((412 + 31 * i, 309 - height, 434 + 31 * i, 309), fill=tuple(accent))
    else:
        draw.line([(415 + 33 * i, 309 - height) for i, height in enumerate(heights)], fill=tuple(accent), width=3)


def _spoken(material: Material, slide: UInt8Array, speaker: str | None, start: int, count: int) -> Pictures:
    """A slide, with the speaker moving in its upper right corner, from the talk's picture `start` on."""

    def pictures() -> Iterator[UInt8Array]:
        if speaker is None:
            for _ in range(count):
                yield slide
            return
        frames = material.frames(speaker, INSET)
        step = FPS // LECTURE_FPS
        for i in there_and_back(len(frames), start * step, count * step)[::step].tolist():
            spoken = slide.copy()
            spoken[12 : 12 + INSET[1], -INSET[0] - 12 : -12] = frames[i]
            yield spoken

    return pictures


def long_event(material: Material, half: Half, rng: np.random.Generator, number: int) -> Film:
    """Ten calm minutes of one place or photograph, and 6 s of another place at a random time.

    Every second film has keyframes at a fixed distance only, none where the scene changes. Every third is a slow look
    over a photograph, every third a clip at a quarter of its speed, every third a clip with a sensor's noise.
    """
    places = material.places(half)
    calm, other = (str(place) for place in rng.choice(sorted(places), 2, replace=False))
    path, event_path = str(rng.choice(places[calm])), str(rng.choice(places[other]))
    photos = material.photos(half)
    photo = photos[int(rng.integers(len(photos)))]
    seed = int(rng.integers(2**32))
    total, length = WATCH_SECONDS * WATCH_FPS, EVENT_SECONDS * WATCH_FPS
    at = int(rng.integers(WATCH_FPS * 10, total - length - WATCH_FPS * 10))
    manner = ("look over a photograph", "slow clip", "noisy clip")[number % 3]

    def background(first: int, count: int) -> Pictures:
        def pictures() -> Iterator[UInt8Array]:
            if manner == "look over a photograph":
                yield from _wandering(photograph(photo), first, count, total)
                return
            frames = material.frames(path)
            # Ten pictures per second out of 25, or at a quarter of the speed.
            step = 0.25 * FPS / WATCH_FPS if manner == "slow clip" else FPS / WATCH_FPS
            length_of = 2 * len(frames) - 2
            positions = (np.arange(first, first + count) * step).astype(np.int64) % max(1, length_of)
            shown = (frames[min(i, length_of - i)] for i in positions.tolist())
            yield from noisy(shown, 2.5 if manner == "noisy clip" else 0.0, seed + first)

        return pictures

    source, shows = (f"photos/{photo.name}", "photograph") if number % 3 == 0 else (path, calm)
    event = clip_pictures(material, event_path, 0, EVENT_SECONDS * FPS)
    pieces = [
        Piece(shows, source, at, background(0, at)),
        Piece(EVENT, event_path, length, lambda: _thinned(event())),
        Piece(shows, source, total - at - length, background(at + length, total - at - length)),
    ]
    fixed = number % 2 == 1
    options = {**CALM_ENCODING, **({"sc_threshold": "0"} if fixed else {})}
    facts = {"manner": manner, "keyframes": "every 250 pictures" if fixed else "where the scene changes"}
    return Film(pieces, fps=WATCH_FPS, options=options, facts=facts)


def _thinned(pictures: Iterator[UInt8Array]) -> Iterator[UInt8Array]:
    """Ten pictures of every 25."""
    for number, picture in enumerate(pictures):
        if number * WATCH_FPS // FPS != (number - 1) * WATCH_FPS // FPS:
            yield picture


def _wandering(photo: Image.Image, first: int, count: int, total: int) -> Iterator[UInt8Array]:
    """A window of 0.8 of a photograph that goes once around in `total` pictures."""
    scale = 0.8 * min(photo.width / SIZE[0], photo.height / SIZE[1])
    width, height = SIZE[0] * scale, SIZE[1] * scale
    for i in range(first, first + count):
        angle = 2 * np.pi * i / total
        left = (photo.width - width) * (0.5 + 0.5 * np.cos(angle))
        top = (photo.height - height) * (0.5 + 0.5 * np.sin(angle))
        box = (float(left), float(top), float(left + width), float(top + height))
        yield np.asarray(photo.resize(SIZE, Image.Resampling.BILINEAR, box=box))


@dataclass(frozen=True)
class _Camera:
    """Path of a camera: centers [N, 2] and widths [N] in the wall's pixels; a moving one smears its pictures."""

    centers: Float64Array
    widths: Float64Array
    is_moving: bool


def pans(material: Material, half: Half, rng: np.random.Generator, number: int) -> Film:
    """A hand-held look at a wall of six photographs, one after the other, about 25 s; the ways between are blurred.

    A stay of 1.5 to 5 s drifts, zooms and shakes; a third of the stays are blurred by a shake at their end.
    """
    photos = material.photos(half)
    chosen = [photos[i] for i in rng.choice(len(photos), WALL[0] * WALL[1], replace=False)]
    wall = Image.new("RGB", (TILE[0] * WALL[0], TILE[1] * WALL[1]))
    for i, path in enumerate(chosen):
        wall.paste(cropped(photograph(path), TILE), (i % WALL[0] * TILE[0], i // WALL[0] * TILE[1]))
    order = rng.permutation(len(chosen))
    pieces: list[Piece] = []

    def add(tile: int, camera: _Camera, state: State) -> None:
        name = chosen[tile].name
        pictures = _looking(wall, camera)
        pieces.append(Piece(name, f"photos/{name}", len(camera.widths), pictures, state))

    def center(tile: int) -> Float64Array:
        return np.array([(tile % WALL[0] + 0.5) * TILE[0], (tile // WALL[0] + 0.5) * TILE[1]])

    at = center(order[0])
    for tile in order.tolist():
        if pieces:
            count = round(rng.uniform(0.4, 0.8) * FPS)
            share = np.linspace(0, 1, count)[:, None]
            way = (1 - share) * at + share * center(tile)
            add(tile, _Camera(way + _shake(rng, count, 1.5), np.full(count, 380.0), True), "blurred")
        count = round(rng.uniform(1.5, 5.0) * FPS)
        drift = rng.uniform(-25, 25, 2) * np.linspace(0, 1, count)[:, None]
        widths = np.linspace(rng.uniform(320, 400), rng.uniform(320, 400), count)
        add(tile, _Camera(center(tile) + drift + _shake(rng, count, 1.5), widths, False), "sharp")
        at = center(tile) + drift[-1]
        if rng.random() < 1 / 3:
            count = round(0.6 * FPS)
            sway = 45 * np.sin(np.linspace(0, 4 * np.pi, count))[:, None] * np.array([1.0, 0.3])
            add(tile, _Camera(at + sway, np.full(count, widths[-1]), True), "blurred")
    return Film(pieces, facts={"photographs": [path.name for path in chosen]})


def _shake(rng: np.random.Generator, count: int, deviation: float) -> Float64Array:
    """A hand's unrest, pixels [count, 2]: noise smoothed over a quarter of a second."""
    noise = rng.normal(0, deviation * 2.5, (count + 5, 2))
    smoothed: Float64Array = np.stack([np.convolve(axis, np.full(6, 1 / 6), "valid") for axis in noise.T], axis=1)
    return smoothed


def _looking(wall: Image.Image, camera: _Camera) -> Pictures:
    """Render the camera's pictures; a moving camera mixes the views on its way to the next one."""

    def view(center: Float64Array, width: float) -> UInt8Array:
        height = width * SIZE[1] / SIZE[0]
        left = float(np.clip(center[0] - width / 2, 0, wall.width - width))
        top = float(np.clip(center[1] - height / 2, 0, wall.height - height))
        return np.asarray(wall.resize(SIZE, Image.Resampling.BILINEAR, box=(left, top, left + width, top + height)))

    def pictures() -> Iterator[UInt8Array]:
        steps = 8 if camera.is_moving else 1
        following = np.concatenate([camera.centers[1:], 2 * camera.centers[-1:] - camera.centers[-2:-1]])
        for center, after, width in zip(camera.centers, following, camera.widths, strict=True):
            views = [view(center + (after - center) * step / steps, float(width)) for step in range(steps)]
            yield np.mean(views, axis=0).round().astype(np.uint8)

    return pictures
