"""Names that would command a terminal, end a run or run in a spreadsheet: shown escaped everywhere, exact in JSON."""

from __future__ import annotations

import ast
import csv
import io
import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import processes
from tests.cli.conftest import DEMO, ROOT, Result
from tests.report.page_material import CATEGORIES, record
from tests.video.clips import clip
from tsq_cli.cli import csv_rows, output
from tsq_cli.cli.streams import ASCII_FORMS
from tsq_cli.inputs import Inputs
from tsq_cli.types import Category

Tsq = Callable[..., Result]

EVIL = os.fsdecode(b"evil\x1b]0;PWNED\x07\x1b[31mred\xc2\x9b2J\xe2\x80\xae\n\xff  :car: [bold].mp4")
SHOWN = r"evil\x1b]0;PWNED\x07\x1b[31mred\u009b2J\u202e\n\xff  :car: [bold].mp4"
COMMANDS = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
FAST = ("select", "--selector", "uniform", "-n", "4", "-k", "2")


@pytest.fixture
def evil(tmp_path: Path) -> Path:
    """A clip under a name that is neither text nor harmless."""
    try:
        return Path(shutil.copy(clip("h264_b_frames").path, tmp_path / EVIL))
    except OSError:
        pytest.skip("this file system takes no such names")


def run(*arguments: str | Path, encoding: str) -> tuple[int, str, str]:
    """The program in a process of its own whose streams have an encoding."""
    done = processes.run(
        ["-m", "tsq_cli", *arguments],
        env={**os.environ, "PYTHONIOENCODING": encoding, "PYTHONPATH": str(ROOT), "COLUMNS": "200"},
        encoding=encoding.partition(":")[0],
    )
    return done.returncode, done.stdout, done.stderr


def test_a_name_is_escaped_wherever_a_person_looks_and_exact_in_json(tsq: Tsq, evil: Path, tmp_path: Path) -> None:
    broken = tmp_path / f"broken {EVIL}"
    broken.touch()
    files = {name: tmp_path / name for name in ("t.csv", "p.html", "r.jsonl")}
    result = tsq(
        *FAST, evil, broken, "--csv", files["t.csv"], "--html", files["p.html"], "--jsonl", files["r.jsonl"],
        "--sheet", tmp_path / "{stem}.png",
    )  # fmt: skip
    assert result.code == 1
    assert f"{SHOWN}  h264 160x120" in result.out
    assert f"broken {SHOWN} is empty (0 bytes); wanted" in result.err
    texts = [result.out, result.err, *(files[name].read_text(encoding="utf-8") for name in ("t.csv", "p.html"))]
    assert [COMMANDS.findall(text) for text in texts] == [[], [], [], []]
    assert all(SHOWN in text for text in texts)
    records = [json.loads(line) for line in files["r.jsonl"].read_text(encoding="ascii").splitlines()]
    assert [each["video"]["path"] for each in records] == [str(evil), str(broken)]
    assert str(broken) in records[1]["error"]["message"]
    assert records[0]["sheet"]


def test_a_missing_name_is_one_line_that_has_it_whole(tsq: Tsq) -> None:
    result = tsq("select", "no\nsuch  \x1b\x07.mp4")
    assert result.code == 2
    assert result.err.startswith(r"tsq: no\nsuch  \x1b\x07.mp4 does not exist; wanted an existing file")
    assert len(result.err.splitlines()) == 1


@pytest.mark.parametrize("encoding", ["utf-8:strict", "ascii", "cp1252"])
def test_no_name_and_no_encoding_of_the_streams_ends_a_run(evil: Path, encoding: str) -> None:
    shutil.copy(clip("h264_b_frames").path, evil.parent / "näxt 日.mp4")
    code, out, err = run(*FAST, evil.parent, encoding=encoding)
    assert (code, err) == (0, "tsq: 2 selected, 0 done before, 0 failed\n")
    assert SHOWN in out
    other = {"utf-8:strict": "näxt 日", "ascii": r"n\xe4xt \u65e5", "cp1252": r"näxt \u65e5"}[encoding]
    assert f"{other}.mp4  h264 160x120" in out
    assert out.count("uniform") == 4
    assert out.count("\\") == SHOWN.count("\\") + other.count("\\")  # nothing of ours had to be escaped


