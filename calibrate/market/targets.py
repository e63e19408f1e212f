"""What a fit is held against: the moments of candles with their errors, and the tables that set a model's beside them.

Errors and covariance of the moments come from a moving-block bootstrap of the data (Künsch 1989); the error of a far quantile is at
least what its number of independent observations allows.
"""

from dataclasses import dataclass
from typing import TypedDict

import numpy as np

from calibrate.data.candles import Candles
from calibrate.errors import Problem, UserError
from calibrate.market.moments import AFTER_QUANTILES, AFTER_SHARE, QUANTILES, Moments, Windows, data_rows

BLOCK_DAYS = 30.0
BOOTSTRAPS = 200
# A model of nine parameters cannot meet some twenty targets exactly. The floors keep a target that the data happen to
# determine closely from ruling the fit at the expense of the others.
LOG_FLOOR = 0.03
CORRELATION_FLOOR = 0.01
TAIL_EMPHASIS = 2.0  # on the outer quantiles of both horizons: that is where accounts are lost


class GoodnessRow(TypedDict):
    """One quantile of log-returns over `horizon` in the data and in the model; `ratio` is model / data. Where the
    horizon says "after calm days" (or wild days), of absolute returns after the calmest (wildest) quarter of days."""

    horizon: str
    quantile: float
    data: float
    data_standard_error: float
    model: float
    ratio: float


class AutocorrelationRow(TypedDict):
    """Correlation of absolute returns of the shortest horizon `lag_hours` apart (`what` is "absolute returns"), or of
    the return of a horizon with the mean absolute return of the `lag_hours` that follow (`what` is "leverage 1h")."""

    what: str
    lag_hours: float
    data: float
    data_standard_error: float
    model: float


@dataclass(frozen=True)
class Targets:
    """The data's moments, the standard errors and the covariance of their vector, and the weight of each residual."""

    moments: Moments
    errors: np.ndarray
    covariance: np.ndarray
    weights: np.ndarray

    @classmethod
    def measure(cls, candles: Candles, windows: Windows, rng: np.random.Generator) -> "Targets":
        rows = data_rows(candles, windows)
        moments = Moments.of(rows)
        _check_signs(moments, candles.source)
        blocks = block_indices(len(rows.returns[0]), candles, windows, rng)
        covariance = np.cov([Moments.of(rows.take(index)).vector() for index in blocks], rowvar=False)
        bootstrapped = np.sqrt(np.diag(covariance))
        errors = np.maximum(bootstrapped, _least_errors(moments, candles, windows))
        stretch = errors / np.maximum(bootstrapped, 1e-12)
        covariance = stretch[:, None] * covariance * stretch

        logs = len(errors) - len(moments.correlations)
        floors = np.where(np.arange(len(errors)) < logs, LOG_FLOOR, CORRELATION_FLOOR)
        weights = 1 / np.sqrt(errors**2 + floors**2)
        emphasis = [TAIL_EMPHASIS if min(q, 1 - q) < 0.02 else 1.0 for q in QUANTILES] * len(moments.quantiles)
        weights[: len(emphasis)] *= emphasis
        return cls(moments, errors, covariance, weights)


def _least_errors(moments: Moments, candles: Candles, windows: Windows) -> np.ndarray:
    """What the standard errors of the targets are at least. A bootstrap cannot draw the crash that did not happen: to
    it a far quantile that rests on one or two events looks certain. With `n` independent returns, a share `p` beyond
    the quantile and a tail that falls with the power `a`, the variance of the quantile's log is (1 - p) / (n p a^2)."""
    span_s = candles.bars * candles.interval_s
    horizons = dict.fromkeys((1, windows.day))
    least = [
        _tail_errors(row, QUANTILES, span_s / (units * windows.base_s))
        for row, units in zip(moments.quantiles, horizons, strict=True)
    ]
    least += [_tail_errors(row, AFTER_QUANTILES, AFTER_SHARE * span_s / windows.base_s) for row in moments.after]
    rest = len(moments.mean_absolute) + len(moments.correlations)
    return np.concatenate([*least, np.zeros(rest)])


