"""`qvae config`: every key of a configuration with its meaning, in a form that `qvae train` takes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import typer

from qvae.cli.options import ConfigName, Set

if TYPE_CHECKING:
    from qvae.config.schema import Config


def config(name: ConfigName = None, overrides: Set = None) -> None:
    """Every key with its meaning, as YAML: the defaults, or those of a configuration (qvae config mnist > mine.yaml)."""
    from qvae.config.load import load_config, shipped_configs

    title = f"# {name or 'The default'}, every key. Shipped configurations: {', '.join(shipped_configs())}."
    typer.echo(f"{title}\n\n{annotated(load_config(name, overrides or []))}", nl=False)


def annotated(config: Config) -> str:
    """A configuration as YAML with the comments of the shipped ``digits.yaml``, which names every key.

    >>> from qvae.config.load import load_config
    >>> [line for line in annotated(load_config("mnist")).splitlines() if line.startswith("  epochs")]
    ['  epochs: 300']
    """
    from importlib import resources

    from qvae.config.load import dump_value
    from qvae.config.schema import Config

    text = (resources.files("qvae") / "configs" / "digits.yaml").read_text(encoding="utf-8")
    tree, defaults = config.model_dump(mode="json"), Config().model_dump(mode="json")
    path: list[str] = []
    lines = []
    for line in text.partition("\n\n")[2].splitlines():  # after the file's own title
        found = re.match(r"( *)(\w+): ?([^#]*)(#.*)?$", line)
        if found:
            indent, key, value, comment = found.groups()
            path = [*path[: len(indent) // 2], key]
            mine = _at(tree, path)
            if value.strip() and mine != _at(defaults, path):
                line = f"{f'{indent}{key}: {dump_value(mine)}':<25} {comment or ''}".rstrip()
        lines.append(line)
    return "\n".join(lines) + "\n"


def _at(tree: Any, path: Sequence[str]) -> Any:
    for key in path:
        tree = tree[key]
    return tree
