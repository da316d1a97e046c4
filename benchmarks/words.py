"""Calibration of the names that tsq gives: fit temperatures and levels on one half, report on the other.

    python -m benchmarks.words --photos DIR --film DIR --json docs/words.json --markdown docs/words.md

`--photos` is a folder of one photograph per ImageNet class, named `{class index:03d}_{wnid}_{name}.jpg`; `--film` holds
the clips of words_material.SCENES, in any folders below it. The fitted numbers are printed; they are put into the
`words` of the pack's settings by hand.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from torch.nn import functional

from benchmarks.words_clips import Answer, Clip, Distribution, K, answers, computed, distributions
from benchmarks.words_material import KINDS, Kind, Material, Seen, film_clips, photograph_clips, see
from benchmarks.words_report import page
from tsq_cli import selection
from tsq_cli.benchmark.measure import exit_code
from tsq_cli.consensus import Consensus, Pooling
from tsq_cli.files import write_json, write_text
from tsq_cli.models import object_text_features
from tsq_cli.packs import Pack, load_pack, load_recognizer
from tsq_cli.scoring import tsq_scores

SATURATED = 100.0  # the text_logit_scale before it was measured here
LOGIT_SCALES = (100.0, 50.0, 30.0, 20.0, 15.0, 10.0, 7.0, 5.0)
TEMPERATURES = tuple(np.geomspace(0.2, 5.0, 325).round(2))
WRONG_ON_FILM = 0.05  # of the tuning half's clips may show a wrong name
RESAMPLES = 2000
CONSENSUSES = tuple(
    Consensus(pooling=pooling, evidence_visual=evidence)
    for pooling in get_args(Pooling)
    for evidence in (0.0, 0.25, 0.5, 1.0)
)

# A module shares one unit of probability among all the classes that a clip shows: where these are fifteen, as in a
# needle, no temperature tells how probable the first is. The recognizer sees five frames, chosen for the event.
FITTED_ON: dict[str, tuple[Kind, ...]] = {
    "visual": ("whole",),
    "textual": ("whole",),
    "recognizer": ("whole", "needle"),
}
console = Console(stderr=True)

Rule = Callable[[Answer], bool]
"""Whether a name is shown."""


def log_loss(clips: Sequence[Clip], distribution: Distribution, temperature: float | None) -> float:
    """Mean negative logarithm of the right class's probability; of clips with one right class."""
    losses = []
    for clip in clips:
        (right,) = clip.material.right
        losses.append(-float(distribution(clip, temperature)[right].clamp_min(1e-12).log()))
    return float(np.mean(losses))


def calibration_error(given: Sequence[Answer], bins: int = 10) -> float:
    """Expected calibration error: |mean probability - share right| of equal bins, weighted by their answers."""
    probability, right = np.array([a.probability for a in given]), np.array([a.right for a in given], dtype=float)
    place = np.minimum((probability * bins).astype(int), bins - 1)
    gaps = (abs((probability - right)[place == i].sum()) for i in range(bins))
    return float(sum(gaps) / len(given))


def fit_temperature(clips: Sequence[Clip], distribution: Distribution, kinds: Sequence[Kind]) -> float:
    """The temperature of the least loss; every kind of clips counts the same.

    Every distribution is a softmax of scores over the temperature, so that the one at 1 tells all others.
    """
    groups = []
    for kind in kinds:
        some: list[Clip] = of_kind(clips, kind)
        log_p = torch.stack([distribution(clip, 1.0) for clip in some]).double().clamp_min(1e-30).log()
        groups.append((log_p, torch.tensor([next(iter(clip.material.right)) for clip in some])))

    def loss(temperature: float) -> float:
        return sum(float(functional.cross_entropy(log_p / temperature, right)) for log_p, right in groups)

    return float(min(TEMPERATURES, key=loss))


def of_kind(clips: Sequence[Any], kind: Kind) -> list[Any]:
    """Those clips, or answers, that are of a kind."""
    return [clip for clip in clips if clip.material.kind == kind]


def least(given: Sequence[Answer], rule: Callable[[float], Rule], levels: Iterable[float]) -> float | None:
    """The lowest level at which no more than WRONG_ON_FILM of the film's clips show a wrong name; None is no level."""
    film: list[Answer] = of_kind(given, "film")

    def wrong(level: float) -> int:
        is_named = rule(level)
        return sum(is_named(answer) and not answer.right for answer in film)

    return next((float(level) for level in levels if wrong(level) <= WRONG_ON_FILM * len(film)), None)


