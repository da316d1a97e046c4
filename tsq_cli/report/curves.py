"""Plot the curves of a training with matplotlib (extra tsq-cli[train])."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tsq_cli.printable import printable
from tsq_cli.report.figures import new_figure, save_figure

_LOSSES, _MEASURES = "loss", "measured, validation"


def plot_curves(rows: Sequence[Mapping[str, float]], path: Path, *, title: str) -> None:
    """Draw losses and, beside them, validation measures over the epochs.

    Args:
        rows: one per epoch, at least one: "epoch", "train.<part>", "val.<measure>", and "kept", 1 in the one to mark
            (see tsq_cli.training.fit.History).
        path: of the PNG.
        title: of the picture.

    Raises:
        OutputError: the file cannot be written.
    """
    epochs = [row["epoch"] for row in rows]
    panels = {_LOSSES: [name for name in rows[0] if name.startswith("train.") or name.endswith("loss")]}
    panels[_MEASURES] = [name for name in rows[0] if name.startswith("val.") and name not in panels[_LOSSES]]
    panels = {label: names for label, names in panels.items() if names}
    figure = new_figure(4.5 * len(panels), 3.2)
    figure.suptitle(printable(title, 80), fontsize=10, x=0.01, ha="left", parse_math=False)
    drawn: Any = figure.subplots(1, len(panels), squeeze=False)[0]
    kept = [row["epoch"] for row in rows if row.get("kept")]
    for axes, (label, names) in zip(drawn, panels.items(), strict=True):
        for name in names:
            part, _, quantity = name.partition(".")
            axes.plot(
                epochs,
                [row[name] for row in rows],
                label=quantity.replace("_", " ") + (", validation" if part == "val" and label == _LOSSES else ""),
                linewidth=2.0 if name == "train.loss" else 1.2,
                linestyle="--" if part == "val" and label == _LOSSES else "-",
                marker="o" if len(rows) == 1 else None,
            )
        for epoch in kept:
            axes.axvline(epoch, color="gray", linewidth=0.8, label="kept")
        axes.set_xlabel("epoch", fontsize=8)
        axes.set_ylabel(label, fontsize=8)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(fontsize=7, frameon=False)
    save_figure(figure, path)
