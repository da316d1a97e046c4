"""Choosing and loading the recognizer: ResNet-101 through a hub for real, the rest with small networks."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from skimage import data as pictures
from torch import nn

from tests.models.test_fold import lively
from tests.packs.hub import LocalHub, served_by
from tests.packs.making import NETWORK, make_pack, network_weights, packed, write_json
from tsq_cli.errors import UsageError, WeightsError
from tsq_cli.packs import PackConfig, choose_recognizer, find_pack, load_pack, load_recognizer, pull_pack

RESNET101, SMALL, LITE0 = "resnet101.a1h_in1k", "test_resnet.r160_in1k", "tf_efficientnet_lite0"
NOBODY = "http://127.0.0.1:9"  # the discard port: nothing answers


def recognize(frames: np.ndarray, small: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Choose, load and run ResNet-101, pull a small pack, then go offline and choose again; say what came of it."""
    config = find_pack("imagenet-lite")
    choices = [choose_recognizer(config)]
    loaded = load_recognizer(config, choices[0])
    pulled = pull_pack(str(small))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
        choices += [choose_recognizer(config, requested) for requested in ("auto", "resnet101", "resnet101.a1h_in1k")]
        load_recognizer(find_pack(small), choose_recognizer(find_pack(small)))
    images = loaded.preprocessor(torch.from_numpy(frames))
    with torch.inference_mode():
        output = loaded.recognizer(images)
    said = {
        "pulled": pulled,
        "choices": [[choice.name, choice.source, choice.reason] for choice in choices],
        "is_pooled_linear": loaded.recognizer.is_pooled_linear,
        "batch_norms": sum(isinstance(part, torch.nn.BatchNorm2d) for part in loaded.recognizer.modules()),
        "training": loaded.recognizer.training,
    }
    return said, {"images": images, "logits": output.logits, "activations": output.activations}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty hub cache in the place of the user's, and no hub to fill it from."""
    constants = {"HF_HUB_CACHE": str(tmp_path / "cache"), "HF_HUB_OFFLINE": True, "ENDPOINT": NOBODY}
    for name, value in constants.items():
        monkeypatch.setattr(huggingface_hub.constants, name, value)
    return tmp_path / "cache"


@dataclass(frozen=True)
class ResNet101:
    """timm's network with seeded random weights, two pictures, and what came of both through a hub.

    Attributes:
        frames: uint8 [2, 235, 352, 3]. The shorter side is what timm resizes to, 224 / 0.95, so that nothing is
            resized, and the bytes cannot be rounded in two ways.
    """

    network: nn.Module
    frames: np.ndarray
    url: str
    said: dict[str, Any]
    tensors: dict[str, torch.Tensor]
    requests: list[str]


@pytest.fixture(scope="module")
def resnet101(tmp_path_factory: pytest.TempPathFactory) -> ResNet101:
    """With an empty cache and a hub at first, then offline once what is needed is there."""
    root = tmp_path_factory.mktemp("resnet101")
    network = lively(timm.create_model("resnet101"))
    repositories = {f"timm/{name}": root / name for name in (RESNET101, SMALL)}
    for folder in repositories.values():
        folder.mkdir()
    save_file(network.state_dict(), root / RESNET101 / "model.safetensors")
    save_file(network_weights("test_resnet"), root / SMALL / "model.safetensors")
    small_pack = thousand(root / "small")
    lite = json.loads((find_pack("imagenet-lite").folder / "pack.json").read_text())
    small_pack["roles"]["text_encoder"] = lite["roles"]["text_encoder"]  # of a package: nothing to pull
    write_json(root / "small", small_pack)
    photographs = (pictures.chelsea(), pictures.coffee())
    frames = np.stack([np.array(Image.fromarray(picture).resize((352, 235))) for picture in photographs])
    with LocalHub(repositories) as hub, served_by(hub.url, root / "cache"):
        said, tensors = recognize(frames, root / "small")
    shutil.rmtree(root)  # 360 MB
    return ResNet101(network, frames, hub.url, said, tensors, hub.requests)


def test_resnet101_comes_through_the_hub_once_and_is_chosen_offline_from_then_on(resnet101: ResNet101) -> None:
    first, *later = resnet101.said["choices"]
    assert first == [RESNET101, "timm", f"{RESNET101}, from the hub at {resnet101.url}"]
    assert later == [[RESNET101, "timm", f"{RESNET101}, from the local cache"]] * 3
    assert [request for request in resnet101.requests if f"{RESNET101}/resolve/" in request] == [
        f"HEAD timm/{RESNET101}/resolve/main/model.safetensors",
        f"GET timm/{RESNET101}/resolve/main/model.safetensors",
    ]


