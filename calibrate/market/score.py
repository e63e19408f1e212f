"""How good a fitted model's forecasts are on data that it has not seen: the whole law of the next hour, four hours and day.

From each date on, the engine simulates 999 returns from the state in which the model stands at that close. The score is the
continuous ranked probability score (Gneiting and Raftery 2007), in the version that does not depend on the number of members
(Ferro 2014). It hardly looks at tails, so these are counted: among 999 members and the return itself, each rank is as likely as
any other where the model is right, so the return is the lowest with a probability of exactly 0.1 %, and among the lowest ten
with 1 %.

All models face the same random numbers and dates. Errors come from means over weeks, within which scores depend on each other.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from calibrate.data.candles import Candles, window_returns
from calibrate.market.files import ModelFile
from calibrate.market.fits.estimate import Known
from calibrate.market.simulated import Start, simulated_closes
from calibrate.shocks import derived_seed

HORIZONS_HOURS = (1, 4, 24)
MEMBERS = 999
MOST_DATES = 5000
DATES_AT_ONCE = 128
WEEK_S = 7 * 86_400


class Forecasts(NamedTuple):
    """Scores over one horizon, one for each date: the ranked probability score (log-return), how many of the members lie below
    the return, the week. A return overlaps those of `overlap` dates, itself included."""

    hours: float
    score: np.ndarray
    below: np.ndarray
    week: np.ndarray
    overlap: float


class Dates(NamedTuple):
    """The closes that forecasts start from, by the number of the bar, and the return that followed each."""

    bars: int
    at: np.ndarray
    returns: np.ndarray
    stride: int


def forecast(model: ModelFile, known: Known | None, candles: Candles, first: int, *, seed: int) -> list[Forecasts]:
    """Forecasts from the close of bar `first` on, over each horizon of at least a bar."""
    found = []
    for number, hours in enumerate(HORIZONS_HOURS):
        if hours * 3600 >= candles.interval_s:
            dates = _dates(candles, first, hours)
            scored = [
                _scored(*pair) for pair in _members(model, known, candles, dates, derived_seed(seed, "score", number))
            ]
            score, below = (np.concatenate(parts) for parts in zip(*scored, strict=True))
            week = (candles.ts[dates.at] - candles.ts[first]) // (1000 * WEEK_S)
            found.append(Forecasts(hours, score, below, week, max(1.0, dates.bars / dates.stride)))
    return found


def _dates(candles: Candles, first: int, hours: float) -> Dates:
    """Six dates to a horizon at most, and so many that the work stays bounded."""
    bars = round(hours * 3600 / candles.interval_s)
    returns = window_returns(candles, bars)
    stride = max(1, bars // 6, (len(returns) - first) // MOST_DATES)
    at = np.arange(first, len(returns), stride)
    at = at[np.isfinite(returns[at])]
    return Dates(bars, at, returns[at], stride)


def _members(
    model: ModelFile, known: Known | None, candles: Candles, dates: Dates, seed: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Simulated returns, one row a date, and what happened, for some dates at a time."""
    rng = np.random.default_rng([seed, 1])
    for begin in range(0, len(dates.at), DATES_AT_ONCE):
        part = dates.at[begin : begin + DATES_AT_ONCE]
        # The last part is filled up, so that one compiled program serves all.
        filled = np.resize(part, DATES_AT_ONCE)
        start = _start(model, known, np.repeat(filled, MEMBERS), rng)
        closes = simulated_closes(
            model,
            start,
            paths=len(filled) * MEMBERS,
            bars=dates.bars,
            bar_s=candles.interval_s,
            seed=seed,
            first_path=begin * MEMBERS,
        )
        members = closes[-1].astype(np.float64).reshape(len(filled), MEMBERS)
        yield members[: len(part)], dates.returns[begin : begin + len(part)]


def _start(model: ModelFile, known: Known | None, at: np.ndarray, rng: np.random.Generator) -> Start | None:
    """Where paths start: from what the model knew at that close, or from its long-run law if it knows nothing."""
    if known is None:
        return None
    surprise = known.spread[at] * rng.standard_normal(len(at))
    crash = None if known.crash is None else known.crash[at]
    fast = None
    if known.fast is not None:
        mean, slope, spread = (values[at] for values in known.fast)
        fast = mean + slope * surprise + spread * rng.standard_normal(len(at))
    excitement = None if known.excitement is None else known.excitement[at]
    volatility = model.parameters["volatility"] * np.exp(known.log_level[at] + surprise)
    return Start(volatility, crash, fast, excitement)


def _scored(members: np.ndarray, happened: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return ranked_probability_score(members, happened), (members < happened[:, None]).sum(axis=1)


def ranked_probability_score(members: np.ndarray, happened: np.ndarray) -> np.ndarray:
    """For each row of members: mean distance to what happened, less half the mean distance between two members."""
    number = members.shape[1]
    weights = 2 * np.arange(1, number + 1) - number - 1
    apart = np.sort(members, axis=1) @ weights / (number * (number - 1))
    return np.abs(members - happened[:, None]).mean(axis=1) - apart
