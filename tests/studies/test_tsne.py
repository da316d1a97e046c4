"""t-SNE of the class queries: who is near stays near, panels in the paper's order, colors by meaning."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.studies.synthetic import C, CountedSource, make_data
from tsq_cli.errors import UsageError
from tsq_cli.models.layer_config import TSQLayerConfig
from tsq_cli.studies.tsne import check_tsne, default_perplexity, embed, meaning_hues, train_queries, tsne_figure
from tsq_cli.training.settings import FitSettings, HeadSettings

SETTINGS = HeadSettings(fit=FitSettings(epochs=1, learning_rate=1e-2))
NAMES = tuple(f"class {number}" for number in range(C))


pytestmark = pytest.mark.usefixtures("one_thread")


def test_who_is_near_stays_near() -> None:
    generator = torch.Generator().manual_seed(0)
    centers = 10 * torch.randn(4, 32, generator=generator)
    queries = centers.repeat_interleave(6, dim=0) + 0.1 * torch.randn(24, 32, generator=generator)
    places = embed(queries, perplexity=5.0, seed=1)
    distances = np.linalg.norm(places[:, None] - places[None], axis=2) + 1e9 * np.eye(24)
    assert (distances.argsort(axis=1)[:, :5] // 6 == np.arange(24)[:, None] // 6).all()
    np.testing.assert_array_equal(places, embed(queries, perplexity=5.0, seed=1))


def test_four_figures_for_each_module() -> None:
    data = make_data()
    steps: list[tuple[int, int]] = []
    queries = train_queries(data, SETTINGS, seed=5, progress=lambda _, done, total: steps.append((done, total)))
    assert isinstance(data.source, CountedSource)
    assert data.source.seeds == [5, 5]
    assert steps == [(number + 1, 6) for number in range(6)]  # two trainings of three batches
    assert [one.title for one in queries] == [
        f"{start} start, {when} training" for start in ("random", "proposed") for when in ("before", "after")
    ]
    random, random_after, proposed, proposed_after = queries
    torch.testing.assert_close(proposed.visual, data.queries_visual)
    torch.testing.assert_close(proposed.textual, data.queries_textual)
    assert not torch.allclose(random.visual, proposed.visual)
    assert not torch.allclose(random.textual, proposed.textual)
    for before, after in ((random, random_after), (proposed, proposed_after)):
        for module in ("visual", "textual"):
            moved = (getattr(after, module) - getattr(before, module)).abs().max()
            assert 0 < moved < 0.1, module  # three steps of at most 0.01, and some momentum

    figure = tsne_figure(queries, NAMES, meanings=proposed.textual)
    titles = [[panel.title for panel in row] for row in figure.rows]
    assert [len(row) for row in titles] == [4, 4]
    assert titles[0][0] == "VQM, random start, before training"
    assert titles[1][3] == "TQM, proposed start, after training"
    assert figure.names == NAMES
    np.testing.assert_array_equal(figure.rows[1][2].points, embed(proposed.textual, perplexity=default_perplexity(C)))
    np.testing.assert_array_equal(figure.hues, meaning_hues(proposed.textual))


def test_colors_go_round_as_the_names_do() -> None:
    angles = np.array([200.0, 10.0, 100.0, 290.0, 60.0])
    circle = np.stack([3 * np.cos(np.radians(angles)), 2 * np.sin(np.radians(angles))], axis=1)
    turned = circle @ np.random.default_rng(0).normal(size=(2, 7))
    hues = meaning_hues(torch.from_numpy(turned))
    np.testing.assert_allclose(np.sort(hues), np.arange(5) / 5)
    around = np.argsort(angles)
    steps = np.diff(hues[around], append=hues[around[0]]) % 1.0
    # The plane may come mirrored: one step forward each, or one step back each.
    assert np.allclose(steps, 0.2) or np.allclose(steps, 0.8)


def test_the_perplexity_stays_below_the_number_of_classes() -> None:
    assert default_perplexity(40) == 13.0
    assert default_perplexity(400) == 30.0
    check_tsne(4, None)
    check_tsne(4, 3.9)
    for num_classes in (2, 3):  # two, as in a set of fights
        with pytest.raises(UsageError, match=f"there are {num_classes} classes"):
            check_tsne(num_classes, None)
    for perplexity in (0.0, 40.0, float("nan")):
        with pytest.raises(UsageError, match="below 40"):
            check_tsne(40, perplexity)
    with pytest.raises(UsageError, match="below 5"):
        tsne_figure([], NAMES, meanings=torch.zeros(C, 2), perplexity=5.0)


def test_one_query_for_all_classes_is_no_figure() -> None:
    settings = replace(SETTINGS, textual_layer=TSQLayerConfig(attention="class-agnostic"))
    with pytest.raises(UsageError, match="one query for all classes"):
        train_queries(make_data(), settings)
