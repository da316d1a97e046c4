"""Report of benchmarks/words.py, as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

INTRODUCTION = """\
Written by `benchmarks/words.py`; the numbers are also in `words.json`. The command, PHOTOS being a folder of one
photograph per class and FILM one with the clips that `benchmarks/words_material.py` lists:

    python -m benchmarks.words --photos PHOTOS --film FILM --json docs/words.json --markdown docs/words.md

Three kinds of clips, of 16 candidates each:

- whole: one photograph throughout, a slow zoom; two clips of each of 200 classes, the second cropped to 0.35-0.7 of the
  width, recolored and mirrored at random.
- needle: 16 shots, 2 of them of one photograph (the event), 14 of other classes; only the event's class is right.
- film: real footage, where nearly no ImageNet class is right: surveillance, sports, edited films, test cards. Which
  names a viewer would let pass ("pool table", "cash machine") was decided for each scene by looking at its frames.

Classes of the photographs and scenes of the film are split in halves: temperatures and levels were chosen on the tuning
half, and every figure under "held-out" comes from the other. Intervals (95 %) resample photographs and scenes, not
clips. "visual" and "textual" are the first categories behind the two curves of `tsq select`; "recognizer" is the first
class of `tsq classify --recognizer embedded`, which looks at the five frames of the paper's rule."""

RULE = """\
**The rule.** A category behind a curve is stated only where both modules put it first and its evidence reaches the
level: evidence is the score that the class gets in the visual module from the one frame that speaks most for it, before
frames are pooled and queries compete (a maximum logit, after Hendrycks et al., "Scaling Out-of-Distribution Detection",
ICML 2022; per class and over frames: ours). A recognizer's class is stated where its calibrated probability reaches the
level. Else the table, the page, the sheet and the CSV say "unsure", and the record's `stated` does; the candidates stay
in the record, with `is_sure` at each. Temperatures change what is reported, never the curves: the p in S are of the
scores as they are."""

POOLED = """\
**Calibration.** Modules: one temperature each, fitted on the whole clips. Recognizer: one for whole and needle clips.
Before is the softmax of the mean of the frames' logits, which is far too low where the five frames show different
things (needle): they shrink each other's logits. After is the pack's own way from frames to a video (method.md, section
5), over its temperature. On needle clips that is still too low, on whole ones about right. Film has no log loss: most
of its clips have no right class."""

CHOSEN = """\
The poolings of method.md, section 5, with a weight of the visual module's class scores (evidence); each with a
temperature and a level of its own, the lowest at which as few film clips show a wrong name as above. Cells: whole /
needle / film, the log loss without film; shares in percent."""

LIMITS = """\
## What this cannot do

- The photographs are ImageNet's own, very likely from the part that the network was trained on. So on photographs it
  has never met it will be right less often than here, and its probabilities will be too high. The figures of film do
  not suffer from that.
- One photograph per class: a clip shows views of it, not a thing that moves and turns.
- A module shares one unit of probability among all classes, so where a clip shows fifteen of them its first category
  has a low probability, right as it may be: on needle clips the reported probabilities are far too low, more so than
  before. No temperature mends both kinds, and the rule does not look at these probabilities.
- A probability on film says little: it stays above the share that is right, the recognizer's more so than before (it
  does not lose strength where frames differ). It is the level that keeps wrong names away, at the price of right ones
  (see "right ones shown").
- Few film clips have a right class, so the intervals of "right, of those shown" are wide there; and the film is of 47
  scenes: another kind of footage may be misread more often. The level holds wrong names below 5 % on the tuning half;
  on the other half, a clip or two more or less, it may not.
- The recognizer's temperature is of the video. A frame's own classes are reported with it too; by themselves they
  would take a slightly lower one.
- "unsure" says that no name is believed, not that nothing is there: a video of a cat of which the two modules name
  different breeds is "unsure".
- Temperatures and levels hold for the networks they were measured on, those of imagenet-lite at their own input sizes.
  The packs `imagenet` and `actions40`, packs that `tsq train` writes, and other recognizers than the embedded one have
  none: their probabilities are as they come, and they always state a name; so does a video's class where `--pooling`,
  `--evidence` or a selector without a network makes other scores than the pack's. `--query` states nothing of the
  textual module: the objects it lists are near the query."""

_PHOTOGRAPHS = ("whole", "needle")


def page(results: Mapping[str, Any]) -> str:
    """Write the circumstances of the measurement as Markdown."""
    return "\n".join(["# Names: when they can be believed", "", *INTRODUCTION.splitlines(), "", *_body(results)])


