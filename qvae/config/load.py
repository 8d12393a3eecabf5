"""Configurations from YAML, from ``key=value`` and from mappings, checked against the schema; and back to YAML."""

from __future__ import annotations

import itertools
import json
import math
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import ValidationError

from qvae.config.backends import BackendSpec, ExecutorConfig, Overrides, SamplerConfig
from qvae.config.messages import in_our_words, is_of_another_branch, short
from qvae.config.optimization import OptimizerConfig
from qvae.config.paths import holds_sound
from qvae.config.schema import DATA_ENDINGS, Config, ModelConfig
from qvae.errors import ConfigError, nearest
from qvae.trust import Trust, texts


def load_config(
    source: str | Path | Mapping[str, Any] | None = None,
    overrides: Iterable[str] = (),
    model: str | None = None,
    trust: Iterable[str] = (),
) -> Config:
    """Read a configuration; keys that it leaves out have the defaults of :class:`~qvae.config.schema.Config`.

    Args:
        source: a YAML file, the name of a shipped configuration, or nested keys; None for the shipped `digits`; a .txt file of
            strings is the shipped `strings` on these data, and a folder of .wav files `digits` on these, with a Gaussian
            likelihood. With ``model``, also other data: a file, or a folder of images.
        overrides: ``section.key=value`` each, the value in YAML; they win over the source, the last over the first.
        model: a kind of model, at its own settings for the shipped ``source``, as in ``digits-<kind>.yaml``, where there are
            some, and else at its defaults, with the source's ``model`` section and backends left out; None is the source's own.
            A generator that ``overrides`` name may have its own settings in the same way, as in ``digits-vqgan-patch.yaml``.
        trust: of what a file says, the import paths, addresses and files to write that its samplers may use, each the very
            text; those in ``overrides`` need not be repeated. What comes from Python or is shipped is trusted.

    Raises:
        ConfigError: the source isn't there or isn't YAML, a key is unknown or given twice, a value has the wrong type
            or is out of range, or keys contradict each other. Every fault has a line, which says where it came from.

    >>> load_config({"training": {"epochs": 5}}, ["sampler.options.sweeps=20"]).sampler
    SamplerConfig(name='gibbs', options={'sweeps': 20})
    """
    assignments = [_Assignment.parse(text) for text in overrides]
    generator = next((a.value for a in reversed(assignments) if a.keys == ("model", "generator")), None)
    origin, tree = _read(source, generator) if model is None else _read_for_model(source, model, generator)
    for assignment in assignments:
        _forget_options_of_another_backend(tree, assignment)
        assignment.apply_to(tree)
    try:
        # JSON's strict mode takes no text for a number and no 1 for true, but takes lists for tuples.
        config = Config.model_validate_json(json.dumps(tree), strict=True)
    except ValidationError as error:
        faults = [fault for fault in error.errors() if not is_of_another_branch(fault)]

        def origin_of(keys: tuple[str, ...]) -> str:
            return next((a.origin for a in reversed(assignments) if a.touches(keys)), origin)

        raise ConfigError("\n".join(in_our_words(fault, origin_of) for fault in faults)) from None
    said: dict[str, Any] = {}
    for assignment in assignments:
        assignment.apply_to(said)
    config._overrides = Overrides(said)
    if _is_file(source):
        config._trust = Trust(frozenset(trust)).and_(text for a in assignments for text in texts(a.value))
    return config


def model_kinds() -> tuple[str, ...]:
    """Kinds of models there are, the default first.

    >>> model_kinds()[0]
    'qvae'
    """
    return get_args(ModelConfig.model_fields["kind"].annotation)


def _read_for_model(
    source: str | Path | Mapping[str, Any] | None, kind: str, generator: Any
) -> tuple[str, dict[str, Any]]:
    """The source with another kind of model in it."""
    if kind not in model_kinds():
        raise ConfigError(f"there is no model of kind {kind!r}: {nearest(kind, model_kinds())}.")
    own = f"{'digits' if source is None else 'strings' if _is_text(source) else source}-{kind}"
    if kind != model_kinds()[0] and own in shipped_configs():
        return _of_strings(str(source), own) if _is_text(source) else _read(own, generator)
    is_other_data = _is_data(source) and not _is_text(source)
    origin, tree = (f"of {source}", {"data": {"name": str(source)}}) if is_other_data else _read(source)
    section = tree.get("model", {})
    if not isinstance(section, dict) or section.get("kind", model_kinds()[0]) != kind:
        tree["model"] = {"kind": kind}  # the other keys are of another kind, and so are those of its backends
        tree = {key: value for key, value in tree.items() if key not in ("sampler", "executor", "generation")}
    return origin, tree


