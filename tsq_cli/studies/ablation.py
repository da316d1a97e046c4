"""Run one ablation study: train every row with several seeds on the same features, and score recognition from the
frames that it selects."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tsq_cli.consensus import Consensus, Pooling
from tsq_cli.errors import UsageError, WeightsError
from tsq_cli.evaluation.compare import selected_scores
from tsq_cli.evaluation.metrics import mean_average_precision
from tsq_cli.evaluation.selectors import EvaluatedSelector, SelectorInput, module_saliency, selector_input
from tsq_cli.models import TSQNet, TSQNetOutput
from tsq_cli.selection import RuleSettings
from tsq_cli.studies.registry import PAPER_DATA, Study, StudyRow, changed
from tsq_cli.training.heads import ClipBatch, ClipSource, predict, train_heads
from tsq_cli.training.settings import HeadSettings
from tsq_cli.types import Progress, no_progress

TRAINING_SEEDS = (0, 1, 2)
COLUMNS: Mapping[str, EvaluatedSelector] = {"tsqnet": "tsq", "tqm": "tqm", "vqm": "vqm"}
"""The paper's three columns, in its order, and the selector of each."""
REFERENCES: tuple[EvaluatedSelector, ...] = ("uniform", "all", "oracle")
METRIC = "mAP of recognition from the chosen frames, 0 to 1; sd is the standard deviation over the seeds"


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainingData:
    """Training data of both modules.

    Attributes:
        source: from a seed to the training clips.
        queries_visual: visual prototypes [C, Dv].
        queries_textual: embeddings of the class names [C, Dt].
        num_candidates: T, frames per clip.
        multi_label: sigmoid and binary cross-entropy instead of softmax and cross-entropy.
    """

    source: Callable[[int], ClipSource]
    queries_visual: Tensor
    queries_textual: Tensor
    num_candidates: int = 16
    multi_label: bool = False

    @property
    def num_classes(self) -> int:
        """C."""
        return len(self.queries_visual)


@dataclass(frozen=True, kw_only=True, eq=False)
class StudyData(TrainingData):
    """Training and validation data of a study.

    Attributes:
        validation: the N clips to evaluate on, in one batch; targets [N, C] of 0 and 1.
        frame_logits: of the recognizer on each of their frames, float32 [N, T, C].

    Raises:
        ValueError: shapes that do not fit each other.
    """

    validation: ClipBatch
    frame_logits: Tensor

    def __post_init__(self) -> None:
        n, t, c = len(self.validation.visual), self.num_candidates, self.num_classes
        shapes = {
            "queries_textual": (self.queries_textual, (c, self.queries_textual.shape[1])),
            "validation.visual": (self.validation.visual, (n, t, self.queries_visual.shape[1])),
            "validation.textual": (self.validation.textual, (n, t, self.queries_textual.shape[1])),
            "validation.targets": (self.validation.targets, (n, c)),
            "frame_logits": (self.frame_logits, (n, t, c)),
        }
        wrong = {name: list(tensor.shape) for name, (tensor, shape) in shapes.items() if tensor.shape != shape}
        if wrong:
            raise ValueError(f"{n} validation clips of {t} frames and {c} classes do not fit {wrong}")


