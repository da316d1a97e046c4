"""The stages of `tsq train`, each with a folder of its own: (a) encoder, (b, c) heads, (d) recognizer."""

from __future__ import annotations

import copy
import hashlib
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tsq_cli.data import VideoList
from tsq_cli.errors import UsageError
from tsq_cli.features.cache import (
    SAMPLER_SHORT_SIDE,
    FeatureCache,
    FrameNetwork,
    FrameStore,
    VideoFeatures,
    network_identity,
    pack_networks,
    weights_digest,
)
from tsq_cli.files import write_json
from tsq_cli.models import FrameEncoder, TSQNet
from tsq_cli.models.preprocess import Preprocessor
from tsq_cli.packs import Pack, load_encoder
from tsq_cli.packs.load import optimize_for_inference
from tsq_cli.packs.write import TrainedNetwork
from tsq_cli.report.curves import plot_curves
from tsq_cli.training import distributed
from tsq_cli.training.datasets import Clips, prototype_queries
from tsq_cli.training.encoder import fine_tune, measures
from tsq_cli.training.fit import CHECKPOINT, LOG_JSON
from tsq_cli.training.heads import CachedClips, predict, train_heads
from tsq_cli.training.prototypes import need_every_class
from tsq_cli.training.recognizer import fit_probe, probed, starting_network
from tsq_cli.training.settings import TrainSettings
from tsq_cli.types import Progress

CURVES, INPUTS = "curves.png", "inputs.json"


@dataclass(kw_only=True)
class TrainingRun:
    """Settings, data and report of a run, shared by all stages.

    Attributes:
        settings, cache, workers, progress: as for tsq_cli.training.train.train.
        out: folder of the run.
        device: of this process.
        train, val: the lists, of the same classes; without `val` nothing is evaluated.
        base: the pack to start from, on the device.
        report: the contents of report.json so far.
    """

    settings: TrainSettings
    out: Path
    cache: FeatureCache
    device: str
    workers: int
    progress: Progress
    train: VideoList
    val: VideoList | None
    base: Pack
    report: dict[str, Any] = field(default_factory=dict)

    @property
    def lists(self) -> list[VideoList]:
        """The training list, and the validation list if there is one."""
        return [self.train] if self.val is None else [self.train, self.val]

    @property
    def multi_label(self) -> bool:
        """Whether any video of either list has several classes."""
        return any(videos.multi_label for videos in self.lists)

    def does(self, stage: str) -> bool:
        """Whether a stage is requested, or was begun by an earlier run into the same folder."""
        return stage in self.settings.stages.split(",") or (self.out / stage / CHECKPOINT).exists()

    @contextmanager
    def stage(self, name: str, inputs: dict[str, Any]) -> Iterator[Path]:
        """Yield a stage's folder; at the end draw its curves and report its seconds.

        Args:
            name: of the stage.
            inputs: JSON-ready, identity of all that the stage starts from.

        Raises:
            UsageError: the folder was filled from other inputs.
        """
        folder, begin = self.out / name, time.perf_counter()
        named = zip(("videos", "validation videos"), self.lists, strict=False)  # the latter choose the epoch
        known = {name: _digest([[str(v.path), v.labels] for v in of.videos]) for name, of in named} | inputs
        if distributed.is_main_process():
            _claim(folder, known)
        yield folder
        if distributed.is_main_process():
            rows = json.loads((folder / LOG_JSON).read_text(encoding="utf-8"))
            plot_curves(rows, folder / CURVES, title=name)
            self.report["stages"][name] = {
                "seconds": time.perf_counter() - begin,
                "last_epoch": rows[-1],
                "kept_epoch": next((row for row in rows if row.get("kept")), rows[-1]),
            }


