"""Options of tasks on a run arrive where they count: none of them is a default here."""

import math
from contextlib import nullcontext
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
import torch

import qvae
from qvae.applications import denoise, detect, embed, inpaint, interpolate, paths, restore, style, super_resolve
from qvae.applications.interpolate import Way
from qvae.applications.restore import Effort
from qvae.applications.task import task_input
from qvae.data.given_table import KnownColumns
from qvae.models.likelihoods.bernoulli import Bernoulli
from qvae.models.likelihoods.likelihood import Statistics

OPTIONS = {"completions": 3, "draws": 5, "steps": 7, "sampler": "exact", "trained": True, "seed": 9}


class Four:
    """Rows that are given, so many."""

    extra: ClassVar = {}

    def __len__(self):
        return 4


@pytest.fixture
def run(trained):
    return qvae.load_run(trained)


@pytest.fixture
def values():
    """Four images of bits."""
    return (np.random.default_rng(0).random((4, 8, 8)) < 0.4).astype(np.float32)


@pytest.fixture
def restored(run, values, tmp_path, monkeypatch):
    """Calls a restoring task, and gives what it hands to the restoration of these rows."""

    def call(task, given, **options):
        np.save(tmp_path / "rows.npy", given)
        calls, amounts = [], []

        def restore(of, name, rows, observe, effort, damage, amount, out, progress):
            assert of is run
            assert torch.equal(rows.dataset.values(rows.dataset.test), torch.from_numpy(given))
            assert (effort, out, progress) == (Effort(*OPTIONS.values()), tmp_path / "out", "progress")
            rows = torch.from_numpy(given).flatten(1)
            amounts.append(amount)
            calls.append((name, damage, observe(rows, slice(0, 4)), observe(rows[1:3], slice(1, 3))))

        monkeypatch.setattr(task, "restore", restore)
        function = getattr(task, task.__name__.rpartition(".")[2])
        function(run, tmp_path / "rows.npy", out=tmp_path / "out", progress="progress", **options, **OPTIONS)
        ((name, damage, whole, part),) = calls
        assert damage == options.get("noise", {"inpainted": "hidden", "super-resolved": "coarse"}.get(name))
        assert whole.likelihood is part.likelihood is run.model.likelihood
        # A mask is an array or a file; noise says how much it is, and squares how large they are.
        hidden = [float(whole.hidden.float().mean())] if damage == "hidden" else []
        assert amounts == pytest.approx(hidden or [options.get("amount", getattr(whole, "factor", None))])
        return name, whole, part

    return call


@pytest.mark.parametrize(("noise", "ones"), [("salt-and-pepper", 0.5), ("dropped", 0.0)])
def test_noise_of_bits(noise, ones, restored, values):
    name, whole, part = restored(denoise, values, noise=noise, amount=0.35)
    assert (name, whole.rate, whole.ones) == ("denoised", 0.35, ones)
    assert torch.equal(part.seen, torch.from_numpy(values).flatten(1)[1:3])


def test_normal_noise(restored, values):
    _, whole, _ = restored(denoise, 3 * values - 1, noise="gaussian", amount=0.35)
    assert whole.variance == pytest.approx(0.35**2)


def test_a_mask_of_each_row(restored, values, tmp_path):
    mask = np.random.default_rng(1).random(values.shape) < 0.3
    np.save(tmp_path / "mask.npy", mask)
    name, whole, part = restored(inpaint, values, mask=tmp_path / "mask.npy")
    hidden = torch.from_numpy(mask).flatten(1)
    assert name == "inpainted"
    assert torch.equal(whole.hidden.squeeze(1), hidden)
    assert torch.equal(part.hidden.squeeze(1), hidden[1:3])
    assert torch.equal(whole.seen, torch.from_numpy(values).flatten(1).masked_fill(hidden, 0))


