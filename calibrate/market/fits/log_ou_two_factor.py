"""Two factors of log-volatility by simulated moments, on histories of the engine.

The state is followed by Kalman's filter on the logarithm of squared returns (Harvey, Ruiz and Shephard 1994), which are twice
log-volatility plus the logarithm of a squared normal. It makes nothing of the sign of returns, and takes volatility within a bar
for that at its start: the fast factor is best followed where its half-life is several bars.
"""

import numpy as np

from calibrate.data.candles import Candles
from calibrate.market.fits.estimate import Estimate, FamilyFit, Fast, Known, Task, bar_returns
from calibrate.market.fits.log_ou_kou import log_square
from calibrate.market.fits.search import Space, Span
from calibrate.market.fits.simulated_moments import Misfit, annual_size, engine_moments, fit_moments
from calibrate.units import DAYS_PER_YEAR, SECONDS_PER_YEAR

SPACE = Space(
    {
        "volatility": Span(0.01, 6.0),
        "fast_log_volatility_sd": Span(0.05, 1.4),
        "fast_half_life_days": Span(0.06, 4.0),
        # So that whatever the search tries, the squares of both sum to less than 1.
        "fast_leverage_correlation": Span(-0.67, 0.67, "plain"),
        "slow_log_volatility_sd": Span(0.05, 1.4),
        "slow_half_life_days": Span(4.0, 180.0),
        "slow_leverage_correlation": Span(-0.67, 0.67, "plain"),
    }
)
# Mean and variance of the logarithm of a squared standard normal.
LOG_SQUARE_MEAN, LOG_SQUARE_VARIANCE = -np.euler_gamma - np.log(2), np.pi**2 / 2


def fit_two_factor(task: Task) -> Estimate:
    def misfit(years: float, number: int) -> Misfit:
        return Misfit(task.targets, SPACE, engine_moments(TWO_FACTOR, task, years, number))

    return fit_moments(task, misfit, _guesses(task), starts=1)


def _guesses(task: Task) -> list[dict[str, float]]:
    """The fast factor small or large, quick or less so."""
    annual = annual_size(task)
    return [
        {
            "volatility": annual * np.exp(-(fast**2 + slow**2) / 2),
            "fast_log_volatility_sd": fast,
            "fast_half_life_days": half_life,
            "fast_leverage_correlation": -0.1,
            "slow_log_volatility_sd": slow,
            "slow_half_life_days": 20.0,
            "slow_leverage_correlation": -0.1,
        }
        for fast, slow in ((0.4, 0.5), (0.7, 0.5))
        for half_life in (0.2, 1.0)
    ]


# --- the state --------------------------------------------------------------------------------------------------------


def follow_two_factor(estimate: Estimate, candles: Candles) -> Known:
    """Mean and covariance of both factors at each close; told are the law of their sum, and of the fast one given it."""
    p, bar = estimate.parameters, candles.interval_s / SECONDS_PER_YEAR
    level = np.log(p["volatility"] ** 2 * bar) + LOG_SQUARE_MEAN
    returns = bar_returns(candles)
    observed = ((log_square(returns) - level) / 2).tolist()
    half_lives = np.array([p["fast_half_life_days"], p["slow_half_life_days"]])
    kept = np.exp(-np.log(2) * DAYS_PER_YEAR * bar / half_lives)
    long_run = np.array([p["fast_log_volatility_sd"], p["slow_log_volatility_sd"]]) ** 2
    mean, covariance, doubt = np.zeros(2), np.diag(long_run), LOG_SQUARE_VARIANCE / 4
    means, covariances = np.empty((len(observed), 2)), np.empty((len(observed), 2, 2))
    for bar_number, value in enumerate(observed):
        if np.isfinite(value):
            seen = covariance.sum(axis=1)
            gain = seen / (seen.sum() + doubt)
            mean, covariance = mean + gain * (value - mean.sum()), covariance - np.outer(gain, seen)
        mean, covariance = kept * mean, np.outer(kept, kept) * covariance + np.diag(long_run * (1 - kept**2))
        means[bar_number], covariances[bar_number] = mean, covariance
    total, with_fast = covariances.sum(axis=(1, 2)), covariances[:, 0].sum(axis=1)
    slope = with_fast / total
    fast = Fast(means[:, 0], slope, np.sqrt(np.maximum(covariances[:, 0, 0] - slope * with_fast, 0.0)))
    return Known(means.sum(axis=1), np.sqrt(total), fast=fast)


TWO_FACTOR = FamilyFit({"family": "log-ou-two-factor"}, fit_two_factor, follow_two_factor, "simulated moments")
