"""What the commands have in common: options of the same meaning under the same name, and how results are shown."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

JobFile = Annotated[Path, typer.Argument(metavar="JOB", help="Job file (TOML).", show_default=False)]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key, e.g. simulation.paths=1e6.")
]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="Run folder.", show_default=False)]
Inputs = Annotated[Path, typer.Option(help="Folder of the job file, where the files that it names are.")]
Output = Annotated[Path | None, typer.Option("--output", "-o", help="Folder to create.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with a run that was interrupted or killed.")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of what is simulated and resampled.")]

# Of commands that several processes share.
Processes = Annotated[int, typer.Option(min=1, help="Processes to start here, on cores of their own.")]
Coordinator = Annotated[
    str | None,
    typer.Option(
        metavar="HOST:PORT",
        help="Where process 0 awaits those of other machines; `auto` under Slurm or Kubernetes.",
        show_default=False,
    ),
]
ProcessId = Annotated[
    int | None,
    typer.Option(min=0, help="Which process this is; 0 writes.", show_default=False),
]
ProcessCount = Annotated[int | None, typer.Option(min=1, help="How many there are.", show_default=False)]


def show(*parts: Any) -> None:
    """Print tables and lines. Names in them come from the user and are no markup; what is piped into a file is not broken to the
    width of a screen, and lines can be copied whole."""
    from rich.console import Console

    console = Console(markup=False, emoji=False, highlight=False, width=None if sys.stdout.isatty() else 160)
    for part in parts:
        console.print(part, soft_wrap=isinstance(part, str))


def show_json(content: dict[str, Any]) -> None:
    typer.echo(json.dumps(content, indent=2))
