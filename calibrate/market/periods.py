"""Periods of a history that a fit is made of, such as crashes: candles of these alone, with a gap between one and the next.

A period is written FROM..TO, dates in ISO 8601 (UTC unless they say otherwise), and holds the bars that open at or after FROM and
close by TO.
"""

import datetime
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from calibrate.data.candles import Candles
from calibrate.data.times import iso_time
from calibrate.errors import Problem, UserError, raise_all


class Period(NamedTuple):
    """From and to in Unix milliseconds, and how both were written."""

    from_ms: int
    to_ms: int
    text: str


def period_of(text: str) -> Period:
    """The period that a text like 2020-03-07..2020-04-06 means."""
    try:
        first, end = (time_ms(part) for part in text.split(".."))
    except ValueError:
        raise UserError(
            [Problem("--window", f"found {text!r}; expected two dates such as 2020-03-07..2020-04-06")]
        ) from None
    if first >= end:
        raise UserError([Problem("--window", f"found {text!r}, which ends before it begins; swap the dates")])
    return Period(first, end, text)


def time_ms(text: str) -> int:
    """Unix milliseconds of a date."""
    time = datetime.datetime.fromisoformat(text.strip())
    return round((time if time.tzinfo else time.replace(tzinfo=datetime.UTC)).timestamp() * 1000)


def within(candles: Candles, periods: Sequence[Period]) -> Candles:
    """The bars of some periods, in the order of time."""
    ordered = sorted(periods)
    problems = [
        Problem("--window", f"{one.text} and {other.text} overlap; make them one")
        for one, other in pairwise(ordered)
        if other.from_ms < one.to_ms
    ]
    end_ms = candles.ts + round(candles.interval_s * 1000)
    inside = [(candles.ts >= period.from_ms) & (end_ms <= period.to_ms) for period in ordered]
    whole = f"{candles.source} has bars from {candles.first} to {iso_time(candles.ts[-1])}"
    problems += [
        Problem("--window", f"{period.text} holds no bars; {whole}")
        for period, bars in zip(ordered, inside, strict=True)
        if not bars.any()
    ]
    raise_all(problems)
    kept = np.any(inside, axis=0)
    columns = ("ts", "open", "high", "low", "close", "volume")
    return replace(candles, **{name: getattr(candles, name)[kept] for name in columns})
