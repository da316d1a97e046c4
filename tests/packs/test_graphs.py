"""Graphs of a pack's networks: of its own weights, the same as torch, and refused where they are not."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tests.packs.making import NETWORK, make_pack, network_weights
from tests.studies.videos import parts_made_once
from tsq_cli import Selector, SelectSettings
from tsq_cli.errors import UsageError, WeightsError
from tsq_cli.packs import export as export_module
from tsq_cli.packs import find_pack, load_pack, load_recognizer, verify_pack
from tsq_cli.packs.export import TOLERANCE, can_export, check_graph, export_graphs
from tsq_cli.packs.graphs import (
    GRAPHS_JSON,
    Graph,
    find_graph,
    graphs_and_roles,
    load_graph,
    read_arrays,
    read_graphs,
    resolve_engine,
    sampler_networks,
)
from tsq_cli.packs.quantized import METADATA, quantize_int8, to_float16
from tsq_cli.packs.schema import PackConfig
from tsq_cli.packs.tensors import read_tensors
from tsq_cli.packs.write import check_pack_folder
from tsq_cli.validation import from_dict

SHIPPED = {"imagenet-lite": [(160, 224)], "actions40": [(192,), (224,)]}


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory, shared_folder: Path) -> Iterator[Path]:
    """A made pack with the graph of its network; to be copied before it is changed. A network is traced once."""
    if not can_export():
        pytest.skip("needs onnx and onnxscript")
    folder = tmp_path_factory.mktemp("graphs") / "small"
    make_pack(folder)
    with parts_made_once(shared_folder):
        export_graphs(find_pack(folder))
        yield folder


@pytest.fixture
def pack(exported: Path, tmp_path: Path) -> PackConfig:
    """A copy of the pack with its graph."""
    return find_pack(shutil.copytree(exported, tmp_path / "small"))


def rewrite(config: PackConfig, change: Callable[[dict[str, Any]], Any]) -> None:
    path = config.folder / GRAPHS_JSON
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def listed(config: PackConfig) -> tuple[Graph, ...]:
    found = read_graphs(config)
    assert found is not None
    return found.graphs


@pytest.mark.parametrize("name", SHIPPED)
def test_the_shipped_graphs_are_of_the_packs_own_weights_and_give_what_torch_gives(name: str) -> None:
    config = find_pack(name)
    found = graphs_and_roles(config, read_graphs(config))
    assert [graph.input_sizes for _, graph in found] == SHIPPED[name]
    for role, graph in found:
        weights = config.folder / role.weights.file  # type: ignore[union-attr]
        assert hashlib.sha256(weights.read_bytes()).hexdigest() == graph.weights_sha256
        assert check_graph(config, role, graph) <= TOLERANCE
        path = config.folder / graph.file
        assert path.stat().st_size < 400_000  # operators, no weights
    for engine in ("auto", "onnx"):
        assert resolve_engine(engine, config, sampler_networks(config), "cpu", "float32") is not None  # type: ignore[arg-type]


def test_a_size_whose_padding_is_another_is_caught() -> None:
    config = find_pack("imagenet-lite")
    (graph,) = listed(config)
    with pytest.raises(WeightsError, match=r"encoder\.onnx gives outputs .* away from torch's"):
        check_graph(config, config.roles.visual_encoder, replace(graph, input_sizes=(160, 161)))


def test_sizes_share_a_graph_unless_they_need_other_operators(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_pack(tmp_path / "small")
    config = find_pack(tmp_path / "small")
    role, of_others = config.roles.visual_encoder, replace(config.roles.visual_encoder, model="another")
    monkeypatch.setattr(export_module, "_exported", lambda config, role, size: str(size % 32).encode())
    made: dict[str, tuple[Any, Graph]] = {}
    for of, size in ((role, 64), (role, 75), (role, 96), (of_others, 64)):
        graph = export_module._add_graph(config, of, size, made.values())
        made[graph.file] = of, graph
    assert {name: (graph.model, graph.input_sizes) for name, (_, graph) in made.items()} == {
        "encoder.onnx": (role.model, (64, 96)),
        "encoder-75.onnx": (role.model, (75,)),
        "encoder-64.onnx": ("another", (64,)),
    }
    assert [(config.folder / name).read_bytes() for name in made] == [b"0", b"11", b"0"]


def test_the_recognizer_runs_in_the_samplers_session_where_their_graph_is_one() -> None:
    sampler = load_pack("imagenet-lite", engine="onnx")
    recognizer = load_recognizer(sampler, "embedded", engine="onnx")
    assert recognizer.recognizer.encoder is sampler.visual_encoder
    assert recognizer.preprocessor.input_size == 224
    of_another = load_recognizer(load_pack("actions40", engine="onnx"), "embedded", engine="onnx")
    assert of_another.recognizer.encoder is not sampler.visual_encoder


def test_graphs_made_before_go_and_nothing_else(pack: PackConfig) -> None:
    pytest.importorskip("onnxscript")
    (pack.folder / "old.onnx").write_bytes(b"")
    outside = pack.folder.parent / "mine.onnx"
    outside.write_bytes(b"")
    graph = json.loads((pack.folder / GRAPHS_JSON).read_text())["graphs"][0]
    files = [{**graph, "file": name} for name in ("old.onnx", "../mine.onnx", "pack.json")]
    rewrite(pack, lambda document: document.update(graphs=files))
    (made,) = export_graphs(pack).graphs
    assert outside.exists()
    assert sorted(path.suffix for path in pack.folder.iterdir() if "on" in path.suffix) == [".json", ".json", ".onnx"]
    assert made.file == "encoder.onnx"


def test_a_graph_that_gives_something_else_is_caught(pack: PackConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    role = pack.roles.visual_encoder
    (graph,) = listed(pack)
    assert check_graph(pack, role, graph) <= TOLERANCE
    # The same graph over weights that differ in one channel by a thousandth.
    wrong = read_arrays(pack.folder / role.weights.file)  # type: ignore[union-attr]
    wrong["conv_head.weight"][0] *= 1.001
    monkeypatch.setattr("tsq_cli.packs.graphs.read_arrays", lambda path: wrong)
    with pytest.raises(WeightsError, match=r"encoder\.onnx gives outputs .* away from torch's; wanted at most 0\.0001"):
        check_graph(pack, role, graph)


def test_a_graph_with_a_changed_byte_is_refused(pack: PackConfig) -> None:
    path = pack.folder / "encoder.onnx"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"encoder\.onnx has sha256"):
        Selector.load(pack, device="cpu")
    failed = verify_pack(pack.folder)[-1]
    assert (failed.name, failed.ok) == ("encoder.onnx", False)
    Selector.load(pack, device="cpu", engine="torch")  # which reads no graph

    path.write_bytes(b"no graph")
    rewrite(pack, lambda document: document["graphs"][0].update(sha256=hashlib.sha256(b"no graph").hexdigest()))
    with pytest.raises(WeightsError, match=r"encoder\.onnx cannot be run .*tsq packs export.*--engine torch"):
        Selector.load(pack, device="cpu")


def test_a_missing_graph_and_one_outside_the_pack_are_refused(pack: PackConfig) -> None:
    (graph,) = listed(pack)
    outside = pack.folder.parent / "outside.onnx"
    (pack.folder / graph.file).rename(outside)
    with pytest.raises(WeightsError, match=r"encoder\.onnx"):
        Selector.load(pack, device="cpu")
    for away in (str(outside), "../outside.onnx"):
        rewrite(pack, lambda document, away=away: document["graphs"][0].update(file=away))
        with pytest.raises(WeightsError, match="leads out of the pack"):
            Selector.load(pack, device="cpu")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda document: document.update(schema_version=2), "has schema_version 2; wanted 1; upgrade"),
        (lambda document: document.update(extra=1), "extra"),
        (lambda document: document["graphs"][0].update(extra=1), "extra"),
        (lambda document: document["graphs"][0].pop("sha256"), "sha256"),
        (lambda document: document["graphs"][0].update(input_sizes=["64"]), "input_sizes"),
        (lambda document: document.update(graphs={}), "graphs"),
        (lambda document: document.pop("made_with"), "made_with"),
    ],
)
def test_a_damaged_list_of_graphs_is_refused(
    pack: PackConfig, change: Callable[[dict[str, Any]], Any], said: str
) -> None:
    rewrite(pack, change)
    with pytest.raises(WeightsError, match=rf"graphs\.json.*{said}.*tsq packs export") as caught:
        Selector.load(pack, device="cpu")
    assert "\n" not in str(caught.value)
    assert [check.ok for check in verify_pack(pack.folder)][-1] is False


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b"[" * 100_000])
def test_a_list_of_graphs_that_is_no_object_is_refused(pack: PackConfig, content: bytes) -> None:
    (pack.folder / GRAPHS_JSON).write_bytes(content)
    with pytest.raises(WeightsError, match=r"graphs\.json.*tsq packs export"):
        read_graphs(pack)


def test_a_graph_of_other_weights_is_told_by_verify_and_not_used(pack: PackConfig) -> None:
    rewrite(pack, lambda document: document["graphs"][0].update(weights_sha256="0" * 64))
    failed = verify_pack(pack.folder)[-1]
    assert not failed.ok
    assert "is of other weights of test_efficientnet than the pack's" in failed.detail
    assert find_graph(read_graphs(pack), pack.roles.visual_encoder, 64) is None
    assert Selector.load(pack, device="cpu").loaded_pack().engine == "torch"


@pytest.mark.parametrize("precision", ["float32", "float16", "int8"])
def test_weights_are_read_without_torch_as_with_it(tmp_path: Path, precision: str) -> None:
    entries = network_weights(NETWORK, num_classes=3)
    path = tmp_path / "net.safetensors"
    packed = {"float32": lambda of: of, "float16": to_float16, "int8": quantize_int8}[precision](entries)
    save_file(packed, path, metadata=METADATA if precision == "int8" else None)
    wanted, given = read_tensors(path), read_arrays(path)
    counters = {name for name in wanted if name.endswith("num_batches_tracked")}
    assert counters
    assert given.keys() == wanted.keys() - counters
    for name, array in given.items():
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, wanted[name].float().numpy(), err_msg=name)


def test_weights_cut_short_are_refused_without_torch(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    save_file({"a": torch.ones(2)}, path)
    path.write_bytes(path.read_bytes()[:-1])
    for damaged in (path, tmp_path / "missing.safetensors"):
        with pytest.raises(WeightsError, match=rf"{damaged.name} cannot be read without torch.*--engine torch"):
            read_arrays(damaged)


def test_a_graph_that_names_no_classifier_of_its_network_is_refused(pack: PackConfig) -> None:
    import onnx

    path = pack.folder / "encoder.onnx"
    model = onnx.load(path, load_external_data=False)
    del model.metadata_props[:]
    content = model.SerializeToString()
    path.write_bytes(content)
    rewrite(pack, lambda document: document["graphs"][0].update(sha256=hashlib.sha256(content).hexdigest()))
    with pytest.raises(WeightsError, match=r"encoder\.onnx names no classifier.*tsq packs export"):
        Selector.load(pack, device="cpu")


def test_the_engine_is_onnx_only_in_float32_on_a_cpu_with_a_graph_of_every_network(pack: PackConfig) -> None:
    role = pack.roles.visual_encoder
    own = [(role, 64)]
    assert resolve_engine("auto", pack, own, "cpu", "float32") == read_graphs(pack)
    assert resolve_engine("onnx", pack, own, "cpu", "float32") == read_graphs(pack)
    assert resolve_engine("torch", pack, own, "cpu", "float32") is None
    others: list[tuple[Any, str, str, str]] = [
        (own, "cuda:0", "float32", "the device is cuda:0"),
        (own, "cpu", "bfloat16", "the precision is bfloat16"),
        ([*own, (role, 96)], "cpu", "float32", "test_efficientnet has no graph in the pack small"),
        ([*own, (pack.roles.recognizer, 64)], "cpu", "float32", "test_resnet.r160_in1k has no graph"),
        ([(None, 0)], "cpu", "float32", "the recognizer has no graph in the pack small"),
    ]
    for networks, device, dtype, reason in others:
        assert resolve_engine("auto", pack, networks, device, dtype) is None
        assert resolve_engine("torch", pack, networks, device, dtype) is None
        with pytest.raises(UsageError, match=f"the engine is onnx, and {reason}.*tsq packs export"):
            resolve_engine("onnx", pack, networks, device, dtype)


def test_each_network_runs_where_it_can(pack: PackConfig) -> None:
    assert Selector.load(pack, device="cpu").loaded_pack().engine == "onnx"
    assert Selector.load(pack, device="cpu", engine="torch").loaded_pack().engine == "torch"
    assert Selector.load(pack, device="cpu", dtype="bfloat16").loaded_pack().engine == "torch"
    with pytest.raises(UsageError, match="the precision is bfloat16"):
        Selector.load(pack, device="cpu", dtype="bfloat16", engine="onnx")
    with pytest.raises(UsageError, match="has no graph"):
        Selector.load("imagenet", device="cpu", engine="onnx")  # weights of the hub: refused before they are fetched
    assert load_recognizer(pack, "embedded", engine="auto").engine == "onnx"
    (pack.folder / GRAPHS_JSON).unlink()
    assert Selector.load(pack, device="cpu").loaded_pack().engine == "torch"
    with pytest.raises(UsageError, match="test_efficientnet has no graph in the pack small"):
        load_recognizer(pack, "embedded", engine="onnx")


def test_a_pack_is_the_same_with_its_graphs_verified_and_runs_by_them(
    pack: PackConfig, exported: Path, tmp_path: Path
) -> None:
    make_pack(tmp_path / "without")
    assert find_pack(tmp_path / "without").sha256 == pack.sha256
    check = verify_pack(pack.folder)[-1]
    assert (check.name, check.ok) == ("encoder.onnx", True)
    assert "of torch" in check.detail
    content = (pack.folder / "encoder.onnx").read_bytes()
    assert len(content) < 100_000  # the weights are 418 kB
    for private in (b"/home", b"site-packages", b".py", str(tmp_path.parent).encode()):
        assert private not in content
    made_with = json.loads((exported / GRAPHS_JSON).read_text())["made_with"]
    assert set(made_with) == {"torch", "onnx", "onnxscript"}
    check_pack_folder(pack.folder)  # a training may replace it
    (pack.folder / "mine.txt").write_text("")
    with pytest.raises(UsageError, match=r"holds mine\.txt"):
        check_pack_folder(pack.folder)


def test_networks_of_the_hub_get_no_graph_nor_any_without_the_exporter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if can_export():
        with pytest.raises(UsageError, match="the pack imagenet has no network that ONNX Runtime could run"):
            export_graphs(find_pack("imagenet"))
    make_pack(tmp_path / "small")
    monkeypatch.setattr(export_module, "can_export", lambda: False)
    with pytest.raises(UsageError, match=r"onnx or onnxscript is not installed.*\[train\]"):
        export_graphs(find_pack(tmp_path / "small"))
    assert not (tmp_path / "small" / GRAPHS_JSON).exists()


def test_a_graph_takes_any_number_of_images(pack: PackConfig) -> None:
    role = pack.roles.visual_encoder
    graph = find_graph(read_graphs(pack), role, 64)
    assert graph == from_dict(Graph, json.loads((pack.folder / GRAPHS_JSON).read_text())["graphs"][0])
    network = load_graph(pack, role, graph)
    assert (network.feature_dim, network.num_classes) == (256, 3)
    images = np.random.default_rng(0).standard_normal((5, 3, 64, 64), np.float32)
    together = network(images)
    singles = [network(images[n : n + 1]) for n in range(5)]
    np.testing.assert_allclose(together.features, np.concatenate([one.features for one in singles]), atol=1e-5)
    recognized = network.recognize(images)
    np.testing.assert_allclose(recognized.logits, together.logits, atol=1e-5)
    by_hand = recognized.activations.mean(axis=(2, 3)) @ network.classifier_weight.T + network.classifier_bias
    np.testing.assert_allclose(by_hand, recognized.logits, atol=1e-4)


def test_a_small_pack_selects_the_same_frames_with_either_engine(pack: PackConfig) -> None:
    demo = Path(__file__).parents[2] / "examples" / "demo.mp4"
    records = [
        Selector.load(pack, device="cpu", engine=engine).select(demo, SelectSettings(num_frames=3))
        for engine in ("onnx", "torch")
    ]
    given, wanted = ([frame.candidate.frame_index for frame in record.frames] for record in records)
    assert given == wanted
    assert [record.engine for record in records] == ["onnx", "torch"]
