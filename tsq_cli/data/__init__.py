"""Lists of labeled videos in the formats of common data sets."""

from tsq_cli.data.lists import LabeledVideo, VideoList
from tsq_cli.data.read import read_video_list

__all__ = ["LabeledVideo", "VideoList", "read_video_list"]
