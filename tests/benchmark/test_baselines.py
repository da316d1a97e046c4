"""The yardstick of the other methods' speed: it computes what ours computes, at the same cost."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from benchmarks.baselines import SETTING, baselines_grid, giga_macs
from benchmarks.baselines_plain import PlainFrameExit, PlainUniAdaFocus, prepared
from tests.benchmark.networks import lively
from tsq_cli.benchmark.methods import FrameExit
from tsq_cli.benchmark.peers import IMAGENET_INPUT, FrameExitRunner, UniAdaFocusRunner
from tsq_cli.benchmark.speed import FRAME_SHAPE


def video(num_frames: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randint(0, 256, (1, num_frames, *FRAME_SHAPE), dtype=torch.uint8, generator=generator)


def test_frames_are_prepared_alike() -> None:
    frames = video(2)[0]
    torch.testing.assert_close(prepared(frames), IMAGENET_INPUT(frames), rtol=1e-5, atol=1e-5)
    assert prepared(frames).is_contiguous()


def test_the_plain_frameexit_gives_our_answer() -> None:
    ours, plain = lively(FrameExit(6)), PlainFrameExit(6, 2)
    plain.backbone.load_state_dict(ours.backbone.state_dict())
    plain.embed[0].load_state_dict(ours.embed.linear.state_dict())
    plain.embed[1].load_state_dict(ours.embed.norm.state_dict())
    seen: list[torch.Tensor] = []
    plain.classifiers[1].load_state_dict(ours.classifiers[1].state_dict())
    plain.classifiers[1].register_forward_hook(lambda _, __, scores: seen.append(scores))
    with torch.inference_mode():
        plain(video(10))
        expected = ours(IMAGENET_INPUT(video(10)[0]), exit_after=2).logits
    torch.testing.assert_close(seen[0][0], expected, rtol=1e-3, atol=1e-3)
    assert expected.std() > 0.01


def test_both_cost_the_same() -> None:
    setting = replace(SETTING, num_candidates=4, num_frames=3, exit_after=3)
    ours, plain = giga_macs(FrameExitRunner(setting), PlainFrameExit(1000, 3), video(10))
    assert ours == pytest.approx(plain, rel=0.002)
    ours, plain = giga_macs(UniAdaFocusRunner(setting, 96), PlainUniAdaFocus(1000, 96), video(3 * 4))
    assert ours == pytest.approx(plain, rel=0.01)


def test_the_table_shows_ours_beside_the_plain_form() -> None:
    row = {
        "name": "FrameExit",
        "timings": {"ours": {"median": 0.5}, "plain": {"median": 0.6}},
        "giga_macs": {"ours": 24.6, "plain": 24.6},
        "ratio": {"median": 1.2, "low": 1.1, "high": 1.3},
    }
    assert baselines_grid({"rows": [row]}).rows == [["FrameExit", "24.6", "2.00", "1.67", "1.20", "1.10-1.30"]]