def encoder_stage(run: TrainingRun) -> FrameEncoder:
    """Run stage (a): fine-tune the base's visual encoder on frames as VQM's features come from."""
    settings, role, feeding = run.settings, run.base.config.roles.visual_encoder, run.base.visual_preprocessor
    with run.stage("encoder", {"pack": run.base.config.sha256, "num_candidates": settings.num_candidates}) as folder:
        (frames, targets), *validation = [_frames(run, videos) for videos in run.lists]
        return fine_tune(
            load_encoder(role, run.base.config.folder),
            frames,
            targets,
            settings.encoder,
            preprocessor=feeding,
            multi_label=run.multi_label,
            validation=validation[0] if validation else None,
            folder=folder,
            device=run.device,
            workers=run.workers - 1,
            progress=run.progress,
        )


def initial_recognizer(run: TrainingRun, tuned: FrameEncoder | None) -> TrainedNetwork:
    """Load the network that stage (d) starts from: the fine-tuned encoder, if that is asked for, or a published one."""
    if tuned is None or run.settings.recognizer.model != "visual_encoder":
        return starting_network(run.base.config, run.settings.recognizer.model)
    role = run.base.config.roles.visual_encoder
    return TrainedNetwork(encoder=tuned, model=role.model, preprocess=role.preprocess)


def frame_networks(run: TrainingRun, tuned: FrameEncoder | None, start: TrainedNetwork | None) -> list[FrameNetwork]:
    """List the networks to cache features of: "visual", "objects" if it is another one, "recognizer" if probed."""
    networks = pack_networks(run.base)
    if tuned is not None:
        role, feeding = run.base.config.roles.visual_encoder, run.base.visual_preprocessor
        objects = replace(networks[-1], name="objects")
        networks = [_frame_network(run, "visual", tuned, role.model, feeding), objects]
    if start is not None and run.settings.recognizer.method == "probe":
        feeding = start.preprocess
        networks.append(_frame_network(run, "recognizer", start.encoder, start.model, feeding))
    return networks


def _frame_network(
    run: TrainingRun, name: str, encoder: FrameEncoder, model: str, feeding: Preprocessor
) -> FrameNetwork:
    return FrameNetwork(
        name=name,
        encoder=optimize_for_inference(copy.deepcopy(encoder), run.device, run.base.dtype),
        preprocessor=feeding,
        identity=network_identity(model, weights_digest(encoder), feeding),
        short_side=max(SAMPLER_SHORT_SIDE, feeding.resize_side) if name == "recognizer" else SAMPLER_SHORT_SIDE,
    )


def heads_stage(
    run: TrainingRun, clips: list[Clips], texts: Tensor, frame_logits: Tensor | None, networks: list[FrameNetwork]
) -> TSQNet:
    """Run stages (b) and (c): compute prototypes and train both TSQ layers.

    Args:
        run: the run.
        clips: of its lists.
        texts: embeddings of the class names [C, Dt], the initial queries of TQM.
        frame_logits: of stage (a)'s encoder [N, T, C], for the prototypes; None fits a classifier.
        networks: whose features the clips are, for the identity of the stage.

    Returns:
        Both modules, on the CPU.
    """
    settings, training = run.settings.heads, clips[0]
    inputs = {"networks": [n.identity for n in networks if n.name != "recognizer"], "pack": run.base.config.sha256}
    with run.stage("heads", inputs) as folder:
        prototypes = prototype_queries(training, prototype_ratio=settings.prototype_ratio, frame_logits=frame_logits)
        run.report["prototypes"] = {k: v for k, v in vars(prototypes).items() if k != "vectors"}

        def validate(tsqnet: TSQNet) -> dict[str, float]:
            output = predict(tsqnet, clips[1].visual, clips[1].textual)
            found = {"visual": output.visual.logits, "textual": output.textual.logits}
            measured = {
                f"{module}_{measure}": value
                for module, logits in found.items()
                for measure, value in measures(logits, clips[1].targets, multi_label=run.multi_label).items()
            }
            names = ("map", "top1", "loss")
            return measured | {of: (measured[f"visual_{of}"] + measured[f"textual_{of}"]) / 2 for of in names}

        fitting = settings.fit
        return train_heads(
            CachedClips(
                training.visual, training.textual, training.targets, batch_size=fitting.batch_size, seed=fitting.seed
            ),
            settings,
            queries_visual=prototypes.vectors,
            queries_textual=texts,
            num_classes=len(run.train.class_names),
            num_frames=run.settings.num_candidates,
            multi_label=run.multi_label,
            folder=folder,
            validate=validate if run.val is not None else None,
            device=run.device,
            progress=run.progress,
        ).cpu()


