"""OHLCV candles from a file: read, checked, ready for fitting and replay.

`read_candles` takes CSV (also packed) or Parquet at any regular frequency and either returns `Candles` or raises one
`UserError` that lists everything wrong with the file at once, each with the first row it concerns (`findings.py`). A
candle's time is the open of its bar; its close is the price at the bar's end. Where bars are missing, the returns across
the hole are left out (`window_returns`), never filled: a filled bar would be a calm hour that nobody saw.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from calibrate.data.candle_columns import NAMES
from calibrate.data.findings import find_errors
from calibrate.data.raw_candles import read_raw
from calibrate.data.times import iso_time
from calibrate.errors import Problem, raise_all

MINIMUM_BARS_FOR_FIT = 1000


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

    def part(self, first: int, end: int) -> "Candles":
        """The bars with numbers `first` to `end` - 1."""
        columns = ("ts", "open", "high", "low", "close", "volume")
        return replace(self, **{name: getattr(self, name)[first:end] for name in columns})

    def _unbroken(self) -> np.ndarray:
        return np.diff(self.ts) == round(self.interval_s * 1000)


def read_candles(
    path: str | os.PathLike[str],
    *,
    allow_gaps: bool = False,
    minimum_bars: int = 2,
    where: Mapping[str, str] | None = None,
) -> Candles:
    """Read candles from a CSV or Parquet file with the columns ts, open, high, low, close, volume.

    CSV may be packed, and written in any dialect and under any of the names that exchanges and vendors use; times may be
    Unix seconds, milliseconds, microseconds or nanoseconds, or ISO dates (UTC unless they say otherwise); the newest bar
    may stand first. Missing bars are an error unless `allow_gaps`. For a fit ask for `minimum_bars=MINIMUM_BARS_FOR_FIT`. With
    `where`, only rows count whose columns hold these texts.
    """
    raw = read_raw(path, where=where)
    findings = find_errors(raw, allow_gaps=allow_gaps)
    problems = [finding.problem(str(path)) for finding in findings.found]
    if raw.rows < minimum_bars:
        found = f"found {raw.rows} bars; expected at least {minimum_bars}; use a longer or finer file"
        problems.append(Problem(str(path), found))
    raise_all(problems)

    columns = {name: raw.columns[name][:: -1 if raw.newest_first() else 1] for name in NAMES}
    columns["ts"] = columns["ts"].astype(np.int64)
    interval_s = findings.interval_ms / 1000
    return Candles(**columns, interval_s=interval_s, source=raw.file.path.name, sha256=raw.file.sha256)


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
