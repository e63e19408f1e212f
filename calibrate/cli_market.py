"""The command that fits market models to candles: one family, all of them ranked on what came after, or several assets together."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from calibrate.cli_joint import fit_together
from calibrate.cli_options import AsJson, Seed, show, show_json
from calibrate.errors import Problem, UserError
from calibrate.interruption import interruptible

if TYPE_CHECKING:
    from calibrate.data.candles import Candles

USUAL = "log-ou-kou"


def fit(
    candles: Annotated[
        list[Path],
        typer.Argument(
            help="OHLCV candles (CSV or Parquet); with --joint a file an asset, or NAME=FILE.", show_default=False
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", help="Model file to write; with --compare a folder to create.", show_default=False
        ),
    ],
    family: Annotated[
        list[str] | None,
        typer.Option(
            help="log-ou-kou, log-ou-two-factor, heston, constant, merton, kou, hawkes, regimes, garch, gjr-garch or "
            "filtered-historical; with --compare several, each after a --family of its own.",
            show_default="log-ou-kou; with --compare all",
        ),
    ] = None,
    compare: Annotated[
        bool, typer.Option("--compare", help="Fit families up to --until and rank them on what came after.")
    ] = False,
    until: Annotated[
        str | None,
        typer.Option(metavar="DATE", help="Fit to the bars before this date (ISO, UTC).", show_default=False),
    ] = None,
    window: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FROM..TO",
            help="Fit to the bars of this period alone (ISO dates, UTC), or of several, each after a --window of its own.",
            show_default=False,
        ),
    ] = None,
    joint: Annotated[
        bool, typer.Option("--joint", help="Fit several assets together: correlations, shared jumps and crashes.")
    ] = False,
    figures: Annotated[
        bool, typer.Option("--figures", help="Draw the fit against the data, beside the model file.")
    ] = False,
    allow_gaps: Annotated[
        bool, typer.Option(help="Leave out returns across missing bars instead of refusing.")
    ] = False,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Fit a market model to candles and say how well it fits, or compare families on data they have not seen.

    With --joint, several files become one model of assets that move together.
    """
    from calibrate.market.periods import period_of, within

    until_ms = None if until is None else _time_ms(until)
    periods = [period_of(text) for text in window or ()]
    if joint:
        given = {"--family": family, "--compare": compare, "--until": until, "--window": window, "--figures": figures}
        fit_together(candles, output, [name for name, value in given.items() if value], allow_gaps, seed, as_json)
        return
    _check(family, compare, until, window, output)
    if len(candles) > 1:
        raise UserError([Problem("CANDLES", f"found {len(candles)} files; expected one, or --joint for a joint model")])
    from calibrate.runtime import configure

    configure()
    from calibrate.data.candles import MINIMUM_BARS_FOR_FIT, read_candles
    from calibrate.market.comparison import before

    options = f"{' --allow-gaps' if allow_gaps else ''}{f' --until {until}' if until else ''}"
    options += "".join(f" --window {period.text}" for period in periods)
    options += f" --seed {seed}" if seed else ""
    data = read_candles(candles[0], allow_gaps=allow_gaps, minimum_bars=MINIMUM_BARS_FOR_FIT)
    data = within(data, periods) if periods else data
    command = f"calibrate fit {candles[0].name}{options}"
    with interruptible():
        if compare:
            assert until_ms is not None
            _compare(data, family, until_ms, output, command, seed, as_json)
        else:
            name = family[0] if family else USUAL
            used = data if until_ms is None else before(data, until_ms)
            windows = tuple(period.text for period in periods)
            _fit(used, name, output, command, seed, as_json, figures=figures, windows=windows)


def _fit(
    used: "Candles", family: str, output: Path, command: str, seed: int, as_json: bool, *, figures: bool, windows: tuple[str, ...]
) -> None:  # fmt: skip
    from dataclasses import replace

    from calibrate import terminal
    from calibrate.market.files import write_model
    from calibrate.market.fit import fit_candles
    from calibrate.market.fit_folder import write_figure
    from calibrate.terminal_market import fit_tables

    fitted = fit_candles(used, family=family, seed=seed, on_progress=terminal.talk.print)
    named = "" if family == USUAL else f" --family {family}"
    write_model(output, replace(fitted, windows=windows), command=f"{command}{named} -o {output.as_posix()}")
    written = [output]
    if figures:
        terminal.talk.print("drawing the fit")
        written += write_figure(output, family, fitted, used, seed=seed)
    if as_json:
        found = {"parameters": fitted.parameters, "standard_errors": fitted.standard_errors, "notes": fitted.notes}
        show_json({"model": str(output), **found})
        return
    show(*fit_tables(fitted))
    for note in fitted.notes:
        typer.echo(f"note: {note}")
    for path in written:
        typer.echo(f"written: {path}")


def _compare(
    data: "Candles", families: list[str] | None, until_ms: int, output: Path, command: str, seed: int, as_json: bool
) -> None:
    from calibrate import terminal
    from calibrate.market.comparison import compare_families
    from calibrate.market.fit_folder import write_comparison
    from calibrate.terminal_market import comparison_tables

    tell = terminal.talk.print
    found = compare_families(data, families, until_ms=until_ms, seed=seed, on_progress=tell)
    write_comparison(output, found, command=command, on_progress=tell)
    if as_json:
        ranking, scores = ([row._asdict() for row in rows] for rows in (found.ranking, found.scores))
        content = {"folder": str(output), "ranking": ranking, "scores": scores, "notes": found.notes}
        show_json(content)
        return
    show(*comparison_tables(found))
    for note in found.notes:
        typer.echo(f"note: {note}")
    typer.echo(f"written: {output}")


def _check(family: list[str] | None, compare: bool, until: str | None, window: list[str] | None, output: Path) -> None:
    """Say at once what would be found wrong only when the work is done."""
    problems = []
    if compare and until is None:
        problems.append(Problem("--compare", "expected --until DATE too: families are scored on the bars from then on"))
    if not compare and family is not None and len(family) > 1:
        problems.append(Problem("--family", f"found {len(family)} families; expected one, or --compare"))
    if window and (compare or until is not None):
        problems.append(Problem("--window", "goes with neither --compare nor --until; leave it or them out"))
    if compare and output.exists():
        problems.append(Problem(str(output), "exists already; choose another --output"))
    if problems:
        raise UserError(problems)


def _time_ms(text: str) -> int:
    from calibrate.market.periods import time_ms

    try:
        return time_ms(text)
    except ValueError:
        raise UserError([Problem("--until", f"found {text!r}; expected a date such as 2022-01-01")]) from None
