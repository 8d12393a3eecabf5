"""Maps of latent codes: alignment, films that start from the last map, bounded memory, and a model left as it was."""

import numpy as np
import pytest
import torch
from support import model_of

from qvae.config.schema import ModelConfig
from qvae.evaluation import tsne
from qvae.evaluation.tsne import LatentFilm, aligned, tsne_map


@pytest.fixture
def codes():
    """Two groups of codes, far apart."""
    generator = np.random.default_rng(0)
    centres = generator.random((2, 12)) > 0.5
    return np.abs(centres[np.arange(40) % 2] - 0.1 * generator.random((40, 12))).astype(np.float32)


def separation(points):
    groups = points[::2], points[1::2]
    between = np.linalg.norm(groups[0].mean(0) - groups[1].mean(0))
    return between / max(group.std() for group in groups)


def test_a_map_keeps_groups_apart_and_repeats(codes):
    points = tsne_map(codes, seed=3)
    assert points.shape == (40, 2)
    assert separation(points) > 2
    assert np.array_equal(points, tsne_map(codes, seed=3))


def test_alignment_undoes_a_rotation_and_a_reflection():
    target = np.random.default_rng(1).normal(size=(30, 2)).astype(np.float32)
    target -= target.mean(0)
    angle = 1.1
    turned = target @ np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) @ np.diag([1, -1])
    assert np.allclose(aligned(turned, target), target, atol=1e-5)


def test_alignment_turns_the_right_way():
    """A reflection is its own inverse, and would not tell."""
    target = np.random.default_rng(1).normal(size=(30, 2)).astype(np.float32)
    target -= target.mean(0)
    turned = target @ np.array([[np.cos(1.1), -np.sin(1.1)], [np.sin(1.1), np.cos(1.1)]])
    assert np.allclose(aligned(turned, target), target, atol=1e-5)


def test_the_next_map_starts_from_the_last(codes):
    first = tsne_map(codes)
    nudged = codes + 0.01 * np.random.default_rng(2).random(codes.shape).astype(np.float32)

    def unlike(points):
        return 1 - np.corrcoef(points.ravel(), first.ravel())[0, 1]

    assert unlike(tsne_map(nudged, first)) < 0.05
    # Where the groups stand depends on where one starts: from its mirror image the map stays a mirror image.
    mirrored = tsne_map(nudged, first * np.array([-1, 1], dtype=np.float32))
    assert unlike(mirrored) > 0.5


def test_a_map_of_its_own_takes_longer_than_one_that_sets_out_from_another(monkeypatch):
    """And has no more neighbours than a third of the rows, or thirty."""
    asked = []

    class Recorded:
        def __init__(self, **settings):
            asked.append(settings)

        def fit_transform(self, codes):
            asked[-1]["dtype"] = codes.dtype
            return np.arange(2.0 * len(codes)).reshape(-1, 2)

    monkeypatch.setattr("sklearn.manifold.TSNE", Recorded)
    start = np.ones((10, 2), np.float32)
    found = tsne_map(np.eye(10, 3), seed=7)
    tsne_map(np.eye(10, 3), start, seed=7)
    tsne_map(np.ones((100, 3)))
    tsne_map(np.eye(100, 1))
    assert np.abs(found.mean(0)).max() < 1e-6
    common = {"random_state": 7, "perplexity": 3.0, "dtype": np.float32}
    assert asked[0] == common | {"init": "pca", "max_iter": 750}
    assert asked[1].pop("init") is start
    assert asked[1] == common | {"max_iter": 250, "early_exaggeration": 1.0}
    assert [(each["init"], each["perplexity"]) for each in asked[2:]] == [("random", 30.0)] * 2


def test_codes_that_are_all_alike_have_a_map():
    assert np.isfinite(tsne_map(np.full((12, 5), 0.5, dtype=np.float32))).all()


@pytest.fixture
def watched():
    torch.manual_seed(0)
    config = ModelConfig.model_validate({"latent": {"sizes": [4, 4]}, "network": {"hidden": [8]}})
    model = model_of(config, torch.full((4, 4), 0.4))
    images = (torch.rand(12, 16, generator=torch.Generator().manual_seed(1)) < 0.4).float()
    return model.train(), images


def test_a_film_leaves_the_model_and_the_random_numbers_as_they_were(watched):
    model, images = watched
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    for training in (False, True):
        LatentFilm(images, every=1).observe(model.train(training), 1, "surrogate 3.0")
        assert model.training == training
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_codes_of_a_film_are_drawn_with_its_seed(watched, monkeypatch):
    model, images = watched
    monkeypatch.setattr(tsne, "tsne_map", lambda codes, start, seed: seeds.append(seed))
    code_means, seeds = model.code_means, []
    model.code_means = lambda rows, generator: seeds.append(generator.initial_seed()) or code_means(rows, generator)
    LatentFilm(images, every=1, seed=9).observe(model, 1, "")
    assert seeds == [9, 9]  # of the codes and of their map


def test_a_film_goes_on_from_its_state(watched):
    model, images = watched
    whole, half = LatentFilm(images, every=2), LatentFilm(images, every=2)
    for film in (whole, half):
        film.observe(model, 1, "surrogate 3.0")
    resumed = LatentFilm(images, every=2)
    resumed.load_state_dict(half.state_dict())
    assert half.seconds > 0
    assert vars(resumed).keys() == vars(half).keys()
    for name, value in vars(half).items():
        assert np.array_equal(getattr(resumed, name), value), name
    for film in (whole, resumed):
        film.observe(model, 2, "surrogate 2.0")
    assert resumed.epochs == [1, 2]
    assert resumed.losses == ["surrogate 3.0", "surrogate 2.0"]
    assert np.array_equal(whole.maps[1], resumed.maps[1])
    other = LatentFilm(images[:5], every=2)
    other.load_state_dict(whole.state_dict())  # a film of other images can't be continued
    assert other.maps == []


def test_a_long_film_is_thinned_out(watched, monkeypatch):
    model, images = watched
    now = []
    monkeypatch.setattr(tsne, "tsne_map", lambda codes, start=None, seed=0: np.full((len(codes), 2), now[-1], np.float32))
    film = LatentFilm(images, every=3)
    for epoch in range(1, 2001):
        if film.is_due(epoch):
            now.append(epoch)
            film.observe(model, epoch, f"surrogate {epoch}")
    assert len(film.maps) <= 60
    assert [int(found[0, 0]) for found in film.maps] == film.epochs  # what belongs together stays beside each other
    assert film.losses == [f"surrogate {epoch}" for epoch in film.epochs]
    assert film.every > 3
    assert film.epochs[0] == 1
    assert np.ptp(np.diff(film.epochs[1:])) == 0  # still evenly spaced
    assert film.epochs[-1] > 2000 - film.every


def test_another_interval_counts_from_where_a_film_goes_on(watched):
    model, images = watched
    film = LatentFilm(images, every=2)
    film.observe(model, 1, "")
    for every in (2, 5):
        other = LatentFilm(images, every=every)
        other.load_state_dict(film.state_dict() | {"every": 4})  # as after thinning out
        assert other.every == (4 if every == 2 else 5)


def test_one_unit_is_mapped_with_a_seed_of_any_size():
    codes = np.random.default_rng(0).random((40, 1))
    found = tsne_map(codes, seed=2**40 + 5)
    assert found.shape == (40, 2)
    assert np.array_equal(found, tsne_map(codes, seed=5))
    assert not np.array_equal(found, tsne_map(codes, seed=6))
