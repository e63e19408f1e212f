"""The folder of a joint simulation: its figures, the curve of what one fund needs with its picture, and how it was made."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from calibrate.drawing import save
from calibrate.job import LoadedJob
from calibrate.joint import Together
from calibrate.joint_figure import exceedance_table, one_fund_chart
from calibrate.pipeline import record
from calibrate.run_folder import new_folder, toml_text, write_json, write_table, write_text


def write_joint_folder(target: Path, found: Together, told: dict[str, Any], jobs: Sequence[LoadedJob]) -> None:
    """Write a folder whole or not at all."""
    with new_folder(target) as folder:
        write_json(folder / "joint.json", _without_nan(told))
        table = exceedance_table(found)
        write_table(folder / "one_fund", table)
        if len(table):
            save(one_fund_chart(table, found), folder / "one_fund")
        for number, loaded in enumerate(jobs, 1):
            write_text(folder / f"job_{number}.toml", toml_text(record(loaded, 0.0)))


def _without_nan(told: dict[str, Any]) -> dict[str, Any]:
    """JSON knows no such number: what has no value is null."""
    return json.loads(json.dumps(told), parse_constant=lambda name: None)