PROBABILITIES = tuple(np.arange(0.0, 1.0, 0.01).round(2))
EVIDENCES = tuple(np.arange(0.0, 30.0, 0.1).round(1))
RULES: dict[str, tuple[Callable[[float], Rule], Sequence[float]]] = {
    "probability": (lambda level: lambda a: a.probability >= level, PROBABILITIES),
    "share of frames that say so": (lambda level: lambda a: a.frames >= level, PROBABILITIES),
    "evidence": (lambda level: lambda a: a.evidence >= level, EVIDENCES),
    "both modules agree, probability": (lambda level: lambda a: a.agreed and a.probability >= level, PROBABILITIES),
    "both modules agree, evidence": (lambda level: lambda a: a.agreed and a.evidence >= level, EVIDENCES),
}
TAKEN = {
    "visual": "both modules agree, evidence",
    "textual": "both modules agree, evidence",
    "recognizer": "probability",
}


def interval(values: Sequence[float], groups: Sequence[str]) -> dict[str, float | None]:
    """Mean, and its 95 % interval by resampling groups: photographs, or scenes; None of nothing."""
    if not values:
        return {"mean": None, "low": None, "high": None, "clips": 0}
    names = sorted(set(groups))
    sums = np.array([sum(v for v, g in zip(values, groups, strict=True) if g == name) for name in names])
    counts = np.array([groups.count(name) for name in names])
    drawn = np.random.default_rng(0).integers(0, len(names), (RESAMPLES, len(names)))
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    bounds = np.quantile(means, (0.025, 0.975))
    mean, low, high = (round(float(value), 4) for value in (np.mean(values), *bounds))
    return {"mean": mean, "low": low, "high": high, "clips": len(values)}


def naming(given: Sequence[Answer], is_named: Rule) -> dict[str, Any]:
    """Per kind: how often a name is shown, how often a wrong one, how often it is right where shown, and how many right
    ones are shown."""
    rows: dict[str, Any] = {}
    for kind in KINDS:
        some: list[Answer] = of_kind(given, kind)
        named, could = [a for a in some if is_named(a)], [a for a in some if a.right]
        rows[kind] = {
            "named": share(some, is_named),
            "wrong_named": share(some, lambda a: is_named(a) and not a.right),
            "right_of_named": share(named, lambda a: a.right),
            "right_kept": share(could, is_named),
        }
    return rows


def share(some: Sequence[Answer], test: Rule) -> dict[str, float | None]:
    """Share of answers for which something holds, with its interval."""
    return interval([float(test(a)) for a in some], [a.material.group for a in some])


def calibration(clips: Sequence[Clip], distribution: Distribution, temperature: float | None) -> dict[str, Any]:
    """Per kind: accuracy, mean probability of the first class, calibration error, and the loss where it exists."""
    rows: dict[str, Any] = {}
    for kind in KINDS:
        some: list[Clip] = of_kind(clips, kind)
        given = answers(some, distribution, temperature)
        rows[kind] = {
            "clips": len(some),
            "accuracy": float(np.mean([answer.right for answer in given])),
            "mean_probability": float(np.mean([answer.probability for answer in given])),
            "calibration_error": calibration_error(given),
            "log_loss": None if kind == "film" else log_loss(some, distribution, temperature),
        }
    return rows


def compared(given: Sequence[Answer]) -> dict[str, Any]:
    """Every rule at its lowest level that spares film; null where it has none."""
    rows: dict[str, Any] = {}
    for name, (rule, levels) in RULES.items():
        level = least(given, rule, levels)
        rows[name] = None if level is None else {"level": level, **naming(given, rule(level))}
    return rows


def logit_scales(clips: Sequence[Clip], pack: Pack, seen: Sequence[Seen]) -> list[dict[str, Any]]:
    """Effect of each text_logit_scale: certainty of the module, and recall of an event's frames."""
    rows = []
    for scale in LOGIT_SCALES:
        textual = distributions(scale, Consensus())["textual"]
        firsts = {kind: [a.probability for a in answers(of_kind(clips, kind), textual, None)] for kind in KINDS}
        rows.append(
            {
                "text_logit_scale": scale,
                "median": {kind: float(np.median(values)) for kind, values in firsts.items()},
                "film_at_least_0.98": float(np.mean(np.array(firsts["film"]) >= 0.98)),
                **recalls(pack, seen, clips, scale),
            }
        )
    return rows


