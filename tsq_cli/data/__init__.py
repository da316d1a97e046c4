"""Lists of labeled videos in the formats of common data sets."""

from tsq_cli.data.checks import need_videos, warnings_of
from tsq_cli.data.lists import LabeledVideo, VideoList
from tsq_cli.data.read import read_video_list
from tsq_cli.data.split import list_csv, split_list

__all__ = ["LabeledVideo", "VideoList", "list_csv", "need_videos", "read_video_list", "split_list", "warnings_of"]