def _forget_options_of_another_backend(tree: dict[str, Any], assignment: _Assignment) -> None:
    """Options belong to the backend they were written for: a change of hardware is one word, not an error."""
    for path, default in _CHOSEN_BY_NAME.items():
        section: Any = tree
        for key in path:
            section = section.get(key) if isinstance(section, dict) else None
        if assignment.keys != (*path, "name") or not isinstance(section, dict):
            continue
        if section.get("name", default) != assignment.value:
            section.pop("options", None)


_CHOSEN_BY_NAME = {
    ("sampler",): SamplerConfig().name,
    ("executor",): ExecutorConfig().name,
    ("training", "optimizer"): OptimizerConfig().name,
    ("training", "circuit_gradient"): "",
}
"""Sections whose options belong to a name, and the name where none is given."""


def parse_assignments(assignments: Iterable[str]) -> dict[str, Any]:
    """Nested keys from ``a.b=value`` each, the value in YAML: the options of a sampler on the command line.

    Raises:
        ConfigError: a text isn't of that form or its value isn't YAML.

    >>> parse_assignments(["sweeps=20", "schedule.end=1e-3"])
    {'sweeps': 20, 'schedule': {'end': 0.001}}
    """
    tree: dict[str, Any] = {}
    for text in assignments:
        _Assignment.parse(text).apply_to(tree)
    return tree


def parse_backend(text: str) -> BackendSpec:
    """``NAME[:OPTION=VALUE,...]``, values in YAML; whether there is such a backend is seen when it is made.

    The name may be an import path, ``my_module:MySampler``, of a class with a capital.

    Raises:
        ConfigError: an option is not of that form.

    >>> parse_backend("gibbs:sweeps=50,persistent=false").options
    {'sweeps': 50, 'persistent': False}
    >>> parse_backend("my_module:MySampler:sweeps=50")
    BackendSpec(name='my_module:MySampler', options={'sweeps': 50})
    """
    path = re.match(r"[\w.]+:[A-Z]\w*(?=:|$)", text)
    name = path[0] if path else text.partition(":")[0]
    rest = text[len(name) + 1 :]
    # Commas inside brackets belong to a value.
    options = parse_assignments(part for part in re.split(r",(?![^\[{]*[\]}])", rest) if part.strip())
    return BackendSpec(name=name, options=options)


def dump_config(config: Config) -> str:
    """Every key of a configuration as YAML, in the order of the schema; :func:`load_config` reads it back."""
    return yaml.dump(config.model_dump(mode="json"), Dumper=_Dumper, sort_keys=False, width=120)


def dump_value(value: Any) -> str:
    """A value of a key, as it is written in YAML on one line.

    >>> dump_value([64, 64]), dump_value("1e-3"), dump_value({"name": "exact", "options": {}})
    ('[64, 64]', "'1e-3'", '{name: exact, options: {}}')
    """
    return yaml.dump([value], Dumper=_Dumper, default_flow_style=True, sort_keys=False, width=math.inf).strip()[1:-1]


def shipped_configs() -> list[str]:
    """Names of the configurations that come with the package.

    >>> "digits" in shipped_configs()
    True
    """
    files = (resources.files("qvae") / "configs").iterdir()
    return sorted(file.name.removesuffix(".yaml") for file in files if file.name.endswith(".yaml"))