def recalls(pack: Pack, seen: Sequence[Seen], clips: Sequence[Clip], scale: float) -> dict[str, float]:
    """Recall at K of the event's frames, by the paper's fusion and by the textual curve alone."""
    settings = pack.config.settings
    fused: list[float] = []
    textual: list[float] = []
    for one, clip in zip(seen, clips, strict=True):
        if one.material.event is None:
            continue
        with torch.inference_mode():
            features, logits = one.features[None], one.logits[None]
            visual = tsq_scores(pack, features, logits, top_n=settings.top_n).visual
            output = pack.tsqnet.tqm(object_text_features(logits, pack.textual_embeddings))
            top, rows = (clip.textual * scale).log_softmax(dim=0).topk(settings.top_n)
            s_t = (top.softmax(dim=0)[:, None] * output.attention[0][rows]).sum(dim=0)
        s_v, curve = visual.scores[0].double().numpy(), s_t.double().numpy()
        for found, choices in (
            (fused, selection.fuse(s_v, curve, K, lambda_v=settings.lambda_v)),
            (textual, selection.top_k(curve, K, chosen_by="textual")),
        ):
            found.append(sum(one.material.event[choice.position] for choice in choices) / sum(one.material.event))
    return {"recall_fused": float(np.mean(fused)), "recall_textual": float(np.mean(textual))}


def poolings(clips: Sequence[Clip], scale: float, consensuses: Sequence[Consensus]) -> list[dict[str, Any]]:
    """Fit the recognizer by each consensus: accuracy and loss per kind, and the names at the level that spares film."""
    rule, levels = RULES[TAKEN["recognizer"]]
    rows = []
    for consensus in track(consensuses, "try poolings", console=console, transient=True):
        recognizer = distributions(scale, consensus)["recognizer"]
        temperature = fit_temperature(clips, recognizer, FITTED_ON["recognizer"])
        given = answers(clips, recognizer, temperature)
        level = least(given, rule, levels)
        calibrated = calibration(clips, recognizer, temperature)
        named = {} if level is None else naming(given, rule(level))
        rows.append(
            {
                **asdict(consensus),
                "temperature": temperature,
                "level": level,
                "kinds": {
                    kind: {
                        **{name: calibrated[kind][name] for name in ("accuracy", "log_loss")},
                        **{name: share["mean"] for name, share in named.get(kind, {}).items()},
                    }
                    for kind in KINDS
                },
            }
        )
    return rows


def measure(pack: Pack, seen: Sequence[Seen]) -> dict[str, Any]:
    """Fit on the tuning half, report on the other."""
    scale = pack.config.settings.text_logit_scale
    assert scale is not None
    clips = computed(pack, seen)
    part = {name: [clip for clip in clips if clip.material.part == name] for name in ("tuning", "held-out")}
    tuning, held_out = part["tuning"], part["held-out"]
    consensus = pack.config.settings.consensus
    voices, before = distributions(scale, consensus), distributions(SATURATED, Consensus())
    temperatures = {who: fit_temperature(tuning, voice, FITTED_ON[who]) for who, voice in voices.items()}
    rows = {who: compared(answers(tuning, voice, temperatures[who])) for who, voice in voices.items()}
    levels = {who: rows[who][TAKEN[who]]["level"] for who in voices}
    rules = {who: RULES[TAKEN[who]][0](levels[who]) for who in voices}
    return {
        "pack": {"name": pack.config.name, "sha256": pack.config.sha256, "text_logit_scale": scale},
        "consensus": asdict(consensus),
        "wrong_on_film": WRONG_ON_FILM,
        "temperatures": temperatures,
        "levels": levels,
        "text_logit_scales": logit_scales(tuning, pack, [one for one in seen if one.material.part == "tuning"]),
        "rules": rows,
        "poolings": poolings(tuning, scale, CONSENSUSES),
        "held_out": {
            who: {
                "before": calibration(held_out, before[who], None),
                "after": calibration(held_out, voice, temperatures[who]),
                "naming": naming(answers(held_out, voice, temperatures[who]), rules[who]),
            }
            for who, voice in voices.items()
        },
    }


def look(pack: Pack, materials: Sequence[Material]) -> list[Seen]:
    """Have the pack's networks look at every clip."""
    recognizer = load_recognizer(pack, "embedded")
    return [see(pack, recognizer, one) for one in track(materials, "look", console=console, transient=True)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; the exit code is tsq's own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True, help="folder of photographs, one per class")
    parser.add_argument("--film", type=Path, required=True, help="folder with the clips of SCENES")
    parser.add_argument("--pack", default="imagenet-lite", help="one whose classes are the objects, training-free")
    parser.add_argument("--json", type=Path, help="write everything measured here")
    parser.add_argument("--markdown", type=Path, help="write the tables here")
    options = parser.parse_args(arguments)
    return exit_code(partial(_run, options))


def _run(options: argparse.Namespace) -> None:
    pack = load_pack(options.pack)
    materials = [*photograph_clips(options.photos), *film_clips(options.film, pack.class_names)]
    results = measure(pack, look(pack, materials))
    text = page(results)
    print(text)
    if options.json is not None:
        write_json(options.json, results)
    if options.markdown is not None:
        write_text(options.markdown, text + "\n")


if __name__ == "__main__":
    sys.exit(main())
