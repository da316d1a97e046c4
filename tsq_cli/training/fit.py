"""The one training loop: it fits a TrainingTask by FitSettings and returns a History."""

from __future__ import annotations

import csv
import json
import math
import pickle
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tsq_cli.errors import TsqError, UsageError, WeightsError, one_line
from tsq_cli.files import atomic_path, remove_leftovers, write_json
from tsq_cli.training import distributed
from tsq_cli.training.settings import FitSettings
from tsq_cli.types import Progress, no_progress

CHECKPOINT, LOG_CSV, LOG_JSON = "checkpoint.pt", "log.csv", "log.json"


class TrainingTask(ABC):
    """A network, its training batches and its loss.

    Attributes:
        model: on its device; parameters that need no gradient are not trained.
        batches_per_epoch: number of batches that `batches` yields, the same in every epoch and process.
    """

    model: nn.Module
    batches_per_epoch: int

    @abstractmethod
    def batches(self, epoch: int) -> Iterator[Any]:
        """Yield this process' batches of an epoch (from 0), always the same (see distributed.shuffled_batches)."""

    @abstractmethod
    def losses(self, batch: Any) -> dict[str, Tensor]:
        """Compute scalars by name: "loss" is minimized; the other entries are its components, for the log.

        Draws from torch's global generator differ between epochs and are repeated after a resume.
        """

    def validate(self) -> dict[str, float]:
        """Compute metrics after an epoch; called in the main process, in evaluation mode, without gradients.

        The one named "map" decides which epoch is the best, of equal ones "top1", then the lowest "loss".
        """
        return {}

    def lr_scale(self, _name: str) -> float:
        """Learning rate of a named parameter, as a multiple of the run's."""
        return 1.0


@dataclass(frozen=True)
class History:
    """The log of a training, one row per epoch.

    Attributes:
        rows: epoch (from 1), learning_rate (of its last step), seconds, train.<component> (means over its steps in this
            process) and val.<metric>.
    """

    rows: list[dict[str, float]] = field(default_factory=list)

    @property
    def best_epoch(self) -> int | None:
        """The epoch of the largest val.map, then val.top1, then the lowest val.loss, then the first; None without any.

        On few videos the ranking behind mAP is perfect after an epoch or two, when no class is clear of the others yet.
        """

        def quality(row: dict[str, float]) -> tuple[float, float, float]:
            return row["val.map"], row.get("val.top1", 0.0), -row.get("val.loss", 0.0)

        scored = [row for row in self.rows if math.isfinite(row.get("val.map", math.nan))]
        return int(max(scored, key=quality)["epoch"]) if scored else None

    def write(self, folder: Path, *, mark_best: bool = False) -> None:
        """Write log.csv and log.json; marked, the rows have `kept`, 1 for the best epoch so far, 0 for the others."""
        best = self.best_epoch if mark_best else None
        rows = self.rows if best is None else [{**row, "kept": float(row["epoch"] == best)} for row in self.rows]
        columns = list(dict.fromkeys(name for row in rows for name in row))
        with atomic_path(folder / LOG_CSV) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        write_json(folder / LOG_JSON, rows)


def fit(
    task: TrainingTask,
    settings: FitSettings,
    folder: Path | None,
    *,
    identity: Mapping[str, Any] | None = None,
    what: str = "training",
    progress: Progress = no_progress,
) -> History:
    """Train a task's model in place, and leave it in evaluation mode.

    A checkpoint and the logs are written after every epoch. A run that finds its own checkpoint continues from there
    with the result of an uninterrupted run (on a CPU bit for bit); a finished run returns at once.

    The model ends with the weights of the best epoch, where the task measures "map" and the settings do not ask for the
    last one. Patience ends a run early, somewhere on the way down of its learning rate.

    Args:
        task: network, batches and loss.
        settings: of the optimization.
        folder: for checkpoint and logs; None writes and resumes nothing.
        identity: JSON-ready, everything else that decides the result: a checkpoint of another identity is refused.
        what: name of the run in progress and errors.
        progress: called with epoch and loss after every step.

    Raises:
        TsqError: a loss or a gradient that is not finite.
        UsageError: the folder holds a checkpoint of other settings.
        WeightsError: the checkpoint is damaged.
        OutputError: a file cannot be written.
    """
    run = _Fit(task, settings, what)
    key = json.dumps({"fit": asdict(settings), **(identity or {})}, sort_keys=True)
    if folder is not None and distributed.is_main_process():
        remove_leftovers(folder)
    if folder is not None and (folder / CHECKPOINT).exists():
        run.resume(folder / CHECKPOINT, key)
    with torch.random.fork_rng(devices=[run.device] if run.device.type == "cuda" else []):
        while (epoch := len(run.history.rows)) < settings.epochs and not run.has_waited_enough():
            torch.manual_seed(distributed.epoch_seed(settings.seed, epoch) + distributed.rank())
            run.history.rows.append(run.epoch(epoch, progress))
            run.remember()
            if folder is not None and distributed.is_main_process():
                run.save(folder / CHECKPOINT, key)
                run.history.write(folder, mark_best=settings.keep == "best")
            distributed.wait_for_all()
    if run.best is not None:
        task.model.load_state_dict(run.best)
    task.model.eval()
    return run.history


