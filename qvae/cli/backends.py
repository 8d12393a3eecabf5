"""`qvae samplers` and `qvae executors`: what is registered, what it can do, whether it does it right, and which to take."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml
from typer.core import TyperGroup

from qvae.cli.options import Set, Trust
from qvae.cli.progress import ConsoleProgress
from qvae.cli.show import make_console, print_facts, print_table, print_warning

if TYPE_CHECKING:
    from rich.console import Console

    from qvae.plugins import Registry
    from qvae.testing import CheckResult

_SHOW = "show"
_STYLES = {"passed": "green", "failed": "red", "skipped": "dim"}  # of the outcomes of a check

Options = Annotated[list[str] | None, typer.Option("--set", metavar="OPTION=VALUE", help="An option of the backend.")]
Spend = Annotated[bool, typer.Option("--spend", help="Run the suite on a remote backend, too.")]


@dataclass(frozen=True)
class _Kind:
    """One kind of backends, as the command line shows it.

    Attributes:
        word: in texts; its plural is the command.
        registry: where it is found, ``module:attribute``.
        checks: the conformance suite, ``module:function`` of a name and options.
        columns: what is said of its capabilities.
        cells: their texts.
        setting: how the command line sets an option.
    """

    word: str
    registry: str
    checks: str
    columns: Sequence[str]
    cells: Callable[[Any], Iterable[str]]
    setting: str = ""


def _sampler_cells(able: Any) -> tuple[str, ...]:
    return (
        _limit(able.max_spins),
        _limit(able.max_quantum_spins or able.max_spins) if able.transverse_field else "no",
        "exact" if able.exact else "sampled",
        "kept" if able.persistent else "fresh",
        "remote" if able.remote else "here",
    )


def _executor_cells(able: Any) -> tuple[str, ...]:
    return (
        _limit(able.max_qubits),
        "exact" if able.exact else "from shots",
        "in torch" if able.differentiable else "by shifts",
        "yes" if able.noisy else "no",
        "remote" if able.remote else "here",
    )


_SAMPLERS = _Kind(
    "sampler",
    "qvae.sampling.registered:SAMPLERS",
    "qvae.testing:run_checks",
    ("spins", "in a field", "moments", "chains", "runs"),
    _sampler_cells,
    "On the command line: --sampler {name} --set sampler.options.{option}=VALUE",
)
_EXECUTORS = _Kind(
    "executor",
    "qvae.circuits.registry:EXECUTORS",
    "qvae.testing:run_executor_checks",
    ("qubits", "accuracy", "gradients", "noise", "runs"),
    _executor_cells,
    "On the command line: --executor {name} --set executor.options.{option}=VALUE",
)


def add_to(app: typer.Typer) -> None:
    """Add both groups of commands."""
    samplers = _group(_SAMPLERS)
    samplers.command("recommend")(recommend)
    app.add_typer(samplers, name="samplers")
    app.add_typer(_group(_EXECUTORS), name="executors")


def _group(kind: _Kind) -> typer.Typer:
    """The commands of a kind: the list by itself, and ``check NAME``."""
    group = typer.Typer(cls=_Named, invoke_without_command=True, subcommand_metavar="[NAME | COMMAND [ARGS]...]")

    @group.command(_SHOW, help=f"What one {kind.word} does, and its options.", hidden=True)
    def show(name: Annotated[str, typer.Argument()]) -> None:
        _print_one(make_console(), kind, name)

    every = f"Every registered {kind.word}: package, version, capabilities, or what to install; with NAME, that one's options."

    @group.callback(help=every)
    def everything(context: typer.Context) -> None:
        if context.invoked_subcommand is None:
            _print_list(make_console(), kind)

    suite = f"Run the conformance suite on one {kind.word}; exit code 1 if it fails. Of a remote one, say what it is and costs."

    @group.command("check", help=suite)
    def check(
        name: Annotated[str, typer.Argument(help="A registered name, or an import path, MODULE:CLASS.")],
        overrides: Options = None,
        spend: Spend = False,
    ) -> None:
        _check(make_console(), kind, name, overrides or [], spend)

    return group


class _Named(TyperGroup):
    """A group in which what is no command is the name of a backend to show."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command and its arguments."""
        return super().resolve_command(ctx, args if args[0] in self.commands else [_SHOW, *args])


