"""Evaluation of each step of the training of `weights/actions40` on the held-out videos."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from actions40_frames import Composer
from actions40_train import BASE, HEADS, PROBE, Sight, fit_heads, sights, trained
from actions40_videos import class_names
from torch import Tensor

from tsq_cli.benchmark.measure import machine_facts
from tsq_cli.cli.output import progress_bar
from tsq_cli.data import read_video_list
from tsq_cli.evaluation.compare import score_selectors
from tsq_cli.evaluation.selectors import (
    BoolArray,
    EvaluatedSelector,
    SelectorInput,
    class_probabilities,
    module_saliency,
    selector_input,
)
from tsq_cli.features.cache import FeatureCache, FrameNetwork, VideoFeatures, network_identity, weights_digest
from tsq_cli.files import write_json
from tsq_cli.models import FrameEncoder, TSQNet
from tsq_cli.models.layer_config import TSQLayerConfig
from tsq_cli.packs import Pack, load_pack
from tsq_cli.packs.load import optimize_for_inference
from tsq_cli.selection import RuleSettings
from tsq_cli.training.datasets import name_queries
from tsq_cli.training.settings import HeadSettings
from tsq_cli.types import Float32Array, Progress

K = 5
PLAIN = replace(HEADS, alpha=0.0, beta=0.0, layer=TSQLayerConfig())
# name, encoder, photographs, settings
STEPS: tuple[tuple[str, str, str, HeadSettings], ...] = (
    ("frozen encoder, no interaction", "frozen", "all", PLAIN),
    ("frozen encoder, interaction", "frozen", "all", replace(PLAIN, alpha=0.6, beta=0.6)),
    ("frozen encoder, interaction, queries compete", "frozen", "all", HEADS),
    ("tuned encoder, no interaction", "tuned", "all", PLAIN),
    ("tuned encoder, interaction", "tuned", "all", replace(PLAIN, alpha=0.6, beta=0.6)),
    ("tuned encoder, interaction, queries compete", "tuned", "all", HEADS),
    ("the same, photographs that the encoder has not seen", "tuned", "unseen", HEADS),
)


@dataclass(frozen=True)
class Gathered:
    """Training and validation data of steps and studies.

    Attributes:
        composers: of training clips, by which photographs.
        seen: the layers on each network's features.
        extracted: features of the held-out videos, by network.
        targets: bool [N, C] of the held-out videos.
        names: embeddings of the class names [C, Dt].
    """

    composers: dict[str, Composer]
    seen: dict[str, Sight]
    extracted: VideoFeatures
    targets: BoolArray
    names: Tensor

    def logits(self, network: str) -> Float32Array:
        """Compute logits [N, T, C] of every held-out frame by a network and its linear layer."""
        return self.seen[network].named(self.extracted.features[network]).numpy()


def gather(photos: Path, work: Path, validation: Path, progress: Progress) -> Gathered:
    """Gather encoder, frames and features, from the work folder if it has them."""
    classes, base = class_names(photos), load_pack(BASE)
    videos = read_video_list(validation).aligned(classes)
    tuned, frames = trained(photos, work, base, progress)
    extracted = FeatureCache(work / "cache").extract(videos.videos, networks(base, tuned), progress=progress)
    return Gathered(
        composers={photographs: Composer(some, len(classes)) for photographs, some in frames.items()},
        seen=sights(base, frames["all"]),
        extracted=extracted,
        targets=videos.targets()[list(extracted.kept)],
        names=name_queries(base, classes),
    )


def steps(photos: Path, work: Path, validation: Path, json: Path) -> None:
    """Train the heads of every step, and score all of them with the same recognizer."""
    with progress_bar("training") as progress:
        on = gather(photos, work, validation, progress)
        logits, targets = on.logits("tuned"), on.targets
        rows = []
        for title, network, photographs, settings in STEPS:
            fitted = (on.composers[photographs], on.seen[network], network, on.names, settings)
            net = fit_heads(*fitted, folder=work / f"step-{len(rows)}", progress=progress)
            inputs = looked_at(net, on.seen[network], on.extracted.features[network], logits, targets, settings)
            scored = score_selectors(inputs, logits, targets, selectors=("tsq", "vqm", "tqm"), ks=(K,))
            about = {"step": title, "encoder": network, "photographs": photographs, "settings": asdict(settings)}
            rows.append({**about, "rows": scored["rows"]})
            _say(title, scored)
        references = {}
        for name in on.seen:
            of_frames = on.logits(name)
            plain = replace(inputs, frame_probabilities=class_probabilities(of_frames))
            rules: tuple[EvaluatedSelector, ...] = ("uniform", "random", "confident", "all", "oracle")
            scored = score_selectors(plain, of_frames, targets, selectors=rules, ks=(K,))
            references[name] = scored["rows"]
            _say(f"recognizer {name}", scored)
    report = {
        "machine": machine_facts(("torch", "timm", "tsq-cli")),
        "videos": len(targets),
        "k": K,
        "probe": asdict(PROBE),
        "steps": rows,
        "references": references,
    }
    write_json(json, report)


def networks(base: Pack, tuned: FrameEncoder) -> list[FrameNetwork]:
    """List the original and the fine-tuned network."""
    runnable = {
        "frozen": base.visual_encoder,
        "tuned": optimize_for_inference(copy.deepcopy(tuned), "cpu", torch.float32),
    }
    model, feeding = base.config.roles.visual_encoder.model, base.visual_preprocessor
    return [
        FrameNetwork(
            name=name,
            encoder=encoder,
            preprocessor=feeding,
            identity=network_identity(model, weights_digest(encoder), feeding),
        )
        for name, encoder in runnable.items()
    ]


@torch.no_grad()
def looked_at(
    net: TSQNet, sight: Sight, features: torch.Tensor, logits: Any, targets: Any, settings: HeadSettings
) -> SelectorInput:
    """Compute both modules' saliency of features [N, T, D]."""
    output = net(features.float(), sight.textual(features))
    saliency = module_saliency(output, top_n=settings.top_n)
    return selector_input(saliency, logits, targets, settings=RuleSettings(lambda_v=settings.lambda_v))


def _say(title: str, scored: Mapping[str, Any]) -> None:
    percents = {
        row["selector"]: [100 * row["map"][name] for name in ("value", "low", "high")] for row in scored["rows"]
    }
    said = ", ".join(f"{name} {value:.1f} [{low:.1f}, {high:.1f}]" for name, (value, low, high) in percents.items())
    print(f"{title}: {said}", flush=True)
