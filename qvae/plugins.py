"""Backends of any kind by name, over an entry-point group: listed without an import, loaded one at a time."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import inspect
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from qvae.errors import ConfigError, QvaeError, install_line, nearest
from qvae.options import annotations_of, checked, named_parameters, takes_only_named
from qvae.trust import OWN, Code, Need, Trust, is_nested, needs

if TYPE_CHECKING:
    from qvae.config.backends import BackendSpec

T = TypeVar("T")


@dataclass(frozen=True)
class PluginInfo:
    """A registered backend as a list shows it.

    Attributes:
        name: under which it is loaded.
        package: the distribution that registers it; both of them where two claim the name.
        version: of the package.
        capabilities: the class attribute of that name; None if the class can't be loaded or its contract has no such thing.
        reason: why it can't be loaded and what to do, as a clause; empty if it can.
        is_composite: whether it works through another one, which an option names.
    """

    name: str
    package: str
    version: str
    capabilities: Any
    reason: str = ""
    is_composite: bool = False


class _Unavailable(Exception):
    """Why a registered backend can't be loaded, as a clause with the remedy."""


class Registry(Generic[T]):
    """The backends of one kind: subclasses of a contract, which packages register as entry points of a group.

    A name with a colon is no entry point but an import path, ``my_module:MySampler``, for a class that is not packaged yet.
    :meth:`load` takes what it is given for the user's own words; :meth:`make` is for what a file may have said.

    Args:
        group: of the entry points, such as ``qvae.samplers``.
        word: what such a backend is called in messages, and the section of a configuration that names it.
        contract: the public class that all of them derive from, such as ``qvae.LatentSampler``; imported when it is needed.
            A class attribute ``capabilities``, if the contract has one, must keep its type.
        error: what is raised for the user's mistakes.
    """

    def __init__(self, group: str, word: str, contract: str, error: type[QvaeError]) -> None:
        self.group, self.word, self.contract, self.error = group, word, contract, error

    def names(self) -> list[str]:
        """Names of all registered backends, whether or not their packages can be imported."""
        return sorted(self._registered())

    def load(self, name: str, options: dict[str, Any]) -> T:
        """The backend registered as ``name``, made with ``options``; its attribute ``name`` is set.

        Raises:
            QvaeError: (``error``) nothing has this name or two packages claim it, a module that it needs isn't installed, or
                an option is unknown, missing or has a value that the backend refuses.
        """
        cls = self.find(name)
        known = self.options(name)
        unknown = [option for option in options if option not in known] if takes_only_named(cls) else []
        if unknown:
            raise self.error(f"{self.word} {name!r} has no option {unknown[0]!r}: {nearest(unknown[0], known)}.")
        missing = [option for option, value in known.items() if value is inspect.Parameter.empty and option not in options]
        if missing:
            remedy = f"set {self.word}.options.{missing[0]}"
            raise self.error(f"{self.word} {name!r} needs a value for its option {missing[0]!r}: {remedy}.")
        try:
            backend: Any = cls(**checked(cls, options))
        except ImportError as error:
            raise self.error(f"{self.word} {name!r} {_import_reason(self._entries(name)[0], error)}.") from error
        except (TypeError, ValueError) as error:
            text = " ".join(str(error).split()).rstrip(".") or type(error).__name__
            given = ", ".join(f"{option}={value!r}" for option, value in options.items())
            culprit = "" if not given or any(option in text for option in options) else f" (it was given {given})"
            raise self.error(f"{self.word} {name!r} refuses its options: {text}{culprit}.") from error
        backend.name = name
        return backend

    def make(self, spec: BackendSpec, seed: int | None, trust: Trust = OWN, folder: Path | None = None) -> T:
        """The backend that a specification names, with this seed if it takes one.

        Args:
            spec: name and options.
            seed: of the backend.
            trust: what the user has said of it.
            folder: of the run that it is of.

        Raises:
            QvaeError: as :meth:`load`, or the specification needs a word that the user hasn't said.
        """
        self.require_words(spec, trust, folder)
        seeded = {"seed": seed} if "seed" in self.options(spec.name) else {}
        return self.load(spec.name, dict(spec.options) | seeded)

    def require_words(self, spec: BackendSpec, trust: Trust, folder: Path | None = None) -> None:
        """Raise (``error``) where a specification needs a word that the user hasn't said; nothing of it is imported before."""
        for need in () if trust.everything else self.needs(spec, folder):
            if not need.is_said_by(trust):
                raise self.error(
                    f"{self.word} {spec.name!r} would {need.verb} {need.text}, which a file says and you haven't; if you know "
                    f"it, add --trust '{need.text}', in Python trust=[{need.text!r}]."
                )

    def needs(self, spec: BackendSpec, folder: Path | None = None) -> Iterator[Need]:
        """All in a specification that needs the user's word, the code first that the rest takes to be seen."""
        if ":" in spec.name:
            yield Need(Code.verb, spec.name)
        annotations = annotations_of(self.find(spec.name))
        for option, value in spec.options.items():
            annotation = annotations.get(option, Any)
            nested = is_nested(annotation)
            yield from self.needs(nested_spec(option, value), folder) if nested else needs(annotation, value, folder)

    def options(self, name: str) -> dict[str, Any]:
        """The options of a backend and their defaults; ``inspect.Parameter.empty`` stands for one that must be given.

        Raises:
            QvaeError: as :meth:`find`.
        """
        return {option.name: option.default for option in named_parameters(self.find(name))}

    def infos(self) -> list[PluginInfo]:
        """All registered backends with what they can do, or why they can't be loaded; imports every one of them."""
        infos = []
        for name, entries in sorted(self._registered().items()):
            package = " and ".join(_package(entry) for entry in entries)
            version = " and ".join(_version(entry) for entry in entries)
            try:
                found = self._resolve(entries)
                is_composite = any(map(is_nested, annotations_of(found).values()))
                capabilities = getattr(found, "capabilities", None)
                infos.append(PluginInfo(name, package, version, capabilities, is_composite=is_composite))
            except _Unavailable as error:
                infos.append(PluginInfo(name, package, version, None, str(error)))
        return infos

    def find(self, name: str) -> type[T]:
        """The class behind a name.

        Raises:
            QvaeError: (``error``) nothing has this name, or it can't be loaded; the message says why and what to do.
        """
        try:
            return self._resolve(self._entries(name))
        except _Unavailable as error:
            raise self.error(f"{self.word} {name!r} {error}.") from error.__cause__

    def _entries(self, name: str) -> list[EntryPoint]:
        if ":" in name:
            if not all(part.isidentifier() for part in name.replace(":", ".", 1).split(".")):
                raise self.error(
                    f"{self.word} {name!r} is no import path, as my_module:MyClass; options stand beside the name, not in it."
                )
            root = name.partition(":")[0].partition(".")[0]
            if root and importlib.util.find_spec(root) is None:
                sys.path.append(os.getcwd())  # a file in the working folder, as yet in no package
            return [EntryPoint(name, name, self.group)]
        registered = self._registered()
        if name not in registered:
            raise self.error(f"no installed {self.word} is called {name!r}: {nearest(name, registered)}.")
        return registered[name]

    def _registered(self) -> dict[str, list[EntryPoint]]:
        """Entry points by name: more than one where packages collide, one where a package is merely found twice."""
        found: dict[str, dict[tuple[str, str], EntryPoint]] = {}
        for entry in importlib.metadata.entry_points(group=self.group):
            found.setdefault(entry.name, {}).setdefault((_package(entry), entry.value), entry)
        return {name: list(entries.values()) for name, entries in found.items()}

    def _resolve(self, entries: list[EntryPoint]) -> type[T]:
        """The one class behind entry points of a name, if it keeps the contract."""
        if len(entries) > 1:
            claims = " and ".join(f"{_package(entry)} ({entry.value})" for entry in entries)
            remedy = "uninstall one of them" if len({_package(entry) for entry in entries}) > 1 else "rename one of them there"
            raise _Unavailable(f"is registered twice, by {claims}; {remedy}")
        entry = entries[0]
        origin = f"{entry.value} of package {_package(entry)}" if entry.dist else entry.value
        try:
            cls = entry.load()
        except ImportError as error:
            raise _Unavailable(_import_reason(entry, error)) from error
        except Exception as error:
            # A third party's module may fail in any way; the other backends must go on working.
            text = " ".join(str(error).split()).rstrip(".")
            raise _Unavailable(f"can't be loaded, since {origin} raised {type(error).__name__}: {text}") from error
        self._require_contract(cls, origin)
        return cls

    def _require_contract(self, cls: Any, origin: str) -> None:
        """Refuse what isn't a finished subclass of the contract."""
        module, _, name = self.contract.rpartition(".")
        contract = getattr(importlib.import_module(module), name)
        if not (isinstance(cls, type) and issubclass(cls, contract)):
            raise _Unavailable(f"is no {self.word}: {origin} is not a subclass of {self.contract}")
        if inspect.isabstract(cls):
            missing = ", ".join(sorted(getattr(cls, "__abstractmethods__", ())))
            raise _Unavailable(f"is unfinished: {origin} doesn't implement {missing}")
        able = getattr(contract, "capabilities", None)
        if able is not None and not isinstance(getattr(cls, "capabilities", None), type(able)):
            what = f"the class attribute capabilities of {origin}"
            raise _Unavailable(f"is unfinished: {what} is not a {module}.{type(able).__name__}")


