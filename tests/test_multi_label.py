"""A pack of several classes a video: sigmoids in the place of softmax, in the curves and in the predictions."""

import numpy as np
import pytest
import torch

from tests.packs.making import make_pack, write_json
from tsq_cli.config import ClassifySettings
from tsq_cli.models import object_text_features
from tsq_cli.packs import Pack, load_pack, load_recognizer
from tsq_cli.recognition import recognize_clips
from tsq_cli.scoring import encode, tsq_scores


@pytest.fixture(scope="module")
def packs(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Pack]:
    """The same pack with and without multi_label."""
    folder = tmp_path_factory.mktemp("packs") / "small"
    document = make_pack(folder)
    loaded = {}
    for multi_label in (False, True):
        document["settings"]["multi_label"] = multi_label
        write_json(folder, document)
        loaded[multi_label] = load_pack(folder)
    return loaded


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    return np.random.default_rng(0).integers(256, size=(4, 70, 90, 3), dtype=np.uint8)


@pytest.mark.parametrize("multi_label", [False, True])
def test_curves_weigh_classes_by_sigmoid_or_softmax(
    packs: dict[bool, Pack], frames: np.ndarray, multi_label: bool
) -> None:
    pack = packs[multi_label]
    with torch.inference_mode():
        features, objects = (torch.stack(part) for part in encode(pack, [torch.from_numpy(frames)]))
        scores = tsq_scores(pack, features, objects, top_n=2)
        output = pack.tsqnet(features, object_text_features(objects, pack.textual_embeddings))
    for module, curve in ((output.visual, scores.visual), (output.textual, scores.textual)):
        p = (module.logits.sigmoid() if multi_label else module.logits.softmax(dim=1))[0]
        best = module.logits[0].argsort(descending=True)[:2]
        expected = (p[best] / p[best].sum()) @ module.attention[0, best]
        torch.testing.assert_close(curve.probabilities[0], p[best])
        torch.testing.assert_close(curve.scores[0], expected)


@pytest.mark.parametrize("multi_label", [False, True])
def test_predictions_are_of_the_mean_logit(packs: dict[bool, Pack], frames: np.ndarray, multi_label: bool) -> None:
    pack = packs[multi_label]
    loaded = load_recognizer(pack, "embedded")
    settings = ClassifySettings(num_predictions=3, maps=False)
    (recognition,) = recognize_clips(loaded, [torch.from_numpy(frames)], settings)
    with torch.inference_mode():
        logits = loaded.recognizer(loaded.preprocessor(torch.from_numpy(frames))).logits
    for said, z in [
        (recognition.predictions, logits.mean(dim=0)),
        *zip(recognition.frame_predictions.values(), logits, strict=True),
    ]:
        expected = 1 / (1 + np.exp(-z.numpy())) if multi_label else np.exp(z.numpy()) / np.exp(z.numpy()).sum()
        assert [category.index for category in said] == np.argsort(-z.numpy()).tolist()
        assert [category.score for category in said] == pytest.approx(sorted(expected, reverse=True), rel=1e-5)


def test_classes_all_but_certain_keep_their_order(packs: dict[bool, Pack], frames: np.ndarray) -> None:
    """In float32 the sigmoids of 20 and 30 are both one."""
    pack = packs[True]
    loaded = load_recognizer(pack.config, "embedded")
    bias = loaded.recognizer.encoder.classifier_bias
    with torch.no_grad():
        bias += torch.tensor([20.0, -20.0, 30.0])
    (recognition,) = recognize_clips(
        loaded, [torch.from_numpy(frames)], ClassifySettings(num_predictions=3, maps=False)
    )
    assert [category.index for category in recognition.predictions] == [2, 0, 1]
    assert recognition.predictions[1].score == pytest.approx(1.0)
