"""What is read as weights: plain tensors of floating point numbers that the file really holds."""

from __future__ import annotations

import random
import zipfile
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file

from tests.packs.making import NETWORK, network_weights, packed, write_json
from tsq_cli.errors import WeightsError
from tsq_cli.packs import load_pack
from tsq_cli.packs.tensors import fill, read_tensors


def stored(tmp_path: Path, suffix: str, tensors: dict[Any, torch.Tensor]) -> Path:
    path = tmp_path / f"w{suffix}"
    if suffix == ".safetensors":
        save_file(tensors, path)
    else:
        torch.save(tensors, path)
    return path


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize(
    "dtype",
    [torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64, torch.float64, torch.bool, torch.complex64,
     torch.float8_e4m3fn],
)  # fmt: skip
def test_tensors_of_other_types_are_refused_by_name(tmp_path: Path, suffix: str, dtype: torch.dtype) -> None:
    tensors = {"fine": torch.ones(2), "b.weight": torch.ones(2, 2).to(dtype)}
    with pytest.raises(WeightsError, match=rf"w{suffix} holds 'b\.weight' in {str(dtype)[6:]}; wanted plain tensors"):
        read_tensors(stored(tmp_path, suffix, tensors))


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_floats_and_the_counter_of_a_batch_norm_are_read(tmp_path: Path, suffix: str) -> None:
    tensors = {
        **{str(dtype): torch.ones(2, dtype=dtype) for dtype in (torch.float32, torch.float16, torch.bfloat16)},
        "bn1.num_batches_tracked": torch.tensor(7),
    }
    back = read_tensors(stored(tmp_path, suffix, tensors))
    assert {name: (tensor.dtype, tensor.tolist()) for name, tensor in back.items()} == {
        "torch.float32": (torch.float32, [1, 1]), "torch.float16": (torch.float16, [1, 1]),
        "torch.bfloat16": (torch.bfloat16, [1, 1]), "bn1.num_batches_tracked": (torch.int64, 7),
    }  # fmt: skip
    with pytest.raises(WeightsError, match=r"'bn1\.num_batches_tracked' in int32"):
        read_tensors(stored(tmp_path, suffix, {"bn1.num_batches_tracked": torch.tensor(7, dtype=torch.int32)}))


def test_a_network_is_not_filled_with_whole_numbers(folder: Path, document: dict[str, Any]) -> None:
    """torch would convert them without a word."""
    tensors = network_weights(NETWORK, num_classes=3)
    save_file({**tensors, "classifier.bias": torch.zeros(3, dtype=torch.int32)}, folder / "encoder.safetensors")
    document["roles"]["visual_encoder"]["weights"] = {"source": "file", **packed(folder / "encoder.safetensors")}
    write_json(folder, document)
    with pytest.raises(WeightsError, match=r"encoder\.safetensors holds 'classifier\.bias' in int32"):
        load_pack(folder)


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (torch.zeros(1).expand(10**12), r"holds 'w' in \[1000000000000\] over 4 bytes"),
        (torch.zeros(4).to_sparse(), "holds 'w' in sparse_coo on cpu"),
        (torch.zeros(4, device="meta"), "holds 'w' in strided on meta"),
    ],
)
def test_tensors_without_all_their_numbers_are_refused(tmp_path: Path, tensor: torch.Tensor, message: str) -> None:
    with pytest.raises(WeightsError, match=message):
        read_tensors(stored(tmp_path, ".pth", {"w": tensor}))


def test_names_of_tensors_are_texts_and_shown_escaped(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="holds more than tensors"):
        read_tensors(stored(tmp_path, ".pth", {3: torch.ones(1)}))
    with pytest.raises(WeightsError, match=r"holds 'a\\x1b\[31m' in int32") as caught:
        read_tensors(stored(tmp_path, ".pth", {"a\x1b[31m": torch.ones(1, dtype=torch.int32)}))
    assert str(caught.value).isprintable()


def test_an_archive_that_inflates_is_refused_before_it_does(tmp_path: Path) -> None:
    plain = stored(tmp_path, ".pth", {"w": torch.zeros(1_000_000)})
    assert read_tensors(plain)["w"].shape == (1_000_000,)
    bomb = tmp_path / "bomb.pth"
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as target:
        for part in source.infolist():
            target.writestr(part.filename, source.read(part))
    assert bomb.stat().st_size < 10_000
    assert torch.load(bomb, weights_only=True)["w"].shape == (1_000_000,), "torch inflates it"
    with pytest.raises(WeightsError, match=r"bomb\.pth inflates to 4,\d{3},\d{3} bytes"):
        read_tensors(bomb)


@pytest.mark.parametrize("kind", ["safetensors", "zip", "legacy"])
def test_damaged_weights_are_read_or_refused(tmp_path: Path, kind: str) -> None:
    """Weights may be damaged and have the sha256 that their pack says: whoever makes the pack makes both."""
    tensors = {"a.weight": torch.randn(4, 3), "a.bias": torch.randn(4), "bn.num_batches_tracked": torch.tensor(3)}
    path = tmp_path / ("w.safetensors" if kind == "safetensors" else "w.pth")
    if kind == "safetensors":
        save_file(tensors, path)
    else:
        torch.save(tensors, path, _use_new_zipfile_serialization=kind == "zip")
    whole, rng, refused = path.read_bytes(), random.Random(0), 0
    for _ in range(400):
        damaged = bytearray(whole)
        for _ in range(rng.choice([1, 2, 5])):
            place = rng.randrange(len(damaged))
            if rng.random() < 0.5:
                damaged[place] = rng.randrange(256)
            else:
                del damaged[place : place + rng.randrange(1, 9)]
        path.write_bytes(damaged)
        try:
            read_tensors(path)
        except WeightsError:
            refused += 1
    assert refused > 200


def test_tensors_of_another_network_are_refused_by_name() -> None:
    network = timm.create_model("test_resnet", num_classes=7)
    good = network.state_dict()
    without = {name: value for name, value in good.items() if not name.startswith("conv1")}
    with pytest.raises(
        WeightsError,
        match=r"f\.pth does not fit ResNet: 13 missing \(conv1.0.weight, conv1.1.weight, conv1.1.bias, \.\.\.\); ",
    ):
        fill(network, without, origin="f.pth")
    with pytest.raises(WeightsError, match=r"5 unexpected \(extra0, extra1, extra2, \.\.\.\)"):
        fill(network, {**good, **{f"extra{i}": torch.zeros(1) for i in range(5)}}, origin="f.pth")
    with pytest.raises(WeightsError, match=r"1 of another shape \(fc.bias \[8\] for \[7\]\)"):
        fill(network, {**good, "fc.bias": torch.zeros(8)}, origin="f.pth")
    with pytest.raises(WeightsError, match="1 unexpected") as caught:
        fill(network, {**good, "\x1b" * 10**6: torch.zeros(1)}, origin="f.pth")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300
    fill(network, {name: torch.full_like(value, 3) for name, value in good.items()}, origin="f.pth")
    assert all((value == 3).all() for value in network.state_dict().values())
