"""Training of `weights/actions40`: one fine-tuned network encodes all frames, both modules learn on its features."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from actions40_frames import ComposedClips, Composer, Frames, open_photo, see_photos
from actions40_videos import Part, class_names, find_photos
from needle_videos import Photo
from torch import Tensor, nn

from tsq_cli.cli.output import progress_bar
from tsq_cli.data import read_video_list
from tsq_cli.evaluation.evaluate import evaluate
from tsq_cli.features.cache import FeatureCache
from tsq_cli.models import FrameEncoder, TSQNet, object_text_features
from tsq_cli.models.layer_config import TSQLayerConfig
from tsq_cli.packs import Pack, PackConfig, load_encoder, load_pack, load_recognizer
from tsq_cli.packs.load import optimize_for_inference
from tsq_cli.packs.schema import Provenance
from tsq_cli.packs.words import Words
from tsq_cli.packs.write import TrainedNetwork, write_pack
from tsq_cli.training.datasets import name_queries
from tsq_cli.training.encoder import fine_tune
from tsq_cli.training.heads import train_heads
from tsq_cli.training.images import MemoryFrames
from tsq_cli.training.prototypes import Prototypes, visual_prototypes
from tsq_cli.training.recognizer import fit_probe, probed
from tsq_cli.training.settings import EncoderSettings, FitSettings, HeadSettings, RecognizerSettings
from tsq_cli.types import Progress, no_progress

BASE = "imagenet-lite"
DATA = (
    "7,625 photographs of Stanford 40 Actions: half for the encoder, a fifth besides for heads and recognizer, the "
    "rest held out; ImageNet-1k through the weights of EfficientNet-Lite0"
)
COMMAND = "python examples/actions40.py train --photos DIR --videos DIR --work DIR --out weights/actions40"
HEAD_PHOTOS = "all"  # photographs that the heads are trained on
VIEWS = 4  # windows per training photograph
PROTOTYPE_CLIPS = 1000
BATCHES = 60  # of composed clips per epoch of the heads
ENCODER = EncoderSettings(
    frames_per_video=1,
    frozen_stages=5,
    backbone_lr_scale=0.1,
    # What it is measured on, for the log, is what the pack is reported on: it must not choose the epoch.
    fit=FitSettings(epochs=10, batch_size=32, learning_rate=5e-3, weight_decay=0.02, keep="last"),
)
PROBE = RecognizerSettings(num_frames=1, fit=FitSettings(epochs=10, batch_size=256, learning_rate=1e-3))
HEADS = HeadSettings(
    layer=TSQLayerConfig(competition_floor=0.0, competition_weight=0.9),
    fit=FitSettings(epochs=10, batch_size=64, learning_rate=1e-3),
)


@dataclass(frozen=True)
class Sight:
    """Layers on an encoder's features: from them to X^t and to logits of the actions.

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
    def named(self, features: Tensor) -> Tensor:
        """Compute logits [..., C] of the actions."""
        return self.actions(features.float())


def sights(base: Pack, frames: Frames) -> dict[str, Sight]:
    """Build the layers on the features of the original and of the fine-tuned network.

    Actions are classified by a linear layer fitted on the features of all training frames: the fine-tuned network's own
    classifier was trained on fewer photographs and is less accurate on the held-out ones.
    """
    objects = {"frozen": base.visual_encoder.model.get_classifier(), "tuned": refit_objects(frames, base)}
    return {name: Sight(layer, base.textual_embeddings, probe(frames, name)) for name, layer in objects.items()}


def tune_encoder(photos: Path, folder: Path, progress: Progress) -> FrameEncoder:
    """Fine-tune the upper stages of the base's network to classify the actions of training photographs."""
    base = load_pack(BASE)
    role = base.config.roles.visual_encoder
    training, validation = (_pictures(find_photos(photos, part)) for part in ("encoder", "validation"))
    return fine_tune(
        load_encoder(role, base.config.folder),
        *training,
        ENCODER,
        preprocessor=base.visual_preprocessor,
        validation=validation,
        folder=folder,
        progress=progress,
    )


