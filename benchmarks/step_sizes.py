"""What the length of a step costs log-volatility's discretisations, whose returns use the volatility at the start of a step.

Puts out of the money see volatility, its spread and its leverage at once. Each path's put is taken given its volatilities, in
which it is Black and Scholes', with the forward as control. Parameters are those of shipped models, without their jumps, from the
long-run law on. Docstrings of the families quote what this prints.

    python benchmarks/step_sizes.py
"""

import argparse

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from scipy.special import ndtr

from calibrate.market.build import market_from
from calibrate.market.files import find_model, read_model
from calibrate.market.market import Market
from calibrate.market.model import StepShocks
from calibrate.shocks import path_ids, seed_words, shocks_of_steps, start_draws
from calibrate.units import SECONDS_PER_YEAR

SINGLE = np.dtype(np.float32)
AT_ONCE = 50_000
# Model, days to expiry, strike of a price of 100, steps in hours: the last stands for the limit.
CASES = (
    ("eth-usd", 7, 85.0, (24.0, 12.0, 6.0, 0.5)),
    ("doge-usd", 1, 92.0, (4.0, 2.0, 1.0, 1 / 12)),
)


@eqx.filter_jit
def without_own_normals(market: Market, ids, dt, steps: int):
    """Log-price that volatility's normals alone make, and the variance of returns without regard to them."""
    seed = seed_words(11)

    def step(carry, number):
        state, variance = carry
        drawn = shocks_of_steps(
            seed, ids, number.astype(jnp.uint32)[None], SINGLE, continuous=False, needs=market.needs
        )
        drawn = jax.tree.map(lambda values: values[0], drawn)
        shocks = StepShocks(
            0 * drawn.return_normal, drawn.volatility_normal, None, None, third_normal=drawn.third_normal
        )
        after, move = market.step(state, shocks, dt, jnp.ones((), SINGLE))
        return (after, variance + move.volatility**2 * dt), None

    start = market.start(start_draws(seed, ids, SINGLE))
    (state, variance), _ = lax.scan(step, (start, jnp.zeros_like(start.log_price)), jnp.arange(steps))
    return state.log_price, variance


def put(market: Market, own: float, strike: float, *, days: int, step_h: float, paths: int) -> tuple[float, float]:
    """The put's price and its standard error; `own` is the share of variance that volatility's normals do not make."""
    dt = jnp.asarray(step_h * 3600 / SECONDS_PER_YEAR, SINGLE)
    pieces = [
        without_own_normals(market, path_ids(np.arange(first, first + AT_ONCE)), dt, round(24 * days / step_h))
        for first in range(0, paths, AT_ONCE)
    ]
    log_price, variance = (np.concatenate([np.asarray(piece[k], np.float64) for piece in pieces]) for k in (0, 1))
    forward, root = 100 * np.exp(log_price + own * variance / 2), np.sqrt(own * variance)
    d1 = np.log(forward / strike) / root + root / 2
    value = strike * ndtr(root - d1) - forward * ndtr(-d1)
    control = forward - 100
    value -= np.cov(value, control)[0, 1] / control.var() * control
    return float(value.mean()), float(value.std(ddof=1) / np.sqrt(paths))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--paths", type=int, default=1_000_000)
    paths = parser.parse_args().paths
    for name, days, strike, steps_h in CASES:
        model = read_model(find_model(name))
        correlations = [value for key, value in model.parameters.items() if key.endswith("leverage_correlation")]
        market = market_from(model, None, 3600 * steps_h[-1], SINGLE)
        market = Market(market.volatility, market.drift)
        own = 1 - sum(value**2 for value in correlations)
        *found, (limit, limit_error) = [
            put(market, own, strike, days=days, step_h=step_h, paths=paths) for step_h in steps_h
        ]
        for step_h, (value, error) in zip(steps_h, found, strict=False):
            spread = float(np.hypot(error, limit_error))
            print(
                f"{name}, put {strike:g} over {days} d, steps of {step_h:g} h: {value / limit - 1:+.2%} ± {spread / limit:.2%}"
            )


if __name__ == "__main__":
    main()
