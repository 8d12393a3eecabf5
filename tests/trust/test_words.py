"""A stranger's folder runs no code, gets no token and writes nothing, under any command; the user's word lets it."""

import sys
import textwrap

import pytest
from trust.commands import COMMANDS, SLOW, commands_on

import qvae
from qvae.errors import QvaeError, SamplerError
from qvae.runs.folder import run_config
from qvae.trust import Trust

CODE = {
    "dimod": lambda canary: {
        "name": "dimod",
        "options": {"sampler": "os.system", "sampler_options": {"command": f"mkdir -p {canary}"}},
    },
    "class": lambda canary: {"name": "dimod", "options": {"sampler": "stranger.Sampler"}},
    "sampler": lambda canary: {"name": "stranger:Sampler", "options": {}},
    "aer": lambda canary: {"name": "aer", "options": {"backend": "stranger:make"}},
    "noise": lambda canary: {"name": "aer", "options": {"noise_model": "stranger:make"}},
}


@pytest.fixture
def stranger(tmp_path, canary, monkeypatch):
    """A module that leaves its mark when it is imported."""
    (tmp_path / "modules").mkdir()
    text = f"""
        import pathlib
        pathlib.Path({str(canary)!r}).mkdir(parents=True, exist_ok=True)
        from qvae_backends.exact import ExactSampler
        class Sampler(ExactSampler): pass
        def make(): pass
    """
    (tmp_path / "modules" / "stranger.py").write_text(textwrap.dedent(text))
    monkeypatch.syspath_prepend(tmp_path / "modules")
    yield
    sys.modules.pop("stranger", None)


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("kind", CODE)
def test_no_code_runs(kind, name, hostile, canary, stranger, command):
    folder = hostile(sampler=CODE[kind](canary))
    code, _, errors = command(*commands_on(folder)[name])
    assert not canary.exists()
    assert "Traceback" not in errors
    if name in ("generate", "resume", "train", "dry-run", "recommend"):
        assert code == 2
        assert "which a file says and you haven't" in errors
        assert "--trust" in errors


def test_no_code_runs_in_a_benchmark(hostile, canary, stranger, command):
    folder = hostile(sampler=CODE["sampler"](canary))
    command(*commands_on(folder)[SLOW])
    assert not canary.exists()


def test_code_in_the_other_places_of_a_configuration(hostile, canary, stranger, command):
    folder = hostile(generation={"sampler": {"name": "stranger:Sampler", "options": {}}})
    assert command("generate", folder)[0] == 2
    folder = hostile(generation={"sampler": None}, training={"fallback": "stranger:Sampler"})
    assert command(*commands_on(folder)["resume"])[0] == 2
    assert not canary.exists()


def test_a_run_is_looked_at_without_a_sampler_where_its_samples_are_kept(hostile, monkeypatch):
    folder = hostile(keep_samples=True, sampler=CODE["sampler"](None))
    monkeypatch.setattr(qvae.runs.run.Run, "sampler", lambda self: pytest.fail("a sampler was made"))
    run = qvae.load_run(folder)
    qvae.workflow.report(run)
    qvae.workflow.compare([run, run], folder.parent / "both.html")


def test_the_very_word_is_enough_and_is_remembered_for_the_folder(hostile, canary, stranger, command, tmp_path):
    folder = hostile(sampler=CODE["sampler"](canary))
    assert command("generate", folder, "--num", "2", "--trust", "stranger")[0] == 2
    assert command("generate", folder, "--num", "2", "--trust", "stranger:Sampler")[0] == 0
    assert command("generate", folder, "--num", "2")[0] == 0
    assert not any("trust" in file.name for file in folder.rglob("*"))
    folder.rename(tmp_path / "elsewhere")
    assert command("generate", tmp_path / "elsewhere", "--num", "2")[0] == 2


def test_what_the_user_sets_is_said(hostile, stranger, command):
    folder = hostile()
    assert command("generate", folder, "--num", "2", "--sampler", "stranger:Sampler")[0] == 0
    assert command("train", folder / "config.yaml", "--sampler", "stranger:Sampler", "--dry-run")[0] == 0
    # A name that the user says is not the user's word for the options in the file.
    folder = hostile(sampler=CODE["dimod"]("nowhere"))
    code, _, errors = command("generate", folder, "--sampler", "dimod")
    assert (code, "os.system" in errors) == (2, True)


def test_a_run_that_was_trained_with_the_users_word_keeps_it(stranger, tmp_path, small):
    settings = {"training": {"epochs": 1}, "model": {"latent": {"sizes": [2, 2]}, "network": {"hidden": [4]}}}
    settings |= {"sampler": {"name": "stranger:Sampler"}, "evaluation": {"num_generated": 0, "importance_samples": 2}}
    qvae.train(qvae.load_config(settings), out=tmp_path / "run")
    qvae.load_run(tmp_path / "run").sampler().close()


