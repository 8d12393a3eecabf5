"""The command line as a user types it: what it prints, where it writes, and how it fails."""

import errno
import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
import yaml

import qvae
from qvae.config.load import shipped_configs


def test_train_with_nothing_else_but_smaller(command, small, tmp_path):
    code, out, err = command("train", *small)
    assert (code, err) == (0, "")
    (folder,) = (tmp_path / "runs").iterdir()
    assert f"run folder: runs/{folder.name}" in out
    assert "importance weighted, K = 5" in out
    assert f"report: runs/{folder.name}/report.html" in out
    assert "epoch 3" in out


def test_train_resume_evaluate_generate_reconstruct(command, small, tmp_path):
    assert command("train", "digits", "--sampler", "exact", "--out", "a", *small)[0] == 0
    code, out, _ = command("train", "--resume", "--out", "a", "--set", "training.epochs=4")
    assert code == 0
    assert "resuming a at step 15 of 20" in out
    code, out, _ = command("evaluate", "a", "--set", "importance_samples=7")
    assert code == 0
    assert json.loads((tmp_path / "a" / "evaluation.json").read_text())["importance_samples"] == 7
    assert command("generate", "a", "--num", 5)[0] == 0
    assert np.load(tmp_path / "a" / "generated.npz")["images"].shape == (5, 8, 8)
    assert command("generate", "a", "--num", 5, "--sampler", "gibbs")[0] == 0
    assert command("reconstruct", "a", "--num", 5)[0] == 0


def test_resume_takes_a_run_folder_as_other_commands_do(command, small, tmp_path):
    command("train", *small, "--out", "a")
    code, out, _ = command("train", "--resume", "a", "--set", "training.epochs=4")
    assert code == 0
    assert "resuming" in out
    assert (tmp_path / "a" / "metrics.jsonl").read_text().count("\n") == 4


def test_a_sampler_is_named_with_its_options(command, small, tmp_path):
    assert command("train", "--sampler", "gibbs:sweeps=3,burn_in=5", "--out", "a", *small)[0] == 0
    sampler = yaml.safe_load((tmp_path / "a" / "config.yaml").read_text())["sampler"]
    assert sampler == {"name": "gibbs", "options": {"sweeps": 3, "burn_in": 5}}
    assert command("generate", "a", "--num", 5, "--sampler", "gibbs:sweeps=9")[0] == 0
    # Options beside a name are of the sampler that it names, and none is dropped in silence.
    for name, option in (("dimod", "num_sweep=5"), ("gibbs", "sweep=5")):
        code, _, err = command("generate", "a", "--num", 5, "--sampler", name, "--set", f"sampler.options.{option}")
        assert code == 2
        assert f"sampler '{name}' has no option '{option[:-2]}'" in err
    for number, named in enumerate((["dimod:num_sweeps=5"], ["dimod", "--set", "sampler.options.num_sweeps=5"], ["dimod"])):
        assert command("generate", "a", "--num", 5, "--seed", 3, "--out", f"{number}.npz", "--sampler", *named)[0] == 0
    inline, beside, default = (np.load(tmp_path / f"{number}.npz")["images"] for number in range(3))
    assert np.array_equal(inline, beside)
    assert not np.array_equal(beside, default)
    code, _, err = command("train", "--sampler", "gibbs:sweep=3", "--dry-run")
    assert code == 2
    assert "sampler 'gibbs' has no option 'sweep'" in err


def test_resume_finds_the_latest_run(command, small):
    assert command("train", *small)[0] == 0
    code, out, _ = command("train", "--resume", "--set", "training.epochs=4")
    assert code == 0
    assert "resuming runs/digits-gibbs" in out


def test_another_sampler_is_one_word_even_where_the_old_one_had_options(command, small, tmp_path):
    (tmp_path / "mine.yaml").write_text("sampler: {name: gibbs, options: {sweeps: 3}}\n")
    assert command("train", "mine.yaml", "--sampler", "exact", "--out", "a", *small)[0] == 0
    option = "sampler.options.num_sweeps=5"
    assert command("train", "mine.yaml", "--sampler", "dimod", "--set", option, "--out", "b", *small)[0] == 0


