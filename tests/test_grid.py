"""Grids: every combination, some of them, their names, and what is no grid."""

import pytest

from qvae.config import grid as module
from qvae.config.grid import parse_grid, short_keys, trials, trials_of
from qvae.config.ranges import Range, parse_range
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


def test_a_grid_may_be_as_large_as_it_may_be_and_no_larger(monkeypatch):
    monkeypatch.setattr(module, "_MOST", 6)
    assert len(trials({"a.b": [1, 2, 3]}, [0, 1])) == 6
    with pytest.raises(ConfigError, match=r"the grid has 7 runs, more than 6; leave some values out"):
        trials({"a.b": [1, 2, 3, 4, 5, 6, 7]}, [0])
    with pytest.raises(
        ConfigError, match=r"--grid a.b=1..5 is a range, where only a search looks; add --search tpe, or give a"
    ):
        trials({"a.b": Range(1, 5)}, [0])


def test_names_are_cut_after_120_characters_and_tell_settings_that_look_alike():
    key, rest = "a.b", 120 - len("a.b-")
    (whole,), (cut,) = (trials({key: ["z" * (rest + more)]}, [7]) for more in (0, 1))
    assert whole.name == f"a.b-{'z' * rest}_seed-7"
    assert cut.name.startswith(f"a.b-{'z' * rest}_")
    assert len(cut.name) == 120 + len("_12345678_seed-7")
    names = [trial.name for trial in trials({key: ["x/y", "x y", "plain"]}, [0])]
    assert [name[:8] for name in names] == ["a.b-x-y_", "a.b-x-y_", "a.b-plai"]
    assert names[2] == "a.b-plain_seed-0"
    # One that is taken has its digest, which is that of its settings, with every seed.
    free = trials_of({key: 1}, [0, 1])
    taken = trials_of({key: 1}, [0, 1], [free[1].name])
    assert [trial.name for trial in free] == ["a.b-1_seed-0", "a.b-1_seed-1"]
    assert [trial.seed for trial in taken] == [0, 1]
    assert all(trial.name.startswith("a.b-1_") and len(trial.name) == len("a.b-1_12345678_seed-0") for trial in taken)
    assert short_keys(["x.a.b", "y.a.b", "a"]) == {"x.a.b": "x.a.b", "y.a.b": "y.a.b", "a": "a"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (" log: 1 .. 10 ", Range(1, 10, True)),
        ("0..1", Range(0, 1)),
        ("log:1e-9..1", Range(1e-9, 1, True)),
        ("1..x", None),
        ("ln:1..2", None),
    ],
)
def test_how_ranges_are_written(text, expected):
    assert parse_range(text) == expected
    if expected is not None:
        assert parse_range(str(expected)) == expected
        assert str(expected).startswith("log:") is expected.is_log


def test_what_a_range_holds():
    real = Range(0.5, 2)
    assert [real.holds(value) for value in (0.5, 1, 2, 2.0, 0.49, 2.01, True, "1", None)] == 4 * [True] + 5 * [False]
    with pytest.raises(ConfigError, match="must begin above zero"):
        Range(0, 1, is_log=True)
    Range(-1, 0)
