"""Paths between images on the way a user takes: ends, energies and sizes, for bits and for real latents."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from enumerated import small_model
from PIL import Image

import qvae
from qvae.applications import interpolate as module
from qvae.applications.interpolate import Way, interpolate
from qvae.errors import CapabilityError, ConfigError, DataError

TINY = ["training.epochs=1", "evaluation.num_generated=0", "evaluation.probes=false", "evaluation.tsne_every=0",
        "evaluation.importance_samples=2", "model.network.hidden=[8]", "model.circuit.qubits=3"]  # fmt: skip


def images_of(folder, count):
    dataset = qvae.load_run(folder).dataset
    return dataset.values(dataset.test[:count]).numpy()


def test_paths_of_bits_lead_from_code_to_code_over_known_energies(command, small_run):
    images = images_of(small_run, 4)
    np.savez("rows.npz", images=images)
    code, out, err = command("apply", "interpolate", small_run, "--input", "rows.npz", "--frames", 5, "--out", "here")
    assert (code, err) == (0, "")
    assert "nats above the higher end" in out
    found, model = np.load("here/interpolated.npz"), qvae.load_run(small_run).model
    means = model.code_means(torch.from_numpy(images >= 0.5).flatten(1))
    bits = (means > 0.5).float()
    energies = model.prior.frozen().energy(2 * bits - 1)
    for name in ("landscape", "straight"):
        assert found[name].shape == (3, 5, 8, 8)
        np.testing.assert_allclose(found[name][:, 0], model.decode(bits[:-1]), atol=1e-5)
        np.testing.assert_allclose(found[name][:, -1], model.decode(bits[1:]), atol=1e-5)
        along = found[f"{name}_energy"]
        assert along.shape == (3, 9)
        for path, before, after, first, last in zip(along, bits, bits[1:], energies, energies[1:], strict=False):
            known = path[np.isfinite(path)]
            assert len(known) == 1 + int((before != after).sum())
            np.testing.assert_allclose(known[[0, -1]], [first, last], atol=1e-5)
    assert (np.nanmax(found["landscape_energy"], 1) <= np.nanmax(found["straight_energy"], 1) + 1e-5).all()


def test_paths_between_files_of_images_are_files_too(small_run, tmp_path):
    (tmp_path / "given").mkdir()
    for number, image in enumerate(images_of(small_run, 3)):
        Image.fromarray(np.uint8(255 * image)).save(tmp_path / "given" / f"{number}.png")
    arrays, folder, _ = interpolate(qvae.load_run(small_run), tmp_path / "given", frames=4, out=tmp_path / "out").files
    for name in ("landscape", "straight"):
        paths = np.load(arrays)[name]
        for path in range(2):
            for frame in range(4):
                found = np.asarray(Image.open(folder / str(path) / f"{name}-{frame}.png"))
                np.testing.assert_allclose(found / 255, paths[path, frame], atol=0.51 / 255)


@pytest.fixture(scope="module")
def circuit_run(tmp_path_factory):
    return qvae.train(qvae.load_config("digits-vqvae", TINY), tmp_path_factory.mktemp("vqvae") / "run").path


def test_paths_of_real_latents_have_the_priors_density(circuit_run, tmp_path):
    images, run = images_of(circuit_run, 2), qvae.load_run(circuit_run)
    np.save(tmp_path / "rows.npy", images)
    interpolate(run, tmp_path / "rows.npy", frames=3, out=tmp_path)
    found = np.load(tmp_path / "interpolated.npz")
    first, last = run.model.code_means(torch.from_numpy(images >= 0.5).flatten(1))
    middle = torch.stack([first, (first + last) / 2, last])
    np.testing.assert_allclose(found["straight"][0], run.model.decode(middle), atol=1e-5)
    np.testing.assert_allclose(found["straight_energy"][0], -run.model.prior.log_prob(middle), rtol=1e-5)
    middle_of_arc = found["landscape_energy"][0][1]
    length = (2 * middle_of_arc - len(first) * np.log(2 * np.pi)) ** 0.5
    assert length == pytest.approx(float(first.norm() + last.norm()) / 2, rel=1e-3)


def test_what_has_no_landscape_is_refused_in_a_sentence(small_run, tmp_path):
    np.save(tmp_path / "rows.npy", images_of(small_run, 1))
    run = qvae.load_run(small_run)
    with pytest.raises(DataError, match="holds one row; a path needs two or more"):
        interpolate(run, tmp_path / "rows.npy")
    with pytest.raises(ConfigError, match="frames is 1"):
        interpolate(run, tmp_path / "rows.npy", frames=1)
    for config in ("digits-vqgan", "digits-vqvae"):
        setting = ["model.variant=deterministic"] if config == "digits-vqvae" else []
        made = qvae.train(qvae.load_config(config, [*TINY, *setting]), tmp_path / config)
        with pytest.raises(CapabilityError, match=r"no density p\(z\)|has no prior"):
            interpolate(made, tmp_path / "rows.npy")


def test_a_barrier_is_above_the_higher_end_wherever_the_path_ends():
    assert Way(np.zeros(0), np.array([1.0, 4.0, 2.5, np.nan])).barrier == 1.5
    assert Way(np.zeros(0), np.array([3.0, 3.5, 2.0])).barrier == 0.5
    assert Way(np.zeros(0), np.array([3.0, 1.0, np.nan, np.nan])).barrier == 0.0


@torch.no_grad()
def test_frames_are_at_the_flips_that_are_nearest_to_equal_parts_of_the_path():
    """Of five flips, four frames stand at 0, 5/3, 10/3 and 5 of them."""
    model = small_model()
    start = torch.tensor([0.9, 0.2, 0.6, 0.8, 0.3, 0.7])
    end = torch.tensor([0.2, 0.9, 0.7, 0.1, 0.6, 0.4])
    low, straight = module._of_bits(model, start, end, 4, 8)
    first, last = torch.logit(start), torch.logit(end)
    when = {bit: float(first[bit] / (first[bit] - last[bit])) for bit in (0, 1, 3, 4, 5)}
    bits, states = (start > 0.5).float(), []
    for flip in [None, *sorted(when, key=when.get)]:
        if flip is not None:
            bits = bits.clone()
            bits[flip] = 1 - bits[flip]
        states.append(bits)
    torch.testing.assert_close(torch.from_numpy(straight.images), model.decode(torch.stack([states[k] for k in (0, 2, 3, 5)])))
    energies = model.prior.frozen().energy(2 * torch.stack(states) - 1)
    np.testing.assert_allclose(straight.energies, [*energies.tolist(), np.nan], atol=1e-5)
    assert torch.equal(bits, (end > 0.5).float())
    assert low.energies[np.isfinite(low.energies)].max() <= energies.max() + 1e-5
    np.testing.assert_allclose(low.images[[0, -1]], straight.images[[0, -1]], atol=1e-6)


@pytest.mark.parametrize("are_bits", [True, False])
def test_paths_lead_from_each_row_to_the_next_however_they_come(are_bits, monkeypatch):
    class Model(torch.nn.Linear):
        latents_are_bits = are_bits

        def code_means(self, rows, generator):
            return rows + generator.initial_seed()

    calls, batches = [], module.batches
    monkeypatch.setattr(module, "batches", lambda rows: batches(rows, 2))
    for kind in ("_of_bits", "_of_reals"):
        monkeypatch.setattr(
            module, kind, lambda model, start, end, frames, width, kind=kind: calls.append((float(start), float(end), kind))
        )
    rows = torch.tensor([[1.0], [5.0], [2.0], [9.0], [4.0]])
    dataset = SimpleNamespace(name="mine", test=rows, values=lambda rows: rows)
    list(module.ways(Model(1, 1), dataset, 3, 4, 10, qvae.Progress()))
    kind = "_of_bits" if are_bits else "_of_reals"
    assert calls == [(11.0, 15.0, kind), (15.0, 12.0, kind), (12.0, 19.0, kind), (19.0, 14.0, kind)]
