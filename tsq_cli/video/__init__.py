"""From files to frames; the only package that imports PyAV."""

from tsq_cli.video.decode import decode_frames, frames_at_once
from tsq_cli.video.frames import FrameSource, Source, frame_source
from tsq_cli.video.media import Media, MediaBytes
from tsq_cli.video.probe import VideoSource, open_video
from tsq_cli.video.sample import parse_timecode, sample_frames
from tsq_cli.video.stop import deadline

__all__ = [
    "FrameSource",
    "Media",
    "MediaBytes",
    "Source",
    "VideoSource",
    "deadline",
    "decode_frames",
    "frame_source",
    "frames_at_once",
    "open_video",
    "parse_timecode",
    "sample_frames",
]
