"""A joint market by plain loops in NumPy, written on its own: the judge of how assets move together.

Constant volatility or log-OU, calm and crash, normal jumps of each asset and of all, as many in a step as a Poisson law
draws. Prices are expected to stay where they are.
"""

import numpy as np


def joint_returns(
    *,
    volatility: np.ndarray,
    calm: np.ndarray,
    crash: np.ndarray,
    crash_volatility: np.ndarray,
    crashes_per_year: float,
    crash_hours: float,
    crash_jumps: float,
    shared: tuple[float, float, float],
    beta: np.ndarray,
    own: np.ndarray,
    step_years: float,
    steps: int,
    paths: int,
    rng: np.random.Generator,
    log_ou: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray] | None = None,
) -> np.ndarray:
    """Log-returns, step by asset by path. `shared` are rate, mean and deviation; rows of `own` the same of each asset. `log_ou` are
    standard deviations of log-volatility, annual speeds, leverage, and correlations of its changes."""
    assets, out = len(volatility), 8760.0 / crash_hours
    share = crashes_per_year / (crashes_per_year + out)
    kept = np.exp(-(crashes_per_year + out) * step_years)
    in_crash = rng.random(paths) < share
    sd, speed, leverage, together = log_ou or (np.zeros(assets), np.ones(assets), np.zeros(assets), np.eye(assets))
    long_run = together * 2 * np.sqrt(np.outer(speed, speed)) / np.add.outer(speed, speed)
    level = sd[:, None] * rng.multivariate_normal(np.zeros(assets), long_run, paths).T
    made = np.empty((steps, assets, paths))
    for step in range(steps):
        multiplier = np.where(in_crash, crash_volatility[:, None], 1.0)
        now = volatility[:, None] * np.exp(level) * multiplier
        change = rng.multivariate_normal(np.zeros(assets), together, paths).T
        # What an asset's return has to do with other volatilities goes through its own: so the file means its leverage.
        rest = np.sqrt(1 - leverage**2)
        alone = np.empty((assets, paths))
        for regime, correlation in ((False, calm), (True, crash)):
            where = in_crash == regime
            left = (correlation - np.outer(leverage, leverage) * together) / np.outer(rest, rest)
            alone[:, where] = rng.multivariate_normal(np.zeros(assets), left, where.sum()).T
        normal = leverage[:, None] * change + rest[:, None] * alone
        more = np.where(in_crash, crash_jumps, 1.0)
        total = -(now**2) / 2 * step_years + now * np.sqrt(step_years) * normal
        rate, mean, deviation = shared
        count = rng.poisson(rate * more * step_years)
        factor = mean * count + deviation * np.sqrt(count) * rng.standard_normal(paths)
        relative = np.expm1(beta * mean + (beta * deviation) ** 2 / 2)
        total += beta[:, None] * factor - rate * more * step_years * relative[:, None]
        for k, (rate, mean, deviation) in enumerate(own):
            count = rng.poisson(rate * more * step_years)
            total[k] += mean * count + deviation * np.sqrt(count) * rng.standard_normal(paths)
            total[k] -= rate * more * step_years * np.expm1(mean + deviation**2 / 2)
        made[step] = total
        decay = np.exp(-speed * step_years)[:, None]
        level = level * decay + sd[:, None] * np.sqrt(1 - decay**2) * change
        in_crash = rng.random(paths) < np.where(in_crash, 1 - (1 - share) * (1 - kept), share * (1 - kept))
    return made
