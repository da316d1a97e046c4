"""What each step of the training of `weights/actions40` gives, on the held-out videos."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from actions40_frames import Composer
from actions40_train import BASE, HEADS, PROBE, Sight, fit_heads, sights, trained
from actions40_videos import class_names

from tsq_cli.benchmark.measure import machine_facts, save_report
from tsq_cli.cli.output import progress_bar
from tsq_cli.data import read_video_list
from tsq_cli.evaluation.evaluate import score_selectors
from tsq_cli.evaluation.selectors import SelectorInput, class_probabilities
from tsq_cli.models import FrameEncoder, TSQNet, frame_saliency
from tsq_cli.packs import Pack, load_pack
from tsq_cli.packs.load import ready_to_run
from tsq_cli.packs.schema import Layer
from tsq_cli.training.cache import FeatureCache, FrameNetwork, network_identity, weights_digest
from tsq_cli.training.material import name_queries
from tsq_cli.training.settings import HeadSettings

K = 5
PLAIN = replace(HEADS, alpha=0.0, beta=0.0, layer=Layer())
# what it is called, which encoder's features, which photographs, which settings
STEPS: tuple[tuple[str, str, str, HeadSettings], ...] = (
    ("frozen encoder, no interaction", "frozen", "all", PLAIN),
    ("frozen encoder, interaction", "frozen", "all", replace(PLAIN, alpha=0.6, beta=0.6)),
    ("frozen encoder, interaction, queries compete", "frozen", "all", HEADS),
    ("tuned encoder, no interaction", "tuned", "all", PLAIN),
    ("tuned encoder, interaction", "tuned", "all", replace(PLAIN, alpha=0.6, beta=0.6)),
    ("tuned encoder, interaction, queries compete", "tuned", "all", HEADS),
    ("the same, photographs that the encoder has not seen", "tuned", "unseen", HEADS),
)


def steps(photos: Path, work: Path, validation: Path, json: Path) -> None:
    """Train the heads of every step, and score all of them with the same recogniser."""
    names, base = class_names(photos), load_pack(BASE)
    videos = read_video_list(validation).aligned(names)
    with progress_bar("training") as progress:
        tuned, frames = trained(photos, work, base, progress)
        extracted = FeatureCache(work / "cache").extract(videos.videos, networks(base, tuned), progress=progress)
        seen = sights(base, frames["all"])
        queries = name_queries(base, names)
        composers = {photographs: Composer(some, len(names)) for photographs, some in frames.items()}
        targets = videos.targets()[list(extracted.kept)]
        logits = {
            "untuned": seen["frozen"].actions(extracted.features["frozen"]).numpy(),
            "tuned": seen["tuned"].actions(extracted.features["tuned"]).numpy(),
        }
        rows = []
        for title, network, photographs, settings in STEPS:
            folder = work / f"step-{len(rows)}"
            fitted = (composers[photographs], seen[network], network, queries, settings)
            net = fit_heads(*fitted, folder=folder, progress=progress)
            inputs = looked_at(net, seen[network], extracted.features[network], logits["tuned"], targets, settings)
            scored = score_selectors(inputs, logits["tuned"], targets, selectors=("tsq", "vqm", "tqm"), ks=(K,))
            about = {"step": title, "encoder": network, "photographs": photographs, "settings": asdict(settings)}
            rows.append({**about, "rows": scored["rows"]})
            _say(title, scored)
        references = {}
        for name, of_frames in logits.items():
            scored = score_selectors(
                replace(inputs, frame_probabilities=class_probabilities(of_frames)),
                of_frames,
                targets,
                selectors=("uniform", "random", "confident", "all", "oracle"),
                ks=(K,),
            )
            references[name] = scored["rows"]
            _say(f"recogniser {name}", scored)
    report = {
        "machine": machine_facts(("torch", "timm", "tsq-cli")),
        "videos": len(targets),
        "k": K,
        "probe": asdict(PROBE),
        "steps": rows,
        "references": references,
    }
    save_report(report, json)


def networks(base: Pack, tuned: FrameEncoder) -> list[FrameNetwork]:
    """The untuned and the tuned network."""
    runnable = {"frozen": base.visual_encoder, "tuned": ready_to_run(copy.deepcopy(tuned), "cpu", torch.float32)}
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
    """Both modules' saliency of features [N, T, D]."""
    output = net(features.float(), sight.textual(features))
    visual, textual = (
        frame_saliency(module, top_n=settings.top_n).scores for module in (output.visual, output.textual)
    )
    return SelectorInput(
        saliency_visual=visual.double().numpy(),
        saliency_textual=textual.double().numpy(),
        frame_probabilities=class_probabilities(logits),
        targets=targets,
        lambda_v=settings.lambda_v,
    )


def _say(title: str, scored: Mapping[str, Any]) -> None:
    percents = {
        row["selector"]: [100 * row["map"][name] for name in ("value", "low", "high")] for row in scored["rows"]
    }
    said = ", ".join(f"{name} {value:.1f} [{low:.1f}, {high:.1f}]" for name, (value, low, high) in percents.items())
    print(f"{title}: {said}", flush=True)
