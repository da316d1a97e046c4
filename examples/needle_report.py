"""Markdown report of examples/needle.py."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from needle_measure import ALL_SCORED
from needle_videos import VARIANTS

INTRODUCTION = """\
Written by `examples/needle.py`, which composes the videos and says how; the numbers are also in `needle.json`. Each
video is a real H.264 file of 16 shots, one photograph per class, so that every candidate falls into its own shot:

- plain: 2 of 16 shots show the event, 14 others another class each; slow zooms and crops of 0.6-1 of the width.
- hard: the event's two shots are mirrored at random, cropped to 0.35-0.7 and recolored.
- long: 4 of 16 shots show the event.
- blanks: as plain, and 5 of the 14 others are title cards, plain colors, dark or blurred pictures.
- lone: 1 shot shows the event, the 15 others are such blank pictures (blurred and dark ones still show a little).

There is one photograph per class, so the event's shots are views of the same photograph: easier than the same class
filmed twice. Classes are split in half at random: settings were chosen on one half, results come from the other. In
brackets: number of videos, and the 95 % interval of the mean over resampled videos (the 100 or so photographs behind
them are shared, so the interval is for these photographs). Random is the mean of 20 draws per video. Accuracy is top-1
among ImageNet's 1000 classes with the pack's own classifier, which sees the chosen frames at its own 224 pixels
whatever the sampler sees: what `tsq classify --recognizer embedded` says of each way to choose frames. All rows of a
table make a video of its frames in one way (method.md, section 5), which decides as much as the choice does. S^v and
the sampler's own class scores can count only in rows that run it: fused, VQM, TQM and "all 16, with the sampler's
scores". "Two that agree" and both rows of all 16 have the classifier look at 16 frames, the others at five.

These are photographs of ImageNet classes, and the network very probably saw them, with their labels, when it was
trained: expect less on pictures that it has not seen. The settings were not chosen on the half that is reported. The
commands, PHOTOS being a folder of one photograph per class:

    python examples/needle.py compose --photos PHOTOS --videos /tmp/needle --count 60
    python examples/needle.py tune --videos /tmp/needle --json tuning.json \\
        --input-sizes 96 112 128 144 160 192 224
    python examples/needle.py evaluate --videos /tmp/needle --tuning tuning.json --json docs/needle.json \\
        --markdown docs/needle.md"""


STEPS = """\
The first rows go from plain TSQ layers to the pack, one change after the other; the others vary one setting of the
pack. "Own strength counts" (competition_weight below 1) costs recall here and is kept for something these videos do not
measure: among the frames of one event, the clearer ones come first."""


SIZES = """\
The sampler finds frames and the recognizer names them, so the sampler need not see as much. The smaller the picture,
the larger this network's logits: each size has the competition_floor and visual_scale that serve it best among 16
pairs in units of its own logits, by mean recall over the five kinds of video; the other settings are the pack's. Cost
is that of the sampler's one network for the 16 candidates. Accuracy, by the recognizer at its own size, is a mean
over the five kinds too; below the table, that of frames chosen without a sampler. In these photographs the object is
large: where it is small in the picture, small sizes will lose more than they do here."""


HELD_OUT_POOLINGS = """\
Nothing was chosen by this table; the pack's own way is its first row. e_v and e_t are the weights of the sampler's own
class scores (evidence). Means are over the five kinds of video."""


POOLINGS = """\
Accuracy of the fused rule's five frames on each kind of video, then means over the kinds, of every pooling with some
weights of evidence (e_v of VQM's class scores, e_t of TQM's). One video of a kind is 0.8 or 1.7 points: rows within two
points of each other are level. Among the level ones the pack has one that also serves ordinary clips (words.md): the
evidence is for those, where it adds two points, and for names, of which fewer are wrong."""


EXIT = """\
`--early-exit`: the five frames, best first, until the class has a probability of {bar:g}, the level from which a name
is shown (words.md). Temperatures and bar are of the tuning classes."""


LOWEST_BAR = """\
All tuning videos together would let the bar of the early exit be as low as {lowest_bar:.2f}, where one frame decides
nearly always: what that loses on some kinds of video it gains on others, and it seldom reaches the level of a name. The
bar is that level, {bar:g}."""


def markdown_table(results: Mapping[str, Any], score: str) -> list[str]:
    """Build one table, with a row per selector and a column per variant: mean and 95 % interval in percent."""
    variants = results["variants"]
    lines = ["| | " + " | ".join(f"{name} ({variants[name]['videos']})" for name in variants) + " |"]
    lines.append("|---" * (len(variants) + 1) + "|")
    for way in next(iter(variants.values()))["ways"]:
        cells = [variants[name]["ways"][way].get(score) for name in variants]
        if None not in cells:
            shown = (f"{100 * c['mean']:.1f} ({100 * c['low']:.0f}-{100 * c['high']:.0f})" for c in cells)
            lines.append(f"| {way} | " + " | ".join(shown) + " |")
    return lines


def told(consensus: Mapping[str, Any]) -> str:
    """Say how frames become a video: the pooling, and the weights of evidence where there is some."""
    weights = [f"{consensus[f'evidence_{name}']:g} {name}" for name in ("visual", "textual")]
    some = [weight for weight in weights if not weight.startswith("0 ")]
    return f"`{consensus['pooling']}`" + (f" with evidence {' and '.join(some)}" if some else "")


def frames_sentence(results: Mapping[str, Any]) -> str:
    """Compare the five chosen frames with all of them, in words."""

    def mean(way: str) -> str:
        values = (variant["ways"][way]["accuracy"]["mean"] for variant in results["variants"].values())
        plain = 100 * results["variants"]["plain"]["ways"][way]["accuracy"]["mean"]
        return f"{plain:.1f} % of the plain videos ({100 * sum(values) / len(results['variants']):.1f} on average)"

    return (
        f"By {told(results['consensus'])}, the pack's way, the five frames of the fused rule are right on "
        f"{mean('fused')}, all 16 on {mean('all 16')}, and all 16 with the sampler's scores on {mean(ALL_SCORED)}."
    )


def pooling_table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Build a row per consensus: percent right of the fused rule's frames per variant, then means of each way."""
    ways = list(rows[0]["plain"])
    columns = [f"fused, {name}" for name in VARIANTS] + [f"{way}, mean" for way in ways]
    lines = ["| pooling | e_v | e_t | " + " | ".join(columns) + " |", "|---" * (len(columns) + 3) + "|"]
    for row in rows:
        values = [row[name]["fused"] for name in VARIANTS]
        values += [sum(row[name][way] for name in VARIANTS) / len(VARIANTS) for way in ways]
        given = [row["pooling"], f"{row['evidence_visual']:g}", f"{row['evidence_textual']:g}"]
        lines.append("| " + " | ".join([*given, *(f"{100 * value:.1f}" for value in values)]) + " |")
    return lines


