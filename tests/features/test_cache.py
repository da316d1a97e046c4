"""The cache of features and frames: what it holds is right, and is made once."""

from __future__ import annotations

import os
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.features.test_extraction import color, labeled, write_video
from tests.features.test_shards import names_in_headers
from tsq_cli import loading
from tsq_cli.data import LabeledVideo
from tsq_cli.errors import TsqError, UsageError, WeightsError
from tsq_cli.features import cache as cache_module
from tsq_cli.features.cache import (
    FeatureCache,
    FrameNetwork,
    VideoFeatures,
    network_identity,
    pack_networks,
    recognizer_network,
    weights_digest,
)
from tsq_cli.features.shards import ShardStore
from tsq_cli.models import FrameEncoder
from tsq_cli.models.preprocess import Preprocessor
from tsq_cli.packs import choose_recognizer, find_pack, load_pack, load_recognizer

SHOWN = (2, 7, 12, 17)
"""Frames (20 at 10 per second) shown at 0.25, 0.75, 1.25 and 1.75 s, the centers of four equal segments."""


class MeanColor(nn.Module):
    """Features are the mean red, green and blue; logits are red + green and blue - red, times a gain."""

    def __init__(self, gain: float = 1.0) -> None:
        super().__init__()
        self.classifier = nn.Linear(3, 2, bias=False)
        with torch.no_grad():
            self.classifier.weight.copy_(gain * torch.tensor([[1.0, 1.0, 0.0], [-1.0, 0.0, 1.0]]))

    def get_classifier(self) -> nn.Linear:
        return self.classifier

    def forward_features(self, images: torch.Tensor) -> torch.Tensor:
        return images

    def forward_head(self, maps: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
        features = maps.mean(dim=(2, 3))
        return features if pre_logits else self.classifier(features)


def network(name: str = "visual", *, gain: float = 1.0, size: int = 32, short_side: int = 256) -> FrameNetwork:
    """Fed with the bytes as they are, 0 to 255."""
    feeding = Preprocessor(input_size=size, mean=(0, 0, 0), std=(1 / 255,) * 3, interpolation="nearest", crop_pct=1.0)
    return FrameNetwork(
        name=name,
        encoder=FrameEncoder(MeanColor(gain), pretrained_cfg={}).eval(),
        preprocessor=feeding,
        identity=network_identity("mean-color", f"gain {gain}", feeding),
        short_side=short_side,
    )


class Decodes:
    """Counts the videos opened for decoding."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.paths: list[str] = []
        load = loading.load_clip

        def counted(path: Path, *arguments: Any, **options: Any) -> Any:
            self.paths.append(Path(path).name)
            return load(path, *arguments, **options)

        monkeypatch.setattr(loading, "load_clip", counted)

    def taken(self) -> list[str]:
        paths, self.paths = sorted(self.paths), []
        return paths


@pytest.fixture
def decodes(monkeypatch: pytest.MonkeyPatch) -> Decodes:
    return Decodes(monkeypatch)


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> list[LabeledVideo]:
    folder = tmp_path_factory.mktemp("videos")
    return labeled(*(write_video(folder / f"{number}.mkv", number) for number in range(3)))


def same(one: VideoFeatures, other: VideoFeatures) -> bool:
    pairs = [(one.features[name], other.features[name]) for name in one.features]
    pairs += [(one.logits[name], other.logits[name]) for name in one.logits] + [(one.times, other.times)]
    return one.kept == other.kept and all(torch.equal(a, b) for a, b in pairs)


def test_features_logits_and_times_are_those_of_the_frames_drawn(three: list[LabeledVideo], tmp_path: Path) -> None:
    found = FeatureCache(tmp_path).extract(three, [network()], num_frames=4, workers=2)
    drawn = torch.tensor([[color(video, frame) for frame in SHOWN] for video in range(3)])
    assert found.features["visual"].dtype == found.logits["visual"].dtype == torch.float16
    assert torch.equal(found.features["visual"].int(), drawn.int())
    red, green, blue = drawn.unbind(2)
    assert torch.equal(found.logits["visual"].int(), torch.stack([red + green, blue - red], dim=2).int())
    np.testing.assert_allclose(found.times.numpy(), [[0.2, 0.7, 1.2, 1.7]] * 3)
    assert found.times.dtype == torch.float64
    assert (found.kept, found.failed) == ((0, 1, 2), ())


def test_each_video_is_decoded_once_for_all_networks_and_never_again(
    three: list[LabeledVideo], tmp_path: Path, decodes: Decodes
) -> None:
    cache = FeatureCache(tmp_path)
    first = cache.extract(three[:2], [network(), network("louder", gain=2.0)], num_frames=4)
    assert decodes.taken() == ["0.mkv", "1.mkv"]
    assert torch.equal(first.logits["louder"], 2 * first.logits["visual"])
    again = FeatureCache(tmp_path).extract(three[:2], [network(), network("louder", gain=2.0)], num_frames=4)
    assert decodes.taken() == []
    assert same(first, again)
    cache.extract(three, [network()], num_frames=4)
    assert decodes.taken() == ["2.mkv"]
    cache.extract(three, [network("louder", gain=2.0)], num_frames=4)
    assert decodes.taken() == ["2.mkv"]


def test_other_frames_another_network_size_or_file_are_made_anew(tmp_path: Path, decodes: Decodes) -> None:
    path = write_video(tmp_path / "clip.mkv", 0)
    cache = FeatureCache(tmp_path / "cache")
    videos = labeled(path)
    cache.extract(videos, [network()], num_frames=4)
    decodes.taken()
    for networks, num_frames in (([network()], 5), ([network(size=48)], 4), ([network(short_side=16)], 4)):
        cache.extract(videos, networks, num_frames=num_frames)
        assert decodes.taken() == ["clip.mkv"]
    os.utime(path, ns=(0, 10**18))
    cache.extract(videos, [network()], num_frames=4)
    assert decodes.taken() == ["clip.mkv"]
    write_video(path, 5)
    assert int(cache.extract(videos, [network()], num_frames=4).features["visual"][0, 0, 0]) == color(5, 0)[0]


def test_a_short_video_has_its_frames_repeated_evenly(three: list[LabeledVideo], tmp_path: Path) -> None:
    short = labeled(write_video(tmp_path / "short.mkv", 9, num_frames=3))
    cache = FeatureCache(tmp_path / "cache")
    found = cache.extract([*three, *short], [network()], num_frames=4)
    assert found.features["visual"][3].int().tolist() == [list(color(9, frame)) for frame in (0, 1, 1, 2)]
    np.testing.assert_allclose(found.times[3].numpy(), [0.0, 0.1, 0.1, 0.2])
    frames = cache.frames([*three, *short], num_frames=4)
    assert [round(float(frames[3, place][..., 1].float().mean())) for place in range(4)] == pytest.approx(
        [color(9, frame)[1] for frame in (0, 1, 1, 2)], abs=2
    )


def test_videos_that_cannot_be_decoded_are_named_and_left_out(three: list[LabeledVideo], tmp_path: Path) -> None:
    (tmp_path / "notes.mp4").write_text("not a video")
    bad = labeled(tmp_path / "notes.mp4", tmp_path / "gone.mp4")
    videos = [bad[0], three[1], bad[1], three[2]]
    cache = FeatureCache(tmp_path / "cache")
    for found in (cache.extract(videos, [network()], num_frames=4), cache.frames(videos, num_frames=4)):
        assert found.kept == (1, 3)
        assert [video for video, _ in found.failed] == bad
        assert all(str(video.path) in reason for video, reason in found.failed)
    assert cache.extract(videos, [network()], num_frames=4).features["visual"][:, 0, 0].int().tolist() == [17, 24]
    with pytest.raises(TsqError, match=r"none of 2 videos could be decoded, for example .*notes\.mp4"):
        cache.extract(bad, [network()])
    with pytest.raises(TsqError, match="none of 0 videos"):
        cache.extract([], [network()])


def test_a_video_listed_twice_and_a_network_named_twice_are_stored_once(
    three: list[LabeledVideo], tmp_path: Path, decodes: Decodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(three[0].path.parent)
    twice = [three[0], three[1], *labeled(Path("0.mkv"))]
    found = FeatureCache(tmp_path).extract(twice, [network("visual"), network("recognizer")], num_frames=4)
    assert decodes.taken() == ["0.mkv", "1.mkv"]
    assert found.kept == (0, 1, 2)
    assert torch.equal(found.features["visual"][0], found.features["visual"][2])
    assert torch.equal(found.features["visual"], found.features["recognizer"])
    assert set(names_in_headers(tmp_path / "features").values()) == {1}
    assert len(ShardStore(tmp_path / "features")) == 2


@pytest.mark.parametrize("gain", [1e3, float("inf"), float("nan")])
def test_numbers_that_float16_does_not_hold_are_an_error(
    three: list[LabeledVideo], tmp_path: Path, gain: float
) -> None:
    with pytest.raises(WeightsError, match="the network visual gives values up to"):
        FeatureCache(tmp_path).extract(three, [network(gain=gain)], num_frames=4)
    assert len(ShardStore(tmp_path / "features")) == 0


def test_an_interrupt_keeps_what_is_done(three: list[LabeledVideo], tmp_path: Path, decodes: Decodes) -> None:
    def interrupt(_what: str, done: int, _total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    told: list[tuple[int, int]] = []
    cache = FeatureCache(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        cache.extract(three, [network()], num_frames=4, progress=interrupt)
    decodes.taken()
    cache.extract(three, [network()], num_frames=4, progress=lambda _, done, total: told.append((done, total)))
    assert decodes.taken() == ["2.mkv"]
    assert told == [(2, 3), (3, 3)]


def test_while_another_writes_what_is_there_can_be_read_and_no_more(three: list[LabeledVideo], tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path)
    there = cache.extract(three[:2], [network()], num_frames=4)
    with ShardStore(tmp_path / "features").writer():
        assert same(there, cache.extract(three[:2], [network()], num_frames=4))
        with pytest.raises(TsqError, match="another process is writing"):
            cache.extract(three, [network()], num_frames=4)


@pytest.mark.parametrize("wrong", [{"num_frames": 0}, {"workers": 0}])
def test_counts_below_one_are_refused(three: list[LabeledVideo], tmp_path: Path, wrong: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="is 0; wanted 1"):
        FeatureCache(tmp_path).extract(three, [network()], **wrong)
    with pytest.raises(UsageError, match="wanted 16 to 16384"):
        FeatureCache(tmp_path).frames(three, short_side=8)


def test_features_of_one_precision_are_not_taken_for_those_of_another(
    three: list[LabeledVideo], tmp_path: Path, decodes: Decodes
) -> None:
    cache = FeatureCache(tmp_path)
    exact = cache.extract(three[:1], [network(gain=1 / 3)], num_frames=4)
    half = replace(network(gain=1 / 3), encoder=network(gain=1 / 3).encoder.bfloat16())
    assert half.identity == network(gain=1 / 3).identity
    decodes.taken()
    rough = cache.extract(three[:1], [half], num_frames=4)
    assert decodes.taken() == ["0.mkv"]
    red, green, _ = exact.features["visual"].float().unbind(-1)
    third = 171 / 512  # the number with 8 bits next to 1/3
    assert torch.equal(rough.logits["visual"][..., 0], ((red + green) * third).bfloat16().half())
    assert torch.equal(exact.logits["visual"][..., 0], ((red + green) * (1 / 3)).half())
    for of in (half, network(gain=1 / 3)):
        cache.extract(three[:1], [of], num_frames=4)
    assert decodes.taken() == []


def test_the_digest_of_weights_changes_with_any_of_them_and_is_fixed_otherwise() -> None:
    one, same_again = network().encoder, network().encoder
    assert weights_digest(one) == weights_digest(same_again)
    with torch.no_grad():
        same_again.model.classifier.weight[1, 2] += 2**-20
    others = [weights_digest(encoder) for encoder in (same_again, network().encoder.bfloat16())]
    assert len({weights_digest(one), *others}) == 3


def test_features_of_frames_resized_otherwise_are_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    before = network().identity
    assert network().identity == before
    monkeypatch.setattr(cache_module, "RESIZE", "another")
    assert network().identity != before


def test_networks_in_training_or_of_one_name_are_refused(three: list[LabeledVideo], tmp_path: Path) -> None:
    training = network().encoder.train()
    with pytest.raises(ValueError, match="visual must be in evaluation mode"):
        replace(network(), encoder=training)
    with pytest.raises(ValueError, match="different names"):
        FeatureCache(tmp_path).extract(three, [network(), network()])


def test_frames_come_back_as_drawn_to_a_copy_in_another_process_too(
    three: list[LabeledVideo], tmp_path: Path, decodes: Decodes
) -> None:
    cache = FeatureCache(tmp_path)
    made = cache.frames(three, num_frames=4, workers=2)
    assert decodes.taken() == ["0.mkv", "1.mkv", "2.mkv"]
    for store in (made, cache.frames(three, num_frames=4), pickle.loads(pickle.dumps(made))):
        assert (len(store), store.num_frames) == (3, 4)
        for video in range(3):
            for place, frame in enumerate(SHOWN):
                pixels = store[video, place]
                assert (pixels.shape, pixels.dtype) == ((16, 16, 3), torch.uint8)
                assert (pixels.int() - torch.tensor(color(video, frame))).abs().max() <= 3  # JPEG's own rounding
    assert decodes.taken() == []
    for place in ((3, 0), (0, 4), (-1, 0)):
        with pytest.raises(IndexError):
            made[place]
    large = labeled(write_video(tmp_path / "large.mkv", 0, size=64))
    assert cache.frames(large, num_frames=4, short_side=32)[0, 0].shape == (32, 32, 3)


def test_a_packs_networks_give_what_they_give_in_selection(three: list[LabeledVideo], tmp_path: Path) -> None:
    from tests.packs.making import make_pack  # brings timm, which the processes that are killed do without
    from tsq_cli.clip import load_clip
    from tsq_cli.config import SelectSettings
    from tsq_cli.scoring import encode

    document = make_pack(tmp_path / "pack")
    config = find_pack(tmp_path / "pack")
    pack = load_pack(config)
    choice = choose_recognizer(config, "embedded")
    recognizer = load_recognizer(pack, choice)
    networks = [*pack_networks(pack), recognizer_network(recognizer)]
    assert [each.name for each in networks] == ["visual", "recognizer"]
    assert networks[0].identity == networks[1].identity  # one network, fed alike
    assert document["roles"]["visual_encoder"]["model"] in networks[0].identity
    found = FeatureCache(tmp_path / "cache").extract(three, networks, num_frames=4)
    with torch.inference_mode():
        for number, video in enumerate(three):
            clip = load_clip(video.path, SelectSettings(num_candidates=4))
            (features,), (logits,) = encode(pack, [torch.from_numpy(clip.batch.pixels)])
            assert torch.equal(found.features["visual"][number], features.half())
            assert torch.equal(found.logits["visual"][number], logits.half())
            clip.close()
