"""What the JSON files of a run must hold: one key of the wrong type, too large, or without those that follow it, is told."""

import json

import pytest

from qvae.errors import RunError
from qvae.runs import records
from qvae.runs.records import Environment, Epoch, Evaluated, file_bytes, parse_record, read_record

ERRORS = {"elbo_stderr": None, "log_likelihood_stderr": None, "log_z_stderr": None}
LIKELIHOOD = {
    "elbo": -20.0, "log_likelihood": -19.0, "importance_samples": 5, "log_z": 5.0, "log_z_method": "exact", "num_test": 4,
    "binarization": "threshold", "test_images_are_all": False, "log_z_details": {}, "seconds": {},
} | ERRORS  # fmt: skip
DISTANCE = {"value": 1.0, "num_images": 5, "num_reference": 6, "stderr": None, "bias": None}
FRECHET = {"classifier": {"weights": "shipped", "test_accuracy": None}, "distances": {"x": DISTANCE}}
PROBE = {"features": "codes", "dimensions": 8, "linear": 0.5, "mlp": 0.6, "stderr": 0.01}
LATENTS = {"units": 8, "alive": 3, "alive_threshold": 0.01, "information": None, "probes": [PROBE], "probe_images": 9}
EPOCH = {"epoch": 1, "step": 5, "seconds": 0.5}
TIMES = {"ms_forward": 1.0, "ms_backward": 2.0, "ms_optimizer": 3.0}


def without(keys, *left_out):
    return {key: value for key, value in keys.items() if key not in left_out}


