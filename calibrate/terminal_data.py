"""What a person sees of a candle file: what is in it, what is wrong with it, what was mended."""

import shlex
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from calibrate.data.candle_columns import NAMES
from calibrate.data.check import Checked
from calibrate.data.findings import Finding
from calibrate.data.times import duration


def check_lines(checked: Checked) -> list[str | Table]:
    facts = checked.facts
    shown: list[str | Table] = [_head(facts), *_span(facts)]
    renamed = [f"{name} is {facts['columns'][name]!r}" for name in NAMES if facts["columns"][name] != name]
    if renamed:
        shown.append("columns: " + ", ".join(renamed))
    shown += [_table(checked.findings)] if checked.findings else ["nothing is wrong with it"]
    shown += [f"{done.name}: {done.said}" for done in checked.repairs]
    if checked.written:
        shown.append(f"written: {checked.written}")
        shown += (
            [_table(checked.left, title="left in it")] if checked.left else ["nothing is left that is wrong with it"]
        )
    elif repairs := list(dict.fromkeys(finding.repair for finding in checked.findings if finding.repair)):
        wish = " ".join(f"--fix {name}" for name in repairs)
        shown.append(
            f"to mend what can be: calibrate data check {shlex.quote(facts['file'])} {wish} --output NEW.parquet"
        )
    return shown


def _head(facts: dict[str, Any]) -> str:
    size = facts["size_bytes"]
    shown = f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.1f} kB"
    return f"{Path(facts['file']).name}: {facts['format']}, {shown}, SHA-256 {facts['sha256'][:12]}"


def _span(facts: dict[str, Any]) -> list[str]:
    if "first" not in facts:
        return [f"{facts['rows']:,} rows, none of which holds a candle"]
    written = " and ".join(facts["times"])
    length = f" of {duration(facts['interval_s'] * 1000)}" if facts["interval_s"] else ""
    ends = f"{facts['first']} to {facts['last']} (UTC; written as {written})"
    return [
        f"{facts['bars']:,} bars{length} in {facts['rows']:,} rows, {ends}",
        f"prices from {facts['lowest']:g} to {facts['highest']:g}",
    ]


def _table(findings: list[Finding], title: str | None = None) -> Table:
    table = Table(box=box.SIMPLE, title=title, title_justify="left")
    for heading in ("", "what", "count", "found", "repair"):
        table.add_column(heading, justify="right" if heading == "count" else "left", overflow="fold")
    for finding in findings:
        where = f"{finding.place}: " if finding.place else ""
        advice = f"--fix {finding.repair}" if finding.repair else finding.todo
        table.add_row(finding.kind, finding.what, f"{finding.number:,}", where + finding.found, advice)
    return table
