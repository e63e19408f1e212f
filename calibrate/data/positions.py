"""Tables of real positions: who holds what against which collateral.

A table has one row per position with the columns `side` (long or short), `notional_usd` and `collateral_usd`. Each side
becomes a cohort whose distribution of collateral ratios is the table's own, weighted by notional.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from calibrate.book import Cohort
from calibrate.errors import Problem, UserError, raise_all

_COLUMNS = ("side", "notional_usd", "collateral_usd")
_SIDES = {"long": 1, "short": -1}


class Positions(NamedTuple):
    """Signed side, notional and collateral (USD) of every position."""

    side: np.ndarray
    notional_usd: np.ndarray
    collateral_usd: np.ndarray

    @property
    def open_interest_usd(self) -> float:
        return float(self.notional_usd.sum())

    def cohorts(self) -> list[Cohort]:
        parts = []
        for sign in (1, -1):
            held = self.side == sign
            if held.any():
                notional, collateral = self.notional_usd[held], self.collateral_usd[held]
                parts.append(Cohort(sign, float(notional.sum()), _Quantile(collateral / notional, notional)))
        return parts


class _Quantile:
    """Collateral ratio at a share of notional, read off the table: each position's middle carries its ratio."""

    def __init__(self, ratio: np.ndarray, notional: np.ndarray):
        order = np.argsort(ratio, kind="stable")
        weight = notional[order] / notional.sum()
        self._ratio, self._share = ratio[order], np.cumsum(weight) - weight / 2

    def __call__(self, share: np.ndarray) -> np.ndarray:
        return np.interp(share, self._share, self._ratio)


def read_positions(path: Path) -> Positions:
    """Read and check a table of positions; every problem is reported with its row (the header is row 1 of a CSV file)."""
    table = _read_table(path)
    table.columns = [str(column).strip().lower() for column in table.columns]
    counts = {column: list(table.columns).count(column) for column in _COLUMNS}
    raise_all([_miscounted(path, column, count) for column, count in counts.items() if count != 1])
    if table.empty:
        raise UserError([Problem(str(path), "has no rows; expected one position a row")])
    side = table["side"].astype("string").str.strip().str.lower().map(_SIDES)
    # Columns that allow for missing values compare to neither true nor false; plain floats have NaN.
    notional, collateral = (
        pd.to_numeric(table[column], errors="coerce").to_numpy(float, na_value=np.nan) for column in _COLUMNS[1:]
    )
    checks = [
        ("side", side.isna().to_numpy(bool), 'expected "long" or "short"'),
        ("notional_usd", ~(notional > 0) | np.isinf(notional), "expected a number above 0"),
        ("collateral_usd", ~(collateral > 0) | np.isinf(collateral), "expected a number above 0"),
    ]
    raise_all([_first(path, table, column, wrong, expected) for column, wrong, expected in checks if wrong.any()])
    return Positions(side.to_numpy(int), notional, collateral)


def _read_table(path: Path) -> pd.DataFrame:
    """The table, indexed by the numbers of its rows in the file."""
    try:
        if path.suffix.lower() in (".parquet", ".pq"):
            table = pd.read_parquet(path).reset_index(drop=True)
            table.index += 1
            return table
        table = pd.read_csv(path, skip_blank_lines=False)
    except OSError as error:
        raise UserError(
            [Problem(str(path), f"cannot be read ({error.strerror or error}); give a CSV or Parquet file")]
        ) from None
    except ValueError as error:  # covers the parsers' own errors, which derive from it
        reason = str(error).splitlines()[0] if str(error) else "no columns"
        raise UserError([Problem(str(path), f"is not a table ({reason}); expected CSV or Parquet")]) from None
    if not isinstance(table.index, pd.RangeIndex):
        raise UserError([Problem(str(path), "has rows with more fields than the header; expected a name for each")])
    table.index += 2
    return table.dropna(how="all")


def _miscounted(path: Path, column: str, count: int) -> Problem:
    found = f"{count} columns of this name" if count else "column is missing"
    return Problem(f"{path}: {column}", f"{found}; expected one each of {', '.join(_COLUMNS)}")


def _first(path: Path, table: pd.DataFrame, column: str, wrong: np.ndarray, expected: str) -> Problem:
    place = int(np.argmax(wrong))
    found = table[column].iloc[place]
    more = f" ({int(wrong.sum()):,} rows are like this)" if wrong.sum() > 1 else ""
    return Problem(f"{path}: {column}, row {table.index[place]}", f"found {found}; {expected}{more}")
