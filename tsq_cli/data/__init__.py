"""Lists of labelled videos, in the formats that data sets come in."""

from tsq_cli.data.lists import LabelledVideo, VideoList
from tsq_cli.data.read import read_video_list

__all__ = ["LabelledVideo", "VideoList", "read_video_list"]
