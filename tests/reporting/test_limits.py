"""How many of many are drawn, and which rows are images."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from qvae.config.grid import trials
from qvae.errors import DataError
from qvae.reporting import pictures, run_rows, sweep
from qvae.reporting.sweep import SweptRun
from qvae.reporting.traversals import traversal_paths


def test_up_to_four_latents_that_are_seen_to_change_an_image_are_walked_through():
    """Of six latents that change a pixel by 0.1 to 0.9 the four largest of those above 0.4."""
    change = torch.tensor([0.41, 0.9, 0.39, 0.5, 0.6, 0.7])
    codes = torch.zeros(2, 6)
    for number, names in ((6, ["unit 1", "unit 5", "unit 4", "unit 3"]), (3, ["unit 1", "unit 0"])):
        model = SimpleNamespace(decode=lambda codes, number=number: codes @ change[:number].diag(), latents_are_bits=True)
        paths, found = traversal_paths(model, codes[:, :number], torch.zeros(5, number))
        assert found == [*names, "two images"]
        assert paths.shape == (len(names) + 1, 11, number)


@pytest.mark.parametrize(("every", "rows", "is_drawn"), [(1, 3, True), (0, 3, False), (1, 2, False)])
def test_a_map_of_few_rows_or_of_a_run_that_wants_none_isn_t_drawn(every, rows, is_drawn):
    views = SimpleNamespace(settings=SimpleNamespace(tsne_every=every), moments=(np.zeros((rows, 2)), None))
    drawing = pictures.Drawing("", "", lambda views: "figure")
    assert pictures._drawn("map", drawing, views) == ("figure" if is_drawn else None)
    assert pictures._drawn("samples", drawing, views) == "figure"


@pytest.mark.parametrize(
    ("shape", "is_image"),
    [((5,), False), ((1, 5), False), ((2, 5), True), ((5, 1), True), ((3, 1, 5), False), ((3, 2, 1), True)],
)
def test_rows_of_height_one_are_no_images(shape, is_image):
    assert run_rows.is_of_images(SimpleNamespace(model=SimpleNamespace(shape=shape))) is is_image


def test_of_many_images_four_hundred_are_drawn_under_their_backends(monkeypatch):
    given = []
    model = SimpleNamespace(shape=(2, 2), likelihood=SimpleNamespace(kind="bits"))
    run = SimpleNamespace(model=model, dataset=None, config=SimpleNamespace(drawn_by="sampler exact"))
    monkeypatch.setattr(run_rows, "reachable_data", lambda run: None)
    monkeypatch.setattr(run_rows.figures, "image_grid", lambda images, title: given.append((len(images), title)))
    monkeypatch.setattr(run_rows.figures, "reconstruction_pairs", lambda *parts: given.append(tuple(map(len, parts[:2]))))
    for count in (400, 401):
        run_rows.samples_figure(run, np.zeros((count, 2, 2), np.float32))
        run_rows.reconstructions_figure(run, *np.zeros((2, count, 2, 2), np.float32))
    run_rows.samples_figure(run, np.zeros((3, 2, 2), np.float32), "sampler gibbs")
    one = (400, "decoded from the prior, sampler exact")
    assert given == [one, (400, 400), one, (400, 400), (3, "decoded from the prior, sampler gibbs")]


def test_samples_of_a_table_stand_beside_as_many_test_rows_where_these_are_within_reach(monkeypatch):
    given = []
    model = SimpleNamespace(shape=(3,), likelihood=SimpleNamespace(kind="reals"))
    data = SimpleNamespace(
        test=torch.arange(12.0).view(4, 3), values=lambda rows: rows, feature_names=("a", "b", "c"), category_names={}
    )
    run = SimpleNamespace(model=model, dataset=data, config=SimpleNamespace(drawn_by="sampler exact"))
    monkeypatch.setattr(run_rows.table_figures, "marginals", lambda sets, *rest: given.append((sets, *rest)))
    run_rows.samples_figure(run, np.ones((2, 3)))
    sets, names, title, _ = given.pop()
    assert {label: rows.tolist() for label, rows in sets.items()} == {"data": [[0, 1, 2], [3, 4, 5]], "samples": [[1] * 3] * 2}
    assert (names, title) == (("a", "b", "c"), "means of p(x|z), decoded from the prior, sampler exact")

    class Gone(SimpleNamespace):
        @property
        def dataset(self):
            raise DataError("they are gone.")

    run_rows.samples_figure(Gone(model=model, config=run.config), np.ones((2, 3)))
    sets, names, _ = given.pop()
    assert (list(sets), names) == (["samples"], None)


def test_a_sweep_shows_twelve_of_the_first_seed_s_samples_three_in_a_row(tmp_path, monkeypatch):
    pages = []
    monkeypatch.setattr(sweep, "render_page", lambda title, subtitle, sections: pages.append((subtitle, sections)) or "")
    for combinations, shown, columns in ((13, 12, 3), (2, 2, 2)):
        runs = [SweptRun(trial, "finished") for trial in trials({"a.b": list(range(combinations))}, [3, 4])]
        for run in runs:
            (tmp_path / run.trial.name / "figures").mkdir(parents=True, exist_ok=True)
            (tmp_path / run.trial.name / "figures" / "samples.png").touch()
        sweep.write_sweep_report(runs, tmp_path)
        subtitle, sections = pages.pop()
        assert [section.heading for section in sections] == ["Settings", "Runs", "Samples"]
        assert subtitle == f"{2 * combinations} of {2 * combinations} runs"
        assert [picture.title for picture in sections[2].pictures] == [f"a.b-{k}_seed-3" for k in range(shown)]
        assert sections[2].columns == columns


def test_a_failed_run_has_no_figures_and_its_reason():
    runs = [SweptRun(trial) for trial in trials({"a.b": [1, 2]}, [0, 1])]
    runs[0].status, runs[0].figures = "finished", {"ELBO, nats": -2.0}
    runs[2].status, runs[2].figures, runs[2].reason = "failed", {"ELBO, nats": -9.0}, "out of luck"
    table = sweep.settings_table(runs)
    assert table.header == ("a.b", "ELBO, nats", "seeds")
    assert table.rows == [("1", "-2.00", "1 of 2"), ("2", "-", "0 of 2")]
    assert table.note == "± is the standard deviation over seeds, for one run."
    assert sweep.settings_table(runs[:1]).note == ""
    assert sweep.settings_table(runs[:1]).rows == [("1", "-2.00", "1")]
    assert sweep.failures_table(runs).rows == [("a.b-1_seed-1", "out of luck")]
    assert sweep.settings_table([]).rows == []
    assert runs[2].to_dict() == {
        "name": "a.b-1_seed-1", "settings": {"a.b": 1}, "seed": 1, "status": "failed", "reason": "out of luck",
        "figures": {"ELBO, nats": -9.0}, "seconds": None,
    }  # fmt: skip


def test_tiles_have_a_grey_frame_below_and_right_and_grey_where_there_is_no_image():
    images = np.stack([np.full((2, 1), value) for value in (0.1, 0.2, 0.3)])
    grey = 0.5
    assert run_rows.figures.tiled(images, 2)[..., 0].tolist() == [
        [0.1, grey, 0.2, grey],
        [0.1, grey, 0.2, grey],
        [grey] * 4,
        [0.3, grey, grey, grey],
        [0.3, grey, grey, grey],
        [grey] * 4,
    ]
    colour = run_rows.figures.tiled(np.arange(3.0).reshape(1, 3, 1, 1), 1)
    assert colour.tolist() == [[[0.0, 1.0, 2.0], [grey] * 3], [[grey] * 3] * 2]
