"""Returns of any fitted model as the engine simulates them: a forecast from where the model stands, or a long history.

Steps are a bar for models of bars, five minutes where jumps come in clusters, since a step has one jump at most, and at most a
quarter of an hour for all others.
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
from calibrate.units import DAYS_PER_YEAR, SECONDS_PER_YEAR, Index

SINGLE = np.dtype(np.float32)
HISTORY_YEARS = 1.0  # of each of the histories that make a long one
CLUSTER_STEP_S = 300.0
SHORT_DAYS = 60.0  # of each where a search simulates many times: wide and short is quicker


class Start(NamedTuple):
    """Where paths start, one value a path: annual volatility; where there are regimes, the probability of a crash; where there are
    two factors, the fast one's part of log-volatility; where jumps excite jumps, the rate above the background (annual)."""

    volatility: np.ndarray
    crash: np.ndarray | None = None
    fast: np.ndarray | None = None
    excitement: np.ndarray | None = None


def steps_per_bar(model: ModelFile, bar_s: float) -> int:
    """How many steps a bar is simulated in."""
    if "bar_s" in model.parameters:
        return 1
    return max(1, int(np.ceil(bar_s / (CLUSTER_STEP_S if model.parts.arrival == "self-exciting" else STEP_S))))


def simulated_closes(
    model: ModelFile, start: Start | None, *, paths: int, bars: int, bar_s: float, seed: int, first_path: int = 0
) -> np.ndarray:
    """Log-prices at the close of each bar relative to the start, one row a bar, one column a path; from the long-run law of the
    model without `start`. Models of bars have bars of their own, of which `bar_s` must be a multiple."""
    own_s = model.parameters.get("bar_s", bar_s)
    bars_each = round(bar_s / own_s)
    steps = steps_per_bar(model, bar_s) * bars_each
    market = _started(market_from(model, None if start is None else start.volatility, bar_s / steps, SINGLE), start)
    ids = path_ids(np.arange(first_path, first_path + paths))
    dt = jnp.asarray(bar_s / steps / SECONDS_PER_YEAR, SINGLE)
    return np.asarray(closes_of(market, PlainSampling(), seed_words(seed), ids, dt, bars, steps))


def _started(market: Market, start: Start | None) -> Market:
    """The market, whose volatility starts as it should, with the rest of the start."""
    places = {
        "crash": lambda m: m.regimes.crash_at_start,
        "fast": lambda m: m.volatility.initial_fast,
        "excitement": lambda m: m.jumps.arrival.initial_excitement,
    }
    for name, where in places.items():
        value = getattr(start, name, None)
        if value is not None:
            market = eqx.tree_at(where, market, jnp.asarray(value, SINGLE), is_leaf=lambda x: x is None)
    return market


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
    bars, histories = _histories(windows, years, HISTORY_YEARS)
    found = []
    for first in range(0, histories, 100):
        count = min(100, histories - first)
        found.append(Moments.of(_rows(model, windows, bars, count, seed=seed, first=first)))
    return Moments(*(np.mean(values, axis=0) for values in zip(*found, strict=True)))


def short_histories_moments(model: ModelFile, windows: Windows, *, seed: int, years: float) -> Moments:
    """Moments of many short histories as if they were one; the same seed gives the same random numbers to any parameters."""
    bars, histories = _histories(windows, years, SHORT_DAYS / DAYS_PER_YEAR)
    return Moments.of(_rows(model, windows, bars, histories, seed=seed, first=0))


def _histories(windows: Windows, years: float, each: float) -> tuple[int, int]:
    """Bars of each history, and how many histories."""
    bars = max(windows.lags[-1] * 4, round(each * SECONDS_PER_YEAR / windows.base_s))
    return bars, max(1, round(years * SECONDS_PER_YEAR / windows.base_s / bars))


def _rows(model: ModelFile, windows: Windows, bars: int, histories: int, *, seed: int, first: int) -> Rows:
    closes = simulated_closes(
        model, None, paths=histories, bars=bars, bar_s=windows.base_s, seed=seed, first_path=first
    )
    returns = np.diff(closes, axis=0, prepend=np.zeros((1, histories), SINGLE))
    return Rows.join([model_rows(history, windows) for history in returns.T])