@pytest.mark.parametrize("side", [2, 4])
def test_squares_of_pixels(side, restored, values):
    name, whole, _ = restored(super_resolve, values[:, :side, :side])
    assert (name, whole.factor, whole.shape) == ("super-resolved", 8 // side, (8, 8))


def test_squares_of_pixels_in_colour(monkeypatch):
    """Sides of 4 x 6 pixels, from 2 x 3, in three channels."""
    calls = []
    coarse = torch.arange(36.0).view(2, 3, 2, 3) / 36
    dataset = SimpleNamespace(shape=(3, 2, 3))
    monkeypatch.setattr(super_resolve, "task_input", lambda run, path, shapes: nullcontext(SimpleNamespace(dataset=dataset)))
    monkeypatch.setattr(super_resolve, "restore", lambda *given: calls.append(given))
    model = SimpleNamespace(likelihood=Bernoulli(Statistics.blank((3, 4, 6))), shape=(3, 4, 6))
    super_resolve.super_resolve(SimpleNamespace(model=model), "coarse.npy")
    ((_, _, _, observe, _, _, factor, *_),) = calls
    assert factor == 2
    picture = observe(coarse.flatten(1), slice(0, 2)).picture()
    assert torch.equal(picture.view(2, 3, 4, 6), coarse.repeat_interleave(2, 2).repeat_interleave(2, 3))


@pytest.mark.parametrize("shape", [(3, 2, 3), (2, 3)])
def test_one_mask_for_all_channels_and_rows_or_one_for_each(shape, monkeypatch):
    """A pixel is hidden from a half on; the amount is the part of all numbers."""
    of_row = torch.tensor([[0.0, 0.5, 0.49], [1.0, 0.0, 0.7]])
    of_rows = torch.stack([of_row, of_row.flip(0), of_row.flip(1), 1 - of_row])
    model = SimpleNamespace(likelihood=Bernoulli(Statistics.blank(shape)), shape=shape)
    for mask in (of_row, of_rows):
        calls = []
        dataset = SimpleNamespace(test=mask, values=lambda rows: rows)
        inputs = [Four(), SimpleNamespace(dataset=dataset)]
        opened = []

        def task_input(*given, inputs=inputs, opened=opened):
            opened.append(given[1:])
            return nullcontext(inputs.pop(0))

        monkeypatch.setattr(inpaint, "task_input", task_input)
        monkeypatch.setattr(inpaint, "restore", lambda *given, calls=calls: calls.append(given))
        inpaint.inpaint(SimpleNamespace(model=model), "rows.npy", "mask.npy")
        assert opened == [("rows.npy",), ("mask.npy", [shape, shape[1:]][: len(shape) - 1], "bits")]
        ((_, _, _, observe, _, _, amount, *_),) = calls
        values = torch.rand(2, math.prod(shape), generator=torch.Generator().manual_seed(0))
        found = observe(values, slice(1, 3))
        expected = (mask if mask.ndim == 3 else mask.expand(4, -1, -1))[1:3] >= 0.5
        whole = expected.unsqueeze(1).expand(2, *shape) if len(shape) > 2 else expected
        assert torch.equal(found.hidden.squeeze(1), whole.flatten(1))
        assert torch.equal(found.seen, values.masked_fill(whole.flatten(1), 0))
        assert amount == pytest.approx(float((mask >= 0.5).float().mean()))


def test_scores_of_both_inputs_are_of_their_rows_with_the_draws_and_the_seed(run, values, tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(detect, "log_prior", lambda run, progress: "density")

    def scored(model, dataset, *others):
        assert model is run.model
        calls.append((dataset.values(dataset.test), *others[:3]))
        return {"likelihood": np.arange(4.0)}

    monkeypatch.setattr(detect, "scored", scored)
    for name, rows in (("odd", values), ("usual", values[::-1].copy())):
        np.save(tmp_path / f"{name}.npy", rows)
    detect.detect(run, tmp_path / "odd.npy", tmp_path / "usual.npy", samples=6, seed=9, out=tmp_path / "out")
    for (rows, *others), expected in zip(calls, (values, values[::-1]), strict=True):
        assert np.array_equal(rows.numpy(), expected)
        assert others == ["density", 6, 9]


@pytest.fixture
def seeded(run, values, tmp_path):
    """A run with a seed of its own for evaluations, and a file of four rows."""
    run.config.evaluation.seed = 5
    np.save(tmp_path / "rows.npy", values)
    return run, tmp_path / "rows.npy"


def test_codes_are_drawn_with_the_seed_of_evaluations(seeded, tmp_path, monkeypatch):
    (run, rows), calls = seeded, []
    monkeypatch.setattr(embed, "codes", lambda *given: calls.append(given) or iter(np.ones((2, 2, 8), np.float32)))
    embed.embed(run, rows, out=tmp_path / "out")
    ((model, dataset, seed, _),) = calls
    assert (model, len(dataset.test), seed) == (run.model, 4, 5)
    assert np.load(tmp_path / "out" / "codes.npz")["codes"].shape == (4, 8)


def test_paths_are_told_apart_and_made_as_they_are_asked_for(seeded, tmp_path, monkeypatch):
    """Of the low ones the barriers are 1 and 3, of the straight ones 2.5 and 4.5."""
    (run, rows), calls = seeded, []

    def way(barrier, grey):
        return Way(np.full((7, 8, 8), grey, np.float32), np.array([0.0, barrier, -1.0], np.float32))

    def ways(model, dataset, *others):
        calls.append((model, len(dataset.test), *others[:3]))
        yield from (((way(1.0, 0.1), way(2.5, 0.2))), (way(3.0, 0.3), way(4.5, 0.4)))

    monkeypatch.setattr(interpolate, "ways", ways)
    found = interpolate.interpolate(run, rows, 7, 3, tmp_path / "out")
    assert calls == [(run.model, 4, 7, 3, 5)]
    assert found.sentences == [
        "the highest energy lies 2.0 nats above the higher end, on the straight line 3.5; means of 2 paths"
    ]
    arrays = np.load(found.files[0])
    assert arrays["landscape"][:, 0, 0, 0].tolist() == pytest.approx([0.1, 0.3])
    assert arrays["straight"][:, 6, 7, 7].tolist() == pytest.approx([0.2, 0.4])
    assert arrays["landscape_energy"][:, 1].tolist() == [1.0, 3.0]
    assert arrays["straight_energy"][:, 1].tolist() == [2.5, 4.5]


def test_a_path_is_sought_among_as_many_beginnings_as_are_asked_for(run, monkeypatch):
    asked = []

    def order(hamiltonian, start, end, width):
        asked.append((width, start.tolist(), end.tolist()))
        return (start != end).nonzero().squeeze(1)

    monkeypatch.setattr(paths, "lowest_order", order)
    start, end = torch.full((8,), 0.9), torch.tensor([0.1, 0.9, 0.2, 0.6, 0.3, 0.7, 0.4, 0.8])
    with torch.no_grad():
        interpolate._of_bits(run.model, start, end, 3, 17)
    assert asked == [(17, [1] * 8, [-1, 1, -1, 1, -1, 1, -1, 1])]


def test_places_of_both_sets_have_the_seed_of_evaluations(seeded, tmp_path, monkeypatch):
    (run, rows), seeds, whole = seeded, [], style.places
    monkeypatch.setattr(
        style, "places", lambda model, dataset, seed, *rest: seeds.append(seed) or whole(model, dataset, seed, *rest)
    )
    style.style(run, rows, rows, units=3, grid=2, out=tmp_path / "out")
    assert set(seeds) == {5}


@pytest.mark.parametrize("is_trained", [True, False])
def test_all_that_a_restoration_is_asked_for_is_drawn_part_by_part(is_trained, run, values, tmp_path, monkeypatch):
    """Of four rows two are at work together where each has 7 draws or 3 completions of 14 latents."""
    calls, slices = [], []
    monkeypatch.setattr(restore, "_LATENTS", 14)
    monkeypatch.setattr(restore, "log_prior", lambda run, progress: "density")
    monkeypatch.setattr("qvae.applications.condition.condition", lambda *given, **named: calls.append((given, named)))
    monkeypatch.setattr("qvae.applications.condition.taken_on_trust", lambda *given: calls.append((given, {})))
    run.sampler = lambda *given: SimpleNamespace(asked=given, close=lambda: calls.append("closed"))
    np.save(tmp_path / "rows.npy", values)

    def observe(rows, part):
        slices.append((rows, part))
        return len(slices)

    effort = Effort(3, 7, 11, None if is_trained else "exact", is_trained, 9)
    with task_input(run, tmp_path / "rows.npy") as rows:
        parts = [part for part, _, _ in restore.restored(run, rows, observe, effort, qvae.Progress())]
    assert parts == [part for _, part in slices] == [slice(0, 2), slice(2, 4)]
    assert torch.equal(torch.cat([rows for rows, _ in slices]), torch.from_numpy(values).flatten(1))
    assert calls[2:] == ([] if is_trained else ["closed"])
    for number, ((target, completions, generator, draws), named) in enumerate(calls[:2], 1):
        assert (target.model, target.observation) == (run.model, number)
        assert target.log_prior == (None if is_trained else "density")
        assert (completions, generator.initial_seed(), draws) == (3, 9, 7)
        if not is_trained:
            assert (named["steps"], named["sampler"].asked) == (11, ("exact", 9))


def test_parts_of_a_restoration_stand_one_after_another_and_the_first_is_pictured(run, tmp_path, monkeypatch):
    """Three rows and then two, which came as files of images."""
    rng, written, shown = np.random.default_rng(0), [], []
    parts = []
    for part in (slice(0, 3), slice(3, 5)):
        size = part.stop - part.start
        arrays = {"best": rng.random((size, 64)), "completions": rng.random((size, 2, 64)), "spread": rng.random((size, 64))}
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        found = SimpleNamespace(
            mean=tensors["best"], completions=tensors["completions"], spread=tensors["spread"],
            effective_size=torch.arange(part.start + 1.0, part.stop + 1.0),
        )  # fmt: skip
        parts.append((part, SimpleNamespace(picture=lambda size=size: torch.full((size, 64), 0.25)), found))
    monkeypatch.setattr(restore, "restored", lambda *given: iter(parts))
    monkeypatch.setattr(restore, "write_pictures", lambda run, folder, ids, best: written.append((folder.name, ids, best)))
    monkeypatch.setattr("qvae.reporting.figures.image_grid", lambda images, columns, title: shown.append((images, columns)))
    monkeypatch.setattr("qvae.reporting.figures.save_figure", lambda figure, file: file)
    rows = SimpleNamespace(ids=list("abcde"), are_pictures=True)
    effort = Effort(2, 5, 7, None, False, 0)
    outcome = restore.restore(run, "mine", rows, None, effort, "hidden", 0.5, tmp_path, None)
    assert [file.name for file in outcome.files] == ["mine.npz", "mine", "mine.png"]
    assert outcome.sentences == ["effective number of proposals for a row, in the median: 3.0"]
    arrays = np.load(outcome.files[0])
    assert arrays["ids"].tolist() == rows.ids
    for name, attribute in (("best", "mean"), ("spread", "spread"), ("completions", "completions")):
        expected = torch.cat([getattr(found, attribute) for _, _, found in parts])
        np.testing.assert_array_equal(arrays[name].reshape(expected.shape), expected)
    assert arrays["effective_size"].tolist() == [1, 2, 3, 4, 5]
    assert [(name, ids) for name, ids, _ in written] == [("mine", ["a", "b", "c"]), ("mine", ["d", "e"])]
    np.testing.assert_array_equal(np.concatenate([best for *_, best in written]), arrays["best"])
    ((images, columns),) = shown
    assert (images.shape, columns) == ((15, 8, 8), 3)
    np.testing.assert_array_equal(images[3:6], arrays["best"][:3])


@pytest.mark.parametrize(("binarization", "shapes", "cuts"), [
    ("threshold", None, True), ("threshold", [(2, 2)], False), ("dynamic", None, False),
])  # fmt: skip
def test_rows_are_opened_as_those_of_the_model(binarization, shapes, cuts, monkeypatch):
    """Levels and alphabet are the model's; what columns and clips are called is asked of the data."""
    asked = []
    monkeypatch.setattr("qvae.data.given.given_rows", lambda *given: asked.append(given))
    data = SimpleNamespace(feature_names=("a", "b"), category_names={"a": ("x",)}, rate=8000)
    monkeypatch.setattr("qvae.reporting.run_rows.reachable_data", lambda run: data)
    statistics = SimpleNamespace(levels=7, alphabet="an alphabet")
    model = SimpleNamespace(likelihood=SimpleNamespace(kind="categories", statistics=statistics), shape=(4, 4))
    config = SimpleNamespace(data=SimpleNamespace(binarization=binarization))
    run = SimpleNamespace(model=model, config=config)
    task_input(run, "rows.csv", shapes)
    task_input(run, "rows.npy", shapes, "reals")
    known = KnownColumns(("a", "b"), {"a": ("x",)})
    opened = shapes or [(4, 4)]
    assert asked == [
        ("rows.csv", opened, "categories", 7, cuts, known, "an alphabet", 8000),
        ("rows.npy", opened, "reals", 7, cuts, KnownColumns(), "an alphabet", None),
    ]
