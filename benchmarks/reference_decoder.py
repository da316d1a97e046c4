"""Plain reading and writing with PyAV, without a plan: what the planned decoder is measured and checked against."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from tsq_cli.types import Float64Array, Int64Array, UInt8Array


def frame_seconds(path: Path, stream_index: int) -> Float64Array:
    """Times of all frames of a stream on the file's own clock, float64 [N], rising, by decoding every one.

    Decoders give frames in the order of display. Their times can be in another (packed DivX), and raw streams have
    none: there frames follow each other at the rate stated.
    """
    with av.open(str(path)) as container:
        stream = next(s for s in container.streams.video if s.index == stream_index)
        stream.codec_context.thread_count = 1  # of a damaged stream, several threads give other frames
        times = [frame.pts for frame in _frames(container, stream)]
        if None in times:
            return np.arange(len(times)) / float(stream.guessed_rate or stream.average_rate or 25)
        seconds: Float64Array = np.sort(np.array(times, dtype=np.float64)) * float(stream.time_base or 1)
        return seconds


def decode_all(
    path: Path, indices: Int64Array, *, stream_index: int, width: int, height: int, threads: int
) -> UInt8Array:
    """Decode a whole stream and keep some frames.

    Args:
        path: the file.
        indices: int64 [T], frames by their number; one beyond either end is the frame at that end.
        stream_index: of the stream in the file.
        width, height: size of the result in pixels.
        threads: decoder threads.

    Returns:
        uint8 [T, height, width, 3], RGB, upright.
    """
    needed = set(indices.tolist())
    kept: dict[int, UInt8Array] = {}
    last = 0
    with av.open(str(path)) as container:
        stream = next(s for s in container.streams.video if s.index == stream_index)
        stream.codec_context.thread_count = threads
        stream.thread_type = "AUTO"
        for last, frame in enumerate(_frames(container, stream)):
            if last in needed:
                kept[last] = _upright(frame, width, height)
            newest = frame
    if last not in kept:  # it stands for those beyond it
        kept[last] = _upright(newest, width, height)
    return np.stack([kept[index] for index in np.clip(indices, 0, last).tolist()])


def _frames(container: Any, stream: Any) -> Iterator[Any]:
    """Every frame that can be decoded: container.decode would end at the first damaged packet."""
    for packet in _packets(container, stream):
        with suppress(av.FFmpegError):
            yield from stream.decode(packet)


def _packets(container: Any, stream: Any) -> Iterator[Any]:
    """All packets up to where the file is cut off, then None, which brings out what the decoder still holds."""
    with suppress(av.FFmpegError):
        yield from (packet for packet in container.demux(stream) if packet.size)
    yield None


def _upright(frame: Any, width: int, height: int) -> UInt8Array:
    turns = round(frame.rotation / 90) % 4  # counter-clockwise
    if turns % 2:
        width, height = height, width
    picture = frame.to_ndarray(format="rgb24", width=width, height=height, interpolation="AREA")
    return np.ascontiguousarray(np.rot90(picture, turns))


def write_clip(
    path: Path,
    pictures: Iterable[UInt8Array],
    *,
    fps: int,
    encoder: str = "libx264",
    keyframe_every: int = 250,
    b_frames: int | None = None,
    bit_rate: int | None = None,
    options: Mapping[str, str] | None = None,
    milliseconds: Sequence[int] | None = None,
    clockwise_degrees: int = 0,
) -> None:
    """Encode pictures, uint8 [H, W, 3] RGB with even sides, as a yuv420p video; the name decides the container.

    Args:
        milliseconds: time of each picture, rising; None for the times of `fps`.
        clockwise_degrees: how players are to turn the pictures.
    """
    tick = Fraction(1, fps) if milliseconds is None else Fraction(1, 1000)
    with av.open(str(path), "w") as container:
        stream: Any = None
        for number, picture in enumerate(pictures):
            if stream is None:
                stream = container.add_stream(encoder, rate=fps, options=dict(options or {}))
                stream.height, stream.width = picture.shape[:2]
                stream.pix_fmt = "yuv420p"
                stream.codec_context.gop_size = keyframe_every
                if b_frames is not None:
                    stream.codec_context.max_b_frames = b_frames
                if bit_rate is not None:
                    stream.codec_context.bit_rate = bit_rate
                if milliseconds is not None:
                    stream.codec_context.time_base = tick
                if clockwise_degrees:
                    stream.set_display_rotation(-clockwise_degrees)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = number if milliseconds is None else milliseconds[number], tick
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def repeat_packets(source_path: Path, target_path: Path, times: int) -> None:
    """Write a clip's packets several times over, one after the other, without coding them again."""
    with av.open(str(source_path)) as source, av.open(str(target_path), "w") as target:
        template = source.streams.video[0]
        stream: Any = target.add_stream_from_template(template)
        packets: list[Any] = [packet for packet in source.demux(template) if packet.size]
        lap_length = packets[0].duration * len(packets)
        for lap in range(times):
            for packet in packets:
                copy: Any = av.Packet(bytes(packet))
                copy.pts, copy.dts = packet.pts + lap * lap_length, packet.dts + lap * lap_length
                copy.time_base, copy.duration = packet.time_base, packet.duration
                copy.is_keyframe, copy.stream = packet.is_keyframe, stream
                target.mux(copy)
