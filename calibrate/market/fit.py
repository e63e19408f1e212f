"""Fits a market model to candles: which volatility, which jumps, and how sure we are of each.

`fit_candles` matches simulated moments (McFadden 1989; Duffie and Singleton 1993). The targets (`moments.py`) are what
losses depend on, above all the tails of one-hour and one-day returns, pooled over the whole file: calm years and
crashes together. The model is simulated with random numbers that are drawn once, so that the misfit is a smooth
function of the parameters, which a weighted least-squares search minimises from several starts. Standard errors are the
sandwich formula with the covariance of the targets from a moving-block bootstrap of the data (Künsch 1989).

The reported goodness of fit is measured afterwards, on a much longer history of fresh random numbers.
"""

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple, TypedDict

import numpy as np
from scipy.optimize import least_squares

from calibrate.data.candles import MINIMUM_BARS_FOR_FIT, Candles, window_returns
from calibrate.errors import Problem, UserError, raise_all
from calibrate.market.moments import (
    AFTER_QUANTILES,
    AFTER_SHARE,
    QUANTILES,
    SECONDS_PER_YEAR,
    Histories,
    Moments,
    Windows,
    data_rows,
    long_run_moments,
)
from calibrate.market.schema import FAMILIES, MOST_JUMPS_PER_WILD_MINUTE, jumps_per_wild_minute

SHORTEST_FIT_DAYS = 30.0
GOODNESS_YEARS = 1000.0
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
class Fit:
    """A fitted model with its evidence. Parameters are annual unless their name says otherwise; `standard_errors` are
    in the same units, for what was estimated. `first` and `last` are the opens of the first and last bar (ISO, UTC).
    `notes` say what a reader must know, for example that a parameter ended at the edge of its range."""

    family: str
    parameters: dict[str, float]
    standard_errors: dict[str, float]
    goodness: list[GoodnessRow]
    autocorrelation: list[AutocorrelationRow]
    source: str
    sha256: str
    first: str
    last: str
    bars: int
    gaps: int
    interval_s: float
    seed: int
    version: str
    notes: tuple[str, ...] = ()


def fit_candles(
    candles: Candles,
    *,
    family: str = "log-ou-kou",
    seed: int = 0,
    on_progress: Callable[[str], None] | None = None,
    simulated_years: float | None = None,
) -> Fit:
    """Fit a model family to candles; the same candles and seed give the same fit.

    `simulated_years` is the length of the simulated history, by default sixteen times that of the candles, between 20
    and 80 years. Five years of hourly bars take about a minute on one core.
    """
    tell = on_progress or (lambda text: None)
    windows = Windows.of(candles)
    _check(candles, windows, family)
    tell(f"measuring {candles.bars} bars")
    targets = _Targets.measure(candles, windows, np.random.default_rng([seed, 1]))

    if family == "constant":
        parameters, errors, notes = _fit_constant(candles, windows, np.random.default_rng([seed, 1]))
    else:
        years = (candles.ts[-1] - candles.ts[0]) / 1000 / SECONDS_PER_YEAR
        length = simulated_years or min(max(16 * years, 20.0), 80.0)
        parameters, errors, notes = _fit_log_ou_kou(targets, windows, years, length, seed, tell)

    tell(f"measuring the model on {GOODNESS_YEARS:.0f} fresh years")
    model = long_run_moments(parameters, windows, np.random.default_rng([seed, 4]), years=GOODNESS_YEARS)
    return Fit(
        family,
        parameters,
        errors,
        _goodness(targets, model, windows),
        _autocorrelation(targets, model, windows),
        candles.source,
        candles.sha256,
        candles.first,
        candles.last,
        candles.bars,
        candles.gaps,
        candles.interval_s,
        seed,
        _package_version(),
        notes,
    )


def measure_goodness(candles: Candles, parameters: Mapping[str, float], *, seed: int = 0) -> list[GoodnessRow]:
    """How a model's quantiles compare with those of candles, on fresh random numbers."""
    windows = Windows.of(candles)
    targets = _Targets.measure(candles, windows, np.random.default_rng([seed, 1]))
    model = long_run_moments(parameters, windows, np.random.default_rng([seed, 4]), years=GOODNESS_YEARS)
    return _goodness(targets, model, windows)


