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


def excited_jumps(
    rng: np.random.Generator, years: float, *, jumps_per_year: float, branching: float, memory_hours: float
) -> np.ndarray:
    """Times of a Hawkes process as what it is: families of jumps (Hawkes and Oakes 1974). Generation by generation, each jump has a
    Poisson number of offspring, exponentially later; the process begins a fifth of a year before time 0."""
    lead = 0.2
    born = rng.uniform(-lead, years, rng.poisson((1 - branching) * jumps_per_year * (years + lead)))
    all_born = [born]
    while len(born):
        offspring = rng.poisson(branching, len(born))
        born = np.repeat(born, offspring) + rng.exponential(memory_hours / HOURS_PER_YEAR, offspring.sum())
        all_born.append(born)
    times = np.concatenate(all_born)
    return np.sort(times[(times >= 0) & (times < years)])


def excited_returns(
    rng: np.random.Generator, count: int, *, volatility: float, jump_mean: float, jump_sd: float, **law: float
) -> tuple[np.ndarray, np.ndarray]:
    """Normal returns plus jumps of normal sizes at the times of a Hawkes process; and the number of jumps in each hour."""
    number = np.bincount((excited_jumps(rng, count * BAR, **law) / BAR).astype(int), minlength=count)
    jumps = jump_mean * number + jump_sd * np.sqrt(number) * rng.standard_normal(count)
    return volatility * np.sqrt(BAR) * rng.standard_normal(count) - volatility**2 * BAR / 2 + jumps, number


# Markets whose volatility moves all the time are made side by side, in stretches that begin in the long run, one column each.
STRETCHES, FINE = 24, 12  # and steps an hour


def two_factor_returns(
    rng: np.random.Generator, count: int, *, volatility: float, sd: tuple[float, float],
    half_life_days: tuple[float, float], leverage: tuple[float, float],
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Log-volatility that is the sum of two Ornstein-Uhlenbeck processes, by Euler's rule; and that sum as each hour begins."""
    dt = BAR / FINE
    speed, spread, part = (np.array(x)[:, None] for x in (np.log(2) * 365 / np.array(half_life_days), sd, leverage))
    level = spread * rng.standard_normal((2, STRETCHES))
    returns, begun = np.zeros((count, STRETCHES)), np.empty((count, STRETCHES))
    for step in range(count * FINE):
        if step % FINE == 0:
            begun[step // FINE] = level.sum(axis=0)
        normals, own = rng.standard_normal((2, STRETCHES)), rng.standard_normal(STRETCHES)
        sigma = volatility * np.exp(level.sum(axis=0))
        normal = (part * normals).sum(axis=0) + np.sqrt(1 - np.sum(part**2)) * own
        returns[step // FINE] += sigma * np.sqrt(dt) * normal - sigma**2 * dt / 2
        level += -speed * dt * level + spread * np.sqrt(2 * speed * dt) * normals
    return returns, begun


def heston_returns(
    rng: np.random.Generator,
    count: int,
    *,
    volatility: float,
    half_life_days: float,
    of_variance: float,
    leverage: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Variance exactly, by its noncentral chi-square law (Cox, Ingersoll and Ross 1985), and returns given where variance went; and
    variance as each hour begins."""
    dt, usual, speed = BAR / FINE, volatility**2, np.log(2) * 365 / half_life_days
    kept = np.exp(-speed * dt)
    scale, freedom = of_variance**2 * (1 - kept) / (4 * speed), 4 * speed * usual / of_variance**2
    variance = rng.gamma(freedom / 2, of_variance**2 / (2 * speed), STRETCHES)
    returns, begun = np.zeros((count, STRETCHES)), np.empty((count, STRETCHES))
    for step in range(count * FINE):
        if step % FINE == 0:
            begun[step // FINE] = variance
        after = scale * rng.noncentral_chisquare(freedom, variance * kept / scale)
        mean = (variance + after) / 2
        driven = (after - variance - speed * (usual - mean) * dt) / of_variance
        own = np.sqrt((1 - leverage**2) * mean * dt) * rng.standard_normal(STRETCHES)
        returns[step // FINE] += leverage * driven + own - mean * dt / 2
        variance = after
    return returns, begun


def candles_of_stretches(returns: np.ndarray) -> Candles:
    """Hourly candles, with a month without any between stretches."""
    parts = [candles_of_returns(column) for column in returns.T]
    close = np.concatenate([part.close for part in parts])
    span = int(parts[0].ts[-1] - parts[0].ts[0]) + 30 * 86_400_000
    ts = np.concatenate([part.ts + number * span for number, part in enumerate(parts)])
    return Candles(ts, close, close, close, close, np.ones(len(close)), 3600.0, "made.csv", "0" * 64)
