"""A small run, trained once a session, and the command line called in this process."""

import os
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest
from children.sitecustomize import one_pixel

# Before torch is imported, and shorter than on the command line: threads that spin make tests crawl on a busy machine.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

CHILDREN = str(Path(__file__).parent / "children")

# In the background of a script Ctrl-C is ignored, here and by commands that tests start and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

SMALL = [
    "training.epochs=3",
    "model.latent.sizes=[4,4]",
    "model.network.hidden=[16]",
    "evaluation.importance_samples=5",
    "evaluation.num_test=40",
    "evaluation.num_generated=0",
    "evaluation.probes=false",
    "evaluation.tsne_every=0",
]


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A finished run folder; take ``small_run`` to change it."""
    import qvae

    folder = tmp_path_factory.mktemp("runs") / "small"
    qvae.train(qvae.load_config("digits", SMALL), out=folder)
    return folder


def _hide_cuda(patch):
    import torch

    patch.setattr(torch.cuda, "is_available", lambda: False)
    patch.setattr(torch.cuda, "device_count", lambda: 0)
    patch.setenv("CUDA_VISIBLE_DEVICES", "")


@pytest.fixture(autouse=True, scope="session")
def no_cuda():
    """Tests, and the processes that they start, are of the processor also where there is a GPU."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.init()
        torch.cuda.device_count()  # from now on torch remembers the devices, whatever the environment says
    with pytest.MonkeyPatch.context() as patch:
        _hide_cuda(patch)
        yield patch


@pytest.fixture(autouse=True, scope="module")
def cuda_where_tests_are_about_it(request, no_cuda):
    """Of a module, so that it encloses what tests patch."""
    about_it = request.path.name == "test_cuda.py"
    if about_it:
        no_cuda.undo()
    yield
    if about_it:
        _hide_cuda(no_cuda)


@pytest.fixture(autouse=True, scope="session")
def settings_folder(tmp_path_factory):
    """The user's settings, where words said for run folders are remembered: not those of whoever runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("settings")))
        yield


@pytest.fixture(autouse=True, scope="session")
def children_make_pictures_of_one_pixel():
    """Processes that tests start do, and not those of pytest-xdist, which run tests and start before any of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([CHILDREN, *filter(None, [os.environ.get("PYTHONPATH")])]))
        yield


@pytest.fixture(autouse=True)
def pictures_of_one_pixel(request, monkeypatch):
    """Figures are made everywhere, but rendered, which is most of the time of a small run, only where tests are about them."""
    if "reporting" in request.path.parts:
        monkeypatch.setenv("PYTHONPATH", os.environ["PYTHONPATH"].removeprefix(CHILDREN).removeprefix(os.pathsep))
    else:
        from matplotlib.figure import Figure

        monkeypatch.setattr(Figure, "savefig", one_pixel)


_OF_REPORTS = {"reporting", "evaluation", "measuring"}


@pytest.fixture
def whole_reports():
    """For a test, outside of the rooms that make them, that is about what a report shows."""


@pytest.fixture(autouse=True)
def quick_reports(request, monkeypatch):
    """Figures and error bars of distances, half of the time of a small run, are made only where tests are about them."""
    if _OF_REPORTS & {*request.path.parts} or "whole_reports" in request.fixturenames:
        return
    from matplotlib.figure import Figure

    from qvae.evaluation import frechet
    from qvae.reporting import pictures

    monkeypatch.setattr(pictures, "_drawn", lambda name, drawing, views: Figure())
    monkeypatch.setattr(frechet, "_JACKKNIFE_GROUPS", 3)


@pytest.fixture(params=["numba", "torch"])
def kernels(request, monkeypatch):
    """The test runs with numba's kernels and with torch's; take it by ``usefixtures`` for all tests of a file."""
    if request.param == "numba":
        pytest.importorskip("numba")
        monkeypatch.delenv("QVAE_KERNELS", raising=False)
    else:
        monkeypatch.setenv("QVAE_KERNELS", "torch")
    return request.param


@pytest.fixture(scope="session")
def cluster():
    """A dask cluster of two processes on this machine's loopback."""
    distributed = pytest.importorskip("distributed", reason="needs the extra: pip install -e '.[dask]'")
    options = {"processes": True, "threads_per_worker": 1, "dashboard_address": None, "silence_logs": 50}
    with distributed.LocalCluster(2, host="127.0.0.1", **options) as found:
        found.wait_for_workers(2)  # a busy machine has started one when this returns
        yield found


@pytest.fixture
def seconds(monkeypatch):
    """A clock that the test sets."""
    now = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    return now


@pytest.fixture
def small_run(trained, tmp_path):
    """A copy of the finished run folder."""
    return shutil.copytree(trained, tmp_path / "small")


@pytest.fixture
def command(monkeypatch, capsys, tmp_path):
    """Call ``qvae ...`` in an empty folder: returns exit code, what it printed, and its errors."""
    from qvae.cli.main import main

    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["qvae", *map(str, arguments)])
        capsys.readouterr()
        try:
            main()
            code = 0
        except SystemExit as end:
            code = end.code or 0
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return call


@pytest.fixture
def small():
    """Command-line settings that make a run of a second."""
    return [part for setting in SMALL for part in ("--set", setting)]
