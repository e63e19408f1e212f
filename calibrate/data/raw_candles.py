"""A candle file as it stands: every row in the order of the file, times and prices as numbers, nothing judged yet.

`read_raw` reads in pieces and keeps 48 bytes a row, whatever else the file holds, so that ten million rows fit. Rows can
be chosen by the values of other columns, for tables that hold several markets.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from calibrate.data.candle_columns import NAMES, find_columns
from calibrate.data.table_file import TableFile, open_table
from calibrate.data.times import EARLIEST_MS, LATEST_MS, numbers_of, unix_ms
from calibrate.errors import Problem, UserError

EMPTY = "nothing (an empty field, or a word for one such as n/a)"
EXPECTED = "a CSV or Parquet file of candles with the columns ts, open, high, low, close, volume"


@dataclass
class RawCandles:
    """Columns of a candle file in the order of its rows: `ts` in Unix milliseconds, prices, volume, NaN where a value
    could not be read. `names` are the file's own, `times` says how its times are written, `unreadable` holds the first
    unreadable value of a column as text, and `strange_time` the first time outside 2000 to 2100."""

    file: TableFile
    names: dict[str, str]
    columns: dict[str, np.ndarray]
    times: set[str] = field(default_factory=set)
    unreadable: dict[str, str] = field(default_factory=dict)
    strange_time: str = ""

    @property
    def ts(self) -> np.ndarray:
        return self.columns["ts"]

    @property
    def rows(self) -> int:
        return len(self.ts)

    def newest_first(self) -> bool:
        """Whether times fall from row to row throughout, as some vendors write them."""
        steps = np.diff(self.ts[np.isfinite(self.ts)])
        return bool(len(steps) and (steps <= 0).all() and (steps < 0).any())


def read_raw(
    path: str | os.PathLike[str],
    *,
    where: Mapping[str, str] | None = None,
    on_rows: Callable[[int], None] | None = None,
) -> RawCandles:
    """Read a candle file; with `where`, only rows whose columns hold these texts. `on_rows` hears of rows read."""
    file = open_table(path, expected=EXPECTED)
    names, called = find_columns(file)
    chosen = _choosing(file, where or {})
    raw = RawCandles(file, names, {})
    pieces: dict[str, list[np.ndarray]] = {name: [] for name in NAMES}
    for table in file.pieces(list(dict.fromkeys([*called, *chosen]))):
        for column, value in chosen.items():
            table = table[table[column].astype("string").str.strip() == value]
        for name, values in _numbers(raw, table).items():
            pieces[name].append(values)
        if on_rows:
            on_rows(len(table))
    for name in NAMES:
        raw.columns[name] = np.concatenate(pieces.pop(name) or [np.empty(0)])
    if not raw.rows:
        found = (
            f"no rows with {', '.join(f'{key}={value}' for key, value in chosen.items())}"
            if chosen
            else "a header but no rows"
        )
        raise UserError([Problem(str(path), f"found {found}; expected one row a bar")])
    return raw


def _choosing(file: TableFile, where: Mapping[str, str]) -> dict[str, str]:
    own = {name.lower(): name for name in file.columns}
    unknown = [name for name in where if name.lower() not in own]
    if unknown:
        listed = ", ".join(file.columns) or "columns without names"
        raise UserError([Problem(f"{file.path}: columns", f"there is no {', '.join(unknown)}; found {listed}")])
    return {own[name.lower()]: value for name, value in where.items()}


def _numbers(raw: RawCandles, table: pd.DataFrame) -> dict[str, np.ndarray]:
    """The columns of a piece as numbers; what cannot be read is remembered as it stands."""
    ts, times = unix_ms(table[raw.names["ts"]])
    raw.times |= times
    values = {"ts": ts} | {name: numbers_of(table[raw.names[name]]) for name in NAMES[1:]}
    for name, numbers in values.items():
        wrong = ~np.isfinite(numbers)
        if wrong.any() and name not in raw.unreadable:
            found = table[raw.names[name]].iloc[int(np.argmax(wrong))]
            raw.unreadable[name] = EMPTY if pd.isna(found) else repr(str(found) if name == "ts" else _plain(found))
    strange = (ts < EARLIEST_MS) | (ts > LATEST_MS)
    if strange.any() and not raw.strange_time:
        raw.strange_time = str(table[raw.names["ts"]].iloc[int(np.argmax(strange))])
    return values


def _plain(value: object) -> object:
    return value.item() if isinstance(value, np.generic) else value