def _check(candles: Candles, windows: Windows, family: str) -> None:
    problems = []
    if family not in FAMILIES:
        problems.append(Problem("family", f"found {family!r}; expected {' or '.join(map(repr, FAMILIES))}"))
    if candles.bars < MINIMUM_BARS_FOR_FIT:
        found = f"found {candles.bars} bars; expected at least {MINIMUM_BARS_FOR_FIT} for a fit"
        problems.append(Problem(candles.source, f"{found}; use a longer or finer file"))
    days = candles.interval_s / 86_400
    if days > 1:
        found = f"found bars of {days:g} days; expected a day or less for a fit"
        problems.append(Problem(candles.source, f"{found}; use finer bars"))
    if candles.bars * days < SHORTEST_FIT_DAYS:
        found = f"found {candles.bars * days:.3g} days of bars; expected at least {SHORTEST_FIT_DAYS:g} for a fit"
        problems.append(Problem(candles.source, f"{found}; use a longer file"))
    raise_all(problems)
    whole = np.count_nonzero(np.isfinite(window_returns(candles, windows.day * windows.base_bars)))
    if whole * days < SHORTEST_FIT_DAYS / 2:
        found = f"found {whole} windows of a day without a missing bar"
        expected = f"expected at least {SHORTEST_FIT_DAYS / 2 / days:.0f}"
        raise UserError([Problem(candles.source, f"{found}; {expected}; use a file with fewer gaps")])


# --- the targets ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Targets:
    """The data's moments, the standard errors and the covariance of their vector, and the weight of each residual."""

    moments: Moments
    errors: np.ndarray
    covariance: np.ndarray
    weights: np.ndarray

    @classmethod
    def measure(cls, candles: Candles, windows: Windows, rng: np.random.Generator) -> "_Targets":
        rows = data_rows(candles, windows)
        moments = Moments.of(rows)
        _check_signs(moments, candles.source)
        blocks = _block_indices(len(rows.returns[0]), candles, windows, rng)
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


