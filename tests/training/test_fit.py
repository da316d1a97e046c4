from __future__ import annotations

import csv
import json
import math
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tsq_cli.errors import TsqError, UsageError, WeightsError
from tsq_cli.training import distributed
from tsq_cli.training.fit import CHECKPOINT, LOG_CSV, LOG_JSON, TrainingTask, fit, learning_rate_share
from tsq_cli.training.settings import FitSettings

SETTINGS = FitSettings(epochs=4, batch_size=8, learning_rate=0.05, warmup_epochs=1, seed=3)


class Blobs(TrainingTask):
    """Two clouds of points; dropout, so that the order of random numbers matters."""

    def __init__(self, *, dropout: float = 0.3, stop_after: int | None = None, poison: int | None = None) -> None:
        torch.manual_seed(0)
        self.labels = torch.arange(30) % 2
        self.points = torch.randn(30, 5) + 3.0 * self.labels[:, None]
        self.model = nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.Dropout(dropout), nn.Linear(8, 2))
        self.batches_per_epoch = distributed.batches_per_epoch(30, 8)
        self._stop_after, self._poison = stop_after, poison
        self.modes: list[bool] = []

    def batches(self, epoch: int) -> Iterator[Tensor]:
        for step, chosen in enumerate(distributed.shuffled_batches(30, 8, seed=3, epoch=epoch)):
            if self._stop_after == epoch and step == 1:
                raise KeyboardInterrupt
            if self._poison == epoch:
                self.points[chosen[0]] = math.nan
            yield chosen

    def losses(self, chosen: Tensor) -> dict[str, Tensor]:
        self.modes.append(self.model.training)
        loss = nn.functional.cross_entropy(self.model(self.points[chosen]), self.labels[chosen])
        return {"loss": 2 * loss, "part": loss}

    def validate(self) -> dict[str, float]:
        self.modes.append(self.model.training)
        return {"accuracy": float((self.model(self.points).argmax(dim=1) == self.labels).float().mean())}


def _weights(task: TrainingTask) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in task.model.state_dict().items()}


def _same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


