"""A worker of a run on a cluster: an actor with its own model, which runs `batch.run` over a few videos per call."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tsq_cli.batch import RunPlan, Worker, failed
from tsq_cli.batch import run as run_batch
from tsq_cli.errors import ClusterError, TsqError, UsageError
from tsq_cli.journal import Death
from tsq_cli.loading import crash, find_killers
from tsq_cli.pictures import hashed_stem

if TYPE_CHECKING:
    import pyarrow as pa

MOST_BEGINNINGS = 5
"""Workers that may die with a call and with no video by itself before the run ends (ours)."""

MOST_DEATHS = 2
"""Workers that may die while they process a video by itself before it counts as the cause (ours)."""

Prepare = Callable[[], tuple[RunPlan, Callable[[], Worker]]]
"""Prepares the run anew on a worker: its plan, without videos, and the function that loads the model."""


class Actor:
    """A worker: loads its model when the first call comes that needs it, and keeps it."""

    def __init__(self, prepare: Prepare, settings_hash: str, folder: str, ledger: Any) -> None:
        with contextlib.suppress(OSError):  # a machine without it finds only absolute paths, and says so for each video
            os.chdir(folder)
        self._prepare, self._settings_hash, self._ledger = prepare, settings_hash, ledger
        self._worker: Worker | None = None

    @functools.cached_property
    def _prepared(self) -> tuple[RunPlan, Callable[[], Worker]]:
        plan, load = self._prepare()
        if plan.settings_hash != self._settings_hash:
            raise UsageError(
                "a worker would compute with other settings than the machine that started the run",
                wanted="the same version of tsq, packs and weights on all machines",
                fix="install the same version on each, and compare what tsq packs list says",
            )
        return plan, load

    def __call__(self, calls: pa.Table) -> dict[str, list[Any]]:
        """Process calls: lines of JSON for each, or the error that ends the run, pickled, since Ray would wrap it."""
        try:
            lines = [self._call(call["paths"], call["stems"]) for call in calls.to_pylist()]
        except TsqError as error:
            return {"records": [[]], "stopped": [pickle.dumps(error)]}
        return {"records": lines, "stopped": [b""] * len(lines)}

    def _call(self, names: Sequence[bytes], starts: Sequence[bytes]) -> list[str]:
        """Process the videos of a call; return their records as JSON."""
        import ray

        paths = [os.fsdecode(name) for name in names]
        # Not zip's strict: the names of a column come without.
        stems = {path: os.fsdecode(s) for path, s in zip(paths, starts, strict=False)}
        stems = {path: stems.get(path) or hashed_stem(path) for path in paths}
        deaths = ray.get(self._ledger.begin.remote(paths))
        records = self._run(paths, stems) if deaths is None else self._run_carefully(paths, stems, deaths)
        lines = [json.dumps(record) for record in records]
        ray.get(self._ledger.end.remote(paths))
        return lines

    def _run(self, paths: Sequence[str], stems: Mapping[str, str]) -> Iterator[dict[str, Any]]:
        return run_batch(replace(self._prepared[0], paths=paths, stems=stems), self._model)

    def _run_carefully(
        self, paths: Sequence[str], stems: Mapping[str, str], deaths: Mapping[str | None, int]
    ) -> Iterator[dict[str, Any]]:
        """Process a call's videos one by one after a worker died of it, but not those that kill what reads them."""
        import ray

        if deaths.get(None, 0) > MOST_BEGINNINGS:
            raise ClusterError(
                f"{deaths[None]} workers died while they loaded the model, or began a call",
                wanted="room for the model on each worker",
                fix="take --num-workers down, or --cpus-per-worker up",
            )
        self._model()  # what dies while it is loaded must not be taken for a video's doing
        killers = find_killers(Death(tuple(paths), None), self._prepared[0].limits)
        for path in paths:
            if path not in killers and deaths.get(path, 0) < MOST_DEATHS:
                ray.get(self._ledger.alone.remote(paths, path))
                yield from self._run([path], stems)
            else:
                error = killers.get(path) or crash(path, f"{deaths[path]} workers died of it")
                yield failed(path, error, self._prepared[0]).to_dict()

    def _model(self) -> Worker:
        if self._worker is None:
            self._worker = self._prepared[1]()
        return self._worker


class Ledger:
    """Journal of a run on a cluster: the calls that workers have begun and not ended; it outlives each worker."""

    def __init__(self) -> None:
        self._calls: dict[tuple[str, ...], tuple[str | None, dict[str | None, int]]] = {}

    def begin(self, paths: Sequence[str]) -> dict[str | None, int] | None:
        """Note a call. If it was begun before and not ended, return how many workers died with which video alone.

        None stands for those that died before any was alone.
        """
        only = paths[0] if len(paths) == 1 else None
        before = self._calls.get(tuple(paths))
        if before is None:
            self._calls[tuple(paths)] = only, {}
            return None
        alone, deaths = before
        deaths[alone] = deaths.get(alone, 0) + 1
        self._calls[tuple(paths)] = None, deaths
        return deaths

    def alone(self, paths: Sequence[str], path: str) -> None:
        """Note the one video of a call that is processed now."""
        _, deaths = self._calls.get(tuple(paths), (None, {}))
        self._calls[tuple(paths)] = path, deaths

    def end(self, paths: Sequence[str]) -> None:
        """Forget a call."""
        self._calls.pop(tuple(paths), None)  # Ray may have run it twice at once, where it took a worker for dead