def _block_indices(count: int, candles: Candles, windows: Windows, rng: np.random.Generator) -> list[np.ndarray]:
    """Rows of each bootstrap draw: blocks of consecutive windows that start anywhere, as many as fill the file."""
    length = max(1, min(round(BLOCK_DAYS * 86_400 / (windows.stride * candles.interval_s)), count // 8))
    blocks = -(-count // length)
    starts = rng.integers(0, count - length + 1, size=(BOOTSTRAPS, blocks))
    return [(start[:, None] + np.arange(length)).ravel()[:count] for start in starts]


# --- constant volatility ----------------------------------------------------------------------------------------------

_Estimate = tuple[dict[str, float], dict[str, float], tuple[str, ...]]


def _fit_constant(candles: Candles, windows: Windows, rng: np.random.Generator) -> _Estimate:
    """Annual volatility from the mean squared return over the shortest horizon, around a drift of zero."""
    squares = data_rows(candles, windows).returns[0] ** 2

    def annual(index: np.ndarray | slice) -> float:
        return float(np.sqrt(np.nanmean(squares[index]) * SECONDS_PER_YEAR / windows.base_s))

    draws = [annual(index) for index in _block_indices(len(squares), candles, windows, rng)]
    parameters = {"volatility": _rounded(annual(slice(None))), "drift": 0.0}
    return parameters, {"volatility": _rounded(float(np.std(draws, ddof=1)))}, ()


# --- log-OU volatility with Kou jumps ---------------------------------------------------------------------------------


class _Range(NamedTuple):
    """A parameter's range in the search, and the scale on which the search moves: "log", "logit" or "plain"."""

    low: float
    high: float
    scale: str


RANGES = {
    "volatility": _Range(0.01, 6.0, "log"),
    "log_volatility_sd": _Range(0.05, 1.5, "log"),
    "reversion_half_life_days": _Range(0.1, 180.0, "log"),
    "leverage_correlation": _Range(-0.95, 0.95, "plain"),
    "jumps_per_year": _Range(1.0, 20_000.0, "log"),
    "jump_volatility_exponent": _Range(0.0, 3.0, "plain"),
    "jump_up_probability": _Range(0.05, 0.95, "logit"),
    "jump_up_mean": _Range(5e-4, 0.25, "log"),
    "jump_down_mean": _Range(5e-4, 0.25, "log"),
}


def _to_scale(value: float, scale: str) -> float:
    if scale == "plain":
        return value
    return float(np.log(value) if scale == "log" else np.log(value / (1 - value)))


def _from_scale(x: float, scale: str) -> float:
    if scale == "plain":
        return float(x)
    return float(np.exp(x) if scale == "log" else 1 / (1 + np.exp(-x)))


def _slope(x: float, scale: str) -> float:
    """How fast the parameter moves along its scale."""
    value = _from_scale(x, scale)
    return {"log": value, "logit": value * (1 - value), "plain": 1.0}[scale]


def _vector(parameters: Mapping[str, float]) -> np.ndarray:
    return np.array([_to_scale(parameters[name], limits.scale) for name, limits in RANGES.items()])


def _parameters(vector: np.ndarray) -> dict[str, float]:
    named = zip(RANGES.items(), vector, strict=True)
    return {**{name: _from_scale(x, limits.scale) for (name, limits), x in named}, "drift": 0.0}


LOW = _vector({name: limits.low for name, limits in RANGES.items()})
HIGH = _vector({name: limits.high for name, limits in RANGES.items()})


class _Misfit:
    """Weighted residuals of the targets as a function of the search vector, on random numbers drawn once."""

    def __init__(self, targets: _Targets, windows: Windows, years: float, rng: np.random.Generator):
        self.targets = targets
        self.windows = windows
        self.histories = Histories(windows, years, rng)

    def residuals(self, vector: np.ndarray) -> np.ndarray:
        parameters = _parameters(vector)
        difference = self.histories.moments(parameters).vector() - self.targets.moments.vector()
        return np.append(self.targets.weights * difference, _jump_rate_excess(parameters))

    def jacobian(self, vector: np.ndarray, step: float = 0.25) -> np.ndarray:
        """Central differences. A simulated quantile is one return, whose own slope is noise: the step is wide enough to
        average over many."""
        columns = []
        for place in range(len(vector)):
            up, down = vector.copy(), vector.copy()
            up[place] = min(vector[place] + step, HIGH[place])
            down[place] = max(vector[place] - step, LOW[place])
            columns.append((self.residuals(up) - self.residuals(down)) / (up[place] - down[place]))
        return np.stack(columns, axis=1)

    def search(self, start: np.ndarray, steps: int) -> tuple[float, np.ndarray]:
        """The misfit and the vector at which at most so many steps end."""
        inside = np.clip(start, LOW + 1e-6, HIGH - 1e-6)
        bounds = (LOW, HIGH)
        end = least_squares(
            self.residuals, inside, jac=self.jacobian, bounds=bounds, max_nfev=steps, ftol=1e-4, xtol=1e-4
        )
        return 2 * float(end.cost), end.x


def _jump_rate_excess(parameters: Mapping[str, float]) -> float:
    """A penalty where wild minutes see jumps more often than half of what a model file may say."""
    return 10 * max(0.0, float(np.log(jumps_per_wild_minute(parameters) / (MOST_JUMPS_PER_WILD_MINUTE / 2))))


def _starts(misfit: _Misfit) -> list[np.ndarray]:
    """Places to start from, the best first: calm or wild, quick or slow, few large jumps or many small ones, each with
    volatility at the level that gives about the right mean absolute return."""
    size = float(misfit.targets.moments.mean_absolute[0])
    annual = size * np.sqrt(np.pi / 2 * SECONDS_PER_YEAR / misfit.windows.base_s)
    starts: list[tuple[float, int, np.ndarray]] = []
    for sd in (0.5, 0.9):
        for half_life in (1.5, 10.0):
            for jumps, jump_size, exponent in ((40.0, 3.0, 1.0), (400.0, 2.0, 1.0), (400.0, 1.5, 2.0)):
                guess = {
                    "volatility": annual * np.exp(-(sd**2) / 2),
                    "log_volatility_sd": sd,
                    "reversion_half_life_days": half_life,
                    "leverage_correlation": -0.2,
                    "jumps_per_year": jumps,
                    "jump_volatility_exponent": exponent,
                    "jump_up_probability": 0.5,
                    "jump_up_mean": jump_size * size,
                    "jump_down_mean": jump_size * size,
                }
                vector = np.clip(_vector(guess), LOW + 0.01, HIGH - 0.01)
                starts.append((float(np.sum(misfit.residuals(vector) ** 2)), len(starts), vector))
    return [vector for _, _, vector in sorted(starts, key=lambda start: start[:2])]


def _fit_log_ou_kou(
    targets: _Targets, windows: Windows, years: float, length: float, seed: int, tell: Callable[[str], None]
) -> _Estimate:
    """Several starts on a short history; from the best of their ends on to the full one."""
    short = _Misfit(targets, windows, length / 3, np.random.default_rng([seed, 2]))
    ends = []
    for number, start in enumerate(_starts(short)[:3], 1):
        cost, vector = short.search(start, steps=8)
        tell(f"search {number} of 4: misfit {cost:.1f}")
        ends.append((cost, number, vector))
    full = _Misfit(targets, windows, length, np.random.default_rng([seed, 3]))
    cost, vector = full.search(min(ends, key=lambda end: end[:2])[2], steps=15)
    tell(f"search 4 of 4: misfit {cost:.1f} on {length:.0f} simulated years")

    at_edge = (vector < LOW + 1e-3) | (vector > HIGH - 1e-3)
    notes = tuple(
        f"{name} ended at the edge of its range, {limits.low:g} to {limits.high:g}: its standard error means nothing"
        for (name, limits), edge in zip(RANGES.items(), at_edge, strict=True)
        if edge
    )
    parameters = {name: _rounded(value) for name, value in _parameters(vector).items()}
    return parameters, _standard_errors(full, vector, years / length), notes


def _standard_errors(misfit: _Misfit, vector: np.ndarray, data_per_simulation: float) -> dict[str, float]:
    """Sandwich formula (Duffie and Singleton 1993): the weights are not the optimal ones, so the covariance of the
    targets stands in the middle. The simulated history adds its own noise in proportion to its length."""
    targets = misfit.targets
    jacobian = misfit.jacobian(vector)
    middle = np.zeros((len(jacobian), len(jacobian)))
    weighted = targets.weights[:, None] * targets.covariance * targets.weights
    middle[:-1, :-1] = weighted * (1 + data_per_simulation)
    normal = jacobian.T @ jacobian
    # A parameter that moves no target gets a huge error, not a failure.
    outer = np.linalg.solve(normal + 1e-9 * np.trace(normal) * np.eye(len(vector)), jacobian.T)
    errors = np.sqrt(np.diag(outer @ middle @ outer.T))
    return {
        name: _rounded(_slope(x, limits.scale) * float(error))
        for (name, limits), x, error in zip(RANGES.items(), vector, errors, strict=True)
    }


# --- the evidence -----------------------------------------------------------------------------------------------------


def _goodness(targets: _Targets, model: Moments, windows: Windows) -> list[GoodnessRow]:
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
            "data": _rounded(observed[row, column], 5),
            "data_standard_error": _rounded(error[row, column] * abs(observed[row, column]), 3),
            "model": _rounded(fitted[row, column], 5),
            "ratio": _rounded(fitted[row, column] / observed[row, column], 4),
        }
        for horizons, quantiles, observed, error, fitted in tables
        for row, horizon in enumerate(horizons)
        for column, quantile in enumerate(quantiles)
    ]


def _autocorrelation(targets: _Targets, model: Moments, windows: Windows) -> list[AutocorrelationRow]:
    names = [("absolute returns", lag) for lag in windows.lags]
    names += [(f"leverage {windows.label(back)}", ahead) for back, ahead in windows.leverage]
    data = targets.moments.correlations
    columns = (data, targets.errors[-len(data) :], model.correlations)
    return [
        {
            "what": what,
            "lag_hours": _rounded(lag * windows.base_s / 3600),
            "data": _rounded(data, 4),
            "data_standard_error": _rounded(error, 3),
            "model": _rounded(fitted, 4),
        }
        for (what, lag), data, error, fitted in zip(names, *columns, strict=True)
    ]


def _rounded(value: float, digits: int = 6) -> float:
    return float(f"{value:.{digits}g}")


def _package_version() -> str:
    try:
        return version("calibrate")
    except PackageNotFoundError:  # run from a source tree that is not installed
        project = Path(__file__).parents[2] / "pyproject.toml"
        return tomllib.loads(project.read_text())["project"]["version"] if project.exists() else "unknown"
