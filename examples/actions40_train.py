"""Training of `weights/actions40`: a light network looks at all frames, a larger one names those that were chosen."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any, get_args

import timm
import torch
from actions40_encoder import FineTuning, fine_tune_upper, lower_maps
from actions40_frames import ComposedClips, Composer, Frames, see_photos
from actions40_videos import Part, class_names, find_photos
from lite_weights import lite_weights
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tsq_cli.cli.output import progress_bar
from tsq_cli.consensus import Consensus, Pooling
from tsq_cli.data import VideoList, read_video_list
from tsq_cli.evaluation.compare import score_selectors
from tsq_cli.evaluation.evaluate import Evaluation, evaluate, pack_inputs
from tsq_cli.features.cache import FeatureCache, pack_networks, recognizer_network
from tsq_cli.files import atomic_path
from tsq_cli.models import FrameEncoder, TSQNet, object_text_features
from tsq_cli.models.layer_config import TSQLayerConfig
from tsq_cli.models.preprocess import Preprocessor
from tsq_cli.packs import Pack, PackConfig, load_pack, load_recognizer
from tsq_cli.packs.load import optimize_for_inference
from tsq_cli.packs.schema import Provenance
from tsq_cli.packs.settings import Settings
from tsq_cli.packs.words import Words
from tsq_cli.packs.write import TrainedNetwork, write_pack
from tsq_cli.training.datasets import name_queries
from tsq_cli.training.heads import train_heads
from tsq_cli.training.settings import FitSettings, HeadSettings
from tsq_cli.types import Progress, no_progress

BASE = "imagenet-lite"
DATA = (
    "7,625 photographs of Stanford 40 Actions: 68 % to train, 12 % for every choice, 20 % for the report; ImageNet-1k "
    "through the published weights of EfficientNet-Lite0 and Lite2"
)
COMMAND = "python examples/actions40.py train --photos DIR --videos DIR --work DIR --out weights/actions40"
BATCHES = 60  # of composed clips per epoch of the heads
COUNTING = TSQLayerConfig(classifier="counting", projections=False, positional_embedding=False)
HEADS = HeadSettings(
    layer=COUNTING,
    textual_layer=replace(COUNTING, projections=True),
    visual_scale=1.0,  # queries start as rows of a classifier: its logits as they are
    textual_scale=20.0,
    fit=FitSettings(epochs=5, batch_size=64, learning_rate=1e-3),
)
EVIDENCE = (0.0, 0.25, 0.5, 1.0)
SAMPLER, RECOGNIZER = "sampler", "recognizer"


@dataclass(frozen=True)
class Network:
    """One of the pack's networks: EfficientNet-Lite `number`, and how it is fine-tuned."""

    number: int
    tuning: FineTuning

    @property
    def model(self) -> str:
        """The name in timm."""
        return f"tf_efficientnet_lite{self.number}"

    @property
    def preprocessor(self) -> Preprocessor:
        """How frames are fed: the largest square in the middle, where ImageNet's has 0.875 of it."""
        half = (0.5, 0.5, 0.5)
        return Preprocessor(
            input_size=self.tuning.input_size, mean=half, std=half, interpolation="bicubic", crop_pct=1.0
        )

    def published(self) -> Any:
        """Build it with its published weights."""
        model = timm.create_model(self.model)
        model.load_state_dict(lite_weights(self.number))
        return model.eval()


NETWORKS = {
    SAMPLER: Network(0, FineTuning(input_size=192, epochs=8)),
    RECOGNIZER: Network(2, FineTuning(input_size=224, epochs=7)),
}


def tuned(name: str, photos: Path, work: Path, progress: Progress = no_progress) -> FrameEncoder:
    """Fine-tune one of the networks as a classifier of actions, or load it from the work folder."""
    network, path = NETWORKS[name], work / f"{name}.safetensors"
    model = network.published()
    if path.exists():
        state = load_file(path)
        model.reset_classifier(len(state["classifier.bias"]))
        model.load_state_dict(state)
    else:
        numbered = [photo for of_class in find_photos(photos, "training") for photo in of_class]
        maps = lower_maps(model, numbered, network.tuning, work / f"{name}-maps.npy")
        fine_tune_upper(model, maps, torch.tensor([p.class_index for p in numbered]), network.tuning, progress=progress)
        with atomic_path(path) as temporary:
            save_file({key: value.contiguous() for key, value in model.state_dict().items()}, temporary)
    return FrameEncoder(model.eval(), pretrained_cfg=model.pretrained_cfg)


def seen_frames(photos: Path, part: Part, encoder: FrameEncoder, work: Path) -> Frames:
    """Encode a part's photographs, drawn as shots, by the published network ("frozen") and the tuned one."""
    path = work / f"frames-{part}.safetensors"
    if not path.exists():
        network = NETWORKS[SAMPLER]
        published = network.published()
        both = {
            "frozen": FrameEncoder(published, pretrained_cfg=published.pretrained_cfg),
            "tuned": copy.deepcopy(encoder),
        }
        feeding = {
            name: (optimize_for_inference(one, "cpu", torch.float32), network.preprocessor)
            for name, one in both.items()
        }
        see_photos(find_photos(photos, part), feeding, views=1).save(path)
    return Frames.load(path)


