"""What was trained comes back out of a pack, as it was; and nothing else is ever put in a pack's place."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from skimage import data as pictures
from torch import nn

from tests.packs.making import NETWORK, make_pack, packed, write_json
from tsq_cli.config import ClassifySettings
from tsq_cli.errors import UsageError, WeightsError
from tsq_cli.models import FrameEncoder, TSQLayer, TSQLayerConfig, TSQNet, create_encoder
from tsq_cli.packs import (
    PackConfig,
    choose_recognizer,
    find_pack,
    load_pack,
    load_recognizer,
    verify_pack,
)
from tsq_cli.packs.load import load_encoder
from tsq_cli.packs.schema import Provenance
from tsq_cli.packs.write import TrainedNetwork, write_pack
from tsq_cli.recognition import recognize_clips
from tsq_cli.training.encoder import with_classifier

CLASSES = ("running", "swimming", "playing the piano", "écrire")
PROVENANCE = Provenance(data="made up", command="pytest", commit=None, metrics={"map": 0.5, "videos": 12})


@pytest.fixture
def base(tmp_path: Path) -> PackConfig:
    make_pack(tmp_path / "base")
    return find_pack(tmp_path / "base")


def layers(*, visual: int = 256, textual: int = 8, num_classes: int = len(CLASSES)) -> TSQNet:
    """Layers whose every parameter is some random number."""
    torch.manual_seed(3)
    competing = TSQLayerConfig(competition_floor=2.0, competition_weight=0.5)
    net = TSQNet(
        TSQLayer(visual, num_classes, num_frames=5, scale=0.07, config=competing),
        TSQLayer(textual, num_classes, num_frames=5, config=TSQLayerConfig(num_heads=2, projections=False)),
    )
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.1)
    return net.eval()


def trained(base: PackConfig, *, seed: int = 1, num_classes: int = len(CLASSES), **how: Any) -> TrainedNetwork:
    """The base's visual encoder with a new classifier and other weights throughout, as if fine-tuned."""
    role = base.roles.visual_encoder
    encoder = with_classifier(load_encoder(role, base.folder), num_classes, seed=seed)
    torch.manual_seed(seed)
    for parameter in encoder.parameters():
        parameter.data.mul_(1 + 0.1 * torch.rand_like(parameter))
    return TrainedNetwork(encoder=encoder, model=role.model, preprocess=role.preprocess, **how)


def write(folder: Path, base: PackConfig, **changed: Any) -> PackConfig:
    arguments: dict[str, Any] = {
        "description": "a test",
        "class_names": CLASSES,
        "tsqnet": layers(),
        "visual_encoder": None,
        "recognizer": None,
        "settings": base.settings,
        "provenance": PROVENANCE,
    }
    return write_pack(folder, base=base, **(arguments | changed))


def frames() -> torch.Tensor:
    """Two photographs, uint8 [2, 90, 120, 3]."""
    shown = [Image.fromarray(picture).resize((120, 90)) for picture in (pictures.chelsea(), pictures.coffee())]
    return torch.from_numpy(np.stack([np.asarray(picture) for picture in shown]))


