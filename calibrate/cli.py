"""The commands. No calculation happens here: each command reads its arguments, calls one function and shows the result.

Results go to stdout, talk to stderr. Exit codes: 0 done, 1 not feasible or not certified, 2 the user's error. JAX is imported
inside the commands, so that `--help` answers at once.
"""

import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from calibrate import cli_data, cli_fit, cli_joint, cli_market, cli_venues
from calibrate.cli_options import (
    AsJson,
    Coordinator,
    Inputs,
    JobFile,
    Output,
    Overrides,
    ProcessCount,
    Processes,
    ProcessId,
    Resume,
    RunFolder,
    show,
    show_json,
)
from calibrate.errors import Problem, UserError, raise_all
from calibrate.interruption import interruptible as _interruptible
from calibrate.interruption import stop_at_once as _stop_at_once

if TYPE_CHECKING:
    from calibrate.job import LoadedJob
    from calibrate.terminal import Live

app = typer.Typer(
    help="Find, certify and export margin parameters for leveraged crypto venues.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # help in boxes takes twice as long to show
    pretty_exceptions_enable=False,
)
app.add_typer(cli_data.app, name="data")
app.add_typer(cli_fit.app)
app.add_typer(cli_venues.app, name="venues")


@app.command()
def run(
    job: JobFile,
    set_: Overrides = None,
    output: Output = None,
    resume: Resume = False,
    processes: Processes = 1,
    coordinator: Coordinator = None,
    process_id: ProcessId = None,
    process_count: ProcessCount = None,
    as_json: AsJson = False,
) -> None:
    """Find the most efficient policy within the limits, certify it, and write a run folder with frontier and report."""
    loaded = _load(job, set_, quiet=bool(process_id))
    from calibrate import terminal
    from calibrate.pipeline import run as run_job
    from calibrate.resume import run_folder_for

    with (
        _interruptible(),
        _together(processes, coordinator, process_id, process_count) as live,
        run_folder_for(loaded, "run", output, resume=resume) as folder,
    ):
        result = run_job(loaded, folder, live)
    if not live.shown:
        return
    if as_json:
        show_json(
            {
                "folder": str(result.folder),
                "recommended": result.recommended,
                "metrics": result.metrics,
                "trade_off": result.trade_off,
            }
        )
    else:
        show(terminal.policy_table(result.recommended), terminal.headline_table(result.metrics))
        if result.recommended["sensitivities"]:
            show(terminal.sensitivity_table(result.recommended))
        standings = (*terminal.standing_lines(result.trade_off), *terminal.scenario_lines(result.trade_off))
        for line in (*terminal.evidence_lines(result.recommended), *standings):
            typer.echo(line)
        typer.echo(f"{result.status}: {result.recommended['message']}")
        typer.echo(f"report: {result.folder / 'report.html'}")
    if result.status != "certified":
        raise typer.Exit(1)


