from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.packs.hub import REPOSITORY
from tests.packs.making import NAMES, make_pack, packed, write_json
from tsq_cli.errors import UsageError, WeightsError
from tsq_cli.packs import find_pack, list_packs
from tsq_cli.packs.registry import parse_classes
from tsq_cli.packs.schema import TimmWeights


def test_the_shipped_packs_are_listed_and_found_by_name() -> None:
    packs, damaged = list_packs()
    assert [pack.name for pack in packs] == ["actions40", "clip", "imagenet", "imagenet-lite"]
    assert damaged == {}
    pack = find_pack("imagenet-lite")
    assert pack.folder == REPOSITORY / "weights" / "imagenet-lite"
    assert pack.roles.objects is pack.roles.visual_encoder
    assert (pack.settings.num_candidates, pack.settings.num_frames, pack.settings.lambda_v) == (16, 5, 0.6)


@pytest.mark.parametrize("name", ["imagenet", "imagenet-lite"])
def test_the_shipped_names_are_a_thousand_that_a_reader_can_tell_apart(name: str) -> None:
    names = find_pack(name).class_names
    assert len(names) == 1000
    assert len({entry.casefold() for entry in names}) == 1000
    # From the ImageNet-1k synset list: n01440764, n02088364, n02963159, n15075141.
    assert [names[i] for i in (0, 162, 474, 999)] == ["tench", "beagle", "cardigan", "toilet paper"]


def test_finding_and_listing_load_no_torch() -> None:
    code = (
        "import sys; from tsq_cli.packs import find_pack, list_packs, load_pack, verify_pack, pull_pack, Pack;"
        "find_pack('imagenet-lite'); list_packs(); print(sorted({'torch', 'timm', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_pack_says_how_its_networks_are_fed_as_timm_does() -> None:
    from timm.models import get_pretrained_cfg

    for pack in (find_pack("imagenet"), find_pack("imagenet-lite")):  # trained ones may be fed otherwise
        for role in (pack.roles.visual_encoder, pack.roles.objects, pack.roles.recognizer):
            theirs = get_pretrained_cfg(role.model)
            ours = role.preprocess
            assert (3, ours.input_size, ours.input_size) == theirs.input_size
            assert (ours.mean, ours.std, ours.interpolation) == (theirs.mean, theirs.std, theirs.interpolation)
            assert ours.crop_pct == theirs.crop_pct
            if isinstance(role.weights, TimmWeights):
                assert theirs.hf_hub_id


def test_a_pack_is_found_by_its_path_and_is_named_by_its_folder(
    folder: Path, document: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert find_pack(str(folder)).class_names == NAMES
    assert find_pack(folder).name == "small"
    monkeypatch.chdir(folder.parent)
    assert find_pack("small").folder == folder
    monkeypatch.chdir(folder)
    assert find_pack(".").name == "small"


def test_packs_of_the_search_variable_are_listed(
    folder: Path, document: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_pack(tmp_path / "second" / "imagenet-lite")
    monkeypatch.setenv("TSQ_PACKS", os.pathsep.join([str(tmp_path), str(tmp_path / "second")]))
    packs, _ = list_packs()
    assert [pack.name for pack in packs] == ["actions40", "clip", "imagenet", "imagenet-lite", "small", "imagenet-lite"]
    assert find_pack("small").folder == folder
    with pytest.raises(UsageError, match="2 packs called imagenet-lite"):
        find_pack("imagenet-lite")
    monkeypatch.setenv("TSQ_PACKS", str(tmp_path / "nowhere"))
    with pytest.raises(UsageError, match=r"TSQ_PACKS names .*nowhere"):
        list_packs()


def test_an_unknown_name_is_a_usage_error_that_says_which_packs_exist(tmp_path: Path) -> None:
    for name in ("imagenet-light", str(tmp_path / "nowhere"), "./imagenet-lite"):
        with pytest.raises(UsageError, match="wanted one of actions40, clip, imagenet, imagenet-lite, or a folder"):
            find_pack(name)


def test_the_identity_follows_the_content_and_not_the_layout(folder: Path, document: dict[str, Any]) -> None:
    before = find_pack(folder).sha256
    reordered = dict(reversed(document.items()))
    (folder / "pack.json").write_text(json.dumps(reordered, indent=4))
    assert find_pack(folder).sha256 == before
    document["settings"]["top_n"] = 1
    write_json(folder, document)
    assert find_pack(folder).sha256 != before


def _set(*path: str | int, to: Any) -> Callable[[Any], None]:
    def change(document: Any) -> None:
        for key in path[:-1]:
            document = document[key]
        document[path[-1]] = to

    return change


def _drop(*path: str) -> Callable[[Any], None]:
    def change(document: Any) -> None:
        for key in path[:-1]:
            document = document[key]
        del document[path[-1]]

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_set("schema_version", to=2), "schema_version 2; wanted schema_version 1"),
        (_drop("schema_version"), "schema_version None; wanted schema_version 1"),
        (_set("color", to="red"), "color is an unknown key; wanted one of schema_version, "),
        (_set("settings", "topn", to=3), r"settings\.topn is an unknown key"),
        (_drop("settings", "top_n"), r"settings\.top_n is missing; wanted a whole number"),
        (_set("settings", "top_n", to=True), r"settings\.top_n is True; wanted a whole number"),
        (_set("settings", "top_n", to=2.5), r"settings\.top_n is 2\.5; wanted a whole number"),
        (_set("settings", "top_n", to=0), "settings is not consistent; wanted top_n from 1 to 100000, not 0"),
        (_set("settings", "lambda_v", to=1.5), "wanted lambda_v from 0 to 1, not 1.5"),
        (_set("settings", "sampler_input_size", to=0), "wanted sampler_input_size from 32 to 2048, not 0"),
        (_set("settings", "visual_scale", to=float("nan")), r"visual_scale is nan; wanted a finite number or null"),
        (_set("settings", "visual_scale", to=-1), "wanted scales above 0"),
        (_set("settings", "text_logit_scale", to=None), r"wanted a settings\.text_logit_scale"),
        (_set("classes", to="names.txt"), "classes is 'names.txt'; wanted an object"),
        (_set("classes", "file", to="../names.txt"), "classes is not consistent; wanted a file inside the folder"),
        (_set("classes", "file", to="/etc/passwd"), "wanted a file inside the folder"),
        (_set("classes", "sha256", to="abc"), "wanted a sha256 of 64"),
        (_set("objects", "sha256", to="0" * 64), "wanted classes to be the objects"),
        (_set("roles", "visual_encoder", "weights", "source", to="ftp"), r"source is 'ftp'; wanted one of file"),
        (_set("roles", "recognizer", "num_classes", to=3), "wanted no num_classes where the weights are off the hub"),
        (_drop("roles", "visual_encoder", "weights", "source"), r"weights\.source is missing"),
        (_set("roles", "visual_encoder", "preprocess", "mean", to=[0.5, 0.5]), "list of 2; wanted a list of 3"),
        (_set("roles", "visual_encoder", "preprocess", "std", to=[1, 1, 0]), "wanted std above 0"),
        (_set("roles", "visual_encoder", "preprocess", "mean", 1, to="x"), r"mean\[1\] is 'x'; wanted a finite number"),
        (_set("roles", "object_recognizer", to="recognizer"), "object_recognizer is 'recognizer'; wanted .*visual_enc"),
        (_set("modules", "visual", "layer", "attention", to="both"), "attention is 'both'; wanted 'class-specific' or"),
        (_set("provenance", "metrics", to={"recall": None}), r"metrics\.recall is None"),
    ],
)  # fmt: skip
def test_a_misfit_is_refused_with_its_place(
    folder: Path, document: dict[str, Any], change: Callable[[Any], None], message: str
) -> None:
    change(document)
    write_json(folder, document)
    with pytest.raises(WeightsError, match=message) as caught:
        find_pack(folder)
    assert str(folder / "pack.json") in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"{", "no JSON"), (b"[]", "holds a JSON list"), (b"\xff\xfe", "no JSON"), (None, "cannot read .*pack.json")],
)
def test_a_damaged_description_is_refused(
    folder: Path, document: dict[str, Any], content: bytes | None, message: str
) -> None:
    if content is None:
        (folder / "pack.json").unlink()
    else:
        (folder / "pack.json").write_bytes(content)
    with pytest.raises(WeightsError, match=message):
        find_pack(folder)


