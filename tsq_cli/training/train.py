"""The workflow of `tsq train`: lists of videos -> features -> (a) -> (b, c) -> (d) -> measures -> a pack.

Everything is in one folder: train.toml (all settings), encoder/, heads/ and recognizer/ (checkpoint, logs, curves of
each stage), report.json, and pack/. A run into the folder of an earlier one goes on where that one ended.
"""

from __future__ import annotations

import json
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tsq_cli import __version__
from tsq_cli.data import VideoList
from tsq_cli.errors import UsageError
from tsq_cli.evaluation.costs import count_costs
from tsq_cli.evaluation.evaluate import score_selectors
from tsq_cli.evaluation.selectors import Selector, selector_input
from tsq_cli.features.cache import FeatureCache
from tsq_cli.files import write_json
from tsq_cli.models import FrameEncoder, TSQNet
from tsq_cli.models.device import resolve_device
from tsq_cli.packs import choose_recognizer, find_pack, load_pack, load_recognizer
from tsq_cli.packs.registry import PACK_JSON
from tsq_cli.packs.schema import Provenance
from tsq_cli.packs.words import Words
from tsq_cli.packs.write import TrainedNetwork, check_class_names, check_pack_folder, write_pack
from tsq_cli.training import distributed
from tsq_cli.training.datasets import Clips, clips_of, name_queries
from tsq_cli.training.fit import CHECKPOINT
from tsq_cli.training.heads import predict
from tsq_cli.training.prototypes import need_every_class
from tsq_cli.training.settings import STAGES, TrainSettings
from tsq_cli.training.stages import (
    Run,
    encoder_stage,
    extract,
    frame_networks,
    heads_stage,
    recognizer_stage,
    recognizer_start,
)
from tsq_cli.types import Progress, no_progress

PACK, REPORT, SETTINGS = "pack", "report.json", "train.toml"

_MEASURED: tuple[Selector, ...] = ("tsq", "vqm", "tqm", "uniform", "random", "middle", "confident", "all", "oracle")


def train(
    settings: TrainSettings,
    lists: tuple[VideoList, VideoList | None],
    out: Path,
    *,
    cache: Path | None = None,
    device: str = "auto",
    workers: int = 1,
    command: str = "tsq train",
    progress: Progress = no_progress,
) -> dict[str, Any]:
    """Train what the settings ask for, measure it, and write it as a pack.

    Args:
        settings: all values of the run.
        lists: as read_lists gives them.
        out: folder for everything; a run that was interrupted there goes on.
        cache: folder for features and frames; None is `cache` in `out`.
        device: as for resolve_device.
        workers: videos decoded at a time.
        command: for the pack's provenance.
        progress: told what is being done.

    Returns:
        JSON-ready, what report.json holds: settings, lists (found, missing, failed), classes, multi_label, prototypes,
        stages (seconds and the last epoch of each), evaluation (as score_selectors, at K frames, with GMACs once the
        pack is there to count them on), chance and pack (its folder); the last three are None where nothing was
        measured, or no heads were trained.

    Raises:
        UsageError: a class without a video, or a folder that holds another run.
        TsqError, WeightsError, OutputError: as the stages.
    """
    check_pack_folder(out / PACK)
    check_class_names(lists[0].class_names)
    with distributed.joined_processes(resolve_device(device)) as own_device:
        progress = progress if distributed.is_main_process() else no_progress
        run = _begin(settings, lists, out, FeatureCache(cache or out / "cache"), own_device, workers, progress)
        tuned = encoder_stage(run) if run.does("encoder") else None
        start = recognizer_start(run, tuned) if run.does("recognizer") else None
        texts = name_queries(run.base, run.train.class_names) if run.does("heads") else None
        looking = frame_networks(run, tuned, start)
        features = [extract(run, videos, looking) for videos in run.lists]
        for told, extracted in zip(run.report["lists"], features, strict=True):
            told["failed"] = [{"id": video.id, "reason": reason} for video, reason in extracted.failed]
        clips = [clips_of(run.base, *pair) for pair in zip(run.lists, features, strict=True)]
        frame_logits = None if tuned is None else features[0].logits["visual"]
        tsqnet = None if texts is None else heads_stage(run, clips, texts, frame_logits, looking)
        recognizer, val_logits = (None, None) if start is None else recognizer_stage(run, start, clips, features)
        if distributed.is_main_process():
            if tsqnet is not None and val_logits is not None:
                _measure(run, tsqnet, clips[1], val_logits)
            if tsqnet is not None:
                _write_pack(run, tsqnet, tuned, recognizer, command)
            write_json(out / REPORT, run.report)
            _add_costs(run)
        distributed.wait_for_all()
    return run.report


def check_run_folder(out: Path) -> None:
    """Refuse a folder in which a run would write over files that no run made.

    Raises:
        UsageError: it holds a train.toml or a report.json of somebody else's.
    """
    for name, is_ours in ((SETTINGS, _is_settings_file), (REPORT, _is_report)):
        if (out / name).exists() and not is_ours(out / name):
            raise UsageError(
                f"{out / name} was not written by tsq train, and would be replaced",
                wanted="a new folder, or that of an earlier run",
                fix="choose another --out",
            )


