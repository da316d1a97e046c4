"""Pack clip from a hub on 127.0.0.1: queries and classes in words by made CLIP and SigLIP models, then offline."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import tsq_cli
from tests import processes
from tests.attack.running import run_inside
from tests.packs.hub import REPOSITORY, LocalHub, environment, served_by
from tests.packs.image_text_making import make_model
from tsq_cli.errors import UsageError
from tsq_cli.packs import find_pack

CLIP, SIGLIP = find_pack("clip").roles.visual_encoder.model, "tests/siglip"
DEMO = str(REPOSITORY / "examples" / "demo.mp4")
RUNS = {
    "auto": ["select", DEMO, "-n", "4", "-k", "2", "--query", "a dog", "--json"],
    "siglip": ["select", DEMO, "-n", "4", "-k", "2", "--query", "a dog", "--query-model", f"clip:{SIGLIP}", "--json"],
    "pack": ["select", DEMO, "-n", "4", "-k", "2", "--pack", f"clip:{SIGLIP}", "--classes", "a dog,a cat", "--json"],
    "query of a pack": ["select", DEMO, "-n", "4", "-k", "2", "--classes", "dog,cat", "--query", "a cat", "--json"],
    "classify": ["classify", DEMO, "-n", "4", "-k", "2", "--classes", "a dog,a cat,a cup", "--json"],
    "maps": ["classify", DEMO, "-n", "4", "-k", "2", "--classes", "a dog,a cat", "--maps", "maps"],
    "missing": ["select", DEMO, "--query", "a dog", "--query-model", "clip:tests/nobody"],
    "a path": ["select", DEMO, "--query", "a dog", "--query-model", "clip:../secret"],
    "classes of another pack": ["select", DEMO, "--pack", "imagenet", "--classes", "a,b"],
    "offline": ["select", DEMO, "-n", "4", "-k", "2", "--query", "a dog", "--json"],
}
Said = dict[str, tuple[int, str, str]]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Said:
    """What each command said with the hub; the last one is offline, with the cache that the others filled."""
    root = tmp_path_factory.mktemp("image-text")
    make_model(root / "clip", "clip")
    make_model(root / "siglip", "siglip")
    classes = root / "classes.txt"
    classes.write_text("a dog\na cat\n")
    over_its_list = ["select", DEMO, "--classes", str(classes), "--csv", str(classes)]
    said: Said = {}
    with LocalHub({CLIP: root / "clip", SIGLIP: root / "siglip"}) as hub:
        for name, arguments in {"over its list": over_its_list, **RUNS}.items():
            with served_by(hub.url, root / "cache", offline=name == "offline"):
                outcome = run_inside(arguments)
            said[name] = outcome.code, outcome.out, outcome.err
    assert classes.read_text() == "a dog\na cat\n"
    return said


def record(said: Said, name: str) -> Any:
    code, out, err = said[name]
    assert code == 0, err
    return json.loads(out)


def test_auto_uses_the_model_of_the_hub_and_then_the_cache_and_says_so(runs: Said) -> None:
    online, offline = record(runs, "auto"), record(runs, "offline")
    assert online["query"]["model"] == offline["query"]["model"] == CLIP
    assert online["query"]["queries"] == offline["query"]["queries"]
    assert f"query: {CLIP}, from the hub at http://127.0.0.1" in runs["auto"][2]
    assert f"query: {CLIP}, from the local cache" in runs["offline"][2]
    assert online["pack"]["name"] == "imagenet-lite"  # only the matching is CLIP's
    assert online["top_categories"]["textual"] == []


def test_another_model_is_named_by_its_id(runs: Said) -> None:
    found = record(runs, "siglip")["query"]
    assert found["model"] == SIGLIP
    assert len(found["queries"][0]["matches"]) == 4
    assert found["queries"][0]["matches"] != record(runs, "auto")["query"]["queries"][0]["matches"]


def test_the_pack_selects_by_classes_in_words(runs: Said) -> None:
    made = record(runs, "pack")
    assert made["pack"]["name"] == "clip"
    assert {category["label"] for category in made["top_categories"]["visual"]} == {"a dog", "a cat"}
    assert sum(category["score"] for category in made["top_categories"]["visual"]) == pytest.approx(1)
    assert len(made["frames"]) == 2


def test_a_query_of_the_pack_uses_its_own_model(runs: Said) -> None:
    asked = record(runs, "query of a pack")
    assert asked["query"]["model"] == CLIP
    assert asked["pack"]["sha256"] != record(runs, "pack")["pack"]["sha256"]


def test_classify_names_the_classes_by_the_same_model(runs: Said) -> None:
    made = record(runs, "classify")
    assert (made["recognizer"]["name"], made["recognizer"]["source"]) == (CLIP, "transformers")
    assert {category["label"] for category in made["predictions"]} == {"a dog", "a cat", "a cup"}
    assert all(frame["predictions"] for frame in made["frames"])


def test_the_library_takes_classes_in_words_too(runs: Said, tmp_path: Path) -> None:
    make_model(tmp_path / "clip", "clip")
    with LocalHub({CLIP: tmp_path / "clip"}) as hub, served_by(hub.url, tmp_path / "cache"):
        model = tsq_cli.load(classes=["a dog", "a cat", "a cup"], device="cpu")
        result = model.classify(DEMO, num_frames=2, num_candidates=4)
    told = record(runs, "classify")
    assert [frame.time_seconds for frame in result.frames] == [frame["time_seconds"] for frame in told["frames"]]
    assert [category.label for category in result.predictions] == [each["label"] for each in told["predictions"]]
    with pytest.raises(UsageError, match="there are 1 classes in the list"):
        tsq_cli.load(classes=["a dog"])


def test_what_cannot_be_is_refused_before_work(runs: Said) -> None:
    codes = {name: runs[name][0] for name in ("maps", "missing", "a path", "classes of another pack")}
    assert codes == {"maps": 2, "missing": 3, "a path": 2, "classes of another pack": 2}
    assert runs["over its list"][0] == 2
    assert "classes.txt" in runs["over its list"][2]
    assert "answers 404" in runs["missing"][2]
    assert "use --pack clip" in runs["classes of another pack"][2]


def test_the_environments_hub_is_asked(tmp_path: Path) -> None:
    """The others set what huggingface_hub made of the environment when it was imported."""
    with LocalHub({}) as hub:
        ended = processes.run(["-m", "tsq_cli", *RUNS["missing"]], env=environment(tmp_path, endpoint=hub.url))
    assert ended.returncode == 3
    assert "answers 404" in ended.stderr
    assert any("tests/nobody" in request for request in hub.requests)