@dataclass(frozen=True)
class Sight:
    """Layers on the sampler's features.

    Attributes:
        objects: from features to object logits, D to O.
        embeddings: of the objects, [O, Dt].
        actions: from features to the logits of the actions, D to C.
    """

    objects: nn.Linear
    embeddings: Tensor
    actions: nn.Linear

    @torch.no_grad()
    def textual(self, features: Tensor) -> Tensor:
        """Compute X^t [..., Dt] of features [..., D]."""
        return object_text_features(self.objects(features.float()), self.embeddings)


@torch.no_grad()
def refit_objects(frames: Frames, objects: nn.Linear, *, ridge: float = 0.01) -> nn.Linear:
    """Fit object logits of the original network on features of the tuned one, by ridge regression (ours).

    Fine-tuning moves the features away from the classifier of the 1000 objects; this brings one back, so that one
    network and one pass serve both modules.

    Args:
        frames: as both networks see them.
        objects: classifier of the untuned network.
        ridge: strength of the regularization, as a multiple of the mean variance of a feature.
    """
    x, y = frames.outputs["tuned"].double(), objects(frames.outputs["frozen"].float()).double()
    mean_x, mean_y = x.mean(dim=0), y.mean(dim=0)
    gram = (x - mean_x).T @ (x - mean_x) / len(x)
    gram.diagonal().add_(ridge * gram.diagonal().mean())
    weight = torch.linalg.solve(gram, (x - mean_x).T @ (y - mean_y) / len(x)).T
    layer = nn.Linear(objects.in_features, objects.out_features)
    layer.weight.copy_(weight)
    layer.bias.copy_(mean_y - weight @ mean_x)
    return layer


def sight(base: Pack, encoder: FrameEncoder, frames: Frames) -> Sight:
    """Build the layers on the tuned sampler's features."""
    objects = NETWORKS[SAMPLER].published().get_classifier()
    return Sight(refit_objects(frames, objects), base.textual_embeddings, encoder.model.get_classifier())


def clip_source(composer: Composer, seen: Sight, network: str, batch_size: int, seed: int) -> ComposedClips:
    """Build a source of clips of a network's features, composed anew in every batch."""
    features = composer.frames.outputs[network]
    textual = torch.cat([seen.textual(part) for part in torch.split(features, 4096)]).half()
    return ComposedClips(
        composer, lambda chosen: (features[chosen], textual[chosen]), batch_size=batch_size, batches=BATCHES, seed=seed
    )


def fit_heads(
    composer: Composer,
    seen: Sight,
    names: Tensor,
    settings: HeadSettings,
    *,
    network: str = "tuned",
    queries: Tensor | None = None,
    folder: Path | None = None,
    progress: Progress = no_progress,
) -> TSQNet:
    """Train both modules on composed clips.

    Args:
        composer: of the clips.
        seen: layers on their features.
        names: embeddings of the class names [C, Dt].
        settings: of the heads.
        network: whose features, "tuned" or "frozen".
        queries: of VQM to begin with, [C, D]; None for the rows of the sampler's classifier (ours: it has learned what
            tells the classes apart; S begins with prototypes).
        folder: for checkpoint and logs.
        progress: told every step.
    """
    return train_heads(
        clip_source(composer, seen, network, settings.fit.batch_size, settings.fit.seed),
        settings,
        queries_visual=seen.actions.weight.detach() if queries is None else queries,
        queries_textual=names,
        num_classes=composer.num_classes,
        folder=folder,
        progress=progress,
    )


def list_of(videos: Path, part: Part) -> Path:
    """Return the list of a part's composed videos."""
    return videos / f"{part}.csv"