def exit_table(rows: Mapping[str, Any]) -> list[str]:
    """Build a row per variant: accuracy with all five frames and with the early exit, and its mean number of frames."""
    lines = ["| | accuracy, five frames | accuracy, early exit | mean frames |", "|---|---|---|---|"]
    for name, variant in rows.items():
        accuracies = f"{100 * variant['accuracy_all']:.1f} | {100 * variant['accuracy']:.1f}"
        lines.append(f"| {name} | {accuracies} | {variant['mean_frames']:.2f} |")
    return lines


def modules_sentence(results: Mapping[str, Any]) -> str:
    """Say on which videos the visual module alone finds more of the event than the fused rule does."""
    recalls = {
        name: [100 * variant["ways"][way]["recall"]["mean"] for way in ("VQM", "fused")]
        for name, variant in results["variants"].items()
    }
    told = {name: f"{name} ({visual:.1f} against {fused:.1f} %)" for name, (visual, fused) in recalls.items()}
    more = [told[name] for name, (visual, fused) in recalls.items() if visual > fused]
    less = [told[name] for name, (visual, fused) in recalls.items() if visual < fused]
    sentences = []
    if more:
        sentences.append(f"VQM alone finds more than the fused rule on {', '.join(more)}")
    if less:
        sentences.append(f"{'and less' if more else 'VQM alone finds less'} on {', '.join(less)}")
    found = ", ".join(sentences) or "VQM alone finds as much as the fused rule"
    return f"{found}: both modules read one network, so TQM is no second source."


def tuning_table(results: Mapping[str, Any]) -> list[str]:
    """Build a row per trial: fused recall per variant, then VQM's and TQM's on plain videos, in percent."""
    lines = ["| trial | " + " | ".join(f"fused, {name}" for name in VARIANTS) + " | VQM, plain | TQM, plain |"]
    lines.append("|---" * (len(VARIANTS) + 3) + "|")
    for row in results["trials"]:
        values = [row[name]["fused"] for name in VARIANTS] + [row["plain"][way] for way in ("VQM", "TQM")]
        lines.append(f"| {row['trial']} | " + " | ".join(f"{100 * value:.1f}" for value in values) + " |")
    return lines


