"""Hourly returns of markets whose law is known, made by plain loops that know nothing of the package; and candles of them."""

import numpy as np

from calibrate.data.candles import Candles

HOURS_PER_YEAR = 365 * 24
BAR = 1 / HOURS_PER_YEAR


def candles_of_returns(returns: np.ndarray, *, interval_s: float = 3600.0) -> Candles:
    close = 100 * np.exp(np.concatenate([[0.0], np.cumsum(returns)]))
    ts = 1_600_000_000_000 + round(1000 * interval_s) * np.arange(len(close))
    return Candles(ts, close, close, close, close, np.ones(len(close)), interval_s, "made.csv", "0" * 64)


def garch_returns(innovations: np.ndarray, *, volatility, alpha, beta, gamma=0.0) -> np.ndarray:
    """GARCH or GJR driven by innovations of unit variance, from the long-run variance on; the first tenth is left out."""
    long_run = volatility**2 * BAR
    variance, returns = long_run, []
    for z in innovations:
        move = np.sqrt(variance) * z
        returns.append(move)
        feedback = alpha + (gamma if move < 0 else 0.0)
        variance = (1 - alpha - beta - gamma / 2) * long_run + feedback * move**2 + beta * variance
    return np.array(returns[len(returns) // 10 :])


def student(rng: np.random.Generator, freedom: float, count: int) -> np.ndarray:
    return rng.standard_t(freedom, count) * np.sqrt(1 - 2 / freedom)


def jump_returns(rng: np.random.Generator, count: int, *, volatility: float, jumps_per_year: float, size) -> np.ndarray:
    """Normal returns plus a Poisson number of jumps, each of which `size` draws."""
    number = rng.poisson(jumps_per_year * BAR, count)
    jumps = np.bincount(np.repeat(np.arange(count), number), weights=size(number.sum()), minlength=count)
    return volatility * np.sqrt(BAR) * rng.standard_normal(count) - volatility**2 * BAR / 2 + jumps


def regime_returns(
    rng: np.random.Generator, count: int, *, volatility: float, crashes_per_year: float, crash_hours: float, multiplier: float
) -> np.ndarray:  # fmt: skip
    """A regime that switches at any time, in steps of five minutes."""
    steps = 12
    into, out = crashes_per_year * BAR / steps, 1 / (crash_hours * steps)
    uniform = rng.random(count * steps)
    crash, path = False, np.empty(count * steps, bool)
    for place, u in enumerate(uniform):
        crash = u >= out if crash else u < into
        path[place] = crash
    scale = volatility * np.sqrt(BAR / steps) * np.where(path, multiplier, 1.0)
    return (scale * rng.standard_normal(count * steps)).reshape(count, steps).sum(axis=1)