@pytest.mark.parametrize("content", [b"", b"cat\ncat\n", b"cat\n\ndog\n", b"\xff\n"])
def test_names_must_be_unique_lines_of_text(folder: Path, document: dict[str, Any], content: bytes) -> None:
    (folder / "names.txt").write_bytes(content)
    document["classes"] = document["objects"] = packed(folder / "names.txt")
    write_json(folder, document)
    with pytest.raises(WeightsError, match=r"names\.txt"):
        find_pack(folder)


def test_names_of_another_hash_are_refused(folder: Path, document: dict[str, Any]) -> None:
    (folder / "names.txt").write_text("cat\ndog\nbush\n")
    with pytest.raises(WeightsError, match=r"names\.txt has sha256"):
        find_pack(folder)


def test_classes_come_from_a_file_or_a_list(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("a dog, wet\n\na cat\n")
    assert parse_classes(str(tmp_path / "names.txt")) == ("a dog, wet", "a cat")
    assert parse_classes("a dog, a cat,") == ("a dog", "a cat")
    for text in ("a dog", "a dog,a dog", "a\x1b[2Jdog,a cat", ",", "x" * 100_000):
        with pytest.raises(UsageError):
            parse_classes(text)


def test_a_pack_around_another_model_is_another_pack() -> None:
    own, other = find_pack("clip"), find_pack("clip:owner/name")
    assert (other.name, other.roles.visual_encoder.model, other.roles.text_encoder.model) == (
        "clip",
        *["owner/name"] * 2,
    )
    words = own.with_classes(("a dog", "a cat"))
    assert words.class_names == words.object_names == ("a dog", "a cat")
    assert len({own.sha256, other.sha256, words.sha256}) == 3
    for name in ("clip:", "clip:../x", "clip:/etc"):
        with pytest.raises(UsageError):
            find_pack(name)
    with pytest.raises(UsageError, match="use --pack clip"):
        find_pack("imagenet").with_classes(("a", "b"))