def size_table(results: Mapping[str, Any]) -> list[str]:
    """Build a row per input size of the sampler, at its best scales: recall per variant, and means, in percent."""

    def mean(row: Mapping[str, Any], score: str) -> float:
        return 100 * sum(row[name][score] for name in VARIANTS) / len(VARIANTS)

    columns = [*(f"fused, {name}" for name in VARIANTS), "fused, mean", "VQM, mean", "TQM, mean", "accuracy, mean"]
    given = ("input_size", "giga_macs", "competition_floor", "visual_scale")
    lines = ["| pixels | GMACs | floor | scale | " + " | ".join(columns) + " |", "|---" * (len(columns) + 4) + "|"]
    by_size: dict[int, list[Mapping[str, Any]]] = {}
    for row in results["input_sizes"]:
        by_size.setdefault(row["input_size"], []).append(row)
    for rows in by_size.values():
        best = max(rows, key=lambda row: mean(row, "fused"))
        values = [100 * best[name]["fused"] for name in VARIANTS]
        values += [mean(best, score) for score in ("fused", "VQM", "TQM", "accuracy")]
        shown = [f"{best[name]:g}" for name in given] + [f"{value:.1f}" for value in values]
        lines.append("| " + " | ".join(shown) + " |")
    without = results["accuracy"]
    ways = (f"{way} {mean(without, way):.1f}" for way in next(iter(without.values())))
    return [*lines, "", "Accuracy without a sampler, mean: " + ", ".join(ways) + "."]


def page(results: Mapping[str, Any]) -> str:
    """Render results and setup as Markdown."""
    lines = ["# The event among the other pictures: how often selection finds it", "", *INTRODUCTION.splitlines(), ""]
    if "evaluation" in results:
        lines += _held_out(results["evaluation"])
    if "tuning" in results:
        lines += _tuning(results["tuning"])
    versions = ", ".join(f"{name} {number}" for name, number in results["circumstances"]["versions"].items())
    return "\n".join([*lines, f"Measured with {versions}; float32 on a CPU."])


def _held_out(results: Mapping[str, Any]) -> list[str]:
    lines = ["## Held-out classes: recall of the event's frames at K = 5, percent", ""]
    lines += [*markdown_table(results, "recall"), ""]
    lines += [*textwrap.wrap(modules_sentence(results), 118), ""]
    lines += ["## Held-out classes: accuracy of the video's first class, percent", ""]
    lines += [*textwrap.wrap(frames_sentence(results), 118), "", *markdown_table(results, "accuracy"), ""]
    lines += ["## Held-out classes: the same frames by other poolings, accuracy in percent", ""]
    lines += [*HELD_OUT_POOLINGS.splitlines(), "", *pooling_table(results["poolings"]), ""]
    if results["early_exit"] is not None:
        lines += ["## Held-out classes: stop when sure", ""]
        rows = {f"{name} ({row['videos']})": row["early_exit"] for name, row in results["variants"].items()}
        lines += [*textwrap.wrap(EXIT.format(**results["early_exit"]), 118), "", *exit_table(rows), ""]
    return lines


def _tuning(results: Mapping[str, Any]) -> list[str]:
    lines = ["## Tuning classes: what each setting is worth, recall at K = 5, percent", ""]
    lines += [*STEPS.splitlines(), "", *tuning_table(results), ""]
    lines += ["## Tuning classes: how frames become a video, accuracy in percent", ""]
    lines += [*POOLINGS.splitlines(), "", *pooling_table(results["poolings"]), ""]
    lines += ["## Tuning classes: stop when sure", ""]
    bars = {"lowest_bar": results["lowest_bar"], "bar": results["early_exit"]["bar"]}
    lines += [*textwrap.wrap(LOWEST_BAR.format(**bars), 118), "", *exit_table(results["early_exits"]), ""]
    sizes = results["sizes"]
    if sizes["input_sizes"]:
        lines += ["## Tuning classes: sampler input size", "", *SIZES.splitlines(), "", *size_table(sizes), ""]
        scale, way = sizes["text_logit_scale"], told(sizes["consensus"])
        lines += [f"This table was measured with a text_logit_scale of {scale:g}, its accuracy by {way}.", ""]
    return lines
