"""The tables of README.md and docs/*.md are what their JSON gives, and a table that is not is found."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from benchmarks import docs_tables
from benchmarks.docs_tables import PAGES, ROOT, TABLES, Block, blocks, differences, main, rewrite

IN_PROSE = {
    "scale.json",
    "benchmark/batch32.json",
    "benchmark/threads1.json",
    "benchmark/threads2.json",
    "benchmark/threads4.json",
    "cold.json",
    "engines.json",
    "training/actions40-recurrence.json",
    "training/fights-encoder.json",
}
"""JSON of which a sentence or two are told, and no table."""
NO_MEASUREMENT = {"schema.json"}

# 10 videos in 2 s: 5 per second; quartiles of 1 s and 2.5 s: 10 and 4.
WORKERS = {
    "videos": 10,
    "rows": [
        {
            "kind": "threads",
            "workers": 1,
            "videos_per_second": 5.0,
            "timing": {"lower_quartile": 1, "upper_quartile": 2.5},
        }
    ],
}
TABLE = "| decoded by | videos/s | quartiles |\n| --- | ---: | ---: |\n| 1 thread | 5.0 | 4.0-10.0 |\n"
MARKER = "<!-- table: workers.json workers -->"
# Two spaces at an end, a tab, a form feed, a line separator, and a marker's words inside a sentence.
AROUND = (
    "A title  \n\tand\x0cmore\u2028text, as <!-- table: x --> says\n\n",
    "\n\n| a | table |\n|---|---|\n| of | mine |",
)
STUDY = {"study": "beta", "title": "t", "rows": []}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A README, and a page with a block that is up to date."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "README.md").write_text("No table here, nor a newline at the end", encoding="utf-8")
    (tmp_path / "docs" / "workers.json").write_text(json.dumps(WORKERS), encoding="utf-8")
    write(tmp_path, f"{AROUND[0]}{MARKER}\n{TABLE}<!-- end -->{AROUND[1]}")
    return tmp_path


def write(root: Path, text: str) -> None:
    (root / "docs" / "page.md").write_text(text, encoding="utf-8")


def read(root: Path) -> str:
    return (root / "docs" / "page.md").read_text(encoding="utf-8")


# The committed pages


@pytest.fixture(scope="module")
def committed() -> list[Block]:
    return list(blocks(ROOT))


def test_every_table_is_what_its_json_gives(committed: list[Block]) -> None:
    stale = [said for block in committed if (said := block.difference())]
    assert stale == [], "python -m benchmarks.docs_tables makes them anew"


def test_the_terminal_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("COLUMNS", "40"), ("FORCE_COLOR", "1"), ("TERM", "xterm-256color"), ("NO_COLOR", "")):
        monkeypatch.setenv(name, value)
    assert differences() == []


def test_a_changed_number_is_found_in_every_block(tmp_path: Path, committed: list[Block]) -> None:
    copied = [ROOT / "README.md", *(path for path in (ROOT / "docs").rglob("*") if path.suffix in (".md", ".json"))]
    for path in copied:
        place = tmp_path / path.relative_to(ROOT)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.md")}
    planted = []
    for block in committed:
        path = tmp_path / block.page
        lines = path.read_text(encoding="utf-8").split("\n")
        numbered = [i for i in range(block.start, block.start + len(block.has)) if re.search(r"\d", lines[i])]
        last = numbered[-1]
        lines[last] = re.sub(r"\d", lambda digit: str((int(digit[0]) + 1) % 10), lines[last], count=1)
        path.write_text("\n".join(lines), encoding="utf-8")
        planted.append(f"{block.page}:{last + 1}: {block.marker or 'the whole page'}: ")
    assert len(planted) > 20
    found = differences(tmp_path)
    assert len(found) == len(planted)
    assert [said for said, where in zip(found, planted, strict=True) if not said.startswith(where)] == []
    rewrite(tmp_path)
    assert {path: path.read_bytes() for path in before} == before


def test_every_json_is_shown_or_told(committed: list[Block]) -> None:
    docs = ROOT / "docs"
    there = {path.relative_to(docs).as_posix() for path in docs.rglob("*.json")} - NO_MEASUREMENT
    shown = {block.marker.split()[2] for block in committed if block.marker} | {file for file, _ in PAGES.values()}
    assert shown | IN_PROSE == there
    assert shown & IN_PROSE == set()
    pages = "".join(path.read_text(encoding="utf-8") for path in docs.glob("*.md"))
    assert [name for name in IN_PROSE if f"]({name})" not in pages] == []


def test_no_table_of_numbers_stands_outside_a_block(committed: list[Block]) -> None:
    made = {(block.page, block.start + i) for block in committed for i in range(len(block.has))}
    loose = []
    for path in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        page = path.relative_to(ROOT).as_posix()
        for i, line in enumerate(path.read_text(encoding="utf-8").split("\n")):
            cells = [cell.strip() for cell in line.strip("|").split("|")][1:] if line.startswith("|") else []
            numbers = [cell for cell in cells if re.match(r"[+-]?\d[\d.,]*\s*(?:%|x|s|ms|MB|[(±[].*)?$", cell)]
            if len(numbers) > len(cells) / 2 and (page, i) not in made:
                loose.append(f"{page}:{i + 1}: {line}")
    assert loose == []


# The mechanism


def test_a_page_that_is_up_to_date_is_left_alone(root: Path) -> None:
    before = (root / "docs" / "page.md").stat()
    assert differences(root) == []
    assert rewrite(root) == []
    after = (root / "docs" / "page.md").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_a_changed_number_is_named_and_put_right(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = read(root)
    write(root, text.replace("4.0-10.0", "4.0-10.1"))
    assert main(["--check"], root=root) == 1
    said = (
        f'docs/page.md:7: {MARKER}: "| 1 thread | 5.0 | 4.0-10.1 |"; its JSON gives "| 1 thread | 5.0 | 4.0-10.0 |"\n'
    )
    assert capsys.readouterr().out == said
    assert read(root) != text  # a check writes nothing
    assert main([], root=root) == 0
    assert capsys.readouterr().out == "written: docs/page.md\n"
    assert read(root) == text
    assert main(["--check"], root=root) == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("stale", ["", "\n", TABLE + TABLE, "an old text\n" + TABLE, TABLE[: TABLE.index("| 1")]])
def test_text_outside_blocks_is_untouched_whatever_stands_inside(root: Path, stale: str) -> None:
    text = read(root)
    write(root, text.replace(TABLE, stale))
    assert len(differences(root)) == 1
    assert rewrite(root) == ["docs/page.md"]
    assert read(root) == text
    assert rewrite(root) == []


def test_several_stale_blocks_of_a_page_and_of_the_readme_are_put_right(root: Path) -> None:
    current = f"{MARKER}\n{TABLE}<!-- end -->\n"
    stale = f"{MARKER}\n<!-- end -->\n"
    write(root, f"one\n{stale}two\n{current}three\n{stale}four")
    (root / "README.md").write_text(stale, encoding="utf-8")
    assert [said.partition(": ")[0] for said in differences(root)] == [
        "README.md:2",
        "docs/page.md:3",
        "docs/page.md:12",
    ]
    assert rewrite(root) == ["README.md", "docs/page.md"]
    assert read(root) == f"one\n{current}two\n{current}three\n{current}four"
    assert (root / "README.md").read_text(encoding="utf-8") == current


def test_a_whole_page_is_compared(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        docs_tables, "PAGES", {"docs/page.md": ("workers.json", lambda report: f"{report['videos']}\n")}
    )
    write(root, "10\n")
    assert differences(root) == []
    write(root, "10\nand more\n")
    assert differences(root) == ['docs/page.md:2: the whole page: "and more"; its JSON gives ""']
    assert rewrite(root) == ["docs/page.md"]
    assert read(root) == "10\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<!-- table: workers.json nobody -->\n<!-- end -->", r"page\.md:1: .*nobody.*; wanted .*NAME one of attack, "),
        ("<!-- table: gone.json workers -->\n<!-- end -->", r"page\.md:1: .*gone\.json does not exist"),
        ("<!-- table: workers.json -->\n<!-- end -->", r"wanted <!-- table: FILE\.json NAME -->"),
        ("<!-- table workers.json workers -->\n<!-- end -->", r"wanted <!-- table: FILE\.json NAME -->"),
        ("<!-- table: workers.json sizes -->\n<!-- end -->", r"workers\.json is not what this table shows"),
        ("<!-- table: workers.json workers all -->\n<!-- end -->", r"workers\.json is not what this table shows"),
        ("<!-- table: studies.json study -->\n<!-- end -->", r"studies\.json is not what this table shows"),
        ("<!-- table: studies.json study gamma -->\n<!-- end -->", r"shows \(KeyError: 'gamma'\)"),
        (f"\n{MARKER}\n{TABLE}", r"page\.md:2: .*; wanted <!-- end --> after it"),
        (f"{TABLE}<!-- end -->", r"page\.md:4: <!-- end -->; wanted a marker, then"),
        (f"{MARKER}\n{MARKER}\n<!-- end -->", r"page\.md:2: .*; wanted a marker, then"),
    ],
)
@pytest.mark.parametrize("options", [["--check"], []])
def test_what_cannot_be_made_is_an_error_and_writes_nothing(
    root: Path, text: str, message: str, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    (root / "docs" / "studies.json").write_text(json.dumps({"studies": [STUDY]}), encoding="utf-8")
    write(root, text)
    assert main(options, root=root) == 2
    assert re.search(message, capsys.readouterr().err)
    assert read(root) == text


# The tables, of numbers by hand


def measured(selector: str, value: float, k: int = 5, **more: Any) -> dict[str, Any]:
    """A row of an evaluation whose interval reaches 0.05 to either side."""
    return {"selector": selector, "k": k, "map": {"value": value, "low": value - 0.05, "high": value + 0.05}, **more}


def lines_of(name: str, report: Any) -> list[str]:
    """The rows of a Markdown table, below its headings and their rule."""
    return TABLES[name](report).strip("\n").splitlines()[2:]


def test_steps_poolings_and_seeds() -> None:
    rows = [measured("vqm", 0.5), measured("tqm", 0.25), measured("tsq", 0.625)]
    plain = [measured("tsq", 0.5)]
    assert lines_of("steps", {"steps": [{"step": "frozen", "rows": {"plain": plain, "evidence": rows}}]}) == [
        "| frozen | 50.0 [45.0, 55.0] | 62.5 [57.5, 67.5] | 50.0 [45.0, 55.0] | 25.0 [20.0, 30.0] |"
    ]
    names = ("all", "uniform", "agree", "tqm", "vqm", "tsq")
    gains = {"all": {"map": {"value": 0.5, "low": 0.45, "high": 0.55}}}
    every = [measured(name, i / 10, gains=gains) for i, name in enumerate(names, 1)]
    compared = {"logits": {"plain": [], "evidence": every}}
    (line,) = TABLES["poolings"]({"poolings": compared}, "evidence").strip("\n").splitlines()[2:]
    cells = [f"{tens}.0 [{tens - 5}.0, {tens + 5}.0]" for tens in (60, 50, 40, 30, 20, 10)]
    assert line == f"| logits | {' | '.join(cells)} | +50.0 [+45.0, +55.0] |"
    of_seeds = [
        {"seed": seed, "rows": [measured(name, value, top1={"value": value}) for name in ("tsq", "vqm", "tqm")]}
        for seed, value in ((0, 0.5), (1, 0.52))
    ]
    first, _, mean = lines_of("seeds", {"seeds": of_seeds})
    assert first == "| 0 | 50.0 | 50.0 | 50.0 | 50.0 | 50.0 | 50.0 |"
    spread = "51.0 ± 1.4"  # the square root of two
    assert mean == f"| mean ± standard deviation | {' | '.join([spread] * 6)} |"


def test_sizes_are_of_the_wanted_number_of_frames() -> None:
    rows = [
        measured("tsq", 0.9, k=1, giga_macs=1.0),
        measured("tsq", 0.5, giga_macs=2.345),
        measured("vqm", 0.4, giga_macs=2.0),
        measured("tqm", 0.3, giga_macs=1.5),
    ]
    assert lines_of("sizes", {"96": {"num_frames": 5, "rows": rows}}) == [
        "| 96 | 2.35 | 50.0 [45.0, 55.0] | 40.0 [35.0, 45.0] | 30.0 [25.0, 35.0] |"
    ]


def test_decoding_beside_the_best_other() -> None:
    def outcome(family: str, median: float | None, peak: float | None = None) -> dict[str, Any]:
        timing = {"median": median, "lower_quartile": median - 0.1, "upper_quartile": median + 0.2} if median else None
        return {"family": family, "timing": timing, "peak_memory_mib": peak}

    tried = [outcome("tsq exact", None), outcome("tsq exact", 0.5, 83.4), outcome("opencv", 1.0), outcome("decord", 2)]
    ratios = {"best_other": "opencv", "best_other_over_exact": 2.0}
    unknown = {"sequential_over_exact": None, "exact_over_keyframes": 4.25}
    clip = {"clip": {"path": "a.mp4"}, "outcomes": tried, "ratios": {**ratios, **unknown}}
    alone = {
        "clip": {"path": "b.mp4"},
        "outcomes": [outcome("tsq exact", 0.3)],
        "ratios": dict.fromkeys((*ratios, *unknown)),
    }
    assert lines_of("decode", {"runs": [{"clips": [clip]}, {"clips": [alone]}]}) == [
        "| a.mp4 | 500 (400-700) | opencv 1000 (900-1200) | 2.00 |  | 4.2 | 83 |",
        "| b.mp4 | 300 (200-500) |  |  |  |  |  |",
    ]


def test_what_classify_adds() -> None:
    seconds = {"select": {"median": 0.2}, "forward": {"median": 0.05}, "classify": {"median": 0.26}}
    report = {"results": [{"recognizer": "embedded", "timings": seconds, "overhead": 0.04}]}
    assert lines_of("classify", report) == ["| embedded | 200 | 50 | 260 | 4.0% |"]


def test_figures_of_the_attack_suite() -> None:
    parts = {
        "mutations": {"files": 10000, "slowest_seconds": 0.41, "peak_memory_mb": 1833, "wrong": [], "seconds": 73.1},
        "kills": {"kills": 50, "wrong": ["a line lost", "half a file"], "seconds": 79.6},
        "full_disk": {"skipped": "needs root", "wrong": [], "seconds": 0.2},
    }
    assert lines_of("attack", {"parts": parts}) == [
        "| mutations | 10,000 files | 0 | 0.4 | 1,833 | 73 |",
        "| kills | 50 kills | 2 |  |  | 80 |",
        "| full_disk | skipped | 0 |  |  | 0 |",
    ]
