"""What whoever says nothing gets, the last number that is taken and the first that is not, and what is said from where on."""

import math
import sys
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from qvae.applications import augment, detect, embed, generate, restore, style, super_resolve, task
from qvae.applications.restore import Effort, write_pictures
from qvae.applications.task import require_at_least, require_seed
from qvae.errors import CapabilityError, ConfigError, DataError, RunError
from qvae.ising.hamiltonian import IsingHamiltonian


@pytest.mark.parametrize(("option", "least"), [("completions", 1), ("draws", 1), ("steps", 0), ("seed", 0)])
def test_efforts_at_their_limits(option, least):
    given = {"completions": 1, "draws": 1, "steps": 0, "sampler": None, "trained": False, "seed": 0}
    assert getattr(Effort(**given | {option: least}), option) == least
    with pytest.raises(ConfigError, match=f"{option} is {least - 1}; it must be {least}"):
        Effort(**given | {option: least - 1})


def test_seeds_are_those_that_every_library_takes():
    require_seed(0)
    require_seed(2**32 - 1)
    for seed in (-1, 2**32):
        with pytest.raises(ConfigError, match=f"seed is {seed}; it must be 0 to 4294967295"):
            require_seed(seed)
    require_at_least("thrift", 0.5, 0.5)
    for wrong in (0.49, math.nan):
        with pytest.raises(ConfigError, match=f"thrift is {wrong:g}; it must be 0.5 or more"):
            require_at_least("thrift", wrong, 0.5)
    with pytest.raises(ConfigError, match="thrift is infinite; it must be a number"):
        require_at_least("thrift", math.inf, 0.5)


@pytest.mark.parametrize(
    ("area", "error", "said"),
    [
        (0.9, 0.1, ""),
        (0.75, 0.1, ""),
        (0.749, 0.1, "; it tells little"),
        (0.5625, 0.03125, "; it fails: these rows and the normal ones look alike to it"),  # two errors
        (0.5635, 0.03125, "; it tells little"),
        (0.4375, 0.03125, "; it fails: these rows and the normal ones look alike to it"),
        (0.4365, 0.03125, "; it fails: it takes the normal rows for the odd ones"),
        (0.1, 0.1, "; it fails: it takes the normal rows for the odd ones"),
    ],
)
def test_what_a_score_is_worth(area, error, said, monkeypatch):
    monkeypatch.setattr("qvae.evaluation.roc.auroc", lambda normal, odd: (area, error))
    assert detect.verdict("elbo", np.zeros(2), np.zeros(2)) == f"elbo: AUROC {area:.3f} ± {error:.3f}{said}"


@pytest.mark.parametrize(
    ("sizes", "steps", "told"),
    [
        ([1.0, 2.99, 50.0], 0, "3.0, too few to resample; take --steps 100 or more, or more --draws"),
        ([1.0, 2.99, 50.0], 1, "3.0"),
        ([1.0, 3.0, 50.0], 0, "3.0"),
        ([1.0, 4.0], 0, "2.5, too few to resample; take --steps 100 or more, or more --draws"),
    ],
)
def test_how_few_proposals_are_too_few(sizes, steps, told):
    effort = Effort(8, 128, steps, None, False, 0)
    said = restore._verdict(None, sizes, effort, "hidden", 0.2)
    assert said == [f"effective number of proposals for a row, in the median: {told}"]


def test_an_encoder_s_word_is_good_for_the_damage_that_it_has_seen():
    effort = Effort(8, 128, 0, None, True, 0)
    for corruption, saw in ((None, "undamaged"), ("gaussian", "gaussian"), ("hidden", "")):
        run = learnt_from(corruption, 0.2)
        told = [
            f"the encoder learnt from {saw} rows, so that its word on these is a guess; leave --trained out, or train with "
            "training.corruption=hidden"
        ]
        assert restore._verdict(run, [], effort, "hidden", 0.2) == (told if saw else [])


