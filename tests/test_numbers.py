"""Numbers that decide what a result is, what is told of it and what is refused: a change of one of them is meant.

Why each is what it is stands beside it in its module. Those of options are in test_options_left_out.py and test_defaults.py.
"""

import importlib
import inspect

import pytest

NUMBERS = {
    "qvae.circuits.gibbs_ansatz": {
        "COLD_ITERATIONS": 100, "WARM_ITERATIONS": 5, "TOLERANCE": 1e-5, "_JUMP": 1e-3, "_STEPS": 1.25, "_SHIFT": 1e-4,
        "_DRIFT": 0.1,
    },
    "qvae.circuits.gradients.jordan": {"_ROWS": 16_384, "_ROUNDINGS": 4},
    "qvae.circuits.gradients.shadows": {"_QUBITS": 8, "_AT_ONCE": 4_194_304},
    "qvae.circuits.gradients.shot_budget": {"_FEWEST": 2, "_PORTIONS": 16},
    "qvae.circuits.library.amplitudes": {"_NORM_TOLERANCE": 1e-4},
    "qvae.circuits.paulis": {"_ROUNDING": 1e-12},
    "qvae.coding.annealed": {"TEMPERATURES": 128, "_SCALE": 65_536, "_EXACT": 2**52},
    "qvae.coding.bits_back": {"_TOGETHER": 128, "_SHARE": 4, "_MOST_ROWS": 4096, "_MOST_LOGITS": 4_194_304},
    "qvae.coding.container": {"_MAGIC": b"\x89qvae\r\n\x1a", "_VERSION": 2, "_LONGEST_NAME": 4096},
    "qvae.coding.lossy": {"_SWEEPS": 20},
    "qvae.coding.probabilities": {
        "UNIT": 256, "SHIFTS": 16, "MARGIN": 1e-9, "_HIGHEST": 3584, "_BEYOND": 15.0, "_PRECISION": 1_048_576,
    },
    "qvae.coding.symbols": {"_OCTAVES": 25, "_NEVER": -1e4, "_LEAK": 2.0**-40},
    "qvae.diagnosis.diagnose": {"SCHEMA": 1, "_NOTED": 20, "_STARTS": 100},
    "qvae.diagnosis.layers": {"DEAD": 1e-4, "TALL": 1000.0, "GROWTH": 100.0, "_NEAREST": 3},
    "qvae.diagnosis.plateau": {"MOST_QUBITS": 10, "_SIZES": 4},
    "qvae.diagnosis.remedies": {"TRIED_STEPS": 30, "TRIED_STARTS": 5, "_RATE": 0.1},
    "qvae.evaluation.classifier": {
        "_STEPS": 2800, "_EPOCHS": 80, "_BATCH": 128, "_LEARNING_RATE": 4e-3, "_SEED": 0, "_SMALLEST": 8, "_AT_ONCE": 500,
    },
    "qvae.evaluation.classifier_files": {"_RECIPE": 1},
    "qvae.evaluation.evaluate": {"_LONG_SECONDS": 30.0},
    "qvae.evaluation.executor_loss": {"MOST": 1000, "_AT_ONCE": 50},
    "qvae.evaluation.frechet": {"_JACKKNIFE_GROUPS": 20, "_AT_ONCE": 500},
    "qvae.evaluation.inception": {"_FEATURES": 2048, "_MOST_BYTES": 268_435_456, "_AT_ONCE": 32},
    "qvae.evaluation.latents": {"ALIVE": 0.01, "_PROBE_ROWS": 5000},
    "qvae.evaluation.likelihood": {"_GAP_DRAWS": 200, "_FEW_BATCHES": 50, "_UNCERTAIN": 0.1, "_ROWS": 4096},
    "qvae.evaluation.rows": {"AT_ONCE": 1000},
    "qvae.evaluation.samples": {"_NEIGHBOURS": 5, "_SOUGHT": 500, "_SOUGHT_AMONG": 60_000},
    "qvae.evaluation.strings": {"_PAIRS": 1000, "_MOST_COUNTED": 100_000},
    "qvae.evaluation.tsne": {
        "_FILM_ROWS": 1000, "_FRAMES": 60, "_FIRST_ITERATIONS": 750, "_NEXT_ITERATIONS": 250, "_PERPLEXITY": 30.0,
    },
    "qvae.ising.annealing": {"_MIN_SWEEPS": 200, "_MIN_EFFECTIVE": 20, "_MIN_EFFECTIVE_SHARE": 0.05, "_MAX_GAP": 0.5},
    "qvae.ising.annealing_path": {"PILOT_CHAINS": 100, "PILOT_STEPS": 100, "_MAX_REPLICAS": 24},
    "qvae.ising.block_gibbs": {
        "_DENSE_SPINS": 64, "_ROUNDED_SPINS": 96, "_CPU_BITS": 262_144, "_GPU_BITS": 268_435_456, "_FEWEST_CHAINS": 64,
    },
    "qvae.ising.diagonal_elements": {"_MEAN_FIELD_STEPS": 10, "_ROW_ELEMENTS": 33_554_432},
    "qvae.ising.exact": {
        "MAX_ENUMERATION_SPINS": 20, "MAX_EXPONENTIAL_SPINS": 10, "MAX_QUANTUM_SPINS": 14, "_TROTTER_ERROR": 1e-6,
        "_TROTTER_SLICES": (4, 8, 12, 16, 24, 32, 48, 64), "_RARE_ERROR": 1e-3, "_RANGE": 600.0, "_FACTOR_SPINS": 5,
    },
    "qvae.ising.exact_partition": {"MAX_LAYER_SPINS": 25},
    "qvae.ising.exponential": {"_TERMS": 16},
    "qvae.ising.hamiltonian": {"MAX_ENERGY": 1e36, "_SPARSE": 32},
    "qvae.ising.population": {"MAX_TEMPERATURES": 1000, "_OVERLAP": 0.8, "_LEAST": 128},
    "qvae.ising.products": {"REFRESH": 8},
    "qvae.ising.pseudo_boolean": {"_NOTHING": 1e-12},
    "qvae.ising.quantum_partition": {"_PILOT_STEPS": 50, "_FEWEST_SWEEPS": 100},
    "qvae.ising.trotter": {
        "_SLICES": (2, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024), "_COLLECTIVE": 3.0,
        "_WORST_FIELD": 1.2, "_FEWEST_TO_EXTRAPOLATE": 8, "_LARGEST_ANGLE": 2.0,
    },
    "qvae.ising.world_lines": {
        "_CPU_ELEMENTS": 524_288, "_GPU_ELEMENTS": 67_108_864, "_FEWEST_CHAINS": 32, "_PINNED": 1e9,
    },
    "qvae.models.autoencoder": {"_DECODED_AT_ONCE": 4096},
    "qvae.models.generator": {"_FIRST_SAMPLES": 256},
    "qvae.models.labels": {"_CERTAIN": 40.0},
    "qvae.models.likelihoods.counts": {"_MAX_LOG_MEAN": 30.0, "_MIN_MEAN": 1e-4, "_MIN_DISPERSION": 1e-8},
    "qvae.models.patches": {"_BLACK": 0.15, "_WHITE": 1.5},
    "qvae.models.relaxation": {"_CERTAIN": 16.0},
    "qvae.qubo.minimise": {"_MOST_BITS": 24, "_AT_ONCE": 65_536, "_STEPS": 20, "_SAME": 1e-9},
    "qvae.sampling.abilities": {"_MARGIN": 1.1},
    "qvae.sampling.chains": {"_REMEMBERED": 0.1, "_SIGMAS": 3, "_ACCEPTED": 0.05, "_FAMILIES": 10},
    "qvae.sampling.sampler": {"_ROUNDING": 1e-4},
    "qvae.sampling.temperature": {"_JUMP": 5.0},
    "qvae.training.interrupts": {"_PATIENCE": 1.0, "_ENOUGH": 3},
    "qvae.training.laps": {"_STEPS_BETWEEN": 50},
    "qvae.training.objectives.adversarial": {"CRITIC_MOMENTS": (0.0, 0.9)},
    "qvae.training.objectives.game_watch": {"_NO_SPREAD": 0.05, "_LITTLE": 0.2, "_SETTLED": 0.5, "_ABSURD_GAP": 1e4},
    "qvae.training.objectives.held_out": {"_RISE": 0.5},
    "qvae.training.objectives.sampler_watch": {
        "_STUCK_LOOKS": 3, "_SLOW_SHARE": 0.9, "_SLOW_MILLISECONDS": 20.0, "_UNDETERMINED": 0.5, "_STUCK": 0.5,
    },
    "qvae.training.optimizers.chosen": {"_PURPOSE": 6, "_HYBRID": {"angles": 4, "blocking": 0.0}},
    "qvae.training.optimizers.watch": {"_USES": 16},
    "qvae.training.pulse": {"_SECONDS": 5.0, "_MISSED": 10},
    "qvae.training.ranks": {"_GATHERED": 262_144, "_MATRIX": 4096, "_ROUNDING": 1e-6},
    "qvae.training.threads": {"_SMALL": 2e8},
    "qvae.training.trainer": {
        "_SETTLING_ROWS": 4096, "_NO_EPOCH": 2**40, "_LOOKS": 8, "_LOOKS_TO_STOP": 40, "_STEPS_BETWEEN_LOOKS": 2000,
        "_MOST_ON_DEVICE": 2**31, "_REPORT_SECONDS": 0.1,
    },
    "qvae_backends.aer": {"_COLDEST": 4.0, "_BETAS": 81},
    "qvae_backends.dwave": {"_CALLS_AGAIN": 3, "_ROUNDS": 4, "_MORE_READS": 1.1},
    "qvae_backends.dwave_recording": {"_VERSION": 1, "_UNPACKED": 4, "_ROUNDING": 1e-3},
    "qvae_backends.dwave_solver": {"_REQUEST_SECONDS": 30.0},
    "qvae_backends.dwave_temperature": {
        "_FIRST_BETA": 3.0, "_OFF": 0.1, "_FEWEST_READS": 16, "_COLD": 25.0, "_CLIPPED": 0.02,
    },
    "qvae_backends.path_integral": {"_GROUPS": 10},
    "qvae_backends.pool": {"_TRIES": 5},
    "qvae_backends.pool_worker": {"_KEPT_SECONDS": 86_400.0},
    "qvae_backends.qiskit": {"_SHOTS": 4_194_304, "_CALIBRATION": 10},
    "qvae_backends.qiskit_mitigation": {"_CONTRAST": 0.05},
    "qvae_backends.statevector": {"_KEPT": 16, "_AT_ONCE": 1_048_576, "_STORED": 0.25},
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
