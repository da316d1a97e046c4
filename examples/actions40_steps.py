"""What each step of the training of `weights/actions40` gives, every pooling beside it, and the spread over seeds."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from actions40_frames import Composer
from actions40_train import (
    BASE,
    HEADS,
    NETWORKS,
    SAMPLER,
    Sight,
    fit_heads,
    list_of,
    seen_frames,
    sight,
    tuned,
)
from actions40_videos import Part, class_names
from torch import Tensor, nn
from torch.nn import functional

from tsq_cli.cli.output import progress_bar
from tsq_cli.consensus import Consensus, Pooling
from tsq_cli.data import VideoList, read_video_list
from tsq_cli.evaluation.compare import score_selectors
from tsq_cli.evaluation.selectors import EvaluatedSelector, FloatArray, SelectorInput, module_saliency, selector_input
from tsq_cli.features.cache import (
    FeatureCache,
    FrameNetwork,
    VideoFeatures,
    network_identity,
    pack_networks,
    recognizer_network,
    weights_digest,
)
from tsq_cli.files import write_json
from tsq_cli.models import FrameEncoder, TSQNet
from tsq_cli.models.layer_config import TSQLayerConfig
from tsq_cli.packs import Pack, load_pack, load_recognizer
from tsq_cli.packs.load import optimize_for_inference
from tsq_cli.provenance import provenance
from tsq_cli.selection import RuleSettings
from tsq_cli.training.datasets import name_queries
from tsq_cli.training.prototypes import visual_prototypes
from tsq_cli.training.recognizer import fit_probe
from tsq_cli.training.settings import FitSettings, HeadSettings, RecognizerSettings
from tsq_cli.types import BoolArray, Progress

K = 5
SEEDS = (0, 1, 2)
PROTOTYPE_CLIPS = 1000
PROBE = RecognizerSettings(num_frames=1, fit=FitSettings(epochs=10, batch_size=256, learning_rate=1e-3))
PLAIN = HeadSettings(fit=HEADS.fit)  # the layer of S, with the interaction
COMPETING = TSQLayerConfig(competition_floor=0.0, competition_weight=0.9)
# What changes from row to row: the network that looks, and the heads.
STEPS: tuple[tuple[str, str, HeadSettings], ...] = (
    ("published network, layer of S, no interaction", "frozen", replace(PLAIN, alpha=0.0, beta=0.0)),
    ("published network, interaction", "frozen", PLAIN),
    ("fine-tuned network", "tuned", PLAIN),
    ("queries that compete (the first version's)", "tuned", replace(PLAIN, layer=COMPETING)),
    ("layers that count", "tuned", replace(HEADS, alpha=0.0, beta=0.0)),
    ("layers that count, interaction (the pack)", "tuned", HEADS),
)
COMPARED: tuple[EvaluatedSelector, ...] = ("tsq", "vqm", "tqm", "agree", "uniform", "all")


@dataclass(frozen=True)
class Gathered:
    """What steps and studies work on.

    Attributes:
        composer: of training clips of the tuned and the published network's features.
        seen: the layers on each network's features.
        names: embeddings of the class names [C, Dt].
        pack: as `train` wrote it into the work folder.
        features: of the videos by each network, [N, T, D].
        logits: of the pack's recognizer on every frame, [N, T, C].
        targets: bool [N, C].
        listed: the videos.
    """

    composer: Composer
    seen: dict[str, Sight]
    names: Tensor
    pack: Pack
    features: dict[str, Tensor]
    logits: FloatArray
    targets: BoolArray
    listed: VideoList


def gather(photos: Path, work: Path, videos: Path, part: Part, progress: Progress) -> Gathered:
    """Gather networks, frames, and the features of a part's videos; `train` has to have run."""
    base, pack, names = load_pack(BASE), load_pack(work / "pack"), class_names(photos)
    listed = read_video_list(list_of(videos, part)).aligned(names)
    encoder = tuned(SAMPLER, photos, work, progress)
    frames = seen_frames(photos, "training", encoder, work)
    published = NETWORKS[SAMPLER].published()
    own = sight(base, encoder, frames)
    extracted = _extract(pack, published, listed, work, progress)
    return Gathered(
        composer=Composer(frames, len(names)),
        seen={"tuned": own, "frozen": replace(own, objects=published.get_classifier(), actions=_probe(frames))},
        names=name_queries(base, names),
        pack=pack,
        features={"tuned": extracted.features["visual"], "frozen": extracted.features["frozen"]},
        logits=extracted.logits["recognizer"].float().numpy(),
        targets=listed.targets()[list(extracted.kept)],
        listed=listed,
    )


def _extract(pack: Pack, published: Any, listed: VideoList, work: Path, progress: Progress) -> VideoFeatures:
    """Run the pack's networks and the published one on the candidates of every video."""
    encoder = FrameEncoder(published, pretrained_cfg=published.pretrained_cfg).eval()
    feeding = NETWORKS[SAMPLER].preprocessor
    frozen = FrameNetwork(
        name="frozen",
        encoder=optimize_for_inference(encoder, "cpu", torch.float32),
        preprocessor=feeding,
        identity=network_identity(NETWORKS[SAMPLER].model, weights_digest(encoder), feeding),
    )
    networks = [*pack_networks(pack), recognizer_network(load_recognizer(pack)), frozen]
    return FeatureCache(work / "cache").extract(listed.videos, networks, progress=progress)


