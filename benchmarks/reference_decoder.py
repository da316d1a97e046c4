"""Plain reading and writing with PyAV, without a plan: what the planned decoder is measured and checked against."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.stream import Disposition

from tsq_cli.types import Float64Array, Int64Array, UInt8Array


def frame_seconds(path: Path, stream_index: int) -> Float64Array:
    """Times of all frames of a stream on the file's own clock, float64 [N], by decoding every one."""
    with av.open(str(path)) as container:
        frames: Any = container.decode(container.streams[stream_index])
        return np.array([frame.time for frame in frames], dtype=np.float64)


def decode_all(path: Path, indices: Int64Array, *, width: int, height: int, threads: int) -> UInt8Array:
    """Decode a whole file and keep some frames.

    Args:
        path: the file; its first video stream that is no cover picture is read.
        indices: int64 [T], frames by their number; one beyond either end is the frame at that end.
        width, height: size of the result in pixels.
        threads: decoder threads.

    Returns:
        uint8 [T, height, width, 3], RGB, not rotated.
    """
    needed = set(indices.tolist())
    kept: dict[int, Any] = {}
    last = 0
    with av.open(str(path)) as container:
        stream = next(s for s in container.streams.video if not s.disposition & Disposition.attached_pic)
        stream.codec_context.thread_count = threads
        stream.thread_type = "AUTO"
        for last, frame in enumerate(container.decode(stream)):
            if last in needed:
                kept[last] = frame.to_ndarray(format="rgb24", width=width, height=height, interpolation="AREA")
    return np.stack([kept[index] for index in np.clip(indices, 0, last).tolist()])


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
) -> None:
    """Encode pictures, uint8 [H, W, 3] RGB with even sides, as a yuv420p video; the name decides the container."""
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
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, fps)
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