def test_pulling_a_pack_fetches_its_recognizer_which_then_loads_offline(resnet101: ResNet101) -> None:
    assert resnet101.said["pulled"] == [SMALL]
    assert f"GET timm/{SMALL}/resolve/main/model.safetensors" in resnet101.requests


def test_resnet101_says_what_timms_own_says_of_the_same_pixels(resnet101: ResNet101) -> None:
    """Pixels prepared by timm's transform of PIL pictures, and timm's own forward, batch norms and all."""
    network = resnet101.network
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(network))
    images = torch.stack([transform(Image.fromarray(frame)) for frame in resnet101.frames])
    last_stage: list[torch.Tensor] = []
    network.get_submodule("layer4").register_forward_hook(lambda module, inputs, output: last_stage.append(output))
    with torch.inference_mode():
        logits = network(images)
    ours = resnet101.tensors
    assert ours["images"].shape == (2, 3, 224, 224)
    torch.testing.assert_close(ours["images"], images, rtol=0, atol=1e-6)
    assert ours["activations"].shape == (2, 2048, 7, 7)
    for one, other in ((ours["activations"], last_stage[0]), (ours["logits"], logits)):
        largest = other.abs().max()
        torch.testing.assert_close(one / largest, other / largest, rtol=0, atol=2e-5)
    assert (logits[0] - logits[1]).abs().max() > 0.01 * logits.abs().max()  # the pictures are told apart


def test_resnet101_is_ready_to_run(resnet101: ResNet101) -> None:
    said = resnet101.said
    assert (said["is_pooled_linear"], said["batch_norms"], said["training"]) == (True, 0, False)


def thousand(folder: Path) -> dict[str, Any]:
    """A small pack of a thousand classes, whose recognizer comes off the hub: timm's SMALL."""
    return make_pack(folder, names=[f"thing {i}" for i in range(1000)])


def fill_cache(cache: Path, repository: str, weights: Mapping[str, torch.Tensor], **files: Any) -> None:
    """Lay weights, and JSON files, where huggingface_hub keeps those of a repository."""
    folder = cache / f"models--{repository.replace('/', '--')}"
    snapshot = folder / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("0" * 40)
    save_file(dict(weights), snapshot / "model.safetensors")
    for name, content in files.items():
        (snapshot / f"{name}.json").write_text(json.dumps(content))


def choice_of(config: PackConfig, requested: str) -> tuple[str, str, bool]:
    """Name and source of the network chosen, and whether it is fed as the pack's recognizer is."""
    choice = choose_recognizer(config, requested)
    assert choice.requested == requested
    return choice.name, choice.source, choice.role is config.roles.recognizer


