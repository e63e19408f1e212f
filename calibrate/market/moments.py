"""What a fit compares: the moments of returns in candles and in a simulated market, by the same formulas.

`simulate` is the market of `docs/rules.md` section 1 in NumPy, step by step the law that the engine simulates, with
random numbers that come from outside so that a search can hold them fixed. `Windows` says over which spans returns are
taken, `data_rows` and `model_rows` take them, and `Moments` are the numbers compared: small and large quantiles of
one-hour and one-day returns, large moves after calm and after wild days, the mean absolute return, how long absolute
returns stay correlated, and how a fall raises later volatility (the leverage effect).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.signal import lfilter

from calibrate.data.candles import Candles, window_returns

QUANTILES = (0.001, 0.01, 0.05, 0.95, 0.99, 0.999)
# Large moves after the calmest and the wildest quarter of days: this tells jumps that come out of a calm market from
# jumps that come with volatility.
AFTER_QUANTILES = (0.99, 0.999)
AFTER_SHARE = 0.25
LAGS_HOURS = (1, 6, 24, 72, 168)
# Returns of so many hours, and the hours that follow whose mean absolute return they are correlated with. The short
# pair has the signal; the long one keeps a fall from haunting the model for longer than it does the market.
LEVERAGE_HOURS = ((1, 6), (24, 24))
SECONDS_PER_YEAR = 365 * 86_400.0
# Histories take steps of at most a quarter of an hour, within which volatility stands still and several jumps may come.
# For the shipped models no quantile is then further than about one per cent from that at the engine's one-minute steps.
STEP_S = 900.0
JUMPS_PER_STEP = 3
PIECE_YEARS = 100.0  # the longest history in one piece, which bounds the memory


# --- the market -------------------------------------------------------------------------------------------------------


class Numbers(NamedTuple):
    """The random numbers of one history: standard normals for the start, the volatility and the return of each step;
    uniforms in (0, 1] for arrival and direction of each jump, one row for each jump that a step can hold."""

    start: np.ndarray
    volatility: np.ndarray
    returns: np.ndarray
    arrival: np.ndarray
    direction: np.ndarray

    @classmethod
    def draw(cls, rng: np.random.Generator, steps: int, jumps_per_step: int = 1) -> "Numbers":
        single = np.float32
        return cls(
            rng.standard_normal(1, dtype=single),
            rng.standard_normal(steps, dtype=single),
            rng.standard_normal(steps, dtype=single),
            1 - rng.random((jumps_per_step, steps), dtype=single),
            1 - rng.random((jumps_per_step, steps), dtype=single),
        )

    @classmethod
    def draw_pair(cls, rng: np.random.Generator, steps: int, jumps_per_step: int = 1) -> tuple["Numbers", "Numbers"]:
        """Two histories whose log-volatilities mirror each other: their mean is exact, which takes away most of the
        simulation's error in the level of volatility."""
        one, other = cls.draw(rng, steps, jumps_per_step), cls.draw(rng, steps, jumps_per_step)
        return one, other._replace(start=-one.start, volatility=-one.volatility)


def simulate(parameters: Mapping[str, float], numbers: Numbers, step_s: float) -> np.ndarray:
    """Log-return of each step of `step_s` seconds, from a start drawn from the stationary law.

    Without `log_volatility_sd` among the parameters the market has constant volatility. Where a step can hold several
    jumps they share its probability evenly.
    """
    dt = step_s / SECONDS_PER_YEAR
    drift, volatility = parameters["drift"], parameters["volatility"]
    if "log_volatility_sd" not in parameters:
        return (drift - volatility**2 / 2) * dt + volatility * np.sqrt(dt) * numbers.returns

    y = log_volatility(parameters, numbers, dt)
    sigma = np.float32(volatility) * np.exp(y)
    rho = np.float32(parameters["leverage_correlation"])
    normal = rho * numbers.volatility + np.sqrt(1 - rho**2) * numbers.returns
    rate = np.float32(parameters["jumps_per_year"]) * np.exp(np.float32(parameters["jump_volatility_exponent"]) * y)
    slots = len(numbers.arrival)
    probability = np.minimum(rate * np.float32(dt / slots), np.float32(1.0))

    jump_drift = np.float32(slots * _mean_relative_jump(parameters))
    returns = np.float32(drift * dt) - np.float32(dt / 2) * sigma**2 - jump_drift * probability
    returns += np.float32(np.sqrt(dt)) * sigma * normal
    for arrival, direction in zip(numbers.arrival, numbers.direction, strict=True):
        _add_jumps(returns, parameters, probability, arrival, direction)
    return returns


def log_volatility(parameters: Mapping[str, float], numbers: Numbers, dt: float) -> np.ndarray:
    """The log-volatility that rules in each step: exact AR(1) steps of the Ornstein-Uhlenbeck process."""
    sd = parameters["log_volatility_sd"]
    speed = np.log(2) / (parameters["reversion_half_life_days"] / 365)
    decay = np.exp(-speed * dt)
    spread = sd * np.sqrt(-np.expm1(-2 * speed * dt))
    first = sd * numbers.start.astype(np.float64)
    later, _ = lfilter([spread], [1.0, -decay], numbers.volatility[:-1], zi=decay * first)
    return np.concatenate([first, later]).astype(np.float32)