@pytest.mark.parametrize(("learnt", "amount", "is_told"), [(0.2, 0.25, 0), (0.25, 0.2, 0), (0.2, 0.26, 1), (4, 2, 1)])
def test_another_amount_is_said(learnt, amount, is_told):
    remedy = f"leave --trained out, or train with training.corruption_amount={amount}"
    told = [f"the encoder learnt from coarse rows of an amount of {learnt}, these have {amount}; {remedy}"]
    effort = Effort(8, 128, 0, None, True, 0)
    assert restore._verdict(learnt_from("coarse", learnt), [], effort, "coarse", amount) == told * is_told


def learnt_from(corruption, amount):
    training = SimpleNamespace(corruption=corruption, corruption_amount=amount)
    return SimpleNamespace(config=SimpleNamespace(training=training))


def test_pictures_are_rounded_to_their_255_levels_and_named_as_what_they_are_of(monkeypatch, tmp_path):
    from PIL import Image

    images = np.array([[[-0.1, 0.0, 0.4999 / 255]], [[0.5001 / 255, 1.0, 1.1]]])
    monkeypatch.setattr("qvae.reporting.run_rows.as_grey", lambda run, best: best)
    write_pictures(None, tmp_path, ["in/a.PNG", "a.jpg"], images)
    assert np.asarray(Image.open(tmp_path / "in" / "a.PNG")).tolist() == [[0, 0, 0]]
    assert np.asarray(Image.open(tmp_path / "a.jpg.png")).tolist() == [[1, 255, 255]]
    colour = np.zeros((1, 3, 2, 2))
    colour[0, 1] = 1.0
    write_pictures(None, tmp_path, ["green"], colour)
    assert Image.open(tmp_path / "green.png").getpixel((1, 0)) == (0, 255, 0)


def test_a_picture_has_what_was_given_the_best_guess_four_completions_and_their_spread(monkeypatch):
    """Of twelve rows out of fifteen, and of four completions out of six."""
    monkeypatch.setattr("qvae.reporting.run_rows.as_grey", lambda run, images: images + 100)
    rng = np.random.default_rng(0)
    given, best, completions, spread = (rng.random(shape) for shape in ((15, 6), (15, 2, 3), (15, 6, 2, 3), (15, 2, 3)))
    observation = SimpleNamespace(picture=lambda: torch.from_numpy(given))
    run = SimpleNamespace(model=SimpleNamespace(shape=(2, 3)))
    shown = restore._shown(run, observation, {"best": best, "completions": completions, "spread": spread})
    lines = [given.reshape(15, 2, 3) + 100, best + 100, *(completions[:, number] + 100 for number in range(4)), spread]
    assert len(shown) == len(lines)
    for found, line in zip(shown, lines, strict=True):
        np.testing.assert_array_equal(found, line[:12])


# What is refused or said where something lacks -----------------------------------------------------------------------------


def test_without_a_classifier_samples_are_not_judged(monkeypatch):
    def none(*given):
        raise DataError("there are no labels.")

    monkeypatch.setattr("qvae.applications.generate.class_share", none)
    told = "no classifier tells how many of them are of their class: there are no labels."
    assert augment._judgement(None, {1: np.zeros((2, 3))}) == told
    assert (
        generate._classified(None, np.zeros((2, 3)), 1) == "no classifier tells how many of them are a 1: there are no labels."
    )


