"""Grids: every combination, some of them, their names, and what is no grid."""

import pytest

from qvae.config.grid import parse_grid, trials
from qvae.config.ranges import Range
from qvae.errors import ConfigError

GRID = {"model.latent.sizes": [[4, 4], [8, 8]], "sampler.name": ["gibbs", "dimod"]}


def test_every_combination_with_every_seed_seed_by_seed():
    found = trials(GRID, range(3, 5))
    assert [trial.name for trial in found[:2]] == [
        "latent.sizes-4-4_sampler.name-gibbs_seed-3",
        "latent.sizes-4-4_sampler.name-dimod_seed-3",
    ]
    assert [trial.seed for trial in found] == 4 * [3] + 4 * [4]
    assert found[0].overrides == ["model.latent.sizes=[4, 4]", 'sampler.name="gibbs"', "training.seed=3"]
    assert [trial.name for trial in trials({}, [0, 1])] == ["seed-0", "seed-1"]


def test_some_combinations_at_random_are_among_more_of_them():
    grid = {"a.b": list(range(10)), "a.c": list(range(10))}
    few, more = ({trial.name for trial in trials(grid, [0], number)} for number in (5, 50))
    assert (len(few), len(more)) == (5, 50)
    assert few < more
    assert few != {trial.name for trial in trials(grid, [0])[:5]}
    assert len(trials(grid, [0], 1000)) == 100


def test_names_are_of_files_and_tell_trials_apart():
    names = [trial.name for trial in trials({"a.b": ["x/../y", "x y", "", None, "z" * 500]}, [0])]
    assert len(set(names)) == 5
    assert all("/" not in name and len(name) < 200 for name in names)
    assert names[3] == "a.b-null_seed-0"
    assert [trial.name for trial in trials({"a.x.y": [1], "b.x.y": [2]}, [0])] == ["a.x.y-1_b.x.y-2_seed-0"]


@pytest.mark.parametrize(
    "text", ["sampler.name", "sampler.name=gibbs", "sampler.name=[]", "=[1]", "a={b: 1}", "=1..2", "a=1..b"]
)
def test_what_is_no_list_of_values(text):
    with pytest.raises(ConfigError, match=r"isn't of the form KEY=\[VALUE, \.\.\.\] or KEY=LOW\.\.HIGH"):
        parse_grid([text])


def test_a_key_that_stands_there_twice_and_a_grid_without_end():
    with pytest.raises(ConfigError, match=r"names training\.epochs twice; put all of its values into one list"):
        parse_grid(["training.epochs=[1]", "training.epochs=[2]"])
    with pytest.raises(ConfigError, match=r"--grid a\.b names a value twice"):
        trials({"a.b": [[4, 4], [8, 8], [4, 4]]}, [0])
    with pytest.raises(ConfigError, match=r"has 1,000,000 runs, more than 100,000"):
        trials({"a.b": range(1000), "a.c": range(1000)}, [0])


def test_ranges_are_of_whole_numbers_where_both_ends_are():
    grid = parse_grid(["a.b=16..256", "a.c=log:1e-4..1", "a.d=-1.5..2"])
    assert grid == {"a.b": Range(16, 256), "a.c": Range(1e-4, 1, is_log=True), "a.d": Range(-1.5, 2)}
    assert [part.is_whole for part in grid.values()] == [True, False, False]
    assert [grid["a.b"].holds(value) for value in (16, 256, 15, 20.0, True, "20")] == [True, True, False, False, False, False]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a=2..1", "a number to a larger one"),
        ("a=1..1", "a number to a larger one"),
        ("a=1..inf", "a number to a larger one"),
        ("a=log:0..1", "must begin above zero"),
    ],
)
def test_what_is_no_range(text, message):
    with pytest.raises(ConfigError, match=message):
        parse_grid([text])
