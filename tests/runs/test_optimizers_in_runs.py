"""Each optimizer on the path a user takes: trained, interrupted, resumed to the same bits, and told of in the report."""

import signal

import pytest
import torch

import qvae
from qvae.errors import ConfigError
from qvae.progress import Progress
from qvae.runs.assemble import assemble
from qvae.training.objective import Clock
from qvae.training.trainer import Trainer

TINY = [
    "training.epochs=1",
    "model.circuit.qubits=2",
    "model.circuit.layers=1",
    "model.network.hidden=[8]",
    "evaluation.importance_samples=2",
    "evaluation.num_test=10",
    "evaluation.num_generated=0",
    "evaluation.probes=false",
    "evaluation.tsne_every=0",
]
CHOICES = {
    "adam": ["training.optimizer=adam", "training.optimizer.options.betas=[0.8,0.99]"],
    "sgd": ["training.optimizer=sgd", "training.optimizer.options.momentum=0.9"],
    "qng": ["training.optimizer=qng", "training.optimizer.options.momentum=0.5", "training.optimizer.options.rows=2"],
    "qng, overlaps": ["training.optimizer={name: qng, options: {source: overlaps, metric: diagonal, rows: 1}}"],
    "qng, discrete": ["training.optimizer=qng", "training.optimizer.options.solver=cg", "model.variant=discrete"],
    "spsa": ["training.optimizer=spsa", "training.optimizer.options.blocking=0.1"],
    "qn-spsa": ["training.optimizer=qn-spsa", "training.optimizer.options.rows=2"],
    "rotosolve": ["training.optimizer=rotosolve", "training.optimizer.options.angles=2", "training.seed=1"],
    "shot budget": ["training.circuit_gradient={name: shot-budget, options: {shots: 400}}", "training.batch_size=400"],
    "layerwise": ["model.circuit.layerwise=0.9", "model.circuit.layers=4"],
    "spsa gradient": ["training.circuit_gradient=spsa", "training.circuit_gradient.options.repetitions=2"],
}


def interrupt_after(step, monkeypatch):
    whole = Trainer._train_step

    def interrupted(trainer, rows):
        whole(trainer, rows)
        if trainer.step == step:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Trainer, "_train_step", interrupted)


@pytest.mark.parametrize("name", [*CHOICES, "spsa gradient in a game"])
def test_a_resumed_run_ends_with_the_same_bits(name, tmp_path):
    config, settings = "digits-vqvae", [*TINY, *CHOICES.get(name, [])]
    if name == "spsa gradient in a game":
        config, settings = "digits-vqgan", [*TINY, *CHOICES["spsa gradient"], "model.gan.autoencoder_share=0.1"]
    whole = qvae.train(qvae.load_config(config, settings), tmp_path / "whole").model.state_dict()
    with pytest.MonkeyPatch.context() as patch:
        interrupt_after(6 if config == "digits-vqgan" else 2, patch)
        with pytest.raises(KeyboardInterrupt):
            qvae.train(qvae.load_config(config, settings), tmp_path / "run")
    found = qvae.resume(tmp_path / "run").model.state_dict()
    for key, value in whole.items():
        assert torch.equal(value, found[key]), key


def test_the_report_says_it(tmp_path):
    settings = [*TINY, *CHOICES["spsa"], *CHOICES["spsa gradient"]]
    qvae.train(qvae.load_config("digits-vqvae", settings), tmp_path / "run")
    html = (tmp_path / "run" / "report.html").read_text()
    assert "spsa:blocking=0.1 of the circuit, adamw of the rest" in html
    assert "spsa:repetitions=2" in html
    with pytest.raises(ConfigError, match=r"training\.optimizer and training\.circuit_gradient of the run"):
        qvae.resume(tmp_path / "run", ["training.optimizer=adam"])