def build(photos: Path, work: Path, out: Path, videos: Path, *, commit: str | None) -> None:
    """Train everything, choose the consensus on tuning videos, report on test videos, and write the pack."""
    names, base = class_names(photos), load_pack(BASE)
    tuning, test = (read_video_list(list_of(videos, part)).aligned(names) for part in ("tuning", "test"))
    with progress_bar("training") as progress:
        networks = {name: tuned(name, photos, work, progress) for name in NETWORKS}
        frames = seen_frames(photos, "training", networks[SAMPLER], work)
        seen = sight(base, networks[SAMPLER], frames)
        tsqnet = fit_heads(
            Composer(frames, len(names)), seen, name_queries(base, names), HEADS, folder=work / "heads",
            progress=progress,
        )  # fmt: skip
        parts = Parts(base.config, names, networks, seen.objects, tsqnet)
        provenance = Provenance(data=DATA, command=COMMAND, commit=commit, metrics={})
        settings = parts.settings
        draft = write(work / "pack", parts, settings, provenance)
        chosen, compared = choose_consensus(draft, tuning, work, progress)
        settings = replace(settings, **chosen)
        draft = write(work / "pack", parts, settings, provenance)
        fitted = measure(draft, tuning, work, progress, tune=True).tuned
        draft = write(work / "pack", parts, replace(settings, early_exit=fitted), provenance)
        reported = measure(draft, test, work, progress, early_exit=fitted is not None)
        metrics: dict[str, str | float] = {"videos": float(len(reported.videos)), "frames": 5.0}
        for row in reported.report["rows"]:
            metrics[f"map_{row['selector'].replace(' ', '_').replace('-', '_')}"] = round(row["map"]["value"], 4)
        final = replace(settings, early_exit=fitted)
        written = write(out, parts, final, replace(provenance, metrics=metrics))
    with atomic_path(work / "tuning.json") as temporary:
        temporary.write_text(json.dumps({"consensus": chosen, "compared": compared}, indent=1) + "\n")
    size = sum(path.stat().st_size for path in out.iterdir())
    print(f"{out}: {len(names)} classes, {size / 1e6:.1f} MB, sha256 {written.sha256}")
    print(f"chosen on tuning videos: {chosen}, early exit {fitted}")
    print(", ".join(f"{name} {value}" for name, value in metrics.items()))


def choose_consensus(
    draft: PackConfig, videos: VideoList, work: Path, progress: Progress
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Measure every pooling with several weights of evidence, and choose the best mean of mAP and top-1.

    Returns:
        The settings chosen, and every row: pooling, evidence_visual, evidence_textual, map and top1 of the fused rule.
    """
    pack = load_pack(draft)
    recognizer = load_recognizer(pack)
    extracted = FeatureCache(work / "cache").extract(
        videos.videos, [*pack_networks(pack), recognizer_network(recognizer)], progress=progress
    )
    targets, logits = videos.targets()[list(extracted.kept)], extracted.logits["recognizer"].float().numpy()
    inputs = pack_inputs(pack, extracted, logits, targets)
    compared = []
    for pooling, visual, textual in product(get_args(Pooling), EVIDENCE, EVIDENCE):
        named = {"pooling": pooling, "evidence_visual": visual, "evidence_textual": textual}
        scored = score_selectors(
            inputs, logits, targets, selectors=("tsq",), ks=(5,), consensus=Consensus(**named), resamples=1
        )
        compared.append(named | {metric: scored["rows"][0][metric]["value"] for metric in ("map", "top1")})
    best = max(compared, key=lambda row: row["map"] + row["top1"])
    return {name: best[name] for name in ("pooling", "evidence_visual", "evidence_textual")}, compared


def measure(draft: PackConfig, videos: VideoList, work: Path, progress: Progress, **how: Any) -> Evaluation:
    """Evaluate a pack on videos, from five frames."""
    pack = load_pack(draft)
    return evaluate(
        videos, pack, load_recognizer(pack), FeatureCache(work / "cache"), ks=(5,), progress=progress, **how
    )


@dataclass(frozen=True)
class Parts:
    """What the pack is written from."""

    base: PackConfig
    names: Sequence[str]
    networks: Mapping[str, FrameEncoder]
    objects: nn.Linear
    tsqnet: TSQNet

    @property
    def settings(self) -> Settings:
        """The base's, but for what was measured on the base's own classes."""
        return replace(
            self.base.settings,
            lambda_v=HEADS.lambda_v,
            top_n=HEADS.top_n,
            sampler_input_size=None,
            flat_visual=1.05,
            flat_textual=1.05,
            pooling="logits",
            evidence_visual=0.0,
            evidence_textual=0.0,
            early_exit=None,
            words=Words(),
        )


def write(folder: Path, parts: Parts, settings: Settings, provenance: Provenance) -> PackConfig:
    """Write the pack: the sampler with its object logits, for both modules, and the recognizer."""
    looking = copy.deepcopy(parts.networks[SAMPLER])
    looking.model.classifier = parts.objects
    return write_pack(
        folder,
        base=parts.base,
        description="40 human actions (Stanford 40 Actions); EfficientNet-Lite0 looks, EfficientNet-Lite2 recognizes",
        class_names=parts.names,
        tsqnet=parts.tsqnet,
        visual_encoder=TrainedNetwork(
            encoder=FrameEncoder(looking.model, pretrained_cfg=looking.pretrained_cfg),
            model=NETWORKS[SAMPLER].model,
            preprocess=NETWORKS[SAMPLER].preprocessor,
            precision="int8",
            scores_objects=True,
        ),
        recognizer=TrainedNetwork(
            encoder=parts.networks[RECOGNIZER],
            model=NETWORKS[RECOGNIZER].model,
            preprocess=NETWORKS[RECOGNIZER].preprocessor,
            precision="int8",
        ),
        settings=settings,
        provenance=provenance,
    )
