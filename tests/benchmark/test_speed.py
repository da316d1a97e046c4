"""`tsq benchmark`: what is timed is what classify does, costs add up, and the table says what was run."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.cli.conftest import tsq  # noqa: F401 - a fixture
from tests.marks import needs_cuda
from tests.reads import Reads
from tests.video.clips import clip
from tsq_cli import selection
from tsq_cli.benchmark import peers, profile, runners, speed
from tsq_cli.benchmark.accuracy import pack_accuracy
from tsq_cli.benchmark.early_exit import MEASURED_FRAMES, SURE_AFTER, EarlyExitRunner
from tsq_cli.benchmark.end_to_end import random_recognizer, time_files, with_decoding
from tsq_cli.benchmark.peers import AdaFocusRunner, FrameExitRunner, UniAdaFocusRunner
from tsq_cli.benchmark.runners import BenchmarkConfig, FramesRunner, Pass, TSQNetRunner, classes_of
from tsq_cli.benchmark.speed import METHODS, peak_memory_mib, speed_table
from tsq_cli.cli.benchmark import report_parts
from tsq_cli.consensus import Consensus, EarlyExit
from tsq_cli.errors import InputNotFoundError, UsageError
from tsq_cli.explain import normalize_maps
from tsq_cli.models import RecognizerOutput, create_encoder
from tsq_cli.models.flops import count
from tsq_cli.packs import RecognizerChoice
from tsq_cli.packs.recognizers import LoadedRecognizer
from tsq_cli.recognition import SamplerScores, forward_until_sure
from tsq_cli.report.console import SafeConsole
from tsq_cli.scoring import encode, tsq_scores

BatchNorms = torch.nn.BatchNorm1d | torch.nn.BatchNorm2d | torch.nn.BatchNorm3d
ROOT = Path(__file__).parents[2]
SMALL = "test_efficientnet"  # features of 256
SMALLER = {"tf_efficientnet_lite0": SMALL}  # in the place of the packs' own sampler
SETTING = BenchmarkConfig(
    pack="imagenet-lite", recognizer=SMALL, num_frames=5, num_candidates=10, device="cpu", dtype=torch.float32,
    input_size=64, exit_after=3,
)  # fmt: skip


@pytest.fixture(autouse=True)
def _small_methods(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "BACKBONE", SMALL)
    monkeypatch.setattr(speed, "FRAME_SHAPE", (64, 112, 3))
    monkeypatch.setattr(runners, "create_encoder", lambda name, **how: create_encoder(SMALLER.get(name, name), **how))
    for method in ("AdaFocus", "UniAdaFocus"):
        monkeypatch.setattr(peers, method, partial(getattr(peers, method), glance=SMALL))
    monkeypatch.setattr(profile, "matrix_peak_gflops", partial(profile.matrix_peak_gflops, repeats=1))


def frames_of(num_videos: int, num_frames: int = 10) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    # Coarse patches: noise of single pixels would all look alike after the resize.
    coarse = torch.randint(0, 256, (num_videos * num_frames, 3, 8, 14), generator=generator).float()
    frames = torch.nn.functional.interpolate(coarse, (64, 112)).to(torch.uint8)
    return frames.permute(0, 2, 3, 1).reshape(num_videos, num_frames, 64, 112, 3).contiguous()


@pytest.mark.parametrize("method", METHODS)
def test_tuning_changes_no_answer(method: str) -> None:
    runner = METHODS[method](SETTING)
    frames = frames_of(2, runner.num_given)
    with torch.inference_mode():
        published = runner.classify(frames)
        runner.optimize()
        tuned = runner.classify(frames)
        singles = torch.cat([runner.classify(frames[i : i + 1]) for i in range(2)])
    assert published.shape == (2,)
    assert published.tolist() == tuned.tolist() == singles.tolist()
    norms = [m for network in runner.networks for m in network.modules() if isinstance(m, BatchNorms)]
    assert not norms


@needs_cuda
@pytest.mark.parametrize("method", METHODS)
def test_graphs_on_a_gpu_change_no_answer(method: str) -> None:
    runner = METHODS[method](replace(SETTING, device="cuda"))
    with torch.inference_mode():
        for num_videos in (1, 2, 1):
            published = runner.classify(frames_of(num_videos, runner.num_given))
        runner.optimize()
        for _ in range(3):  # as it is, recorded, replayed
            assert runner.classify(frames_of(1, runner.num_given)).tolist() == published.tolist()


def test_what_is_timed_is_the_products_own_chain() -> None:
    runner, frames = TSQNetRunner(SETTING), frames_of(2)
    pack = runner.networks[0], runner._pack
    state = Pass(frames)
    maps_by_hand = []
    with torch.inference_mode():
        for stage in runner.stages.values():
            stage(state)
        features, logits = encode(pack[1], list(frames))
        for number in range(2):
            scores = tsq_scores(pack[1], features[number][None], logits[number][None], top_n=3)
            chosen = selection.fuse(scores.visual.scores[0].numpy(), scores.textual.scores[0].numpy(), 5)
            assert state.positions[number].tolist() == [choice.position for choice in chosen]
            pictures = runner._preprocessor(frames[number][state.positions[number]])
            expected = runner._recognizer.encoder.model(pictures).mean(dim=0).argmax()
            assert int(state.classes[number]) == int(expected)
            seen = runner._recognizer.encoder.model.forward_features(pictures)
            row = runner._recognizer.encoder.classifier_weight[(3, 700)[number]]
            map_by_hand = torch.einsum("kdhw,d->khw", seen, row)
            maps_by_hand.append(normalize_maps(map_by_hand, "clip"))
        state.classes = torch.tensor([3, 700])  # its own may both be one
        runner.explain(state)
    for maps, by_hand in zip(state.maps, maps_by_hand, strict=True):
        np.testing.assert_allclose(maps, by_hand, atol=1e-5)
    assert np.ptp(maps_by_hand[0]) > 0.5


def test_a_video_is_of_the_class_that_its_pooling_says() -> None:
    """Three frames: two at 0.6 for the first class, one at 0.1; as logits the odds 2.25 and 1 / 9, a quarter."""
    p = torch.tensor([0.6, 0.6, 0.1, 0.6, 0.6, 0.1])
    output = RecognizerOutput(logits=torch.stack([p, 1 - p], dim=1).log(), activations=torch.zeros(6, 0))
    weights = torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    assert classes_of(output, 2, "logits").tolist() == [1, 1]
    assert classes_of(output, 2, "weighted-logits", weights).tolist() == [0, 1]


def test_costs_are_those_of_the_frames_looked_at() -> None:
    report = speed_table(
        [method for method in METHODS if method != "uni-adafocus-128"], SETTING, batch_size=2, repeats=1
    )
    macs = {row["method"]: row["giga_macs"] for row in report["rows"]}
    one_frame = count(create_encoder(SMALL).model, torch.zeros(1, 3, 160, 160)).giga_macs  # the size that it is fed
    assert macs["uniform"] == pytest.approx(5 * one_frame, rel=1e-6)
    assert macs["all"] == pytest.approx(10 * one_frame, rel=1e-6)
    assert macs["tsqnet"] - macs["tsqnet-early-exit"] == pytest.approx((5 - 3) * one_frame, rel=1e-6)
    sampler = count(create_encoder(SMALL).model, torch.zeros(10, 3, 64, 64)).giga_macs
    layers = macs["tsqnet"] - sampler - macs["uniform"]
    # Two modules: queries times keys and attention times values, 1000 x 10 x D each, a classifier row for each class;
    # and 1000 objects times 384 for each frame's text feature.
    by_hand = sum(2 * 1000 * 10 * dim + 1000 * dim for dim in (256, 384)) + 10 * 1000 * 384
    assert layers * 1e9 == pytest.approx(by_hand, rel=0.5)
    rows = report["rows"]
    assert [(row["method"], row["treatment"]) for row in rows[:2]] == [("tsqnet", "published"), ("tsqnet", "tuned")]
    assert {row["method"] for row in rows if row["batch"] is None} == {"frameexit"}
    assert all(len(row["single"]["seconds"]) == 1 for row in rows)
    assert report["rounds"]["single"] == report["rounds"]["batch"] == 1
    assert report["rounds"]["batch_warm"] is True
    assert report["rounds"]["no_time_for_batches"] == []
    assert "accuracy" not in report  # the pack has none, and this is not its recognizer
    assert report["provenance"]["versions"]["torch"] == torch.__version__.split("+")[0]
    assert list(report["stages"]) == ["1", "2"]
    stages = report["stages"]["2"]
    assert list(stages) == [
        "copy to the device",
        "preprocess candidates",
        "visual encoder",
        "object recognizer, the same pass",
        "TSQ layers and fusion",
        "gather and preprocess K frames",
        "recognizer",
        "maps",
    ]
    assert stages["object recognizer, the same pass"] < 0.1 * stages["visual encoder"]
    decoded = with_decoding(report["stages"], {"workers": [{"stages": {"probe": 0.25, "decode": 0.5, "tsq": 9.0}}]})
    assert decoded["2"] == {"probe and decode": 1.5, **stages}
    share = report["recognizer_share_of_peak"]["1"]
    assert share == pytest.approx(
        2 * macs["uniform"] / report["stages"]["1"]["recognizer"] / report["matrix_peak_gflops"], rel=1e-6
    )


def test_uni_adafocus_tuned_prepares_only_what_it_looks_at() -> None:
    runner = UniAdaFocusRunner(SETTING, 96)
    seen: list[int] = []
    prepare = peers.IMAGENET_INPUT

    class Counting:
        def __call__(self, pixels: torch.Tensor, *others: Any) -> torch.Tensor:
            seen.append(len(pixels))
            return prepare(pixels, *others)

    with torch.inference_mode(), pytest.MonkeyPatch.context() as patched:
        patched.setattr(peers, "IMAGENET_INPUT", Counting())
        published = runner.classify(frames_of(2, 30))
        runner.optimize()
        assert runner.classify(frames_of(2, 30)).tolist() == published.tolist()
    # All of each video, one after the other on a CPU; then both videos' glances, and their frames looked at closely.
    assert seen == [30, 30, 2 * 10, 2 * 10]


def test_frameexit_leaves_when_told_and_adafocus_sees_all_frames() -> None:
    seen: list[int] = []
    runner = FrameExitRunner(replace(SETTING, exit_after=4))
    runner.networks[0].backbone.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))  # type: ignore[operator, union-attr]
    with torch.inference_mode():
        runner.classify(frames_of(1))
        assert seen == [1, 1, 1, 1]
        assert AdaFocusRunner(SETTING).frames_used(frames_of(1)).shape[1] == 10
        assert FramesRunner(SETTING, 5).frames_used(frames_of(1)).shape[1] == 5


def test_frameexit_waits_for_its_gate_at_every_step_but_not_for_later_ones() -> None:
    runner = FrameExitRunner(replace(SETTING, exit_after=4))
    with Reads() as reads, torch.inference_mode():
        runner.classify(frames_of(1))
    assert reads.seen == ["cpu"] * 5  # one per frame, and the class


def test_an_early_exit_is_the_products_own_chain_and_waits_after_each_frame() -> None:
    runner, frames = EarlyExitRunner(replace(SETTING, pooling="weighted-probabilities")), frames_of(1)
    assert runner.title == f"TSQNet early exit, 3 of 5 frames (imagenet-lite, 64 px) + {SMALL} (160 px)"
    seen: list[torch.Tensor] = []
    runner._recognizer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with Reads() as reads, torch.inference_mode():
        classes = runner.classify(frames)
    assert reads.seen.count("cpu") == 4  # one per frame, and the class
    pack = runner._pack
    names = tuple(map(str, range(1000)))
    choice = RecognizerChoice(requested=SMALL, name=SMALL, source="timm", reason="", role=None, pack_sha256="")
    loaded = LoadedRecognizer(
        choice=choice, recognizer=runner._recognizer, preprocessor=runner._preprocessor, class_names=names
    )
    with Reads(), torch.inference_mode():
        features, logits = encode(pack, list(frames))
        scores = tsq_scores(pack, features[0][None], logits[0][None], top_n=3)
        visual, textual = scores.visual.scores[0], scores.textual.scores[0]
        best = [choice.position for choice in selection.fuse(visual.numpy(), textual.numpy(), 5)]
        ours = list(seen)
        seen.clear()
        (output,) = forward_until_sure(
            loaded, [frames[0][best]], [[0, 1, 2, 3, 4]],
            EarlyExit(bar=1.0, temperatures=(1.0, 1.0, 1e-9)),  # sure of the third frame, and of none before
            Consensus(pooling="weighted-probabilities"),
            [SamplerScores(weights=visual[best], classes=(torch.zeros(1000), torch.zeros(1000)))], {},
        )  # fmt: skip
    assert len(ours) == len(seen) == len(output.seen) == 3
    for mine, products in zip(ours, seen, strict=True):
        torch.testing.assert_close(mine, products)
    assert int(classes) == int(output.scores.argmax())


def test_an_early_exit_stands_for_what_a_pack_was_measured_to_need() -> None:
    measured = json.loads((ROOT / "docs/training/actions40.json").read_text())["early_exit"]
    assert measured["num_frames"] == 5
    assert measured["mean_frames"] == pytest.approx(MEASURED_FRAMES, abs=0.005)
    assert SURE_AFTER == 3  # 2.79 rounded up
    for changes, of in (
        ({"num_frames": 2}, "2 of 2 frames"),
        ({"sure_after": 1}, "1 of 5 frames"),
        ({"sure_after": 5}, "5 of 5 frames"),
    ):
        assert of in EarlyExitRunner(replace(SETTING, **changes)).title  # type: ignore[arg-type]


def test_the_recognizers_input_size_is_set_for_all_that_have_one() -> None:
    setting = replace(SETTING, recognizer_input_size=96)
    one_frame = count(create_encoder(SMALL).model, torch.zeros(1, 3, 96, 96)).giga_macs
    report = speed_table(["tsqnet", "tsqnet-early-exit", "uniform"], setting, batch_size=1, repeats=1)
    macs = {row["method"]: row["giga_macs"] for row in report["rows"]}
    assert macs["uniform"] == pytest.approx(5 * one_frame, rel=1e-6)
    assert macs["tsqnet"] - macs["tsqnet-early-exit"] == pytest.approx(2 * one_frame, rel=1e-6)
    assert report["settings"]["recognizer_input_size"] == 96
    assert all(row["title"].endswith(f"{SMALL} (96 px)") for row in report["rows"])
    recognizer = random_recognizer(SMALL, TSQNetRunner(SETTING)._pack, input_size=96)
    assert recognizer.preprocessor.input_size == 96


def test_a_packs_own_map_stands_beside_the_speed_of_its_own_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runners, "create_encoder", create_encoder)  # its trained layers fit no smaller sampler
    own = replace(
        SETTING, pack="actions40", recognizer="tf_efficientnet_lite2", recognizer_input_size=224,
        num_candidates=16, input_size=None, pooling="best-two",
    )  # fmt: skip
    timed = {method: METHODS[method](own) for method in ("tsqnet", "tsqnet-early-exit", "uniform")}
    accuracy = pack_accuracy({**timed, "frameexit": FrameExitRunner(own)}, own)
    measured = json.loads((ROOT / "docs/training/actions40.json").read_text())
    rows = {row["selector"]: row["map"]["value"] for row in measured["rows"] if row["k"] == 5}
    assert accuracy is not None
    assert accuracy["map"] == {
        "tsqnet": pytest.approx(rows["tsq"], abs=1e-4),
        "tsqnet-early-exit": pytest.approx(rows["tsq early exit"], abs=1e-4),
        "uniform": pytest.approx(rows["uniform"], abs=1e-4),
    }
    assert accuracy["videos"] == measured["num_videos"] == 960
    for changes in ({"num_frames": 3}, {"pooling": "logits"}, {"input_size": 160}, {"recognizer": SMALL}):
        assert pack_accuracy(timed, replace(own, **changes)) is None  # type: ignore[arg-type]
    larger = replace(own, recognizer_input_size=None)  # timm's own, 260
    assert pack_accuracy({"tsqnet": TSQNetRunner(larger)}, larger) is None


def test_the_recognizer_is_profiled_in_the_form_that_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for a CUDA graph: once tuned the stage runs it, and the whole, which is a graph, has none within."""
    launched: list[str] = []

    def graph(function: Any) -> Any:
        def launch(*inputs: torch.Tensor) -> Any:
            launched.append(function.__name__)
            return function(*inputs)

        return launch

    monkeypatch.setattr(runners, "Graphed", graph)
    runner, state = TSQNetRunner(SETTING), Pass(frames_of(1))
    with torch.inference_mode():
        published = runner.classify(frames_of(1))
        assert launched == []
        runner.optimize()
        assert runner.classify(frames_of(1)).tolist() == published.tolist()
        assert launched == ["forward"]
        for stage in runner.profiled_stages.values():
            stage(state)
    assert launched == ["forward", "_run_recognizer"]
    assert state.classes.tolist() == published.tolist()


