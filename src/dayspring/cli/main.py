"""The `dayspring` command: one module for each noun, assembled here.

What holds: every command that prints a table has `--json`; an error of the tree is one sentence on standard error and
exit status 1; no trace reaches a person for what is not a defect.
"""

import sys

import typer
from pydantic import ValidationError

from dayspring.cli import doctor, keys, models, prices, serve, usage
from dayspring.core.errors import DayspringError

__all__ = ["app", "main"]

app = typer.Typer(
    name="dayspring",
    help="An open, self-hosted generative-AI platform.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("serve")(serve.serve)
app.command("usage")(usage.usage)
app.command("doctor")(doctor.doctor)
app.command("version")(serve.show_version)
app.add_typer(models.app, name="models")
app.add_typer(keys.app, name="keys")
app.add_typer(prices.app, name="prices")


def main() -> None:
    """Runs the command line; the entry point of the package."""
    try:
        app()
    except DayspringError as error:
        print(f"dayspring: {error.message}", file=sys.stderr)
        sys.exit(1)
    except ValidationError as error:
        for fault in error.errors():
            name = "DAYSPRING_" + "_".join(str(part) for part in fault["loc"]).upper()
            print(f"dayspring: {name}: {fault['msg']}. See docs/reference/settings.md.", file=sys.stderr)
        sys.exit(1)
