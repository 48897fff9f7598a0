"""The command line. One file per command; everything heavy is imported when a command runs."""

from __future__ import annotations

import sys

import typer

from ..errors import SfumatoError
from . import compare, demo, difficulty, evaluate, fit, info, methods, predict, sam, train

app = typer.Typer(
    name="sfumato",
    help="Where, and how badly, a medical image segmentation may be wrong, and what to do about it.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Research software, not a medical device. Exit code 0: every case accounted for; 1: a case failed; 2: the "
    "command was not understood.",
)
for module in (demo, train, fit, predict, evaluate, compare, difficulty, sam, methods, info):
    module.register(app)


def main() -> None:
    """Run a command; a mistake of the user's is one sentence and exit code 2."""
    try:
        app()
    except SfumatoError as error:
        print(f"sfumato: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("sfumato: interrupted; the same command goes on where it stopped", file=sys.stderr)
        sys.exit(130)
