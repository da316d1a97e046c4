"""Text made safe to show, to name files by, and to put into spreadsheets; expected values written by hand."""

from __future__ import annotations

import unicodedata

import pytest

from tsq_cli.printable import printable
from tsq_cli.report.text import (
    as_sentence,
    ascii_forms,
    chosen_for,
    clock,
    markdown,
    safe_stem,
    sparkline,
    spreadsheet_cell,
    way_to_choose,
)  # fmt: skip


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("holiday 1.mp4", "holiday 1.mp4"),
        ("\x1b]0;PWNED\x07\x1b[31mred", r"\x1b]0;PWNED\x07\x1b[31mred"),
        ("a\nb\tc\rd\x00e\x7f", r"a\nb\tc\rd\x00e\x7f"),
        ("\x85\x9b31m", r"\u0085\u009b31m"),  # next line, and an escape sequence of one C1 character
        (b"caf\xe9\x85".decode("utf-8", "surrogateescape"), r"caf\xe9\x85"),  # bytes, not characters
        ("\ud800", r"\ud800"),
        ("photo\u202egpj.exe", r"photo\u202egpj.exe"),
        ("\u2066x\u2069\u200f", r"\u2066x\u2069\u200f"),
        ("a\u2028b\u2029c", r"a\u2028b\u2029c"),
        ("pass\u200bword\ufeff\U000e0041", r"pass\u200bword\ufeff\U000e0041"),
        ("C:\\clips\\a.mp4", "C:\\clips\\a.mp4"),
    ],
)
def test_what_a_terminal_or_a_reader_would_obey_is_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown
    assert printable(shown) == shown


@pytest.mark.parametrize(
    "text",
    ["Ünïcödé", "日本語の動画", "می\u200cخواهم", "👩\u200d🚀 launch", "Screen\u202fshot", "한국어"],  # noqa: RUF001
)
def test_words_of_any_script_stay(text: str) -> None:
    assert printable(text) == text


def test_nothing_unprintable_is_left_of_all_of_unicode() -> None:
    everything = "".join(map(chr, range(0x110000)))
    left = {unicodedata.category(character) for character in printable(everything)}
    assert not left & {"Cc", "Cs", "Zl", "Zp"}
    turns = {unicodedata.bidirectional(character) for character in printable(everything)}
    assert not turns & {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}


def test_a_long_text_loses_its_middle() -> None:
    assert printable("0123456789", 10) == "0123456789"
    assert printable("0123456789x", 10) == "01234…789x"
    assert printable("ab", 1) == "…"
    assert len(printable("\x1b" * 10**6, 500)) == 500


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("=cmd|' /C calc'!A0", "'=cmd|' /C calc'!A0"),
        ("+1", "'+1"),
        ("-2.mp4", "'-2.mp4"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", r"'\t=1"),
        ("\r=1", r"'\r=1"),
        ("\uff1d1", "'\uff1d1"),
        ("clips/=1.mp4", "clips/=1.mp4"),
        ("a\x1b[2J", r"a\x1b[2J"),
        ("", ""),
    ],
)
def test_no_cell_of_a_spreadsheet_is_a_formula(text: str, cell: str) -> None:
    assert spreadsheet_cell(text) == cell


@pytest.mark.parametrize(
    ("text", "marked"),
    [
        ("a plain_name-1.mp4", "a plain_name-1.mp4"),
        ("a|b", r"a\|b"),
        ("**x** `y`", r"\*\*x\*\* \`y\`"),
        ("<img src=x>", r"\<img src=x>"),
        ("![x](http://example.org)", r"![x]\(http://example.org)"),
        (r"\*", r"\\\*"),
        ("a\nb", r"a\\nb"),
        ("60.0 [50.0, 70.0]", "60.0 [50.0, 70.0]"),
    ],
)
def test_markdown_shows_words_as_words(text: str, marked: str) -> None:
    assert markdown(text) == marked


@pytest.mark.parametrize(
    ("stem", "safe"),
    [
        ("holiday 1", "holiday 1"),
        ("naïve.cut", "naïve.cut"),
        ('a/b\\c<d>e:f"g|h?i*j', "a_b_c_d_e_f_g_h_i_j"),
        ("new\nline\x1b[31m\u202e", "new_line_[31m_"),
        ("-rf", "_rf"),
        (".hidden", "_hidden"),
        (b"caf\xe9".decode("utf-8", "surrogateescape"), "caf_e9"),
        ("\ud800", "_"),
        ("", "video"),
        ("CON", "CON_"),
        ("nul.tar", "nul_.tar"),
        ("com1", "com1_"),
        ("console", "console"),
        ("é" * 100, "é" * 60),
        ("x" + "日" * 100, "x" + "日" * 39),  # 1 + 3 * 39 = 118 bytes; one more would be 121
    ],
)
def test_a_stem_names_a_file_on_any_system(stem: str, safe: str) -> None:
    assert safe_stem(stem) == safe
    assert safe_stem(safe) == safe


def test_a_curve_is_digits_where_the_encoding_lacks_bars() -> None:
    assert sparkline([0.0, 0.5, 1.0]) == "▁▅█"
    assert sparkline([0.0, 0.5, 1.0], "ascii") == "158"
    assert sparkline([0.0, 0.5, 1.0], "cp437") == "158"  # has two of the eight
    assert sparkline([0.0, 0.0], "latin-1") == "11"
    assert sparkline([0.0, 0.0]) == "▁▁"


def test_what_an_encoding_lacks_is_written_in_ascii() -> None:
    def encoded(text: str) -> str:
        error = UnicodeEncodeError("ascii", text, 0, len(text), "ordinal not in range")
        assert ascii_forms(error)[1] == len(text)
        return ascii_forms(error)[0]

    assert encoded("…─█“°") == '...-#" deg'
    assert encoded("⠋") == "*"
    assert encoded("é日👩") == r"\xe9\u65e5\U0001f469"
    with pytest.raises(UnicodeDecodeError):
        ascii_forms(UnicodeDecodeError("ascii", b"\xff", 0, 1, "ordinal not in range"))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, "0:00.000"), (59.9996, "1:00.000"), (61.5, "1:01.500"), (3600.0, "1:00:00.000"), (3723.25, "1:02:03.250")],
)
def test_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text


@pytest.mark.parametrize(
    ("selector", "rule", "queries", "shown"),
    [
        ("auto", "cover", (), "auto (cover)"),
        ("auto", "tsq", (), "auto (tsq)"),
        ("tsq", "tsq", (), "tsq"),
        ("random", None, (), "random"),
        ("auto", "tqm", ("a dog", "a cat"), "query: a dog; a cat"),
    ],
)
def test_the_way_to_choose_in_a_few_words(
    selector: str, rule: str | None, queries: tuple[str, ...], shown: str
) -> None:
    assert way_to_choose(selector, rule, queries) == shown


def test_an_event_counts_from_one() -> None:
    assert [chosen_for("event", 0), chosen_for("event", 11), chosen_for("event", None)] == [
        "event 1",
        "event 12",
        "event",
    ]
    assert chosen_for("coverage", 3) == "coverage"


def test_a_reason_becomes_a_sentence() -> None:
    assert as_sentence("nothing stands out: NASA is dark") == "Nothing stands out: NASA is dark."
    assert as_sentence("") == ""
