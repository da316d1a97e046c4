"""Material of the videos of benchmarks.footage: film clips by the place they show, photographs, and two halves.

Whatever is tuned on one half is reported on the other: no place, clip or photograph is in both.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import av
import numpy as np
from PIL import Image

from tsq_cli.errors import InputNotFoundError
from tsq_cli.types import Int64Array, UInt8Array
from tsq_cli.video.sample import displayed_at

Half = Literal["tuning", "test"]
HALVES: tuple[Half, ...] = ("tuning", "test")
SPLIT_SEED = 13
FPS = 25
SIZE = (426, 240)

# Clips of one place look alike, be it through several cameras; told apart by eye. "fi" and "nofi" are files of
# fights/fight and fights/noFight. Each is one shot; films of several shots and test pictures are listed nowhere here.
PLACES = {
    "restaurant": "fi001-fi004 nofi001-nofi003",
    "cell": "fi005-fi012",
    "classroom": "fi013-fi014 fi044-fi045 nofi018 nofi022",
    "pool hall": "fi015-fi017 nofi016-nofi017",
    "school bus": "fi018 nofi043-nofi044",
    "yellow shop": "fi019-fi025 nofi045-nofi048",
    "cafe": "fi026-fi030",
    "car park": "fi031-fi042 nofi029-nofi033",
    "violet bar": "fi043",
    "office": "fi046-fi047 fi049-fi050 nofi023-nofi024",
    "crossing": "fi048 nofi025",
    "night yard": "nofi004-nofi005",
    "suburb": "nofi006",
    "night street": "nofi007-nofi008",
    "parked cars": "nofi009",
    "red shop": "nofi010",
    "entrance": "nofi011",
    "supermarket": "nofi012-nofi013",
    "filmed screen": "nofi014-nofi015",
    "cash machine": "nofi019-nofi020",
    "wooden floor": "nofi021",
    "pavement": "nofi026-nofi027",
    "gym": "nofi028",
    "news lift": "nofi034-nofi035",
    "news street": "nofi036",
    "night bus": "nofi037-nofi038",
    "city bus": "nofi039-nofi042",
    "infrared": "nofi049",
    "alley": "nofi050",
    "make-up": " ".join(f"footage/actions/v_ApplyEyeMakeup_g01_c0{i}.avi" for i in range(1, 6)),
    "bench press": " ".join(f"footage/actions/v_BenchPress_g01_c0{i}.avi" for i in range(1, 6)),
    "diving": " ".join(f"footage/actions/v_Diving_g01_c0{i}.avi" for i in range(1, 6)),
    "park": "footage/films/chaplin.mp4",
    "red room": "footage/films/fire2.mp4",
    "rock": "clips/abseiling.mp4",
    "arm wrestling": "clips/arm_wrestling.mp4",
    "basketball": "clips/basketball.avi",
}
SUFFIXES = (".mp4", ".avi", ".mkv", ".webm")


@dataclass(frozen=True)
class Material:
    """A folder with clips/, fights/, footage/ and photos/imagenet200/."""

    folder: Path

    def places(self, half: Half) -> dict[str, list[str]]:
        """The places of one half, and the clips of each by their path under the folder.

        Raises:
            InputNotFoundError: a clip is missing.
        """
        chosen = halved(_listed())[half]
        found = {place: _clips(PLACES[place]) for place in sorted(chosen)}
        for path in (path for paths in found.values() for path in paths):
            if not (self.folder / path).is_file():
                raise InputNotFoundError(
                    f"{self.folder} holds no {path}",
                    wanted="a folder with clips/, fights/, footage/ and photos/imagenet200/",
                    fix="give it with --material",
                )
        return found

    def single_clips(self, half: Half) -> list[str]:
        """All clips of one half as they are: those of its places, and its share of the files that no place lists."""
        of_places = {path: place for place, text in PLACES.items() for path in _clips(text)}
        files = (path for part in ("clips", "fights", "footage") for path in (self.folder / part).rglob("*"))
        paths = sorted(path.relative_to(self.folder).as_posix() for path in files if path.suffix in SUFFIXES)
        others = halved([[path for path in paths if path not in of_places]])[half]
        places = self.places(half)
        return [path for path in paths if of_places.get(path) in places or path in others]

    def photos(self, half: Half) -> list[Path]:
        """The photographs of one half.

        Raises:
            InputNotFoundError: there are fewer than 50.
        """
        paths = sorted((self.folder / "photos" / "imagenet200").glob("*.jpg"))
        if len(paths) < 50:
            raise InputNotFoundError(
                f"{self.folder} holds {len(paths)} photographs",
                wanted="at least 50 files photos/imagenet200/*.jpg",
                fix="give the folder with --material",
            )
        names = halved([[path.name for path in paths]])[half]
        return [path for path in paths if path.name in names]

    def frames(self, path: str, size: tuple[int, int] = SIZE, *, most: int = 750) -> UInt8Array:
        """The first frames of a clip at FPS pictures per second, uint8 [N, H, W, 3] RGB, cropped to the size."""
        return _read(self.folder / path, size, most)


def _listed() -> list[list[str]]:
    """Places in groups that each fall half to the one half and half to the other: of several clips, of few, of one."""
    sizes = {place: len(_clips(text)) for place, text in PLACES.items()}
    return [
        [place for place in PLACES if sizes[place] >= 4],
        [place for place in PLACES if 2 <= sizes[place] < 4],
        [place for place in PLACES if sizes[place] == 1],
    ]


def halved(groups: Sequence[Sequence[str]]) -> dict[Half, set[str]]:
    """Split names in two at random, each group by itself: one drawn order, and its names to the halves in turn."""
    rng = np.random.default_rng(SPLIT_SEED)
    halves: dict[Half, set[str]] = {half: set() for half in HALVES}
    turn = 0
    for group in groups:
        for i in rng.permutation(len(group)):
            halves[HALVES[turn % 2]].add(sorted(group)[i])
            turn += 1
    return halves


def _clips(text: str) -> list[str]:
    """Paths under the material of a line of PLACES."""
    paths = []
    for word in text.split():
        match = re.fullmatch(r"((?:no)?)fi(\d+)(?:-(?:no)?fi(\d+))?", word)
        if match is None:
            paths.append(word)
            continue
        prefix, first, last = match[1], int(match[2]), int(match[3] or match[2])
        folder = "noFight" if prefix else "fight"
        paths += [f"fights/{folder}/{prefix}fi{i:03d}.mp4" for i in range(first, last + 1)]
    return paths


@lru_cache(maxsize=16)
def _read(path: Path, size: tuple[int, int], most: int) -> UInt8Array:
    width, height = size
    pictures, times = [], []
    with av.open(str(path)) as container:
        for frame in container.decode(container.streams.video[0]):
            scale = max(width / frame.width, height / frame.height)
            scaled = (round(frame.width * scale), round(frame.height * scale))
            picture = frame.to_ndarray(format="rgb24", width=scaled[0], height=scaled[1], interpolation="AREA")
            left, top = (scaled[0] - width) // 2, (scaled[1] - height) // 2
            pictures.append(picture[top : top + height, left : left + width])
            times.append(frame.time)
            if times[-1] - times[0] > most / FPS:
                break
    seconds = np.array(times) - times[0]
    count = max(1, min(most, round(seconds[-1] * FPS)))
    shown = displayed_at(seconds, np.arange(count) / FPS)
    return np.stack([pictures[i] for i in shown.tolist()])


def there_and_back(length: int, first: int, count: int) -> Int64Array:
    """Frame numbers [count] of a clip of `length` frames that is played forwards, backwards, forwards, ..."""
    if length == 1:
        return np.zeros(count, dtype=np.int64)
    place = (first + np.arange(count)) % (2 * length - 2)
    return np.minimum(place, 2 * length - 2 - place).astype(np.int64)


@lru_cache(maxsize=64)
def photograph(path: Path) -> Image.Image:
    """A photograph, RGB."""
    with Image.open(path) as opened:
        return opened.convert("RGB")


def cropped(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The middle of a picture, scaled to fill the size."""
    scale = max(size[0] / picture.width, size[1] / picture.height)
    width, height = size[0] / scale, size[1] / scale
    left, top = max(0.0, (picture.width - width) / 2), max(0.0, (picture.height - height) / 2)
    box = (left, top, min(left + width, picture.width), min(top + height, picture.height))  # against rounding
    return picture.resize(size, Image.Resampling.BICUBIC, box=box)
