"""What the README and CONTRIBUTING show works as it is printed."""

import re
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

import qvae
from qvae.cli.main import make_app

ROOT = Path(__file__).parents[1]
README, CONTRIBUTING = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "CONTRIBUTING.md"))


def blocks(text, language):
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def test_the_python_examples_run_in_twenty_lines(tmp_path, monkeypatch, capsys):
    examples = blocks(README, "python")
    monkeypatch.chdir(tmp_path)
    for code in examples:
        assert len(code.splitlines()) <= 20
        exec(compile(code, "README.md", "exec"), {})
    assert (tmp_path / "runs" / "readme" / "evaluation.json").exists()
    out = capsys.readouterr().out
    assert "+-" in out
    assert "q3: ──RY(x3)" in out


def test_every_command_of_the_readme_exists():
    listed = re.findall(r"^qvae (.+?)(?: +#.*)?$", README, re.MULTILINE)
    assert len(listed) >= 9
    for line in listed:
        words = line.split()
        call = [*words[:2], "--help"] if words[:2] == ["samplers", "check"] or words[0] == "apply" else [words[0], "--help"]
        found = CliRunner().invoke(make_app(), call)
        assert found.exit_code == 0, line
        for option in (word for word in words if word.startswith("--")):
            assert option in found.output, line


def test_the_configuration_of_the_readme_is_valid():
    (text,) = blocks(README, "yaml")
    assert qvae.load_config(yaml.safe_load(text)).model.latent.sizes == [128, 128]


@pytest.fixture
def third_party(tmp_path, monkeypatch):
    """Sampler and executor of CONTRIBUTING.md as an installed package: modules, and the metadata that pip would write."""
    (toml,) = blocks(CONTRIBUTING, "toml")
    site = tmp_path / "site"
    info = site / "coin_sampler-1.0.dist-info"
    info.mkdir(parents=True)
    modules = {re.match(r"# (\w+)\.py", code).group(1): code for code in blocks(CONTRIBUTING, "python")}
    assert list(modules) == ["my_sampler", "my_executor"]
    for module, code in modules.items():
        (site / f"{module}.py").write_text(code)
    project = tomllib.loads(toml)["project"]
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    ((name, path),) = project["entry-points"]["qvae.samplers"].items()
    groups = f"[qvae.samplers]\n{name} = {path}\n[qvae.executors]\nidle = my_executor:IdleExecutor\n"
    (info / "entry_points.txt").write_text(groups)
    monkeypatch.syspath_prepend(str(site))
    yield name
    for module in modules:
        sys.modules.pop(module, None)


def test_a_third_party_s_executor_is_listed_and_checked(third_party, command):
    _, out, _ = command("executors")
    assert re.search(r"idle +coin-sampler 1\.0", out)
    code, out, _ = command("executors", "check", "idle")
    assert code == 1  # it runs no gates, and says so
    assert re.search(r"failed\s+qubit q is column q", out)


def test_a_third_party_s_sampler_is_listed_trains_and_is_checked(third_party, command, small):
    _, out, _ = command("samplers")
    assert "coin-sampler 1.0" in out
    code, out, _ = command("train", "--sampler", third_party, *small)
    assert code == 0
    assert "run folder: runs/digits-coin" in out
    code, out, _ = command("samplers", "check", third_party)
    assert code == 1  # it ignores couplings, and says so
    assert re.search(r"failed\s+distribution, ferromagnetic pair", out)
    assert re.search(r"passed\s+distribution, single spin", out)