def _print_one(console: Console, kind: _Kind, name: str) -> None:
    """Its docstring, what it can do, and its options with their defaults."""
    from qvae.options import described
    from qvae.reporting.page import Table

    found = _load(kind.registry).find(name)
    console.print(inspect.getdoc(found) or f"{name} has no description.")
    console.print()
    print_facts(console, dict(zip(kind.columns, kind.cells(found.capabilities), strict=True)))
    options = described(found)
    rows = [(option, _default(value), allowed) for option, (value, allowed) in options.items()]
    if rows:
        note = kind.setting.format(name=name, option=rows[0][0])
        print_table(console, Table(("option", "default", "allowed"), rows, note))
    else:
        console.print("It has no options.")


def _default(value: Any) -> str:
    from qvae.config.load import dump_value

    if value is inspect.Parameter.empty:
        return "must be given"
    try:
        return dump_value(value)
    except yaml.YAMLError:  # a default that no configuration can hold
        return repr(value)


def _print_list(console: Console, kind: _Kind) -> None:
    from rich.text import Text

    from qvae.reporting.page import Table

    rows, unavailable = [], []
    for info in _load(kind.registry).infos():
        if info.reason:
            unavailable.append(Text.assemble((info.name, "bold"), f" ({info.package} {info.version}) {info.reason}."))
        else:
            rows.append((info.name, f"{info.package} {info.version}", *kind.cells(info.capabilities)))
    print_table(console, Table((kind.word, "package", *kind.columns), rows))
    for line in unavailable:
        console.print(line)


def _limit(number: int | None) -> str:
    return "any" if number is None else f"up to {number}"


def _check(console: Console, kind: _Kind, name: str, overrides: Sequence[str], spend: bool) -> None:
    from rich.text import Text

    from qvae.config.load import parse_assignments
    from qvae.sampling.abilities import Remote

    options = parse_assignments(overrides)
    registry: Registry[Any] = _load(kind.registry)
    chosen = registry.load(name, options)
    if chosen.capabilities.remote:
        try:
            print_facts(console, chosen.describe() if isinstance(chosen, Remote) else {})
        finally:
            chosen.close()
        if not spend:
            console.print("nothing was submitted; --spend runs the conformance suite, which takes paid time")
            return
    run_checks: Callable[..., Iterable[CheckResult]] = _load(kind.checks)
    counts = dict.fromkeys(_STYLES, 0)
    for result in run_checks(name, **options):
        counts[result.outcome] += 1
        detail = (f"  {result.detail}", "dim") if result.detail else ""
        console.print(Text.assemble((result.outcome, _STYLES[result.outcome]), f"  {result.name}", detail))
    console.print(", ".join(f"{count} {outcome}" for outcome, count in counts.items()))
    if counts["failed"]:
        raise typer.Exit(1)


def _load(path: str) -> Any:
    module, _, attribute = path.partition(":")
    return getattr(importlib.import_module(module), attribute)


def recommend(
    source: Annotated[str, typer.Argument(metavar="CONFIG_OR_RUN", help="A configuration, or a run folder.")],
    seconds: Annotated[float, typer.Option(min=1, help="Time for all measurements.")] = 60.0,
    overrides: Set = None,
    trust: Trust = None,
) -> None:
    """Which sampler and settings give this prior's gradient the accuracy it needs at the least cost, on this machine."""
    from qvae.measuring.advice import recommendation_table, recommendation_text
    from qvae.measuring.recommend import recommend as measure

    console = make_console()
    with ConsoleProgress(console).work("measuring") as report:
        found = measure(source, seconds, overrides or [], report, trust or [])
    print_table(console, recommendation_table(found))
    for warning in found.warnings:
        print_warning(console, warning)
    for sentence in recommendation_text(found):
        console.print(sentence, style="bold")
