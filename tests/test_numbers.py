"""Numbers that a file or a published figure depends on, and defaults of public functions: a change of one of them is meant.

Why each is what it is stands beside it in its module. Those of options are in test_options_left_out.py and test_defaults.py.
"""

import importlib
import inspect

import pytest

NUMBERS = {
    "qvae.coding.annealed": {"TEMPERATURES": 128, "_SCALE": 65536, "_EXACT": 4503599627370496},
    "qvae.coding.bits_back": {"_SHARE": 4},
    "qvae.coding.container": {"_MAGIC": b'\x89qvae\r\n\x1a', "_VERSION": 2},
    "qvae.coding.probabilities": {
        "UNIT": 256, "SHIFTS": 16, "MARGIN": 1e-09, "_HIGHEST": 3584, "_BEYOND": 15.0, "_PRECISION": 1048576,
    },
    "qvae.coding.symbols": {"_OCTAVES": 25, "_NEVER": -10000.0, "_LEAK": 9.094947017729282e-13},
    "qvae.diagnosis.diagnose": {"SCHEMA": 1},
    "qvae.evaluation.classifier": {"_STEPS": 2800, "_EPOCHS": 80, "_BATCH": 128, "_LEARNING_RATE": 0.004, "_SEED": 0},
    "qvae.evaluation.classifier_files": {"_RECIPE": 1},
    "qvae.evaluation.frechet": {"_JACKKNIFE_GROUPS": 20},
    "qvae.evaluation.inception": {"_FEATURES": 2048},
    "qvae.evaluation.latents": {"ALIVE": 0.01, "_PROBE_ROWS": 5000},
    "qvae.evaluation.likelihood": {"_GAP_DRAWS": 200},
    "qvae.evaluation.samples": {"_NEIGHBOURS": 5, "_SOUGHT": 500, "_SOUGHT_AMONG": 60000},
    "qvae.models.patches": {"_BLACK": 0.15, "_WHITE": 1.5},
    "qvae.training.objectives.adversarial": {"CRITIC_MOMENTS": (0.0, 0.9)},
    "qvae.training.optimizers.chosen": {"_PURPOSE": 6},
    "qvae.training.trainer": {"_SETTLING_ROWS": 4096, "_NO_EPOCH": 1099511627776},
    "qvae_backends.dwave_recording": {"_VERSION": 1},
}  # fmt: skip

DEFAULTS = {
    "qvae.circuits.gibbs_ansatz:GibbsAnsatz": {"layers": 2},
    "qvae.circuits.gradients.jordan:jordan_gradient": {"qubits": 4, "degree": 2, "repetitions": 5, "phase_error": 0.04},
    "qvae.circuits.gradients.variance:gradient_variance": {"weight": 0, "starts": 200},
    "qvae.circuits.library.evolution:evolution": {"slices": 10},
    "qvae.circuits.library.diagonals:diagonal": {"tolerance": 0.0},
    "qvae.circuits.library.encodings:angle_encoding": {"rotation": "ry", "hadamard": False},
    "qvae.circuits.library.ansatzes:hardware_efficient": {"rotations": ("rx", "ry", "rz"), "entangler": "cx"},
    "qvae.evaluation.likelihood:evaluate_likelihood": {"importance_samples": 100, "seed": 0},
    "qvae.evaluation.ngram:best_ngram": {"orders": range(1, 7)},
    "qvae.ising.annealing:annealed_importance_sampling": {"parts": 1},
    "qvae.ising.annealing:bidirectional_annealing": {"chains": 500, "temperatures": 2000, "seed": 0, "parts": 1},
    "qvae.ising.diagonal_elements:log_diagonal_element": {"chains": 10, "temperatures": 10, "seed": 0},
    "qvae.ising.graphs:chimera": {"t": 4},
    "qvae.ising.graphs:zephyr": {"t": 4},
    "qvae.ising.partition:log_partition": {"chains": 500, "temperatures": 2000, "seed": 0, "parts": 1},
    "qvae.ising.pseudo_boolean:PseudoBoolean.quadratised": {"strength": 1.25},
    "qvae.ising.quantum_partition:path_integral_log_partition": {"chains": 500, "temperatures": 500, "seed": 0, "parts": 1},
    "qvae.ising.trotter:choose_slices": {"error": 0.005},
    "qvae.models.gaussian:GaussianPosterior": {"initial_log_variance": -2.0},
    "qvae.models.prior:BoltzmannPrior": {"gamma": 0.0, "train_gamma": False},
    "qvae.models.prior:BoltzmannPrior.kl_divergence": {"num_samples": 256},
    "qvae.qubo.minimise:minimise_by_sampling": {"num_samples": 100, "strength": 0.05},
    "qvae.qubo.network:FewBitNetwork": {"bits": 1, "scale": 1.0, "bias": True},
    "qvae.qubo.qaoa:minimise_by_qaoa": {"layers": 3, "steps": 100, "lr": 0.05, "num_samples": 1000, "ramp": 0.7},
    "qvae.sampling.coverage:coverage": {"neighbours": 5},
    "qvae.sampling.metering:Meter": {
        "option": "max_qpu_seconds", "ledger": "ledger.json", "retries": 3, "retry_seconds": 1.0,
    },
    "qvae.sampling.temperature:BetaFilter": {"drift": 0.01},
    "qvae.sampling.temperature:energy_matching_beta": {"sweeps": 50, "steps": 6},
    "qvae.training.jordan:jordan_backward": {"at_once": 2},
}  # fmt: skip


@pytest.mark.usefixtures("whole_reports")  # which leaves the jackknife's number as it is
@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_of_modules(name):
    module = pytest.importorskip(name) if name.startswith("qvae_backends") else importlib.import_module(name)
    assert {number: getattr(module, number) for number in NUMBERS[name]} == NUMBERS[name]


@pytest.mark.parametrize("name", DEFAULTS)
def test_defaults_of_functions(name):
    module, _, path = name.partition(":")
    function = importlib.import_module(module)
    for part in path.split("."):
        function = getattr(function, part)
    parameters = inspect.signature(function).parameters
    assert {option: parameters[option].default for option in DEFAULTS[name]} == DEFAULTS[name]
