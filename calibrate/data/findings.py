"""What is wrong with a candle file: each fault with its place, what was expected, what to do, and the repair there is.

An *error* keeps the file from being used; `read_candles` raises them all together. A *suspicion* (`suspicions.py`) may be
right or wrong and is left to the user. A *note* is no fault. Nothing is ever repaired unless a person asks (`repairs.py`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from calibrate.data.candle_columns import NAMES, PRICES
from calibrate.data.raw_candles import RawCandles
from calibrate.data.times import EARLIEST_MS, LATEST_MS, duration, iso_time
from calibrate.errors import Problem

MEND = "mend or remove these rows"
SHOWN = 6
SWAPPED = "check that the columns are not swapped"
# Re-encoded files round; a relative 1e-9 is no contradiction.
_ROUNDING = 1e-9


class Finding(NamedTuple):
    """`kind` is "error", "suspicion" or "note"; `number` is how many bars (or gaps) `what` concerns; `place` is where it is
    first seen; `repair` is the name of the repair that removes it, if there is one."""

    kind: str
    what: str
    number: int
    place: str
    found: str
    expected: str = ""
    todo: str = ""
    repair: str | None = None

    def problem(self, path: str) -> Problem:
        place = f"{path}: {self.place}" if self.place else path
        return Problem(place, "; ".join(part for part in (f"found {self.found}", self.expected, self.todo) if part))


@dataclass
class Findings:
    """Collects the findings of one file. `interval_ms` is the length of a bar, once it is known."""

    raw: RawCandles
    found: list[Finding] = field(default_factory=list)
    interval_ms: float = 0.0

    def rows(
        self,
        what: str,
        wrong: np.ndarray,
        column: str,
        found: str,
        values: Sequence[Any] = (),
        *,
        expected: str,
        todo: str = MEND,
        repair: str | None = "drop-invalid",
        kind: str = "error",
    ) -> None:
        """One finding for all rows in which `wrong` is true, placed at the first of them, of which `found` shows the
        values."""
        count = int(np.count_nonzero(wrong))
        if count:
            row = int(np.argmax(wrong))
            others = f" (the first of {count} such rows)" if count > 1 else ""
            if kind == "suspicion" and count > 1:  # each of them is worth a look
                more = ", ".join(iso_time(time) for time in self.raw.ts[np.flatnonzero(wrong)[1:SHOWN]])
                others = f" (also {more}{f' and {count - SHOWN} more' if count > SHOWN else ''})"
            repair = repair if 2 * count <= self.raw.rows or repair == "sort" else None  # a column is not what it seems
            shown = (found.format(*(series[row] for series in values)) if values else found) + others
            self.found.append(
                Finding(kind, what, count, self.place(row, column), shown, f"expected {expected}", todo, repair)
            )

    def steps(self, what: str, count: int, row: int, found: str, *, expected: str, todo: str) -> None:
        """A finding about what lies between bars, placed at the bar before."""
        self.found.append(Finding("error", what, count, self.place(row, "ts"), found, f"expected {expected}", todo))

    def place(self, row: int, column: str) -> str:
        """Rows are counted as a person does: the first row below the header is row 1."""
        time = self.raw.ts[row]
        when = f" ({iso_time(time)})" if np.isfinite(time) else ""
        return f"column {self.raw.names[column]}, row {row + 1}{when}"


def find_errors(raw: RawCandles, *, allow_gaps: bool = False) -> Findings:
    """Everything that keeps a file from being used."""
    findings = Findings(raw)
    for name in NAMES[1:]:
        values, text = raw.columns[name], raw.unreadable.get(name, "")
        findings.rows(
            "no number",
            ~np.isfinite(values),
            name,
            text,
            expected="a number in each row",
        )
    _check_prices(findings, raw.columns)
    _check_times(findings, allow_gaps)
    return findings


def _check_prices(findings: Findings, columns: dict[str, np.ndarray]) -> None:
    volume, high, low = columns["volume"], columns["high"], columns["low"]
    for name in PRICES:
        values = columns[name]
        findings.rows("no price", values <= 0, name, "a price of {:g}", [values], expected="prices above zero")
    findings.rows("no volume", volume < 0, "volume", "a volume of {:g}", [volume], expected="zero or more")
    findings.rows(
        *("high below low", high < low, "high", "high {:g} below low {:g}", [high, low]),
        expected="high at or above low",
        todo=SWAPPED,
    )
    for name in ("open", "close"):
        values = columns[name]
        findings.rows(
            *(
                "outside the range",
                outside(columns, name),
                name,
                "{:g} outside low {:g} to high {:g}",
                [values, low, high],
            ),
            expected="a price within the bar's range",
            todo=SWAPPED,
        )


def outside(columns: dict[str, np.ndarray], name: str) -> np.ndarray:
    """Where the open or the close is not between low and high."""
    values, high, low = columns[name], columns["high"], columns["low"]
    beyond = (values > high * (1 + _ROUNDING)) | (values < low * (1 - _ROUNDING))
    return beyond & (high >= low) & (values > 0)


def _check_times(findings: Findings, allow_gaps: bool) -> None:
    """Order, duplicates, gaps and frequency."""
    raw = findings.raw
    readable = np.isfinite(raw.ts)
    text = raw.unreadable.get("ts", "")
    findings.rows("no time", ~readable, "ts", text, expected="Unix time or an ISO date")
    findings.rows(
        *(
            "strange time",
            (raw.ts < EARLIEST_MS) | (raw.ts > LATEST_MS),
            "ts",
            raw.strange_time,
        ),
        expected="a time between 2000 and 2100, as Unix seconds, milliseconds, microseconds or nanoseconds",
        todo="check the column's unit",
    )
    rows = np.flatnonzero(readable)
    if raw.newest_first():
        rows = rows[::-1]
    ts = raw.ts[rows]
    if len(ts) and not (np.diff(ts) > 0).all():
        rows, ts = _check_order(findings, rows, ts)
    if len(ts) >= 2:
        _check_steps(findings, ts, rows, allow_gaps)


def _check_order(findings: Findings, rows: np.ndarray, ts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows that go back in time and times that come twice; the first row of each time, and the times, rising."""
    backwards, twice = np.zeros((2, findings.raw.rows), bool)
    backwards[rows[1:]] = np.diff(ts) < 0
    findings.rows(
        *("not in order", backwards, "ts", "a time earlier than that of the row before"),
        expected="rising times",
        todo="sort the file by time",
        repair="sort",
    )
    times, first, counts = np.unique(ts, return_index=True, return_counts=True)
    twice[rows] = counts[np.searchsorted(times, ts)] > 1
    twice[rows[first]] = False
    same = twice & _repeats(findings.raw, rows, ts)
    copies, others = (
        "remove the copies, or keep one market if the file holds several",
        "a time that another row has too",
    )
    findings.rows("twice", same, "ts", others, expected="one row a bar", todo=copies, repair="drop-duplicates")
    findings.rows(
        *("contradicted", twice & ~same, "ts", f"{others}, with other prices"),
        expected="one row a bar",
        todo=copies,
        repair="keep-fullest",
    )
    return rows[first], times