class _Fit:
    """A task with its optimizer and its history so far."""

    def __init__(self, task: TrainingTask, settings: FitSettings, what: str) -> None:
        self.task, self.settings, self.what = task, settings, what
        self.history = History()
        self.best: dict[str, Tensor] | None = None  # the weights of the best epoch, if they are to be kept
        self.device = next(task.model.parameters()).device
        self.dtype = _precision(settings.precision, self.device)
        self.network: nn.Module = _Losses(task)
        if distributed.num_processes() > 1:
            devices = [self.device] if self.device.type == "cuda" else None
            self.network = nn.parallel.DistributedDataParallel(self.network, device_ids=devices)
        self.parameters = [p for p in task.model.parameters() if p.requires_grad]
        self.optimizer = _optimizer(task, settings)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.dtype == torch.float16)

    def epoch(self, epoch: int, progress: Progress) -> dict[str, float]:
        """Train for one epoch, validate, and return the epoch's row of the history."""
        begin = time.perf_counter()
        sums: dict[str, float] = {}
        per_epoch = self.task.batches_per_epoch
        self.network.train()
        for step, batch in enumerate(self.task.batches(epoch)):
            learning_rate = self._set_learning_rate(epoch * per_epoch + step)
            parts = self._step(batch, f"epoch {epoch + 1}, step {step + 1}")
            sums = {name: sums.get(name, 0.0) + value for name, value in parts.items()}
            progress(
                f"{self.what}: epoch {epoch + 1} of {self.settings.epochs}, loss {sums['loss'] / (step + 1):.4f}",
                epoch * per_epoch + step + 1,
                self.settings.epochs * per_epoch,
            )
        row = {"epoch": float(epoch + 1), "learning_rate": learning_rate}
        row |= {f"train.{name}": value / per_epoch for name, value in sums.items()}
        self.network.eval()
        metrics: dict[str, float] = {}
        if distributed.is_main_process():
            with torch.no_grad():
                metrics = self.task.validate()
        # All processes keep the same epoch, and stop after the same one.
        row |= {f"val.{name}": value for name, value in distributed.from_main_process(metrics).items()}
        return row | {"seconds": time.perf_counter() - begin}

    def remember(self) -> None:
        """Copy the weights of the epoch that has just ended, if it is the best so far and that one is to be kept."""
        if self.settings.keep == "best" and self.history.best_epoch == len(self.history.rows):
            self.best = {name: value.detach().clone() for name, value in self.task.model.state_dict().items()}

    def has_waited_enough(self) -> bool:
        """Whether the last epochs, as many as the settings' patience, were no better than one before them."""
        best = self.history.best_epoch
        return best is not None and 0 < self.settings.patience <= len(self.history.rows) - best

    def _step(self, batch: Any, where: str) -> dict[str, float]:
        self.optimizer.zero_grad()
        with torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype != torch.float32):
            losses: dict[str, Tensor] = self.network(batch)
        names = list(losses)
        # One transfer for all values: the only wait for the device in a step.
        values = torch.stack([losses[name].detach().float() for name in names]).tolist()
        parts = dict(zip(names, values, strict=True))
        if not all(map(math.isfinite, values)):
            raise self._diverged(where, ", ".join(f"{name} {value:.4g}" for name, value in parts.items()))
        torch.autograd.backward(self.scaler.scale(losses["loss"]))
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self.parameters, self.settings.clip_norm or math.inf)
        if not self.scaler.is_enabled() and not norm.isfinite():  # a scaler skips such a step and lowers its scale
            raise self._diverged(where, f"a gradient of norm {norm.item()}")
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return parts

    def _set_learning_rate(self, step: int) -> float:
        per_epoch = self.task.batches_per_epoch
        share = learning_rate_share(
            step, self.settings.epochs * per_epoch, round(self.settings.warmup_epochs * per_epoch)
        )
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.learning_rate * share * group["lr_scale"]
        return self.settings.learning_rate * share

    def _diverged(self, where: str, what: str) -> TsqError:
        return TsqError(
            f"{self.what} diverged in {where}: {what}",
            wanted="finite losses and gradients",
            fix="lower the learning rate, or train in float32, into another folder",
        )

    def save(self, path: Path, key: str) -> None:
        """Write the checkpoint."""
        with atomic_path(path) as temporary:
            torch.save(
                {
                    "key": key,
                    "model": self.task.model.state_dict(),
                    "optimizer": self.optimizer.state_dict(),
                    "scaler": self.scaler.state_dict(),
                    "rows": self.history.rows,
                    "best": self.best,
                },
                temporary,
            )

    def resume(self, path: Path, key: str) -> None:
        """Continue from a checkpoint.

        Raises:
            WeightsError: the checkpoint is damaged.
            UsageError: it is of other settings.
        """
        try:
            saved = torch.load(path, weights_only=True, map_location=self.device)
            other = saved["key"]
        except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, TypeError) as error:
            raise WeightsError(
                f"{path} is no checkpoint: {one_line(error)[:200]}", wanted="one that tsq wrote", fix="remove it"
            ) from error
        if other != key:
            raise UsageError(
                f"{path} has other settings: {_difference(json.loads(other), json.loads(key))}",
                wanted="the settings that the run began with",
                fix="restore them, or train into another folder",
            )
        self.task.model.load_state_dict(saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.scaler.load_state_dict(saved["scaler"])
        self.history.rows.extend(saved["rows"])
        self.best = saved["best"]


class _Losses(nn.Module):
    """A task's losses as a forward pass, which DistributedDataParallel can wrap."""

    def __init__(self, task: TrainingTask) -> None:
        super().__init__()
        self.model = task.model
        self._task = task

    def forward(self, batch: Any) -> dict[str, Tensor]:
        return self._task.losses(batch)


def learning_rate_share(step: int, num_steps: int, num_warmup: int) -> float:
    """Compute the share of the learning rate at a step: linear warm-up, then half a cosine, never 0.

    Args:
        step: counted from 0, below num_steps.
        num_steps: of the run.
        num_warmup: of the warm-up; the share is 1 at its last step.
    """
    if step < num_warmup:
        return (step + 1) / num_warmup
    return 0.5 * (1.0 + math.cos(math.pi * (step - num_warmup) / max(1, num_steps - num_warmup)))


def _optimizer(task: TrainingTask, settings: FitSettings) -> torch.optim.Optimizer:
    """Build the optimizer, with a parameter group per learning rate and weight decay.

    Vectors (biases and weights of norms) have no weight decay.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in task.model.named_parameters():
        if parameter.requires_grad:
            decay = settings.weight_decay if parameter.ndim > 1 else 0.0
            groups.setdefault((task.lr_scale(name), decay), []).append(parameter)
    options = [
        {"params": parameters, "lr_scale": scale, "weight_decay": decay}
        for (scale, decay), parameters in groups.items()
    ]
    if settings.optimizer == "sgd":
        return torch.optim.SGD(options, lr=settings.learning_rate, momentum=0.9, nesterov=True)
    return torch.optim.AdamW(options, lr=settings.learning_rate)


def _precision(name: str, device: torch.device) -> torch.dtype:
    if name == "auto":
        if device.type != "cuda":
            return torch.float32
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[name]


def _difference(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> str:
    """List the values that differ, by dotted name."""
    found = []
    for name in sorted({*old, *new}):
        before, now = old.get(name), new.get(name)
        if isinstance(before, dict) and isinstance(now, dict):
            found.append(_difference(before, now, f"{prefix}{name}."))
        elif before != now:
            found.append(f"{prefix}{name} was {before}, now {now}")
    return "; ".join(part for part in found if part)
