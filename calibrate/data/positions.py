"""Tables of real positions: who holds what against which collateral.

A table has one row per position with the columns `side` (long or short), `notional_usd` and `collateral_usd`. Each side
becomes a cohort whose distribution of collateral ratios is the table's own, weighted by notional. It is read as all tables are
(`table.py`): CSV in any dialect, packed or not, or Parquet.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from calibrate.book import Cohort
from calibrate.data.table import read_table

_SIDE, _NOTIONAL, _COLLATERAL = "side", "notional_usd", "collateral_usd"
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
    """Read and check a table of positions (USD); everything that is wrong with it is told at once, each with its row."""
    table = read_table(path, "positions", (_SIDE, _NOTIONAL, _COLLATERAL))
    table.require('the side ("long" or "short")', (_SIDE,))
    table.require("the notional in USD", (_NOTIONAL,))
    table.require("the collateral in USD", (_COLLATERAL,))
    table.done()
    shown = table.text(_SIDE)
    side = np.array([_SIDES.get(text.lower(), 0) for text in shown])
    table.wrong(side == 0, table.name_of(_SIDE), shown, '"long" or "short"')
    notional, collateral = (
        table.numbers(name, low=0.0, expected="a number above 0") for name in (_NOTIONAL, _COLLATERAL)
    )
    table.done()
    return Positions(side, notional, collateral)
