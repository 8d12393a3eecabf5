"""Pictures, film and report of a run, and runs side by side, as a user opens them."""

import json
import re
import shutil
import subprocess

import numpy as np
import pytest
import torch
from PIL import Image

import qvae
from qvae import workflow
from qvae.applications.generate import generated
from qvae.applications.reconstruct import reconstructed
from qvae.reporting.compare import comparison_table
from qvae.sampling.sampler import LatentSampler, Samples
from qvae.training.trainer import Trainer

SETTINGS = [
    "training.epochs=6", "model.latent.sizes=[4,4]", "model.network.hidden=[16]", "evaluation.num_test=60",
    "evaluation.importance_samples=5", "evaluation.num_generated=100", "evaluation.tsne_every=2",
]  # fmt: skip
PICTURES = {"losses", "samples", "reconstructions", "neighbours", "traversals", "energies", "couplings", "units", "map"}


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """A finished run with everything that can be looked at."""
    folder = tmp_path_factory.mktemp("runs") / "seen"
    qvae.train(qvae.load_config("digits", SETTINGS), out=folder)
    return folder


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """Another one, with an independent prior."""
    folder = tmp_path_factory.mktemp("runs") / "independent"
    settings = [*SETTINGS, "model.latent.graph=edges", "model.latent.sizes=[8]", "training.epochs=2", "evaluation.tsne_every=0"]
    qvae.train(qvae.load_config("digits", settings), out=folder)
    return folder


def test_the_run_folder_answers_by_itself(seen):
    assert {file.stem for file in (seen / "figures").iterdir()} == PICTURES
    with Image.open(seen / "latent_film.gif") as film:
        assert film.n_frames == 4  # epochs 1, 2, 4 and 6
    found = json.loads((seen / "evaluation.json").read_text())
    assert {row["features"] for row in found["latents"]["probes"]} == {"latent codes", "raw pixels", "PCA of the pixels"}
    assert 0 < found["latents"]["alive"] <= found["latents"]["units"] == 8
    assert set(found["seconds"]) == {"likelihood", "frechet", "latents", "pictures"}


def test_the_report_needs_no_other_file(seen):
    html = (seen / "report.html").read_text()
    assert re.findall(r'(?:src|href)="(?!data:|#)', html) == []
    pictures = re.findall(r'src="data:image/(png|gif);base64,([^"]+)"', html)
    assert sorted(kind for kind, _ in pictures) == ["gif", *["png"] * len(PICTURES)]
    found = json.loads((seen / "evaluation.json").read_text())
    values = [f"{found[key]:.2f}" for key in ("elbo", "log_likelihood")]
    for text in (*values, "negative phase", "threshold binarization", "learning_rate"):
        assert text in html


def test_the_report_can_be_rebuilt(seen, command):
    before = (seen / "report.html").read_bytes()
    (seen / "report.html").unlink()
    shutil.rmtree(seen / "figures")
    code, printed, _ = command("report", seen)
    assert code == 0
    assert "report.html" in printed
    drop = re.compile(rb"evaluation: pictures</td><td>[0-9.]+ s")  # the one thing that was done anew
    assert drop.sub(b"", (seen / "report.html").read_bytes()) == drop.sub(b"", before)


