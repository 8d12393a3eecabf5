"""Inception with and without its packages."""

import hashlib
import math
import os
import sys
import textwrap

import pytest
import torch

from qvae.errors import ConfigError, DataError, QvaeError
from qvae.evaluation import inception
from qvae.evaluation.frechet import FeatureStatistics, frechet_distance
from qvae.evaluation.inception import check_inception, inception_table


class Trap:
    """Fails the test when it is unpickled."""

    def __reduce__(self):
        return pytest.fail, ("a pickle was run",)


def test_a_wrong_file_of_weights_is_not_unpickled(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(Trap(), path)
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    official = r"the weights of Inception are the file pt_inception-2015-12-05-6726825d\.pth, as released by pytorch-fid"
    for call in (check_inception, lambda path: inception_table(path, torch.rand(2, 8, 8), {})):
        with pytest.raises(ConfigError, match=rf"weights\.pth has SHA-256 {found}, not 6726825d.*; {official}"):
            call(path)
        with pytest.raises(ConfigError, match=rf"none\.pth can't be read \(No such file or directory\); {official}"):
            call(tmp_path / "none.pth")
        with pytest.raises(ConfigError, match=r"can't be read \(Is a directory\)"):
            call(tmp_path)


def test_neither_a_pipe_nor_all_of_a_huge_file_is_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="a device or pipe"):
        check_inception(str(tmp_path / "pipe"))
    with open(tmp_path / "huge", "wb") as file:
        file.truncate(2**40)
    with pytest.raises(ConfigError, match="larger than any such file"):
        check_inception(str(tmp_path / "huge"))


def test_the_checksum_is_that_in_the_name_of_the_file():
    assert inception.INCEPTION_FILE.endswith(f"-{inception.INCEPTION_SHA256[:8]}.pth")
    assert len(inception.INCEPTION_SHA256) == 64


@pytest.fixture
def accepted(tmp_path, monkeypatch):
    """Save an object as weights that pass for the official ones."""

    def save(weights):
        torch.save(weights, tmp_path / "weights.pth")
        content = (tmp_path / "weights.pth").read_bytes()
        monkeypatch.setattr(inception, "INCEPTION_SHA256", hashlib.sha256(content).hexdigest())
        return tmp_path / "weights.pth"

    return save


@pytest.fixture
def packages(tmp_path, monkeypatch):
    """Make modules of the given code importable, in place of those that may be installed."""

    def imported():
        return [name for name in sys.modules if name.partition(".")[0] in ("torchmetrics", "torch_fidelity")]

    def write(modules):
        for name in imported():
            monkeypatch.delitem(sys.modules, name)
        for name, code in modules.items():
            file = tmp_path / "packages" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(textwrap.dedent(code))
        monkeypatch.syspath_prepend(str(tmp_path / "packages"))

    yield write
    for name in imported():
        del sys.modules[name]


def test_missing_packages_are_named_with_their_extra(accepted, packages, monkeypatch):
    path = accepted({})
    packages({})
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    with pytest.raises(QvaeError, match=r"needs torch_fidelity, which can't be imported .*: pip install -e '\.\[fid\]' in"):
        check_inception(path)


def test_a_torchvision_of_another_torch_is_named(accepted, packages):
    packages({"torch_fidelity.py": "raise RuntimeError('operator torchvision::nms does not exist')"})
    with pytest.raises(QvaeError, match=r"torchvision, which fails here \(operator .*\); install torch and torchvision from"):
        check_inception(accepted({}))


METRIC = """
    import torch

    class FrechetInceptionDistance:
        calls = []

        def __init__(self, feature, feature_extractor_weights_path, reset_real_features):
            assert feature == 2048 and not reset_real_features
            torch.load(feature_extractor_weights_path, weights_only=False)

        def to(self, device):
            return self

        def update(self, images, real):
            self.calls.append((images, real))

        def compute(self):
            return torch.tensor(float(len(self.calls)))

        def reset(self):
            self.calls.append("reset")
"""


