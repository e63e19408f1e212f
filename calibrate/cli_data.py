"""The commands about data: what is in a candle file, what is wrong with it, and where to get one."""

import json
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from calibrate.errors import Problem, UserError

app = typer.Typer(help="Check candle files, mend them, download them, or make some up.", no_args_is_help=True)

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")]


@app.command()
def check(
    candles: Annotated[
        Path, typer.Argument(metavar="FILE", help="OHLCV candles (CSV or Parquet).", show_default=False)
    ],
    fix: Annotated[
        list[str] | None,
        typer.Option(
            help="A repair to make: drop-invalid, sort, drop-duplicates, keep-fullest, drop-partial, drop-outliers."
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write the bars to this file (.parquet or .csv).", show_default=False),
    ] = None,
    where: Annotated[
        list[str] | None, typer.Option(metavar="COLUMN=VALUE", help="Take only these rows, for example symbol=ETHUSDT.")
    ] = None,
    timezone: Annotated[
        str | None,
        typer.Option(help="Clock of dates that name no zone, for example Europe/Berlin.", show_default=False),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say what is in a candle file and what is wrong with it; mend what is named with --fix, into a new file.

    Missing bars are told and never filled in. Exit code 1 if the file cannot be used as it stands.
    """
    from calibrate.data.check import check_candles
    from calibrate.terminal import Live
    from calibrate.terminal_data import check_lines

    wishes = dict(_key_and_value(text) for text in where or [])
    with _interruptible("interrupted; nothing was written"), Live() as live:
        checked = check_candles(candles, where=wishes, zone=timezone, repairs=fix or [], output=output, listener=live)
    if as_json:
        _print_json(
            {
                **checked.facts,
                "usable": checked.usable,
                "findings": [finding._asdict() for finding in checked.findings],
                "repairs": [done._asdict() for done in checked.repairs],
                "left": [finding._asdict() for finding in checked.left],
                "written": str(checked.written) if checked.written else None,
            }
        )
    else:
        _print(*check_lines(checked))
    if not checked.usable:
        raise typer.Exit(1)


def _key_and_value(text: str) -> tuple[str, str]:
    key, sign, value = text.partition("=")
    if not sign or not key.strip():
        raise UserError([Problem("--where", f"found {text!r}; expected COLUMN=VALUE, for example symbol=ETHUSDT")])
    return key.strip(), value.strip()


def _print(*parts: Any) -> None:
    from rich.console import Console

    # Names come from the user and are no markup; what is piped into a file is not broken to the width of a screen.
    console = Console(markup=False, emoji=False, highlight=False, width=None if sys.stdout.isatty() else 160)
    for part in parts:
        console.print(part)


def _print_json(content: dict[str, Any]) -> None:
    typer.echo(json.dumps(content, indent=2))


@contextmanager
def _interruptible(said: str) -> Iterator[None]:
    """In here an interruption unwinds, so that what is half written is removed."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:
        typer.echo(said, err=True)
        raise typer.Exit(130) from None
