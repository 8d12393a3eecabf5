"""Style: which latents are content, what is carried from set to set, and the grid, beside codes taken apart by hand."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

import qvae
from qvae.applications import style as module
from qvae.applications.style import class_information, mean_place, places, style
from qvae.errors import ConfigError


@pytest.fixture
def sets(small_run, tmp_path):
    dataset = qvae.load_run(small_run).dataset
    images = dataset.values(dataset.test[:50]).numpy()
    np.savez(tmp_path / "a.npz", images=images[:20])
    np.savez(tmp_path / "b.npz", images=images[20:])
    return images


def logits_of(model, images):
    means = model.code_means(torch.from_numpy(images >= 0.5).flatten(1))
    return torch.logit(means.clamp(0.02, 0.98))


def test_content_stays_and_style_is_taken(command, small_run, sets):
    line = ("apply", "style", small_run, "--content", "a.npz", "--style", "b.npz", "--units", 3, "--grid", 4, "--out", "here")
    code, out, err = command(*line, "--strength", 2)
    assert (code, err) == (0, "")
    assert "content is in 3 of 8 latents, those that know most of the class" in out
    found, model = np.load("here/styled.npz"), qvae.load_run(small_run).model
    a, b = (logits_of(model, part) for part in (sets[:20], sets[20:]))
    moved = model.decode((a + 2 * (b.mean(0) - a.mean(0)) > 0).float())
    np.testing.assert_allclose(found["transferred"], moved, atol=1e-5)
    assert found["grid"].shape == (4, 4, 8, 8)
    keep = torch.from_numpy(found["is_content"])
    for i in range(4):
        for j in range(4):
            mixed = torch.where(keep, a[i], b[j])
            np.testing.assert_allclose(found["grid"][i, j], model.decode((mixed > 0).float()[None])[0], atol=1e-5)
    assert found["ids"].tolist() == [str(number) for number in range(20)]


def test_files_of_images_come_back_as_such(small_run, sets, tmp_path, monkeypatch):
    batches = module.batches
    monkeypatch.setattr(module, "batches", lambda rows: batches(rows, 2))
    (tmp_path / "given").mkdir()
    for number, image in enumerate(sets[:3]):
        Image.fromarray(np.uint8(255 * image)).save(tmp_path / "given" / f"{number}.png")
    run = qvae.load_run(small_run)
    arrays, folder, _ = style(run, tmp_path / "given", tmp_path / "b.npz", units=2, grid=2, out=tmp_path / "out").files
    moved = np.load(arrays)["transferred"]
    assert sorted(file.name for file in folder.iterdir()) == ["0.png", "1.png", "2.png"]
    for number in range(3):
        found = np.asarray(Image.open(folder / f"{number}.png"))
        np.testing.assert_allclose(found / 255, moved[number], atol=0.51 / 255)


def test_the_mean_of_a_set_is_that_of_all_its_rows_however_they_come(small_run, monkeypatch):
    run, batches = qvae.load_run(small_run), module.batches
    monkeypatch.setattr(module, "batches", lambda rows: batches(rows, 100))
    expected = logits_of(run.model, run.dataset.values(run.dataset.test).numpy()).mean(0)
    torch.testing.assert_close(mean_place(run.model, run.dataset, 0), expected, atol=1e-4, rtol=1e-4)


def test_the_picture_has_content_at_the_left_and_style_at_the_top(small_run, sets, tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr("qvae.reporting.figures.image_grid", lambda images, columns, title: shown.append((images, columns)))
    monkeypatch.setattr("qvae.reporting.figures.save_figure", lambda figure, file: file)
    files = style(qvae.load_run(small_run), tmp_path / "a.npz", tmp_path / "b.npz", grid=3, out=tmp_path / "out").files
    ((images, columns),) = shown
    grid = images.reshape(4, 4, 8, 8)
    assert columns == 4
    assert bool((grid[0, 0] == 1).all())
    np.testing.assert_array_equal(grid[0, 1:], sets[20:23] >= 0.5)
    np.testing.assert_array_equal(grid[1:, 0], sets[:3] >= 0.5)
    np.testing.assert_array_equal(grid[1:, 1:], np.load(files[0])["grid"])


@pytest.mark.parametrize("are_bits", [True, False])
def test_bits_lie_at_their_logits_which_are_never_sure_and_real_latents_at_their_means(are_bits, monkeypatch):
    class Model(torch.nn.Linear):
        latents_are_bits = are_bits

        def code_means(self, rows, generator):
            assert generator.initial_seed() == 7
            return rows

    batches = module.batches
    monkeypatch.setattr(module, "batches", lambda rows: batches(rows, 2))
    rows = torch.tensor([[0.5, 0.25], [0.001, 1.0], [0.9, 0.02]])
    dataset = SimpleNamespace(name="mine", test=rows, values=lambda rows: rows)
    first, last = places(Model(1, 1), dataset, 7)
    sure = np.log(0.98 / 0.02)
    expected = [[0.0, -np.log(3)], [-sure, sure], [np.log(9), -sure]] if are_bits else rows.tolist()
    np.testing.assert_allclose(torch.cat([first, last]), expected, rtol=1e-4, atol=1e-6)
    assert (len(first), len(last)) == (2, 1)


def test_without_labels_the_sets_say_what_style_is(small_run, sets, tmp_path):
    run = qvae.load_run(small_run, ["data.name=moved.npz"])
    outcome = style(run, tmp_path / "a.npz", tmp_path / "b.npz", units=2, out=tmp_path)
    assert "know least of which set a row is of" in outcome.sentences[0]
    means = run.model.code_means(torch.from_numpy(sets >= 0.5).flatten(1)).numpy()
    least = np.argsort(class_information(means, np.repeat([0, 1], [20, 30]), True))[:2]
    assert np.flatnonzero(np.load(tmp_path / "styled.npz")["is_content"]).tolist() == sorted(least)


def test_information_is_that_of_the_joint_distribution_of_bit_and_class():
    rng = np.random.default_rng(0)
    means, labels = rng.random((300, 3)), rng.integers(0, 4, 300)
    means[:, 0] = 0.1 + 0.2 * labels
    for unit, found in enumerate(class_information(means, labels, True)):
        joint = np.array([[(p * (labels == c)).mean() for c in range(4)] for p in (means[:, unit], 1 - means[:, unit])])
        expected = (joint * np.log(joint / joint.sum(0) / joint.sum(1, keepdims=True))).sum()
        assert found == pytest.approx(expected, abs=1e-9)


def test_information_of_real_latents_is_that_of_normal_ones():
    labels = np.repeat([0, 1], 20_000)
    values = np.random.default_rng(1).normal(size=(40_000, 2))
    values[:, 0] += 3 * labels  # variance 1 within, 1 + 9 / 4 in all
    found = class_information(values, labels, False)
    assert found[0] == pytest.approx(0.5 * np.log(3.25), abs=0.01)
    assert found[1] == pytest.approx(0, abs=1e-3)


def test_numbers_out_of_range_are_refused(small_run, sets, tmp_path):
    run = qvae.load_run(small_run)
    with pytest.raises(ConfigError, match="units is 8; it must be 1 to 7"):
        style(run, tmp_path / "a.npz", tmp_path / "b.npz", units=8)
    with pytest.raises(ConfigError, match="grid is 65; it must be 1 to 64"):
        style(run, tmp_path / "a.npz", tmp_path / "b.npz", grid=65)
    for strength in (-1, float("nan")):
        with pytest.raises(ConfigError, match=f"strength is {strength}; it must be 0 or more"):
            style(run, tmp_path / "a.npz", tmp_path / "b.npz", strength=strength)