def test_whole_files_run_as_the_product_runs_them(monkeypatch: pytest.MonkeyPatch) -> None:
    graphed: list[torch.nn.Module] = []
    monkeypatch.setattr("tsq_cli.models.graphs.graph_calls", graphed.append)
    time_files([clip("h264_b_frames").path], SETTING, workers=[1], rounds=1)
    assert {type(network).__name__ for network in graphed} == {"FrameEncoder", "TSQNet", "Recognizer"}


def test_freed_memory_is_kept_whichever_methods_are_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[bool] = []
    monkeypatch.setattr(speed, "keep_freed_memory", lambda: kept.append(True))
    speed_table(["frameexit"], SETTING, batch_size=1, repeats=1, treatments=["published"])
    assert kept


def test_memory_on_a_gpu_is_what_is_reserved_at_the_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for CUDA's allocator: a graph's pool is reserved, and only its outputs are allocated."""
    held = {"reserved": 300 << 20, "peak": 900 << 20}
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: held.update(reserved=100 << 20))
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda _: held.update(peak=held["reserved"]))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: held["reserved"])
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda _: held["peak"])
    assert peak_memory_mib(lambda: held.update(peak=164 << 20), "cuda:1") == 64


@pytest.mark.parametrize(
    ("methods", "changes", "options", "word"),
    [
        (["tsqnett"], {}, {}, "tsqnett"),
        (["tsqnet"], {}, {"batch_size": 0}, "--batch-size"),
        (["tsqnet"], {}, {"repeats": 0}, "--repeats"),
        (["tsqnet"], {}, {"minutes": 0.0}, "--minutes"),
        (["tsqnet"], {"num_frames": 11}, {}, "-k is 11"),
        (["frameexit"], {"exit_after": 11}, {}, "--exit-after"),
        (["tsqnet"], {"input_size": 8}, {}, "--input-size"),
        (["uniform"], {"recognizer_input_size": 8}, {}, "--recognizer-input-size is 8"),
        (["uniform"], {"recognizer_input_size": 96, "recognizer": "test_vit"}, {}, "test_vit takes 160 pixels only"),
        (["tsqnet-early-exit"], {"sure_after": 0}, {}, "--sure-after is 0"),
        (["tsqnet-early-exit"], {"sure_after": 6}, {}, "--sure-after is 6"),
        (["uniform"], {"recognizer": "resnet1001"}, {}, "resnet1001"),
    ],
)
def test_what_cannot_be_run_is_refused(
    methods: list[str], changes: dict[str, Any], options: dict[str, Any], word: str
) -> None:
    with pytest.raises(UsageError, match=word):
        speed_table(methods, replace(SETTING, **changes), **{"batch_size": 1, "repeats": 1, **options})


def test_little_time_means_few_rounds(capsys: pytest.CaptureFixture[str]) -> None:
    said: list[str] = []
    report = speed_table(["uniform"], SETTING, batch_size=2, repeats=9, minutes=1e-6, say=said.append)
    assert report["rounds"]["single"] == report["rounds"]["batch"] == 1
    assert report["rounds"]["batch_warm"] is False
    assert report["rounds"]["no_time_for_batches"] == [("uniform", "published")]
    published, tuned = report["rows"]
    assert [len(kind["seconds"]) for kind in (published["single"], tuned["single"], tuned["batch"])] == [1, 1, 1]
    assert published["batch"] is published["peak_mib"] is None
    for part in report_parts(report):
        SafeConsole(least_width=200).print(part)
    line = next(line for line in capsys.readouterr().out.splitlines() if "uniform 5   published" in line)
    assert "no time" in line
    assert [line for line in said if "fewer rounds than --repeats 9" in line]
    assert said[0].startswith("uniform 5, published: about ")
    assert "no time for batches of uniform 5, published" in said


def test_the_batchs_stages_are_left_out_where_there_is_no_time() -> None:
    report = speed_table(["tsqnet"], SETTING, batch_size=2, repeats=1, minutes=1e-6)
    assert report["rows"][1]["batch"] is not None
    assert list(report["stages"]) == list(report["recognizer_share_of_peak"]) == ["1"]


def test_peak_memory_sees_what_a_call_takes() -> None:
    small, large = (peak_memory_mib(lambda size=size: torch.ones(size, 2**20), "cpu") for size in (1, 60))
    if small is None or large is None:
        pytest.skip("this system does not tell a process' peak memory")
    assert large - small > 200  # 240 MiB and 4 MiB of float32


def test_the_command_prints_a_table_json_and_a_plot(tsq: Any, tmp_path: Path) -> None:  # noqa: F811
    plot, short = tmp_path / "speed.png", clip("h264_b_frames").path
    options = (
        "--methods",
        "tsqnet, tsqnet-early-exit, uniform",
        "--recognizer",
        SMALL,
        "--input-size",
        "64",
        "-b",
        "1",
    )
    table = tsq("benchmark", *options, "--repeats", "1", "--plot", plot, "--decode", short)
    assert table.code == 0
    for word in (
        "TSQNet",
        "TSQNet early exit, 3 of 5 frames",
        "uniform 5",
        "published",
        "tuned",
        "GMACs",
        "videos/s",
        "recognizer",
        "1 files, from path",
    ):
        assert word in table.out, word
    said = table.err.splitlines()
    for word in (
        "one warm run of each will tell",
        "this takes about",
        "shorter with --tuned-only",
        "uniform 5, tuned: ",
    ):
        assert any(word in line for line in said), word
    # Table 2 of the supplementary stands beside, as what it is.
    assert "S, Table 2, on its own machine: RTX 3090, Xeon E5-2650 v3" in table.out
    lines = table.out.split("S, Table 2")[1].splitlines()[:8]
    theirs = {cells[0]: cells[1:] for line in lines if (cells := line.split())}
    assert theirs["AdaFocus"] == ["75.0", "26.6", "5.5", "73.8"]
    assert theirs["FrameExit"] == ["76.1", "26.1", "9.8", "-"]
    assert theirs["TSQNet"] == ["76.5", "26.1", "17.7", "121.1"]
    with Image.open(plot) as picture:
        assert picture.format == "PNG"
        assert picture.width > 1000
    report = json.loads(tsq("benchmark", *options, "--repeats", "2", "--tuned-only", "--json").out)
    assert {row["treatment"] for row in report["rows"]} == {"tuned"}
    assert report["rounds"]["single"] == 2
    assert report["rounds"]["batch"] == 0
    assert [row["batch_videos_per_second"] for row in report["paper"]["rows"]] == [73.8, None, 121.1]
    refused = tsq("benchmark", "--plot", tmp_path / "speed.gif")
    assert refused.code == 2
    assert "speed.gif" in refused.err
    missing = tsq("benchmark", "--decode", short, tmp_path / "none.mp4")
    assert missing.code == 2
    assert "none.mp4 does not exist" in missing.err
    (tmp_path / "text.mp4").write_text("not a video")
    refused = tsq("benchmark", "--decode", tmp_path / "text.mp4")  # before its table takes minutes
    assert refused.code == 1
    assert "text.mp4 is not a video" in refused.err


@pytest.mark.usefixtures("demo_decoded_once")
def test_whole_files_are_timed_stage_by_stage() -> None:
    timed = time_files([clip("h264_b_frames").path] * 2, SETTING, workers=[1, 2], rounds=2)
    assert (timed["videos"], timed["failed"]) == (2, 0)
    assert [(row["workers"], len(row["seconds"])) for row in timed["workers"]] == [(1, 2), (2, 2)]
    for row in timed["workers"]:
        assert {"probe", "decode", "encode", "recognize"} <= set(row["stages"])
        assert row["videos_per_second"] == pytest.approx(2 / np.median(row["seconds"]))
    with pytest.raises(InputNotFoundError, match=r"none\.mp4"):
        time_files([Path("none.mp4")], SETTING, workers=[1])