def _mean_relative_jump(parameters: Mapping[str, float]) -> float:
    """E[exp(jump)] - 1, which the drift takes back."""
    p_up, up, down = (parameters[f"jump_{name}"] for name in ("up_probability", "up_mean", "down_mean"))
    return p_up * up / (1 - up) - (1 - p_up) * down / (1 + down)


def _add_jumps(
    returns: np.ndarray,
    parameters: Mapping[str, float],
    probability: np.ndarray,
    arrival: np.ndarray,
    direction: np.ndarray,
) -> None:
    """Exponential sizes that are continuous in every parameter, which a search needs. Given that a jump arrives, its
    first uniform over the probability is uniform again, and so is the place of its second within its direction: two
    exponentials, of which twice the smaller is one too. A jump that a higher rate adds, or that changes its direction,
    passes through zero."""
    hit = np.flatnonzero(arrival < probability)
    p_up = np.float32(parameters["jump_up_probability"])
    upward = direction[hit] <= p_up
    side = np.where(upward, direction[hit], 1 - direction[hit]) / np.where(upward, p_up, 1 - p_up)
    size = -2 * np.log(np.maximum(arrival[hit] / probability[hit], side))
    up, down = np.float32(parameters["jump_up_mean"]), np.float32(-parameters["jump_down_mean"])
    returns[hit] += size * np.where(upward, up, down)


