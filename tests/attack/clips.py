"""Small clips in seven containers, made on the fly: what the attacks start from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path

import av

from tests.video.encoding import FRAME, Recipe, encode

_MILLISECOND = Fraction(1, 1000)
_BASE = Recipe(num_frames=60, width=320, height=240, b_frames=2)


@dataclass(frozen=True, kw_only=True)
class Source:
    """How one clip is made: the container is the ending of its name."""

    name: str
    recipe: Recipe
    options: dict[str, str] = field(default_factory=dict)

    @property
    def container(self) -> str:
        """The container's usual ending, without the dot."""
        return self.name.rpartition(".")[2]


_COARSE = replace(_BASE, time_base=_MILLISECOND)
_WHOLE = replace(_BASE, time_base=FRAME)

SOURCES = (
    Source(name="h264.mp4", recipe=_BASE),
    Source(name="mpeg4.mov", recipe=replace(_WHOLE, codec="mpeg4")),
    Source(name="h264.mkv", recipe=_COARSE),
    Source(name="vp9.webm", recipe=replace(_COARSE, codec="libvpx-vp9")),
    Source(name="mpeg4.avi", recipe=replace(_WHOLE, codec="mpeg4")),
    Source(name="mpeg2.ts", recipe=replace(_WHOLE, codec="mpeg2video")),
    Source(name="h264.flv", recipe=_COARSE),
    # A second clip of each container that has more than one usual codec or form
    Source(
        name="hevc-fragmented.mp4",
        recipe=replace(_BASE, codec="libx265", options={"x265-params": "open-gop=0"}),
        options={"movflags": "frag_keyframe+empty_moov"},
    ),
    Source(name="mjpeg.mov", recipe=replace(_WHOLE, codec="mjpeg", pix_fmt="yuvj420p", full_range=True, b_frames=0)),
    Source(name="av1.mkv", recipe=replace(_COARSE, codec="libsvtav1")),
    Source(name="vp8.webm", recipe=replace(_COARSE, codec="libvpx")),
    Source(name="mjpeg.avi", recipe=replace(_WHOLE, codec="mjpeg", pix_fmt="yuvj420p", full_range=True, b_frames=0)),
    Source(name="h264.ts", recipe=_BASE),
    Source(name="flv1.flv", recipe=replace(_COARSE, codec="flv", b_frames=0)),
)
"""The first seven are one for each container."""


def make(folder: Path, sources: Sequence[Source] = SOURCES) -> dict[str, bytes]:
    """Encode the clips that this build of FFmpeg can; their content by name."""
    made = {}
    for source in sources:
        if source.recipe.codec in av.codecs_available:
            path = folder / source.name
            encode(path, source.recipe, options=source.options)
            made[source.name] = path.read_bytes()
    return made