def run_study(
    study: Study,
    data: StudyData,
    settings: HeadSettings,
    *,
    text_data: Callable[[str], StudyData] | None = None,
    seeds: Sequence[int] = TRAINING_SEEDS,
    num_frames: int = 5,
    pooling: Pooling = "logits",
    device: torch.device | str = "cpu",
    progress: Progress = no_progress,
) -> dict[str, Any]:
    """Train and score all rows of a study; rows that train alike (other fusion, top_n, pooling) share their networks.

    Args:
        study: see tsq_cli.studies.registry.
        data: to train and to evaluate on.
        settings: of the run; each row changes some of them. The seed of `fit` is replaced by each of `seeds`.
        text_data: from the name of a text encoder to the same videos with its embeddings; a row that needs one is left
            out, with the reason, if this is None or raises a WeightsError.
        seeds: at least one; each trains one network per row.
        num_frames: K, from 1 to T.
        pooling: of the frames' scores, in rows that do not vary it.
        device: to train on.
        progress: called after each step of training, over all rows and seeds together.

    Returns:
        JSON-ready: study, title, note, paper_data, metric, num_videos, num_classes, num_candidates, num_frames, seeds,
        multi_label, pooling, settings, seconds, reference (mAP of the selectors uniform, all and oracle) and rows, each
        {name, changes, text_encoder, pooling, evidence, reference (as above, by the row's pooling), is_default (whether
        it is the run's own settings), paper (mAP in percent, see StudyRow), left_out (why, or None), tsqnet, tqm, vqm}.
        The last three are {mean, sd, values}, from 0 to 1, one value per seed; sd is None for a single seed, and all
        three are None for a row left out.

    Raises:
        UsageError: settings that a row cannot have, no seed, or K out of range.
        TsqError: a training that diverged.
    """
    check_study_plan(seeds, num_frames, data.num_candidates)
    begin = time.perf_counter()
    settings_of = [changed(settings, {**study.fixed, **row.changes}) for row in study.rows]
    data_of, left_out = _texts(study.rows, data, text_data)
    recognition: dict[str, Any] = {"num_frames": num_frames, "pooling": pooling}
    scores = _scores(study, settings_of, data_of, seeds=seeds, device=device, progress=progress, **recognition)
    poolings = dict.fromkeys([pooling, *(row.pooling or pooling for row in study.rows)])
    references = {of: _references(data, num_frames, of) for of in poolings}
    return {
        "study": study.name,
        "title": study.title,
        "note": study.note,
        "paper_data": PAPER_DATA,
        "metric": METRIC,
        "num_videos": len(data.frame_logits),
        "num_classes": data.num_classes,
        "num_candidates": data.num_candidates,
        "num_frames": num_frames,
        "seeds": list(seeds),
        "multi_label": data.multi_label,
        "pooling": pooling,
        "settings": asdict(settings),
        "seconds": time.perf_counter() - begin,
        "reference": references[pooling],
        "rows": [
            _row_report(row, own == settings, left_out.get(row.text_encoder), maps, pooling)
            | {"reference": references[row.pooling or pooling]}
            for row, own, maps in zip(study.rows, settings_of, scores, strict=True)
        ],
    }


def check_study_plan(seeds: Sequence[int], num_frames: int, num_candidates: int) -> None:
    """Refuse arguments of run_study before anything is decoded or trained.

    Raises:
        UsageError: no seed, or K outside [1, T].
    """
    if not seeds:
        raise UsageError("no seed was given", wanted="at least one", fix="leave --seeds at its default")
    if not 1 <= num_frames <= num_candidates:
        raise UsageError(f"-k is {num_frames}", wanted=f"1 to {num_candidates}, the frames of a video", fix="try -k 5")


def _texts(
    rows: Sequence[StudyRow], data: StudyData, text_data: Callable[[str], StudyData] | None
) -> tuple[dict[str | None, StudyData], dict[str | None, str]]:
    """Load the data of each text encoder that the rows name; return it, and why some encoders have none."""
    found: dict[str | None, StudyData] = {None: data}
    left_out: dict[str | None, str] = {}
    for name in dict.fromkeys(row.text_encoder for row in rows if row.text_encoder is not None):
        if text_data is None:
            left_out[name] = "these features have embeddings of one text encoder only"
            continue
        try:
            found[name] = text_data(name)
        except WeightsError as error:
            left_out[name] = str(error)
    return found, left_out


def _scores(
    study: Study,
    settings_of: Sequence[HeadSettings],
    data_of: Mapping[str | None, StudyData],
    *,
    seeds: Sequence[int],
    num_frames: int,
    pooling: Pooling,
    device: torch.device | str,
    progress: Progress,
) -> list[list[dict[str, float]]]:
    """Compute mAP of each column, by row and seed; nothing for a row whose text encoder has no data."""
    groups: dict[tuple[HeadSettings, str | None], list[int]] = {}
    for number, (row, settings) in enumerate(zip(study.rows, settings_of, strict=True)):
        if row.text_encoder in data_of:
            trained = replace(settings, top_n=1, lambda_v=0.0)  # both matter after training only
            groups.setdefault((trained, row.text_encoder), []).append(number)
    scores: list[list[dict[str, float]]] = [[] for _ in study.rows]
    runs = [(group, seed) for group in groups for seed in seeds]
    for done, (group, seed) in enumerate(runs):

        def report_step(_what: str, step: int, steps: int, done: int = done) -> None:
            progress(study.name, done * steps + step, len(runs) * steps)

        data = data_of[group[1]]
        tsqnet = train_network(data, group[0], seed=seed, device=device, progress=report_step)
        output = predict(tsqnet, data.validation.visual, data.validation.textual)
        for number in groups[group]:
            row = study.rows[number]
            consensus = Consensus(pooling=row.pooling or pooling, multi_label=data.multi_label).changed(
                None, row.evidence
            )
            scores[number].append(_maps(output, data, settings_of[number], num_frames, consensus))
    return scores


