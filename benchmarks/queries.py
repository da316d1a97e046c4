"""Measure free text queries by object names: which frames they find, and what they say where there is nothing to find.

    python -m benchmarks.queries --photos IMAGENET --actions STANFORD --json docs/query.json

IMAGENET is a folder of one photograph per class (`{index:03d}_{anything}.jpg`), STANFORD one with a folder of
photographs per action of Stanford 40. A clip is 16 frames of different things, windows of photographs at random; in two
of them is what the query asks for, or in none. Photographs and queries of the two parts differ. The settings were
chosen on the tuning part.
"""

from __future__ import annotations

import argparse
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.queries_material import TEST, TUNING, Asked
from tsq_cli.matching import names_matcher
from tsq_cli.packs import load_pack
from tsq_cli.types import MATCH_LEVEL

SIZE = (340, 256)
FRAMES, SHOWN = 16, 2
LOOKS = 4
"""Windows of each ImageNet photograph, of which there is only one per class."""
PER_ACTION = 60
CLIPS = 40
"""Clips per thing with it, and as many without."""


@dataclass(frozen=True, kw_only=True)
class Pool:
    """The frames of one part: what each shows, its photograph, and its match with each phrase."""

    shows: Sequence[int | str]
    photos: Sequence[str]
    matches: Mapping[str, Any]


def main() -> None:
    """Measure both parts and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("--photos", "--actions", "--json"):
        parser.add_argument(name, type=Path, required=True)
    options = parser.parse_args()
    photos: list[tuple[int | str, Path, int]] = [
        (int(path.name[:3]), path, LOOKS) for path in sorted(options.photos.glob("*.jpg"))
    ]
    for folder in sorted(path for path in options.actions.iterdir() if path.is_dir()):
        photos += [(folder.name, path, 1) for path in sorted(folder.glob("*.jpg"))[:PER_ACTION]]
    matcher = names_matcher(load_pack("imagenet-lite"), "measured")
    settings = matcher.pack.config.settings
    report: dict[str, Any] = {
        "settings": {name: value for name, value in vars(settings).items() if name.startswith("query_")},
        "frames": FRAMES,
        "shown_in": SHOWN,
        "clips_per_query": CLIPS,
    }
    for part, asked in (("tuning", TUNING), ("test", TEST)):
        report[part] = measure(asked, _pool(photos, part, asked, matcher), seed=1 if part == "tuning" else 2)
        print(part, json.dumps(report[part]["all"]))
    options.json.write_text(json.dumps(report, indent=1) + "\n")


def _pool(photos: Sequence[tuple[int | str, Path, int]], part: str, asked: Mapping[str, Asked], matcher: Any) -> Pool:
    """Draw the frames of a part, and match each with all phrases."""
    rng = np.random.default_rng(0)
    chosen = [photo for photo in photos if _part_of(photo[0], photo[1]) == part]
    looks = [(shows, path) for shows, path, count in chosen for _ in range(count)]
    phrases = [phrase for thing in asked.values() for phrase in thing.phrases]
    parts = []
    for start in range(0, len(looks), 32):
        some = np.stack([_window(path, rng) for _, path in looks[start : start + 32]])
        parts.append(matcher.match([torch.from_numpy(some)], phrases)[0].cpu().numpy())
    matches = np.concatenate(parts, axis=1)
    return Pool(
        shows=[shows for shows, _ in looks],
        photos=[path.name for _, path in looks],
        matches=dict(zip(phrases, matches, strict=True)),
    )


def _part_of(shows: int | str, path: Path) -> str:
    """Assign a photograph: what only one part asks for goes there; the rest is halved, by photograph."""
    parts = [name for name, asked in (("tuning", TUNING), ("test", TEST)) if _asks(asked, shows)]
    return parts[0] if len(parts) == 1 else ("tuning", "test")[zlib.crc32(path.name.encode()) % 2]


def _asks(asked: Mapping[str, Asked], shows: int | str) -> bool:
    return any(shows in thing.shown_by for thing in asked.values())


def _window(path: Path, rng: np.random.Generator) -> Any:
    """Cut a window of 0.6 to 1 of a photograph's width, as in the needle videos: uint8 [256, 340, 3]."""
    with Image.open(path) as opened:
        photo = opened.convert("RGB")
    left, top = rng.uniform(0, 1, 2)
    scale = rng.uniform(0.6, 1.0) * min(photo.width / SIZE[0], photo.height / SIZE[1])
    width, height = SIZE[0] * scale, SIZE[1] * scale
    x, y = left * max(0.0, photo.width - width), top * max(0.0, photo.height - height)
    box = (x, y, min(x + width, photo.width), min(y + height, photo.height))
    return np.asarray(photo.resize(SIZE, Image.Resampling.BICUBIC, box=box))


