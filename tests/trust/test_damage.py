"""Whatever stands in the files of a run or of data ends in the user's own errors, soon and without much memory."""

import io
import json
import math
import os
import shutil
import zipfile

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from trust.fuzzing import JSON, few, mutated, places, quick, replaced, told

import qvae
from qvae.checkpoint import load_checkpoint, save_checkpoint
from qvae.data.load import load_data
from qvae.errors import ConfigError, DataError, RunError, SamplerError
from qvae.reporting.compare import comparison_table
from qvae.reporting.figures import loss_curves
from qvae.reporting.report import evaluated, subtitle
from qvae.reporting.tables import evaluation_tables, time_table
from qvae.runs.folder import keep_metrics_until, read_metrics

EVALUATION = {
    "elbo": -20.0,
    "elbo_stderr": 0.1,
    "log_likelihood": -19.0,
    "log_likelihood_stderr": None,
    "importance_samples": 5,
    "log_z": 5.0,
    "log_z_stderr": 0.1,
    "log_z_method": "exact",
    "num_test": 40,
    "q_elbo": -21.0,
    "golden_thompson_gap": 1.0,
    "golden_thompson_gap_stderr": 0.1,
    "log_likelihood_is_bound": True,
    "likelihood": "gaussian",
    "num_features": 64,
    "elbo_per_feature": -0.1,
    "log_likelihood_per_feature": -0.1,
    "binarization": "threshold",
    "test_images_are_all": False,
    "log_z_details": {"warning": None},
    "evaluation_seed": 0,
    "frechet": {
        "classifier": {"weights": "shipped", "test_accuracy": 0.9},
        "distances": {"x": {"value": 1.0, "num_images": 5, "num_reference": 6, "stderr": None, "bias": 0.1}},
        "inception": {"x": {"value": 1.0, "num_images": 5, "num_reference": 6, "stderr": None, "bias": None}},
    },
    "latents": {
        "units": 8,
        "alive": 3,
        "alive_threshold": 0.01,
        "information": 2.0,
        "probes": [{"features": "codes", "dimensions": 8, "linear": 0.5, "mlp": 0.6, "stderr": 0.01}],
        "probe_images": 100,
    },
    "seconds": {"likelihood": 0.5},
}
EPOCH = {"epoch": 1, "step": 5, "seconds": 0.3, "surrogate": 20.0, "effective_beta": None, "qpu_seconds": 1.0}
EPOCH |= {"qpu_seconds_per_call": 0.1, "ms_forward": 1.0, "ms_backward": 1.0, "ms_negative_phase": 1.0, "ms_optimizer": 1.0}


# The files of a run ---------------------------------------------------------------------------------------------------


@quick
@given(tree=mutated(EVALUATION))
def test_evaluation(tree, small_run):
    (small_run / "evaluation.json").write_text(json.dumps(tree))
    run = qvae.load_run(small_run)
    told(lambda: evaluation_tables(evaluated(run)))
    told(lambda: comparison_table([run, run]))


@quick
@given(row=mutated(EPOCH))
def test_metrics(row, small_run):
    (small_run / "metrics.jsonl").write_text(json.dumps(row) + "\n" + json.dumps(EPOCH) + "\n")
    run = qvae.load_run(small_run)
    told(lambda: (subtitle(run), time_table(run.metrics, EVALUATION), loss_curves(run.metrics, -20.0)))


@quick
@given(content=st.binary(max_size=200), name=st.sampled_from(["evaluation.json", "environment.json", "metrics.jsonl"]))
def test_bytes(content, name, small_run):
    (small_run / name).write_bytes(content)
    run = qvae.load_run(small_run)
    told(lambda: (run.evaluation, run.environment, run.metrics))


@quick
@given(text=st.text(max_size=200) | JSON.map(lambda value: json.dumps({"sampler": value, "model": value})))
def test_configuration(text, small_run):
    (small_run / "config.yaml").write_text(text, encoding="utf-8", errors="replace")
    told(lambda: qvae.load_run(small_run))


STATE = {
    "config": None,
    "image_shape": [8, 8],
    "levels": None,
    "edges": torch.zeros(2, 2, dtype=torch.int64),
    "model": {"x": torch.zeros(2)},
    "monitor": {"warnings": ["a: b"]},
    "observer": {"epochs": [1], "losses": ["x"], "maps": torch.zeros(1, 3, 2), "seconds": 0.1},
    "spins": torch.ones(3, 8, dtype=torch.int8),
    "warning": None,
}
PLAIN = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=3)
PLAIN |= st.lists(st.integers(-2, 10**6), max_size=4) | st.just({}) | st.just({"x": 1}) | st.just(torch.full((2, 8), torch.nan))


@few
@given(key=st.sampled_from([*STATE]), value=PLAIN, name=st.sampled_from(["model", "checkpoint", "prior_samples"]))
def test_checkpoints(key, value, name, small_run, trained):
    file = f"{name}.safetensors"
    original = load_checkpoint(trained / file) if (trained / file).exists() else STATE
    save_checkpoint(small_run / file, original | {key: value})
    told(lambda: qvae.load_run(small_run).training_state)
    if name == "prior_samples":
        assert qvae.load_run(small_run).prior_spins(2).abs().eq(1).all()
    shutil.copyfile(trained / "model.safetensors", small_run / "model.safetensors")