def test_the_report_is_clean_in_a_browser(seen, tmp_path):
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium is installed")
    page = tmp_path / "page.html"
    # A script of the test, not of the report, tells what the browser made of the pictures.
    probe = (
        "<script>window.onload = () => { document.title = 'pictures ' + [...document.images].map("
        "i => i.complete && i.naturalWidth > 0 ? 'shown' : 'missing').join(' ') }</script></body>"
    )
    page.write_text((seen / "report.html").read_text().replace("</body>", probe))
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--virtual-time-budget=10000"]
    command = [browser, *options, f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    title = re.search(r"<title>pictures ([a-z ]+)</title>", done.stdout)
    assert title, done.stderr[-2000:]
    assert title[1].split() == ["shown"] * (len(PICTURES) + 1)
    assert "CONSOLE" not in done.stderr


def test_a_run_without_an_evaluation_has_no_report(seen, tmp_path, command):
    copy = shutil.copytree(seen, tmp_path / "copy")
    (copy / "evaluation.json").unlink()
    code, _, error = command("report", copy)
    assert code == 2
    assert f"qvae evaluate {copy}" in error
    assert "Traceback" not in error


def test_an_evaluation_of_an_older_version_is_asked_for_again(seen, other, tmp_path, command):
    copy = shutil.copytree(seen, tmp_path / "copy")
    found = json.loads((copy / "evaluation.json").read_text())
    del found["frechet"]
    (copy / "evaluation.json").write_text(json.dumps(found))
    for arguments in (("report", copy), ("compare", copy, other)):
        code, _, error = command(*arguments)
        assert code == 2
        assert f"run `qvae evaluate {copy}` again" in error


def test_runs_stand_side_by_side(seen, other, tmp_path, command):
    code, printed, _ = command("compare", seen, other, "--out", tmp_path / "both.html")
    assert code == 0
    for text in ("seen", "independent", "log-likelihood", "latent units alive"):
        assert text in printed
    html = (tmp_path / "both.html").read_text()
    assert "model.latent.graph" in html  # what differs is listed
    assert "training.batch_size" not in html
    assert html.count("data:image/png") == 7  # four of one run; the other has no map
    with Image.open(tmp_path / "both.png") as picture:
        assert picture.width > 800


def test_one_run_is_no_comparison(seen, command):
    code, _, error = command("compare", seen)
    assert code == 2
    assert "two runs or more" in error


def test_runs_of_one_name_are_told_apart(seen, tmp_path):
    again = shutil.copytree(seen, tmp_path / "elsewhere" / "seen")
    names = comparison_table([qvae.load_run(seen), qvae.load_run(again)]).header
    assert len(set(names)) == 3


def test_a_resumed_run_has_the_film_of_one_that_was_not_interrupted(tmp_path, monkeypatch):
    settings = [*SETTINGS, "evaluation.probes=false", "evaluation.num_generated=0"]
    whole = qvae.train(qvae.load_config("digits", settings), out=tmp_path / "whole")
    take = Trainer._train_step

    def interrupted(self, images):
        if self.step == 17:
            raise KeyboardInterrupt
        take(self, images)
        if self.step == 16:
            self._save()

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_train_step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            qvae.train(qvae.load_config("digits", settings), out=tmp_path / "cut")
    resumed = workflow.resume(tmp_path / "cut")
    assert (whole.path / "latent_film.gif").read_bytes() == (resumed.path / "latent_film.gif").read_bytes()


class Ones(LatentSampler):
    """Draws nothing but ones."""

    def _sample(self, hamiltonian, num_samples):
        return Samples(torch.ones(num_samples, hamiltonian.num_spins, dtype=torch.int8))


def test_every_path_to_the_decoder_smooths_as_training_does(seen, monkeypatch):
    run = qvae.load_run(seen, ["data.name=digits"])
    paths = {
        "generate": lambda: run.model.generate(5, Ones()),
        "reconstruct": lambda: run.model.reconstruct(torch.zeros(5, 8, 8)),
        "generated images": lambda: generated(run, 5),
        "reconstructions": lambda: reconstructed(run, 5),
    }
    given, smooth = [], run.model.relaxation.smooth

    def watched(bits, generator=None):
        zeta = smooth(bits, generator)
        given.append((bits, zeta))
        return zeta

    monkeypatch.setattr(run.model.relaxation, "smooth", watched)
    decoded = []
    monkeypatch.setattr(run.model.decoder, "forward", lambda latents: decoded.append(latents) or torch.zeros(len(latents), 64))
    for name, path in paths.items():
        given.clear(), decoded.clear()
        path()
        assert len(given) == len(decoded) == 1, name
        bits, zeta = given[0]
        assert decoded[0] is zeta, name
        assert set(bits.unique().tolist()) <= {0.0, 1.0}, name
        assert (zeta - bits).abs().max() < 0.1, name  # a one near one, a zero near zero


def test_data_without_labels_has_everything_but_classes(tmp_path):
    images = (np.random.default_rng(0).random((80, 6, 6)) < 0.4).astype(np.float32)
    file = tmp_path / "mine.npy"
    np.save(file, images)
    settings = [*SETTINGS, "training.epochs=2", f"data.name={file}", "training.batch_size=16"]
    run = qvae.train(qvae.load_config("digits", settings), out=tmp_path / "run")
    assert "probes" not in run.evaluation["latents"]
    assert (run.path / "latent_film.gif").exists()
    assert (run.path / "report.html").exists()


def test_one_class_alone_has_no_probes_and_no_distance(tmp_path):
    images = (np.random.default_rng(0).random((80, 8, 8)) < 0.4).astype(np.float32)
    labels = {"train_labels": np.zeros(60, int), "test_labels": np.zeros(20, int)}
    np.savez(tmp_path / "one.npz", train=images[:60], test=images[60:], **labels)
    settings = [*SETTINGS, "training.epochs=2", f"data.name={tmp_path / 'one.npz'}", "training.batch_size=16"]
    run = qvae.train(qvae.load_config("digits", settings), out=tmp_path / "run")
    assert "probes" not in run.evaluation["latents"]
    assert "two classes are needed" in run.evaluation["frechet"]["reason"]


def test_what_is_no_longer_drawn_is_no_longer_there(seen, tmp_path):
    copy = shutil.copytree(seen, tmp_path / "copy")
    run = workflow.resume(copy, ["evaluation.tsne_every=0", "training.epochs=7"])
    assert not (copy / "figures" / "map.png").exists()
    assert not (copy / "latent_film.gif").exists()
    assert run.evaluation is not None


def test_a_resumed_run_has_no_numbers_of_the_weights_before(seen, tmp_path, monkeypatch):
    copy = shutil.copytree(seen, tmp_path / "copy")
    take = Trainer._train_step

    def interrupted(self, images):
        if self.step > first:
            self._save()
            raise KeyboardInterrupt
        take(self, images)

    first = qvae.load_run(copy).training_state["step"]
    monkeypatch.setattr(Trainer, "_train_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        workflow.resume(copy, ["training.epochs=7"])
    assert not (copy / "evaluation.json").exists()
    assert not (copy / "report.html").exists()


@pytest.mark.parametrize("name", ["keep.v2", "keep"])
def test_compare_writes_beside_other_files(seen, other, tmp_path, name):
    (tmp_path / "keep.v.html").write_text("mine")
    page, picture = workflow.compare([qvae.load_run(seen), qvae.load_run(other)], tmp_path / name)
    assert page == tmp_path / f"{name}.html"
    assert picture.suffix == ".png"


def test_missing_inception_weights_are_found_out_before_the_work(seen, tmp_path, command):
    copy = shutil.copytree(seen, tmp_path / "copy")
    before = (copy / "evaluation.json").read_bytes()
    code, _, error = command("evaluate", copy, "--set", f"inception_weights={tmp_path / 'nope.pth'}")
    assert code == 2
    assert "nope.pth can't be read" in error
    assert (copy / "evaluation.json").read_bytes() == before


def test_compare_refuses_what_is_no_run(tmp_path, command):
    (tmp_path / "empty").mkdir()
    code, _, error = command("compare", tmp_path / "empty", tmp_path / "empty")
    assert code == 2
    assert "not a run folder" in error


def test_runs_that_differ_in_their_seed_alone_have_a_mean_and_a_spread(small_run, tmp_path):
    runs = []
    for seed, value in ((0, -16.0), (1, -17.0), (2, -18.0)):
        copy = shutil.copytree(small_run, tmp_path / f"seed{seed}")
        config, found = copy / "config.yaml", json.loads((copy / "evaluation.json").read_text())
        config.write_text(config.read_text().replace("  seed: 0\n  device", f"  seed: {seed}\n  device"))
        (copy / "evaluation.json").write_text(json.dumps(found | {"log_likelihood": value}))
        runs.append(qvae.load_run(copy))
    table = comparison_table(runs)
    assert table.header[-1] == "mean of 3 seeds"
    assert {row[0]: row[-1] for row in table.rows}["log-likelihood, nats"] == "-17.00 ± 1.00"
    runs[0].config.training.epochs += 1
    assert "mean" not in "".join(comparison_table(runs).header)


def test_a_traversal_shows_only_units_whose_flip_is_seen(small_run, monkeypatch):
    from qvae.reporting import pictures

    run = qvae.load_run(small_run)
    monkeypatch.setattr(run.model, "decode", lambda latents: latents[:, :1, None].expand(-1, 8, 8) * 1.0)
    shown = {}
    monkeypatch.setattr(pictures.figures, "traversals", lambda images, names, title: shown.update(images=images, names=names))
    pictures._traversals(pictures.Views(run))
    assert shown["names"] == ["unit 0"] + ["two images"] * 4
    assert shown["images"][0, 0].max() == 0
    assert shown["images"][0, -1].min() == 1


def test_energies_are_those_of_spins_on_both_sides(small_run, monkeypatch):
    from qvae.reporting import pictures

    views, shown = pictures.Views(qvae.load_run(small_run)), {}
    monkeypatch.setattr(
        pictures.figures, "energy_histogram", lambda prior, encoded, noun: shown.update(prior=prior, encoded=encoded)
    )
    pictures._energies(views)
    spins = torch.cartesian_prod(*8 * [torch.tensor([-1.0, 1.0])])
    possible = views.hamiltonian.energy(spins)
    for energies in shown.values():
        nearest = (torch.from_numpy(energies)[:, None] - possible).abs().amin(1)
        assert float(nearest.max()) < 1e-4
