"""Heston's variance by simulated moments, on histories of the engine.

The state is followed by an exact filter on a grid (Kitagawa 1987): variance walks between neighbouring points with the mean and the
variance of its diffusion, and each return is normal given the variance at its bar's start. The filter makes nothing of the sign of
returns.
"""

import numpy as np
from scipy.linalg import expm
from scipy.stats import gamma

from calibrate.data.candles import Candles
from calibrate.market.fits.estimate import Estimate, FamilyFit, Known, Task, bar_returns
from calibrate.market.fits.search import Space, Span
from calibrate.market.fits.simulated_moments import Misfit, annual_size, engine_moments, fit_moments
from calibrate.units import DAYS_PER_YEAR, SECONDS_PER_YEAR

SPACE = Space(
    {
        "volatility": Span(0.01, 6.0),
        "reversion_half_life_days": Span(0.1, 180.0),
        "volatility_of_variance": Span(0.05, 99.0),
        "leverage_correlation": Span(-0.95, 0.95, "plain"),
    }
)
# Points of the filter's grid, even in volatility; the last is passed this seldom, or is this many times usual variance.
POINTS, BEYOND, AT_LEAST = 64, 1e-6, 9.0


def fit_heston(task: Task) -> Estimate:
    def misfit(years: float, number: int) -> Misfit:
        return Misfit(task.targets, SPACE, engine_moments(HESTON, task, years, number))

    return fit_moments(task, misfit, _guesses(task), starts=1)


def _guesses(task: Task) -> list[dict[str, float]]:
    """Variance whose long-run law is narrow or wide (its gamma's shape), quick or slow."""
    annual = 1.15 * annual_size(task)
    return [
        {
            "volatility": annual,
            "reversion_half_life_days": half_life,
            "volatility_of_variance": annual * np.sqrt(2 * np.log(2) * DAYS_PER_YEAR / half_life / shape),
            "leverage_correlation": -0.2,
        }
        for shape in (0.5, 1.5)
        for half_life in (1.5, 10.0)
    ]


# --- the state --------------------------------------------------------------------------------------------------------


def follow_heston(estimate: Estimate, candles: Candles) -> Known:
    """The lognormal law with the filter's mean and variance of variance, at each close."""
    grid, start, walk = variance_chain(estimate, candles.interval_s / SECONDS_PER_YEAR)
    returns = bar_returns(candles)
    of_bar = grid * candles.interval_s / SECONDS_PER_YEAR
    # The drift that keeps prices where they are is far below what is seen of a bar.
    log_density = -(returns[:, None] ** 2) / (2 * of_bar) - np.log(of_bar) / 2
    density = np.exp(log_density - log_density.max(axis=1, keepdims=True))
    density[~np.isfinite(returns)] = 1.0
    share, shares = start, np.empty_like(density)
    for bar, likely in enumerate(density):
        seen = share * likely
        share = seen / seen.sum() @ walk
        shares[bar] = share
    mean = shares @ grid
    spread = np.sqrt(np.log1p(np.maximum(shares @ grid**2 / mean**2 - 1, 0.0))) / 2
    return Known(np.log(mean / estimate.parameters["volatility"] ** 2) / 2 - spread**2, spread)


def variance_chain(estimate: Estimate, bar: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points of annual variance, their long-run shares, and the probabilities to go from one to another within a bar (years)."""
    p = estimate.parameters
    usual, speed = p["volatility"] ** 2, np.log(2) * DAYS_PER_YEAR / p["reversion_half_life_days"]
    shape = 2 * speed * usual / p["volatility_of_variance"] ** 2
    most = max(float(gamma.isf(BEYOND, shape, scale=usual / shape)), AT_LEAST * usual)
    grid = (np.arange(1, POINTS + 1) / POINTS) ** 2 * most
    shares = np.diff(gamma.cdf((grid[:-1] + grid[1:]) / 2, shape, scale=usual / shape), prepend=0.0, append=1.0)
    return grid, shares, expm(_generator(grid, speed * (usual - grid), p["volatility_of_variance"] ** 2 * grid) * bar)


def _generator(grid: np.ndarray, drift: np.ndarray, diffusion: np.ndarray) -> np.ndarray:
    """Rates to either neighbour, such that steps have this mean and this variance a year; at the ends, and where a rate would be
    negative (close to zero variance), this mean alone or nearly so."""
    gap, inside = np.diff(grid), slice(1, -1)
    below, above = gap[:-1], gap[1:]
    up, down = np.zeros_like(grid), np.zeros_like(grid)
    up[inside] = (diffusion[inside] + below * drift[inside]) / (above * (above + below))
    down[inside] = (diffusion[inside] - above * drift[inside]) / (below * (above + below))
    up[0], down[-1] = drift[0] / gap[0], -drift[-1] / gap[-1]
    rates = np.diag(np.maximum(up, 0.0)[:-1], 1) + np.diag(np.maximum(down, 0.0)[1:], -1)
    return rates - np.diag(rates.sum(axis=1))


HESTON = FamilyFit({"family": "heston"}, fit_heston, follow_heston, "simulated moments")
