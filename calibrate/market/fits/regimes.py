"""Constant volatility in calm and a multiple of it in a crash, with a Markov chain between them, by maximum likelihood.

The regime is not seen. Hamilton's filter (1989) carries its probability from bar to bar and gives the density of each return on the
way. The fit takes a bar to be ruled by the regime at its start, so crashes must last longer than a bar to be told. What a
crash does to jumps, depth and the oracle is not in returns and stays at "nothing": whoever knows more writes it into the file.
"""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from calibrate.data.candles import Candles
from calibrate.market.fits.estimate import Estimate, FamilyFit, Known, Task, bar_returns
from calibrate.market.fits.likelihood import Parameters, fit_by_likelihood
from calibrate.market.fits.search import Space, Span
from calibrate.units import HOURS_PER_YEAR, SECONDS_PER_YEAR

UNTOLD = {
    "crash_jump_multiplier": 1.0,
    "crash_depth_multiplier": 1.0,
    "crash_oracle_delay_s": 0.0,
    "drift": 0.0,
}


def fit_regimes(task: Task) -> Estimate:
    bar = task.bar_years
    space = Space(
        {
            "volatility": Span(1e-3, 6.0),
            "crashes_per_year": Span(0.1, min(10_000.0, 0.5 / bar)),
            "crash_hours": Span(max(1 / 12, 0.5 * bar * HOURS_PER_YEAR), 2000.0),
            "crash_volatility_multiplier": Span(1.05, 50.0),
        }
    )
    starts = [
        {
            "volatility": 0.7 * task.volatility,
            "crashes_per_year": crashes,
            "crash_hours": hours,
            "crash_volatility_multiplier": 2.5,
        }
        for crashes, hours in ((40.0, 48.0), (400.0, 6.0))
    ]

    def log_density(parameters: Mapping[str, Array], returns: Float[Array, " bar"]) -> Float[Array, " bar"]:
        return hamilton(parameters, returns, bar).log_density

    return fit_by_likelihood(task, space, log_density, starts, fixed=UNTOLD)


class Filtered(NamedTuple):
    """For each bar the log-density of its return given those before, and the probability of a crash at its end."""

    log_density: Float[Array, " bar"]
    crash: Float[Array, " bar"]


def hamilton(p: Parameters, returns: Float[Array, " bar"], bar: float) -> Filtered:
    """The filter, from the long-run share of crashes on; `bar` in years. A return that is not a number tells nothing."""
    into, out = p["crashes_per_year"], HOURS_PER_YEAR / p["crash_hours"]
    share = jnp.asarray(into / (into + out))
    kept = jnp.exp(-(into + out) * bar)
    known = jnp.isfinite(returns)
    returns = jnp.where(known, returns, 0.0)

    def log_normal(volatility: Array | float) -> Float[Array, " bar"]:
        variance = volatility**2 * bar
        return -((returns + variance / 2) ** 2) / (2 * variance) - jnp.log(2 * jnp.pi * variance) / 2

    calm = log_normal(p["volatility"])
    crash = log_normal(p["volatility"] * p["crash_volatility_multiplier"])
    excess = jnp.where(known, crash - calm, 0.0)

    def step(probability: Array, log_ratio: Array) -> tuple[Array, tuple[Array, Array]]:
        # Both densities relative to the larger one, so that neither overflows.
        largest = jnp.maximum(log_ratio, 0.0)
        of_crash, of_calm = probability * jnp.exp(log_ratio - largest), (1 - probability) * jnp.exp(-largest)
        total = of_crash + of_calm
        after = share + (of_crash / total - share) * kept
        return after, (jnp.log(total) + largest, after)

    _, (log_total, after) = jax.lax.scan(step, share, excess)
    return Filtered(calm + log_total, after)


# --- the state --------------------------------------------------------------------------------------------------------


def follow_regimes(estimate: Estimate, candles: Candles) -> Known:
    """The filter's probability that the next bar opens in a crash. A gap counts as a bar that tells nothing."""
    parameters = {name: jnp.asarray(value) for name, value in estimate.parameters.items()}
    returns = bar_returns(candles)
    found = jax.jit(lambda values: hamilton(parameters, values, candles.interval_s / SECONDS_PER_YEAR).crash)(returns)
    crash = np.asarray(found, np.float64)
    return Known(np.zeros_like(crash), np.zeros_like(crash), crash)


REGIMES = FamilyFit(
    {"family": "constant", "regimes": "calm-crash"}, fit_regimes, follow_regimes, "maximum likelihood (Hamilton filter)"
)
