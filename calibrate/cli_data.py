"""The commands about data: what is in a candle file, what is wrong with it, and where to get one."""

import datetime
from pathlib import Path
from typing import Annotated

import typer

from calibrate.cli_options import AsJson, show, show_json
from calibrate.errors import Problem, UserError
from calibrate.interruption import interruptible

app = typer.Typer(help="Check candle files, mend them, download them, or make some up.", no_args_is_help=True)


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
    with interruptible("interrupted; nothing was written"), Live() as live:
        checked = check_candles(candles, where=wishes, zone=timezone, repairs=fix or [], output=output, listener=live)
    if as_json:
        show_json(
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
        show(*check_lines(checked))
    if not checked.usable:
        raise typer.Exit(1)


@app.command()
def fetch(
    venue: Annotated[str, typer.Argument(help="Exchange as ccxt calls it, for example binance.", show_default=False)],
    symbol: Annotated[
        str, typer.Argument(help="Market, for example ETH/USDT, or ETH/USDT:USDT for a perpetual.", show_default=False)
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Parquet file to write, or to go on with.", show_default=False)
    ],
    from_: Annotated[str, typer.Option("--from", help="First bar, as a date or time in UTC.", show_default=False)],
    to: Annotated[str, typer.Option(help="Where to stop, as a date or time in UTC.")] = "now",
    interval: Annotated[str, typer.Option(help="Length of a bar, for example 1m, 5m, 1h, 1d.")] = "1h",
    as_json: AsJson = False,
) -> None:
    """Download candles from an exchange, page by page, and check them. Needs ccxt, which the extra `data` brings.

    Interrupted, the same command goes on where it stopped; with a later end, it asks only for what is new.

    A bar that is still open is never written.
    """
    span = _unix_ms("--from", from_), _unix_ms("--to", to)
    from calibrate.data.check import check_candles
    from calibrate.data.download import download
    from calibrate.data.exchange import Market
    from calibrate.terminal import Live
    from calibrate.terminal_data import check_lines

    kept = f"interrupted; what was downloaded is kept in {output}.part, and the same command goes on from there"
    with interruptible(kept), Live() as live:
        market = Market(venue, symbol, interval, tell=live.note)
        got = download(market, *span, output, live)
        checked = check_candles(output)
    if as_json:
        findings = [finding._asdict() for finding in checked.findings]
        show_json({**checked.facts, "new_bars": got.new_bars, "asked_until": got.asked_until, "findings": findings})
    else:
        typer.echo(f"written: {output}: {got.bars:,} bars, {got.new_bars:,} of them new, up to {got.asked_until}")
        show(*check_lines(checked))


@app.command()
def sample(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="File to write (.parquet or .csv).", show_default=False)
    ],
    model: Annotated[str, typer.Option(help="Model file, or the name of a shipped model.")] = "eth-usd",
    bars: Annotated[int, typer.Option(min=2, max=10_000_000, help="How many bars.")] = 1440,
    minutes: Annotated[int, typer.Option(min=1, max=1440, help="Minutes a bar.")] = 60,
    seed: Annotated[int, typer.Option(min=0, help="Another seed, another market.")] = 0,
) -> None:
    """Make candles up by a market model, to try the tools out: no market ever traded at these prices."""
    from calibrate.data.candle_writing import check_target, write_candles
    from calibrate.market.files import find_model, read_model
    from calibrate.market.sample import made_up_candles
    from calibrate.market.schema import FAMILIES

    if output.exists():
        raise UserError([Problem(str(output), "exists already; choose another --output")])
    check_target(output)
    read = read_model(find_model(model))
    if read.family not in FAMILIES or len(read.parameters) > len(FAMILIES[read.family]):
        expected = f"expected {' or '.join(map(repr, FAMILIES))} without further parts"
        raise UserError([Problem("--model", f"found a model of family {read.family!r}; {expected}")])
    command = f"calibrate data sample --model {Path(model).stem} --bars {bars} --minutes {minutes} --seed {seed}"
    with interruptible("interrupted; nothing was written"):
        candles = made_up_candles(read.parameters, bars=bars, minutes_per_bar=minutes, seed=seed)
        note = {"made up": "no market ever traded at these prices", "model": read.family, "command": command}
        write_candles(output, candles, note=note)
    typer.echo(f"written: {output}: {bars:,} bars that were made up")


def _unix_ms(option: str, text: str) -> float:
    if text == "now":
        return datetime.datetime.now(datetime.UTC).timestamp() * 1000
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        expected = "expected a date or time such as 2021-01-01 or 2021-01-01T12:00"
        raise UserError([Problem(option, f"found {text!r}; {expected}")]) from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)).timestamp() * 1000


def _key_and_value(text: str) -> tuple[str, str]:
    key, sign, value = text.partition("=")
    if not sign or not key.strip():
        raise UserError([Problem("--where", f"found {text!r}; expected COLUMN=VALUE, for example symbol=ETHUSDT")])
    return key.strip(), value.strip()
