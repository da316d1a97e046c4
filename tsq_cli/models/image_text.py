"""Image-text models of transformers (CLIP, SigLIP): frames and texts as vectors of one space."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn import functional

from tsq_cli.errors import UsageError, WeightsError
from tsq_cli.models.preprocess import Preprocessor
from tsq_cli.models.resize import Interpolation
from tsq_cli.models.text import no_progress_bars
from tsq_cli.types import MATCH_LEVEL

# Errors of transformers, huggingface_hub and safetensors for a model that is missing, damaged or of an unknown kind.
_LOADING_ERRORS = (OSError, RuntimeError, ValueError, KeyError, TypeError, AttributeError, ImportError, SafetensorError)

_TEMPLATES = {"clip": "a photo of {}.", "siglip": "This is a photo of {}."}
_INTERPOLATIONS: Mapping[int, Interpolation] = {0: "nearest", 2: "bilinear", 3: "bicubic"}  # Pillow's numbers
_MAX_CONFIG_BYTES = 1_000_000

NEUTRAL_TEXTS = ("a photo.", "a picture of something else.", "a blurry photo.", "a frame of a video.", "a screenshot.")
"""Texts that fit any frame: by CLIP, a frame shows a name if that fits better than all of these together (ours)."""

SIGLIP_LEVEL = 0.1
"""Probability from which on SigLIP shows a text: it was trained with one true pair among thousands, and gives true ones
probabilities well below a half (ours)."""


class ImageTextModel(nn.Module):
    """CLIP or SigLIP with its tokenizer and preprocessing.

    Attributes:
        name: id on the hub, or folder.
        kind: "clip" or "siglip".
        dim: D, width of the common space.
        preprocessor: as the model's preprocessor_config.json says.
        scale, bias: the model's logit of an image and a text is scale * cosine + bias.
    """

    def __init__(self, model: Any, tokenizer: Any, preprocessor: Preprocessor, *, name: str) -> None:
        super().__init__()
        self.model = model.eval()
        self._tokenizer = tokenizer
        self.preprocessor = preprocessor
        self.name = name
        self.kind: str = model.config.model_type
        self.dim: int = model.config.projection_dim if self.kind == "clip" else model.config.text_config.hidden_size
        self.scale = float(model.logit_scale.detach().exp())
        self.bias = float(model.logit_bias.detach()) if self.kind == "siglip" else 0.0
        self.max_tokens: int = model.config.text_config.max_position_embeddings

    @classmethod
    def from_pretrained(cls, model_id: str) -> ImageTextModel:
        """Load a model from the hub or its cache, in float32, on the CPU; weights are read from safetensors only.

        HF_ENDPOINT, HF_HUB_OFFLINE and HF_HUB_CACHE are honored. Code that a repository brings is never run.

        Raises:
            WeightsError: a model that is out of reach, damaged, of another kind, or lacks weights of its own.
        """
        try:
            with no_progress_bars():
                from transformers import AutoConfig, AutoTokenizer, CLIPModel, SiglipModel

                kind = AutoConfig.from_pretrained(model_id, trust_remote_code=False).model_type
                if kind not in _TEMPLATES:
                    raise ValueError(f"its model_type is {kind!r}, and clip or siglip is wanted")
                preprocessor = read_preprocessor(model_id)
                tokenizer = AutoTokenizer.from_pretrained(model_id, trust_remote_code=False)
                network: Any = CLIPModel if kind == "clip" else SiglipModel
                model, report = network.from_pretrained(
                    model_id, dtype=torch.float32, use_safetensors=True, output_loading_info=True
                )
            if lacking := sorted(report["missing_keys"]):
                raise ValueError(f"its weights lack {len(lacking)} tensors ({', '.join(lacking[:3])})")
            return cls(model, tokenizer, preprocessor, name=model_id)
        except _LOADING_ERRORS as error:
            reason = str(error).strip().partition("\n")[0][:200].removesuffix(".")
            raise WeightsError(
                f"the image-text model {model_id} could not be loaded: {reason}",
                wanted="a CLIP or SigLIP of transformers, with safetensors, tokenizer and preprocessor_config.json",
                fix="check the name, the network and HF_HUB_OFFLINE, or use --query-model names",
            ) from error

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        weight: Tensor = self.model.logit_scale
        return weight.device

    @torch.no_grad()
    def embed_texts(self, texts: Sequence[str], *, batch_size: int = 64) -> Tensor:
        """Embed texts as they are, float32 [N, D] of unit length, on the model's device.

        Raises:
            UsageError: a text longer than max_tokens.
        """
        return torch.cat([self._embed_texts(list(texts[i : i + batch_size])) for i in range(0, len(texts), batch_size)])

    def _embed_texts(self, texts: list[str]) -> Tensor:
        padding = (
            {"padding": "max_length", "max_length": self.max_tokens} if self.kind == "siglip" else {"padding": True}
        )
        tokens = self._tokenizer(texts, return_tensors="pt", **padding)
        if tokens["input_ids"].shape[1] > self.max_tokens:
            longest = max(texts, key=len)
            raise UsageError(
                f"a text of too many tokens, starting {longest[:40]!r}",
                wanted=f"at most {self.max_tokens} tokens",
                fix="shorten it",
            )
        inputs = {"input_ids": tokens["input_ids"].to(self.device)}
        if self.kind == "clip":  # SigLIP was trained without a mask
            inputs["attention_mask"] = tokens["attention_mask"].to(self.device)
        return functional.normalize(self.model.get_text_features(**inputs).pooler_output.float(), dim=1)

    def embed_names(self, names: Sequence[str]) -> Tensor:
        """Embed names of things, [N, D]: as "a photo of a dog."."""
        return self.embed_texts([_TEMPLATES[self.kind].format(name) for name in names])

    def forward(self, images: Tensor) -> Tensor:
        """Embed images [N, 3, S, S] in the dtype of the weights, [N, D] of unit length."""
        return functional.normalize(self.model.get_image_features(pixel_values=images).pooler_output, dim=1)

    def match(self, images: Tensor, names: Tensor) -> Tensor:
        """Match images with names, from 0 to 1; 0.5 is the level from which on an image shows it (ours).

        CLIP: softmax over a name and NEUTRAL_TEXTS. SigLIP: its sigmoid, shifted so that SIGLIP_LEVEL becomes 0.5.

        Args:
            images: [N, D], of forward.
            names: [P, D], of embed_names.

        Returns:
            float32 [P, N].
        """
        images = images.float()
        logits = self.scale * (names @ images.T) + self.bias
        if self.kind == "siglip":
            level = torch.tensor(SIGLIP_LEVEL).logit()
            return (logits - level).sigmoid()
        neutral = (self.scale * (self.embed_texts(NEUTRAL_TEXTS) @ images.T)).logsumexp(dim=0)
        return (logits - neutral).sigmoid()  # the softmax of two


class ImageTower(nn.Module):
    """An image-text model as a timm-like classifier: names of things are the rows of its classifier.

    The logits are the model's own, scale * cosine + bias, so a FrameEncoder around it is a zero-shot classifier.
    """

    def __init__(self, model: ImageTextModel, names: Tensor) -> None:
        super().__init__()
        self.image_text = model
        self.classifier = nn.Linear(names.shape[1], names.shape[0])
        with torch.no_grad():
            self.classifier.weight.copy_(model.scale * names)
            self.classifier.bias.fill_(model.bias)
        self.requires_grad_(False)

    def shown(self, features: Tensor) -> Tensor:
        """Tell which classes images show, bool [C, N], by ImageTextModel.match of their features [N, D]."""
        matches = self.image_text.match(features, self.classifier.weight.float() / self.image_text.scale)
        return matches >= MATCH_LEVEL

    def get_classifier(self) -> nn.Linear:
        """Return the linear layer on unit vectors."""
        return self.classifier

    def forward_features(self, images: Tensor) -> Tensor:
        """Embed images, [N, D] of unit length."""
        features: Tensor = self.image_text(images)
        return features

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """Return features as they are, or their logits [N, C]."""
        return features if pre_logits else self.classifier(features)


def read_preprocessor(model_id: str) -> Preprocessor:
    """Read preprocessor_config.json of a model on the hub or in its cache.

    Raises:
        OSError: there is none in reach.
        ValueError: settings that are missing, out of range or of another kind.
    """
    from transformers.utils.hub import cached_file

    path = cached_file(model_id, "preprocessor_config.json", _raise_exceptions_for_missing_entries=True)
    if path is None or Path(path).stat().st_size > _MAX_CONFIG_BYTES:
        raise ValueError(f"a preprocessor_config.json of at most {_MAX_CONFIG_BYTES:,} bytes is wanted")
    try:
        return preprocessor_of(json.loads(Path(path).read_text(encoding="utf-8")))
    except (TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError(f"its preprocessor_config.json is not usable ({error})") from error


def preprocessor_of(config: Mapping[str, Any]) -> Preprocessor:
    """Read the settings of transformers' image processors: resize the shorter side and crop, or both sides.

    Raises:
        KeyError, TypeError, ValueError: settings that are missing, out of range or of another kind.
    """
    size, crops = config["size"], config.get("do_center_crop", False)
    squashes = not crops
    if isinstance(size, int):
        side = resized = size
    elif "shortest_edge" in size:
        side = resized = size["shortest_edge"]
    else:
        side = resized = size["height"]
        if size["height"] != size["width"]:
            raise ValueError(f"a square input is wanted, not {size}")
    if crops:
        crop = config["crop_size"]
        side = crop if isinstance(crop, int) else crop["height"]
    if config.get("rescale_factor", 1 / 255) != 1 / 255 or not config.get("do_normalize", True):
        raise ValueError("a rescale_factor of 1/255 and do_normalize are wanted")
    return Preprocessor(
        input_size=side,
        mean=_of_channels(config["image_mean"]),
        std=_of_channels(config["image_std"]),
        interpolation=_INTERPOLATIONS[config["resample"]],
        crop_pct=side / resized,
        squashes=squashes,
    )


def _of_channels(values: Sequence[Any]) -> tuple[float, float, float]:
    red, green, blue = (float(value) for value in values)
    return red, green, blue
