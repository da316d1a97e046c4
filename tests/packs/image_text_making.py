"""Small CLIP and SigLIP models of transformers with seeded random weights, and their tokenizer and processor files."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import CLIPConfig, CLIPModel, PreTrainedTokenizerFast, SiglipConfig, SiglipModel

WORDS = "a photo of dog cat cup coffee red picture something else blurry frame video screenshot this is .".split()
SIDE = 32


def make_model(folder: Path, kind: str) -> CLIPModel | SiglipModel:
    """Write a model repository; the model is also returned."""
    folder.mkdir(parents=True)
    vocabulary = {word: number for number, word in enumerate(["<pad>", "<unk>", "<s>", "</s>", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 2), ("</s>", 3)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    ).save_pretrained(folder)
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = {**shape, "vocab_size": len(vocabulary), "max_position_embeddings": 24, "eos_token_id": 3, "pad_token_id": 0}
    vision = {**shape, "image_size": SIDE, "patch_size": 8}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = _made(kind, text, vision)
    (folder / "config.json").write_text(model.config.to_json_string(use_diff=False))
    save_file(model.state_dict(), folder / "model.safetensors", metadata={"format": "pt"})
    resized = {"size": {"shortest_edge": SIDE}, "do_center_crop": True, "crop_size": {"height": SIDE, "width": SIDE}}
    squashed = {"size": {"height": SIDE, "width": SIDE}, "do_center_crop": False}
    processor = {
        "image_processor_type": "CLIPImageProcessor" if kind == "clip" else "SiglipImageProcessor",
        "image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.3, 0.25], "resample": 3, "do_resize": True,
        "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True,
        **(resized if kind == "clip" else squashed),
    }  # fmt: skip
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return model.eval()


def _made(kind: str, text: dict[str, int], vision: dict[str, int]) -> CLIPModel | SiglipModel:
    model: CLIPModel | SiglipModel
    if kind == "clip":
        config = CLIPConfig(text_config={**text, "projection_dim": 16}, vision_config=vision, projection_dim=16)
        model = CLIPModel(config)
    else:
        model = SiglipModel(SiglipConfig(text_config={**text, "projection_size": 32}, vision_config=vision))
        torch.nn.init.constant_(model.logit_scale, 2.0)
        torch.nn.init.constant_(model.logit_bias, -2.0)
    for parameter in model.parameters():  # the usual start makes all texts alike
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    return model
