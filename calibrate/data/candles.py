"""OHLCV candles from a file: read, checked, ready for fitting and replay.

`read_candles` takes CSV (also gzipped) or Parquet at any regular frequency and either returns `Candles` or raises one
`UserError` that lists everything wrong with the file at once, each with the first row it concerns. A candle's time is
the open of its bar; its close is the price at the bar's end. Where bars are missing, the returns across the hole are
left out (`window_returns`), never filled: a filled bar would be a calm hour that nobody saw.
"""

import hashlib
import io
import os
import warnings
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow

from calibrate.errors import Problem, UserError, raise_all

PRICES = ("open", "high", "low", "close")
TIME_NAMES = ("ts", "timestamp", "time", "open_time", "date", "datetime")
MINIMUM_BARS_FOR_FIT = 1000
EARLIEST_MS = 946_684_800_000  # 2000-01-01: an older bar means that the time column is in another unit
LATEST_MS = 4_102_444_800_000  # 2100-01-01
MEND = "mend or remove these rows"
SWAPPED = "check that the columns are not swapped"

# Files differ in the unit of Unix time; the four units cannot be mistaken for each other between 1973 and 5138.
UNIX_UNITS_PER_MS = ((1e11, 1e-3), (1e14, 1.0), (1e17, 1e3), (np.inf, 1e6))


@dataclass(frozen=True)
class Candles:
    """Candles in time order. `ts` is the open of each bar in Unix milliseconds, `interval_s` the length of a bar,
    `source` the file's name without its folder, `sha256` the hash of the file's bytes."""

    ts: np.ndarray
    open: np.ndarray
    high: np.ndarray
    low: np.ndarray
    close: np.ndarray
    volume: np.ndarray
    interval_s: float
    source: str
    sha256: str

    @property
    def bars(self) -> int:
        return len(self.ts)

    @property
    def gaps(self) -> int:
        """How often the next bar does not open exactly one interval later."""
        return int(np.count_nonzero(~self._unbroken()))

    @property
    def first(self) -> str:
        """Open of the first bar, ISO 8601 in UTC."""
        return iso_time(self.ts[0])

    @property
    def last(self) -> str:
        """Open of the last bar, ISO 8601 in UTC."""
        return iso_time(self.ts[-1])

    def _unbroken(self) -> np.ndarray:
        return np.diff(self.ts) == round(self.interval_s * 1000)


def read_candles(path: str | os.PathLike[str], *, allow_gaps: bool = False, minimum_bars: int = 2) -> Candles:
    """Read candles from a CSV or Parquet file with the columns ts, open, high, low, close, volume.

    Times may be Unix seconds, milliseconds, microseconds or nanoseconds, or ISO dates (UTC unless they say otherwise),
    in a column called ts, timestamp, time, open_time, date or datetime. Missing bars are an error unless `allow_gaps`.
    For a fit ask for `minimum_bars=MINIMUM_BARS_FOR_FIT`.
    """
    content = _read_bytes(path)
    table = _parse(content, path)
    names = _find_columns(table, path)
    if table.empty:
        raise UserError([Problem(str(path), "found a header but no rows; expected one row a bar")])

    check = _Check(str(path), _milliseconds(table[names["ts"]]), names)
    columns = {name: _numbers(table[names[name]]) for name in (*PRICES, "volume")}
    _check_numbers(check, columns, table)
    _check_prices(check, columns)
    interval_s = _check_times(check, table, allow_gaps)
    if len(table) < minimum_bars:
        check.add("", f"found {len(table)} bars; expected at least {minimum_bars}; use a longer or finer file")
    raise_all(check.problems)

    ts = check.ts.astype(np.int64)
    return Candles(ts, **columns, interval_s=interval_s, source=Path(path).name, sha256=_sha256(content))


def window_returns(candles: Candles, bars: int) -> np.ndarray:
    """Log-returns from the close of each bar to the close `bars` later, NaN where the window has a gap in it.

    Element `i` belongs to the window that starts at the close of bar `i`; there are `candles.bars - bars` of them.
    """
    if not 1 <= bars < candles.bars:
        raise ValueError(f"found a window of {bars} bars; expected 1 to {candles.bars - 1}, one less than the candles")
    log_price = np.log(candles.close)
    breaks = np.concatenate([[0], np.cumsum(~candles._unbroken())])
    returns = log_price[bars:] - log_price[:-bars]
    return np.where(breaks[bars:] == breaks[:-bars], returns, np.nan)


def log_returns(candles: Candles, bars: int) -> np.ndarray:
    """Log-returns over all windows of `bars` bars without a gap; windows overlap."""
    returns = window_returns(candles, bars)
    return returns[np.isfinite(returns)]


def iso_time(milliseconds: float) -> str:
    """Unix milliseconds as ISO 8601 in UTC, to the second: 2021-05-19T12:00:00Z."""
    return f"{np.datetime64(int(milliseconds), 'ms').astype('datetime64[s]')}Z"