def recognizer_stage(
    run: TrainingRun, start: TrainedNetwork, clips: list[Clips], features: list[VideoFeatures]
) -> tuple[TrainedNetwork, Tensor | None]:
    """Run stage (d): train the recognizer.

    Args:
        run: the run.
        start: see initial_recognizer.
        clips: of its lists.
        features: of its lists, with the network "recognizer" if it is probed.

    Returns:
        The recognizer, and its logits on every validation frame, float [N, T, C]; None without validation.
    """
    settings = run.settings.recognizer
    options: dict[str, Any] = {"multi_label": run.multi_label, "device": run.device, "progress": run.progress}
    with run.stage("recognizer", {"network": [start.model, weights_digest(start.encoder)]}) as folder:
        if settings.method == "probe":
            inputs = [extracted.features["recognizer"] for extracted in features]
            pairs = [(x, of.targets) for x, of in zip(inputs, clips, strict=True)]
            probe = fit_probe(*pairs[0], settings, validation=pairs[1] if run.val else None, folder=folder, **options)
            with torch.no_grad():
                val_logits = probe(inputs[1].float()) if run.val else None
            return replace(start, encoder=probed(start.encoder, probe)), val_logits
        (frames, targets), *validation = [_frames(run, videos) for videos in run.lists]
        network = fine_tune(
            start.encoder,
            frames,
            targets,
            settings,
            preprocessor=start.preprocess,
            validation=validation[0] if validation else None,
            folder=folder,
            workers=run.workers - 1,
            **options,
        )
    if run.val is None:
        return replace(start, encoder=network.cpu()), None
    fitted = _frame_network(run, "recognizer", network, start.model, start.preprocess)
    val_features = extract(run, replace(run.val, videos=clips[1].videos), [fitted])
    return replace(start, encoder=network.cpu()), val_features.logits["recognizer"].float()


def extract(run: TrainingRun, videos: VideoList, networks: list[FrameNetwork]) -> VideoFeatures:
    """Extract features of a list's videos; the main process fills the cache, the others read it."""
    for _ in distributed.rank_zero_first():
        extracted = run.cache.extract(
            videos.videos,
            networks,
            num_frames=run.settings.num_candidates,
            workers=run.workers,
            progress=run.progress,
        )
    return extracted


def _frames(run: TrainingRun, videos: VideoList) -> tuple[FrameStore, Tensor]:
    """Open the frames of a list's videos, with their targets [N, C]."""
    for _ in distributed.rank_zero_first():
        store = run.cache.frames(
            videos.videos, num_frames=run.settings.num_candidates, workers=run.workers, progress=run.progress
        )
    targets = torch.from_numpy(videos.targets())[list(store.kept)]
    if videos is run.train:
        need_every_class(targets, videos.class_names)
    return store, targets


def _claim(folder: Path, inputs: dict[str, Any]) -> None:
    """Record a stage's inputs in its folder; refuse a folder with other inputs."""
    path = folder / INPUTS
    if path.exists():
        known = json.loads(path.read_text(encoding="utf-8"))
        if changed := [name for name in {**known, **inputs} if known.get(name) != inputs.get(name)]:
            raise UsageError(
                f"{folder} was trained from other {' and '.join(changed)}",
                wanted="the same lists, pack and networks to resume a run",
                fix="train into another folder",
            )
    else:
        write_json(path, inputs)


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]