@pytest.mark.parametrize("offline", [True, False])
def test_auto_without_the_hub_takes_what_the_pack_carries_and_says_why(
    cache: Path, offline: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", offline)
    config = find_pack("imagenet-lite")
    choice = choose_recognizer(config)
    assert (choice.name, choice.source) == (LITE0, "file")
    why = "HF_HUB_OFFLINE is set" if offline else f"{NOBODY} does not answer"
    assert choice.reason == f"{RESNET101} is not in the local cache and {why}: the pack's own {LITE0} is used"
    embedded = choose_recognizer(config, "embedded")
    assert embedded.reason == f"{LITE0}, the pack's own"
    assert choice.identity() == embedded.identity()
    for requested in ("resnet101", RESNET101, "resnet18", "hf-hub:tests/three"):
        with pytest.raises(WeightsError, match=rf"{why}.*HF_ENDPOINT.*or use --recognizer embedded") as caught:
            choose_recognizer(config, requested)
        assert "\n" not in str(caught.value)
        assert str(cache) in str(caught.value)


def test_auto_passes_over_a_hub_that_lacks_the_network(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with LocalHub({}) as hub:
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", hub.url)
        choice = choose_recognizer(find_pack("imagenet-lite"))
        assert choice.name == LITE0
        assert f"{hub.url} answers 404" in choice.reason
        assert hub.requests == [f"HEAD api/models/timm/{RESNET101}"]


def test_the_embedded_network_is_the_packs_own_object_recognizer_and_not_a_second_copy(cache: Path) -> None:
    config = find_pack("imagenet-lite")
    pack = load_pack(config)
    choice = choose_recognizer(config, "embedded")
    shared = load_recognizer(pack, choice)
    assert shared.recognizer.encoder is pack.object_recognizer
    assert load_recognizer(pack, "embedded").recognizer.encoder is pack.object_recognizer
    assert load_recognizer(pack, "embedded", dtype=torch.bfloat16).recognizer.encoder is not pack.object_recognizer
    assert {parameter.dtype for parameter in pack.object_recognizer.parameters()} == {torch.float32}
    assert shared.preprocessor == config.roles.objects.preprocess
    assert (shared.recognizer.num_classes, shared.class_names) == (1000, config.class_names)
    alone = load_recognizer("imagenet-lite", "embedded")
    images = alone.preprocessor(torch.from_numpy(pictures.coffee()[None]))
    with torch.inference_mode():
        said, said_alone = shared.recognizer(images), alone.recognizer(images)
    assert torch.equal(said.logits, said_alone.logits)
    assert alone.class_names[int(said_alone.logits.argmax())] == "espresso"
    assert alone.recognizer.is_pooled_linear


def test_names_mean_the_packs_recognizer_or_timms_published_weights(tmp_path: Path, cache: Path) -> None:
    document = thousand(tmp_path / "pack")
    fill_cache(cache, f"timm/{SMALL}", network_weights("test_resnet"))
    fill_cache(cache, "timm/test_efficientnet.r160_in1k", network_weights("test_efficientnet"))
    config = find_pack(tmp_path / "pack")
    assert choice_of(config, "auto") == choice_of(config, "test_resnet") == choice_of(config, SMALL)
    assert choice_of(config, "auto") == (SMALL, "timm", True)
    assert choice_of(config, "embedded") == (NETWORK, "file", False)
    assert choice_of(config, "test_efficientnet") == ("test_efficientnet.r160_in1k", "timm", False)
    identities = [choose_recognizer(config, name).identity() for name in ("auto", "embedded", "test_efficientnet")]
    assert len({json.dumps(identity) for identity in identities}) == 3

    document["roles"]["recognizer"] |= {"model": NETWORK, "num_classes": 1000}
    document["roles"]["recognizer"]["weights"] = document["roles"]["visual_encoder"]["weights"]
    write_json(tmp_path / "pack", document)
    own = find_pack(tmp_path / "pack")
    for requested in ("auto", "embedded", NETWORK):
        assert choice_of(own, requested) == (NETWORK, "file", True)
    assert choice_of(own, f"{NETWORK}.r160_in1k") == (f"{NETWORK}.r160_in1k", "timm", False)
    assert own.sha256 != config.sha256
    assert choose_recognizer(own, NETWORK).identity() != choose_recognizer(config, "embedded").identity()


def test_a_role_is_fed_as_the_pack_says_and_another_network_as_timm_says(tmp_path: Path, cache: Path) -> None:
    thousand(tmp_path / "pack")
    for name in ("test_resnet", "test_efficientnet"):
        fill_cache(cache, f"timm/{name}.r160_in1k", network_weights(name))
    config = find_pack(tmp_path / "pack")
    frames = torch.from_numpy(pictures.coffee()[None])
    for requested, size, mean in (("test_resnet", 64, 0.5), ("test_efficientnet", 160, 0.485)):
        choice = choose_recognizer(config, requested)
        loaded = load_recognizer(config, choice)
        assert (loaded.preprocessor.input_size, loaded.preprocessor.mean[0]) == (size, mean)
        network = timm.create_model(requested).eval()
        network.load_state_dict(network_weights(requested))
        images = loaded.preprocessor(frames)
        with torch.inference_mode():
            torch.testing.assert_close(loaded.recognizer(images).logits, network(images), rtol=1e-4, atol=1e-5)
        half = load_recognizer(config, choice, dtype=torch.bfloat16).recognizer
        assert {parameter.dtype for parameter in half.parameters()} == {torch.bfloat16}


def test_networks_of_a_folder_and_of_any_repository_bring_their_own_preprocessing(tmp_path: Path, cache: Path) -> None:
    make_pack(tmp_path / "pack")  # three classes
    config = find_pack(tmp_path / "pack")
    for num_classes in (3, 7):
        network = timm.create_model("test_resnet", num_classes=num_classes)
        network.pretrained_cfg |= {"mean": (0.1, 0.2, 0.3), "num_classes": num_classes}
        timm.models.save_for_hf(network, tmp_path / f"net{num_classes}", safe_serialization=True)
        weights = load_file(tmp_path / f"net{num_classes}" / "model.safetensors")
        description = json.loads((tmp_path / f"net{num_classes}" / "config.json").read_text())
        fill_cache(cache, f"tests/net{num_classes}", weights, config=description)
    for name, source in ((f"local-dir:{tmp_path / 'net3'}", "file"), ("hf-hub:tests/net3", "timm")):
        choice = choose_recognizer(config, name)
        assert (choice.name, choice.source, choice.role) == (name, source, None)
        loaded = load_recognizer(config, choice)
        assert loaded.preprocessor.mean == (0.1, 0.2, 0.3)
        assert loaded.class_names == config.class_names
        assert torch.equal(
            loaded.recognizer.encoder.classifier_bias, load_file(tmp_path / "net3/model.safetensors")["fc.bias"]
        )
    assert choose_recognizer(config, f"hf-hub:tests/net3@{'0' * 40}").reason.endswith("from the local cache")
    with pytest.raises(WeightsError, match=r"the weights of hf-hub:tests/net3@v2 are not in"):
        choose_recognizer(config, "hf-hub:tests/net3@v2")
    for name in (f"local-dir:{tmp_path / 'net7'}", "hf-hub:tests/net7"):
        choice = choose_recognizer(config, name)
        with pytest.raises(UsageError, match=f"{name} has 7 classes; wanted 3, one for each class of the pack pack"):
            load_recognizer(config, choice)


@pytest.mark.parametrize(
    ("requested", "message"),
    [
        ("resnet1011", "no model named 'resnet1011'.*did you mean resnet101"),
        ("resnet101.a1h", r"no model named 'resnet101\.a1h'.*did you mean resnet101\.a1h_in1k"),
        ("timm/resnet101", "no model named 'timm/resnet101'.*wanted a timm model name, hf-hub:owner/name"),
        ("hf-hub:", "no model named 'hf-hub:'"),
        ("hf-hub:@main", "'' is no repository of a hub"),
        ("hf-hub:a/b/c", "'a/b/c' is no repository of a hub .*; wanted owner/name"),
        ("hf-hub:a/b@c@d", "'a/b@c' is no repository of a hub"),
        ("http://resnet101", "no model named 'http://resnet101'"),
        ("", "no model named ''"),
        ("resnet200", "timm has no weights for resnet200"),
        ("local-dir:no/such/folder", r"no/such/folder holds no config\.json"),
        ("vit_base_patch16_224.augreg_in21k", "augreg_in21k has 21843 classes; wanted 1000, one for each class of"),
        ("vit_small_patch14_dinov2.lvd142m", "has 0 classes"),
    ],
)
def test_what_cannot_be_used_is_told_before_anything_is_loaded(cache: Path, requested: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        choose_recognizer(find_pack("imagenet-lite"), requested)


def test_a_pack_may_have_no_embedded_recognizer(tmp_path: Path, cache: Path) -> None:
    """Its object network names the objects, as many as there are classes; its recognizer is on the hub."""
    document = make_pack(tmp_path / "pack")
    (tmp_path / "pack" / "classes.txt").write_text("running\nswimming\nsinging\n")
    document["classes"] = packed(tmp_path / "pack" / "classes.txt")
    for module in document["modules"].values():
        module["weights"] = {"source": "file", **packed(tmp_path / "pack" / "encoder.safetensors")}
    document["roles"]["recognizer"]["model"] = "hf-hub:tests/sports"
    write_json(tmp_path / "pack", document)
    config = find_pack(tmp_path / "pack")
    with pytest.raises(UsageError, match=r"no embedded recognizer: .*tests/sports comes off the hub.*of its 3 classes"):
        choose_recognizer(config, "embedded")
    with pytest.raises(WeightsError, match="the weights of hf-hub:tests/sports are not in"):
        choose_recognizer(config)
    fill_cache(cache, "tests/sports", {})
    assert (
        choice_of(config, "auto") == choice_of(config, "hf-hub:tests/sports") == ("hf-hub:tests/sports", "timm", True)
    )


def test_a_recognizer_that_does_not_fit_its_pack_is_refused(tmp_path: Path, cache: Path) -> None:
    make_pack(tmp_path / "pack")  # three classes, and a recognizer of a thousand
    fill_cache(cache, f"timm/{SMALL}", network_weights("test_resnet"))
    with pytest.raises(UsageError, match=f"{SMALL} has 1000 classes; wanted 3, one for each class of the pack pack"):
        choose_recognizer(find_pack(tmp_path / "pack"))


def test_a_pack_all_off_the_hub_has_its_object_recognizer_for_the_embedded_one(cache: Path) -> None:
    config = find_pack("imagenet")
    choice = choose_recognizer(config, "embedded")
    assert (choice.name, choice.source, choice.role) == ("efficientnet_b0.ra_in1k", "timm", config.roles.objects)
    with pytest.raises(WeightsError, match=r"the weights of efficientnet_b0\.ra_in1k are not in"):
        load_recognizer(config, choice)
