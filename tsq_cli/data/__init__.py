"""Lists of labeled videos, in the formats that data sets come in."""

from tsq_cli.data.lists import LabeledVideo, VideoList
from tsq_cli.data.read import read_video_list

__all__ = ["LabeledVideo", "VideoList", "read_video_list"]
