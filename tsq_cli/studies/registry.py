"""The ablation studies by name: the settings of each row, and its number in S (docs/method.md, section 7)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar, get_args

from tsq_cli.consensus import Pooling
from tsq_cli.errors import UsageError

PAPER_DATA = "ActivityNet v1.3, ResNet-101 as recognizer"
BERT = "bert-base-uncased"
RANDOM_TEXT = "random vectors"

Changes = Mapping[str, Any]
_Settings = TypeVar("_Settings")


@dataclass(frozen=True, kw_only=True)
class StudyRow:
    """One row of a study.

    Attributes:
        name: as printed.
        changes: settings that differ from the run's: names of fields of HeadSettings, with a dot for a field of a field
            ("layer.num_heads").
        paper: mAP in percent that S gives on its own data, for TSQNet, TQM and VQM in this order, or one number if S
            does not say for which of them; empty if S has no such row.
        text_encoder: of the names of classes and objects; None is the pack's own.
        pooling: of the chosen frames' scores; None is the run's.
        evidence: weights of the modules' own class scores in the video's, (visual, textual).
    """

    name: str
    changes: Changes = field(default_factory=dict)
    paper: tuple[float, ...] = ()
    text_encoder: str | None = None
    pooling: Pooling | None = None
    evidence: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True, kw_only=True)
class Study:
    """One table, whose rows differ in one respect.

    Attributes:
        name: on the command line.
        title: as printed.
        rows: at least two.
        fixed: changes shared by all rows, so that nothing else varies.
        note: caveats of a comparison with S; may be empty.
    """

    name: str
    title: str
    rows: tuple[StudyRow, ...]
    fixed: Changes = field(default_factory=dict)
    note: str = ""

    @property
    def from_paper(self) -> bool:
        """Whether S has this table."""
        return any(row.paper for row in self.rows)


# The competition of queries (ours) is made for one class-specific layer with one head: it is off in studies that vary
# the layer, and both modules have the same layer.
_PLAIN: Changes = {"layer.competition_floor": None, "layer.blank_frame_penalty": 0.0, "textual_layer": None}
_ONE_NUMBER = "S gives one mAP per row without saying for which module."


def _weights(name: str, paper: Mapping[float, tuple[float, float, float]]) -> tuple[StudyRow, ...]:
    return tuple(
        StudyRow(name=f"{name} {weight}", changes={name: weight}, paper=maps) for weight, maps in paper.items()
    )


def _values(name: str, values: Iterable[float | int]) -> tuple[StudyRow, ...]:
    return tuple(StudyRow(name=f"{name} {value:g}", changes={name: value}) for value in values)


_FROM_PAPER = (
    Study(
        name="classifier",
        title="one for all classes (CA) or one per class (CS): attention + classifier",
        rows=(
            StudyRow(
                name="CA + CA",
                changes={"layer.attention": "class-agnostic", "layer.classifier": "class-agnostic"},
                paper=(73.3,),
            ),
            StudyRow(name="CS + CA", changes={"layer.classifier": "class-agnostic"}, paper=(68.3,)),
            StudyRow(name="CS + CS", paper=(74.3,)),
        ),
        fixed={"layer.attention": "class-specific", "layer.classifier": "class-specific", **_PLAIN},
        note=f"{_ONE_NUMBER} CA + CA: one query, one layer with an output per class; CS + CA: a query per class, one "
        "layer with a single output that judges all classes by the same weights (S, C.1). One sentence of S calls CS + "
        "CA its TSQNet, which its own numbers contradict.",
    ),
    Study(
        name="beta",
        title="weight of the loss by which the visual module teaches the textual one, alone",
        rows=_weights(
            "beta",
            {
                0.0: (74.9, 72.0, 74.6),
                0.2: (74.9, 72.3, 74.6),
                0.4: (75.0, 72.5, 74.6),
                0.6: (75.1, 72.7, 74.6),
                0.8: (74.8, 72.6, 74.6),
                1.0: (74.7, 72.6, 74.6),
            },
        ),
        fixed={"alpha": 0.0},
    ),
    Study(
        name="alpha",
        title="weight of the loss by which the textual module teaches the visual one, with beta 0.6",
        rows=_weights(
            "alpha",
            {
                0.0: (75.1, 72.7, 74.6),
                0.2: (75.0, 72.8, 74.6),
                0.4: (75.1, 72.8, 74.7),
                0.6: (75.3, 73.1, 74.8),
                0.8: (71.2, 72.5, 67.5),
            },
        ),
        fixed={"beta": 0.6},
    ),
    Study(
        name="self-attention",
        title="self-attention among the queries",
        rows=(
            StudyRow(name="with", changes={"layer.self_attention": True}, paper=(74.2,)),
            StudyRow(name="without", changes={"layer.self_attention": False}, paper=(74.4,)),
        ),
        fixed=_PLAIN,
        note=_ONE_NUMBER,
    ),
    Study(
        name="layers-heads",
        title="number of layers and heads",
        rows=(
            StudyRow(name="1 layer, 8 heads", changes={"layer.num_heads": 8}, paper=(73.7,)),
            StudyRow(name="2 layers, 1 head", changes={"layer.num_layers": 2}, paper=(73.6,)),
            StudyRow(name="1 layer, 1 head", paper=(74.4,)),
        ),
        fixed={"layer.num_layers": 1, "layer.num_heads": 1, **_PLAIN},
        note=_ONE_NUMBER,
    ),
)
_OURS = (
    Study(
        name="init-visual",
        title="initialization of the visual queries",
        rows=(
            StudyRow(name="random", changes={"visual_init": "random"}),
            StudyRow(name="prototypes", changes={"visual_init": "prototypes"}),
        ),
    ),
    Study(
        name="init-textual",
        title="initialization of the textual queries",
        rows=(
            StudyRow(name="random", changes={"textual_init": "random"}),
            StudyRow(name="class names", changes={"textual_init": "text"}),
        ),
    ),
    Study(
        name="top-n",
        title="most confident classes behind a saliency curve",
        rows=_values("top_n", (1, 2, 3, 5, 10, 20)),
    ),
    Study(
        name="lambda-v",
        title="share of the visual module in the frames",
        rows=_values("lambda_v", (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)),
        note="It changes the fusion alone: TQM and VQM are the same in all rows.",
    ),
    Study(
        name="interaction",
        title="how the modules teach each other",
        rows=(
            StudyRow(name="not at all", changes={"alpha": 0.0, "beta": 0.0}),
            *(
                StudyRow(name=kind, changes={"interaction": kind, "alpha": 0.6, "beta": 0.6})
                for kind in ("kl", "reverse-kl", "js", "mse")
            ),
        ),
        note="alpha and beta are 0.6 in the rows with a loss; S gives its weights, not its formula.",
    ),
    Study(
        name="scale",
        title="sharpness s of the attention over frames",
        rows=(
            *_values("visual_scale", (0.01, 0.03, 0.1)),
            *_values("textual_scale", (1.0, 3.0, 10.0)),
        ),
        note="A row changes s of one module; the other module keeps the run's.",
    ),
    Study(
        name="text-encoder",
        title="text encoder of the names of classes and objects",
        rows=(
            StudyRow(name="the pack's own"),
            StudyRow(name=BERT, text_encoder=BERT),
            StudyRow(name=RANDOM_TEXT, text_encoder=RANDOM_TEXT),
        ),
        note=f"{BERT} is the paper's choice; {RANDOM_TEXT} show the value of the textual module without language.",
    ),
    Study(
        name="pooling",
        title="how the scores of the chosen frames become the video's",
        rows=tuple(StudyRow(name=method, pooling=method) for method in get_args(Pooling)),
        note="All rows share their networks and their frames. The references are pooled as the run is; a row's own are "
        "in the JSON.",
    ),
    Study(
        name="evidence",
        title="weight of the modules' own class scores in the video's",
        rows=tuple(
            StudyRow(name=f"{module} {weight:g}", evidence=evidence)
            for module, weight, evidence in (
                ("none", 0.0, (0.0, 0.0)),
                *(("visual", weight, (weight, 0.0)) for weight in (0.25, 0.5, 1.0, 2.0)),
                *(("textual", weight, (0.0, weight)) for weight in (0.25, 0.5, 1.0, 2.0)),
                *(("both", weight, (weight, weight)) for weight in (0.25, 0.5, 1.0, 2.0)),
            )
        ),
        note="All rows share their networks and their frames. A module scores the classes of the whole video.",
    ),
)
STUDIES: Mapping[str, Study] = {study.name: study for study in (*_FROM_PAPER, *_OURS)}


def find_studies(names: Iterable[str]) -> list[Study]:
    """Find studies by name, each once; "all" means all of them.

    Raises:
        UsageError: an unknown name, or no name.
    """
    names = list(dict.fromkeys(names))
    if unknown := [name for name in names if name not in {*STUDIES, "all"}]:
        raise UsageError(
            f"{', '.join(map(repr, unknown))} is no study",
            wanted=f"some of {', '.join(STUDIES)}, or all",
            fix="see them with `tsq ablate --list`",
        )
    if not names:
        raise UsageError(
            "no study was named", wanted="the name of a study, or all", fix="see them with `tsq ablate --list`"
        )
    return list(STUDIES.values()) if "all" in names else [STUDIES[name] for name in names]


def changed(settings: _Settings, changes: Changes) -> _Settings:
    """Replace some values of settings (a frozen dataclass); a dot in a name leads into nested settings.

    Raises:
        TypeError: a name that is no field.
        UsageError: a value that the settings refuse.
    """
    new: dict[str, Any] = {}
    within: dict[str, dict[str, Any]] = {}
    for path, value in changes.items():
        name, _, rest = path.partition(".")
        if rest:
            within.setdefault(name, {})[rest] = value
        else:
            new[name] = value
    # All at once: on the way from one layer to another, some mixture of the two may be refused.
    new |= {name: changed(getattr(settings, name), values) for name, values in within.items()}
    return replace(settings, **new)  # type: ignore[type-var]
