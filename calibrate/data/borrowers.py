"""Tables of borrowers of a lending market: what each has put up, what it owes, and at which ratio it is liquidated.

A borrower with collateral worth 1 against debt `l` is a long with `c = 1 - l` of its own, and is liquidatable when that falls
below `1 - threshold`: its maintenance requirement. `Holdings` is what borrowers and tables of positions have in common.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from calibrate.data.positions import read_positions
from calibrate.data.table import Checked, read_table
from calibrate.run_folder import sha256

COLLATERAL = ("collateral", "collateral_usd", "collateral_eth")
DEBT = ("debt", "debt_usd", "borrowed", "debt_eth")
THRESHOLD = ("threshold", "liquidation_threshold", "lt", "threshold_bps", "lltv")
HEALTH = ("healthf", "health_factor", "hf", "health")
OWNER = ("user", "account", "address", "borrower", "owner")
BPS_PER_UNIT = 1e4


class Holdings(NamedTuple):
    """Accounts by row: side (+1 long, -1 short), notional in USD, collateral and maintenance requirement as fractions of it."""

    side: np.ndarray
    notional_usd: np.ndarray
    collateral: np.ndarray
    maintenance: np.ndarray
    source: str
    sha256: str
    notes: tuple[str, ...]


def read_borrowers(path: Path, *, unit_usd: float = 1.0) -> Holdings:
    """Read and check borrowers; `unit_usd` is the worth of the unit in which collateral and debt stand. A table that holds a
    health factor is checked against it, which shows collateral and debt in different units."""
    table = read_table(path, "borrowers", (*COLLATERAL, *DEBT, *THRESHOLD, *HEALTH, *OWNER))
    for what, names in (
        ("what is put up", COLLATERAL),
        ("what is owed", DEBT),
        ("the liquidation threshold", THRESHOLD),
    ):
        table.require(what, names)
    table.done()
    collateral = table.numbers(*COLLATERAL, low=0.0, expected="an amount above 0")
    debt = table.numbers(*DEBT, low=0.0, above=False, expected="an amount of at least 0")
    threshold = table.numbers(*THRESHOLD, low=0.0, expected="a threshold above 0, in bps or as a fraction")
    if np.nanmedian(threshold) > 1:
        threshold = threshold / BPS_PER_UNIT
    expected = "a threshold below 1, or below 10,000 bps throughout"
    table.wrong(threshold >= 1, table.name_of(*THRESHOLD), table.text(*THRESHOLD), expected)
    _check_owners(table)
    table.done()
    _check_health(table, collateral * threshold / np.where(debt > 0, debt, np.nan))
    table.done()
    owes = debt > 0
    notes = [f"{int((~owes).sum())} rows without debt are left out"] if not owes.all() else []
    own = 1 - debt[owes] / collateral[owes]
    notional, maintenance = unit_usd * collateral[owes], 1 - threshold[owes]
    return Holdings(np.ones(len(own)), notional, own, maintenance, path.name, table.sha256, tuple(notes))


def read_holdings(path: Path, *, maintenance_bps: float) -> Holdings:
    """Positions of a perpetual (side, notional_usd, collateral_usd) under one maintenance requirement."""
    positions = read_positions(path)
    ratio = positions.collateral_usd / positions.notional_usd
    maintenance = np.full(len(ratio), maintenance_bps / BPS_PER_UNIT)
    return Holdings(positions.side, positions.notional_usd, ratio, maintenance, path.name, sha256(path), ())


def _check_owners(table: Checked) -> None:
    if table.has(*OWNER):
        owners = table.text(*OWNER)
        again = np.ones(len(owners), bool)
        again[np.unique(owners, return_index=True)[1]] = False
        table.wrong(again & (owners != ""), table.name_of(*OWNER), owners, "each borrower once")


def _check_health(table: Checked, health: np.ndarray) -> None:
    """The health factor that a table states is collateral times threshold over debt."""
    if not table.has(*HEALTH):
        return
    stated = table.numbers(*HEALTH, low=0.0, expected="a health factor above 0")
    with np.errstate(invalid="ignore"):
        off = np.abs(stated / health - 1) > 0.02
    shown = [f"{s:.4g} where collateral x threshold / debt is {h:.4g}" for s, h in zip(stated, health, strict=True)]
    table.wrong(off, table.name_of(*HEALTH), shown, "the two to agree (are collateral and debt in one unit?)")
