"""The workflow of `tsq train`: lists of videos -> features -> stages (a), (b, c), (d) -> evaluation -> a pack.

A run has one folder: train.toml (all settings), encoder/, heads/ and recognizer/ (checkpoint, logs and curves of each
stage), report.json, pack/, and train.csv and val.csv if the
run split its list. A run into the folder of an earlier one continues where that one ended.
"""

from __future__ import annotations

import json
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from tsq_cli import __version__
from tsq_cli.consensus import Consensus
from tsq_cli.data import VideoList, list_csv, warnings_of
from tsq_cli.errors import UsageError
from tsq_cli.evaluation.bootstrap import SEED
from tsq_cli.evaluation.compare import RANDOM_SEEDS, score_selectors
from tsq_cli.evaluation.costs import count_costs
from tsq_cli.evaluation.selectors import SELECTORS, module_saliency, selector_input
from tsq_cli.features.cache import FeatureCache
from tsq_cli.files import write_json, write_text
from tsq_cli.models import FrameEncoder, TSQNet
from tsq_cli.models.device import resolve_device
from tsq_cli.packs import choose_recognizer, find_pack, load_pack, load_recognizer
from tsq_cli.packs.export import can_export, export_graphs, has_exportable
from tsq_cli.packs.registry import PACK_JSON
from tsq_cli.packs.schema import Provenance
from tsq_cli.packs.words import Words
from tsq_cli.packs.write import TrainedNetwork, check_class_names, check_pack_folder, write_pack
from tsq_cli.provenance import provenance
from tsq_cli.selection import RuleSettings
from tsq_cli.training import distributed
from tsq_cli.training.datasets import Clips, clips_of, name_queries
from tsq_cli.training.fit import CHECKPOINT
from tsq_cli.training.heads import predict
from tsq_cli.training.prototypes import need_every_class
from tsq_cli.training.settings import STAGES, TrainSettings
from tsq_cli.training.stages import (
    TrainingRun,
    encoder_stage,
    extract,
    frame_networks,
    heads_stage,
    initial_recognizer,
    recognizer_stage,
)
from tsq_cli.types import Progress, no_progress

PACK, REPORT, SETTINGS = "pack", "report.json", "train.toml"
SPLIT = ("train.csv", "val.csv")


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
    """Train the requested stages, evaluate the result, and write it as a pack.

    Args:
        settings: of the run.
        lists: as read_lists gives them.
        out: folder of the run; an interrupted run continues there.
        cache: folder for features and frames; None is `cache` in `out`.
        device: as for resolve_device.
        workers: videos decoded at once.
        command: for the pack's provenance.
        progress: called with the current step.

    Returns:
        JSON-ready, the contents of report.json: provenance, settings, lists (see VideoList.to_report), split (files,
        if the list was split), classes, counts (videos of each class per list), warnings, multi_label, prototypes,
        stages (seconds, and the log of the last epoch and of the one that was kept), evaluation (as score_selectors, at
        K frames, with GMACs), chance and pack (its folder). The last three are None if nothing was evaluated or no
        heads were trained.

    Raises:
        UsageError: a class without a video, or a folder that holds another run.
        TsqError, WeightsError, OutputError: as the stages.
    """
    check_pack_folder(out / PACK)
    check_class_names(lists[0].class_names)
    split = split_files(settings, lists, out)
    with distributed.joined_processes(resolve_device(device)) as own_device:
        progress = progress if distributed.is_main_process() else no_progress
        run = _begin(settings, lists, out, FeatureCache(cache or out / "cache"), own_device, workers, progress)
        if distributed.is_main_process():
            for path, text in split.items():
                write_text(path, text)
            run.report["split"] = [str(path) for path in split]
        tuned = encoder_stage(run) if run.does("encoder") else None
        start = initial_recognizer(run, tuned) if run.does("recognizer") else None
        texts = name_queries(run.base, run.train.class_names) if run.does("heads") else None
        networks = frame_networks(run, tuned, start)
        features = [extract(run, videos, networks) for videos in run.lists]
        run.report["lists"] = [of.to_report(some.failed) for of, some in zip(run.lists, features, strict=True)]
        clips = [clips_of(run.base, *pair) for pair in zip(run.lists, features, strict=True)]
        need_every_class(clips[0].targets, run.train.class_names)
        frame_logits = None if tuned is None else features[0].logits["visual"]
        tsqnet = None if texts is None else heads_stage(run, clips, texts, frame_logits, networks)
        recognizer, val_logits = (None, None) if start is None else recognizer_stage(run, start, clips, features)
        if distributed.is_main_process():
            if tsqnet is not None and val_logits is not None:
                _evaluate(run, tsqnet, clips[1], val_logits)
            if tsqnet is not None:
                _write_pack(run, tsqnet, tuned, recognizer, command)
            write_json(out / REPORT, run.report)
            _add_costs(run)
        distributed.wait_for_all()
    return run.report


def check_run_folder(out: Path) -> None:
    """Refuse a folder where a run would overwrite files that no run wrote.

    Raises:
        UsageError: it holds another train.toml or report.json.
    """
    for name, is_ours in ((SETTINGS, _is_settings_file), (REPORT, _is_report)):
        if (out / name).exists() and not is_ours(out / name):
            raise UsageError(
                f"{out / name} was not written by tsq train, and would be replaced",
                wanted="a new folder, or that of an earlier run",
                fix="choose another --out",
            )


