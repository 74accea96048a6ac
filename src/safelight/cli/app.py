"""The program ``safelight``: its commands, and how their errors are reported."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import safelight
from safelight.cli import terminal
from safelight.cli.align import align
from safelight.cli.apply import apply
from safelight.cli.calibrate import calibrate
from safelight.cli.clean import clean
from safelight.cli.demo import demo
from safelight.cli.evaluate import evaluate
from safelight.cli.evaluate_prompts import run
from safelight.cli.exit_codes import WRONG
from safelight.cli.generate import generate
from safelight.cli.hash import hash_images
from safelight.cli.naming import naming, naming_sheets
from safelight.cli.pipeline import quiet_libraries
from safelight.cli.policy import policy
from safelight.cli.renamed_options import Commands
from safelight.cli.screen import screen
from safelight.cli.train import train
from safelight.errors import SafelightError


class _Commands(TyperGroup):
    """Reports Safelight's own errors as one sentence instead of a traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except SafelightError as error:
            terminal.complain(str(error))
            raise typer.Exit(WRONG) from error


app = Commands(
    cls=_Commands,
    name="safelight",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 success; 2 an error, or something that could not be screened; 3 the policy's "
    "action is that of --fail-on or a more severe one, or a case of `safelight policy test` failed.",
)
app.command()(generate)
app.command()(screen)
app.command()(demo)
app.command()(train)
app.command()(calibrate)
app.command()(apply)
app.add_typer(align)
app.add_typer(clean)
app.command("hash")(hash_images)
evaluate.command("run")(run)
evaluate.command()(naming_sheets)
evaluate.command()(naming)
app.add_typer(evaluate)
app.add_typer(policy)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"safelight {safelight.__version__}")
        raise typer.Exit


@app.callback()
def about(
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True),
    ] = False,
) -> None:
    """Safety guardrails for image generation models.

    \b
    To start:
      safelight demo
      safelight generate "a chef with a knife and bread"
      safelight screen --policy storybook "a child with a knife"
    """


def main() -> None:
    quiet_libraries()
    app(prog_name="safelight")
