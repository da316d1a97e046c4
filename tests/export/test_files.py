"""Files of exports: whole, named after their kind, and never written over what is not of the same video."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.export.material import selected
from tsq_cli import export
from tsq_cli.errors import OutputError, UsageError


def test_a_file_is_replaced_by_its_own_video_alone(tmp_path: Path) -> None:
    record, _ = selected("h264_b_frames")
    path = tmp_path / "new" / "x.edl"

    def write(video_id: str | None, *, overwrite: bool = False) -> None:
        written = export.write("edl", record, folder=path.parent, stem="x", video_id=video_id, overwrite=overwrite)
        assert written == str(path)

    write("1a2b3c4d")
    assert export.video_id_in(path) == "1a2b3c4d"
    before = path.stat().st_ino
    write("1a2b3c4d")
    assert path.stat().st_ino != before
    for other in ("5e6f7a8b", None):
        with pytest.raises(OutputError, match="File exists"):
            write(other)
    assert export.video_id_in(path) == "1a2b3c4d"
    write("5e6f7a8b", overwrite=True)
    assert export.video_id_in(path) == "5e6f7a8b"
    path.write_text("somebody's cuts")
    assert export.video_id_in(path) is None
    with pytest.raises(OutputError, match="File exists"):
        write(None)
    assert path.read_text() == "somebody's cuts"


@pytest.mark.parametrize("kind", export.KINDS)
def test_every_kind_says_whose_it_is_in_its_first_lines(kind: str, tmp_path: Path) -> None:
    record, images = selected("h264_b_frames")
    record["video"]["path"] = "long/" * 300 + "n" * 200 + ".mp4"
    path = export.write(kind, record, images, folder=tmp_path, stem="x", video_id="1a2b3c4d")  # type: ignore[arg-type]
    assert export.video_id_in(Path(path)) == "1a2b3c4d"


def test_kinds_are_listed_once_and_checked() -> None:
    assert export.check_kinds(["edl", "openai", "edl"]) == ("edl", "openai")
    with pytest.raises(UsageError, match=r"there is no export 'ffmeta'.*try --export ffmetadata"):
        export.check_kinds(["edl", "ffmeta"])