def split_files(settings: TrainSettings, lists: tuple[VideoList, VideoList | None], out: Path) -> dict[Path, str]:
    """The files of a run that say how it split its list, with their texts; none if it has two lists.

    Raises:
        UsageError: something is there that is no file, or one with another text, so a split of another run would be
            lost; or a name that cannot stand in a list.
    """
    if settings.val_share is None:
        return {}
    files = {out / name: list_csv(of) for name, of in zip(SPLIT, lists, strict=True) if of is not None}
    for path, text in files.items():
        if not path.exists():
            continue
        try:
            found = path.read_bytes() if path.is_file() else None
        except OSError:
            found = None
        if found != text.encode():
            raise UsageError(
                f"{path} " + ("is no file that can be read" if found is None else "has other videos than this split"),
                wanted="the list, the share and the seed that the run in this folder began with",
                fix="choose another --out, or train on the two lists of that split",
            )
    return files


def _is_settings_file(path: Path) -> bool:
    """Whether TrainSettings.write wrote a file: all values, formatted by the library, and no comment."""
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
    """Find the pack in the folder of a run that fine-tuned the visual encoder; None without one."""
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
) -> TrainingRun:
    """Load the base pack, and write the settings to the run's folder."""
    progress("loading the pack", 0, 1)
    run = TrainingRun(
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
        "provenance": provenance(
            device=device,
            dtype=run.base.dtype,
            seeds={stage: getattr(settings, stage).fit.seed for stage in STAGES if run.does(stage)}
            | ({} if run.val is None else {"random": RANDOM_SEEDS, "bootstrap": SEED}),
            lists=run.lists,
        ),
        "settings": settings.to_dict(),
        "classes": list(run.train.class_names),
        "counts": [list(videos.counts()) for videos in run.lists],
        "warnings": warnings_of(*lists),
        "multi_label": run.multi_label,
        "lists": [videos.to_report([]) for videos in run.lists],
        "split": [],
        "prototypes": None,
        "stages": {},
        "evaluation": None,
        "chance": None,
        "pack": None,
    }
    if distributed.is_main_process():
        settings.write(out / SETTINGS)
    return run


def _evaluate(run: TrainingRun, tsqnet: TSQNet, clips: Clips, frame_logits: Tensor) -> None:
    """Evaluate recognition of the validation videos from K frames of each selector, into the run's report."""
    heads, k = run.settings.heads, run.settings.num_frames
    logits, targets = frame_logits.numpy(), clips.targets.numpy()
    output = predict(tsqnet, clips.visual, clips.textual)
    inputs = selector_input(
        module_saliency(output, top_n=heads.top_n, multi_label=run.multi_label),
        logits,
        targets,
        settings=RuleSettings(lambda_v=heads.lambda_v),
        multi_label=run.multi_label,
        class_scores=(output.visual.logits, output.textual.logits),
    )
    run.progress("evaluating", 0, 1)
    run.report["evaluation"] = score_selectors(
        inputs,
        logits,
        targets,
        selectors=SELECTORS,
        ks=[k],
        consensus=Consensus(pooling=run.settings.recognizer.pooling, multi_label=run.multi_label),
    )
    share = targets.mean(axis=0)
    run.report["chance"] = {"map": float(share[share > 0].mean()), "top1": float(share.max())}


def _add_costs(run: TrainingRun) -> None:
    """Add GMACs to the evaluation, counted on the pack as it was written."""
    if run.report["evaluation"] is None or run.report["pack"] is None:
        return
    pack = load_pack(find_pack(run.out / PACK))
    recognizer = load_recognizer(pack, choose_recognizer(pack.config))
    costs = count_costs(pack, recognizer)
    for row in run.report["evaluation"]["rows"]:
        row["giga_macs"] = costs.of(row["selector"], row["k"], recognizer.consensus)
    write_json(run.out / REPORT, run.report)


def _write_pack(
    run: TrainingRun, tsqnet: TSQNet, tuned: FrameEncoder | None, recognizer: TrainedNetwork | None, command: str
) -> None:
    """Write the pack; if the recognizer is a probe on the fine-tuned encoder, one file serves both roles."""
    base, heads, recognition = run.base.config, run.settings.heads, run.settings.recognizer
    visual = None
    if tuned is not None:
        role = base.roles.visual_encoder
        shared = recognition.model == "visual_encoder" and recognition.method == "probe"
        encoder = recognizer.encoder if recognizer is not None and shared else tuned.cpu()
        visual = TrainedNetwork(encoder=encoder, model=role.model, preprocess=role.preprocess)
    classes = run.train.class_names
    written = write_pack(
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
            pooling=base.settings.pooling if recognizer is None else recognition.pooling,
            evidence_visual=0.0,  # as the words below, it would have to be measured on this pack's classes
            evidence_textual=0.0,
            early_exit=None,
            flat_visual=1.05,
            flat_textual=1.05,
            words=Words(),  # the base's were measured on its own classes
        ),
        provenance=Provenance(
            data="; ".join(videos.found for videos in run.lists), command=command, commit=None, metrics=_metrics(run)
        ),
    )
    run.report["pack"] = str(run.out / PACK)
    if can_export() and has_exportable(written):
        export_graphs(written)


def _metrics(run: TrainingRun) -> dict[str, str | float]:
    """Collect mAP and top-1 of every selector at K frames, for pack.json."""
    if run.report["evaluation"] is None:
        return {}
    return {
        f"{metric}_{row['selector']}_{row['k']}": round(row[metric]["value"], 4)
        for row in run.report["evaluation"]["rows"]
        for metric in ("map", "top1")
    }