def test_a_run_whose_data_has_moved_is_evaluated_where_it_is_now(command, small, tmp_path):
    images = np.random.default_rng(0).random((60, 4, 4))
    np.save(tmp_path / "before.npy", images)
    assert command("train", "--set", "data.name=before.npy", "--out", "a", *small)[0] == 0
    (tmp_path / "before.npy").rename(tmp_path / "after.npy")
    code, _, err = command("evaluate", "a")
    assert code == 2
    assert "before.npy" in err
    assert command("evaluate", "a", "--set", "data.name=after.npy")[0] == 0
    assert command("reconstruct", "a", "--num", 3, "--set", "data.name=after.npy")[0] == 0
    assert command("train", "--resume", "--out", "a", "--set", "data.name=after.npy", "--set", "training.epochs=4")[0] == 0
    np.save(tmp_path / "other.npy", images[:, :3])
    code, _, err = command("evaluate", "a", "--set", "data.name=other.npy")
    assert code == 2
    assert "(3, 4)" in err


def test_samplers_lists_every_backend(command):
    code, out, _ = command("samplers")
    assert code == 0
    for name in ("gibbs", "exact", "dimod"):
        assert name in out
    assert f"qvae {qvae.__version__}" in out


def test_samplers_check_passes_on_a_good_one(command):
    code, out, _ = command("samplers", "check", "exact")
    assert code == 0
    assert "0 failed" in out


def test_executors_are_listed_as_samplers_are(command):
    code, out, _ = command("executors")
    assert code == 0
    assert "statevector" in out
    assert f"qvae {qvae.__version__}" in out
    code, _, err = command("executors", "check", "statevectr")
    assert code == 2
    assert "did you mean 'statevector'" in err


@pytest.fixture
def two_kinds(monkeypatch):
    """As if there were another kind of model, with settings of its own for the digits."""
    from qvae.config import load

    monkeypatch.setattr(load, "model_kinds", lambda: ("qvae", "quantum"))


def test_a_kind_of_model_comes_with_its_settings_for_the_data(two_kinds):
    assert qvae.load_config("digits", model="qvae") == qvae.load_config("digits")
    assert qvae.load_config(model="quantum") == qvae.load_config("digits-quantum")
    # Where it has none, the keys of the other kind go, and its own name is all there is.
    with pytest.raises(qvae.QvaeError, match=r"model\.kind is \"quantum\""):
        qvae.load_config("mnist", model="quantum")


def test_a_sampler_is_shown_with_its_options(command):
    code, out, _ = command("samplers", "gibbs")
    assert code == 0
    option = r"sweeps +10 +a whole number, 1 or more"
    for words in ("Heat-bath updates", option, r"in a field +no", "sampler.options.sweeps=VALUE"):
        assert re.search(words, out), words
    code, out, _ = command("executors", "statevector")
    assert code == 0
    assert "up to 24" in out
    code, _, err = command("samplers", "gibs")
    assert code == 2
    assert "did you mean 'gibbs'" in err


def test_a_sampler_in_the_working_folder_needs_no_package(command, small, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place])
    (tmp_path / "my_own_sampler.py").write_text("from qvae_backends.gibbs import GibbsSampler as Mine\n")
    code, _, err = command("train", "--sampler", "my_own_sampler:Mine", *small)
    assert (code, err) == (0, "")
    del sys.modules["my_own_sampler"]


@pytest.mark.parametrize("name", [None, *shipped_configs()])
def test_a_configuration_is_printed_with_every_key_and_its_meaning(command, name, tmp_path):
    code, out, _ = command("config", *([name] if name else []), "--set", "training.learning_rate=1e-5")
    assert code == 0
    assert all(shipped in out for shipped in shipped_configs())
    (tmp_path / "mine.yaml").write_text(out)
    expected = qvae.load_config(name, ["training.learning_rate=1e-5"])
    assert qvae.load_config(tmp_path / "mine.yaml") == expected
    assert set(keys_of(yaml.safe_load(out))) == set(keys_of(expected.model_dump(mode="json")))
    assert "# over which the learning rates rise" in out


def keys_of(tree, above=()):
    for key, value in tree.items():
        yield (*above, key)
        if isinstance(value, dict):
            yield from keys_of(value, (*above, key))


def test_the_version_and_the_names_of_what_ships(command):
    assert command("--version")[1] == f"qvae {qvae.__version__}\n"
    help_of_train = " ".join(command("train", "--help")[1].replace("│", " ").split())
    assert ", ".join(shipped_configs()) in help_of_train


