"""The kinds of video that benchmarks.footage composes: a plan of pieces, each with what it shows, and its pictures."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image, ImageFilter

from benchmarks.footage_material import FPS, SIZE, Half, Material, cropped, photograph, there_and_back
from benchmarks.reference_decoder import write_clip
from tsq_cli.files import atomic_path, write_json
from tsq_cli.types import UInt8Array

State = Literal["sharp", "blurred", "blank"]
Pictures = Callable[[], Iterator[UInt8Array]]
SIXTEENTHS = (9, 2, 2, 1, 1, 1)
DISSOLVE = FPS // 2
ENCODING = {"crf": "23", "preset": "veryfast", "threads": "1"}


@dataclass(frozen=True)
class Piece:
    """A stretch of a film.

    Attributes:
        shows: what is seen; pieces that show the same have the same name.
        source: file that it was cut from, under the material's folder.
        count: pictures.
        pictures: makes them, uint8 [H, W, 3] each.
        state: whether one would want a picture of it.
    """

    shows: str
    source: str
    count: int
    pictures: Pictures
    state: State = "sharp"


@dataclass(frozen=True)
class Film:
    """Parts of a composed video; `facts` join its truth."""

    pieces: Sequence[Piece]
    fps: int = FPS
    dissolve: int = 0
    keyframe_every: int = 250
    options: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)

    def pictures(self) -> Iterator[UInt8Array]:
        """All pictures in order; the last `dissolve` of a piece are blended with the first ones of the next."""
        fading: list[UInt8Array] = []
        for number, piece in enumerate(self.pieces):
            kept = piece.count - (self.dissolve if number + 1 < len(self.pieces) else 0)
            tail = []
            for i, picture in enumerate(piece.pictures()):
                if i < len(fading):
                    share = (i + 1) / (len(fading) + 1)
                    picture = ((1 - share) * fading[i] + share * picture).round().astype(np.uint8)
                if i < kept:
                    yield picture
                else:
                    tail.append(picture)
            fading = tail

    def truth(self) -> dict[str, Any]:
        """JSON-ready: every piece with its seconds `[start, end)`; a dissolve is cut in its middle."""
        shots, start = [], 0.0
        for number, piece in enumerate(self.pieces):
            overlaps = (number > 0) + (number + 1 < len(self.pieces))
            end = start + (piece.count - overlaps * self.dissolve / 2) / self.fps
            shot = {"start_seconds": round(start, 4), "end_seconds": round(end, 4), "shows": piece.shows}
            shots.append({**shot, "source": piece.source, "state": piece.state})
            start = end
        return {"fps": self.fps, **self.facts, "shots": shots}


def write_film(path: Path, film: Film, facts: Mapping[str, Any]) -> None:
    """Encode a film as H.264, then write its truth beside it (`.json`), which so marks a finished video."""
    with atomic_path(path) as temporary:
        options = {**ENCODING, **film.options}
        write_clip(temporary, film.pictures(), fps=film.fps, keyframe_every=film.keyframe_every, options=options)
    write_json(path.with_suffix(".json"), {"video": path.name, **facts, **film.truth()})


def read_truth(path: Path) -> dict[str, Any]:
    """The truth beside a video."""
    truth: dict[str, Any] = json.loads(path.with_suffix(".json").read_text())
    return truth


def clip_pictures(
    material: Material, path: str, first: int, count: int, *, size: tuple[int, int] = SIZE, most: int = 750
) -> Pictures:
    """A clip from its frame `first` on, played there and back as long as it takes."""

    def pictures() -> Iterator[UInt8Array]:
        frames = material.frames(path, size, most=most)
        for i in there_and_back(len(frames), first % len(frames), count).tolist():
            yield frames[i]

    return pictures


def clip_piece(material: Material, shows: str, path: str, count: int, rng: np.random.Generator) -> Piece:
    """A stretch of a clip from a random frame on; where the clip is long enough, without turning back."""
    length = len(material.frames(path))
    first = int(rng.integers(max(1, length - count)))
    return Piece(shows, path, count, clip_pictures(material, path, first, count))


def shots(material: Material, half: Half, rng: np.random.Generator, number: int, *, dissolve: int = 0) -> Film:
    """Six places, one of them 9 of 16 parts of the length (16 to 40 s), the others 2, 2, 1, 1, 1, in random order."""
    places = material.places(half)
    sixteenth = rng.uniform(1.0, 2.5)
    chosen = rng.choice(sorted(places), len(SIXTEENTHS), replace=False)
    parts = rng.permutation(SIXTEENTHS)
    pieces = []
    for place, part in zip(chosen, parts, strict=True):
        path = str(rng.choice(places[place]))
        count = round(part * sixteenth * FPS) + dissolve
        pieces.append(clip_piece(material, str(place), path, count, rng))
    return Film(pieces, dissolve=dissolve)


def dissolves(material: Material, half: Half, rng: np.random.Generator, number: int) -> Film:
    """As shots, blended into each other over half a second."""
    return shots(material, half, rng, number, dissolve=DISSOLVE)


def one_source(material: Material, half: Half, rng: np.random.Generator, number: int) -> Film:
    """Four to six clips of one place, some through the same camera, lengths as in shots."""
    places = {place: paths for place, paths in material.places(half).items() if len(paths) >= 4}
    place = sorted(places)[number % len(places)]
    paths = rng.permutation(places[place])[: len(SIXTEENTHS)]
    parts = rng.permutation(SIXTEENTHS[: len(paths)])
    sixteenth = rng.uniform(1.0, 2.5)
    counts = (round(part * sixteenth * FPS) for part in parts)
    pieces = [clip_piece(material, str(path), str(path), count, rng) for path, count in zip(paths, counts, strict=True)]
    return Film(pieces, facts={"place": place})


def turns(material: Material, half: Half, rng: np.random.Generator, number: int) -> Film:
    """Four places in turns, eight times, each time going on where it stopped; every second film to an even beat."""
    places = material.places(half)
    chosen = [str(place) for place in rng.choice(sorted(places), 4, replace=False)]
    paths = [str(rng.choice(places[place])) for place in chosen]
    beat = rng.uniform(1.0, 2.0)
    pieces, played = [], [0, 0, 0, 0]
    for i in range(32):
        seconds = beat if number % 2 == 0 else float(np.clip(beat * rng.uniform(0.85, 1.15), 1.0, 2.0))
        count, turn = round(seconds * FPS), i % 4
        pictures = clip_pictures(material, paths[turn], played[turn], count)
        pieces.append(Piece(chosen[turn], paths[turn], count, pictures))
        played[turn] += count
    return Film(pieces)


def blurred(material: Material, half: Half, rng: np.random.Generator, number: int) -> Film:
    """One place for 40 s, sharp for 1.5 s of every 8; between, out of focus, with a black or a white flash."""
    places = material.places(half)
    place = str(rng.choice(sorted(places)))
    path = str(rng.choice(places[place]))
    radius = float(rng.uniform(4, 8))
    pieces: list[Piece] = []
    at = 0

    def add(seconds: float, state: State, change: Callable[[UInt8Array], UInt8Array]) -> None:
        nonlocal at
        count = round(seconds * FPS)
        source = clip_pictures(material, path, at, count)
        pieces.append(Piece(place, path, count, lambda: (change(picture) for picture in source()), state))
        at += count

    for _ in range(5):
        lead = float(rng.uniform(0.5, 6.0))
        flash = float(rng.uniform(0.3, 0.6))
        level = int(rng.choice([0, 255]))
        add(lead, "blurred", lambda picture: _out_of_focus(picture, radius))
        add(1.5, "sharp", lambda picture: picture)
        add(0.25, "blurred", lambda picture: _out_of_focus(picture, radius))
        add(flash, "blank", lambda picture, level=level: np.full_like(picture, level))  # type: ignore[misc]
        add(8 - 1.75 - lead - flash, "blurred", lambda picture: _out_of_focus(picture, radius))
    return Film(pieces, facts={"blur_radius": round(radius, 2)})


def _out_of_focus(picture: UInt8Array, radius: float) -> UInt8Array:
    return np.asarray(Image.fromarray(picture).filter(ImageFilter.GaussianBlur(radius)))


def still(material: Material, half: Half, rng: np.random.Generator, number: int) -> Film:
    """A photograph for 3 s; in every second film with a sensor's noise."""
    photos = material.photos(half)
    path = photos[int(rng.integers(len(photos)))]
    picture = np.asarray(cropped(photograph(path), SIZE))
    seed = int(rng.integers(2**32))
    noise = 3.0 if number % 2 else 0.0

    def pictures() -> Iterator[UInt8Array]:
        return noisy((picture for _ in range(3 * FPS)), noise, seed)

    return Film([Piece("photograph", f"photos/{path.name}", 3 * FPS, pictures)], facts={"noise": noise})


def noisy(pictures: Iterator[UInt8Array], deviation: float, seed: int) -> Iterator[UInt8Array]:
    """Pictures with the noise of a sensor, of a standard deviation in levels, the same in all colors."""
    if deviation == 0:
        yield from pictures
        return
    rng = np.random.default_rng(seed)
    fields = None
    for picture in pictures:
        if fields is None:
            # A few fields, each shifted anew for every picture: drawing each afresh costs more than encoding it.
            fields = rng.normal(0, deviation, (8, *picture.shape[:2], 1)).round().astype(np.int16)
        field_of = np.roll(fields[rng.integers(len(fields))], rng.integers(0, 97, 2), axis=(0, 1))
        yield np.clip(picture + field_of, 0, 255).astype(np.uint8)