def test_it_learns_and_says_how_it_went(tmp_path: Path) -> None:
    task, told = Blobs(dropout=0.0), []
    history = fit(task, SETTINGS, tmp_path, progress=lambda *news: told.append(news), what="blobs")
    assert history.rows[-1]["val.accuracy"] == 1.0
    assert history.rows[-1]["train.loss"] < 0.5 * history.rows[0]["train.loss"]
    assert history.rows[-1]["train.loss"] == pytest.approx(2 * history.rows[-1]["train.part"])
    assert [row["epoch"] for row in history.rows] == [1, 2, 3, 4]
    # 30 items in batches of 8 are four steps: the fourth of the warm-up is at the full rate
    assert history.rows[0]["learning_rate"] == 0.05
    assert told[-1][1:] == (16, 16)
    assert told[-1][0].startswith("blobs: epoch 4 of 4, loss 0.")
    assert task.modes == ([True] * 4 + [False]) * 4
    assert not task.model.training
    assert json.loads((tmp_path / LOG_JSON).read_text()) == history.rows
    with (tmp_path / LOG_CSV).open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [float(row["val.accuracy"]) for row in rows] == [row["val.accuracy"] for row in history.rows]


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_resumed_run_ends_as_the_uninterrupted_one_bit_for_bit(tmp_path: Path, optimizer: str) -> None:
    settings = replace(SETTINGS, optimizer=optimizer)
    whole = Blobs()
    start = _weights(whole)
    history = fit(whole, settings, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        fit(Blobs(stop_after=2), settings, tmp_path / "cut")
    resumed = Blobs()
    torch.rand(7)  # wherever the generator of the new process stands
    again = fit(resumed, settings, tmp_path / "cut")
    assert resumed.modes.count(True) == 2 * 4, "two epochs were left"
    assert not _same(start, _weights(whole))
    assert _same(_weights(whole), _weights(resumed))
    for row, other in zip(history.rows, again.rows, strict=True):
        assert {**row, "seconds": 0} == {**other, "seconds": 0}


def test_a_finished_run_is_only_read(tmp_path: Path) -> None:
    first = Blobs()
    fit(first, SETTINGS, tmp_path)
    second = Blobs()
    history = fit(second, SETTINGS, tmp_path)
    assert len(history.rows) == 4
    assert second.modes == []
    assert _same(_weights(first), _weights(second))


class Scored(Blobs):
    """Blobs whose validation finds these mAPs, one per epoch, and keeps the weights that it saw."""

    def __init__(self, maps: Sequence[float], *, others: dict[str, Sequence[float]] | None = None, **options: Any):
        super().__init__(**options)
        self.seen: list[dict[str, Tensor]] = []
        self._measures, self._epoch = {"map": maps, **(others or {})}, 0

    def batches(self, epoch: int) -> Iterator[Tensor]:
        self._epoch = epoch
        return super().batches(epoch)

    def validate(self) -> dict[str, float]:
        self.seen.append(_weights(self))
        return {name: values[self._epoch] for name, values in self._measures.items()}


@pytest.mark.parametrize(
    ("task", "kept"),
    [
        (Scored([0.1, 0.4, 0.3, 0.2]), 2),
        (Scored([0.1, 0.4, 0.4, 0.4]), 2),
        (Scored([0.1, 0.2, 0.3, 0.4]), 4),
        (Scored([math.nan, 0.2, 0.2, math.nan]), 2),
        (Scored([0.1, 0.4, 0.4, 0.4], others={"top1": [1, 0.5, 0.6, 0.6]}), 3),
        (Scored([1, 1, 1, 1], others={"top1": [0.5, 1, 1, 1], "loss": [0.1, 0.9, 0.4, 0.4]}), 3),
    ],
)
def test_the_best_epoch_is_kept_and_of_equal_ones_the_first(task: Scored, kept: int, tmp_path: Path) -> None:
    history = fit(task, SETTINGS, tmp_path)
    assert len(task.seen) == 4, "it trains on to the end"
    assert not _same(task.seen[0], task.seen[1])
    assert _same(_weights(task), task.seen[kept - 1])
    assert history.best_epoch == kept
    rows = json.loads((tmp_path / LOG_JSON).read_text())
    assert [row["kept"] for row in rows] == [float(epoch == kept) for epoch in (1, 2, 3, 4)]
    with (tmp_path / LOG_CSV).open(newline="") as stream:
        assert [row["epoch"] for row in csv.DictReader(stream) if row["kept"] == "1.0"] == [f"{kept}.0"]


def test_the_last_epoch_is_kept_where_that_is_asked_for_or_nothing_tells_a_better_one(tmp_path: Path) -> None:
    asked, untold = Scored([0.4, 0.1, 0.1, 0.1]), Blobs()
    fit(asked, replace(SETTINGS, keep="last"), tmp_path / "asked")
    assert _same(_weights(asked), asked.seen[-1])
    fit(untold, SETTINGS, tmp_path / "untold")  # it measures accuracy, and no mAP
    assert _same(_weights(untold), asked.seen[-1])
    for folder in ("asked", "untold"):
        assert "kept" not in json.loads((tmp_path / folder / LOG_JSON).read_text())[-1]


@pytest.mark.parametrize("best", [1, 2, 3, 4])
def test_a_resumed_run_keeps_the_best_epoch_of_before_bit_for_bit(tmp_path: Path, best: int) -> None:
    maps = [0.9 if epoch == best else 0.1 for epoch in (1, 2, 3, 4)]
    whole = Scored(maps)
    fit(whole, SETTINGS, None)
    with pytest.raises(KeyboardInterrupt):
        fit(Scored(maps, stop_after=2), SETTINGS, tmp_path)
    resumed, again = Scored(maps), Scored(maps)
    fit(resumed, SETTINGS, tmp_path)
    assert len(resumed.seen) == 2
    assert _same(_weights(whole), _weights(resumed))
    fit(again, SETTINGS, tmp_path)
    assert again.seen == [], "a finished run is only read"
    assert _same(_weights(whole), _weights(again))


def test_patience_ends_a_run_that_gets_no_better(tmp_path: Path) -> None:
    settings = replace(SETTINGS, epochs=7, patience=2)
    maps = [0.2, 0.1, 0.3, 0.3, 0.2, 0.9, 0.9]  # epochs 4 and 5 are no better than 3
    task = Scored(maps)
    history = fit(task, settings, tmp_path)
    assert (len(history.rows), history.best_epoch) == (5, 3)
    assert _same(_weights(task), task.seen[2])
    again = Scored(maps)
    assert len(fit(again, settings, tmp_path).rows) == 5
    assert again.seen == [], "where it ended, it stays"
    assert len(fit(Scored(maps), replace(settings, patience=3), None).rows) == 7
    assert len(fit(Scored(maps), replace(settings, patience=0), None).rows) == 7
    assert len(fit(Blobs(), settings, None).rows) == 7, "nothing to be patient with"


def test_the_callers_random_numbers_are_left_alone() -> None:
    torch.manual_seed(5)
    wanted = torch.rand(3)
    task = Blobs()
    torch.manual_seed(5)
    fit(task, replace(SETTINGS, epochs=1), None)
    assert torch.equal(torch.rand(3), wanted)


def test_a_checkpoint_of_other_settings_is_refused_by_name(tmp_path: Path) -> None:
    fit(Blobs(), replace(SETTINGS, epochs=1), tmp_path, identity={"heads": {"alpha": 0.6}})
    with pytest.raises(UsageError, match=r"heads\.alpha was 0\.6, now 0\.2"):
        fit(Blobs(), replace(SETTINGS, epochs=1), tmp_path, identity={"heads": {"alpha": 0.2}})
    with pytest.raises(UsageError, match=r"fit\.epochs was 1, now 4"):
        fit(Blobs(), SETTINGS, tmp_path, identity={"heads": {"alpha": 0.6}})


def test_a_checkpoint_is_read_as_weights_only(tmp_path: Path) -> None:
    (tmp_path / CHECKPOINT).write_bytes(b"nothing")
    with pytest.raises(WeightsError, match="no checkpoint"):
        fit(Blobs(), SETTINGS, tmp_path)
    torch.save({"key": Path("harm")}, tmp_path / CHECKPOINT)  # an object that only a full unpickler would build
    with pytest.raises(WeightsError, match="no checkpoint"):
        fit(Blobs(), SETTINGS, tmp_path)


def test_a_loss_that_is_not_finite_stops_with_its_place_and_parts(tmp_path: Path) -> None:
    with pytest.raises(TsqError, match=r"blobs diverged in epoch 3, step 1: loss nan, part nan"):
        fit(Blobs(poison=2), SETTINGS, tmp_path, what="blobs")
    assert len(json.loads((tmp_path / LOG_JSON).read_text())) == 2, "whole epochs are kept"


def test_a_gradient_that_is_not_finite_stops_too() -> None:
    class Steep(Blobs):
        def losses(self, chosen: Tensor) -> dict[str, Tensor]:
            return {"loss": (self.model[0].weight * 0.0).sum().sqrt()}  # 0 with an infinite slope

    with pytest.raises(TsqError, match="a gradient of norm nan"):
        fit(Steep(), SETTINGS, None)


def test_the_rate_rises_in_a_line_and_falls_as_a_cosine() -> None:
    shares = [learning_rate_share(step, 8, 4) for step in range(8)]
    assert shares == pytest.approx([0.25, 0.5, 0.75, 1, 1, 0.5 + math.sqrt(0.125), 0.5, 0.5 - math.sqrt(0.125)])
    assert learning_rate_share(0, 1, 0) == 1


def test_parameters_may_learn_at_their_own_rate_or_not_at_all() -> None:
    class Partly(Blobs):
        def lr_scale(self, name: str) -> float:
            return 0.0 if name.startswith("0.") else 1.0

    task = Partly()
    task.model[3].bias.requires_grad_(False)
    before = _weights(task)
    fit(task, replace(SETTINGS, epochs=1), None)
    moved = {name for name, value in _weights(task).items() if not torch.equal(value, before[name])}
    assert moved == {"1.weight", "1.bias", "1.running_mean", "1.running_var", "1.num_batches_tracked", "3.weight"}


def test_only_matrices_decay() -> None:
    class Still(Blobs):
        def losses(self, chosen: Tensor) -> dict[str, Tensor]:
            return {"loss": sum(0.0 * parameter.sum() for parameter in self.model.parameters())}

    task = Still()
    nn.init.ones_(task.model[0].bias)
    before = _weights(task)
    fit(task, replace(SETTINGS, epochs=1, weight_decay=0.1), None)
    after = _weights(task)
    # AdamW takes rate * decay of each weight a step; the rates of the warm-up are 1/4, 2/4, 3/4 and 1 times 0.05
    shrunk = math.prod(1 - 0.05 * share * 0.1 for share in (0.25, 0.5, 0.75, 1))
    torch.testing.assert_close(after["0.weight"], before["0.weight"] * shrunk)
    assert torch.equal(after["0.bias"], before["0.bias"])
    assert torch.equal(after["1.weight"], before["1.weight"])


def test_bfloat16_is_for_the_activations_only() -> None:
    task, seen = Blobs(), set()
    task.model[0].register_forward_hook(lambda *args: seen.add(args[2].dtype))
    fit(task, replace(SETTINGS, epochs=1, precision="bfloat16"), None)
    assert seen == {torch.bfloat16, torch.float32}  # in training, and in validation, which is exact
    assert {p.dtype for p in task.model.parameters()} == {torch.float32}


def test_an_epoch_visits_every_item_once_in_its_own_order() -> None:
    epochs = [torch.cat(list(distributed.shuffled_batches(30, 8, seed=1, epoch=epoch))) for epoch in (0, 1, 0)]
    assert [sorted(order.tolist()) for order in epochs] == [list(range(30))] * 3
    assert torch.equal(epochs[0], epochs[2])
    assert not torch.equal(epochs[0], epochs[1])
    assert len(list(distributed.shuffled_batches(30, 8, seed=1, epoch=0))) == distributed.batches_per_epoch(30, 8) == 4


def train_beside_others(folder: Path) -> dict[str, Tensor]:
    """Run in each of several processes: take its turn with the files, then train."""
    with distributed.joined_processes("cpu"):
        for _ in distributed.rank_zero_first():
            with (folder / "turns").open("a") as stream:
                stream.write(str(distributed.rank()))
        task = _without_batch_norm()
        fit(task, replace(SETTINGS, epochs=4, patience=1), folder)
        return _weights(task)


def _without_batch_norm() -> Scored:
    task = Scored([0.2, 0.3, 0.1, 0.4], dropout=0.0)  # the second is kept, the third the last: all must agree on that
    task.model[1] = nn.Identity()  # a batch norm would see each process' part of a batch alone
    return task


_SECOND = """
import sys
from pathlib import Path
import torch
from tests.training.test_fit import train_beside_others
torch.set_num_threads(1)
torch.save(train_beside_others(Path(sys.argv[1])), sys.argv[2])
"""


def test_two_processes_train_as_one_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    launched = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}  # as torchrun sets them
    second = subprocess.Popen(
        [sys.executable, "-c", _SECOND, str(tmp_path), str(tmp_path / "second.pt")],
        env={**os.environ, **launched, "RANK": "1"},
        cwd=Path(__file__).parents[2],
    )
    for name, value in {**launched, "RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    first = train_beside_others(tmp_path)
    assert second.wait(timeout=100) == 0
    alone = _without_batch_norm()
    fit(alone, replace(SETTINGS, epochs=4, patience=1), None)
    assert len(alone.seen) == 3
    assert (tmp_path / "turns").read_text() == "01"
    for weights in (first, torch.load(tmp_path / "second.pt", weights_only=True)):
        torch.testing.assert_close(weights, _weights(alone))