def _pictures(photos: list[list[Photo]]) -> tuple[MemoryFrames, Tensor]:
    """Open photographs as videos of one frame, with their classes [N, C]."""
    pictures = [torch.from_numpy(np.asarray(open_photo(photo.path)).copy())[None] for c in photos for photo in c]
    classes = torch.tensor([photo.class_index for of_class in photos for photo in of_class])
    return MemoryFrames(pictures), torch.nn.functional.one_hot(classes, len(photos))


def seen_frames(photos: Path, part: Part, base: Pack, tuned: FrameEncoder, path: Path) -> Frames:
    """Encode a part's photographs by the base's network ("frozen") and the tuned one; cached in a file."""
    if not path.exists():
        runnable = optimize_for_inference(copy.deepcopy(tuned), "cpu", torch.float32)
        feeding = base.visual_preprocessor
        networks = {"frozen": (base.visual_encoder, feeding), "tuned": (runnable, feeding)}
        see_photos(find_photos(photos, part), networks, views=VIEWS).save(path)
    return Frames.load(path)


def probe(frames: Frames, network: str) -> nn.Linear:
    """Fit a linear classifier of the actions on a network's features."""
    shows = frames.classes >= 0
    targets = torch.nn.functional.one_hot(frames.classes[shows])
    return fit_probe(frames.outputs[network][shows][:, None], targets, PROBE)


@torch.no_grad()
def refit_objects(frames: Frames, base: Pack, *, ridge: float = 0.01) -> nn.Linear:
    """Fit object logits of the original network on features of the tuned one, by ridge regression (ours).

    Fine-tuning moves the features away from the classifier of the 1000 objects; this brings one back, so that one
    network and one pass serve both modules.

    Args:
        frames: as both networks see them.
        base: of the untuned network.
        ridge: strength of the regularisation, as a multiple of the mean variance of a feature.
    """
    x = frames.outputs["tuned"].double()
    objects = base.visual_encoder.model.get_classifier()
    y = objects(frames.outputs["frozen"].float()).double()
    mean_x, mean_y = x.mean(dim=0), y.mean(dim=0)
    gram = (x - mean_x).T @ (x - mean_x) / len(x)
    gram.diagonal().add_(ridge * gram.diagonal().mean())
    weight = torch.linalg.solve(gram, (x - mean_x).T @ (y - mean_y) / len(x)).T
    layer = nn.Linear(objects.in_features, objects.out_features)
    layer.weight.copy_(weight)
    layer.bias.copy_(mean_y - weight @ mean_x)
    return layer


def prototypes(composer: Composer, sight: Sight, network: str, *, prototype_ratio: float, seed: int) -> Prototypes:
    """Compute VQM's initial queries from the best frames of composed clips (docs/method.md, section 3)."""
    chosen, events = composer.draw(PROTOTYPE_CLIPS, np.random.default_rng([seed, 2]))
    features = composer.frames.outputs[network][torch.from_numpy(chosen)]
    targets = torch.nn.functional.one_hot(torch.from_numpy(events), composer.num_classes)
    return visual_prototypes(features, sight.named(features), targets, prototype_ratio=prototype_ratio)


def clip_source(composer: Composer, sight: Sight, network: str, batch_size: int, seed: int) -> ComposedClips:
    """Build a source of clips of a network's features, composed anew in every batch."""
    features = composer.frames.outputs[network]
    textual = torch.cat([sight.textual(part) for part in torch.split(features, 4096)]).half()
    return ComposedClips(
        composer,
        lambda chosen: (features[chosen], textual[chosen]),
        batch_size=batch_size,
        batches=BATCHES,
        seed=seed,
    )