@dataclass
class _Check:
    """Collects the problems of one file. `ts` is in milliseconds, NaN where the time could not be read."""

    path: str
    ts: np.ndarray
    names: dict[str, str]
    problems: list[Problem] = field(default_factory=list)

    def add(self, where: str, message: str) -> None:
        self.problems.append(Problem(f"{self.path}: {where}" if where else self.path, message))

    def rows(
        self, wrong: np.ndarray, column: str, found: str, values: Sequence[Any], *, expected: str, todo: str = MEND
    ) -> None:
        """One problem for all rows in which `wrong` is true, placed at the first of them, of which `found` shows the
        values."""
        if wrong.any():
            row = int(np.argmax(wrong))
            count = int(np.count_nonzero(wrong))
            others = f" (the first of {count} such rows)" if count > 1 else ""
            shown = found.format(*(series[row] for series in values))
            place = f"column {self.names[column]}, {self.place(row)}"
            self.add(place, f"found {shown}{others}; expected {expected}; {todo}")

    def place(self, row: int) -> str:
        """Rows are counted as a person does: the first row below the header is row 1."""
        time = self.ts[row]
        return f"row {row + 1}" + (f" ({iso_time(time)})" if np.isfinite(time) else "")


def _read_bytes(path: str | os.PathLike[str]) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        found = error.strerror or type(error).__name__
        message = f"cannot read the file ({found}); expected a CSV or Parquet file of candles; check the path"
        raise UserError([Problem(str(path), message)]) from error


def _parse(content: bytes, path: str | os.PathLike[str]) -> pd.DataFrame:
    """The file's kind is told by its first bytes, not by its name."""
    if not content:
        raise UserError([Problem(str(path), "found an empty file; expected a CSV or Parquet table of candles")])
    try:
        if content[:4] == b"PAR1":
            table = pd.read_parquet(io.BytesIO(content))
            return table.reset_index(drop=table.index.name is None)
        zipped = content[:2] == b"\x1f\x8b"
        with warnings.catch_warnings():
            # Rows longer than the header would otherwise be cut with no more than a warning.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            return pd.read_csv(
                io.BytesIO(content), compression="gzip" if zipped else None, index_col=False, low_memory=False
            )
    except (ValueError, OSError, EOFError, zlib.error, pyarrow.ArrowException, pd.errors.ParserWarning) as error:
        found = " ".join(str(error).split()) or type(error).__name__
        expected = "expected CSV, gzipped CSV or Parquet with the columns ts, open, high, low, close, volume"
        message = f"not a table ({found}); {expected}; check the file"
        raise UserError([Problem(str(path), message)]) from error


def _find_columns(table: pd.DataFrame, path: str | os.PathLike[str]) -> dict[str, str]:
    """The file's own name of each column that we need, whatever its case."""
    own = {str(name).strip().lower(): name for name in reversed(table.columns)}
    found = {name: own[name] for name in (*PRICES, "volume") if name in own}
    time = next((name for name in TIME_NAMES if name in own), None)
    if time is not None:
        found["ts"] = own[time]
    missing = [name for name in ("ts", *PRICES, "volume") if name not in found]
    if missing:
        listed = ", ".join(str(name) for name in table.columns[:12])
        expected = f"expected ts (or {', '.join(TIME_NAMES[1:])}), {', '.join(PRICES)}, volume"
        todo = "name them in the first line of the file"
        raise UserError(
            [Problem(f"{path}: columns", f"missing {', '.join(missing)}; found {listed}; {expected}; {todo}")]
        )
    return found


def _numbers(column: pd.Series) -> np.ndarray:
    """Numbers, NaN where there is none."""
    return pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)


def _milliseconds(column: pd.Series) -> np.ndarray:
    """Unix milliseconds from numbers or dates, NaN where unreadable."""
    numbers = None if pd.api.types.is_datetime64_any_dtype(column) else _numbers(column)
    if numbers is not None and np.isfinite(numbers).any():
        finite = np.where(np.isfinite(numbers), numbers, np.nan)
        size = np.nanmedian(np.abs(finite))
        return np.round(finite / next(unit for limit, unit in UNIX_UNITS_PER_MS if size < limit))
    dates = pd.to_datetime(column, errors="coerce", utc=True, format="ISO8601")
    naive = dates.dt.tz_localize(None).to_numpy().astype("datetime64[ms]")
    return np.where(np.isnat(naive), np.nan, naive.astype(np.int64).astype(np.float64))


def _check_numbers(check: _Check, columns: dict[str, np.ndarray], table: pd.DataFrame) -> None:
    for name, values in columns.items():
        raw = table[check.names[name]].tolist()
        check.rows(~np.isfinite(values), name, "{!r}", [raw], expected="a number in each row")


