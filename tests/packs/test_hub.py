"""The hub, for real: huggingface_hub, timm and transformers fetch small made weights from 127.0.0.1."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from tests.cli.conftest import Result, tsq  # noqa: F401 - a fixture
from tests.packs.hub import LocalHub, served_by
from tests.packs.making import RunsCode, make_pack, network_weights, write_json
from tsq_cli.errors import WeightsError
from tsq_cli.packs import find_pack, load_pack, pull_pack

VISUAL, OBJECTS, BERT = "mobilenetv2_100.ra_in1k", "efficientnet_b0.ra_in1k", "google-bert/bert-base-uncased"
SMALL, SMALL_BERT = "test_efficientnet.r160_in1k", "tests/tiny-bert"
NOBODY = "http://127.0.0.1:9"  # the discard port: nothing answers


def pull_and_load(small: Path) -> tuple[dict[str, torch.Tensor], list[str], list[str]]:
    """Pull a small pack, load it and the pack `imagenet`; return tensors of the latter, what was pulled and told."""
    lines: list[str] = []
    pulled = pull_pack(str(small), lines.append)
    load_pack(str(small))
    pack = load_pack("imagenet")
    images = torch.linspace(-1, 1, 3 * 64 * 64).reshape(1, 3, 64, 64)
    with torch.inference_mode():
        tensors = {
            "visual": pack.visual_encoder(images).features,
            "objects": pack.object_recognizer(images).logits,
            "queries": pack.tsqnet.vqm.queries.data,
            "embeddings": pack.object_embeddings,
            "text": pack.text_encoder().embed(["tench", "toilet paper"]),
        }
    return tensors, pulled, lines


def make_bert(folder: Path, *, words: set[str]) -> None:
    """A BERT of two thin layers with seeded random weights, and a vocabulary of whole words."""
    from transformers import BertConfig, BertModel

    folder.mkdir(parents=True)
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *sorted(words)]
    (folder / "vocab.txt").write_text("".join(f"{word}\n" for word in vocabulary))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "BertTokenizer", "do_lower_case": True, "model_max_length": 512})
    )
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    torch.manual_seed(0)
    config = BertConfig(vocab_size=len(vocabulary), **shape)
    (folder / "config.json").write_text(config.to_json_string(use_diff=False))
    save_file(BertModel(config).state_dict(), folder / "model.safetensors", metadata={"format": "pt"})


@dataclass(frozen=True)
class Run:
    """Tensors of the pack `imagenet`, what was pulled and told of a small pack, and the requests to the hub."""

    tensors: dict[str, torch.Tensor]
    pulled: list[str]
    lines: list[str]
    requests: list[str]
    embeddings_written: list[int]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Run, Run]]:
    """One run with the hub and an empty cache, then one offline with the cache of the first."""
    root = tmp_path_factory.mktemp("hub")
    repositories = {}
    for name in (VISUAL, OBJECTS, SMALL):
        repositories[f"timm/{name}"] = root / name
        (root / name).mkdir()
        save_file(network_weights(name), root / name / "model.safetensors")
    for name in (BERT, SMALL_BERT):
        repositories[name] = root / name
        make_bert(root / name, words={"tench", "toilet", "paper"})
    hub_pack(root / "small", SMALL, embed=True)
    done = []
    with LocalHub(repositories) as hub:
        for offline in (False, True):
            before = len(hub.requests)
            with served_by(hub.url, root / "cache", offline=offline):
                tensors, pulled, lines = pull_and_load(root / "small")
            written = [path.stat().st_mtime_ns for path in sorted((root / "cache" / "tsq").iterdir())]
            done.append(Run(tensors, pulled, lines, hub.requests[before:], written))
    yield done[0], done[1]
    shutil.rmtree(root)  # 80 MB


def test_imagenet_comes_from_the_hub_through_timm_and_transformers(runs: tuple[Run, Run]) -> None:
    for repository in (f"timm/{VISUAL}", f"timm/{OBJECTS}"):
        assert f"GET {repository}/resolve/main/model.safetensors" in runs[0].requests
    assert any(BERT in request and request.endswith("model.safetensors") for request in runs[0].requests)


def test_its_networks_are_the_ones_the_hub_gave(runs: tuple[Run, Run]) -> None:
    import timm

    images = torch.linspace(-1, 1, 3 * 64 * 64).reshape(1, 3, 64, 64)
    for name, key in ((VISUAL, "visual"), (OBJECTS, "objects")):
        network = timm.create_model(name)
        network.load_state_dict(network_weights(name))
        with torch.inference_mode():
            answer = network.eval().forward_head(
                network.forward_features(images), pre_logits=key == "visual"
            )  # fmt: skip
        torch.testing.assert_close(runs[0].tensors[key], answer, rtol=1e-4, atol=1e-5)
    assert torch.equal(runs[0].tensors["queries"], network_weights(VISUAL)["classifier.weight"])


def test_its_embeddings_are_computed_by_its_text_encoder(runs: tuple[Run, Run]) -> None:
    embeddings = runs[0].tensors["embeddings"]
    assert embeddings.shape == (1000, 32)
    names = find_pack("imagenet").object_names
    rows = [names.index("tench"), names.index("toilet paper")]
    torch.testing.assert_close(embeddings[rows], runs[0].tensors["text"], rtol=1e-4, atol=1e-5)
    assert (embeddings[rows[0]] @ embeddings[rows[1]]).item() < 0.999  # two texts, not one


def test_what_was_pulled_works_offline_and_gives_the_same(runs: tuple[Run, Run]) -> None:
    online, offline = runs
    assert online.pulled == offline.pulled == [SMALL, SMALL_BERT]
    assert online.lines == [
        f"fetching {SMALL}", f"fetching {SMALL_BERT}", f"embedding 1000 names with {SMALL_BERT}"
    ]  # fmt: skip
    assert offline.requests == []
    assert set(offline.tensors) == set(online.tensors)
    for name, tensor in online.tensors.items():
        assert torch.equal(offline.tensors[name], tensor), name


def test_names_are_embedded_once_and_kept(runs: tuple[Run, Run]) -> None:
    assert len(runs[0].embeddings_written) == 2  # one file per pack: other names, another text encoder
    assert runs[1].embeddings_written == runs[0].embeddings_written


@pytest.mark.parametrize("offline", [True, False])
def test_without_weights_and_hub_the_command_says_what_to_do_at_once(
    tsq: Callable[..., Result],  # noqa: F811
    tmp_path: Path,
    offline: bool,
) -> None:
    """huggingface_hub by itself would try again for a minute."""
    began = time.monotonic()
    with served_by(NOBODY, tmp_path / "cache", offline=offline):
        result = tsq("packs", "pull", "imagenet")
    assert time.monotonic() - began < 30
    assert (result.code, result.out) == (3, "")
    assert len(result.err.strip().splitlines()) == 1
    assert f"the weights of {VISUAL} are not in {tmp_path / 'cache'}" in result.err
    assert ("HF_HUB_OFFLINE is set" if offline else f"{NOBODY} does not answer") in result.err
    assert "run `tsq packs pull` where there is a network" in result.err


def hub_pack(folder: Path, model: str, *, embed: bool = False) -> str:
    """A small pack whose image networks come from the hub, and whose embeddings can, too."""
    document = make_pack(folder, names=[f"thing {i}" for i in range(1000)])
    encoder: dict[str, Any] = document["roles"]["visual_encoder"]
    encoder |= {"model": model, "weights": {"source": "timm"}, "num_classes": None}
    document["roles"]["recognizer"] = encoder
    if embed:
        document["object_embeddings"] = {"source": "text_encoder"}
    write_json(folder, document)
    return str(folder)


def test_what_a_hub_gives_is_believed_only_if_it_fits(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    cases = {
        "truncated": "test_resnet.r160_in1k",
        "code": "test_vit.r160_in1k",
        "shapes": "test_convnext.r160_in1k",
        "keys": "test_efficientnet.r160_in1k",
        "no weights": "test_byobnet.r160_in1k",
        "unknown": "test_nfnet.r160_in1k",
    }
    repositories = {f"timm/{model}": tmp_path / "hub" / name for name, model in cases.items() if name != "unknown"}
    for name, folder in zip(cases, repositories.values(), strict=False):
        folder.mkdir(parents=True)
        (folder / "README.md").write_text(name)
        weights = network_weights(cases[name])
        first = next(iter(weights))
        if name == "shapes":
            save_file({**weights, first: torch.zeros(2, 2)}, folder / "model.safetensors")
        if name == "keys":
            save_file({key: value for key, value in weights.items() if key != first}, folder / "model.safetensors")
        if name == "truncated":
            save_file(weights, tmp_path / "whole")
            (folder / "model.safetensors").write_bytes((tmp_path / "whole").read_bytes()[:100_000])
        if name == "code":
            torch.save({**weights, "extra": RunsCode(canary)}, folder / "pytorch_model.bin")
    folders = {name: hub_pack(tmp_path / f"pack {name}", model) for name, model in cases.items()}
    said = {}
    with LocalHub(repositories) as hub, served_by(hub.url, tmp_path / "cache"):
        for name, folder in folders.items():
            with pytest.raises(WeightsError) as refused:
                load_pack(folder)
            said[name] = str(refused.value)
    assert all("\n" not in text and cases[name] in text for name, text in said.items())
    assert "GET timm/test_vit.r160_in1k/resolve/main/pytorch_model.bin" in hub.requests, "the code was offered"
    assert not canary.exists()