@pytest.mark.parametrize("place", ["sampler", "fallback"])
def test_a_run_that_was_cut_short_keeps_the_users_word_too(place, stranger, tmp_path):
    def stop(model, figures):
        raise KeyboardInterrupt

    chosen = {"sampler": {"name": "stranger:Sampler"}} if place == "sampler" else {}
    training = {"epochs": 1, "fallback": "stranger:Sampler" if place == "fallback" else None}
    model = {"latent": {"sizes": [2, 2]}, "network": {"hidden": [4]}}
    settings = {"training": training, "model": model, "evaluation": {"tsne_every": 0}} | chosen
    with pytest.raises(KeyboardInterrupt):
        qvae.train(qvae.load_config(settings), tmp_path / "run", observers=[stop])
    assert "stranger:Sampler" in run_config(tmp_path / "run").trust.words


def test_what_is_imported_must_be_of_the_right_class():
    for options in ({"sampler": "os.system"}, {"sampler": "subprocess.Popen"}, {"sampler": "dwave.samplers.Sampler"}):
        with pytest.raises(SamplerError):
            qvae.load_sampler("dimod", **options)
    for options in ({"backend": "subprocess:Popen"}, {"noise_model": "qiskit.circuit:QuantumCircuit"}):
        with pytest.raises(QvaeError, match=r"is not a .*, nor something that makes one, but the class"):
            qvae.load_sampler("aer", **options)


@pytest.mark.parametrize(
    "sampler",
    [
        {"name": "dimod", "options": {"sampler": "dwave.samplers.RandomSampler"}},
        {"name": "aer", "options": {"backend": "qiskit.primitives:StatevectorSampler"}},
        {"name": "aer", "options": {"noise_model": "qiskit_aer.noise:NoiseModel"}},
        {"name": "gibbs", "options": {"sweeps": 2}},
    ],
)
def test_what_we_document_needs_no_word(sampler, hostile):
    run = qvae.load_run(hostile(sampler=sampler))
    assert run.config.trust == Trust()
    assert not run.config.trust.everything
    run.sampler().close()


# The token ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", COMMANDS)
def test_no_address_of_a_file_gets_the_token(name, hostile, server, command):
    address, seen = server
    options = {"endpoint": address, "timeout": 5.0, "retries": 0}
    folder = hostile(sampler={"name": "dwave", "options": options})
    code, printed, errors = command(*commands_on(folder)[name])
    assert seen == []
    assert "Traceback" not in errors
    assert "DEV-" not in printed + errors
    if name in ("generate", "resume", "train", "dry-run", "recommend"):
        assert code == 2
        assert f"--trust '{address}'" in errors


def test_no_address_hides_in_nested_options(hostile, server, command):
    address, seen = server
    nested = {"sampler": "dwave.system.DWaveSampler", "sampler_options": {"endpoint": address}}
    folder = hostile(sampler={"name": "dimod", "options": nested})
    assert command("generate", folder, "--trust", "dwave.system.DWaveSampler")[0] == 2
    nested["sampler_options"] = {"proxy": address.removeprefix("http://")}
    hostile(sampler={"name": "dimod", "options": nested})
    assert command("generate", folder)[0] == 2
    assert seen == []


def test_the_users_own_address_is_used(hostile, server, command):
    address, seen = server
    folder = hostile(sampler={"name": "dwave", "options": {"endpoint": address, "timeout": 5.0, "retries": 0}})
    assert command("generate", folder, "--num", "2", "--trust", address)[0] == 2
    assert seen


# Files outside --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", COMMANDS)
def test_no_recording_outside_the_folder(name, hostile, canary, server, command):
    canary.parent.mkdir()
    folder = hostile(sampler={"name": "dwave", "options": {"record": str(canary), "timeout": 1.0, "retries": 0}})
    _, _, errors = command(*commands_on(folder)[name])
    assert not list(canary.parent.iterdir())
    assert "Traceback" not in errors
    if name in ("generate", "resume", "train", "dry-run", "recommend"):
        assert f"write the file {canary}" in errors


def test_a_recording_inside_needs_no_word(hostile, small_run):
    from qvae.sampling.registered import SAMPLERS

    config = qvae.load_run(hostile(sampler={"name": "dwave", "options": {"record": f"{small_run}/r.jsonl"}})).config
    assert not list(SAMPLERS.needs(config.sampler, small_run))
    SAMPLERS.require_words(config.sampler, config.trust, small_run)
    config = qvae.load_run(hostile(sampler={"name": "dwave", "options": {"record": f"{small_run}/../r.jsonl"}})).config
    with pytest.raises(SamplerError, match="would write the file"):
        SAMPLERS.require_words(config.sampler, config.trust, small_run)


def test_nothing_is_fetched_while_a_run_is_looked_at(hostile, canary):
    folder = hostile(data={"name": "mnist", "root": str(canary), "download": True})
    assert not qvae.load_run(folder).config.data.download
    assert qvae.load_run(folder, ["data.download=true"]).config.data.download
