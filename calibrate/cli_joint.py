"""The command that puts several markets on the same paths: how often they are insolvent together."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

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
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")] = False,
) -> None:
    """Simulate several markets in one world: insolvencies together, and what one insurance fund for all has to bear."""
    if len(jobs) < 2:
        raise UserError([Problem("JOB", f"found {len(jobs)} job; expected two or more: `calibrate simulate` takes one")])
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
        typer.echo(json.dumps(told | ({"folder": str(output)} if output else {}), indent=2))
        return
    from rich.console import Console

    # Names come from the user and are no markup; what is piped into a file is not broken to the width of a screen.
    console = Console(markup=False, emoji=False, width=None if sys.stdout.isatty() else 160)
    for table in joint_tables(told):
        console.print(table)
    if output is not None:
        typer.echo(f"picture: {output / 'one_fund.html'}")
