"""What is counted against arithmetic written out by hand, and against the figures that papers and libraries publish."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import nn
from torch.nn import functional

from tests.marks import needs_cuda
from tsq_cli.benchmark.methods import AdaFocus, FrameExit, UniAdaFocus
from tsq_cli.models import TSQLayer, TSQNet, create_encoder, frame_saliency, object_text_features
from tsq_cli.models.flops import Cost, count

RESNET50_PARAMETERS = 25_557_032  # published by torchvision, as the next three
RESNET101_PARAMETERS = 44_549_160
MOBILENETV2_PARAMETERS = 3_504_872
EFFICIENTNET_B0_PARAMETERS = 5_288_548


def resnet_macs_by_hand(blocks: tuple[int, ...], *, side: int) -> int:
    """ResNet with bottlenecks (He et al. 2016, table 1; the stride in the 3 x 3 convolution) and 1000 classes."""
    side //= 2
    macs = side**2 * 64 * 3 * 7**2
    side //= 2  # the maximum pooling
    in_channels = 64
    for stage, number in enumerate(blocks):
        width = 64 * 2**stage
        for block in range(number):
            stride = 2 if block == 0 and stage > 0 else 1
            macs += side**2 * in_channels * width
            side //= stride
            macs += side**2 * width * width * 3**2 + side**2 * width * 4 * width
            if block == 0:
                macs += side**2 * in_channels * 4 * width  # the projection of the shortcut
            in_channels = 4 * width
    return macs + in_channels * 1000


def tsq_layer_macs_by_hand(*, clips: int, frames: int, dim: int, classes: int) -> int:
    """docs/method.md, section 2: E Wq once; Kf and V of every frame; Q Kf^T; each class's classifier on every frame."""
    return classes * dim**2 + clips * (2 * frames * dim**2 + 2 * classes * frames * dim)


def tsq_layer(dim: int, classes: int) -> TSQLayer:
    return TSQLayer(dim, classes)


@pytest.fixture
def weightless() -> Iterator[None]:
    """Networks and tensors of the meta device, without values: making and counting them takes no time."""
    with torch.device("meta"):
        yield


@pytest.fixture(scope="module")
def frame_exit() -> FrameExit:
    return FrameExit()


@pytest.mark.parametrize("side", [224, 128])
@pytest.mark.usefixtures("weightless")
def test_resnet101_by_hand(side: int) -> None:
    cost = count(create_encoder("resnet101"), torch.empty(1, 3, side, side))
    assert cost.macs == resnet_macs_by_hand((3, 4, 23, 3), side=side)
    assert cost.parameters == RESNET101_PARAMETERS
    if side == 224:
        assert cost.giga_macs == pytest.approx(7.8, rel=0.03)
        assert cost.giga_flops == pytest.approx(15.6, rel=0.03)


@pytest.mark.parametrize(
    ("name", "giga_macs", "parameters"),
    [
        ("resnet50", 4.1, RESNET50_PARAMETERS),
        ("mobilenetv2_100", 0.30, MOBILENETV2_PARAMETERS),
        ("efficientnet_b0", 0.39, EFFICIENTNET_B0_PARAMETERS),
    ],
)
@pytest.mark.usefixtures("weightless")
def test_published_figures_of_other_networks(name: str, giga_macs: float, parameters: int) -> None:
    cost = count(create_encoder(name), torch.empty(1, 3, 224, 224))
    assert cost.giga_macs == pytest.approx(giga_macs, rel=0.03)
    assert cost.parameters == parameters


@pytest.mark.parametrize("clips", [1, 3])
def test_tsq_layer_by_hand(clips: int) -> None:
    cost = count(tsq_layer(96, 20), torch.randn(clips, 16, 96))
    assert cost.macs == tsq_layer_macs_by_hand(clips=clips, frames=16, dim=96, classes=20)
    assert cost.parameters == 3 * 96**2 + 2 * 20 * 96 + 20 + 16 * 96