def fit_heads(
    composer: Composer,
    sight: Sight,
    network: str,
    names: Tensor,
    settings: HeadSettings,
    *,
    folder: Path | None = None,
    progress: Progress = no_progress,
) -> TSQNet:
    """Train both modules on clips composed of the features of `network` ("frozen" or "tuned").

    Args:
        composer: of the clips.
        sight: of the network.
        network: which of the frames' features.
        names: embeddings of the class names [C, Dt].
        settings: of the heads.
        folder: for checkpoint and logs.
        progress: told every step.
    """
    source = clip_source(composer, sight, network, settings.fit.batch_size, settings.fit.seed)
    queries = prototypes(composer, sight, network, prototype_ratio=settings.prototype_ratio, seed=settings.fit.seed)
    return train_heads(
        source,
        settings,
        queries_visual=queries.vectors,
        queries_textual=names,
        num_classes=composer.num_classes,
        folder=folder,
        progress=progress,
    )


def trained(photos: Path, work: Path, base: Pack, progress: Progress) -> tuple[FrameEncoder, dict[str, Frames]]:
    """Load or make the tuned encoder, and frames of its training photographs, of unseen ones, and of all."""
    tuned = tune_encoder(photos, work / "encoder", progress)
    seen, unseen = (
        seen_frames(photos, part, base, tuned, work / f"frames-{part}.safetensors") for part in ("encoder", "heads")
    )
    return tuned, {"unseen": unseen, "all": seen.joined(unseen)}


def build(photos: Path, work: Path, out: Path, validation: Path, *, commit: str | None) -> None:
    """Train everything, evaluate it on the held-out videos, and write the pack with the metrics."""
    names, base = class_names(photos), load_pack(BASE)
    with progress_bar("training") as progress:
        tuned, frames = trained(photos, work, base, progress)
        sight = sights(base, frames["all"])["tuned"]
        queries = name_queries(base, names)
        composer = Composer(frames[HEAD_PHOTOS], len(names))
        tsqnet = fit_heads(composer, sight, "tuned", queries, HEADS, folder=work / "heads", progress=progress)
        provenance = Provenance(data=DATA, command=COMMAND, commit=commit, metrics={})
        pack = _write(work / "pack", base, names, tuned, sight, tsqnet, provenance)
        videos = read_video_list(validation).aligned(names)
        loaded = load_pack(pack)
        recognizer = load_recognizer(loaded)
        measured = evaluate(videos, loaded, recognizer, FeatureCache(work / "cache"), ks=(5,), progress=progress)
    metrics: dict[str, str | float] = {"videos": float(len(measured.videos)), "frames": 5.0}
    for row in measured.report["rows"]:
        metrics[f"map_{row['selector']}"] = round(row["map"]["value"], 4)
    written = _write(out, base, names, tuned, sight, tsqnet, replace(provenance, metrics=metrics))
    size = sum(path.stat().st_size for path in out.iterdir())
    print(f"{out}: {len(names)} classes, {size / 1e6:.1f} MB, sha256 {written.sha256}")
    print(", ".join(f"{name} {value}" for name, value in metrics.items()))


def _write(
    folder: Path,
    base: Pack,
    names: list[str],
    tuned: FrameEncoder,
    sight: Sight,
    tsqnet: TSQNet,
    provenance: Provenance,
) -> PackConfig:
    """Write the pack: the tuned network twice, with classifiers of objects (for both modules) and of actions."""
    role = base.config.roles.visual_encoder
    looking, naming = (probed(tuned, layer) for layer in (sight.objects, sight.actions))
    feeding = replace(role.preprocess, input_size=base.visual_preprocessor.input_size)
    return write_pack(
        folder,
        base=base.config,
        description="40 human actions (Stanford 40 Actions); EfficientNet-Lite0, fine-tuned, is encoder and recognizer",
        class_names=names,
        tsqnet=tsqnet,
        visual_encoder=TrainedNetwork(
            encoder=looking, model=role.model, preprocess=feeding, precision="int8", scores_objects=True
        ),
        recognizer=TrainedNetwork(encoder=naming, model=role.model, preprocess=feeding, precision="int8"),
        settings=replace(
            base.config.settings,
            lambda_v=HEADS.lambda_v,
            top_n=HEADS.top_n,
            flat_visual=1.05,
            flat_textual=1.05,
            words=Words(),  # the base's were measured on its own classes
        ),
        provenance=provenance,
    )
