"""Constant volatility with jumps that come at a constant rate, by maximum likelihood: Merton's normal sizes and Kou's exponential
ones. Bars are independent, so there is no state to follow.

With normal sizes the density of a bar's return is a Poisson mixture of normals, which is summed (Merton 1976). With exponential
sizes it is the inverse Fourier transform of the characteristic function (Kou 2002), on a grid that reaches to twice the largest
return; below 1e-12 it is rounding, and a return out there counts as that.
"""

import math

import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp
from jaxtyping import Array, Float

from calibrate.market.fits.estimate import Estimate, FamilyFit, Task
from calibrate.market.fits.likelihood import Parameters, fit_by_likelihood
from calibrate.market.fits.search import Space, Span

# Jumps in a bar: at the most frequent that the search tries, more than this many have a probability below 1e-9.
MOST_JUMPS, MOST_JUMPS_PER_BAR = 16, 3.0
GRID, FLOOR = 2**14, 1e-12
SIZES = {
    "merton": {"jump_mean": Span(-0.5, 0.5, "plain"), "jump_sd": Span(1e-4, 0.5)},
    "kou": {
        "jump_up_probability": Span(0.02, 0.98, "logit"),
        "jump_up_mean": Span(2e-4, 0.25),
        "jump_down_mean": Span(2e-4, 0.25),
    },
}


def fit_merton(task: Task) -> Estimate:
    return _fit(task, "merton")


def fit_kou(task: Task) -> Estimate:
    return _fit(task, "kou")


def _fit(task: Task, sizes: str) -> Estimate:
    bar = task.bar_years
    space = Space(
        {
            "volatility": Span(1e-3, 6.0),
            "jumps_per_year": Span(0.5, min(50_000.0, MOST_JUMPS_PER_BAR / bar)),
            **SIZES[sizes],
        }
    )
    start = merton_start if sizes == "merton" else _kou_start
    starts = [start(task.volatility, share, bar, size) for share, size in ((0.1, 1.5), (0.01, 4.0))]
    reach = 2 * float(np.abs(task.returns).max())

    def log_density(parameters: Parameters, returns: Float[Array, " bar"]) -> Float[Array, " bar"]:
        if sizes == "merton":
            return merton_log_density(parameters, returns, bar)
        return kou_log_density(parameters, returns, bar, reach)

    return fit_by_likelihood(task, space, log_density, starts, fixed={"drift": 0.0})


def merton_start(volatility: float, share: float, bar: float, size: float) -> dict[str, float]:
    """A jump in this share of bars, so many standard deviations large, and a calmer diffusion."""
    return _calmer(volatility, share, bar) | {"jump_mean": 0.0, "jump_sd": size * volatility * math.sqrt(bar)}


def _kou_start(volatility: float, share: float, bar: float, size: float) -> dict[str, float]:
    large = size * volatility * math.sqrt(bar)
    return _calmer(volatility, share, bar) | {
        "jump_up_probability": 0.5,
        "jump_up_mean": large,
        "jump_down_mean": large,
    }


def _calmer(volatility: float, share: float, bar: float) -> dict[str, float]:
    return {"volatility": 0.6 * volatility, "jumps_per_year": min(share / bar, 20_000.0)}


def merton_log_density(p: Parameters, returns: Float[Array, " bar"], bar: float) -> Float[Array, " bar"]:
    """Log-density of the returns of bars of `bar` years."""
    jumps = jnp.arange(MOST_JUMPS + 1.0)
    expected = p["jumps_per_year"] * bar
    compensator = expected * jnp.expm1(p["jump_mean"] + p["jump_sd"] ** 2 / 2)
    mean = -(p["volatility"] ** 2) * bar / 2 - compensator + jumps * p["jump_mean"]
    variance = p["volatility"] ** 2 * bar + jumps * p["jump_sd"] ** 2
    log_factorials = jnp.asarray([math.lgamma(n + 1) for n in range(MOST_JUMPS + 1)])
    log_weight = jumps * jnp.log(expected) - expected - log_factorials
    distance = returns[:, None] - mean
    return logsumexp(log_weight - distance**2 / (2 * variance) - jnp.log(2 * jnp.pi * variance) / 2, axis=1)


def kou_log_density(p: Parameters, returns: Float[Array, " bar"], bar: float, reach: float) -> Float[Array, " bar"]:
    """The same; the grid goes from `-reach` to `reach`."""
    step = 2 * reach / GRID
    u = 2 * jnp.pi * jnp.fft.fftfreq(GRID, step)
    up, up_mean, down_mean = p["jump_up_probability"], p["jump_up_mean"], p["jump_down_mean"]
    expected = p["jumps_per_year"] * bar
    compensator = up / (1 - up_mean) + (1 - up) / (1 + down_mean) - 1
    mean = -(p["volatility"] ** 2) * bar / 2 - expected * compensator
    moment = up / (1 - 1j * u * up_mean) + (1 - up) / (1 + 1j * u * down_mean) - 1
    transform = jnp.exp(1j * u * (mean + reach) - p["volatility"] ** 2 * bar * u**2 / 2 + expected * moment)
    density = jnp.maximum(jnp.fft.fft(transform).real / (2 * reach), FLOOR)
    return jnp.interp(returns, -reach + step * jnp.arange(GRID), jnp.log(density))


MERTON = FamilyFit({"family": "constant", "jumps": "merton"}, fit_merton, None, "maximum likelihood")
KOU = FamilyFit({"family": "constant", "jumps": "kou"}, fit_kou, None, "maximum likelihood")
