"""Constant volatility with jumps of normal sizes that excite further jumps, by quasi-maximum likelihood.

Neither jumps nor their rate are seen. A filter carries the jumps to be expected in the next bar as a gamma law: their number is
then negative binomial, a bar's return a mixture of normals over it, and what the return tells of the number moves the law on
with the exact mean and variance (an assumed-density filter: Maybeck 1982, section 12.7). Where jumps stand out of the diffusion
this is the likelihood of the process, else close to it. The rate is taken to be ruled by what came before the bar.

For the fit every month is a history of its own, from the long-run law on, and all are filtered side by side: a composite
likelihood, which hardly knows less as long as jumps are forgotten within a month, and takes a fraction of the time.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp
from jaxtyping import Array, Float

from calibrate.data.candles import Candles
from calibrate.market.fits.estimate import Estimate, FamilyFit, Known, Task, bar_returns
from calibrate.market.fits.jumps import SIZES, merton_start
from calibrate.market.fits.likelihood import Parameters, fit_by_likelihood
from calibrate.market.fits.search import Space, Span
from calibrate.market.targets import BLOCK_DAYS
from calibrate.units import DAYS_PER_YEAR, HOURS_PER_YEAR, SECONDS_PER_YEAR

# Jumps in a bar, and how many a bar has at most on average: excited ones are several times as many.
MOST_JUMPS, MOST_JUMPS_PER_BAR = 12, 0.5
# A gamma law this narrow (variance over squared mean) is a number.
NARROWEST = 1e-6


def fit_hawkes(task: Task) -> Estimate:
    bar = task.bar_years
    space = Space(
        {
            "volatility": Span(1e-3, 6.0),
            "jumps_per_year": Span(0.5, min(20_000.0, MOST_JUMPS_PER_BAR / bar)),
            "jump_branching_ratio": Span(0.02, 0.949, "logit"),
            "jump_memory_hours": Span(max(1 / 12, bar * HOURS_PER_YEAR), 2000.0),
            **SIZES["merton"],
        }
    )
    starts = [
        merton_start(task.volatility, share, bar, size) | {"jump_branching_ratio": 0.7, "jump_memory_hours": hours}
        for share, size, hours in ((0.1, 1.5, 12.0), (0.03, 3.0, 48.0))
    ]

    def log_density(parameters: Mapping[str, Array], returns: Float[Array, " bar"]) -> Float[Array, " bar"]:
        months = _months(returns, bar)
        return excited(parameters, months, bar).log_density.ravel()[: len(returns)]

    return fit_by_likelihood(task, space, log_density, starts, fixed={"drift": 0.0})


def _months(returns: Float[Array, " bar"], bar: float) -> Float[Array, "month bar"]:
    """Bars that fill the last month up are not numbers."""
    length = round(BLOCK_DAYS / DAYS_PER_YEAR / bar)
    missing = -len(returns) % length
    return jnp.pad(returns, (0, missing), constant_values=jnp.nan).reshape(-1, length)


class Excited(NamedTuple):
    """For each bar the log-density of its return given those before, and the jumps to be expected in the next one."""

    log_density: Float[Array, "month bar"]
    expected: Float[Array, "month bar"]


class Recursion(NamedTuple):
    """Jumps to be expected in a bar: usually `usual`; the next bar keeps a share of the present one's, and each jump that came adds
    `added`. As the engine's `HawkesArrival`, to second order in the bar over the memory."""

    usual: Array | float
    kept: Array | float
    added: Array | float
    time_above: Array | float


def recursion(p: Parameters, bar: float) -> Recursion:
    """For bars of `bar` years."""
    decay = HOURS_PER_YEAR / p["jump_memory_hours"]
    reversion = (1 - p["jump_branching_ratio"]) * decay
    kept = jnp.exp(-decay * bar)
    return Recursion(
        p["jumps_per_year"] * bar, kept, jnp.exp(-reversion * bar) - kept, -jnp.expm1(-reversion * bar) / reversion
    )