def _read(source: str | Path | Mapping[str, Any] | None, generator: Any = None) -> tuple[str, dict[str, Any]]:
    """Where the keys come from, as a clause for messages, and the keys; of a shipped source those for this generator."""
    if isinstance(source, Mapping):
        return "in the keys given", _plain(source, "in the keys given")
    name = "digits" if source is None else str(source)
    path = Path(os.path.expanduser(name))
    if _is_text(source):
        return _of_strings(name)
    if holds_sound(path):
        return f"of {name}", {"data": {"name": name}, "model": {"likelihood": "gaussian"}}
    if _is_data(source):
        raise ConfigError(f"{name} is no configuration; to train on it as data: qvae train --set data.name={name}.")
    if _is_file(source):
        origin = f"in {path}"
        try:
            with path.open(encoding="utf-8") as file:
                text = file.read(_MOST_CHARACTERS + 1)
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"the configuration {path} can't be read: {error}.") from None
    elif name in shipped_configs():
        name = f"{name}-{generator}" if f"{name}-{generator}" in shipped_configs() else name
        origin = f"in the shipped {name}.yaml"
        text = (resources.files("qvae") / "configs" / f"{name}.yaml").read_text(encoding="utf-8")
    else:
        allowed = nearest(path.stem, shipped_configs())
        raise ConfigError(f"there is no configuration {name!r}: {allowed}, or a path to a YAML file.")
    keys = _parse_yaml(text, origin)
    if not isinstance(keys, dict | None):
        sections = ", ".join(Config.model_fields)
        raise ConfigError(f"a configuration holds sections ({sections}), but there is {short(keys)} {origin}.")
    return origin, _plain(keys or {}, origin)


def _is_data(source: str | Path | Mapping[str, Any] | None) -> bool:
    """Whether it names data, which are no configuration."""
    if not isinstance(source, str | Path) or str(source) in ("", *shipped_configs()):
        return False
    path = os.path.expanduser(source)
    return Path(path).suffix in DATA_ENDINGS or os.path.isdir(path)


def _is_text(source: str | Path | Mapping[str, Any] | None) -> bool:
    """Whether it names a file of strings."""
    return isinstance(source, str | Path) and Path(source).suffix == ".txt"


def _of_strings(name: str, shipped: str = "strings") -> tuple[str, dict[str, Any]]:
    """A shipped configuration for strings, on those in a file."""
    origin, tree = _read(shipped)
    return origin, tree | {"data": {"name": name}}


def is_configuration(source: str | Path) -> bool:
    """Whether a shipped configuration, a YAML file, or a file of strings has this name."""
    return str(source) in shipped_configs() or _is_file(source)


def _is_file(source: str | Path | Mapping[str, Any] | None) -> bool:
    """Whether it names a file, which may be a stranger's, rather than what is shipped or said in Python."""
    return isinstance(source, str | Path) and os.path.isfile(os.path.expanduser(source))


