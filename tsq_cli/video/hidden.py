"""Detect packets that show nothing: VP8 and VP9 have packets with hidden frames, which only later frames refer to."""

from __future__ import annotations

from collections.abc import Iterator

HIDING_CODECS = frozenset({"vp8", "vp9"})
"""Codecs with such packets."""


def shows_nothing(codec: str, packet: memoryview) -> bool:
    """Test whether a packet holds hidden frames only.

    AV1 needs no test: a packet is a temporal unit, which shows exactly one frame (AV1 specification, 7.5).
    """
    if codec == "vp8":  # RFC 6386, 9.1: bit 4 of the first byte is show_frame
        return not packet[0] & 0x10
    return codec == "vp9" and not any(_is_shown_vp9(frame) for frame in _vp9_frames(packet))


def _is_shown_vp9(frame: memoryview) -> bool:
    """Read show_existing_frame or show_frame of an uncompressed header (VP9 bitstream specification, 6.2)."""
    # From the highest bit: frame_marker (2), profile (2), reserved in profile 3 only, show_existing_frame, frame_type,
    # show_frame.
    if frame[0] >> 6 != 0b10:  # damaged: it is for the decoder to say what it shows
        return True
    is_profile_3 = frame[0] & 0x30 == 0x30
    header = frame[0] >> (0 if is_profile_3 else 1)
    return bool(header & 0b101)


def _vp9_frames(packet: memoryview) -> Iterator[memoryview]:
    """Split a packet into frames: a superframe has several, with their sizes at its end (Annex B)."""
    marker = packet[-1]
    count, width = (marker & 7) + 1, (marker >> 3 & 3) + 1
    index = 2 + count * width
    if marker & 0xE0 != 0xC0 or len(packet) < index or packet[-index] != marker:
        yield packet
        return
    start, end = 0, len(packet) - index
    for i in range(count):
        place = end + 1 + i * width
        size = int.from_bytes(packet[place : place + width], "little")
        if 0 < size <= end - start:
            yield packet[start : start + size]
        start += size