def said(encoder: FrameEncoder, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    with torch.inference_mode():
        output = encoder(images)
    return output.features, output.logits


def test_a_fine_tuned_encoder_is_stored_once_and_is_encoder_and_recognizer(base: PackConfig, tmp_path: Path) -> None:
    network = trained(base)
    config = write(tmp_path / "new", base, visual_encoder=network, recognizer=network)
    assert {path.name for path in config.folder.iterdir()} == {
        "pack.json", "classes.txt", "objects.txt", "text.safetensors", "vqm.safetensors", "tqm.safetensors",
        "visual_encoder.safetensors", "object_recognizer.safetensors",
    }  # fmt: skip
    assert config == find_pack(tmp_path / "new")
    assert (config.class_names, config.object_names) == (CLASSES, base.object_names)
    assert config.provenance == PROVENANCE
    assert all(check.ok for check in verify_pack(tmp_path / "new"))

    pack = load_pack(config)
    images = base.roles.visual_encoder.preprocess(frames())
    assert torch.equal(pack.visual_preprocessor(frames()), images)
    ours, trained_ = said(pack.visual_encoder, images), said(network.encoder, images)
    for one, other in zip(ours, trained_, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=5e-3 * float(other.abs().max()))  # float16 kernels
    for one, other in zip(
        said(pack.object_recognizer, images), said(load_pack(base).object_recognizer, images), strict=True
    ):
        assert torch.equal(one, other)  # the base's own file
    assert torch.equal(pack.object_embeddings, load_pack(base).object_embeddings)
    for requested in ("auto", "embedded", NETWORK):
        choice = choose_recognizer(config, requested)
        assert (choice.source, choice.role) == ("file", config.roles.visual_encoder)
    loaded = load_recognizer(pack, choice)
    assert loaded.class_names == CLASSES
    torch.testing.assert_close(said(loaded.recognizer.encoder, images)[1], ours[1])


def test_the_layers_come_back_rounded_to_half_precision_with_their_variant(base: PackConfig, tmp_path: Path) -> None:
    net = layers()
    settings = replace(base.settings, lambda_v=0.8, num_candidates=99, visual_scale=99.0)
    config = write(tmp_path / "new", base, tsqnet=net, settings=settings)
    # What the layers know of themselves is theirs to say; the rest are the settings given.
    assert (config.settings.num_candidates, config.settings.visual_scale, config.settings.textual_scale) == (
        5,
        0.07,
        None,
    )
    assert (config.settings.lambda_v, config.settings.text_logit_scale) == (0.8, None)
    again = load_pack(config).tsqnet
    assert (again.vqm.config, again.tqm.config) == (net.vqm.config, net.tqm.config)
    entries, reloaded = net.state_dict(), again.state_dict()
    assert entries.keys() == reloaded.keys()
    assert "vqm.cross.0.query.weight" in entries
    for name, tensor in entries.items():
        as_stored = tensor.numpy().astype(np.float16 if tensor.ndim > 1 else np.float32).astype(np.float32)
        np.testing.assert_array_equal(reloaded[name].numpy(), as_stored, err_msg=name)


def test_a_shared_classifier_comes_back_as_one_row_and_a_file_with_a_row_per_class_does_not_fit(
    base: PackConfig, tmp_path: Path
) -> None:
    shared = TSQLayerConfig(classifier="class-agnostic")
    net = TSQNet(*(TSQLayer(width, len(CLASSES), num_frames=5, config=shared) for width in (256, 8))).eval()
    config = write(tmp_path / "new", base, tsqnet=net)
    again = load_pack(config).tsqnet
    assert (list(again.vqm.classifier_weight.shape), list(again.tqm.classifier_bias.shape)) == ([1, 256], [1])
    assert again.vqm.config == shared
    path = tmp_path / "new" / "vqm.safetensors"
    entries = load_file(path)  # as the layer was before classes shared a weight
    save_file(entries | {"classifier_weight": torch.zeros(4, 256), "classifier_bias": torch.zeros(4)}, path)
    document = json.loads((tmp_path / "new" / "pack.json").read_text())
    document["modules"]["visual"]["weights"] = {"source": "file", **packed(path)}
    write_json(tmp_path / "new", document)
    with pytest.raises(WeightsError, match=r"does not fit TSQLayer: 2 of another shape .*\[4\] for \[1\]"):
        load_pack(find_pack(tmp_path / "new"))


def test_a_tuned_encoder_that_scores_the_objects_serves_both_modules(base: PackConfig, tmp_path: Path) -> None:
    encoder = trained(base, num_classes=len(base.object_names), scores_objects=True)
    recognizer = trained(base, seed=2)
    config = write(tmp_path / "pack", base, visual_encoder=encoder, recognizer=recognizer)
    pack = load_pack(config)
    assert pack.object_recognizer is pack.visual_encoder
    stored = load_file(tmp_path / "pack" / "visual_encoder.safetensors")
    expected = encoder.encoder.model.state_dict()
    assert all(torch.equal(stored[name], expected[name].to(stored[name].dtype)) for name in expected)
    loaded = load_recognizer(pack, choose_recognizer(config))
    assert loaded.recognizer.num_classes == len(CLASSES)


def test_a_probe_over_the_unchanged_encoder_leaves_one_pass_for_both_modules(base: PackConfig, tmp_path: Path) -> None:
    network = trained(base)
    config = write(tmp_path / "new", base, recognizer=network)
    pack = load_pack(config)
    assert pack.object_recognizer is pack.visual_encoder
    images = base.roles.visual_encoder.preprocess(frames())
    for one, other in zip(said(pack.visual_encoder, images), said(load_pack(base).visual_encoder, images), strict=True):
        assert torch.equal(one, other)
    choice = choose_recognizer(config, "embedded")
    loaded = load_recognizer(pack, choice)
    logits = said(network.encoder, images)[1]
    torch.testing.assert_close(
        said(loaded.recognizer.encoder, images)[1], logits, rtol=0, atol=5e-3 * float(logits.abs().max())
    )
    recognition = recognize_clips(loaded, [frames()], ClassifySettings(num_predictions=1))[0]
    assert recognition.predictions[0].label == CLASSES[int(logits.mean(dim=0).argmax())]


def test_an_eight_bit_recognizer_is_small_and_says_nearly_the_same(base: PackConfig, tmp_path: Path) -> None:
    network = trained(base, precision="int8")
    config = write(tmp_path / "new", base, visual_encoder=trained(base, seed=2), recognizer=network)
    sizes = {path.stem: path.stat().st_size for path in config.folder.iterdir()}
    assert sizes["recognizer"] < 0.7 * sizes["visual_encoder"]
    assert {tensor.dtype for tensor in load_file(config.folder / "recognizer.safetensors").values()} >= {torch.int8}
    images = base.roles.visual_encoder.preprocess(frames())
    choice = choose_recognizer(config)
    loaded = load_recognizer(config, choice)
    logits = said(network.encoder, images)[1]
    torch.testing.assert_close(
        said(loaded.recognizer.encoder, images)[1], logits, rtol=0, atol=0.03 * float(logits.abs().max())
    )


def test_a_forty_class_pack_on_the_default_one_stays_under_40_megabytes(tmp_path: Path) -> None:
    lite = find_pack("imagenet-lite")
    network = trained(lite, num_classes=40)
    net = layers(visual=1280, textual=384, num_classes=40)
    names = [f"action {i}" for i in range(40)]
    config = write(tmp_path / "new", lite, class_names=names, tsqnet=net, visual_encoder=network, recognizer=network)
    assert sum(path.stat().st_size for path in config.folder.iterdir()) < 40e6
    assert config.roles.objects.weights.sha256 == lite.roles.visual_encoder.weights.sha256  # 19 of them are its copy
    assert config.roles.recognizer == config.roles.visual_encoder
    assert config.settings.sampler_input_size == lite.settings.sampler_input_size


def test_the_same_weights_give_the_same_bytes(base: PackConfig, tmp_path: Path) -> None:
    one, other = (write(tmp_path / name, base, recognizer=trained(base)) for name in ("one", "other"))
    assert one.sha256 == other.sha256


def test_a_pack_takes_the_place_of_a_pack_and_of_nothing_else(base: PackConfig, tmp_path: Path) -> None:
    folder = tmp_path / "new"
    folder.mkdir()
    first = write(folder, base)
    second = write(folder, base, description="another")
    assert (first.description, second.description) == ("a test", "another")
    (folder / "notes.md").write_text("mine")
    with pytest.raises(UsageError, match=r"new is a folder that holds notes\.md; wanted a new folder"):
        write(folder, base)
    assert find_pack(folder) == second
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="file is a file"):
        write(tmp_path / "file", base)
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "thesis.tex").write_text("mine")
    with pytest.raises(UsageError, match=r"holds thesis\.tex"):
        write(tmp_path / "work", base)