def _is_settings_file(path: Path) -> bool:
    """Whether a file is one that TrainSettings.write made: every value, laid out by a program, and no comment."""
    import tomli_w

    try:
        text = path.read_text(encoding="utf-8")
        values = tomllib.loads(text)
    except (OSError, ValueError):
        return False
    return {"train_list", *STAGES} <= values.keys() and text == tomli_w.dumps(values)


def _is_report(path: Path) -> bool:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(document, dict) and "tsq_version" in document


def tuned_pack(run: Path) -> Path | None:
    """The pack in the folder of a run that tuned the visual encoder, once it is written."""
    pack = run.absolute() / PACK
    return pack if (pack / PACK_JSON).is_file() and (run / "encoder" / CHECKPOINT).is_file() else None


def _begin(
    settings: TrainSettings,
    lists: tuple[VideoList, VideoList | None],
    out: Path,
    cache: FeatureCache,
    device: str,
    workers: int,
    progress: Progress,
) -> Run:
    """Load the base pack and keep the settings."""
    need_every_class(torch.from_numpy(lists[0].targets()))
    progress("loading the pack", 0, 1)
    run = Run(
        settings=settings,
        out=out,
        cache=cache,
        device=device,
        workers=workers,
        progress=progress,
        train=lists[0],
        val=lists[1],
        base=load_pack(find_pack(settings.pack), device=device),
    )
    run.report = {
        "tsq_version": __version__,
        "torch_version": torch.__version__,
        "device": device,
        "settings": settings.to_dict(),
        "classes": list(run.train.class_names),
        "multi_label": run.multi_label,
        "lists": [{"found": videos.found, "missing": list(videos.missing), "failed": []} for videos in run.lists],
        "prototypes": None,
        "stages": {},
        "evaluation": None,
        "chance": None,
        "pack": None,
    }
    if distributed.is_main_process():
        settings.write(out / SETTINGS)
    return run


def _measure(run: Run, tsqnet: TSQNet, clips: Clips, frame_logits: Tensor) -> None:
    """Recognition of the validation videos from K frames, by every rule of `tsq evaluate`."""
    heads, k = run.settings.heads, run.settings.num_frames
    logits, targets = frame_logits.numpy(), clips.targets.numpy()
    inputs = selector_input(
        predict(tsqnet, clips.visual, clips.textual),
        logits,
        targets,
        top_n=heads.top_n,
        lambda_v=heads.lambda_v,
        multi_label=run.multi_label,
    )
    run.progress("measuring", 0, 1)
    run.report["evaluation"] = score_selectors(
        inputs, logits, targets, selectors=_MEASURED, ks=[k], multi_label=run.multi_label
    )
    share = targets.mean(axis=0)
    run.report["chance"] = {"map": float(share[share > 0].mean()), "top1": float(share.max())}


def _add_costs(run: Run) -> None:
    """GMACs of what was measured, counted on the pack as it was written."""
    if run.report["evaluation"] is None or run.report["pack"] is None:
        return
    pack = load_pack(find_pack(run.out / PACK))
    choice = choose_recognizer(pack.config)
    costs = count_costs(pack, load_recognizer(pack, choice))
    for row in run.report["evaluation"]["rows"]:
        row["giga_macs"] = costs.of(row["selector"], row["k"])
    write_json(run.out / REPORT, run.report)


def _write_pack(
    run: Run, tsqnet: TSQNet, tuned: FrameEncoder | None, recognizer: TrainedNetwork | None, command: str
) -> None:
    """The pack; where the recognizer is the tuned encoder with a probe on it, one file serves both roles."""
    base, heads, recognition = run.base.config, run.settings.heads, run.settings.recognizer
    visual = None
    if tuned is not None:
        role = base.roles.visual_encoder
        shared = recognition.model == "visual_encoder" and recognition.method == "probe"
        encoder = recognizer.encoder if recognizer is not None and shared else tuned.cpu()
        visual = TrainedNetwork(encoder=encoder, model=role.model, preprocess=role.preprocess)
    classes = run.train.class_names
    pack = write_pack(
        run.out / PACK,
        base=base,
        description=f"{len(classes)} classes ({', '.join(classes[:3])}, ...), trained by tsq train on {base.name}",
        class_names=classes,
        tsqnet=tsqnet,
        visual_encoder=visual,
        recognizer=recognizer,
        settings=replace(
            base.settings,
            num_frames=run.settings.num_frames,
            lambda_v=heads.lambda_v,
            top_n=heads.top_n,
            multi_label=run.multi_label,
            flat_visual=1.05,
            flat_textual=1.05,
            words=Words(),  # the base's were measured on its own classes
        ),
        provenance=Provenance(
            data="; ".join(videos.found for videos in run.lists), command=command, commit=None, metrics=_metrics(run)
        ),
    )
    run.report["pack"] = str(pack.folder)


def _metrics(run: Run) -> dict[str, str | float]:
    """For pack.json, the measures of every rule at K frames."""
    if run.report["evaluation"] is None:
        return {}
    return {
        f"{metric}_{row['selector']}_{row['k']}": round(row[metric]["value"], 4)
        for row in run.report["evaluation"]["rows"]
        for metric in ("map", "top1")
    }
