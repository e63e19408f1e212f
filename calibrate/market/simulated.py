"""Returns of any fitted model as the engine simulates them: a forecast from where the model stands, or a long history.

Steps are a bar for models of bars, and at most a quarter of an hour for all others, of which each has one jump at most.
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from calibrate.market.build import market_from
from calibrate.market.files import ModelFile
from calibrate.market.market import Market, MarketState
from calibrate.market.moments import STEP_S, Moments, Rows, Windows, model_rows
from calibrate.sampling import PlainSampling, Sampling
from calibrate.shocks import PathIds, Seed, path_ids, seed_words, shocks_of_steps
from calibrate.units import SECONDS_PER_YEAR, Index

SINGLE = np.dtype(np.float32)
HISTORY_YEARS = 1.0  # of each of the histories that make a long one


class Start(NamedTuple):
    """Where paths start: annual volatility and, where there are regimes, the probability of a crash, one of each a path."""

    volatility: np.ndarray
    crash: np.ndarray | None


def steps_per_bar(model: ModelFile, bar_s: float) -> int:
    """How many steps a bar is simulated in."""
    return 1 if "bar_s" in model.parameters else max(1, int(np.ceil(bar_s / STEP_S)))


def simulated_closes(
    model: ModelFile, start: Start | None, *, paths: int, bars: int, bar_s: float, seed: int, first_path: int = 0
) -> np.ndarray:
    """Log-prices at the close of each bar relative to the start, one row a bar, one column a path; from the long-run law of the
    model without `start`. Models of bars have bars of their own, of which `bar_s` must be a multiple."""
    own_s = model.parameters.get("bar_s", bar_s)
    bars_each = round(bar_s / own_s)
    steps = steps_per_bar(model, bar_s) * bars_each
    market = market_from(model, None if start is None else start.volatility, bar_s / steps, SINGLE)
    if start is not None and start.crash is not None:
        crash = jnp.asarray(start.crash, SINGLE)
        market = eqx.tree_at(lambda m: m.regimes.crash_at_start, market, crash, is_leaf=lambda x: x is None)
    ids = path_ids(np.arange(first_path, first_path + paths))
    dt = jnp.asarray(bar_s / steps / SECONDS_PER_YEAR, SINGLE)
    return np.asarray(closes_of(market, PlainSampling(), seed_words(seed), ids, dt, bars, steps))


@eqx.filter_jit
def closes_of(
    market: Market, sampling: Sampling, seed: Seed, ids: PathIds, dt: Float[Array, ""], bars: int, steps: int
) -> Float[Array, "bar path"]:
    """Log-prices at the close of each bar of so many steps."""
    one = jnp.ones((), SINGLE)

    def step(number: Index, carry: tuple[MarketState, Any]) -> tuple[MarketState, Any]:
        state, draw = carry
        drawn = shocks_of_steps(
            seed, ids, number.astype(jnp.uint32)[None], SINGLE, continuous=False, needs=market.needs
        )
        of_step = jax.tree.map(lambda values: values[0], drawn)
        shocks, draw = sampling.step(draw, number, of_step, market.jump_law(state, dt))
        return market.step(state, shocks, dt, one)[0], draw

    def bar(carry: tuple[MarketState, Any], first: Index) -> tuple[tuple[MarketState, Any], Float[Array, " path"]]:
        state, draw = lax.fori_loop(first, first + steps, step, carry)
        return (state, draw), state.log_price

    draws, draw = sampling.start(seed, ids, SINGLE)
    return lax.scan(bar, (market.start(draws), draw), steps * jnp.arange(bars, dtype=jnp.int32))[1]


def simulated_moments(model: ModelFile, windows: Windows, *, seed: int, years: float) -> Moments:
    """Moments of many histories of a year, as the mean over pieces of a hundred."""
    bars = max(windows.lags[-1] * 4, round(HISTORY_YEARS * SECONDS_PER_YEAR / windows.base_s))
    histories = max(1, round(years * SECONDS_PER_YEAR / windows.base_s / bars))
    found = []
    for first in range(0, histories, 100):
        count = min(100, histories - first)
        closes = simulated_closes(
            model, None, paths=count, bars=bars, bar_s=windows.base_s, seed=seed, first_path=first
        )
        returns = np.diff(closes, axis=0, prepend=np.zeros((1, count), SINGLE))
        found.append(Moments.of(Rows.join([model_rows(history, windows) for history in returns.T])))
    return Moments(*(np.mean(values, axis=0) for values in zip(*found, strict=True)))