def test_what_does_not_pass_leaves_the_old_pack_and_no_other_trace(base: PackConfig, tmp_path: Path) -> None:
    old = write(tmp_path / "new", base)
    other = TrainedNetwork(
        encoder=create_encoder("test_resnet", num_classes=4),
        model=NETWORK,
        preprocess=base.roles.visual_encoder.preprocess,
    )
    blown = layers()
    blown.vqm.queries.data[0, 0] = 1e9
    folded = TrainedNetwork(  # batch norms folded away, as a loaded pack has them
        encoder=with_classifier(load_pack(base).visual_encoder, len(CLASSES), seed=0),
        model=NETWORK,
        preprocess=other.preprocess,
    )
    for changed, message in (
        ({"visual_encoder": other}, "does not pass its check of weights.*does not fit EfficientNet"),
        ({"recognizer": other}, "does not fit EfficientNet"),
        ({"recognizer": folded}, "does not fit EfficientNet"),
        ({"tsqnet": layers(visual=255)}, "does not fit TSQLayer"),
        ({"tsqnet": blown}, "queries holds numbers that are not finite, or too large for float16"),
    ):
        with pytest.raises(WeightsError, match=message):
            write(tmp_path / "new", base, **changed)
        assert {path.name for path in tmp_path.iterdir()} == {"base", "new"}
        assert find_pack(tmp_path / "new") == old
    for names in (
        [], ["a", "a", "b", "c"], ["a", "", "b", "c"], ["a", "b\nc", "d", "e"], ["a", "b\x1b[31m", "c", "d"],
        ["a", "b" * 201, "c", "d"],
    ):  # fmt: skip
        with pytest.raises(UsageError, match="class"):
            write(tmp_path / "other", base, class_names=names)
    assert not (tmp_path / "other").exists()


def test_another_number_of_classes_than_the_layers_is_refused(base: PackConfig, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="does not pass its check of weights"):
        write(tmp_path / "new", base, class_names=CLASSES[:3])
    network = trained(base, num_classes=3)
    with pytest.raises(WeightsError, match="scores 3 classes; wanted 4"):
        write(tmp_path / "new", base, recognizer=network)


def test_what_names_files_of_any_name_is_written_escaped(base: PackConfig, tmp_path: Path) -> None:
    """A pack with control characters would not be read again, and a name of a file may hold bytes that are no text."""
    odd = replace(PROVENANCE, data="list\x1b[31m.csv", command="tsq train bad\udcff.csv\nrm")
    config = write(tmp_path / "new", base, provenance=odd)
    assert config.provenance.data == r"list\x1b[31m.csv"
    assert config.provenance.command == r"tsq train bad\xff.csv\nrm"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs here")
@pytest.mark.parametrize("what", ["FIFO", "link to a folder", "dangling link"])
def test_whatever_stands_beside_a_pack_is_somebodys(base: PackConfig, tmp_path: Path, what: str) -> None:
    folder = tmp_path / "new"
    write(folder, base)
    if what == "FIFO":
        os.mkfifo(folder / "mine")
    else:
        (folder / "mine").symlink_to(tmp_path / "base" if what == "link to a folder" else "nowhere")
    with pytest.raises(UsageError, match="new is a folder that holds mine"):
        write(folder, base)
    assert os.path.lexists(folder / "mine")
    assert find_pack(folder).description == "a test"