STRANGE = st.sampled_from(
    [..., None, True, -1, 3, 2**70, math.nan, "x", [], {}, [1, 2], torch.zeros(0), torch.full((3, 4), torch.nan),
     torch.zeros(2, 2, dtype=torch.int8), torch.tensor(5), torch.ones(10**5)]
)  # fmt: skip


@few
@given(data=st.data(), value=STRANGE)
def test_a_training_goes_on_with_a_checkpoint_or_says_that_it_can_t(data, value, small_run, trained):
    """Among what was told in no words: moments of another shape, past whose end a fused optimizer wrote."""
    state = load_checkpoint(trained / "checkpoint.safetensors")
    section = data.draw(st.sampled_from([*state]))
    place = data.draw(st.sampled_from([place for place in places(state[section]) if place or value is not ...]))
    shutil.rmtree(small_run)
    shutil.copytree(trained, small_run)
    save_checkpoint(small_run / "checkpoint.safetensors", state | {section: replaced(state[section], place, value)})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("qvae.workflow.report", lambda run, progress=None: None)
        told(lambda: qvae.workflow.resume(small_run, ["training.epochs=4"]))


@pytest.mark.parametrize("shape", [(), (1,), (3, 4)])
def test_moments_of_another_shape_are_not_written_past(shape, small_run):
    state = load_checkpoint(small_run / "checkpoint.safetensors")
    state["optimizer"]["0"]["exp_avg"] = torch.zeros(shape)
    save_checkpoint(small_run / "checkpoint.safetensors", state)
    with pytest.raises(RunError, match=r"the optimizer's moments of parameter 0 are not of its shape"):
        qvae.workflow.resume(small_run, ["training.epochs=4"])


def test_a_place_past_the_end_of_a_generator(small_run):
    state = load_checkpoint(small_run / "checkpoint.safetensors")
    state["global_random"]["numpy"][2] = 2**31 - 1
    save_checkpoint(small_run / "checkpoint.safetensors", state)
    with pytest.raises(RunError, match="NumPy's generator has no place"):
        qvae.workflow.resume(small_run, ["training.epochs=4"])


@few
@given(skeleton=JSON | st.sampled_from(['{"dict": 1}', '{"a": 1, "b": 2}', '{"tensor": []}', "[" * 100_000, "{}", "", "nan"]))
def test_forged_checkpoints(skeleton, tmp_path):
    from safetensors.torch import save

    from qvae import checkpoint

    text = skeleton if isinstance(skeleton, str) else json.dumps(skeleton)
    about = {"format": "qvae-checkpoint", "version": "1", "state": text, "sha256": checkpoint._digest(text, {})}
    (tmp_path / "forged").write_bytes(save({"x": torch.zeros(1)} if text == "nan" else {}, about))
    with pytest.raises(RunError):
        load_checkpoint(tmp_path / "forged")


def test_a_line_of_the_metrics_that_was_cut_off_is_left_out_and_a_damaged_one_named(small_run):
    file = small_run / "metrics.jsonl"
    first, second, third = lines = file.read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    for whole in ("", "\n"):
        file.write_text("\n".join(lines) + whole)
        assert read_metrics(small_run) == rows
    file.write_text("\n".join([first, second, third[:20]]))
    assert read_metrics(small_run) == rows[:2]
    keep_metrics_until(small_run, rows[0]["step"])
    assert file.read_text() == f"{first}\n"
    for number, damaged in ((1, [first[:20], second]), (2, [first, "", third]), (3, [first, second, '{"epoch": "three"}'])):
        file.write_text("\n".join(damaged))
        with pytest.raises(RunError, match=f"line {number} of .*metrics.jsonl is damaged; remove it"):
            read_metrics(small_run)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_weights_that_are_no_numbers(value, small_run):
    state = load_checkpoint(small_run / "model.safetensors")
    state["model"]["prior.h"][0] = value
    save_checkpoint(small_run / "model.safetensors", state)
    with pytest.raises(RunError, match=r"NaN or infinite.* in prior\.h; train anew"):
        qvae.load_run(small_run)


def test_damaged_samples_are_drawn_again_with_a_word(small_run):
    (small_run / "prior_samples.safetensors").write_bytes(b"nothing")
    run = qvae.load_run(small_run)
    assert run.prior_spins(10).shape == (10, 8)
    assert "was damaged, so they were drawn again" in run.samples_warning
    assert qvae.load_run(small_run).prior_spins(10).shape == (10, 8)


