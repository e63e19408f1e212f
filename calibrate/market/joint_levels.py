"""The slow moods of several markets: how far each one's volatility stands from its usual level, and how these levels move together.

A level is a mean of absolute returns on both sides of a bar, the bar left out, with weights that fade exponentially. Its
logarithm is taken for a log-volatility that reverts at one speed in all assets. At lags that are long against the weights'
memory, autocovariances of the smoothed logarithm are `s^2 exp(-k lag) (a^2 / (a^2 - k^2))^2`, `s` the standard deviation, `k`
the speed and `a` the weights' own rate; noise of the estimate is gone by then. Two lags give speed and standard deviation,
and covariances of two assets at the shorter one how their volatilities are correlated.
"""

from typing import NamedTuple

import numpy as np
from scipy.signal import lfilter

from calibrate.fits.blocks import BOOTSTRAPS

MEMORY_DAYS = 1.0
LAGS_DAYS = (5.0, 15.0)
# How far the speed may be from the weights' rate, for the formula to hold, and the slowest that two years can tell.
_HALF_LIVES_DAYS = (3.0, 60.0)
_LEAST_EIGENVALUE = 0.02


class Levels(NamedTuple):
    """`level` of each bar, bar by asset, of mean square 1, which is known up to a relative `scale_error`. `sd` are the standard
    deviations of log-volatility, `half_life_days` is that of all assets, `correlation` that of the changes of log-volatilities."""

    level: np.ndarray
    sd: np.ndarray
    half_life_days: float
    correlation: np.ndarray
    sd_error: np.ndarray
    half_life_error: float
    correlation_error: np.ndarray
    scale_error: np.ndarray


def levels_of(returns: np.ndarray, interval_s: float, blocks: np.ndarray, rng: np.random.Generator) -> Levels:
    """Levels of volatility, with errors by resampling whole blocks of bars (Künsch 1989); `returns` are bar by asset."""
    per_day = 86_400 / interval_s
    smooth = _around(np.abs(returns), MEMORY_DAYS * per_day)
    level = smooth / np.sqrt(np.mean(smooth**2, axis=0))
    short, long = (round(days * per_day) for days in LAGS_DAYS)
    log = np.log(level) - np.log(level).mean(axis=0)
    products = [_lagged(log, lag) for lag in (short, long)]
    figures = _figures(*(p.mean(axis=0) for p in products))
    number = int(blocks[-1]) + 1
    sums = [np.stack([p[blocks[: len(p)] == block].sum(axis=0) for block in range(number)]) for p in products]
    counts = [np.bincount(blocks[: len(p)], minlength=number) for p in products]
    squares = np.stack([np.mean(level[blocks == block] ** 2, axis=0) for block in range(number)])
    again, scales = [], []
    for _ in range(BOOTSTRAPS):
        drawn = rng.integers(number, size=number)
        again.append(_figures(*(s[drawn].sum(axis=0) / c[drawn].sum() for s, c in zip(sums, counts, strict=True))))
        scales.append(np.sqrt(squares[drawn].mean(axis=0)))
    errors = [np.std(np.stack([np.asarray(one[k]) for one in again]), axis=0, ddof=1) for k in range(3)]
    return Levels(level, *figures, errors[0], float(errors[1]), errors[2], np.std(scales, axis=0, ddof=1))


def _around(absolute: np.ndarray, memory: float) -> np.ndarray:
    """The mean on both sides of each bar, without it."""
    keep = np.exp(-1 / memory)

    def before(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        total = lfilter([0.0, 1.0], [1.0, -keep], values, axis=0)
        return total, lfilter([0.0, 1.0], [1.0, -keep], np.ones_like(values), axis=0)

    past, past_weight = before(absolute)
    future, future_weight = (part[::-1] for part in before(absolute[::-1]))
    return (past + future) / (past_weight + future_weight)


def _lagged(log: np.ndarray, lag: int) -> np.ndarray:
    """Products of all pairs of assets so many bars apart, symmetric."""
    one = log[:-lag, :, None] * log[lag:, None, :]
    return (one + one.transpose(0, 2, 1)) / 2


def _figures(short: np.ndarray, long: np.ndarray) -> tuple[np.ndarray, float, np.ndarray]:
    """Standard deviations, half-life in days, correlations of changes."""
    gap = LAGS_DAYS[1] - LAGS_DAYS[0]
    ratio = np.trace(short) / max(np.trace(long), 1e-12 * np.trace(short))
    half_life = float(np.clip(np.log(2) * gap / max(np.log(max(ratio, 1.0)), 1e-9), *_HALF_LIVES_DAYS))
    speed, rate = np.log(2) / half_life, 1 / MEMORY_DAYS
    unsmoothed = ((rate**2 - speed**2) / rate**2) ** 2 * np.exp(speed * LAGS_DAYS[0])
    variance = np.maximum(np.diag(short), 1e-6)
    correlation = np.clip(short / np.sqrt(np.outer(variance, variance)), -1, 1)
    return np.sqrt(variance * unsmoothed), half_life, _definite(correlation)


def _definite(correlation: np.ndarray) -> np.ndarray:
    """The matrix itself, or as much of it as leaves every eigenvalue positive."""
    matrix = correlation.copy()
    np.fill_diagonal(matrix, 1.0)
    least = float(np.linalg.eigvalsh(matrix)[0])
    if least < _LEAST_EIGENVALUE:
        matrix = matrix * (1 - _LEAST_EIGENVALUE) / (1 - least)
        np.fill_diagonal(matrix, 1.0)
    return matrix