def _tail_errors(values: np.ndarray, quantiles: tuple[float, ...], count: float) -> np.ndarray:
    """For each quantile that has a less extreme neighbour, from which the tail's power is read."""
    errors = np.zeros(len(values))
    for place, quantile in enumerate(quantiles):
        neighbour = place + (1 if quantile < 0.5 else -1)
        beyond = min(quantile, 1 - quantile)
        if 0 <= neighbour < len(values) and (quantile < 0.5) == (quantiles[neighbour] < 0.5):
            steepness = np.log(min(quantiles[neighbour], 1 - quantiles[neighbour]) / beyond)
            power = np.clip(steepness / np.log(max(values[place] / values[neighbour], 1.01)), 1, 10)
            errors[place] = np.sqrt((1 - beyond) / (count * beyond)) / power
    return errors


def _check_signs(moments: Moments, source: str) -> None:
    """Targets are logarithms, which prices that stand still cannot give."""
    wrong = np.argwhere(np.sign(moments.quantiles) != np.where(np.array(QUANTILES) < 0.5, -1, 1))
    if len(wrong):
        horizon, place = wrong[0]
        found = f"found {moments.quantiles[horizon, place]:g} as the {QUANTILES[place]:g} quantile of returns"
        expected = "expected falls and rises, each in at least one bar of twenty"
        raise UserError([Problem(f"{source}: column close", f"{found}; {expected}; use a market that trades")])


def block_indices(count: int, candles: Candles, windows: Windows, rng: np.random.Generator) -> list[np.ndarray]:
    """Rows of each bootstrap draw: blocks of consecutive windows that start anywhere, as many as fill the file."""
    length = max(1, min(round(BLOCK_DAYS * 86_400 / (windows.stride * candles.interval_s)), count // 8))
    blocks = -(-count // length)
    starts = rng.integers(0, count - length + 1, size=(BOOTSTRAPS, blocks))
    return [(start[:, None] + np.arange(length)).ravel()[:count] for start in starts]


# --- the evidence -----------------------------------------------------------------------------------------------------


def goodness_rows(targets: Targets, model: Moments, windows: Windows) -> list[GoodnessRow]:
    names = windows.horizons()
    after = [f"{names[0]} after {kind} days" for kind in ("calm", "wild")]
    data = targets.moments
    both = np.split(targets.errors, [data.quantiles.size, data.quantiles.size + data.after.size])
    tables = [
        (names, QUANTILES, data.quantiles, both[0].reshape(data.quantiles.shape), model.quantiles),
        (after, AFTER_QUANTILES, data.after, both[1].reshape(data.after.shape), model.after),
    ]
    return [
        {
            "horizon": horizon,
            "quantile": quantile,
            "data": rounded(observed[row, column], 5),
            "data_standard_error": rounded(error[row, column] * abs(observed[row, column]), 3),
            "model": rounded(fitted[row, column], 5),
            "ratio": rounded(fitted[row, column] / observed[row, column], 4),
        }
        for horizons, quantiles, observed, error, fitted in tables
        for row, horizon in enumerate(horizons)
        for column, quantile in enumerate(quantiles)
    ]


def autocorrelation_rows(targets: Targets, model: Moments, windows: Windows) -> list[AutocorrelationRow]:
    names = [("absolute returns", lag) for lag in windows.lags]
    names += [(f"leverage {windows.label(back)}", ahead) for back, ahead in windows.leverage]
    data = targets.moments.correlations
    columns = (data, targets.errors[-len(data) :], model.correlations)
    return [
        {
            "what": what,
            "lag_hours": rounded(lag * windows.base_s / 3600),
            "data": rounded(data, 4),
            "data_standard_error": rounded(error, 3),
            "model": rounded(fitted, 4),
        }
        for (what, lag), data, error, fitted in zip(names, *columns, strict=True)
    ]


def rounded(value: float, digits: int = 6) -> float:
    return float(f"{value:.{digits}g}")
