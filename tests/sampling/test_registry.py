"""Samplers by name: packages of third parties are written into a folder on the path, as an installed wheel would be."""

import importlib.util
import inspect
import subprocess
import sys
import textwrap

import pytest

from qvae.config.backends import BackendSpec
from qvae.errors import SamplerError
from qvae.sampling.abilities import KeepsFiles
from qvae.sampling.registered import SAMPLERS, capable_samplers, list_samplers, sampler_infos, sampler_options
from qvae.sampling.registry import load_sampler, make_sampler
from qvae.testing import check_sampler
from qvae.trust import Trust

PLAIN = """
    import torch
    from qvae import LatentSampler, Samples

    class Plain(LatentSampler):
        def _sample(self, hamiltonian, num_samples):
            n = hamiltonian.num_spins
            states = 2 * torch.cartesian_prod(*[torch.arange(2)] * n).reshape(-1, n) - 1
            weights = torch.softmax(-hamiltonian.energy(states).detach(), 0)
            chosen = torch.multinomial(weights, num_samples, replacement=True)
            return Samples(states[chosen].to(torch.int8))
"""


@pytest.fixture
def install(tmp_path, monkeypatch):
    """install(package, module source, "name = module:Class", extras) puts a distribution on the path; where it lies."""
    installed = []

    def put(package, source, entry_points, extras=(), folder="site"):
        module = package.replace("-", "_")
        site = tmp_path / folder
        site.mkdir(exist_ok=True)
        (site / f"{module}.py").write_text(textwrap.dedent(source))
        info = site / f"{module}-1.0.dist-info"
        info.mkdir()
        provides = "".join(f"Provides-Extra: {extra}\n" for extra in extras)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n{provides}")
        (info / "entry_points.txt").write_text(f"[qvae.samplers]\n{entry_points}\n")
        monkeypatch.syspath_prepend(str(site))
        installed.append(module)
        return site

    yield put
    for module in installed:
        sys.modules.pop(module, None)


def info_of(name):
    (info,) = [info for info in sampler_infos() if info.name == name]
    return info


def test_a_third_partys_class_and_line_are_enough(install, command, small):
    install("plain-sampler", PLAIN, "plain = plain_sampler:Plain")
    assert "plain" in list_samplers()
    sampler = load_sampler("plain")
    assert sampler.name == "plain"
    assert sampler_options("plain") == {}
    info = info_of("plain")
    assert (info.package, info.version, info.reason) == ("plain-sampler", "1.0", "")
    check_sampler("plain")
    code, out, _ = command("samplers")
    assert (code, "plain-sampler 1.0" in out) == (0, True)
    assert command("samplers", "check", "plain")[0] == 0
    assert command("train", "--sampler", "plain", "--out", "run", *small)[0] == 0


def test_names_are_listed_without_importing_anything():
    code = (
        "import sys; from qvae.sampling.registered import list_samplers; assert 'gibbs' in list_samplers();"
        "print([m for m in ('torch', 'numpy', 'dimod', 'qvae_backends') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_unknown_name():
    with pytest.raises(SamplerError, match=r"no installed sampler is called 'gibs': did you mean 'gibbs'\? Allowed: .*exact"):
        load_sampler("gibs")


def test_options(install):
    assert sampler_options("gibbs")["sweeps"] == 10
    assert load_sampler("gibbs", sweeps=3).sweeps == 3
    with pytest.raises(SamplerError, match=r"'gibbs' has no option 'sweep': did you mean 'sweeps' .*\? Allowed: .*burn_in"):
        load_sampler("gibbs", sweep=3)
    with pytest.raises(SamplerError, match="'gibbs' refuses its options: sweeps is 0; it must be a whole number, 1 or more"):
        load_sampler("gibbs", sweeps=0)
    source = """
        from qvae.sampling.sampler import SeededSampler, Samples

        class Base(SeededSampler):
            def __init__(self, shots, width=2, **options):
                super().__init__(**options)
                self.shots, self.ratio = shots, shots / width

            def _sample(self, hamiltonian, num_samples): ...
    """
    install("needy", source, "needy = needy:Base")
    # Options that **options hands on to the parent are found, too: a run seeds every sampler that takes a seed.
    assert sampler_options("needy") == {"shots": inspect.Parameter.empty, "width": 2, "seed": None}
    assert load_sampler("needy", shots=1, seed=5).seed == 5
    with pytest.raises(SamplerError, match=r"'needy' needs a value for its option 'shots': set sampler\.options\.shots"):
        load_sampler("needy")
    with pytest.raises(SamplerError, match=r"unsupported operand.* \(it was given shots='many'\)"):
        load_sampler("needy", shots="many")


def test_missing_modules_name_the_pip_line(install, command):
    source = "import absent_module.part"
    install("with-extra", source, "fancy = with_extra:Fancy", extras=("other", "fancy"))
    install("own-extra", source, "mine = own_extra:Mine [hardware]", extras=("hardware", "mine"))
    install("no-extra", source, "plain = no_extra:Plain")
    install("misplaced", "", "lost = misplaced.absent:Lost")
    needs = "needs the module absent_module, which isn't installed"
    for name, reason in (
        ("fancy", f"{needs}: pip install 'with-extra[fancy]'"),
        ("mine", f"{needs}: pip install 'own-extra[hardware]'"),
        ("plain", f"{needs}: install the package that has it"),
        ("lost", "needs the module misplaced.absent, which isn't installed: pip install --force-reinstall misplaced"),
    ):
        assert name in list_samplers()
        assert info_of(name).capabilities is None
        assert info_of(name).reason == reason
        with pytest.raises(SamplerError) as error:
            load_sampler(name)
        assert str(error.value) == f"sampler {name!r} {reason}."
    assert info_of("gibbs").capabilities is not None
    code, out, _ = command("samplers")
    assert (code, "pip install 'with-extra[fancy]'" in out) == (0, True)


def test_a_module_missing_only_when_the_sampler_is_made(install):
    source = """
        from qvae import LatentSampler

        class Late(LatentSampler):
            def __init__(self):
                import absent_module

            def _sample(self, hamiltonian, num_samples): ...
    """
    install("late-import", source, "late = late_import:Late", extras=("late",))
    with pytest.raises(SamplerError, match=r"'late' needs the module absent_module, .*: pip install 'late-import\[late\]'"):
        load_sampler("late")


def test_two_packages_with_one_name(install):
    install("first-package", PLAIN, "same = first_package:Plain")
    install("second-package", PLAIN, "same = second_package:Plain\nother = second_package:Plain")
    with pytest.raises(SamplerError, match=r"'same' is registered twice, by .*; uninstall one of them") as error:
        load_sampler("same")
    assert "first-package (first_package:Plain)" in str(error.value)
    assert "second-package (second_package:Plain)" in str(error.value)
    assert list_samplers().count("same") == 1
    assert info_of("same").capabilities is None
    assert load_sampler("other").name == "other"
    assert load_sampler("exact").name == "exact"


def test_one_package_found_twice_is_no_conflict(install):
    install("plain-sampler", PLAIN, "plain = plain_sampler:Plain", folder="here")
    install("plain-sampler", PLAIN, "plain = plain_sampler:Plain", folder="there")
    assert load_sampler("plain").name == "plain"


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("class Thing: ...", "is no sampler: broken:Thing of package broken is not a subclass of qvae.LatentSampler"),
        ("Thing = 3", "is no sampler: broken:Thing of package broken is not a subclass"),
        ("", "can't be loaded, since broken:Thing of package broken raised AttributeError: .*'Thing'"),
        ("raise RuntimeError('no licence')", "can't be loaded, since .* raised RuntimeError: no licence"),
        ("from qvae import LatentSampler\nclass Thing(LatentSampler): ...", "is unfinished: .* doesn't implement _sample"),
        (
            "from qvae import LatentSampler\nclass Thing(LatentSampler):\n  capabilities = {}\n  def _sample(self, H, n): ...",
            "the class attribute capabilities of broken:Thing of package broken is not a qvae.Capabilities",
        ),
    ],
)
def test_what_is_no_sampler_is_said_and_disturbs_no_other(install, source, reason):
    install("broken", source, "thing = broken:Thing")
    with pytest.raises(SamplerError, match=reason):
        load_sampler("thing")
    assert info_of("thing").reason
    assert "thing" not in capable_samplers(3, quantum=False)
    assert "gibbs" in capable_samplers(3, quantum=False)