@app.command()
def simulate(
    job: JobFile,
    set_: Overrides = None,
    policy: Annotated[Path | None, typer.Option(help="A recommended.json to use instead of the incumbent.")] = None,
    market: Annotated[
        str | None,
        typer.Option(
            metavar="replay:FILE[:SYMBOL]", help="Put the policy through a real history of candles.", show_default=False
        ),
    ] = None,
    from_: Annotated[
        str | None, typer.Option("--from", help="Where the replay begins, a date or time in UTC.", show_default=False)
    ] = None,
    to: Annotated[str | None, typer.Option("--to", help="Where it ends.", show_default=False)] = None,
    every_hours: Annotated[
        float | None,
        typer.Option(
            min=0.0, help="Replay windows of the job's horizon from many starts, so far apart.", show_default=False
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder to create, of a replay.", show_default=False)
    ] = None,
    processes: Processes = 1,
    coordinator: Coordinator = None,
    process_id: ProcessId = None,
    process_count: ProcessCount = None,
    as_json: AsJson = False,
) -> None:
    """Measure the incumbent policy, or another one: every metric with its standard error.

    In a replay, also what happened when: a picture and a table of price, margin, liquidations and losses. From many starts, what
    became of each of them, and the worst.
    """
    rolls = every_hours is not None
    loaded = _load(job, _with_replay(set_, market, from_, to, rolls=rolls), quiet=bool(process_id))
    from calibrate import terminal, terminal_starts
    from calibrate.pipeline import simulate_job

    replays = loaded.job.market.replay is not None
    wrong = {
        "--output": output is not None and "only a replay writes a folder; add --market replay:FILE or leave it out",
        "--every-hours": rolls and "says how far apart replays start; add --market replay:FILE",
    }
    if not replays:
        raise_all([Problem(option, said) for option, said in wrong.items() if said])
    with _interruptible(), _together(processes, coordinator, process_id, process_count) as live:
        if every_hours is not None:
            from calibrate.replay_starts import replay_starts_job

            result = replay_starts_job(loaded, policy, every_hours, (from_, to), output, live)
        elif replays:
            from calibrate.replay import replay_job

            result = replay_job(loaded, policy, output, live)
        else:
            result = simulate_job(loaded, policy, live)
    if not live.shown:
        return
    if as_json:
        show_json(result)
    elif rolls:
        show(*terminal_starts.tables(result))
        for line in terminal_starts.lines(result):
            typer.echo(line)
    else:
        show(terminal.metrics_table(result))
        for line in result["remarks"]:
            typer.echo(line)
        if "folder" in result:
            typer.echo(f"picture: {Path(result['folder']) / 'replay.html'}")


@app.command()
def frontier(
    job: JobFile,
    set_: Overrides = None,
    output: Output = None,
    resume: Resume = False,
    processes: Processes = 1,
    coordinator: Coordinator = None,
    process_id: ProcessId = None,
    process_count: ProcessCount = None,
    as_json: AsJson = False,
) -> None:
    """Sweep the insolvency tolerance, draw insolvency against efficiency, and place policies against the curve."""
    loaded = _load(job, set_, quiet=bool(process_id))
    from calibrate import terminal
    from calibrate.frontier_worlds import own_world
    from calibrate.pipeline import frontier_job
    from calibrate.resume import run_folder_for

    with (
        _interruptible(),
        _together(processes, coordinator, process_id, process_count) as live,
        run_folder_for(loaded, "frontier", output, resume=resume) as folder,
    ):
        table, trade_off = frontier_job(loaded, folder, live)
    if not live.shown:
        return
    if as_json:
        rows = json.loads(table.to_json(orient="records"))
        show_json({"folder": str(folder), "frontier": rows, "trade_off": trade_off})
    else:
        names = ["label", "tolerance", "insolvency_probability", "standard_error", "max_leverage"]
        shown = own_world(table)[[*names, "certified", "dominated"]]
        typer.echo(shown.to_string(index=False, float_format=lambda value: f"{value:.3g}"))
        standings = (*terminal.standing_lines(trade_off), *terminal.scenario_lines(trade_off))
        for line in (*standings, terminal.hypervolume_line(trade_off)):
            typer.echo(line)
        typer.echo(f"figures: {folder / 'frontier.html'}")


app.command()(cli_joint.joint)
app.command()(cli_market.fit)


@app.command()
def check(
    job: JobFile,
    set_: Overrides = None,
    gradients: Annotated[
        bool, typer.Option("--gradients", help="Compare derivatives with difference quotients.")
    ] = False,
    paths: Annotated[int, typer.Option(min=2, help="Paths for --gradients.")] = 4096,
    bump: Annotated[float, typer.Option(min=1e-12, max=0.1, help="Relative step of the difference quotients.")] = 1e-7,
    as_json: AsJson = False,
) -> None:
    """Check a job without running it: what would run, how long it would take and how much memory."""
    loaded = _load(job, set_)
    from calibrate import terminal
    from calibrate.pipeline import check_job_gradients
    from calibrate.plan import plan

    if gradients:
        with _interruptible():
            rows = check_job_gradients(loaded, paths, bump)
        if as_json:
            show_json({"gradients": [row._asdict() | {"agrees": row.agrees} for row in rows]})
        else:
            show(terminal.gradient_table(rows))
        if not all(row.agrees for row in rows):
            raise typer.Exit(1)
        return
    with _interruptible():
        planned = plan(loaded)
    if as_json:
        show_json(planned)
    else:
        for line in planned["lines"]:
            typer.echo(line)


@app.command()
def verify(
    folder: RunFolder,
    inputs: Inputs = Path(),
    as_json: AsJson = False,
) -> None:
    """Make the certificate of a run again from its record, and say whether it agrees."""
    from calibrate.runtime import configure

    configure()
    from calibrate import terminal
    from calibrate.evidence import verify as verify_run

    with _interruptible(), terminal.Live() as live:
        found = verify_run(folder, inputs, live)
    if as_json:
        show_json(found._asdict() | {"rows": [row._asdict() for row in found.rows], "agrees": found.agrees})
    else:
        show(terminal.verification_table(found))
        typer.echo(terminal.verification_verdict(found))
    if not found.agrees:
        raise typer.Exit(1)


@app.command()
def compare(
    first: Annotated[
        Path, typer.Argument(help="A run folder, a recommended.json, or `incumbent`.", show_default=False)
    ],
    second: Annotated[Path, typer.Argument(help="The same.", show_default=False)],
    job: Annotated[Path, typer.Option(help="The job that both are simulated in.", show_default=False)],
    set_: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Hold two policies against each other on the same paths: differences with their errors, and what can be told."""
    loaded = _load(job, set_)
    from calibrate import terminal
    from calibrate.evidence import compare_policies

    with _interruptible(), terminal.Live() as live:
        found = compare_policies(first, second, loaded, live)
    if as_json:
        show_json(found._asdict() | {"rows": [row._asdict() for row in found.rows]})
    else:
        show(terminal.comparison_table(found, str(first), str(second)))
        for note in terminal.comparison_notes(found):
            typer.echo(note)


app.command()(cli_venues.export)


@app.command()
def report(folder: RunFolder) -> None:
    """Rebuild the figures and the report of a run folder."""
    from calibrate.report import build_report

    with _interruptible():
        page = build_report(folder)
    typer.echo(f"report: {page}")


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="Folder to lay them out in.")] = Path("."),
) -> None:
    """Lay out the shipped job files, fitted models and made-up candles, to start from."""
    from calibrate.shipped import lay_out_shipped

    for path in lay_out_shipped(folder):
        typer.echo(str(path))


@contextmanager
def _together(
    processes: int, coordinator: str | None, process_id: int | None, process_count: int | None
) -> Iterator["Live"]:
    """In here simulations are shared with other processes, if any are asked for; only the first of them is heard."""
    from calibrate import terminal
    from calibrate.together import Asked, together

    asked = Asked(processes, coordinator, process_id, process_count)
    with together(asked, main, sys.argv[1:]) as crew, terminal.Live(shown=crew.leads) as live:
        yield live


def _with_replay(
    overrides: list[str] | None, market: str | None, first: str | None, end: str | None, *, rolls: bool
) -> list[str] | None:
    if market is None:
        given = [name for name, value in (("--from", first), ("--to", end)) if value is not None]
        if given:
            raise UserError([Problem(", ".join(given), "chooses a window of a replay; add --market replay:FILE")])
        return overrides
    from calibrate.runtime import configure

    configure()
    from calibrate.replay import file_and_symbol, of_history, replay_overrides

    made = of_history(*file_and_symbol(market), {}) if rolls else replay_overrides(market, first, end)
    return [*made, *(overrides or [])]


def _load(job: Path, overrides: list[str] | None, *, quiet: bool = False) -> "LoadedJob":
    from calibrate.job import load_job
    from calibrate.runtime import configure

    configure()
    loaded = load_job(job, overrides or [])
    from calibrate.assemble import warnings_of
    from calibrate.presets import notes_of
    from calibrate.toxic import toxic_note

    for warning in () if quiet else (*warnings_of(loaded.job), *toxic_note(loaded.job), *notes_of(loaded.preset)):
        typer.echo(f"note: {warning}", err=True)
    return loaded


def _exit(code: Any) -> NoReturn:
    """End with an exit code: at once where other processes were joined and not left, since to part from them in good order
    would be to wait for those that are gone."""
    processes = sys.modules.get("calibrate.processes")
    if processes is not None and processes.current_crew().size > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 0 if code is None else 1)
    sys.exit(code)


def main() -> None:
    """Run the command line; what the user can mend is said in one line each, without a traceback."""
    usual = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if usual:
        signal.signal(signal.SIGINT, _stop_at_once)
    try:
        app()
    except UserError as error:
        for problem in error.problems:
            typer.echo(f"error: {problem}", err=True)
        _exit(2)
    except SystemExit as stop:
        _exit(stop.code)
    finally:
        if usual:
            signal.signal(signal.SIGINT, signal.default_int_handler)
