"""What is in a candle file, what is wrong with it, and the same file with the repairs that a person asked for.

`check_candles` reads, finds, and if asked repairs and writes. Nothing is written unless an output is named, and nothing in
it is repaired unless the repair is.
"""

import os
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np

from calibrate.data.candle_columns import NAMES
from calibrate.data.candle_writing import check_target, write_candles
from calibrate.data.findings import Finding, find_errors
from calibrate.data.raw_candles import RawCandles, read_raw
from calibrate.data.repairs import REPAIRS, Repair, repair
from calibrate.data.suspicions import find_suspicions, usable_rows
from calibrate.data.table_file import TableFile
from calibrate.data.times import from_zone, iso_time
from calibrate.errors import Problem, UserError
from calibrate.progress import Listener, Silent

_MARKET_COLUMNS = (
    "venue",
    "exchange",
    "market",
    "symbol",
    "pair",
    "instrument",
    "ticker",
    "coin",
    "freq_min",
    "interval",
)
_TOO_MANY_VALUES = 200


@dataclass(frozen=True)
class Checked:
    """`facts` say what is in the file, `findings` what is wrong with it. If it was repaired, `repairs` say what that changed
    and `left` what is wrong with what was written."""

    facts: dict[str, Any]
    findings: list[Finding]
    repairs: list[Repair]
    left: list[Finding]
    written: Path | None

    @property
    def usable(self) -> bool:
        """Whether `calibrate fit` would take the file, or what was written in its place."""
        return not any(finding.kind == "error" for finding in (self.left if self.written else self.findings))


def check_candles(
    path: str | os.PathLike[str],
    *,
    where: Mapping[str, str] | None = None,
    zone: str | None = None,
    repairs: Collection[str] = (),
    output: Path | None = None,
    listener: Listener | None = None,
    now_ms: float | None = None,
) -> Checked:
    """Check a candle file; with `output`, write it again with the named `repairs`. With `where`, only rows whose columns
    hold these texts; with `zone`, dates without a zone are taken as those of a local clock."""
    _check_wishes(path, zone, repairs, output)
    listener = listener or Silent()
    read = _Counter(listener)
    raw = read_raw(path, where=where, on_rows=read)
    if zone:
        raw.columns["ts"] = _in_zone(raw, zone)
    listener.status("looking for faults")
    now = time.time() * 1000 if now_ms is None else now_ms
    findings, interval_ms = _find(raw, now)
    findings = _without_guesses(findings, _several_markets(raw, findings))
    facts = _facts(raw, interval_ms)
    if output is None:
        return Checked(facts, findings, [], [], None)

    listener.status("repairing")
    upright = {name: values[:: -1 if raw.newest_first() else 1] for name, values in raw.columns.items()}
    columns, done = repair(upright, repairs, interval_ms=interval_ms, now_ms=now)
    _check_writable(path, columns)
    mended = RawCandles(replace(raw.file, path=output), {name: name for name in NAMES}, columns)
    left = [finding for finding in _find(mended, now)[0] if finding.kind != "note"]
    write_candles(output, columns)
    return Checked(facts, findings, done, left, output)


def _check_wishes(
    path: str | os.PathLike[str], zone: str | None, repairs: Collection[str], output: Path | None
) -> None:
    problems = [
        Problem("--fix", f"found {name!r}; expected {', '.join(REPAIRS)}") for name in repairs if name not in REPAIRS
    ]
    if repairs and output is None:
        problems.append(Problem("--fix", "needs --output: repairs go into a new file, the old one stays as it is"))
    if output is not None and output.exists():
        problems.append(Problem(str(output), "exists already; choose another --output"))
    if zone:
        try:
            ZoneInfo(zone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            problems.append(Problem("--timezone", f"found {zone!r}; expected a name such as UTC or Europe/Berlin"))
    if problems:
        raise UserError(problems)
    if output is not None:
        check_target(output)


class _Counter:
    """Tells how many rows have been read."""

    def __init__(self, listener: Listener):
        self.listener, self.rows = listener, 0

    def __call__(self, rows: int) -> None:
        self.rows += rows
        self.listener.status(f"{self.rows:,} rows read")


def _in_zone(raw: RawCandles, zone: str) -> np.ndarray:
    if raw.times != {"dates"}:
        found = " and ".join(sorted(raw.times)) or "no times"
        raise UserError(
            [Problem("--timezone", f"{raw.file.path} holds {found}; expected dates without a zone; leave it out")]
        )
    return from_zone(raw.ts, zone)


def _find(raw: RawCandles, now_ms: float) -> tuple[list[Finding], float]:
    errors = find_errors(raw)
    return errors.found + find_suspicions(errors, now_ms=now_ms), errors.interval_ms


def _check_writable(path: str | os.PathLike[str], columns: Mapping[str, np.ndarray]) -> None:
    if not len(columns["ts"]):
        raise UserError(
            [Problem(str(path), "no candle would be left; nothing was written; look at the errors without --fix")]
        )
    wrong = ~np.all([np.isfinite(values) for values in columns.values()], axis=0)
    if wrong.any():
        found = f"{int(np.count_nonzero(wrong))} rows with values that cannot be read"
        raise UserError(
            [Problem(str(path), f"found {found}; they cannot be written; add --fix drop-invalid to leave them out")]
        )


def _facts(raw: RawCandles, interval_ms: float) -> dict[str, Any]:
    rows = usable_rows(raw)
    file = raw.file
    facts: dict[str, Any] = {
        "file": str(file.path),
        "format": str(file),
        "size_bytes": file.size_bytes,
        "sha256": file.sha256,
        "columns": raw.names,
        "times": sorted(raw.times),
        "rows": raw.rows,
        "bars": len(rows),
    }
    if len(rows):
        ends = raw.ts[rows[0]], raw.ts[rows[-1]]
        facts |= {"interval_s": interval_ms / 1000, "first": iso_time(ends[0]), "last": iso_time(ends[1])}
        facts |= {"lowest": float(raw.columns["low"][rows].min()), "highest": float(raw.columns["high"][rows].max())}
    return facts


def _several_markets(raw: RawCandles, findings: list[Finding]) -> list[Finding]:
    """Where times come twice with other prices, the columns that would tell the rows apart."""
    if not any(finding.what == "contradicted" for finding in findings):
        return []
    values = _values(raw.file, [name for name in raw.file.columns if name.lower() in _MARKET_COLUMNS])
    telling = {name: sorted(found) for name, found in values.items() if len(found) > 1}
    if not telling:
        return []
    shown = "; ".join(
        f"{name}: {', '.join(found[:4])}{', ...' if len(found) > 4 else ''} ({len(found)})"
        for name, found in telling.items()
    )
    name, found = next(iter(telling.items()))
    todo = f"choose one with --where {name}={found[0]} and the like"
    return [Finding("note", "several markets", len(telling), "", shown, "", todo)]


def _without_guesses(findings: list[Finding], several: list[Finding]) -> list[Finding]:
    """Where a file holds several markets, nothing can be said of any of them, and no repair could be right."""
    if not several:
        return findings
    errors = [finding for finding in findings if finding.kind == "error"]
    return several + [finding._replace(repair=None, todo=several[0].todo) for finding in errors]


def _values(file: TableFile, names: list[str]) -> dict[str, set[str]]:
    values: dict[str, set[str]] = {name: set() for name in names}
    for table in file.pieces(names) if names else ():
        for name in names:
            if len(values[name]) < _TOO_MANY_VALUES:
                values[name] |= set(table[name].dropna().astype(str).unique())
    return values
