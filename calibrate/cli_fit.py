"""The commands that fit the world around a venue: the oracle to round logs, depth to quotes, the book to accounts.

Each prints its figures with errors, writes a file that a job can take over (section_files.py), and draws the fit against the
data beside it.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from calibrate.cli_options import AsJson, Seed, show, show_json
from calibrate.errors import Problem, UserError
from calibrate.interruption import interruptible

if TYPE_CHECKING:
    from calibrate.fits.result import WorldFit

app = typer.Typer()

Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", help="TOML file to write; figures go beside it.", show_default=False),
]


@app.command("fit-oracle")
def fit_oracle(
    rounds: Annotated[Path, typer.Argument(help="Round log of a push feed (CSV or Parquet).", show_default=False)],
    output: Output = None,
    allow_gaps: Annotated[bool, typer.Option(help="Leave out what spans missing rounds instead of refusing.")] = False,
    storm: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help="Start of the hour to replay (ISO, UTC); the wildest without.", show_default=False
        ),
    ] = None,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Fit a push oracle to its round log: deviation, heartbeat, delay, and whether the delay grows in a storm."""
    from calibrate.data.rounds import read_rounds
    from calibrate.fits.feed_fit import fit_oracle as fit

    start = None if storm is None else _time(storm)
    options = f"{' --allow-gaps' if allow_gaps else ''}{f' --storm {storm}' if storm else ''}"
    _check(output)
    with interruptible():
        log = read_rounds(rounds, allow_gaps=allow_gaps)
        fitted = fit(log, seed=seed, storm_start=start, on_progress=_tell)
        _finish(fitted, output, f"calibrate fit-oracle {rounds.name}{options}{_seed(seed)}", as_json)


@app.command("fit-depth")
def fit_depth(
    quotes: Annotated[
        Path, typer.Argument(help="Quotes of size and price impact (CSV or Parquet).", show_default=False)
    ],
    output: Output = None,
    pair: Annotated[
        str | None, typer.Option(help="What is sold / what is bought, e.g. WETH/USDC.", show_default=False)
    ] = None,
    usd_price: Annotated[
        float | None, typer.Option(min=0, help="USD for a unit sold, where the table does not say.", show_default=False)
    ] = None,
    largest_impact: Annotated[
        float, typer.Option(min=0.001, max=0.9, help="Quotes with a larger impact are left out.")
    ] = 0.10,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Fit depth, crossover and spread to quotes of what it costs to sell at once."""
    from calibrate.data.quotes import read_quotes
    from calibrate.fits.depth import fit_depth as fit

    options = f"{f' --pair {pair}' if pair else ''}{f' --usd-price {usd_price:g}' if usd_price else ''}"
    options += f" --largest-impact {largest_impact:g}" if largest_impact != 0.10 else ""
    _check(output)
    with interruptible():
        table = read_quotes(quotes, pair=pair, usd_price=usd_price)
        _tell(f"fitting {len(table.size_usd):,} quotes")
        fitted = fit(table, seed=seed, largest_impact=largest_impact)
        _finish(fitted, output, f"calibrate fit-depth {quotes.name}{options}{_seed(seed)}", as_json)


@app.command("fit-book")
def fit_book(
    accounts: Annotated[Path, typer.Argument(help="Borrowers or positions (CSV or Parquet).", show_default=False)],
    output: Output = None,
    maintenance_bps: Annotated[
        float | None,
        typer.Option(
            min=0, help="Maintenance margin of positions; borrowers have thresholds of their own.", show_default=False
        ),
    ] = None,
    unit_usd: Annotated[float, typer.Option(min=0, help="USD for one unit of a borrower's collateral and debt.")] = 1.0,
    parts: Annotated[int | None, typer.Option(min=1, max=6, help="Lognormals a side.", show_default="by BIC")] = None,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Fit a book of cohorts to a table of borrowers (collateral, debt, threshold) or of positions."""
    from calibrate.data.borrowers import read_borrowers, read_holdings
    from calibrate.fits.book import fit_book as fit

    options = f" --maintenance-bps {maintenance_bps:g}" if maintenance_bps else ""
    options += f"{f' --unit-usd {unit_usd:g}' if unit_usd != 1 else ''}{f' --parts {parts}' if parts else ''}"
    _check(output)
    with interruptible():
        if maintenance_bps:
            holdings = read_holdings(accounts, maintenance_bps=maintenance_bps)
        else:
            holdings = read_borrowers(accounts, unit_usd=unit_usd)
        _tell(f"fitting {len(holdings.side):,} accounts")
        fitted = fit(holdings, seed=seed, parts=parts)
        _finish(fitted, output, f"calibrate fit-book {accounts.name}{options}{_seed(seed)}", as_json)


def _check(output: Path | None) -> None:
    """Say at once what would be found wrong only when the work is done."""
    if output is not None and output.suffix != ".toml":
        raise UserError([Problem(str(output), "expected the name of a .toml file for --output")])


def _finish(fitted: "WorldFit", output: Path | None, command: str, as_json: bool) -> None:
    """Write what was asked for, and show the fit."""
    from calibrate.fits.files import write_fit

    written: list[Path] = []
    if output is not None:
        from calibrate.drawing import save
        from calibrate.fits.figures import figure_of

        _tell("drawing the fit")
        pictures = figure_of(fitted)
        write_fit(output, fitted, command=f"{command} -o {output.as_posix()}")
        written = [output, *save(pictures, output.with_suffix(""), formats=("svg", "png"))]
    if as_json:
        show_json(fitted.as_json() | {"written": [str(path) for path in written]})
        return
    from calibrate.fits.tables import tables_of

    show(*tables_of(fitted))
    for note in fitted.notes:
        typer.echo(f"note: {note}")
    for path in written:
        typer.echo(f"written: {path}")


def _tell(text: str) -> None:
    typer.echo(text, err=True)


def _seed(seed: int) -> str:
    return f" --seed {seed}" if seed else ""


def _time(text: str) -> float:
    import datetime

    try:
        time = datetime.datetime.fromisoformat(text)
    except ValueError:
        raise UserError([Problem("--storm", f"found {text!r}; expected a time such as 2023-08-17T21:00")]) from None
    return (time if time.tzinfo else time.replace(tzinfo=datetime.UTC)).timestamp()
