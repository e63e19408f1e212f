"""Markets for the tests, by the names of their parameters, and many paths of a market without a venue."""

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from scipy.special import ndtr

from calibrate.market.arrival import VolatilityLinkedArrival
from calibrate.market.constant import ConstantVolatility
from calibrate.market.kou import KouSizes
from calibrate.market.log_ou import LogOU
from calibrate.market.market import Jumps, Market, MarketState
from calibrate.sampling import PlainSampling
from calibrate.shocks import path_ids, seed_words, shocks_of_steps, start_draws
from calibrate.units import Scalar

SINGLE = np.dtype(np.float32)

LOG_OU_KOU = (
    "volatility", "log_volatility_sd", "reversion_per_year", "leverage_correlation", "jumps_per_year",
    "jump_volatility_exponent", "jump_up_probability", "jump_up_mean", "jump_down_mean", "drift",
)  # fmt: skip


def constant_market(volatility: Scalar, drift: Scalar) -> Market:
    return Market(ConstantVolatility(volatility), drift)


def log_ou_kou(
    *,
    volatility: Scalar,
    log_volatility_sd: Scalar,
    reversion_per_year: Scalar,
    leverage_correlation: Scalar,
    jumps_per_year: Scalar,
    jump_volatility_exponent: Scalar,
    jump_up_probability: Scalar,
    jump_up_mean: Scalar,
    jump_down_mean: Scalar,
    drift: Scalar,
    initial_log_volatility: Scalar | None = None,
) -> Market:
    return Market(
        LogOU(volatility, log_volatility_sd, reversion_per_year, leverage_correlation, initial_log_volatility),
        drift,
        Jumps(
            VolatilityLinkedArrival(jumps_per_year, jump_volatility_exponent),
            KouSizes(jump_up_probability, jump_up_mean, jump_down_mean),
        ),
    )


class Walk(NamedTuple):
    """Log-prices and log-volatilities after each step (first row: the start), and what ruled in the step; step by path."""

    log_price: np.ndarray
    log_volatility: np.ndarray
    volatility: np.ndarray
    jump: np.ndarray

    @property
    def returns(self) -> np.ndarray:
        return np.diff(self.log_price, axis=0)


def walk(market: Market, *, dt: float, steps: int, paths: int, seed: int, scale: float = 1.0) -> Walk:
    """Many paths of a market model, step by step."""
    ids, words = path_ids(np.arange(paths)), seed_words(seed)
    first, states, moves = _walk(market, words, ids, jnp.asarray(dt, SINGLE), jnp.asarray(scale, SINGLE), steps)
    level = jax.vmap(market.volatility.log_level)
    joined = jax.tree.map(lambda a, b: np.concatenate([np.asarray(a)[None], np.asarray(b)]), first, states)
    parts = joined.log_price, level(joined.volatility), moves.volatility, moves.jump
    return Walk(*(np.asarray(part, np.float64) for part in parts))


@eqx.filter_jit
def _walk(market: Market, seed, ids, dt, scale, steps: int):
    sampling = PlainSampling()

    def step(state: MarketState, index):
        made = shocks_of_steps(seed, ids, index[None], SINGLE, continuous=False, needs=market.needs)
        made = jax.tree.map(lambda a: a[0], made)
        shocks, _ = sampling.step(None, index, made, market.jump_law(state, dt))
        after, move = market.step(state, shocks, dt, scale)
        return after, (after, move)

    first = market.start(start_draws(seed, ids, SINGLE))
    _, (states, moves) = lax.scan(step, first, jnp.arange(steps, dtype=jnp.uint32))
    return first, states, moves


class Journey(NamedTuple):
    """What becomes of paths: their last states, how many jumps came, the variance of returns that is their own (not shared with
    volatility), and the probability, given the ends of steps, of not having fallen to the barrier in between."""

    state: MarketState
    jumps: np.ndarray
    variance: np.ndarray
    survival: np.ndarray

    @property
    def log_price(self) -> np.ndarray:
        return np.asarray(self.state.log_price, np.float64)


def journey(
    market: Market,
    *,
    dt: float,
    steps: int,
    paths: int,
    seed: int,
    start: Callable[[MarketState], MarketState] = lambda state: state,
    barrier: float = -np.inf,
    muted: bool = False,
) -> Journey:
    """Many paths to their ends, from a start that may be changed. `muted` leaves out the normals of returns: what a log-price then
    comes to is its mean given volatility and jumps, and `variance` what it varies by."""
    pieces = [
        _journey(
            market, seed_words(seed), path_ids(np.arange(first, min(first + 50_000, paths))), jnp.asarray(dt, SINGLE),
            jnp.asarray(barrier, SINGLE), steps, start, muted,
        )
        for first in range(0, paths, 50_000)
    ]  # fmt: skip
    joined = jax.tree.map(lambda *parts: np.concatenate([np.atleast_1d(part) for part in parts]), *pieces)
    return joined._replace(variance=joined.variance.astype(np.float64), survival=joined.survival.astype(np.float64))


@eqx.filter_jit
def _journey(market: Market, seed, ids, dt, barrier, steps: int, start, muted: bool) -> Journey:
    sampling, one = PlainSampling(), jnp.ones((), SINGLE)
    rho = getattr(market.volatility, "leverage_correlation", 0.0)

    def step(carry: Journey, index) -> tuple[Journey, None]:
        state, jumps, variance, survival = carry
        made = shocks_of_steps(seed, ids, index[None], SINGLE, continuous=False, needs=market.needs)
        made = jax.tree.map(lambda a: a[0], made)
        shocks, _ = sampling.step(None, index, made, market.jump_law(state, dt))
        if muted:
            shocks = shocks._replace(return_normal=0 * shocks.return_normal)
        after, move = market.step(state, shocks, dt, one)
        in_step = move.volatility**2 * dt
        before, end = state.log_price - barrier, after.log_price - move.jump - barrier
        between = jnp.where((before > 0) & (end > 0), -jnp.expm1(-2 * before * end / in_step), 0.0)
        survival = survival * jnp.where(after.log_price > barrier, between, 0.0)
        jumps = jumps if shocks.jump is None else jumps + shocks.jump.occurs
        return Journey(after, jumps, variance + in_step * (1 - rho**2), survival), None

    first = start(market.start(start_draws(seed, ids, SINGLE)))
    zero = jnp.zeros_like(first.log_price)
    return lax.scan(step, Journey(first, zero, zero, zero + 1), jnp.arange(steps, dtype=jnp.uint32))[0]


def conditional_calls(made: Journey, strike: float, *, spot: float = 100.0) -> np.ndarray:
    """Undiscounted calls of paths whose own normals were muted, less what the mean of their forwards explains: `spot` is the
    expected price."""
    forward, root = spot * np.exp(made.log_price + made.variance / 2), np.sqrt(made.variance)
    d1 = np.log(forward / strike) / root + root / 2
    call = forward * ndtr(d1) - strike * ndtr(d1 - root)
    control = forward - spot
    return call - np.cov(call, control)[0, 1] / control.var() * control