@pytest.fixture
def recorded(packages):
    """The calls of an imitation of torchmetrics' class."""
    empty = ["torch_fidelity.py", "torchmetrics/__init__.py", "torchmetrics/image/__init__.py"]
    packages({**dict.fromkeys(empty, ""), "torchmetrics/image/fid.py": METRIC})
    return inception._import_inception().calls


@pytest.mark.parametrize("shape", [(5, 4), (1, 5, 4), (3, 5, 4)])
def test_inception_sees_bytes_in_three_channels_and_the_reference_once(recorded, accepted, shape):
    levels = torch.arange(256).div(255).mul(2**15).round().div(2**15)  # as a Dataset keeps them
    images = levels[torch.arange(40 * math.prod(shape)) % 256].view(40, *shape)
    done = []
    sets = {"train": images[:20], "samples": iter([images[:0], *images[:5].split(2)])}
    table = inception_table(accepted({"w": torch.zeros(1)}), images, sets, progress=done.append)
    sizes = [call if call == "reset" else (len(call[0]), call[1]) for call in recorded]
    resets = [(32, True), (8, True), (20, False), "reset", (2, False), (2, False), (1, False), "reset"]
    assert sizes == resets
    assert done == [32, 8, 20, 2, 2, 1]
    seen = recorded[0][0]
    assert seen.dtype == torch.uint8
    assert seen.shape == (32, 3, 5, 4)
    expected = torch.arange(40 * math.prod(shape)).remainder(256).view(40, -1, 5, 4)[:32]
    assert torch.equal(seen, expected.expand(-1, 3, -1, -1).to(torch.uint8))
    assert [(d.value, d.num_images, d.num_reference, d.stderr) for d in table.values()] == [(3, 20, 40, None), (7, 5, 40, None)]


def test_inception_needs_two_images(recorded, accepted):
    with pytest.raises(DataError, match="samples: .* at least 2 images, but there are 1"):
        inception_table(accepted({}), torch.rand(3, 8, 8), {"samples": torch.rand(1, 8, 8)})


@pytest.mark.parametrize("forced", [None, "TORCH_FORCE_WEIGHTS_ONLY_LOAD", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"])
def test_weights_are_unpickled_as_tensors_whatever_the_package_asks(recorded, accepted, forced, monkeypatch):
    if forced:
        monkeypatch.setenv(forced, "1")
    environment = dict(os.environ)
    with pytest.raises(Exception, match="[Ww]eights only load failed|weights_only"):
        inception_table(accepted(Trap()), torch.rand(2, 8, 8), {})
    assert dict(os.environ) == environment


def test_the_whole_way_through_torchmetrics_with_random_weights(accepted, tmp_path, monkeypatch):
    try:
        metric_class = inception._import_inception()
    except QvaeError as error:
        pytest.skip(str(error))
    torch.save({}, tmp_path / "none.pth")
    torch.manual_seed(0)
    with monkeypatch.context() as patch:
        patch.setattr(torch.nn.Module, "load_state_dict", lambda *arguments: None)
        random = metric_class(feature=2048, feature_extractor_weights_path=str(tmp_path / "none.pth")).inception
    path = accepted(random.state_dict())
    reference, images = torch.rand(3, 8, 8), torch.rand(2, 3, 8, 8)
    found = inception_table(path, reference, {"samples": images})["samples"]
    features = [random(inception._as_bytes(part)) for part in (images, reference)]
    expected = frechet_distance(*(FeatureStatistics.of(part) for part in features))
    assert (found.num_images, found.num_reference) == (2, 3)
    # torchmetrics takes the root of a product without full rank, whose 2,000 zero eigenvalues are rounding errors.
    scale = sum(float(FeatureStatistics.of(part).covariance.trace()) for part in features)
    assert found.value == pytest.approx(expected, abs=1e-3 * scale)