@pytest.mark.parametrize("layerwise", [[], ["model.circuit.layerwise=0.9", "model.circuit.layers=3"]])
def test_rotosolve_lowers_the_loss_of_each_batch(layerwise, tmp_path):
    class Told(Progress):
        def warn(self, text):
            said.append(text)

    said = []
    rates = ["training.learning_rate=0.01", "training.warmup_steps=0", "training.kl_warmup=0"]
    config = qvae.load_config("digits-vqvae", [*TINY, *layerwise, *rates, "training.optimizer=rotosolve"])
    parts = assemble(tmp_path / "run", config, Told())
    objective, rows = parts.objective, parts.dataset.train[:200].flatten(1)
    step = objective.circuit_optimizer.step
    before, after = [], []

    @torch.no_grad()  # as the optimizer asks for losses: those with gradients are rounded otherwise
    def watched(loss):
        before.append(float(loss()))
        step(loss)
        after.append(float(loss()))

    objective.circuit_optimizer.step = watched
    for number in range(20):
        objective.step(rows, Clock(number, 1, 0.1))
        assert not any(weight[held.ends[0] :].any() for weight, held in objective._layerwise)
    assert all(there <= here for here, there in zip(before, after, strict=True))
    assert sum(before) - sum(after) > 0.05  # 0.08 or more, by the number of threads; 0 if it does nothing
    assert after[-1] < before[0] - 1
    assert ["minimum of a fit" in text for text in said if "Rotosolve" in text] == [True]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["digits", "--set", "training.optimizer=qng"], "training.optimizer qng is set, but model.kind is qvae, which has no"),
        (["digits", "--set", "training.optimizer=qngg"], "did you mean 'qng'"),
        (
            ["digits-vqvae", "--set", "training.optimizer=rotosolve", "--set", "training.circuit_learning_rate=0.1"],
            "rotosolve, the training.optimizer, has no rate",
        ),
        (["digits-vqvae", "--set", "training.optimizer.options.nesterov=true"], "'adamw' has no option 'nesterov': Allowed"),
        (
            ["digits-vqvae", "--set", "training.optimizer=qng", "--set", "training.optimizer.options.damping=-1"],
            "refuses its options: damping is -1; it must be a number above 0",
        ),
        (["digits-vqvae", "--set", "training.optimizer=spsa", "--set", "model.circuit.arm=frozen"], "arm is frozen"),
        (["digits-vqvae", "--set", "training.circuit_gradient=shift"], "no gradient is called 'shift': did you mean"),
        (["digits-vqvae", "--set", "training.circuit_gradient={name: spsa, options: {c: 1}}"], "'spsa' has no option 'c'"),
        (
            ["digits-vqvae", "--set", "training.circuit_gradient=spsa", "--set", "model.variant=discrete"],
            "is trained on exact probabilities",
        ),
    ],
)
def test_what_does_not_go_together_is_refused_before_a_folder_is_made(arguments, problem, command, tmp_path):
    code, _, error = command("train", *arguments, "--out", "run")
    assert code == 2
    assert problem in error
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("choices", "expected"),
    [
        # 15 weights and 2 inputs, each shifted both ways, and the row itself, 256 times; inputs need theirs in any case.
        ([], "8,960, of 1,024 shots each"),
        (["training.optimizer=spsa"], "1,792, of 1,024 shots each"),
        (["training.optimizer={name: qn-spsa, options: {rows: 3, blocking: 0.1}}"], "2,060, of 1,024 shots each"),
        (["training.optimizer={name: qng, options: {rows: 2, metric: diagonal}}"], "9,080, of 1,024 shots each"),
        # 5 circuits for inputs a row, and 3 losses for each of 4 angles, and one more
        (["training.optimizer=rotosolve"], "4,608, of 1,024 shots each"),
        (["training.circuit_gradient={name: shot-budget, options: {shots: 500}}"], "8,960, of 500 shots together for each row"),
    ],
)
def test_a_plan_counts_all_circuits_of_a_step(choices, expected, command):
    pytest.importorskip("qiskit_aer", reason="Aer is not installed")
    settings = [part for setting in [*TINY, *choices] for part in ("--set", setting)]
    code, out, error = command("train", "digits-vqvae", *settings, "--dry-run", "--executor", "aer")
    assert code == 0, error
    assert f"about {expected}" in out


def test_the_configuration_names_every_optimizer(command):
    _, out, _ = command("config", "digits-vqvae", "--set", "training.optimizer=qng")
    assert "name: qng" in out
    assert "qn-spsa: step, damping, blocking, rows" in out