MISTAKES = [
    (("train", "grey.npz"), "grey.npz is no configuration; to train on it as data: qvae train --set data.name=grey.npz"),
    (("train", "--model", "qvea"), "there is no model of kind 'qvea': did you mean 'qvae' or 'vqvae'? Allowed: qvae, vqgan"),
    (("train", "--model", "qvae", "--resume"), "leave --model qvae out"),
    (("train", "digitz"), "did you mean 'digits'"),
    (("train", "--set", "training.epoch=3"), "did you mean 'epochs'"),
    (("train", "--set", "training.epochs=many"), "training.epochs"),
    (("train", "--set", "training.epochs=0"), "training.epochs"),
    (("train", "--sampler", "gibs"), "did you mean 'gibbs'"),
    (("train", "--set", "sampler.options.sweps=3"), "sweeps"),
    (("train", "--set", "model.latent.gamma=1.0", "--set", "model.latent.sizes=[3,3]"), "these can: aer, exact, path_integral"),
    (("train", "--set", "model.latent.gamma=1.0"), "these can: path_integral"),
    (("train", "--sampler", "exact"), "at most 20 spins"),
    (("train", "--set", "model.latent.sizes=[3]"), "model.latent.sizes"),
    (("train", "--set", "data.name=missing.npy"), "missing.npy"),
    (("train", "mnist", "--set", "data.root=nowhere"), "nowhere"),
    (("train", "--set", "model.posterior.levels=65"), "at most 64"),
    (("train", "--resume"), "--out"),
    (("train", "--resume", "--out", "nowhere"), "there is no folder nowhere"),
    (("evaluate", "nowhere"), "there is no folder nowhere"),
    (("evaluate", "."), "not a run folder"),
    (("generate", "nowhere"), "there is no folder nowhere"),
    (("reconstruct", "nowhere"), "there is no folder nowhere"),
    (("samplers", "check", "gibs"), "did you mean 'gibbs'"),
    (("train", "--device"), "No such option"),
    (("train", "--set", "training.batch_size=1"), "2 or more"),
    (("train", "--set", "model.network={kind: conv, hidden: []}"), "one layer or more"),
    (("train", "--set", "evaluation.log_z_chains=1"), "2 or more"),
    (("train", "--set", "generation.sampler={name: gibs}"), "did you mean 'gibbs'"),
    (("train", "--set", "generation.sampler={name: exact}"), "at most 20 spins"),
    (("train", "digits", "--resume", "--out", "a"), "leave 'digits' out"),
]


@pytest.mark.parametrize(("arguments", "words"), MISTAKES, ids=lambda v: " ".join(v) if isinstance(v, tuple) else "")
def test_a_mistake_gets_a_sentence_and_exit_code_2(command, arguments, words, tmp_path):
    code, out, err = command(*arguments)
    assert code == 2
    assert words in err.replace("\n", " ")
    assert "Traceback" not in out + err
    assert not list(tmp_path.rglob("*.safetensors"))


@pytest.mark.parametrize("bad", ["nan", "range"])
def test_bad_arrays_get_a_sentence(command, tmp_path, bad):
    images = np.full((50, 4, 4), 0.5)
    images[3, 1, 1] = np.nan if bad == "nan" else 7.0
    np.save(tmp_path / "images.npy", images)
    code, _, err = command("train", "--set", "data.name=images.npy")
    assert code == 2
    assert "images.npy" in err


def test_ctrl_c_ends_with_130_and_says_how_to_go_on(command, small, monkeypatch):
    import signal

    from qvae.training.trainer import Trainer

    take = Trainer._train_step

    def interrupted(self, images):
        if self.step == 4:
            signal.raise_signal(signal.SIGINT)
        take(self, images)

    monkeypatch.setattr(Trainer, "_train_step", interrupted)
    code, out, err = command("train", "--out", "cut", *small)
    assert code == 130
    assert "qvae train --resume --out cut" in out
    assert err == "qvae: interrupted\n"
    monkeypatch.undo()


def test_help_and_import_don_t_load_torch():
    code = "import sys; import qvae, qvae.cli.main, qvae.errors; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    found = subprocess.run([sys.executable, "-m", "qvae", "--help"], capture_output=True, text=True, check=True)
    for word in ("train", "evaluate", "generate", "reconstruct", "samplers"):
        assert word in found.stdout


def test_every_public_name_exists():
    for name in qvae.__all__:
        assert getattr(qvae, name) is not None
    assert set(qvae.__all__) | {"__version__"} == set(dir(qvae))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = qvae.nothing


def test_a_disk_that_fails_is_told_in_a_sentence_with_exit_code_2(command, monkeypatch):
    def fails(*arguments, **more):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "metrics.jsonl")

    monkeypatch.setattr("qvae.cli.main.make_app", lambda: fails)
    code, out, err = command("train")
    assert (code, out) == (2, "")
    assert err == f"qvae: metrics.jsonl: {os.strerror(errno.ENOSPC)}; free some space or choose another folder.\n"