def test_parquet_without_pyarrow_is_told(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(
        DataError, match=r"writing Parquet needs pyarrow: .*\[tables\]' in the clone of qvae; or leave --format out"
    ):
        embed._write_parquet(tmp_path / "a.parquet", [], [])


@pytest.mark.parametrize(
    ("shape", "coarser"),
    [
        ((5,), []),
        ((3, 4), []),
        ((1, 4), []),
        ((2, 4), [(1, 2)]),
        ((4, 6), [(2, 3)]),
        ((3, 6, 6), [(3, 3, 3), (3, 2, 2), (3, 1, 1)]),
    ],
)
def test_images_that_others_can_be_refined_to(shape, coarser, monkeypatch):
    assert super_resolve.coarse_shapes(shape) == coarser
    if not coarser:
        run = SimpleNamespace(model=SimpleNamespace(likelihood=SimpleNamespace(kind="bits"), shape=shape))
        with pytest.raises(CapabilityError, match="can't be made coarser; take one of larger images"):
            super_resolve.super_resolve(run, "no file")


def test_latents_that_are_data_have_no_style():
    run = SimpleNamespace(model=SimpleNamespace(compresses=False), config=SimpleNamespace(evaluation=SimpleNamespace(seed=0)))
    with pytest.raises(CapabilityError, match="so that they hold no style of their own; train another"):
        style.style(run, "a.npz", "b.npz")


@pytest.mark.parametrize(("units", "content"), [(None, [2, 3]), (1, [3]), (3, [0, 2, 3]), (0, None), (4, None)])
def test_content_is_what_knows_more_of_the_class_than_the_mean_or_the_best_so_many(units, content, monkeypatch):
    """Of 0.2, 0.1, 0.5 and 1.0 the mean is 0.45."""
    labels = SimpleNamespace(numpy=lambda: np.zeros(4))
    data = SimpleNamespace(train_labels={0: labels})
    monkeypatch.setattr("qvae.reporting.run_rows.reachable_data", lambda run: data)
    seeds = []
    monkeypatch.setattr("qvae.evaluation.rows.training_rows", lambda data, count, seed: seeds.append((count, seed)) or 0)
    monkeypatch.setattr("qvae.evaluation.rows.prepared", lambda data, places, seed: seeds.append(seed))
    monkeypatch.setattr("qvae.evaluation.rows.code_means", lambda model, rows, seed: seeds.append(seed))
    monkeypatch.setattr(style, "class_information", lambda *given: np.array([0.2, 0.1, 0.5, 1.0]))
    run = SimpleNamespace(
        model=SimpleNamespace(latents_are_bits=True), config=SimpleNamespace(evaluation=SimpleNamespace(seed=5))
    )
    if content is None:
        with pytest.raises(ConfigError, match=f"units is {units}; it must be 1 to 3, of 4 latents"):
            style.content_latents(run, None, None, units)
    else:
        found, what = style.content_latents(run, None, None, units)
        assert np.flatnonzero(found).tolist() == content
        assert what == "know most of the class"
        assert seeds == [(5000, 5), 5, 5]


def test_a_run_that_was_never_evaluated_has_its_log_z_reckoned(monkeypatch):
    from qvae.ising.estimate import LogPartition

    asked, works = [], []
    prior = IsingHamiltonian([0.5, -0.5], [(0, 1)], [0.3])
    settings = SimpleNamespace(log_z_chains=7, log_z_temperatures=9, seed=3)
    model = SimpleNamespace(require_prior=lambda: None, has_likelihood=True)
    # The first, since it imports its module, which would keep what stands in for the others.
    monkeypatch.setattr(
        "qvae.evaluation.likelihood.prior_log_partition", lambda *given: asked.append(given) or LogPartition(1.5, 0.1, "mine")
    )
    monkeypatch.setattr("qvae.evaluation.log_terms.frozen_hamiltonian", lambda model: prior)
    monkeypatch.setattr("qvae.evaluation.log_terms.log_prior_of", lambda model, log_z, table: (log_z, table))
    progress = SimpleNamespace(work=lambda name: nullcontext(works.append(name)))
    for known, value, calls in (
        (None, 1.5, 1),
        ({"reconstruction": 1.0}, 1.5, 2),
        ({"log_z": 2.5, "log_z_stderr": None, "log_z_method": "theirs"}, 2.5, 2),
    ):
        run = SimpleNamespace(model=model, config=SimpleNamespace(evaluation=settings), evaluation=known)
        found, table = task.log_prior(run, progress)
        assert (found.value, table, len(asked)) == (value, None, calls)
    assert asked == [(prior, 7, 9, 3)] * 2
    assert works == ["log Z of the prior"] * 2


def test_a_picture_that_can_t_be_written_is_told(monkeypatch, tmp_path):
    monkeypatch.setattr("qvae.reporting.run_rows.as_grey", lambda run, best: best)
    (tmp_path / "in").write_text("a file")
    with pytest.raises(RunError, match=r"in/a.png can't be written: .*; choose another --out"):
        write_pictures(None, tmp_path, ["in/a.png"], np.zeros((1, 2, 2)))