def measure(asked: Mapping[str, Asked], pool: Pool, *, seed: int) -> dict[str, Any]:
    """Measure one part: recall of the two frames, and both kinds of error at the level.

    Args:
        asked: the things and their phrases.
        pool: the frames.
        seed: of the clips.
    """
    rng = np.random.default_rng(seed)
    by = {shows: np.flatnonzero([other == shows for other in pool.shows]) for shows in dict.fromkeys(pool.shows)}
    rows: dict[str, dict[str, Any]] = {}
    for name, thing in asked.items():
        others = [shows for shows in by if shows not in thing.shown_by and shows not in thing.unclear]
        own = np.concatenate([by[shows] for shows in thing.shown_by if shows in by])
        counts: dict[str, list[list[float]]] = {phrase: [] for phrase in thing.phrases}
        for _ in range(CLIPS):
            apart = [
                int(by[others[i]][rng.integers(len(by[others[i]]))]) for i in rng.permutation(len(others))[:FRAMES]
            ]
            shown = rng.choice(own, SHOWN, replace=False)
            for phrase in thing.phrases:
                match = pool.matches[phrase]
                clip = np.concatenate([match[shown], match[apart[SHOWN:]]])
                found = np.argsort(-clip, kind="stable")[:SHOWN] < SHOWN
                counts[phrase].append(
                    [
                        float(found.mean()),
                        float(clip.argmax() < SHOWN),
                        float(clip.max() < MATCH_LEVEL),
                        float(match[apart].max() >= MATCH_LEVEL),
                    ]
                )
        rows[name] = {phrase: _means(np.array(values)) for phrase, values in counts.items()}
    return {
        "all": _summary(rows),
        "by phrase": [_summary(rows, place) for place in range(4)],
        "by thing": {name: _rounded(np.mean(list(of.values()), axis=0)) for name, of in rows.items()},
    }


def _means(values: Any) -> list[float]:
    return [float(value) for value in values.mean(axis=0)]


def _summary(rows: Mapping[str, Mapping[str, list[float]]], place: int | None = None) -> dict[str, Any]:
    """Average over phrases and things, with 95 % intervals by resampling things."""
    things = np.array(
        [np.mean(list(of.values()), axis=0) if place is None else list(of.values())[place] for of in rows.values()]
    )
    drawn = np.random.default_rng(0).integers(len(things), size=(10_000, len(things)))
    low, high = np.quantile(things[drawn].mean(axis=1), [0.025, 0.975], axis=0)
    return {
        name: {"value": round(float(value), 3), "interval": [round(float(low[i]), 3), round(float(high[i]), 3)]}
        for i, (name, value) in enumerate(zip(_NAMES, things.mean(axis=0), strict=True))
    }


def _rounded(values: Any) -> dict[str, float]:
    return {name: round(float(value), 3) for name, value in zip(_NAMES, values, strict=True)}


_NAMES = ("recall@2", "top 1", "said absent though shown", "said shown though absent")

if __name__ == "__main__":
    main()
