"""Weights in half precision and in 8 bits: what comes back, how far it is off, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from tests.packs.making import NETWORK, network_weights
from tsq_cli.errors import WeightsError
from tsq_cli.packs.quantized import METADATA, quantize_int8, to_float16
from tsq_cli.packs.tensors import read_tensors


def stored(path: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str] | None = METADATA) -> Path:
    save_file(tensors, path, metadata=metadata)
    return path


def test_a_channel_is_as_exact_as_its_own_largest_weight_allows(tmp_path: Path) -> None:
    # By hand: scales 127 / 127 and 2.54 / 127; 0.5 rounds to even, so 62.5 becomes 62.
    weight = torch.tensor([[127.0, -62.5, 0.4], [2.54, -2.54, 0.011], [0.0, 0.0, 0.0]])
    packed = quantize_int8({"fc.weight": weight})
    assert packed["fc.weight"].tolist() == [[127, -62, 0], [127, -127, 1], [0, 0, 0]]
    back = read_tensors(stored(tmp_path / "w.safetensors", packed))["fc.weight"]
    assert back.dtype == torch.float32
    torch.testing.assert_close(back, torch.tensor([[127.0, -62.0, 0.0], [2.54, -2.54, 0.02], [0.0, 0.0, 0.0]]))


def test_a_network_comes_back_within_half_a_step_and_keeps_its_vectors_and_counts(tmp_path: Path) -> None:
    entries = network_weights(NETWORK, num_classes=3)
    path = stored(tmp_path / "net.safetensors", quantize_int8(entries))
    back = read_tensors(path)
    assert back.keys() == entries.keys()
    kernels = {name for name, module in timm.create_model(NETWORK).named_modules() if hasattr(module, "kernel_size")}
    assert len(kernels) > 5
    for name, tensor in entries.items():
        ours, theirs = back[name].numpy(), tensor.numpy()
        if name.removesuffix(".weight") in kernels | {"classifier"}:
            steps = np.abs(theirs).reshape(len(theirs), -1).max(axis=1) / 127
            errors = np.abs(ours - theirs).reshape(len(theirs), -1).max(axis=1)
            assert (errors <= steps * 0.5001).all(), name
            assert errors.max() > 0, name  # it was rounded
        else:
            np.testing.assert_array_equal(ours, theirs, err_msg=name)
    num_weights = sum(tensor.numel() for tensor in entries.values())
    assert path.stat().st_size < 1.5 * num_weights  # a byte each; scales, vectors and names weigh in a small network


def test_halved_kernels_round_once_and_vectors_not_at_all() -> None:
    entries = {"a.weight": torch.tensor([[1 / 3]]), "bn.running_var": torch.tensor([1e6, 1 / 3]), "n": torch.tensor(7)}
    halved = to_float16(entries)
    assert halved["a.weight"].dtype == torch.float16
    assert float(halved["a.weight"]) == float(np.float16(1 / 3))
    assert torch.equal(halved["bn.running_var"], entries["bn.running_var"])
    assert torch.equal(halved["n"], entries["n"])


@pytest.mark.parametrize(
    ("pack", "value"), [(to_float16, 70_000.0), (to_float16, float("nan")), (quantize_int8, float("inf"))]
)
def test_weights_that_cannot_be_stored_are_named(pack: type, value: float) -> None:
    with pytest.raises(WeightsError, match=r"head\.weight holds numbers that are not finite, or too large for float"):
        pack({"head.weight": torch.tensor([[1.0, value]])})


def test_eight_bits_hold_large_weights_that_sixteen_do_not(tmp_path: Path) -> None:
    packed = quantize_int8({"head.weight": torch.tensor([[70_000.0]])})
    assert float(read_tensors(stored(tmp_path / "w.safetensors", packed))["head.weight"]) == pytest.approx(70_000)


def test_files_of_others_are_left_as_they_are_and_eight_bits_without_our_mark_are_refused(tmp_path: Path) -> None:
    others = {"a.weight": torch.tensor([[1.0, -1.0]]), "a.weight.scale": torch.ones(5)}
    bytes_ = {**others, "a.weight": torch.tensor([[1, -1]], dtype=torch.int8)}
    for metadata in (None, {"format": "pt"}):
        back = read_tensors(stored(tmp_path / "w.safetensors", others, metadata))
        assert torch.equal(back["a.weight"], others["a.weight"])
        assert back.keys() == others.keys()
        with pytest.raises(WeightsError, match=r"holds 'a\.weight' in int8; wanted plain tensors of float32"):
            read_tensors(stored(tmp_path / "w.safetensors", bytes_, metadata))


def test_weights_without_their_scales_or_of_another_packing_are_refused(tmp_path: Path) -> None:
    packed = quantize_int8({"fc.weight": torch.eye(3)})
    path = tmp_path / "w.safetensors"
    for broken in (torch.ones(2, 1), None):
        rest = {"fc.weight": packed["fc.weight"]} | ({} if broken is None else {"fc.weight.scale": broken})
        with pytest.raises(WeightsError, match=r"fc\.weight \[3, 3\] in 8 bits without a scale for each output"):
            read_tensors(stored(path, rest))
    number = {"fc.weight": torch.tensor(3, dtype=torch.int8), "fc.weight.scale": torch.ones(1)}
    whole = {**packed, "fc.weight.scale": torch.ones(3, 1, dtype=torch.int64)}
    for broken_ in (number, whole):
        with pytest.raises(WeightsError, match=r"fc\.weight .* in 8 bits without a scale"):
            read_tensors(stored(path, broken_))
    with pytest.raises(WeightsError, match="packed as 'int4'; wanted int8-per-channel; upgrade"):
        read_tensors(stored(path, packed, {"tsq_weights": "int4"}))