def train_network(
    data: TrainingData,
    settings: HeadSettings,
    *,
    seed: int,
    device: torch.device | str = "cpu",
    progress: Progress = no_progress,
) -> TSQNet:
    """Train a network on a study's data; returns it in evaluation mode, on its device.

    Args:
        data: to train on.
        settings: the seed of their `fit` is replaced.
        seed: of the clips' order and of all random draws.
        device: to train on.
        progress: called after each step.

    Raises:
        UsageError: settings that do not fit each other or the data.
        TsqError: a loss that is not finite.
    """
    return train_heads(
        data.source(seed),
        replace(settings, fit=replace(settings.fit, seed=seed)),
        queries_visual=data.queries_visual,
        queries_textual=data.queries_textual,
        num_classes=data.num_classes,
        num_frames=data.num_candidates,
        multi_label=data.multi_label,
        device=device,
        progress=progress,
    )


def _maps(
    output: TSQNetOutput, data: StudyData, settings: HeadSettings, num_frames: int, consensus: Consensus
) -> dict[str, float]:
    """Compute mAP of recognition from K frames of each column's selector."""
    inputs = selector_input(
        module_saliency(output, top_n=settings.top_n, multi_label=data.multi_label),
        data.frame_logits.numpy(),
        data.validation.targets.bool().numpy(),
        settings=RuleSettings(lambda_v=settings.lambda_v),
        multi_label=data.multi_label,
        class_scores=(output.visual.logits, output.textual.logits),
    )
    return {column: _map(data, inputs, selector, num_frames, consensus) for column, selector in COLUMNS.items()}


def _references(data: StudyData, num_frames: int, pooling: Pooling) -> dict[str, float]:
    """Compute mAP of the selectors that use no saliency."""
    flat = torch.zeros(len(data.frame_logits), data.num_candidates, dtype=torch.float64)
    inputs = selector_input(
        (flat, flat),
        data.frame_logits.numpy(),
        data.validation.targets.bool().numpy(),
        multi_label=data.multi_label,
    )
    consensus = Consensus(pooling=pooling, multi_label=data.multi_label)
    return {selector: _map(data, inputs, selector, num_frames, consensus) for selector in REFERENCES}


def _map(
    data: StudyData, inputs: SelectorInput, selector: EvaluatedSelector, num_frames: int, consensus: Consensus
) -> float:
    scores = selected_scores(selector, inputs, data.frame_logits.numpy(), num_frames, consensus)
    return mean_average_precision(scores, inputs.targets)


def _row_report(
    row: StudyRow,
    is_default: bool,
    left_out: str | None,
    scores: Sequence[Mapping[str, float]],
    pooling: Pooling,
) -> dict[str, Any]:
    return {
        "name": row.name,
        "changes": dict(row.changes),
        "text_encoder": row.text_encoder,
        "pooling": row.pooling or pooling,
        "evidence": list(row.evidence),
        "is_default": is_default
        and row.text_encoder is None
        and row.pooling in (None, pooling)
        and not any(row.evidence),
        "paper": list(row.paper),
        "left_out": left_out,
        **{column: _mean_std([one[column] for one in scores]) if scores else None for column in COLUMNS},
    }


def _mean_std(values: Sequence[float]) -> dict[str, Any]:
    return {
        "mean": float(np.mean(values)),
        "sd": float(np.std(values, ddof=1)) if len(values) > 1 else None,
        "values": list(values),
    }