def nested_spec(option: str, value: Any) -> BackendSpec:
    """The backend that an option names: as a text, ``gibbs`` or ``gibbs:sweeps=5``, or as keys, ``{name, options}``.

    Raises:
        ConfigError: it is neither.
    """
    from qvae.config.backends import BackendSpec
    from qvae.config.load import parse_backend

    if isinstance(value, str):
        return parse_backend(value)
    keys = dict(value) if isinstance(value, Mapping) else {}
    name, options = keys.pop("name", None), keys.pop("options", {})
    if keys or not isinstance(name, str) or not isinstance(options, Mapping):
        raise ConfigError(f"{option} is {value!r}; it must be a name, or {{name: NAME, options: {{OPTION: VALUE}}}}.")
    return BackendSpec(name=name, options=dict(options))


def _import_reason(entry: EntryPoint, error: ImportError) -> str:
    """What couldn't be imported, and the line that puts it right."""
    package = _package(entry)
    missing = error.name if isinstance(error, ModuleNotFoundError) and error.name else None
    text = " ".join(str(error).split()).rstrip(".")
    what = f"needs the module {missing}, which isn't installed" if missing else f"can't be imported ({text})"
    extra = _extra(entry)
    is_its_own = missing is not None and missing.split(".")[0] == entry.module.split(".")[0]
    if entry.dist is None and is_its_own:
        remedy = "give a module that Python finds, in an installed package or in a folder of PYTHONPATH"
    elif package == "qvae":
        remedy = install_line(None if is_its_own else extra)
    elif is_its_own:
        remedy = f"pip install --force-reinstall {package}"
    elif extra:
        remedy = f"pip install '{package}[{extra}]'"
    elif missing:
        remedy = "install the package that has it"  # which may be called otherwise, or be anybody's
    else:
        remedy = f"pip install --upgrade {package}"
    return f"{what}: {remedy}"


def _extra(entry: EntryPoint) -> str | None:
    """The extra with what a backend needs: the entry point's own, else the package's extra of the backend's name."""
    if entry.extras:
        return ",".join(entry.extras)
    provided = entry.dist.metadata.get_all("Provides-Extra") if entry.dist else None
    return entry.name if entry.name in (provided or []) else None


def _package(entry: EntryPoint) -> str:
    return (entry.dist and entry.dist.name) or entry.module.split(".")[0]


def _version(entry: EntryPoint) -> str:
    return (entry.dist and entry.dist.version) or "of unknown version"