def test_tsqnet_costs_what_its_stages_cost() -> None:
    visual, objects, recognizer = (create_encoder(n) for n in ("mobilenetv2_100", "efficientnet_b0", "resnet101"))
    tsqnet = TSQNet(tsq_layer(1280, 200), tsq_layer(768, 200))
    embeddings = torch.randn(1000, 768)

    def classify(frames: torch.Tensor) -> torch.Tensor:
        text = object_text_features(objects(frames).logits, embeddings)
        saliency = frame_saliency(tsqnet(visual(frames).features[None], text[None]).visual)
        selected = frames[saliency.scores[0].topk(5).indices]
        logits: torch.Tensor = recognizer(selected).logits
        return logits

    cost = count(classify, torch.randn(16, 3, 32, 32), modules=[visual, objects, tsqnet, recognizer])
    sampler = 16 * sum(count(encoder, torch.randn(1, 3, 32, 32)).macs for encoder in (visual, objects))
    layers = sum(tsq_layer_macs_by_hand(clips=1, frames=16, dim=dim, classes=200) for dim in (1280, 768))
    weighting = 3 * 16  # three classes' attention to 16 frames
    recognition = 5 * resnet_macs_by_hand((3, 4, 23, 3), side=32)
    assert cost.macs == sampler + 16 * 1000 * 768 + layers + weighting + recognition
    layer_parameters = sum(3 * dim**2 + (200 + 200 + 16) * dim + 200 for dim in (1280, 768))
    networks_parameters = MOBILENETV2_PARAMETERS + EFFICIENTNET_B0_PARAMETERS + RESNET101_PARAMETERS
    assert cost.parameters == networks_parameters + layer_parameters


def test_frameexit_costs_what_is_published(frame_exit: FrameExit) -> None:
    frames = torch.randn(10, 3, 224, 224)
    a_frame = count(lambda: frame_exit(frames, exit_after=1)).giga_macs
    assert a_frame == pytest.approx(4.1, rel=0.03)
    assert 6.3 * a_frame == pytest.approx(26.1, rel=0.03)


@pytest.mark.parametrize(("num_frames", "num_gates"), [(1, 0), (6, 5), (10, 8)])
def test_frameexit_costs_a_frame_and_a_gate_more_each_step(
    frame_exit: FrameExit, num_frames: int, num_gates: int
) -> None:
    frames = torch.randn(10, 3, 32, 32)
    frame = resnet_macs_by_hand((3, 4, 6, 3), side=32) - 2048 * 1000 + 2048 * 4096
    gate = 2 * (4096 * 128 + 128 * 64) + 128  # two states through the shared layers, then both together
    classifiers = 2 * 4096 * 200  # the first step's, whose confidence decides there, and the last one's
    expected = num_frames * frame + num_gates * gate + classifiers
    assert count(lambda: frame_exit(frames, exit_after=num_frames)).macs == expected


def test_parameters_of_frameexit_by_hand(frame_exit: FrameExit) -> None:
    gate = (4096 * 128 + 128 + 2 * 128) + (128 * 64 + 64 + 2 * 64) + (128 + 1)
    embed = 2048 * 4096 + 4096 + 2 * 4096
    classifiers = 10 * (4096 * 200 + 200)
    backbone = RESNET50_PARAMETERS - (2048 * 1000 + 1000)
    assert count(lambda: None, modules=[frame_exit]).parameters == backbone + embed + 8 * gate + classifiers


@pytest.mark.usefixtures("weightless")
def test_adafocus_costs_what_is_published() -> None:
    cost = count(AdaFocus(), torch.empty(1, 16, 3, 224, 224))
    assert cost.giga_macs == pytest.approx(26.2, rel=0.03)
    policy = (1280 * 32 + 32) + (32 * 49 * 1024 + 1024) + 3 * (2 * 1024**2 + 2 * 1024) + (1024 * 49 + 49)
    video = 3 * ((1280 + 2048) * 1024 + 1024**2 + 2 * 1024) + (1024 * 200 + 200)
    networks = MOBILENETV2_PARAMETERS + RESNET50_PARAMETERS - (1280 + 2048) * 1000 - 2 * 1000
    assert cost.parameters == networks + policy + video


def test_both_forms_of_adafocus_cost_the_same() -> None:
    model = AdaFocus(5, glance="test_efficientnet", focus="test_resnet")
    videos = torch.randn(2, 3, 3, 224, 224)
    assert count(model.forward_as_published, videos).macs == count(model, videos).macs > 0


