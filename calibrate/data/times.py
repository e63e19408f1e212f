"""Times in tables: Unix time in any unit, dates with and without a zone, and how both are shown.

Files differ in the unit of Unix time, and some change it half way. The four units cannot be mistaken for each other
between 1973 and 5138, so each value is read by itself. A date without a zone is taken as UTC.
"""

import re

import numpy as np
import pandas as pd

EARLIEST_MS = 946_684_800_000  # 2000-01-01: an older bar means that the time column is in another unit
LATEST_MS = 4_102_444_800_000  # 2100-01-01
# Below which size a number counts what, and how many of these make a millisecond.
UNIX_UNITS_PER_MS = ((1e11, 1e-3), (1e14, 1.0), (1e17, 1e3), (np.inf, 1e6))
UNIX_UNITS = ("seconds", "milliseconds", "microseconds", "nanoseconds")
# Besides ISO 8601: hours of the clock face with nothing between, as CryptoDataDownload once wrote them.
_OTHER_FORMATS = ("%Y-%m-%d %I-%p", "%Y-%m-%d %I:%M:%S %p")
_ZONE = re.compile(r"(?:Z|UTC|GMT|:\d{2}[+-]\d{2}:?\d{2})$")


def unix_ms(column: pd.Series, *, one_unit: bool = False) -> tuple[np.ndarray, set[str]]:
    """Unix milliseconds, NaN where unreadable, and how the times were written: some of `UNIX_UNITS`, "dates" without a
    zone, "zoned dates". With `one_unit` all numbers are taken to be in that of the median."""
    numbers = None if pd.api.types.is_datetime64_any_dtype(column) else numbers_of(column)
    if numbers is None or not np.isfinite(numbers).any():
        return _from_dates(column)
    finite = np.where(np.isfinite(numbers), numbers, np.nan)
    limits, per_ms = np.array(UNIX_UNITS_PER_MS).T
    size = np.full_like(finite, np.nanmedian(np.abs(finite))) if one_unit else np.abs(finite)
    unit = np.minimum(np.searchsorted(limits, size), len(limits) - 1)  # NaN is put last
    used = {UNIX_UNITS[place] for place in np.unique(unit[np.isfinite(finite)])}
    return np.round(finite / per_ms[unit]), used


def from_zone(ts: np.ndarray, zone: str) -> np.ndarray:
    """Unix milliseconds of times that were read as UTC although they are those of a local clock; NaN where that clock
    skips an hour. Of an hour that comes twice, the first in time order is in summer time."""
    falling = np.nanmedian(np.sign(np.diff(ts))) < 0 if len(ts) > 1 else False
    local = pd.DatetimeIndex(pd.to_datetime(pd.Series(ts), unit="ms"))
    again = pd.Series(ts).duplicated(keep="last" if falling else "first").to_numpy()
    moved = local.tz_localize(zone, ambiguous=~again, nonexistent="NaT").tz_convert("UTC").tz_localize(None)
    milliseconds = moved.to_numpy().astype("datetime64[ms]")
    return np.where(np.isnat(milliseconds), np.nan, milliseconds.astype(np.int64).astype(np.float64))


def numbers_of(column: pd.Series) -> np.ndarray:
    """Numbers, NaN where there is none."""
    return pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)


def is_date(text: str) -> bool:
    """Whether a field of a text file could be a date."""
    return bool(re.match(r"\d{4}[-/]\d{2}[-/]\d{2}", text))


def iso_time(milliseconds: float) -> str:
    """Unix milliseconds as ISO 8601 in UTC, to the second: 2021-05-19T12:00:00Z."""
    return f"{np.datetime64(int(milliseconds), 'ms').astype('datetime64[s]')}Z"


def duration(milliseconds: float) -> str:
    """A length of time in the largest unit that it is a round number of: 90 min, 6 h."""
    seconds = milliseconds / 1000
    for length, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= length and (seconds / length) == round(seconds / length, 2):
            return f"{seconds / length:g} {unit}"
    return f"{seconds:g} s"


def _from_dates(column: pd.Series) -> tuple[np.ndarray, set[str]]:
    zoned = isinstance(column.dtype, pd.DatetimeTZDtype)
    if not zoned and not pd.api.types.is_datetime64_any_dtype(column):
        zoned = bool(column.dropna().head(100).astype("string").str.strip().str.contains(_ZONE).any())
    dates = _dates(column, "ISO8601")
    if dates.isna().any() and not pd.api.types.is_datetime64_any_dtype(column):
        plain = column.astype("string").str.strip().str.replace(r"\s*(?:UTC|GMT)$", "Z", regex=True)
        for form in ("ISO8601", *_OTHER_FORMATS):
            dates = dates.fillna(_dates(plain, form))
    naive = dates.dt.tz_localize(None).to_numpy().astype("datetime64[ms]")
    milliseconds = np.where(np.isnat(naive), np.nan, naive.astype(np.int64).astype(np.float64))
    return milliseconds, {"zoned dates" if zoned else "dates"} if dates.notna().any() else set()


def _dates(column: pd.Series, form: str) -> pd.Series:
    return pd.to_datetime(column, errors="coerce", utc=True, format=form)
