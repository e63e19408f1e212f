"""What a candle says of the path inside it, and what of volatility: plain arrays, before anything is simulated.

Inside a bar prices are taken for a Brownian motion of which open, high, low and close are known. Which of high and low came first
then has a probability in closed form: a path that goes to the high first, then down to the low and on to the close, crosses
intervals that it may not leave, whose laws of passage are known by their Laplace transforms (Borodin and Salminen 2002, part II,
section 1.3). With R = high - low and lambda the root of twice the transform's variable it is in proportion to

    lambda sinh(lambda (open - low)) sinh(lambda (high - close)) / sinh(lambda R)^3

and the other way round, by reflection, with high - open and close - low. The inverse is a series that converges within a few
terms, as the range of a bar is never small against its standard deviation.
"""

from typing import NamedTuple

import numpy as np
from scipy.signal import lfilter

from calibrate.data.candles import Candles
from calibrate.units import SECONDS_PER_YEAR

# Bars are forgotten by the running estimate of volatility with this time constant.
MEMORY_HOURS = 4.0
# The running estimate is never below this share of usual volatility: flat bars are bars without trades, and no deep market.
LEAST_LEVEL = 0.1
_TERMS = 12


class Bars(NamedTuple):
    """Bars of a window, one value a bar: logarithms of prices relative to the first open; the probability that the high came before
    the low; the variance of a bar's own returns (not annual)."""

    open: np.ndarray
    high: np.ndarray
    low: np.ndarray
    close: np.ndarray
    high_first: np.ndarray
    variance: np.ndarray


def bars_of(candles: Candles) -> Bars:
    """The bars of a history that is to be replayed as a whole."""
    prices = [np.log(np.asarray(p) / candles.open[0]) for p in (candles.open, candles.high, candles.low, candles.close)]
    opened, high, low, close = prices
    # Files round prices by column: the range holds open and close.
    high, low = np.maximum.reduce([opened, high, close]), np.minimum.reduce([opened, low, close])
    variance = range_variance(opened, high, low, close)
    return Bars(opened, high, low, close, probability_high_first(opened, high, low, close, variance), variance)


def range_variance(opened: np.ndarray, high: np.ndarray, low: np.ndarray, close: np.ndarray) -> np.ndarray:
    """Variance of the log-return of each bar, from its range and its return (Garman and Klass 1980, their practical estimator);
    prices in logarithms. It is zero only for a flat bar."""
    return 0.5 * (high - low) ** 2 - (2 * np.log(2) - 1) * (close - opened) ** 2


def probability_high_first(
    opened: np.ndarray, high: np.ndarray, low: np.ndarray, close: np.ndarray, variance: np.ndarray
) -> np.ndarray:
    """How likely the high of each bar came before its low; a half where nothing tells. Prices in logarithms, `variance` that of the
    bar's return."""
    spread = np.where(high > low, high - low, 1.0)
    begin, end = (opened - low) / spread, (high - close) / spread
    clock = np.where(high > low, variance, 1.0) / spread**2
    up, down = _passage(begin, end, clock), _passage(1 - begin, 1 - end, clock)
    either = up + down
    return np.where((high > low) & (either > 0), up / np.where(either > 0, either, 1.0), 0.5)


def _passage(begin: np.ndarray, end: np.ndarray, clock: np.ndarray) -> np.ndarray:
    """The inverse transform at time `clock` of lambda sinh(lambda begin) sinh(lambda end) / sinh(lambda)^3, up to a factor."""
    total = np.zeros_like(clock)
    for k in range(_TERMS):
        for sign, first, second in ((1, -1, -1), (-1, -1, 1), (-1, 1, -1), (1, 1, 1)):
            length = 3 + 2 * k + first * begin + second * end
            term = (length**2 / clock - 1) * np.exp(-(length**2) / (2 * clock))
            total += sign * (k + 1) * (k + 2) / 2 * term
    # An end that is a turning point already makes it zero, to rounding.
    return np.where((begin <= 0) | (end <= 0), 0.0, np.maximum(total, 0.0))


def known_variance(earlier: Candles | None, candles: Candles, usual: float) -> np.ndarray:
    """Annual variance as the bars before each one tell it, and last as all of them do: one value more than there are bars. Bars
    count by range and by the step from the close before, and are forgotten exponentially. At first it is `usual`."""
    parts = [candles] if earlier is None else [earlier, candles]
    opened, high, low, close = (
        np.log(np.concatenate([getattr(part, name) for part in parts])) for name in ("open", "high", "low", "close")
    )
    steps = np.diff(opened, prepend=opened[0])
    steps[1:] = opened[1:] - close[:-1]
    rate = (range_variance(opened, high, low, close) + steps**2) * (SECONDS_PER_YEAR / candles.interval_s)
    kept = np.exp(-candles.interval_s / 3600 / MEMORY_HOURS)
    known, _ = lfilter([1 - kept], [1, -kept], rate, zi=[kept * usual])
    known = np.concatenate([[usual], known])[-candles.bars - 1 :]
    return np.maximum(known, LEAST_LEVEL**2 * usual)


def lead_bars(interval_s: float) -> int:
    """How many bars before a window its first estimate is made of: what came before has been forgotten."""
    return int(np.ceil(10 * MEMORY_HOURS * 3600 / interval_s))
