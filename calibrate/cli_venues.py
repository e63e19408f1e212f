"""The commands about real venues: which there are, what their rules are, and what to submit to them."""

from pathlib import Path
from typing import Annotated, Any

import typer

from calibrate.cli_options import AsJson, Inputs, RunFolder, show_json
from calibrate.interruption import interruptible

app = typer.Typer(help="List the venues whose rules a job may use, or show one.", invoke_without_command=True)


@app.callback()
def venues(context: typer.Context, as_json: AsJson = False) -> None:
    """List the venues whose rules a job may use with `preset` in its [venue]; `venues show NAME` says what they are."""
    if context.invoked_subcommand is not None:
        return
    from calibrate.venue_words import venue_lines, venue_list

    rows = venue_list()
    if as_json:
        show_json({"venues": rows})
    else:
        for line in venue_lines(rows):
            typer.echo(line)


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="A preset, such as hyperliquid:ETH.", show_default=False)],
    as_json: AsJson = False,
) -> None:
    """Print a venue's rules in words and numbers: what is in force, what stands for it in a simulation, and what is left out."""
    from calibrate.venue_words import shown, shown_lines

    content = shown(name, Path())
    if as_json:
        show_json(content)
    else:
        for line in shown_lines(content):
            typer.echo(line)


def export(
    run: RunFolder,
    venue: Annotated[
        str | None, typer.Option(help="The venue that the run was calibrated for.", show_default=False)
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder to create; in the run folder by default.")
    ] = None,
    inputs: Inputs = Path(),
    at_once: Annotated[
        bool, typer.Option("--at-once", help="One change, whatever the venue's usual process allows in one.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Write what the venue's change process takes: its own numbers, certified as rounded, step by step, with a memo."""
    from calibrate.runtime import configure

    configure()
    from calibrate import terminal
    from calibrate.proposal import export as export_run

    with interruptible(), terminal.Live() as live:
        found = export_run(run, venue, inputs, output, live, at_once=at_once)
    if as_json:
        folder = None if found.folder is None else str(found.folder)
        show_json({"folder": folder, **found.content})
    else:
        for line in _outcome(found.content, found.folder):
            typer.echo(line)
    if found.folder is None or not found.certified:
        raise typer.Exit(1)


def _outcome(content: dict[str, Any], folder: Path | None) -> list[str]:
    lines = [f"{content['venue']}:"]
    lines += [f"  {row['field']}: {row['before']} -> {row['after']}" for row in content["changes"]]
    steps = content["steps"]
    kept = sum(step["certified"] for step in steps)
    if len(steps) > 1:
        last = steps[-1]["not_before_day"]
        lines.append(f"in {len(steps)} steps over {last:g} days, {kept} of them certified")
    if folder is None:
        worst = max(steps[-1]["constraints"], key=lambda row: row["upper"] / row["limit"])
        figures = f"{worst['name']} has an upper limit of {worst['upper']:.3g}, above {worst['limit']:g}"
        return [*lines, f"not certified as rounded: {figures}; nothing was written"]
    return [*lines, f"{content['status']}; memo: {folder / 'memo.md'}"]