def excited(p: Parameters, returns: Float[Array, "month bar"], bar: float) -> Excited:
    """The filter, in each month from the long-run law on. A return that is not a number tells nothing."""
    number, law = jnp.arange(MOST_JUMPS + 1.0), recursion(p, bar)
    known = jnp.isfinite(returns)
    log_normal = jnp.where(known[..., None], _log_normal(p, jnp.where(known, returns, 0.0), number, bar), 0.0)
    log_factorials = jnp.asarray([math.lgamma(n + 1) for n in range(MOST_JUMPS + 1)])
    background = law.usual * (1 - law.kept - law.added)

    def step(state: tuple[Array, Array], of_bar: Array) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
        mean, variance = state
        shape, rate = mean**2 / variance, mean / variance
        rising = jnp.cumsum(jnp.log((shape[:, None] + number[:-1]) / (rate[:, None] + 1)), axis=1)
        none = -shape * jnp.log1p(1 / rate)
        joint = none[:, None] + jnp.pad(rising, ((0, 0), (1, 0))) - log_factorials + of_bar
        log_density = logsumexp(joint, axis=1)
        share = jnp.exp(joint - log_density[:, None])
        count = share @ number
        spread = share @ number**2 - count**2
        slope = law.kept / (rate + 1) + law.added
        after = background + law.kept * shape / (rate + 1) + slope * count
        wide = law.kept**2 * (shape + count) / (rate + 1) ** 2 + slope**2 * spread
        return (after, jnp.maximum(wide, NARROWEST * after**2)), (log_density, after)

    # Long-run variance of the expected number, given that numbers are Poisson.
    long_run = law.added**2 * law.usual / jnp.maximum(1 - (law.kept + law.added) ** 2, 1e-12)
    usual = jnp.full(len(returns), law.usual)
    start = usual, jnp.maximum(long_run, NARROWEST * usual**2)
    _, (log_density, expected) = jax.lax.scan(step, start, jnp.swapaxes(log_normal, 0, 1))
    return Excited(jnp.where(known, log_density.T, 0.0), expected.T)


def _log_normal(
    p: Parameters, returns: Float[Array, "month bar"], number: Float[Array, " number"], bar: float
) -> Float[Array, "month bar number"]:
    """Log-density of each return given the number of jumps. The compensator is that of the long-run rate: what it lacks in excited
    hours is far below what is seen of a bar."""
    compensator = p["jumps_per_year"] * bar * jnp.expm1(p["jump_mean"] + p["jump_sd"] ** 2 / 2)
    mean = -(p["volatility"] ** 2) * bar / 2 - compensator + number * p["jump_mean"]
    variance = p["volatility"] ** 2 * bar + number * p["jump_sd"] ** 2
    return -((returns[..., None] - mean) ** 2) / (2 * variance) - jnp.log(2 * jnp.pi * variance) / 2


# --- the state --------------------------------------------------------------------------------------------------------


def follow_hawkes(estimate: Estimate, candles: Candles) -> Known:
    """The excitement that makes the filter's expected number of jumps in the next bar. A gap counts as a bar that tells nothing."""
    bar = candles.interval_s / SECONDS_PER_YEAR
    returns = bar_returns(candles)[None]
    with jax.enable_x64(True):
        parameters = {name: jnp.asarray(value) for name, value in estimate.parameters.items()}
        found = jax.jit(lambda values: excited(parameters, values, bar).expected)(returns)
        law = recursion(estimate.parameters, bar)
    expected = np.asarray(found)[0]
    rate, ratio = estimate.parameters["jumps_per_year"], estimate.parameters["jump_branching_ratio"]
    excitement = (expected - float(law.usual)) / float(law.time_above) + ratio * rate
    return Known(np.zeros_like(expected), np.zeros_like(expected), excitement=np.maximum(excitement, 0.0))


HAWKES = FamilyFit(
    {"family": "constant", "jumps": "merton", "arrival": "self-exciting"},
    fit_hawkes,
    follow_hawkes,
    "quasi-maximum likelihood (gamma filter)",
)