def test_capable_samplers():
    assert "exact" in capable_samplers(12, quantum=True)
    assert "gibbs" not in capable_samplers(12, quantum=True)
    assert "exact" not in capable_samplers(100, quantum=False)
    assert "gibbs" in capable_samplers(100, quantum=False)
    assert "dwave" not in capable_samplers(100, quantum=False)  # which needs an account


def test_a_class_that_is_not_packaged_is_named_by_its_import_path(tmp_path, monkeypatch):
    (tmp_path / "my_idea.py").write_text(textwrap.dedent(PLAIN))
    monkeypatch.syspath_prepend(str(tmp_path))
    assert load_sampler("my_idea:Plain").name == "my_idea:Plain"
    assert sampler_options("my_idea:Plain") == {}
    assert "my_idea:Plain" not in list_samplers()
    for path, words in (
        ("my_idea:Fancy", r"can't be loaded, since my_idea:Fancy raised AttributeError"),
        ("my_idea:torch", r"is no sampler: my_idea:torch is not a subclass of qvae\.LatentSampler"),
        ("no_idea:Plain", "needs the module no_idea, which isn't installed: give a module that Python finds"),
        ("gibbs:burn_in=3", "'gibbs:burn_in=3' is no import path, as my_module:MyClass; options stand beside the name"),
    ):
        with pytest.raises(SamplerError, match=words):
            load_sampler(path)


def test_our_own_extras_are_installed_from_the_clone(monkeypatch):
    """The package is on no index, where somebody else may have taken its name."""
    monkeypatch.setitem(sys.modules, "dimod", None)
    for module in ("qvae_backends.dwave", "qvae_backends.dimod"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "minorminer" else find_spec(name))
    with pytest.raises(SamplerError) as error:
        load_sampler("dwave")
    remedy = "pip install -e '.[dwave]' in the clone of qvae"
    assert str(error.value) == f"sampler 'dwave' needs the module minorminer, which isn't installed: {remedy}."
    with pytest.raises(SamplerError, match=r"'dimod' needs the module dimod, .*: pip install -e \. in the clone"):
        load_sampler("dimod")


def test_a_run_s_sampler_is_made_with_its_seed_the_user_s_word_and_the_folder(tmp_path, monkeypatch):
    class Kept(KeepsFiles):
        def _sample(self, hamiltonian, num_samples):
            raise NotImplementedError

    asked, kept = [], Kept()
    monkeypatch.setattr(SAMPLERS, "make", lambda *given: asked.append(given) or kept)
    spec, trust = BackendSpec(name="exact"), Trust(frozenset(["a.b"]))
    assert make_sampler(spec, 5, tmp_path, trust) is kept
    assert asked == [(spec, 5, trust, tmp_path)]
    assert asked[0][2] is trust  # what was said is no part of what is compared
    assert kept.folder == tmp_path
