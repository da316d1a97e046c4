"""Material of benchmarks/words.py: clips whose right names are known, and the networks' outputs for each."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from tsq_cli.clip import load_clip
from tsq_cli.config import SelectSettings
from tsq_cli.errors import InputNotFoundError
from tsq_cli.models.microbatches import cpu_microbatches
from tsq_cli.packs import LoadedRecognizer, Pack
from tsq_cli.scoring import encode
from tsq_cli.types import UInt8Array

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))  # the composer lies in a folder that is no package
from needle_videos import (
    PARTS,
    SHOTS,
    SPLIT_SEED,
    VARIANTS,
    Part,
    Photo,
    Shot,
    draw,
    find_photos,
    hard_look,
    plain_look,
    plan_video,
)

Kind = Literal["whole", "needle", "film"]
KINDS: tuple[Kind, ...] = ("whole", "needle", "film")
NEEDLES = 100  # of either part
LOOKS = (plain_look, hard_look)  # of each photograph, a video each

# Every scene of the film material, with the names that a viewer would let pass for it, by classes.txt, decided by
# looking at the frames before any result was seen. Clips of one scene stay in one half: every other scene is for
# tuning. Files are named by their stem; a range is of clips that are numbered.
SCENES: tuple[tuple[str, str], ...] = (
    ("fi001 fi002 nofi002-003", "restaurant"),
    ("fi003-004 nofi001", ""),
    ("fi005-012", "dining table"),
    ("fi013-014 nofi018", "pool table"),
    ("fi015-017 nofi016-017", "pool table"),
    ("fi018 nofi043-044", "school bus|minibus"),
    ("fi019-025 nofi045-048", "restaurant"),
    ("fi026-030", "restaurant"),
    ("fi031-042 nofi029-033", "bannister"),
    ("fi043", ""),
    ("fi044-045 nofi022", "desk"),
    ("fi046-047 fi049-050 nofi023-024", "desk|desktop computer|computer monitor|CRT screen"),
    ("fi048 nofi025", ""),
    ("nofi004-005", ""),
    ("nofi006", "minivan|station wagon|jeep car"),
    ("nofi007-008", ""),
    ("nofi009", "minivan|station wagon|car wheel|sports car"),
    ("nofi010", ""),
    ("nofi011", ""),
    ("nofi012-013", "grocery store"),
    ("nofi014-015", "computer monitor|CRT screen|television|desktop computer"),
    ("nofi019-020", "cash machine"),
    ("nofi021", ""),
    ("nofi026-027", ""),
    ("nofi028", "barbell|dumbbell"),
    ("nofi034-035", ""),
    ("nofi036", ""),
    ("nofi037-042", "minibus|trolleybus|streetcar|railway passenger car"),
    ("nofi049", ""),
    ("nofi050", ""),
    ("abseiling", "cliff|alpine mountain|valley"),
    ("arm_wrestling", "pop bottle|restaurant"),
    ("av1 example sar_2x1 video-h265", "television|computer monitor|CRT screen|digital clock"),
    ("basketball", "basketball"),
    ("h265", ""),
    ("nasa", "space shuttle"),
    ("v_ApplyEyeMakeup_g01_c01-05", "face powder|lipstick"),
    ("v_BenchPress_g01_c01-05", "barbell|dumbbell"),
    ("v_Diving_g01_c01-05", "swimming trunks|maillot tights|maillot swimsuit|bikini"),
    ("big_buck_bunny_0_30 rotate-buck-bunny", ""),
    ("chaplin", "business suit|trench coat"),
    ("fire2", "Border collie|English springer spaniel|bookcase|fire screen|stove|tub vat"),
    ("video", ""),
    ("video_with_failing_audio", "airliner|warplane|airplane wing"),
    ("cursed-vfr", "web site|computer monitor|CRT screen|desktop computer"),
    ("edts no_duration", ""),
    ("transparency", "cellular telephone|iPod|hand-held computer"),
)


@dataclass(frozen=True)
class Material:
    """One clip and what is right to say of it.

    Attributes:
        name: of the file, or of the photograph.
        kind: "whole": one photograph throughout; "needle": 2 of 16 shots show the event; "film": real footage.
        part: the half that it belongs to.
        group: clips of one photograph, or of one scene, which are not independent of each other.
        right: indices of the classes that may be named; none where no class is right.
        event: bool [T], candidates that show the event; None where there is none.
        read: gives the candidates, uint8 [T, H, W, 3].
    """

    name: str
    kind: Kind
    part: Part
    group: str
    right: frozenset[int]
    read: Callable[[], UInt8Array]
    event: tuple[bool, ...] | None = None


@dataclass(frozen=True)
class Seen:
    """Outputs of the networks for a clip.

    Attributes:
        material: the clip.
        features: float32 [T, Dv] of the visual encoder.
        logits: float32 [T, O] of the object recognizer.
        recognized: float32 [T, C], logits of the embedded recognizer, which sees larger pictures.
    """

    material: Material
    features: Tensor
    logits: Tensor
    recognized: Tensor


def photograph_clips(folder: Path) -> Iterator[Material]:
    """Clips of both parts drawn from photographs, one per class: of one throughout, and of an event among others."""

    @cache
    def opened(path: Path) -> Image.Image:
        return Image.open(path).convert("RGB")

    def clip(kind: Kind, name: str, part: Part, event: Photo, shots: Sequence[tuple[Shot, float]]) -> Material:
        return Material(
            name=name,
            kind=kind,
            part=part,
            group=event.class_name,
            right=frozenset({event.class_index}),
            event=tuple(shot.photo is event for shot, _ in shots) if kind == "needle" else None,
            read=lambda: np.stack([np.asarray(draw(shot, progress, opened)) for shot, progress in shots]),
        )

    for number, part in enumerate(PARTS):
        photos = find_photos(folder, part)
        for photo in photos:
            for i, look in enumerate(LOOKS):
                shot = Shot("event", photo, look(np.random.default_rng([SPLIT_SEED, photo.class_index, i])))
                moments = [(shot, (moment + 0.5) / SHOTS) for moment in range(SHOTS)]
                yield clip("whole", f"{photo.path.stem} {i}", part, photo, moments)
        for i in range(NEEDLES):
            shots = plan_video(photos, VARIANTS["plain"], np.random.default_rng([SPLIT_SEED, 1000 + number, i]))
            event = next(shot.photo for shot in shots if shot.kind == "event" and shot.photo is not None)
            yield clip("needle", f"needle {i}", part, event, [(shot, 0.5) for shot in shots])


def film_clips(folder: Path, class_names: Sequence[str]) -> Iterator[Material]:
    """The clips of SCENES that lie anywhere under a folder.

    Raises:
        InputNotFoundError: none of them does.
    """
    files = {path.stem: path for path in sorted(folder.rglob("*")) if path.suffix in (".mp4", ".avi", ".mkv", ".webm")}
    found = [stem for stems, _ in SCENES for stem in spelled_out(stems) if stem in files]
    if not found:
        raise InputNotFoundError(
            f"{folder} holds no film that is known here", wanted="the clips of SCENES", fix="give their folder"
        )
    for number, (stems, names) in enumerate(SCENES):
        right = frozenset(class_names.index(name) for name in names.split("|") if name)
        for stem in spelled_out(stems):
            if stem in files:
                pictures = partial(_candidates, files[stem])
                yield Material(stem, "film", PARTS[number % 2], stems, right, pictures)


def spelled_out(stems: str) -> Iterator[str]:
    """Every name of a list like "a b05-07": a, b05, b06, b07."""
    for part in stems.split():
        start, dash, end = part.rpartition("-")
        if not (dash and end.isdigit() and start[-len(end) :].isdigit()):
            yield part
            continue
        prefix, width = start[: -len(end)], len(end)
        yield from (f"{prefix}{number:0{width}d}" for number in range(int(start[-width:]), int(end) + 1))


def _candidates(path: Path) -> UInt8Array:
    with closing(load_clip(path, SelectSettings())) as clip:
        return clip.batch.pixels


def see(pack: Pack, recognizer: LoadedRecognizer, material: Material) -> Seen:
    """Have the networks look at all candidates of a clip."""
    pixels = torch.from_numpy(material.read())
    with torch.inference_mode():
        features, logits = (of[0].float() for of in encode(pack, [pixels]))
        images = recognizer.preprocessor(pixels)
        recognized = torch.cat([recognizer.recognizer(some).logits for some in cpu_microbatches(images)]).float()
    return Seen(material, features, logits, recognized)
