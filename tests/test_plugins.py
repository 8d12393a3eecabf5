"""A registry of another kind than samplers: the same code finds, lists, explains and makes it."""

import abc
import sys
from types import SimpleNamespace

import pytest

from qvae import plugins
from qvae.config.backends import BackendSpec
from qvae.errors import QvaeError
from qvae.plugins import Registry


class Oven(abc.ABC):
    """A contract without capabilities."""

    name = ""

    @abc.abstractmethod
    def bake(self): ...


class OvenError(QvaeError):
    pass


class Gas(Oven):
    def __init__(self, degrees: float = 180.0, seed: int | None = None):
        self.degrees, self.seed = degrees, seed

    def bake(self): ...


class Wood(Oven):
    def bake(self): ...


@pytest.fixture
def ovens(tmp_path, monkeypatch):
    """A registry of ovens with two entry points of a package ``kitchen``, one of them broken."""
    (tmp_path / "kitchen.py").write_text(f"from {__name__} import Gas, Oven\nclass Cold(Oven): ...\n")
    info = tmp_path / "kitchen-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: kitchen\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[test.ovens]\ngas = kitchen:Gas\ncold = kitchen:Cold\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(sys.modules, __name__, sys.modules[__name__])
    yield Registry("test.ovens", "oven", f"{__name__}.Oven", OvenError)
    sys.modules.pop("kitchen", None)


def test_another_kind_of_backend_is_found_listed_explained_and_made(ovens):
    assert ovens.names() == ["cold", "gas"]
    assert ovens.options("gas") == {"degrees": 180.0, "seed": None}
    cold, gas = ovens.infos()
    assert (gas.package, gas.version, gas.capabilities, gas.reason) == ("kitchen", "1.0", None, "")
    assert "is unfinished: kitchen:Cold of package kitchen doesn't implement bake" in cold.reason
    made = ovens.load("gas", {"degrees": 200})
    assert (made.name, made.degrees) == ("gas", 200.0)
    with pytest.raises(OvenError, match="no installed oven is called 'gass': did you mean 'gas'"):
        ovens.load("gass", {})
    with pytest.raises(OvenError, match="oven 'gas' refuses its options: degrees is 'hot'; it must be a number"):
        ovens.load("gas", {"degrees": "hot"})
    with pytest.raises(OvenError, match="oven 'gas' has no option 'degree': did you mean 'degrees'"):
        ovens.load("gas", {"degree": 1})


def test_a_specification_is_made_with_a_seed_where_one_is_taken(ovens):
    spec = BackendSpec(name="gas", options={"degrees": 220})
    assert (ovens.make(spec, 5).seed, ovens.make(spec, None).seed) == (5, None)
    assert ovens.make(BackendSpec(name=f"{__name__}:Wood"), 5).name == f"{__name__}:Wood"


def test_a_name_that_two_packages_claim_is_nobody_s(ovens, tmp_path):
    for package, value in (("shop", "shop:Gas"), ("kitchen2", "kitchen:Gas")):
        info = tmp_path / f"{package}-2.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 2.0\n")
        (info / "entry_points.txt").write_text(f"[test.ovens]\ngas = {value}\n")
        with pytest.raises(OvenError, match=r"is registered twice, by kitchen \(kitchen:Gas\) and .*; uninstall one of them"):
            ovens.load("gas", {})
        for file in info.iterdir():
            file.unlink()
        info.rmdir()
    assert ovens.load("gas", {}).degrees == 180.0


@pytest.mark.parametrize(
    ("module", "error", "extras", "package", "words"),
    [
        ("kitchen", ModuleNotFoundError("No module named 'gas'", name="gas"), [], "kitchen",
         "needs the module gas, which isn't installed: install the package that has it"),
        ("kitchen", ModuleNotFoundError("no", name="gas"), ["hot", "cold"], "kitchen",
         "needs the module gas, which isn't installed: pip install 'kitchen[hot,cold]'"),
        ("kitchen", ModuleNotFoundError("no", name="kitchen.gas"), [], "kitchen",
         "needs the module kitchen.gas, which isn't installed: pip install --force-reinstall kitchen"),
        ("kitchen", ImportError("cannot import\n name 'x'."), [], "kitchen",
         "can't be imported (cannot import name 'x'): pip install --upgrade kitchen"),
        ("qvae_backends", ModuleNotFoundError("no", name="gas"), ["hot"], "qvae",
         "needs the module gas, which isn't installed: pip install -e '.[hot]' in the clone of qvae"),
        ("qvae_backends", ModuleNotFoundError("no", name="qvae_backends.x"), ["hot"], "qvae",
         "needs the module qvae_backends.x, which isn't installed: pip install -e . in the clone of qvae"),
        ("mine", ModuleNotFoundError("no", name="mine"), [], None,
         "needs the module mine, which isn't installed: give a module that Python finds, in an installed package or in a "
         "folder of PYTHONPATH"),
    ],
)  # fmt: skip
def test_what_puts_a_failed_import_right(module, error, extras, package, words):
    metadata = SimpleNamespace(get_all=lambda name: None)
    dist = None if package is None else SimpleNamespace(name=package, version="1", metadata=metadata)
    entry = SimpleNamespace(name="gas", module=module, extras=extras, dist=dist)
    assert plugins._import_reason(entry, error) == words


def test_an_extra_of_the_backend_s_name_is_its_own():
    provided = SimpleNamespace(get_all=lambda name: ["gas", "wood"] if name == "Provides-Extra" else None)
    entry = SimpleNamespace(name="gas", module="kitchen", extras=[], dist=SimpleNamespace(metadata=provided))
    assert plugins._extra(entry) == "gas"
    entry.name = "coal"
    assert plugins._extra(entry) is None