def _check_prices(check: _Check, columns: dict[str, np.ndarray]) -> None:
    for name in PRICES:
        check.rows(columns[name] <= 0, name, "a price of {:g}", [columns[name]], expected="prices above zero")
    volume, high, low = columns["volume"], columns["high"], columns["low"]
    check.rows(volume < 0, "volume", "a volume of {:g}", [volume], expected="zero or more")
    check.rows(
        high < low, "high", "high {:g} below low {:g}", [high, low], expected="high at or above low", todo=SWAPPED
    )
    for name in ("open", "close"):
        values = columns[name]
        # Re-encoded files round; a relative 1e-9 is no contradiction.
        outside = ((values > high * (1 + 1e-9)) | (values < low * (1 - 1e-9))) & (high >= low) & (values > 0)
        found = "{:g} outside low {:g} to high {:g}"
        check.rows(outside, name, found, [values, low, high], expected="a price within the bar's range", todo=SWAPPED)


def _check_times(check: _Check, table: pd.DataFrame, allow_gaps: bool) -> float:
    """Order, duplicates, gaps and frequency; the length of a bar in seconds."""
    raw = table[check.names["ts"]].astype(str).tolist()
    check.rows(~np.isfinite(check.ts), "ts", "{!r}", [raw], expected="Unix time or an ISO date")
    check.rows(
        (check.ts < EARLIEST_MS) | (check.ts > LATEST_MS),
        "ts",
        "{}",
        [raw],
        expected="a time between 2000 and 2100, as Unix seconds, milliseconds, microseconds or nanoseconds",
        todo="check the column's unit",
    )
    rows = np.flatnonzero(np.isfinite(check.ts))
    ts = check.ts[rows]
    backwards, twice = np.zeros(len(table), bool), np.zeros(len(table), bool)
    backwards[rows[1:]] = np.diff(ts) < 0
    found = "a time earlier than that of the row before"
    check.rows(backwards, "ts", found, [], expected="rising times", todo="sort the file by time")
    times, first_rows, counts = np.unique(ts, return_index=True, return_counts=True)
    twice[rows] = counts[np.searchsorted(times, ts)] > 1
    twice[rows[first_rows]] = False
    todo = "remove the copies, or keep one market if the file holds several"
    check.rows(twice, "ts", "a time that another row has too", [], expected="one row a bar", todo=todo)
    if len(times) < 2:
        return 0.0
    return _check_steps(check, times, rows[first_rows], allow_gaps)


def _check_steps(check: _Check, times: np.ndarray, rows: np.ndarray, allow_gaps: bool) -> float:
    """Gaps are whole missing bars; anything else between two bars is irregular, and a file is allowed few of those."""
    steps = np.diff(times)
    lengths, counts = np.unique(steps, return_counts=True)
    interval = lengths[np.argmax(counts)]
    irregular = steps % interval != 0
    unread = np.cumsum(~np.isfinite(check.ts))[rows]
    missing = (steps > interval) & ~irregular & (np.diff(unread) == 0)  # a row whose time is unreadable is no gap
    column = f"column {check.names['ts']}"
    if np.count_nonzero(irregular) > max(2, 0.01 * len(steps)):
        found = f"found steps of {_duration(lengths[0])} to {_duration(lengths[-1])} between bars"
        most = f"most often {_duration(interval)}, and {np.count_nonzero(irregular)} that are no multiple of it"
        first = check.place(int(rows[np.argmax(irregular)]))
        todo = "resample the file to one frequency"
        check.add(f"{column}, {first}", f"{found}, {most}; expected one regular frequency; {todo}")
        return interval / 1000
    if allow_gaps:
        return interval / 1000
    todo = "fill in the file, or pass --allow-gaps to leave out the returns across gaps"
    if missing.any():
        bars = int(np.sum(steps[missing] / interval - 1))
        count = int(np.count_nonzero(missing))
        row = int(np.argmax(missing))
        found = (
            f"found {count} gaps with {bars} missing bars in all; here the next bar comes {_duration(steps[row])} later"
        )
        expected = f"expected one every {_duration(interval)}"
        check.add(f"{column}, {check.place(int(rows[row]))}", f"{found}; {expected}; {todo}")
    if irregular.any():
        row = int(np.argmax(irregular))
        found = (
            f"found {np.count_nonzero(irregular)} steps that are no whole number of bars, here {_duration(steps[row])}"
        )
        expected = f"expected one bar every {_duration(interval)}"
        check.add(f"{column}, {check.place(int(rows[row]))}", f"{found}; {expected}; {todo}")
    return interval / 1000


def _duration(milliseconds: float) -> str:
    seconds = milliseconds / 1000
    for length, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= length and (seconds / length) == round(seconds / length, 2):
            return f"{seconds / length:g} {unit}"
    return f"{seconds:g} s"


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