def _probe(frames: Any) -> nn.Linear:
    """Fit a linear classifier of the actions on the published network's features."""
    shows = frames.classes >= 0
    return fit_probe(frames.outputs["frozen"][shows][:, None], functional.one_hot(frames.classes[shows]), PROBE)


def prototypes(on: Gathered, network: str, *, seed: int) -> Tensor:
    """Compute VQM's initial queries of S from the best frames of composed clips (docs/method.md, section 3)."""
    chosen, events = on.composer.draw(PROTOTYPE_CLIPS, np.random.default_rng([seed, 2]))
    features = on.composer.frames.outputs[network][torch.from_numpy(chosen)]
    targets = functional.one_hot(torch.from_numpy(events), on.composer.num_classes)
    with torch.no_grad():
        logits = on.seen[network].actions(features.float())
    return visual_prototypes(features, logits, targets, prototype_ratio=HEADS.prototype_ratio).vectors


def steps(photos: Path, work: Path, videos: Path, json: Path) -> None:
    """Score the heads of every step on the tuning videos; poolings and seeds of the pack's heads on the test videos."""
    with progress_bar("training") as progress:
        tuning = gather(photos, work, videos, "tuning", progress)
        own = tuning.pack.config.settings.consensus
        rows = []
        for number, (title, network, settings) in enumerate(STEPS):
            net = _fit(tuning, network, settings, work / f"step-{number}", progress)
            inputs = looked_at(tuning, network, net, settings)
            scored = {name: _rows(tuning, inputs, how, ("tsq", "vqm", "tqm")) for name, how in _kinds(own).items()}
            rows.append({"step": title, "network": network, "settings": asdict(settings), "rows": scored})
            print(title, {name: _percent(some) for name, some in scored.items()}, flush=True)
        test = gather(photos, work, videos, "test", progress)
        seeds = []
        for seed in SEEDS:
            settings = replace(HEADS, fit=replace(HEADS.fit, seed=seed))
            inputs = looked_at(test, "tuned", _fit(test, "tuned", settings, work / f"seed-{seed}", progress), settings)
            seeds.append({"seed": seed, "rows": _rows(test, inputs, own, COMPARED)})
            print(f"seed {seed}", _percent(seeds[-1]["rows"]), flush=True)
            if seed == HEADS.fit.seed:
                poolings = {
                    pooling: {name: _rows(test, inputs, how, COMPARED) for name, how in _kinds(own, pooling).items()}
                    for pooling in get_args(Pooling)
                }
    report = {
        "provenance": provenance(
            device="cpu", dtype=torch.float32, seeds={"heads": SEEDS}, lists=[tuning.listed, test.listed]
        ),
        "k": K,
        "consensus": asdict(own),
        "steps": rows,
        "seeds": seeds,
        "poolings": poolings,
    }
    write_json(json, report)


def _kinds(own: Consensus, pooling: Pooling | None = None) -> dict[str, Consensus]:
    """The consensus without evidence, and with the pack's; by one pooling, or the mean of logits and the pack's."""
    plain = Consensus() if pooling is None else Consensus(pooling=pooling)
    return {"plain": plain, "evidence": own if pooling is None else replace(own, pooling=pooling)}


def _fit(on: Gathered, network: str, settings: HeadSettings, folder: Path, progress: Progress) -> TSQNet:
    """Train heads; those of S's layer begin with prototypes, those that count with rows of the classifier."""
    queries = None if settings.layer.counts else prototypes(on, network, seed=settings.fit.seed)
    return fit_heads(
        on.composer, on.seen[network], on.names, settings,
        network=network, queries=queries, folder=folder, progress=progress,
    )  # fmt: skip


@torch.no_grad()
def looked_at(on: Gathered, network: str, net: TSQNet, settings: HeadSettings) -> SelectorInput:
    """Compute both modules' saliency and class scores of the videos."""
    features = on.features[network]
    output = net(features.float(), on.seen[network].textual(features))
    return selector_input(
        module_saliency(output, top_n=settings.top_n),
        on.logits,
        on.targets,
        settings=RuleSettings(lambda_v=settings.lambda_v),
        class_scores=(output.visual.logits, output.textual.logits),
    )


def _rows(
    on: Gathered, inputs: SelectorInput, consensus: Consensus, selectors: tuple[EvaluatedSelector, ...]
) -> list[dict[str, Any]]:
    scored = score_selectors(inputs, on.logits, on.targets, selectors=selectors, ks=(K,), consensus=consensus)
    rows: list[dict[str, Any]] = scored["rows"]
    return rows


def _percent(rows: list[dict[str, Any]]) -> dict[str, float]:
    return {row["selector"]: round(100 * row["map"]["value"], 1) for row in rows}