# --- windows ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Windows:
    """Over which spans returns are taken. A base window is an hour, rounded to whole bars, or one bar where bars are
    longer; `day`, `lags` and `leverage` (how far back, how far ahead) count base windows. Base windows of fine bars
    overlap and start every `stride` bars."""

    base_bars: int
    base_s: float
    day: int
    lags: tuple[int, ...]
    leverage: tuple[tuple[int, int], ...]
    stride: int

    @classmethod
    def of(cls, candles: Candles) -> "Windows":
        bars = max(1, round(3600 / candles.interval_s))
        base_s = bars * candles.interval_s

        def units(hours: float) -> int:
            return max(1, round(hours * 3600 / base_s))

        lags = dict.fromkeys(units(hours) for hours in LAGS_HOURS)
        leverage = dict.fromkeys((units(back), units(ahead)) for back, ahead in LEVERAGE_HOURS)
        return cls(bars, base_s, units(24), tuple(lags), tuple(leverage), max(1, bars // 4))

    def horizons(self) -> list[str]:
        """Names of the horizons whose quantiles are compared: "1h" and "1d" where the bars allow."""
        return [self.label(units) for units in dict.fromkeys((1, self.day))]

    def label(self, units: int) -> str:
        seconds = units * self.base_s
        for length, unit in ((86_400, "d"), (3600, "h")):
            if seconds >= length and seconds % length == 0:
                return f"{seconds / length:g}{unit}"
        return f"{seconds / 60:g}min"


class Rows(NamedTuple):
    """Returns over each horizon; the mean absolute return of a day with the absolute return that follows; the pairs of
    series that are correlated. In data all series are aligned by the start of the window, with NaN where there is a
    gap, so that a bootstrap can draw rows."""

    returns: list[np.ndarray]
    after: tuple[np.ndarray, np.ndarray]
    pairs: list[tuple[np.ndarray, np.ndarray]]

    def take(self, index: np.ndarray) -> "Rows":
        level, following = self.after
        pairs = [(x[index], y[index]) for x, y in self.pairs]
        return Rows([series[index] for series in self.returns], (level[index], following[index]), pairs)

    @staticmethod
    def join(pieces: list["Rows"]) -> "Rows":
        """Histories that do not touch, as one."""

        def joined(series: Iterable[np.ndarray]) -> np.ndarray:
            return np.concatenate(list(series))

        def both(pairs: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
            return joined(x for x, _ in pairs), joined(y for _, y in pairs)

        first = pieces[0]
        return Rows(
            [joined(piece.returns[i] for piece in pieces) for i in range(len(first.returns))],
            both([piece.after for piece in pieces]),
            [both([piece.pairs[i] for piece in pieces]) for i in range(len(first.pairs))],
        )


def data_rows(candles: Candles, windows: Windows) -> Rows:
    """The series of candles, in overlapping windows."""
    bars = windows.base_bars
    starts = np.arange(0, candles.bars - bars, windows.stride)

    def shifted(series: np.ndarray, by: int) -> np.ndarray:
        moved = np.full(len(starts), np.nan)
        inside = starts + by < len(series)
        moved[inside] = series[starts[inside] + by]
        return moved

    def mean_later(first: int, units: int) -> np.ndarray:
        return np.mean([shifted(absolute, (first + unit) * bars) for unit in range(units)], axis=0)

    absolute = np.abs(window_returns(candles, bars))
    returns = [shifted(window_returns(candles, units * bars), 0) for units in dict.fromkeys((1, windows.day))]
    pairs = [(shifted(absolute, 0), shifted(absolute, lag * bars)) for lag in windows.lags]
    for back, ahead in windows.leverage:
        pairs.append((shifted(window_returns(candles, back * bars), 0), mean_later(back, ahead)))
    after = mean_later(0, windows.day), shifted(absolute, windows.day * bars)
    return Rows(returns, after, pairs)


def model_rows(base: np.ndarray, windows: Windows) -> Rows:
    """The same of a simulated history of base windows, which do not overlap and have no gaps. Days start every eighth
    of a day: more overlap costs time and tells nothing."""

    def rolling(series: np.ndarray, units: int) -> np.ndarray:
        if units == 1:
            return series
        level = np.concatenate([[0.0], np.cumsum(series, dtype=np.float64)])
        return level[units:] - level[:-units]

    absolute = np.abs(base)
    returns = [base]
    if windows.day > 1:
        returns.append(rolling(base, windows.day)[:: max(1, windows.day // 8)])
    pairs = [(absolute[:-lag], absolute[lag:]) for lag in windows.lags]
    for back, ahead in windows.leverage:
        later = rolling(absolute, ahead)[back:]
        pairs.append((rolling(base, back)[: len(later)], later / ahead))
    level = rolling(absolute, windows.day)[:-1]
    return Rows(returns, (level, absolute[-len(level) :]), pairs)


# --- moments ----------------------------------------------------------------------------------------------------------


class Moments(NamedTuple):
    """Quantiles of returns (one row a horizon), quantiles of absolute returns after calm and after wild days (one row
    each), the mean absolute return of each horizon, correlations (the leverage last)."""

    quantiles: np.ndarray
    after: np.ndarray
    mean_absolute: np.ndarray
    correlations: np.ndarray

    @classmethod
    def of(cls, rows: Rows) -> "Moments":
        known = [series[np.isfinite(series)] for series in rows.returns]
        quantiles = np.array([np.quantile(series, QUANTILES) for series in known])
        mean_absolute = np.array([np.abs(series).mean(dtype=np.float64) for series in known])
        correlations = np.array([_correlation(x, y) for x, y in rows.pairs])
        return cls(quantiles, _quantiles_after(*rows.after), mean_absolute, correlations)

    def vector(self) -> np.ndarray:
        """All of them; sizes as logarithms, so that a factor counts the same in the tail and in the middle."""
        sizes = np.concatenate([np.abs(self.quantiles).ravel(), self.after.ravel(), self.mean_absolute])
        return np.concatenate([np.log(np.maximum(sizes, 1e-12)), self.correlations])


def _quantiles_after(level: np.ndarray, following: np.ndarray) -> np.ndarray:
    known = np.isfinite(level) & np.isfinite(following)
    if not known.all():
        level, following = level[known], following[known]
    calm, wild = np.quantile(level, [AFTER_SHARE, 1 - AFTER_SHARE])
    return np.array([np.quantile(following[part], AFTER_QUANTILES) for part in (level <= calm, level >= wild)])


def _correlation(x: np.ndarray, y: np.ndarray) -> float:
    known = np.isfinite(x) & np.isfinite(y)
    if not known.all():
        x, y = x[known], y[known]
    x, y = x - x.mean(dtype=np.float64), y - y.mean(dtype=np.float64)
    return float((x * y).mean() / np.sqrt(max((x * x).mean() * (y * y).mean(), 1e-300)))


# --- histories --------------------------------------------------------------------------------------------------------


class Histories:
    """A pair of simulated histories whose random numbers stay the same, for any parameters: moments that differ only
    because the parameters do."""

    def __init__(self, windows: Windows, years: float, rng: np.random.Generator, *, step_s: float = STEP_S):
        self.windows = windows
        self.steps = int(np.ceil(windows.base_s / step_s))
        length = max(windows.lags[-1] * 10, round(years / 2 * SECONDS_PER_YEAR / windows.base_s))
        self.pair = Numbers.draw_pair(rng, length * self.steps, JUMPS_PER_STEP if step_s > 60 else 1)

    def moments(self, parameters: Mapping[str, float]) -> Moments:
        return Moments.of(
            Rows.join([model_rows(self._base(parameters, numbers), self.windows) for numbers in self.pair])
        )

    def _base(self, parameters: Mapping[str, float], numbers: Numbers) -> np.ndarray:
        """Returns over base windows. Adding slices is far quicker than summing the rows of a table."""
        returns = simulate(parameters, numbers, self.windows.base_s / self.steps)
        base = returns[:: self.steps].copy()
        for first in range(1, self.steps):
            base += returns[first :: self.steps]
        return base


def long_run_moments(
    parameters: Mapping[str, float], windows: Windows, rng: np.random.Generator, *, years: float, step_s: float = STEP_S
) -> Moments:
    """Moments of a long history, as the mean over pieces of it."""
    pieces = max(1, round(years / PIECE_YEARS))
    drawn = [Histories(windows, years / pieces, rng, step_s=step_s).moments(parameters) for _ in range(pieces)]
    return Moments(*(np.mean(values, axis=0) for values in zip(*drawn, strict=True)))
