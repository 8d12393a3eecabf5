"""The command line: all groups of commands, and what a user's mistake looks like."""

from __future__ import annotations

import os
from typing import Annotated

import typer

import qvae
from qvae.cli import applications, backends, benchmark, config, diagnose, runs, sweep
from qvae.cli.show import accept_any_encoding, fail
from qvae.errors import ConfigError, QvaeError
from qvae.memory import keep_freed_memory


def make_app() -> typer.Typer:
    """Every command there is, those of the applications' table included."""
    app = typer.Typer(
        no_args_is_help=True,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
    )
    app.callback()(_options)
    app.command()(runs.train)
    app.command()(runs.evaluate)
    applications.add_to(app)
    app.command()(runs.report)
    app.command()(runs.compare)
    app.command("compare-twins")(runs.compare_twins)
    app.command()(sweep.sweep)
    app.command()(config.config)
    backends.add_to(app)
    app.add_typer(benchmark.app, name="benchmark")
    app.add_typer(diagnose.app, name="diagnose")
    return app


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"qvae {qvae.__version__}")
        raise typer.Exit


def _options(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it, and stop.")] = False,
) -> None:
    """Variational autoencoders with a (quantum) Boltzmann machine as latent prior, and samplers to choose from."""
    if os.environ.get("WORLD_SIZE", "1") != "1" and context.invoked_subcommand != "train":
        from qvae.training import ranks

        if ranks.is_one_of_several():
            raise ConfigError(f"qvae {context.invoked_subcommand} is for one process, unlike train; leave torchrun out.")


def main() -> None:
    """Run the command line; a user's mistake ends in one sentence and exit code 2, Ctrl-C in 130."""
    # Threads of OpenMP spin while they wait for each other; with other work on the machine that makes a step 25 times
    # slower, and without it a shorter spin costs 4 %. Read when torch is loaded, so it must be set before.
    os.environ.setdefault("GOMP_SPINCOUNT", "3000")
    keep_freed_memory()
    accept_any_encoding()
    try:
        make_app()()
    except QvaeError as error:
        fail(str(error), 2)
    except OSError as error:
        fail(f"{error.filename or 'a file'}: {error.strerror}; free some space or choose another folder.", 2)
