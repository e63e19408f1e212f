"""A window of a real history: the bars between two moments, whole and without gaps, and those before it that are known by then.

Files may hold several markets. `symbol` says which is meant: a text that stands in the column that names markets, or
`COLUMN=VALUE` pairs, or both, with commas between.
"""

import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from calibrate.data.candles import Candles, read_candles
from calibrate.data.table_file import open_table
from calibrate.data.times import duration, iso_time
from calibrate.errors import Problem, UserError

# What files call the column that says which market a row belongs to.
MARKET_COLUMNS = ("symbol", "market", "pair", "instrument", "ticker", "coin")


class History(NamedTuple):
    """Bars of a window, and the unbroken ones just before it (None if there are none)."""

    window: Candles
    earlier: Candles | None

    @property
    def days(self) -> float:
        return self.window.bars * self.window.interval_s / 86_400


def moment_ms(moment: datetime.datetime) -> int:
    """Unix milliseconds; a time that names no zone is in UTC."""
    return round((moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)).timestamp() * 1000)


def read_market(path: Path, symbol: str | None) -> Candles:
    """All bars of one market in a file, gaps or not."""
    where = {} if symbol is None else _where(path, symbol)
    try:
        return read_candles(path, allow_gaps=True, where=where)
    except UserError as error:
        if any("another row has too" in problem.message for problem in error.problems):
            # What else is said of such rows, such as that they are not in order, follows from this.
            found = "found several rows of the same time with other prices, as files of several markets have them"
            columns = ", ".join(_columns(path))
            todo = f"name one of them, as SYMBOL or COLUMN=VALUE,COLUMN=VALUE; the file's columns are {columns}"
            raise UserError([Problem(str(path), f"{found}; {todo}")]) from None
        raise


def window_of(candles: Candles, first_ms: int, end_ms: int, lead: int, place: str) -> History:
    """The bars that open from `first_ms` on and close by `end_ms`, and up to `lead` bars before; what is wrong with the window
    is said of `place`."""
    interval = round(candles.interval_s * 1000)
    ends = candles.ts[-1] + interval
    if first_ms < candles.ts[0] or end_ms > ends:
        found = f"found {iso_time(first_ms)} to {iso_time(end_ms)}; {candles.source} has bars from {iso_time(candles.ts[0])}"
        raise UserError([Problem(place, f"{found} to {iso_time(ends)}; choose a window inside that")])
    first, end = (int(np.searchsorted(candles.ts, moment)) for moment in (first_ms, end_ms))
    window = candles.part(first, end)
    _check_edges(candles, first_ms, end_ms, place)
    _check_gaps(window, first_ms, end_ms, interval, place)
    breaks = np.flatnonzero(np.diff(candles.ts[: first + 1]) != interval)
    begin = max(first - lead, int(breaks[-1]) + 1 if len(breaks) else 0)
    return History(window, candles.part(begin, first) if begin < first else None)


def _check_edges(candles: Candles, first_ms: int, end_ms: int, place: str) -> None:
    """A window is made of whole bars."""
    interval = round(candles.interval_s * 1000)
    off = [moment for moment in (first_ms, end_ms) if (moment - candles.ts[0]) % interval]
    if off:
        found = f"found {' and '.join(map(iso_time, off))}, inside a bar; bars are {duration(interval)} long"
        raise UserError([Problem(place, f"{found}; begin and end the window where a bar does")])
    if end_ms - first_ms < 2 * interval:
        found = f"found {iso_time(first_ms)} to {iso_time(end_ms)}; expected at least two bars of {duration(interval)}"
        raise UserError([Problem(place, f"{found}; choose a later end")])


def _check_gaps(window: Candles, first_ms: int, end_ms: int, interval: int, place: str) -> None:
    opens = np.concatenate([[first_ms - interval], window.ts, [end_ms]])
    steps = np.diff(opens)
    broken = np.flatnonzero(steps != interval)
    if not len(broken):
        return
    missing = int(np.sum(steps[broken] / interval - 1))
    where = iso_time(opens[broken[0]] + interval)
    found = f"found {len(broken)} gaps with {missing} missing bars of {duration(interval)} in the window"
    raise UserError(
        [Problem(place, f"{found}, the first at {where}; a replay makes no bars up: choose another window or file")]
    )


def _where(path: Path, symbol: str) -> dict[str, str]:
    """The rows that a symbol means: columns and what stands in them."""
    chosen = {}
    for part in symbol.split(","):
        column, equals, value = part.partition("=")
        chosen[column.strip() if equals else _market_column(path)] = (value if equals else part).strip()
    return chosen


def _market_column(path: Path) -> str:
    columns = _columns(path)
    found = [name for name in columns if name.strip().lower() in MARKET_COLUMNS]
    if found:
        return found[0]
    listed = ", ".join(columns) or "columns without names"
    found_and_expected = f"no column names the market; found {listed}; expected one of {', '.join(MARKET_COLUMNS)}"
    raise UserError([Problem(f"{path}: columns", f"{found_and_expected}; leave the symbol out or write COLUMN=VALUE")])


def _columns(path: Path) -> Sequence[str]:
    columns: Sequence[str] = open_table(path, expected="a CSV or Parquet file of candles").columns
    return columns
