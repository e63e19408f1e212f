"""Log-OU volatility with Kou jumps by simulated moments, on histories in NumPy."""

from collections.abc import Mapping

import numpy as np

from calibrate.data.candles import Candles
from calibrate.market.fits.estimate import Estimate, FamilyFit, Known, Task, bar_returns
from calibrate.market.fits.search import Space, Span
from calibrate.market.fits.simulated_moments import Misfit, annual_size, fit_moments
from calibrate.market.moments import (
    JUMPS_PER_STEP,
    SECONDS_PER_YEAR,
    STEP_S,
    Histories,
    Numbers,
    log_volatility,
    simulate,
)
from calibrate.market.schema import MOST_JUMPS_PER_WILD_MINUTE, jumps_per_wild_minute

SPACE = Space(
    {
        "volatility": Span(0.01, 6.0),
        "log_volatility_sd": Span(0.05, 1.5),
        "reversion_half_life_days": Span(0.1, 180.0),
        "leverage_correlation": Span(-0.95, 0.95, "plain"),
        "jumps_per_year": Span(1.0, 20_000.0),
        "jump_volatility_exponent": Span(0.0, 3.0, "plain"),
        "jump_up_probability": Span(0.05, 0.95, "logit"),
        "jump_up_mean": Span(5e-4, 0.25),
        "jump_down_mean": Span(5e-4, 0.25),
    }
)
FILTER_YEARS = 20.0


def fit_log_ou_kou(task: Task) -> Estimate:
    def misfit(years: float, number: int) -> Misfit:
        histories = Histories(task.windows, years, np.random.default_rng([task.seed, number]))
        return Misfit(task.targets, SPACE, histories.moments, _jump_rate_excess)

    return fit_moments(task, misfit, _guesses(task), starts=3)


def _jump_rate_excess(parameters: Mapping[str, float]) -> float:
    """A penalty where wild minutes see jumps more often than half of what a model file may say."""
    return 10 * max(0.0, float(np.log(jumps_per_wild_minute(parameters) / (MOST_JUMPS_PER_WILD_MINUTE / 2))))


def _guesses(task: Task) -> list[dict[str, float]]:
    """Calm or wild, quick or slow, few large jumps or many small ones, each with volatility at the level that gives about the
    right mean absolute return."""
    size, annual = float(task.targets.moments.mean_absolute[0]), annual_size(task)
    return [
        {
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
        for sd in (0.5, 0.9)
        for half_life in (1.5, 10.0)
        for jumps, jump_size, exponent in ((40.0, 3.0, 1.0), (400.0, 2.0, 1.0), (400.0, 1.5, 2.0))
    ]


# --- the state --------------------------------------------------------------------------------------------------------


def follow_log_ou(estimate: Estimate, candles: Candles) -> Known:
    """Kalman's filter on the logarithm of squared returns (Harvey, Ruiz and Shephard 1994), which is log-volatility plus noise. How
    much of either, jumps included, is measured on a simulated history of the model. It makes nothing of the sign of returns."""
    parameters = estimate.parameters
    slope, level, noise = _observation(parameters, candles.interval_s)
    returns = bar_returns(candles)
    observed = (log_square(returns) - level) / slope
    speed = np.log(2) / (parameters["reversion_half_life_days"] * 86_400)
    kept = float(np.exp(-speed * candles.interval_s))
    stationary = parameters["log_volatility_sd"] ** 2
    added, doubt = stationary * (1 - kept**2), (noise / slope) ** 2
    mean, variance = 0.0, stationary
    means, variances = [], []
    for value, seen in zip(observed.tolist(), np.isfinite(observed).tolist(), strict=True):
        if seen:
            gain = variance / (variance + doubt)
            mean, variance = mean + gain * (value - mean), (1 - gain) * variance
        mean, variance = kept * mean, kept**2 * variance + added
        means.append(mean)
        variances.append(variance)
    return Known(np.array(means), np.sqrt(variances))


def _observation(parameters: Mapping[str, float], interval_s: float) -> tuple[float, float, float]:
    """Slope, level and noise of the logarithm of a bar's squared return as a line in log-volatility at the bar's start."""
    steps = int(np.ceil(interval_s / STEP_S))
    bars = round(FILTER_YEARS * SECONDS_PER_YEAR / interval_s)
    numbers = Numbers.draw(np.random.default_rng(5), bars * steps, JUMPS_PER_STEP)
    returns = simulate(parameters, numbers, interval_s / steps).reshape(bars, steps).sum(axis=1, dtype=np.float64)
    state = log_volatility(parameters, numbers, interval_s / steps / SECONDS_PER_YEAR)[::steps]
    squares = log_square(returns)
    slope, level = np.polyfit(state, squares, 1)
    return float(slope), float(level), float(np.std(squares - slope * state - level))


def log_square(returns: np.ndarray) -> np.ndarray:
    """Prices move in ticks: what is below a basis point counts as one, as its logarithm would tell of the tick alone."""
    return np.log(np.maximum(returns**2, 1e-8))


LOG_OU_KOU = FamilyFit({"family": "log-ou-kou"}, fit_log_ou_kou, follow_log_ou, "simulated moments")
