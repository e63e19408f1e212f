"""Several assets on the command line: markets on the same paths, and the fit of a joint model."""

import re
from pathlib import Path
from typing import Annotated

import typer

from calibrate.cli_options import AsJson, show, show_json
from calibrate.errors import Problem, UserError
from calibrate.interruption import interruptible


def joint(
    jobs: Annotated[
        list[Path],
        typer.Argument(metavar="JOB...", help="Two job files or more, of one joint model.", show_default=False),
    ],
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key in all jobs.")
    ] = None,
    fund_usd: Annotated[
        float | None,
        typer.Option(min=0, help="One insurance fund for all markets.", show_default="the sum of the jobs' own"),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder to create, with a picture.", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Simulate several markets in one world: insolvencies together, and what one insurance fund for all has to bear."""
    if len(jobs) < 2:
        raise UserError(
            [Problem("JOB", f"found {len(jobs)} job; expected two or more: `calibrate simulate` takes one")]
        )
    from calibrate.job import load_job
    from calibrate.runtime import configure

    configure()
    loaded = [load_job(job, set_ or []) for job in jobs]
    from calibrate import terminal
    from calibrate.joint import figures, simulate_together
    from calibrate.joint_folder import write_joint_folder
    from calibrate.run_folder import refuse_existing
    from calibrate.terminal_joint import joint_tables

    if output is not None:
        refuse_existing(output)
    with interruptible(), terminal.Live() as live:
        found = simulate_together(loaded, paths=loaded[0].job.simulation.paths, fund_usd=fund_usd, listener=live)
        told = figures(found)
        if output is not None:
            live.note("drawing what one fund has to bear")
            write_joint_folder(output, found, told, loaded)
    if as_json:
        show_json(told | ({"folder": str(output)} if output else {}))
        return
    show(*joint_tables(told))
    if output is not None:
        typer.echo(f"picture: {output / 'one_fund.html'}")


_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}")
# Currencies that names of files put behind an asset's.
_QUOTES = ("USDT", "USDC", "BUSD", "USD", "EUR")


def fit_together(
    files: list[Path], output: Path, needless: list[str], allow_gaps: bool, seed: int, as_json: bool
) -> None:
    """Fit a joint model to one file of candles an asset, write it, and say how well it fits."""
    named = _named(files, needless, output)
    from calibrate.runtime import configure

    configure()
    from calibrate import terminal
    from calibrate.data.candles import MINIMUM_BARS_FOR_FIT, read_candles
    from calibrate.joint_evidence import with_evidence
    from calibrate.market.joint_files import write_joint
    from calibrate.market.joint_fit import fit_joint, with_command
    from calibrate.terminal_joint import fit_tables

    tell = terminal.talk.print
    candles = {
        name: read_candles(path, allow_gaps=allow_gaps, minimum_bars=MINIMUM_BARS_FOR_FIT)
        for name, path in named.items()
    }
    with interruptible():
        fitted = with_evidence(fit_joint(candles, seed=seed, tell=tell), candles, seed=seed, tell=tell)
    options = f"{' --allow-gaps' if allow_gaps else ''}{f' --seed {seed}' if seed else ''}"
    listed = " ".join(f"{name}={path.name}" for name, path in named.items())
    fitted = with_command(fitted, f"calibrate fit --joint {listed}{options} -o {output.as_posix()}")
    write_joint(output, fitted)
    if as_json:
        own = {name: parameters for name, (_, parameters) in fitted.own.items()}
        found = {"parameters": fitted.parameters, "assets": own, "notes": fitted.fit.get("notes", [])}
        show_json({"model": str(output), **found})
        return
    show(*fit_tables(fitted))
    for note in fitted.fit.get("notes", []):
        typer.echo(f"note: {note}")
    typer.echo(f"written: {output}")


def _named(files: list[Path], needless: list[str], output: Path) -> dict[str, Path]:
    """The asset of each file: as it is written before `=`, or what the file's name begins with."""
    problems = [Problem(name, "has no meaning with --joint; leave it out") for name in needless]
    if len(files) < 2:
        problems.append(Problem("CANDLES", f"found {len(files)} file; expected two or more with --joint, one an asset"))
    if not output.parent.is_dir():
        problems.append(Problem(str(output), f"there is no folder {str(output.parent)!r}; create it or choose another"))
    named: dict[str, Path] = {}
    for file in files:
        name, equals, path = str(file).partition("=")
        if not equals or Path(str(file)).is_file():
            path, name = str(file), re.split(r"[^A-Za-z0-9]", file.stem)[0].upper()
            name = _without_quote(name)
        if name in named or not _NAME.fullmatch(name):
            expected = "expected a name of its own for each, of letters, digits, - and _: write NAME=FILE"
            problems.append(Problem(str(file), f"found the name {name!r}; {expected}"))
        named[name] = Path(path)
    if problems:
        raise UserError(problems)
    return named


def _without_quote(name: str) -> str:
    return next((name.removesuffix(quote) for quote in _QUOTES if name.endswith(quote) and name != quote), name)