# Sizes ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "setting",
    [
        "model.network.hidden=[1000000000]",
        "model.latent.sizes=[10000000,10000000]",
        "training.chains=100000000000000",
        "training.batch_size=100000000000000",
        "evaluation.importance_samples=100000000000000",
        "evaluation.log_z_chains=100000000000000",
        "evaluation.log_z_temperatures=100000000000000",
        "evaluation.num_generated=100000000000000",
    ],
)
def test_absurd_sizes(setting, small_run):
    name = setting.partition("=")[0]
    with pytest.raises(ConfigError, match=rf"{name}=.* takes [\d,.]+ GB of memory, more than this machine has"):
        qvae.train(qvae.load_config("digits", [setting]), small_run.parent / "new")
    if not name.startswith("model"):
        with pytest.raises(ConfigError, match="GB of memory"):
            qvae.load_run(small_run, [setting])


@pytest.mark.parametrize(("name", "option"), [("gibbs", "tempering"), ("dimod", "num_sweeps"), ("path_integral", "slices")])
def test_absurd_options_of_samplers(name, option):
    with pytest.raises(SamplerError, match=rf"{option} is 3000000000; it must be a whole number from \d to \d+"):
        qvae.load_sampler(name, **{option: 3 * 10**9})


def test_absurd_numbers_of_images(small_run, command):
    code, _, errors = command("generate", small_run, "--num", 10**13)
    assert (code, "num=10000000000000 takes" in errors) == (2, True)


def test_aliases_are_bounded(tmp_path):
    file = tmp_path / "bomb.yaml"
    file.write_text("a: &a [1, 2]\nb: [*a, *a]\n")
    with pytest.raises(ConfigError, match="is no key"):
        qvae.load_config(file)
    levels = [f"k{i}: &k{i} [{', '.join([f'*k{i - 1}'] * 9)}]" for i in range(1, 9)]
    file.write_text("\n".join(["k0: &k0 [1, 1, 1, 1, 1, 1, 1, 1, 1]", *levels]))
    with pytest.raises(ConfigError, match=r"aliases \(\*name\) stand for more than 10,000 values"):
        qvae.load_config(file)
    merges = [f"m{i}: &m{i} {{<<: [{', '.join([f'*m{i - 1}'] * 9)}]}}" for i in range(1, 9)]
    file.write_text("\n".join(["m0: &m0 {a: 1}", *merges]))
    with pytest.raises(ConfigError, match=r"stand for more than 10,000 values"):
        qvae.load_config(file)
    file.write_text("# " + "x" * 3_000_000)
    with pytest.raises(ConfigError, match=r"a configuration has 2,000,000 at most"):
        qvae.load_config(file)


# Data -----------------------------------------------------------------------------------------------------------------


def data_in(file):
    return load_data(qvae.load_config({"data": {"name": str(file)}}).data, "bits")


def _good(suffix, folder):
    array = np.arange(12 * 16, dtype=np.uint8).reshape(12, 4, 4)
    file = folder / f"good.{suffix}"
    if suffix == "npy":
        np.save(file, array)
    elif suffix == "npz":
        np.savez_compressed(file, train=array, test=array)
    elif suffix == "csv":
        file.write_text("a,b\n" + "0.5,1\n0.25,0\n" * 8)
    elif suffix == "parquet":
        pyarrow = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        parquet.write_table(pyarrow.table({"a": [0.5, 0.25] * 8, "b": [1, 0] * 8}), file)
    else:
        Image.fromarray(array[0]).save(file)
    return file.read_bytes()


@quick
@given(
    suffix=st.sampled_from(["npy", "npz", "csv", "parquet", "png"]),
    place=st.integers(0, 10_000),
    change=st.binary(min_size=1, max_size=8),
    cut=st.booleans(),
)
def test_data(suffix, place, change, cut, tmp_path):
    content = _good(suffix, tmp_path)
    (tmp_path / f"good.{suffix}").unlink()
    place %= len(content)
    folder = tmp_path / "images"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    file = folder / f"x.{suffix}"
    file.write_bytes(content[:place] + change + (b"" if cut else content[place + len(change) :]))
    told(lambda: data_in(folder if suffix == "png" else file))


def test_a_picture_that_would_fill_the_memory(tmp_path):
    Image.new("1", (12_000, 12_000)).save(tmp_path / "bomb.png")
    assert (tmp_path / "bomb.png").stat().st_size < 50_000
    with pytest.raises(DataError, match=r"12,000 x 12,000 pixels, more than 50,000,000"):
        data_in(f"{tmp_path}/")


def test_arrays_that_tell_of_more_than_they_hold(tmp_path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (10**12,)})
    (tmp_path / "a.npy").write_bytes(header.getvalue() + bytes(80))
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("train.npy", header.getvalue() + bytes(80))
    for name in ("a.npy", "a.npz"):
        with pytest.raises(DataError, match=r"tells of 8,000,000,000,000 bytes, but holds"):
            data_in(tmp_path / name)


def test_pipes_are_not_waited_for(tmp_path):
    for name in ("a.npy", "a.csv", "a.parquet", "folder/a.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        os.mkfifo(tmp_path / name)
        with pytest.raises(DataError, match="a device or pipe"):
            data_in(tmp_path / ("folder" if "/" in name else name))