@pytest.mark.usefixtures("weightless")
@pytest.mark.parametrize(("patch_side", "published"), [(128, 27.2), (96, 18.1)])
def test_uni_adafocus_costs_what_is_published(patch_side: int, published: float) -> None:
    cost = count(UniAdaFocus(patch_side=patch_side), torch.empty(1, 48, 3, 224, 224))
    assert cost.giga_macs == pytest.approx(published, rel=0.02)  # 27.2 and 17.8
    embed = 16 * (1280 + 2048) * 4096
    spatial = 1280 * 128 * 16 * 49 + 2 * 27 * 128**2 * 16 * 49 + 128 * 4 * 49 * 16
    temporal = (3 * 1280 * 64 + 3 * 64**2 + 64) * 16
    networks = count(create_encoder("mobilenetv2_100", num_classes=0).model, torch.empty(16, 3, 224, 224)).macs
    networks += 16 * (resnet_macs_by_hand((3, 4, 6, 3), side=patch_side) - 2048 * 1000)
    assert cost.macs == networks + embed + spatial + temporal + 2 * 4096 * 200
    policies = 1280 * 128 + 2 * 27 * 128**2 + 128 * 4 * 49 + 3 * 2 * 128 + 3 * (1280 + 64) * 64 + 64 + 2 * 2 * 64
    answer = (1280 + 2048) * 4096 + 2 * 3 * 4096 + 2 * 4096 * 200 + 200
    backbones = MOBILENETV2_PARAMETERS + RESNET50_PARAMETERS - (1280 + 2048) * 1000 - 2 * 1000
    assert cost.parameters == backbones + policies + answer


@pytest.mark.parametrize(("kind", "gates"), [(nn.RNN, 1), (nn.GRU, 3), (nn.LSTM, 4)])
@pytest.mark.parametrize("batch_first", [True, False])
def test_recurrent_layers_are_counted_step_by_step(kind: type[nn.RNNBase], gates: int, batch_first: bool) -> None:
    layer = kind(input_size=24, hidden_size=16, batch_first=batch_first)
    cost = count(layer, torch.randn(5, 7, 24))
    assert cost.macs == 5 * 7 * gates * 16 * (24 + 16)
    assert cost.parameters == gates * 16 * (24 + 16 + 2)


@needs_cuda
@pytest.mark.parametrize("layers", [1, 2])
def test_recurrent_layers_on_a_gpu_are_counted_too(layers: int) -> None:
    layer = nn.GRU(24, 16, num_layers=layers, batch_first=True).cuda()
    expected = 5 * 7 * 3 * 16 * ((24 + 16) + (layers - 1) * (16 + 16))
    assert count(layer, torch.randn(5, 7, 24, device="cuda")).macs == expected


def test_attention_is_counted() -> None:
    q, k = torch.randn(2, 4, 10, 8), torch.randn(2, 4, 6, 8)
    assert count(functional.scaled_dot_product_attention, q, k, k).macs == 2 * (2 * 4 * 10 * 6 * 8)


def test_a_depthwise_convolution_costs_one_channel_each() -> None:
    network = nn.Conv2d(12, 12, kernel_size=3, padding=1, groups=12, bias=False)
    assert count(network, torch.randn(2, 12, 9, 9)) == Cost(macs=2 * 12 * 9**2 * 3**2, parameters=12 * 3**2)


def test_a_compiled_network_costs_what_it_cost_before() -> None:
    network = nn.Linear(30, 20)
    inputs = torch.randn(4, 30)
    network.compile()
    assert count(network, inputs) == Cost(macs=4 * 30 * 20, parameters=30 * 20 + 20)


def test_counting_leaves_a_network_ready_for_training() -> None:
    network = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4).requires_grad_(False))
    count(network, torch.randn(1, 4))
    assert [parameter.requires_grad for parameter in network.parameters()] == [True, True, False, False]
    network(torch.randn(1, 4)).sum().backward()
    assert network[0].weight.grad is not None


def test_shared_parameters_count_once() -> None:
    shared = nn.Linear(4, 4)
    both = nn.Sequential(shared, nn.ReLU(), shared)
    assert count(both, torch.randn(1, 4), modules=[shared]) == Cost(macs=2 * 16, parameters=20)
    assert count(lambda x: shared(x), torch.randn(1, 4)).parameters == 0
