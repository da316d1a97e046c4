"""Versions and decoders of the FFmpeg that PyAV carries."""

from __future__ import annotations

from collections.abc import Mapping

_SOFTWARE_DECODERS: Mapping[str, tuple[str, ...]] = {
    "h264": ("h264",),
    "hevc": ("hevc",),
    "vp9": ("vp9", "libvpx-vp9"),
    "av1": ("libdav1d", "libaom-av1"),  # FFmpeg's own "av1" needs a GPU
}


def library_versions() -> dict[str, str]:
    """Return the version of each FFmpeg library by name, "libavcodec": "62.28.102"."""
    import av

    return {name: ".".join(map(str, version)) for name, version in av.library_versions.items()}


def decoders() -> dict[str, str | None]:
    """Return by codec (h264, hevc, vp9, av1) the name of a decoder that runs on a CPU; None where there is none."""
    from av.codec import codecs_available

    return {
        codec: next((name for name in names if name in codecs_available), None)
        for codec, names in _SOFTWARE_DECODERS.items()
    }
