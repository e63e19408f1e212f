"""Quotes of what it costs to sell at once: sizes and the price impact of each, as aggregators publish them.

A table has one row a quote with its size and its impact (a fraction of the price), and may hold many pairs. Sizes are in USD,
or in units of what is sold with a price; prices count as dollars where the pair is quoted in a dollar token. Quotes that were
taken together form a batch: the cheapest of them is what the others are measured against.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from calibrate.data.table import Checked, read_table, span
from calibrate.errors import Problem, UserError

IMPACT = ("price_impact", "impact", "slippage")
USD_SIZE = ("size_usd", "amount_usd", "notional_usd")
SIZE = ("in_units", "size", "amount", "quantity")
PRICE = ("unit_price", "price")
TIME = ("timestamp", "time", "ts", "datetime", "date")
SOURCE, TARGET = ("src_sym", "sell", "from", "base"), ("dst_sym", "buy", "to", "quote")
DOLLARS = ("USD", "USDC", "USDT", "DAI", "TUSD", "USDP", "BUSD", "FDUSD", "PYUSD")
BATCH_GAP_S = 600.0  # a longer pause starts a new batch
FEWEST_QUOTES = 30


class Quotes(NamedTuple):
    """Quotes of one pair: size in USD, impact as a fraction of the price, number of the batch."""

    size_usd: np.ndarray
    impact: np.ndarray
    batch: np.ndarray
    pair: str
    window: tuple[str, str] | None
    source: str
    sha256: str
    notes: tuple[str, ...]


def read_quotes(path: Path, *, pair: str | None = None, usd_price: float | None = None) -> Quotes:
    """Read and check the quotes of one pair (`WETH/USDC`: WETH is sold). `usd_price` is what a unit that is sold costs, where
    the table does not say so in dollars."""
    table = read_table(
        path, "quotes of size and price impact", (*IMPACT, *USD_SIZE, *SIZE, *PRICE, *TIME, *SOURCE, *TARGET, "pair")
    )
    table.require("the impact of each quote", IMPACT)
    table.require("the size of each quote", (*USD_SIZE, *SIZE))
    table.done()
    chosen, name = _of_pair(table, pair)
    impact = table.numbers(*IMPACT, low=0.0, above=False, expected="an impact of at least 0, as a fraction")
    table.wrong(
        chosen & (impact >= 1), table.name_of(*IMPACT), table.text(*IMPACT), "a fraction below 1 (is it in per cent?)"
    )
    size = _usd_sizes(table, name, usd_price)
    seconds = table.seconds(*TIME) if table.has(*TIME) else None
    if chosen.sum() < FEWEST_QUOTES:
        table.add("", f"found {int(chosen.sum())} quotes of {name}; expected at least {FEWEST_QUOTES}")
    table.done()
    size, impact = size[chosen], impact[chosen]
    notes = []
    if seconds is None:
        return Quotes(
            size, impact, np.arange(len(size)), name, None, path.name, table.sha256, ("quotes have no times",)
        )
    seconds = seconds[chosen]
    order = np.argsort(seconds, kind="stable")
    batch = np.cumsum(np.diff(seconds[order], prepend=seconds[order[0]]) > BATCH_GAP_S)
    copies = len(size) - len({*zip(seconds, size, impact, strict=True)})
    if copies:
        notes.append(f"{copies} quotes stand in the table twice")
    return Quotes(size[order], impact[order], batch, name, span(seconds), path.name, table.sha256, tuple(notes))


def _of_pair(table: Checked, pair: str | None) -> tuple[np.ndarray, str]:
    """The rows of the pair, and its name."""
    if table.has("pair"):
        pairs = table.text("pair")
    elif table.has(*SOURCE) and table.has(*TARGET):
        pairs = np.char.add(np.char.add(table.text(*SOURCE), "/"), table.text(*TARGET))
    else:
        return np.ones(table.rows, bool), pair or "one market"
    names, counts = np.unique(pairs, return_counts=True)
    if pair is None and len(names) == 1:
        pair = str(names[0])
    chosen = pairs == pair
    if pair is None or not chosen.any():
        listed = ", ".join(str(names[i]) for i in np.argsort(-counts, kind="stable")[:60])
        found = f"found {len(names)} pairs" if pair is None else f"found no quotes of {pair!r}"
        raise UserError(
            [Problem(str(table.path), f"{found}; choose one with --pair (what is sold comes first): {listed}")]
        )
    return chosen, pair


def _usd_sizes(table: Checked, pair: str, usd_price: float | None) -> np.ndarray:
    positive = {"low": 0.0, "expected": "a size above 0"}
    if table.has(*USD_SIZE):
        return table.numbers(*USD_SIZE, **positive)  # type: ignore[arg-type]
    size = table.numbers(*SIZE, **positive)  # type: ignore[arg-type]
    if usd_price is not None:
        return size * usd_price
    sold, _, bought = pair.partition("/")
    if sold.upper() in DOLLARS:
        return size
    if bought.upper() in DOLLARS and table.has(*PRICE):
        # Impact is in this price; a quote's size is what it would be worth without it.
        price = table.numbers(*PRICE, low=0.0, expected="a price above 0")
        return size * price / (1 - np.clip(table.numbers(*IMPACT), 0.0, 0.999_999))
    table.add("", f"sizes of {pair} are not in USD; give the price of a unit sold with --usd-price")
    return size