def _repeats(raw: RawCandles, rows: np.ndarray, ts: np.ndarray) -> np.ndarray:
    """Rows that say the same as an earlier one, in all columns."""
    order = rows[np.argsort(ts, kind="stable")]
    same = np.ones(max(len(order) - 1, 0), bool)
    for values in raw.columns.values():
        ordered = values[order]
        same &= (ordered[1:] == ordered[:-1]) | (np.isnan(ordered[1:]) & np.isnan(ordered[:-1]))
    marked = np.zeros(raw.rows, bool)
    marked[order[1:]] = same
    return marked


def _check_steps(findings: Findings, times: np.ndarray, rows: np.ndarray, allow_gaps: bool) -> None:
    """Gaps are whole missing bars; anything else between two bars is irregular, and a file is allowed few of those."""
    steps = np.diff(times)
    lengths, counts = np.unique(steps, return_counts=True)
    interval = findings.interval_ms = float(lengths[np.argmax(counts)])
    irregular = steps % interval != 0
    unread = np.cumsum(~np.isfinite(findings.raw.ts))[rows]
    missing = (steps > interval) & ~irregular & (np.diff(unread) == 0)  # a row whose time is unreadable is no gap
    several, odd = int(np.count_nonzero(missing)), int(np.count_nonzero(irregular))
    every = f"one bar every {duration(interval)}"
    if odd > max(2, 0.01 * len(steps)):
        found = f"steps of {duration(lengths[0])} to {duration(lengths[-1])} between bars"
        most = f"most often {duration(interval)}, and {odd} that are no multiple of it"
        first = int(rows[np.argmax(irregular)])
        todo = "resample the file to one frequency"
        findings.steps("irregular", odd, first, f"{found}, {most}", expected="one regular frequency", todo=todo)
        return
    if allow_gaps:
        return
    todo = "fill in the file, or pass --allow-gaps to leave out the returns across gaps"
    if several:
        row = int(np.argmax(missing))
        bars = int(np.sum(steps[missing] / interval - 1))
        found = f"{several} gaps with {bars} missing bars in all; here the next bar comes {duration(steps[row])} later"
        findings.steps("gaps", several, int(rows[row]), found, expected=every, todo=todo)
    if odd:
        row = int(np.argmax(irregular))
        found = f"{odd} steps that are no whole number of bars, here {duration(steps[row])}"
        findings.steps("off the clock", odd, int(rows[row]), found, expected=every, todo=todo)