@pytest.mark.parametrize("option", [("--json",), ("--jsonl", "-")])
def test_json_on_an_ascii_stdout_has_the_exact_name(evil: Path, option: tuple[str, ...]) -> None:
    code, out, _ = run(*FAST, evil, *option, encoding="ascii")
    assert code == 0
    assert json.loads(out)["video"]["path"] == str(evil)


def printed(monkeypatch: pytest.MonkeyPatch, encoding: str, **changes: object) -> str:
    """A classified video's table, on a stdout of an encoding."""
    stdout = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors=ASCII_FORMS)
    monkeypatch.setattr(sys, "stdout", stdout)
    monkeypatch.setenv("COLUMNS", "200")
    made = record(**changes).to_dict()  # type: ignore[arg-type]
    inputs = Inputs(paths=("a",), single=True)
    with output.Output(inputs, verb="x", as_json=False, jsonl=None, csv=None, html=None) as out:
        out.add(made)
    stdout.flush()
    assert isinstance(stdout.buffer, io.BytesIO)
    return stdout.buffer.getvalue().decode(encoding)


def test_curves_and_bars_are_plain_where_the_encoding_has_no_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    # Saliencies k / 136, k from 1 to 16: of the largest, one to sixteen sixteenths, in eighths that start at 1.
    plain, fancy = (printed(monkeypatch, encoding) for encoding in ("ascii", "utf-8"))
    assert "S^v 1223344556677888  Egyptian cat 0.52, tiger cat 0.29" in plain
    assert "S^v ▁▂▂▃▃▄▄▅▅▆▆▇▇███  Egyptian cat 0.52, tiger cat 0.29" in fancy
    assert re.findall("#+", plain) == ["#" * 10, "#" * 6]  # 0.52 and 0.29 of 20 places
    assert "\\" not in plain


def test_names_of_classes_and_of_metadata_are_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    nasty = tuple(Category(index=i, label=EVIL, score=0.5) for i in range(2))
    shown = printed(
        monkeypatch, "utf-8", predictions=nasty, visual_categories=nasty, textual_categories=nasty, notes=(EVIL, "x"),
        sheet=EVIL, path=EVIL,
    )  # fmt: skip
    assert COMMANDS.findall(shown) == []
    assert shown.count(SHOWN) == 1 + 2 + 2 + 2 + 1 + 1  # path, classes, two lines of categories, note, sheet


@pytest.mark.parametrize("name", ["=cmd|calc.mp4", "@SUM(1).mp4", "+1.mp4", "-1.mp4"])
def test_no_cell_of_the_csv_is_a_formula(tsq: Tsq, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(DEMO, tmp_path / name)
    assert tsq(*FAST, "--csv", "t.csv", "--", name).code == 0
    with (tmp_path / "t.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["path"] for row in rows] == [f"'{name}"] * 2
    assert [row["rank"] for row in rows] == ["1", "2"]


def test_numbers_of_the_csv_stay_numbers(tmp_path: Path) -> None:
    named = (Category(index=0, label="=1+1", score=0.5), *CATEGORIES[1:])
    made = record(4, {1: "visual"}, times=[-0.5, 1, 2, 3], predictions=named).to_dict()
    made["frames"][0]["pts"] = -12800
    csv_rows.write_csv(tmp_path / "t.csv", [made])
    with (tmp_path / "t.csv").open(encoding="utf-8", newline="") as stream:
        (row,) = csv.DictReader(stream)
    assert (row["pts"], row["label"], row["label_score"]) == ("-12800", "'=1+1", "0.5")


def test_every_console_is_the_safe_one_and_only_json_and_talk_are_printed_bare() -> None:
    printed = set()
    for path in (ROOT / "tsq_cli").rglob("*.py"):
        where = path.relative_to(ROOT / "tsq_cli").as_posix()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module in ("rich", "rich.console", "rich.markup"):
                assert where == "report/console.py" or [alias.name for alias in node.names] == ["box"], where
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "print" and where.startswith("cli/"):
                printed.add(re.sub(r"^json(_module)?\.dumps\(.*", "JSON", ast.unparse(node.args[0])))
    assert printed == {"JSON", "f'tsq: {printable(message)}'", "f'tsq {__version__}'"}