class _Loader(yaml.SafeLoader):
    """YAML that reads 1e-3 as a number, as everybody expects, and refuses what would silently be something else.

    That is a key that stands there twice, and 010 and 60:00, which YAML 1.1 takes for 8 and 3600. Aliases may repeat a part,
    but not so often that a short text stands for more than a long one could.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._sizes: dict[yaml.Node, int] = {}
        self._repeated = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """As usual; what aliases stand for is counted."""
        is_alias = self.check_event(yaml.AliasEvent)
        mark = self.peek_event().start_mark
        node = super().compose_node(parent, index)
        if is_alias and node is not None:
            self._repeated += self._size(node)
            if self._repeated > _MOST_REPEATED:
                problem = f"aliases (*name) stand for more than {_MOST_REPEATED:,} values; write them out"
                raise yaml.constructor.ConstructorError(None, None, problem, mark)
        return node

    def _size(self, node: yaml.Node) -> int:
        """Values in a node, aliases written out."""
        if node not in self._sizes:
            self._sizes[node] = 1  # one that holds itself is refused later
            parts = node.value if isinstance(node, yaml.CollectionNode) else []
            flat = itertools.chain.from_iterable(parts) if isinstance(node, yaml.MappingNode) else parts
            self._sizes[node] = 1 + sum(map(self._size, flat))
        return self._sizes[node]

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """As usual, after a look for keys that would silently replace earlier ones."""
        seen: set[str] = set()
        for key, _ in node.value:
            if str(key.value) in seen:
                problem = f"key {key.value!r} stands there twice"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)

    def construct_number(self, node: yaml.ScalarNode) -> int | float:
        """A number that is written as people read it."""
        is_whole = node.tag.endswith(":int")
        number = self.construct_yaml_int(node) if is_whole else self.construct_yaml_float(node)
        if re.match(r"[-+]?0[\d_]+$|[^:]+:", node.value):
            problem = f"YAML takes {node.value} for {number:g}; write the number that is meant, or quotes around a text"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
        return number


for _kind in ("int", "float"):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_kind}", _Loader.construct_number)


class _Dumper(yaml.SafeDumper):
    """YAML with sections over several lines, and lists on one."""


_MOST_REPEATED = 10_000
_MOST_CHARACTERS = 2_000_000  # of a text: a hundred thousand couplings; a larger one takes minutes to read
_exponent = re.compile(r"[-+]?(\d[\d_]*(\.\d*)?|\.\d+)[eE][-+]?\d+$")
for _side in (_Loader, _Dumper):  # the dumper then puts quotes around the text "1e-3"
    _side.add_implicit_resolver("tag:yaml.org,2002:float", _exponent, list("-+.0123456789"))
_Dumper.add_representer(list, lambda dumper, items: dumper.represent_sequence("tag:yaml.org,2002:seq", items, flow_style=True))


def _parse_yaml(text: str, origin: str) -> Any:
    if len(text) > _MOST_CHARACTERS:
        raise ConfigError(f"there are {len(text):,} characters {origin}; a configuration has {_MOST_CHARACTERS:,} at most.")
    try:
        return yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ConfigError(f"this isn't valid YAML {origin}{place}: {error.problem or error.context}.") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"this isn't valid YAML {origin}: {' '.join(str(error).split())}.") from None


def _has_comment(value: str) -> bool:
    """Whether YAML would take a part of a text for a comment: nobody comments a value on the command line.

    >>> _has_comment("/data/set #2"), _has_comment("[1, 2]"), _has_comment("'/data/set #2'")
    (True, False, False)
    """
    if "#" not in value:
        return False
    try:
        node = yaml.compose(value, _Loader)
    except yaml.YAMLError:
        return False
    return node is None or node.end_mark.index < len(value.rstrip())


def _plain(value: Any, origin: str, path: tuple[str, ...] = ()) -> Any:
    """A copy that JSON can hold."""
    if len(path) > 20:
        raise ConfigError(f"{'.'.join(path[:3])} is nested too deep or holds itself; give plain values ({origin}).")
    if isinstance(value, Mapping):
        return {str(key): _plain(part, origin, (*path, str(key))) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part, origin, (*path, str(index))) for index, part in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{'.'.join(path)} is {value}; it must be a finite number ({origin}).")
    if value is None or isinstance(value, bool | int | float | str):
        return value
    what = f"{'.'.join(path)} is a {type(value).__name__}"
    raise ConfigError(f"{what}; it must be a number, a text (in quotes if need be) or a list ({origin}).")


@dataclass(frozen=True)
class _Assignment:
    """One ``section.key=value``."""

    text: str
    keys: tuple[str, ...]
    value: Any

    @classmethod
    def parse(cls, text: str) -> _Assignment:
        path, equals, value = text.partition("=")
        keys = tuple(key.strip() for key in path.split("."))
        if not equals or not all(keys):
            raise ConfigError(f"--set {text} isn't of the form key=value, as in --set training.epochs=50.")
        found = cls(text, keys, None)
        parsed = value.strip() if _has_comment(value) else _parse_yaml(value, found.origin)
        return replace(found, value=_plain(parsed, found.origin, keys))

    @property
    def origin(self) -> str:
        """Where a value comes from, as a clause for messages."""
        return f"in --set {self.text}"

    def apply_to(self, tree: dict[str, Any]) -> None:
        """Put the value into nested keys, in place."""
        for depth, key in enumerate(self.keys[:-1]):
            if tree.get(key) is None:
                tree[key] = {}
            if isinstance(tree[key], str) and self.keys[: depth + 1] in _CHOSEN_BY_NAME:
                tree[key] = {"name": tree[key]}  # which a name alone stands for
            if not isinstance(tree[key], dict):
                what = f"{'.'.join(self.keys[: depth + 1])} is {short(tree[key])}"
                raise ConfigError(f"--set {self.text} can't be applied: {what}, which holds no keys.")
            tree = tree[key]
        tree[self.keys[-1]] = self.value

    def touches(self, keys: tuple[str, ...]) -> bool:
        """Whether the value at ``keys`` was set by this, in whole or in part."""
        return all(mine == theirs for mine, theirs in zip(self.keys, keys, strict=False))