def _body(results: Mapping[str, Any]) -> Iterator[str]:
    temperatures, levels = results["temperatures"], results["levels"]
    yield from RULE.splitlines()
    yield from (
        "",
        f"Chosen: temperatures {temperatures['visual']} (visual), {temperatures['textual']} (textual), "
        f"{temperatures['recognizer']} (recognizer);",
        f"evidence {levels['visual']}; probability of the recognizer {levels['recognizer']}; text_logit_scale "
        f"{results['pack']['text_logit_scale']:g}; frames become a video by {_told(results['consensus'])}.",
        "",
        "## Held-out: names, percent",
        "",
    )
    yield from _naming(results["held_out"])
    yield from ("", "Before, every clip showed a name: the share that was right is the accuracy below.", "")
    yield from ("## Held-out: probabilities", "", *POOLED.splitlines(), "")
    yield from _calibration(results["held_out"])
    yield from ("", "## Tuning: the textual module's logit scale", "")
    yield from (
        "The classifier of the textual module is text_logit_scale times the embeddings of the class names. At 100 its",
        "probabilities were one-hot, right or wrong, and S^t followed a single category. Medians are of its first",
        "category's probability, before any temperature; recall is that of the event's two frames at K = 5 on the",
        "needle clips, which hardly depends on the scale.",
        "",
    )
    yield from _scales(results["text_logit_scales"])
    yield from ("", "## Tuning: rules that were compared", "")
    yield from (
        f"Each at its lowest level at which at most {100 * results['wrong_on_film']:.0f} % of the film clips show a "
        'wrong name; percent. "-": no level does, or nothing is shown.',
        "",
    )
    yield from _rules(results["rules"])
    yield from ("", "## Tuning: how the recognizer's frames become a video", "", *CHOSEN.splitlines(), "")
    yield from _poolings(results["poolings"])
    yield from ("", *LIMITS.splitlines())


def _told(consensus: Mapping[str, Any]) -> str:
    weights = (f"{consensus[f'evidence_{name}']:g} ({name})" for name in ("visual", "textual"))
    return f"`{consensus['pooling']}`, evidence " + ", ".join(weights)


def _naming(held_out: Mapping[str, Any]) -> Iterator[str]:
    yield "| who | clips | names shown | wrong names shown | right, of those shown | right ones shown |"
    yield "|---|---|---|---|---|---|"
    for who, row in held_out.items():
        for kind, of in row["naming"].items():
            cells = (_share(of[what]) for what in ("named", "wrong_named", "right_of_named", "right_kept"))
            yield f"| {who} | {kind} ({of['named']['clips']}) | " + " | ".join(cells) + " |"


def _calibration(held_out: Mapping[str, Any]) -> Iterator[str]:
    yield "| who | clips | accuracy | mean probability, before / after | calibration error | log loss |"
    yield "|---|---|---|---|---|---|"
    for who, row in held_out.items():
        for kind, before in row["before"].items():
            after = row["after"][kind]
            pairs = (
                " / ".join("-" if of[what] is None else f"{of[what]:.{digits}f}" for of in (before, after))
                for what, digits in (("mean_probability", 2), ("calibration_error", 3), ("log_loss", 2))
            )
            yield f"| {who} | {kind} | {after['accuracy']:.2f} | " + " | ".join(pairs) + " |"


def _scales(rows: list[Mapping[str, Any]]) -> Iterator[str]:
    yield "| scale | median, whole | needle | film | film at 0.98 or more, % | recall, fused | textual alone |"
    yield "|---|---|---|---|---|---|---|"
    for row in rows:
        medians = " | ".join(f"{row['median'][kind]:.2f}" for kind in ("whole", "needle", "film"))
        recalls = f"{100 * row['recall_fused']:.1f} | {100 * row['recall_textual']:.1f}"
        yield f"| {row['text_logit_scale']:g} | {medians} | {100 * row['film_at_least_0.98']:.0f} | {recalls} |"


def _rules(rules: Mapping[str, Any]) -> Iterator[str]:
    yield "| who | rule | level | right ones shown, whole | needle | right of those shown, whole | needle |"
    yield "|---|---|---|---|---|---|---|"
    for who, rows in rules.items():
        for name, row in rows.items():
            if row is None:
                yield f"| {who} | {name} | - | | | | |"
                continue
            cells = (_percent(row[kind][what]) for what in ("right_kept", "right_of_named") for kind in _PHOTOGRAPHS)
            yield f"| {who} | {name} | {row['level']:g} | " + " | ".join(cells) + " |"


def _poolings(rows: list[Mapping[str, Any]]) -> Iterator[str]:
    columns = ("accuracy", "log loss", "right ones shown", "right of those shown")
    yield "| pooling | evidence | temperature | level | " + " | ".join(columns) + " |"
    yield "|---" * (len(columns) + 4) + "|"
    for row in rows:
        of = row["kinds"]
        cells = [
            " / ".join(f"{of[kind]['accuracy']:.2f}" for kind in of),
            " / ".join(f"{of[kind]['log_loss']:.2f}" for kind in _PHOTOGRAPHS),
        ]
        for what in ("right_kept", "right_of_named"):
            cells.append(" / ".join(_rounded(of[kind].get(what)) for kind in of))
        level = "-" if row["level"] is None else f"{row['level']:g}"
        given = f"{row['pooling']} | {row['evidence_visual']:g} | {row['temperature']:g} | {level}"
        yield f"| {given} | " + " | ".join(cells) + " |"


def _percent(share: Mapping[str, Any]) -> str:
    return _rounded(share["mean"])


def _rounded(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.0f}"


def _share(share: Mapping[str, Any]) -> str:
    return "-" if share["clips"] == 0 else f"{_percent(share)} ({100 * share['low']:.0f}-{100 * share['high']:.0f})"
