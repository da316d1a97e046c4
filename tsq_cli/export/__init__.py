"""Selected frames in the form that other programs take: requests to models, arguments of processors, editors' markers.

All are pure functions of a record (docs/schema.json) and the pictures of its frames; `write` puts one into a file.
"""

from tsq_cli.export.images import DEFAULT_QUALITY, Jpeg, bounded, encode
from tsq_cli.export.kinds import (
    KINDS,
    build,
    check_kinds,
    encode_all,
    export_path,
    has_pictures,
    may_write,
    video_id_in,
    write,
)
from tsq_cli.export.processors import metadata, pre_extracted
from tsq_cli.export.tokens import Costs, estimate

__all__ = [
    "DEFAULT_QUALITY",
    "KINDS",
    "Costs",
    "Jpeg",
    "bounded",
    "build",
    "check_kinds",
    "encode",
    "encode_all",
    "estimate",
    "export_path",
    "has_pictures",
    "may_write",
    "metadata",
    "pre_extracted",
    "video_id_in",
    "write",
]