@pytest.mark.parametrize(
    ("kind", "keys", "fault"),
    [
        (Evaluated, LIKELIHOOD, None),
        (Evaluated, LIKELIHOOD | {"a key of later": 3}, None),
        (Evaluated, without(LIKELIHOOD, "elbo"), "there is no elbo"),
        (Evaluated, without(LIKELIHOOD, "log_z_stderr"), "there is no log_z_stderr"),
        (Evaluated, without(LIKELIHOOD, "log_z_method"), "there is no log_z_method"),
        (Evaluated, without(LIKELIHOOD, "num_test"), "num_test: Field required"),
        (Evaluated, LIKELIHOOD | {"elbo": 2e30}, "elbo: Input should be less than or equal to"),
        (Evaluated, LIKELIHOOD | {"elbo": -2e30}, "elbo: Input should be greater than or equal to"),
        (Evaluated, LIKELIHOOD | {"elbo": 1e30}, None),
        (Evaluated, LIKELIHOOD | {"elbo": "-1"}, "elbo: Input should be a valid number"),
        (Evaluated, LIKELIHOOD | {"num_test": -1}, "num_test: Input should be greater than or equal to 0"),
        (Evaluated, LIKELIHOOD | {"num_test": 2**63}, "num_test: Input should be less than"),
        (Evaluated, LIKELIHOOD | {"num_test": 2**63 - 1}, None),
        (Evaluated, LIKELIHOOD | {"num_test": 4.0}, "num_test: Input should be a valid integer"),
        (
            Evaluated,
            without(LIKELIHOOD, *ERRORS, "elbo", "log_z") | {"reconstruction": None},
            "there is no reconstruction_stderr",
        ),
        (Evaluated, without(LIKELIHOOD, *ERRORS, "elbo") | {"reconstruction": -3.0, "reconstruction_stderr": None}, None),
        (Evaluated, LIKELIHOOD | {"q_elbo": -21.0}, "q_elbo has no golden_thompson_gap"),
        (Evaluated, LIKELIHOOD | {"q_elbo": -21.0, "golden_thompson_gap": 1.0}, "q_elbo has no golden_thompson_gap_stderr"),
        (
            Evaluated,
            LIKELIHOOD | {"q_elbo": -21.0, "golden_thompson_gap": None, "golden_thompson_gap_stderr": 0.1},
            "q_elbo has no golden_thompson_gap",
        ),
        (Evaluated, LIKELIHOOD | {"q_elbo": None}, None),
        (Evaluated, LIKELIHOOD | {"q_elbo": -21.0, "golden_thompson_gap": 1.0, "golden_thompson_gap_stderr": 0.1}, None),
        (Evaluated, LIKELIHOOD | {"elbo_per_feature": 1.0}, "elbo_per_feature has no log_likelihood_per_feature"),
        (
            Evaluated,
            LIKELIHOOD | {"elbo_per_feature": 1.0, "log_likelihood_per_feature": 1.0},
            "elbo_per_feature has no num_features",
        ),
        (Evaluated, LIKELIHOOD | {"log_likelihood_per_feature": 1.0}, "log_likelihood_per_feature has no elbo_per_feature"),
        (Evaluated, LIKELIHOOD | {"frechet": FRECHET}, None),
        (Evaluated, LIKELIHOOD | {"frechet": {"reason": "no labels"}}, None),
        (
            Evaluated,
            LIKELIHOOD | {"frechet": without(FRECHET, "classifier")},
            "frechet: Value error, distances has no classifier",
        ),
        (
            Evaluated,
            LIKELIHOOD | {"frechet": FRECHET | {"distances": {}}},
            "frechet.distances: Dictionary should have at least 1",
        ),
        (
            Evaluated,
            LIKELIHOOD | {"frechet": FRECHET | {"inception": {}}},
            "frechet.inception: Dictionary should have at least 1",
        ),
        (
            Evaluated,
            LIKELIHOOD | {"frechet": FRECHET | {"distances": {"x": without(DISTANCE, "bias")}}},
            "distances.x.bias: Field req",
        ),
        (Evaluated, LIKELIHOOD | {"latents": LATENTS}, None),
        (Evaluated, LIKELIHOOD | {"latents": None}, None),
        (Evaluated, LIKELIHOOD | {"latents": without(LATENTS, "probe_images")}, "probes has no probe_images"),
        (Evaluated, LIKELIHOOD | {"latents": without(LATENTS, "probes", "probe_images")}, None),
        (
            Evaluated,
            LIKELIHOOD | {"latents": LATENTS | {"probes": [without(PROBE, "mlp")]}},
            "latents.probes.0.mlp: Field required",
        ),
        (Epoch, EPOCH, None),
        (Epoch, EPOCH | {"surrogate": None, "kl": 3}, None),
        (Epoch, EPOCH | {"surrogate": "3"}, "surrogate: Input should be a valid number"),
        (Epoch, EPOCH | {"surrogate": 1e31}, "surrogate: Input should be less than or equal to"),
        (Epoch, without(EPOCH, "step"), "step: Field required"),
        (Epoch, EPOCH | TIMES, None),
        (Epoch, EPOCH | without(TIMES, "ms_backward"), "ms_forward has no ms_backward"),
        (Epoch, EPOCH | without(TIMES, "ms_forward"), "ms_backward has no ms_forward"),
        (Epoch, EPOCH | {"ms_optimizer": 1.0}, "ms_optimizer has no ms_forward"),
        (Epoch, EPOCH | {"qpu_seconds": 1.0}, "qpu_seconds has no qpu_seconds_per_call"),
        (Epoch, EPOCH | {"qpu_seconds": 1.0, "qpu_seconds_per_call": 0.1}, None),
        (Environment, {"packages": {"torch": "2"}}, None),
        (Environment, {"packages": {"torch": 2}}, "packages.torch: Input should be a valid string"),
        (Environment, [], "Input should be an object"),
    ],
)
def test_what_a_file_holds(kind, keys, fault, tmp_path):
    file = tmp_path / "a.json"
    file.write_text(json.dumps(keys))
    if fault is None:
        assert read_record(file, kind) == keys  # what is left out stays out
    else:
        with pytest.raises(RunError) as told:
            read_record(file, kind)
        assert fault in str(told.value)
        assert str(told.value).startswith(f"{file} is damaged: ")
        assert str(told.value).endswith("; remove it, or restore it from a copy.")


def test_files_that_are_none(tmp_path, monkeypatch):
    file = tmp_path / "a.json"
    with pytest.raises(RunError, match=r"a.json can't be read: No such file or directory\.$"):
        read_record(file, Epoch)
    file.write_text(json.dumps(EPOCH))
    size = file.stat().st_size
    monkeypatch.setattr(records, "_MOST_BYTES", size)
    assert len(file_bytes(file)) == size
    monkeypatch.setattr(records, "_MOST_BYTES", size - 1)
    with pytest.raises(RunError, match="a.json holds more than 0 MB, as no such file does; remove it"):
        file_bytes(file)
    with pytest.raises(ValueError, match="Invalid JSON"):
        parse_record("{", Epoch)
    assert records._first_fault(ValueError("two\n lines")) == "two lines"
